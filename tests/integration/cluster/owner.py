"""Owns a cluster in a process of its own, to be killed by a test: BASE RUN-ID TAG [fork]."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from harness.cluster import LocalCluster
from tests.integration.cluster.support import Tiny


def main() -> None:
    base, run_id, tag, *how = sys.argv[1:]
    target = Tiny(nodes=3, only={"n2": ("--family",)}, tag=tag)
    cluster = LocalCluster(
        target, run_id=run_id, logs=Path(base).parent / run_id, on_event=lambda *_: None, base=Path(base)
    )
    try:
        cluster.start()
        holder = 0
        if "fork" in how and (holder := os.fork()) == 0:  # holds the supervisor's socket open
            time.sleep(600)
        if "keep" in how:
            print(cluster.stop(keep=True), flush=True)
            return
        print("ready", holder, flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()

"""Owns a cluster in a process of its own, to be killed by a test: BASE RUN-ID TAG [docker] [fork] [keep].

A line on its standard input is a question: whether the cluster is healthy.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from harness.cluster import LocalCluster
from harness.cluster.docker import DockerCluster
from tests.integration.cluster.support import Boxed, Tiny


def main() -> None:
    base, run_id, tag, *how = sys.argv[1:]
    kind, cluster_of = (Boxed, DockerCluster) if "docker" in how else (Tiny, LocalCluster)
    target = kind(nodes=2 if "docker" in how else 3, only={"n2": ("--family",)}, tag=tag)
    cluster = cluster_of(
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
        for _ in sys.stdin:
            print(cluster.await_healthy(10.0) < 10.0, flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()

"""Judge a history while it is being written: ``python -m harness.online PATH`` prints ``invalid NAME``.

A process of its own, so that judging costs the clients nothing. Open operations count as unknown, so a
violation of the prefix is one of the whole; final reads have not come yet, so only checks that look at
what clients saw apply. It ends when its standard input closes: with the run.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from harness.checkers import check
from harness.history import HistoryError
from harness.journal import load

EVERY = 1.0


def main(path: Path) -> int:
    """Look once a second until a check is invalid (exit 1) or nobody listens any more (exit 0)."""
    size = -1
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        if not path.exists():
            return 0
        if (now := path.stat().st_size) == size:
            continue
        size = now
        try:
            history = load(path)
        except HistoryError:
            continue  # just being zipped
        for name in history.header.get("checks", ()):
            if check(history, name).judgement == "invalid":
                print(f"invalid {name}", flush=True)
                return 1
    return 0


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main(Path(sys.argv[1])))

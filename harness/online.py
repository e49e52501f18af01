"""Judge a history while it is being written: ``python -m harness.online PATH`` prints ``invalid NAME``.

`Judge` starts and ends that process.

A process of its own, so that judging costs the clients nothing. Open operations count as unknown, so a
violation of the prefix is one of the whole; final reads have not come yet, so only checks that look at
what clients saw apply. It ends when its standard input closes: with the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

EVERY = 1.0


class Judge:
    """The side process over a run's journal, until `end`.

    ``found(name)`` is told the first check that is invalid; ``died(text)`` that it ended by itself, so that
    nobody waits for what cannot come.
    """

    def __init__(self, path: Path, found: Callable[[str], None], died: Callable[[str], None]) -> None:
        self._found, self._died = found, died
        self._ending = False
        root = str(Path(__file__).resolve().parents[1])  # where this very package can be imported from
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.online", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name="nemesis-online", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith("invalid "):
                self._found(line.removeprefix("invalid ").strip())
                return
            said = [*said[-20:], line.rstrip()]
        if not self._ending and (code := self._process.wait()) != 0:
            self._died(f"the process that judges the run ended with code {code}: {' / '.join(said[-3:])}")

    def end(self) -> None:
        """End it and see that it is gone; idempotent."""
        self._ending = True
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def main(path: Path) -> int:
    """Look once a second until a check is invalid (exit 1) or nobody listens any more (exit 0)."""
    from harness.checkers import check
    from harness.history import HistoryError
    from harness.journal import load

    threading.Thread(target=_end_with_input, daemon=True).start()
    size = -1
    while True:
        time.sleep(EVERY)
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


def _end_with_input() -> None:
    """The run is over, or its process was killed: at once, whatever is being judged just now."""
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os._exit(0)


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main(Path(sys.argv[1])))

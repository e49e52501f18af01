"""What nodes do, seen from outside: lines of their logs as they come, and their status as it changes."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from threading import Event, Lock, Thread, current_thread
from typing import Any

LOOK_EVERY = 0.02  # seconds between looks at a log: a read that finds nothing costs about 2 us
CHUNK = 1 << 18
LONGEST = 1 << 20  # bytes after which a line without an end is taken as one


class LogFollower:
    """Reads log files while others append to them and hands over each line once, in order.

    The nodes write the files themselves, so these are complete whatever happens to this process.
    ``line(name, text)`` is called for one line of a file at a time, without its line end, also from `drain`.
    """

    def __init__(self, files: Mapping[str, Path], line: Callable[[str, str], None]) -> None:
        self._tails = {name: _Tail(path) for name, path in files.items()}
        self._line = line
        self._stop = Event()
        self._thread = Thread(target=self._follow, name="nemesis-logs", daemon=True)

    def start(self) -> None:
        """Begin to follow; a file that is not there yet is waited for."""
        self._thread.start()

    def drain(self, name: str, *, ended: bool = False) -> None:
        """Hand over now what file `name` holds; with `ended` also a last line that has no line end."""
        tail = self._tails[name]
        with tail.lock:
            for text in tail.read(ended):
                self._line(name, text)

    def stop(self) -> None:
        """Hand over what is left, then stop; idempotent."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join()
        for tail in self._tails.values():
            tail.close()

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            for name in self._tails:
                self.drain(name)
        for name in self._tails:
            self.drain(name, ended=True)


class _Tail:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = Lock()
        self.file: io.FileIO | None = None
        self.torn = b""
        self.closed = False

    def read(self, ended: bool) -> Iterable[str]:
        if self.closed:  # a node of a cluster that was kept may end long after
            return
        if self.file is None:
            try:
                self.file = io.FileIO(self.path)
            except FileNotFoundError:
                return
        while chunk := self.file.read(CHUNK):
            *lines, self.torn = (self.torn + chunk).split(b"\n")
            if len(self.torn) > LONGEST:
                lines, self.torn = [*lines, self.torn], b""
            for line in lines:
                yield line.rstrip(b"\r").decode(errors="replace")
        if ended and self.torn:
            line, self.torn = self.torn, b""
            yield line.decode(errors="replace")

    def close(self) -> None:
        with self.lock:
            self.closed = True
            if self.file is not None:
                self.file.close()


class StatusPoller:
    """Asks a status of each node again and again, in a thread per node, so that one that hangs delays none.

    `ask(name)` returns the status, or raises where the node does not answer; `seen(name, status)` gets each
    answer and `failed(name, error)` each exception.
    """

    def __init__(
        self, names: Iterable[str], every: float, ask: Callable[[str], Mapping[str, Any] | None],
        seen: Callable[[str, Mapping[str, Any]], None], failed: Callable[[str, Exception], None],
    ) -> None:  # fmt: skip
        self._every, self._ask, self._seen, self._failed = every, ask, seen, failed
        self._stop = Event()
        self._threads = [
            Thread(target=self._poll, args=(name,), name=f"nemesis-status-{name}", daemon=True)
            for name in names
        ]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self, within: float = 1.0) -> None:
        """Ask no more; a call that hangs is waited for `within` seconds, then left behind. Idempotent."""
        self._stop.set()
        deadline = time.monotonic() + within
        for thread in self._threads:
            if thread.is_alive() and thread is not current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _poll(self, name: str) -> None:
        while not self._stop.is_set():
            try:
                status = self._ask(name)
            except Exception as error:  # the owner tells a node that does not answer from a broken target
                if not self._stop.is_set():
                    self._failed(name, error)
            else:
                if status is not None and not self._stop.is_set():
                    self._seen(name, status)
            self._stop.wait(self._every)


class Roles:
    """Who said last that it leads: the latest role and term of each node.

    Times are seconds of any one clock. One thread at a time may note; any may ask who leads.
    """

    def __init__(self) -> None:
        self._latest: dict[str, tuple[Mapping[str, Any], float, float]] = {}  # detail, since, expires

    def note(self, name: str, detail: Mapping[str, Any], now: float, expires: float = math.inf) -> bool:
        """Note what `name` says of itself; whether its role or term (without a role: anything) changed."""
        before = self._latest.get(name)
        changed = before is None or _essence(before[0]) != _essence(detail)
        since = now if before is None or changed else before[1]
        self._latest[name] = (detail, since, expires)
        return changed

    def forget(self, name: str) -> None:
        """A node that ended has no role."""
        self._latest.pop(name, None)

    def leader(self, among: Container[str], now: float) -> str | None:
        """Of `among`, the node with role ``leader`` and the highest term; of equal ones the later."""
        claims = [
            (_term(detail), since, name)
            for name, (detail, since, expires) in self._latest.copy().items()
            if name in among and detail.get("role") == "leader" and now <= expires
        ]
        return max(claims)[2] if claims else None


def _essence(detail: Mapping[str, Any]) -> Any:
    return (detail["role"], detail.get("term")) if "role" in detail else dict(detail)


def _term(detail: Mapping[str, Any]) -> float:
    term = detail.get("term")
    return float(term) if isinstance(term, (int, float)) else -1.0

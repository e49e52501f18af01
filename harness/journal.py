"""The history on disk: JSON lines, a header first, each event one write, gzipped when finished.

An invocation is in the file before its client is called, so a killed test process loses nothing.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
import threading
import time
import zlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from harness.history import DEEPEST, History, HistoryError
from harness.pairing import ClientEvent, Event, pair

SCHEMA = 1
_SUFFIX = ".gz"
_DEEPEST = 50  # levels of a value that are kept as such where JSON cannot hold it as it is
LONGEST = 1 << 28  # bytes of a line that are read: more is no event, but what a gzip bomb expands to
_HEADER: dict[str, Any] = {"plan": dict, "checks": list, "time_limit": (int, float)}  # what judging reads
_BLOCK = 1 << 16  # bytes that are unzipped at once
_TOLD = 400  # characters of what is wrong with an event


class Journal:
    """An open history file: `invoke`, `complete` and `note` append one event each, from any thread.

    Nothing is buffered in the process: each event is one ``write`` (about 1 µs). Times are nanoseconds of
    this process's monotonic clock since `start`. Differs from `History`, which is a finished run in memory.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._encode = msgspec.json.Encoder(enc_hook=_plain).encode
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._next = 0
        self.operations = 0
        self.zero = 0
        self._append(self._encode({"nemesis": SCHEMA, **header}) + b"\n")

    def start(self) -> None:
        """Set time zero, and record what the wall clock shows then; events before it have time 0."""
        self.zero = time.monotonic_ns()
        wall = {"unix": time.time_ns(), "zone": time.localtime().tm_gmtoff}
        self._write({"type": "info", "process": "run", "f": "wall", "value": wall}, 0)

    def now(self) -> int:
        """Nanoseconds since `start`, 0 before it."""
        return time.monotonic_ns() - self.zero if self.zero else 0

    def invoke(
        self, process: int, f: str, value: Any, node: str | None, final: bool = False
    ) -> tuple[int, int]:
        """Record an invocation; its (index, time). The time is taken just before the write."""
        event = {"type": "invoke", "process": process, "f": f, "value": value, "node": node}
        if final:
            event["final"] = True
        self.operations += 1
        return self._write(event, None)

    def complete(self, process: int, type: str, f: str, value: Any, error: str | None, at: int) -> None:
        """Record how an operation ended at time `at` (ns since `start`)."""
        event = {"type": type, "process": process, "f": f, "value": value}
        if error is not None:
            event["error"] = error
        self._write(event, at)

    def note(self, process: str, f: str, value: Any) -> int:
        """Record an event of ``nemesis``, ``cluster`` or ``run``; its time in ns since `start`."""
        return self._write({"type": "info", "process": process, "f": f, "value": value}, None)[1]

    def _write(self, event: dict[str, Any], at: int | None) -> tuple[int, int]:
        with self._lock:
            if self._file < 0:
                return -1, -1  # a late completion after the end is nobody's
            index = self._next
            when = max(0, self.now() if at is None else at)
            line = self._line({"index": index, "time": when, **event})
            self._next += 1  # first: Ctrl-C after the write must not give the next event the same index
            try:
                self._append(line)
            except OSError:
                self._next = index
                raise
        return index, when

    def _append(self, line: bytes) -> None:
        """Write all of `line` or nothing: half a line, as a full disk leaves it, would spoil the next one."""
        rest = line
        try:
            while (written := os.write(self._file, rest)) < len(rest):
                rest = rest[written:]
        except OSError:
            os.ftruncate(self._file, os.fstat(self._file).st_size - (len(line) - len(rest)))
            raise

    def _line(self, event: dict[str, Any]) -> bytes:
        try:
            line: bytes = self._encode(event)
            if (b"null" not in line or not _odd(event["value"])) and not _deep(line, event):
                return line + b"\n"
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass
        return self._encode(_safe(event)) + b"\n"

    def close(self) -> None:
        """End the file; later events are dropped. Idempotent."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def finish(self) -> Path:
        """Close and gzip the file; the plain one goes only when the zipped one is safely on disk."""
        self.close()
        zipped = self.path.with_name(self.path.name + _SUFFIX)
        part = zipped.with_name(zipped.name + ".part")
        with self.path.open("rb") as source, gzip.open(part, "wb", compresslevel=6) as target:
            while block := source.read(1 << 20):
                target.write(block)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(zipped)
        self.path.unlink()
        self.path = zipped
        return zipped


def _plain(value: Any) -> Any:
    """What msgspec does not know how to write is written as its repr: nothing recorded is ever lost."""
    return repr(value)


def _odd(value: Any) -> bool:
    """Whether there is a float in it that JSON lacks: it would be written as null, a value like any other."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_odd, value.values()))
    return isinstance(value, (list, tuple, set, frozenset)) and any(map(_odd, value))


def _deep(line: bytes, value: Any) -> bool:
    """Whether `value`, whose JSON `line` is, has more levels than any reader takes."""
    if _shallow(line):
        return False
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, Mapping) else item)
            if isinstance(inner, (Mapping, list, tuple, set, frozenset))
        ]
        if not level:
            return False
    return True


def _shallow(line: bytes) -> bool:
    """Whether a JSON text can be seen at once to have no more levels than any reader takes."""
    return len(line) < 2 * DEEPEST or line.count(b"[") + line.count(b"{") <= DEEPEST


def _safe(value: Any, depth: int = 0) -> Any:
    """`value` in the same shape, where what JSON cannot hold is its repr: lone surrogates, odd keys, NaN."""
    if isinstance(value, str):
        return value if value.isprintable() else ascii(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {_safe(k) if isinstance(k, str) else ascii(k): _safe(v, depth + 1) for k, v in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [_safe(item, depth + 1) for item in value]
    return ascii(value)


class _Written(ClientEvent, gc=False):
    value: msgspec.Raw = msgspec.Raw(b"null")


def load(path: str | Path, *, keyed: bool = False) -> History:
    """Read a stored history, gzipped or not, finished or cut short by a crash.

    A last line without its newline is what a killed process leaves: it is dropped. Any other broken line
    raises HistoryError with its number and what is wrong. `keyed`: values are [key, value], whatever the
    header says. Histories of other tools are read by `harness.interchange.read`.

    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "history.jsonl", {"seed": 1})
    >>> _ = journal.invoke(0, "write", 7, "n1")
    >>> journal.complete(0, "ok", "write", 7, None, journal.now())
    >>> load(journal.finish()).operations[0].value
    7
    """
    path = Path(path)
    with contextlib.closing(_lines(path)) as lines:
        return _loaded(path, lines, keyed)


def _loaded(path: Path, lines: Iterator[tuple[int, bytes]], keyed: bool) -> History:
    header = _header(path, lines)
    if keyed:
        header["keyed"] = True
    at = 1

    def events() -> Iterator[Event]:
        nonlocal at
        of_client = msgspec.json.Decoder(_Written).decode
        for at, line in lines:
            try:
                if _shallow(line):
                    yield of_client(line)
                    continue
            except ValueError:
                pass  # no event of a client, or not as we write it
            event = _decode(path, at, line)
            if not isinstance(event, dict):
                raise HistoryError(f"{path}: line {at} is {type(event).__name__}, not an event object")
            yield event

    try:
        return pair(events(), header, path)
    except HistoryError as error:
        if str(path) in str(error):
            raise
        raise HistoryError(f"{path}: line {at}: {told(error)}") from None


def told(error: Exception) -> str:
    """What an error says, cut where it repeats a long value."""
    text = str(error)
    return text if len(text) <= _TOLD else f"{text[:_TOLD]}..."


def load_header(path: str | Path) -> dict[str, Any]:
    """The header of a stored history, without reading the rest. Raises HistoryError as `load`."""
    with contextlib.closing(_lines(Path(path))) as lines:
        return _header(Path(path), lines)


def _header(path: Path, lines: Iterator[tuple[int, bytes]]) -> dict[str, Any]:
    number, first = next(lines, (1, b""))
    header = _decode(path, number, first) if first else None
    if not isinstance(header, dict) or "nemesis" not in header:
        raise HistoryError(
            f"{path}: line 1 is no header; a history starts with a line such as "
            f'{{"nemesis": {SCHEMA}, "seed": ..., "plan": ...}}'
        )
    if header["nemesis"] != SCHEMA:
        raise HistoryError(
            f"{path}: line 1: schema {header['nemesis']!r} is not the one known here ({SCHEMA})"
        )
    for name, kinds in _HEADER.items():
        if (value := header.get(name)) is not None and not isinstance(value, kinds):
            raise HistoryError(f"{path}: line 1: {name} is {str(value)[:60]!r}, which no run writes")
    if not all(isinstance(name, str) for name in header.get("checks") or ()):
        raise HistoryError(f"{path}: line 1: checks are not all names")
    return header


def _lines(path: Path) -> Generator[tuple[int, bytes], None, None]:
    """(number, line) of each whole line. Raises HistoryError where there is no such file."""
    with opened(path) as file:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            if line.endswith(b"\n"):
                yield number, line[:-1]
            elif len(line) == LONGEST:
                raise HistoryError(f"{path}: line {number} is longer than {LONGEST:,} bytes; no event is")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a stored file, unzipped where it is gzip. Raises HistoryError where they cannot be had."""
    try:
        with path.open("rb") as raw:
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            # buffered once more: the lines of a GzipFile are found in Python
            with io.BufferedReader(gzip.GzipFile(fileobj=raw), _BLOCK) if zipped else raw as file:
                yield file
    except EOFError:
        raise HistoryError(
            f"{path}: the gzip file is cut short; the run beside it may have left history.jsonl"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise HistoryError(f"{path}: not readable as gzip ({error})") from None
    except (OSError, ValueError) as error:
        if isinstance(error, HistoryError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise HistoryError(
            f"{path}: {reason}; expected a history.jsonl or history.jsonl.gz of an earlier run, "
            "or a history that another tool wrote"
        ) from None


def _decode(path: Path, number: int, line: bytes) -> Any:
    try:
        return decoded(line)
    except ValueError as error:
        shown = line[:60].decode("utf-8", "replace") + ("..." if len(line) > 60 else "")
        raise HistoryError(f"{path}: line {number} is not JSON ({error}): {shown!r}") from None


def decoded(text: bytes | msgspec.Raw) -> Any:
    """The value of a JSON text. Raises ValueError, which says what is wrong with it."""
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    if isinstance(value, (dict, list)) and _deep(bytes(text), value):
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    return value


__all__ = ["SCHEMA", "Journal", "decoded", "load", "load_header", "opened", "told"]

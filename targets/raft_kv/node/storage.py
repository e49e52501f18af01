"""What a node keeps on disk: a write-ahead log of checksummed records, and the last snapshot.

One ``fdatasync`` covers everything handed over at once. A node may be killed at any instant: a torn
record at the end of the log is recognised by its checksum and cut off, a half-written snapshot never
gets its name.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from .log import Snapshot
from .store import Entry

RECORD = struct.Struct("<II")  # length and crc32 of a marshalled record


@dataclass(slots=True)
class Saved:
    """What survives a crash: `term` and `voted`, the last snapshot, the entries after it."""

    term: int = 0
    voted: str = ""
    snapshot: Snapshot = field(default_factory=Snapshot)
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Write:
    """One hand-over to disk: term and vote, then entries that replace the log from `first` on.

    With `snapshot`, the snapshot is saved first and `entries` are the whole log after it.
    """

    term: int
    voted: str
    first: int
    entries: Sequence[Entry]
    snapshot: Snapshot | None = None


class StorageError(RuntimeError):
    """The data directory cannot be used; the text says why."""


class Storage:
    """The data directory of one node; no other process may open it at the same time (StorageError)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._wal, self._snapshot = directory / "log", directory / "snapshot"
        self._lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StorageError(f"data directory {directory} is in use by another running node") from None
        self._file = os.open(self._wal, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def load(self) -> Saved:
        """Read everything back; cuts a torn tail off the log before anything can be written behind it."""
        saved = Saved()
        if self._snapshot.exists():
            records, _ = _records(self._snapshot.read_bytes())
            if not records:
                raise StorageError(f"snapshot {self._snapshot} is damaged: its checksum is wrong")
            saved.snapshot = Snapshot(*records[0])
        raw = self._wal.read_bytes()
        records, end = _records(raw)
        if end < len(raw):
            os.ftruncate(self._file, end)
        os.fsync(self._file)
        _sync_directory(self.directory)
        os.lseek(self._file, end, os.SEEK_SET)
        base = saved.snapshot.index
        start = 1
        log: list[Entry] = []
        for term, voted, first, entries in records:
            saved.term, saved.voted = term, voted
            if not entries:
                continue
            if not log:
                start = first
            log[first - start :] = entries
        # Killed between the new snapshot and the log that belongs to it: the log is older than the
        # snapshot, and what it holds beyond it counts only if it goes through the snapshot's last entry.
        if log and start <= base:
            overlap = base - start
            fits = overlap < len(log) and log[overlap][0] == saved.snapshot.term
            log = log[overlap + 1 :] if fits else []
        saved.entries = log
        return saved

    def save(self, write: Write) -> None:
        """Make `write` durable: returns after fdatasync; any OSError must end the node."""
        record = (write.term, write.voted, write.first, tuple(write.entries))
        if write.snapshot is None:
            _write(self._file, _record(record))
            os.fdatasync(self._file)
            return
        snapshot = write.snapshot
        body = _record((snapshot.index, snapshot.term, snapshot.digest, snapshot.blob))
        os.close(self._replace(self._snapshot, body))
        fresh = self._replace(self._wal, _record(record))
        os.close(self._file)
        self._file = fresh

    def close(self) -> None:
        """Let another process open the directory."""
        os.close(self._file)
        os.close(self._lock)

    def _replace(self, path: Path, body: bytes) -> int:
        beside = path.with_suffix(".new")
        file = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
        _write(file, body)
        os.fsync(file)
        os.replace(beside, path)
        _sync_directory(self.directory)
        return file


def _write(file: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(file, view) :]


def _record(value: Any) -> bytes:
    body = marshal.dumps(value)
    return RECORD.pack(len(body), crc32(body)) + body


def _records(raw: bytes) -> tuple[list[Any], int]:
    """The whole records at the start of `raw`, and where they end."""
    records, place = [], 0
    while place + RECORD.size <= len(raw):
        length, check = RECORD.unpack_from(raw, place)
        body = raw[place + RECORD.size : place + RECORD.size + length]
        if length == 0 or len(body) < length or crc32(body) != check:
            break
        records.append(marshal.loads(body))
        place += RECORD.size + length
    return records, place


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

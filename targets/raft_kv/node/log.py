"""A node's log in memory: the entries after the last snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .store import Entry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after the entry at `index` of `term`; `digest` is the chained digest up to there."""

    index: int = 0
    term: int = 0
    digest: int = 0
    blob: bytes = b""


class Log:
    """Entries numbered from 1; those up to `snapshot.index` live in the snapshot only."""

    def __init__(self, snapshot: Snapshot, entries: Sequence[Entry] = ()) -> None:
        self.snapshot = snapshot
        self.entries = list(entries)

    @property
    def first(self) -> int:
        """The first index that is still an entry."""
        return self.snapshot.index + 1

    @property
    def last(self) -> int:
        """The last index."""
        return self.snapshot.index + len(self.entries)

    def term(self, index: int) -> int:
        """The term of the entry at `index`; -1 where there is none or the snapshot swallowed it."""
        if index == self.snapshot.index:
            return self.snapshot.term
        place = index - self.snapshot.index - 1
        return self.entries[place][0] if 0 <= place < len(self.entries) else -1

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index - self.snapshot.index - 1]

    def slice(self, first: int, limit: int) -> tuple[Entry, ...]:
        """Up to `limit` entries from `first` on."""
        place = first - self.snapshot.index - 1
        return tuple(self.entries[place : place + limit])

    def append(self, entry: Entry) -> int:
        """Add at the end; its index."""
        self.entries.append(entry)
        return self.last

    def put(self, index: int, entries: Sequence[Entry]) -> None:
        """Replace everything from `index` on by `entries`."""
        self.entries[index - self.snapshot.index - 1 :] = entries

    def compact(self, snapshot: Snapshot) -> None:
        """Let `snapshot` stand for the entries up to its index; the rest stays only if it follows from it."""
        follows = self.term(snapshot.index) == snapshot.term
        self.entries = self.entries[snapshot.index - self.snapshot.index :] if follows else []
        self.snapshot = snapshot

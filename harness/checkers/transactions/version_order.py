"""The versions of a list, one after another, and who made and who read each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from harness.checkers.transactions.list_cases import Version
from harness.checkers.transactions.reading import FAIL

if TYPE_CHECKING:
    from harness.checkers.transactions.list_append import Lists


class VersionOrder:
    """The versions of one key, as its longest read has them.

    `owners` are who appended each element, -1 where that was no committed transaction (`failed` where one
    that failed did). `before[n]` and `after[n]` are who left the version of n elements and who appended next,
    -1 for nobody that is known; `readers[n]` who read it. Up to `sound` elements nothing is wrong.
    """

    def __init__(self, lists: Lists, key: Hashable) -> None:
        self.version = lists.longest.get(key, ())
        self.place = _positions(self.version)
        writer, outcome = lists.writer.get(key, {}), lists.transactions.outcome
        size = len(self.version)
        self.owners = [writer.get(element, -1) for element in self.version]
        self.failed = [-1] * size
        self.sound = size
        for place, by in enumerate(self.owners):
            twice = self.place[self.version[place]] != place
            if by < 0 or outcome[by] == FAIL or twice:
                self.sound = min(self.sound, place)
                self.failed[place] = by if by >= 0 and not twice else -1
                self.owners[place] = -1
        self.before = [-1, *self.owners]
        self.after = [*self.owners, -1]
        if self.sound < size:
            for place in range(1, size + 1):
                if self.before[place] < 0:
                    self.before[place] = self.before[place - 1]
            for place in range(size - 1, -1, -1):
                if self.after[place] < 0:
                    self.after[place] = self.after[place + 1]
        self.readers: list[list[int]] = [[] for _ in range(size + 1)]

    def fits(self, version: Version) -> bool:
        """Whether a version is one that came before the longest."""
        return version is self.version or self.version[: len(version)] == version


def _positions(items: Sequence[Hashable]) -> dict[Hashable, int]:
    """Where each item stands first."""
    found: dict[Hashable, int] = {}
    for place, item in enumerate(items):
        found.setdefault(item, place)
    return found

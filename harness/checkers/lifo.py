"""Stacks in which every item is put in once: no search is needed.

After Lee & Mathur, "Efficient decrease-and-conquer linearizability monitoring" (2025). An item whose ``push``
and ``pop`` overlap can come and go at one instant. Of the others each was surely there from the return of its
``push`` to the invocation of its ``pop``. Where these times leave a gap, the stack may have been empty in it,
and what is before and after can be judged apart. What they fill without a gap must have had one item at the
bottom all the time: one whose ``push`` was invoked before the first ``push`` returned, and whose ``pop``
returned after the last ``pop`` was invoked. Any such will do; it is taken away, which may open gaps, and so
on; where there is none, the history is wrong. An item pushed twice, and mostly a ``pop`` of unknown outcome,
leave it to the engine.

To see gaps open, each stretch keeps a chain of items that fill it, each longer than the one before: only
where one of them is taken away must others be found to bridge it, and each becomes a link once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from harness.checkers import items
from harness.checkers.items import NEVER, Item
from harness.checkers.kinds import Kinds
from harness.checkers.search import Finding

EFFORT = 2_000_000  # items looked at to make a violation smaller


def judged(kinds: Kinds, rows: Sequence[int], deadline: float = float("inf")) -> Finding | None:
    """What is found of the rows of a key; None where the preconditions do not hold, or past `deadline`."""
    return items.judged(kinds, rows, _judge, deadline)


def _judge(kinds: Kinds, there: list[Item], empty: list[int]) -> list[int]:
    if not (wrong := bottomless(there)):
        return items.not_empty(kinds, there, empty)
    wrong = _fewest(wrong)
    rows = sorted({row for item in wrong for row in item.rows})
    ret = kinds.columns.ret
    culprit = max(rows, key=lambda row: ret[row])
    return [culprit, *(row for row in rows if row != culprit)]


def _fewest(wrong: list[Item]) -> list[Item]:
    """As few of the items as are still wrong: ever smaller runs of them are left out."""
    size, effort = max(1, len(wrong) // 2), 0
    while effort < EFFORT:
        place, before = 0, len(wrong)
        while place < len(wrong) and effort < EFFORT:
            fewer = wrong[:place] + wrong[place + size :]
            effort += len(fewer)
            if less := bottomless(fewer):
                wrong = sorted(less, key=lambda item: item.there)
            else:
                place += size
        if size == 1 and len(wrong) == before:
            break
        size = max(1, min(size, len(wrong)) // 2)
    return wrong


def bottomless(there: Iterable[Item]) -> list[Item]:
    """Items that were there without a gap though none can have been at the bottom; [] if all is right."""
    held = sorted((item for item in there if item.there < item.leaving), key=lambda item: item.there)
    stretches = _Stretches(held)
    waiting = stretches.first()
    while waiting:
        head, tail = waiting.pop()
        while True:
            bottom = stretches.bottom(head, tail)
            if bottom < 0:
                return [held[place] for place in stretches.alive(head, tail)]
            parts = stretches.without(bottom, head, tail)
            if len(parts) != 1:
                waiting += parts
                break
            head, tail = parts[0]
    return []


class _Stretches:
    """Stretches of time that items fill without a gap, as chains (head, tail) of places in `held`.

    `held` are the items by when they were surely there. A chain's head is the first item of its stretch, its
    tail the one that stays longest.
    """

    def __init__(self, held: list[Item]) -> None:
        self.held = held
        count = len(held)
        self.there = [item.there for item in held]
        self.leaving = [item.leaving for item in held]
        self.called = [item.called for item in held]
        self.left = [item.left if item.left < NEVER else NEVER + 1 for item in held]
        self.size = 1
        while self.size < count:
            self.size *= 2
        self.stays = [-1] * (2 * self.size)  # a tree of which items stay longest
        self.stays[self.size : self.size + count] = range(count)
        for node in range(self.size - 1, 0, -1):
            self.stays[node] = self._longer(self.stays[2 * node], self.stays[2 * node + 1])
        self.reach = [
            bisect_left(self.there, end) for end in self.leaving
        ]  # how many are there before it leaves
        self.gone = bytearray(count)
        self.next = list(range(1, count + 1))  # alive ones, by place
        self.before = list(range(-1, count - 1))
        self.link: dict[int, int] = {}  # of each in a chain, the next
        self.back: dict[int, int] = {}
        self.open = self._opened()

    def _longer(self, one: int, other: int) -> int:
        if one < 0 or other < 0:
            return max(one, other)
        return one if self.leaving[one] >= self.leaving[other] else other

    def _opened(self) -> list[list[int]]:
        """By place: whose push was invoked before this one's push had returned, but returned no earlier."""
        begun = sorted(range(len(self.held)), key=self.called.__getitem__)
        found: list[list[int]] = []
        now: list[int] = []
        at = 0
        for place, end in enumerate(self.there):
            while at < len(begun) and self.called[begun[at]] < end:
                now.append(begun[at])
                at += 1
            now = [one for one in now if one >= place]
            found.append(now)
            now = now.copy()
        return found

    def first(self) -> list[tuple[int, int]]:
        """The stretches of all items."""
        found = []
        place = 0
        while place < len(self.held):
            tail, _ = self._extend(place, -1)
            found.append((place, tail))
            place = self.reach[tail]
        return found

    def _extend(self, cur: int, target: int) -> tuple[int, int]:
        """Lengthen the chain from `cur` until it meets `target` (-1: as far as it goes).

        Returns its last link before the target, and the target: another one further on, or -1, where all up
        to there left no later than the chain does by itself.
        """
        there, leaving, link, back = self.there, self.leaving, self.link, self.back
        while True:
            while target >= 0 and leaving[target] <= leaving[cur]:
                after = link.pop(target, -1)
                if after >= 0:
                    del back[after]
                if target != cur:
                    back.pop(target, None)
                target = after
            if target >= 0 and there[target] < leaving[cur]:
                link[cur], back[target] = target, cur
                return cur, target
            best = self._longest(self.reach[cur])
            if best < 0 or leaving[best] <= leaving[cur]:
                return cur, target
            link[cur], back[best] = best, cur
            cur = best

    def _longest(self, count: int) -> int:
        """Of the first `count` items, the one that is there and stays longest; -1 if none is there."""
        leaving, stays = self.leaving, self.stays
        best, until = -1, -1
        low, high = self.size, self.size + count
        while low < high:
            if low & 1:
                if (one := stays[low]) >= 0 and leaving[one] > until:
                    best, until = one, leaving[one]
                low += 1
            if high & 1:
                high -= 1
                if (one := stays[high]) >= 0 and leaving[one] > until:
                    best, until = one, leaving[one]
            low //= 2
            high //= 2
        return best

    def bottom(self, head: int, tail: int) -> int:
        """An item that may have been at the bottom of a stretch all the time; -1 if there is none."""
        end = self.leaving[tail]
        gone, left, there = self.gone, self.left, self.there
        for one in self.open[head]:
            if left[one] > end and there[one] < end and not gone[one]:
                return one
        return -1

    def alive(self, head: int, tail: int) -> list[int]:
        """The items of a stretch."""
        found = []
        end = self.leaving[tail]
        place = head
        while place < len(self.held) and self.there[place] < end:
            found.append(place)
            place = self.next[place]
        return found

    def without(self, place: int, head: int, tail: int) -> list[tuple[int, int]]:
        """The stretches that are left of one when an item of it is taken away."""
        end = self.leaving[tail]
        self._remove(place)
        if place not in self.link and place not in self.back and place != head:
            return [(head, tail)]
        before, after = self.back.pop(place, -1), self.link.pop(place, -1)
        if before >= 0:
            del self.link[before]
        if after >= 0:
            del self.back[after]
        parts: list[tuple[int, int]] = []
        if before < 0:
            head = before = self._begin(self.next[place], end)
            if before < 0:
                return []
        while before != after:
            last, after = self._extend(before, after)
            if after >= 0 and self.link.get(last) == after:
                break
            parts.append((head, last))
            head = before = self._begin(self._following(last), end)
            if before < 0:
                return parts
        return [*parts, (head, tail)]

    def _begin(self, place: int, end: int) -> int:
        """The head of what follows, before `end`; -1 if nothing does."""
        return place if place < len(self.held) and self.there[place] < end else -1

    def _following(self, place: int) -> int:
        """The first item that came after this one had left."""
        at = self.reach[place]
        following, gone, count = self.next, self.gone, len(self.held)
        while at < count and gone[at]:
            after = following[at]
            if after < count and gone[after]:
                following[at] = following[after]
            at = after
        return at

    def _remove(self, place: int) -> None:
        self.gone[place] = 1
        before, after = self.before[place], self.next[place]
        if before >= 0:
            self.next[before] = after
        if after < len(self.held):
            self.before[after] = before
        stays, leaving = self.stays, self.leaving
        node = self.size + place
        stays[node] = -1
        node //= 2
        while node:
            one, other = stays[2 * node], stays[2 * node + 1]
            if one < 0 or other < 0:
                new = one if other < 0 else other
            else:
                new = one if leaving[one] >= leaving[other] else other
            if stays[node] != place:
                break  # it was not the longest here, nor above
            stays[node] = new
            node //= 2

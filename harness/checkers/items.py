"""Items that are put in once and taken: what is common to queues, stacks and priority queues.

Differs from the models in that it knows of no order among the items, only when each came and left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from harness.checkers.kinds import OK, Kinds
from harness.checkers.search import Finding

NEVER = 1 << 62
EFFORT = 1_000_000  # items looked at to find out what operations of unknown outcome took, about
TRIES = 4  # at least


class Item(NamedTuple):
    """One item: the rows that put it in and took it (-1: nobody), and when it surely came and could leave."""

    put: int
    taken: int
    called: int  # when putting it in began
    there: int  # when that had ended
    leaving: int  # when taking it began
    left: int  # when that had ended

    @property
    def rows(self) -> list[int]:
        """The rows that put it in and took it."""
        return [self.put] if self.taken < 0 else [self.put, self.taken]


Judge = Callable[[Kinds, "list[Item]", "list[int]"], "list[int] | None"]
"""Of items and of rows that found nothing: what shows a violation, the culprit first; [] for none."""


def judged(kinds: Kinds, rows: Sequence[int], judge: Judge, deadline: float) -> Finding | None:
    """What is found of the rows of a key; None where an item was put in twice, or sorting does not tell.

    An item whose putting is of unknown outcome was put in if somebody took it, and else it may as well not
    have been. What is of unknown outcome itself may have taken an item that nobody else took, or nothing: see
    `_with_lost`, which alone may take long, and gives up past `deadline` (of `monotonic`).
    """
    c = kinds.columns
    puts: dict[int, int] = {}
    takes: dict[int, list[int]] = {}
    empty: list[int] = []
    lost: list[int] = []
    for row in rows:
        if c.fs.values[c.f[row]] in ("enqueue", "push"):
            if c.value[row] in puts:
                return None
            puts[c.value[row]] = row
        elif c.type[row] != OK:
            lost.append(row)
        elif c.result[row] == 0:
            empty.append(row)
        else:
            takes.setdefault(c.result[row], []).append(row)
    if 0 in puts:
        return None  # None was put in, which says "empty" when it is taken
    pattern: list[int] | None = _by_itself(kinds, puts, takes)
    if not pattern:
        items = [_item(kinds, row, takes.get(value, [-1])[0]) for value, row in puts.items()]
        items = [item for item in items if item.there < NEVER or item.taken >= 0]
        pattern = (
            _with_lost(kinds, items, empty, lost, judge, deadline) if lost else judge(kinds, items, empty)
        )
        if pattern is None:
            return None
    if not pattern:
        return Finding("valid", None, "", sum(1 for row in rows if c.type[row] == OK), len(rows))
    return Finding("invalid", pattern[0], "", 0, len(rows), tuple(sorted(pattern)))


def _with_lost(
    kinds: Kinds, items: list[Item], empty: list[int], lost: list[int], judge: Judge, deadline: float
) -> list[int] | None:
    """`judge` where nobody knows what the rows `lost` took; None where that is not found out.

    Wrong is what is wrong even if each item that nobody took could have been taken from the first of those
    invocations on. Right is what is right with some of them taken: whatever is in the way is given to one
    that was invoked before it was in the way, the most urgent to the first of them, until nothing is.
    """
    call, ret = kinds.columns.call, kinds.columns.ret
    first = min(call[row] for row in lost)
    wrong = judge(kinds, [one._replace(leaving=first) if one.taken < 0 else one for one in items], empty)
    if wrong is None or wrong:
        return wrong
    place = {item.put: at for at, item in enumerate(items) if item.taken < 0}
    left = sorted(lost, key=call.__getitem__)
    urgent: dict[int, int] = {}  # place of an item that must have been taken -> before when that was invoked
    tried = list(items)
    for _ in range(max(TRIES, EFFORT // max(1, len(items)))):
        if monotonic() > deadline:
            return None
        pattern = judge(kinds, tried, empty)
        if not pattern:
            return pattern
        stuck = [place[row] for row in pattern if row in place]
        if not stuck:
            return None
        untaken = [at for at in stuck if tried[at].taken < 0]
        if untaken:
            urgent[max(untaken, key=lambda at: items[at].called)] = max(ret[row] for row in pattern)
        else:
            latest = max(stuck, key=lambda at: tried[at].leaving)
            urgent[latest] = tried[latest].leaving
        tried, free = list(items), iter(left)
        for at in sorted(urgent, key=urgent.__getitem__):
            chosen = next(free, -1)
            if chosen < 0 or call[chosen] >= urgent[at]:
                return None
            tried[at] = items[at]._replace(taken=chosen, leaving=call[chosen])
    return None


def _item(kinds: Kinds, put: int, taken: int) -> Item:
    call, ret = kinds.columns.call, kinds.columns.ret
    there = ret[put] if ret[put] >= 0 else NEVER
    return Item(put, taken, call[put], there, *((call[taken], ret[taken]) if taken >= 0 else (NEVER, NEVER)))


def _by_itself(kinds: Kinds, puts: dict[int, int], takes: dict[int, list[int]]) -> list[int]:
    """An item that nobody put in, or that was taken twice or too early; the culprit first."""
    call, ret = kinds.columns.call, kinds.columns.ret
    for value, taken in takes.items():
        put = puts.get(value)
        if put is None:
            return taken[:1]
        if len(taken) > 1:
            last, first = sorted(taken, key=ret.__getitem__, reverse=True)[:2]
            return [last, put, first]
        if ret[taken[0]] < call[put]:
            return [taken[0], put]
    return []


def not_empty(kinds: Kinds, items: Sequence[Item], empty: Sequence[int]) -> list[int]:
    """A time in which nothing was found although item after item was surely there; the culprit first."""
    if not empty:
        return []
    call, ret = kinds.columns.call, kinds.columns.ret
    held = sorted((item for item in items if item.there < item.leaving), key=lambda item: item.there)
    spans = Spans(held)
    for row in empty:
        if over := spans.over(call[row], ret[row]):
            return [row, *(r for item in over for r in item.rows)]
    return []


class Spans:
    """The times in which something was surely there, and the items that make them, as few as can be."""

    def __init__(self, held: Sequence[Item]) -> None:
        """Of items that are sorted by when they were surely there."""
        self.spans: list[tuple[int, int, list[Item]]] = []
        for item in held:
            if self.spans and item.there < self.spans[-1][1]:
                begin, end, chain = self.spans[-1]
                if item.leaving > end:
                    chain.append(item)
                    self.spans[-1] = (begin, item.leaving, chain)
            else:
                self.spans.append((item.there, item.leaving, [item]))
        self.begins = [span[0] for span in self.spans]

    def over(self, begin: int, end: int) -> list[Item]:
        """The items that fill all of [begin, end]; [] where there may have been nothing for a moment."""
        place = bisect_left(self.begins, begin)
        if not place or self.spans[place - 1][1] <= end:
            return []
        chain = self.spans[place - 1][2]
        kept: list[Item] = []
        for item in chain:  # each ends later than the one before; take the last that begins in time
            if item.leaving <= begin or item.there >= end:
                continue
            while len(kept) > 1 and item.there < kept[-2].leaving:
                kept.pop()
            if len(kept) == 1 and item.there < begin:
                kept.pop()
            kept.append(item)
        while len(kept) > 1 and kept[-2].leaving > end:
            kept.pop()
        return kept

"""Items that are put in once and taken: what is common to queues, stacks and priority queues.

Differs from the models in that it knows of no order among the items, only when each came and left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.checkers.kinds import OK, Kinds
from harness.checkers.search import Finding

NEVER = 1 << 62


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


def judged(kinds: Kinds, rows: Sequence[int], judge: Judge) -> Finding | None:
    """What is found of the rows of a key; None where an item was put in twice, or sorting does not tell.

    Where nobody knows what some operation took, it may as well not have happened: if the rest is right
    without it, so is the whole; if not, the engine has to search. An item whose putting is of unknown outcome
    was put in if somebody took it, and else it may as well not have been.
    """
    c = kinds.columns
    puts: dict[int, int] = {}
    takes: dict[int, list[int]] = {}
    empty: list[int] = []
    lost = False
    for row in rows:
        if c.fs.values[c.f[row]] in ("enqueue", "push"):
            if c.value[row] in puts:
                return None
            puts[c.value[row]] = row
        elif c.type[row] != OK:
            lost = True
        elif c.result[row] == 0:
            empty.append(row)
        else:
            takes.setdefault(c.result[row], []).append(row)
    if 0 in puts:
        return None  # None was put in, which says "empty" when it is taken
    pattern: list[int] | None = _by_itself(kinds, puts, takes)
    if not pattern:
        items = [_item(kinds, row, takes.get(value, [-1])[0]) for value, row in puts.items()]
        pattern = judge(kinds, [item for item in items if item.there < NEVER or item.taken >= 0], empty)
        if pattern is None or (pattern and lost):
            return None
    if not pattern:
        return Finding("valid", None, "", sum(1 for row in rows if c.type[row] == OK), len(rows))
    return Finding("invalid", pattern[0], "", 0, len(rows), tuple(sorted(pattern)))


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

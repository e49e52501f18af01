"""FIFO queues in which every item is put in once: no search is needed, only sorting.

After Henzinger, Sezgin & Vafeiadis, "Aspect-oriented linearizability proofs" (2013): such a history is wrong
only if an item was taken that nobody put in, twice, or before it was put in; if two were taken in the other
order; or if the queue was found empty while some item was surely in it all the time. With an unknown
``dequeue``, or an item put in twice, the engine has to search.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
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


def judged(kinds: Kinds, rows: Sequence[int]) -> Finding | None:
    """What is found of the rows of a key; None where the preconditions do not hold."""
    c = kinds.columns
    puts: dict[int, int] = {}
    takes: dict[int, list[int]] = {}
    empty: list[int] = []
    for row in rows:
        known = c.type[row] == OK
        if c.fs.values[c.f[row]] == "enqueue":
            if c.value[row] in puts:
                return None
            puts[c.value[row]] = row
        elif not known:
            return None
        elif c.result[row] == 0:
            empty.append(row)
        else:
            takes.setdefault(c.result[row], []).append(row)
    if 0 in puts:
        return None  # None was put in, which says "empty" when it is taken
    pattern = _by_itself(kinds, puts, takes)
    if not pattern:
        items = [_item(kinds, row, takes.get(value, [-1])[0]) for value, row in puts.items()]
        items = [item for item in items if item.there < NEVER or item.taken >= 0]
        pattern = _overtaken(items) or _not_empty(kinds, items, empty)
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


def _overtaken(items: list[Item]) -> list[int]:
    """Of two items one was put in first, and the other taken first; the latter's taking is the culprit."""
    first = sorted(items, key=lambda item: item.there)
    there = [item.there for item in first]
    latest: Callable[[Item, Item], Item] = lambda a, b: a if a.leaving >= b.leaving else b  # noqa: E731
    stays = list(accumulate(first, latest))  # of those there by then, the one that stays longest
    for item in items:
        place = bisect_left(there, item.called)
        if item.taken >= 0 and place and stays[place - 1].leaving > item.left:
            other = stays[place - 1]
            return [row for row in (item.taken, item.put, other.put, other.taken) if row >= 0]
    return []


def _not_empty(kinds: Kinds, items: list[Item], empty: list[int]) -> list[int]:
    """A time in which the queue was found empty although item after item was surely in it."""
    call, ret = kinds.columns.call, kinds.columns.ret
    held = sorted((item for item in items if item.there < item.leaving), key=lambda item: item.there)
    spans: list[list[int]] = []  # begin, end, and the places in `held` that make it
    for place, item in enumerate(held):
        if spans and item.there < spans[-1][1]:
            if item.leaving > spans[-1][1]:
                spans[-1][1] = item.leaving
                spans[-1].append(place)
        else:
            spans.append([item.there, item.leaving, place])
    begins = [span[0] for span in spans]
    for row in empty:
        place = bisect_left(begins, call[row])
        if place and spans[place - 1][1] > ret[row]:
            over = [held[i] for i in spans[place - 1][2:]]
            over = [item for item in over if item.leaving > call[row] and item.there < ret[row]]
            return [row, *(r for item in over for r in (item.put, item.taken) if r >= 0)]
    return []

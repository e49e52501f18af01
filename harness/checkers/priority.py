"""Priority queues in which every item is put in once: no search is needed, only sorting.

After Lee & Mathur, "Efficient decrease-and-conquer linearizability monitoring" (2025). The largest item is in
nobody's way, so the rest can be judged without it; it itself needs a moment of its ``dequeue``, after its
``enqueue`` began, in which nothing smaller was surely there. So items are taken from the smallest up, and the
times in which each was surely there are marked. An item put in twice, items that are not all integers or all
strings, and mostly a ``dequeue`` of unknown outcome leave it to the engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.checkers import items
from harness.checkers.items import Item, Spans
from harness.checkers.kinds import Kinds
from harness.checkers.search import Finding


def judged(kinds: Kinds, rows: Sequence[int], deadline: float = float("inf")) -> Finding | None:
    """What is found of the rows of a key; None where the preconditions do not hold, or past `deadline`."""
    return items.judged(kinds, rows, _judge, deadline)


def _judge(kinds: Kinds, there: list[Item], empty: list[int]) -> list[int] | None:
    columns = kinds.columns
    by_size = [(columns.values.values[columns.value[item.put]], item) for item in there]
    if len({type(value) for value, _ in by_size}) > 1 or any(
        type(value) not in (int, str) for value, _ in by_size
    ):
        return None
    by_size.sort(key=lambda pair: pair[0])
    moments = sorted({time for item in there for time in item[2:]})
    at = {time: place for place, time in enumerate(moments)}
    free = list(
        range(len(moments) + 1)
    )  # from each moment the next at which nothing smaller was surely there
    for place, (_, item) in enumerate(by_size):
        if item.taken >= 0 and _next(free, at[max(item.called, item.leaving)]) >= at[item.left]:
            smaller = [other for _, other in by_size[:place]]
            return [item.taken, *_in_the_way(item, smaller)]
        if item.there < item.leaving:
            last = at[item.leaving]
            moment = _next(free, at[item.there])
            while moment < last:
                free[moment] = moment + 1
                moment = _next(free, moment)
    return items.not_empty(kinds, there, empty)


def _next(free: list[int], moment: int) -> int:
    """The first moment from this one on that is not marked; what was passed points closer to it."""
    while free[moment] != moment:
        free[moment] = free[free[moment]]
        moment = free[moment]
    return moment


def _in_the_way(item: Item, smaller: list[Item]) -> list[int]:
    """Rows of as few smaller items as were there, one after another, while it was taken; and its own."""
    held = sorted((one for one in smaller if one.there < one.leaving), key=lambda one: one.there)
    over = Spans(held).over(max(item.called, item.leaving), item.left)
    return [item.put, *(row for one in over for row in one.rows)]

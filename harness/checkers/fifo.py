"""FIFO queues in which every item is put in once: no search is needed, only sorting.

After Henzinger, Sezgin & Vafeiadis, "Aspect-oriented linearizability proofs" (2013): such a history is wrong
only if an item was taken that nobody put in, twice, or before it was put in; if two were taken in the other
order; or if the queue was found empty while some item was surely in it all the time. An item put in twice,
and mostly a ``dequeue`` of unknown outcome, leave it to the engine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate

from harness.checkers import items
from harness.checkers.items import Item
from harness.checkers.kinds import Kinds
from harness.checkers.search import Finding


def judged(kinds: Kinds, rows: Sequence[int], deadline: float = float("inf")) -> Finding | None:
    """What is found of the rows of a key; None where the preconditions do not hold, or past `deadline`."""
    return items.judged(kinds, rows, _judge, deadline)


def _judge(kinds: Kinds, there: list[Item], empty: list[int]) -> list[int]:
    return _overtaken(there) or items.not_empty(kinds, there, empty)


def _overtaken(there: list[Item]) -> list[int]:
    """Of two items one was put in first, and the other taken first; the latter's taking is the culprit."""
    first = sorted(there, key=lambda item: item.there)
    came = [item.there for item in first]
    latest: Callable[[Item, Item], Item] = lambda a, b: a if a.leaving >= b.leaving else b  # noqa: E731
    stays = list(accumulate(first, latest))  # of those there by then, the one that stays longest
    for item in there:
        place = bisect_left(came, item.called)
        if item.taken >= 0 and place and stays[place - 1].leaving > item.left:
            return [item.taken, item.put, *stays[place - 1].rows]
    return []

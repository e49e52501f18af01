"""Writes that become visible in the reverse of their order: the later one is there, the earlier one is not.

What strict serializability forbids and serializability does not. Differs from ``set-full`` in that a read may
lack anything, as long as it lacks all that came after it, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from functools import partial
from itertools import accumulate
from operator import lt
from typing import Any

from harness.checkers.model import CheckError
from harness.checkers.spans import (
    Anomaly,
    Span,
    by_key,
    entries,
    from_nowhere,
    mark,
    marks,
    of_key,
    spans,
    verdict_of,
)
from harness.checkers.words import at, shown
from harness.history import History
from harness.verdict import Edge, Verdict

WRITES = ("write", "add", "insert")
VALUES = "a list of values"
NOUNS = {
    "causal-reverse": "read of a later write without the earlier one",
    "order": "read of two writes in reverse order",
    "phantom": "value that nobody wrote",
}


def causal_reverse(history: History, ordered: bool = False) -> Verdict:
    """Who reads a value reads all whose ``write`` was acknowledged before that one's began.

    Reads report the values there are, each of which is written once (by ``write``, ``add`` or ``insert``).
    `ordered`: they report them in the order in which they were written, and that is looked at as well; leave
    it out for sets, whose order means nothing. Raises CheckError where a value of a key is written twice,
    where a read reports no list, and for other operations.

    >>> told = [("write", 1), ("write", 2), ("read", [2])]
    >>> history = History.from_events(
    ...     {"index": 2 * i + done, "time": 2 * i + done, "type": ("invoke", "ok")[done], "process": 0,
    ...      "f": f, "value": value} for i, (f, value) in enumerate(told) for done in (0, 1))
    >>> causal_reverse(history).summary
    '1 read of a later write without the earlier one'
    """
    found: list[Anomaly] = []
    written = reads = told = 0
    for group in by_key(spans(history, (*WRITES, "read"), "reversed causes")).values():
        writes: dict[Hashable, Span] = {}
        refused: dict[Hashable, Span] = {}
        for span in group:
            if span.op.f != "read":
                _keep(writes, refused, span)
        written += len(writes)
        calls = {value: span.call for value, span in writes.items()}
        rets = {value: span.ret for value, span in writes.items()}
        values = sorted((value for value, span in writes.items() if span.happened), key=rets.__getitem__)
        ends = [rets[value] for value in values]
        for span in group:
            if span.op.f != "read" or not span.happened:
                continue
            reads += 1
            seen = marks(entries(span.op, VALUES))
            told += bool(seen)
            there = set(seen)
            if not writes.keys() >= there or max(map(calls.__getitem__, seen), default=0) > span.ret:
                found.append(_nowhere(span, seen, writes, refused))
                continue
            found += _without(span, seen, there, writes, calls, ends, values)
            if ordered:
                found += _reversed(span, seen, writes, calls, rets)
    lacking = [] if written else ["no write was invoked"]
    if not reads:
        lacking.append("no read succeeded")
    elif not told:
        lacking.append("no read saw a write")
    return verdict_of(
        "causal-reverse", history, found, kept="no later write without the earlier one", nouns=NOUNS,
        lacking=lacking, evidence={"writes": written, "reads": reads},
    )  # fmt: skip


def _keep(writes: dict[Hashable, Span], refused: dict[Hashable, Span], span: Span) -> None:
    value = mark(span.op.value)
    if span.op.type == "fail":
        refused.setdefault(value, span)
    elif (before := writes.setdefault(value, span)) is not span:
        raise CheckError(
            f"operation {span.op.index} writes {shown(span.op.value)}, as did operation {before.op.index}: "
            "reversed causes can be judged where each value is written once"
        )


def _nowhere(
    read: Span, seen: Sequence[Hashable], writes: dict[Hashable, Span], refused: dict[Hashable, Span]
) -> Anomaly:
    """The first value of a read that nobody can have written by then."""
    value = next(one for one in seen if one not in writes or writes[one].call > read.ret)
    why = writes.get(value) or refused.get(value)
    told = next(one for one in entries(read.op, VALUES) if mark(one) == value)
    others = () if why is None else (why.op.index,)
    return Anomaly("phantom", read, others, partial(_invented, read, told, why))


def _without(
    read: Span, seen: Sequence[Hashable], there: set[Hashable], writes: dict[Hashable, Span],
    calls: dict[Hashable, int], ends: list[int], values: list[Hashable],
) -> list[Anomaly]:  # fmt: skip
    """The earliest write that a read lacks although it has one that began after it: of those the last."""
    if not seen:
        return []
    latest = writes[max(seen, key=calls.__getitem__)]
    due = values[: bisect_left(ends, latest.call)]
    if there.issuperset(due):
        return []
    earlier = writes[next(value for value in due if value not in there)]
    edges = (
        Edge(earlier.op.index, latest.op.index, "it was acknowledged before the other began"),
        Edge(latest.op.index, read.op.index, "its value was read"),
        Edge(read.op.index, earlier.op.index, "it did not see the write"),
    )
    others = (earlier.op.index, latest.op.index)
    return [Anomaly("causal-reverse", read, others, partial(_lacking, read, earlier, latest), edges)]


def _reversed(
    read: Span, seen: Sequence[Hashable], writes: dict[Hashable, Span], calls: dict[Hashable, int],
    rets: dict[Hashable, int],
) -> list[Anomaly]:  # fmt: skip
    """Two values of a read, the first of which was written after the second was acknowledged."""
    begun = list(map(calls.__getitem__, seen))
    highest = list(accumulate(begun, max))
    late = list(map(lt, map(rets.__getitem__, seen), highest))
    if True not in late:
        return []
    place = late.index(True)
    earlier, later = writes[seen[place]], writes[seen[begun.index(highest[place])]]
    others = (earlier.op.index, later.op.index)
    return [Anomaly("order", read, others, partial(_turned, read, earlier, later))]


def _lacking(read: Span, earlier: Span, later: Span) -> str:
    op = read.op
    when, end, begin = at(op.start, earlier.op.end or 0, later.op.start)
    return (
        f"process {op.process} read {shown(later.op.value)}{of_key(op)} at {when}, written from {begin} on, "
        f"but not {shown(earlier.op.value)}, which process {earlier.op.process} had written by {end}"
    )


def _turned(read: Span, earlier: Span, later: Span) -> str:
    op = read.op
    when, end, begin = at(op.start, earlier.op.end or 0, later.op.start)
    return (
        f"process {op.process} read {shown(later.op.value)}, written from {begin} on, before "
        f"{shown(earlier.op.value)}{of_key(op)} at {when}, although process {earlier.op.process} had written "
        f"that by {end}"
    )


def _invented(read: Span, value: Any, why: Span | None) -> str:
    text = f"process {read.op.process} read {shown(value)}{of_key(read.op)} at {at(read.op.start)[0]}"
    return from_nowhere(text, why, "write", "a value that nobody wrote")

"""Long forks: reads that disagree about which of two writes came first.

What parallel snapshot isolation allows and snapshot isolation does not. Differs from Elle's search for cycles
in that it needs nothing but single writes and reads of several keys, each key being written once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.checkers.model import CheckError
from harness.checkers.spans import Anomaly, Span, from_nowhere, mark, spans, verdict_of
from harness.checkers.words import at, key_of, shown
from harness.history import History, Operation
from harness.verdict import Edge, Verdict

NOUNS = {"long-fork": "long fork", "unwritten": "value that nobody wrote"}
FS = ("write", "read", "txn")
WRITES, READS = ("w", "write"), ("r", "read")


@dataclass(slots=True)
class _Forks:
    """The writes of each key; and by (key that a read saw written, key that it saw unwritten) such a read."""

    writes: dict[Hashable, Span] = field(default_factory=dict)
    refused: dict[Hashable, Span] = field(default_factory=dict)
    names: dict[Hashable, Any] = field(default_factory=dict)
    reads: list[Span] = field(default_factory=list)
    order: dict[Hashable, dict[Hashable, Span]] = field(default_factory=dict)


def long_fork(history: History) -> Verdict:
    """All reads agree on one order of the writes: none sees x and not y while another sees y and not x.

    Operations are ``write`` of [[w, k, v]] and ``read`` of [[r, k, nil], ...] (or ``txn`` of either). Longer
    circles of reads, each seeing one write but not the next, are found as well. Real time does not count: see
    ``causal-reverse`` for that. Raises CheckError where a key is written twice, since then a value says not
    how many writes were seen, and for transactions of another form.

    >>> told = [[["w", "x", 1]], [["w", "y", 1]], [["r", "x", 1], ["r", "y", None]],
    ...         [["r", "x", None], ["r", "y", 1]]]
    >>> history = History.from_events(
    ...     {"index": i, "time": i, "type": ("invoke", "ok")[i % 2], "process": i // 2, "f": "txn",
    ...      "value": told[i // 2]} for i in range(8))
    >>> long_fork(history).summary
    '1 long fork'
    """
    forks = _Forks()
    known: set[tuple[Any, ...]] = set()
    found: list[Anomaly] = []
    telling = 0
    for span in spans(history, FS, "long forks"):
        parts = _parts(span.op, span.op.result if span.happened else span.op.value)
        if parts and parts[0][0] in WRITES:
            _written(forks, span, parts)
        elif span.happened:
            forks.reads.append(span)
    groups = set()
    for span in sorted(forks.reads, key=lambda read: (read.ret, read.op.index)):
        parts = _parts(span.op, span.op.result)
        if parts in known:
            continue
        known.add(parts)
        groups.add(tuple(sorted((repr(key) for _, key, _ in parts))))
        saw = {mark(key): value for _, key, value in parts if value is not None}
        found += _unwritten(forks, span, saw)
        for _, unseen, value in parts:
            forks.names[mark(unseen)] = unseen
            if value is None and mark(unseen) not in saw:
                for key in saw:
                    forks.order.setdefault(key, {}).setdefault(mark(unseen), span)
        telling += 0 < len(saw) < len(parts)
    found += _circles(forks)
    lacking = [] if forks.reads else ["no read succeeded"]
    if not forks.writes:
        lacking.append("no write was invoked")
    elif forks.reads and not telling:
        lacking.append("no read saw one write but not another")
    return verdict_of(
        "long-fork", history, found, kept="no long fork", nouns=NOUNS, lacking=lacking,
        evidence={"writes": len(forks.writes), "reads": len(forks.reads), "groups": len(groups)},
    )  # fmt: skip


def _parts(op: Operation, value: Any) -> tuple[tuple[Any, ...], ...]:
    """The micro-operations of a transaction, which is a single write or reads alone. Raises CheckError."""
    parts = value if isinstance(value, tuple) else ()
    good = all(isinstance(p, tuple) and len(p) == 3 and p[0] in (*WRITES, *READS) for p in parts)
    if not parts or not good or (len(parts) > 1 and any(part[0] in WRITES for part in parts)):
        raise CheckError(
            f"operation {op.index}, {op.f!r} of {shown(value)}: expected a single write [[w, k, v]], "
            "or reads [[r, k, v], ...]"
        )
    return parts


def _written(forks: _Forks, span: Span, parts: Sequence[tuple[Any, ...]]) -> None:
    ((_, key, value),) = parts
    if value is None:
        raise CheckError(f"operation {span.op.index} writes nil, which is what a key has that nobody wrote")
    forks.names[mark(key)] = key
    if span.op.type == "fail":
        forks.refused.setdefault(mark(key), span)
    elif (before := forks.writes.setdefault(mark(key), span)) is not span:
        raise CheckError(
            f"operation {span.op.index} writes {key_of(key)}, as did operation {before.op.index}: "
            "long forks can be judged where each key is written once"
        )


def _unwritten(forks: _Forks, span: Span, saw: Mapping[Hashable, Any]) -> list[Anomaly]:
    """Values that nobody can have written by then."""
    found = []
    for key, value in saw.items():
        write = forks.writes.get(key)
        if write is not None and mark(write.op.value[0][2]) == mark(value) and write.call < span.ret:
            continue
        why = write or forks.refused.get(key)
        others = () if why is None else (why.op.index,)
        found.append(Anomaly("unwritten", span, others, partial(_nowhere, span, key, value, why)))
    return found


def _nowhere(span: Span, key: Hashable, value: Any, why: Span | None) -> str:
    op = span.op
    text = f"process {op.process} read {shown(value)} of {key_of(key)} at {at(op.start)[0]}"
    if why is not None and why.op.type != "fail" and mark(why.op.value[0][2]) != mark(value):
        return f"{text}, but process {why.op.process} wrote {shown(why.op.value[0][2])}"
    return from_nowhere(text, why, "write", "a value that nobody wrote")


def _circles(forks: _Forks) -> list[Anomaly]:
    """Pairs of keys that reads saw in both orders; where there are none, the shortest longer circle."""
    order, found = forks.order, []
    for x, later in order.items():
        for y, read in later.items():
            back = order.get(y, {}).get(x)
            if back is not None and (read.op.index, repr(x)) < (back.op.index, repr(y)):
                found.append(_fork(forks, [x, y]))
    if not found and (circle := _circle(order)):
        found.append(_fork(forks, circle))
    return found


def _circle(order: Mapping[Hashable, Mapping[Hashable, Span]]) -> list[Hashable]:
    """A shortest circle of keys, or nothing; only what has edges both in and out is searched."""
    into: dict[Hashable, int] = {}
    for later in order.values():
        for key in later:
            into[key] = into.get(key, 0) + 1
    free = deque(key for key in order if not into.get(key))
    left = dict.fromkeys([*order, *into])
    while free:
        key = free.popleft()
        left.pop(key, None)
        for other in order.get(key, ()):
            into[other] -= 1
            if not into[other]:
                free.append(other)
    best: list[Hashable] = []
    for start in left:
        path = _back(order, left, start, len(best) or 1 << 62)
        best = path or best
    return best


def _back(
    order: Mapping[Hashable, Mapping[Hashable, Span]],
    left: Mapping[Hashable, None],
    start: Hashable,
    most: int,
) -> list[Hashable]:
    """The keys of a shortest way from `start` back to it, if it has fewer than `most`."""
    before: dict[Hashable, Hashable] = {}
    rank = [start]
    for _ in range(most - 1):
        following = []
        for key in rank:
            for other in order.get(key, ()):
                if other == start:
                    path = [key]
                    while path[-1] != start:
                        path.append(before[path[-1]])
                    return path[::-1]
                if other in left and other not in before:
                    before[other] = key
                    following.append(other)
        rank = following
        if not rank:
            break
    return []


def _fork(forks: _Forks, circle: Sequence[Hashable]) -> Anomaly:
    """The circle begins with its earliest read."""
    steps = [(x, y, forks.order[x][y]) for x, y in zip(circle, [*circle[1:], circle[0]], strict=True)]
    begin = min(range(len(steps)), key=lambda i: steps[i][2].op.index)
    steps = [*steps[begin:], *steps[:begin]]
    edges = []
    for x, y, read in steps:
        name, unseen = key_of(forks.names[x]), key_of(forks.names[y])
        if x in forks.writes:
            edges.append(Edge(forks.writes[x].op.index, read.op.index, f"it read the write of {name}"))
        if y in forks.writes:
            edges.append(
                Edge(read.op.index, forks.writes[y].op.index, f"it did not see the write of {unseen}")
            )
    reads = [read for _, _, read in steps]
    culprit = max(reads, key=lambda read: (read.ret, read.op.index))
    writes = [forks.writes[x] for x, _, _ in steps if x in forks.writes]
    others = tuple(span.op.index for span in (*reads, *writes))
    return Anomaly("long-fork", culprit, others, partial(_said, forks, steps), tuple(edges))


def _said(forks: _Forks, steps: Sequence[tuple[Hashable, Hashable, Span]]) -> str:
    told = []
    for (x, y, read), when in zip(steps, at(*(read.op.start for _, _, read in steps)), strict=True):
        name, unseen = key_of(forks.names[x]), key_of(forks.names[y])
        told.append(f"process {read.op.process} saw the write of {name} but not that of {unseen} at {when}")
    return "; ".join(told) + ": no order of the writes explains " + ("both" if len(told) == 2 else "all")

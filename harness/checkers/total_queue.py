"""A queue: what goes in comes out, once. In which order is for ``linearizable:queue`` and its like.

Differs from these also in that nobody need see the queue empty: it looks at each value by itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.checkers.spans import (
    Anomaly,
    Span,
    by_key,
    ending,
    entries,
    from_nowhere,
    mark,
    of_key,
    spans,
    verdict_of,
)
from harness.checkers.words import at, key_of, number, shown
from harness.history import History
from harness.verdict import Verdict

QUEUES = ("enqueue", "dequeue", "drain")
NOUNS = {
    "lost": "lost value",
    "unexpected": "unexpected value",
    "duplicated": "duplicated value",
}


@dataclass(slots=True)
class _Queue:
    """What went into one queue and came out, by value; of `unseen` takes nobody knows what they got."""

    put: dict[Hashable, list[Span]] = field(default_factory=dict)
    refused: dict[Hashable, list[Span]] = field(default_factory=dict)
    got: dict[Hashable, list[tuple[Span, Any]]] = field(default_factory=dict)
    unseen: list[Span] = field(default_factory=list)
    emptied: list[Span] = field(default_factory=list)  # drains, and final dequeues that found nothing


def total_queue(history: History) -> Verdict:
    """Every value whose ``enqueue`` was acknowledged comes out of a ``dequeue`` or ``drain``, and only once.

    A dequeue reports a value, or None where there was none, a drain a list. *Lost* is what came out nowhere
    although the queue was emptied later, by a drain, or by a final dequeue that found nothing. A dequeue of
    unknown outcome may have taken one value that nobody saw, a drain that crashed any number: what they
    explain is not lost. *Unexpected* came out but had not gone in by then, or only in vain; *duplicated* came
    out more often than it had gone in. Where nothing emptied the queue, or only a drain that crashed, the
    verdict is unknown. `evidence` counts what was `recovered`: of unknown outcome, and came out. Raises
    CheckError for other operations.

    >>> history = History.from_events([
    ...     {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "dequeue", "value": None},
    ...     {"index": 1, "time": 5, "type": "ok", "process": 0, "f": "dequeue", "value": 7}])
    >>> total_queue(history).witness.sentence
    'process 0 dequeued 7 at 0.00 s, a value that nobody enqueued'
    """
    found: list[Anomaly] = []
    counts = dict.fromkeys(("acknowledged", "dequeued", "recovered", "taken_unseen"), 0)
    invoked = 0
    lacking: list[str] = []
    for queue in map(_queue, by_key(spans(history, QUEUES, "queues")).values()):
        found += _odd(queue)
        lost = _missing(queue)
        invoked += len(queue.put) + len(queue.refused)
        counts["dequeued"] += sum(map(len, queue.got.values()))
        counts["acknowledged"] += sum(span.happened for put in queue.put.values() for span in put)
        counts["recovered"] += sum(
            not any(span.happened for span in queue.put.get(value, ())) for value in queue.got
        )
        crashed = [span for span in queue.unseen if span.op.f == "drain"]
        takers = len(queue.unseen) - len(crashed)
        if len(lost) > takers and not crashed:
            found += [_lost(queue, lost[: takers + 1])]
            found += [_lost(queue, [*lost[:takers], one]) for one in lost[takers + 1 :]]
        counts["taken_unseen"] += min(len(lost), takers)
        if lost and crashed:
            lacking.append(
                f"{number(len(lost), 'value')} came out nowhere, and process "
                f"{crashed[0].op.process}'s drain, which may have taken them, crashed"
            )
        elif not queue.emptied:
            lacking.append(
                "nothing emptied the queue: no drain succeeded, and no final dequeue found nothing"
            )
    if not invoked:
        lacking.insert(0, "no enqueue was invoked")
    return verdict_of(
        "total-queue", history, found, kept="what went in came out once", nouns=NOUNS,
        evidence=counts, lacking=lacking,
    )  # fmt: skip


def _queue(group: Sequence[Span]) -> _Queue:
    queue = _Queue()
    for span in group:
        op = span.op
        if op.f == "enqueue":
            into = queue.refused if op.type == "fail" else queue.put
            into.setdefault(mark(op.value), []).append(span)
        elif op.type == "info":
            queue.unseen.append(span)
        elif op.type == "ok":
            values = entries(op, "a list of values") if op.f == "drain" else (op.result,)
            if op.f == "drain" or (op.result is None and op.final):
                queue.emptied.append(span)
            for value in values:
                if value is not None:
                    queue.got.setdefault(mark(value), []).append((span, value))
    return queue


def _odd(queue: _Queue) -> list[Anomaly]:
    """Values that came out more often than they had gone in by then; by the first time that each did."""
    found = []
    for value, got in queue.got.items():
        put = queue.put.get(value, [])  # in the order of invocation
        got = sorted(got, key=lambda one: ending(one[0]))
        for place, (take, told) in enumerate(got):
            if place < len(put) and put[place].call <= take.ret:
                continue
            before = [span for span in put if span.call <= take.ret]
            name = "duplicated" if before else "unexpected"
            refused = [span for span in queue.refused.get(value, []) if span.call <= take.ret]
            earlier = [one for one, _ in got[:place]]
            others = [span.op.index for span in (*earlier, *(before or put[:1] or refused))]
            say = partial(_said, take, told, before, put, refused, earlier)
            found.append(Anomaly(name, take, tuple(others), say))
            break
    return found


def _said(
    take: Span, value: Any, before: Sequence[Span], put: Sequence[Span], refused: Sequence[Span],
    earlier: Sequence[Span],
) -> str:  # fmt: skip
    op = take.op
    took = "dequeued" if op.f == "dequeue" else "drained"
    text = f"process {op.process} {took} {shown(value)}{of_key(op)} at {at(op.start)[0]}"
    if before:
        first = earlier[-1].op if earlier else op
        again = f"process {first.process} had got it by {at(first.end or 0)[0]}"
        if len(before) == 1:
            return f"{text} again: it was enqueued once, and {again}"
        return f"{text} again: it had been enqueued {len(before):,} times by then and came out as often"
    why = put[0] if put else refused[-1] if refused else None
    return from_nowhere(text, why, "enqueue", "a value that nobody enqueued")


def _missing(queue: _Queue) -> list[tuple[Span, Span]]:
    """(enqueue, what emptied the queue after it) of each value that came out less often than it went in.

    Of several enqueues of one value those that were acknowledged first are taken to have come out.
    """
    found = []
    emptied = max(queue.emptied, key=lambda span: span.call, default=None)
    for value, put in queue.put.items():
        if emptied is None:
            break
        due = sorted((span for span in put if span.happened and span.ret < emptied.call), key=ending)
        for span in due[len(queue.got.get(value, ())) :]:
            found.append((span, emptied))
    return sorted(found, key=lambda one: ending(one[0]))


def _lost(queue: _Queue, lost: Sequence[tuple[Span, Span]]) -> Anomaly:
    """The last of these; the others are as many as takes of unknown outcome can have got."""
    put, emptied = lost[-1]
    unseen = len(lost) - 1
    value = mark(put.op.value)
    came = [take.op.index for take, _ in queue.got.get(value, ())]
    same = [span.op.index for span in queue.put[value] if span.happened and span is not put] if came else []
    others = (*(span.op.index for span, _ in lost), *came, *same)
    return Anomaly("lost", emptied, others, partial(_gone, put, emptied, lost, unseen))


def _gone(put: Span, emptied: Span, lost: Sequence[tuple[Span, Span]], unseen: int) -> str:
    op, last = put.op, emptied.op
    end, when = at(op.end or 0, last.start)
    to = "" if op.key is None else f" to {key_of(op.key)}"
    text = f"process {op.process}'s enqueue of {shown(op.value)}{to}, acknowledged at {end}, came out nowhere"
    text += f": process {last.process}'s {last.f} at {when} "
    text += "did not have it" if last.f == "drain" else "found nothing"
    if unseen:
        text += (
            f", and {number(unseen, 'dequeue')} of unknown outcome cannot have taken "
            f"all {number(len(lost), 'value')} that are missing"
        )
    return text

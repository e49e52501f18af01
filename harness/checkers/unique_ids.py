"""Identifiers that are handed out once."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

from harness.checkers.model import CheckError
from harness.checkers.spans import Anomaly, Span, by_key, mark, spans, verdict_of
from harness.checkers.words import at, shown
from harness.history import History
from harness.verdict import Verdict

NOUNS = {"duplicated": "duplicated id"}


def unique_ids(history: History) -> Verdict:
    """No two acknowledged ``generate`` report the same id (of a key); others are not looked at.

    Raises CheckError for other operations, and where one that succeeded reports no id.

    >>> history = History.from_events(
    ...     {"index": i, "time": i, "type": ("invoke", "ok")[i % 2], "process": 0, "f": "generate",
    ...      "value": 7 if i % 2 else None} for i in range(4))
    >>> unique_ids(history).witness.sentence
    'process 0 was given the id 7 by 0.000000003 s, which process 0 had by 0.000000001 s'
    """
    found: list[Anomaly] = []
    every = spans(history, ("generate",), "unique ids")
    acknowledged: list[Span] = []
    for group in by_key(every).values():
        first: dict[Hashable, Span] = {}
        twice = set()
        for span in sorted((one for one in group if one.happened), key=lambda one: one.ret):
            acknowledged.append(span)
            if span.op.result is None:
                raise CheckError(f"operation {span.op.index}, 'generate', reported None: expected an id")
            given = mark(span.op.result)
            before = first.setdefault(given, span)
            if before is not span and given not in twice:
                twice.add(given)
                found.append(Anomaly("duplicated", span, (before.op.index,), partial(_twice, span, before)))
    lacking = ["fewer than two ids were acknowledged"] if len(acknowledged) < 2 else []
    ids = [span.op.result for span in acknowledged]
    plain = set(map(type, ids)) in ({int}, {str})
    return verdict_of(
        "unique-ids", history, found, kept="no id twice", nouns=NOUNS, lacking=lacking,
        evidence={
            "generated": len(every), "acknowledged": len(ids),
            "range": [min(ids), max(ids)] if plain else None,
        },
    )  # fmt: skip


def _twice(span: Span, before: Span) -> str:
    when, earlier = at(span.op.end or 0, before.op.end or 0)
    return (
        f"process {span.op.process} was given the id {shown(span.op.result)} by {when}, "
        f"which process {before.op.process} had by {earlier}"
    )

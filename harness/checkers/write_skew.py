"""Write skew over a predicate: two transactions each see that nobody inserted yet, and both insert.

Adya's G2, as a workload that shows nothing else: see it as the smallest test of serializability.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

from harness.checkers.model import CheckError
from harness.checkers.spans import Anomaly, Span, mark, spans, verdict_of
from harness.checkers.words import at, key_of, number, shown
from harness.history import History, Operation
from harness.verdict import Verdict

NOUNS = {"G2": "pair of inserts that exclude each other"}


def write_skew(history: History) -> Verdict:
    """Of the ``insert`` of each key at most one succeeds, since each looks first whether another did.

    Values are Jepsen's: ``[key, [a, b]]``, or ``[a, b]`` of keyed operations, where a or b is the id of the
    row in one of two tables and the other is nil. Judged is what the clients were told: an insert of unknown
    outcome is not. Raises CheckError for other operations and other values.

    >>> history = History.from_events(
    ...     {"index": i, "time": i, "type": ("invoke", "ok")[i % 2], "process": i // 2, "f": "insert",
    ...      "value": ["k", [i // 2, None]]} for i in range(4))
    >>> write_skew(history).summary
    '1 pair of inserts that exclude each other'
    """
    keyed = bool(history.header.get("keyed"))
    inserts: dict[Hashable, list[Span]] = {}
    for span in spans(history, ("insert",), "write skew"):
        inserts.setdefault(mark(_key(span.op, keyed)), []).append(span)
    found = []
    for tried in inserts.values():
        done = sorted((span for span in tried if span.happened), key=lambda span: (span.ret, span.call))
        for span in done[1:2]:
            name = _key(span.op, keyed)
            found.append(Anomaly("G2", span, (done[0].op.index,), partial(_said, name, done)))
    several = sum(len(tried) > 1 for tried in inserts.values())
    lacking = [] if several else ["no key had two inserts"]
    return verdict_of(
        "write-skew", history, found, kept="no write skew", nouns=NOUNS, lacking=lacking,
        evidence={"keys": len(inserts), "keys_with_several": several},
    )  # fmt: skip


def _key(op: Operation, keyed: bool) -> Hashable:
    pair = op.value if not keyed else (op.key, op.value)
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], tuple):
        raise CheckError(f"operation {op.index}, 'insert' of {op.value!r}: expected [key, [a, b]]")
    key: Hashable = pair[0]
    return key


def _said(key: Hashable, done: list[Span]) -> str:
    first, second = done[0].op, done[1].op
    when, then = at(first.end or 0, second.end or 0)
    text = (
        f"process {first.process}'s insert of {_row(first)} for {key_of(key)}, acknowledged at {when}, and "
        f"process {second.process}'s of {_row(second)}, acknowledged at {then}, both succeeded although each "
        "excludes the other"
    )
    return text + (f"; so did {number(len(done) - 2, 'more insert')}" if len(done) > 2 else "")


def _row(op: Operation) -> str:
    return shown(op.value if not isinstance(op.value[-1], tuple) else op.value[-1])

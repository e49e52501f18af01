"""Values, or timestamps, that only grow: nobody sees one go back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from harness.checkers.model import CheckError
from harness.checkers.spans import FOREVER, Anomaly, Span, by_key, of_key, spans, verdict_of
from harness.checkers.words import at, shown
from harness.history import History
from harness.verdict import Verdict

GROW = ("inc", "increment")  # report a value that was not there before
NOUNS = {
    "nonmonotonic-process": "value that fell within a process",
    "nonmonotonic-realtime": "value that fell in real time",
    "nonmonotonic-timestamp": "value that fell as timestamps rose",
    "repeated": "repeated value",
}


def monotonic(history: History, real_time: bool = True) -> Verdict:
    """What ``read`` and ``inc`` (or ``increment``) report never falls, in a process and, if asked, beyond it.

    In a process: an operation reports no less than any before it. In `real_time`: nor than any, of whichever
    process, that ended before it began. What an increment reports is more than that. A result is a value, or
    [timestamp, value] as Jepsen's fauna tests have it: then neither falls in these orders, nor the values in
    that of the timestamps. Values of a key are all numbers or all strings, else CheckError is raised, as for
    other operations. Not seen: values that never were there.

    >>> history = History.from_events(
    ...     {"index": i, "time": i, "type": ("invoke", "ok")[i % 2], "process": 0, "f": "read",
    ...      "value": [None, 5, None, 4][i]} for i in range(4))
    >>> monotonic(history).witness.sentence
    'process 0 read 4 at 0.000000002 s after it had read 5 at 0.000000000 s'
    """
    found: list[Anomaly] = []
    compared = 0
    for group in by_key(spans(history, ("read", *GROW), "monotonic values")).values():
        seen = [span for span in group if span.happened and span.op.result is not None]
        compared += max(0, len(seen) - 1)
        stamped = _stamped(seen)
        for place in range(1 + stamped):
            found += _in_processes(seen, stamped, place)
            if real_time:
                found += _in_real_time(seen, stamped, place)
        if stamped:
            found += _in_timestamps(seen)
        found += _repeated(seen, stamped)
    once: dict[tuple[str, int], Anomaly] = {}
    for anomaly in found:
        once.setdefault((anomaly.name, anomaly.culprit.op.index), anomaly)
    said = {index for name, index in once if name == "nonmonotonic-process"}
    said |= {index for name, index in once if name == "repeated"}
    kept = [a for (name, index), a in once.items() if name != "nonmonotonic-realtime" or index not in said]
    return verdict_of(
        "monotonic", history, kept, kept="values only grow", nouns=NOUNS,
        lacking=[] if compared else ["fewer than two values were reported"], evidence={"compared": compared},
    )  # fmt: skip


def _stamped(seen: Sequence[Span]) -> bool:
    """Whether results are pairs. Raises CheckError where they cannot be compared."""
    pairs = bool(seen) and isinstance(seen[0].op.result, tuple)
    kinds: list[set[str]] = [set(), set()]
    for span in seen:
        told = span.op.result
        parts = told if isinstance(told, tuple) and len(told) == 2 and pairs else (told,)
        for place, part in enumerate(parts):
            kind = "number" if type(part) in (int, float) else "string" if type(part) is str else ""
            kind = kind if part == part else ""  # not a number is neither more nor less than any
            kinds[place].add(kind)
            if not kind or len(parts) != 1 + pairs or len(kinds[place]) > 1:
                raise CheckError(
                    f"operation {span.op.index}, {span.op.f!r}, reported {told!r}: expected a number or "
                    "a string, or [timestamp, value], as the others of this key"
                )
    return pairs


def _part(span: Span, stamped: bool, place: int) -> Any:
    return span.op.result[place] if stamped else span.op.result


def _wrong(span: Span, before: Span, stamped: bool, place: int) -> bool:
    """Whether `span` reports less than `before` (an increment: no more)."""
    new, old = _part(span, stamped, place), _part(before, stamped, place)
    strict = span.op.f in GROW and place == stamped
    return bool(new <= old if strict else new < old)


def _in_processes(seen: Sequence[Span], stamped: bool, place: int) -> list[Anomaly]:
    highest: dict[int, Span] = {}
    found = []
    for span in seen:
        before = highest.get(span.op.process)
        if before is not None and _wrong(span, before, stamped, place):
            found.append(_anomaly("nonmonotonic-process", span, before, stamped, place))
        if before is None or _part(span, stamped, place) >= _part(before, stamped, place):
            highest[span.op.process] = span
    return found


def _in_real_time(seen: Sequence[Span], stamped: bool, place: int) -> list[Anomaly]:
    """One sweep: at each invocation the highest of what was reported by then is the bound."""
    events = sorted(
        [(span.call, span) for span in seen] + [(span.ret, span) for span in seen if span.ret < FOREVER],
        key=lambda event: event[0],
    )
    highest: Span | None = None
    found = []
    for time, span in events:
        if time == span.call:
            if highest is not None and _wrong(span, highest, stamped, place):
                found.append(_anomaly("nonmonotonic-realtime", span, highest, stamped, place))
        elif highest is None or _part(span, stamped, place) > _part(highest, stamped, place):
            highest = span
    return found


def _in_timestamps(seen: Sequence[Span]) -> list[Anomaly]:
    """Values in the order of their timestamps; those of one timestamp are in no order."""
    found = []
    highest: Span | None = None
    same: list[Span] = []
    for span in sorted(seen, key=lambda span: (span.op.result[0], span.call)):
        if same and same[0].op.result[0] != span.op.result[0]:
            highest = max([*same, *([highest] if highest else [])], key=lambda s: s.op.result[1])
            same = []
        if highest is not None and span.op.result[1] < highest.op.result[1]:
            found.append(_anomaly("nonmonotonic-timestamp", span, highest, True, 1))
        same.append(span)
    return found


def _repeated(seen: Sequence[Span], stamped: bool) -> list[Anomaly]:
    """Increments that report the same value."""
    first: dict[Any, Span] = {}
    found = []
    for span in sorted((span for span in seen if span.op.f in GROW), key=lambda span: span.ret):
        before = first.setdefault(_part(span, stamped, int(stamped)), span)
        if before is not span:
            found.append(_anomaly("repeated", span, before, stamped, int(stamped)))
    return found


def _anomaly(name: str, span: Span, before: Span, stamped: bool, place: int) -> Anomaly:
    later = max(span, before, key=lambda one: one.call)
    say = partial(_said, name, span, before, stamped, place)
    return Anomaly(name, later, (span.op.index, before.op.index), say)


def _said(name: str, span: Span, before: Span, stamped: bool, place: int) -> str:
    op, old = span.op, before.op
    what = "timestamp " if stamped and place == 0 else ""
    of = of_key(op)
    new, was = shown(_part(span, stamped, place)), shown(_part(before, stamped, place))
    when, then = at(op.start, old.start)
    verb = "read" if op.f == "read" else "was given"
    if name == "repeated":
        return f"process {op.process} was given {new}{of} at {when}, as process {old.process} was at {then}"
    if name == "nonmonotonic-timestamp":
        return (
            f"process {op.process} {verb} {new}{of} as of timestamp {shown(op.result[0])}, although process "
            f"{old.process} had {was} as of the earlier {shown(old.result[0])}"
        )
    if name == "nonmonotonic-process":
        had = "had read" if old.f == "read" else "had been given"
        return f"process {op.process} {verb} {what}{new}{of} at {when} after it {had} {was} at {then}"
    began, ended = at(op.start, old.end or 0)
    had = "read" if old.f == "read" else "was given"
    return (
        f"process {op.process} {verb} {what}{new}{of} at {began}, although process {old.process} {had} {was} "
        f"by {ended}"
    )

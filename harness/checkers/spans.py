"""Operations with their places in the order of events, and violations found among them.

What the checkers of stores share. Places, not times, say what surely came before what: intervals are closed,
and of another tool's history only the order counts (see `harness.history.Columns`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.checkers.model import CheckError, identity
from harness.checkers.vacuity import judged
from harness.checkers.words import at, in_force, key_of, listed, number
from harness.history import History, Operation
from harness.verdict import Edge, Verdict, Witness

_QUALIFIED = re.compile(r"( (?:of|from|that|with|at|between|within) )")
FOREVER = 1 << 62  # the place at which an operation of unknown outcome has surely taken effect


class Span(NamedTuple):
    """An operation, the place of its invocation and that of its return (FOREVER: nobody knows)."""

    op: Operation
    call: int
    ret: int

    @property
    def happened(self) -> bool:
        """Whether it was acknowledged."""
        return self.op.type == "ok"


def spans(history: History, fs: Sequence[str], what: str) -> list[Span]:
    """All operations. Raises CheckError at the first that is none of `fs`: nobody knows what it does."""
    c = history.columns
    found = []
    for op, call, ret in zip(history.operations, c.call, c.ret, strict=True):
        if op.f not in fs:
            raise CheckError(
                f"operation {op.index} is {op.f!r}; {what} can be judged where all operations are "
                f"{listed(fs)}, since nobody knows what another one does to the values"
            )
        found.append(Span(op, call, ret if ret >= 0 else FOREVER))
    return found


def by_key(found: Iterable[Span]) -> dict[Hashable, list[Span]]:
    """The operations of each key, by what `mark` makes of it, in the order of invocation."""
    groups: dict[Hashable, list[Span]] = {}
    for span in found:
        groups.setdefault(mark(span.op.key), []).append(span)
    return groups


def mark(value: Any) -> Hashable:
    """What `identity` is for, but of an integer or a string the value itself: quick to make and compare."""
    return value if type(value) is int or type(value) is str else identity(value)


def marks(values: Sequence[Any]) -> Sequence[Hashable]:
    """The `mark` of each."""
    if set(map(type, values)) <= {int, str}:
        return values
    return list(map(mark, values))


def entries(op: Operation, expected: str) -> tuple[Any, ...]:
    """What an operation reported as a list; nothing there counts as an empty one. Raises CheckError."""
    if op.result is None:
        return ()
    if not isinstance(op.result, tuple):
        raise CheckError(f"operation {op.index}, {op.f!r}, reported {op.result!r}: expected {expected}")
    return op.result


def ending(span: Span) -> tuple[int, int]:
    """By which operations are put in the order of their returns."""
    return (span.ret, span.op.index)


def of_key(op: Operation) -> str:
    """`` of k1``, or nothing where operations have no keys."""
    return "" if op.key is None else f" of {key_of(op.key)}"


def from_nowhere(text: str, why: Span | None, what: str, nobody: str) -> str:
    """`text` and why that cannot be: its `what` (a write, say) failed or began later, or there was none."""
    if why is None:
        return f"{text}, {nobody}"
    if why.op.type == "fail":
        return f"{text} although process {why.op.process}'s {what} of it was reported as failed"
    return f"{text}, before process {why.op.process}'s {what} of it was invoked at {at(why.op.start)[0]}"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One violation: its name, what cannot be explained, what else shows it (indexes), and how to say so."""

    name: str
    culprit: Span
    others: tuple[int, ...]
    say: Callable[[], str]
    edges: tuple[Edge, ...] = ()

    @property
    def place(self) -> tuple[int, int, tuple[int, ...], str]:
        """By which the first of many is chosen."""
        return (self.culprit.ret, self.culprit.op.index, self.others, self.name)


def verdict_of(
    checker: str, history: History, found: Sequence[Anomaly], *, kept: str, nouns: Mapping[str, str],
    evidence: Mapping[str, Any], lacking: Iterable[str] = (), general: bool = True,
) -> Verdict:  # fmt: skip
    """Invalid with the anomaly that was seen first, which also comes first among the counts."""
    if not found:
        return judged(checker, history, kept=kept, evidence=evidence, lacking=lacking, general=general)
    first = min(found, key=lambda anomaly: anomaly.place)
    many = Counter(anomaly.name for anomaly in found)
    counts = {name: many[name] for name in (first.name, *nouns) if many[name]}
    op = first.culprit.op
    witness = Witness(
        first.say() + in_force(history, op.start),
        tuple(sorted({op.index, *first.others})),
        op.index,
        first.edges,
    )
    summary = listed(_counted(count, nouns[name]) for name, count in counts.items())
    return judged(
        checker, history, kept="", witness=(summary, witness), key=op.key,
        evidence={**evidence, "anomalies": counts},
    )  # fmt: skip


def _counted(count: int, noun: str) -> str:
    """``2 reads of a later write``: what is said of a noun has no plural."""
    head, between, rest = [*_QUALIFIED.split(noun, maxsplit=1), "", ""][:3]
    return number(count, head) + between + rest

"""Linearizability, key by key: every operation took effect at one instant between invocation and return."""

from __future__ import annotations

from time import monotonic
from typing import Any

from harness.checkers.decide import FAIL, SHRINKING, decide, first, rows_of
from harness.checkers.explain import sentence
from harness.checkers.kinds import ILLEGAL, OK, Kinds
from harness.checkers.model import CheckError, Model
from harness.checkers.models import model
from harness.checkers.search import Budget, Finding
from harness.checkers.vacuity import judged, missing
from harness.checkers.witness import smallest
from harness.checkers.words import at, key_of, listed, number
from harness.history import History
from harness.verdict import Verdict, Witness

LOOKED_AT = 1000  # distinct operations of each kind, when looking for one that observes
STATES = 8  # that each kind of operation adds to those it is looked for in


def linearizable(
    history: History, model_: Model | str = "cas-register", budget: Budget | float | None = None
) -> Verdict:
    """Judge each key by the model; stops at the first violation found.

    Where no operation that succeeded could have contradicted the model (only writes did, say), the verdict is
    unknown: any system whatever would have passed.

    `budget` is in seconds, or a `Budget`; used up, the verdict is unknown with cause ``time`` or ``memory``,
    and `evidence` says how far the longest explained prefix reaches. A key that stays unknown hides no
    violation of another. Raises CheckError for an unknown model and for operations that the model does not
    know.

    >>> history = History.from_events([
    ...     {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "read", "value": None},
    ...     {"index": 1, "time": 5, "type": "ok", "process": 0, "f": "read", "value": 1}])
    >>> linearizable(history).witness.sentence
    'process 0 read 1 at 0.00 s, a value that nobody wrote'
    """
    chosen = model(model_)
    limits = budget if isinstance(budget, Budget) else Budget() if budget is None else Budget(seconds=budget)
    columns = history.columns
    kinds = Kinds(columns, chosen)
    deadline = monotonic() + limits.seconds
    decision = decide(kinds, limits, deadline)
    if decision.finding.judgement == "invalid":
        decision = first(kinds, decision, limits)
    evidence = {
        "model": chosen.name,
        "operations": len(columns) - columns.type.count(FAIL),
        "keys": len({key for key, outcome in zip(columns.key, columns.type, strict=True) if outcome != FAIL}),
        "explained": decision.explained,
        "work": decision.work,
    }
    if (key := decision.key) is not None:
        rows = rows_of(columns, key)
        finding = decision.finding
        if finding.row is not None:
            found = finding.pattern or smallest(
                kinds, rows, finding.row, max(deadline, monotonic() + SHRINKING)
            )
            witness = Witness(
                sentence(history, kinds, rows, found, finding.row),
                tuple(sorted(columns.index[row] for row in found)),
                columns.index[finding.row],
            )
            return judged(
                "linearizable", history, kept="", witness=("not linearizable", witness), evidence=evidence,
                key=columns.keys.values[key],
            )  # fmt: skip
        return _undecided(history, limits, key, rows, finding, evidence)
    return judged(
        "linearizable", history, kept="linearizable", evidence=evidence,
        lacking=[*missing(history), *_without_observer(kinds)], general=False,
    )  # fmt: skip


def _without_observer(kinds: Kinds) -> list[str]:
    """That nothing observed the state, if so: each success is possible in every state that there was.

    States are the initial one and those that an operation of the history leads to from there.
    """
    columns = kinds.columns
    succeeded: dict[int, dict[int, None]] = {}  # f -> the distinct ones
    happened: dict[int, dict[int, None]] = {}
    first: dict[tuple[int, int, int, int], int] = {}
    for row, what in enumerate(zip(columns.type, columns.f, columns.value, columns.result, strict=True)):
        first.setdefault(what, row)
    for (outcome, f, _, _), row in first.items():
        if outcome == FAIL:
            continue
        if len(these := happened.setdefault(f, {})) < LOOKED_AT:
            these[kinds.kind(row)] = None
        if outcome == OK and len(these := succeeded.setdefault(f, {})) < LOOKED_AT:
            these[kinds.kind(row)] = None
    if not succeeded:
        return []
    initial = kinds.state(kinds.model.initial)
    states = {initial: None}
    for these in happened.values():
        most = len(states) + STATES
        for kind in these:
            if _fits(kinds, initial, kind):
                states[kinds.step(initial, kind)] = None
            if len(states) == most:
                break
    if any(
        not _fits(kinds, state, kind) for these in succeeded.values() for kind in these for state in states
    ):
        return []
    names = listed(columns.fs.values[f] for f in succeeded)
    return [
        f"nothing observed the state: each {names} that succeeded fits every state there was; "
        "let the workload read what it wrote"
    ]


def _fits(kinds: Kinds, state: int, kind: int) -> bool:
    """Whether an operation can happen in a state; a model may fail in one that the history never comes to."""
    try:
        return kinds.step(state, kind) != ILLEGAL
    except CheckError:
        return False


def _undecided(
    history: History, limits: Budget, key: int, rows: list[int], finding: Finding,
    evidence: dict[str, Any],
) -> Verdict:  # fmt: skip
    columns = history.columns
    name = columns.keys.values[key]
    ends = sorted((columns.ret[row], columns.end[row]) for row in rows if columns.ret[row] >= 0)
    until = ends[finding.explained - 1][1] if 0 < finding.explained <= len(ends) else 0
    what = (
        f"not decided within {limits.seconds:g} s" if finding.cause == "time"
        else f"not decided with {number(limits.configurations, 'configuration')}"
    )  # fmt: skip
    where = f"{key_of(name)} is" if name is not None else "the history is"
    summary = f"{what}; {where} explained up to {at(until)[0]}"
    return Verdict(
        "linearizable", "unknown", summary, cause=finding.cause, key=name,
        evidence={**evidence, "explained_until": until / 1e9, "missing": [summary]},
    )  # fmt: skip

"""Which keys are linearizable: the native kernel where it was built, else the same search in Python.

Either way keys take turns, so that one too hard for the budget hides no violation of another, and the first
violation ends it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping
from functools import partial
from time import monotonic
from typing import NamedTuple

from harness.checkers import counting, elements, fifo, lifo, native, priority, unique, versioned
from harness.checkers.kinds import OK, Kinds
from harness.checkers.models import MODELS
from harness.checkers.search import Budget, Finding, ended, explore
from harness.checkers.witness import smallest
from harness.history import OUTCOMES, Columns

FAIL = OUTCOMES.index("fail")
VALID = Finding("valid")
LONG = 500  # operations from which it pays to ask a model everything
SHRINKING = 2.0  # seconds for the witness, at least: a violation found late is shown all the same
QUESTIONS = 20_000  # that it is asked then, at most
# models of which some histories need no search, beside registers and texts
SORTED = {"counter": counting.judged, "versioned-register": versioned.judged}
ITEMS = {"priority-queue": priority.judged, "queue": fifo.judged, "stack": lifo.judged}


class Decision(NamedTuple):
    """What was found of all keys: `key` is the first that breaks the promise, else the first that is unknown.

    `finding` is of that key, perhaps without its row where `first` has not looked yet; `explained` counts the
    returns that some order explains, `work` the effort.
    """

    key: int | None
    finding: Finding
    explained: int
    work: int


def rows_of(columns: Columns, key: int) -> list[int]:
    """Rows of what may have happened to a key."""
    return [
        row
        for row, (its, outcome) in enumerate(zip(columns.key, columns.type, strict=True))
        if its == key and outcome != FAIL
    ]


def decide(kinds: Kinds, budget: Budget, deadline: float) -> Decision:
    """Judge every key. Raises CheckError for operations that the model does not know."""
    name = kinds.model.name
    ours = kinds.model is MODELS.get(name)
    if ours and name == "set" and (registers := elements.apart(kinds)) is not None:
        return _apart(kinds, registers, budget, deadline)
    by_sorting: Callable[[Kinds, list[int]], Finding | None] | None = None
    if ours and name in ITEMS:  # the search has the other half of the time
        now = monotonic()
        by_sorting = partial(ITEMS[name], deadline=now + (deadline - now) / 2)
    elif ours:
        by_sorting = SORTED.get(name)
    known: dict[int, Finding] = {}
    if by_sorting is not None:
        kinds.all()  # also a failed one must be an operation of the model
        rows = _rows(kinds.columns)
        for key, its_rows in rows.items():
            if (finding := by_sorting(kinds, its_rows)) is not None:
                known[key] = finding
                if finding.judgement == "invalid":
                    return _decision(known)
        if len(known) == len(rows):
            return _decision(known)
    if not kinds.declared and not kinds.model.native and len(kinds.columns) >= LONG:
        kinds.infer(min(len(kinds.columns), QUESTIONS))
    if native.kernel() == "native":
        return _by_kernel(native.Asked(kinds), budget, deadline, known)
    kinds.all()
    rows = {key: its_rows for key, its_rows in _rows(kinds.columns).items() if key not in known}
    return _decision({**known, **_in_turn(kinds, rows, budget, deadline)})


def _rows(columns: Columns) -> dict[int, list[int]]:
    """Rows of what may have happened, by key."""
    rows: dict[int, list[int]] = {}
    for row, (key, outcome) in enumerate(zip(columns.key, columns.type, strict=True)):
        if outcome != FAIL:
            rows.setdefault(key, []).append(row)
    return rows


def _decision(findings: dict[int, Finding], explained: int = 0, work: int = 0) -> Decision:
    """The worst of the findings, first of all a violation."""
    explained += sum(finding.explained for finding in findings.values())
    work += sum(finding.work for finding in findings.values())
    for judgement in ("invalid", "unknown"):
        for key, finding in findings.items():
            if finding.judgement == judgement:
                return Decision(key, finding, explained, work)
    return Decision(None, VALID, explained, work)


def _in_turn(kinds: Kinds, rows: dict[int, list[int]], limits: Budget, deadline: float) -> dict[int, Finding]:
    """Search the keys a slice at a time in turn, until all are decided or one is invalid."""
    running: dict[int, Generator[int, None, Finding]] = {
        key: explore(kinds, its_rows, limits.configurations, deadline) for key, its_rows in rows.items()
    }
    findings: dict[int, Finding] = {}
    for key, its_rows in rows.items():
        if (finding := unique.judged(kinds, its_rows)) is not None:
            findings[key] = finding
            del running[key]
            if finding.judgement == "invalid":
                return findings
    while running:
        for key, steps in list(running.items()):
            try:
                next(steps)
            except StopIteration as end:
                findings[key] = finding = end.value
                del running[key]
                if finding.judgement == "invalid":
                    return findings
    return findings


def _apart(kinds: Kinds, registers: Kinds, budget: Budget, deadline: float) -> Decision:
    """A set judged element by element, told as of its key."""
    decision = decide(registers, budget, deadline)
    element, columns = decision.key, registers.columns
    if element is None:
        return decision
    if decision.finding.judgement == "invalid":
        decision = first(registers, decision, budget)
    finding = decision.finding
    rows = rows_of(columns, element)
    key = kinds.columns.key[rows[0]]
    if finding.row is not None:
        pattern = smallest(registers, rows, finding.row, max(deadline, monotonic() + SHRINKING))
        finding = finding._replace(pattern=pattern, work=max(1, finding.work))
    else:  # as many returns of the key as there are up to the last that is explained of the element
        ends = sorted(columns.ret[row] for row in rows if columns.ret[row] >= 0)
        until = ends[finding.explained - 1] if 0 < finding.explained <= len(ends) else -1
        its_rows = rows_of(kinds.columns, key)
        finding = finding._replace(explained=sum(0 <= columns.ret[row] <= until for row in its_rows))
    return decision._replace(key=key, finding=finding)


def _by_kernel(
    asked: native.Asked, budget: Budget, deadline: float, known: Mapping[int, Finding]
) -> Decision:  # fmt: skip
    """All keys with a small limit; then those left with a larger one each, again and again.

    Where some are `known` to be valid, only the others.
    """

    def late() -> bool:
        return monotonic() > deadline

    several = len(asked.columns.keys.values) > 2  # None is always a key, used or not
    limit = native.FIRST if several else native.NEVER
    most = budget.configurations
    if known:
        work, explained = 0, sum(finding.explained for finding in known.values())
        others = [key for key in _rows(asked.columns) if key not in known]
        left = {key: native.Found(key, "LIMIT", -1, 0) for key in others}
    else:
        work, explained, found = asked.run(late, limit, most)
        if not found:
            return Decision(None, VALID, explained, work)
        if found[-1].answer == "INVALID":  # the kernel stops there
            return Decision(found[-1].key, _finding(asked, found[-1], budget, deadline), explained, work)
        left = {one.key: one for one in found}
        explained -= sum(one.explained for one in found)
    findings: dict[int, Finding] = {}
    while left:
        for key, one in list(left.items()):
            if one.answer == "LIMIT":
                continue
            del left[key]
            findings[key] = _finding(asked, one, budget, deadline)
            if findings[key].judgement == "invalid":
                left.clear()
        if late():
            findings |= {key: Finding("unknown", None, "time", one.explained) for key, one in left.items()}
            break
        limit = 4 * limit if len(left) > 1 else native.NEVER
        for key in list(left):
            more, reached, found = asked.run(late, limit, most, only=key)
            work += more
            if found:
                left[key] = found[0]._replace(explained=max(found[0].explained, left[key].explained))
                if left[key].answer == "INVALID":
                    break
            else:
                explained += reached
                del left[key]
    return _decision(findings, explained, work)


def _finding(asked: native.Asked, one: native.Found, budget: Budget, deadline: float) -> Finding:
    columns = asked.columns
    if one.answer == "INVALID":
        return Finding("invalid", None if one.row < 0 else one.row, "", one.explained)
    if one.answer == "WIDE":  # more is open at once than the kernel has bits for
        rows = rows_of(columns, one.key)
        return ended(explore(asked.kinds, rows, budget.configurations, deadline))
    cause = "time" if one.answer == "STOPPED" else "memory"
    return Finding("unknown", None, cause, one.explained)


def first(kinds: Kinds, decision: Decision, budget: Budget) -> Decision:
    """A decision that something is broken, with the row whose return is the first that nothing explains.

    The kernel sees a violation coming, by a few returns, or it needed no search at all: so what is known at
    a return is judged alone, at ever later returns, and then the first is found by halving.
    """
    key, finding, columns = decision.key, decision.finding, kinds.columns
    if native.kernel() == "python" or key is None or finding.work:
        return decision
    asked = native.Asked(kinds)
    returned = sorted(
        (columns.ret[row], row)
        for row in rows_of(columns, key)
        if columns.ret[row] >= 0 and columns.type[row] == OK
    )

    def broken(place: int) -> bool:
        until = returned[place][0]
        found = asked.run(None, native.NEVER, budget.configurations, only=key, until=until)[2]
        return any(one.answer == "INVALID" for one in found)

    low, high = 0, len(returned) - 1
    if finding.row is not None:
        low = high = bisect_left(returned, (columns.ret[finding.row], finding.row))
        step = 1
        while high < len(returned) - 1 and not broken(high):
            low, high, step = high + 1, min(high + step, len(returned) - 1), 2 * step
    place = low + bisect_left(range(low, high), True, key=broken)
    found = Finding("invalid", returned[place][1], "", place)
    return decision._replace(finding=found, explained=decision.explained + place - finding.explained)

"""What a run failed to show at all: a check that had nothing to look at has not passed.

Differs from a checker in that it convicts nobody: a violation stays a violation however little was
looked at; only *valid* turns into *unknown*, cause ``vacuous``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from harness.checkers.words import FAULTS, at, key_of, listed, number
from harness.history import NANOSECONDS, OUTCOMES, Fault, History
from harness.verdict import Verdict, Witness

TIME_LIMIT = 1.0  # seconds; of an operation, where the header does not say
SHORTEST = 1.0  # seconds that a fault counts at least: a kill is over at once, what it does is not


def missing(history: History) -> list[str]:
    """What is missing, a sentence each: successes of some kind, overlap with each fault, final reads.

    Of another tool's history nobody knows what it was to show: any success is enough.
    """
    if not len(history):
        return ["no operation was invoked"]
    if "format" in history.header:
        return [] if history.counts["ok"] else ["no operation succeeded"]
    return [*_without_success(history), *_without_fault(history), *_without_final_read(history)]


def _without_success(history: History) -> list[str]:
    c = history.columns
    invoked: dict[int, int] = {}
    succeeded = set()
    for f, outcome in zip(c.f, c.type, strict=True):
        invoked[f] = invoked.get(f, 0) + 1
        if OUTCOMES[outcome] == "ok":
            succeeded.add(f)
    return [
        f"no {c.fs.values[f]} succeeded, of {count:,} invoked"
        for f, count in invoked.items()
        if f not in succeeded
    ]


def _without_fault(history: History) -> list[str]:
    if not history.has_faults:
        return []
    if not any(fault.start is not None for fault in history.faults):
        return ["the plan has faults, but none was observed"]
    c = history.columns
    limit = int(float(history.header.get("time_limit") or TIME_LIMIT) * NANOSECONDS)
    # of an unknown outcome nobody saw the end, but its client waited for it no longer than its time limit
    spans = sorted(
        (start, end if end >= 0 else start + limit) for start, end in zip(c.start, c.end, strict=True)
    )
    starts = [start for start, _ in spans]
    latest = list(accumulate((end for _, end in spans), max))  # of the ends so far
    alone = []
    for fault in history.faults:
        if fault.start is None:
            continue
        until = max(fault.end, fault.start + round(SHORTEST * NANOSECONDS)) if fault.end is not None else None
        begun = len(starts) if until is None else bisect_right(starts, until)
        if not begun or latest[begun - 1] < fault.start:
            alone.append(fault)
    texts = [f"no operation overlapped {_fault(fault)}" for fault in alone[:FAULTS]]
    if len(alone) > FAULTS:
        texts.append(f"nor did any overlap {number(len(alone) - FAULTS, 'more fault')}")
    return texts


def _fault(fault: Fault) -> str:
    """A fault that was observed, and when it was in force."""
    start, *end = at(fault.start or 0, *([] if fault.end is None else [fault.end]))
    when = f"from {start} to {end[0]}" if end else f"since {start}"
    return f"the fault {fault.what or fault.kind}, in force {when}"


def _without_final_read(history: History) -> list[str]:
    if not history.header.get("final_reads"):
        return []
    c = history.columns
    came: dict[tuple[int, int], bool] = {}
    for row, final in enumerate(c.final):
        if final:
            place = (c.node[row], c.key[row])
            came[place] = came.get(place, False) or OUTCOMES[c.type[row]] == "ok"
    if not came:
        return ["the final reads never came"]
    lost: dict[str, list[str]] = {}
    for (node, key), ok in came.items():
        if not ok:
            name = c.nodes.values[node] or "any node"
            lost.setdefault(name, []).append("" if not key else key_of(c.keys.values[key]))
    return [
        f"no final read on {node} succeeded" + (f" for {listed(keys)}" if any(keys) else "")
        for node, keys in lost.items()
    ]


def judged(
    checker: str, history: History, *, kept: str, witness: tuple[str, Witness] | None = None, key: Any = None,
    evidence: Mapping[str, Any] | None = None, lacking: Iterable[str] = (), general: bool = True,
) -> Verdict:  # fmt: skip
    """Invalid with (summary, `witness`), else unknown if anything is missing, else valid (`kept`).

    `lacking` is what this checker itself found missing; `general` adds `missing`.
    """
    evidence = dict(evidence or {})
    if witness is not None:
        summary, shown = witness
        return Verdict(checker, "invalid", summary, witness=shown, evidence=evidence, key=key)
    absent = list(dict.fromkeys([*lacking, *(missing(history) if general else ())]))
    if absent:
        return Verdict(
            checker, "unknown", absent[0], cause="vacuous", evidence={**evidence, "missing": absent}
        )
    return Verdict(checker, "valid", kept, evidence=evidence)

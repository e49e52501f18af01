"""Histories for the checkers of stores, an operation a line, and what their verdicts have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.checkers import Checker
from harness.history import History
from harness.verdict import Verdict
from tests.unit.checkers.histories import history

S = 10**9
AS_ASKED: Any = object()


def op(
    process: int, f: str, value: Any, start: float, end: float, result: Any = AS_ASKED, type: str = "ok",
    **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One operation; its times are seconds."""
    done = {"process": process, "f": f, "value": value, "type": type, "start": round(start * S), **more}
    done |= {"end": round(end * S)}
    return done if result is AS_ASKED else done | {"result": result}


def read(
    process: int, start: float, end: float, result: Any, type: str = "ok", **more: Any
) -> dict[str, Any]:
    return op(process, "read", None, start, end, result, type, **more)


def anomalies(verdict: Verdict) -> dict[str, int]:
    """The anomalies of an invalid verdict; none of another."""
    assert verdict.judgement == "invalid" or "anomalies" not in verdict.evidence
    return dict(verdict.evidence.get("anomalies", {}))


def sentence(verdict: Verdict) -> str:
    assert verdict.witness is not None, verdict
    return verdict.witness.sentence


FROM_NOWHERE = {
    "phantom",
    "unexpected",
    "unwritten",
    "ThinAirRead",
}  # a value whose write is left out is that


def smallest(checker: Checker, h: History) -> Verdict:
    """The verdict; its witness shows what it says, and without any one of its operations it does not.

    Of what is left out nobody knows whether it happened, and nobody asks what it saw. Only the write that a
    value came from may stand beside what cannot be spared: without it that would be a value from nowhere.
    """
    verdict = checker(h)
    assert verdict.witness is not None, verdict
    wanted = verdict.witness.operations
    assert verdict.witness.culprit in wanted and list(wanted) == sorted(set(wanted))
    name = next(iter(anomalies(verdict)))
    shown = count(checker(part(h, wanted)), name)
    assert shown, verdict
    counted = {one.index for one in h.operations if name == "duplicated" and one.f == "enqueue"}
    for index in {*wanted} - counted:  # how often a value went in is part of the story
        others = [other for other in wanted if other != index]
        if count(checker(part(h, others)), name) >= shown:
            orphaned = anomalies(checker(part(h, others, without=index))).keys() & FROM_NOWHERE
            assert orphaned, (verdict, index)
    return verdict


def count(verdict: Verdict, name: str) -> int:
    """How many of that anomaly; a stale element that nobody shows to be there later is a lost one."""
    found = anomalies(verdict)
    return sum(found.get(one, 0) for one in (("lost", "stale") if name in ("lost", "stale") else (name,)))


def part(h: History, indexes: Iterable[int], without: int | None = None) -> History:
    """The same history, but of other writes nobody knows, other reads are left out, and so is `without`."""
    wanted = set(indexes)
    operations = []
    free = 1 + max(one.process for one in h.operations)
    for one in h.operations:
        if one.index == without or (one.index not in wanted and one.f in READS and one.type != "info"):
            continue
        more: dict[str, Any] = {"final": one.final} | ({"node": one.node} if one.node else {})
        if h.header.get("keyed"):
            more["key"] = one.key
        known = one.index in wanted or one.type == "fail"
        free += not known
        operations.append(
            {"process": one.process if known else free, "f": one.f, "value": one.value, "result": one.result,
             "type": one.type if known else "info", "start": one.start, "end": one.end, **more}
        )  # fmt: skip
    return history(operations, {"format": "part"})


READS = ("read", "poll", "dequeue", "drain", "generate")

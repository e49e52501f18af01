"""Recovery, availability, vacuity, and what the asserts do with a verdict."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers import (
    CheckError,
    assert_available,
    assert_linearizable,
    assert_no_lost_update,
    assert_no_lost_write,
    assert_recovers,
    available,
    check,
    checkers,
    headline,
    judge,
    linearizable,
    missing,
    recovers,
    text,
)
from harness.history import History
from harness.verdict import Undecided, Verdict, Violation
from tests.unit.checkers.histories import Event, drawn, fault, history

S = 10**9


def steady(
    fails: tuple[float, float] = (0, 0), kinds: tuple[str, ...] = ("read",), until: int = 20,
    outcome: str = "fail", extra: list[Event] | None = None, **header: Any,
) -> History:  # fmt: skip
    """An operation of each kind ten times a second; those invoked in `fails` (seconds) do not succeed."""
    operations = []
    for i in range(until * 10):
        start = i * S // 10
        bad = fails[0] <= start / S < fails[1]
        for number, kind in enumerate(kinds):
            process = number + (100 * i if bad else 0)
            operations.append(
                {"process": process, "f": kind, "value": None if kind == "read" else 1,
                 "start": start, "end": start + S // 20, "type": outcome if bad else "ok", "node": "n1"}
            )  # fmt: skip
    return history(operations, header, extra or [])


CUT = fault(5 * S, 10 * S)


def test_recovery_in_time() -> None:
    assert recovers(steady((5, 11), extra=CUT), within=2).judgement == "valid"
    late = recovers(steady((5, 13), extra=CUT), within=2)
    assert late.judgement == "invalid" and late.witness is not None
    assert late.witness.sentence == (
        "no read succeeded within 2 s after n2 cut from n1, n3 healed at 10.00 s: 21 tried, "
        "the next success came at 13.05 s"
    )
    never = recovers(steady((5, 30), extra=CUT), within=2)
    assert never.witness is not None and never.witness.sentence.endswith("the next success came never")


def test_recovery_is_of_every_kind() -> None:
    operations = [
        {"process": i % 2, "f": ("read", "write")[i % 2], "value": 1, "start": i * S, "end": i * S + 1,
         "type": "fail" if i % 2 and i > 5 else "ok"}
        for i in range(30)
    ]  # fmt: skip
    verdict = recovers(history(operations, extra=CUT), within=4)
    assert verdict.judgement == "invalid" and verdict.witness is not None
    assert verdict.witness.sentence.startswith("no write succeeded within 4 s")


@pytest.mark.parametrize(
    "extra, until",
    [
        ([], 20),  # no heal
        (fault(5 * S, None), 20),  # never healed
        (CUT, 11),  # the run ended too soon
        ([*CUT, *fault(11 * S, None, id=2)], 20),  # the next fault came too soon
        ([*CUT, *fault(9 * S, None, id=2)], 20),  # another was still in force
    ],
)  # fmt: skip
def test_recovery_that_nobody_could_see_is_unknown(extra: list[Event], until: int) -> None:
    verdict = recovers(steady((5, 30), extra=extra, until=until), within=2)
    assert (verdict.judgement, verdict.cause) == ("unknown", "vacuous")


def test_availability_is_a_fraction_of_what_was_invoked_meanwhile() -> None:
    assert available(steady((5, 6), extra=CUT), "partition", 0.75).judgement == "valid"
    low = available(steady((5, 7), extra=CUT), "partition", 0.75)
    assert low.judgement == "invalid" and low.witness is not None
    assert (low.evidence["ok"], low.evidence["invoked"]) == (31, 51)
    assert low.witness.sentence.startswith(
        "31 of 51 operations invoked during partition succeeded (60.8%), fewer than the 75.0% asked"
    )


def test_availability_without_such_a_fault_is_unknown_and_says_what_there_was() -> None:
    verdict = available(steady(extra=CUT), "partitoin")
    assert verdict.cause == "vacuous"
    assert verdict.summary == "no partitoin was in force in this run; it had partition"


def test_limits_must_make_sense() -> None:
    with pytest.raises(CheckError, match="above 0"):
        recovers(steady(), within=0)
    with pytest.raises(CheckError, match="above 0, at most 1"):
        available(steady(), "partition", 90)


# --------------------------------------------------------------------------------------------- vacuity


def test_a_run_that_shows_something_lacks_nothing() -> None:
    assert missing(steady(extra=CUT)) == []
    assert missing(steady()) == []  # no plan, no faults: as of an imported history


def test_nothing_was_invoked() -> None:
    verdict = linearizable(history([]))
    assert (verdict.judgement, verdict.cause, verdict.summary) == (
        "unknown",
        "vacuous",
        "no operation was invoked",
    )


def test_no_success_of_some_kind() -> None:
    h = drawn("[r- ] [w1 !  [w2 ?\n[r- ]")
    verdict = linearizable(h)
    assert (verdict.judgement, verdict.summary) == ("unknown", "no write succeeded, of 2 invoked")
    assert text(verdict, h).splitlines()[0] == (
        "UNKNOWN: vacuous: no write succeeded, of 2 invoked   4 operations, 1 of unknown outcome"
    )
    assert "make it longer" in text(verdict, h)


def test_no_operation_overlapped_a_fault() -> None:
    assert missing(steady(extra=fault(30 * S, 31 * S))) == ["no operation overlapped a fault"]
    assert missing(steady(plan={"entries": [1]})) == ["the plan has faults, but none was observed"]
    # an operation that nobody heard back from was in flight for its time limit, not for ever
    short = drawn("[r- ] [w1 ]\n[w2 ?")
    in_flight = history([vars_of(op) for op in short.operations], {"time_limit": 2.0}, fault(S, 2 * S))
    assert missing(in_flight) == []
    over = history([vars_of(op) for op in short.operations], {"time_limit": 0.5}, fault(S, 2 * S))
    assert missing(over) == ["no operation overlapped a fault"]


def vars_of(op: Any) -> dict[str, Any]:
    names = ("process", "f", "value", "result", "type", "start", "end")
    return {name: getattr(op, name) for name in names}


def test_a_promised_final_read_that_never_came() -> None:
    assert missing(steady(final_reads=True)) == ["the final reads never came"]
    read: dict[str, Any] = {"f": "read", "value": None, "final": True}
    tried = [
        {**read, "process": 0, "node": "n1", "key": "k1", "start": 0, "end": 1},
        {**read, "process": 1, "node": "n2", "key": "k1", "start": 0, "end": 1, "type": "fail"},
        {**read, "process": 1, "node": "n2", "key": "k2", "start": 2, "end": 3, "type": "fail"},
        {**read, "process": 1, "node": "n2", "key": "k2", "start": 4, "end": 5},
    ]
    assert missing(history(tried, {"final_reads": True})) == ["no final read on n2 succeeded for k1"]
    assert missing(history(tried)) == []


def test_vacuity_hides_no_violation() -> None:
    h = drawn("[r7 ] [w1 !", plan={"entries": [1]}, final_reads=True)
    assert len(missing(h)) == 3
    assert linearizable(h).judgement == "invalid"


# --------------------------------------------------------------------------------------------- asserts


def test_an_assert_remembers_its_verdict_and_fails_unless_valid() -> None:
    good, bad, empty = drawn("[w1 ] [c1>2 ]"), drawn("[w1 ] [r2 ]"), history([])
    assert assert_linearizable(good).valid and good.verdicts[0].checker == "linearizable"
    with pytest.raises(Violation, match="INVALID: not linearizable   2 operations") as violation:
        assert_linearizable(bad)
    assert bad.verdicts == [violation.value.verdict]
    with pytest.raises(Undecided, match="UNKNOWN: vacuous: no operation was invoked") as undecided:
        assert_linearizable(empty)
    assert empty.verdicts == [undecided.value.verdict]
    for assertion in (assert_no_lost_update, assert_no_lost_write):
        with pytest.raises(Undecided):
            assertion(good)
    with pytest.raises(Undecided):
        assert_recovers(good, within=1)
    with pytest.raises(Undecided):
        assert_available(good, during="partition", at_least=0.5)
    assert [v.checker for v in good.verdicts] == [
        "linearizable", "no-lost-update", "no-lost-write", "recovers", "available",
    ]  # fmt: skip


def test_checks_have_names() -> None:
    assert list(checkers()) == [
        "linearizable:register", "linearizable:cas-register", "no-lost-update", "no-lost-write",
    ]  # fmt: skip
    h = drawn("[w1 ] [r1 ]")
    assert check(h, "linearizable:register").valid
    assert h.verdicts == []
    with pytest.raises(CheckError, match="unknown check 'linearisable'; there are: linearizable:register, "):
        check(h, "linearisable")


def test_a_checker_of_your_own() -> None:
    h = drawn("[w1 ] [r1 ]")

    def own(history: History) -> Verdict:
        return Verdict("own", "valid", f"{len(history)} operations")

    assert judge(h, own).summary == "2 operations"
    assert judge(h, "linearizable:register").valid
    assert judge(h, Verdict("made", "valid", "fine")).valid
    assert [v.checker for v in h.verdicts] == ["own", "linearizable", "made"]
    with pytest.raises(TypeError, match=r"returned True; expected a harness\.Verdict"):
        judge(h, lambda history: True)  # type: ignore[arg-type, return-value]


def test_a_headline_counts() -> None:
    h = steady(until=250)
    assert headline(linearizable(h), h) == "VALID: linearizable   2,500 operations, 0 of unknown outcome"

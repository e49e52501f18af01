"""Recovery, availability, vacuity, and what the asserts do with a verdict."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from harness.checkers import (
    MODELS,
    CheckError,
    Inconsistent,
    Model,
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
from harness.checkers.kinds import Kinds
from harness.checkers.linearizable import _without_observer
from harness.history import History
from harness.verdict import Undecided, Verdict, Violation, Witness
from tests.unit.checkers.histories import Event, drawn, fault, history

S = 10**9
NAMES = (
    "bank", "causal", "causal-reverse", "causal-reverse:ordered", "counter", "counter:final", "kafka",
    "list-append", "list-append:snapshot-isolation", "rw-register", "rw-register:read-committed",
    "long-fork", "monotonic", "monotonic:process", "no-lost-update", "no-lost-write", "set-full",
    "set-full:linearizable", "total-queue", "unique-ids", "write-skew",
)  # fmt: skip


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


def reads_recover(*extra: Event, until: int, writes: tuple[int, int] = (0, 5)) -> History:
    """Reads always succeed, writes only in these seconds."""
    return history(
        [
            {"process": i, "f": ("read", "write")[i % 2], "value": None, "start": i * S // 10,
             "end": i * S // 10 + 1, "type": "ok" if not i % 2 or writes[0] <= i / 10 < writes[1] else "fail"}
            for i in range(until * 10)
        ],
        extra=extra,
    )  # fmt: skip


def test_recovery_of_one_kind_says_nothing_of_another() -> None:
    short = recovers(reads_recover(*CUT, until=11), within=2)
    assert (short.judgement, short.cause) == ("unknown", "vacuous")
    assert short.summary == (
        "no write succeeded after n2 cut from n1, n3 healed at 10.00 s: 5 tried, but the run went on for "
        "only 0.90 s of the 2.00 s asked: give it a longer duration"
    )
    again = recovers(reads_recover(*CUT, *fault(11 * S, None, id=2), until=20), within=2)
    assert (again.judgement, again.cause) == ("unknown", "vacuous")
    assert "5 tried, but the next fault came 1.00 s after it, within the 2.00 s asked" in again.summary
    # another heal shows what this one was too short for
    both = [*CUT, *fault(11 * S, 15 * S, id=2)]
    assert recovers(reads_recover(*both, until=20), within=2).judgement == "invalid"
    assert recovers(reads_recover(*both, until=20, writes=(15, 20)), within=2).judgement == "valid"
    assert recovers(reads_recover(*CUT, until=11, writes=(10, 11)), within=2).judgement == "valid"


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
    nothing = "no operation overlapped the fault n2 cut from n1, n3, in force from "
    assert missing(steady(extra=fault(30 * S, 31 * S))) == [f"{nothing}30.00 s to 31.00 s"]
    assert missing(steady(plan={"entries": [1]})) == ["the plan has faults, but none was observed"]
    # an operation that nobody heard back from was in flight for its time limit, not for ever
    short = drawn("[r- ] [w1 ]\n[w2 ?")
    in_flight = history([vars_of(op) for op in short.operations], {"time_limit": 2.0}, fault(S, 2 * S))
    assert missing(in_flight) == []
    over = history([vars_of(op) for op in short.operations], {"time_limit": 0.5}, fault(S, 2 * S))
    assert missing(over) == [f"{nothing}1.00 s to 2.00 s"]


def test_each_fault_must_be_overlapped() -> None:
    late = fault(30 * S, None, what="n1 killed", id=2)
    assert missing(steady(extra=[*CUT, *late])) == [
        "no operation overlapped the fault n1 killed, in force since 30.00 s"
    ]
    assert linearizable(seen_by_reads(extra=[*CUT, *late])).cause == "vacuous"
    many = missing(steady(extra=[e for i in range(9) for e in fault((30 + i) * S, None, id=i)]))
    assert len(many) == 5 and many[-1] == "nor did any overlap 5 more faults"
    # one that is over at once counts as a second long
    sparse = [{"process": 0, "f": "read", "value": None, "start": t * S, "end": t * S + 1} for t in (0, 9)]
    assert missing(history(sparse, extra=fault(8 * S + 500, 8 * S + 501))) == []
    assert len(missing(history(sparse, extra=fault(7 * S, 7 * S + 1)))) == 1
    # an operation that lasted long overlaps, however many shorter ones began after it
    long = {"process": 1, "f": "read", "value": None, "start": 0, "end": 8 * S}
    assert missing(history([long, *sparse], extra=fault(7 * S, 7 * S + 1))) == []


def seen_by_reads(**more: Any) -> History:
    """A write that every later read returns."""
    reads = steady(kinds=("read",), **more)
    operations = [vars_of(op) | {"result": 1} for op in reads.operations if op.start]
    write = {"process": 0, "f": "write", "value": 1, "start": 0, "end": 1}
    return history([write, *operations], reads.header, more.get("extra", []))


def test_vacuity_is_quick_to_tell() -> None:
    faults = [e for i in range(200) for e in fault(i * S, i * S + S // 2, id=i)]
    h = history(
        ({"process": i, "f": "write", "value": i, "start": i * 10_000, "end": i * 10_000 + 5}
         for i in range(100_000)),
        extra=faults,
    )  # fmt: skip
    began = process_time()
    assert len(missing(h)) == 5
    assert process_time() - began < 3
    began = process_time()
    assert _without_observer(Kinds(h.columns, MODELS["register"])) != []
    assert process_time() - began < 5


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


@pytest.mark.parametrize(
    "picture, judgement",
    [
        ("[w1 ] [w2 ]", "unknown"),
        ("[w1 ] [w2 ?", "unknown"),
        ("[w1 ] [w2 ]\n             [r2 ]", "valid"),
        ("[w1 ] [c1>2 ]", "valid"),
        ("[r- ] [w1 ]", "valid"),
        ("[r- ] [w1 ?", "unknown"),  # no write succeeded
        ("[r- ] [r- ]", "unknown"),  # there never was another state
        ("[r- ] [r7 ]", "invalid"),
    ],
)  # fmt: skip
def test_a_history_in_which_nothing_observes_the_state_shows_nothing(picture: str, judgement: str) -> None:
    verdict = linearizable(drawn(picture))
    assert verdict.judgement == judgement
    if judgement == "unknown":
        assert verdict.cause == "vacuous"


def test_what_observes_is_asked_of_the_model_and_of_the_whole_history() -> None:
    verdict = linearizable(drawn("[w1 ] [w2 ]"), "register")
    assert verdict.summary == (
        "nothing observed the state: each write that succeeded fits every state there was; "
        "let the workload read what it wrote"
    )

    def step(state: int, f: str, value: int, result: object) -> int | Inconsistent:
        if f == "release" and not state:
            return Inconsistent("nobody holds it")
        return state + (1 if f == "acquire" else -1)

    permits = Model("permits", 0, step, ("acquire", "release"))
    acquire, release = (
        {"process": 0, "f": f, "value": None, "start": i * 9, "end": i * 9 + 5}
        for i, f in enumerate(permits.fs)
    )
    assert linearizable(history([acquire]), permits).cause == "vacuous"
    assert linearizable(history([acquire, release]), permits).valid
    one = {"process": 0, "f": "write", "value": 1, "key": "a", "start": 0, "end": 5}
    two = {"process": 1, "f": "write", "value": 1, "key": "b", "start": 0, "end": 5}
    read = {"process": 1, "f": "read", "value": None, "result": 1, "key": "b", "start": 7, "end": 9}
    assert linearizable(history([one, two])).cause == "vacuous"
    assert linearizable(history([one, two, read])).valid


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
    with pytest.raises(Undecided, match="no rmw was invoked"):
        assert_no_lost_update(good)
    with pytest.raises(Undecided, match="no add was invoked"):
        assert_no_lost_write(empty)
    with pytest.raises(Undecided):
        assert_recovers(good, within=1)
    with pytest.raises(Undecided):
        assert_available(good, during="partition", at_least=0.5)
    assert [v.checker for v in good.verdicts] == [
        "linearizable", "no-lost-update", "recovers", "available",
    ]  # fmt: skip


def test_checks_have_names() -> None:
    assert {*(f"linearizable:{name}" for name in MODELS), *NAMES} < set(checkers())
    assert {"linearizable:register", "linearizable:queue"} < set(checkers())
    h = drawn("[w1 ] [r1 ]")
    assert check(h, "linearizable:register").valid
    assert h.verdicts == []
    with pytest.raises(CheckError, match=r"unknown check 'linearisable'; there are: bank, .*:register\|"):
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


def test_a_checker_of_your_own_passes_nothing_that_shows_nothing() -> None:
    made = Verdict("made", "valid", "fine", evidence={"looked": 3})
    for h, why in (
        (history([]), "no operation was invoked"),
        (steady(extra=fault(30 * S, None)), "no operation overlapped the fault n2 cut from n1, n3"),
    ):
        for checker in (made, lambda history: made):
            with pytest.raises(Undecided, match=f"UNKNOWN: vacuous: {why}") as undecided:
                judge(h, checker)
            verdict = undecided.value.verdict
            assert (verdict.checker, verdict.cause) == ("made", "vacuous")
            assert verdict.evidence == {"looked": 3, "missing": missing(h)}
            assert h.verdicts[-1] == verdict
    broken = Verdict("made", "invalid", "broken", witness=Witness("it broke"))
    with pytest.raises(Violation):
        judge(history([]), broken)
    # promises about time need less: no final read
    unread = steady((5, 6), kinds=("read", "write"), extra=CUT, final_reads=True)
    assert missing(unread) == ["the final reads never came"]
    assert assert_recovers(unread, within=2).valid
    assert assert_available(unread, during="partition", at_least=0.5).valid


def test_a_headline_counts() -> None:
    h = seen_by_reads(until=250)
    assert headline(linearizable(h), h) == "VALID: linearizable   2,500 operations, 0 of unknown outcome"

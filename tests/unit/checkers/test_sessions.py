"""Session guarantees, coherence and stale reads: each where it is broken, and where it only looks so."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from harness.checkers import (
    Checker,
    CheckError,
    check,
    coherent,
    linearizable,
    monotonic_reads,
    monotonic_writes,
    no_dirty_read,
    no_non_monotonic_read,
    no_stale_read,
    read_your_writes,
    writes_follow_reads,
)
from harness.checkers.model import identity
from harness.history import History
from harness.verdict import Verdict
from tests.fuzz_registers import ANOMALIES, REGISTERS, SESSIONS
from tests.unit.checkers import registers
from tests.unit.checkers.histories import drawn, history

S = 10**9


def seconds(picture: str) -> History:
    return drawn(picture, unit=S // 10)


def op(process: int, f: str, value: Any, start: int, **more: Any) -> dict[str, Any]:
    return {"process": process, "f": f, "value": value, "start": start * S, "end": start * S + S // 2, **more}


def read(process: int, result: Any, start: int, **more: Any) -> dict[str, Any]:
    return op(process, "read", None, start, result=result, **more)


def rmw(process: int, old: Any, new: Any, start: int, **more: Any) -> dict[str, Any]:
    return op(process, "rmw", None, start, result=[old, new], **more)


def sentence(verdict: Verdict) -> str:
    assert verdict.judgement == "invalid" and verdict.witness is not None, verdict
    return verdict.witness.sentence


# ------------------------------------------------------------------------------------- session guarantees


def test_own_write_not_read() -> None:
    verdict = read_your_writes(seconds("[w1][w2][r1]"))
    assert sentence(verdict) == (
        "process 0 read 1 at 0.80 s although it had written 2 at 0.40 s, and 1 is older: "
        "process 0 wrote 1 before 2"
    )
    assert verdict.witness is not None
    assert verdict.witness.operations == (0, 2, 4) and verdict.witness.culprit == 4
    assert [(e.before, e.after) for e in verdict.witness.edges] == [(0, 2), (2, 0)]
    assert verdict.evidence["anomalies"] == {"own write not read": 1}


def test_nothing_is_read_after_an_own_write() -> None:
    said = sentence(read_your_writes(seconds("[w1][r-]")))
    assert said == (
        "process 0 read None at 0.40 s although it had written 1 at 0.00 s, and None is older: "
        "None was there from the beginning"
    )


@pytest.mark.parametrize(
    "picture",
    [
        "[w1][r1]",
        "[w1]    [r2]\n    [w2]",  # overwritten by another
        "[w1]    [r2]\n[w2]",  # perhaps: they were concurrent
        "[w1?\n     [r-]",  # another session, and nobody knows
        "[r-][w1![r-]",  # it failed
        "[w1]\n    [r-]",  # stale, but no own write
    ],
)
def test_own_writes_are_read_or_may_have_been_overwritten(picture: str) -> None:
    assert read_your_writes(seconds(picture)).judgement != "invalid"


def test_reads_that_go_back() -> None:
    verdict = monotonic_reads(seconds("[w1][w2]\n        [r2][r1]"))
    assert sentence(verdict) == (
        "process 1 read 1 at 1.20 s although it had read 2 at 0.80 s, and 1 is older: "
        "process 0 wrote 1 before 2"
    )


def test_reads_go_back_where_two_sessions_read_in_different_orders() -> None:
    picture = "[w1]\n[w2]\n    [r1][r2]\n    [r2][r1]"
    assert monotonic_reads(seconds(picture)).judgement == "invalid"
    assert monotonic_reads(seconds(picture.replace("[r2][r1]", "[r1][r2]"))).valid


def test_one_who_reads_writes_out_of_order_breaks_two_promises() -> None:
    said = sentence(monotonic_writes(seconds("[w1][w2]\n        [r2][r1]")))
    assert said == (
        "process 0 wrote 1 at 0.00 s before it wrote 2 at 0.40 s, "
        "but process 1 read 2 at 0.80 s and then 1 at 1.20 s"
    )
    assert monotonic_writes(seconds("[w1][w2]\n        [r1][r2]")).valid


def test_reads_in_both_orders_say_nothing_of_writes() -> None:
    verdict = monotonic_writes(seconds("[w1][w2]\n        [r2][r1][r2]"))
    assert (verdict.judgement, verdict.cause) == ("unknown", "ambiguous")
    assert "2 versions in both orders" in verdict.summary


def test_who_reads_back_to_nothing_says_nothing_of_all_that_was_read_before() -> None:
    """Nothing is older than the first version: what was read before that, however long, stands both ways."""
    verdict = monotonic_writes(seconds("[w1][w2][w3]\n            [r3][r1][r-][r2]"))
    assert (verdict.judgement, verdict.cause) == ("unknown", "ambiguous")
    assert "3 versions in both orders" in verdict.summary


def test_a_write_that_is_seen_before_what_its_session_had_read() -> None:
    picture = "[w1]\n    [r1][w2]\n            [r2][r1]"
    said = sentence(writes_follow_reads(seconds(picture)))
    assert said == (
        "process 1 read 1 at 0.40 s before it wrote 2 at 0.80 s, "
        "but process 2 read 2 at 1.20 s and then 1 at 1.60 s"
    )
    assert monotonic_reads(seconds(picture)).valid  # as if 2 had been written first
    assert writes_follow_reads(seconds(picture.replace("[r2][r1]", "[r1][r2]"))).valid


def test_an_update_stands_behind_what_it_replaced() -> None:
    h = seconds("[w1]\n    [c1>2]\n          [r2][r1]")
    assert "process 1 replaced 1 by 2" in sentence(monotonic_reads(h))


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize(
    "picture, said",
    [
        ("[r7]", "process 0 read 7 at 0.00 s, a value that nobody wrote"),
        (
            "[w7![r7]",
            "process 0 read 7 at 0.40 s although process 0's write of it was reported as failed at 0.30 s",
        ),
        (
            "[r7]\n    [w7]",
            "process 0 read 7 by 0.30 s, before process 1's write of it was invoked at 0.40 s",
        ),
    ],
)
def test_what_is_read_must_have_been_written(name: str, picture: str, said: str) -> None:
    assert sentence(SESSIONS[name](seconds(picture))) == said


@pytest.mark.parametrize(
    "name, picture, lacking",
    [
        ("read-your-writes", "[w1]\n    [r1]", "no session read a key that it had written"),
        ("monotonic-reads", "[w1]\n    [r1]", "no session read a key twice"),
        ("monotonic-writes", "[w1]\n    [r1][r1]", "no session wrote a key twice"),
        ("writes-follow-reads", "[w1]\n    [r1][r1]", "no session wrote a key that it had read"),
        ("coherence", "[w1][w2]", "nothing was read"),
        ("no-stale-read", "[w1][w2]", "nothing was read"),
    ],
)
def test_a_run_that_shows_nothing_is_vacuous(name: str, picture: str, lacking: str) -> None:
    verdict = check(seconds(picture), name)
    assert (verdict.judgement, verdict.cause) == ("unknown", "vacuous")
    assert lacking in verdict.evidence["missing"]


def test_a_value_that_was_written_twice_says_nothing_but_hides_no_violation() -> None:
    verdict = monotonic_reads(seconds("[w1][w2][w1]\n            [r2][r2][r1]"))
    assert (verdict.judgement, verdict.cause) == ("unknown", "ambiguous")
    assert verdict.summary == "1 read may be of more than one write"
    assert (
        monotonic_reads(seconds("[w1][w2][w1]\n[w3]        [r2][r1][r3][r2]\n[w5][w3]")).judgement
        == "unknown"
    )
    assert monotonic_reads(seconds("[w1][w2][w1][w3]\n                [r1][r3][r2]")).judgement == "invalid"


def test_an_update_of_unknown_outcome_explains_one_value() -> None:
    lost = {**rmw(0, None, 0, 0), "type": "info"}
    assert monotonic_reads(history([lost, rmw(2, 7, 8, 1), read(1, 7, 1), read(1, 8, 2)])).valid
    assert monotonic_reads(history([lost, read(1, 7, 1), read(1, 8, 2)])).judgement == "invalid"
    assert monotonic_reads(history([lost, read(1, 7, 1), read(1, None, 2)])).judgement == "invalid"


def test_a_write_of_unknown_outcome_counts_once_it_is_read() -> None:
    unread = "[w1][w2?\n        [r1][r1]"
    assert monotonic_reads(seconds(unread)).valid
    assert monotonic_reads(seconds(unread.replace("[r1][r1]", "[r2][r1]"))).judgement == "invalid"


@pytest.mark.parametrize(
    "checker", [*SESSIONS.values(), *ANOMALIES, coherent], ids=lambda f: getattr(f, "__name__", "")
)
@pytest.mark.parametrize(
    "operation, said",
    [
        (op(0, "append", 1, 0), "operation 0 is 'append'; .* read, write, cas and rmw"),
        (op(0, "cas", 1, 0), r"operation 0, 'cas' of 1: a cas has \[old, new\]"),
        (op(0, "rmw", None, 0, result=3), r"operation 0, 'rmw', reported 3: expected \[read, written\]"),
    ],
)
def test_what_no_register_does_is_an_error(checker: Checker, operation: Mapping[str, Any], said: str) -> None:
    with pytest.raises(CheckError, match=said):
        checker(history([operation]))


def test_keys_are_judged_apart() -> None:
    ops = [op(0, "write", 1, 0, key="a"), op(0, "write", 2, 1, key="b"), op(0, "write", 3, 2, key="b")]
    verdict = read_your_writes(history([*ops, read(0, 1, 3, key="a"), read(0, 2, 4, key="b")]))
    assert verdict.key == "b" and "read 2 of b" in sentence(verdict)


# --------------------------------------------------------------------------------------------- coherence


@pytest.mark.parametrize(
    "picture",
    [
        "[w1][r1]\n        [r-]",  # stale, but explained
        "[w1][w2]\n        [r1][r2]",
        "[w1]\n[w2]\n    [r1][r2]",
        "[w1][c3>4?\n[r1]",
        "[c1>2]\n[w1][w3]",
        "[w1][w2][w1]\n        [r1][r2][r1]",  # values repeat: orders are tried
    ],
)
def test_coherent(picture: str) -> None:
    h = seconds(picture)
    assert coherent(h).judgement in ("valid", "unknown") and coherent(h).cause in ("", "vacuous")


@pytest.mark.parametrize(
    "picture, said",
    [
        (
            "[w1][w2]\n        [r2][r1]",
            "no order of the writes explains that process 0 wrote 1 at 0.00 s and then 2 at 0.40 s "
            "and process 1 read 2 at 0.80 s and then 1 at 1.20 s",
        ),
        (
            "[w1]\n    [c1>2]\n    [c1>3]",
            "no order of the writes explains that process 1 replaced 1 by 2 at 0.40 s "
            "and process 2 replaced 1 by 3 at 0.40 s",
        ),
        (
            "[w1]\n    [c1>2]\n[r1][w3][r2]",
            "no order of the writes explains that process 1 replaced 1 by 2 at 0.40 s and process 2 "
            "read 1 at 0.00 s and then wrote 3 at 0.40 s and process 2 wrote 3 at 0.40 s and then read 2",
        ),
        (
            "[w1][w2][w1]\n            [r2][r1][r2][r1]",
            "no order of these 4 operations explains process 1's read",
        ),
    ],
)
def test_not_coherent(picture: str, said: str) -> None:
    assert sentence(coherent(seconds(picture))).startswith(said)


def test_coherence_does_not_compose() -> None:
    """Each process misses the other's write of another key: no one order has both first."""
    h = history(
        [op(0, "write", 1, 0, key="x"), op(1, "write", 1, 0, key="y"),
         read(0, None, 1, key="y"), read(1, None, 1, key="x")]
    )  # fmt: skip
    assert coherent(h).valid


def test_too_many_orders_to_try_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.checkers.coherence.CONFIGURATIONS", 3)
    verdict = coherent(seconds("[w1][w2][w1]\n[w2][w1][w2]\n[w1][r2][r1][r2][r1][r2][r1]"))
    assert (verdict.judgement, verdict.cause) == ("unknown", "memory")


# --------------------------------------------------------------------------- stale, dirty, non-monotonic


@pytest.mark.parametrize(
    "checker, picture, said",
    [
        (
            no_stale_read, "[w1][w2]\n        [r1]",
            "process 1 read 1 at 0.80 s although process 0's write of 2 was acknowledged at 0.70 s",
        ),
        (
            no_stale_read, "[w1][w2?\n         [r2][r1]",
            "process 1 read 1 at 1.30 s although process 1 had read process 0's write of 2 by 1.20 s",
        ),
        (
            no_dirty_read, "[w1!\n      [r1]",
            "process 1 read 1 at 0.60 s although process 0's write of 1 failed at 0.30 s",
        ),
        (no_dirty_read, "[r1]", "process 0 read 1 at 0.00 s, a value that nobody wrote"),
        (
            no_dirty_read, "[r1]\n    [w1]",
            "process 0 read 1 by 0.30 s, before process 1's write of 1 was invoked at 0.40 s",
        ),
        (
            no_non_monotonic_read, "[w1           ]\n[w2           ]\n    [r1][r2][r1]",
            "process 2 read 1 at 1.20 s although process 2 read 2 at 0.80 s, and it is older: "
            "process 2 had read it by 0.70 s",
        ),
    ],
)  # fmt: skip
def test_reads_of_what_is_not_there(checker: Checker, picture: str, said: str) -> None:
    h = seconds(picture)
    assert sentence(checker(h)) == said
    assert linearizable(h).judgement == "invalid"


@pytest.mark.parametrize(
    "picture",
    [
        "[w1][w2 ]\n     [r1]",  # concurrent with what overwrites it
        "[w1][w2?\n         [r1]",  # nobody knows
        "[w1?[w2]\n         [r1]",  # it may have happened later
        "[w1][w2][w1?\n             [r1]",  # perhaps written again
        "[w1      ]\n[w2][r1][r2]",
    ],
)
def test_reads_that_only_look_stale(picture: str) -> None:
    h = seconds(picture)
    for checker in ANOMALIES:
        assert checker(h).judgement != "invalid" or linearizable(h).judgement == "invalid"
    assert no_stale_read(h).valid and no_dirty_read(h).valid


# --------------------------------------------------------------------------------------------- brute force


@pytest.mark.parametrize("family", REGISTERS)
def test_agrees_with_brute_force(family: str) -> None:
    rnd = random.Random(f"unit/{family}")
    judged = []
    for _ in range(400):
        h, said, true = REGISTERS[family](rnd)
        assert said == true, list(h.operations)
        judged.append(true)
    assert 40 < judged.count("invalid") < 360


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(REGISTERS)))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_agrees_with_brute_force_where_hypothesis_looks(rnd: random.Random, family: str) -> None:
    h, said, true = REGISTERS[family](rnd)
    assert said == true, list(h.operations)


def test_an_anomaly_is_never_linearizable() -> None:
    rnd = random.Random("anomalies")
    found = 0
    for _ in range(800):
        h = registers.as_cas(registers.lagging(rnd, repeats=rnd.random() < 0.5))
        if h is not None and any(checker(h).judgement == "invalid" for checker in ANOMALIES):
            found += 1
            assert linearizable(h).judgement == "invalid", list(h.operations)
    assert found > 150


@pytest.mark.parametrize("name", [*SESSIONS, "coherence", "no-stale-read", "no-non-monotonic-read"])
def test_nothing_of_a_witness_can_be_left_out(name: str) -> None:
    """Without any of its operations what is left is right, or a value that is still read lost its write."""
    rnd = random.Random(f"witness/{name}")
    shown = 0
    for _ in range(2000):
        if shown == 25:
            break
        h = registers.lagging(rnd, hard=True, most=14, repeats=rnd.random() < 0.1)
        verdict = check(h, name)
        if verdict.witness is None or "lost" in verdict.witness.sentence:
            continue
        ops = [o for o in h.operations if o.index in verdict.witness.operations]
        if any(o.f == "rmw" and o.type == "info" for o in h.operations) or len(ops) == 1:
            continue
        if any(o.type == "fail" for o in ops):
            continue  # it says why a read found nothing
        shown += 1
        whole = check(h_of(ops), name)
        assert whole.judgement == "invalid", (ops, verdict)
        for left_out in ops:
            rest = [o for o in ops if o is not left_out]
            orphaned = registers.left(left_out) is not ... and any(
                registers.asked(o) == registers.left(left_out)
                for o in rest
                if o.f == "read" and o.type == "ok"
            )
            assert orphaned or check(h_of(rest), name).judgement != "invalid", (ops, left_out)
    assert shown == 25


def h_of(ops: list[Any]) -> History:
    """These operations; what an update of them replaced does not count where none of them wrote it."""
    there = {identity(registers.left(o)) for o in ops if registers.left(o) is not ...} | {identity(None)}
    planned = []
    for o in ops:
        event = {"process": o.process, "f": o.f, "value": o.value, "result": o.result, "type": o.type,
                 "start": o.start, "end": o.end, "key": o.key}  # fmt: skip
        if (
            o.f in ("cas", "rmw")
            and registers.left(o) is not ...
            and identity(registers.asked(o)) not in there
        ):
            event |= {"f": "write", "value": registers.left(o), "result": registers.left(o)}
        planned.append(event)
    return history(planned)

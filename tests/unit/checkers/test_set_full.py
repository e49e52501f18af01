"""What becomes of each element of a set: each fate, and what only looks like it."""

from __future__ import annotations

import random
from functools import partial

import pytest

from harness.checkers import CheckError, set_full
from harness.history import History
from tests.fuzz_stores import a_grown_set
from tests.unit.checkers.histories import fault, history
from tests.unit.checkers.stores import S, anomalies, op, read, sentence, smallest

linearizable = partial(set_full, linearizable=True)


def test_an_element_that_no_later_read_has_is_lost() -> None:
    h = history([op(0, "add", 1, 0, 1), op(1, "add", 2, 0, 1), read(0, 2, 3, [1, 2]), read(1, 4, 5, [2])],
                extra=fault(2 * S, None))  # fmt: skip
    verdict = smallest(set_full, h)
    assert sentence(verdict) == (
        "process 0's add of 1, acknowledged at 1.00 s, is missing from process 1's read at 4.00 s; it was "
        "last read by 3.00 s; n2 cut from n1, n3 since 2.00 s"
    )
    assert (verdict.summary, anomalies(verdict)) == ("1 lost element", {"lost": 1})


def test_an_add_of_unknown_outcome_that_was_read_must_stay() -> None:
    h = history(
        [op(0, "add", 1, 0, 1, type="info"), op(2, "add", 2, 0, 1), read(1, 2, 3, [1, 2]), read(1, 4, 5, [2])]
    )
    verdict = smallest(set_full, h)
    assert (
        sentence(verdict) == "process 1 read 1 by 3.00 s, but it is missing from process 1's read at 4.00 s"
    )
    assert verdict.witness is not None and verdict.witness.operations == (0, 4, 6)


@pytest.mark.parametrize("kind", ["info", "fail"])
def test_an_add_that_nobody_acknowledged_or_saw_need_not_be_there(kind: str) -> None:
    h = history([op(0, "add", 1, 0, 1, type=kind), op(1, "add", 2, 0, 1), read(1, 2, 3, [2])])
    assert set_full(h).judgement == "valid"


def test_an_element_that_a_read_misses_meanwhile_is_stale() -> None:
    h = history([op(0, "add", 1, 0, 1), read(1, 2, 3, []), read(1, 4, 5, [1])])
    verdict = set_full(h)
    assert (verdict.judgement, verdict.evidence["stale"], verdict.evidence["stable"]) == ("valid", 1, 1)
    assert verdict.evidence["latency"]["1"] == 1.0
    assert verdict.evidence["worst"] == [{"add": 0, "read": 2, "seconds": 1.0}]
    strict = linearizable(h)
    assert sentence(strict) == (
        "process 0's add of 1, acknowledged at 1.00 s, is missing from process 1's read at 2.00 s; "
        "others had it later"
    )
    assert anomalies(strict) == {"stale": 1}


def test_what_is_concurrent_may_be_missed() -> None:
    seen_meanwhile = [op(0, "add", 1, 0, 4), read(1, 1, 3, [1]), read(2, 2, 3, []), read(1, 5, 6, [1])]
    assert linearizable(history(seen_meanwhile)).judgement == "valid"
    at_the_same_time = [op(0, "add", 1, 0, 2), read(1, 2, 3, []), read(1, 4, 5, [1])]
    assert linearizable(history(at_the_same_time)).judgement == "valid"
    the_last_reads_disagree = [op(0, "add", 1, 0, 1), read(1, 2, 5, [1]), read(2, 3, 4, [])]
    assert set_full(history(the_last_reads_disagree)).judgement == "valid"
    assert anomalies(linearizable(history(the_last_reads_disagree))) == {"stale": 1}


def test_a_final_read_must_have_it_whatever_others_have() -> None:
    finals = [read(1, 2, 5, [1], final=True, node="n1"), read(2, 3, 4, [], final=True, node="n2")]
    verdict = set_full(history([op(0, "add", 1, 0, 1), *finals]))
    assert sentence(verdict).endswith("is missing from process 2's read on n2 at 3.00 s")


def test_an_element_read_twice_at_once_is_duplicated() -> None:
    verdict = smallest(
        set_full, history([op(0, "add", 1, 0, 1), op(1, "add", 2, 0, 1), read(1, 2, 3, [1, 2, 1])])
    )
    assert sentence(verdict) == "process 1 read 1 twice in one read at 2.00 s"
    assert anomalies(verdict) == {"duplicated": 1}


def test_phantoms_were_never_added_or_not_yet_or_in_vain() -> None:
    added = op(0, "add", 1, 0, 1)
    never = smallest(set_full, history([added, read(1, 2, 3, [1, 9])]))
    assert sentence(never) == "process 1 read 9 at 2.00 s, an element that nobody added"
    early = set_full(history([added, read(1, 0, 1, [2]), op(0, "add", 2, 2, 3), read(1, 4, 5, [1, 2])]))
    assert "before process 0's add of it was invoked at 2.00 s" in sentence(early)
    failed = set_full(history([added, op(2, "add", 2, 0, 1, type="fail"), read(1, 2, 3, [1, 2])]))
    assert sentence(failed).endswith("although process 2's add of it was reported as failed")


def test_equal_elements_of_different_types_are_different() -> None:
    h = history([op(0, "add", 1, 0, 1), read(1, 2, 3, [True, 1])])
    assert anomalies(set_full(h)) == {"phantom": 1}
    h = history([op(0, "add", [1, 2], 0, 1), op(1, "add", "a", 0, 1), read(1, 2, 3, ["a", [1, 2]])])
    assert set_full(h).judgement == "valid"


def test_keys_are_sets_of_their_own() -> None:
    h = history([op(0, "add", 1, 0, 1, key="a"), op(1, "add", 1, 0, 1, key="b"), read(1, 2, 3, [1], key="a"),
                 read(1, 4, 5, [], key="b")])  # fmt: skip
    verdict = set_full(h)
    assert (verdict.key, verdict.evidence["added"]) == ("b", 2)
    assert "process 1's add of 1 to b" in sentence(verdict)


@pytest.mark.parametrize(
    "operations, why",
    [
        ([read(1, 2, 3, [])], "no add was invoked"),
        ([op(0, "add", 1, 0, 1)], "no read succeeded"),
        ([read(1, 0, 1, []), op(0, "add", 1, 2, 3)], "no element was read after it was added"),
    ],
)  # fmt: skip
def test_a_set_that_nobody_looked_at_shows_nothing(operations: list[dict[str, object]], why: str) -> None:
    verdict = set_full(history(operations))
    assert (verdict.judgement, verdict.cause, verdict.summary) == ("unknown", "vacuous", why)


def test_elements_that_were_never_read_are_counted() -> None:
    h = history([op(0, "add", 1, 0, 1), read(1, 2, 3, [1]), op(0, "add", 2, 4, 5)])
    assert set_full(h).evidence["never_read"] == 1


def test_other_operations_and_reads_are_refused() -> None:
    with pytest.raises(
        CheckError, match=r"operation 2 is 'remove'; sets can be judged .* add, broadcast and read"
    ):
        set_full(history([op(0, "add", 1, 0, 1), op(0, "remove", 1, 2, 3)]))
    with pytest.raises(CheckError, match="operation 0, 'read', reported 7: expected a list of elements"):
        set_full(history([read(0, 0, 1, 7)]))


@pytest.mark.parametrize("seed", range(300))
def test_witnesses_are_minimal(seed: int) -> None:
    h: History = a_grown_set(random.Random(seed))
    for checker in (set_full, linearizable):
        if checker(h).judgement == "invalid":
            smallest(checker, h)

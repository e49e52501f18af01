"""Total queues, unique ids and counters: each anomaly, and what only looks like one."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from harness.checkers import CheckError, counter, total_queue, unique_ids
from tests import fuzz_stores
from tests.unit.checkers.histories import history
from tests.unit.checkers.stores import anomalies, op, read, sentence, smallest

Ops = list[dict[str, Any]]


def put(value: Any, start: float, type: str = "ok", **more: Any) -> dict[str, Any]:
    return op(round(start * 10), "enqueue", value, start, start + 1, type=type, **more)


def take(value: Any, start: float, type: str = "ok", **more: Any) -> dict[str, Any]:
    return op(1000 + round(start * 10), "dequeue", None, start, start + 1, value, type, **more)


def drain(values: list[Any], start: float, type: str = "ok") -> dict[str, Any]:
    return op(2000 + round(start), "drain", None, start, start + 1, values, type)


# ------------------------------------------------------------------------------------------------- queues


def test_what_came_out_nowhere_is_lost() -> None:
    verdict = smallest(total_queue, history([put(1, 0), put(2, 2), take(2, 4), drain([], 6)]))
    assert sentence(verdict) == (
        "process 0's enqueue of 1, acknowledged at 1.00 s, came out nowhere: process 2006's drain at 6.00 s "
        "did not have it"
    )
    assert (verdict.summary, anomalies(verdict)) == ("1 lost value", {"lost": 1})


@pytest.mark.parametrize(
    "operations",
    [
        [put(1, 0), drain([1], 2)],
        [put(1, 0), take(1, 2), take(None, 4, final=True)],
        [put(1, 0), put(1, 2), take(1, 4), drain([1], 6)],  # twice in, twice out
        [put(1, 0), drain([1], 0.5)],  # at once
        [put(1, 0), take(None, 2, "info"), drain([], 4)],  # the dequeue may have taken it
        [put(1, 0, "info"), take(1, 20), put(2, 0), drain([2], 30)],  # recovered
        [put(1, 0, "info"), put(2, 0), drain([2], 30)],
        [put(2, 0), drain([2], 2), put(1, 3)],  # after the drain
        [put(1, 0), take(None, 2, "fail"), take(1, 4), drain([], 6)],
    ],
)  # fmt: skip
def test_what_only_looks_like_a_broken_queue(operations: Ops) -> None:
    operations = [{**one, "process": i} for i, one in enumerate(operations)]
    verdict = total_queue(history(operations, {"format": "edn"}))
    assert verdict.judgement == "valid", verdict


def test_a_dequeue_of_unknown_outcome_explains_one_loss() -> None:
    verdict = smallest(
        total_queue, history([put(1, 0), put(2, 2), put(3, 3), take(None, 4, "info"), drain([], 6)])
    )
    assert anomalies(verdict) == {"lost": 2} and verdict.evidence["taken_unseen"] == 1
    assert sentence(verdict).endswith(
        "and 1 dequeue of unknown outcome cannot have taken all 2 values that are missing"
    )


def test_what_came_out_twice_is_duplicated() -> None:
    verdict = smallest(total_queue, history([put(1, 0), take(1, 2), drain([1], 6)]))
    assert sentence(verdict) == (
        "process 2006 drained 1 at 6.00 s again: it was enqueued once, and process 1020 had got it by 3.00 s"
    )
    assert anomalies(verdict) == {"duplicated": 1}
    assert anomalies(total_queue(history([put(1, 0), drain([1, 1], 6)]))) == {"duplicated": 1}
    thrice = total_queue(history([put(1, 0), put(1, 2), drain([1, 1], 4), take(1, 6)]))
    assert "it had been enqueued 2 times by then and came out as often" in sentence(thrice)


def test_what_nobody_put_in_is_unexpected() -> None:
    nobody = smallest(total_queue, history([put(1, 0), drain([1, 9], 2)]))
    assert sentence(nobody) == "process 2002 drained 9 at 2.00 s, a value that nobody enqueued"
    early = smallest(total_queue, history([take(1, 0), put(1, 2), drain([], 4)]))
    assert (
        sentence(early)
        == "process 1000 dequeued 1 at 0.00 s, before process 20's enqueue of it was invoked at 2.00 s"
    )
    failed = smallest(total_queue, history([put(1, 0, "fail"), put(2, 0.1), drain([1, 2], 2)]))
    assert sentence(failed).endswith("although process 0's enqueue of it was reported as failed")
    assert anomalies(failed) == {"unexpected": 1}


def test_a_crashed_drain_leaves_it_open_but_hides_no_duplicate() -> None:
    crashed = [put(1, 0), put(2, 2), take(2, 4), drain([], 6, "info"), drain([], 9)]
    verdict = total_queue(history(crashed, {"format": "edn"}))
    assert (verdict.judgement, verdict.cause, verdict.summary) == (
        "unknown", "vacuous",
        "1 value came out nowhere, and process 2006's drain, which may have taken them, crashed",
    )  # fmt: skip
    assert total_queue(history([*crashed, take(2, 12)])).judgement == "invalid"
    nothing_missing = [put(1, 0), take(1, 4), drain([], 6, "info"), drain([], 9)]
    assert total_queue(history(nothing_missing, {"format": "edn"})).judgement == "valid"


def test_a_queue_that_nobody_emptied_shows_no_loss() -> None:
    verdict = total_queue(history([put(1, 0), put(2, 0.5), take(1, 2)]))
    assert (verdict.judgement, verdict.cause) == ("unknown", "vacuous")
    assert verdict.summary.startswith("nothing emptied the queue")
    assert total_queue(history([drain([], 0)])).summary == "no enqueue was invoked"


def test_a_drain_reports_a_list() -> None:
    with pytest.raises(CheckError, match="operation 0, 'drain', reported 7: expected a list of values"):
        total_queue(history([op(0, "drain", None, 0, 1, 7)]))


# ---------------------------------------------------------------------------------------------------- ids


def given(value: Any, start: float, type: str = "ok", **more: Any) -> dict[str, Any]:
    return op(round(start * 10), "generate", None, start, start + 1, value, type, **more)


def test_an_id_given_twice() -> None:
    verdict = smallest(unique_ids, history([given(1, 0), given(2, 0.5), given(1, 1.5), given(1, 5)]))
    assert sentence(verdict) == "process 15 was given the id 1 by 2.50 s, which process 0 had by 1.00 s"
    assert anomalies(verdict) == {"duplicated": 1} and verdict.evidence["range"] == [1, 2]


@pytest.mark.parametrize(
    "operations, judgement",
    [
        ([given(1, 0), given(2, 2)], "valid"),
        ([given(1, 0), given(True, 2), given("1", 4), given(1.0, 6), given([1], 8)], "valid"),
        ([given(1, 0), given(1, 2, "info"), given(1, 4, "fail"), given(2, 6)], "valid"),
        ([given(1, 0, key="a"), given(1, 2, key="b")], "valid"),
        ([given(1, 0)], "unknown"),
        ([], "unknown"),
    ],
)  # fmt: skip
def test_ids_that_are_not_the_same(operations: Ops, judgement: str) -> None:
    assert unique_ids(history(operations)).judgement == judgement


def test_an_id_is_something() -> None:
    with pytest.raises(CheckError, match="operation 0, 'generate', reported None"):
        unique_ids(history([given(None, 0), given(2, 2)]))


# ----------------------------------------------------------------------------------------------- counters


def add(amount: Any, start: float, type: str = "ok", **more: Any) -> dict[str, Any]:
    return op(round(start * 10), "add", amount, start, start + 1, type=type, **more)


@pytest.mark.parametrize(
    "operations, ending, shown",
    [
        ([add(1, 0), add(2, 2), read(99, 4, 5, 2)], "but what was added by then allows only 3", 3),
        ([add(1, 0), add(1, 2), read(99, 4, 5, 0)], "only 2", 2),  # one of the adds is enough to show it
        ([add(1, 0), read(99, 4, 5, 3)], "only 1", 1),
        ([add(-4, 0), read(99, 4, 5, 0)], "only -4", 2),
        ([add(5, 0), add(10, 2, "info"), read(99, 4, 5, 10)], "only 5 and 15", 2),
        ([add(10, 0, "info"), add(-3, 1, "info"), read(99, 4, 5, 5)], "allows nothing between 0 and 7", 1),
        ([add(2, 2), read(99, 0, 4, 1)], "only 0 and 2", 1),
    ],
)  # fmt: skip
def test_a_read_of_no_sum(operations: Ops, ending: str, shown: int) -> None:
    verdict = smallest(counter, history(operations))
    assert sentence(verdict).endswith(ending)
    assert verdict.witness is not None and len(verdict.witness.operations) == shown


@pytest.mark.parametrize(
    "operations",
    [
        [add(1, 0), add(2, 2), read(99, 4, 5, 3)],
        [add(1, 0), add(2, 2), read(99, 1, 5, 1)],  # while the first ended and the second ran
        [add(1, 0), add(2, 2), read(99, 1, 5, 2)],
        [add(1, 0), add(2, 2, "info"), read(99, 4, 5, 1), read(98, 6, 7, 3), read(97, 8, 9, 1)],
        [add(1, 0), add(2, 2, "fail"), add(2, 20), read(99, 4, 5, 1)],
        [add(7, 0), add(-9, 2), read(99, 4, 5, -2)],
        [add(0, 0), read(99, 4, 5, None)],
        [add(1, 0, key="a"), add(2, 0.1, key="b"), read(99, 4, 5, 1, key="a"), read(98, 4, 5, 2, key="b")],
    ],
)  # fmt: skip
def test_a_read_that_some_sum_explains(operations: Ops) -> None:
    verdict = counter(history(operations, {"format": "edn"}))
    assert verdict.judgement == "valid", verdict


def test_a_counter_begins_somewhere_and_may_be_asked_at_the_end_only() -> None:
    h = history([add(1, 0), read(99, 2, 3, 0), read(98, 4, 5, 1, final=True)])
    assert counter(h).judgement == "invalid"
    assert counter(h, final_only=True).judgement == "valid"
    assert counter(h, initial=1, final_only=True).judgement == "invalid"
    none = counter(history([add(1, 0), read(99, 2, 3, 1)]), final_only=True)
    assert (none.judgement, none.summary) == ("unknown", "the final reads never came")


def test_too_many_sums_are_not_decided_but_bounds_are() -> None:
    adds = [add(3**i, 3 * i, "info") for i in range(16)]
    undecided = counter(history([*adds, read(999, 99, 100, 2)]))
    assert (undecided.judgement, undecided.cause) == ("unknown", "memory")
    assert counter(history([*adds, read(999, 99, 100, -1)])).judgement == "invalid"


def test_a_counter_has_integers() -> None:
    for wrong in (add("1", 0), add(True, 0), add(None, 0), read(0, 0, 1, 1.5)):
        with pytest.raises(CheckError, match="a counter has integers"):
            counter(history([wrong]))


@pytest.mark.parametrize("seed", range(150))
def test_witnesses_are_minimal(seed: int) -> None:
    for family in ("total-queue", "counter, by sums", "counter, far apart"):
        h, said, _ = fuzz_stores.STORES[family](random.Random(seed))
        if said == "invalid":
            smallest(total_queue if family == "total-queue" else partial(counter), h)

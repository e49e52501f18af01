"""Banks, write skew, long forks and values that grow: each anomaly, and what only looks like one."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from harness.checkers import CheckError, bank, long_fork, monotonic, write_skew
from tests import fuzz_stores
from tests.unit.checkers.histories import fault, history
from tests.unit.checkers.stores import S, anomalies, op, read, sentence, smallest

Ops = list[dict[str, Any]]
MOVE = op(0, "transfer", {"from": 0, "to": 1, "amount": 3}, 0, 1)


# -------------------------------------------------------------------------------------------------- banks


def test_a_total_that_is_not_the_one_asked_for() -> None:
    h = history([MOVE, read(1, 2, 3, {0: 7, 1: 3}), read(1, 4, 5, {0: 10, 1: 3})], extra=fault(S, None))
    verdict = smallest(partial(bank, total=10), h)
    assert sentence(verdict) == (
        "process 1 read balances of 13 in all at 4.00 s, but there are 10: 0 10, 1 3; "
        "n2 cut from n1, n3 since 1.00 s"
    )
    assert (verdict.summary, anomalies(verdict)) == ("1 wrong total", {"wrong-total": 1})
    assert verdict.evidence["total_from"] == "argument"


def test_the_total_is_that_of_the_header_or_of_the_first_read() -> None:
    operations = [MOVE, read(1, 2, 3, {0: 7, 1: 3}), read(1, 4, 5, {0: 10, 1: 3})]
    by_header = bank(history(operations, {"total": 13}))
    assert "read balances of 10 in all at 2.00 s, but there are 13" in sentence(by_header)
    by_read = smallest(bank, history(operations))
    assert sentence(by_read) == (
        "process 1 read balances of 13 in all at 4.00 s, but there are 10, "
        "as process 1 read at 2.00 s: 0 10, 1 3"
    )
    assert by_read.witness is not None and len(by_read.witness.operations) == 2
    assert by_read.evidence["total_from"] == "first read"


def test_balances_of_nil_below_zero_and_in_accounts_that_are_none() -> None:
    nil = smallest(bank, history([MOVE, read(1, 2, 3, {0: 10, 1: None})]))
    assert sentence(nil) == "process 1 read a balance of nil in 1 at 2.00 s"
    below = history([MOVE, read(1, 2, 3, {0: -3, 1: 13})])
    assert sentence(smallest(bank, below)) == "process 1 read a balance of -3 in 0 at 2.00 s"
    assert bank(below, negative=True).judgement == "valid"
    odd = history([MOVE, read(1, 2, 3, {0: 7, 1: 3}), read(1, 4, 5, {0: 7, 1: 3, 2: 0})])
    assert sentence(smallest(bank, odd)) == (
        "process 1 read 1 account at 4.00 s that should not be: 2; process 1's read at 2.00 s had none such"
    )
    assert anomalies(bank(odd, accounts=[0, 1])) == {"unexpected-account": 1}
    assert bank(odd, accounts=[0, 1, 2]).judgement == "valid"


def test_a_bank_that_nobody_read_shows_nothing() -> None:
    for operations, why in (
        ([MOVE], "no read succeeded"),
        (
            [{**MOVE, "type": "fail"}, read(1, 2, 3, {0: 7, 1: 3})],
            "no transfer succeeded, so no total could change",
        ),
    ):
        verdict = bank(history(operations), total=10)
        assert (verdict.judgement, verdict.cause, verdict.summary) == ("unknown", "vacuous", why)


@pytest.mark.parametrize("told", [7, [1, 2], {0: "7"}, {0: 1.5}, None])
def test_a_read_of_a_bank_is_a_map_of_numbers(told: Any) -> None:
    with pytest.raises(CheckError, match=r"operation 0, 'read', reported .*: expected"):
        bank(history([read(1, 2, 3, told)]))


# --------------------------------------------------------------------------------------------- write skew


def insert(process: int, key: Any, row: Any, start: float, type: str = "ok", **more: Any) -> dict[str, Any]:
    return op(process, "insert", [key, row], start, start + 1, type=type, **more)


def test_two_inserts_that_exclude_each_other() -> None:
    h = history([insert(0, 1, [1, None], 0), insert(1, 1, [None, 2], 0), insert(2, 2, [3, None], 0)])
    verdict = smallest(write_skew, h)
    assert sentence(verdict) == (
        "process 0's insert of (1, None) for 1, acknowledged at 1.00 s, and process 1's of (None, 2), "
        "acknowledged at 1.00 s, both succeeded although each excludes the other"
    )
    assert anomalies(verdict) == {"G2": 1}
    keyed = [op(i, "insert", [i, None], i, i + 1, key="k") for i in range(3)]
    assert "for k" in sentence(write_skew(history(keyed))) and "so did 1 more" in sentence(
        write_skew(history(keyed))
    )


@pytest.mark.parametrize(
    "second, judgement",
    [
        (insert(1, 1, [None, 2], 0, "fail"), "valid"),
        (insert(1, 1, [None, 2], 0, "info"), "valid"),
        (insert(1, 2, [None, 2], 0), "unknown"),
    ],
)  # fmt: skip
def test_inserts_that_do_not_exclude_each_other(second: dict[str, Any], judgement: str) -> None:
    assert write_skew(history([insert(0, 1, [1, None], 0), second])).judgement == judgement


def test_an_insert_says_key_and_row() -> None:
    with pytest.raises(CheckError, match=r"'insert' of 7: expected \[key, \[a, b\]\]"):
        write_skew(history([op(0, "insert", 7, 0, 1)]))


# --------------------------------------------------------------------------------------------- long forks


def wrote(process: int, key: str, start: float, type: str = "ok", value: Any = 1) -> dict[str, Any]:
    return op(process, "write", [["w", key, value]], start, start + 1, type=type)


def saw(process: int, start: float, **told: Any) -> dict[str, Any]:
    asked = [["r", key, None] for key in told]
    return op(process, "read", asked, start, start + 1, [["r", key, value] for key, value in told.items()])


def test_two_reads_that_disagree_on_the_order_of_two_writes() -> None:
    h = history([wrote(0, "x", 0), wrote(1, "y", 0.5), saw(2, 2, x=1, y=None), saw(3, 4, x=None, y=1),
                 saw(4, 6, x=1, y=1)])  # fmt: skip
    verdict = smallest(long_fork, h)
    assert sentence(verdict) == (
        "process 2 saw the write of x but not that of y at 2.00 s; process 3 saw the write of y but not "
        "that of x at 4.00 s: no order of the writes explains both"
    )
    assert verdict.witness is not None and verdict.witness.operations == (0, 1, 4, 6)
    assert [(edge.before, edge.after, edge.why) for edge in verdict.witness.edges] == [
        (0, 4, "it read the write of x"),
        (4, 1, "it did not see the write of y"),
        (1, 6, "it read the write of y"),
        (6, 0, "it did not see the write of x"),
    ]


def test_three_reads_in_a_circle() -> None:
    writes = [wrote(i, key, 0) for i, key in enumerate("xyz")]
    h = history([*writes, saw(3, 2, x=1, y=None), saw(4, 2, y=1, z=None), saw(5, 2, z=1, x=None)])
    verdict = smallest(long_fork, h)
    assert anomalies(verdict) == {"long-fork": 1} and sentence(verdict).endswith("explains all")
    assert verdict.witness is not None and len(verdict.witness.edges) == 6


@pytest.mark.parametrize(
    "operations",
    [
        [wrote(0, "x", 0), wrote(1, "y", 0), saw(2, 2, x=1, y=None), saw(3, 6, x=None, y=None)],
        [wrote(0, "x", 0), wrote(1, "y", 0), saw(2, 2, x=1, y=None), saw(3, 4, x=None, z=None, y=None)],
        [wrote(0, "x", 0, "info"), saw(2, 2, x=1, y=None)],
        [wrote(0, "x", 0, "fail"), wrote(0, "x", 2), saw(2, 4, x=1, y=None)],
    ],
)  # fmt: skip
def test_reads_that_agree(operations: Ops) -> None:
    verdict = long_fork(history(operations, {"format": "edn"}))
    assert verdict.judgement == "valid", verdict


def test_values_that_nobody_wrote_are_found_too() -> None:
    odd = smallest(long_fork, history([wrote(0, "x", 0), saw(2, 2, x=1, y=7)]))
    assert sentence(odd) == "process 2 read 7 of y at 2.00 s, a value that nobody wrote"
    failed = long_fork(history([wrote(0, "x", 0, "fail"), saw(2, 2, x=1)]))
    assert sentence(failed).endswith("although process 0's write of it was reported as failed")
    early = long_fork(history([saw(2, 0, x=1), saw(2, 2, x=1), wrote(0, "x", 3)]))
    assert sentence(early).endswith("before process 0's write of it was invoked at 3.00 s")
    other = long_fork(history([wrote(0, "x", 0), saw(2, 2, x=2)]))
    assert sentence(other).endswith("but process 0 wrote 1")


def test_reads_that_tell_nothing_apart_show_nothing() -> None:
    verdict = long_fork(history([wrote(0, "x", 0), wrote(1, "y", 0), saw(2, 2, x=1, y=1)]))
    assert (verdict.judgement, verdict.summary) == ("unknown", "no read saw one write but not another")
    assert long_fork(history([saw(2, 2, x=None)])).summary == "no write was invoked"


def test_a_key_written_twice_and_other_transactions_are_refused() -> None:
    with pytest.raises(CheckError, match="operation 1 writes x, as did operation 0"):
        long_fork(history([wrote(0, "x", 0), wrote(1, "x", 0.5)]))
    for value in ([["w", "x", 1], ["w", "y", 1]], [["r", "x", None], ["w", "y", 1]], [], 7, [["cas", 1, 2]]):
        with pytest.raises(CheckError, match="expected a single write"):
            long_fork(history([op(0, "txn", value, 0, 1)]))
    with pytest.raises(CheckError, match="writes nil"):
        long_fork(history([wrote(0, "x", 0, value=None)]))


# ---------------------------------------------------------------------------------------- values that grow


def inc(process: int, start: float, end: float, result: Any, type: str = "ok") -> dict[str, Any]:
    return op(process, "inc", None, start, end, result, type)


@pytest.mark.parametrize(
    "operations, name, said",
    [
        ([read(0, 0, 1, 5), read(0, 2, 3, 4)], "nonmonotonic-process",
         "process 0 read 4 at 2.00 s after it had read 5 at 0.00 s"),
        ([read(0, 0, 1, 5), read(1, 2, 3, 4)], "nonmonotonic-realtime",
         "process 1 read 4 at 2.00 s, although process 0 read 5 by 1.00 s"),
        ([inc(0, 0, 1, 5), read(1, 2, 3, 4)], "nonmonotonic-realtime",
         "process 1 read 4 at 2.00 s, although process 0 was given 5 by 1.00 s"),
        ([read(0, 0, 1, 5), inc(1, 2, 3, 5)], "nonmonotonic-realtime",
         "process 1 was given 5 at 2.00 s, although process 0 read 5 by 1.00 s"),
        ([inc(0, 0, 3, 5), inc(1, 2, 3, 5)], "repeated",
         "process 1 was given 5 at 2.00 s, as process 0 was at 0.00 s"),
        ([read(0, 0, 1, [3, 5]), read(0, 2, 3, [2, 5])], "nonmonotonic-process",
         "process 0 read timestamp 2 at 2.00 s after it had read 3 at 0.00 s"),
        ([read(0, 0, 3, [3, 5]), read(1, 2, 3, [4, 4])], "nonmonotonic-timestamp",
         "process 1 read 4 as of timestamp 4, although process 0 had 5 as of the earlier 3"),
        ([read(0, 0, 1, "b"), read(0, 2, 3, "a")], "nonmonotonic-process",
         "process 0 read 'a' at 2.00 s after it had read 'b' at 0.00 s"),
    ],
)  # fmt: skip
def test_a_value_that_falls(operations: Ops, name: str, said: str) -> None:
    verdict = smallest(monotonic, history(operations))
    assert (anomalies(verdict), sentence(verdict)) == ({name: 1}, said)


@pytest.mark.parametrize(
    "operations",
    [
        [read(0, 0, 1, 5), read(0, 2, 3, 5), read(1, 2, 3, 6)],
        [read(0, 0, 3, 5), read(1, 2, 3, 4)],  # concurrent
        [inc(0, 0, 3, 2), inc(1, 2, 4, 1), read(1, 5, 6, 2)],
        [read(0, 0, 1, 5), read(2, 2, 3, 1, type="info"), read(1, 2, 3, 2, type="fail"), read(1, 4, 5, 5.5)],
        [read(0, 0, 1, [1, 5]), read(1, 0, 1, [1, 4]), read(0, 2, 3, [2, 5])],
        [read(0, 0, 1, None), read(0, 2, 3, 1), read(0, 4, 5, None), read(0, 6, 7, 1)],
    ],
)  # fmt: skip
def test_values_that_do_not_fall(operations: Ops) -> None:
    verdict = monotonic(history(operations, {"format": "edn"}))
    assert verdict.judgement == "valid", verdict


def test_real_time_may_be_left_out() -> None:
    h = history([read(0, 0, 1, 5), read(1, 2, 3, 4)])
    assert monotonic(h, real_time=False).judgement == "valid"
    assert monotonic(history([read(0, 0, 1, 5)])).summary == "fewer than two values were reported"


@pytest.mark.parametrize("told", [[1, 2, 3], {"a": 1, "b": 2, "c": 3}, True, [1], "a", float("nan")])
def test_values_that_cannot_be_compared(told: Any) -> None:
    with pytest.raises(CheckError, match="expected a number or a string"):
        monotonic(history([read(0, 0, 1, 1), read(0, 2, 3, told)]))


@pytest.mark.parametrize("seed", range(150))
def test_witnesses_are_minimal(seed: int) -> None:
    for family in ("long-fork", "monotonic", "monotonic, timestamps"):
        h, said, _ = fuzz_stores.STORES[family](random.Random(seed))
        if said == "invalid":
            smallest(long_fork if family == "long-fork" else monotonic, h)

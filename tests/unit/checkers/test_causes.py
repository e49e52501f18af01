"""Causal consistency and writes seen in reverse: each bad pattern, and what only looks like one."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from harness.checkers import Checker, CheckError, causal, causal_reverse
from harness.verdict import Verdict
from tests import fuzz_stores
from tests.unit.checkers.histories import history
from tests.unit.checkers.stores import anomalies, op, sentence, smallest

Ops = list[dict[str, Any]]


def w(process: int, key: str, value: Any, start: float, type: str = "ok") -> dict[str, Any]:
    return op(process, "write", value, start, start + 0.5, type=type, key=key)


def r(process: int, key: str, value: Any, start: float, f: str = "read") -> dict[str, Any]:
    return op(process, f, None, start, start + 0.5, value, key=key)


def edges(verdict: Verdict) -> list[tuple[int, int]]:
    assert verdict.witness is not None
    return [(edge.before, edge.after) for edge in verdict.witness.edges]


def test_a_read_of_what_its_causes_overwrote() -> None:
    h = history(
        [w(0, "x", 1, 0), w(0, "x", 2, 1), w(0, "y", 3, 2), r(1, "y", 3, 3), r(1, "x", 1, 4), r(2, "x", 2, 5)]
    )
    verdict = smallest(causal, h)
    assert anomalies(verdict) == {"WriteCORead": 1}
    assert sentence(verdict) == (
        "process 1 read 1 of x at 4.00 s, although process 0's write of 2 is among its causes, "
        "and that came after process 0's write of 1"
    )
    assert verdict.witness is not None and verdict.witness.operations == (0, 2, 4, 6, 8)
    assert edges(verdict) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 2)]


def test_a_read_of_nothing_although_its_causes_wrote() -> None:
    h = history([w(0, "x", 1, 0), w(0, "y", 2, 1), r(1, "y", 2, 2), r(1, "x", None, 3)])
    verdict = smallest(causal, h)
    assert anomalies(verdict) == {"WriteCOInitRead": 1}
    assert sentence(verdict) == (
        "process 1 read None of x at 3.00 s, although process 0's write of 1 is among its causes"
    )
    own = causal(history([w(0, "x", 1, 0), r(0, "x", None, 1), r(1, "x", 1, 1)]))
    assert sentence(own).endswith("although it had written 1 itself")


def test_values_out_of_thin_air() -> None:
    good = [w(0, "x", 1, 0), r(1, "x", 1, 1)]
    assert anomalies(smallest(causal, history([*good, r(1, "x", 9, 2)]))) == {"ThinAirRead": 1}
    failed = smallest(causal, history([*good, w(0, "x", 2, 1, "fail"), r(1, "x", 2, 2)]))
    assert sentence(failed).endswith("although process 0's write of it was reported as failed")
    early = smallest(causal, history([*good, r(1, "x", 2, 2), w(0, "x", 2, 3)]))
    assert sentence(early).endswith("before process 0's write of it was invoked at 3.00 s")


def test_a_circle_of_causes() -> None:
    h = history([r(0, "x", 1, 0), w(0, "y", 2, 1), r(1, "y", 2, 0), w(1, "x", 1, 1), r(2, "x", 1, 3)])
    verdict = smallest(causal, h)
    assert anomalies(verdict) == {"CyclicCO": 1}
    assert verdict.witness is not None and len(verdict.witness.operations) == 4
    assert sentence(verdict).endswith("each only after it had read the other")
    assert {edge.why for edge in verdict.witness.edges} == {
        "its value was read", "process 0 did it next", "process 1 did it next",
    }  # fmt: skip
    alone = causal(history([r(0, "x", 1, 0), w(0, "x", 1, 1)]))
    assert anomalies(alone) == {"CyclicCO": 1}


@pytest.mark.parametrize(
    "operations",
    [
        [w(0, "x", 1, 0), r(1, "x", None, 2), r(1, "x", 1, 4)],  # stale, but nothing told it
        [w(0, "x", 1, 0), w(1, "x", 2, 0), r(2, "x", 1, 2), r(2, "x", 2, 3), r(3, "x", 2, 2)],
        [w(0, "x", 1, 0), w(1, "x", 2, 0), r(0, "x", 2, 2), r(0, "x", 1, 3), r(1, "x", 2, 4)],
        [w(0, "x", 1, 0, "info"), r(1, "x", 1, 2), r(2, "x", None, 3)],
        [w(0, "x", 1, 0), r(1, "y", None, 2), r(1, "x", 1, 3)],
    ],
)  # fmt: skip
def test_what_causal_consistency_allows(operations: Ops) -> None:
    verdict = causal(history(operations, {"format": "edn"}))
    assert verdict.judgement == "valid", verdict


def test_the_chain_of_jepsens_workload() -> None:
    def chain(*values: int) -> list[dict[str, Any]]:
        fs = ("read-init", "write", "read", "write", "read")
        return [
            op(0, f, v if f == "write" else None, i, i + 0.5, v)
            for i, (f, v) in enumerate(zip(fs, values, strict=True))
        ]

    assert causal(history(chain(0, 1, 1, 2, 2))).judgement == "valid"
    assert anomalies(causal(history(chain(0, 1, 0, 2, 2)))) == {"WriteCOInitRead": 1}
    assert anomalies(causal(history(chain(0, 1, 1, 2, 1)))) == {"WriteCORead": 1}
    assert (
        causal(history([w(0, "x", 1, 0), r(1, "x", 0, 1), r(1, "x", 1, 2)]), initial=0).judgement == "valid"
    )


def test_causes_are_known_where_values_are_written_once() -> None:
    with pytest.raises(CheckError, match="operation 2 writes 1, as did operation 0"):
        causal(history([w(0, "x", 1, 0), w(1, "x", 1, 1)]))
    with pytest.raises(CheckError, match="operation 0 writes None, as the key has it initially"):
        causal(history([w(0, "x", None, 0)]))
    assert causal(history([w(0, "x", 1, 0), r(1, "x", None, 1)])).summary == "no read saw a write"


# --------------------------------------------------------------------------------------- in reverse order


def put(value: Any, start: float, type: str = "ok", f: str = "write") -> dict[str, Any]:
    return op(int(start * 10), f, value, start, start + 1, type=type)


def got(start: float, *values: Any) -> dict[str, Any]:
    return op(1000 + int(start), "read", None, start, start + 1, list(values))


def test_a_later_write_without_the_earlier_one() -> None:
    verdict = smallest(
        causal_reverse, history([put(1, 0), put(2, 2), put(3, 3.5), got(2, 2), got(5, 1, 2, 3)])
    )
    assert sentence(verdict) == (
        "process 1002 read 2 at 2.00 s, written from 2.00 s on, but not 1, "
        "which process 0 had written by 1.00 s"
    )
    assert anomalies(verdict) == {"causal-reverse": 1} and edges(verdict) == [(0, 2), (2, 3), (3, 0)]


@pytest.mark.parametrize(
    "operations",
    [
        [put(1, 0), put(2, 0.5), got(2, 2)],  # concurrent
        [put(1, 0, "info"), put(2, 2), got(4, 2)],
        [put(1, 0, "fail"), put(2, 2), got(4, 2)],
        [put(1, 0), put(2, 2), got(4, 1), got(6), got(8, 1, 2)],  # stale, but in order
        [put(1, 0, f="insert"), put(2, 2, f="add"), got(4, 1, 2)],
    ],
)  # fmt: skip
def test_what_is_in_order(operations: Ops) -> None:
    verdict = causal_reverse(history(operations, {"format": "edn"}))
    assert verdict.judgement == "valid", verdict


def test_the_order_within_a_read_where_it_means_something() -> None:
    h = history([put(1, 0), put(2, 2), put(3, 2.5), got(4, 3, 2, 1)])
    assert causal_reverse(h).judgement == "valid"
    verdict = smallest(partial(causal_reverse, ordered=True), h)
    assert sentence(verdict) == (
        "process 1004 read 3, written from 2.50 s on, before 1 at 4.00 s, "
        "although process 0 had written that by 1.00 s"
    )
    assert causal_reverse(history([put(1, 0), put(2, 0.5), got(4, 2, 1)]), ordered=True).judgement == "valid"


def test_reads_of_what_nobody_wrote_and_values_written_twice() -> None:
    assert anomalies(smallest(causal_reverse, history([put(1, 0), got(2, 1, 9)]))) == {"phantom": 1}
    with pytest.raises(CheckError, match="operation 2 writes 1, as did operation 0"):
        causal_reverse(history([put(1, 0), put(1, 2)]))
    assert causal_reverse(history([put(1, 0), got(2)])).summary == "no read saw a write"


@pytest.mark.parametrize("seed", range(200))
def test_witnesses_are_minimal(seed: int) -> None:
    judges: dict[str, Checker] = {
        "causal": causal,
        "causal-reverse": causal_reverse,
        "causal-reverse, ordered": partial(causal_reverse, ordered=True),
    }
    for family, checker in judges.items():
        h, said, _ = fuzz_stores.STORES[family](random.Random(seed))
        if said == "invalid":
            smallest(checker, h)

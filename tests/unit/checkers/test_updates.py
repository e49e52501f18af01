"""Lost updates and lost writes, in histories where each is there, and in those where it only looks so."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.checkers import Checker, CheckError, no_lost_update, no_lost_write
from harness.history import History
from tests.unit.checkers.histories import history

S = 10**9


def rmw(process: int, read: Any, written: Any, start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"process": process, "f": "rmw", "value": None, "result": [read, written],
            "start": round(start * S), "end": round(end * S), **more}  # fmt: skip


def other(f: str, value: Any, start: float, **more: Any) -> dict[str, Any]:
    return {"process": 9, "f": f, "value": value, "start": start * S, "end": start * S + S, **more}


@pytest.mark.parametrize(
    "between",
    [
        other("cas", [2, 1], 4, type="fail"),
        other("cas", [1, 1], 4),
        other("cas", [2, 4], 4),
        other("read", 1, 4),
    ],
)  # fmt: skip
def test_what_did_not_bring_the_value_back_excuses_no_lost_update(between: dict[str, Any]) -> None:
    before = [other("write", 1, 0), rmw(0, 1, 2, 2, 3)]
    assert no_lost_update(history([*before, between, rmw(0, 1, 3, 6, 7)])).judgement == "invalid"


@pytest.mark.parametrize(
    "checker, known, said",
    [
        (no_lost_update, rmw(0, None, 1, 0, 1), "lost updates can be judged .* rmw, write, cas and read"),
        (no_lost_write, other("add", 1, 0), "lost writes can be judged .* add and read"),
    ],
)  # fmt: skip
def test_what_others_do_to_the_values_must_be_known(
    checker: Checker, known: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckError, match=f"operation 2 is 'remove'; {said}"):
        checker(history([known, other("remove", 1, 2)]))


def test_a_cas_says_old_and_new() -> None:
    with pytest.raises(CheckError, match=r"operation 0, 'cas' of 3: a cas has \[old, new\]"):
        no_lost_update(history([other("cas", 3, 0)]))


def test_two_acknowledged_updates_of_one_read_lose_one() -> None:
    verdict = no_lost_update(
        history(
            [rmw(0, None, 1, 0, 1, key="k1"), rmw(1, 1, 2, 2, 3, key="k1"), rmw(2, 1, 3, 2.5, 3.5, key="k1")]
        )
    )
    assert (verdict.judgement, verdict.key, verdict.evidence["lost"]) == ("invalid", "k1", 1)
    assert verdict.witness is not None
    assert verdict.witness.sentence == (
        "process 2's update of k1 from 1 to 3, acknowledged at 3.50 s, was built on the same read as "
        "process 1's to 2, acknowledged at 3.00 s"
    )
    assert verdict.witness.operations == (0, 2, 3)
    assert verdict.witness.culprit == 3


@pytest.mark.parametrize(
    "operations",
    [
        [rmw(0, None, 1, 0, 1), rmw(1, 1, 2, 2, 3)],
        [rmw(0, None, 1, 0, 1, key="a"), rmw(1, None, 1, 0, 1, key="b")],  # of different keys
        [rmw(0, None, 1, 0, 1, type="fail"), rmw(1, None, 1, 0, 1)],
        [rmw(0, None, 1, 0, 1, type="info"), rmw(1, None, 1, 0, 1)],
        [rmw(0, None, 1, 0, 1), rmw(0, 1, 2, 2, 3), rmw(0, 2, 1, 4, 5), rmw(0, 1, 2, 6, 7)],
        [rmw(0, None, 1, 0, 1), rmw(0, 1, 1, 2, 3), rmw(0, 1, 2, 4, 5)],  # an update that changes nothing
        [rmw(0, 1, 2, 2, 3), rmw(0, 1.0, 2.0, 4, 5), rmw(0, True, 9, 6, 7)],  # other values
        [other("write", 1, 0), rmw(0, 1, 2, 2, 3), other("cas", [2, 1], 4), rmw(0, 1, 3, 6, 7)],
        [
            other("write", 1, 0), rmw(0, 1, 2, 2, 3), {**other("cas", [2, 1], 4, type="info"), "process": 8},
            rmw(0, 1, 3, 6, 7), other("cas", [3, 5], 8),
        ],
        [other("write", 1, 0), rmw(0, 1, 2, 2, 3), other("write", 1, 4, type="info"), rmw(0, 1, 3, 6, 7)],
    ],
)  # fmt: skip
def test_what_only_looks_like_a_lost_update(operations: list[dict[str, Any]]) -> None:
    assert no_lost_update(history(operations)).judgement == "valid"


@pytest.mark.parametrize("seed", range(5))
def test_a_counter_with_one_lost_update_is_convicted_of_that_one(seed: int) -> None:
    rnd = random.Random(seed)
    operations, value = [], None
    for i in range(200):
        operations.append(rmw(i % 7, value, (value or 0) + 1, i, i + 0.5))
        value = (value or 0) + 1
    assert no_lost_update(history(operations)).judgement == "valid"
    lost = rnd.randrange(1, 200)
    operations[lost]["result"] = [
        None if lost == 1 else lost - 1,
        lost,
    ]  # built on what the one before it read
    verdict = no_lost_update(history(operations))
    assert verdict.judgement == "invalid" and verdict.witness is not None
    assert verdict.witness.culprit == 2 * lost


def test_an_update_says_what_it_read_and_wrote() -> None:
    with pytest.raises(CheckError, match=r"reported 3: expected \[read, written\]"):
        no_lost_update(history([{**rmw(0, 1, 2, 0, 1), "result": 3}]))


# ------------------------------------------------------------------------------------------------- sets


def a_set(
    added: dict[int, str],
    finals: dict[str, list[Any]],
    early: list[Any] | None = None,
    nodes: tuple[str, ...] = (),
) -> History:
    """Adds (element -> outcome), one a second, then a final read on each node."""
    operations: list[dict[str, Any]] = []
    for i, (element, outcome) in enumerate(added.items()):
        operations.append(
            {"process": i, "f": "add", "value": element, "type": outcome, "start": i * S,
             "end": i * S + S // 2, "node": nodes[i % len(nodes)] if nodes else None}
        )  # fmt: skip
    if early is not None:
        operations.append({"process": 90, "f": "read", "value": None, "result": early, "start": 1, "end": 2})
    for i, (node, elements) in enumerate(finals.items()):
        operations.append(
            {"process": 100 + i, "f": "read", "value": None, "result": elements, "final": True, "node": node,
             "start": 50 * S, "end": 51 * S}
        )  # fmt: skip
    return history(operations, {"final_reads": True})


def test_an_acknowledged_add_missing_on_one_node_is_lost_there() -> None:
    verdict = no_lost_write(a_set({1: "ok", 2: "ok"}, {"n1": [1, 2], "n2": [1], "n3": [2, 1]}))
    assert (verdict.judgement, verdict.summary) == ("invalid", "1 acknowledged write lost")
    assert verdict.witness is not None
    assert verdict.witness.sentence == (
        "process 1's add of 2, acknowledged at 1.50 s, is missing from the final reads of n2 "
        "(n1 and n3 have it)"
    )


def test_an_acknowledged_add_missing_everywhere() -> None:
    verdict = no_lost_write(a_set({1: "ok", 2: "ok", 3: "ok"}, {"n1": [2], "n2": [2]}))
    assert (verdict.summary, verdict.evidence["anomalies"]) == ("2 acknowledged writes lost", 2)
    assert verdict.witness is not None
    assert verdict.witness.sentence.endswith("is missing from the final reads of n1 and n2: no node has it")


def test_an_add_of_unknown_outcome_may_be_there_or_not_and_a_failed_one_must_not_be() -> None:
    assert no_lost_write(a_set({1: "ok", 2: "info"}, {"n1": [1], "n2": [1, 2]})).judgement == "valid"
    failed = no_lost_write(a_set({1: "ok", 2: "fail"}, {"n1": [1, 2]}))
    assert failed.judgement == "invalid" and failed.witness is not None
    assert failed.witness.sentence == (
        "process 100 read 2 on n1 at 50.00 s although process 1's add of it was reported as failed"
    )


def test_an_element_that_nobody_added_and_one_read_before_its_add() -> None:
    phantom = no_lost_write(a_set({1: "ok"}, {"n1": [1, 9]}))
    assert phantom.witness is not None
    assert phantom.witness.sentence == "process 100 read 9 on n1 at 50.00 s, an element that nobody added"
    early = no_lost_write(a_set({1: "ok", 2: "ok"}, {"n1": [1, 2]}, early=[2]))
    assert early.witness is not None
    assert "before process 1's add of it was invoked at 1.0" in early.witness.sentence


def test_without_a_final_read_nobody_knows() -> None:
    verdict = no_lost_write(a_set({1: "ok"}, {}, early=[1]))
    assert (verdict.judgement, verdict.cause, verdict.summary) == (
        "unknown",
        "vacuous",
        "the final reads never came",
    )


def test_a_node_without_a_final_read_leaves_it_open_but_hides_no_loss() -> None:
    silent = no_lost_write(a_set({1: "ok", 2: "ok"}, {"n1": [1, 2]}, nodes=("n1", "n2")))
    assert (silent.judgement, silent.summary) == ("unknown", "no final read on n2 succeeded")
    lost = no_lost_write(a_set({1: "ok", 2: "ok"}, {"n1": [1]}, nodes=("n1", "n2")))
    assert lost.judgement == "invalid"


def test_a_read_says_a_list() -> None:
    with pytest.raises(CheckError, match="reported 7: expected a list of elements"):
        no_lost_write(a_set({1: "ok"}, {"n1": 7}))  # type: ignore[dict-item]

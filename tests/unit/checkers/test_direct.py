"""Data types of which some histories need no search: the same as by brute force, else the search."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from harness.checkers import MODELS, counting, elements, fifo, lifo, linearizable, priority
from harness.checkers.decide import rows_of
from harness.checkers.items import NEVER, Item
from harness.checkers.kinds import Kinds
from harness.checkers.search import Finding
from harness.history import History
from tests import fuzz
from tests.unit.checkers.histories import history, spans, wing_gong
from tests.unit.checkers.structures import structure

JUDGED: dict[str, Callable[[Kinds, list[int]], Finding | None]] = {
    "counter": counting.judged,
    "priority-queue": priority.judged,
    "queue": fifo.judged,
    "stack": lifo.judged,
}


def op(process: int, f: str, value: Any, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    return {"process": process, "f": f, "value": value, "start": start, "end": end, **more}


def direct(h: History, model: str) -> Finding | None:
    return JUDGED[model](Kinds(h.columns, MODELS[model]), rows_of(h.columns, 0))


@pytest.mark.parametrize("family", fuzz.DIRECT)
def test_agrees_with_brute_force_and_the_engine(family: str) -> None:
    illegal, wrong = fuzz.fuzz(family, 7, 200)
    assert not wrong and 30 < illegal < 170


@pytest.mark.parametrize("model", JUDGED)
@pytest.mark.parametrize("clients", [3, 20])
def test_long_histories_need_no_search(model: str, clients: int) -> None:
    """Also where some of what was put in, or added, is of unknown outcome."""
    for seed in range(3):
        h = structure(model, seed, 1500, clients, unknown=0.01)
        finding = direct(h, model)
        assert finding is not None and finding.judgement == "valid"
        bent = direct(structure(model, seed, 1500, clients, unknown=0.01, bend=True), model)
        assert bent is not None and bent.judgement == "invalid"


@pytest.mark.parametrize("model", ["queue", "stack", "priority-queue"])
def test_what_was_taken_by_nobody_knows_whom_is_found_out(model: str) -> None:
    found = [
        direct(structure(model, seed, 600, 5, unknown=0.02, lost_takes=True), model) for seed in range(12)
    ]
    known = [finding for finding in found if finding is not None]
    assert len(known) >= 9 and all(finding.judgement == "valid" for finding in known)


@pytest.mark.parametrize("family", ["queue, items once", "priority-queue, once", "stack, items once"])
def test_a_pattern_is_wrong_by_itself_and_smallest(family: str) -> None:
    """Without any one item of it the rest of it is right."""
    rnd = random.Random(f"pattern/{family}")
    model, shown = fuzz.FAMILIES[family][0], 0
    for _ in range(400):
        h, _bent = fuzz.drawn_history(rnd, family, most=12)
        finding = direct(h, model)
        if finding is None or finding.judgement == "valid":
            continue
        shown += 1
        indexes = [h.columns.index[row] for row in finding.pattern]
        assert not wing_gong(spans(h, keep=indexes), model), finding
        ops = [h.operations[row] for row in finding.pattern]
        items = {o.value if o.f in ("enqueue", "push") else o.result for o in ops} - {None}
        for item in items if len(items) > 1 else ():
            rest = [o.index for o in ops if item not in (o.value, o.result if o.type == "ok" else None)]
            assert wing_gong(spans(h, keep=rest), model), (ops, item)
    assert shown > 80


# ---------------------------------------------------------------------------------------------- stacks


def naive(there: list[Item]) -> bool:
    """Whether items can be on a stack: whatever can be at the bottom of a stretch is taken away, again."""

    def stretches(items: list[Item]) -> list[list[Item]]:
        found: list[list[Item]] = []
        for item in sorted(items, key=lambda i: i.there):
            if found and item.there < max(i.leaving for i in found[-1]):
                found[-1].append(item)
            else:
                found.append([item])
        return found

    waiting = stretches([item for item in there if item.there < item.leaving])
    while waiting:
        items = waiting.pop()
        begin, end = min(i.there for i in items), max(i.leaving for i in items)
        bottoms = [i for i in items if i.called < begin and (i.left > end or i.left == NEVER)]
        if not bottoms:
            return False
        waiting += stretches([i for i in items if i is not bottoms[0]])
    return True


def tangled(rnd: random.Random) -> list[Item]:
    """Items of a real stack, some of whose pops are exchanged."""
    count, width = rnd.choice((10, 40, 120)), rnd.choice((1, 3, 8))
    spans_: dict[tuple[str, int], tuple[float, float]] = {}
    held: list[int] = []
    pushed = time = 0
    while pushed < count or (held and rnd.random() < 0.95):
        time += 1
        if pushed < count and (not held or rnd.random() < 0.5):
            held.append(pushed)
            what = ("push", pushed)
            pushed += 1
        else:
            what = ("pop", held.pop())
        spans_[what] = (time - rnd.random() * width, time + rnd.random() * width)
    for _ in range(rnd.choice((0, 0, 1, 2))):
        one = rnd.randrange(count)
        other = ("pop", max(0, min(count - 1, one + rnd.randint(-4, 4))))
        if ("pop", one) in spans_ and other in spans_:
            spans_["pop", one], spans_[other] = spans_[other], spans_["pop", one]
    moments = sorted({moment for span in spans_.values() for moment in span})
    place = {moment: at for at, moment in enumerate(moments)}
    items = []
    for value in range(count):
        called, there = (place[moment] for moment in spans_["push", value])
        popped = spans_.get(("pop", value))
        leaving, left = (NEVER, NEVER) if popped is None else (place[popped[0]], place[popped[1]])
        if left > called:
            items.append(Item(2 * value, 2 * value + 1 if left < NEVER else -1, called, there, leaving, left))
    return items


def test_taking_bottoms_away_is_the_same_with_chains_and_without() -> None:
    rnd = random.Random("bottoms")
    wrong = 0
    for _ in range(600):
        there = tangled(rnd)
        found = lifo.bottomless(there)
        assert bool(found) != naive(there), there
        wrong += bool(found)
        assert not found or not naive(found)
    assert 60 < wrong < 540


# -------------------------------------------------------------------------------- where a search must be


@pytest.mark.parametrize(
    "model, operations",
    [
        ("stack", [op(0, "push", 1, 0, 1), op(0, "push", 1, 2, 3)]),  # twice
        ("queue", [op(0, "enqueue", None, 0, 1)]),  # None says "empty"
        ("priority-queue", [op(0, "enqueue", 1, 0, 1), op(0, "enqueue", "b", 2, 3)]),
        ("priority-queue", [op(0, "enqueue", 1.5, 0, 1)]),
        ("counter", [op(0, "add", 1, 0, 1), op(0, "add", 2, 2, 3)]),
        ("counter", [op(0, "add", 1, 0, 1), op(0, "read", None, 2, 3, result=1.0)]),
    ],
)
def test_without_the_preconditions_the_engine_searches(model: str, operations: list[dict[str, Any]]) -> None:
    assert direct(history(operations), model) is None


@pytest.mark.parametrize("wrong", ["direct", "searched", ""])
def test_one_key_is_sorted_and_another_searched(kernel: str, wrong: str) -> None:
    keys = {"direct": (1, 2), "searched": (1, 1)}
    operations = []
    for at, (key, values) in enumerate(keys.items()):
        for i, value in enumerate(values):
            operations.append(op(at, "push", value, 10 * i, 10 * i + 5, key=key))
        result = 7 if wrong == key else values[1]
        operations.append(op(at, "pop", None, 30, 35, key=key, result=result))
    verdict = linearizable(history(operations), "stack")
    assert (verdict.judgement, verdict.key) == (("invalid", wrong) if wrong else ("valid", None))


def test_a_set_is_judged_element_by_element(kernel: str) -> None:
    h = history(
        [
            op(0, "add", 1, 0, 1, key="s"), op(0, "add", 2, 2, 3, key="s"), op(1, "remove", 1, 4, 5, key="s"),
            op(0, "contains", 2, 6, 7, key="s", result=True),
            op(0, "contains", 1, 8, 9, key="s", result=True),
        ]
    )  # fmt: skip
    verdict = linearizable(h, "set")
    assert verdict.judgement == "invalid" and verdict.key == "s" and verdict.witness is not None
    assert [h.operations[i // 2].value for i in verdict.witness.operations] == [1, 1, 1]
    assert verdict.witness.sentence == (
        "process 0's contains of 1 of s at 0.00 s returned True, "
        "and no order of these 3 operations explains it"
    )
    whole = history([op(0, "add", 1, 0, 1), op(0, "read", None, 2, 3, result=[1])])
    assert elements.apart(Kinds(whole.columns, MODELS["set"])) is None
    assert linearizable(whole, "set").valid


@pytest.mark.parametrize(
    "result, start, judgement",
    [([1, 3], 20, "valid"), ([1, 4], 20, "invalid"), ([2, 3], 20, "invalid"), ([None, 0], 20, "invalid"),
     ([None, 0], 1, "valid"), ([2, 9], 20, "valid"), ([2, 2], 20, "invalid"), ([7, 9], 20, "invalid")],
)  # fmt: skip
def test_versions_are_the_order(kernel: str, result: list[Any], start: int, judgement: str) -> None:
    """One write has version 3, another, of unknown outcome, may have any."""
    h = history(
        [op(0, "write", 1, 0, 5, result=3), op(1, "write", 2, 0, None, type="info"),
         op(2, "read", None, start, start + 5, result=result)]
    )  # fmt: skip
    assert linearizable(h, "versioned-register").judgement == judgement


def test_two_writes_never_share_a_version() -> None:
    h = history([op(0, "write", 1, 0, 5, result=3), op(1, "write", 2, 0, 5, result=3)])
    witness = linearizable(h, "versioned-register").witness
    assert witness is not None and len(witness.operations) == 2


def test_reads_of_a_counter_that_cannot_be(kernel: str) -> None:
    adds = [op(p, "add", 3, 10 * p, 10 * p + 5) for p in range(4)]
    late = history([*adds, op(9, "read", None, 100, 105, result=9), op(8, "read", None, 90, 95, result=12)])
    verdict = linearizable(late, "counter")
    assert verdict.witness is not None and len(verdict.witness.operations) == 2
    early = history([*adds, op(9, "read", None, 12, 13, result=9)])
    witness = linearizable(early, "counter").witness
    assert witness is not None and witness.sentence == (
        "process 9 read 9 at 0.00 s, and nothing that was invoked by its return explains it"
    )
    assert (
        linearizable(history([*adds, op(9, "read", None, 12, 13, result=4)]), "counter").judgement
        == "invalid"
    )
    forgotten = linearizable(history([*adds, op(9, "read", None, 50, 55, result=6)]), "counter")
    assert forgotten.witness is not None and len(forgotten.witness.operations) == 4  # three adds were over


@pytest.mark.parametrize("judge", [fifo.judged, lifo.judged, priority.judged])
def test_finding_out_who_took_what_ends_with_the_time(judge: Callable[..., Finding | None]) -> None:
    model = {fifo.judged: "queue", lifo.judged: "stack", priority.judged: "priority-queue"}[judge]
    late = []
    for seed in range(12):
        h = structure(model, seed, 600, 5, unknown=0.02, lost_takes=True)
        kinds, rows = Kinds(h.columns, MODELS[model]), rows_of(h.columns, 0)
        if judge(kinds, rows) is not None:
            late.append(judge(kinds, rows, 0.0))
    assert late and None in late

"""Each data type says what it should; one of your own is a few lines, and breaks no rule unnoticed."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from harness.checkers import MODELS, NOT_KNOWN, CheckError, Inconsistent, Model, linearizable
from harness.history import History
from tests.fuzz import FAMILIES, fuzz, verdicts
from tests.unit.checkers.histories import history, spans, wing_gong

STEPS = [
    ("register", 1, "read", None, 2, "read 2 but it holds 1"),
    ("cas-register", 1, "cas", (1, 2), (1, 2), 2),
    ("cas-register", 1, "cas", (1, 2), False, "cas from 1 was refused but it holds that"),
    ("cas-register", 1, "cas", (3, 2), False, 1),
    ("cas-register", 1, "cas", (3, 2), (3, 2), "cas from 3 succeeded but it holds 1"),
    ("multi-register", frozenset({("a", 1)}), "write", (("b", 2),), None, frozenset({("a", 1), ("b", 2)})),
    ("multi-register", frozenset({("a", 1)}), "read", ("a",), (("a", 2),), "read 2 from 'a' but it holds 1"),
    ("map", frozenset({("a", 1)}), "delete", "a", None, frozenset()),
    ("map", frozenset({("a", 1)}), "get", "a", None, "got 'a' = None but there is 1"),
    ("versioned-register", (1, 4, True), "write", 2, 5, (2, 5, True)),
    ("versioned-register", (1, 4, True), "write", 2, 4, "wrote 4 but there is 4"),
    ("versioned-register", (1, 4, True), "write", 2, NOT_KNOWN, (2, 5, False)),
    ("versioned-register", (2, 5, False), "read", None, (2, 9), (2, 9, True)),
    ("versioned-register", (2, 5, True), "read", None, (2, 9), r"read \(2, 9\) but there is \[2, 5\]"),
    ("text", "ab", "append", "c", None, "abc"),
    ("text", "ab", "get", None, "b", "got 'b' but there is 'ab'"),
    ("append-list", (1,), "append", 2, 2, (1, 2)),
    ("append-list", (1,), "read", None, (), r"read \(\) but there is \(1,\)"),
    ("mutex", False, "acquire", None, None, True),
    ("mutex", True, "acquire", None, None, "acquired but it is held"),
    ("owned-mutex", ("a",), "release", "b", "b", "'b' released it but 'a' holds it"),
    ("owned-mutex", (), "release", "b", "b", "'b' released it but it is free"),
    ("fenced-mutex", (False, 3), "acquire", None, 4, (True, 4)),
    ("fenced-mutex", (False, 3), "acquire", None, 3, "token 3 is not above 3"),
    ("fenced-mutex", (True, 3), "acquire", None, 4, "acquired but it is held"),
    ("counter", 3, "add", 2, 2, 5),
    ("counter", 3, "read", None, 4, "read 4 but there is 3"),
    ("set", frozenset({1}), "remove", 1, 1, frozenset()),
    ("set", frozenset({1}), "contains", 1, False, "contains 1: False but there is True"),
    ("set", frozenset({1, 2}), "read", None, (2, 1), frozenset({1, 2})),
    ("set", frozenset({1, 2}), "read", None, (1, 1), r"read \(1, 1\) but there is \[1, 2\]"),
    ("queue", (1, 2), "dequeue", None, 1, (2,)),
    ("queue", (1, 2), "dequeue", None, 2, "took 2 but there is 1"),
    ("queue", (1,), "dequeue", None, None, "took None but there is 1"),
    ("unordered-queue", ((1, 2), 0), "dequeue", None, 2, ((1,), 0)),
    ("unordered-queue", ((1, 2), 0), "dequeue", None, NOT_KNOWN, ((1, 2), 1)),
    ("unordered-queue", ((1, 2), 1), "dequeue", None, None, "took nothing but there are 1"),
    ("unordered-queue", ((1,), 2), "dequeue", None, None, ((), 1)),
    ("priority-queue", (1, 2), "enqueue", 0, 0, (0, 1, 2)),
    ("priority-queue", (1, 2), "dequeue", None, 2, "took 2 but there is 1"),
    ("stack", (1, 2), "pop", None, 2, (1,)),
    ("stack", (1, 2), "pop", None, NOT_KNOWN, (1,)),
    ("stack", (), "pop", None, 2, "took 2 but there is None"),
]


@pytest.mark.parametrize("name, state, f, value, result, following", STEPS)
def test_a_step(name: str, state: Any, f: str, value: Any, result: Any, following: Any) -> None:
    to = MODELS[name].step(state, f, value, result)
    if isinstance(to, Inconsistent):
        assert isinstance(following, str)
        assert to.why == following.replace("\\", "")
    else:
        assert to == following


def test_every_model_is_tried() -> None:
    assert {name for name, *_ in STEPS} == set(MODELS) == {model for model, _ in FAMILIES.values()}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_kernels_agree_with_brute_force_on_real_structures_bent(family: str) -> None:
    illegal, wrong = fuzz(family, 1, 150)
    assert wrong == []
    assert 30 <= illegal <= 120


CALLS: dict[str, st.SearchStrategy[tuple[str, Any, Any]]] = {
    "cas-register": st.one_of(
        st.tuples(st.just("read"), st.none(), st.sampled_from((None, 0, 1))),
        st.tuples(st.just("write"), st.sampled_from((0, 1)), st.none()),
        st.tuples(st.just("cas"), st.sampled_from(([0, 1], [1, 0], [None, 1])), st.booleans()),
    ),
    "text": st.one_of(
        st.tuples(st.just("get"), st.none(), st.sampled_from(("", "a", "b", "ab", "aa", "ba"))),
        st.tuples(st.sampled_from(("put", "append")), st.sampled_from(("a", "b", "ab")), st.none()),
    ),
    "queue": st.one_of(
        st.tuples(st.just("enqueue"), st.sampled_from((0, 1)), st.none()),
        st.tuples(st.just("dequeue"), st.none(), st.sampled_from((None, 0, 1))),
    ),
    "set": st.one_of(
        st.tuples(st.sampled_from(("add", "remove")), st.sampled_from((0, 1)), st.none()),
        st.tuples(st.just("contains"), st.sampled_from((0, 1)), st.booleans()),
    ),
}


def drawn_by_hypothesis(calls: list[tuple[tuple[str, Any, Any], int, int, str]]) -> History:
    """One process per operation: any intervals at all, and what is left out makes a smaller history."""
    return history(
        {"process": process, "f": f, "value": value, "type": outcome, "start": start, "end": start + took}
        | ({} if result is None and value is not None else {"result": result})
        for process, ((f, value, result), start, took, outcome) in enumerate(calls)
    )


@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
@settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_what_hypothesis_finds_is_small(name: str, data: st.DataObject) -> None:
    outcome = st.sampled_from(("ok", "ok", "ok", "info", "fail"))
    call = st.tuples(CALLS[name], st.integers(0, 12), st.integers(0, 8), outcome)
    h = drawn_by_hypothesis(data.draw(st.lists(call, min_size=1, max_size=7)))
    true = "valid" if wing_gong(spans(h), name) else "invalid"
    assert verdicts(h, name) == dict.fromkeys(verdicts(h, name), true)


# ------------------------------------------------------------------------------------------- of your own


def latch(state: Any, op: Any) -> Any:
    if op.f == "set":
        return True
    return state if op.told(state) else Inconsistent(f"saw {op.result} but it is {state}")


def looked(*seen: Any) -> History:
    """Somebody looks, sets, looks again."""
    calls = [("look", seen[0]), ("set", None), ("look", seen[1])]
    return history(
        {"process": 0, "f": f, "value": None, "result": result, "start": 10 * i, "end": 10 * i + 5}
        for i, (f, result) in enumerate(calls)
    )


@pytest.mark.parametrize("reads", [(), ("look",)])
def test_one_function_is_a_model(kernel: str, reads: tuple[str, ...]) -> None:
    own = Model.of(latch, initial=False, reads=reads)
    assert linearizable(looked(False, True), own).valid
    verdict = linearizable(looked(False, False), own)
    assert verdict.judgement == "invalid" and verdict.witness is not None
    assert "process 0's look at 0.00 s returned False" in verdict.witness.sentence
    assert verdict.evidence["model"] == "latch"


def twice_the_same(state: Any, op: Any) -> Any:
    return random.random()


def mutates(state: Any, op: Any) -> Any:
    state.items.append(op.f)
    return state


class Box:
    """Hashable, and yet it changes."""

    def __init__(self) -> None:
        self.items: list[str] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and other.items == self.items

    def __hash__(self) -> int:
        return 1


def fails(state: Any, op: Any) -> Any:
    return state[op.f]


def makes_a_list(state: Any, op: Any) -> Any:
    return [op.f]


def counts_looks(state: Any, op: Any) -> Any:
    return int(state) + 1


def says(*answers: Any) -> Callable[[Any, Any], Any]:
    """One thing after another, again and again; what is an error it raises."""
    left = cycle(answers)

    def moody(state: Any, op: Any) -> Any:
        answer = next(left)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return moody


@pytest.mark.parametrize(
    "step, initial, said",
    [
        (says(1, 2), 0, "the model moody, .* answered 1 and then 2: a model must be pure"),
        (says(0, 1), 0, "answered 0 and then 1: a model must be pure"),
        (says(1, Inconsistent("no")), 0, "answered 1 and then Inconsistent.*: a model must be pure"),
        (says(Inconsistent("no"), 1), 0, "answered Inconsistent.* and then 1: a model must be pure"),
        (says(1, OSError("away")), 0, "answered 1 and then raised OSError: away: a model must be pure"),
        (says(1.5, OSError("away")), 0, "answered 1.5 and then raised OSError: away: a model must be pure"),
        (twice_the_same, 0, "the model twice_the_same, .* answered .* and then .*: a model must be pure"),
        (mutates, Box(), "the model mutates, asked for 'look' .* changed the state it was given"),
        (fails, 0, "the model fails, asked for 'look' of None with result False, in 0: TypeError: "),
        (makes_a_list, 0, r"left \['look'\], a list, which is not hashable: return a tuple"),
        (counts_looks, 0, "made 1 of 0, but 'look' is among its reads, which change nothing"),
    ],
)  # fmt: skip
def test_a_model_that_breaks_a_rule_is_told_which(
    kernel: str, step: Callable[[Any, Any], Any], initial: Any, said: str
) -> None:
    reads = ("look",) if step is counts_looks else ()
    with pytest.raises(CheckError, match=said):
        linearizable(looked(False, True), Model.of(step, initial=initial, reads=reads))


def test_what_interrupts_a_model_goes_on(kernel: str) -> None:
    for answers in ((KeyboardInterrupt(),), (1, KeyboardInterrupt())):
        with pytest.raises(KeyboardInterrupt):
            linearizable(looked(False, True), Model.of(says(*answers), initial=0))


@pytest.mark.parametrize(
    "error, told", [(OSError("away"), CheckError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_what_a_model_raises_of_one_key_ends_it_for_all(
    kernel: str, error: BaseException, told: type[BaseException]
) -> None:
    def moody(state: Any, op: Any) -> Any:
        if op.f == "boom":
            raise error
        return op.value

    fs = ("set", "boom", "set", "set", "set")
    h = history([
        {"process": 0, "f": f, "key": key, "value": n % 2, "result": None, "start": 10 * n, "end": 10 * n + 5}
        for n, (f, key) in enumerate(zip(fs, "aabbb", strict=True))
    ])  # fmt: skip
    with pytest.raises(told, match="away" if told is CheckError else None):
        linearizable(h, Model.of(moody, initial=0))


def test_a_state_must_be_hashable_from_the_beginning() -> None:
    with pytest.raises(CheckError, match=r"the model latch begins with \[\], which is not hashable"):
        Model.of(latch, initial=[])  # type: ignore[arg-type]

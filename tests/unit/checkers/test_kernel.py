"""The native kernel: its ways of judging agree with one another and with the engine in Python."""

from __future__ import annotations

import gc
import os
import random
import weakref
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import Budget, Model, fifo, linearizable, native
from harness.checkers.decide import VALID, decide, rows_of
from harness.checkers.kinds import Kinds
from harness.checkers.model import NOT_KNOWN, NOWHERE, CheckError, Inconsistent
from harness.checkers.models import MODELS
from harness.checkers.search import Finding, search
from harness.checkers.unique import judged
from harness.history import History
from tests.fuzz import FAMILIES, drawn, drawn_history
from tests.unit.checkers.histories import history, simulated, spans, wing_gong

FAR = 1 << 40


@pytest.fixture
def built() -> None:
    if native.kernel() != "native":
        why = "the native kernel was not built: pip install -e . where there is a C compiler"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)


@pytest.fixture(params=["native", "python"])
def engine(request: pytest.FixtureRequest, built: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two in turn."""
    if request.param == "python":
        monkeypatch.setattr(native, "KERNEL", None)
    return str(request.param)


def answers(h: History, model: Model, **options: int) -> list[str]:
    """What the kernel says of a history of one key, with beams of different widths."""
    said = []
    for beam in (1, 2, 16, FAR >> 20):
        kinds = Kinds(h.columns, model)
        if model.name == "inferred":
            assert kinds.infer(100_000)
        found = native.Asked(kinds).run(None, FAR, 1 << 20, beam=beam, **options)[2]  # type: ignore[arg-type]
        said.append(found[0].answer.lower() if found else "valid")
    return said


@pytest.mark.parametrize("seed", range(3))
def test_beams_of_any_width_and_a_model_of_which_nothing_is_known_say_the_same(
    built: None, seed: int
) -> None:
    rnd = random.Random(f"kernel/{seed}")
    cas = MODELS["cas-register"]
    declared = Model("declared", None, cas.step, cas.fs, cas.effect)
    stepped = Model("stepped", None, cas.step, cas.fs)
    inferred = replace(stepped, name="inferred")
    judgements = []
    for case in range(120):
        h = simulated(
            1000 * seed + case, rnd.randint(10, 60), rnd.randint(3, 9), values=rnd.choice((2, 4, None)),
            unknown=0.1, bend=rnd.random() < 0.7, cas=rnd.random() < 0.7,
        )  # fmt: skip
        true = "valid" if wing_gong(spans(h)) else "invalid"
        assert set(answers(h, cas) + answers(h, cas, zones=0)) == {true}
        assert set(answers(h, declared, zones=0)) == {true}
        assert set(answers(h, stepped)) == {true}
        assert set(answers(h, inferred)) == {true}
        assert search(Kinds(h.columns, cas), rows_of(h.columns, 1)).judgement == true
        judgements.append(true)
    assert 20 < judgements.count("valid") < 100


def test_where_each_value_is_written_once_sorting_says_what_the_search_says(built: None) -> None:
    rnd = random.Random("once")
    judgements = []
    for case in range(200):
        h = simulated(
            case, rnd.randint(10, 120), rnd.randint(3, 12), values=None, unknown=0.1, cas=False,
            bend=rnd.random() < 0.7,
        )  # fmt: skip
        register = MODELS["register"]
        kinds = Kinds(h.columns, register)
        sorted_ = judged(kinds, rows_of(h.columns, 1))
        searched = search(kinds, rows_of(h.columns, 1))
        assert sorted_ is not None
        assert (sorted_.judgement, sorted_.row) == (searched.judgement, searched.row)
        assert set(answers(h, register) + answers(h, register, zones=0)) == {sorted_.judgement}
        judgements.append(sorted_.judgement)
    assert 50 < judgements.count("valid") < 180


def test_where_each_item_is_put_in_once_a_queue_needs_no_search(kernel: str) -> None:
    rnd = random.Random("items")
    patterns = Counter[int]()
    for _ in range(400):
        h, _ = drawn_history(rnd, "queue, items once", 9)
        kinds = Kinds(h.columns, MODELS["queue"])
        found = fifo.judged(kinds, rows_of(h.columns, 0))
        if found is None:
            continue
        assert (found.judgement == "valid") == wing_gong(spans(h), "queue")
        if found.judgement == "invalid":
            verdict = linearizable(h, "queue")
            assert verdict.witness is not None
            assert not wing_gong(spans(h, verdict.witness.operations), "queue")
            assert len(verdict.witness.operations) == len(found.pattern)
        patterns[len(found.pattern)] += 1
    assert {0, 1, 2, 3} <= set(patterns), patterns


def test_more_open_at_once_than_the_kernel_has_bits_for_is_judged_all_the_same(built: None) -> None:
    h = simulated(1, 700, 600, values=3, cas=True)
    asked = native.Asked(Kinds(h.columns, MODELS["cas-register"]))
    assert [found.answer for found in asked.run(None, FAR, 1 << 20)[2]] == ["WIDE"]


def test_a_tick_that_raises_ends_the_search(built: None) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    h = simulated(1, 20_000, 20, values=5)
    with pytest.raises(KeyboardInterrupt):
        native.Asked(Kinds(h.columns, MODELS["cas-register"])).run(interrupt, FAR, 1 << 20)


def test_keys_side_by_side_say_what_keys_in_turn_say(built: None) -> None:
    rnd = random.Random("side by side")
    answered = Counter[str]()
    for case in range(150):
        h = simulated(
            case, rnd.randint(20, 600), rnd.randint(3, 12), keys=rnd.randint(2, 30),
            values=rnd.choice((2, 5, None)), unknown=0.1, cas=rnd.random() < 0.5,
        )  # fmt: skip
        for _ in range(rnd.choice((0, 0, 1, 5))):
            h.columns.result[rnd.randrange(len(h.columns))] = rnd.choice(h.columns.result)
        limit = rnd.choice((10, 40, FAR))
        asked = native.Asked(Kinds(h.columns, MODELS["cas-register"]))
        in_turn = asked.run(None, limit, 1 << 20, threads=1)
        for threads in (2, 3, 99):
            assert asked.run(None, limit, 1 << 20, threads=threads) == in_turn
        answered.update(found.answer for found in in_turn[2])
        answered["VALID"] += not in_turn[2]
    assert min(answered[name] for name in ("VALID", "INVALID", "LIMIT")) > 15, answered


def test_time_is_up_for_all_that_are_side_by_side(built: None) -> None:
    """Whoever has the long key, the one that looks at the clock or another."""
    h = simulated(1, 20_000, 20, values=5)
    (h.columns.key[0],) = h.columns.keys.codes(["its own"])
    asked = native.Asked(Kinds(h.columns, MODELS["cas-register"]))
    for threads in (1, 2, 2, 2, 3):
        looks = 0

        def late() -> bool:
            nonlocal looks
            looks += 1
            return looks > 1

        answers = {found.answer for found in asked.run(late, FAR, 1 << 20, threads=threads)[2]}
        assert answers == {"STOPPED"} and looks == 2
        with pytest.raises(ZeroDivisionError):
            asked.run(lambda: 1 / 0, FAR, 1 << 20, threads=threads)


def test_no_key_is_left_out_when_time_is_up(built: None) -> None:
    h = simulated(1, 40_000, 20, keys=4, values=5)
    asked = native.Asked(Kinds(h.columns, MODELS["cas-register"]))
    found = asked.run(lambda: True, FAR, 1 << 20, threads=1)[2]
    assert [one.answer for one in found] == ["STOPPED"] * 4
    assert [one.explained > 0 for one in found] == [True, False, False, False]


def test_without_a_kernel_the_same_is_decided(kernel: str) -> None:
    h = simulated(1, 300, 5, keys=3, values=4)
    assert native.kernel() == kernel
    assert decide(Kinds(h.columns, MODELS["cas-register"]), Budget(), float("inf")).finding == VALID
    assert Finding("valid") == VALID


def test_what_a_model_does_is_found_out_where_it_is_a_register_at_heart() -> None:
    h = simulated(1, 60, 4, values=3, unknown=0.2)
    cas = MODELS["cas-register"]
    assert cas.effect is not None
    kinds = Kinds(h.columns, Model("stepped", None, cas.step, cas.fs))
    assert kinds.infer(10_000) and kinds.declared
    for row, op in enumerate(h.operations):
        effect = kinds.effects[kinds.kind(row)]
        assert effect is not None
        said = cas.effect(op.f, op.value, op.result if op.type == "ok" else NOT_KNOWN)
        assert effect == said or effect.needs is NOWHERE  # a value that nobody ever writes


def test_what_is_no_register_is_not_taken_for_one() -> None:
    h, _ = drawn_history(random.Random(1), "queue", 9)
    kinds = Kinds(h.columns, MODELS["queue"])
    assert not kinds.infer(300) and not kinds.declared
    registers = simulated(1, 60, 4, values=3)
    assert not Kinds(registers.columns, replace(MODELS["cas-register"], effect=None)).infer(5)


def test_a_model_that_fails_in_a_state_that_never_comes_is_asked_no_further() -> None:
    def step(state: int, op: Any) -> int | Inconsistent:
        if op.f == "write":
            return state + [1][state]  # never twice, in this history
        return state if op.told(state) else Inconsistent("no")

    h = history(
        [
            {"process": 0, "f": "write", "value": 1, "start": 0, "end": 1},
            *(
                {"process": 0, "f": "read", "value": None, "result": 1, "start": 10 * i, "end": 10 * i + 1}
                for i in range(1, 600)
            ),
        ]
    )
    own = Model.of(step, initial=0, reads=("read",))
    assert not Kinds(h.columns, own).infer(10_000)
    assert linearizable(h, own).valid


@pytest.mark.parametrize("column", ["call", "ret", "key", "f", "value", "result"])
@pytest.mark.parametrize("number", [-2, 1 << 20, 1 << 40, -(1 << 63)])
def test_a_number_that_leads_out_of_its_table_is_refused(built: None, column: str, number: int) -> None:
    """Nobody asks so; but then foreign memory would be read, which nobody would see."""
    h = simulated(1, 20, 3)
    model = MODELS["cas-register"]
    declared = Model("declared", None, model.step, model.fs, model.effect)
    for machine in (model,) if column in ("f", "value", "result") else (model, declared):
        asked = native.Asked(Kinds(h.columns, machine))
        whole = getattr(h.columns, column)
        broken = whole[:]
        broken[3] = number
        setattr(h.columns, column, broken)
        with pytest.raises(ValueError, match="some number is in no table"):
            asked.run(None, FAR, 1 << 20)
        setattr(h.columns, column, whole[:-1])
        with pytest.raises(ValueError, match="not of one length"):
            asked.run(None, FAR, 1 << 20)
        setattr(h.columns, column, whole)
        assert not asked.run(None, FAR, 1 << 20)[2]


@pytest.mark.parametrize("which, made", [("answered", 1.5), ("state", "new")])
@pytest.mark.parametrize(
    "answer, error", [("x", TypeError), (1 << 70, OverflowError), (1 << 40, ValueError), (-2, ValueError)]
)
def test_a_step_that_answers_no_state_is_refused(
    built: None, which: str, made: Any, answer: Any, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = Kinds(simulated(1, 20, 3).columns, Model.of(lambda state, op: made))
    asking = kinds.asking()._replace(**{which: lambda *_: answer})  # type: ignore[arg-type]
    monkeypatch.setattr(kinds, "asking", lambda: asking)
    with pytest.raises(error):
        native.Asked(kinds).run(None, FAR, 1 << 20)


@pytest.mark.parametrize("family", ["text", "text, values once"])
def test_what_letters_are_spelled_like_is_all_the_same(built: None, family: str) -> None:
    """Each letter becomes a text that begins no other one, some as long as what the kernel has at hand."""
    rnd = random.Random(f"spelled/{family}")
    judgements = Counter[str]()
    for _ in range(800):
        planned, _ = drawn(rnd, FAMILIES[family][1](rnd), 14)
        stem = rnd.choice(("", "\0", "é", "x" * rnd.randint(4, 17), "\0" * rnd.randint(6, 16)))
        zero, one = rnd.choice(("\0\x01", "z€"))
        codes = [f"{place:05b}" for place in range(26)]  # of one length, and of many
        if rnd.random() < 0.5:
            often = rnd.choice((1, 9))
            codes = ["0" * (place * often) + "1" for place in range(26)]
        spelled = {
            letter: stem + code.replace("0", zero).replace("1", one)
            for letter, code in zip("abcdefghijklmnopqrstuvwxyz", codes, strict=True)
        }
        again = [dict(op) for op in planned]
        for op in again:
            for field in ("value", "result"):
                if isinstance(op.get(field), str):
                    op[field] = "".join(map(spelled.__getitem__, op[field]))
        said = [answers(history(ops), MODELS["text"]) for ops in (planned, again)]
        assert said[0] == said[1], (planned, spelled["b"])
        judgements[said[0][0]] += 1
    assert min(judgements["valid"], judgements["invalid"]) > 150


def in_turn(*said: tuple[str, Any, Any]) -> History:
    """Operations one after another: f, value, result."""
    return history([
        {"process": 0, "f": f, "value": value, "result": result, "start": 10 * place, "end": 10 * place + 5}
        for place, (f, value, result) in enumerate(said)
    ])  # fmt: skip


class Stale(Inconsistent):
    """Said by a model of somebody's own."""


def latch(state: Any, op: Any) -> Any:
    if op.f == "write":
        return op.value
    return state if op.told(state) else Stale(f"not {state}")


def test_what_is_derived_from_inconsistent_is_inconsistent(engine: str) -> None:
    wrong = in_turn(("write", 1, 1), ("read", None, 2))
    assert linearizable(wrong, Model.of(latch, initial=0)).judgement == "invalid"


@pytest.mark.parametrize("place", range(1, 12))
def test_a_model_that_raises_once_is_told(engine: str, place: int) -> None:
    asked = 0

    def model(state: Any, op: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == place:
            raise RuntimeError("once")
        return latch(state, op)

    h = in_turn(*[said for i in range(20) for said in (("write", i, i), ("read", None, i))])
    with pytest.raises(CheckError, match="RuntimeError: once"):
        linearizable(h, Model.of(model, initial=0))


@pytest.mark.parametrize("begins", ["", (), None])
@pytest.mark.parametrize("found", ["", (), None])
def test_what_a_register_begins_with_is_what_is_read(engine: str, begins: Any, found: Any) -> None:
    machine = replace(MODELS["register"], initial=begins)
    judgement = linearizable(in_turn(("read", None, found), ("write", 1, 1)), machine).judgement
    assert (judgement == "invalid") == (found != begins)


@pytest.mark.parametrize("first", ["x", "ab", ("x",), 1])
def test_a_list_of_texts_and_lists(engine: str, first: Any) -> None:
    items = [("append", first, first), ("append", "x", "x"), ("read", None, (first, "x"))]
    assert linearizable(in_turn(*items), "append-list").judgement == "valid"
    items[-1] = ("read", None, ("x", first, "x"))
    assert linearizable(in_turn(*items), "append-list").judgement == "invalid"


@pytest.mark.parametrize("f", ["put", "append"])
def test_none_is_no_text(engine: str, f: str) -> None:
    with pytest.raises(CheckError, match=f"a {f} has a string"):
        linearizable(in_turn((f, None, None), ("get", None, "")), "text")


def test_texts_outlive_the_list_that_they_were_taken_from(built: None) -> None:
    h = in_turn(*[("append", letter * 100, None) for letter in "abcd"], ("get", None, "a" * 100))
    asked = native.Asked(Kinds(h.columns, MODELS["text"]))
    mine = [None if value is None else "".join([value[:1], value[1:]]) for value in h.columns.values.values]
    asked._kinds = (*asked._kinds[:3], native.KERNEL.taken(mine, False), *asked._kinds[4:])
    before = asked.run(None, FAR, 1 << 20)
    mine[:] = [None] * len(mine)
    assert asked.run(None, FAR, 1 << 20) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_model_that_keeps_what_it_raised_is_let_go(built: None, error: type[BaseException]) -> None:
    def checked() -> weakref.ref[Kinds]:
        kept: list[BaseException] = []

        def step(state: Any, op: Any) -> Any:
            assert kept is not None  # so it holds what it raised, and the frames above
            if op.f == "write" and op.value == 2:
                raise error
            return op.value if op.f == "write" else state

        asked = native.Asked(Kinds(simulated(1, 40, 3).columns, Model.of(step)))
        for _ in range(2):  # it may be asked again
            try:
                asked.run(None, FAR, 1 << 20)
            except (CheckError, error) as raised:
                kept.append(raised)
        assert len(kept) == 2
        return weakref.ref(asked.kinds)

    gone = checked()
    gc.collect()
    assert gone() is None

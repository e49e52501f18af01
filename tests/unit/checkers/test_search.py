"""The engine against brute force, a plain Wing-Gong-Lowe search, and histories everybody knows."""

from __future__ import annotations

import random
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from harness.checkers import Budget, CheckError, Inconsistent, Model, linearizable, model
from harness.checkers.decide import decide, first
from harness.checkers.frontier import Walk
from harness.checkers.kinds import Kinds
from harness.checkers.model import NOT_KNOWN
from harness.checkers.search import Finding
from harness.history import History
from tests.unit.checkers.histories import (
    drawn,
    explained,
    history,
    simulated,
    small,
    spans,
    unreachable,
    wing_gong,
)


def searched(h: History, name: str | Model = "cas-register") -> Finding:
    kinds = Kinds(h.columns, model(name))
    decision = decide(kinds, Budget(), monotonic() + 60)
    if decision.finding.judgement == "invalid":
        decision = first(kinds, decision, Budget())
    return decision.finding


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_brute_force_and_wing_gong_on_random_histories(kernel: str, seed: int) -> None:
    rnd = random.Random(seed)
    judged = {"valid": 0, "invalid": 0}
    for _ in range(1500):
        h = small(rnd)
        true = explained(spans(h))
        assert wing_gong(spans(h)) == true
        finding = searched(h)
        assert finding.judgement == ("valid" if true else "invalid"), list(h.operations)
        judged[finding.judgement] += 1
    assert min(judged.values()) > 300, judged


@given(st.randoms(use_true_random=False))
@settings(
    max_examples=400, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_agrees_with_brute_force_where_hypothesis_looks(kernel: str, rnd: random.Random) -> None:
    h = small(rnd)
    assert (searched(h).judgement == "valid") == explained(spans(h))


@pytest.mark.parametrize("seed", range(2))
def test_keys_are_judged_apart(kernel: str, seed: int) -> None:
    rnd = random.Random(f"keys/{seed}")
    judged = []
    for _ in range(1000):
        h = small(rnd, keys=3)
        true = all(explained(spans(h, key=key)) for key in {op.key for op in h.operations})
        verdict = linearizable(h)
        assert (verdict.judgement != "invalid") == true
        judged.append(true)
        if not true:
            assert not explained(spans(h, key=verdict.key))
    assert 200 < sum(judged) < 800


@pytest.mark.parametrize("seed", range(2))
def test_the_first_violation_is_the_first(kernel: str, seed: int) -> None:
    """Brute force explains all up to just before the culprit's return, and not with it."""
    rnd = random.Random(f"first/{seed}")
    for _ in range(600):
        h = small(rnd)
        finding = searched(h)
        if finding.row is None:
            continue
        end = h.columns.ret[finding.row]

        def until(position: int, h: History = h) -> bool:
            known = [(c, r if r <= position else float("inf"), op) for c, r, op in spans(h) if c <= position]
            return explained([s for s in known if s[2].f != "read" or s[1] != float("inf")])

        assert not until(end)
        assert until(end - 1)


def test_optional_operations_may_be_left_out() -> None:
    rnd = random.Random("optional")
    seen = set()
    for _ in range(2000):
        h = small(rnd)
        rows = [row for row, op in enumerate(h.operations) if op.type != "fail"]
        free = {row for row in rows if h.operations[row].f != "read" and rnd.random() < 0.5}
        walk = Walk(Kinds(h.columns, model("cas-register")), rows, optional=free)
        stuck = None
        while not walk.done and stuck is None:
            stuck = walk.advance()
        true = explained(spans(h), optional=[h.operations[row].index for row in free])
        assert (stuck is None) == true
        seen.add((true, explained(spans(h))))
    assert len(seen) == 3  # leaving out never breaks what was right


def test_reusable_operations_only_ever_explain_more() -> None:
    rnd = random.Random("reusable")
    proven = 0
    for _ in range(2000):
        h = small(rnd)
        rows = [row for row, op in enumerate(h.operations) if op.type != "fail"]
        walk = Walk(Kinds(h.columns, model("cas-register")), rows, reusable=True)
        stuck = None
        while not walk.done and stuck is None:
            stuck = walk.advance()
        if stuck is not None:
            proven += 1
            assert not explained(spans(h))
    assert proven > 200


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_narrow_walk_proves_what_it_says(width: int) -> None:
    rnd = random.Random(f"narrow/{width}")
    lost = 0
    for _ in range(1500):
        h = small(rnd)
        rows = [row for row, op in enumerate(h.operations) if op.type != "fail"]
        walk = Walk(Kinds(h.columns, model("cas-register")), rows)
        stuck = None
        while not walk.done and stuck is None:
            stuck = walk.advance(width)
        if stuck is None:
            assert explained(spans(h))
        elif walk.exact:
            assert not explained(spans(h))
        else:
            lost += explained(spans(h))
    assert width > 1 or lost > 0  # it does lose some, or this shows nothing


@pytest.mark.parametrize("seed", range(3))
def test_going_back_and_widening_decides_as_wing_gong_does(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a frontier far too narrow, nearly every history takes the way back, and parts are judged alone."""
    monkeypatch.setattr("harness.checkers.native.KERNEL", None)
    monkeypatch.setattr("harness.checkers.search.WIDTH", 1)
    monkeypatch.setattr("harness.checkers.search.STRIDE", 2)
    rnd = random.Random(f"back/{seed}")
    judged = {"valid": 0, "invalid": 0}
    for i in range(250):
        h = simulated(
            1000 * seed + i, rnd.randint(10, 40), rnd.randint(3, 8), values=rnd.choice((2, 4, None)),
            unknown=0.1, bend=rnd.random() < 0.7, cas=rnd.random() < 0.8,
        )  # fmt: skip
        true = wing_gong(spans(h))
        finding = searched(h)
        assert finding.judgement == ("valid" if true else "invalid"), list(h.operations)
        judged[finding.judgement] += 1
        if finding.row is not None:  # and it is the first violation
            end = h.columns.ret[finding.row]
            known = [(c, r if r < end else float("inf"), op) for c, r, op in spans(h) if c < end]
            assert wing_gong([span for span in known if span[2].f != "read" or span[1] != float("inf")])
    assert min(judged.values()) > 50, judged


@pytest.mark.parametrize("seed", range(12))
def test_registers_that_work_are_valid_and_a_bent_read_is_what_wing_gong_says(kernel: str, seed: int) -> None:
    for bend in (False, True):
        h = simulated(
            seed, 150, 4, keys=2, unknown=0.03, bend=bend, values=None if seed % 2 else 4, cas=seed % 3 > 0
        )
        true = all(wing_gong(spans(h, key=key)) for key in ("k0", "k1"))
        assert true or bend
        assert linearizable(h).judgement == ("valid" if true else "invalid")


@pytest.mark.parametrize(
    "operations, clients, options",
    [
        (20_000, 5, {"keys": 3, "unknown": 0.002}),
        (20_000, 20, {"keys": 3, "values": None, "unknown": 0.002}),
        (3_000, 50, {"keys": 5, "values": None, "unknown": 0.01}),
    ],
)  # fmt: skip
def test_long_histories_with_crashed_operations_are_decided(
    kernel: str, operations: int, clients: int, options: dict[str, float]
) -> None:
    operations //= 1 if kernel == "native" else 4
    began = monotonic()
    assert linearizable(simulated(7, operations, clients, **options)).judgement == "valid"  # type: ignore[arg-type]
    bent = linearizable(simulated(7, operations, clients, bend=True, **options))  # type: ignore[arg-type]
    assert bent.judgement == "invalid"
    assert bent.witness is not None and len(bent.witness.operations) <= 12
    assert monotonic() - began < 120


def test_a_history_too_hard_for_its_budget_is_unknown_in_time_and_says_how_far_it_got(kernel: str) -> None:
    hard = unreachable(7)
    began = monotonic()
    verdict = linearizable(hard, budget=0.5)
    assert monotonic() - began < 5
    assert (verdict.judgement, verdict.cause) == ("unknown", "time")
    assert verdict.evidence["explained"] > 0
    assert "explained up to" in verdict.summary
    cramped = linearizable(hard, budget=Budget(20.0, configurations=2))
    assert (cramped.judgement, cramped.cause) == ("unknown", "memory")
    assert "with 2 configurations" in cramped.summary


def test_an_undecided_key_hides_no_violation_of_another(kernel: str) -> None:
    hard = [
        {"process": op.process, "f": op.f, "value": op.value, "result": op.result, "type": op.type,
         "start": op.start, "end": op.end, "key": "hard"}
        for op in unreachable(7).operations
    ]  # fmt: skip
    easy = [{"process": 9000, "f": "read", "value": None, "result": 7, "start": 0, "end": 5, "key": "easy"}]
    verdict = linearizable(history(hard + easy), budget=3.0)
    assert (verdict.judgement, verdict.key) == ("invalid", "easy")


@pytest.mark.parametrize("seconds, configurations", [(0, 1), (-1, 1), (1, 0)])
def test_a_budget_must_be_positive(seconds: float, configurations: int) -> None:
    with pytest.raises(CheckError, match="both must be positive"):
        Budget(seconds, configurations)


FAMOUS = {
    # Herlihy & Wing 1990 and the like, as registers
    "stale read": ("[w1 ] [w2 ]\n             [r1 ]", False),
    "read of the older while the newer is written": ("[w1 ] [w2      ]\n         [r1 ]", True),
    "new then old, while the newer is written": ("[w1 ] [w2           ]\n       [r2 ] [r1 ]", False),
    "old then new, while the newer is written": ("[w1 ] [w2           ]\n       [r1 ] [r2 ]", True),
    "initial value after a write": ("[w1 ]\n       [r- ]", False),
    "initial value during a write": ("[w1     ]\n   [r-]", True),
    "value before its write": ("[r1 ]\n       [w1 ]", False),
    "value never written": ("[r7 ]", False),
    "unknown write takes effect late": ("[w1 ] [w2 ?\n                 [r1 ] [r2 ]", True),
    "unknown write takes effect never": ("[w1 ] [w2 ?\n                 [r1 ] [r1 ]", True),
    "unknown write cannot come and go": ("[w1 ] [w2 ?\n                 [r2 ] [r1 ]", False),
    "failed write did not happen": ("[w1 ] [w2 !\n                 [r2 ]", False),
    "two cas from one value": ("[w1 ]\n      [c1>2 ]\n      [c1>3 ]", False),
    "two cas, the second from what the first left": ("[w1 ]\n      [c1>2 ]\n      [c2>3 ]", True),
    "unknown cas explains one read": ("[w1 ] [c1>2 ?\n                  [r2 ] [r2 ]", True),
    "unknown cas happens once": ("[w1 ] [c1>2 ?  [w1 ] [r2 ] [w1 ] [r2 ]", False),
    "two readers disagree on the order": ("[w1   ]\n[w2   ]\n  [r1 ]  [r2]\n  [r2 ]  [r1]", False),
    "closed intervals that touch are concurrent": ("[w1 ][w2 ]\n    [r1 ]", True),
}


@pytest.mark.parametrize("name", FAMOUS)
def test_known_histories(kernel: str, name: str) -> None:
    picture, valid = FAMOUS[name]
    h = drawn(picture)
    assert explained(spans(h)) == valid, "the example is wrong"
    assert searched(h).judgement == ("valid" if valid else "invalid")


def test_an_operation_that_ends_when_another_begins_is_concurrent_with_it(kernel: str) -> None:
    def ends_at(end: int) -> str:
        h = history(
            [
                {"process": 0, "f": "write", "value": 1, "start": 0, "end": end},
                {"process": 1, "f": "read", "value": None, "result": None, "start": 20, "end": 30},
            ]
        )
        return searched(h).judgement

    assert (ends_at(20), ends_at(19)) == ("valid", "invalid")


def test_values_of_other_types_are_other_values(kernel: str) -> None:
    for written, read in ((1, True), (1, 1.0), ([1], [True]), (0, False)):
        h = history(
            [
                {"process": 0, "f": "write", "value": written, "start": 0, "end": 5},
                {"process": 0, "f": "write", "value": read, "start": 10, "end": 15, "type": "fail"},
                {"process": 0, "f": "read", "value": None, "result": read, "start": 20, "end": 30},
            ]
        )
        assert searched(h).judgement == "invalid", (written, read)


def test_any_model_can_be_searched(kernel: str) -> None:
    """A queue has no effect to declare: the engine then knows nothing of it but its step function."""

    def step(state: tuple[int, ...], f: str, value: int, result: object) -> tuple[int, ...] | Inconsistent:
        if f == "enqueue":
            return (*state, value)
        if result is NOT_KNOWN:
            return state[1:]
        return state[1:] if state and state[0] == result else Inconsistent(f"{result} is not the head")

    queue = Model("queue", (), step, ("enqueue", "dequeue"))
    rnd = random.Random("queue")
    judged = []
    for _ in range(600):
        items, operations, clock = list(range(9)), [], {0: 0, 1: 0, 2: 0}
        for _ in range(rnd.randint(2, 6)):
            process = rnd.randrange(3)
            start = clock[process] + rnd.randint(0, 3)
            end = clock[process] = start + rnd.randint(0, 6)
            clock[process] += 1
            put = rnd.random() < 0.6
            operations.append(
                {"process": process, "f": "enqueue" if put else "dequeue", "start": start, "end": end,
                 "value": items.pop(0) if put else None, **({} if put else {"result": rnd.randint(0, 2)})}
            )  # fmt: skip
        h = history(operations)
        true = explained(spans(h), queue)
        verdict = linearizable(h, queue)
        assert (verdict.judgement != "invalid") == true
        judged.append(true)
    assert 60 < sum(judged) < 540


def test_what_a_model_does_not_know_is_an_error_that_says_what_it_knows(kernel: str) -> None:
    with pytest.raises(
        CheckError, match="'cas', which the model register does not know; it knows read, write"
    ):
        linearizable(drawn("[c1>2 ]"), "register")
    with pytest.raises(CheckError, match="unknown model 'regster'; there are: register, cas-register"):
        linearizable(drawn("[w1 ]"), "regster")
    with pytest.raises(CheckError, match=r"a cas has \[old, new\]"):
        linearizable(history([{"process": 0, "f": "cas", "value": 3, "start": 0, "end": 1}]))


@given(
    f=st.sampled_from(["read", "write", "cas"]), state=st.integers(0, 2), old=st.integers(0, 2),
    new=st.integers(0, 2), known=st.booleans(),
)  # fmt: skip
@settings(deadline=None, derandomize=True, database=None)
def test_the_declared_effect_is_what_the_step_does(
    f: str, state: int, old: int, new: int, known: bool
) -> None:
    cas_register = model("cas-register")
    assert cas_register.effect is not None
    value = {"read": None, "write": new, "cas": (old, new)}[f]
    result = (old if f == "read" else value) if known else NOT_KNOWN
    effect = cas_register.effect(f, value, result)
    to = cas_register.step(state, f, value, result)
    assert isinstance(to, Inconsistent) == (isinstance(effect.needs, int) and effect.needs != state)
    if not isinstance(to, Inconsistent):
        assert to == (effect.makes if isinstance(effect.makes, int) else state)

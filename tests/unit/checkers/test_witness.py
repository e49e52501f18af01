"""The witness is minimal and always the same; its sentence claims nothing that is not so."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import count
from time import monotonic
from typing import Any

import pytest

from harness.checkers import MODELS, Budget, linearizable, text
from harness.checkers.decide import SHRINKING
from harness.checkers.frontier import Exhausted, Walk
from harness.checkers.kinds import Kinds
from harness.checkers.search import search
from harness.checkers.witness import smallest
from harness.history import History, Operation
from harness.verdict import Verdict, Witness
from tests.unit.checkers.histories import (
    drawn,
    entangled,
    explained,
    fault,
    history,
    simulated,
    small,
    spans,
    wing_gong,
)

Span = tuple[int, float, Operation]


def witness_of(verdict: Verdict) -> Witness:
    assert verdict.witness is not None
    return verdict.witness


def made(op: Operation) -> Any:
    """What an operation leaves, or Ellipsis."""
    if op.f == "write":
        return op.value
    return op.value[1] if op.f == "cas" and op.value[0] != op.value[1] else ...


def needed(op: Operation) -> Any:
    return {"read": op.result, "write": ...}.get(op.f, op.value[0] if op.f == "cas" else ...)


def until_culprit(h: History, culprit: int, key: Any) -> list[Span]:
    """What was known when the culprit returned."""
    end = next(ret for _, ret, op in spans(h) if op.index == culprit)
    known = [(c, r if r <= end else float("inf"), op) for c, r, op in spans(h, key=key) if c <= end]
    return [span for span in known if span[2].f != "read" or span[1] != float("inf")]


def spared(h: History, verdict: Verdict) -> list[tuple[int, bool]]:
    """Operations that the witness can do without: (index, whether the history proves even so a violation)."""
    witness = witness_of(verdict)
    known = until_culprit(h, witness.culprit or 0, verdict.key)
    everything = {made(op) for _, _, op in spans(h, key=verdict.key)}
    found = []
    for index in witness.operations:
        rest = [span for span in known if span[2].index in set(witness.operations) - {index}]
        left = {made(op) for _, _, op in rest} | {None}
        if any(needed(op) in everything - left - {...} for _, _, op in rest if needed(op) is not ...):
            continue  # orphaned
        if not explained(rest):
            kept = {op.index for _, _, op in rest}
            others = [span for span in known if span[2].f != "read" and span[2].index not in kept]
            free = [op.index for _, _, op in others]
            found.append((index, not explained([*rest, *others], optional=free)))
    return found


@pytest.mark.parametrize("unique", [True, False])
def test_no_operation_of_a_witness_can_be_spared(kernel: str, unique: bool) -> None:
    rnd = random.Random(f"minimal/{unique}")
    sizes: Counter[int] = Counter()
    alone = 0
    for _ in range(1500):
        h = small(rnd, unique=unique, keys=rnd.choice((1, 1, 2)))
        verdict = linearizable(h)
        if verdict.judgement != "invalid":
            continue
        witness = witness_of(verdict)
        assert witness.culprit in witness.operations
        assert list(witness.operations) == sorted(witness.operations)
        assert not explained(spans(h, witness.operations)), "the witness can be explained"
        for _, proves in spared(h, verdict):
            # without it the history explains what is left, by writes of a value that were written again
            assert not proves
            assert not unique
            alone += 1
        sizes[len(witness.operations)] += 1
    assert sum(sizes.values()) > 300
    assert {1, 2, 3} <= set(sizes)
    assert alone < sum(sizes.values()) / 50


def test_a_witness_in_a_long_history_is_small_and_always_the_same(kernel: str) -> None:
    for seed in range(3):
        bent = {"bend": True, "values": None, "unknown": 0.01}
        one = linearizable(simulated(seed, 4000, 10, **bent))  # type: ignore[arg-type]
        two = linearizable(simulated(seed, 4000, 10, **bent))  # type: ignore[arg-type]
        assert one == two
        assert 3 <= len(witness_of(one).operations) <= 6
        assert spared(simulated(seed, 4000, 10, **bent), one) == []  # type: ignore[arg-type]


def test_a_witness_is_shown_in_time_and_nothing_explains_it_even_so() -> None:
    h = entangled(11)
    assert len(h) == 24
    rows, culprit = range(len(h)), len(h) - 1
    for deadline in (0.0, monotonic() + 1):
        began = monotonic()
        found = smallest(Kinds(h.columns, MODELS["cas-register"]), rows, culprit, deadline)
        assert monotonic() - began < 4
        assert culprit in found
        assert not wing_gong(spans(h, [h.columns.index[row] for row in found]))


def test_past_its_deadline_a_long_history_costs_nothing_more() -> None:
    h = simulated(0, 20_000, 10, bend=True, values=None)
    rows = [row for row, op in enumerate(h.operations) if op.type != "fail"]
    kinds = Kinds(h.columns, MODELS["cas-register"])
    culprit = search(kinds, rows).row
    assert culprit is not None and culprit > 15_000
    began = monotonic()
    found = smallest(kinds, rows, culprit, 0.0)
    assert monotonic() - began < 2
    assert culprit in found


def test_a_budget_bounds_the_witness_as_well(kernel: str) -> None:
    began = monotonic()
    verdict = linearizable(entangled(8), budget=Budget(2))  # decided soon; to shrink it takes minutes
    assert monotonic() - began < 2 + SHRINKING + 2
    assert verdict.judgement == "invalid"


@pytest.mark.parametrize("looks", [3, 30])
def test_a_return_with_many_configurations_looks_at_the_clock(
    looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    h = entangled(11)
    walk = Walk(Kinds(h.columns, MODELS["cas-register"]), range(len(h)))
    for _ in range(4):
        walk.advance(None)
    assert walk.width > 16 * 40
    clock = count()
    monkeypatch.setattr("harness.checkers.frontier.monotonic", lambda: next(clock))
    work = walk.work
    with pytest.raises(Exhausted, match="time"):
        walk.advance(None, deadline=looks - 1)
    assert next(clock) == looks + 1
    assert walk.work == work + 1  # the return itself: before any configuration was expanded


# ------------------------------------------------------------------------------------------ the sentence

TIME = r"(\d+\.\d+) s"
WHO = (
    r"process (\d+)(?: read (?P<read>.+?)|'s cas(?: of k\d)? from (?P<old>.+?) to (?P<new>.+?))"
    rf"(?: from (k\d))? at {TIME}"
)
SHAPES = {
    "never": re.compile(r", a value that nobody wrote$| although nobody had written (?P<value>.+)$"),
    "failed": re.compile(
        rf" although process (?P<p>\d+)'s .+, the .+ to write it, was reported as failed at {TIME}$"
    ),
    "early": re.compile(
        rf" before anybody wrote (?P<value>.+): process (?P<p>\d+)'s \w+ of it was invoked at {TIME}$"
    ),
    "acked": re.compile(
        rf" although process (?P<p>\d+)'s (?:write of (?P<w>.+)|cas from (?P<o>.+) to (?P<n>.+?))"
        rf"(?P<same>, from the same value, .+,)? was acknowledged at {TIME}$"
    ),
    "seen": re.compile(rf" although process (?P<p>\d+) had read (?P<value>.+) by {TIME}$"),
    "order": re.compile(r", and no order of these (?P<n>\d+) operations? explains it$"),
}


def check_sentence(h: History, verdict: Verdict) -> str:
    """Parse what the sentence claims, and look each claim up in the history; its shape."""
    witness = witness_of(verdict)
    culprit = next(op for op in h.operations if op.index == witness.culprit)
    others = [op for op in h.operations if op.key == culprit.key and op.index != culprit.index]
    head = re.match(WHO, witness.sentence)
    assert head is not None, witness.sentence
    assert int(head[1]) == culprit.process
    early = " before anybody" in witness.sentence
    assert float(head[head.re.groups]) == (culprit.end if early else culprit.start), witness.sentence
    if culprit.f == "read":
        assert head["read"] in (repr(culprit.result), "the initial value (None)")
    else:
        assert (head["old"], head["new"]) == tuple(map(repr, culprit.value))
    need = needed(culprit)
    may_make = [op for op in others if op.type != "fail" and made(op) == need]
    for shape, pattern in SHAPES.items():
        said = pattern.search(witness.sentence)
        if said is None:
            continue
        by = [op for op in others if said.groupdict().get("p") == str(op.process)]
        at = float(said[said.re.groups]) if shape in ("failed", "early", "acked", "seen") else 0.0
        if shape == "never":
            assert not may_make
        elif shape == "failed":
            assert not may_make
            assert any(op.type == "fail" and made(op) == need and op.end == at for op in by)
        elif shape == "early":
            assert all(op.start > (culprit.end or 0) for op in may_make)
            assert any(made(op) == need and op.start == at for op in by)
        elif shape == "seen":
            before = [op for op in by if op.f == "read" and op.end == at and repr(op.result) == said["value"]]
            assert any(op.type == "ok" and (op.end or 0) < culprit.start for op in before)
        elif shape == "acked":
            done = [op for op in by if op.type == "ok" and op.end == at]
            done = [
                op
                for op in done
                if said["w"] == repr(op.value) or (op.f == "cas" and said["n"] == repr(op.value[1]))
            ]
            assert done
            if said["same"]:
                assert any(needed(op) == need for op in done)
                assert len(may_make) + (need is None) == 1
            else:
                assert any((op.end or 0) < culprit.start and made(op) != need for op in done)
                before = [op for op in may_make if op.start <= (culprit.end or 0)]
                assert all(op.end is not None and op.end < max(o.start for o in done) for op in before)
        else:
            assert int(said["n"]) == len(witness.operations)
        return shape
    raise AssertionError(f"no known shape: {witness.sentence}")


@pytest.mark.parametrize("unique", [True, False])
def test_what_a_sentence_claims_is_true(kernel: str, unique: bool) -> None:
    rnd = random.Random(f"true/{unique}")
    shapes: Counter[str] = Counter()
    for _ in range(3000):
        small_one = small(rnd, unique=unique)
        # the same in seconds, so that what is shown is what is meant
        h = history(
            {"process": op.process, "f": op.f, "value": op.value, "result": op.result, "type": op.type,
             "start": op.start * 10**9, "end": None if op.end is None else op.end * 10**9}
            for op in small_one.operations
        )  # fmt: skip
        verdict = linearizable(h)
        if verdict.judgement == "invalid":
            in_seconds = history(
                {"process": op.process, "f": op.f, "value": op.value, "result": op.result, "type": op.type,
                 "start": op.start // 10**9, "end": None if op.end is None else op.end // 10**9}
                for op in h.operations
            )  # fmt: skip
            shapes[check_sentence(in_seconds, verdict)] += 1
    assert set(shapes) >= ({"never", "failed", "early", "acked", "seen", "order"}), shapes
    assert shapes["order"] < sum(shapes.values()) / 5


UNIT = 10_000_000  # a column is a hundredth of a second


@pytest.mark.parametrize(
    "picture, sentence",
    [
        (
            "[w41 ] [w42 ]\n               [r41 ]",
            "process 1 read 41 at 0.15 s "
            "although process 0's write of 42 was acknowledged at 0.12 s",
        ),
        (
            "[w41 ] [w42     ?\n          [r42 ] [r41 ]",
            "process 1 read 41 at 0.17 s "
            "although process 1 had read 42 by 0.15 s",
        ),
        (
            "[w1 ]\n      [r- ]",
            "process 1 read the initial value (None) at 0.06 s "
            "although process 0's write of 1 was acknowledged at 0.04 s",
        ),
        (
            "[r1 ]\n      [w1 ]",
            "process 0 read 1 at 0.04 s before anybody wrote 1: "
            "process 1's write of it was invoked at 0.06 s",
        ),
        (
            "[r7 ]",
            "process 0 read 7 at 0.00 s, a value that nobody wrote",
        ),
        (
            "[w7 !\n      [r7 ]",
            "process 1 read 7 at 0.06 s "
            "although process 0's write of 7, the only one to write it, was reported as failed at 0.04 s",
        ),
        (
            "[w1 ]\n      [c1>2  ]\n        [c1>3  ]",
            "process 2's cas from 1 to 3 at 0.08 s succeeded "
            "although process 1's cas from 1 to 2, from the same value, which was written once, "
            "was acknowledged at 0.13 s",
        ),
        (
            "[w1   ]\n[w2   ]\n  [r1 ]  [r2]\n  [r2 ]  [r1]",
            "process 3 read 1 at 0.09 s, and no order of these 4 operations explains it",
        ),
    ],
)  # fmt: skip
def test_sentences(picture: str, sentence: str) -> None:
    assert witness_of(linearizable(drawn(picture, UNIT))).sentence.startswith(sentence)


def test_a_sentence_names_key_and_faults_in_force() -> None:
    h = history(
        [
            {"process": 0, "f": "write", "value": 1, "key": "k1", "start": 10**9, "end": 2 * 10**9},
            {"process": 1, "f": "read", "value": None, "result": None, "key": "k1",
             "start": 3 * 10**9, "end": 4 * 10**9},
        ],
        extra=[
            *fault(2_010_000_000, None, what="n2 cut from n1, n3, n4, n5"),
            *fault(10, 20, what="over", id=2),
        ],
    )  # fmt: skip
    verdict = linearizable(h)
    assert verdict.key == "k1"
    assert witness_of(verdict).sentence == (
        "process 1 read the initial value (None) from k1 at 3.00 s although process 0's write of 1 was "
        "acknowledged at 2.00 s; n2 cut from n1, n3, n4, n5 since 2.01 s"
    )


def test_times_that_differ_look_different() -> None:
    sentence = witness_of(linearizable(drawn("[w1 ] [w2 ]\n             [r1 ]", 1000))).sentence
    assert "at 0.000013 s" in sentence and "at 0.000010 s" in sentence


def test_the_text_of_a_failure() -> None:
    h = drawn("[w41 ] [w42 ]\n               [r41 ]\n [w5 ?", UNIT)
    assert text(linearizable(h), h).splitlines() == [
        "INVALID: not linearizable   4 operations, 1 of unknown outcome",
        "  process 1 read 41 at 0.15 s although process 0's write of 42 was acknowledged at 0.12 s",
        "    index process f     value -> result start-end (s) outcome",
        "    0     0       write 41              0.00-0.05     ok",
        "    4     0       write 42              0.07-0.12     ok",
        "  > 6     1       read  None -> 41      0.15-0.20     ok",
    ]

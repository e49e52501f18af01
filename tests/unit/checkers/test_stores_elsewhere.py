"""Histories in the very words of the workloads of Jepsen and elle-cli, and some that hypothesis makes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from harness.checkers import CheckError, bank, check, checkers
from harness.interchange import read
from tests.fuzz_stores import STORES
from tests.unit.checkers.histories import history


def told(process: int, f: str, asked: str, got: str = "", kind: str = "ok", more: str = "") -> str:
    common = f":process {process}, :f :{f}"
    return (
        f"{{:type :invoke, {common}, :value {asked}{more}}}\n"
        f"{{:type :{kind}, {common}, :value {got or asked}{more}}}\n"
    )


QUEUED = told(0, "enqueue", "1")
ADDED = told(0, "add", "0") + told(0, "add", "1")
FINAL = ", :final? true"
MOVED = told(0, "transfer", "{:from 0, :to 1, :amount 5}") + told(0, "read", "nil", "{0 5, 1 5}")
SENT = told(0, "send", "[[:send 3 1] [:send 3 2]]", "[[:send 3 [0 1]] [:send 3 [2 2]]]")
INSERTED = told(0, "insert", "[9 [1 nil]]")
FELL = told(0, "inc", "nil", "[10 1]") + told(0, "read", "nil", "[11 0]")
WROTE = told(0, "write", "[[:w 1 1]]") + told(1, "write", "[[:w 2 1]]")


@pytest.mark.parametrize(
    "checker, text, anomaly",
    [
        ("set-full", ADDED + told(1, "read", "nil", "#{0 1}", more=FINAL), ""),
        ("set-full", ADDED + told(1, "read", "nil", "#{1}", more=FINAL), "lost"),
        ("set-full", told(0, "broadcast", "1") + told(1, "read", "nil", "[1 1]"), "duplicated"),
        ("total-queue", QUEUED + told(1, "dequeue", "nil", "1") + told(0, "drain", "nil", "[]"), ""),
        ("total-queue", QUEUED + told(0, "drain", "nil", "()"), "lost"),
        ("unique-ids", told(0, "generate", "nil", '"a"') * 2, "duplicated"),
        ("counter", told(0, "add", "2") + told(0, "read", "nil", "2"), ""),
        ("counter", told(0, "add", "2") + told(0, "read", "nil", "1"), "low"),
        ("bank", MOVED + told(1, "read", "nil", "{0 0, 1 10}"), ""),
        ("bank", MOVED + told(1, "read", "nil", "{0 0, 1 5}"), "wrong-total"),
        ("write-skew", INSERTED + told(1, "insert", "[9 [nil 2]]"), "G2"),
        ("write-skew", INSERTED + told(1, "insert", "[9 [nil 2]]", kind="fail"), ""),
        ("long-fork", WROTE + told(0, "read", "[[:r 1 nil] [:r 2 nil]]", "[[:r 1 1] [:r 2 nil]]"), ""),
        ("long-fork", WROTE + told(0, "read", "[[:r 1 nil] [:r 2 nil]]", "[[:r 1 1] [:r 2 nil]]")
         + told(1, "read", "[[:r 2 nil] [:r 1 nil]]", "[[:r 2 1] [:r 1 nil]]"), "long-fork"),
        ("monotonic", FELL, "nonmonotonic-process"),
        ("causal", told(0, "read-init", "nil", "0") + told(0, "write", "1")
         + told(0, "read", "nil", "1"), ""),
        ("causal", told(0, "write", "1") + told(0, "read", "nil", "nil") + told(1, "read", "nil", "1"),
         "WriteCOInitRead"),
        ("causal-reverse", told(0, "write", "1") + told(0, "write", "2") + told(1, "read", "nil", "[2]"),
         "causal-reverse"),
        ("kafka", SENT + told(1, "assign", "[3]")
         + told(1, "poll", "[[:poll]]", "[[:poll {3 [[0 1] [2 2]]}]]")
         + told(2, "crash", "nil", kind="info"), ""),
        ("kafka", SENT + told(1, "poll", "[[:poll]]", "[[:poll {3 [[2 2]]}]]"), "lost-write"),
    ],
)  # fmt: skip
def test_workloads_of_jepsen(checker: str, text: str, anomaly: str, tmp_path: Path) -> None:
    (tmp_path / "history.edn").write_text(text)
    verdict = check(read(tmp_path / "history.edn"), checker)
    assert next(iter(verdict.evidence.get("anomalies", {"": 0}))) == anomaly, verdict
    assert verdict.judgement == ("invalid" if anomaly else "valid")


@pytest.mark.parametrize("total, judgement", [("10", "valid"), ("9", "invalid")])
def test_a_bank_in_json_has_names_for_accounts(total: str, judgement: str, tmp_path: Path) -> None:
    (tmp_path / "bank.json").write_text(
        '[{"type":"invoke","process":0,"f":"transfer","value":{"from":0,"to":1,"amount":5}},'
        '{"type":"ok","process":0,"f":"transfer","value":{"from":0,"to":1,"amount":5}},'
        '{"type":"invoke","process":1,"f":"read","value":null},'
        '{"type":"ok","process":1,"f":"read","value":{"0":5,"1":5}}]'
    )
    verdict = bank(read(tmp_path / "bank.json"), total=int(total), accounts=[0, 1])
    assert verdict.judgement == judgement


def test_an_empty_history_shows_nothing_to_anybody(tmp_path: Path) -> None:
    (tmp_path / "history.edn").write_text("{:type :invoke, :process 0, :f :read, :value nil}")
    nothing = read(tmp_path / "history.edn")
    for name in ("set-full", "counter", "counter:final", "bank", "monotonic", "causal", "causal-reverse"):
        verdict = check(nothing, name)
        assert (name, verdict.judgement, verdict.cause) == (name, "unknown", "vacuous")


@pytest.mark.parametrize("family", list(STORES))
@settings(max_examples=150, deadline=None)
@given(rnd=st.randoms(use_true_random=False))
def test_checkers_agree_with_brute_force(family: str, rnd: random.Random) -> None:
    h, said, true = STORES[family](rnd)
    assert said == true, list(h.operations)


FS = {
    "set-full": ("add", "read"),
    "total-queue": ("enqueue", "dequeue", "drain"),
    "unique-ids": ("generate",),
    "counter": ("add", "read"),
    "bank": ("transfer", "read"),
    "write-skew": ("insert",),
    "long-fork": ("txn", "read", "write"),
    "monotonic": ("read", "inc"),
    "causal": ("read", "write"),
    "causal-reverse": ("read", "write"),
    "kafka": ("send", "poll", "txn", "assign", "subscribe", "crash"),
}
VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 1.5, float("nan"), "", "a", [], {}, [1, 2], ["r", 1, None], [["r", 1, None]],
    [["w", "k", 1]], [["send", "k", 1]], [["send", "k", [0, 1]]], [["poll"]], [["poll", {"k": [[0, 1]]}]],
    [["poll", {"k": None}]], [["poll", {"k": [[None, [1]]]}]], {"a": 1}, {"a": None}, {"a": "b"}, [[1]], [[]],
    [1, [None, 2]], [["send"]], [1, 1], [None], "\0", 10**30, [["poll", [1]]], [["r", [1], {"a": []}]],
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in checkers() if name.partition(":")[0] in FS])
def test_whatever_the_values_there_is_a_verdict_or_an_error_that_says_why(name: str) -> None:
    rnd = random.Random(f"hostile/{name}")
    refused = 0
    for _ in range(1500):
        few = rnd.sample(VALUES, 3)
        operations = [
            {"process": i, "f": rnd.choice(FS[name.partition(":")[0]]), "value": rnd.choice(few),
             "result": rnd.choice(few), "type": rnd.choice(("ok", "ok", "info", "fail")), "start": i,
             "end": i + rnd.randrange(5), "final": rnd.random() < 0.5}
            for i in range(rnd.randrange(5))
        ]  # fmt: skip
        try:
            check(history(operations), name)
        except CheckError as error:
            refused += 1
            assert "operation " in str(error)
    assert 0 < refused < 1500 or name.startswith(("total-queue", "unique-ids"))

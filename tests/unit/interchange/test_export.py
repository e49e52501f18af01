"""What is written for other tools is what they expect, and reads back as the same history."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from harness.checkers import list_append, rw_register
from harness.history import History
from harness.interchange import read, to_edn, to_json
from tests.unit.checkers.txns import drawn

STEADY = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

EVENTS: list[dict[str, Any]] = [
    {"time": 5, "type": "invoke", "process": 0, "f": "txn", "value": [["append", "x", 1], ["r", "x", None]]},
    {"time": 6, "type": "invoke", "process": 1, "f": "read", "value": None, "node": "n1", "final": True},
    {"time": 9, "type": "ok", "process": 0, "f": "txn", "value": [["append", "x", 1], ["r", "x", [1]]]},
    {"time": 9, "type": "info", "process": 1, "f": "read", "value": None, "error": "timed out"},
    {"time": 9, "type": "invoke", "process": 2, "f": "transfer", "value": {"from": 1, "to": 2}},
    {"time": 7, "type": "invoke", "process": 3, "f": "do it", "value": None},
    {"time": 12, "type": "fail", "process": 3, "f": "do it", "value": None},
]


def test_edn_is_as_jepsen_writes_it() -> None:
    assert (
        to_edn(History.from_events({"index": i, **event} for i, event in enumerate(EVENTS)))
        == """\
{:index 0, :time 5, :type :invoke, :process 0, :f :txn, :value [[:append "x" 1] [:r "x" nil]]}
{:index 1, :time 6, :type :invoke, :process 1, :f :read, :value nil, :node "n1", :final true}
{:index 2, :time 7, :type :invoke, :process 3, :f "do it", :value nil}
{:index 3, :time 9, :type :invoke, :process 2, :f :transfer, :value {"from" 1, "to" 2}}
{:index 4, :time 9, :type :ok, :process 0, :f :txn, :value [[:append "x" 1] [:r "x" [1]]]}
{:index 5, :time 12, :type :fail, :process 3, :f "do it", :value nil}
{:index 6, :time 12, :type :info, :process 1, :f :read, :value nil, :error "timed out"}
"""
    )


def test_json_is_as_elle_reads_it() -> None:
    text = to_json(History.from_events({"index": i, **event} for i, event in enumerate(EVENTS)))
    written = json.loads(text)
    assert written[0] == {
        "index": 0, "time": 5, "type": "invoke", "process": 0, "f": "txn",
        "value": [["append", "x", 1], ["r", "x", None]],
    }  # fmt: skip
    assert written[3]["value"] == {"from": 1, "to": 2}
    assert [event["index"] for event in written] == list(range(7)) == list(range(len(text.splitlines())))


def test_faults_are_pairs_of_the_nemesis() -> None:
    nemesis = {"type": "info", "process": "nemesis", "f": "start-kill"}
    fault = {"fault": 1, "kind": "kill", "what": "n1 killed", "asked": [0.0, None]}
    history = History.from_events(
        [
            {"index": 0, "time": 1, "type": "invoke", "process": 0, "f": "read"},
            {"index": 1, "time": 3, **nemesis, "value": fault},
            {"index": 2, "time": 4, **nemesis, "value": {**fault, "done": True}},
            {"index": 3, "time": 6, "type": "ok", "process": 0, "f": "read", "value": 1},
        ]
    )  # fmt: skip
    assert to_edn(history).splitlines()[1:3] == [
        "{:index 1, :time 4, :type :info, :process :nemesis, :f :start-kill, :value nil}",
        '{:index 2, :time 4, :type :info, :process :nemesis, :f :start-kill, :value "n1 killed"}',
    ]


scalars = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=[]))
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["read", "write", "cas", "add it", "é"])


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Any history: times that tie, processes that crash or never end, with keys or without."""
    keyed = draw(st.booleans())
    events: list[dict[str, Any]] = []
    open_: dict[int, dict[str, Any]] = {}
    time, fresh = 0, 100

    def value() -> Any:
        return [draw(scalars), draw(values)] if keyed else draw(values)

    for process in draw(st.lists(st.integers(0, 4), max_size=20)):
        time += draw(st.integers(0, 2))
        if process in open_:
            begun = open_.pop(process)
            kind = draw(st.sampled_from(["ok", "fail", "info"]))
            ended = {**begun, "type": kind, "time": time, "value": value()}
            if keyed:
                ended["value"][0] = begun["value"][0]
            if kind != "ok":
                ended["error"] = "why"
            events.append(ended)
            continue
        begun = {"type": "invoke", "process": process, "f": draw(names), "value": value(), "time": time}
        if any(e["process"] == process and e["type"] == "info" for e in events):
            begun["process"], fresh = fresh, fresh + 1
        else:
            open_[process] = begun
        events.append(begun)
    return History.from_events(({"index": i, **e} for i, e in enumerate(events)), {"keyed": keyed})


@pytest.mark.parametrize(("name", "write"), [("a.edn", to_edn), ("a.json", to_json)])
@STEADY
@given(data=st.data())
def test_a_history_that_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, name: str, write: Callable[[History], str], data: st.DataObject
) -> None:
    history = data.draw(histories())
    path = tmp_path_factory.getbasetemp() / name
    path.write_text(write(history))
    if not len(history):
        return
    again = read(path, keyed=bool(history.header["keyed"]))
    columns, same = history.columns, again.columns
    assert list(same.call) == list(columns.call)
    assert list(same.ret) == list(columns.ret)
    fields = ("f", "key", "value", "result", "type", "start", "end", "error", "node", "final")
    for one, other in zip(history.operations, again.operations, strict=True):
        assert [repr(getattr(one, f)) for f in fields] == [repr(getattr(other, f)) for f in fields]
        assert other.process == one.process or other.process > max(columns.process)


def test_a_process_that_invokes_when_it_completes_becomes_two() -> None:
    """Written in one order, its second operation would come after its first: more than the history says."""
    history = History.from_events(
        {"index": i, "time": 5, "process": 3, "f": "read", "type": kind}
        for i, kind in enumerate(["invoke", "ok", "invoke", "ok"])
    )
    assert [(e["type"], e["process"]) for e in json.loads(to_json(history))] == [
        ("invoke", 3), ("invoke", 4), ("ok", 3), ("ok", 4),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), [("t.edn", to_edn), ("t.json", to_json)])
@pytest.mark.parametrize(("lists", "predicates"), [(True, False), (False, False), (False, True)])
def test_transactions_are_judged_alike_by_whoever_reads_them(
    tmp_path: Path, name: str, write: Callable[[History], str], lists: bool, predicates: bool
) -> None:
    rnd = random.Random(f"export/{lists}/{predicates}")
    for _ in range(40):
        history = drawn(rnd, lists=lists, predicates=predicates)
        (tmp_path / name).write_text(write(history))
        again = read(tmp_path / name)
        judge = list_append if lists else rw_register
        if len({op.index for op in history.operations}) and any(op.value for op in history.operations):
            one, other = judge(history), judge(again)
            assert (other.judgement, other.evidence) == (one.judgement, one.evidence)
            assert [(op.value, op.result) for op in again.operations] == [
                (op.value, op.result) for op in history.operations
            ]


def test_transactions_are_as_elle_has_them() -> None:
    """Micro-operations and predicates have keywords for names; JSON makes strings of a map's keys."""
    steps = [["append", 1, 2], ["r", 1, [2]], ["w", "x", 3], ["rp", ["=", 3], {1: 3}], ["rp", "true", {}]]
    events = [
        {"index": i, "process": 0, "type": kind, "f": "txn", "value": steps, "time": i}
        for i, kind in enumerate(("invoke", "ok"))
    ]
    history = History.from_events(events)
    assert '[[:append 1 2] [:r 1 [2]] [:w "x" 3] [:rp [:= 3] {1 3}] [:rp :true {}]]' in to_edn(history)
    assert json.loads(to_json(history))[1]["value"] == [
        *steps[:3], ["rp", ["=", 3], {"1": 3}], ["rp", "true", {}],
    ]  # fmt: skip


def test_keys_that_json_made_strings_are_numbers_again(tmp_path: Path) -> None:
    done = [[["w", 1, 5]], [["rp", ["=", 5], {1: 5}]], [["rp", "true", {}]]]
    events = [
        {"process": process, "type": kind, "f": "txn", "value": steps}
        for process, steps in enumerate(done)
        for kind in ("invoke", "ok")
    ]
    history = History.from_events({"index": i, **event} for i, event in enumerate(events))
    (tmp_path / "t.json").write_text(to_json(history))
    found = [list(rw_register(h).evidence["anomalies"]) for h in (history, read(tmp_path / "t.json"))]
    assert found == [["G-single-realtime"]] * 2

"""The history in memory and on disk: what is recorded comes back, what is broken is named."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from harness.history import History, HistoryError, Interned
from harness.journal import Journal, load


def events(*rows: tuple[Any, ...]) -> list[dict[str, Any]]:
    names = ("time", "type", "process", "f", "value", "error")
    return [{"index": i, **dict(zip(names, row, strict=False))} for i, row in enumerate(rows)]


def test_an_event_that_does_not_fit_on_the_disk_costs_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", {"seed": 1})
    journal.invoke(0, "write", 1, "n1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 20, hard))
    try:
        for _ in range(2):
            with pytest.raises(OSError, match="too large"):
                journal.invoke(1, "write", 2, "n1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.complete(0, "ok", "write", 1, None, 5)
    history = load(journal.finish())
    assert [(op.process, op.type) for op in history.operations] == [(0, "ok")]


def test_ctrl_c_as_soon_as_an_event_is_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "history.jsonl", {"seed": 1})

    def interrupted(file: int, line: bytes) -> int:
        monkeypatch.undo()
        os.write(file, line)
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.journal.os.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.invoke(0, "write", 1, "n1")
    journal.invoke(1, "write", 2, "n1")
    journal.complete(1, "ok", "write", 2, None, 5)
    history = load(journal.finish())
    assert [(op.process, op.type) for op in history.operations] == [(0, "info"), (1, "ok")]


def test_operations_are_paired_and_outcomes_kept() -> None:
    history = History.from_events(
        events(
            (0, "invoke", 0, "write", 1),
            (1, "invoke", 1, "read", None),
            (5, "ok", 0, "write", 1),
            (6, "invoke", 0, "cas", [1, 2]),
            (9, "fail", 0, "cas", [1, 2], "precondition failed"),
            (10, "info", 1, "read", None, "timeout"),
        )
    )
    write, read, cas = history.operations
    assert (write.type, write.start, write.end, write.result) == ("ok", 0, 5, 1)
    assert (read.type, read.end, read.error) == ("info", None, "timeout")
    assert (cas.type, cas.value, cas.error) == ("fail", (1, 2), "precondition failed")
    assert history.counts == {"ok": 1, "fail": 1, "info": 1}


def test_an_operation_without_completion_is_of_unknown_outcome() -> None:
    (operation,) = History.from_events(events((3, "invoke", 0, "write", 1))).operations
    assert operation.type == "info" and operation.end is None


def test_intervals_are_closed_so_that_an_invocation_stands_before_a_completion_of_the_same_time() -> None:
    history = History.from_events(
        events(
            (10, "invoke", 0, "write", 1),
            (20, "ok", 0, "write", 1),
            (20, "invoke", 1, "read", None),
            (30, "ok", 1, "read", 1),
        )
    )
    assert history.columns.call[1] < history.columns.ret[0]


def test_times_decide_the_order_where_lines_were_written_late() -> None:
    history = History.from_events(
        events(
            (0, "invoke", 0, "write", 1),
            (20, "invoke", 1, "read", None),
            (10, "ok", 0, "write", 1),  # its thread was slower to write than the other to begin
            (30, "ok", 1, "read", 1),
        )
    )
    assert history.columns.ret[0] < history.columns.call[1]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(0, "begin", 0, "read")], "type 'begin' is none of invoke, ok, fail, info"),
        ([(0, "ok", 0, "read")], "completes an operation that it never invoked"),
        ([(0, "invoke", 0, "read"), (1, "invoke", 0, "read")], "invokes again before"),
        (
            [(0, "invoke", 0, "read"), (1, "info", 0, "read"), (2, "invoke", 0, "read")],
            "may not invoke again",
        ),
        ([(5, "invoke", 0, "read"), (1, "ok", 0, "read")], "before its invocation"),
        ([(0, "invoke", 0, "read"), (1, "ok", 0, "write")], "completes 'write' but invoked 'read'"),
        ([("soon", "invoke", 0, "read")], "must be integers"),
        ([(0, "invoke", 1.5, "read")], "neither an integer nor a name"),
    ],
)
def test_a_broken_rule_is_named(rows: list[tuple[Any, ...]], complaint: str) -> None:
    with pytest.raises(HistoryError, match=complaint):
        History.from_events(events(*rows))


def test_a_keyed_history_takes_key_and_value_apart_and_says_where_it_cannot() -> None:
    rows = [(0, "invoke", 0, "write", ["k1", 7]), (1, "ok", 0, "write", ["k1", 7])]
    (operation,) = History.from_events(events(*rows), {"keyed": True}).operations
    assert (operation.key, operation.value, operation.result) == ("k1", 7, 7)
    with pytest.raises(HistoryError, match=r"not \[key, value\]"):
        History.from_events(events((0, "invoke", 0, "write", 7)), {"keyed": True})


def test_values_of_different_types_are_different_values() -> None:
    table = Interned()
    assert len({table.code(value) for value in (1, True, 1.0, "1", None, [1], [True])}) == 7
    assert table.code([1, [2]]) == table.code((1, (2,)))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.text(), values, st.sampled_from(["ok", "fail", "info"])), max_size=8))
def test_whatever_is_recorded_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    journal = Journal(path, {"seed": 1, "note": "<&>"})
    journal.start()
    for process, (f, value, outcome) in enumerate(rows):
        journal.invoke(process, f, value, "n1")
        journal.complete(process, outcome, f, value, None, journal.now())
    history = load(journal.finish())
    assert [op.type for op in history.operations] == [outcome for _, _, outcome in rows]
    assert history.header["note"] == "<&>"


def test_an_unwritable_value_is_recorded_as_its_repr(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", {})
    journal.invoke(0, "write", {"odd": {1, 2}.__class__, "big": 1 << 100}, None)
    journal.invoke(1, "write", "\ud800", None)
    assert len(load(journal.finish())) == 2


@pytest.mark.parametrize(
    "value",
    [1 << 100, "\ud800", float("nan"), float("-inf"), [1, [float("nan")]], {"a": float("inf")}, {(1, 2): 3}],
    ids=repr,
)
def test_what_json_cannot_hold_stays_a_value_of_its_own_in_its_place(tmp_path: Path, value: Any) -> None:
    journal = Journal(tmp_path / "history.jsonl", {"keyed": True})
    journal.invoke(0, "write", ["k\ud800", value], None)
    journal.complete(0, "ok", "write", ["k\ud800", value], None, 1)
    journal.invoke(0, "read", ["k\ud800", None], None)
    journal.complete(0, "ok", "read", ["k\ud800", value], None, 2)
    write, read = load(journal.finish()).operations
    assert write.value == write.result == read.result is not None
    assert write.key == read.key is not None


def test_events_of_another_shape_than_json_has_are_read_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", {})
    journal.note("cluster", "applied", {"node": "n1", ("a", 1): float("nan"), "deep": {2: {"\ud800"}}})
    journal.note("cluster", "plain", None)
    applied, plain = load(journal.finish()).events
    assert (applied.node, applied.detail["('a', 1)"], plain.detail) == ("n1", "nan", {})


@pytest.mark.parametrize(
    ("process", "value"),
    [
        ("cluster", "text"),
        ("cluster", [1]),
        ("nemesis", {"fault": 1, "links": [["n1"]]}),
        ("nemesis", {"fault": 1, "links": [[]]}),
        ("nemesis", {"fault": 1, "grudge": {"n1": 3}}),
        ("nemesis", {"fault": 1, "asked": [1]}),
        ("nemesis", {"fault": 1, "asked": ["soon", None]}),
        ("nemesis", {"fault": 1, "nodes": "n1"}),
        ("nemesis", {"fault": 1, "place": 3}),
        (1 << 70, None),
    ],
)
def test_an_event_of_the_wrong_shape_is_named(process: Any, value: Any) -> None:
    event = {"index": 4, "time": 1, "type": "invoke", "process": process, "f": "start-x", "value": value}
    with pytest.raises(HistoryError, match="event 4"):
        History.from_events([event])


def test_a_header_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(HistoryError, match="header: plan is 'none', not an object"):
        History.from_events([], {"plan": "none"})


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["ok", "info", None])), max_size=8
    ),
    st.booleans(),
)
def test_events_are_numbered_in_true_time_order(
    spans: list[tuple[int, int, str | None]], timed: bool
) -> None:
    rows: list[dict[str, Any]] = []
    for process, (start, took, outcome) in enumerate(spans):
        rows.append({"time": start, "type": "invoke", "process": process, "f": "w"})
        if outcome:
            rows.append({"time": start + took, "type": outcome, "process": process, "f": "w"})
    rows.sort(key=lambda row: row["time"])  # stable: an invocation stays before its completion
    for index, row in enumerate(rows):
        row["index"] = index
        if not timed:
            del row["time"]
    c = History.from_events(rows).columns
    expected = []
    for place in range(len(c)):
        begin, index = c.start[place], c.index[place]
        expected.append(((begin, 0, index) if timed else (index, 0, index), place, 0))
        if c.end[place] >= 0:
            end, index = c.end[place], c.completion[place]
            expected.append(((end, 1, index) if timed else (index, 1, index), place, 1))
    for position, (_, place, kind) in enumerate(sorted(expected)):
        assert (c.ret if kind else c.call)[place] == position


def test_the_file_is_gzipped_when_finished_and_readable_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", {"seed": 4})
    journal.invoke(0, "read", None, "n1")
    assert len(load(journal.path)) == 1
    path = journal.finish()
    assert path.suffix == ".gz" and not (tmp_path / "history.jsonl").exists()
    first = json.loads(gzip.decompress(path.read_bytes()).split(b"\n")[0])
    assert first == {"nemesis": 1, "seed": 4}


def test_events_after_the_end_are_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", {})
    path = journal.finish()
    journal.complete(0, "ok", "read", None, None, 5)
    assert len(load(path)) == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1 is no header"),
        ('{"index": 0}\n', "line 1 is no header"),
        ('{"nemesis": 99}\n', "schema 99 is not the one known here"),
        ('{"nemesis": 1}\nnonsense\n', "line 2 is not JSON"),
        ('{"nemesis": 1}\n[1]\n', "line 2 is list, not an event object"),
        ('{"nemesis": 1}\n{"index": 0, "time": 1}\n', "has no 'type'"),
    ],
)
def test_a_broken_file_is_refused_with_line_and_reason(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(text)
    with pytest.raises(HistoryError, match=complaint) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_or_cut_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"expected a history\.jsonl"):
        load(tmp_path / "none.jsonl")
    journal = Journal(tmp_path / "history.jsonl", {})
    journal.invoke(0, "read", None, None)
    path = journal.finish()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(HistoryError, match="cut short"):
        load(path)


def test_kill_loses_no_recorded_event_and_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    code = """
import sys
from pathlib import Path
from harness.journal import Journal
journal = Journal(Path(sys.argv[1]), {})
for process in range(10**9):
    journal.invoke(process, "read", None, None)
    print(process, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(500)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        said = max([said, *(int(line) for line in writer.stdout.read().split())])
    with path.open("ab") as file:
        file.write(b'{"index": 12')
    assert len(load(path)) >= said + 1

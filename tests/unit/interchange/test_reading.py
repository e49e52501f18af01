"""Histories as Jepsen, elle-cli and Porcupine write them become the history that they mean."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.checkers import Model, linearizable
from harness.checkers.model import NOT_KNOWN, Inconsistent
from harness.history import History, HistoryError
from harness.interchange import read
from harness.journal import Journal

# one history, in all the forms: a write, a cas that failed, a read, a write that nobody saw end
EDN = """\
{:index 0, :time 10, :type :invoke, :process 0, :f :write, :value 1}
{:index 1, :time 11, :type :info, :process :nemesis, :f :start, :value nil}
{:index 2, :time 20, :type :invoke, :process 1, :f :cas, :value [2 3]}
{:index 3, :time 30, :type :ok, :process 0, :f :write, :value 1}
{:index 4, :time 31, :type :fail, :process 1, :f :cas, :value [2 3], :error :mismatch}
{:index 5, :time 32, :type :invoke, :process 0, :f :read, :value nil}
{:index 6, :time 33, :type :invoke, :process 1, :f :write, :value 4}
{:index 7, :time 40, :type :ok, :process 0, :f :read, :value 1}
{:index 8, :time 50, :type :info, :process 1, :f :write, :value 4, :error :timed-out}
"""
OPERATIONS = [
    (0, "write", 1, 1, "ok"),
    (1, "cas", (2, 3), None, "fail"),
    (0, "read", None, 1, "ok"),
    (1, "write", 4, None, "info"),
]
LINES = """\
0\t:invoke\t:write\t1
:nemesis\t:info\t:start\tnil
1\t:invoke\t:cas\t[2 3]
0\t:ok\t:write\t1
1\t:fail\t:cas\t[2 3]\tmismatch: it held (1
0\t:invoke\t:read\tnil
1\t:invoke\t:write\t4
0\t:ok\t:read\t1
1\t:info\t:write\t4\ttimed out
"""
LOG = "jepsen 0.3.5 starts - here\n" + "".join(
    f"2026-01-01 10:00:00,000{{GMT}}\tINFO\t[jepsen worker 0] jepsen.util: {line}\n"
    f"2026-01-01 10:00:00,001{{GMT}}\tINFO\t[jepsen node n1] jepsen.db: still :ok here\n"
    for line in LINES.splitlines()
)
OLD_LOG = "".join(
    f"INFO  jepsen.util - {line}\n"
    for line in LINES.replace("\t[2 3]\tmismatch: it held (1", "\t[2 3]").replace("4\ttimed out", ":timed-out").splitlines()
).replace("\t:", "   :").replace("\t", "  ")  # fmt: skip
OPS = [
    {
        **{"index": i, "type": kind, "process": process, "f": f, "value": value},
        **({"error": "timed-out"} if kind == "info" else {}),
    }
    for i, (kind, process, f, value) in enumerate(
        [
            ("invoke", 0, "write", 1),
            ("info", "nemesis", "start", None),
            ("invoke", 1, "cas", [2, 3]),
            ("ok", 0, "write", 1),
            ("fail", 1, "cas", [2, 3]),
            ("invoke", 0, "read", None),
            ("invoke", 1, "write", 4),
            ("ok", 0, "read", 1),
            ("info", 1, "write", 4),
        ]
    )
]
TAGGED = EDN.replace("{", '#jepsen.history.Op{:at #inst "2026-01-01" ')
PRETTY = EDN.replace("{", "\n{").replace(", ", ",\n  ").replace(":value", "; what\n #_ :left-out :value")


def told(history: History) -> list[tuple[Any, ...]]:
    return [(op.process, op.f, op.value, op.result, op.type) for op in history.operations]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("history.edn", EDN),
        ("history", EDN.replace(", ", " ")),
        ("vector", f"[{EDN}]"),
        ("list", f"; made by hand\n(\n{EDN})\n"),
        ("pretty", PRETTY),
        ("tagged", f"#jepsen.history.DenseHistory [{TAGGED}]"),
        ("history.txt", LINES),
        ("windows", LINES.replace("\n", "\r\n")),
        ("jepsen.log", LOG),
        ("old.log", OLD_LOG),
        ("elle.json", json.dumps(OPS)),
        ("pretty.json", json.dumps(OPS, indent=2)),
        ("lines.json", "".join(json.dumps(op) + "\n" for op in OPS)),
        ("elle.jsonl", "".join(json.dumps(op) + "\n" for op in OPS)),
        ("bom.edn", "\ufeff" + EDN),
    ],
)  # fmt: skip
def test_every_form_of_a_history_is_the_same_history(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, newline="")
    zipped = tmp_path / f"{name}.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    for file in (path, zipped):
        history = read(file)
        assert told(history) == OPERATIONS
        assert list(history.columns.call) == [0, 1, 4, 5]
        assert list(history.columns.ret) == [2, 3, 6, -1]
        assert history.path == file and history.faults == ()
    unknown = history.operations[3]
    assert unknown.end is None and "timed" in str(unknown.error)


def test_times_and_indexes_are_the_files_own_and_the_order_is_its_order(tmp_path: Path) -> None:
    path = tmp_path / "a.edn"
    path.write_text(EDN)
    history = read(path)
    assert [(op.index, op.start, op.end) for op in history.operations] == [
        (0, 10, 30), (2, 20, 31), (5, 32, 40), (6, 33, None),
    ]  # fmt: skip
    path.write_text(re.sub(":time [0-9]+", ":time 0", EDN))  # too coarse a clock makes nothing concurrent
    assert list(read(path).columns.call) == list(history.columns.call)
    assert list(read(path).columns.ret) == list(history.columns.ret)


def test_without_times_the_nth_event_is_shown_at_n_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.edn"
    path.write_text(re.sub(":index [0-9]+, ", "", EDN.replace(":time 40, ", "")))
    assert [(op.index, op.seconds) for op in read(path).operations] == [
        (0, 0.0),
        (1, 1.0),
        (4, 4.0),
        (5, 5.0),
    ]


def test_keyed_values(tmp_path: Path) -> None:
    path = tmp_path / "a.edn"
    path.write_text(
        "{:process 0 :type :invoke :f :read :value [:x nil]}\n{:process 0 :type :ok :f :read :value [:x 3]}"
    )
    (op,) = read(path, keyed=True).operations
    assert (op.key, op.value, op.result) == ("x", None, 3)
    (op,) = read(path).operations
    assert (op.key, op.result) == (None, ("x", 3))
    path.write_text(path.read_text().replace("[:x 3]", "[:y 3]"))
    with pytest.raises(HistoryError, match=r"line 2: .* on key 'y', but invoked it on 'x'"):
        read(path, keyed=True)
    journal = Journal(tmp_path / "ours.jsonl", {})
    journal.invoke(0, "write", ["k", 1], None)
    assert read(journal.finish(), keyed=True).operations[0].key == "k"


NIL = '[{"process": 0, "type": "invoke", "f": "F"},\n{"process": 0, "type": "ok", "f": "F", "value": null}]'


def test_an_acknowledged_read_of_nil_is_a_value_or_not_known(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(NIL.replace("F", "read"))
    assert [op.type for op in read(path).operations] == ["ok"]
    (op,) = read(path, nil_read="unknown").operations
    assert (op.type, op.error) == ("fail", "nil read: value not known")
    path.write_text(NIL.replace("F", "write"))  # only of a read
    assert [op.type for op in read(path, nil_read="unknown").operations] == ["ok"]
    with pytest.raises(ValueError, match="must be value or unknown"):
        read(path, nil_read="maybe")
    with pytest.raises(ValueError, match="unknown format 'xml'; there are: auto, jsonl, edn"):
        read(path, "xml")


def test_values_keep_their_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.edn"
    path.write_text("""
        {:process 0 :type :invoke :f :txn :value [[:r "x" nil] [:append :y 1]]}
        {:process 0 :type :ok :f :txn :value [[:r "x" [1 2.0]] [:append :y 1]]}
        {:process 0 :type :invoke :f :transfer :value {:from 1, :to 2, :amount 1N}}
        {:process 0 :type :ok :f :transfer :value {:from 1, :to 2, :amount true}}
        {:process 0 :type :invoke :f :read}
        {:process 0 :type :ok :f :read :value #{3 1 2}}
    """)
    assert [op.result for op in read(path).operations] == [
        (("r", "x", (1, 2.0)), ("append", "y", 1)),
        (("amount", True), ("from", 1), ("to", 2)),
        (1, 2, 3),
    ]


# ------------------------------------------------------------------------------------- known verdicts


def lines(*said: str) -> str:
    """``0 invoke write 1`` a line, as EDN."""
    return "".join(
        "{{:process {} :type :{} :f :{} :value {}}}\n".format(*line.split(maxsplit=3)) for line in said
    )


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("valid", ["0 invoke write 1", "1 invoke read nil", "1 ok read nil", "0 ok write 1", "1 invoke read nil", "1 ok read 1"]),
        ("invalid", ["0 invoke write 1", "0 ok write 1", "1 invoke read nil", "1 ok read nil"]),
        # a crashed write may take effect at any time, also after it was overwritten
        ("valid", ["0 invoke write 1", "0 info write 1", "1 invoke write 2", "1 ok write 2", "1 invoke read nil", "1 ok read 1"]),
        # but only once
        ("invalid", ["0 invoke write 1", "0 info write 1", "1 invoke write 2", "1 ok write 2", "1 invoke read nil", "1 ok read 1",
                     "1 invoke write 2", "1 ok write 2", "1 invoke read nil", "1 ok read 1"]),
        # one that failed never does
        ("invalid", ["0 invoke write 1", "0 fail write 1", "1 invoke read nil", "1 ok read 1"]),
        ("valid", ["0 invoke write 1", "0 ok write 1", "0 invoke cas [1 2]", "1 invoke cas [2 3]", "1 ok cas [2 3]", "0 ok cas [1 2]",
                   "1 invoke read nil", "1 ok read 3"]),
        ("invalid", ["0 invoke write 1", "0 ok write 1", "0 invoke cas [1 2]", "1 invoke cas [1 3]", "1 ok cas [1 3]", "0 ok cas [1 2]"]),
        # a read that began before another ended may see what that one no longer sees
        ("valid", ["0 invoke write 1", "1 invoke read nil", "2 invoke read nil", "2 ok read 1", "1 ok read nil", "0 ok write 1"]),
        ("invalid", ["0 invoke write 1", "2 invoke read nil", "2 ok read 1", "1 invoke read nil", "1 ok read nil", "0 ok write 1"]),
    ],
)  # fmt: skip
def test_histories_with_known_verdicts(tmp_path: Path, verdict: str, said: list[str]) -> None:
    path = tmp_path / "history.edn"
    path.write_text(lines(*said))
    assert linearizable(read(path)).judgement == verdict


KV = """\
{:process 0, :type :invoke, :f :put, :key "1", :value "a"}
{:process 1, :type :invoke, :f :append, :key "1", :value "b"}
{:process 1, :type :ok, :f :append, :key "1", :value "b"}
{:process 0, :type :ok, :f :put, :key "1", :value "a"}
{:process 1, :type :invoke, :f :get, :key "1", :value nil}
{:process 0, :type :invoke, :f :get, :key "2", :value nil}
{:process 1, :type :ok, :f :get, :key "1", :value "SEEN"}
{:process 0, :type :ok, :f :get, :key "2", :value ""}
"""


def _kv(state: Any, f: str, value: Any, result: Any) -> Any:
    if f == "get":
        return state if result is NOT_KNOWN or state == result else Inconsistent(f"got {result!r}")
    return value if f == "put" else state + value


STRINGS = Model("strings", "", _kv, ("get", "put", "append"))


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [("ab", "valid"), ("a", "valid"), ("b", "invalid"), ("", "invalid"), ("ba", "invalid")],
)
def test_a_key_value_log_of_porcupine(tmp_path: Path, seen: str, verdict: str) -> None:
    path = tmp_path / "log.txt"
    path.write_text(KV.replace("SEEN", seen))
    for format in ("auto", "porcupine", "edn"):
        history = read(path, format)
        assert [op.key for op in history.operations] == ["1", "1", "1", "2"]
        assert linearizable(history, STRINGS).judgement == verdict


@pytest.fixture(scope="module")
def porcupine() -> Path:
    """Porcupine's module with its test data, where Go has it."""
    if (go := shutil.which("go")) is None:
        pytest.skip("no go")
    cache = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout
    found = sorted(Path(cache.strip()).glob("github.com/anishathalye/porcupine@*/test_data/jepsen"))
    if not found:
        pytest.skip(
            "no Porcupine among Go's modules: go mod download github.com/anishathalye/porcupine@latest"
        )
    return found[-1].parents[1]


def test_the_etcd_logs_of_porcupine_have_its_verdicts(porcupine: Path) -> None:
    told_so = dict(
        re.findall(r"\tcheckJepsen\(t, (\d+), (true|false)\)", (porcupine / "porcupine_test.go").read_text())
    )
    assert len(told_so) >= 100
    for number, valid in told_so.items():
        history = read(porcupine / f"test_data/jepsen/etcd_{int(number):03}.log", "porcupine")
        assert linearizable(history).judgement == {"true": "valid", "false": "invalid"}[valid], number


@pytest.mark.parametrize("name", ["c01-ok", "c01-bad", "c10-ok", "c10-bad"])
def test_the_key_value_logs_of_porcupine_have_its_verdicts(porcupine: Path, name: str) -> None:
    history = read(porcupine / f"test_data/kv/{name}.txt", "porcupine")
    assert history.counts["ok"] == len(history) > 0
    assert linearizable(history, STRINGS).judgement == {"ok": "valid", "bad": "invalid"}[name[4:]]


def test_transactions_need_no_name(tmp_path: Path) -> None:
    """Elle's and elle-cli's histories have none: a value of micro-operations is that of a transaction."""
    text = """{:type :invoke, :process 0, :value [[:append 3 1] [:r 4 nil]]}
{:type :ok, :process 0, :value [[:append 3 1] [:r 4 [2]]]}
"""
    (tmp_path / "h.edn").write_text(text)
    (op,) = read(tmp_path / "h.edn").operations
    assert (op.f, op.value, op.result) == (
        "txn", (("append", 3, 1), ("r", 4, None)), (("append", 3, 1), ("r", 4, (2,))),
    )  # fmt: skip
    (tmp_path / "h.edn").write_text(text.replace("[[:append 3 1] [:r 4 nil]]", "3"))
    with pytest.raises(HistoryError, match="line 1: f is None: expected the name of what was done"):
        read(tmp_path / "h.edn")

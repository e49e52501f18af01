"""No file, however broken, is anything but a history or a HistoryError that says where."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import harness.journal
from harness.checkers import linearizable
from harness.cli import main
from harness.history import History, HistoryError
from harness.interchange import read, reading, to_edn, to_json
from harness.journal import Journal, load

STEADY = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def edn(*operations: str) -> str:
    """``0 invoke write 1`` each, a map a line."""
    return "".join(
        "{{:process {}, :type :{}, :f :{}, :value {}}}\n".format(*operation.split(maxsplit=3))
        for operation in operations
    )


GOOD = edn("0 invoke write 1", "1 invoke read nil", "0 ok write 1", "1 ok read 1", "0 invoke cas [1 2]", "0 ok cas [1 2]")  # fmt: skip
OPS = [
    {"process": 0, "type": "invoke", "f": "write", "value": 1},
    {"process": 0, "type": "ok", "f": "write", "value": 1},
]
DEEP = 10_000
BIG = "9" * 30


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.edn", "", "line 1: the file is empty"),
        ("a.json", "", "line 1: the file is empty"),
        ("a.edn", " \n\n", "line 1: the file is empty"),
        ("a", "", "line 1: the file is empty"),
        ("a", "what is this?\n", "line 1: the file begins with 'what is this"),
        ("a.jsonl", "what is this?\n", "line 1 is not JSON"),
        ("a.edn", "what is this?\n", "line 1: no line is an operation"),
        ("a.edn", GOOD[:-4], "line 6: the text ends inside the vector that begins here|line 6: .* ends inside the map"),
        ("a.edn", "[" + GOOD, "line 1: the text ends inside the vector"),
        ("a.edn", GOOD + "}", "line 7: '}' closes nothing"),
        ("a.edn", GOOD + "[1 2]\n", r"line 7: \[1, 2\] is no operation: expected a map"),
        ("a.edn", GOOD + edn("1 ok read 1"), "line 7: .* process 1 completes an operation that it never invoked"),
        ("a.edn", GOOD + edn("0 invoke read nil") * 2, "line 8: .* process 0 invokes again before"),
        ("a.edn", GOOD + edn("0 invoke read nil", "0 info read nil", "0 invoke read nil"), "line 9: .* unknown outcome"),
        ("a.edn", GOOD + edn("0 invoke read nil", "0 ok write 1"), "line 8: .* completes 'write' but invoked 'read'"),
        ("a.edn", GOOD + edn("0 maybe read nil"), "line 7: .* type 'maybe' is none of invoke, ok"),
        ("a.edn", GOOD + "{:process 0 :f :read}", "line 7: .* type None is none of"),
        ("a.edn", GOOD + "{:process 1.5 :type :invoke :f :read}", "line 7: process is 1.5: expected a number"),
        ("a.edn", GOOD + '{:process "2" :type :invoke :f :read}', "line 7: process is '2': expected a number"),
        ("a.edn", GOOD + "{:type :invoke :f :read}", "line 7: process is None: expected a number"),
        ("a.edn", GOOD + "{:process 2 :type :invoke :f 3}", "line 7: f is 3: expected the name"),
        ("a.edn", GOOD + "{:process 2 :type :invoke :f [:a]}", r"line 7: f is \['a'\]: expected the name"),
        ("a.edn", GOOD + '{:process 2 :type :invoke :f "\\u001b[31m"}', "line 7: f is .* expected the name"),
        ("a.edn", GOOD + "{:process 2 :type :invoke :f :read :index 9}", "line 7: some operations have an index"),
        ("a.edn", GOOD + "{:process 2 :type :invoke :f :read :time 1.5}", "line 7: time is 1.5: expected an integer"),
        ("a.edn", GOOD + f"{{:process {BIG} :type :invoke :f :read}}", "line 7: .* something in it is not of the type"),
        ("a.edn", GOOD + f"{{:process 2 :type :invoke :f :read :time {BIG}}}", "line 7: time is 9+: expected an integer"),
        ("a.edn", "[" * DEEP, "line 1: nested deeper than 100 levels"),
        ("a.edn", GOOD + "{:value " + "[" * DEEP + "]" * DEEP + "}", "line 7: nested deeper"),
        ("a.edn", GOOD + "{:value 1\0}", "line 7: '1.x00' is no number"),
        ("a.edn", GOOD + "\0", "line 7: .* is no EDN"),
        ("a.edn", GOOD.encode() + b'{:value "\xff"}', "line 7: this is no UTF-8"),
        ("a.edn", GOOD + '{:value "' + "x" * 10_000_000, "line 7: a string that never ends"),
        ("a.edn", '{:index 4 :process 0 :type :invoke :f :read}\n{:index 4 :process 1 :type :invoke :f :read}', "line 2: .* index does not grow"),
        ("a.edn", '{:key 4 :process 0 :type :invoke :f :read}\n{:process 1 :type :invoke :f :read}', "line 2: this operation has no key"),
        ("a.txt", "0\t:invoke\t:read\tnil\n0\t:ok\t:read\t[1\n", "line 2: the text ends inside the vector"),
        ("a.txt", "0\t:invoke\t:read\tnil\n0\t:ok\t:read", "line 2: .* is no operation: expected process"),
        ("a.txt", "0\t:invok\t:read\tnil\n1\t:invoke\t:read\tnil", "line 1: .* is no operation: expected process"),
        ("a.log", "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok", "line 2: .* is no operation"),
        ("a.txt", "0\t:invoke\t:write\t1\n0\t:ok\t:write\t1", "line 2: the last line has no line end"),
        ("a.json", json.dumps(OPS)[:-9], "line 1: this is no JSON"),
        ("a.json", json.dumps(OPS, indent=1)[:-9], "line 12: this is no JSON"),
        ("a.json", json.dumps([*OPS, 3], indent=None).replace("}, ", "},\n"), "line 3: 3 is no operation"),
        ("a.json", json.dumps([*OPS, OPS[1]], indent=1), "line 14: .* that it never invoked"),
        ("a.json", json.dumps(OPS[:1]).replace("1", "[" * DEEP + "]" * DEEP), "line 1: nested deeper"),
        ("a.json", json.dumps(OPS[:1]).replace("1", "[" * 150 + "]" * 150), "line 1: .*nested deeper"),
        ("a.json", json.dumps(OPS[:1]).replace('"write"', '"wr\0"'), "line 1: .*invalid character"),
        ("a.json", json.dumps(OPS).encode().replace(b"write", b"wr\xff"), "line 1: .*UTF-8|line 1: .*utf-8"),
        ("a.json", json.dumps(OPS).replace("0", BIG), "line 1: .* not of the type it must be"),
        ("a.json", "".join(json.dumps(op) + "\n" for op in [*OPS, *OPS])[:-5], "line 4: this is no JSON"),
        ("a.jsonl", '{"nemesis": 1}\n{"index": 0, "type": "invoke", "process": 0, "f": "w", "value": ' + "[" * DEEP + "]" * DEEP + "}\n", "line 2 is not JSON .nested deeper"),
        ("a.jsonl", '{"nemesis": 1, "checks": 3}\n', "line 1: checks is '3', which no run writes"),
        ("a.jsonl", '{"nemesis": 1, "checks": [3]}\n', "line 1: checks are not all names"),
        ("a.jsonl", '{"nemesis": 1}\n{"index": 0, "type": "ok", "process": 0, "f": "w"}\n', "line 2: event 0: process 0 completes"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(HistoryError, match=complaint) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: line ") and len(str(caught.value)) < 800


def test_a_directory_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=f"{tmp_path}: Is a directory"):
        read(tmp_path)
    with pytest.raises(HistoryError, match="nowhere: No such file or directory"):
        read(tmp_path / "nowhere")
    with pytest.raises(HistoryError, match="null byte"):
        read("a\0b")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as pipe:
        pipe.write(GOOD)
    with open(reading):
        path = f"/dev/fd/{reading}"
        with pytest.raises(HistoryError, match="read only once: say its format"):
            read(path)
        assert len(read(path, "edn")) == 3


def test_a_gzip_file_that_is_cut_or_broken_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.edn.gz"
    zipped = gzip.compress(GOOD.encode())
    path.write_bytes(zipped[:-9])
    with pytest.raises(HistoryError, match="the gzip file is cut short"):
        read(path)
    path.write_bytes(zipped[:12] + b"\xff\xff" + zipped[14:])
    with pytest.raises(HistoryError, match="not readable as gzip"):
        read(path)


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real limits are some hundred megabytes; that they hold is seen with smaller ones, on a larger file."""
    monkeypatch.setattr(reading, "LARGEST", 1 << 20)
    monkeypatch.setattr(harness.journal, "LONGEST", 1 << 20)
    zeros = gzip.compress(bytes(1 << 24)) * 64  # a gigabyte
    for name, head, complaint in (
        ("a.edn.gz", b"[", "more than 1,048,576 bytes, unzipped"),
        ("a.json.gz", b"[", "more than 1,048,576 bytes, unzipped"),
        ("a.jsonl.gz", b'{"nemesis": 1}\n', "line 2 is longer than 1,048,576 bytes"),
        ("a.jsonl.gz", b"", "line 1 is longer than 1,048,576 bytes"),
    ):
        path = tmp_path / name
        path.write_bytes(gzip.compress(head) + zeros)
        with pytest.raises(HistoryError, match=complaint):
            read(path)


@pytest.mark.parametrize("write", [to_edn, to_json])
def test_long_values_and_large_numbers_are_read(tmp_path: Path, write: object) -> None:
    value = ["x" * 10_000_000, int(BIG)]
    events = [
        {"index": 0, "time": 1, "type": "invoke", "process": 0, "f": "write", "value": value},
        {"index": 1, "time": 2, "type": "ok", "process": 0, "f": "write", "value": value},
    ]
    path = tmp_path / "long"
    assert callable(write)
    path.write_text(write(History.from_events(events)))
    (op,) = read(path).operations
    assert op.result == tuple(value)


def test_what_a_journal_is_given_can_be_read_again_however_deep(tmp_path: Path) -> None:
    value: list[object] = []
    for _ in range(300):
        value = [value, "x"]
    journal = Journal(tmp_path / "deep.jsonl", {})
    journal.invoke(0, "write", value, None)
    (op,) = load(journal.finish()).operations
    assert repr(op.value).count("(") >= 40


def test_a_journal_whose_events_lack_times_is_in_the_order_of_its_events(tmp_path: Path) -> None:
    """A completion without a time must not seem to come before what was invoked long ago."""
    path = tmp_path / "history.jsonl"
    write = '"process": 0, "f": "write", "value": 1'
    rows = [
        f'"type": "invoke", "time": 5000, {write}', f'"type": "ok", {write}',
        '"type": "invoke", "time": 9000, "process": 1, "f": "read"',
        '"type": "ok", "time": 9001, "process": 1, "f": "read", "value": null',
    ]  # fmt: skip
    path.write_text('{"nemesis": 1}\n' + "".join(f'{{"index": {i}, {row}}}\n' for i, row in enumerate(rows)))
    history = read(path)
    assert (list(history.columns.call), list(history.columns.ret)) == ([0, 2], [1, 3])
    assert linearizable(history).judgement == "invalid"


# ------------------------------------------------------------------------------------------- fuzzing


def journal_text() -> str:
    events = [
        {"index": i, "time": i, "type": kind, "process": process, "f": f, "value": ["k", value]}
        for i, (process, kind, f, value) in enumerate(
            [(0, "invoke", "write", 1), (1, "invoke", "read", None), (0, "ok", "write", 1), (1, "ok", "read", 1)]
        )
    ]  # fmt: skip
    return "".join(
        json.dumps(line) + "\n"
        for line in [
            {"nemesis": 1, "keyed": True, "checks": ["linearizable:register"], "time_limit": 1},
            *events,
        ]
    )


SEEDS = {
    "a.edn": GOOD,
    "b.edn": "[" + GOOD.replace(":process", "#tag :process ; c\n") + "]",
    "kv.txt": GOOD.replace("{:process", '{:key "a", :process'),
    "a.txt": "0\t:invoke\t:read\tnil\n1\t:invoke\t:cas\t[1 2]\n0\t:ok\t:read\t1\n1\t:fail\t:cas\t[1 2]\tno\n",
    "a.log": "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nnoise\nINFO  jepsen.util - 0\t:ok\t:read\t1\n",
    "a.json": json.dumps(OPS),
    "b.json": "".join(json.dumps(op) + "\n" for op in OPS),
    "a.jsonl": journal_text(),
    "a.jsonl.gz": journal_text(),
}
BITS = [b"", b"\0", b"\xff", b"[", b"]", b"{", b"}", b'"', b"\\", b"#", b"#_", b":", b"nil", b"null", b"-1", b"1e999", b"\n",
        b"99999999999999999999", b"invoke", b"ok", b"info", b"1.5", b"{}", b"[[", b",", b"key", b"\t", b" "]  # fmt: skip

Change = tuple[int, int, bytes]
changes: st.SearchStrategy[list[Change]] = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 12), st.sampled_from(BITS) | st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, made: list[Change]) -> bytes:
    for at, length, new in made:
        at %= len(data) + 1
        data = data[:at] + new + data[at + length :]
    return data


@pytest.mark.parametrize("name", SEEDS)
@settings(STEADY, max_examples=300)
@given(made=changes, packed=st.booleans(), keyed=st.booleans())
def test_a_mutated_file_is_a_history_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, made: list[Change], packed: bool, keyed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    data = SEEDS[name].encode()
    data = mutated(gzip.compress(data), made) if packed else mutated(data, made)
    path.write_bytes(data)
    for format in ("auto", name.split(".")[1].replace("txt", "porcupine").replace("log", "edn")):
        try:
            history = read(path, format, keyed=keyed)
        except HistoryError as error:
            assert str(error).startswith(f"{path}: ")
            assert packed or re.match(r"line \d+\b", str(error).removeprefix(f"{path}: ")), error
        else:
            assert all(op.end is None or op.type != "info" for op in history.operations)
            assert 0 <= len(history) <= 20
    arguments = ["--json", *["--keyed"] * keyed, *["--model=cas-register"] * ("jsonl" not in name)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        code = main(["check", str(path), *arguments])
    (said,) = map(json.loads, out.getvalue().splitlines())
    assert (code, said["valid"]) in ((0, True), (1, False), (2, "unknown"), (254, "unknown")), said


@pytest.mark.parametrize("name", [name for name in SEEDS if not name.endswith(".gz")])
def test_a_file_cut_anywhere_is_refused_or_a_beginning_of_the_whole(tmp_path: Path, name: str) -> None:
    whole, path = tmp_path / name, tmp_path / f"cut-{name}"
    data = SEEDS[name].encode()
    whole.write_bytes(data)
    expected = [(op.process, op.f, op.value) for op in read(whole).operations]
    outcomes = [op.type for op in read(whole).operations]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            cut = read(path)
        except HistoryError as error:
            assert "line " in str(error)
        else:
            assert [(op.process, op.f, op.value) for op in cut.operations] == expected[: len(cut)]
            for op, outcome in zip(cut.operations, outcomes, strict=False):
                assert op.type in (outcome, "info")

"""``nemesis check`` on files of others: verdicts, exit codes and JSON that a pipeline can build on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import check_command
from harness.checkers import MODELS, checkers, choices
from harness.cli import main
from harness.history import History
from harness.verdict import Verdict

WRITE = "{:process 0 :type :invoke :f :write :value 1}\n{:process 0 :type :ok :f :write :value 1}\n"
READ = "{:process 1 :type :invoke :f :read :value nil}\n{:process 1 :type :ok :f :read :value %s}\n"
VALID, INVALID, NIL = WRITE + READ % 1, WRITE + READ % 2, WRITE + READ % "nil" + READ % 1
VACUOUS, BROKEN = WRITE, WRITE[:-3]

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command where there are the files ``valid``, ``invalid``, ...; its code, output and errors."""
    monkeypatch.chdir(tmp_path)
    contents = {"valid": VALID, "invalid": INVALID, "nil": NIL, "vacuous": VACUOUS, "broken": BROKEN}
    for name, content in contents.items():
        Path(name).write_text(content)

    def check(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(["check", *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return check


def test_a_verdict_is_a_line_and_an_exit_code(check: Check) -> None:
    code, out, _ = check("--model", "register", "valid")
    assert code == 0
    assert out == "valid: linearizable: VALID: linearizable   2 operations, 0 of unknown outcome\n"
    code, out, _ = check("--model", "register", "invalid")
    assert code == 1 and out.startswith("invalid: linearizable: INVALID: not linearizable")
    assert "process 1 read 2 at 2.00 s, a value that nobody wrote" in out
    code, out, _ = check("--model", "register", "vacuous")
    assert code == 2 and "vacuous: linearizable: UNKNOWN: vacuous: nothing observed the state" in out
    code, out, err = check("--model", "register", "broken")
    assert (code, out) == (254, "")
    assert err == "nemesis check: broken: line 2: the text ends inside the map that begins here\n"


@pytest.mark.parametrize(
    ("files", "worst"),
    [
        (["valid"], 0),
        (["vacuous", "valid"], 2),
        (["valid", "invalid", "vacuous"], 1),
        (["invalid", "broken", "valid"], 254),
        (["nowhere", "invalid"], 254),
    ],
)
def test_several_files_are_told_in_order_and_the_worst_decides(
    check: Check, files: list[str], worst: int
) -> None:
    code, out, _ = check("--model", "cas-register", "--json", *files)
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == worst and [o["file"] for o in objects] == files
    valid = {"valid": True, "invalid": False}
    assert [o["valid"] for o in objects] == [valid.get(name, "unknown") for name in files]
    _, out, err = check("--model", "cas-register", *files)
    told = [line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert told == [name for name in files if name in ("valid", "invalid", "vacuous")]
    assert [line.split(": ")[1] for line in err.splitlines()] == [name for name in files if name not in told]


def test_json_has_the_anomalies_the_witness_and_the_cause(check: Check) -> None:
    _, out, _ = check("--model", "register", "--json", "invalid", "vacuous", "broken")
    invalid, vacuous, broken = map(json.loads, out.splitlines())
    assert invalid["anomalies"] == ["not linearizable"] and invalid["cause"] is None
    assert invalid["witness"]["sentence"] == "process 1 read 2 at 2.00 s, a value that nobody wrote"
    assert invalid["witness"]["culprit"] == 2
    (operation,) = invalid["witness"]["operations"]
    assert operation.items() >= {"index": 2, "f": "read", "result": 2, "type": "ok", "start": 2.0}.items()
    assert (vacuous["cause"], vacuous["anomalies"], vacuous["witness"]) == ("vacuous", [], None)
    assert broken["cause"] == "malformed" and broken["summary"].startswith("broken: line 2: ")


def test_a_crash_is_no_verdict(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashes(history: History, name: str) -> Verdict:
        raise LookupError("a bug")

    monkeypatch.setattr(check_command, "check", crashes)
    code, out, err = check("--checker", "no-lost-update", "--json", "valid", "broken")
    assert code == 255
    assert [json.loads(line)["cause"] for line in out.splitlines()] == ["crashed", "malformed"]
    assert "nemesis check: valid: LookupError: a bug\n" in err


# -------------------------------------------------------------------------------------------- options


def test_an_acknowledged_read_of_nil(check: Check) -> None:
    assert check("--model", "register", "nil")[0] == 1
    assert check("--model", "register", "--nil-read", "value", "nil")[0] == 1
    assert check("--model", "register", "--nil-read", "unknown", "nil")[0] == 0


def test_an_initial_state(check: Check) -> None:
    Path("initial").write_text(READ % '"a"' + VALID)
    assert check("--model", "register", "initial")[0] == 1
    assert check("--model", "register", "--init", '"a"', "initial")[0] == 0
    code, out, _ = check("--model", "register", "--init", '"b"', "initial")
    assert code == 1 and "process 1 read 'a' at 0.00 s, a value that nobody wrote" in out
    assert check("--checker", "linearizable:register", "--init", '"a"', "initial")[0] == 0
    code, _, err = check("--checker", "no-lost-update", "--init", "1", "valid")
    assert code == 254 and "an initial state is for linearizability" in err


def test_keyed_values(check: Check) -> None:
    keyed = WRITE.replace("value 1", "value [:x 1]") + READ.replace("%s", "[:x 1]").replace("nil", "[:x nil]")
    Path("keyed").write_text(keyed)
    assert check("--model", "register", "--keyed", "keyed")[0] == 0
    code, _, err = check("--model", "register", "--keyed", "valid")
    assert code == 254 and "valid: line 1: " in err and "is not [key, value]" in err


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("edn", VALID),
        ("porcupine", VALID.replace("{", '{:key "k" ')),
        ("edn", "0\t:invoke\t:write\t1\n0\t:ok\t:write\t1\n1\t:invoke\t:read\tnil\n1\t:ok\t:read\t1\n"),
        (
            "json",
            '[{"process": 0, "type": "invoke", "f": "write", "value": 1},'
            ' {"process": 0, "type": "ok", "f": "write", "value": 1},'
            ' {"process": 1, "type": "invoke", "f": "read"},'
            ' {"process": 1, "type": "ok", "f": "read", "value": 1}]',
        ),
    ],
)
def test_formats(check: Check, format: str, content: str) -> None:
    Path("file").write_text(content)
    for asked in ("auto", format):
        assert check("--model", "register", "--format", asked, "file")[0] == 0
    other = "json" if format != "json" else "edn"
    code, _, err = check("--model", "register", "--format", other, "file")
    assert code == 254 and "file: line 1: " in err


def test_time_used_up_is_unknown(check: Check) -> None:
    Path("long").write_text(VALID * 5_000)
    code, out, _ = check("--model", "cas-register", "--time-limit", "0.000001", "--json", "long")
    assert (code, json.loads(out)["cause"]) == (2, "time")


def test_memory_used_up_is_unknown(check: Check) -> None:
    Path("large").write_text(VALID + "".join(READ % f'"{i:0500}"' for i in range(50_000)))
    command = ["check", "--model", "register", "--memory-limit", "20", "large", "valid"]
    done = subprocess.run([sys.executable, "-m", "harness", *command], capture_output=True, text=True)
    assert done.returncode == 2, done
    large, valid = done.stdout.splitlines()
    assert large == "large: UNKNOWN: memory: not decided within 20 MB"
    assert valid.startswith("valid: linearizable: VALID")
    assert done.stderr == ""


def test_a_process_that_is_killed_is_a_crash(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_command, "check", lambda history, name: os.kill(os.getpid(), signal.SIGKILL))
    code, out, err = check("--checker", "no-lost-update", "--memory-limit", "1000", "--json", "valid")
    assert code == 255 and json.loads(out)["cause"] == "crashed"
    assert "valid: its process ended with signal 9" in err


def slow(history: History) -> Verdict:
    while True:
        sorted(range(1000))


def test_a_checker_without_a_budget_ends_at_the_time_limit(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_command, "check", lambda history, name: slow(history))
    code, out, _ = check("--checker", "no-lost-update", "--time-limit", "0.05", "valid")
    assert code == 2 and "no-lost-update: UNKNOWN: time: not decided within 0.05 s" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["valid"], "valid names no check; choose one: nemesis check --check NAME HISTORY"),
        (["--model", "luck", "valid"], f"unknown model 'luck'; there are: {', '.join(MODELS)}"),
        (["--checker", "luck", "valid"], f"unknown check 'luck'; there are: {choices()}"),
        (["--model", "register", "--checker", "luck", "valid"], "unknown check 'luck'; there are: "),
        (["--model", "register", "--format", "xml", "valid"], "invalid choice: 'xml'"),
        (["--model", "register", "--nil-read", "no", "valid"], "invalid choice: 'no'"),
        (["--model", "register", "--init", "{", "valid"], "'{' is no JSON; a string has quotes"),
        (["--model", "register", "--time-limit", "0", "valid"], "'0' is no number of seconds above 0"),
        (["--model", "register", "--time-limit", "nan", "valid"], "is no number of seconds above 0"),
        (["--model", "register", "--memory-limit", "x", "valid"], "'x' is no whole number of megabytes"),
        (["--model", "register"], "the following arguments are required: HISTORY"),
        (["--checker", "no-lost-write", "valid"], "valid: operation 0 is 'write'; lost writes"),
        (["--model", "register", "cas"], "cas: operation 0 is 'cas', which the model register does not know"),
    ],
)  # fmt: skip
def test_bad_usage_says_what_there_is(check: Check, arguments: list[str], said: str) -> None:
    Path("cas").write_text(WRITE.replace("write", "cas"))
    code, out, err = check(*arguments)
    assert (code, out) == (254, "")
    assert said in err and "Traceback" not in err


def test_every_model_and_checker_of_the_registry_can_be_named(check: Check) -> None:
    """Names come from the registry: one that is new there is one that the command knows."""
    for name in MODELS:
        assert "unknown" not in check("--model", name, "valid")[2]
    for name in checkers():
        assert "unknown check" not in check("--checker", name, "valid")[2]


def test_hostile_files_have_no_traceback(check: Check) -> None:
    hostile = {
        "empty": b"",
        "nul": bytes(1000),
        "deep": b"[" * 10_000,
        "deep.json": b'[{"value":' + b"[" * 10_000,
        "utf": b"{:process \xff}",
        "double": WRITE.encode()[: WRITE.index("\n") + 1] * 2,
        "half": VALID.encode()[:100],
        "alone": VALID.encode()[50:],
        "number": VALID.replace("1", "9" * 40).encode(),
        "long": b"{" + b":a" * 5_000_000,
    }
    for name, content in hostile.items():
        Path(name).write_bytes(content)
    Path("directory").mkdir()
    code, out, err = check("--model", "register", "--json", *hostile, "directory")
    assert code == 254 and "Traceback" not in err
    assert [json.loads(line)["cause"] for line in out.splitlines()] == ["malformed"] * (len(hostile) + 1)
    assert len(err.splitlines()) == len(hostile) + 1 and max(map(len, err.splitlines())) < 1000

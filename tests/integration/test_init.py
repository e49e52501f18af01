"""What somebody has after `pip install`: the wheel, the command `nemesis`, its starting point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.checkers import check
from harness.journal import load

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "reports", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"
)
STARTED = "nemesis init chaos && cd chaos && pytest -m chaos"


@dataclass(frozen=True)
class Installed:
    """A fresh virtual environment with the wheel in it, and a directory to work in."""

    wheel: Path
    bin: Path
    home: Path

    def run(
        self, command: str, where: Path | None = None, within: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A shell command as a user would type it, with the environment's programs on PATH."""
        environment = {
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "LC_ALL": "C.UTF-8",
        }
        return subprocess.run(
            ["sh", "-c", command], cwd=where or self.home, env=environment, capture_output=True, text=True,
            timeout=within,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("installed")
    source, home = base / "source", base / "home"
    (home / "tmp").mkdir(parents=True)
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    _pip([sys.executable, "-m", "build", "--wheel", "--outdir", str(base / "dist"), str(source)])
    (wheel,) = (base / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(base / "venv")], check=True)
    here = base / "venv" / "bin"
    _pip([str(here / "python"), "-m", "pip", "install", "--disable-pip-version-check", str(wheel)])
    return Installed(wheel, here, home)


def _pip(command: list[str]) -> None:
    """Run what needs a package index; without one there is nothing to test here, save in CI."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    if done.returncode and os.environ.get("CI") != "true" and "No matching distribution found" in said:
        pytest.skip(f"no package index can be reached: {said.splitlines()[-1]}")
    assert not done.returncode, said


@pytest.fixture(scope="module")
def started(installed: Installed) -> Iterator[subprocess.CompletedProcess[str]]:
    """The README's line, literally, in an empty home."""
    yield installed.run(STARTED)
    assert list((installed.home / "tmp").glob("nemesis-*/runs")), "the runs left no trace where they should"
    assert not list((installed.home / "tmp").glob("nemesis-*/runs/*")), "runs left their directories"


def history(installed: Installed, plan: str) -> Path:
    """The newest history of the starting point's run under `plan`."""
    paths = (installed.home / "chaos").glob(f"reports/2*/*{plan}*/history.jsonl.gz")
    return max(paths, key=lambda path: path.stat().st_mtime)


# ------------------------------------------------------------------------------------------- the wheel


def test_the_wheel_has_what_is_needed_and_nothing_else(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"harness"}
    files = [p.relative_to(ROOT) for p in (ROOT / "harness").rglob("*") if p.is_file()]
    needed = {str(p) for p in files if not any(part.startswith((".", "__pycache__")) for part in p.parts)}
    needed -= {"harness/checkers/_linearize.c"}  # the kernel, which is in it built where there is a compiler
    assert {"harness/py.typed", "harness/report/page.html", "harness/starter/faults/plans.py"} <= needed
    assert {Path(name).suffix for name in needed} >= {".py", ".html", ".css", ".js", ".ini"}
    assert needed - set(names) == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith(".pyc")]


def test_without_a_compiler_it_installs_and_judges_all_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    for built in source.rglob("*.so"):
        built.unlink()
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, env={**os.environ, "CC": "false"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "harness/checkers/native.py" in names
    assert not [name for name in names if "_linearize" in name]


@pytest.mark.parametrize("name", ["targets", "faults", "tests", "benchmarks"])
def test_only_harness_is_importable(installed: Installed, name: str) -> None:
    done = installed.run(f"python -c 'import harness; import {name}'")
    assert f"No module named '{name}'" in done.stderr


def test_every_public_name_can_be_imported(installed: Installed) -> None:
    done = installed.run("python -W error -c 'from harness import *; print(Plan(at(1, kill(\"leader\"))))'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Plan(at(1, kill('leader')))\n", "")


# -------------------------------------------------------------------------------------- the first steps


def test_the_starting_point_runs_as_it_is(
    installed: Installed, started: subprocess.CompletedProcess[str]
) -> None:
    assert STARTED in (ROOT / "README.md").read_text()
    assert started.returncode == 0, started.stdout + started.stderr
    assert "  cd chaos && pytest -m chaos\n" in started.stdout
    plans = (installed.home / "chaos/faults/plans.py").read_text().count("@pytest.fixture")
    assert f"{plans} valid" in started.stdout and f"{plans} passed" in started.stdout
    assert "report: reports/" in started.stdout


def test_the_starting_point_finds_a_planted_bug(
    installed: Installed, started: subprocess.CompletedProcess[str]
) -> None:
    """A node that hears nothing from n1 answers reads from what it saw before, as a cache would."""
    server = installed.home / "chaos/server.py"
    correct = server.read_text()
    wrong = correct.replace(
        "            self.answer(504,",
        '            if request["f"] == "read" and request["key"] in self.seen:\n'
        '                self.answer(200, self.seen[request["key"]])\n'
        "                return\n"
        "            self.answer(504,",
    ).replace(
        "        else:\n            self.answer(200, answer)",
        "        else:\n"
        '            if request["f"] == "read":\n'
        '                self.seen[request["key"]] = answer\n'
        "            self.answer(200, answer)",
    ).replace('    primary = ("", 0)\n', '    primary = ("", 0)\n    seen = {}\n')  # fmt: skip
    assert len(wrong.splitlines()) == len(correct.splitlines()) + 6
    server.write_text(wrong)
    try:
        done = installed.run("pytest -m chaos -k cut_off", installed.home / "chaos")
    finally:
        server.write_text(correct)
    assert done.returncode == 1, done.stdout
    assert "INVALID: not linearizable" in done.stdout
    assert "replay: pytest 'test_chaos.py::test_register_survives[cut_off]' --nemesis-replay=" in done.stdout
    path = history(installed, "cut_off")
    judged = installed.run(f"nemesis check '{path}'")
    assert judged.returncode == 1 and "INVALID: not linearizable" in judged.stdout, judged
    run = load(path)
    found = check(run, "linearizable:cas-register")
    assert found.witness is not None and [fault.what for fault in run.faults] == ["n2 cut from n1, n3"]
    assert [op.node for op in run.operations if op.index == found.witness.culprit] == ["n2"]


def test_init_writes_over_nothing(installed: Installed, started: subprocess.CompletedProcess[str]) -> None:
    done = installed.run("nemesis init chaos")
    assert done.returncode == 254
    assert done.stderr == (
        "nemesis init: chaos is there and not empty; name another directory: nemesis init DIRECTORY\n"
    )
    (installed.home / "file").write_text("")
    assert "file is there and no directory" in installed.run("nemesis init file").stderr


# --------------------------------------------------------------------------------- check, report, doctor


def test_check_judges_a_stored_history(
    installed: Installed, started: subprocess.CompletedProcess[str]
) -> None:
    good = history(installed, "slow_then_killed")
    done = installed.run(f"nemesis check '{good}'")
    assert done.returncode == 0, done
    assert f"{good}: linearizable: VALID: " in done.stdout
    again = installed.run(f"python -m harness check --check linearizable:cas-register '{good}'")
    assert (again.returncode, again.stdout) == (0, done.stdout)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a history of events, and its path."""

    def write(*events: dict[str, object], **header: object) -> Path:
        path = tmp_path / f"history-{len(list(tmp_path.iterdir()))}.jsonl"
        lines = [
            {"nemesis": 1, "keyed": False, **header},
            *({"index": i, "time": i, **e} for i, e in enumerate(events)),
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


def operation(outcome: str, process: int = 0) -> list[dict[str, object]]:
    event: dict[str, object] = {"process": process, "f": "write", "value": 1}
    return [{"type": "invoke", **event}, {"type": outcome, **event}]


READ: list[dict[str, object]] = [  # without one, nothing observed what was written
    {"type": "invoke", "process": 9, "f": "read", "value": None},
    {"type": "ok", "process": 9, "f": "read", "value": 1},
]


def test_check_says_unknown_by_its_own_exit_code(installed: Installed, write: Write) -> None:
    vacuous = write(*operation("fail"), checks=["linearizable:register"])
    done = installed.run(f"nemesis check {vacuous}")
    assert done.returncode == 2
    assert "UNKNOWN: vacuous: no write succeeded, of 1 invoked" in done.stdout
    good = write(*operation("ok"), *READ, checks=["linearizable:register"])
    assert installed.run(f"nemesis check {good}").returncode == 0
    assert installed.run(f"nemesis check {good} {vacuous}").returncode == 2
    unreadable = installed.run(f"nemesis check nowhere.jsonl {good}")
    assert unreadable.returncode == 254
    assert "nowhere.jsonl: No such file or directory; expected a history.jsonl" in unreadable.stderr
    assert "VALID" in unreadable.stdout  # the other one is judged all the same


def test_check_does_not_pass_a_run_with_findings(installed: Installed, write: Write) -> None:
    finding = {"type": "info", "process": "run", "f": "finding", "value": "n1 exited by itself (code 3)"}
    done = installed.run(
        f"nemesis check {write(*operation('ok'), *READ, finding, checks=['linearizable:register'])}"
    )
    assert done.returncode == 1
    assert "finding: n1 exited by itself (code 3)" in done.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1 is no header; a history starts with a line such as"),
        ("what is this\n", "line 1 is not JSON"),
        ('{"nemesis": 9}\n', "schema 9 is not the one known here (1)"),
        ('{"nemesis": 1}\n{"index": 0}\n', "has no 'type'; every event has index, type, process, f"),
        ('{"nemesis": 1}\n[]\n', "line 2 is list, not an event object"),
        ('{"nemesis": 1}\n', "names no check; choose one: nemesis check --check NAME HISTORY"),
        ('{"nemesis": 1, "checks": ["luck"]}\n', "unknown check 'luck'; there are: bank, "),
    ],
)
def test_check_says_what_is_wrong_with_a_file(
    installed: Installed, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(content)
    done = installed.run(f"nemesis check {path}")
    assert done.returncode == 254
    assert said in done.stderr and "Traceback" not in done.stderr


def test_report_writes_the_page_of_a_history(
    installed: Installed, started: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    kept = tmp_path / "history.jsonl.gz"
    shutil.copy(history(installed, "slow_then_killed"), kept)
    done = installed.run("nemesis report history.jsonl.gz", tmp_path)
    assert (done.returncode, done.stdout) == (0, "history.html\n")
    page = (tmp_path / "history.html").read_text()
    assert "test_register_survives[slow_then_killed]" in page and "SIGKILL" in page
    assert str(installed.home) not in page
    other = installed.run("nemesis report history.jsonl.gz --output pages/one.html", tmp_path)
    assert other.returncode == 0 and 'href="../history.jsonl.gz"' in (tmp_path / "pages/one.html").read_text()
    assert installed.run("nemesis report nowhere.jsonl").returncode == 254


def test_doctor_names_the_runtimes(installed: Installed) -> None:
    done = installed.run("nemesis doctor")
    assert done.returncode == 0, done
    assert "runtime local: works\n" in done.stdout and "xdist: there" in done.stdout
    assert installed.run("python -m harness doctor").stdout == done.stdout


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("nemesis", "the following arguments are required: COMMAND"),
        ("nemesis heal", "invalid choice: 'heal'"),
        ("nemesis check", "the following arguments are required: HISTORY"),
    ],
)
def test_bad_usage_is_not_taken_for_a_verdict(installed: Installed, command: str, said: str) -> None:
    done = installed.run(command)
    assert done.returncode == 254
    assert said in done.stderr and "usage: nemesis" in done.stderr

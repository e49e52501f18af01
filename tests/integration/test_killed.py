"""kill -9 of the test process at random moments: nothing recorded is lost, nothing of ours is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.journal import load

ROOT = Path(__file__).resolve().parents[2]
GONE_WITHIN = 10  # seconds
ZIPPED_WITHIN = 30  # a worker may still be zipping its history
SUITE = """
import pytest
from harness import Plan, assert_linearizable, at, isolate, partition, register_workload
from targets.raft_kv import RaftKV

@pytest.mark.parametrize("number", range(4))
@pytest.mark.chaos(target=RaftKV(nodes=5, audit=True), duration=30)
def test_register(chaos, number):
    plan = Plan(at(0.5, partition(isolate("leader")), lasts=1))
    assert_linearizable(chaos.run(register_workload(total_rate=300), plan))
"""


def await_true(condition: Callable[[], bool], within: float, what: str) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"{what} within {within} s"
        time.sleep(0.05)


def await_gone(base: Path, what: str, within: float = GONE_WITHIN, label: bytes = b"NEMESIS_RUN=") -> None:
    end = time.monotonic() + within
    while left := ours(base, label):
        assert time.monotonic() < end, f"{what}: after {within} s there are\n" + "\n".join(left)
        time.sleep(0.05)


def ours(base: Path, label: bytes = b"NEMESIS_RUN=") -> list[str]:
    """Processes of any run below `base`: its path and the run's label are in command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            seen = (process / "environ").read_bytes() + command
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if label in seen and os.fsencode(base) in seen and state != "Z":
            found.append(f"{process.name}: {command[:200]!r}")
    return found


class Suite:
    """A pytest run in a session and a temporary directory of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory, self.base = directory, directory / "tmp"
        self.base.mkdir(parents=True, exist_ok=True)
        (directory / "test_suite.py").write_text(SUITE)
        (directory / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
        with (directory / "out.txt").open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
                cwd=directory,
                env={**os.environ, "TMPDIR": str(self.base), "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def histories(self) -> list[Path]:
        """Of runs under way, cut short, or (where a worker outlived its controller by a moment) finished."""
        found = self.directory.glob("reports/2*/*/history.jsonl*")
        return sorted(path for path in found if path.suffix != ".part")

    def end(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, sign)
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    continue


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Suite]]:
    suites: list[Suite] = []

    def make(*arguments: str) -> Suite:
        suites.append(Suite(tmp_path, *arguments))
        return suites[-1]

    yield make
    for suite in suites:
        suite.end()


def working(suite: Suite, count: int) -> bool:
    """Whether `count` histories have operations."""
    assert suite.process.poll() is None, (suite.directory / "out.txt").read_text()
    return sum(len(path.read_bytes()) > 20_000 or path.suffix == ".gz" for path in suite.histories()) >= count


def kill(suite: Suite) -> None:
    os.kill(suite.process.pid, signal.SIGKILL)
    suite.process.wait(5)
    await_gone(suite.base, "nodes ran on after their test process was killed")


def applied(directory: Path) -> set[int]:
    """The request ids of every entry that a node says it applied."""
    found: set[int] = set()
    for log in directory.glob("n*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith('{"event":"apply"') or line.startswith('{"event": "apply"'):
                try:
                    entries = json.loads(line)["entries"]
                except ValueError:
                    continue  # torn by the kill of the node
                found |= {request for _, request, _ in entries if request is not None}
    return found


@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "-n2"])
@pytest.mark.parametrize("number", range(10))
def test_killed(start: Callable[..., Suite], workers: int, number: int) -> None:
    rng = random.Random(f"killed/{workers}/{number}")
    suite = start(*([f"-n{workers}"] if workers else []))
    await_true(lambda: working(suite, max(1, workers)), 40, "the clients did not begin")
    moment = time.monotonic() + rng.uniform(0, 1.5)
    await_true(lambda: time.monotonic() >= moment, 5, "the moment did not come")
    kill(suite)
    await_gone(suite.base, "workers ran on after their controller was killed", ZIPPED_WITHIN, b"TMPDIR=")

    killed = suite.histories()
    for path in killed:
        history = load(path)
        known = {op.index for op in history.operations}
        done = applied(path.parent)
        assert done <= known, f"{len(done - known)} applied requests are not in the history"
        if len(history) > 200:
            assert done, "the nodes' logs say nothing, so this test looks at nothing"

    again = start(
        "-k", "test_register and 0", "--nemesis-duration=3", f"--basetemp={suite.directory / 'again'}"
    )
    await_true(lambda: working(again, len(killed) + 1), 40, "the next start did not begin")
    left = {p.name for p in (again.base / f"nemesis-{os.getuid()}" / "runs").iterdir()}
    assert len(left) == 1, f"the next start swept nothing: {left}"
    kill(again)


@pytest.mark.parametrize(
    ("sign", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGTERM, 2)], ids=str
)
def test_interrupted(start: Callable[..., Suite], sign: signal.Signals, workers: int) -> None:
    suite = start(*([f"-n{workers}"] if workers else []))
    await_true(lambda: working(suite, max(1, workers)), 40, "the clients did not begin")
    os.kill(suite.process.pid, sign)  # as a CI job does that is cancelled: the controller only
    assert suite.process.wait(40) == pytest.ExitCode.INTERRUPTED
    await_gone(suite.base, "nodes ran on after their test was interrupted")
    await_gone(suite.base, "workers ran on after their controller was interrupted", ZIPPED_WITHIN, b"TMPDIR=")
    for path in suite.histories():
        history = load(path)
        assert path.suffix == ".gz" and len(history)
        known = {op.index for op in history.operations}
        assert (done := applied(path.parent)) and done <= known
        assert workers or history.phases[-1][1] == "aborted: KeyboardInterrupt"

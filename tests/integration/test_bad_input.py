"""What does not work says what, where and what to do, and leaves nothing running: on real processes."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

NODE = """
import json, os, socketserver, sys

port, how = int(sys.argv[1]), sys.argv[2]
print("node", os.getpid(), how, flush=True)
if how == "dies":
    sys.exit("cannot go on: no licence")
values = {}

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            f, key, value = json.loads(line)
            if f == "write":
                values[key] = value
            self.wfile.write(json.dumps(values.get(key)).encode() + b"\\n")

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

Server(("127.0.0.1", port if how != "elsewhere" else 0), Handler).serve_forever()
"""

SUITE = """
import json, random, socket, sys, threading
from pathlib import Path

import pytest
from harness import *

class StoreClient(Client):
    outcomes = {OSError: "info", ValueError: "info"}

    def open(self, node):
        self.connection = socket.create_connection((node.host, node.port), timeout=0.5)
        self.lines = self.connection.makefile("rb")

    def invoke(self, op):
        self.connection.sendall(json.dumps([op.f, op.key, op.value]).encode() + b"\\n")
        answer = json.loads(self.lines.readline())
        return answer if op.f == "read" else None

    def close(self):
        self.connection.close()

class Store(Target):
    client = StoreClient
    how = "works"
    ready_within = 10.0

    def command(self, node):
        return [sys.executable, "-S", str(Path(__file__).with_name("node.py")), str(node.port), self.how]

def lane(rng):
    for value in range(1000):
        yield Op("write", value, "k")
        yield Op("read", key="k")

work = Workload("register", (Lane(2, lane, 200),), keyed=True, time_limit=0.3)

CASE

@pytest.mark.chaos(target=Service(nodes=NODES), duration=1)
def test_store(chaos):
    assert_linearizable(chaos.run(work, PLAN), "register")
"""
PLAIN = "class Service(Store): pass"


def ours(base: Path) -> list[str]:
    """Processes of runs below `base`, its path being in their environment; zombies run no more."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"NEMESIS_RUN=" in environment and os.fsencode(base) in environment and state != "Z":
            found.append(process.name)
    return found


class Tried:
    """A suite of one test in a directory and a temporary directory of its own."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester, self.base = pytester, pytester.path / "tmp"
        self.base.mkdir()
        monkeypatch.setenv("TMPDIR", str(self.base))
        pytester.makeini("[pytest]\n")
        pytester.makefile(".py", node=NODE)

    def run(self, case: str = PLAIN, plan: str = "Plan()", *options: str, nodes: int = 1) -> pytest.RunResult:
        suite = SUITE.replace("CASE", case).replace("PLAN", plan).replace("NODES", str(nodes))
        self.pytester.makepyfile(test_bad=suite)
        return self.pytester.runpytest_subprocess("--nemesis-runtime=local", "--nemesis-seed=1", *options)

    def logs(self) -> dict[str, str]:
        """What the nodes wrote: shows that they did run."""
        return {path.name: path.read_text() for path in self.pytester.path.glob("reports/2*/*/n*.log")}


@pytest.fixture
def tried(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Tried:
    return Tried(pytester, monkeypatch)


def says(result: pytest.RunResult, *words: str) -> None:
    """Whether the output has all `words`, spread over lines as they may be."""
    text = re.sub(r"\s*\nE?\s*", " ", result.stdout.str())
    assert not [word for word in words if word not in text], result.stdout.str()


def test_a_run_that_works_and_what_a_kept_one_leaves(tried: Tried) -> None:
    """The control of all others: this suite can pass, and `ours` sees what is left running."""
    tried.run().assert_outcomes(passed=1)
    assert ours(tried.base) == []
    result = tried.run(PLAIN.replace("pass", 'panics = ("node",)'), "Plan()", "--nemesis-keep")
    result.assert_outcomes(failed=1)
    says(result, "n1 logged a panic: node", "the cluster keeps running")
    assert len(ours(tried.base)) >= 2
    stop = re.search(r"stop it with: kill (\d+)", result.stdout.str())
    assert stop is not None
    os.kill(int(stop[1]), signal.SIGTERM)
    end = time.monotonic() + 10
    while ours(tried.base):
        assert time.monotonic() < end, f"still running after its kill: {ours(tried.base)}"
        time.sleep(0.02)


TAKES_THE_PORT = """
class Service(Store):
    def command(self, node):
        if node.name == "n1":  # as another program would that came first
            threading.stranger = socket.create_server(("127.0.0.1", node.port))
        return super().command(node)
"""


DIES_AT_START = """
class Service(Store):
    def command(self, node):  # of two that die at once either may be seen first
        *words, how = super().command(node)
        return [*words, "dies" if node.name == "n1" else how]
"""


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            TAKES_THE_PORT,
            ["n1 cannot be started: port main (127.0.0.1:", "is taken by pid", "end that process"],
        ),
        (
            'class Service(Store):\n    how, ready_within = "elsewhere", 0.5',
            [
                "n1 was not ready within 0.5 s (Service.ready_within)",
                "Service.ready(n1) raised ConnectionRefusedError",
                "command: ",
            ],
        ),
        (
            DIES_AT_START,
            [
                "n1 exited with code 1 before it was ready",
                "command: ",
                "n1.log ends:",
                "cannot go on: no licence",
            ],
        ),
        (
            'class Service(Store):\n    def command(self, node):\n        return ["stoer-server"]',
            ["n1 could not be started", "no such program on PATH", "command: stoer-server"],
        ),
        (
            "class Service(Store):\n    def command(self, node):\n        return 'store --port 1'",
            ["Service.command(n1) returned 'store --port 1'; it must be a list of words, the program first"],
        ),
        (
            "class Service(Store):\n    def setup(self, cluster): raise LookupError('no schema.sql')",
            ["Service.setup failed: LookupError: no schema.sql", "n1.log ends:"],
        ),
    ],
    ids=["port taken", "never ready", "dies at start", "command not found", "no list", "setup fails"],
)
def test_a_target_that_does_not_start(tried: Tried, case: str, words: list[str]) -> None:
    result = tried.run(case, nodes=2)
    result.assert_outcomes(failed=1)
    says(result, "ClusterError", *words)
    assert ours(tried.base) == []
    assert not list(tried.base.glob("nemesis-*/runs/*"))


RAISES = """
class Surprising(StoreClient):
    def invoke(self, op):
        if op.value == 7:
            raise LookupError("a surprise")
        return super().invoke(op)

class Service(Store):
    client = Surprising
"""


def test_a_client_that_raises_what_nobody_classified(tried: Tried) -> None:
    result = tried.run(RAISES)
    result.assert_outcomes(failed=1)
    says(
        result,
        "FINDINGS",
        "Surprising raised LookupError: a surprise 1 times",
        "map it to 'fail'",
        "or 'info'",
    )
    assert tried.logs() and ours(tried.base) == []


HANGS = """
class Hanging(StoreClient):
    def invoke(self, op):
        threading.Event().wait(600)

class Service(Store):
    client = Hanging
"""


def test_a_client_that_hangs(tried: Tried) -> None:
    result = tried.run(HANGS)
    result.assert_outcomes(failed=1)
    assert result.duration < 30
    says(result, "UNKNOWN: vacuous: no write succeeded", "check that client and target work at all")
    assert tried.logs() and ours(tried.base) == []


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (
            'Plan(at(0.1, packet_loss("n1", 0.1), lasts=0.1))',
            [
                "Unsupported: the runtime local has no packet_loss, which at(",
                "a proxy of byte streams has no packets",
                "use runtime docker or netns",
            ],
        ),
        (
            'Plan(at(0.1, partition("laeder"), lasts=0.1))',
            ["unknown selector 'laeder'; choose a node (n1, n2), a role (node), one of one, minority,"],
        ),
        (
            'Plan(at(5, kill("n1"), lasts=4))',
            ["needs 9 s, but the run lasts 1 s: give the run 11 s, or leave its duration out"],
        ),
    ],
    ids=["fault not to be had", "unknown selector", "plan longer than the run"],
)
def test_a_plan_that_does_not_fit_starts_nothing(tried: Tried, plan: str, words: list[str]) -> None:
    result = tried.run(PLAIN, plan, nodes=2)
    result.assert_outcomes(failed=1)
    says(result, *words)
    assert tried.logs() == {} and ours(tried.base) == []


def test_a_selector_that_matches_nothing(tried: Tried) -> None:
    result = tried.run(PLAIN, 'Plan(at(0.1, kill("leader"), lasts=0.2), end=0.4)', nodes=2)
    result.assert_outcomes(failed=1)
    says(result, "selector 'leader' matches nothing: none of n1, n2 leads now")
    assert tried.logs() and ours(tried.base) == []


def test_a_history_that_cannot_be_replayed(tried: Tried) -> None:
    tried.pytester.path.joinpath("broken.jsonl").write_text('{"nemesis": 1}\n{"index": 0, "type"\n')
    for name, complaint in (
        ("broken.jsonl", "broken.jsonl: line 2 is not JSON"),
        ("nowhere.jsonl", "nowhere.jsonl: No such file or directory; expected a history.jsonl"),
    ):
        result = tried.run(PLAIN, "Plan()", f"--nemesis-replay={name}")
        result.assert_outcomes(errors=1)
        says(result, complaint)
        assert tried.logs() == {} and ours(tried.base) == []

"""Following logs without loss, polling nodes of which one hangs, and who leads."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import ClusterError, LocalCluster
from harness.cluster.watch import LONGEST, LogFollower, Roles, StatusPoller
from harness.target import Target
from tests.integration.cluster.support import Events, Tiny, running, until


def test_no_line_is_lost_at_10000_a_second(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}

    @dataclass(frozen=True)
    class Chatty(Tiny):
        def event(self, line: str) -> tuple[str, Mapping[str, Any]] | None:
            if line.startswith("line "):
                seen.setdefault("n1", []).append(line)
            return ("done", {}) if line == "line 19999" else None

    events = Events()
    with running(Chatty(nodes=1, options=("--lines=20000",)), tmp_path, events=events) as cluster:
        events.wait("n1", "done", within=20.0)
        assert seen["n1"] == [f"line {number}" for number in range(20_000)]
        assert cluster.logs["n1"].read_text().splitlines()[1:] == seen["n1"]


def test_torn_and_long_and_foreign_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines: list[str] = []
    follower = LogFollower({"n1": path}, lambda name, text: lines.append(text))
    follower.drain("n1")  # not there yet
    with open(path, "ab", buffering=0) as file:
        file.write(b"one\r\ntw")
        follower.drain("n1")
        assert lines == ["one"]
        file.write(b"o\n\xff\xfe\nth")
        follower.drain("n1", ended=True)
        assert lines[1:] == ["two", "\ufffd\ufffd", "th"]
        file.write(b"x" * (LONGEST + 5))
        follower.drain("n1")
        assert [len(line) for line in lines[4:]] == [LONGEST + 5]
    follower.start()
    with open(path, "ab", buffering=0) as file:
        file.write(b"last\nwords")
    follower.stop()
    follower.stop()
    assert lines[5:] == ["last", "words"]


def test_a_node_that_hangs_delays_no_other() -> None:
    free = threading.Event()
    answers: list[str] = []

    def ask(name: str) -> dict[str, str]:
        if name == "n1":
            free.wait(30)
        return {"role": name}

    poller = StatusPoller(
        ["n1", "n2", "n3"], 0.02, ask, lambda name, _: answers.append(name), lambda *_: None
    )
    poller.start()
    until(lambda: answers.count("n2") >= 5 and answers.count("n3") >= 5, 5.0, "answers of the others")
    began = time.monotonic()
    poller.stop(within=0.1)
    assert time.monotonic() - began < 5
    free.set()
    assert "n1" not in answers


def test_roles() -> None:
    roles = Roles()
    assert roles.note("n1", {"role": "leader", "term": 3}, 1.0)
    assert not roles.note("n1", {"role": "leader", "term": 3, "commit": 9}, 2.0)  # only role and term matter
    assert roles.note("n2", {"role": "leader", "term": 2}, 3.0)
    everyone = ("n1", "n2")
    assert roles.leader(everyone, 4.0) == "n1" and roles.leader(("n2",), 4.0) == "n2"
    assert roles.note("n2", {"role": "leader", "term": 4}, 5.0, expires=6.0)
    assert roles.leader(everyone, 6.0) == "n2" and roles.leader(everyone, 6.1) == "n1"
    roles.forget("n1")
    assert roles.leader(everyone, 7.0) is None
    assert roles.note("a", {"role": "leader"}, 1.0) and roles.note("b", {"role": "leader"}, 2.0)
    assert roles.leader(("a", "b"), 3.0) == "b"  # without terms the later claim
    assert roles.note("c", {"lag": 1}, 1.0) and roles.note("c", {"lag": 2}, 2.0)
    assert not roles.note("c", {"lag": 2}, 3.0)


def test_a_broken_panic_pattern(tmp_path: Path) -> None:
    class Odd(Target):
        panics = ("(",)

    with pytest.raises(ClusterError, match=r"Odd.panics: '\(' is no regular expression"):
        LocalCluster(Odd(), run_id="x", logs=tmp_path, on_event=Events())


def test_a_loop_of_panics_does_not_flood(tmp_path: Path) -> None:
    class Panics(Tiny):
        panics = ("^line",)

    events = Events()
    with running(Panics(nodes=1, options=("--lines=500",)), tmp_path, events=events) as cluster:
        until(lambda: "line 499" in cluster.logs["n1"].read_text(), 10.0, "the last")
    assert len(events.of("n1", "panic")) == 100

"""Whatever happens to the test process or its supervisor, nothing of a run outlives it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.cluster import ClusterError
from harness.cluster.sweep import sweep
from tests.integration.cluster.support import Events, Tiny, ask, of_run, running, site_of, until, with_words

REPOSITORY = Path(__file__).parents[3]
GONE_WITHIN = 2.0


@contextmanager
def owner(base: Path, run_id: str, *how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that owns a cluster whose nodes carry the run's id in their command line."""
    command = [sys.executable, "-m", "tests.integration.cluster.owner", str(base), run_id, run_id, *how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def alive(tmp_path: Path, run_id: str) -> list[int]:
    """Everything of the run: by its label, and by command line what shed the label."""
    return sorted({*of_run(tmp_path, run_id), *with_words(run_id)})


def test_killed_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(8)
    base = tmp_path / "base"
    with running(Tiny(nodes=1), tmp_path, "neighbour") as neighbour:
        pid = ask(neighbour.nodes[0])["pid"]
        seen: list[int] = []
        for number in range(8):
            run_id = f"killed-{os.getpid()}-{number}"
            with owner(base, run_id) as process:
                until(lambda run_id=run_id: (base / "runs" / run_id).exists(), 20.0, "its start")  # type: ignore[misc]
                if number:
                    time.sleep(rng.uniform(0, 0.8))  # the moment is what is tested
                else:
                    assert first_line(process).startswith("ready")
                    until(
                        lambda run_id=run_id: len(of_run(tmp_path, run_id)) == 7,  # type: ignore[misc]
                        5.0,
                        "the daemon to shed the label that all others keep",
                    )
                seen.append(len(of_run(tmp_path, run_id)))
                process.kill()
                process.wait()
                took = until(lambda run_id=run_id: not alive(tmp_path, run_id), GONE_WITHIN, "its end")  # type: ignore[misc]
            assert (base / "runs" / run_id).exists()
            swept = swept_of(base)
            assert len(swept) == 1 and f"swept run {run_id}: its owner is gone; 0 process" in swept[0], took
            assert [path.name for path in (base / "runs").iterdir()] == ["neighbour"]
        assert seen[0] == 7, f"how many ran when it was killed: {seen}"
        assert ask(neighbour.nodes[0])["pid"] == pid and sweep(base) == []


def swept_of(base: Path) -> list[str]:
    """What the sweep says: it finds the lock free a moment after the last process is no more to be seen."""
    swept: list[str] = []

    def done() -> bool:
        swept.extend(sweep(base))
        return bool(swept)

    until(done, GONE_WITHIN, "the lock that its owner held")
    return swept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(tmp_path: Path, number: signal.Signals) -> None:
    run_id = f"signal-{os.getpid()}-{number}"
    with owner(tmp_path / "base", run_id) as process:
        assert first_line(process).startswith("ready")
        assert (
            len(alive(tmp_path, run_id)) == 3 + 3 + 3
        )  # nodes, a family of three, owner, supervisor and proxy
        process.send_signal(number)
        process.wait(10)
        until(lambda: not alive(tmp_path, run_id), GONE_WITHIN, "its end")
        cleaned = number == signal.SIGINT  # the others end a Python process where it stands
        assert (tmp_path / "base" / "runs" / run_id).exists() is not cleaned
    sweep(tmp_path / "base")
    assert not list((tmp_path / "base" / "runs").iterdir())


def test_a_fork_that_holds_the_socket_holds_up_nothing(tmp_path: Path) -> None:
    run_id = f"fork-{os.getpid()}"
    with owner(tmp_path / "base", run_id, "fork") as process:
        word, holder = first_line(process).split()
        assert word == "ready"
        try:
            process.kill()
            until(
                lambda: alive(tmp_path, run_id) == [int(holder)], GONE_WITHIN, "the end of all but the fork"
            )
        finally:
            os.kill(int(holder), signal.SIGKILL)


def test_kept(tmp_path: Path) -> None:
    base, run_id = tmp_path / "base", f"kept-{os.getpid()}"
    with owner(base, run_id, "keep") as process:
        words = first_line(process)
        process.wait(10)
    assert words.startswith("the cluster keeps running: n1 127.0.0.1:") and "stop it with: kill " in words
    supervisor = int(words.split()[-1])
    try:
        assert sweep(base) == []  # the supervisor holds the lock now
        assert len(of_run(tmp_path, run_id)) >= 5
    finally:
        os.kill(supervisor, signal.SIGTERM)
    until(lambda: not alive(tmp_path, run_id), GONE_WITHIN, "its end")
    assert len(swept_of(base)) == 1


def test_keep_in_a_process_that_goes_on(tmp_path: Path) -> None:
    with running(Tiny(nodes=1), tmp_path) as cluster:
        words = cluster.stop(keep=True)
        node = cluster.nodes[0]
        assert f"n1 127.0.0.1:{cluster.entry('n1').port} (itself {node.address})" in words
        assert cluster.stop() == "" and ask(node) and ask(cluster.entry("n1"))
        with pytest.raises(ClusterError, match="has been stopped"):
            cluster.kill("n1")
    os.kill(int(words.split()[-1]), signal.SIGTERM)
    until(lambda: not of_run(tmp_path), 10.0, "its end")
    sweep(tmp_path / "base")


def test_a_killed_supervisor(tmp_path: Path) -> None:
    events = Events()
    tag = f"orphans-{os.getpid()}"
    with running(Tiny(nodes=2, only={"n1": ("--family",)}, tag=tag), tmp_path, events=events) as cluster:
        os.kill(site_of(cluster).supervisor.pid, signal.SIGKILL)
        assert events.wait("n1", "exit")["asked"] is False
        assert events.wait("n2", "exit")["asked"] is False
        until(lambda: not of_run(tmp_path), GONE_WITHIN, "the end of all that carry the label")
        with pytest.raises(
            ClusterError, match="the supervisor has ended, and with it every node: was it kil"
        ):
            cluster.kill("n1")
    for pid in with_words(tag):  # the daemon that shed its label was known to the supervisor only
        os.kill(pid, signal.SIGKILL)


def test_the_sweep_ends_what_lost_owner_and_supervisor(tmp_path: Path) -> None:
    base, run_id = tmp_path / "base", f"both-{os.getpid()}"
    with owner(base, run_id) as process:
        assert first_line(process).startswith("ready")
        (supervisor,) = (pid for pid in with_words("supervisor.py") if pid in of_run(tmp_path, run_id))
        os.kill(process.pid, signal.SIGSTOP)  # so that it sees nothing
        os.kill(supervisor, signal.SIGKILL)
        process.kill()
        process.wait()
        until(lambda: len(of_run(tmp_path, run_id)) == 2, 5.0, "the nodes' end: two of the family remain")
        assert "; 2 process(es) killed, " in sweep(base)[0]
    assert not of_run(tmp_path, run_id)
    for pid in with_words(run_id):
        os.kill(pid, signal.SIGKILL)

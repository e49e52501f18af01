"""Locks, ports and the sweep of leftovers, without a cluster."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness import lock
from harness.cluster import ports
from harness.cluster.lock import ClusterError, RunDirectory, gate, private, try_lock
from harness.cluster.ports import Ports
from harness.cluster.sockets import holder
from harness.cluster.supervisor import RUN
from harness.cluster.sweep import end, labelled, sweep
from tests.integration.cluster.support import until


def idle(label: str) -> subprocess.Popen[bytes]:
    """A process that carries a label and outlives its cluster."""
    command = [sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(600)"]
    process = subprocess.Popen(command, env={**os.environ, RUN: label}, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()  # it runs, and so shows its environment
    return process


def reap(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_sweep_takes_only_what_no_owner_holds(tmp_path: Path) -> None:
    with gate(tmp_path):
        dead, living = RunDirectory.claim(tmp_path, "dead"), RunDirectory.claim(tmp_path, "living")
    (dead.path / "data").mkdir()
    dead.release(remove=False)
    left, theirs, other = idle(dead.label), idle(living.label), idle(f"{dead.label}er")
    try:
        assert labelled(dead.label) == [left.pid] and labelled(living.label) == [theirs.pid]
        assert sweep(tmp_path) == [
            f"swept run dead: its owner is gone; 1 process(es) killed, {dead.path} removed"
        ]
        assert left.wait(5) == -signal.SIGKILL
        assert theirs.poll() is None and other.poll() is None
        assert living.path.exists() and not dead.path.exists()
        living.release()
        assert not living.path.exists() and sweep(tmp_path) == []
        assert end(living.label) == 1
    finally:
        reap(left, theirs, other)


def test_a_run_without_its_lock_file(tmp_path: Path) -> None:
    for name in ("gone", "live"):
        private(private(tmp_path / "runs") / name)
    live = idle(str(tmp_path / "runs" / "live"))
    try:
        assert [words.split(":")[0] for words in sweep(tmp_path)] == ["swept run gone"]
        assert live.poll() is None and (tmp_path / "runs" / "live").exists()  # its owner may live
    finally:
        reap(live)


def test_a_sweep_spares_itself_and_its_parents() -> None:
    """A test may run inside a node of another run; that run's end is not for it to bring about."""
    code = "from harness.cluster.sweep import labelled, end; print(labelled('me'), end('me'))"
    environment = {**os.environ, RUN: "me", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout == "[] 0\n", result.stderr


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    with gate(tmp_path):
        run = RunDirectory.claim(tmp_path, "a")
        with pytest.raises(ClusterError, match="run 'a' is running already"):
            RunDirectory.claim(tmp_path, "a")
        for bad in ("", "a/b", "../a", "a b", "x" * 101):
            with pytest.raises(ClusterError, match="cannot name a directory"):
                RunDirectory.claim(tmp_path, bad)
    assert try_lock(run.path / "lock") is None
    run.release()
    run.release()


def test_the_gate_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "GATE_WITHIN", 0.05)
    with (
        gate(tmp_path),
        pytest.raises(ClusterError, match=r"another process has held .*/gate for"),
        gate(tmp_path),
    ):
        pytest.fail("two within the gate")


def test_a_lock_removed_while_it_is_waited_for_counts_no_more(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = try_lock(path)
    assert first is not None
    path.unlink()
    second = try_lock(path)
    assert second is not None  # a new file, a new lock
    os.close(first)
    os.close(second)
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "none", create=False)


def test_the_base_is_private(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir(mode=0o755)
    assert stat.S_IMODE(private(base).stat().st_mode) == 0o700
    link = tmp_path / "link"
    link.symlink_to(base)
    with pytest.raises(ClusterError, match=r"must be a directory of user .* or is a link"):
        private(link)


def test_ports_are_out_of_the_way_and_never_given_twice() -> None:
    low, high = map(int, ports.RANGE.read_text().split())
    given: list[Ports] = []
    threads = [threading.Thread(target=lambda: given.append(Ports(20, start="same"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [number for one in given for number in one.numbers]
    assert len(every) == len(set(every)) == 80
    assert not [number for number in every if low <= number <= high]
    given[0].release()
    given[0].release()
    given[0] = Ports(20, start="same")
    assert not {number for one in given[1:] for number in one.numbers} & set(given[0].numbers)
    for one in given:
        one.release()


def test_ports_that_somebody_holds_are_left_out() -> None:
    trial = Ports(16, start="x")
    within = range(min(trial.numbers), min(trial.numbers) + 16)
    trial.release()
    with (
        socket.create_server(("127.0.0.1", trial_port := within[3])),
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", within[5]))
        one = Ports(5, within=within)
        assert not {within[3], within[5]} & set(one.numbers)
        one.release()
        with pytest.raises(ClusterError, match=r"16 ports are needed, but only \d+ of"):
            Ports(16, within=within)
        assert holder(trial_port).startswith(f"pid {os.getpid()} (")
    one = Ports(5, within=within)  # an attempt that failed holds nothing
    one.release()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("32768 60999", range(10_000, 32_768)),
        ("1024 60999", range(61_000, 65_536)),
        ("9000 65535", range(1_024, 9_000)),
        ("1024 65535", range(10_000, 65_536)),
    ],
)
def test_which_ports_are_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: range
) -> None:
    (tmp_path / "range").write_text(text)
    monkeypatch.setattr(ports, "RANGE", tmp_path / "range")
    assert ports.usable() == expected


def test_end_waits_until_they_are_gone(tmp_path: Path) -> None:
    processes = [idle(str(tmp_path)) for _ in range(3)]
    try:
        assert end(str(tmp_path)) == 3
        until(lambda: all(process.poll() is not None for process in processes), 1.0, "their end")
    finally:
        reap(*processes)

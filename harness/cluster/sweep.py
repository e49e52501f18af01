"""Leftovers of earlier runs: found by their label, removed only when their owner's lock is free."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from harness.cluster.lock import ClusterError, gate, try_lock
from harness.cluster.supervisor import RUN, environ, process

GONE_WITHIN = 5.0  # seconds for killed processes to leave the process table


def labelled(label: str) -> list[int]:
    """Living processes of this user that carry a run's label (`RunDirectory.label`).

    The label is the environment with which a process was *started*; this process and its ancestors are
    left out, since a test may itself run inside a node of another run.
    """
    spared, pid = {os.getpid()}, os.getpid()
    while (entry := process(pid)) is not None and entry.parent > 0:
        spared.add(pid := entry.parent)
    others = (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in spared)
    carrying = [pid for pid in others if _mine(pid) and environ(pid).get(RUN) == label]
    return [pid for pid in carrying if (entry := process(pid)) is not None and entry.state not in "ZX"]


def end(label: str, within: float = GONE_WITHIN) -> int:
    """Kill every process that carries `label` until none is left; how many there were.

    Raises ClusterError naming those that remain after `within` seconds.
    """
    deadline = time.monotonic() + within
    killed: set[int] = set()
    while left := labelled(label):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"processes {sorted(left)} of run {label} do not go away {within:.0f} s after SIGKILL: "
                "look at their state with `ps`; processes in state D wait for a device"
            )
        for pid in left:
            _kill(pid, label)
            killed.add(pid)
        time.sleep(0.002)
    return len(killed)


def sweep(base: Path) -> list[str]:
    """Remove what runs without a living owner left below `base`; one sentence for each.

    A run whose lock is held is never touched; nor is one whose lock file is missing while processes carry
    its label, since its owner may live. Goes on past a failure and raises ClusterError at the end.
    """
    done, failed = list[str](), list[str]()
    with gate(base):
        for directory in sorted((base.resolve() / "runs").glob("*")):
            try:
                if (sentence := _sweep_run(directory)) is not None:
                    done.append(sentence)
            except (ClusterError, OSError) as error:
                failed.append(f"{directory}: {error}")
    if failed:
        raise ClusterError("leftovers of earlier runs could not be removed:\n  " + "\n  ".join(failed))
    return done


def _sweep_run(directory: Path) -> str | None:
    label = str(directory)
    try:
        descriptor = try_lock(directory / "lock", create=False)
    except FileNotFoundError:
        if labelled(label):
            return None
        descriptor = -1
    if descriptor is None:
        return None
    try:
        killed = end(label)
        while directory.exists():
            with contextlib.suppress(FileNotFoundError):  # its owner may be removing it at the same time
                shutil.rmtree(directory)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return f"swept run {directory.name}: its owner is gone; {killed} process(es) killed, {directory} removed"


def _mine(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()
    return False


def _kill(pid: int, label: str) -> None:
    """Kill `pid` if it is still the one that carries the label: its number may have been given away."""
    with contextlib.suppress(ProcessLookupError):
        try:
            handle = os.pidfd_open(pid)
        except (AttributeError, OSError):  # kernel < 5.3
            os.kill(pid, signal.SIGKILL)
            return
        try:
            if environ(pid).get(RUN) == label:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)

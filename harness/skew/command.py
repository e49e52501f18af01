"""The command ``nemesis clocks``: processes of this machine whose clocks are skewed, and their way back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from harness.skew.patcher import Patcher, Process, Refused


def clocks(pids: Sequence[int] = (), *, restore: bool = False) -> int:
    """Print each process with a patched vDSO (or those of `pids`), as far as this user may look.

    A run takes its own patches away. What is listed belongs to a run that goes on, or to one that was killed
    with its supervisor while nodes of its lived on; `restore` sets them right, whoever's they are. Returns
    the exit code, 1 where one could not be restored.
    """
    found = failed = 0
    for process in _skewed(pids):
        with process:
            found += 1
            told = f"pid {process.pid} ({_name(process.pid)}): {_says(process)}"
            if restore:
                done = Patcher().recover({"pids": [process.pid]})["processes"]
                trouble = "; ".join(one["error"] for one in done if one["error"])
                failed += bool(trouble)
                told += f", not restored: {trouble}" if trouble else ", restored"
            print(told)
    if not found:
        which = f"of {', '.join(map(str, pids))} " if pids else ""
        print(f"no process {which}that this user may look at has a skewed clock")
    elif not restore:
        print("to set them right, those of runs that go on, too: nemesis clocks --restore [PID ...]")
    return 1 if failed else 0


def _skewed(pids: Sequence[int]) -> Iterator[Process]:
    for pid in pids or sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid == os.getpid():
            continue
        try:
            process = Process.open(pid)
        except (Refused, OSError):  # another user's, a thread of the kernel, or gone
            continue
        try:
            patched = any(process.jumps())
        except (Refused, OSError):
            patched = False
        if patched:
            yield process
        else:
            process.close()


def _says(process: Process) -> str:
    try:
        spec = process.state()
    except (Refused, OSError) as error:
        return str(error)
    strobe = f", {spec.amplitude:+g} s by turns of {spec.half:g} s" if spec.half else ""
    return f"{spec.offset:+g} s, {spec.rate * 100:+g} %{strobe}"


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "ended"


__all__ = ["clocks"]

"""Which ways to the clocks of processes this machine has, found out by skewing one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from harness.kernel import WITHIN, Trial, tracing
from harness.skew import patcher, shim

# as the nodes' supervisor does it: by a parent, who may where others may not
PARENT = """
import runpy, subprocess, sys
child = subprocess.Popen([sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE)
try:
    patcher = runpy.run_path(sys.argv[1])["Patcher"]()
    patcher.arm("trial", {"pids": [child.pid]})
    patcher.set("trial", {"offset": 5.0})
    (one,) = patcher.verify("trial")["processes"]
    patcher.drop("trial")
    print(one["error"] or f"off by {one['offset_called']}" * (abs(one["offset_called"] - 5) > 0.1), end="")
except Exception as error:
    print(error, end="")
finally:
    child.kill()
"""


def trials() -> Iterator[Trial]:
    """The patcher on a process of our own, then the library."""
    name = "clock faults by vdso"
    if (allowed := tracing()).trouble:
        yield Trial(name, allowed.trouble, allowed.mend)
    else:
        trouble = _patched()
        yield Trial(name, trouble, "x86-64 only so far" if trouble else "")
    name = "clock faults by preload, where nobody may be traced"
    unfit = shim.dynamic(sys.executable)
    yield Trial(name, unfit or "", "programs that are linked dynamically can have it" if unfit else "")


def _patched() -> str:
    """What came of skewing a process and asking for its time: '' where it is as it was to be."""
    argv = [sys.executable, "-ISc", PARENT, patcher.__file__]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=WITHIN, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {WITHIN:g} s"
    return done.stdout or done.stderr.strip()


__all__ = ["trials"]

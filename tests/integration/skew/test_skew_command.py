"""The command ``nemesis clocks``: what a killed patcher left is found, told and undone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from harness.cli import main
from harness.skew import patcher

READ = "import sys, time\nfor _ in sys.stdin: print(time.time(), flush=True)"


@pytest.fixture
def left() -> Iterator[subprocess.Popen[str]]:
    """A process that a patcher skewed by 77 s before it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", READ], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    program = subprocess.Popen(
        [sys.executable, "-I", "-S", patcher.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdin and program.stdout
        for do, how in (("arm", {"who": {"pids": [process.pid]}}), ("set", {"spec": {"offset": 77.0}})):
            program.stdin.write(json.dumps({"id": do, "do": do, "with": {"name": "n", **how}}) + "\n")
            program.stdin.flush()
            if "error" in (answer := json.loads(program.stdout.readline())):
                pytest.skip(answer["error"])
        os.kill(program.pid, signal.SIGKILL)
        yield process
    finally:
        for one in (program, process):
            one.kill()
            one.communicate()


def ahead(process: subprocess.Popen[str]) -> float:
    """How far its clock is ahead of the one here, as it reads it itself."""
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    return float(process.stdout.readline()) - time.time()


def test_what_a_killed_patcher_left_is_told_and_set_right(
    left: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = rf"pid {left.pid} \(python\S*\): \+77 s, \+0 %"
    assert main(["clocks"]) == 0
    assert re.search(line + "$", capsys.readouterr().out, re.MULTILINE)
    assert ahead(left) > 70, "it has only been looked at"
    assert main(["clocks", "--restore", str(left.pid)]) == 0
    assert re.fullmatch(line + ", restored\n", capsys.readouterr().out)
    assert ahead(left) < 1
    assert main(["clocks", str(left.pid)]) == 0
    assert capsys.readouterr().out.startswith(f"no process of {left.pid} that this user may look at")

"""Programs whose clocks are skewed, and what they say of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

HERE = Path(__file__).parent
BILLION = 10**9


class Reading(NamedTuple):
    """A clock read between two readings of the kernel's, nanoseconds."""

    before: int
    got: int
    after: int

    def off(self, low: int, high: int | None = None, slack: int = 0) -> bool:
        """Whether it is off by `low` (to `high`) ns."""
        high = low if high is None else high
        return self.before + low - slack <= self.got <= self.after + high + slack


class Program:
    """clocks.c or clocks.py, started."""

    def __init__(self, command: list[str]) -> None:
        self.started = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        assert self.line() == "ready"

    @property
    def pid(self) -> int:
        return self.started.pid

    def line(self) -> str:
        assert self.started.stdout is not None
        line = self.started.stdout.readline()
        assert line, f"it ended: {self.started.wait()}"
        return line.rstrip("\n")

    def say(self, words: str) -> None:
        assert self.started.stdin is not None
        self.started.stdin.write(words + "\n")

    def ask(self, words: str) -> list[str]:
        self.say(words)
        return list(iter(self.line, ""))

    def read(self) -> dict[str, Reading]:
        rows = [row.split() for row in self.ask("read")]
        return {name: Reading(*map(int, numbers)) for name, *numbers in rows}

    def watch(self, count: int) -> list[Reading]:
        return [Reading(*map(int, row.split())) for row in self.ask(f"watch {count}")]

    def end(self) -> None:
        if self.started.poll() is None:
            self.started.kill()
        self.started.wait()
        for stream in (self.started.stdin, self.started.stdout):
            assert stream is not None
            stream.close()


def compiled(source: str, directory: Path, *options: str) -> str:
    """The path of a C program of this folder, made now; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        missing("a C compiler (cc)")
    path = directory / (Path(source).stem + "".join(options).replace("-", "_"))
    if not path.exists():
        command = [compiler, "-O2", "-pthread", *options, "-o", str(path), str(HERE / source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and "-static" in options:
            missing(f"a static C library ({done.stderr.splitlines()[-1]})")
        assert done.returncode == 0, done.stderr
    return str(path)


def missing(what: str) -> NoReturn:
    """Skip for want of `what`; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"there is no {what}")


def awaited(condition: Callable[[], bool], what: str, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.002)


def state(pid: int) -> str:
    """Of a process: R, S, T, Z, ..., or '' where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def tracer(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", *arguments]

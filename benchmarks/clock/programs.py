"""Programs that tell the time, and those of them that run: probes, which are asked by lines, in programs.

What a probe needs is built here; a container has the same files at the same place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PROBES = Path(__file__).parent / "probes"
PACKAGES = {
    "docker": "docker.io",
    "etcd": "etcd-server",
    "go": "golang-go",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "musl-gcc": "musl-tools",
    "node": "nodejs",
    "redis-benchmark": "redis-tools",
    "setpriv": "util-linux",
}

SHOTS = 3
Sample = tuple[int, int, int]  # ns since the epoch: true time before, time told, true time after


class Lacking(Exception):
    """A program is not on this machine."""


def needed(program: str) -> str:
    """The path of a program. Raises Lacking with the package to install."""
    if found := shutil.which(program):
        return found
    raise Lacking(f"{program} is not on PATH: apt-get install {PACKAGES.get(program, program)}")


@dataclass(frozen=True, slots=True)
class Program:
    """One of the programs: how it is built and started, and how exactly it can tell the time.

    `build` is a compiler and its arguments, `{out}` the directory of what is built; `resolution` in ns; a
    `monotonic` probe gives the monotonic clock beside what it tells, others the wall clock.
    """

    name: str
    argv: Sequence[str]
    build: Sequence[str] = ()
    resolution: int = 1
    monotonic: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    def built(self, out: Path) -> list[str]:
        """Build it once; what starts it. Raises Lacking, CalledProcessError for what does not compile."""
        if self.build and (self.name, out) not in _built:
            compiler, *rest = (word.format(out=out, probes=PROBES) for word in self.build)
            environ = {**os.environ, **self.environ}
            subprocess.run([needed(compiler), *rest], check=True, env=environ)
            _built.add((self.name, out))
        return [word.format(out=out, probes=PROBES) for word in self.argv]


_built: set[tuple[str, Path]] = set()


def _c(name: str, compiler: str, *flags: str) -> Program:
    out = "{out}/" + name.replace(" ", "-")
    return Program(name, [out], [compiler, "-O2", "-pthread", *flags, "-o", out, "{probes}/probe.c"])


_JAVA = ("java", "-XX:+UseSerialGC", "-cp", "{out}", "Probe")
_JAVAC = ("javac", "--release", "11", "-d", "{out}", "{probes}/Probe.java")
_GO = ("go", "build", "-o", "{out}/go", "{probes}/probe.go")
PROGRAMS = {
    program.name: program
    for program in (
        _c("C", "gcc"),
        _c("C static", "gcc", "-static"),
        _c("musl", "musl-gcc"),
        _c("musl static", "musl-gcc", "-static"),
        Program("Go static", ["{out}/go"], _GO, environ={"CGO_ENABLED": "0", "GOFLAGS": ""}),
        Program("Python", ["/usr/bin/python3", "{probes}/probe.py"], monotonic=True),
        Program("JVM", _JAVA, _JAVAC, monotonic=True),
        Program("Node", ["node", "{probes}/probe.js"], resolution=1_000_000, monotonic=True),
    )
}


class Probe:
    """A probe that runs; see probe.c for what it can be asked. It ends with its standard input."""

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str] | None = None, monotonic: bool = False
    ) -> None:
        self.process = subprocess.Popen(
            argv,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self.pid = self.process.pid
        self._monotonic = monotonic
        if (line := self._out.readline()) != "ready\n":
            self.close()
            raise RuntimeError(f"{' '.join(argv)} did not start: it said {line!r}, expected 'ready'")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._in.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._out.close()

    def ask(self, question: str) -> list[str]:
        """The lines of an answer. Raises RuntimeError where the program has ended."""
        try:
            self._in.write(question + "\n")
            self._in.flush()
        except BrokenPipeError:
            raise RuntimeError(f"the program has ended: {self.process.wait(10)}") from None
        lines = []
        while (line := self._out.readline()) != ".\n":
            if not line:
                raise RuntimeError(f"the program has ended: {self.process.wait(10)}")
            lines.append(line.strip())
        return lines

    def samples(self, count: int, gap: float = 0.0) -> list[Sample]:
        """Ask for the time `count` times, `gap` seconds apart, SHOTS in a row each time."""
        offset = wall_offset() if self._monotonic else 0
        lines = self.ask(f"sample {count} {round(gap * 1e9)}")
        return [(int(before) + offset, int(told), int(after) + offset)
                for before, told, after in map(str.split, lines)]  # fmt: skip


def wall_offset() -> int:
    """The wall clock minus the monotonic one, ns: both are slewed alike, only a step changes it."""
    best = (1 << 62, 0)
    for _ in range(200):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        best = min(best, (after - before, wall - (before + after) // 2))
    return best[1]

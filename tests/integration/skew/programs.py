"""Programs that tell the time, built from benchmarks/clock/probes, and one of them running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import pytest

PROBES = Path(__file__).parents[3] / "benchmarks" / "clock" / "probes"
COMPILERS = {
    "c": ("gcc", "-O2", "-pthread"),
    "c-static": ("gcc", "-O2", "-pthread", "-static"),
    "musl": ("musl-gcc", "-O2", "-pthread"),
    "musl-static": ("musl-gcc", "-O2", "-pthread", "-static"),
}
PACKAGES = {"gcc": "gcc", "musl-gcc": "musl-tools", "redis-server": "redis-server", "go": "golang-go"}


def needed(program: str) -> str:
    """The path of a program. Where it is not, the test is skipped; in CI it fails."""
    if found := shutil.which(program):
        return found
    lacking = f"{program} is not on PATH: apt-get install {PACKAGES[program]}"
    if os.environ.get("CI") == "true":
        pytest.fail(lacking)
    pytest.skip(lacking)


def command(name: str, place: Path) -> list[str]:
    """What starts the probe `name`, built in `place` where it must be."""
    if name == "python":
        return [os.path.realpath(sys.executable), str(PROBES / "probe.py")]
    built = place / name
    if name == "go":
        build = [needed("go"), "build", "-o", str(built), str(PROBES / "probe.go")]
        environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
        subprocess.run(build, check=True, capture_output=True, env=environ)
    else:
        compiler, *flags = COMPILERS[name]
        build = [needed(compiler), *flags, "-o", str(built), str(PROBES / "probe.c")]
        subprocess.run(build, check=True, capture_output=True)
    return [str(built)]


class Probe:
    """A probe that runs; see probe.c for what it can be asked."""

    def __init__(self, argv: Iterable[str], environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [*argv], env={**os.environ, **environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self.pid = self.process.pid
        assert self._out.readline() == "ready\n", "the probe did not start"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        self.process.wait(10)
        self._out.close()

    def ask(self, question: str) -> list[str]:
        self._in.write(question + "\n")
        self._in.flush()
        lines = []
        while (line := self._out.readline()) != ".\n":
            assert line, "the probe has ended"
            lines.append(line.strip())
        return lines

    def samples(self, count: int, gap: float = 0) -> list[tuple[int, int, int]]:
        """Before, told, after, each in ns of its own clock."""
        lines = self.ask(f"sample {count} {round(gap * 1e9)}")
        return [(int(before), int(told), int(after)) for before, told, after in map(str.split, lines)]

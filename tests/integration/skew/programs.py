"""The probes of benchmarks/clock, for tests: what is missing here is a skip, and in CI a failure."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.clock import programs
from benchmarks.clock.programs import PROBES, PROGRAMS, Lacking


def needed(program: str) -> str:
    """The path of a program; without it the test ends."""
    try:
        return programs.needed(program)
    except Lacking as reason:
        raise lacking(reason) from reason


def command(name: str, place: Path) -> list[str]:
    """What starts the probe `name`, built in `place` where it must be."""
    if name == "Python":
        return [os.path.realpath(sys.executable), str(PROBES / "probe.py")]
    try:
        return PROGRAMS[name].built(place)
    except Lacking as reason:
        raise lacking(reason) from reason


def lacking(reason: Lacking) -> BaseException:
    if os.environ.get("CI") == "true":
        return pytest.fail.Exception(str(reason))
    return pytest.skip.Exception(str(reason))

"""Programs to skew: a dynamic and a static one in C, and one in Python."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.skew.support import HERE, Program, compiled, python

Start = Callable[[], Program]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if platform.machine() != "x86_64":
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="clocks are skewed on x86-64 only"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("skew")


@pytest.fixture
def started() -> Iterator[Callable[[list[str]], Program]]:
    """Start programs; they are ended with the test."""
    programs: list[Program] = []

    def start(command: list[str]) -> Program:
        programs.append(Program(command))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


@pytest.fixture(params=["c", "static", "python"])
def program(request: pytest.FixtureRequest, built: Path, started: Callable[[list[str]], Program]) -> Program:
    if request.param == "python":
        return started(python(str(HERE / "clocks.py")))
    return started([compiled("clocks.c", built, *(["-static"] if request.param == "static" else []))])


@pytest.fixture
def python_program(started: Callable[[list[str]], Program]) -> Program:
    return started(python(str(HERE / "clocks.py")))


@pytest.fixture
def c_program(built: Path, started: Callable[[list[str]], Program]) -> Program:
    return started([compiled("clocks.c", built)])

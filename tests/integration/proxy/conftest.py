"""Each test of the wire runs against the embedded server and against the real one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.proxy import Server
from harness.proxy.real import NoRealServer, real_server
from tests.integration.proxy.support import Bench, Wire, embedded_command, running


def command_of(kind: str) -> list[str | Path]:
    """How a kind of server is started; where the real one cannot be had this skips, and fails in CI."""
    if kind == "embedded":
        return embedded_command()
    try:
        return [real_server()]
    except NoRealServer as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must compare with the real server: {reason}")
        pytest.skip(str(reason))


@pytest.fixture(scope="session", params=["embedded", "real"])
def command(request: pytest.FixtureRequest) -> list[str | Path]:
    """How to start a server of the kind that the test runs against."""
    return command_of(request.param)


@pytest.fixture(scope="session")
def shared_server(command: list[str | Path]) -> Iterator[Server]:
    with running(command) as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """A running server without proxies."""
    yield shared_server
    for name in shared_server.proxies():
        shared_server.delete(name)


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """The same server's API as raw HTTP."""
    wire = Wire(server)
    yield wire
    wire.close()


@pytest.fixture
def bench(server: Server) -> Iterator[Bench]:
    """A proxy on that server, with both ends of its connections in the test's hands."""
    with ExitStack() as stack:
        yield Bench(server, stack)

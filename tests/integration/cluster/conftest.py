"""What the tests of runtime docker share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from harness.engine import NoEngine, connect
from tests.integration.cluster.engines import there
from tests.integration.cluster.support import until

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def client() -> Iterator[DockerClient]:
    """The engine; where there is none the test is skipped, but fails in CI."""
    try:
        engine = connect()
    except NoEngine as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"runtime docker: {error}")
    yield engine
    engine.close()


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user can reach: those of pytest are closed again by each session that starts."""
    with TemporaryDirectory(prefix="nemesis-tests-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def untouched(client: DockerClient, tmp_path: Path) -> Iterator[None]:
    """The engine has no more after the test than before."""
    before = there(client, tmp_path)
    yield
    until(lambda: not there(client, tmp_path) - before, 10.0, "the end of what the test made")

"""A Docker engine with the base image; without one these tests skip, save in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cluster import SiteCluster
from harness.cluster.docker import DockerCluster
from harness.engine import NoEngine, engine
from harness.images import BASE, find
from harness.target import Target
from tests.integration.cluster.support import Events, running

if TYPE_CHECKING:
    from docker import DockerClient

Start = Callable[..., AbstractContextManager[SiteCluster]]


@pytest.fixture
def client() -> Iterator[DockerClient]:
    reason = f"the engine has no image {BASE.name}"
    try:
        with engine() as client:
            if find(client, BASE.published):
                yield client
                return
    except NoEngine as error:
        reason = str(error)
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def start(client: DockerClient, tmp_path: Path) -> Start:
    """A started cluster on runtime docker: ``start(target)``, ``start(target, events=events)``."""

    def started(target: Target, events: Events | None = None) -> AbstractContextManager[SiteCluster]:
        return running(target, tmp_path, tmp_path.name.replace("_", "-"), events, kind=DockerCluster)

    return started

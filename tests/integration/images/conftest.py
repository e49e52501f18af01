"""The engine, and what else the tests of images need of the machine; without it they skip, save in CI."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from harness.engine import NoEngine, engine
from harness.images import BASE, ImageError, ensure
from tests.integration.cluster.support import until
from tests.integration.proxy.support import free_port

if TYPE_CHECKING:
    from docker import DockerClient

_REGISTRY = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def absent(reason: str) -> NoReturn:
    """Skip; in CI what is missing is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def client() -> Iterator[DockerClient]:
    try:
        with engine() as client:
            yield client
    except NoEngine as error:
        absent(str(error))


@pytest.fixture(scope="session")
def base(client: DockerClient) -> str:
    """The base image's reference."""
    try:
        return ensure(client, BASE).reference
    except ImageError as error:
        absent(str(error))


@pytest.fixture
def name(client: DockerClient) -> Iterator[str]:
    """A name that no other image has; what is called so is removed afterwards."""
    name = f"nemesis/test-{secrets.token_hex(4)}"
    yield name
    for image in client.images.list():
        for tag in image.tags:
            if name in tag:
                client.images.remove(tag, force=True)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A directory from which an image is built in an instant, without a base."""
    root = tmp_path / "context"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (root / "file").write_text("one\n")
    return root


@pytest.fixture(scope="session")
def registry(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of this machine: HOST:PORT, to push to and pull from."""
    program = shutil.which("docker-registry")
    if program is None:
        absent("no docker-registry on PATH to pull from: `sudo apt-get install docker-registry`")
    where, port = tmp_path_factory.mktemp("registry"), free_port()
    (where / "config.yml").write_text(_REGISTRY.format(root=where / "data", port=port))
    with (where / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", where / "config.yml"], stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, (where / "log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5) as answer:
                    return int(answer.status) == 200
            except OSError:
                return False

        until(answers, 20, "the registry answers")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)

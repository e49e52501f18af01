"""The Docker engine: reached, or the reason why not and the command that mends it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import DockerClient

SOCKET = "unix:///var/run/docker.sock"
TIMEOUT = 60.0  # seconds for an answer of the engine; pulls and builds have none


class NoEngine(RuntimeError):
    """No Docker engine can be used here; the text says where it was looked for, why not, what mends it."""


@contextlib.contextmanager
def engine(timeout: float = TIMEOUT) -> Iterator[DockerClient]:
    """A client of the engine that DOCKER_HOST names (by default the local one), closed afterwards.

    Raises NoEngine.
    """
    client = connect(timeout)
    try:
        yield client
    finally:
        client.close()


def connect(timeout: float = TIMEOUT) -> DockerClient:
    """A client of the engine, which has answered; the caller closes it. Raises NoEngine."""
    import docker
    import docker.errors

    try:
        if where().startswith("unix://"):  # first by ourselves: the library leaves such a socket unclosed
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(where().removeprefix("unix://"))
        return docker.from_env(timeout=timeout)  # asks for the engine's version
    except (docker.errors.DockerException, OSError, ValueError) as error:
        raise NoEngine(_reason(error)) from error


def where() -> str:
    """The address at which the engine is looked for."""
    return os.environ.get("DOCKER_HOST") or SOCKET


def _reason(error: BaseException) -> str:
    """Why the engine cannot be used, and what mends it."""
    cause = _cause(error)
    at = f"the Docker engine at {where()}"
    if isinstance(cause, PermissionError):
        return (
            f"{at} refuses this user: `sudo usermod -aG docker $USER`, then log in again (members of the "
            "group docker are as mighty as root)"
        )
    if where().startswith("ssh://"):
        return f"{at} (DOCKER_HOST) does not answer: {cause}: by ssh it needs `pip install 'docker[ssh]'`"
    if os.environ.get("DOCKER_HOST"):
        return f"{at} (DOCKER_HOST) does not answer: {cause}: start it there, or unset DOCKER_HOST"
    if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
        if shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            return f"{at} is not running: `sudo systemctl start docker`, or `sudo dockerd &`"
        return (
            f"there is no Docker engine at {where()}: `sudo apt-get install docker.io`; if it is elsewhere "
            "(rootless, Docker Desktop), set DOCKER_HOST to what `docker context ls` shows"
        )
    return f"{at} does not answer: {cause}"


def _cause(error: BaseException) -> BaseException:
    """What is at the bottom of an error: libraries wrap one into the next, also as arguments."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = [part for part in error.args if isinstance(part, BaseException)]
        error = next(filter(None, (*inner, error.__cause__, error.__context__)), error)
    return error


__all__ = ["NoEngine", "connect", "engine", "where"]

"""Runtimes: a running target, its nodes as processes, the process faults, and what the nodes do.

`choose` says which runtime a run has, and why.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from harness.cluster.local import LocalCluster
from harness.cluster.lock import ClusterError
from harness.cluster.observer import OnEvent
from harness.fabric import Fabric, FaultError
from harness.target import Endpoint, Node, Target

RUNTIMES = ("auto", "docker", "netns", "local")


class Cluster(Protocol):
    """A running target, whatever its runtime (`LocalCluster` says what each verb does)."""

    runtime: ClassVar[str]
    unsupported: ClassVar[Mapping[str, str]]
    target: Target
    nodes: tuple[Node, ...]
    logs: Mapping[str, Path]

    @property
    def fabric(self) -> Fabric: ...
    def start(self) -> None: ...
    def stop(self, keep: bool = False) -> str: ...
    def node(self, name: str) -> Node: ...
    def entry(self, name: str) -> Endpoint: ...
    def alive(self, name: str) -> bool: ...
    def leader(self) -> str | None: ...
    def await_healthy(self, within: float) -> float: ...
    def kill(self, name: str) -> str: ...
    def restart(self, name: str) -> str: ...
    def pause(self, name: str) -> str: ...
    def resume(self, name: str) -> str: ...


class NoRuntime(ClusterError, ValueError):
    """A runtime that does not exist or is not to be had here; the text says which are."""


def choose(name: str, target: Target | None = None) -> tuple[type[LocalCluster], str, str]:
    """The class, name and reason of the runtime that `name` asks for; ``auto`` takes the best for `target`.

    Raises NoRuntime (a ClusterError and ValueError).
    """
    if name not in RUNTIMES:
        raise NoRuntime(f"runtime {name!r} is none of {', '.join(RUNTIMES)}")
    if name in ("docker", "netns"):
        raise NoRuntime(
            f"runtime {name!r} is not in this version: use 'local', or 'auto' for the best there is"
        )
    if sys.platform != "linux":
        raise NoRuntime(
            f"runtime 'local' needs Linux (it proves faults by /proc), and this is {sys.platform}"
        )
    why = "asked for" if name == "local" else "docker and netns are not in this version"
    return LocalCluster, "local", why


__all__ = [
    "RUNTIMES",
    "Cluster",
    "ClusterError",
    "FaultError",
    "LocalCluster",
    "NoRuntime",
    "OnEvent",
    "choose",
]

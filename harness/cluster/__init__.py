"""Runtimes: a running target, its nodes as processes, the process faults, and what the nodes do.

`harness.runtime.choose` says which runtime a run has, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from harness.cluster.base import SiteCluster
from harness.cluster.local import LocalCluster
from harness.cluster.lock import ClusterError
from harness.cluster.netns import NetnsCluster
from harness.cluster.observer import OnEvent
from harness.fabric import Effect, Fabric, FaultError
from harness.skew.patcher import Spec
from harness.target import Endpoint, Node, Target


class Cluster(Protocol):
    """A running target, whatever its runtime (`SiteCluster` says what each verb does)."""

    runtime: ClassVar[str]
    target: Target
    nodes: tuple[Node, ...]
    logs: Mapping[str, Path]

    @property
    def unsupported(self) -> Mapping[str, str]: ...
    @property
    def fabric(self) -> Fabric: ...
    def prepare(self, progress: Callable[[str], None]) -> None: ...
    def start(self) -> None: ...
    def stop(self, keep: bool = False) -> str: ...
    def node(self, name: str) -> Node: ...
    @property
    def notes(self) -> Sequence[str]: ...
    def entry(self, name: str) -> Endpoint: ...
    def alive(self, name: str) -> bool: ...
    def leader(self) -> str | None: ...
    def await_healthy(self, within: float) -> float: ...
    def kill(self, name: str) -> str: ...
    def restart(self, name: str) -> str: ...
    def pause(self, name: str) -> str: ...
    def resume(self, name: str) -> str: ...
    def take(self, resource: str, name: str, amount: float) -> str: ...
    def give_back(self, resource: str, name: str) -> str: ...
    def skew(self, name: str, spec: Spec) -> Effect: ...
    def set_right(self, name: str) -> Effect: ...


def runtime_class(runtime: str) -> type[SiteCluster]:
    """The class of a runtime that `harness.runtime.choose` named."""
    if runtime == "docker":
        from harness.cluster.docker import DockerCluster

        return DockerCluster
    return {cluster.runtime: cluster for cluster in (NetnsCluster, LocalCluster)}[runtime]


__all__ = [
    "Cluster",
    "ClusterError",
    "FaultError",
    "LocalCluster",
    "NetnsCluster",
    "OnEvent",
    "SiteCluster",
    "runtime_class",
]

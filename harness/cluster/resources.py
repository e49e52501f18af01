"""What of a machine's resources can be taken from a node, and what a runtime says that cannot do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

CPU, MEMORY, DISK = "cpu_limit", "memory_limit", "disk_full"
RESOURCES: Mapping[str, str] = {CPU: "cgroup cpu", MEMORY: "cgroup memory", DISK: "full tmpfs"}
"""The kinds of faults on resources, with their mechanisms."""

NO_CONTAINERS: Mapping[str, str] = {
    **dict.fromkeys(
        (CPU, MEMORY), "its nodes are processes without a cgroup of their own; use runtime docker"
    ),
    DISK: "its nodes' data lies on this machine's own disk; use runtime docker, and set `disk` in the target",
}
"""Why a runtime without containers has none of them."""


@dataclass(frozen=True, slots=True)
class Given:
    """What was seen when a node got something back; `died`: it had ended by then, or is about to."""

    said: str
    died: bool = False


class Taken(Protocol):
    """One resource of one node, while a fault is in force on it."""

    def take(self) -> str:
        """Begin; what proves it. Raises FaultError or ClusterError, and leaves nothing in force then."""
        ...

    def give_back(self) -> Given:
        """End; what was observed meanwhile, and what proves the end. Raises as `take`."""
        ...

    def close(self) -> None:
        """Let go of what is held here, since the node is about to be removed; idempotent."""
        ...


__all__ = ["CPU", "DISK", "MEMORY", "NO_CONTAINERS", "RESOURCES", "Given", "Taken"]

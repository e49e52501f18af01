"""Which nodes have which faults: what of a node one fault holds, no other can have at the same time."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.cluster.resources import CPU, DISK, MEMORY
from harness.faults import CLOCK_FAULTS
from harness.resolved import Resolved

PROCESS = "process"
PARTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("kill", "pause", "restart"), (PROCESS,)),
    CPU: ("cpu",),
    MEMORY: ("memory", PROCESS),  # it may end the node, which then can be neither killed nor paused
    DISK: ("disk",),
    **dict.fromkeys(CLOCK_FAULTS, ("clock",)),
}
"""The parts of a node that a kind of fault holds; faults on links hold none, and unite."""


class Claims:
    """What is held now, by node and part; whoever calls takes care that calls take turns."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], str] = {}

    def hinder(self, kind: str, node: str) -> str:
        """Why a fault of `kind` cannot have `node` now, as words; '' where it can."""
        for part in PARTS.get(kind, ()):
            if holder := self._held.get((node, part)):
                down = holder in ("kill", "pause", "restart")
                return f"{node} is down already" if down else f"{node} is under a {holder} already"
        return ""

    def hindered(self, fault: Resolved) -> str:
        """Why `fault` cannot have its nodes now, as words; '' where it can."""
        return ", ".join(why for node in fault.nodes if (why := self.hinder(fault.kind, node)))

    def free(self, kind: str, nodes: Collection[str]) -> list[str]:
        """Those of `nodes` that a fault of `kind` can have."""
        return [node for node in nodes if not self.hinder(kind, node)]

    def take(self, fault: Resolved) -> None:
        """Hold what `fault` needs of its nodes."""
        for part in PARTS.get(fault.kind, ()):
            self._held.update(dict.fromkeys(((node, part) for node in fault.nodes), fault.kind))

    def release(self, fault: Resolved) -> None:
        """Let go of it; idempotent."""
        for part in PARTS.get(fault.kind, ()):
            for node in fault.nodes:
                self._held.pop((node, part), None)


__all__ = ["PARTS", "Claims"]

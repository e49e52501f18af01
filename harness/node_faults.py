"""Faults on nodes: on their processes, and on what these need of the machine."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from harness.fault_base import Fault
from harness.resolved import Resolved
from harness.selector import Scene, Selector, must_select, read_selector, resolve
from harness.value import Reader


class NodeFault(Fault):
    """Base of the faults on nodes: they have `selector`, and a phrase for what happens to the nodes."""

    selector: Selector

    parts: ClassVar[Mapping[str, Reader]] = {"selector": read_selector}

    def __post_init__(self) -> None:
        must_select(self, "selector")

    def _phrase(self) -> str:
        raise NotImplementedError

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        aimed = resolve(self.selector, scene, rng)
        return self._resolved(aimed, f"{', '.join(aimed)} {self._phrase()}")


@dataclass(frozen=True, repr=False)
class kill(NodeFault):
    """Nodes are killed (SIGKILL) and, when it has lasted, started again with their data.

    Without ``lasts`` they stay down until the run heals, before its final reads.
    """

    selector: Selector

    def _phrase(self) -> str:
        return "killed"


@dataclass(frozen=True, repr=False)
class pause(NodeFault):
    """Nodes stand still (SIGSTOP) with their connections open, and go on when it has lasted."""

    selector: Selector

    def _phrase(self) -> str:
        return "paused"


@dataclass(frozen=True, repr=False)
class restart(NodeFault):
    """Nodes are killed and started again at once: over in an instant, unlike `kill`, which lasts."""

    selector: Selector

    @property
    def instant(self) -> bool:
        return True

    def _phrase(self) -> str:
        return "killed and started again"


@dataclass(frozen=True, repr=False)
class cpu_limit(NodeFault):
    """Nodes have `cpus` CPUs at most, at least 0.01, however many threads want to run; runtime docker.

    Differs from `pause` in that they go on, in bursts: each tenth of a second until their share is used up.
    """

    selector: Selector
    cpus: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("cpus", "CPUs", least=0.01)

    def _phrase(self) -> str:
        return f"limited to {self.cpus:g} CPUs"


@dataclass(frozen=True, repr=False)
class memory_limit(NodeFault):
    """Nodes have `bytes` bytes of memory at most, at least 6 MiB, and no swap; runtime docker.

    One that needs more is killed by the kernel, as the plan's doing, and started again when it is healed.
    """

    selector: Selector
    bytes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._count("bytes", "bytes", least=6 << 20)  # what the Docker engine takes

    def _phrase(self) -> str:
        return f"limited to {self.bytes} bytes of memory"


@dataclass(frozen=True, repr=False)
class disk_full(NodeFault):
    """No byte is left on the nodes' data volumes: writes that need one fail with ENOSPC; runtime docker.

    It needs volumes of bounded size, which `Target.disk` asks for. What nodes set free meanwhile is taken,
    too; room inside of blocks that their files have already stays theirs, as on any full disk.
    """

    selector: Selector

    def _phrase(self) -> str:
        return "without a free byte on the data volume"


__all__ = ["cpu_limit", "disk_full", "kill", "memory_limit", "pause", "restart"]

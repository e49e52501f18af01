"""Faults on the links between nodes: partitions, and what can be done to the streams of bytes on them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.fault_base import Fault, LinkFault, Links, client_entries, in_order
from harness.resolved import Resolved
from harness.selector import Scene, Selector
from harness.topology import Topology, isolate, links, read_topology, words
from harness.value import PlanError, Reader


@dataclass(frozen=True, repr=False, init=False)
class partition(Fault):
    """Nodes hear nothing from others, as `topology` divides them; a bare selector means `isolate`.

    Clients still reach every node, or no stale read is ever seen; ``clients=True`` (with `isolate` only) cuts
    the isolated nodes from their clients, too.

    >>> partition("leader") == partition(isolate("leader"))
    True
    """

    topology: Topology
    clients: bool = False

    parts: ClassVar[Mapping[str, Reader]] = {"topology": read_topology}

    def __init__(self, topology: Topology | Selector, clients: bool = False) -> None:
        self._set(topology=topology if isinstance(topology, Topology) else None, clients=clients)
        if not isinstance(topology, Topology):
            self._set(topology=_isolated(topology))
        self._flag("clients")
        if clients and not isinstance(self.topology, isolate):
            raise PlanError(
                f"partition: clients=True cuts isolated nodes from clients: use isolate, not {topology!r}"
            )

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        if isinstance(self.topology, isolate):
            chosen = self.topology.chosen(scene, rng)
            grudge = self.topology.around(chosen, scene)
        else:
            grudge = self.topology.grudge(scene, rng)
            chosen = scene.ordered({node for pair in links(grudge) for node in pair})
        entries = client_entries(chosen) if self.clients else ()
        what = words(grudge, scene) + (f"; {', '.join(chosen)} cut from clients" if entries else "")
        return self._resolved(chosen, what, links=(*in_order(links(grudge), scene), *entries), grudge=grudge)


@dataclass(frozen=True, repr=False)
class latency(LinkFault):
    """Bytes arrive `delay` seconds later, give or take `jitter`; their order stays. At least a millisecond.

    >>> latency("leader", 0.2, jitter=0.05)
    latency('leader', 0.2, jitter=0.05)
    """

    selector: Links
    delay: float
    jitter: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("delay", "seconds", least=0.001)
        self._number("jitter", "seconds (no more than the delay)", most=self.delay)

    def _phrase(self) -> str:
        return f"slowed by {self.delay:g} s" + (f" ± {self.jitter:g} s" if self.jitter else "")


@dataclass(frozen=True, repr=False)
class bandwidth(LinkFault):
    """Each link carries at most `rate` bytes a second, at least 1000, each direction for itself."""

    selector: Links
    rate: int
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._count("rate", "bytes a second", least=1000)

    def _phrase(self) -> str:
        return f"limited to {self.rate} bytes/s"


@dataclass(frozen=True, repr=False)
class reset_peer(LinkFault):
    """Connections are reset (RST) `timeout` seconds after their next byte; new ones, too, while it lasts."""

    selector: Links
    timeout: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("timeout", "seconds")

    def _phrase(self) -> str:
        return f"reset {self.timeout:g} s after the next byte" if self.timeout else "reset at the next byte"


@dataclass(frozen=True, repr=False)
class slicer(LinkFault):
    """Bytes arrive in pieces of `average_size` ± `size_variation` bytes, `delay` seconds apart."""

    selector: Links
    average_size: int
    size_variation: int = 0
    delay: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._count("average_size", "bytes", least=1)
        self._count("size_variation", "bytes")
        if self.size_variation >= self.average_size:
            raise self._fail("size_variation", f"less than average_size, which is {self.average_size}")
        self._number("delay", "seconds")

    def _phrase(self) -> str:
        size = f"{self.average_size}" + (f" ± {self.size_variation}" if self.size_variation else "")
        return f"sliced into pieces of {size} bytes" + (f", {self.delay:g} s apart" if self.delay else "")


@dataclass(frozen=True, repr=False)
class limit_data(LinkFault):
    """A connection is closed once `bytes` bytes have passed in a direction."""

    selector: Links
    bytes: int
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._count("bytes", "bytes")

    def _phrase(self) -> str:
        return f"closed after {self.bytes} bytes"


@dataclass(frozen=True, repr=False)
class slow_close(LinkFault):
    """A connection's close arrives `delay` seconds late, at least a millisecond."""

    selector: Links
    delay: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("delay", "seconds", least=0.001)

    def _phrase(self) -> str:
        return f"close {self.delay:g} s late"


@dataclass(frozen=True, repr=False)
class timeout(LinkFault):
    """Bytes vanish, and a connection is closed after `timeout` seconds without any; 0: never closed.

    Differs from `partition`, which loses no byte of a connection: these are gone after the heal, too, and
    healing closes the connections.
    """

    selector: Links
    timeout: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("timeout", "seconds (0: for ever)")
        if 0 < self.timeout < 0.001:
            raise self._fail("timeout", "0 (for ever) or at least 0.001 seconds")

    def _phrase(self) -> str:
        closing = f" and close after {self.timeout:g} s without any" if self.timeout else ""
        return "swallow every byte" + closing


def _isolated(selector: Any) -> isolate:
    try:
        return isolate(selector)
    except PlanError as error:
        raise PlanError(f"partition: {selector!r} is neither a topology nor a selector; {error}") from None


__all__ = ["bandwidth", "latency", "limit_data", "partition", "reset_peer", "slicer", "slow_close", "timeout"]

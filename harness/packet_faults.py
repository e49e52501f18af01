"""Faults on the packets that nodes send each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.fault_base import LinkFault, Links
from harness.selector import CLIENT, link
from harness.value import PlanError


class PacketFault(LinkFault):
    """Base of the faults on the packets that nodes send each other; the runtime ``local`` has no packets.

    Those of clients come through the host's own stack, and are left alone.
    """

    clients: ClassVar[bool] = False  # type: ignore[misc]

    def _check_links(self) -> None:
        super()._check_links()
        if isinstance(self.selector, link) and CLIENT in (self.selector.source, self.selector.target):
            raise PlanError(
                f"{type(self).__name__}: the packets of clients come through the host's own stack; name "
                "nodes, or use latency, bandwidth or partition, which clients have, too"
            )


@dataclass(frozen=True, repr=False)
class packet_loss(PacketFault):
    """Each packet is lost with `probability`, 0.002 to 1: a rarer thing could not be shown to happen."""

    selector: Links
    probability: float

    def __post_init__(self) -> None:
        self._check_links()
        self._number("probability", "a probability", least=0.002, most=1.0)

    def _phrase(self) -> str:
        return f"lose {self.probability * 100:g} % of their packets"


@dataclass(frozen=True, repr=False)
class packet_delay(PacketFault):
    """Packets arrive `delay` seconds later, give or take `jitter`, in order.

    Differs from `latency` in that it acts on packets of all protocols, and on TCP's own acknowledgements.
    """

    selector: Links
    delay: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self._check_links()
        self._number("delay", "seconds", least=0.001)
        self._number("jitter", "seconds (no more than the delay)", most=self.delay)

    def _phrase(self) -> str:
        return f"delay packets by {self.delay:g} s" + (f" ± {self.jitter:g} s" if self.jitter else "")


@dataclass(frozen=True, repr=False)
class packet_reorder(PacketFault):
    """Packets are held for `delay` seconds; with `probability` one passes at once, and overtakes others."""

    selector: Links
    probability: float
    delay: float = 0.01

    def __post_init__(self) -> None:
        self._check_links()
        self._number("probability", "a probability", least=0.002, most=1.0)
        self._number("delay", "seconds", least=0.001)

    def _phrase(self) -> str:
        return f"reorder {self.probability * 100:g} % of their packets"


@dataclass(frozen=True, repr=False)
class packet_duplicate(PacketFault):
    """Each packet arrives twice with `probability`."""

    selector: Links
    probability: float

    def __post_init__(self) -> None:
        self._check_links()
        self._number("probability", "a probability", least=0.002, most=1.0)

    def _phrase(self) -> str:
        return f"duplicate {self.probability * 100:g} % of their packets"


@dataclass(frozen=True, repr=False)
class packet_corrupt(PacketFault):
    """A bit of a packet is flipped with `probability`; the receiver's checksum finds it: it is dropped."""

    selector: Links
    probability: float

    def __post_init__(self) -> None:
        self._check_links()
        self._number("probability", "a probability", least=0.002, most=1.0)

    def _phrase(self) -> str:
        return f"corrupt {self.probability * 100:g} % of their packets"


@dataclass(frozen=True, repr=False)
class packet_rate(PacketFault):
    """Each link carries at most `rate` bytes a second, headers included, each direction for itself.

    Differs from `bandwidth` in that all connections of a link share it.
    """

    selector: Links
    rate: int

    def __post_init__(self) -> None:
        self._check_links()
        self._count("rate", "bytes a second", least=1000)

    def _phrase(self) -> str:
        return f"carry {self.rate} bytes/s of packets"


__all__ = [
    "packet_corrupt",
    "packet_delay",
    "packet_duplicate",
    "packet_loss",
    "packet_rate",
    "packet_reorder",
]

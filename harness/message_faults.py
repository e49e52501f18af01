"""Faults on whole messages, on links whose framing is known."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from harness.fault_base import LinkFault, Links
from harness.resolved import Resolved
from harness.selector import Scene


class MessageFault(LinkFault):
    """Base of the faults on whole messages, whose choices have a seed of their own, drawn with the nodes.

    They need a target that declares how its messages are framed (`Target.framing`), and act on every
    connection opened since its start, from the next message on.
    """

    def _check_share(self, most: float = 1.0) -> None:
        self._check_links()
        self._number("probability", "a probability", least=0.002, most=most)

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        resolved = super().resolve(scene, rng)
        seed = 1 + rng.getrandbits(32)
        return replace(resolved, parameters={**resolved.parameters, "seed": seed})


@dataclass(frozen=True, repr=False)
class message_drop(MessageFault):
    """Each message is lost with `probability`, 0.002 to 1; its connection stays.

    No network does this to TCP: a relay, a queue or a full buffer inside a system does.
    """

    selector: Links
    probability: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share()

    def _phrase(self) -> str:
        return f"lose {self.probability * 100:g} % of their messages"


@dataclass(frozen=True, repr=False)
class message_duplicate(MessageFault):
    """Each message arrives twice in a row with `probability`, 0.002 to 1."""

    selector: Links
    probability: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share()

    def _phrase(self) -> str:
        return f"deliver {self.probability * 100:g} % of their messages twice"


@dataclass(frozen=True, repr=False)
class message_corrupt(MessageFault):
    """In each message one bit of its payload is flipped with `probability`, 0.002 to 1; its end stays."""

    selector: Links
    probability: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share()

    def _phrase(self) -> str:
        return f"flip a bit in {self.probability * 100:g} % of their messages"


@dataclass(frozen=True, repr=False)
class message_reorder(MessageFault):
    """Each message is held for `hold` seconds with `probability`, 0.002 to 0.9, while the others pass it."""

    selector: Links
    probability: float
    hold: float = 0.05
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share(0.9)
        self._number("hold", "seconds", least=0.001, most=3600.0)

    def _phrase(self) -> str:
        return f"hold {self.probability * 100:g} % of their messages for {self.hold:g} s"


@dataclass(frozen=True, repr=False)
class message_delay(MessageFault):
    """Each message arrives `delay` seconds later, give or take `jitter`, whole and in order.

    Differs from `latency` in that each message has a delay of its own, and none arrives in parts.
    """

    selector: Links
    delay: float
    jitter: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("delay", "seconds", least=0.001, most=3600.0)
        self._number("jitter", "seconds (no more than the delay)", most=self.delay)

    def _phrase(self) -> str:
        spread = f" ± {self.jitter:g} s" if self.jitter else ""
        return f"deliver messages {self.delay:g} s{spread} late"

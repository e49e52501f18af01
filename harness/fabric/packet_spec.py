"""What becomes of the packets of one ordered pair of nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

Addresses = tuple[str, str]  # an ordered pair: source and destination, IPv4
VERBS = ("delay", "jitter", "loss", "reorder", "duplicate", "corrupt", "rate")
_LONGEST = 3600.0
_LOWEST = 100.0


@dataclass(frozen=True, slots=True)
class PacketSpec:
    """A packet fault: `delay` ± `jitter` seconds (uniform, in order), `rate` bytes a second.

    The others are probabilities, each packet's own: to be lost; to pass without the delay, and so overtake
    (`reorder`); to arrive twice; to have one bit behind its IP header flipped, which checksums then find.
    Raises ValueError for a number that makes no sense.

    >>> PacketSpec(delay=0.05, jitter=0.06)
    Traceback (most recent call last):
    ValueError: jitter=0.06 exceeds delay=0.05: no packet arrives before it is sent
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "rate" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{field.name}={value!r}: expected a finite number")
        for name in ("delay", "jitter"):
            if not 0 <= getattr(self, name) <= _LONGEST:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected seconds of 0 to {_LONGEST:g}")
        for name in ("loss", "reorder", "duplicate", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a probability of 0 to 1")
        if self.rate is not None and self.rate < _LOWEST:
            raise ValueError(
                f"rate={self.rate!r}: expected {_LOWEST:g} bytes a second or more, or None; no byte is a cut"
            )
        if self.jitter > self.delay:
            raise ValueError(
                f"jitter={self.jitter:g} exceeds delay={self.delay:g}: no packet arrives before it is sent"
            )
        if self.reorder and not self.delay:
            raise ValueError("reorder needs a delay: a packet overtakes those that are held")

    @property
    def verbs(self) -> tuple[str, ...]:
        """Names of the verbs that the spec asks for."""
        return tuple(verb for verb in VERBS if getattr(self, verb))


NOTHING = PacketSpec()


def merged(specs: Iterable[PacketSpec]) -> PacketSpec:
    """All faults of one pair at once: delays add, probabilities are independent, the lowest rate wins.

    >>> merged([PacketSpec(delay=0.1, loss=0.5), PacketSpec(delay=0.2, loss=0.5, rate=9000)])
    PacketSpec(delay=0.3..., jitter=0.0, loss=0.75, reorder=0.0, duplicate=0.0, corrupt=0.0, rate=9000)
    """
    all_of = tuple(specs)

    def any_of(name: str) -> float:
        return 1 - math.prod(1 - getattr(spec, name) for spec in all_of) if len(all_of) != 1 else alone(name)

    def alone(name: str) -> float:
        return float(getattr(all_of[0], name))  # 1-(1-p) is not p in binary

    return PacketSpec(
        delay=min(_LONGEST, sum(spec.delay for spec in all_of)),
        jitter=min(_LONGEST, sum(spec.jitter for spec in all_of)),
        loss=any_of("loss"),
        reorder=any_of("reorder"),
        duplicate=any_of("duplicate"),
        corrupt=any_of("corrupt"),
        rate=min((spec.rate for spec in all_of if spec.rate is not None), default=None),
    )

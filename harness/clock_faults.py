"""Faults on nodes' clocks: what their programs read; this machine's own clock is never touched."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from harness.node_faults import NodeFault
from harness.resolved import Resolved
from harness.selector import Scene, Selector

LEAST = 0.001
"""Seconds; a smaller offset could not be told from what asking for the time takes."""
MOST = 3.2e8
"""Seconds, about ten years."""


class ClockFault(NodeFault):
    """Base of the faults on clocks: all processes of a node read another time, at once, until it is healed.

    They act on wall clocks; with ``monotonic=True`` on monotonic ones, too, which no operating system does.
    What waits inside the kernel (a timer set to an absolute time) and what is stamped there (a file's time)
    keep the true time.
    """

    monotonic: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self._flag("monotonic")

    def _signed(self, name: str, unit: str, *, least: float, most: float) -> None:
        """Make field `name` a float whose size is in [least, most]."""
        value = getattr(self, name)
        expected = f"{unit}, of a size of at least {least:g} and at most {most:g}, forward or back (negative)"
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= abs(value) <= most:
            raise self._fail(name, expected)
        self._set(**{name: float(value)})

    @property
    def _which(self) -> str:
        return ", monotonic ones too" if self.monotonic else ""


@dataclass(frozen=True, repr=False)
class clock_jump(ClockFault):
    """Clocks are `offset` seconds ahead, or behind where it is negative, and go on at their true rate.

    >>> clock_jump("leader", -2.0)
    clock_jump('leader', -2)
    """

    selector: Selector
    offset: float
    monotonic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._signed("offset", "seconds", least=LEAST, most=MOST)

    def _phrase(self) -> str:
        return f"{_off(self.offset)}{self._which}"


@dataclass(frozen=True, repr=False)
class clock_drift(ClockFault):
    """Clocks go faster by the share `rate`, or slower where it is negative: 0.02 gains 20 ms in a second.

    Differs from `clock_jump` in that they are right at its beginning; at its end they are set right at once.
    """

    selector: Selector
    rate: float
    monotonic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._signed("rate", "seconds in a second", least=1e-4, most=0.9)

    def _phrase(self) -> str:
        way = "fast" if self.rate > 0 else "slow"
        return f"with clocks that go {abs(self.rate) * 100:g} % too {way}{self._which}"


@dataclass(frozen=True, repr=False)
class clock_strobe(ClockFault):
    """Clocks are alternately true and `offset` seconds off, changing every `period` seconds (at least 1 ms).

    All nodes that it is aimed at change at the same moments.
    """

    selector: Selector
    offset: float
    period: float
    monotonic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._signed("offset", "seconds", least=LEAST, most=MOST)
        self._number("period", "seconds", least=0.001, most=3600.0)

    def _phrase(self) -> str:
        turns = f"by turns {_off(self.offset)} and true, each for {self.period:g} s"
        return f"{turns}{self._which}"


@dataclass(frozen=True, repr=False)
class clock_scramble(ClockFault):
    """Clocks are off by up to `within` seconds, ahead or behind, each its own way: drawn with the nodes."""

    selector: Selector
    within: float
    monotonic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("within", "seconds", least=10 * LEAST, most=MOST)

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        resolved = super().resolve(scene, rng)
        drawn = {node: _drawn(self.within, rng) for node in resolved.nodes}
        what = ", ".join(f"{node} {_off(offset)}" for node, offset in drawn.items()) + self._which
        return replace(resolved, what=what, parameters={**resolved.parameters, **drawn})

    def _phrase(self) -> str:
        return f"off by up to {self.within:g} s"


def _drawn(within: float, rng: random.Random) -> float:
    """An offset that can be shown, to the microsecond."""
    size = rng.uniform(LEAST, within)
    return round(size if rng.random() < 0.5 else -size, 6)


def _off(offset: float) -> str:
    return f"{abs(offset):g} s {'ahead' if offset > 0 else 'behind'}"


__all__ = ["ClockFault", "clock_drift", "clock_jump", "clock_scramble", "clock_strobe"]

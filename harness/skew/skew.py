"""What a node's clocks are to be: the value that plan, patcher and proof share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

NANOSECONDS = 1_000_000_000


def now() -> tuple[int, int]:
    """CLOCK_REALTIME and CLOCK_MONOTONIC at one moment, in ns."""
    while True:
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after - before < 50_000:
            return wall, (before + after) // 2


@dataclass(frozen=True, slots=True)
class Skew:
    """How far clocks are off: `offset` seconds, and `rate` seconds more for each second since `origin`; and
    `amplitude` seconds more in every second stretch of `period` seconds since then (0: none).

    `origin` is a moment as `now` gives it, common to all that are to change at the same moments. Wall clocks
    only, or with `monotonic` both kinds.
    """

    offset: float = 0.0
    rate: float = 0.0
    amplitude: float = 0.0
    period: float = 0.0
    monotonic: bool = False
    origin: tuple[int, int] = field(default_factory=now)

    @property
    def none(self) -> bool:
        """Whether clocks are right."""
        return not (self.offset or self.rate or self.amplitude)

    def at(self, moment: int) -> float:
        """The offset at `moment`, in ns of the true wall clock, but for what strobes."""
        return self.offset + self.rate * (moment - self.origin[0]) / NANOSECONDS

    def fits(self, observed: float, since: int, until: int, tolerance: float) -> bool:
        """Whether an offset `observed` at some moment between two is right, give or take `tolerance`."""
        low, high = sorted((self.at(since), self.at(until)))
        steps = (0.0, self.amplitude) if self.period else (0.0,)
        return any(low + step - tolerance <= observed <= high + step + tolerance for step in steps)

    def json(self) -> dict[str, Any]:
        """As the patcher takes it."""
        return {
            "offset": self.offset,
            "rate": self.rate,
            "half": self.period,
            "amplitude": self.amplitude,
            "clocks": ["wall", "monotonic"] if self.monotonic else ["wall"],
            "origin": list(self.origin),
        }

    def words(self) -> str:
        """In words, for messages."""
        if self.period:
            return f"0 and {self.amplitude:+g} s by turns of {self.period:g} s"
        return f"{self.rate * 100:+g} %" if self.rate else f"{self.offset:+g} s"


__all__ = ["NANOSECONDS", "Skew", "now"]

"""What is asked of a clock, and how far what is told is from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.clock.programs import Sample
from harness.skew.patcher import Spec, skewed

REALTIME = time.CLOCK_REALTIME


@dataclass(frozen=True, slots=True)
class Asked:
    """A skew, and how often the time is asked for meanwhile, so many seconds apart at least."""

    name: str
    spec: Spec
    count: int = 500
    gap: float = 0.0002


SKEWS = (
    Asked("+500 ms", Spec(offset=0.5)),
    Asked("-300 ms", Spec(offset=-0.3)),
    Asked("drift 2 %", Spec(rate=0.02), 1000, 0.002),
    Asked("strobe 200 ms / 10 ms", Spec(half=0.01, amplitude=0.2), 1000, 0.0005),
)
TRUE = Asked("restored", Spec())


@dataclass(frozen=True, slots=True)
class Seen:
    """What was told: how far off the middle of the two readings of true time it was, ns, sorted.

    `wrong` counts what cannot have been right: told is not what the skew makes of any time between the two
    readings. `trip` is the 99th percentile of the time between the readings.
    """

    observed: str
    errors: Sequence[float]
    wrong: int
    trip: int

    def quantile(self, share: float) -> float:
        """In seconds."""
        return quantile(self.errors, share) / 1e9


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def seen(asked: Asked, slot: bytes | None, samples: Sequence[Sample], resolution: int, slack: int) -> Seen:
    """Judge samples by what a slot of parameters makes of the true time; no slot: nothing."""
    errors, wrong, levels = [], 0, list[float]()
    for before, told, after in samples:
        middle = (before + after) // 2
        half = round(asked.spec.half * 1e9) or after
        moments = (before, middle, after, min(before + half, after))  # what a strobe may be in between
        offsets = {due(slot, at) - at for at in moments}
        errors.append(min(abs(told - due(slot, at)) for at in moments if asked.spec.half or at == middle))
        reach = resolution + slack + round((after - before) * abs(asked.spec.rate))
        wrong += not any(before + off - reach < told < after + off + reach for off in offsets)
        levels.append((told - middle) / 1e6)
    trips = sorted(after - before for before, _, after in samples)
    span = (samples[-1][0] - samples[0][0]) / 1e9
    return Seen(words(asked, levels, span), sorted(errors), wrong, trips[len(trips) * 99 // 100])


def due(slot: bytes | None, true: int) -> int:
    return true if slot is None else skewed(slot, REALTIME, true)


def words(asked: Asked, levels: Sequence[float], span: float) -> str:
    """What was observed: ms."""
    if asked.spec.rate:
        return f"{levels[-1] - levels[0]:.3f} ms in {span:.3f} s"
    if asked.spec.half:
        half = asked.spec.amplitude * 500
        low, high = (sorted(x for x in levels if (x > half) is up) for up in (False, True))
        middles = [f"{part[len(part) // 2]:.3f}" if part else "never" for part in (low, high)]
        return f"{' / '.join(middles)} ms"
    return f"{sorted(levels)[len(levels) // 2]:.3f} ms"

"""What is asked of a clock, and how far what is told is from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.clock.programs import SHOTS, Sample
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

    Of shots in a row the closest counts: the others say less, for their readings lie further apart. `wrong`
    counts what cannot have been right, of all: told is not what the skew makes of any time between the two
    readings. `trip` is the 99th percentile of the time between the readings that count.
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
    shots = [samples[n : n + SHOTS] for n in range(0, len(samples), SHOTS)]
    closest = [min(shot, key=lambda sample: sample[2] - sample[0]) for shot in shots]
    errors = sorted(
        min(abs(told - due(slot, at)) for at in moments(asked, before, after))
        for before, told, after in closest
    )
    wrong = 0
    for before, told, after in samples:
        offsets = {due(slot, at) - at for at in (before, after, *moments(asked, before, after))}
        reach = resolution + slack + round((after - before) * abs(asked.spec.rate))
        wrong += not any(before + off - reach < told < after + off + reach for off in offsets)
    trips = sorted(after - before for before, _, after in closest)
    levels = [(told - (before + after) // 2) / 1e6 for before, told, after in closest]
    span = (closest[-1][0] - closest[0][0]) / 1e9
    return Seen(words(asked, levels, span), errors, wrong, trips[len(trips) * 99 // 100])


def moments(asked: Asked, before: int, after: int) -> tuple[int, ...]:
    """When the time may have been told: in the middle; with a strobe, on either side of an edge too."""
    if not asked.spec.half:
        return ((before + after) // 2,)
    return before, (before + after) // 2, after, min(before + round(asked.spec.half * 1e9), after)


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

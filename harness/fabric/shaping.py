"""Faults that change when bytes arrive, and in which parts: latency, rate, slices."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from harness.fabric import FaultError, FaultUnsupported, Pair
from harness.fabric.probe import FRAME
from harness.fabric.proof import Prover
from harness.fabric.verb import CHUNK, LIMIT, Toxics
from harness.fabric.watch import (
    SLACK,
    SURELY_NOT,
    TOLERANCE,
    Expected,
    Tries,
    Watch,
    show,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Bytes are delayed by `latency` ± `jitter` ms, and pass at `rate` KB/s on each connection."""

    latency: int = 0
    jitter: int = 0
    rate: int | None = None

    @property
    def mechanism(self) -> str:
        return " + ".join(f"toxiproxy {kind}" for kind, _ in self.toxics)

    @property
    def toxics(self) -> Toxics:
        delay: Toxics = (("latency", {"latency": self.latency, "jitter": self.jitter}),)
        rate: Toxics = (("bandwidth", {"rate": self.rate}),) if self.rate else ()
        return (delay if self.latency or self.jitter else ()) + rate

    @property
    def low(self) -> float:
        return max(self.latency - self.jitter, 0) / 1e3

    @property
    def high(self) -> float:
        return (self.latency + self.jitter) / 1e3 + (8 * FRAME / (self.rate * 1e3) if self.rate else 0.0)

    @property
    def _seen(self) -> float:
        """Seconds of delay that each flow must show once: a third of what it may be, where it may be none."""
        return self.low if self.low >= 0.001 else (self.latency + self.jitter) / 3e3

    def expect(self, name: str, before: Expected) -> Expected:
        rates = [rate for rate in (before.rate, self.rate and self.rate * 1e3) if rate]
        return replace(
            before, low=before.low + self.low, high=before.high + self.high, rate=min(rates, default=None)
        )

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        seen = prover.verify(pairs, delay=self._seen)
        return "; ".join(filter(None, (seen, self._throttled(prover, pairs) if self.rate else "")))

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        slack = min(SLACK, self._seen / 2) if self.latency or self.jitter else SLACK
        seen = prover.verify(pairs, slack=slack)
        if self.low < 0.001 and self.jitter:
            self._steady(prover, pairs)
        return "; ".join(filter(None, (seen, self._unthrottled(prover, pairs) if self.rate else "")))

    def _steady(self, prover: Prover, pairs: Collection[Pair]) -> None:
        """Jitter alone often delays by nothing: only many frames in a row show that it is gone."""
        watches = prover.free(prover.live_watches(pairs))
        limit = (self.latency + self.jitter) / 8e3
        tries = Tries(3)
        while watches:
            late, rounds = dict.fromkeys((w.flow for w in watches), 0), Tries(40)
            while rounds.again(prover.prompt(limit)):  # counts those in which the control was quick
                prover.exchange(watches)
                for watch in watches:
                    late[watch.flow] += prover.prompt(limit) and watch.flow.took > watch.expected.high + limit
            watches = [w for w in watches if late[w.flow] > 10]  # with the jitter it would be 17 or 18
            if watches and not tries.again(True):
                raise FaultError(
                    f"{watches[0]} is still delayed now and then, as by the jitter of {self.jitter} ms"
                )

    def _burst(self) -> tuple[int, float]:
        """Bytes, and the seconds they take at the asked rate: less time where the rate is high."""
        rate = (self.rate or 1) * 1e3
        seconds = 0.2 if rate <= 2e6 else 0.1 if rate <= 2e7 else 0.03
        return max(int(rate * seconds), FRAME), max(int(rate * seconds), FRAME) / rate

    def _throttled(self, prover: Prover, pairs: Collection[Pair]) -> str:
        size, _ = self._burst()
        watches = prover.samples(pairs)
        least = math.inf
        group = max(1, int(8e6 / size))  # so many bursts at once do not slow each other
        for first in range(0, len(watches), group):
            least = min(least, self._throttles(prover, watches[first : first + group], size))
        prover.discard(watches)
        rate = f"{size / least / 1e3:.0f} kB/s at most ({self.rate} asked)"
        return f"bursts of {size} bytes crossed at {rate}" if watches else ""

    def _throttles(self, prover: Prover, missing: Sequence[Watch], size: int) -> float:
        """Least time that `size` bytes took: about the asked one, while the control took less than half of
        it.

        Toxiproxy makes up for slices that were late, so that one burst may be quick: a longer one is not.
        """
        slow, quick, least, unit = Tries(), Tries(), math.inf, size
        while missing:
            control = prover.burst(missing, size)
            asked = {w.flow: size / self._effective(w) for w in missing}
            short = [w for w in missing if w.flow.took < 0.9 * asked[w.flow]]
            fair = control < min(asked.values()) / 2
            if fair:
                good = [
                    w for w in missing
                    if w not in short
                    # a piece of a sliced stream waits by a timer of its own, each a little late
                    and (w.expected.sliced or w.flow.took <= 1.5 * asked[w.flow] + w.expected.high + SLACK)
                ]  # fmt: skip
                least = min([least, *(w.flow.took * unit / size for w in good)])
                missing = [w for w in missing if w not in good]
            if missing and not (quick if short else slow).again(bool(short) or fair):
                one = (short or missing)[0]
                raise FaultError(
                    f"{size} bytes took {one.flow.took * 1e3:.1f} ms on {one}, expected about"
                    f" {asked[one.flow] * 1e3:.0f} ms, and {control * 1e3:.1f} ms on the control path,"
                    f" without limit"
                )
            if short:
                size = min(2 * size, max(int((self.rate or 1) * 1e3), unit), LIMIT)
        return least

    def _unthrottled(self, prover: Prover, pairs: Collection[Pair]) -> str:
        """Long bursts, twice each: what a server saved up while it was late would not last for them."""
        size, seconds = 3 * self._burst()[0], 3 * self._burst()[1]
        watches = [w for w in prover.free(prover.live_watches(pairs)) if not w.expected.rate]
        group = 4 if (self.rate or 0) <= 2000 else 1
        for first in range(0, len(watches), group):
            some, good, tries = watches[first : first + group], 0, Tries()
            while good < 2:
                fair = prover.burst(some, size) < seconds / 4
                late = [w for w in some if w.flow.took > seconds / 2 + w.expected.high]
                good = 0 if late else good + 1
                if late and not tries.again(fair):
                    raise FaultError(
                        f"{size} bytes still take {late[0].flow.took * 1e3:.0f} ms on {late[0]},"
                        f" as at {self.rate} kB/s"
                    )
        return f"{size} bytes take less than {seconds / 2 * 1e3:.0f} ms" if watches else ""

    def _effective(self, watch: Watch) -> float:
        """Bytes per second on a link that other faults may limit, too."""
        return min(watch.expected.rate or math.inf, (self.rate or math.inf) * 1e3)


@dataclass(frozen=True, slots=True)
class Slicer:
    """Chunks come in slices of `average_size` ± `size_variation` bytes, `delay` microseconds apart."""

    average_size: int
    size_variation: int = 0
    delay: int = 0
    mechanism = "toxiproxy slicer"

    def __post_init__(self) -> None:
        if not (self.average_size >= 1 and 0 <= self.size_variation <= self.average_size and self.delay >= 0):
            raise ValueError(
                f"slicer average_size={self.average_size} size_variation={self.size_variation}"
                f" delay={self.delay}:"
                " expected average_size >= 1, size_variation from 0 to average_size, delay >= 0"
                " (microseconds)"
            )
        if self.average_size + self.size_variation >= CHUNK:
            raise FaultUnsupported(
                f"slicer: toxiproxy reads {CHUNK} bytes at once, so slices of up to"
                f" {self.average_size + self.size_variation} bytes cut nothing; ask for less"
            )

    @property
    def toxics(self) -> Toxics:
        sizes = {
            "average_size": self.average_size,
            "size_variation": self.size_variation,
            "delay": self.delay,
        }
        return (("slicer", sizes),)

    @property
    def _sample(self) -> tuple[int, int, float]:
        """Bytes to send, the least number of slices they make, and the least time these take in seconds."""
        largest = self.average_size + self.size_variation
        size = max(FRAME, min(3 * largest + 1, CHUNK), largest + 1)
        slices = -(-size // largest)
        return size, slices, (slices - 1) * self.delay / 1e6

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, sliced=True)

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        others = prover.verify(())
        size, slices, seconds = self._sample
        watches = prover.samples(pairs)
        missing, fewest = watches, 1 << 30
        tries = Tries(SURELY_NOT)
        while True:
            before = {w.flow: w.flow.segments() for w in missing}
            control = prover.burst(missing, size, within=8 * size / self.average_size * self.delay / 1e6)
            for watch in missing:
                if watch.flow.took < seconds - TOLERANCE:
                    raise FaultError(
                        f"{size} bytes crossed {watch} in {watch.flow.took * 1e3:.1f} ms,"
                        f" expected {slices} slices in {seconds * 1e3:g} ms at least"
                    )
            parts = {w.flow: w.flow.segments() - before[w.flow] for w in missing}
            fewest = min([fewest, *(n for n in parts.values() if n >= slices)])
            clear = seconds >= 0.004 and control < seconds / 2  # the time alone shows it
            missing = [w for w in missing if parts[w.flow] < slices and not clear]
            if not missing:
                break
            if not tries.again(True):
                raise FaultError(
                    f"{size} bytes crossed {missing[0]} in {parts[missing[0].flow]} parts, expected"
                    f" {slices} or more"
                )
        prover.discard(watches)
        took = f", {seconds * 1e3:g} ms at least" if seconds else ""
        return f"{size} bytes came in {slices} parts or more{took} on {show(pairs)}; {others}"

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        size, slices, seconds = self._sample
        missing = [w for w in prover.free(prover.live_watches(pairs)) if not w.expected.sliced]
        tries = Tries(SURELY_NOT)
        while missing:
            before = {w.flow: w.flow.segments() for w in missing}
            fair = prover.burst(missing, size) < (seconds / 4 or math.inf)
            missing = [
                w for w in missing
                if w.flow.segments() - before[w.flow] >= slices
                or (seconds and w.flow.took > seconds / 2 + w.expected.high)
            ]  # fmt: skip
            if missing and not tries.again(fair):
                raise FaultError(
                    f"{size} bytes still come in {slices} parts or more, or slowly, on {missing[0]}"
                )
        return f"{size} bytes came in fewer parts than {slices}; {prover.verify(pairs)}"

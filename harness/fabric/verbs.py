"""The faults of a Toxiproxy fabric: the toxics each is made of, what they do to a pair, how traffic proves it."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from harness.fabric import FaultError, FaultUnsupported, Pair
from harness.fabric.probe import FRAME
from harness.fabric.proof import (
    BOUND,
    SLACK,
    SURELY_NOT,
    TOLERANCE,
    WINDOW,
    Expected,
    Prover,
    Tries,
    Watch,
    ended,
    show,
)

Toxics = tuple[tuple[str, Mapping[str, int]], ...]  # type and attributes, in the order of the chain
FOR_EVER = 24 * 3600 * 1000  # ms
CHUNK = 32 * 1024  # bytes that Toxiproxy reads, and so slices, at once
LIMIT = 32 << 20  # bytes that a proof sends in one go


class Verb(Protocol):
    """One kind of fault on the links of a Toxiproxy server."""

    @property
    def mechanism(self) -> str: ...

    @property
    def toxics(self) -> Toxics: ...

    def expect(self, name: str, before: Expected) -> Expected:
        """What becomes of a pair of which `before` was expected, under this fault called `name`."""
        ...

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        """See the effect on `pairs`; `opened` are connections from before it. Raises FaultError."""
        ...

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        """See that the effect is over, as far as no other fault holds the pair. Raises FaultError."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes and closes stall and are delivered after heal.

    The close is held by a stage behind the one that holds the bytes: Toxiproxy interrupts the last stage when
    one is added behind it, and that before one removed, and an interrupted bandwidth stage lets its chunk go.
    """

    mechanism = "stall"
    toxics: Toxics = (("bandwidth", {"rate": 0}), ("slow_close", {"delay": FOR_EVER}))

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, held=(*before.held, name))

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        return prover.verify(pairs, closing=opened)

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        settled = prover.settle()
        return "; ".join(filter(None, (prover.verify(pairs), settled)))


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
        """Least time that `size` bytes took: about the asked one, while the control took less than half of it.

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
                    if w not in short and w.flow.took <= 1.5 * asked[w.flow] + w.expected.high + SLACK
                ]  # fmt: skip
                least = min([least, *(w.flow.took * unit / size for w in good)])
                missing = [w for w in missing if w not in good]
            if missing and not (quick if short else slow).again(bool(short) or fair):
                one = (short or missing)[0]
                raise FaultError(
                    f"{size} bytes took {one.flow.took * 1e3:.1f} ms on {one}, expected about"
                    f" {asked[one.flow] * 1e3:.0f} ms, and {control * 1e3:.1f} ms on the control path, without limit"
                )
            if short:
                size = min(2 * size, max(int((self.rate or 1) * 1e3), unit), LIMIT)
        return least

    def _unthrottled(self, prover: Prover, pairs: Collection[Pair]) -> str:
        size, seconds = self._burst()
        watches = [w for w in prover.free(prover.live_watches(pairs)) if not w.expected.rate]
        tries, late = Tries(), watches
        while late:
            watches, late, fair = late, [], True
            for first in range(0, len(watches), 4):
                some = watches[first : first + 4]
                fair = prover.burst(some, size) < seconds / 4 and fair
                late += [w for w in some if w.flow.took > seconds / 2 + w.expected.high]
            if late and not tries.again(fair):
                raise FaultError(
                    f"{size} bytes still take {late[0].flow.took * 1e3:.0f} ms on {late[0]}, as at {self.rate} kB/s"
                )
        return f"{size} bytes take less than {seconds / 2 * 1e3:.0f} ms" if tries.count or watches else ""

    def _effective(self, watch: Watch) -> float:
        """Bytes per second on a link that other faults may limit, too."""
        return min(watch.expected.rate or math.inf, (self.rate or math.inf) * 1e3)


@dataclass(frozen=True, slots=True)
class SlowClose:
    """The end of a stream comes `delay` ms late."""

    delay: int
    mechanism = "toxiproxy slow_close"

    @property
    def toxics(self) -> Toxics:
        return (("slow_close", {"delay": self.delay}),)

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, close=before.close + self.delay / 1e3)

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        seen = prover.verify(pairs, closing=opened)
        if not prover.free(opened):
            return seen
        late = min(self.delay / 1e3, BOUND)
        return f"no close came within {late:g} s (live and new connections); {seen}"

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        return prover.verify(pairs, close_slack=min(SLACK, self.delay / 2e3)) + "; closes are prompt"


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
                f"slicer average_size={self.average_size} size_variation={self.size_variation} delay={self.delay}:"
                " expected average_size >= 1, size_variation from 0 to average_size, delay >= 0 (microseconds)"
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
                    f"{size} bytes crossed {missing[0]} in {parts[missing[0].flow]} parts, expected {slices} or more"
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


class _Breaking:
    """What the verbs that break connections have in common: live and new connections, observed until they end."""

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, lossy=(*before.lossy, name))

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        return prover.verify(pairs)

    def observed(
        self, prover: Prover, pairs: Collection[Pair], size: int, within: float, still: float
    ) -> list[Watch]:
        """Send `size` bytes on every channel of `pairs`; wait until all ended, or for `still` seconds."""
        free = [p for p in pairs if not (set(prover.expect(p).held) - set(prover.expect(p).lossy))]
        channels = prover.channels(free)
        every = prover.living(channels) + prover.watches(channels, "new")
        group = max(1, LIMIT // max(size, 1))
        for first in range(0, len(every), group):
            some = every[first : first + group]
            for watch in some:
                watch.flow.send(size)
            if still:
                prover.attend(lambda: True, 0, at_least=still)
            else:
                prover.attend(partial(ended, [w.flow for w in some]), within)
        for watch in every:
            watch.wire.close()
        return every


@dataclass(frozen=True, slots=True)
class Reset(_Breaking):
    """A connection is reset `timeout` ms after its first bytes; one from before the fault is closed."""

    timeout: int = 0
    mechanism = "toxiproxy reset_peer"

    @property
    def toxics(self) -> Toxics:
        return (("reset_peer", {"timeout": self.timeout}),)

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        others, seconds = prover.verify(()), self.timeout / 1e3
        long = seconds > BOUND
        start = time.monotonic_ns()
        for watch in self.observed(prover, pairs, FRAME, seconds, BOUND if long else 0):
            if watch.flow.bytes != watch.before:
                raise FaultError(f"bytes crossed {watch}, expected a reset instead")
            if long:
                continue
            if not watch.flow.ended:
                raise FaultError(f"{watch} was not closed, expected a reset after {seconds:g} s")
            if (after := (watch.flow.ended - start) / 1e9) < seconds - TOLERANCE:
                raise FaultError(f"{watch} was closed after {after:.3f} s, expected {seconds:g} s at least")
            if watch.where == "new" and not (watch.wire.up.reset or watch.wire.down.reset):
                raise FaultError(f"{watch} was closed, but not reset: an orderly end came instead of a RST")
        seen = (
            f"nothing crossed for {BOUND:g} s"
            if long
            else f"RST on new, close on live connections after {seconds:g} s"
        )
        return f"{seen} on {show(pairs)}; {others}"


@dataclass(frozen=True, slots=True)
class Limit(_Breaking):
    """A connection is closed when `bytes` bytes have crossed it."""

    bytes: int = 0
    mechanism = "toxiproxy limit_data"

    def __post_init__(self) -> None:
        if self.bytes > LIMIT:
            raise FaultUnsupported(
                f"limit_data of {self.bytes} bytes cannot be proved by traffic: up to {LIMIT} bytes are sent to see it act"
            )

    @property
    def toxics(self) -> Toxics:
        return (("limit_data", {"bytes": self.bytes}),)

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        others = prover.verify(())
        for watch in self.observed(prover, pairs, self.bytes + 1000, self._seconds(prover, pairs), 0):
            if not watch.flow.ended or watch.flow.bytes - watch.before != self.bytes:
                raise FaultError(
                    f"{watch.flow.bytes - watch.before} bytes crossed {watch}, which was"
                    f" {'' if watch.flow.ended else 'not '}closed; expected a close after {self.bytes} bytes"
                )
        return (
            f"closed after exactly {self.bytes} bytes (live and new connections) on {show(pairs)}; {others}"
        )

    def _seconds(self, prover: Prover, pairs: Collection[Pair]) -> float:
        """How long the bytes may take under the other faults."""
        rates = [e.rate for e in map(prover.expect, pairs) if e.rate]
        delay = max(prover.expect(p).high for p in pairs)
        return delay + (2 * self.bytes / min(rates) if rates else 0.0)

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        seen = prover.verify(pairs)
        watches = [w for w in prover.samples(pairs) if w.where == "new"]
        for first in range(0, len(watches), group := max(1, LIMIT // (self.bytes + 1000))):
            prover.burst(watches[first : first + group], self.bytes + 1000)
        prover.discard(watches)
        return f"more than {self.bytes} bytes cross; {seen}" if watches else seen


@dataclass(frozen=True, slots=True)
class Timeout(_Breaking):
    """Bytes vanish; a connection is closed after `timeout` ms without any (0: never), and when the fault is healed."""

    timeout: int = 0
    mechanism = "toxiproxy timeout"

    @property
    def toxics(self) -> Toxics:
        return (("timeout", {"timeout": self.timeout}),)

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, held=(*before.held, name), lossy=(*before.lossy, name))

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        others, seconds = prover.verify(()), self.timeout / 1e3
        closes = 0 < seconds <= BOUND
        start = time.monotonic_ns()
        for watch in self.observed(prover, pairs, FRAME, seconds, 0 if closes else WINDOW):
            if watch.flow.bytes != watch.before:
                raise FaultError(f"bytes crossed {watch}, expected them to vanish")
            if closes and not watch.flow.ended:
                raise FaultError(
                    f"{watch} was not closed, expected a close after {seconds:g} s without bytes"
                )
            if watch.where == "new" and watch.flow.ended:
                after = (watch.flow.ended - start) / 1e9
                if not seconds or after < seconds - TOLERANCE:
                    raise FaultError(f"{watch} was closed after {after:.3f} s, expected {seconds or 'never'}")
        ends = f", closed after {seconds:g} s" if closes else ""
        return f"no byte crossed {show(pairs)}{ends} (live and new connections); {others}"


STREAM: Mapping[str, type[Any]] = {
    "reset_peer": Reset,
    "slicer": Slicer,
    "limit_data": Limit,
    "slow_close": SlowClose,
    "timeout": Timeout,
}


def stream_verb(kind: str, attributes: Mapping[str, int]) -> Verb:
    """The verb of Toxiproxy's toxic `kind`; ValueError for an unknown one, or for attributes it does not have."""
    if kind not in STREAM:
        raise ValueError(
            f"stream type {kind!r} is none of {', '.join(sorted(STREAM))} (latency and bandwidth are `shape`, cuts `cut`)"
        )
    fields = STREAM[kind].__dataclass_fields__
    for key, value in attributes.items():
        if key not in fields:
            raise ValueError(f"{kind} has no attribute {key!r}; it has {', '.join(fields)}")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise ValueError(
                f"{kind} {key}={value!r}: expected an integer of 0 or more, in the units of the wire"
            )
    try:
        verb: Verb = STREAM[kind](**attributes)
    except TypeError as error:
        raise ValueError(f"{kind}: {error}; it takes {', '.join(fields)}") from None
    return verb

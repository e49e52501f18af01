"""Faults that break connections, or lose what they carry: reset, limit, timeout."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from harness.fabric import FaultError, FaultUnsupported, Pair
from harness.fabric.probe import FRAME
from harness.fabric.proof import Prover
from harness.fabric.verb import LIMIT, Toxics
from harness.fabric.watch import (
    BOUND,
    TOLERANCE,
    WINDOW,
    Expected,
    Watch,
    ended,
    show,
)


class _Breaking:
    """What the verbs that break connections have in common: live and new connections, observed until they
    end.
    """

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, lossy=(*before.lossy, name))

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        return prover.verify(pairs)

    def observed(
        self, prover: Prover, pairs: Collection[Pair], size: int, within: float, still: float
    ) -> list[Watch]:
        """Send `size` bytes on every channel of `pairs`; wait until all ended, or for `still` seconds."""
        # where another fault breaks connections, too, which of them did cannot be told
        free = [
            p
            for p in pairs
            if not (set(prover.expect(p).held) - set(prover.expect(p).lossy))
            and len(set(prover.lossy(p))) == 1
        ]
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
                f"limit_data of {self.bytes} bytes cannot be proved by traffic: up to {LIMIT} bytes are"
                f" sent to see it act"
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
    """Bytes vanish; a connection is closed after `timeout` ms without any (0: never), and when the fault
    is healed.
    """

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

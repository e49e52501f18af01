"""Faults that hold what crosses a link, and lose nothing: bytes and closes, or closes alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from harness.fabric import Pair
from harness.fabric.proof import Prover
from harness.fabric.verb import FOR_EVER, Toxics
from harness.fabric.watch import (
    BOUND,
    SLACK,
    Expected,
    Watch,
)


class AnyCut:
    """A cut, of whatever mechanism: nothing crosses, so its effect is seen whatever else is in force."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Cut(AnyCut):
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

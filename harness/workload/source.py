"""Where processes draw their operations from: a generator shared by several, at a rate or until it is ok."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator

from harness.target import Op


class Source:
    """One generator drawn from by several processes, with the rate they share."""

    def __init__(self, operations: Iterable[Op], rate: float | None, rng: random.Random) -> None:
        self._operations: Iterator[Op] = iter(operations)
        self._rate, self._rng = rate, rng
        self._due = 0.0
        self._lock = threading.Lock()

    def draw(self) -> tuple[Op, float] | None:
        """The next operation and how long to wait before it (s); None when there is none left."""
        with self._lock:
            op = next(self._operations, None)
            if op is None:
                return None
            if not isinstance(op, Op):
                raise TypeError(f"a generator yields harness.Op, not {op!r}")
            if self._rate is None:
                return op, 0.0
            now = time.monotonic()
            # uniform distances of mean 1/rate; a stall is not made up for by a burst
            self._due = max(self._due, now) + self._rng.uniform(0, 2 / self._rate)
            return op, self._due - now

    def ended(self, op: Op, outcome: str) -> None:
        """How a drawn operation ended; a generator that cares overrides this."""


class Persistent(Source):
    """Operations of one process, each asked again until it is ``ok``, at most `within` seconds in all.

    Differs from `Source` in that it minds outcomes: final reads must come, or the run shows nothing.
    """

    def __init__(self, operations: Iterable[Op], within: float) -> None:
        super().__init__(operations, None, random.Random())
        self._again: Op | None = None
        self._until = time.monotonic() + within

    def draw(self) -> tuple[Op, float] | None:
        """The operation that has not succeeded yet, after a short pause, else the next."""
        if time.monotonic() > self._until:
            return None
        if self._again is not None:
            return self._again, 0.1
        drawn = super().draw()
        self._again = drawn[0] if drawn else None
        return drawn

    def ended(self, op: Op, outcome: str) -> None:
        """Go on to the next operation once this one is ok."""
        if outcome == "ok":
            self._again = None


__all__ = ["Persistent", "Source"]

"""A leader's lease: the time in which nobody else can have been elected, so that it answers reads alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

DRIFT = 0.1
"""Seconds per second by which the clocks of two nodes may run apart, at most."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Functions that return seconds: of the clock that nobody sets, and of the one on the wall."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


MACHINE = Clocks()


class Lease:
    """The lease of one leadership, measured by `clock`: seconds of which only the pace matters.

    Each node that answered a round votes for nobody in the next `loyal` seconds (Raft's shortest election
    time-out), counted by its own clock from when the round arrived. The leader counts from before it *sent*
    the round, `DRIFT` less, so its lease is over before the first of them may vote.
    """

    def __init__(self, loyal: float, clock: Callable[[], float]) -> None:
        self.length, self.clock = (1 - DRIFT) * loyal, clock
        self.until = float("-inf")
        self._sent: deque[tuple[int, float]] = deque()  # the rounds that no majority has answered yet

    def sending(self, number: int) -> None:
        """The round `number` is about to be sent."""
        self._sent.append((number, self.clock()))

    def confirmed(self, number: int) -> None:
        """A majority has answered the round `number`, or a later one."""
        while self._sent and self._sent[0][0] <= number:
            self.until = max(self.until, self._sent.popleft()[1] + self.length)

    def holds(self) -> bool:
        """Whether nobody else can have been elected until now."""
        return self.clock() < self.until

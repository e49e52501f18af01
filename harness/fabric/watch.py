"""Flows under observation: what is expected of them, how long is waited, when a measurement convicts."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.fabric import Pair
from harness.fabric.message_spec import MessageSpec
from harness.fabric.probe import Flow, Wire

CONTROL = "control"
WINDOW = 0.1  # seconds in which nothing may cross a held link
BOUND = 0.5  # seconds up to which a delayed event is awaited rather than only seen not to come
SLACK = 0.05  # seconds that an undisturbed frame may take on a loaded machine before it is measured again
FINE = 0.02  # seconds below which a delay is looked for in small batches, several times
TOLERANCE = 0.0005  # seconds by which clocks and timers of the proxy may be early
PATIENCE = 1.0  # seconds, and DELIVERIES frames on the control path, after which what is late is lost
DELIVERIES = 20
FAIRLY_SLOW = 5  # measurements in a row, all too slow while the control was not, that convict a link
SURELY_NOT = 60  # frames without a delay that convict one which is random
HOPELESS = 15.0  # seconds of measuring after which a machine is too slow to show anything


@dataclass(frozen=True, slots=True)
class Expected:
    """What the faults in force make of the bytes of one pair.

    `held` names the faults that let nothing arrive, `lossy` those that break connections, or lose or change
    what they carry; of them, `messages` are those on whole messages, in their order. One-way times are in
    [`low`, `high`] seconds; a close takes `close` seconds at least.
    """

    held: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    rate: float | None = None
    close: float = 0.0
    sliced: bool = False
    messages: tuple[tuple[str, MessageSpec], ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """A flow under observation, and what is expected of it."""

    pair: Pair
    where: str  # "live" (opened before the fault) or "new"
    wire: Wire
    flow: Flow
    expected: Expected
    before: int = 0  # bytes that had arrived when it was put under observation

    def __str__(self) -> str:
        return f"{self.pair[0]}→{self.pair[1]} ({self.where} connection)"


def show(pairs: Collection[Pair], most: int = 4) -> str:
    """Pairs in words: ``n1→n2, n1→n3 and 10 more``."""
    named = ", ".join(f"{a}→{b}" for a, b in sorted(pairs)[:most])
    return named + (f" and {len(pairs) - most} more" if len(pairs) > most else "")


class Tries:
    """How often a measurement that looks bad is taken again.

    It convicts after some tries that were bad while the control was good, in seconds of trying at most:
    a machine that is too slow all the time proves nothing, and that fails, too.
    """

    def __init__(self, most: int = FAIRLY_SLOW) -> None:
        self.count = self._fair = 0
        self._most, self._start = most, time.monotonic()

    def again(self, fair: bool) -> bool:
        """Whether to try once more after a bad measurement; `fair` says that the control was good."""
        self.count += 1
        self._fair += fair
        return self._fair < self._most and time.monotonic() - self._start < HOPELESS


def ended(flows: Iterable[Flow]) -> bool:
    """Whether the end of all flows has come."""
    return all(flow.ended for flow in flows)


def after(start: int, flow: Flow) -> float:
    """Seconds from `start` (ns) to the end of `flow`; infinite where it has not ended."""
    return (flow.ended - start) / 1e9 if flow.ended else math.inf

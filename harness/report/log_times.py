"""When the lines of a node's log were written, in the time of the run.

A line tells it by its node's clock, in a zone that it may leave out. What the wall clock showed when the run
began, which the history says, makes it a time of the run; what was seen of the node's clock puts it right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.history import NANOSECONDS, Wall
from harness.report.clocks import EQUAL, Clocks
from harness.report.stamps import Stamp, stamp

SLACK = 50_000_000
"""ns that the lines of a log may be out of order, or a look at a clock late."""
ZONES = 450 * NANOSECONDS
"""ns, half of what two zones differ at least: a time that is further off the run is of another zone."""
Step = tuple[float, int]
"""From when (ns since the run began, true time) a clock was how far ahead (ns)."""


def log_times(
    lines: Sequence[str], wall: Wall, end: int, steps: Sequence[Step], whole: bool = True
) -> tuple[list[int | None], int | None]:
    """The time of each line in ns since the run began (None: it tells none), and the zone of those without.

    The zone, in seconds east of UTC, is that of the run or UTC, whichever puts more lines into a run of `end`
    ns; None where every line names its own. `steps` are those of the node's clock, as `steps_of` makes them;
    `whole` says that no line is before these. A time that is far from the run by any of them, as a line may
    begin with a date of something else, stays as it is and puts no other one right.
    """
    stamps = [stamp(line, wall.unix) for line in lines]

    def of_run(zone: int) -> list[int | None]:
        return [None if s is None else s.unix - wall.unix - _ahead(s, zone) for s in stamps]

    zone = None
    if any(s is not None and not s.zoned for s in stamps):
        zone = max((wall.zone, 0), key=lambda zone: _within(of_run(zone), end))
    told = of_run(zone or 0)
    near = [
        t if t is not None and any(_within([t - ahead], end) for _, ahead in steps) else None for t in told
    ]
    right = (put_right if whole else put_right_from_the_end)(near, steps)
    return [t if r is None else r for t, r in zip(told, right, strict=True)], zone


def _ahead(told: Stamp, zone: int) -> int:
    return 0 if told.zoned else zone * NANOSECONDS


def _within(times: Sequence[int | None], end: int) -> int:
    return sum(time is not None and -ZONES < time < end + ZONES for time in times)


def steps_of(clocks: Clocks, node: str) -> list[Step]:
    """What was seen of a node's clock, as steps: before the first it was right.

    Where its processes were looked at themselves, the target's coarser word counts for nothing.
    """
    steps: list[Step] = [(-math.inf, 0)]
    readings = [reading for reading in clocks.readings if reading.node == node]
    for reading in [r for r in readings if r.how != "asked"] or readings:
        if abs(reading.offset - steps[-1][1] / NANOSECONDS) > reading.error + EQUAL:
            steps.append((reading.time, round(reading.offset * NANOSECONDS)))
    return steps


def put_right(times: Sequence[int | None], steps: Sequence[Step]) -> list[int | None]:
    """True times of lines whose clock made these `steps`.

    A clock that was set back shows a time twice: lines come in order, so the earliest moment counts that is
    not before the line above.
    """
    ends = [*(begin for begin, _ in steps[1:]), math.inf]
    found: list[int | None] = []
    at, before = 0, -math.inf
    for time in times:
        if time is None or len(steps) == 1:
            found.append(time)
            continue
        at = _step(time, before, steps, ends, at)
        before = time - steps[at][1]
        found.append(time - steps[at][1])
    return found


def put_right_from_the_end(times: Sequence[int | None], steps: Sequence[Step]) -> list[int | None]:
    """The same of the end of a long log, where nobody knows how it began: the latest moment counts."""
    ends = [*(begin for begin, _ in steps[1:]), math.inf]
    back = [(-end, -ahead) for end, (_, ahead) in zip(ends, steps, strict=True)][::-1]
    right = put_right([None if time is None else -time for time in times][::-1], back)
    return [None if time is None else -time for time in right][::-1]


def _step(time: int, before: float, steps: Sequence[Step], ends: Sequence[float], at: int) -> int:
    """The step, from `at` on, in which a clock showed `time`: the first that fits, else the nearest."""

    def beside(k: int) -> float:
        true = time - steps[k][1]
        return max(max(steps[k][0], before) - true - SLACK, true - ends[k] - SLACK, 0)

    later = range(at, len(steps))
    fits = next((k for k in later if beside(k) == 0), None)
    return min(later, key=beside) if fits is None else fits


__all__ = ["Step", "log_times", "put_right", "put_right_from_the_end", "steps_of"]

"""The linearizability engine: is there an order of these operations that a model allows?

Columns and a model in, a finding out. Differs from `Walk`, which it steers, in that it decides: the frontier
is first kept narrow, since an order that was found is a proof however it was found. Where a narrow frontier
dies, the operations just before are judged alone (`Part`), which proves most violations at once; failing
that, it goes back some way and keeps more. At its widest it is the exact search, so that only the budget
leaves anything undecided.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from harness.checkers.frontier import Exhausted, Walk
from harness.checkers.kinds import Kinds
from harness.checkers.model import CheckError
from harness.checkers.part import Part
from harness.verdict import Judgement

SLICE = 2048  # units of work between two turns; counted, not timed, so that results do not depend on time
WIDTH = 16  # configurations kept at first, four times as many at each further level
EFFORT = 2000  # units of work for judging a part at first
CONFIGURATIONS = 500_000
STRIDE = 64  # returns between two places to go back to


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may cost: `seconds` in all, and `configurations` at once (about 200 bytes each)."""

    seconds: float = 30.0
    configurations: int = CONFIGURATIONS

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.configurations < 1:
            raise CheckError(
                f"a budget of {self.seconds!r} s and {self.configurations!r} configurations: "
                "both must be positive"
            )


class Finding(NamedTuple):
    """What a search found: `row` is the operation whose return nothing explains (invalid).

    `explained` is the number of returns that some order explains (the longest explained prefix), `cause` why
    nothing was decided: ``time`` or ``memory``. `work` are the events walked and configurations expanded.
    `pattern` are the rows that show it, where no search was needed to find them.
    """

    judgement: Judgement
    row: int | None = None
    cause: str = ""
    explained: int = 0
    work: int = 0
    pattern: tuple[int, ...] = ()


def explore(
    kinds: Kinds, rows: Sequence[int], configurations: int = CONFIGURATIONS, deadline: float = float("inf")
) -> Generator[int, None, Finding]:
    """Decide `rows`; yields the number of explained returns about every SLICE units of work."""
    walk = Walk(kinds, rows)
    saved = [walk.copy()]
    level = best = furthest = spent = turn = 0
    while not walk.done:
        before = walk.work
        width = WIDTH << 2 * level
        try:
            row = walk.advance(width if width < configurations else None, configurations, deadline)
        except Exhausted as end:
            return Finding("unknown", None, end.cause, best, spent)
        spent += walk.work - before
        turn += walk.work - before
        best = max(best, walk.explained)
        if row is not None:
            proven = walk.exact
            if not proven and kinds.declared:  # else what is never used up makes ever more states
                part = Part(kinds, rows, row)
                for size in (32 << 2 * level, 128 << 2 * level):
                    try:
                        proven, cost = part.broken(
                            part.latest(size), reusable=True, effort=EFFORT << 2 * level, deadline=deadline
                        )
                    except Exhausted as end:
                        return Finding("unknown", None, end.cause, best, spent)
                    spent += cost
                    turn += cost
                    if proven:
                        break
            if proven:
                return Finding("invalid", row, "", walk.explained, spent)
            furthest = max(furthest, walk.explained)
            level += 1
            back = walk.explained - (STRIDE << 2 * level)
            while len(saved) > 1 and saved[-1].explained > back:
                saved.pop()
            walk = saved[-1].copy()
        elif walk.explained >= saved[-1].explained + STRIDE:
            saved.append(walk.copy())
            if walk.explained > furthest + STRIDE:
                level = 0
        if turn >= SLICE:
            turn = 0
            yield best
            if monotonic() > deadline:
                return Finding("unknown", None, "time", best, spent)
    return Finding("valid", None, "", walk.explained, spent)


def search(kinds: Kinds, rows: Sequence[int], budget: Budget | None = None) -> Finding:
    """`explore` to its end, or to the end of the budget."""
    budget = budget or Budget()
    return ended(explore(kinds, rows, budget.configurations, monotonic() + budget.seconds))


def ended(steps: Generator[int, None, Finding]) -> Finding:
    """What an exploration finds in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            finding: Finding = end.value
            return finding

"""The smallest part of a history that nothing explains.

Minimal in this sense: leave any one operation out (nobody knows any more whether it happened or what it
saw) and the whole history can be explained, or a value that is still read has lost the write that it came
from. With values that are written once, that is also minimal by itself: without any one of them, the others
can be ordered. Where time ends first it is the smallest part found by then, which nothing explains either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from harness.checkers.frontier import Exhausted
from harness.checkers.kinds import Kinds
from harness.checkers.model import ANY, identity, same
from harness.checkers.part import Part

EFFORT = 400_000  # units of work in all; counted, not timed, so that the result varies only past a deadline
SHORT = 500  # operations of a history that each trial may look at from its beginning
MANY = 16  # a chain of writes longer than this is not worth showing


class _Trial:
    """Asks whether parts are broken; once effort or time are `over`, nothing more is proven."""

    def __init__(self, part: Part, deadline: float) -> None:
        self.part, self.deadline = part, deadline
        self._left = EFFORT
        self._late = False

    @property
    def over(self) -> bool:
        if not self._late:
            self._late = monotonic() > self.deadline
        return self._late or self._left < 0

    def broken(self, chosen: Sequence[int]) -> bool:
        if self.over:
            return False
        part, effort = self.part, EFFORT // 4
        try:
            proven, work = part.broken(chosen, effort=effort, deadline=self.deadline)
            if not proven and len(part.rows) <= SHORT:
                proven, more = part.broken(chosen, whole=True, effort=effort, deadline=self.deadline)
                work += more
        except Exhausted:
            self._late = True
            return False
        self._left -= work + len(part.rows) // 16
        return proven


def smallest(
    kinds: Kinds, rows: Sequence[int], culprit: int, deadline: float = float("inf")
) -> tuple[int, ...]:
    """Rows of a minimal witness that ends in the return of `culprit`, which nothing explains."""
    part = Part(kinds, rows, culprit)
    trial = _Trial(part, deadline)
    chosen, size = part.latest(8), 8
    while len(chosen) < len(part.rows) and not trial.broken(chosen):
        size *= 4
        chosen = part.latest(size)
    chosen = _reduced(chosen, culprit, trial)
    grounded = _grounded(part, chosen, deep=True)
    if len(grounded) > len(chosen) + MANY:
        return tuple(sorted(_grounded(part, chosen, deep=False)))
    if grounded == [culprit] and (later := _later_maker(part, rows)) is not None:
        return (culprit, later)

    def holds(fewer: Sequence[int]) -> bool:
        return len(_grounded(part, fewer, deep=True)) == len(fewer) and trial.broken(fewer)

    return tuple(sorted(_single(grounded, culprit, trial, holds)))


def _later_maker(part: Part, rows: Sequence[int]) -> int | None:
    """The first operation that left the value which the culprit needed, but was invoked after it returned."""
    need = part.effect(part.culprit).needs
    makers = [
        row for row in rows
        if part.columns.call[row] > part.end and not part.observes(row) and same(part.effect(row).makes, need)
    ]  # fmt: skip
    return min(makers, key=lambda row: part.columns.call[row], default=None)


def _reduced(chosen: Sequence[int], culprit: int, trial: _Trial) -> list[int]:
    """Leave out ever smaller runs of operations, oldest first, while the rest stays broken."""
    kept = list(chosen)
    size = len(kept) // 2
    while size > 1 and not trial.over:
        at = 0
        while at < len(kept) and not trial.over:
            fewer = [row for i, row in enumerate(kept) if row == culprit or not at <= i < at + size]
            if len(fewer) < len(kept) and trial.broken(fewer):
                kept = fewer
            else:
                at += size
        size //= 2
    return _single(kept, culprit, trial, trial.broken)


def _single(
    chosen: Sequence[int], culprit: int, trial: _Trial, broken: Callable[[Sequence[int]], bool]
) -> list[int]:
    """Leave out one operation at a time, oldest first, until none can be spared."""
    kept, before = list(chosen), -1
    while len(kept) != before:
        before = len(kept)
        for row in list(kept):
            if trial.over:
                return kept
            fewer = [other for other in kept if other != row]
            if row != culprit and broken(fewer):
                kept = fewer
    return kept


def _grounded(part: Part, chosen: Sequence[int], *, deep: bool) -> list[int]:
    """`chosen` and, for each value that one of them needs, an operation that left it, where there is one.

    Of several, the last that was invoked before the value was needed, and rather a plain write than an
    operation that needs a value itself; `deep`: the values that the added ones need as well.
    """
    call, ret = part.columns.call, part.columns.ret
    initial = part.kinds.model.initial
    kept = list(chosen)
    made = {identity(part.effect(row).makes) for row in kept}
    for row in kept if deep else chosen:  # grows meanwhile
        need = part.effect(row).needs
        if need is ANY or same(need, initial) or identity(need) in made:
            continue
        if makers := part.makers.get(identity(need)):
            over = ret[row] if ret[row] >= 0 else part.end
            kept.append(max(makers, key=lambda m: (call[m] < over, part.effect(m).needs is ANY, call[m])))
            made.add(identity(need))
    return kept

"""A part of a history, judged alone: does it break the promise already, whatever the rest did?

The rest is not forgotten: each of its operations may or may not have happened within its own interval, and
what it saw does not count. So a part that is broken proves that the whole is, and the part says why. An
operation of the rest matters only where it leaves a state that somebody of the part needs, and the state
before the part's first invocation is any that an operation invoked by then could have left: with a model that
says its `effect`, judging a part costs no more than the part is long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from harness.checkers.frontier import Exhausted, Walk
from harness.checkers.kinds import Kinds
from harness.checkers.model import ANY, SAME, Effect, identity


class Part:
    """Parts of the history of one key up to the return of `culprit`, which nothing explains."""

    def __init__(self, kinds: Kinds, rows: Iterable[int], culprit: int) -> None:
        self.kinds, self.culprit = kinds, culprit
        self.columns = columns = kinds.columns
        self.end = columns.ret[culprit]
        self.rows = sorted(
            (
                row
                for row in rows
                if columns.call[row] < self.end and (self.returned(row) or not self.observes(row))
            ),
            key=lambda row: columns.call[row],
        )
        self.makers: dict[Any, list[int]] = {}  # what they leave -> rows
        if kinds.declared:
            for row in self.rows:
                if (makes := self.effect(row).makes) is not SAME:
                    self.makers.setdefault(identity(makes), []).append(row)

    def effect(self, row: int) -> Effect:
        """The operation's effect; one that says nothing where the model has none."""
        return self.kinds.effects[self.kinds.kind(row)] or Effect()

    def observes(self, row: int) -> bool:
        """Whether it never changes the state."""
        return self.kinds.observes[self.kinds.kind(row)]

    def returned(self, row: int) -> bool:
        """Whether it returned before the culprit did."""
        return 0 <= self.columns.ret[row] <= self.end

    def latest(self, size: int) -> list[int]:
        """The `size` operations invoked last, and the culprit."""
        return sorted({*self.rows[-size:], self.culprit}, key=lambda row: self.columns.call[row])

    def broken(
        self, part: Collection[int], *, whole: bool = False, reusable: bool = False, effort: int = 200_000,
        deadline: float = float("inf"),
    ) -> tuple[bool, int]:  # fmt: skip
        """Whether it is proven that no order explains `part`, and the work that went into it.

        `whole` begins with the history, in its initial state, rather than with the part: dearer, and proves
        a little more. Gives up (not proven) past `effort` units of work; raises Exhausted past `deadline`.
        """
        columns, kinds = self.columns, self.kinds
        begin = -1 if whole else min(columns.call[row] for row in part)
        chosen = set(part)
        if not kinds.declared or any(self.effect(row).unlike is not ANY for row in chosen):
            # any state but one is needed, so all that changes it matters
            rest = [row for row in self.rows if row not in chosen and not self.observes(row)]
            starts: Sequence[int] = ()
        else:
            rest, starts = self._relevant(chosen, begin)
        walk = Walk(
            kinds, [*chosen, *rest], starts=starts, optional=set(rest), until=self.end, reusable=reusable
        )
        try:
            while not walk.done and walk.work < effort:
                if walk.advance(None, effort // 8, deadline) is not None:
                    return True, walk.work
        except Exhausted as end:
            if end.cause == "time":
                raise
        return False, walk.work

    def _relevant(self, chosen: set[int], begin: int) -> tuple[list[int], list[int]]:
        """Operations of the rest that could help to explain `chosen`, and the states it may begin in."""
        columns, kinds = self.columns, self.kinds
        starts = {kinds.state(kinds.model.initial): None}
        rest: list[int] = []
        needs = [self.effect(row).needs for row in chosen]
        met = set()
        while needs:
            if (need := needs.pop()) is ANY or (mark := identity(need)) in met:
                continue
            met.add(mark)
            for row in self.makers.get(mark, ()):
                if columns.call[row] < begin:
                    starts[kinds.state(need)] = None
                if row not in chosen and not (self.returned(row) and columns.ret[row] < begin):
                    rest.append(row)
                    needs.append(self.effect(row).needs)
        return rest, list(starts)

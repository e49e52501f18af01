"""The sentence of a linearizability witness: one plain claim that is true of the history and suffices.

Each shape below is tried in turn and says something only where the history shows it beyond doubt; what fits
none of them gets a sentence that says no more than what was proven.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.checkers.kinds import Kinds
from harness.checkers.model import ANY, SAME, Effect, same
from harness.checkers.words import at, in_force, key_of, number, shown
from harness.history import OUTCOMES, History, Operation


def sentence(
    history: History, kinds: Kinds, rows: Sequence[int], witness: Sequence[int], culprit: int
) -> str:
    """What `witness` shows, for `culprit`, in one sentence; faults in force at its invocation follow."""
    story = _Story(history, kinds, rows, witness, culprit)
    claim = (
        story.never_written()
        or story.too_early()
        or story.overwritten()
        or story.used_up()
        or story.no_order()
    )  # fmt: skip
    return claim + in_force(history, story.op.start)


class _Story:
    def __init__(
        self, history: History, kinds: Kinds, rows: Sequence[int], witness: Sequence[int], culprit: int
    ) -> None:
        self.history, self.kinds, self.columns = history, kinds, history.columns
        self.rows, self.witness, self.culprit = rows, witness, culprit
        self.op = history.operations[culprit]
        self.need = self.effect(culprit).needs
        self.initial = same(self.need, kinds.model.initial)
        self.makers = [row for row in rows if self.makes(row, self.need)] if self.need is not ANY else []

    def effect(self, row: int) -> Effect:
        return self.kinds.effects[self.kinds.kind(row)] or Effect()

    def makes(self, row: int, value: object) -> bool:
        made = self.effect(row).makes
        return made is not SAME and same(made, value)

    def ended_before(self, row: int, other: int) -> bool:
        """Whether `row` had returned when `other` was invoked."""
        return 0 <= self.columns.ret[row] < self.columns.call[other]

    def did(self, time: str) -> str:
        """What the culprit did, in the past tense."""
        place = (
            "" if self.op.key is None else f" {'from' if self.op.f == 'read' else 'of'} {key_of(self.op.key)}"
        )
        if self.op.f == "read":
            what = shown(self.op.result)
            what = f"the initial value ({what})" if self.initial else what
            return f"process {self.op.process} read {what}{place} at {time}"
        if self.op.f == "cas":
            old, new = map(shown, self.op.value)
            ended = "succeeded" if self.op.result is not False else "was refused"
            return f"process {self.op.process}'s cas{place} from {old} to {new} at {time} {ended}"
        what = f"process {self.op.process}'s {self.op.f}"
        if self.op.value is not None:
            what += f" of {shown(self.op.value)}"
        told = self.op.value is None or not same(self.op.value, self.op.result)
        return f"{what}{place} at {time} {f'returned {shown(self.op.result)}' if told else 'succeeded'}"

    def never_written(self) -> str:
        if self.need is ANY or self.initial or self.makers:
            return ""
        time = at(self.op.start)[0]
        failed = self._failed()
        if not failed:
            return f"{self.did(time)}, a value that nobody wrote" if self.op.f == "read" else (
                f"{self.did(time)} although nobody had written {shown(self.need)}"
            )  # fmt: skip
        other = failed[-1]
        time, when = at(self.op.start, other.end if other.end is not None else other.start)
        only = "the only one to write it" if len(failed) == 1 else f"the last of {len(failed)} to write it"
        return (
            f"{self.did(time)} although process {other.process}'s {_object(other)}, {only}, "
            f"was reported as failed at {when}"
        )

    def _failed(self) -> list[Operation]:
        """Failed operations that would have left the value that the culprit needs."""
        c = self.columns
        return [
            self.history.operations[row]
            for row in range(len(c))
            if OUTCOMES[c.type[row]] == "fail"
            and c.key[row] == c.key[self.culprit]
            and self.makes(row, self.need)
        ]

    def too_early(self) -> str:
        if self.need is ANY or self.initial or not self.makers:
            return ""
        if not all(self.ended_before(self.culprit, row) for row in self.makers):
            return ""
        first = self.history.operations[min(self.makers, key=lambda row: self.columns.call[row])]
        time, when = at(self.op.end or 0, first.start)
        return (
            f"{self.did(time)} before anybody wrote {shown(self.need)}: process {first.process}'s {first.f} "
            f"of it was invoked at {when}"
        )

    def overwritten(self) -> str:
        """All that leaves the value was over when something else held, and that before the culprit began."""
        if self.need is ANY:
            return ""
        makers = [
            row for row in self.makers if not self.ended_before(self.culprit, row) and row != self.culprit
        ]
        best: tuple[tuple[bool, int], int] | None = None
        for row in self.witness:
            effect = self.effect(row)
            other = effect.needs if effect.makes is SAME else effect.makes
            if (
                row == self.culprit
                or other is ANY
                or same(other, self.need)
                or not self.ended_before(row, self.culprit)
            ):
                continue
            if row in makers or not all(self.ended_before(maker, row) for maker in makers):
                continue
            rank = (effect.makes is not SAME, self.columns.ret[row])
            if best is None or rank > best[0]:
                best = (rank, row)
        if best is None:
            return ""
        op = self.history.operations[best[1]]
        time, when = at(self.op.start, op.end or 0)
        if op.f == "read":
            return f"{self.did(time)} although process {op.process} had read {shown(op.result)} by {when}"
        return f"{self.did(time)} although process {op.process}'s {_object(op)} was acknowledged at {when}"

    def used_up(self) -> str:
        """The value was left once, and two compare-and-sets both found it."""
        if self.need is ANY or self.effect(self.culprit).makes is SAME:
            return ""
        sources = len(self.makers) + self.initial
        rivals = [
            row
            for row in self.witness
            if row != self.culprit and self.columns.ret[row] >= 0
            and self.effect(row).makes is not SAME and same(self.effect(row).needs, self.need)
        ]  # fmt: skip
        if sources != 1 or not rivals:
            return ""
        rival = self.history.operations[max(rivals, key=lambda row: self.columns.ret[row])]
        time, when = at(self.op.start, rival.end or 0)
        once = "which only the beginning left" if self.initial else "which was written once"
        return (
            f"{self.did(time)} although process {rival.process}'s {_object(rival)}, from the same value, "
            f"{once}, was acknowledged at {when}"
        )

    def no_order(self) -> str:
        did = self.did(at(self.op.start)[0])
        if len(self.witness) == 1:
            return f"{did}, and nothing that was invoked by its return explains it"
        return f"{did}, and no order of these {number(len(self.witness), 'operation')} explains it"


def _object(op: Operation) -> str:
    """``write of 42``, ``cas from 41 to 42``."""
    if op.f == "cas":
        return f"cas from {shown(op.value[0])} to {shown(op.value[1])}"
    return f"{op.f} of {shown(op.value)}"

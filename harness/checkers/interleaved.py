"""Orders of a register's operations, session by session, tried one after another.

Where values repeat, nobody knows which write a read is of, so versions do not tell. A key that is
linearizable is coherent; of others each state of affairs is tried once, up to a limit.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from harness.checkers import native
from harness.checkers.kinds import Kinds
from harness.checkers.model import ANY, NOT_KNOWN, SAME, Effect, Inconsistent, Model, same
from harness.checkers.models import effect
from harness.checkers.search import Budget, search
from harness.checkers.versions import FS, INITIAL, LOST, NONE, OK, Register, Values
from harness.checkers.words import at, in_force, number
from harness.verdict import Witness

LONGEST = 2.0  # seconds of one key, where there is no native kernel
LINEAR = 1 << 22  # expanded at most to see whether a key is linearizable
SHRINKING = 100_000  # operations looked at to make a witness smaller, about


class Linear:
    """Says which keys are surely linearizable, by the engine."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.kinds = Kinds(values.columns, REGISTER)
        self.asked: native.Asked | None = None

    def explains(self, register: Register) -> bool:
        """Whether the operations on a key are linearizable, as far as is known."""
        if any(self.values.left[row] == LOST for row in register.rows):
            return False
        if native.kernel() == "python":
            return search(self.kinds, register.rows, Budget(LONGEST)).judgement == "valid"
        if self.asked is None:
            self.asked = native.Asked(self.kinds)
        return not self.asked.run(None, LINEAR, Budget().configurations, only=register.key)[2]


def _effect(f: str, value: Any, result: Any) -> Effect:
    """What an operation of a register does, an rmw among them."""
    if f != "rmw":
        return effect(f, value, result)
    if result is NOT_KNOWN:
        return Effect()
    return Effect(needs=result[0]) if same(*result) else Effect(needs=result[0], makes=result[1])


def _step(state: Any, f: str, value: Any, result: Any) -> Hashable | Inconsistent:
    does = _effect(f, value, result)
    if (does.needs is not ANY and not same(does.needs, state)) or same(does.unlike, state):
        return Inconsistent(f"it holds {state!r}")
    return state if does.makes is SAME else does.makes  # type: ignore[no-any-return]


REGISTER = Model("register with rmw", None, _step, FS, _effect)


class Orders:
    """Tries orders of a register's operations, depth first, each state of affairs once."""

    def __init__(self, values: Values, register: Register) -> None:
        c, halves = values.columns, values.columns.values.halves
        self.call, self.ret = c.call, c.ret
        self.read, self.left = dict(enumerate(values.read)), dict(enumerate(values.left))
        self.refuses: dict[int, int] = {row: halves[2 * c.value[row]] for row in register.refused}
        for row in register.writes:
            if self.left[row] == LOST:
                readers = (reader for reader, version in register.read.items() if version == row)
                self.left[row] = next((values.read[reader] for reader in readers), LOST)
        self.sessions: dict[int, list[int]] = {}
        for row in register.rows:
            if self.left[row] != LOST:
                self.sessions.setdefault(c.process[row], []).append(row)
        self.known = {row for row in register.rows if c.type[row] == OK}
        self.tried = 0

    def explained(self, most: int) -> bool | None:
        """Whether some order explains all; None where `most` configurations do not tell."""
        lines = list(self.sessions.values())
        start = self._settled(lines, (0,) * len(lines), INITIAL)
        seen = {(start, INITIAL)}
        stack = [(start, INITIAL)]
        while stack:
            places, last = stack.pop()
            if all(
                place == len(line) or (place == len(line) - 1 and line[place] not in self.known)
                for place, line in zip(places, lines, strict=True)
            ):
                return True
            following = []
            for i, (place, line) in enumerate(zip(places, lines, strict=True)):
                if place < len(line) and self.left[row := line[place]] != NONE and self._may(row, last):
                    following.append((self.call[row], i, row))
            for _, i, row in sorted(following, reverse=True):
                moved = self._settled(lines, (*places[:i], places[i] + 1, *places[i + 1 :]), row)
                if (moved, row) not in seen:
                    if self.tried >= most:
                        return None
                    self.tried += 1
                    seen.add((moved, row))
                    stack.append((moved, row))
        return False

    def _value(self, last: int) -> int:
        return 0 if last == INITIAL else self.left[last]

    def _may(self, row: int, last: int) -> bool:
        """Whether the operation can happen right after the write `last`."""
        if row in self.refuses:
            return self.refuses[row] != self._value(last)
        want = self.read[row]
        if want == NONE:
            return True
        return want == self._value(last) and (
            last == INITIAL or self.ret[row] < 0 or self.call[last] < self.ret[row]
        )

    def _settled(self, lines: list[list[int]], places: tuple[int, ...], last: int) -> tuple[int, ...]:
        """The places once all that changes nothing and can happen now has happened."""
        moved = list(places)
        for i, line in enumerate(lines):
            while moved[i] < len(line) and self.left[row := line[moved[i]]] == NONE and self._may(row, last):
                moved[i] += 1
        return tuple(moved)


def no_order(values: Values, register: Register) -> Witness:
    """The witness where trying showed it: as few operations as can be found with so much effort."""
    c = values.columns
    effort = SHRINKING
    writers: dict[int, set[int]] = {}
    for row in register.rows:
        if values.left[row] >= 0:
            writers.setdefault(values.left[row], set()).add(row)

    def broken(rows: Sequence[int]) -> bool:
        nonlocal effort
        kept = set(rows)
        for row in rows:
            want = values.read[row]
            if want > 0 and not writers.get(want, set()) & kept:
                return False
        its = Register(
            register.key, list(rows), {row: v for row, v in register.read.items() if row in kept},
            [row for row in register.writes if row in kept],
            refused=[row for row in register.refused if row in kept],
        )  # fmt: skip
        most = max(0, effort)
        tried = Orders(values, its)
        answer = tried.explained(most)
        effort -= len(rows) + tried.tried
        return answer is False

    kept = list(register.rows)
    size = max(1, len(kept) // 2)
    while effort > 0:
        before = len(kept)
        place = 0
        while place < len(kept) and effort > 0:
            fewer = kept[:place] + kept[place + size :]
            if broken(fewer):
                kept = fewer
            else:
                place += size
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    culprit = max(kept, key=lambda row: c.ret[row] if c.ret[row] >= 0 else -1)
    what = f"process {c.process[culprit]}'s {c.fs.values[c.f[culprit]]}{values.of(register.key)}"
    sentence = (
        f"no order of these {number(len(kept), 'operation')} explains {what} at {at(c.start[culprit])[0]}"
    )
    return Witness(
        sentence + in_force(values.history, c.start[culprit]), values.indexes(kept), c.index[culprit]
    )

"""Operations and states as small integers, and what the model says of each pair, asked once."""

from __future__ import annotations

from typing import Any

from harness.checkers.model import ANY, NOT_KNOWN, SAME, CheckError, Effect, Inconsistent, Model, identity
from harness.history import OUTCOMES, Columns

ILLEGAL = -1


class Kinds:
    """The distinct effects of operations, numbered, and the model's transition table, filled when asked.

    One serves many searches over the same columns. By kind: `effects`, whether it surely never changes the
    state (`observes`) or surely hides what was there before (`overwrites`), the only state that it can
    happen in and the only one that it leaves (`needs`, `makes`; None: not known).
    """

    def __init__(self, columns: Columns, model: Model) -> None:
        self.columns, self.model = columns, model
        self.effects: list[Effect | None] = []
        self.observes: list[bool] = []
        self.overwrites: list[bool] = []
        self.needs: list[int | None] = []
        self.makes: list[int | None] = []
        self.states: list[Any] = []
        self.table: list[dict[int, int]] = []
        self._calls: list[tuple[str, Any, Any]] = []
        self._by_columns: dict[tuple[int, int, int], int] = {}
        self._by_identity: dict[Any, int] = {}
        self._states: dict[Any, int] = {}

    def kind(self, row: int) -> int:
        """The number of the operation's effect. Raises CheckError where the model does not know it."""
        c = self.columns
        known = OUTCOMES[c.type[row]] == "ok"
        place = (c.f[row], c.value[row], c.result[row] if known else -1)
        if (kind := self._by_columns.get(place)) is None:
            f, value = c.fs.values[c.f[row]], c.values.values[c.value[row]]
            result = c.values.values[c.result[row]] if known else NOT_KNOWN
            if f not in self.model.fs:
                raise CheckError(
                    f"operation {c.index[row]} is {f!r}, which the model {self.model.name} does not know; "
                    f"it knows {', '.join(self.model.fs)}"
                )
            if wrong := self.model.shape(f, value):
                raise CheckError(f"operation {c.index[row]}, {f!r} of {value!r}: {wrong}")
            effect = self.model.effect(f, value, result) if self.model.effect else None
            alike = (f, identity(value), identity(result))
            if effect is not None:
                alike = ("", identity(effect.needs), identity(effect.makes))
            kind = self._by_identity.setdefault(alike, len(self.effects))
            if kind == len(self.effects):
                self.effects.append(effect)
                self.observes.append(effect is not None and effect.observes)
                self.overwrites.append(effect is not None and effect.overwrites)
                effect = effect or Effect()
                self.needs.append(None if effect.needs is ANY else self.state(effect.needs))
                self.makes.append(None if effect.makes is SAME else self.state(effect.makes))
                self._calls.append((f, value, result))
            self._by_columns[place] = kind
        return kind

    def state(self, value: Any) -> int:
        """The number of a state."""
        code = self._states.setdefault(identity(value), len(self.states))
        if code == len(self.states):
            self.states.append(value)
            self.table.append({})
        return code

    def step(self, state: int, kind: int) -> int:
        """The next state's number, or ILLEGAL."""
        row = self.table[state]
        if (following := row.get(kind)) is None:
            answer = self.model.step(self.states[state], *self._calls[kind])
            following = row[kind] = ILLEGAL if isinstance(answer, Inconsistent) else self.state(answer)
        return following

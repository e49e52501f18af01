"""Operations and states as small integers, and what the model says of each pair, asked once."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple, NoReturn

from harness.checkers.model import (
    ANY,
    FROZEN,
    NOT_KNOWN,
    NOWHERE,
    SAME,
    Call,
    CheckError,
    Effect,
    Inconsistent,
    Model,
    identity,
)
from harness.history import OUTCOMES, Columns

ILLEGAL = -1
OK = OUTCOMES.index("ok")
TRIED = 4  # answers of a model that are asked for twice; of later ones each that is a power of two
PLAIN = (int, str, type(None), float, bytes)  # never change

Place = tuple[int, int, int]  # f, value, result (-1: not known), as numbers of the columns


class Asking(NamedTuple):
    """What the kernel asks a model with, and functions for what is out of the ordinary.

    The kernel's own text says when it calls which.
    """

    ask: Callable[[Any, Call], Any]
    call: Callable[[tuple[Any, Any, Any]], Call]
    fs: list[Any]
    values: list[Any]
    unknown: Any
    states: list[Any]
    numbers: dict[Any, int] | None
    state: Callable[[Any], int]
    answered: Callable[[int, int, Any, bool], int]
    raised: Callable[..., NoReturn]
    compared: Callable[[int, int, Any, Any], None]
    inconsistent: type


class Kinds:
    """The distinct effects of operations, numbered, and the model's transition table, filled when asked.

    One serves many searches over the same columns. By kind: `effects`, whether it surely never changes the
    state (`observes`) or surely hides what was there before (`overwrites`), the only state that it can
    happen in and the only one that it leaves (`needs`, `makes`; None: not known); whether it happens in
    every state but one (`refuses`).
    """

    def __init__(self, columns: Columns, model: Model) -> None:
        self.columns, self.model = columns, model
        self.declared = model.effect is not None  # the effects say all that the model does
        self.effects: list[Effect | None] = []
        self.observes: list[bool] = []
        self.overwrites: list[bool] = []
        self.needs: list[int | None] = []
        self.makes: list[int | None] = []
        self.refuses: list[bool] = []
        self.states: list[Any] = []
        self.table: list[dict[int, int]] = []
        self._step = model.by_call or (lambda state, call: model.step(state, *call))
        self._calls: list[Call] = []
        self._first: list[int] = []  # by kind: the index of an operation of it
        self._by_columns: dict[Place, int] = {}
        self._by_identity: dict[Any, int] = {}
        self._states: dict[Any, int] = {}
        self._answers = 0
        self._kept: Callable[[Any], Hashable] | None = None

    def place(self, row: int) -> Place:
        """What the operation did, by its columns."""
        c = self.columns
        return c.f[row], c.value[row], c.result[row] if c.type[row] == OK else -1

    def places(self) -> list[Place]:
        """The place of every row."""
        c = self.columns
        known = [result if kind == OK else -1 for result, kind in zip(c.result, c.type, strict=True)]
        return list(zip(c.f, c.value, known, strict=True))

    def all(self) -> array[int]:
        """The kind of every row. Raises CheckError as `kind` does."""
        places = self.places()
        for row, place in enumerate(places):
            if place not in self._by_columns:
                self._new(place, row)
        return array("q", map(self._by_columns.__getitem__, places))

    def kind(self, row: int) -> int:
        """The number of the operation's effect. Raises CheckError where the model does not know it."""
        place = self.place(row)
        if (kind := self._by_columns.get(place)) is None:
            kind = self._new(place, row)
        return kind

    def _new(self, place: Place, row: int) -> int:
        c, model = self.columns, self.model
        f, value = c.fs.values[place[0]], c.values.values[place[1]]
        result = c.values.values[place[2]] if place[2] >= 0 else NOT_KNOWN
        if model.fs and f not in model.fs:
            raise CheckError(
                f"operation {c.index[row]} is {f!r}, which the model {model.name} does not know; "
                f"it knows {', '.join(model.fs)}"
            )
        if model.shape and (wrong := model.shape(f, value)):
            raise CheckError(f"operation {c.index[row]}, {f!r} of {value!r}: {wrong}")
        effect = model.effect(f, value, result) if model.effect else None
        kind = len(self.effects)
        if effect is not None:
            alike = (identity(effect.needs), identity(effect.makes), identity(effect.unlike))
            kind = self._by_identity.setdefault(alike, kind)
        self._by_columns[place] = kind
        if kind < len(self.effects):
            return kind
        self._calls.append(Call(f, value, result))
        self._first.append(c.index[row])
        self.effects.append(None)
        self.observes.append(f in model.reads)
        self.overwrites.append(False)
        self.needs.append(None)
        self.makes.append(None)
        self.refuses.append(False)
        if effect is not None:
            self._describe(kind, effect)
        return kind

    def state(self, value: Any) -> int:
        """The number of a state."""
        kind = type(value)
        mark = (kind, value) if kind is not tuple else identity(value)
        code = self._states.get(mark)
        if code is None:
            code = self._states[mark] = len(self.states)
            self.states.append(value)
            self.table.append({})
        return code

    def step(self, state: int, kind: int) -> int:
        """The next state's number, or ILLEGAL. Raises CheckError where the model breaks its rules."""
        row = self.table[state]
        if (following := row.get(kind)) is None:
            following = row[kind] = self._asked(state, kind)
        return following

    def infer(self, most: int) -> bool:
        """Ask the model everything, with at most `most` questions, and see whether it is a register at heart.

        Where it has few states, and each operation happens in one, in all or in all but one of them, its
        `effects` are known from here on, as if it had declared them.
        """
        self.all()
        everything = range(len(self._calls))
        try:
            self.state(self.model.initial)
            for state, _ in enumerate(self.states):  # grows meanwhile
                if (state + 1) * len(everything) > most:
                    return False
                for kind in everything:
                    self.step(state, kind)
        except CheckError:
            return False  # in a state that it never comes to, perhaps
        effects = [self._inferred(kind) for kind in everything]
        if None in effects:
            return False
        first: dict[Any, int] = {}
        for kind, effect in enumerate(effects):
            assert effect is not None
            alike = (identity(effect.needs), identity(effect.makes), identity(effect.unlike))
            first.setdefault(alike, kind)
            self._describe(kind, effect)
        for place, kind in self._by_columns.items():
            said = self.effects[kind] or Effect()
            alike = (identity(said.needs), identity(said.makes), identity(said.unlike))
            self._by_columns[place] = first[alike]
        self.declared = True
        return True

    def _inferred(self, kind: int) -> Effect | None:
        """What an operation does in all the states there are, if that can be said in one line."""
        to = [row[kind] for row in self.table]
        fits = [state for state, following in enumerate(to) if following != ILLEGAL]
        moves = [state for state in fits if to[state] != state]
        if not moves:
            if len(fits) == len(to):
                return Effect()
            if len(fits) < 2:
                return Effect(needs=self.states[fits[0]] if fits else NOWHERE)
            if len(fits) == len(to) - 1:
                return Effect(unlike=self.states[to.index(ILLEGAL)])
            return None
        if len(fits) == len(to) and len(set(to)) == 1:
            return Effect(makes=self.states[to[0]])
        unheard = self._calls[kind][2] is NOT_KNOWN  # then doing nothing is as good as not happening
        if len(moves) == 1 and (unheard or len(fits) == 1):
            return Effect(needs=self.states[moves[0]], makes=self.states[to[moves[0]]])
        return None

    def _describe(self, kind: int, effect: Effect) -> None:
        self.effects[kind] = effect
        self.observes[kind], self.overwrites[kind] = effect.observes, effect.overwrites
        self.needs[kind] = None if effect.needs is ANY else self.state(effect.needs)
        self.makes[kind] = None if effect.makes is SAME else self.state(effect.makes)
        self.refuses[kind] = effect.unlike is not ANY

    def asking(self) -> Asking:
        """The model as the kernel asks it."""
        c, numbers = self.columns, self._states if self.model.forget is None else None

        def answered(state: int, row: int, answer: Any, twice: bool) -> int:
            return self._numbered(state, self.kind(row), answer, twice)

        def raised(state: int, row: int, error: BaseException, *answer: Any) -> NoReturn:
            self._raised(state, self.kind(row), error, *answer)

        def compared(state: int, row: int, answer: Any, again: Any) -> None:
            self._compared(self.kind(row), answer, again)

        return Asking(
            self._step, partial(tuple.__new__, Call), c.fs.values, c.values.values, NOT_KNOWN, self.states,
            numbers, self.state, answered, raised, compared, Inconsistent,
        )  # fmt: skip

    def _asked(self, state: int, kind: int) -> int:
        self._answers += 1
        try:
            answer = self._step(self.states[state], self._calls[kind])
        except Exception as error:
            self._raised(state, kind, error)
        twice = self._answers <= TRIED or not self._answers & (self._answers - 1)
        return self._numbered(state, kind, answer, twice)

    def _numbered(self, state: int, kind: int, answer: Any, twice: bool) -> int:
        """The number of the state that was answered, or ILLEGAL; it is asked for again where `twice`."""
        value, call = self.states[state], self._calls[kind]
        if twice:
            self._again(state, kind, answer)
        if isinstance(answer, Inconsistent):
            return ILLEGAL
        if self.observes[kind] and answer is not value and identity(answer) != identity(value):
            raise CheckError(
                f"{self._of(kind)} made {answer!r} of {value!r}, "
                f"but {call[0]!r} is among its reads, which change nothing"
            )
        if self.model.forget is not None:
            answer = self._forgotten(answer)
        try:
            return self.state(answer)
        except TypeError:
            raise CheckError(
                f"{self._of(kind)} left {answer!r}, a {type(answer).__name__}, "
                f"which is not hashable: {FROZEN}"
            ) from None

    def _forgotten(self, state: Any) -> Hashable:
        if self._kept is None:
            assert self.model.forget is not None
            results = self.columns.values.values
            self._kept = self.model.forget(results[code] for code in set(self.columns.result))
        return self._kept(state)

    def _of(self, kind: int) -> str:
        f, value, result = self._calls[kind]
        told = "unknown" if result is NOT_KNOWN else repr(result)
        where = f"operation {self._first[kind]}: the model {self.model.name}"
        return f"{where}, asked for {f!r} of {value!r} with result {told},"

    def _raised(self, state: int, kind: int, error: BaseException, *answer: Any) -> NoReturn:
        """Say where a model failed, perhaps after an `answer`; what interrupts the program goes on."""
        if not isinstance(error, Exception):
            raise error
        what = f"{type(error).__name__}: {error}"
        if answer:
            what = f"answered {answer[0]!r} and then raised {what}: a model must be pure"
            raise CheckError(f"{self._of(kind)} {what}") from error
        raise CheckError(f"{self._of(kind)} in {self.states[state]!r}: {what}") from error

    def _again(self, state: int, kind: int, answer: Any) -> None:
        """Raise CheckError if the model does not answer the same again, or changes what it is given."""
        value, call = self.states[state], self._calls[kind]
        before = value if isinstance(value, PLAIN) else copy.deepcopy(value)
        try:
            again = self._step(value, call)
        except Exception as error:
            self._raised(state, kind, error, answer)
        if before != value:
            what = f"changed the state it was given, {before!r}, into {value!r}: {FROZEN}"
            raise CheckError(f"{self._of(kind)} {what}")
        self._compared(kind, answer, again)

    def _compared(self, kind: int, answer: Any, again: Any) -> None:
        alike = isinstance(answer, Inconsistent) == isinstance(again, Inconsistent)
        if not alike or (not isinstance(answer, Inconsistent) and answer != again):
            what = f"answered {answer!r} and then {again!r}: a model must be pure"
            raise CheckError(f"{self._of(kind)} {what}")

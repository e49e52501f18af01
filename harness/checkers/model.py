"""What a single correct copy would answer: a pure step function per data type.

A model is all that the linearizability engine knows of a system. Differs from a target in that it
never runs: it says which next state follows from an operation, or why none does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final


class CheckError(ValueError):
    """A history or a request that a checker cannot judge; the text says why and what it could judge."""


@dataclass(frozen=True, slots=True)
class Inconsistent:
    """What `Model.step` returns where an operation cannot happen in a state."""

    why: str


class Mark(Enum):
    """Values that no history contains."""

    ANY = "any state"
    SAME = "the same state"
    NOT_KNOWN = "a result nobody knows"


ANY: Final = Mark.ANY
SAME: Final = Mark.SAME
NOT_KNOWN: Final = Mark.NOT_KNOWN


@dataclass(frozen=True, slots=True)
class Effect:
    """A step of a register in one line: happens only in state `needs`, leaves state `makes`.

    It must say the same as `Model.step`; the search is faster for it and the witness smaller.
    """

    needs: Any = ANY
    makes: Any = SAME

    @property
    def observes(self) -> bool:
        """Never changes the state: nobody needs to know when it happened, only that it could."""
        return self.makes is SAME

    @property
    def overwrites(self) -> bool:
        """Can happen in every state and hides what was there before."""
        return self.needs is ANY and self.makes is not SAME


Step = Callable[[Any, str, Any, Any], "Hashable | Inconsistent"]


@dataclass(frozen=True, slots=True)
class Model:
    """A data type: its `initial` state and ``step(state, f, value, result)``, for the operations `fs`.

    `step` returns the next state, or `Inconsistent` with the reason. It is pure, its states are hashable,
    and it is called once per distinct state and operation. `result` is NOT_KNOWN where the outcome is
    ``info``: the operation then happens as if nobody saw its result. `effect` is for registers only.
    `shape` says what is wrong with an operation's value, or "".

    >>> register = model("register")
    >>> register.step(41, "write", 42, None)
    42
    >>> register.step(42, "read", None, 41)
    Inconsistent(why='read 41 but it holds 42')
    """

    name: str
    initial: Hashable
    step: Step
    fs: tuple[str, ...]
    effect: Callable[[str, Any, Any], Effect] | None = None
    shape: Callable[[str, Any], str] = lambda f, value: ""


def identity(value: Any) -> Hashable:
    """`value` with its type, so that 1, True and 1.0 stay apart, also inside tuples."""
    if isinstance(value, tuple):
        return (tuple, *(identity(item) for item in value))
    return (type(value), value)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of one type."""
    return identity(a) == identity(b)


def _step(state: Any, f: str, value: Any, result: Any) -> Hashable | Inconsistent:
    if f == "read":
        if result is NOT_KNOWN or same(state, result):
            return state  # type: ignore[no-any-return]
        return Inconsistent(f"read {result!r} but it holds {state!r}")
    if f == "write":
        return value  # type: ignore[no-any-return]
    old, new = value
    if same(state, old):
        return new  # type: ignore[no-any-return]
    return Inconsistent(f"cas from {old!r} succeeded but it holds {state!r}")


def _effect(f: str, value: Any, result: Any) -> Effect:
    if f == "read":
        return Effect(needs=ANY if result is NOT_KNOWN else result)
    if f == "write":
        return Effect(makes=value)
    old, new = value
    return Effect(needs=old) if same(old, new) else Effect(needs=old, makes=new)


def _shape(f: str, value: Any) -> str:
    return "" if f != "cas" or (isinstance(value, tuple) and len(value) == 2) else "a cas has [old, new]"


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "register": Model("register", None, _step, ("read", "write"), _effect, _shape),
        "cas-register": Model("cas-register", None, _step, ("read", "write", "cas"), _effect, _shape),
    }
)


def model(name: str | Model) -> Model:
    """The model of that name (a Model is returned as it is). Raises CheckError, listing the names."""
    if isinstance(name, Model):
        return name
    try:
        return MODELS[name]
    except KeyError:
        raise CheckError(f"unknown model {name!r}; there are: {', '.join(MODELS)}") from None

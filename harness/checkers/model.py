"""What a single correct copy would answer: a pure step function per data type.

A model is all that the linearizability engine knows of a system. Differs from a target in that it
never runs: it says which next state follows from an operation, or why none does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple


class CheckError(ValueError):
    """A history or a request that a checker cannot judge; the text says why and what it could judge."""


@dataclass(slots=True, unsafe_hash=True)  # a model makes many, and frozen ones take twice as long
class Inconsistent:
    """What `Model.step` returns where an operation cannot happen in a state."""

    why: str


class Mark(Enum):
    """Values that no history contains."""

    ANY = "any state"
    SAME = "the same state"
    NOT_KNOWN = "a result nobody knows"
    NOWHERE = "no state there ever is"


ANY: Final = Mark.ANY
SAME: Final = Mark.SAME
NOT_KNOWN: Final = Mark.NOT_KNOWN
NOWHERE: Final = Mark.NOWHERE


@dataclass(frozen=True, slots=True)
class Effect:
    """A step of a register in one line: happens only in state `needs`, leaves state `makes`.

    `unlike` is for observers: it happens in every state but that one. It must say the same as `Model.step`;
    the search is faster for it and the witness smaller.
    """

    needs: Any = ANY
    makes: Any = SAME
    unlike: Any = ANY

    @property
    def observes(self) -> bool:
        """Never changes the state: nobody needs to know when it happened, only that it could."""
        return self.makes is SAME

    @property
    def overwrites(self) -> bool:
        """Can happen in every state and hides what was there before."""
        return self.needs is ANY and self.makes is not SAME


Step = Callable[[Any, str, Any, Any], "Hashable | Inconsistent"]


class Call(NamedTuple):
    """One operation as a model of your own sees it: `result` is NOT_KNOWN where nobody heard back."""

    f: str
    value: Any
    result: Any

    def told(self, result: Any) -> bool:
        """Whether the operation may have reported `result`: it did, or nobody knows what it reported."""
        return self.result is NOT_KNOWN or same(self.result, result)


@dataclass(frozen=True, slots=True)
class Model:
    """A data type: its `initial` state and ``step(state, f, value, result)``, for the operations `fs`.

    `step` returns the next state, or `Inconsistent` with the reason. It is pure, its states are hashable,
    and it is called hardly more than once for a state and an operation. `result` is NOT_KNOWN where the
    outcome is ``info``: the operation then happens as if nobody saw its result. Without `fs` any operation is
    one of the model. `reads` never change the state. `effect` is for registers only. `shape` says what is
    wrong with an operation's value, or "". `forget` takes all results that were seen and returns what of a
    state still matters: states that no later operation can tell apart become one. `native` names what each
    operation is for the native kernel, which then need not ask `step`. `by_call` is `step` as a function of
    two.
    See `Model.of` for one in a few lines.

    >>> from harness.checkers import model
    >>> register = model("register")
    >>> register.step(41, "write", 42, None)
    42
    >>> register.step(42, "read", None, 41)
    Inconsistent(why='read 41 but it holds 42')
    """

    name: str
    initial: Hashable
    step: Step
    fs: tuple[str, ...] = ()
    effect: Callable[[str, Any, Any], Effect] | None = None
    shape: Callable[[str, Any], str] | None = None
    reads: tuple[str, ...] = ()
    forget: Callable[[Iterable[Any]], Callable[[Any], Hashable]] | None = None
    native: tuple[tuple[str, str], ...] = ()
    by_call: Callable[[Any, Call], Hashable | Inconsistent] | None = None

    def __post_init__(self) -> None:
        try:
            hash(self.initial)
        except TypeError:
            raise CheckError(
                f"the model {self.name} begins with {self.initial!r}, which is not hashable: {FROZEN}"
            ) from None

    @classmethod
    def of(
        cls, step: Callable[[Any, Call], Hashable | Inconsistent], initial: Hashable = None,
        reads: tuple[str, ...] = (),
    ) -> Model:  # fmt: skip
        """A model from one function ``step(state, op)``; it is named as the function is.

        >>> def latch(state, op):
        ...     if op.f == "set":
        ...         return True
        ...     return state if op.told(state) else Inconsistent(f"saw {op.result} but it is {state}")
        >>> Model.of(latch, initial=False, reads=("look",)).step(False, "look", None, True)
        Inconsistent(why='saw True but it is False')
        """

        def four(state: Any, f: str, value: Any, result: Any) -> Hashable | Inconsistent:
            return step(state, Call(f, value, result))

        return cls(getattr(step, "__name__", "model"), initial, four, reads=reads, by_call=step)


FROZEN = "return a tuple, a frozenset or another value that does not change"


def identity(value: Any) -> Hashable:
    """`value` with its type, so that 1, True and 1.0 stay apart, also inside tuples."""
    if isinstance(value, tuple):
        return (tuple, *(identity(item) for item in value))
    return (type(value), value)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of one type."""
    if type(a) is not type(b):
        return False
    return identity(a) == identity(b) if isinstance(a, tuple) else bool(a == b)

"""Predicate reads: which versions a transaction must have looked at to find what it found, and not the rest.

What it found are reads like others. Of a key that it did not find, all versions that match are out of question;
where one is left, that is the one it saw (Elle's closed-predicate inference, after Adya's version sets), and
whoever then made the key match did so after it: a phantom, in a cycle.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from enum import Enum
from typing import Any

from harness.checkers.model import CheckError, identity
from harness.checkers.transactions.reading import Step, marked, told

NIL = marked(None)


class Gone(Enum):
    """The value that a deletion leaves."""

    GONE = "nothing"

    def __repr__(self) -> str:
        return "nothing"


GONE = identity(Gone.GONE)


def matches(predicate: Any, value: Hashable) -> bool:
    """Whether a value, as `marked` has it, fulfils ``"true"``, ``["=", v]`` or ``["mod", m, r]``.

    Nothing, unborn or deleted, fulfils none. Raises CheckError for another predicate.
    """
    if value in (NIL, GONE):
        return False
    if predicate in ("true", True):
        return True
    if isinstance(predicate, tuple) and predicate[:1] == ("=",) and len(predicate) == 2:
        return value == marked(predicate[1])
    if isinstance(predicate, tuple) and predicate[:1] == ("mod",) and len(predicate) == 3:
        plain = told(value)
        return isinstance(plain, int) and plain % predicate[1] == predicate[2]
    raise CheckError(
        f'predicate {predicate!r} is none of those that are understood: expected "true", ["=", value] or '
        '["mod", modulus, remainder]'
    )


def items(index: int, value: Any, keys: Iterable[Hashable]) -> dict[Hashable, Hashable]:
    """What a predicate read found, by key. JSON has only strings for keys: those of numbers are numbers again."""
    known = set(keys)
    pairs = value.items() if isinstance(value, Mapping) else value or ()
    found: dict[Hashable, Hashable] = {}
    try:
        for key, item in pairs:
            name = marked(key)
            if (
                name not in known
                and isinstance(key, str)
                and key.lstrip("-").isdecimal()
                and int(key) in known
            ):
                name = int(key)
            found[name] = marked(item)
    except (TypeError, ValueError):
        raise CheckError(
            f"operation {index}: a predicate read found {value!r}: expected a map of keys to values"
        ) from None
    return found


def plainly(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Insertions and deletions as the writes that they are."""
    return tuple(
        ("w", key, value) if f == "insert" else ("w", key, Gone.GONE) if f == "delete" else (f, key, value)
        for f, key, value in steps
    )


__all__ = ["GONE", "NIL", "Gone", "items", "matches", "plainly"]

"""Predicate reads: which versions a transaction must have looked at to find what it found, and not the rest.

What it found are reads like others. Of a key that it did not find, all versions that match are out of
question; where one is left, that is the one it saw (Elle's closed-predicate inference, after Adya's version
sets), and whoever then made the key match did so after it: a phantom, in a cycle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from harness.checkers.model import CheckError, identity
from harness.checkers.transactions.found import Case, Namer, Why
from harness.checkers.transactions.graph import RWP, WRP
from harness.checkers.transactions.reading import FAIL, Step, key_name, marked, told
from harness.checkers.words import shown

if TYPE_CHECKING:
    from harness.checkers.transactions.rw_register import Registers

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
        modulus, plain = predicate[1], told(value)
        if isinstance(modulus, int) and modulus != 0:
            return isinstance(plain, int) and plain % modulus == predicate[2]
    raise CheckError(
        f'predicate {predicate!r} is none of those that are understood: expected "true", ["=", value] or '
        '["mod", modulus, remainder]'
    )


def items(index: int, value: Any, keys: Iterable[Hashable]) -> dict[Hashable, Hashable]:
    """What a predicate read found, by key; of the numbers that JSON made strings of, numbers again."""
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


class PredicateReads:
    """What predicate reads did not find, and who made it match later.

    `Registers.asked` has them: the transaction, the predicate, and by key which version the transaction knew
    by then, -1 where it found the key.
    """

    def __init__(self, registers: Registers) -> None:
        self.registers = registers
        self.selected: dict[int, list[tuple[Any, int]]] = defaultdict(list)  # predicates, and what they saw
        if registers.asked:
            self._judge()

    def _judge(self) -> None:
        versions: dict[Hashable, list[int]] = {}
        for key in self.registers.keys:
            versions[key] = [self.registers.version(key, self.registers.transactions.initial.get(key, NIL))]
        for version, by in enumerate(self.registers.writer):
            if by >= 0 and self.registers.transactions.outcome[by] != FAIL:
                versions[self.registers.key[version]].append(version)
        for t, predicate, known in self.registers.asked:
            matches(predicate, 0)
            for key, those in versions.items():
                if key not in known:
                    self._not_found(t, predicate, [v for v in those if self.registers.writer[v] != t])
                elif (version := known[key]) >= 0 and matches(predicate, self.registers.value[version]):
                    self._missed(t, predicate, version, "internal")

    def _not_found(self, t: int, predicate: Any, versions: list[int]) -> None:
        others = [version for version in versions if not matches(predicate, self.registers.value[version])]
        if not others:
            self._missed(t, predicate, versions[0], "predicate-read-miss")
        if len(others) != 1:
            return
        seen = others[0]
        self.selected[t].append((predicate, seen))
        if (by := self.registers.committed(seen)) >= 0:
            self.registers.graph.link(by, t, WRP)
        for later in self._later(seen, versions):
            if (
                matches(predicate, self.registers.value[later])
                and (by := self.registers.committed(later)) >= 0
            ):
                self.registers.graph.link(t, by, RWP)

    def _later(self, version: int, versions: list[int]) -> list[int]:
        """Those of a key's versions that are known to come after one."""
        if version == self.registers.initial(self.registers.key[version]):
            return [other for other in versions if other != version]
        found, left = dict.fromkeys(self.registers.orders[version]), list(self.registers.orders[version])
        while left:
            for other in self.registers.orders[left.pop()]:
                if other not in found:
                    found[other] = None
                    left.append(other)
        return list(found)

    def _missed(self, t: int, predicate: Any, version: int, name: str) -> None:
        where = key_name(self.registers.key[version])
        why = (
            f"although it must be {shown(told(self.registers.value[version]))}"
            if name == "internal"
            else "although every version that there was matches"
        )

        def text(called: Namer) -> str:
            return f"{called(t)} did not find {where} by the predicate {shown(predicate)}, {why}"

        self.registers.found.add(Case(name, (t,), t, text, key=self.registers.key[version]))

    def why(self, before: int, after: int, kind: int) -> Why:
        """Why a transaction stands before another, by a predicate read of one of them."""
        r = self.registers
        reader, writer = (after, before) if kind == WRP else (before, after)
        if kind == WRP:
            predicate, version = next((p, v) for p, v in self.selected[reader] if r.committed(v) == writer)
        else:
            predicate, version = next(
                (p, left)
                for p, seen in self.selected[reader]
                for key, left in r.last[writer].items()
                if key == r.key[seen] and matches(p, r.value[left])
            )

        def text(name: Namer) -> str:
            left = f"{r.of(version)}, as {name(writer)} left it"
            found = "found nothing of" if kind == WRP else "did not find"
            return f"{name(reader)} {found} {left}, by the predicate {shown(predicate)}"

        return Why(before, after, text)

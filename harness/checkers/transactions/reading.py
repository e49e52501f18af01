"""The transactions of a history: what each did, step by step, and whether it committed.

Differs from `History.operations` in that an operation is taken apart into its micro-operations ``(f, key,
value)``, and in that keys and values are as Python compares them: what is neither an integer nor a string is
kept with its type (see `told`), so that 1, True and 1.0 stay apart.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any, TypeAlias

from harness.checkers.model import CheckError, identity
from harness.checkers.words import key_of, listed
from harness.history import OUTCOMES, History

OK, FAIL, INFO = (OUTCOMES.index(outcome) for outcome in ("ok", "fail", "info"))
Step: TypeAlias = tuple[str, Hashable, Any]


def marked(value: Any) -> Hashable:
    """A key or value as it is compared here."""
    kind = type(value)
    return value if kind is int or kind is str else identity(value)


def told(value: Any) -> Any:
    """The value that `marked` was given."""
    if not isinstance(value, tuple):
        return value
    return tuple(map(told, value[1:])) if value[0] is tuple else value[1]


def key_name(key: Hashable) -> str:
    """A key in a sentence: ``x``, but ``key 4``, which could be anything."""
    plain = told(key)
    return plain if key_of(plain) == plain else f"key {key_of(plain)}"


class Transactions:
    """Transactions, numbered in the order of invocation, as columns.

    `steps[t]` are the micro-operations of transaction t: of one that succeeded those that it reported, else
    those that were asked. `initial` has the values that an ``init`` operation gave keys before all of them.
    `known` are the names of micro-operations that are understood. Raises CheckError, with the operation's
    index, for anything else.
    """

    def __init__(self, history: History, known: Collection[str]) -> None:
        c = history.columns
        self.history = history
        self.rows: list[int] = []
        self.steps: list[tuple[Step, ...]] = []
        self.initial: dict[Hashable, Hashable] = {}
        values, fs = c.values.values, c.fs.values
        for row, f in enumerate(c.f):
            if fs[f] == "init":
                self._begin(row, values[c.value[row]])
                continue
            if fs[f] != "txn":
                raise CheckError(
                    f"operation {c.index[row]} is {fs[f]!r}: expected 'txn', whose value is a list of "
                    f"micro-operations ({listed(sorted(known))})"
                )
            done = values[(c.result if c.type[row] == OK else c.value)[row]]
            self.rows.append(row)
            self.steps.append(self._taken_apart(row, done, known))
        self.outcome = [c.type[row] for row in self.rows]
        self.process = [c.process[row] for row in self.rows]
        self.call = [c.call[row] for row in self.rows]
        self.ret = [c.ret[row] if c.type[row] != INFO else -1 for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, t: int) -> int:
        """The `Operation.index` of a transaction."""
        return self.history.columns.index[self.rows[t]]

    def _taken_apart(self, row: int, done: Any, known: Collection[str]) -> tuple[Step, ...]:
        if type(done) is not tuple:
            raise self._malformed(row, done, known)
        simple = True
        for step in done:
            if type(step) is not tuple or not 2 <= len(step) <= 3 or step[0] not in known:
                raise self._malformed(row, step, known)
            kind = type(step[1])
            if len(step) == 2 or (kind is not str and kind is not int):
                simple = False
        if simple:
            return done
        return tuple((step[0], marked(step[1]), step[2] if len(step) == 3 else None) for step in done)

    def _malformed(self, row: int, what: Any, known: Collection[str]) -> CheckError:
        c = self.history.columns
        verb = "reported" if c.type[row] == OK else "asked for"
        return CheckError(
            f"operation {c.index[row]}, 'txn', {verb} {what!r}: expected a list of micro-operations "
            f"[f, key, value], f being {listed(sorted(known))}"
        )

    def _begin(self, row: int, values: Any) -> None:
        c = self.history.columns
        if self.rows or self.initial or c.type[row] == FAIL:
            raise CheckError(
                f"operation {c.index[row]} is 'init': expected once, before all transactions, and to succeed"
            )
        try:
            self.initial = {marked(key): marked(value) for key, value in values}
        except (TypeError, ValueError):
            raise CheckError(
                f"operation {c.index[row]}, 'init', has {values!r}: expected a map of keys to values"
            ) from None

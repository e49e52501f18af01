"""Which version of a register each operation read and left, where every value is written once.

A version is what one write left: it is numbered by the row of that write. What session guarantees, coherence
and stale reads are judged by; differs from `harness.checkers.kinds` in that it knows registers only, and
tells the write that a value came from.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from harness.checkers.model import CheckError
from harness.checkers.words import at, key_of, listed, shown
from harness.history import OUTCOMES, Columns, History

FS = ("read", "write", "cas", "rmw")
INITIAL = -1  # the version that was there from the beginning: nothing (None)
NONE = -1  # no value
LOST = -2  # a value that nobody knows: that of an rmw of unknown outcome
NEVER = 1 << 62
OK, FAIL = OUTCOMES.index("ok"), OUTCOMES.index("fail")

Why = Literal["unwritten", "failed", "early"]


class Odd(NamedTuple):
    """A read of a value that was never a version, and the writes of it that failed or came too late."""

    row: int
    why: Why
    writes: tuple[int, ...] = ()


@dataclass(slots=True)
class Register:
    """The operations on one key that may have happened, as versions.

    `read` is the version that an operation read, by row: of reads and of what succeeded in replacing a value,
    also of a cas of unknown outcome whose value somebody read. `writes` are the rows that left a version,
    `updates` those of them that replaced the version they read. `odd` are reads that no version explains,
    `unclear` those of a value that two may have written, `guessed` whether it was not known which rmw of
    unknown outcome left what was read.
    """

    key: int
    rows: list[int] = field(default_factory=list)
    read: dict[int, int] = field(default_factory=dict)
    writes: list[int] = field(default_factory=list)
    odd: list[Odd] = field(default_factory=list)
    unclear: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    guessed: bool = False

    @property
    def updates(self) -> list[int]:
        """Rows that read one version and left another at one instant."""
        return [row for row in self.writes if row in self.read]


class Values:
    """The values that operations read and left, as numbers of `Columns.values`, by row.

    `read` is NONE where nobody knows, `left` NONE where nothing was left. Raises CheckError where an
    operation is none of a register, and where a cas or an rmw is no pair.
    """

    def __init__(self, history: History) -> None:
        self.history, self.columns = history, history.columns
        c, halves = self.columns, self.columns.values.halves
        self.read, self.left = array("q", [NONE]) * len(c), array("q", [NONE]) * len(c)
        self.refused = array("b", bytes(len(c)))
        kinds = [FS.index(f) if f in FS else -1 for f in c.fs.values]
        refusal = c.values.known(False)
        for row, (f, value, result, outcome) in enumerate(
            zip(c.f, c.value, c.result, c.type, strict=True)
        ):  # fmt: skip
            kind = kinds[f]
            if kind == 0:
                if outcome == OK:
                    self.read[row] = result
            elif kind == 1:
                self.left[row] = value
            elif kind == 2:
                old, new = halves[2 * value], halves[2 * value + 1]
                if old < 0:
                    raise CheckError(
                        f"operation {c.index[row]}, 'cas' of {c.values.values[value]!r}: a cas has [old, new]"
                    )
                if outcome == OK and result == refusal:
                    self.refused[row] = 1
                elif old != new:
                    self.read[row], self.left[row] = old, new
                elif outcome == OK:
                    self.read[row] = old
            elif kind == 3:
                if outcome == OK:
                    old, new = halves[2 * result], halves[2 * result + 1]
                    if old < 0:
                        raise CheckError(
                            f"operation {c.index[row]}, 'rmw', reported {c.values.values[result]!r}: "
                            "expected [read, written]"
                        )
                    self.read[row], self.left[row] = old, new if old != new else NONE
                else:
                    self.left[row] = LOST
            else:
                raise CheckError(
                    f"operation {c.index[row]} is {c.fs.values[f]!r}; the versions of a register can be told "
                    f"where all operations are {listed(FS)}, since nobody knows what another one leaves"
                )

    def by_key(self) -> Iterator[Register]:
        """The registers, in the order in which their keys were first used."""
        rows: dict[int, list[int]] = {}
        for row, (key, outcome) in enumerate(zip(self.columns.key, self.columns.type, strict=True)):
            if outcome != FAIL:
                rows.setdefault(key, []).append(row)
        for key, its in rows.items():
            yield self.register(key, its)

    def register(self, key: int, rows: list[int], *, guess: bool = True) -> Register:
        """What is known of these rows of a key; `guess` which rmw of unknown outcome left what was read."""
        c, read, left = self.columns, self.read, self.left
        found = Register(key, rows)
        writers: dict[int, list[int]] = {0: [INITIAL]}
        lost: list[int] = []
        asked: list[int] = []  # rows whose read counts, more of them as more is known to have happened
        pending: dict[int, int] = {}  # cas of unknown outcome that nobody is known to have read from
        for row in rows:
            value = left[row]
            if value == LOST:
                lost.append(row)
            elif value != NONE:
                found.writes.append(row)
                writers.setdefault(value, []).append(row)
            if self.refused[row]:
                found.refused.append(row)
            elif read[row] != NONE:
                if c.type[row] == OK:
                    asked.append(row)
                else:
                    pending[row] = row
        orphans: dict[int, list[int]] = {}  # value -> its reads
        for row in asked:  # grows meanwhile
            sources = writers.get(read[row], ())
            if len(sources) > 1:
                found.unclear.append(row)
                continue
            if not sources:
                orphans.setdefault(read[row], []).append(row)
                continue
            write = sources[0]
            if write != INITIAL and 0 <= c.ret[row] < c.call[write]:
                found.odd.append(Odd(row, "early", (write,)))
                continue
            found.read[row] = write
            if write in pending:
                asked.append(pending.pop(write))
        if pending:  # what nobody read may as well not have happened
            found.writes = [row for row in found.writes if row not in pending]
        if orphans:
            self._adopt(found, orphans, lost, guess)
        if found.odd:
            found.odd.sort(key=lambda odd: (c.ret[odd.row] if c.ret[odd.row] >= 0 else NEVER, odd.row))
        return found

    def _adopt(
        self, found: Register, orphans: Mapping[int, list[int]], lost: Sequence[int], guess: bool
    ) -> None:
        """Values that nobody is known to have written are those of rmws of unknown outcome, as many as these.

        Each of these is taken to have left a value of its own, as counters and fresh values are.
        """
        c = self.columns
        calls = sorted((c.call[row], row) for row in lost)
        by_end = sorted(
            (min(c.ret[row] if c.ret[row] >= 0 else NEVER for row in reads), value)
            for value, reads in orphans.items()
        )
        given = 0
        for end, value in by_end:
            open_ = bisect_left(calls, (end, -1))
            if open_ <= given:
                row = min(orphans[value], key=lambda row: (c.ret[row] if c.ret[row] >= 0 else NEVER, row))
                failed = self._failed(found.key, value)
                found.odd.append(Odd(row, "failed" if failed else "unwritten", failed))
                continue
            writer = calls[given][1]
            given += 1
            if not guess:
                writer = -2 - value
            elif len(lost) > 1:
                found.guessed = True
            for row in orphans[value]:
                found.read[row] = writer
            if guess:
                found.writes.append(writer)
        found.writes.sort()

    def _failed(self, key: int, value: int) -> tuple[int, ...]:
        """Failed operations that would have left the value."""
        c = self.columns
        return tuple(
            row
            for row in range(len(c))
            if c.type[row] == FAIL and c.key[row] == key and self.left[row] == value
        )

    def shown(self, version: int) -> str:
        """The value of a version, as Python writes it."""
        if version < INITIAL:
            return shown(self.columns.values.values[-2 - version])
        if version == INITIAL:
            return "None"
        return shown(self.columns.values.values[self.left[version]])

    def process(self, row: int) -> int:
        """Whose operation it is: its session."""
        return self.columns.process[row]

    def of(self, key: int) -> str:
        """`` of k1``, nothing where there are no keys."""
        name = self.columns.keys.values[key]
        return "" if name is None else f" of {key_of(name)}"

    def indexes(self, rows: Iterable[int]) -> tuple[int, ...]:
        """`Operation.index` of rows, in order of invocation."""
        return tuple(sorted(self.columns.index[row] for row in set(rows) if row >= 0))

    def told(self, key: int, odd: Odd) -> str:
        """What is wrong with an odd read, in words."""
        c = self.columns
        row = odd.row
        did = {"read": "read", "cas": "replaced", "rmw": "replaced"}[c.fs.values[c.f[row]]]
        what = shown(c.values.values[self.read[row]])
        head = f"process {c.process[row]} {did} {what}{self.of(key)}"
        if odd.why == "unwritten":
            return f"{head} at {at(c.start[row])[0]}, a value that nobody wrote"
        other = odd.writes[-1]
        if odd.why == "failed":
            when, then = at(c.start[row], c.end[other] if c.end[other] >= 0 else c.start[other])
            return (
                f"{head} at {when} although process {c.process[other]}'s {c.fs.values[c.f[other]]} of it "
                f"was reported as failed at {then}"
            )
        when, then = at(c.end[row], c.start[other])
        return (
            f"{head} by {when}, before process {c.process[other]}'s {c.fs.values[c.f[other]]} of it "
            f"was invoked at {then}"
        )


def shown_version(values: Values, register: Register, version: int) -> str:
    """The value of a version; of one that an rmw of unknown outcome is taken to have left, as it was read."""
    if version >= 0 and values.left[version] == LOST:
        reader = next(row for row, of in register.read.items() if of == version)
        return shown(values.columns.values.values[values.read[reader]])
    return values.shown(version)


__all__ = ["FS", "INITIAL", "Columns", "Odd", "Register", "Values", "shown_version"]

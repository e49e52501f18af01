"""Registers whose operations report a version: no search is needed, the versions are the order.

Each write reports one above all before it, each read the value and the version that it has. So two writes
never share a version, a read has the value that was written with its version, and what was invoked after
something else had returned has no smaller version, a write a greater one. A write of unknown outcome has the
version with which its value was read, if it was; where several may have written that, the engine searches.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.checkers.kinds import OK, Kinds
from harness.checkers.search import Finding


def judged(kinds: Kinds, rows: Sequence[int]) -> Finding | None:
    """What is found of the rows of a key; None where a result is no version, or nobody knows whose one is."""
    c = kinds.columns
    values = c.values.values
    version: dict[int, int] = {}  # of each row that has one
    writes: dict[int, int] = {}  # version -> its write; -1: nobody wrote what is there at first
    lost: dict[int, list[int]] = {}  # value -> its writes of unknown outcome
    reads: list[int] = []
    for row in rows:
        result = values[c.result[row]]
        if c.fs.values[c.f[row]] == "write":
            if c.type[row] != OK:
                lost.setdefault(c.value[row], []).append(row)
                continue
            if type(result) is not int:
                return None
            version[row] = result
            if (other := writes.setdefault(result, row)) != row:
                return _wrong(rows, [row, other])
            if result <= 0:
                return _wrong(rows, [row])
        elif c.type[row] == OK:
            if not (isinstance(result, tuple) and len(result) == 2 and type(result[1]) is int):
                return None
            version[row] = result[1]
            reads.append(row)
    pattern = _unread(kinds, version, writes, lost, reads)
    if pattern is None:
        return None
    pattern = pattern or _too_old(kinds, version, writes)
    if pattern:
        return _wrong(rows, pattern)
    return Finding("valid", None, "", sum(1 for row in rows if c.type[row] == OK), len(rows))


def _wrong(rows: Sequence[int], pattern: list[int]) -> Finding:
    return Finding(
        "invalid", pattern[0], "", 0, len(rows), tuple(sorted({row for row in pattern if row >= 0}))
    )


def _unread(
    kinds: Kinds, version: dict[int, int], writes: dict[int, int], lost: dict[int, list[int]],
    reads: list[int],
) -> list[int] | None:  # fmt: skip
    """A read of what was not written with its version; gives writes of unknown outcome their versions."""
    c = kinds.columns
    for row in reads:
        value, its = c.values.halves[2 * c.result[row]], version[row]
        if its == 0 and value == 0:
            continue
        write = writes.get(its, -1)
        if write < 0:
            candidates = lost.get(value, []) if its > 0 else []
            if len(candidates) != 1:
                return None if candidates else [row]
            write = candidates[0]
            if version.setdefault(write, its) != its:
                return [row, write, next(r for r in reads if r != row and version[r] == version[write])]
            writes[its] = write
        if c.value[write] != value:
            return [row, write]
    return []


def _too_old(kinds: Kinds, version: dict[int, int], writes: dict[int, int]) -> list[int]:
    """What was invoked after something newer had returned, or, if a write, something of its own version."""
    call, ret = kinds.columns.call, kinds.columns.ret
    events = [(call[row], False, row) for row in version]
    events += [(ret[row], True, row) for row in version if ret[row] >= 0]
    events.sort()
    newest = -1
    for _, returned, row in events:
        if returned:
            if newest < 0 or version[row] > version[newest]:
                newest = row
        elif newest >= 0 and version[newest] + (writes.get(version[row]) == row) > version[row]:
            return [row, newest, writes.get(version[row], -1), writes.get(version[newest], -1)]
    return []

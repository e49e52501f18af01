"""Registers in which every value is written once: no search is needed, only sorting.

After Gibbons & Korach, "Testing shared memories" (1997). The zone of a value goes from the first return to
the last call among its write and its reads. Where the one comes before the other, the register held the value
all that time; so no two such zones may overlap, and none may contain the whole zone of another value. The
native kernel does the same, for texts that grow as well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from harness.checkers.kinds import OK, Kinds
from harness.checkers.search import Finding

INITIAL = -1  # its place in time
NEVER = 1 << 62

Zone = tuple[int, int]  # first return, last call


def judged(kinds: Kinds, rows: Sequence[int]) -> Finding | None:
    """What is found of the rows of a key; None where a value is written twice, or it is no plain register."""
    values = _values(kinds, rows)
    if values is None:
        return None
    columns = kinds.columns
    returned = sorted(
        (columns.ret[row], row) for row in rows if columns.type[row] == OK and columns.ret[row] >= 0
    )
    if _fits(kinds, values, NEVER):
        return Finding("valid", None, "", len(returned), len(rows))

    def broken(place: int) -> bool:
        return not _fits(kinds, values, returned[place][0])

    place = bisect_left(range(len(returned) - 1), True, key=broken)
    return Finding("invalid", returned[place][1], "", place, len(rows))


def _values(kinds: Kinds, rows: Sequence[int]) -> dict[int, tuple[int | None, list[int]]] | None:
    """By value: the row that wrote it (None: nobody, or it was there from the beginning) and its reads."""
    values: dict[int, tuple[int | None, list[int]]] = {}
    reads = []
    for row in rows:
        kind = kinds.kind(row)
        needs, makes = kinds.needs[kind], kinds.makes[kind]
        if kinds.effects[kind] is None or kinds.refuses[kind] or (needs is not None and makes is not None):
            return None
        if makes is not None:
            if makes in values:
                return None
            values[makes] = (row, [])
        elif needs is not None:
            reads.append((needs, row))
    initial = kinds.state(kinds.model.initial)
    if initial in values:
        return None
    for value, row in reads:
        values.setdefault(value, (None, []))[1].append(row)
    return values


def _fits(kinds: Kinds, values: dict[int, tuple[int | None, list[int]]], until: int) -> bool:
    """Whether what is known at position `until` can be put in an order."""
    call, ret = kinds.columns.call, kinds.columns.ret
    initial = kinds.state(kinds.model.initial)
    zones: list[Zone] = []
    for value, (write, reads) in values.items():
        first, last = (INITIAL, INITIAL) if value == initial else (NEVER, INITIAL)
        seen = [row for row in reads if 0 <= ret[row] <= until]
        if write is not None:
            if call[write] > until:
                write = None
            else:
                first, last = (ret[write] if 0 <= ret[write] <= until else NEVER), call[write]
        if write is None and value != initial:
            if seen:
                return False  # nobody had written it
            continue
        if write is not None and any(ret[row] < call[write] for row in seen):
            return False  # read before it was written
        if first == NEVER and not seen:
            continue  # nobody knows whether it was ever written
        zones.append((min([first, *(ret[row] for row in seen)]), max([last, *(call[row] for row in seen)])))
    held = sorted(zone for zone in zones if zone[0] < zone[1])
    if any(one[0] < before[1] for before, one in pairwise(held)):
        return False
    begins = [zone[0] for zone in held]
    for first, last in zones:
        if first >= last and last != INITIAL:
            at = bisect_left(begins, last)
            if at and first < held[at - 1][1]:
                return False
    return True

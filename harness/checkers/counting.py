"""Counters to which always the same number is added: no search is needed, only counting.

Which of the adds a read has seen does not matter then, only how many. As few as can be are counted at any
time: one when it returns, and where a read returns that saw more, those that would return soonest. So a read
is wrong where more must have been counted when it was invoked than it saw, or where not so many had even been
invoked when it returned. Adds of several numbers leave it to the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from harness.checkers.kinds import OK, Kinds
from harness.checkers.search import Finding

NEVER = 1 << 62


def judged(kinds: Kinds, rows: Sequence[int]) -> Finding | None:
    """What is found of the rows of a key; None where what is added differs, or is no integer."""
    c = kinds.columns
    adds: list[int] = []
    reads: dict[int, int] = {}  # row -> how many adds it saw
    by = 0
    for row in rows:
        if c.fs.values[c.f[row]] == "add":
            value = c.values.values[c.value[row]]
            if type(value) is not int or value == 0 or by not in (0, value):
                return None
            by = value
            adds.append(row)
    for row in rows:
        if c.fs.values[c.f[row]] != "add" and c.type[row] == OK:
            value = c.values.values[c.result[row]]
            if type(value) is not int:
                return None
            many, rest = divmod(value, by) if by else (value, value)
            if rest or many < 0:
                return _wrong(rows, [row])  # no number of adds leaves that
            reads[row] = many
    pattern = _miscounted(kinds, adds, reads)
    if pattern:
        return _wrong(rows, pattern)
    return Finding("valid", None, "", sum(1 for row in rows if c.type[row] == OK), len(rows))


def _wrong(rows: Sequence[int], pattern: list[int]) -> Finding:
    return Finding("invalid", pattern[0], "", 0, len(rows), tuple(sorted(pattern)))


def _miscounted(kinds: Kinds, adds: list[int], reads: dict[int, int]) -> list[int]:
    """A read that cannot be right, first, and what shows it."""
    call, ret = kinds.columns.call, kinds.columns.ret
    events = [(call[row], False, row) for row in (*adds, *reads)]
    events += [(ret[row], True, row) for row in (*adds, *reads) if ret[row] >= 0]
    events.sort()
    waiting: list[tuple[int, int]] = []  # invoked but not counted, by when they return
    counted: set[int] = set()
    for _, returned, row in events:
        if row in reads:
            if not returned:
                if len(counted) > reads[row]:
                    return _too_few(kinds, adds, reads, row)
                continue
            while len(counted) < reads[row]:
                if not waiting:
                    return [row]  # not so many had been invoked
                counted.add(heappop(waiting)[1])
        elif returned:
            counted.add(row)
        else:
            heappush(waiting, (ret[row] if ret[row] >= 0 else NEVER, row))
        while waiting and waiting[0][1] in counted:
            heappop(waiting)
    return []


def _too_few(kinds: Kinds, adds: list[int], reads: dict[int, int], culprit: int) -> list[int]:
    """The read that saw too few, and an earlier one with the adds since then, or all the adds before."""
    call, ret = kinds.columns.call, kinds.columns.ret
    over = [row for row in adds if 0 <= ret[row] < call[culprit]]
    latest = sorted(over, key=call.__getitem__, reverse=True)
    since: list[int] = []
    earlier = sorted(
        (row for row in reads if 0 <= ret[row] < call[culprit]), key=ret.__getitem__, reverse=True
    )
    for read in earlier:
        while len(since) < len(latest) and call[latest[len(since)]] > ret[read]:
            since.append(latest[len(since)])
        if reads[read] + len(since) > reads[culprit]:
            return [
                culprit,
                read,
                *since[: reads[culprit] - reads[read] + 1 if reads[read] <= reads[culprit] else 0],
            ]
    return [culprit, *over[: reads[culprit] + 1]]

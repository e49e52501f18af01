"""Reads of a register that no correct copy gives, each found by itself, in log-linear time.

Differs from linearizability in that each looks for one pattern and names it: what is found here is never
linearizable, what is not linearizable need not show any of them. Values may repeat: a value is as new as the
newest write of it may be, so that no write of unknown outcome raises a false alarm. An rmw of unknown outcome
is taken to have left a value of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from harness.checkers.vacuity import judged
from harness.checkers.versions import FAIL, LOST, NEVER, NONE, OK, Values
from harness.checkers.words import at, in_force, number, shown
from harness.history import History
from harness.verdict import Verdict, Witness

BEGINNING = -1  # a place before the first event


class Found(NamedTuple):
    """An anomaly: its culprit, the other rows that show it (below 0: none), and what happened, in words."""

    name: str
    row: int
    others: tuple[int, ...]
    told: Callable[[], str]


class _Value:
    """What is known of one value of a key: who may have left it, and who read it."""

    __slots__ = ("failed", "reads", "writes")

    def __init__(self) -> None:
        self.writes: list[int] = []
        self.reads: list[int] = []
        self.failed: list[int] = []


class _Key:
    """The values of one key; `lost` are the rmws of unknown outcome, which may have left anything new."""

    def __init__(self) -> None:
        self.values: dict[int, _Value] = {0: _Value()}
        self.lost: list[int] = []
        self.reads: list[int] = []

    def of(self, value: int) -> _Value:
        if (found := self.values.get(value)) is None:
            found = self.values[value] = _Value()
        return found


def no_dirty_read(history: History) -> Verdict:
    """No operation reads a value that was never there: only failed writes left it, none did, or none had yet.

    These are a dirty read, an unwritten value and a future read. Raises CheckError where an operation is none
    of ``read``, ``write``, ``cas`` and ``rmw``.
    """
    return _judge(history, "no-dirty-read", _never_there, "no read of what was never there")


def no_stale_read(history: History) -> Verdict:
    """No operation reads a value that had been overwritten before it was invoked.

    Overwritten: all that may have left the value had returned (or somebody had read it, where it was left
    once) when a write of another value was invoked, and that one had returned, or was read by somebody who
    had, before the read began. Raises as `no_dirty_read` does.
    """
    return _judge(history, "no-stale-read", _stale, "no stale read")


def no_non_monotonic_read(history: History) -> Verdict:
    """No value comes back that was left once: seen, then another one read, then it again, one after another.

    Each has returned before the next is invoked, in one process or in several. Differs from `no_stale_read`
    in that it needs no acknowledged write, and from monotonic reads in that time counts and sessions do not.
    Raises as `no_dirty_read` does.
    """
    return _judge(history, "no-non-monotonic-read", _back, "no read went back")


def _judge(
    history: History, name: str, look: Callable[[Values, _Key], Iterator[Found]], kept: str
) -> Verdict:
    values = Values(history)
    c = values.columns
    names: dict[str, int] = {}
    first: Found | None = None
    keys = _keys(values)
    for key in keys.values():
        for found in look(values, key):
            names[found.name] = names.get(found.name, 0) + 1
            if first is None or c.ret[found.row] < c.ret[first.row]:
                first = found
    reads = sum(len(key.reads) for key in keys.values())
    evidence = {"reads": reads, "keys": len(keys)}
    if first is None:
        lacking = [] if reads else ["nothing was read"]
        return judged(name, history, kept=kept, evidence=evidence, lacking=lacking)
    row = first.row
    sentence = first.told() + in_force(history, c.start[row])
    summary = number(names[first.name], first.name)
    return judged(
        name, history, kept="", key=c.keys.values[c.key[row]], evidence={**evidence, "anomalies": names},
        witness=(summary, Witness(sentence, values.indexes((row, *first.others)), c.index[row])),
    )  # fmt: skip


def _keys(values: Values) -> dict[int, _Key]:
    """What was read and left, by key. Reads are of those that succeeded; a cas or an rmw is one, too."""
    c = values.columns
    keys: dict[int, _Key] = {}
    for row, (key, outcome) in enumerate(zip(c.key, c.type, strict=True)):
        its = keys.get(key)
        if its is None:
            its = keys[key] = _Key()
        left = values.left[row]
        if outcome == FAIL:
            if left >= 0:
                its.of(left).failed.append(row)
            continue
        if left == LOST:
            its.lost.append(row)
        elif left != NONE:
            its.of(left).writes.append(row)
        if outcome == OK and values.read[row] != NONE:
            its.of(values.read[row]).reads.append(row)
            its.reads.append(row)
    return keys


def _did(values: Values, row: int, when: str) -> str:
    """``process 3 read 41 of k at 12.40 s``."""
    c = values.columns
    verb = "read" if c.fs.values[c.f[row]] == "read" else "replaced"
    what = shown(c.values.values[values.read[row]])
    return f"process {c.process[row]} {verb} {what}{values.of(c.key[row])} {when}"


def _wrote(values: Values, row: int) -> str:
    """``process 1's write of 42``."""
    c = values.columns
    return f"process {c.process[row]}'s {c.fs.values[c.f[row]]} of {shown(c.values.values[values.left[row]])}"


# ------------------------------------------------------------------------------------------ never there


def _never_there(values: Values, key: _Key) -> Iterator[Found]:
    c = values.columns
    lost = min((c.call[row] for row in key.lost), default=NEVER)
    for value, its in key.values.items():
        if value == 0:
            continue
        write = min(its.writes, key=c.call.__getitem__, default=-1)
        called = c.call[write] if write >= 0 else lost
        for row in its.reads:
            if called < c.ret[row]:
                continue
            if write >= 0:
                yield Found("future read", row, (write,), partial(_future_told, values, row, write))
            elif its.failed:
                failed = its.failed[-1:]
                yield Found("dirty read", row, tuple(failed), partial(_dirty_told, values, row, failed[0]))
            else:
                yield Found("unwritten value", row, (), partial(_unwritten_told, values, row))


def _future_told(values: Values, row: int, write: int) -> str:
    end, then = at(values.columns.end[row], values.columns.start[write])
    return f"{_did(values, row, f'by {end}')}, before {_wrote(values, write)} was invoked at {then}"


def _dirty_told(values: Values, row: int, write: int) -> str:
    c = values.columns
    when, then = at(c.start[row], max(c.end[write], c.start[write]))
    return f"{_did(values, row, f'at {when}')} although {_wrote(values, write)} failed at {then}"


def _unwritten_told(values: Values, row: int) -> str:
    when = at(values.columns.start[row])[0]
    return f"{_did(values, row, f'at {when}')}, a value that nobody wrote"


# ---------------------------------------------------------------------------------------- stale and back


def _seen(values: Values, key: _Key, value: int) -> tuple[int, int]:
    """When a value was surely there for the first time, if it was left once; and the row that shows it."""
    c = values.columns
    its = key.values[value]
    if value == 0:
        return (BEGINNING, -1) if not its.writes else (NEVER, -1)
    if len(its.writes) > 1:
        return NEVER, -1
    returned = ((c.ret[row], row) for row in (*its.writes, *its.reads) if c.ret[row] >= 0)
    return min(returned, default=(NEVER, -1))


def _stale(values: Values, key: _Key) -> Iterator[Found]:
    c = values.columns
    there: list[tuple[int, int, int, int]] = []  # since when a write surely happened, its call, row, shown by
    over: dict[int, tuple[int, int]] = {}  # from when on any later write replaces a value for good
    for value, its in key.values.items():
        seen = over[value] = _seen(values, key, value)
        if len(its.writes) > (value != 0):
            over[value] = max((c.ret[row] if c.ret[row] >= 0 else NEVER, row) for row in its.writes)
        for row in its.writes:
            own = (c.ret[row], row) if c.ret[row] >= 0 else (NEVER, row)
            since, by = min(own, seen) if value != 0 else own
            if c.call[row] < since < NEVER:
                there.append((since, c.call[row], row, by))
    there.sort()
    newest = _newest([(call, values.left[row], place) for place, (_, call, row, _) in enumerate(there)])
    since_when = [entry[0] for entry in there]
    for value, its in key.values.items():
        end, ended = over[value]
        for row in its.reads:
            found = _other(newest, bisect_left(since_when, c.call[row]), value, end)
            if found >= 0:
                by = ended
                _, called, write, shower = there[found]
                if 0 <= c.ret[write] < c.call[row]:
                    shower = write
                if len(its.writes) == 1 and 0 <= c.ret[its.writes[0]] < called:
                    by = its.writes[0]
                others = (write, shower, by, *its.writes)
                yield Found("stale read", row, others, partial(_stale_told, values, row, write, shower))


def _stale_told(values: Values, row: int, write: int, shower: int) -> str:
    c = values.columns
    when, then = at(c.start[row], c.end[shower])
    if shower == write:
        return (
            f"{_did(values, row, f'at {when}')} although {_wrote(values, write)} was acknowledged at {then}"
        )
    reader = f"process {c.process[shower]}"
    return f"{_did(values, row, f'at {when}')} although {reader} had read {_wrote(values, write)} by {then}"


def _back(values: Values, key: _Key) -> Iterator[Found]:
    c = values.columns
    reads = sorted((c.ret[row], row) for row in key.reads)
    ends = [end for end, _ in reads]
    newest = _newest([(c.call[row], values.read[row], place) for place, (_, row) in enumerate(reads)])
    for value, its in key.values.items():
        since, by = _seen(values, key, value)
        if since == NEVER:
            continue
        for row in its.reads:
            found = _other(newest, bisect_left(ends, c.call[row]), value, since)
            if found >= 0:
                between = reads[found][1]
                if its.writes and 0 <= c.ret[its.writes[0]] < c.call[between]:
                    by = its.writes[0]
                others = (between, by, *its.writes, *key.values[values.read[between]].writes[:1])
                yield Found("non-monotonic read", row, others, partial(_back_told, values, row, between, by))


def _back_told(values: Values, row: int, between: int, by: int) -> str:
    c = values.columns
    when, then = at(c.start[row], c.start[between])
    other = shown(c.values.values[values.read[between]])
    told = f"{_did(values, row, f'at {when}')} although process {c.process[between]} read {other} at {then}"
    if by < 0:
        return f"{told}, and it is older: it was there from the beginning"
    what = "had read" if values.left[by] != values.read[row] else "had written"
    return f"{told}, and it is older: process {c.process[by]} {what} it by {at(c.end[by])[0]}"


def _newest(entries: Sequence[tuple[int, int, int]]) -> list[tuple[tuple[int, int, int], ...]]:
    """By number of entries (call, value, place): the one called last, and the last of another value."""
    best: tuple[tuple[int, int, int], ...] = ()
    found = [best]
    for entry in entries:
        first: dict[int, tuple[int, int, int]] = {}
        for one in sorted((*best, entry), reverse=True):
            first.setdefault(one[1], one)
        best = tuple(first.values())[:2]
        found.append(best)
    return found


def _other(newest: Sequence[tuple[tuple[int, int, int], ...]], place: int, value: int, after: int) -> int:
    """The place of the newest entry so far that is of another value and was called after `after`, else -1."""
    for call, its, where in newest[place]:
        if its != value:
            return where if call > after else -1
    return -1


__all__ = ["no_dirty_read", "no_non_monotonic_read", "no_stale_read"]

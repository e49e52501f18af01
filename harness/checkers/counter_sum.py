"""A counter: each read is a sum that was possible when it was made.

Differs from ``linearizable:counter`` in that each read is judged by itself, in about linear time: two reads
may suppose different things of the adds whose outcome nobody knows, or of those under way. So it sees fewer
violations (not that a value went back while an add was under way), but answers whatever the concurrency, and
can be asked of final reads alone, as of a counter that is only to converge.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.checkers.model import CheckError
from harness.checkers.spans import FOREVER, Anomaly, Span, by_key, of_key, spans, verdict_of
from harness.checkers.words import at, listed
from harness.history import History
from harness.verdict import Verdict

MOST = 20_000  # intervals of sums, before a read is left undecided
TRIALS = 400  # at making a witness smaller
SHOWN = 3  # ranges in a sentence
NOUNS = {"low": "low read", "high": "high read", "unreachable": "unreachable read"}

Sums = tuple[tuple[int, int], ...]  # disjoint intervals of integers, ascending, none next to another


class _TooMany(Exception):
    """The sums have more gaps than can be kept."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A read, the sum of what was surely added before it, and those adds that may have been, by amount."""

    span: Span
    base: int
    meanwhile: tuple[int, ...]  # of adds that were under way, and will be acknowledged
    crashed: int  # how many adds of unknown outcome had begun


def counter(history: History, initial: int = 0, final_only: bool = False) -> Verdict:
    """Each read is `initial` plus all adds acknowledged before it began plus some of those then under way.

    Adds of unknown outcome that began before it ended may be among these or not; amounts may be negative. The
    reachable sums are exact, not only their bounds. `final_only` looks at final reads alone. Where the sums
    have too many gaps to be kept, the verdict is unknown, cause ``memory``, unless another read is wrong.
    Raises CheckError where an amount or a read is no integer, and for operations but ``add`` and ``read``.

    >>> history = History.from_events([
    ...     {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "read", "value": None},
    ...     {"index": 1, "time": 5, "type": "ok", "process": 0, "f": "read", "value": 1}])
    >>> counter(history).witness.sentence
    'process 0 read 1 at 0.00 s, but what was added by then allows only 0'
    """
    found: list[Anomaly] = []
    undecided: list[Span] = []
    judged = added = finals = 0
    for group in by_key(spans(history, ("add", "read"), "counters")).values():
        for span in group:
            _integer(span)
            finals += span.op.f == "read" and span.happened and span.op.final
        adds = [span for span in group if span.op.f == "add" and span.op.type != "fail"]
        added += len(adds)
        crashed = [span.op.value for span in adds if not span.happened]
        sums = _Growing(crashed)
        for read in _reads(group, initial, final_only):
            judged += 1
            value = _value(read.span, initial)
            try:
                kind = _wrong(read, value, sums)
            except _TooMany:
                undecided.append(read.span)
                continue
            if kind:
                found.append(_anomaly(kind, read, value, initial, adds, sums))
    lacking = [] if added else ["no add was invoked"]
    if final_only and not finals:
        lacking.append("the final reads never came")
    elif not judged:
        lacking.append("no read succeeded")
    evidence = {"reads": judged, "adds": added, "undecided": len(undecided)}
    if undecided and not found:
        summary = (
            f"process {undecided[0].op.process}'s read at {at(undecided[0].op.start)[0]} was not decided: "
        )
        summary += "too many sums are possible"
        return Verdict(
            "counter", "unknown", summary, cause="memory", evidence={**evidence, "missing": [summary]},
            key=undecided[0].op.key,
        )  # fmt: skip
    return verdict_of(
        "counter", history, found, kept="each read is a possible sum", nouns=NOUNS, evidence=evidence,
        lacking=lacking,
    )  # fmt: skip


def _integer(span: Span) -> None:
    op = span.op
    told = op.value if op.f == "add" else op.result
    if type(told) is not int and (op.f == "add" or (span.happened and told is not None)):
        raise CheckError(f"operation {op.index}, {op.f!r} of {told!r}: a counter has integers")


def _value(span: Span, initial: int) -> int:
    """What was read; nothing there counts as the initial value."""
    return initial if span.op.result is None else int(span.op.result)


def _reads(group: Sequence[Span], initial: int, final_only: bool) -> Iterable[_Read]:
    """The acknowledged reads, in the order of their returns, in one sweep over all events."""
    events = []
    for span in group:
        if (span.op.f == "add" and span.op.type != "fail") or (span.op.f == "read" and span.happened):
            if span.op.f == "read" and final_only and not span.op.final:
                continue
            events.append((span.call, 0, span))
            if span.ret != FOREVER:
                events.append((span.ret, 1, span))
    events.sort(key=lambda event: event[0])
    base, crashed = initial, 0
    adding: dict[int, int] = {}  # index -> amount, of those under way
    reading: dict[int, tuple[int, list[int]]] = {}  # index -> base and what was under way meanwhile
    for _, over, span in events:
        op = span.op
        if op.f == "read":
            if not over:
                reading[op.index] = (base, list(adding.values()))
            else:
                before, meanwhile = reading.pop(op.index)
                yield _Read(span, before, tuple(meanwhile), crashed)
        elif over:
            base += adding.pop(op.index)
        elif span.ret == FOREVER:
            crashed += 1
        else:
            adding[op.index] = op.value
            for _, meanwhile in reading.values():
                meanwhile.append(op.value)


class _Growing:
    """The sums of some of the first n of these amounts; n never gets smaller."""

    def __init__(self, amounts: Sequence[int]) -> None:
        self.amounts = amounts
        self.low = self.high = self.taken = 0
        self._sums: Sums | None = ((0, 0),)

    def of(self, count: int) -> Sums:
        """Raises _TooMany."""
        for amount in self.amounts[self.taken : count]:
            self.low, self.high = self.low + min(amount, 0), self.high + max(amount, 0)
            if self._sums is not None:
                try:
                    self._sums = _with(self._sums, amount)
                except _TooMany:
                    self._sums = None
        self.taken = count
        if self._sums is None:
            raise _TooMany
        return self._sums


def _with(sums: Sums, amount: int, times: int = 1) -> Sums:
    """The sums, and those with `amount` added up to so many times. Raises _TooMany."""
    for done in range(times):
        if len(sums) == 1 and abs(amount) <= sums[0][1] - sums[0][0] + 1:
            (low, high), rest = sums[0], amount * (times - done)
            return ((low + min(rest, 0), high + max(rest, 0)),)
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*sums, *((low + amount, high + amount) for low, high in sums)]):
            if merged and low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        if len(merged) > MOST:
            raise _TooMany
        sums = tuple(merged)
    return sums


def _all(sums: Sums, amounts: Iterable[int]) -> Sums:
    """The sums with any of these amounts added, the smallest first, since they close gaps."""
    for amount, times in sorted(Counter(amounts).items(), key=lambda item: (abs(item[0]), item[0])):
        sums = _with(sums, amount, times)
    return sums


def _holds(sums: Sums, value: int) -> bool:
    place = bisect_left(sums, value, key=lambda interval: interval[1])
    return place < len(sums) and sums[place][0] <= value


def _wrong(read: _Read, value: int, sums: _Growing) -> str:
    """What is wrong with a read, or "". Raises _TooMany where only the bounds are known and it is within."""
    rest = value - read.base
    possible: Sums | None
    try:
        possible = sums.of(read.crashed)
    except _TooMany:
        possible = None
    if rest < sums.low + sum(amount for amount in read.meanwhile if amount < 0):
        return "low"
    if rest > sums.high + sum(amount for amount in read.meanwhile if amount > 0):
        return "high"
    if possible is None:
        raise _TooMany
    return "" if _holds(_all(possible, read.meanwhile), rest) else "unreachable"


def _anomaly(
    kind: str, read: _Read, value: int, initial: int, adds: Sequence[Span], sums: _Growing
) -> Anomaly:
    before = [add for add in adds if add.ret < read.span.call]
    others = [add.op.value for add in adds if add.ret >= read.span.call and add.call < read.span.ret]
    if kind == "unreachable":
        needed = _needed(before, others, value - initial)
    else:
        needed = _enough(kind, before, others, value - initial)
    try:
        reached = _all(sums.of(read.crashed), read.meanwhile)
        allowed: Sums | None = tuple((low + read.base, high + read.base) for low, high in reached)
    except _TooMany:
        allowed = None
    indexes = tuple(add.op.index for add in needed)
    return Anomaly(kind, read.span, indexes, partial(_said, kind, read, value, allowed))


def _enough(kind: str, before: Sequence[Span], others: Sequence[int], value: int) -> list[Span]:
    """So many of the adds before, the largest first, that the rest cannot make up for them."""
    sign = 1 if kind == "low" else -1
    amounts = [*(add.op.value for add in before), *others]
    bound = sum(min(sign * amount, 0) for amount in amounts)  # the least, if each may be left out
    chosen: list[Span] = []
    for add in sorted(before, key=lambda add: (-sign * add.op.value, add.op.index)):
        if bound > sign * value:
            break
        chosen.append(add)
        bound += max(sign * add.op.value, 0)
    return chosen


def _needed(before: Sequence[Span], others: Sequence[int], value: int) -> list[Span]:
    """The adds before without any of which the value is a possible sum: leave out ever fewer at once."""
    kept = list(before)
    unreachable = _trial(before, others, value)
    size = len(kept)
    while size and kept:
        place = 0
        while place < len(kept):
            fewer = kept[:place] + kept[place + size :]
            if unreachable(fewer):
                kept = fewer
            else:
                place += size
        size //= 2
    return kept


def _trial(before: Sequence[Span], others: Sequence[int], value: int) -> Callable[[Sequence[Span]], bool]:
    left = [TRIALS]

    def unreachable(fixed: Sequence[Span]) -> bool:
        left[0] -= 1
        sure = {add.op.index for add in fixed}
        free = [*others, *(add.op.value for add in before if add.op.index not in sure)]
        base = sum(add.op.value for add in fixed)
        try:
            return left[0] >= 0 and not _holds(_all(((0, 0),), free), value - base)
        except _TooMany:
            return False

    return unreachable


def _said(kind: str, read: _Read, value: int, allowed: Sums | None) -> str:
    op = read.span.op
    of = of_key(op)
    text = f"process {op.process} read {value:,}{of} at {at(op.start)[0]}, but what was added by then allows "
    if allowed is None:
        return text + ("only more" if kind == "low" else "only less")
    if len(allowed) <= SHOWN:
        ranges = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in allowed]
        return f"{text}only {listed(ranges)}"
    if kind == "unreachable":
        above = bisect_left(allowed, value, key=lambda interval: interval[1])
        return f"{text}nothing between {allowed[above - 1][1]:,} and {allowed[above][0]:,}"
    return text + (f"no less than {allowed[0][0]:,}" if kind == "low" else f"no more than {allowed[-1][1]:,}")

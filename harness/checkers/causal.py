"""Causal consistency: whoever saw an effect has seen its causes.

Differs from the session guarantees in that causes pass from process to process: what one wrote after it had
read another's write is never seen without that. Differs from linearizability in that real time does not
count: a process that nobody ever heard from may be stale for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from harness.checkers.model import CheckError
from harness.checkers.spans import Anomaly, Span, from_nowhere, mark, of_key, spans, verdict_of
from harness.checkers.words import at, shown
from harness.history import History
from harness.verdict import Edge, Verdict

FS = ("write", "read", "read-init")
NOUNS = {
    "CyclicCO": "circle of causes",
    "ThinAirRead": "value from thin air",
    "WriteCOInitRead": "read of nothing after a write",
    "WriteCORead": "read of an overwritten value",
}
Written = tuple[Hashable, Hashable]  # key and value
Clock = list[int]  # by process that writes, how many of its writes are among the causes


@dataclass(slots=True)
class _Causes:
    """What each operation causes: the next ones of its process, and the reads of what it wrote."""

    sequences: dict[int, list[Span]] = field(default_factory=dict)  # by process
    place: dict[int, tuple[int, int]] = field(default_factory=dict)  # index -> process, place in its sequence
    source: dict[int, Span] = field(default_factory=dict)  # index of a read -> the write
    readers: dict[int, list[Span]] = field(default_factory=dict)  # index of a write -> its reads


@dataclass(slots=True)
class _Past:
    """The writes that happened so far in the order of causes, and their clocks."""

    columns: dict[int, int]  # process -> column of clocks
    number: dict[int, int] = field(default_factory=dict)  # index of a write -> the how manieth of its process
    clock: dict[int, Clock] = field(default_factory=dict)
    by_key: dict[Hashable, dict[int, tuple[list[int], list[Span]]]] = field(default_factory=dict)


def causal(history: History, initial: Any = None) -> Verdict:
    """Registers are causally consistent: no bad pattern of Bouajjani and others (POPL 2017) is there.

    The causal order is that of each process and, across processes, from a write to the reads of its value. It
    must be no circle (CyclicCO); a read may return no value that nobody wrote by then (ThinAirRead), nor the
    `initial` one after a write of the key among its causes (WriteCOInitRead), nor one that another write
    among its causes had overwritten (WriteCORead). These four are all of causal consistency; causal memory
    and convergence ask for more. What ``read-init`` reports, if nobody wrote it, is an initial value, too.
    Time is about n times the number of processes that write. Raises CheckError for other operations, and
    where a value of a key is written twice, since then nobody knows which of the writes was read.

    >>> told = [("write", 1), ("write", 2), ("read", 1)]
    >>> history = History.from_events(
    ...     {"index": 2 * i + done, "time": i, "type": ("invoke", "ok")[done], "process": 0, "f": f,
    ...      "value": value} for i, (f, value) in enumerate(told) for done in (0, 1))
    >>> causal(history).summary
    '1 read of an overwritten value'
    """
    every = spans(history, FS, "causal consistency")
    writes, refused = _writes(every, initial)
    firsts = _firsts(every, writes)
    found: list[Anomaly] = []
    causes = _Causes()
    future: list[Span] = []
    sources: dict[int, Span] = {}
    nowhere: set[int] = set()  # reads of values that nobody wrote
    for span in every:
        if span.op.f == "write" or not span.happened:
            continue
        told = mark(span.op.result)
        written = (mark(span.op.key), told)
        write = writes.get(written)
        if write is not None:
            sources[span.op.index] = write
            if write.call > span.ret:
                future.append(span)
        elif told != mark(initial) and firsts.get(written[0]) != told:
            why = refused.get(written)
            others = () if why is None else (why.op.index,)
            found.append(Anomaly("ThinAirRead", span, others, partial(_nowhere, span, why)))
            nowhere.add(span.op.index)
    _arrange(causes, (span for span in every if span.op.index not in nowhere), sources)
    reads = sum(span.op.f != "write" and span.happened for span in every)
    broken, circle = _ordered(causes, sources)
    if circle:
        found.append(_circle(causes, circle))
    else:
        for span in future:
            why = sources[span.op.index]
            found.append(Anomaly("ThinAirRead", span, (why.op.index,), partial(_nowhere, span, why)))
    if broken:
        first = min(broken, key=lambda one: (one[0].ret, one[0].op.index))
        found += [_overwritten(causes, *one, shortest=one is first) for one in broken]
    lacking = [] if writes else ["no write was invoked"]
    if not sources:
        lacking.append("no read saw a write")
    return verdict_of(
        "causal", history, found, kept="causally consistent", nouns=NOUNS, lacking=lacking,
        evidence={"writes": len(writes), "reads": reads, "processes": len(causes.sequences)},
    )  # fmt: skip


def _writes(every: Iterable[Span], initial: Any) -> tuple[dict[Written, Span], dict[Written, Span]]:
    """The writes that may have happened, and those that did not. Raises CheckError where two are alike."""
    writes: dict[Written, Span] = {}
    refused: dict[Written, Span] = {}
    for span in every:
        if span.op.f != "write":
            continue
        written = (mark(span.op.key), mark(span.op.value))
        if span.op.type == "fail":
            refused.setdefault(written, span)
            continue
        before = writes.setdefault(written, span)
        if before is not span or written[1] == mark(initial):
            what = "as the key has it initially" if before is span else f"as did operation {before.op.index}"
            raise CheckError(
                f"operation {span.op.index} writes {shown(span.op.value)}, {what}: causal consistency can be "
                "judged where each value of a key is written once"
            )
    return writes, refused


def _firsts(every: Iterable[Span], writes: Mapping[Written, Span]) -> dict[Hashable, Hashable]:
    """By key the initial value that a ``read-init`` saw first."""
    found: dict[Hashable, Hashable] = {}
    for span in every:
        written = (mark(span.op.key), mark(span.op.result))
        if span.op.f == "read-init" and span.happened and written not in writes:
            found.setdefault(*written)
    return found


def _arrange(causes: _Causes, every: Iterable[Span], sources: Mapping[int, Span]) -> None:
    """Of operations of unknown outcome only those count whose value was read."""
    causes.source.update(sources)
    seen = {write.op.index for write in sources.values()}
    for span in every:
        if span.happened or span.op.index in seen:
            sequence = causes.sequences.setdefault(span.op.process, [])
            causes.place[span.op.index] = (span.op.process, len(sequence))
            sequence.append(span)
            if (write := sources.get(span.op.index)) is not None:
                causes.readers.setdefault(write.op.index, []).append(span)


Broken = tuple[
    Span, "Span | None", Span
]  # a read, the write of its value, the write that it should have seen


def _ordered(causes: _Causes, sources: Mapping[int, Span]) -> tuple[list[Broken], list[Span]]:
    """Walk through all operations in the order of causes: wrong reads, and a circle of reads that wait."""
    writers = [p for p, sequence in causes.sequences.items() if any(s.op.f == "write" for s in sequence)]
    past = _Past({process: column for column, process in enumerate(writers)})
    now: dict[int, Clock] = {process: [0] * len(writers) for process in causes.sequences}
    head = dict.fromkeys(causes.sequences, 0)
    waiting: dict[int, list[int]] = {}  # index of a write -> processes
    broken: list[Broken] = []
    ready = list(causes.sequences)[::-1]
    while ready:
        process = ready.pop()
        sequence, clock = causes.sequences[process], now[process]
        while head[process] < len(sequence):
            span = sequence[head[process]]
            if span.op.f == "write":
                clock = _write(past, span, clock)
                ready += waiting.pop(span.op.index, ())
            else:
                write = sources.get(span.op.index)
                if write is not None and write.op.index not in past.clock:
                    waiting.setdefault(write.op.index, []).append(process)
                    break
                clock = _read(past, span, write, clock, broken)
            head[process] += 1
        now[process] = clock
    stuck = {process: causes.sequences[process][place] for process, place in head.items()
             if place < len(causes.sequences[process])}  # fmt: skip
    return broken, _waiting_circle(causes, stuck)


def _write(past: _Past, span: Span, clock: Clock) -> Clock:
    column = past.columns[span.op.process]
    clock = clock.copy()
    clock[column] += 1
    past.number[span.op.index] = clock[column]
    past.clock[span.op.index] = clock
    numbers, written = past.by_key.setdefault(mark(span.op.key), {}).setdefault(column, ([], []))
    numbers.append(clock[column])
    written.append(span)
    return clock


def _read(past: _Past, span: Span, write: Span | None, clock: Clock, broken: list[Broken]) -> Clock:
    """The clock after a read; what it should have seen instead is looked for among its causes so far."""
    others = past.by_key.get(mark(span.op.key), {})
    if write is None:
        for column, (numbers, written) in others.items():
            if numbers[0] <= clock[column]:
                broken.append((span, None, written[0]))
                break
        return clock
    column, number = past.columns[write.op.process], past.number[write.op.index]
    if clock[column] < number:  # news: whatever overwrote it would have brought it along
        return list(map(max, clock, past.clock[write.op.index]))
    for other, (numbers, written) in others.items():
        place = bisect_right(numbers, clock[other]) - 1
        if (
            place >= 0
            and written[place] is not write
            and past.clock[written[place].op.index][column] >= number
        ):
            broken.append((span, write, written[place]))
            break
    return clock


def _waiting_circle(causes: _Causes, stuck: Mapping[int, Span]) -> list[Span]:
    """Reads each of which waits for a write that comes after the next one in its process."""
    if not stuck:
        return []
    order: list[int] = []
    process = min(stuck, key=lambda one: (stuck[one].ret, stuck[one].op.index))
    while process not in order:
        order.append(process)
        process = causes.source[stuck[process].op.index].op.process
    return [stuck[one] for one in order[order.index(process) :]]


def _circle(causes: _Causes, reads: Sequence[Span]) -> Anomaly:
    edges = []
    for read, following in zip(reads, [*reads[1:], reads[0]], strict=True):
        write = causes.source[read.op.index]
        edges.append(Edge(write.op.index, read.op.index, "its value was read"))
        edges.append(Edge(following.op.index, write.op.index, f"process {write.op.process} did it next"))
    culprit = max(reads, key=lambda read: (read.ret, read.op.index))
    others = tuple(index for edge in edges for index in (edge.before, edge.after))
    return Anomaly("CyclicCO", culprit, others, partial(_round, causes, reads), tuple(edges[::-1]))


def _round(causes: _Causes, reads: Sequence[Span]) -> str:
    told = []
    for read, when in zip(reads, at(*(read.op.start for read in reads)), strict=True):
        write = causes.source[read.op.index].op
        what = f"{shown(read.op.result)}{of_key(read.op)}"
        told.append(f"process {read.op.process} read {what} at {when}, which process {write.process} wrote")
    return "; ".join(told) + ": each only after it had read the other" + ("" if len(told) == 2 else "s")


def _overwritten(causes: _Causes, read: Span, write: Span | None, newer: Span, *, shortest: bool) -> Anomaly:
    """With the shortest chains of causes, which are looked for once only."""
    name = "WriteCOInitRead" if write is None else "WriteCORead"
    if not shortest:
        return Anomaly(name, read, (newer.op.index,), partial(_stale, read, write, newer))
    ways = [_steps(causes, read, forwards=False)]
    if write is not None:
        ways.append(_steps(causes, write, forwards=True))
    candidates = [
        span for sequence in causes.sequences.values() for span in sequence
        if span.op.f == "write" and span is not write and mark(span.op.key) == mark(read.op.key)
        and all(span.op.index in steps.before for steps in ways)
    ]  # fmt: skip
    newer = min(candidates, key=lambda span: (sum(len(steps.to(span)) for steps in ways), span.op.index))
    path = ways[0].to(newer)
    if write is not None:
        path = [*ways[1].to(newer)[::-1], *path[1:]]
    last = Edge(read.op.index, newer.op.index, f"it did not see the write of {shown(newer.op.value)}")
    others = tuple(span.op.index for span in path)
    return Anomaly(name, read, others, partial(_stale, read, write, newer), (*_edges(causes, path), last))


@dataclass(frozen=True, slots=True)
class _Steps:
    """What can be reached from an operation: by index the one before it on a shortest way."""

    before: dict[int, Span | None]

    def to(self, span: Span) -> list[Span]:
        """A shortest way, from `span` on back to the start."""
        path = [span]
        while (earlier := self.before[path[-1].op.index]) is not None:
            path.append(earlier)
        return path


def _steps(causes: _Causes, start: Span, *, forwards: bool) -> _Steps:
    """All that `start` caused, or all its causes, breadth first; what its process did is a step away."""
    found: dict[int, Span | None] = {start.op.index: None}
    covered: dict[int, int] = {}  # process -> a place from which (up to which) all is found
    rank = [start]
    while rank:
        following = []
        for span in rank:
            process, place = causes.place[span.op.index]
            sequence = causes.sequences[process]
            if forwards:
                until = covered.get(process, len(sequence))
                nexts = [*sequence[place + 1 : until], *causes.readers.get(span.op.index, ())]
                covered[process] = min(until, place)
            else:
                since = covered.get(process, -1)
                nexts = sequence[since + 1 : place]
                nexts += [source] if (source := causes.source.get(span.op.index)) is not None else []
                covered[process] = max(since, place)
            for other in nexts:
                if other.op.index not in found:
                    found[other.op.index] = span
                    following.append(other)
        rank = following
    return _Steps(found)


def _edges(causes: _Causes, path: Sequence[Span]) -> list[Edge]:
    return [
        Edge(
            a.op.index, b.op.index,
            "its value was read" if causes.source.get(b.op.index) is a and a.op.process != b.op.process
            else f"process {a.op.process} did it next",
        )
        for a, b in pairwise(path)
    ]  # fmt: skip


def _stale(read: Span, write: Span | None, newer: Span) -> str:
    op = read.op
    text = f"process {op.process} read {shown(op.result)}{of_key(op)} at {at(op.start)[0]}, although "
    if newer.op.process == op.process:
        text += f"it had written {shown(newer.op.value)} itself"
    else:
        text += f"process {newer.op.process}'s write of {shown(newer.op.value)} is among its causes"
    if write is None:
        return text
    return text + f", and that came after process {write.op.process}'s write of {shown(write.op.value)}"


def _nowhere(read: Span, why: Span | None) -> str:
    op = read.op
    text = f"process {op.process} read {shown(op.result)}{of_key(op)} at {at(op.start)[0]}"
    return from_nowhere(text, why, "write", "a value that nobody wrote")

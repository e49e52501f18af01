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
from harness.checkers.spans import Anomaly, Span, mark, spans, verdict_of
from harness.checkers.words import at, key_of, shown
from harness.history import History
from harness.verdict import Edge, Verdict

FS = ("write", "read", "read-init")
NOUNS = {
    "CyclicCO": "circle of causes",
    "ThinAirRead": "value out of thin air",
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
        told.append(
            f"process {read.op.process} read {shown(read.op.result)}{_of(read)} at {when}, which process "
            f"{write.process} wrote"
        )
    return "; ".join(told) + ": each only after it had read the other" + ("" if len(told) == 2 else "s")


def _overwritten(causes: _Causes, read: Span, write: Span | None, newer: Span, *, shortest: bool) -> Anomaly:
    """With the shortest chains of causes, which are looked for once only."""
    name = "WriteCOInitRead" if write is None else "WriteCORead"
    say = partial(_stale, read, write, newer)
    if not shortest:
        return Anomaly(name, read, (newer.op.index,), say)
    path = _path(causes, newer, read)
    edges = _edges(causes, path)
    if write is not None:
        before = _path(causes, write, newer)
        edges = [*_edges(causes, before), *edges]
        path = [*before, *path]
    last = Edge(read.op.index, newer.op.index, f"it did not see the write of {shown(newer.op.value)}")
    return Anomaly(name, read, tuple(span.op.index for span in path), say, (*edges, last))


def _path(causes: _Causes, start: Span, end: Span) -> list[Span]:
    """Operations of a shortest chain of causes."""
    came: dict[int, Span] = {}
    reached: dict[int, int] = {}  # process -> the first place of its sequence that is covered
    rank = [start]
    while end.op.index not in came:
        following = []
        for span in rank:
            process, place = causes.place[span.op.index]
            until = reached.get(process, len(causes.sequences[process]))
            for later in causes.sequences[process][place + 1 : until]:
                if later.op.index not in came:
                    came[later.op.index] = span
                    following.append(later)
            reached[process] = min(until, place)
            for reader in causes.readers.get(span.op.index, ()):
                if reader.op.index not in came:
                    came[reader.op.index] = span
                    following.append(reader)
        rank = following
    path = [end]
    while path[-1] is not start:
        path.append(came[path[-1].op.index])
    return path[::-1]


def _edges(causes: _Causes, path: Sequence[Span]) -> list[Edge]:
    return [
        Edge(
            a.op.index, b.op.index,
            "its value was read" if causes.source.get(b.op.index) is a and a.op.process != b.op.process
            else f"process {a.op.process} did it next",
        )
        for a, b in pairwise(path)
    ]  # fmt: skip


def _of(span: Span) -> str:
    return "" if span.op.key is None else f" of {key_of(span.op.key)}"


def _stale(read: Span, write: Span | None, newer: Span) -> str:
    op = read.op
    text = f"process {op.process} read {shown(op.result)}{_of(read)} at {at(op.start)[0]}, although "
    if newer.op.process == op.process:
        text += f"it had written {shown(newer.op.value)} itself"
    else:
        text += f"process {newer.op.process}'s write of {shown(newer.op.value)} is among its causes"
    if write is None:
        return text
    return text + f", and that came after process {write.op.process}'s write of {shown(write.op.value)}"


def _nowhere(read: Span, why: Span | None) -> str:
    op = read.op
    text = f"process {op.process} read {shown(op.result)}{_of(read)} at {at(op.start)[0]}"
    if why is None:
        return f"{text}, a value that nobody wrote"
    if why.op.type == "fail":
        return f"{text} although process {why.op.process}'s write of it was reported as failed"
    return f"{text}, before process {why.op.process}'s write of it was invoked at {at(why.op.start)[0]}"

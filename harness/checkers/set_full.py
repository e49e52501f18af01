"""A set that only grows: what became of each element that was added, as far as reads saw it.

Differs from ``linearizable:set`` in that each element is judged by itself, in about the time that it takes
to look at every read once: reads that contradict each other over several elements are for ``causal-reverse``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.checkers.spans import (
    Anomaly,
    Span,
    by_key,
    ending,
    entries,
    from_nowhere,
    mark,
    marks,
    of_key,
    spans,
    verdict_of,
)
from harness.checkers.words import at, key_of, shown
from harness.history import NANOSECONDS, History
from harness.verdict import Verdict

ADDS = ("add", "broadcast")
SETS = (*ADDS, "read")
ELEMENTS = "a list of elements"
QUANTILES = (0.0, 0.5, 0.95, 0.99, 1.0)
WORST = 8  # stale elements in the evidence
NOUNS = {
    "lost": "lost element",
    "stale": "stale element",
    "phantom": "phantom element",
    "duplicated": "duplicated element",
}


@dataclass(slots=True)
class Elements:
    """The adds of one set by element, and its acknowledged reads."""

    adds: dict[Hashable, list[Span]] = field(default_factory=dict)
    reads: list[Span] = field(default_factory=list)

    def possible(self, element: Hashable) -> Span | None:
        """The first add of the element that may have happened."""
        return next((add for add in self.adds.get(element, ()) if add.op.type != "fail"), None)

    def acknowledged(self) -> dict[Hashable, Span]:
        """By element its add that was acknowledged first."""
        found = {}
        for element, added in self.adds.items():
            if done := [add for add in added if add.happened]:
                found[element] = min(done, key=ending)
        return found

    def first_seen(self) -> dict[Hashable, Span]:
        """By element the read that ended first of those that had it."""
        return _first(sorted(self.reads, key=ending))


def elements_of(history: History, what: str, fs: Sequence[str] = SETS) -> list[Elements]:
    """The sets of a history, one for each key. Raises CheckError for what is neither add nor read."""
    found = []
    for group in by_key(spans(history, fs, what)).values():
        elements = Elements()
        for span in group:
            if span.op.f != "read":
                elements.adds.setdefault(mark(span.op.value), []).append(span)
            elif span.happened:
                entries(span.op, ELEMENTS)
                elements.reads.append(span)
        found.append(elements)
    return found


def seen(read: Span) -> Sequence[Hashable]:
    """The elements that a read reported, each as often as it did."""
    return marks(entries(read.op, ELEMENTS))


def phantoms(elements: Elements) -> list[Anomaly]:
    """Elements that were read although nobody had added them by then, by the read that saw them first."""
    found = []
    for element, read in elements.first_seen().items():
        add = elements.possible(element)
        if add is None or add.call > read.ret:
            others = elements.adds.get(element, [])
            indexes = tuple(span.op.index for span in (others if add is None else [add]))
            found.append(Anomaly("phantom", read, indexes, partial(_phantom, read, element, others, add)))
    return found


def _phantom(read: Span, element: Hashable, added: Sequence[Span], add: Span | None) -> str:
    op = read.op
    value = next(value for value in entries(op, ELEMENTS) if mark(value) == element)
    where = "" if op.node is None else f" on {op.node}"
    text = f"process {op.process} read {shown(value)}{of_key(op)}{where} at {at(op.start)[0]}"
    why = add if add is not None else added[-1] if added else None
    return from_nowhere(text, why, "add", "an element that nobody added")


def absences(known: Mapping[Hashable, Span], reads: Iterable[Span]) -> dict[Hashable, list[Span]]:
    """By element the reads that lack it although they began after it was known."""
    found: dict[Hashable, list[Span]] = {}
    due = sorted(known.items(), key=lambda item: ending(item[1]))
    for read in reads:
        had = set(seen(read))
        for element, since in due:
            if since.ret > read.call:
                break
            if element not in had:
                found.setdefault(element, []).append(read)
    return found


def _first(reads: Iterable[Span]) -> dict[Hashable, Span]:
    """By element the first of these reads that has it."""
    found: dict[Hashable, Span] = {}
    for read in reads:
        for element in set(seen(read)).difference(found):
            found[element] = read
    return found


def _last_without(known: Iterable[Hashable], reads: Iterable[Span]) -> dict[Hashable, Span]:
    """By element the read that was invoked last of those that lack it."""
    found: dict[Hashable, Span] = {}
    left = set(known)
    for read in sorted(reads, key=lambda read: -read.call):
        lacking = left.difference(seen(read))
        found.update(dict.fromkeys(lacking, read))
        left -= lacking
    return found


def set_full(history: History, linearizable: bool = False) -> Verdict:
    """What was added stays, and is read once; reads report lists, in which an element may be twice, or sets.

    An element is known once its ``add`` was acknowledged or a read saw it. It is *lost* where a read that
    began later lacks it and none that was still going on by then, or came after, had it; or where a final
    read lacks it. It is *stale* where such a read lacks it but others have it afterwards: wrong only if the
    set is to be `linearizable`; *never read* where no read began after it was known. A *phantom* was read but
    not added by then, or only by adds that failed. A *duplicated* one is more than once in one read.
    `evidence` has how long stable elements took from being known to being in every read (seconds). Raises
    CheckError where a read reports no list, and for operations other than ``add``, ``broadcast``, ``read``.

    >>> history = History.from_events([
    ...     {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "read", "value": None},
    ...     {"index": 1, "time": 5, "type": "ok", "process": 0, "f": "read", "value": [7]}])
    >>> set_full(history).witness.sentence
    'process 0 read 7 at 0.00 s, an element that nobody added'
    """
    found: list[Anomaly] = []
    counts: Counter[str] = Counter()
    waits: list[tuple[float, Span, Span]] = []  # seconds, of what, the last read without it
    for elements in (sets := elements_of(history, "sets")):
        found += phantoms(elements)
        found += _duplicated(elements)
        found += _fates(elements, linearizable, counts, waits)
    evidence = {
        "added": sum(len(elements.adds) for elements in sets),
        "acknowledged": sum(len(elements.acknowledged()) for elements in sets),
        "reads": sum(len(elements.reads) for elements in sets),
        **{name: counts[name] for name in ("stable", "lost", "stale", "never_read")},
        "latency": _quantiles(sorted(seconds for seconds, _, _ in waits)),
        "worst": [
            {"add": since.op.index, "read": read.op.index, "seconds": seconds}
            for seconds, since, read in sorted(waits, key=lambda w: (-w[0], w[1].op.index))[:WORST]
            if seconds
        ],
    }
    lacking = []
    if not evidence["added"]:
        lacking.append("no add was invoked")
    if not evidence["reads"]:
        lacking.append("no read succeeded")
    elif not counts["stable"]:
        lacking.append("no element was read after it was added")
    return verdict_of(
        "set-full",
        history,
        found,
        kept="every element stays",
        nouns=NOUNS,
        evidence=evidence,
        lacking=lacking,
    )


def _duplicated(elements: Elements) -> list[Anomaly]:
    """Each element that is more than once in a read, by the first such read."""
    found: dict[Hashable, Anomaly] = {}
    for read in sorted(elements.reads, key=ending):
        items = seen(read)
        if len(set(items)) == len(items):
            continue
        for element, count in Counter(items).items():
            if count > 1 and element not in found:
                value = entries(read.op, ELEMENTS)[items.index(element)]
                found[element] = Anomaly("duplicated", read, (), partial(_twice, read, value, count))
    return list(found.values())


def _twice(read: Span, value: Any, count: int) -> str:
    op = read.op
    where = "" if op.node is None else f" on {op.node}"
    times = "twice" if count == 2 else f"{count:,} times"
    when = at(op.start)[0]
    return f"process {op.process} read {shown(value)} {times} in one read{of_key(op)}{where} at {when}"


def _fates(
    elements: Elements, linearizable: bool, counts: Counter[str], waits: list[tuple[float, Span, Span]]
) -> list[Anomaly]:
    """What became of each element that was known; lost and, if asked, stale ones are anomalies."""
    ended = sorted(elements.reads, key=ending)
    first, last = _first(ended), _first(reversed(ended))
    known = elements.acknowledged()
    for element, read in first.items():
        if elements.possible(element) and (element not in known or read.ret < known[element].ret):
            known[element] = read
    missed = absences(known, [read for read in ended if read.op.final])
    lacking = _last_without(known, elements.reads)
    found = []
    for element, since in known.items():
        absent, present = lacking.get(element), last.get(element)
        late = absent is not None and absent.call > since.ret
        if element in missed:
            absent = missed[element][-1]
        elif absent is None or not late:
            if present is None:
                counts["never_read"] += 1
            else:
                counts["stable"] += 1
                waits.append((0.0, since, present))
            continue
        name = "lost"
        if element not in missed and present is not None and present.ret > absent.call:
            name = "stale"
            counts["stable"] += 1
            waits.append((max(0, absent.op.start - (since.op.end or 0)) / NANOSECONDS, since, absent))
        counts[name] += 1
        if name == "stale" and not linearizable:
            continue
        add = elements.possible(element)
        others = (since.op.index,) if since.op.f != "read" or add is None else (since.op.index, add.op.index)
        found.append(Anomaly(name, absent, others, partial(_gone, name, absent, since, add, present)))
    return found


def _gone(name: str, absent: Span, since: Span, add: Span | None, present: Span | None) -> str:
    op, known = absent.op, since.op
    began, when = at(op.start, known.end or 0)
    value = shown(add.op.value) if add is not None else "an element"
    where = f"process {op.process}'s read{'' if op.node is None else f' on {op.node}'} at {began}"
    if known.f == "read":
        text = f"process {known.process} read {value}{of_key(op)} by {when}, but it is missing from {where}"
    else:
        text = (
            f"process {known.process}'s add of {value}{'' if op.key is None else f' to {key_of(op.key)}'}, "
            f"acknowledged at {when}, is missing from {where}"
        )
    if name == "stale":
        return f"{text}; others had it later"
    if present is None:
        return f"{text}; no read ever had it"
    if known.f != "read" and present.ret < absent.call:
        return f"{text}; it was last read by {at(present.op.end or 0)[0]}"
    return text


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {f"{q:g}": seconds[min(len(seconds) - 1, int(q * len(seconds)))] for q in QUANTILES}

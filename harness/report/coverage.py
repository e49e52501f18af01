"""Which operations met which faults: a promise that nothing touched was not tested."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from harness.history import OUTCOMES, Fault, History
from harness.report.markup import Child, Markup, bar, chip, el, joined, judged, table
from harness.report.text import name_text, visible

KINDS, FUNCTIONS = 40, 8
_FOREVER = 1 << 62


def stretches(faults: Sequence[Fault]) -> tuple[list[int], list[int]]:
    """Starts and ends (ns) of the time in which one of `faults` was in force, merged and in order."""
    merged: list[list[int]] = []
    for start, end in sorted(
        (f.start, _FOREVER if f.end is None else f.end) for f in faults if f.start is not None
    ):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return [m[0] for m in merged], [m[1] for m in merged]


def overlapping(history: History) -> int:
    """Number of operations that overlapped a fault (an unknown outcome counts until the run's end)."""
    starts, ends = stretches(history.faults)
    c = history.columns
    return sum(
        bisect_left(ends, start) < bisect_right(starts, end if end >= 0 else _FOREVER)
        for start, end in zip(c.start, c.end, strict=True)
    )


def tally(history: History, faults: Sequence[Fault]) -> dict[int, list[int]]:
    """Per function number, how many operations of each outcome overlapped one of `faults`."""
    starts, ends = stretches(faults)
    c, found = history.columns, dict[int, list[int]]()
    if not starts:
        return found
    first, last = starts[0], ends[-1]
    for start, end, f, kind in zip(c.start, c.end, c.f, c.type, strict=True):
        if start > last or 0 <= end < first:
            continue
        if bisect_left(ends, start) < bisect_right(starts, end if end >= 0 else _FOREVER):
            found.setdefault(f, [0] * len(OUTCOMES))[kind] += 1
    return found


def coverage(history: History) -> Markup | None:
    """A row for each kind of fault, a column for each kind of operation; what is 0 says so in words."""
    if not history.faults or not len(history) or min(history.columns.start) < 0:
        return None
    c = history.columns
    counts = [0] * len(c.fs)
    for f in c.f:
        counts[f] += 1
    used = sorted((f for f, n in enumerate(counts) if n), key=lambda f: -counts[f])
    shown = used[:FUNCTIONS]
    kinds = list(dict.fromkeys(fault.kind for fault in history.faults))
    rows: list[Sequence[Child]] = []
    for kind in kinds[:KINDS]:
        met = tally(history, [fault for fault in history.faults if fault.kind == kind])
        rows.append((chip(visible(kind)[:40]), *(_cell(met.get(f)) for f in shown)))
    cut = [
        f"{len(found) - most:,} more kinds of {noun}" if len(found) > most else ""
        for found, most, noun in ((used, FUNCTIONS, "operation"), (kinds, KINDS, "fault"))
    ]
    left = " and ".join(filter(None, cut))
    names = [name_text(c.fs.values[f], 40) for f in shown]
    return joined(
        (
            el("h3", "Operations that overlapped each fault"),
            table("Operations that overlapped each fault", ("fault", *names), rows, "cards coverage"),
            el("p", f"Left out: {left}.", class_="hint") if left else None,
        )
    )


def _cell(outcomes: Sequence[int] | None) -> Child:
    if not outcomes:
        return judged("unknown", "none: not tested")
    words = ", ".join(f"{n:,} {name}" for n, name in zip(outcomes, OUTCOMES, strict=True) if n)
    return joined(
        (el("b", f"{sum(outcomes):,}"), bar(zip(OUTCOMES, outcomes, strict=True)), el("small", words))
    )

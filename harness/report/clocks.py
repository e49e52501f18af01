"""The nodes' clocks as they were observed, for the plot and as a table.

A reading is a node event ``clock``: how far a node's clock was off, in seconds, give or take `error`, and how
that was seen. A ``clock-gap`` is a stretch in which a process of the node read the true time although its
clock was to be off; one of no length is a process that ended, and no gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from harness.history import NANOSECONDS, Fault, History, NodeEvent
from harness.report.markup import Child, Markup, chip, el, family, joined, table
from harness.report.redact import Redact
from harness.report.sections import asked
from harness.report.text import lasted, name_text, offset_text, seconds, shorten, visible

KINDS = frozenset({"clock", "clock-gap"})
HOWS = {
    "called": "the process itself was made to read it",
    "asked": "the target was asked for the time",
    "read back": "what stands in the process's memory",
}
WHY = {
    "exec": "ran another program",
    "new": "new process",
    "lost": "somebody set its clock right",
    "refused": "could not be reached",
}
COLOURS = 8
DRAWN = 20_000
"""Readings on one page; of more, every second, third, ... is drawn."""
LISTED = 200
EQUAL = 1e-4
"""Seconds; two offsets closer than that and their errors are told as one."""
SHAPES = {
    "called": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "asked": "M0 -4.5L4.5 0L0 4.5L-4.5 0z",
    "read back": "M-2 -2H2V2H-2z",
}
_KEY = {"viewBox": "0 0 22 10", "width": 22, "height": 10, "aria_hidden": "true"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a node's clock: `offset` and `error` in seconds, `time` in ns; `how` is one of `HOWS`."""

    time: int
    node: str
    offset: float
    error: float
    how: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class Clocks:
    """What was seen of the clocks of `nodes`, in order of time; a gap is (time in ns, node, words)."""

    nodes: tuple[str, ...]
    readings: tuple[Reading, ...]
    gaps: tuple[tuple[int, str, str], ...]

    @property
    def every(self) -> int:
        """One reading in so many is drawn."""
        return max(1, math.ceil(len(self.readings) / DRAWN))


def observed(history: History, redact: Redact) -> Clocks:
    """What `history` says of clocks. What is no reading (no number, a `how` that is none) is left out."""
    events = sorted((event for event in history.events if event.kind in KINDS), key=lambda event: event.time)
    readings = tuple(filter(None, map(_reading, events)))
    missed = [e for e in events if e.kind == "clock-gap" and e.detail.get("gap") != 0]
    gaps = tuple((e.time, e.node, redact(_gap(e))) for e in missed[:DRAWN])
    said = history.header.get("nodes")
    order = [node for node in said if isinstance(node, str)] if isinstance(said, (list, tuple)) else []
    seen = dict.fromkeys([reading.node for reading in readings] + [node for _, node, _ in gaps])
    nodes = [node for node in dict.fromkeys((*order, *sorted(seen))) if node in seen][:64]
    return Clocks(
        tuple(nodes),
        tuple(reading for reading in readings if reading.node in nodes),
        tuple(gap for gap in gaps if gap[1] in nodes),
    )


def _reading(event: NodeEvent) -> Reading | None:
    offset, error, how, pid = (event.detail.get(name) for name in ("offset", "error", "how", "pid"))
    if event.kind != "clock" or not isinstance(how, str) or how not in HOWS:
        return None
    if not _number(offset) or not _number(error):
        return None
    process = pid if isinstance(pid, int) and not isinstance(pid, bool) else None
    return Reading(event.time, event.node, float(offset), abs(float(error)), how, process)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def _gap(event: NodeEvent) -> str:
    length, pid = event.detail.get("gap"), event.detail.get("pid")
    told = [str(event.detail[name]) for name in ("what", "exe", "error") if event.detail.get(name)]
    parts = [
        f"for {lasted(length)}" if _number(length) else "",
        *(shorten(visible(WHY.get(text, text)), 120) for text in told),
        "" if pid is None else f"pid {name_text(pid, 20)}",
    ]
    return ", ".join(filter(None, parts)) or "nothing more was told"


def drawn_clocks(clocks: Clocks) -> dict[str, Any]:
    """What the plot is drawn from: times in seconds, nodes by their place among `nodes`."""
    place = {node: k for k, node in enumerate(clocks.nodes)}
    return {
        "nodes": [name_text(node, 40) for node in clocks.nodes],
        "hows": HOWS,
        "shapes": SHAPES,
        "readings": [
            [r.time / NANOSECONDS, place[r.node], r.offset, r.error, r.how, r.pid]
            for r in clocks.readings[:: clocks.every]
        ],
        "gaps": [[time / NANOSECONDS, place[node], words] for time, node, words in clocks.gaps],
    }


def plot(clocks: Clocks) -> Markup | None:
    """The place of the plot and its legend; None where no clock was looked at."""
    if not clocks.nodes:
        return None
    used = {reading.how for reading in clocks.readings}
    keys = [
        *(_key(f"clockline k{k % COLOURS}", "M0 5H22", name_text(n, 24)) for k, n in enumerate(clocks.nodes)),
        *(
            _key(f"look {how.replace(' ', '-')}", SHAPES[how], how, "translate(11 5)")
            for how in HOWS
            if how in used
        ),
        _key("gap", "M11 0l5 9h-10z", "the true time was read") if clocks.gaps else None,
    ]
    says = el("small", "ahead (+) or behind (-), as observed: ", *keys)
    picture = el("svg", role="img", aria_label="How far each node's clock was off; a table of it follows")
    plot_ = el("div", picture, class_="plot", id="clocks")
    row = el("div", el("div", class_="gutter", id="clocks-names"), plot_, class_="row")
    return joined((el("h3", "Clocks ", says, class_="head", id="clocks-head"), row))


def _key(look: str, path: str, text: str, transform: str | None = None) -> Markup:
    mark = el("svg", el("path", d=path, class_=look, transform=transform), **_KEY)
    return el("span", mark, text, class_="key")


def clock_table(clocks: Clocks, faults: Sequence[Fault], redact: Redact) -> Markup | None:
    """Per node and clock fault what was seen, in order: ``0 µs, then -2.000 s ± 12 µs``."""
    if not clocks.nodes:
        return None
    on_clocks = [f for f in faults if family(f.kind) == "clock" and f.start is not None]
    groups: dict[tuple[int, int | None], list[Reading]] = {}
    for reading in clocks.readings:
        fault = _fault_of(reading, on_clocks)
        id_ = None if fault is None else fault.id
        groups.setdefault((clocks.nodes.index(reading.node), id_), []).append(reading)
    by_id = {fault.id: fault for fault in on_clocks}
    rows: list[Sequence[Child]] = []
    for (node, id_), its in sorted(groups.items(), key=lambda group: (group[0][0], group[1][0].time)):
        what: Child = "no clock fault"
        if id_ is not None:
            kind = shorten(visible(by_id[id_].kind), 40)
            what = chip(kind, redact(shorten(visible(by_id[id_].what), 120)))
        cells = (_told([r for r in its if r.how == how]) for how in HOWS)
        stretch = (seconds(its[0].time), seconds(its[-1].time))
        rows.append((name_text(clocks.nodes[node], 40), what, *stretch, *cells))
    parts: list[Child] = [
        table("The clocks as a table", ("node", "asked for", "from", "to", *HOWS), rows[:LISTED], "cards")
    ]
    if len(rows) > LISTED:
        parts.append(el("p", f"and {len(rows) - LISTED:,} more", class_="hint"))
    if clocks.gaps:
        missed = [(seconds(time), name_text(node, 40), words) for time, node, words in clocks.gaps[:LISTED]]
        parts.append(table("Gaps", ("at", "node", "the true time was read"), missed))
    return el("details", el("summary", "The clocks as a table"), *parts, id="clocks-table")


def _fault_of(reading: Reading, faults: Sequence[Fault]) -> Fault | None:
    """The clock fault that a reading belongs to: looks are part of its start and of its end."""
    for fault in reversed(faults):
        assert fault.start is not None
        due, _ = asked(fault)
        begin = fault.start if due is None else min(fault.start, round(due * NANOSECONDS))
        on_it = reading.node in fault.nodes or not fault.nodes
        if on_it and begin <= reading.time and (fault.end is None or reading.time <= fault.end):
            return fault
    return None


def _told(its: Sequence[Reading]) -> str:
    """The offsets in order, equal neighbours as one; of many, the first and the last."""
    if not its:
        return ""
    steps: list[Reading] = []
    for reading in its:
        last = steps[-1] if steps else None
        if last is None or abs(reading.offset - last.offset) > reading.error + last.error + EQUAL:
            steps.append(reading)
        elif reading.error < last.error:
            steps[-1] = reading
    shown = [offset_text(step.offset, step.error) for step in steps]
    if len(shown) > 4:
        shown = [*shown[:2], f"{len(shown) - 4:,} more", *shown[-2:]]
    return f"{', then '.join(shown)} ({len(its):,} looks)" if len(its) > 1 else shown[0]


__all__ = ["KINDS", "Clocks", "Reading", "clock_table", "drawn_clocks", "observed", "plot"]

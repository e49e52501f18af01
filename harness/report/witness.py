"""The witness of an invalid verdict: its sentence, a picture on a true time axis, a table of the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.history import NANOSECONDS, Fault, History, NodeEvent, Operation
from harness.report.heard import heard, heard_picture
from harness.report.markup import Child, Markup, el, family, joined, table
from harness.report.nodes import event_text, spans
from harness.report.redact import Redact
from harness.report.text import counted, lasted, name_text, operation_text, seconds, shorten
from harness.verdict import Edge, Verdict, Witness

BANDS, DRAWN, LISTED = 6, 24, 100
WIDTHS = (340, 660, 900, 1320)
CHARACTER, EDGE = 8.4, 26
"""Widths of a letter of a label, and of a column of edges."""
"""A picture is drawn once per width, in Python: it needs no script, and its words never shrink."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the picture: an operation, or a node event (an instant)."""

    name: str
    where: str
    label: str
    start: int
    end: int | None
    look: str
    index: int | None = None
    anchor: int | None = None


def story(history: History, verdict: Verdict, rows: dict[int, int], redact: Redact) -> Markup:
    """Sentence, picture and table of a verdict's witness; `rows` are the page's rows by operation index."""
    assert verdict.witness is not None
    witness = verdict.witness
    by_index = {history.columns.index[r]: r for r in range(len(history))} if witness.operations else {}
    operations = [history.operations[by_index[i]] for i in witness.operations if i in by_index]
    events = [history.events[i] for i in witness.node_events if 0 <= i < len(history.events)]
    culprit = last_word(witness)
    lines = [_row(op, culprit, rows.get(op.index), redact) for op in operations]
    lines += [Row(e.node, e.kind, event_text(e), e.time, e.time, "event") for e in events]
    lines.sort(key=lambda row: row.start)
    timed = [row for row in lines if row.start >= 0][:DRAWN]
    parts: list[Child] = [el("p", redact(shorten(witness.sentence, 2000)), class_="sentence")]
    if timed:
        where = {row.index: k for k, row in enumerate(timed) if row.index is not None}
        edges = [e for e in witness.edges if e.before in where and e.after in where][:12]
        arrows = [(where[e.before], where[e.after], e.why) for e in edges]
        sentence = redact(shorten(witness.sentence, 400))
        drawn = el("div", *(_picture(history, timed, arrows, w, sentence) for w in WIDTHS), class_="picture")
        last = _last(operations, events, culprit)
        seen = None if last is None else heard(history, *last)
        parts.append(el("div", drawn, heard_picture(seen), class_="scene") if seen else drawn)
        if len(lines) > len(timed):
            parts.append(
                el("p", f"The picture shows the first {len(timed)} of {len(lines)} lines.", class_="hint")
            )
    if witness.edges:
        parts.append(el("ol", *(el("li", _edge(e, redact)) for e in witness.edges[:LISTED]), class_="edges"))
    if lines:
        found = _tables(history, operations, events, culprit, rows, redact)
        parts.append(el("details", el("summary", "The witness as a table"), *found, open=""))
    missing = len(witness.operations) - len(operations)
    if missing:
        parts.append(
            el("p", f"{counted(missing, 'operation')} of the witness not in this history.", class_="hint")
        )
    return joined(parts)


def last_word(witness: Witness) -> int | None:
    """The operation that the story ends with: the culprit, else the last one; None where there is none."""
    return witness.culprit if witness.culprit is not None else max(witness.operations, default=None)


def _last(
    operations: Sequence[Operation], events: Sequence[NodeEvent], culprit: int | None
) -> tuple[int, str | None] | None:
    """When the story comes to its end (ns), and which node was asked then."""
    found = [op for op in operations if op.index == culprit] or list(operations[-1:])
    if found:
        return (found[0].start, found[0].node) if found[0].start >= 0 else None
    return (events[-1].time, events[-1].node) if events else None


def _row(op: Operation, culprit: int | None, anchor: int | None, redact: Redact) -> Row:
    look = "anomaly" if op.index == culprit else op.type
    key = "" if op.key is None else f" · {name_text(op.key, 24)}"
    label = redact(shorten(operation_text(op), 60)) + key
    where = "" if op.node is None else f"→ {name_text(op.node, 24)}"
    return Row(f"process {op.process}", where, label, op.start, op.end, look, op.index, anchor)


def _edge(edge: Edge, redact: Redact) -> Markup:
    return joined(
        (el("b", f"#{edge.before}"), " before ", el("b", f"#{edge.after}"), f": {redact(edge.why)}")
    )


def _tables(
    history: History, operations: Sequence[Operation], events: Sequence[NodeEvent], culprit: int | None,
    rows: dict[int, int], redact: Redact,
) -> list[Markup]:  # fmt: skip
    found = []
    if operations:
        body = [_cells(history, op, culprit, rows, redact) for op in operations[:LISTED]]
        found.append(table("Witness", HEAD, body, "cards"))
        if len(operations) > LISTED:
            found.append(el("p", f"The first {LISTED} of {len(operations):,} operations.", class_="hint"))
    if events:
        shown = [(seconds(e.time, 6), e.node, redact(event_text(e))) for e in events[:LISTED]]
        found.append(table("Node events of the witness", ("at", "node", "event"), shown, "times"))
    return found


HEAD = ("operation", "process", "node", "key", "what", "invoked", "completed", "outcome", "faults in force")


def _cells(
    history: History, op: Operation, culprit: int | None, rows: dict[int, int], redact: Redact
) -> tuple[Child, ...]:
    word = "anomaly" if op.index == culprit else op.type
    faults = history.in_force(op.start, op.end)[:BANDS]
    return (
        _anchor(op, rows), op.process, None if op.node is None else name_text(op.node, 40),
        None if op.key is None else name_text(op.key), redact(operation_text(op)), seconds(op.start, 6),
        "unknown" if op.end is None else seconds(op.end, 6), el("span", word, class_=f"outcome {word}"),
        "; ".join(redact(shorten(f"{f.kind}: {f.what}", 100)) for f in faults) or "none",
    )  # fmt: skip


def _anchor(op: Operation, rows: dict[int, int]) -> Markup:
    return (
        el("a", f"#{op.index}", href=f"#op={rows[op.index]}")
        if op.index in rows
        else el("span", f"#{op.index}")
    )


# ------------------------------------------------------------------------------------------ the picture


def _picture(
    history: History, rows: Sequence[Row], edges: Sequence[tuple[int, int, str]], width: int, sentence: str
) -> Markup:
    narrow = width < 500
    columns = _columns([(before, after) for before, after, _ in edges], 4 if narrow else 8)
    gutter = EDGE * (max(columns, default=-1) + 1)
    left, right = (8, width - 8 - gutter) if narrow else (150, width - 12 - gutter)
    first, last = min(r.start for r in rows), max(r.end if r.end is not None else r.start for r in rows)
    pad = max((last - first) * 0.06, 1000.0)
    low, high = first - pad, last + pad * (3 if any(r.end is None for r in rows) else 1.6)

    def x(time: float) -> float:
        return left + (min(max(time, low), high) - low) / (high - low) * (right - left)

    faults = history.in_force(math.ceil(low), math.floor(high))
    shown = faults[:BANDS]
    top = len(shown) * 26 + (16 if len(faults) > BANDS else 0) + 22
    tall = any(_beside(row, x, left, right) is None for row in rows)  # a label needs a line of its own
    step = (76 if narrow else 62) + (22 if tall else 0)
    bottom = top + len(rows) * step
    parts: list[Child] = []
    for k, fault in enumerate(shown):
        parts += _band(fault, x, k * 26, bottom, low, high, left, right, narrow)
    if len(faults) > BANDS:
        parts.append(
            _say(left, len(shown) * 26 + 12, f"and {len(faults) - BANDS} more faults in force", "note")
        )
    centre = []
    for k, row in enumerate(rows):
        y = top + k * step + (20 if narrow else 0) + (22 if tall else 0)
        centre.append(y + 17)
        parts.append(el("line", x1=left, x2=right, y1=y + 17, y2=y + 17, class_="rail"))
        if narrow:
            parts.append(_say(left, y - (27 if tall else 5), _fit(f"{row.name} {row.where}", 46), "side"))
        else:
            parts.append(
                _say(left - 12, y + 14 if row.where else y + 21, shorten(row.name, 18), "side strong", "end")
            )
            parts.append(_say(left - 12, y + 29, _role(history, row), "side", "end"))
        parts.append(_box(row, x, y, left, right))
    for number, ((before, after, why), column) in enumerate(zip(edges, columns, strict=True), 1):
        if column >= 0:
            edge = right + 14 + EDGE * column
            parts += _arrow(centre[before], centre[after], right, edge, number, why)
    digits = min(max(math.ceil(1.3 - math.log10((high - low) / NANOSECONDS)), 1), 6)
    for tick in ticks(low / NANOSECONDS, high / NANOSECONDS, (right - left) / 110):
        at = x(tick * NANOSECONDS)
        if left + 20 < at < right - 20:
            parts.append(el("line", x1=f"{at:.1f}", x2=f"{at:.1f}", y1=bottom, y2=bottom + 6, class_="tick"))
            parts.append(_say(at, bottom + 20, f"{tick:.{digits}f} s", "note", "middle"))
    return el(
        "svg",
        el("title", sentence),
        *parts,
        viewBox=f"0 0 {width} {bottom + 28}",
        role="img",
        class_=f"w{width}",
    )


def _band(fault: Fault, x: Callable[[float], float], y: int, bottom: int, low: float, high: float, left: int,
          right: int, narrow: bool) -> list[Markup]:  # fmt: skip
    assert fault.start is not None
    end = fault.end if fault.end is not None else high + 1
    a, b = x(fault.start), max(x(end), x(fault.start) + 2)
    look = family(fault.kind)
    until = f", healed at {seconds(fault.end)}" if fault.end is not None else ", not healed"
    whole = f"{shorten(fault.what, 80)} · since {seconds(fault.start)}{until}"
    text = fault.what if narrow or 7.2 * len(whole) > right - max(a, left) else whole
    text = shorten(text, 46 if narrow else 130)
    text = f"{'◂ ' if fault.start < low else ''}{text}{' ▸' if end > high else ''}"
    found = [
        el(
            "rect",
            x=f"{a:.1f}",
            y=y + 22,
            width=f"{b - a:.1f}",
            height=bottom - y - 22,
            class_=f"tint {look}",
        ),
        el("rect", x=f"{a:.1f}", y=y, width=f"{b - a:.1f}", height=20, class_=f"band {look}"),
        _say(max(min(a + 8, right - 7.2 * len(text)), left + 8), y + 14, text, "bandtext"),
    ]
    return found if narrow else [*found, _say(left - 12, y + 14, shorten(fault.kind, 18), "side", "end")]


def _role(history: History, row: Row) -> str:
    """Where an operation went and whether that node said it led: a deposed leader is half the story."""
    node = row.where.removeprefix("→ ")
    leading = [s for s in spans(history.events, row.start + 1) if s.state == "leader" and s.end > row.start]
    mine = next((s for s in leading if s.node == node), None)
    if mine is None or row.look == "event":
        return shorten(row.where, 18)
    others = any(s.start > mine.start for s in leading)
    role = "deposed leader" if others else "leader"
    return f"→ {_fit(node, 20 - len(role))}, {role}"


def _beside(row: Row, x: Callable[[float], float], left: int, right: int) -> tuple[float, str, str] | None:
    """Where a row's label stands on its line, how it is anchored and its look; None where it does not fit."""
    a, b = x(row.start), right if row.end is None else max(x(row.end), x(row.start) + 3)
    wide = len(row.label) * CHARACTER + 14
    if b - a > wide:
        return (a + b) / 2, "middle", "oplabel"
    if b + wide < right:
        return b + 8, "start", "oplabel beside"
    return (a - 8, "end", "oplabel beside") if a - 8 > left + wide else None


def _box(row: Row, x: Callable[[float], float], y: int, left: int, right: int) -> Markup:
    a = x(row.start)
    b = right if row.end is None else max(x(row.end), a + 3)
    place = _beside(row, x, left, right)
    if place is not None:
        words = _say(place[0], y + 22, row.label, place[2], place[1])
    else:  # above its box, cut only where the whole picture is too narrow for it
        label = _fit(row.label, int((right - left) / CHARACTER))
        words = _say(max(min(a, right - len(label) * CHARACTER), left), y - 6, label, "oplabel beside")
    if row.look == "event":
        shape = el("path", d=f"M{a:.1f} {y + 9}l8 8l-8 8l-8 -8z", class_="event")
    elif row.end is None:  # the right side stays open: it may take effect at any later time
        shape = el("path", d=f"M{a:.1f} {y}H{b - 9:.1f}l8 17l-8 17H{a:.1f}z")
    else:
        shape = el("rect", x=f"{a:.1f}", y=y, width=f"{b - a:.1f}", height=34, rx=2)
    times = (
        seconds(row.start, 6) if row.look == "event" else f"{seconds(row.start, 6)} to {seconds(row.end, 6)}"
    )
    title = el("title", f"{row.label}, {row.name}, {times}, {row.look}")
    length = "" if row.end is None or row.look == "event" else lasted((row.end - row.start) / NANOSECONDS)
    time = f"{seconds(row.start)}{', unknown' if row.end is None else f', {length}' if length else ''}"
    note = _say(min(max((a + b) / 2, left + 66), right - 66), y + 48, time, "note", "middle")
    group = el("g", title, shape, words, note, class_=f"op {row.look}")
    return group if row.anchor is None else el("a", group, href=f"#op={row.anchor}")


def _columns(edges: Sequence[tuple[int, int]], most: int) -> list[int]:
    """A column for each edge so that no two in one column run past each other; -1 beyond the `most`."""
    taken: list[list[tuple[int, int]]] = []
    found = []
    for before, after in edges:
        low, high = min(before, after), max(before, after)
        free = (k for k, spans in enumerate(taken) if all(high <= p or low >= q for p, q in spans))
        column = next(free, len(taken))
        if column == len(taken) < most:
            taken.append([])
        if column < len(taken):
            taken[column].append((low, high))
        found.append(column if column < len(taken) else -1)
    return found


def _arrow(y0: float, y1: float, right: float, at: float, number: int, why: str) -> list[Markup]:
    """An edge beside the boxes, from the line of one operation to that of the next, with its number."""
    way = 1 if y1 > y0 else -1  # where one edge ends and another begins on a line, they do not touch
    start, end = y0 + 3 * way, y1 - 10 * way
    path = f"M{right + 2:.1f} {start:.1f}H{at:.1f}V{end:.1f}H{right + 2:.1f}"
    head = f"M{right + 8:.1f} {end - 4:.1f}L{right + 2:.1f} {end:.1f}L{right + 8:.1f} {end + 4:.1f}"
    return [
        el(
            "g",
            el("title", f"{number}: {why}"),
            el("path", d=path + head, class_="why"),
            el("circle", cx=f"{at:.1f}", cy=f"{(start + end) / 2:.1f}", r=8, class_="number"),
            _say(at, (start + end) / 2 + 4, str(number), "note strong", "middle"),
        )
    ]


def _fit(text: str, letters: int) -> str:
    """`text`, or as much of it as `letters` hold; the whole of it stands in the table and as a title."""
    return text if len(text) <= letters else f"{text[: max(letters - 1, 1)]}…"


def _say(x: float, y: float, text: str, class_: str, anchor: str | None = None) -> Markup:
    return el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=class_, text_anchor=anchor)


def ticks(low: float, high: float, wanted: float) -> list[float]:
    """Round numbers within [low, high], about as many as `wanted`."""
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= raw)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]

"""What the page's script draws from, beside the columns: texts, faults, spans of nodes, flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.history import NANOSECONDS, OUTCOMES, Fault, History
from harness.report.clocks import KINDS
from harness.report.columns import Rows, tables
from harness.report.markup import family
from harness.report.nodes import drawn, event_text, rivals, spans
from harness.report.redact import Redact
from harness.report.sections import asked
from harness.report.text import READS, WHOLES, name_text, shorten, visible
from harness.report.witness import last_word
from harness.verdict import Verdict


def drawing(
    history: History, rows: Rows, verdicts: Sequence[Verdict], by_index: Mapping[int, int], redact: Redact
) -> dict[str, Any]:
    """Values for the script, seconds as float; `by_index` are page rows by operation index."""
    events, _ = drawn([event for event in history.events if event.kind not in KINDS])  # clocks have a plot
    start, end = whole(history, rows)
    found = spans(history.events, round(end * NANOSECONDS))
    return {
        "count": len(rows.order),
        "total": len(rows.order),
        "lanes": rows.lanes,
        "from": start,
        "to": end,
        "types": OUTCOMES,
        "reads": sorted(READS),
        "wholes": sorted(WHOLES),
        **_redacted(tables(history), redact),
        "members": _members(history),
        "faults": [_fault(fault, redact) for fault in history.faults],
        "spans": [
            [name_text(s.node, 40), s.state, s.start / NANOSECONDS, s.end / NANOSECONDS, s.term]
            for s in found
        ],
        "rivals": [[a / NANOSECONDS, b / NANOSECONDS] for a, b in rivals(found)],
        "events": [
            [e.time / NANOSECONDS, name_text(e.node, 40), shorten(visible(e.kind), 40), redact(event_text(e))]
            for e in events
        ],
        "phases": [[time / NANOSECONDS, redact(shorten(visible(name), 60))] for time, name in history.phases],
        "flags": [
            [by_index[culprit], redact(shorten(visible(v.summary), 60))]
            for v in verdicts
            if v.witness and (culprit := last_word(v.witness)) is not None and culprit in by_index
        ],
        "witnesses": [
            sorted(by_index[i] for i in v.witness.operations if i in by_index) for v in verdicts if v.witness
        ],
    }


def _redacted(found: dict[str, list[Any]], redact: Redact) -> dict[str, list[Any]]:
    def blanked(shown: Any) -> Any:
        if isinstance(shown, list):
            return [blanked(text) for text in shown]
        return redact(shown) if isinstance(shown, str) and len(shown) > 7 else shown

    return {name: [blanked(shown) for shown in texts] for name, texts in found.items()}


def whole(history: History, rows: Rows) -> tuple[float, float]:
    """First and last instant of anything; a run begins at 0 unless its history plainly does not."""
    times = [t / 1e6 for t in (*rows.start, *(end for end in rows.end if end >= 0))]
    if not rows.timeless:
        times += [e.time / NANOSECONDS for e in history.events] + [t / NANOSECONDS for t, _ in history.phases]
        times += [t / NANOSECONDS for f in history.faults for t in (f.start, f.end) if t is not None]
    low, high = min(times, default=0.0), max(times, default=0.0)
    low = min(low, 0.0) if low < high / 2 else low
    return low, max(high, low + 1e-3)


def _members(history: History) -> list[str]:
    """The nodes, in the header's order, then any other that did something."""
    said = history.header.get("nodes")
    names = [n for n in said if isinstance(n, str)] if isinstance(said, (list, tuple)) else []
    names += [e.node for e in history.events if e.node]
    return [name_text(name, 40) for name in dict.fromkeys(names)][:64]


def _fault(fault: Fault, redact: Redact) -> dict[str, Any]:
    return {
        "kind": shorten(visible(fault.kind), 40),
        "family": family(fault.kind),
        "what": redact(shorten(visible(fault.what), 200)),
        "asked": asked(fault),
        "start": None if fault.start is None else fault.start / NANOSECONDS,
        "end": None if fault.end is None else fault.end / NANOSECONDS,
        "mechanism": redact(shorten(visible(fault.mechanism), 120)),
        "proof": redact(shorten(visible(fault.proof), 200)),
        "error": redact(shorten(visible(fault.error), 200)),
    }

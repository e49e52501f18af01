"""What the nodes did for one operation: node events that name the operations they concern.

A target gives them by ``ops`` (or ``op``) in an event's detail: the numbers that its clients were given as
`Op.index`. ``took`` in seconds makes a span of it that ends at the event's time; without, it is an instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.history import NANOSECONDS, History
from harness.report.redact import Redact
from harness.report.text import name_text, shorten, visible

MOST = 40_000
"""Steps on one page; of more, those of the first operations are kept."""
NAMES = frozenset({"op", "ops", "took"})


def traces(history: History, by_index: Mapping[int, int], redact: Redact) -> tuple[dict[int, list[Any]], int]:
    """Per page row its steps as [from, to, node, kind] in seconds, and how many steps are left out."""
    found: dict[int, list[Any]] = {}
    kept = left = 0
    for event in history.events:
        named = event.detail.get("ops", event.detail.get("op"))
        numbers = named if isinstance(named, (list, tuple)) else [named]
        rows = [by_index[n] for n in numbers[:1000] if type(n) is int and n in by_index]
        if not rows:
            continue
        if kept >= MOST:
            left += len(rows)
            continue
        took = event.detail.get("took")
        span = float(took) if isinstance(took, (int, float)) and 0 <= took < 1e9 else 0.0
        end = event.time / NANOSECONDS
        step = [end - span, end, name_text(event.node, 40), redact(shorten(visible(event.kind), 40))]
        for row in rows:
            found.setdefault(row, []).append(step)
        kept += len(rows)
    return {row: sorted(steps, key=lambda step: step[0]) for row, steps in found.items()}, left


def named(history: History) -> set[int]:
    """The numbers of all operations that some node event names."""
    found: set[int] = set()
    for event in history.events:
        numbers = event.detail.get("ops", event.detail.get("op"))
        found.update(
            n for n in (numbers if isinstance(numbers, (list, tuple)) else [numbers]) if type(n) is int
        )
    return found

"""What the nodes did, as spans and marks on the time axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.history import NodeEvent
from harness.report.text import name_text, value_text

DRAWN = 4000
"""Node events on one page; beyond, only those that every run has (role, exit, restart, panic) are drawn."""
ALWAYS = frozenset({"role", "start", "ready", "exit", "restart", "panic"})


@dataclass(frozen=True, slots=True)
class Span:
    """A node that led or was down. `state` is ``leader`` or ``down``, `term` what it said; times are ns."""

    node: str
    state: str
    start: int
    end: int
    term: str = ""


def spans(events: Sequence[NodeEvent], end: int) -> list[Span]:
    """Who led when, by each node's own word, and who was down; open ones last until `end`.

    A node leads from its event ``role: leader`` to its next other role, its exit or its restart.
    """
    found: list[Span] = []
    open_: dict[tuple[str, str], tuple[int, str]] = {}

    def close(node: str, state: str, time: int) -> None:
        if (since := open_.pop((node, state), None)) is not None:
            found.append(Span(node, state, since[0], max(time, since[0]), since[1]))

    for event in sorted(events, key=lambda e: e.time):
        node = event.node
        if event.kind == "role" and event.detail.get("role") == "leader":
            term = name_text(event.detail["term"], 12) if "term" in event.detail else ""
            if open_.get((node, "leader"), (0, None))[1] != term:
                close(node, "leader", event.time)
                open_[node, "leader"] = (event.time, term)
        elif event.kind in ("role", "exit", "restart", "start"):
            close(node, "leader", event.time)
        if event.kind == "exit":
            open_.setdefault((node, "down"), (event.time, ""))
        elif event.kind in ("restart", "start", "ready", "role"):
            close(node, "down", event.time)
    for node, state in list(open_):
        close(node, state, end)
    return sorted(found, key=lambda s: s.start)


def rivals(leaders: Sequence[Span]) -> list[tuple[int, int]]:
    """Stretches (ns) in which two nodes led at once, by their own word, merged and in order."""
    stretches: list[tuple[int, int]] = []
    leaders = sorted((s for s in leaders if s.state == "leader"), key=lambda s: s.start)
    for i, one in enumerate(leaders):
        for other in leaders[i + 1 :]:
            if other.start >= one.end:
                break
            if other.node != one.node:
                stretches.append((other.start, min(one.end, other.end)))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def event_text(event: NodeEvent) -> str:
    """A node event in words: ``leader, term 3``, ``exit: code 1``."""
    detail: Mapping[str, Any] = event.detail
    if event.kind == "role":
        rest = {k: v for k, v in detail.items() if k != "role"}
        return ", ".join(
            [
                name_text(detail.get("role", "?"), 40),
                *(f"{name_text(k, 30)} {name_text(v, 60)}" for k, v in rest.items()),
            ]
        )
    words = ", ".join(
        f"{name_text(k, 30)} {value_text(v, 160) if not isinstance(v, str) else name_text(v, 160)}"
        for k, v in detail.items()
    )
    return f"{name_text(event.kind, 40)}: {words}" if words else name_text(event.kind, 40)


def drawn(events: Sequence[NodeEvent]) -> tuple[list[NodeEvent], Mapping[str, int]]:
    """The events that a page draws, and how many of each kind it leaves out."""
    if len(events) <= DRAWN:
        return list(events), {}
    kept = [event for event in events if event.kind in ALWAYS][:DRAWN]
    shown = Counter(event.kind for event in kept)
    return kept, {k: n - shown[k] for k, n in Counter(e.kind for e in events).items() if n > shown[k]}

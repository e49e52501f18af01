"""Who heard whom at one instant: the nodes in a ring, what a fault cut dotted, who led filled.

It shows what was observed to hold: a link is cut where a fault in force says that its end hears nothing from
its beginning, touched where a fault in force concerns it in another way (slowed, lossy).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.history import History
from harness.report.markup import Markup, el
from harness.report.nodes import spans
from harness.report.text import counted, name_text, seconds, visible

SIZE, MOST = 240, 25
FEW = 9  # nodes whose names fit into their circles
LETTER = 7.5  # width of a letter of a name
Link = tuple[str, str]
"""From a node to the node that is to hear it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The cluster at `time` (ns): ordered pairs `cut` or `touched`, who led with its term, who was down."""

    time: int
    nodes: tuple[str, ...]
    cut: frozenset[Link]
    touched: frozenset[Link]
    leaders: tuple[tuple[str, str], ...]
    down: frozenset[str]
    asked: str | None

    @property
    def words(self) -> str:
        """The picture in a sentence."""
        parts = []
        if self.cut:
            parts.append(f"{len(self.cut)} of {len(self.nodes) * (len(self.nodes) - 1)} links cut")
        if self.touched:
            parts.append(f"{counted(len(self.touched), 'link')} disturbed")
        if self.down:
            parts.append(f"{', '.join(sorted(self.down))} down")
        led = [f"{node} (term {term})" if term else node for node, term in self.leaders]
        if len(led) > 1:
            parts.append(f"{' and '.join(led)} {'both' if len(led) == 2 else 'all'} said that they led")
        elif led:
            parts.append(f"{led[0]} led")
        return f"At {seconds(self.time)}: {'; '.join(parts) or 'every node heard every other'}."


def heard(history: History, time: int, asked: str | None = None) -> Heard | None:
    """The cluster at `time`; None where the history names no nodes or more than a picture holds."""
    said = history.header.get("nodes")
    names = [n for n in said if isinstance(n, str)] if isinstance(said, (list, tuple)) else []
    nodes = tuple(dict.fromkeys(names))
    if not 2 <= len(nodes) <= MOST:
        return None
    cut, touched = set[Link](), set[Link]()
    for fault in history.in_force(time):
        silent = {(source, node) for node, sources in fault.grudge.items() for source in sources}
        cut |= silent
        if not silent:
            touched |= {(link[0], link[1]) for link in fault.links if len(link) == 2}
    known = {(a, b) for a in nodes for b in nodes if a != b}
    now = [s for s in spans(history.events, time + 1) if s.start <= time < s.end]
    return Heard(
        time,
        nodes,
        frozenset(cut & known),
        frozenset((touched - cut) & known),
        tuple((s.node, s.term) for s in now if s.state == "leader" and s.node in nodes),
        frozenset(s.node for s in now if s.state == "down" and s.node in nodes),
        asked if asked in nodes else None,
    )


def heard_picture(seen: Heard) -> Markup:
    """The picture, its sentence, and the same as a list."""
    radius = 18 if len(seen.nodes) <= FEW else 8
    labels = {node: _label(node) for node in seen.nodes}
    outside = {node: radius == 8 or len(label) * LETTER >= 2 * radius for node, label in labels.items()}
    longest = max((len(label) for node, label in labels.items() if outside[node]), default=0)
    places = _places(seen.nodes, min(82 if radius > 8 else 98, SIZE / 2 + 8 - radius - longest * LETTER))
    parts: list[Markup] = []
    for k, a in enumerate(seen.nodes):
        for b in seen.nodes[k + 1 :]:
            parts += _link(seen, a, b, places)
    leading = {node for node, _ in seen.leaders}
    for node in seen.nodes:
        x, y = places[node]
        look = "leads" if node in leading else "down" if node in seen.down else "follows"
        at = {"cx": f"{x:.1f}", "cy": f"{y:.1f}"}
        if node == seen.asked:
            parts.append(el("circle", **at, r=radius + 5, class_="asked"))
        parts.append(el("circle", **at, r=radius, class_=f"node {look}"))
        across, down = (x - SIZE / 2, y - SIZE / 2) if outside[node] else (0.0, 0.0)
        beside = abs(across) > abs(down) / 3  # left or right of its node, not above or below
        gap = radius + (9 if node == seen.asked else 4) + (0 if beside else 7)
        away = gap / math.hypot(across, down) if outside[node] else 0.0
        parts.append(
            el(
                "text",
                labels[node],
                x=f"{x + away * across:.1f}",
                y=f"{y + away * down + 4.5:.1f}",
                text_anchor="middle" if not (outside[node] and beside) else "start" if across > 0 else "end",
                class_="nodename" if outside[node] else f"nodename {look}",
            )
        )
    keys = [
        word
        for word, there in (
            ("dotted: hears nothing", seen.cut),
            ("dashed: disturbed", seen.touched),
            ("filled: said that it led", seen.leaders),
            ("struck out: down", seen.down),
            ("double ring: asked by the operation", seen.asked),
        )
        if there
    ]
    listed = [el("li", el("b", name_text(node, 40)), _hears(seen, node)) for node in seen.nodes]
    return el(
        "figure",
        el(
            "svg",
            el("title", seen.words),
            *parts,
            viewBox=f"-16 -8 {SIZE + 32} {SIZE + 16}",
            role="img",
            class_="many" if len(seen.nodes) > FEW else None,
        ),
        el("figcaption", el("b", seen.words), " ", el("small", "; ".join(keys)) if keys else None),
        el("details", el("summary", "Who heard whom, as a list"), el("ul", *listed)),
        class_="heard",
    )


def _label(node: str) -> str:
    """A node's name, or as much of it as the picture has room for; the list has the whole."""
    name = visible(node)
    return name if len(name) <= 14 else f"{name[:13]}…"


def _places(nodes: Sequence[str], ring: float) -> dict[str, tuple[float, float]]:
    step, ring = 2 * math.pi / len(nodes), max(ring, 52.0)
    return {
        node: (SIZE / 2 + ring * math.sin(k * step), SIZE / 2 - ring * math.cos(k * step))
        for k, node in enumerate(nodes)
    }


def _link(seen: Heard, a: str, b: str, places: dict[str, tuple[float, float]]) -> list[Markup]:
    """One line for both directions; where only one is cut, an arrow shows the one that still carries."""
    (x1, y1), (x2, y2) = places[a], places[b]
    there, back = (a, b) in seen.cut, (b, a) in seen.cut
    gone = a in seen.down or b in seen.down
    look = "cut" if (there and back) or gone else "touched" if {(a, b), (b, a)} & seen.touched else "open"
    at = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    found = [el("line", **at, class_=f"wire {'half' if there != back and not gone else look}")]
    if there != back and not gone:  # in the middle, towards the node that still hears
        (p, q), (r, s) = ((x2, y2), (x1, y1)) if there else ((x1, y1), (x2, y2))
        turn = math.degrees(math.atan2(s - q, r - p))
        found.append(
            el("path", d="M-5 -5L5 0L-5 5z", class_="oneway",
               transform=f"translate({(p + r) / 2:.1f} {(q + s) / 2:.1f}) rotate({turn:.0f})")
        )  # fmt: skip
    return found


def _hears(seen: Heard, node: str) -> str:
    others = [other for other in seen.nodes if other != node]
    silent = [name_text(o, 40) for o in others if (o, node) in seen.cut]
    rest = [name_text(o, 40) for o in others if (o, node) not in seen.cut]
    if node in seen.down:
        return " is down"
    return f" hears {', '.join(rest) or 'nobody'}" + (f", nothing from {', '.join(silent)}" if silent else "")


__all__ = ["Heard", "heard", "heard_picture"]

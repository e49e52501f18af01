"""Lines on logarithmic axes as SVG, with nothing but the markup of the project's own report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.report.markup import Markup, el

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 210, 44, 56  # margins; names of the lines stand in the right one
COLOURS = ("#0b6e4f", "#1f77b4", "#9467bd", "#d95f02", "#c1121f", "#555555")
LETTERS = {"font_family": "system-ui, sans-serif", "font_size": 13, "fill": "#222222"}
LEAST_GAP = 17  # pixels between two names


@dataclass(frozen=True, slots=True)
class Line:
    """(x, seconds) in order of x; `unanswered` says that the last one is where it was given up."""

    name: str
    points: tuple[tuple[float, float], ...]
    unanswered: bool = False


def plot(title: str, across: str, lines: Sequence[Line]) -> str:
    """An SVG document: seconds upwards, `across` to the right, both logarithmic."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    first, last = math.log10(min(xs)), math.log10(max(xs))

    def x_of(x: float) -> float:
        return LEFT + (math.log10(x) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y_of(y: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(y) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        el("rect", width=WIDTH, height=HEIGHT, fill="#ffffff"),
        el("text", title, x=LEFT, y=24, **{**LETTERS, "font_size": 16, "font_weight": 600}),
        el("text", across, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 14, text_anchor="middle", **LETTERS),
    ]
    for power in range(low, high + 1):
        y = y_of(10.0**power)
        parts.append(el("path", d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", stroke="#dddddd"))
        parts.append(el("text", _seconds(power), x=LEFT - 8, y=f"{y + 4:.1f}", text_anchor="end", **LETTERS))
    for x in sorted(set(xs)):
        at = f"{x_of(x):.1f}"
        parts.append(el("path", d=f"M{at} {HEIGHT - BOTTOM}v5", stroke="#222222"))
        parts.append(el("text", f"{x:,.0f}", x=at, y=HEIGHT - BOTTOM + 20, text_anchor="middle", **LETTERS))
    heights = _apart([y_of(line.points[-1][1]) for line in lines])
    for line, colour, height in zip(lines, COLOURS, heights, strict=False):
        parts += _drawn(line, colour, [(x_of(x), y_of(y)) for x, y in line.points], height)
    return el("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT}") + "\n"


def _drawn(line: Line, colour: str, places: Sequence[tuple[float, float]], height: float) -> Iterator[Markup]:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield el("path", d=f"M{path}", stroke=colour, fill="none", stroke_width=2)
    for x, y in places[:-1] if line.unanswered else places:
        yield el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, fill=colour)
    x, y = places[-1]
    if line.unanswered:
        yield el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=4, fill="#ffffff", stroke=colour, stroke_width=2)
    name = f"{line.name}{': gave up' if line.unanswered else ''}"
    side = WIDTH - RIGHT + 10
    yield el("path", d=f"M{x:.1f} {y:.1f}L{side} {height:.1f}", stroke=colour, stroke_dasharray="2 3")
    yield el("text", name, x=side + 4, y=f"{height + 4:.1f}", **{**LETTERS, "fill": colour})


def _apart(heights: Sequence[float]) -> list[float]:
    """The same heights, moved so that names do not cover each other."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    moved = list(heights)
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + LEAST_GAP)
    over = max(0.0, max(moved) - (HEIGHT - BOTTOM + 4))
    return [height - over for height in moved]


def _seconds(power: int) -> str:
    if power >= 0:
        return f"{10**power} s"
    return f"{10 ** (power + 3)} ms" if power >= -3 else f"{10 ** (power + 6)} µs"

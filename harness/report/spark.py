"""A run in a thumbnail: operations over time, what was not ok, the faults above, where the anomaly is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.history import NANOSECONDS, OUTCOMES, History
from harness.report.markup import Markup, el, family
from harness.report.text import counted, visible
from harness.verdict import Verdict

STRETCHES, FAULTS = 60, 40
WIDTH, HEIGHT, TOP = 180, 30, 7


@dataclass(frozen=True, slots=True)
class Spark:
    """`rate` and `bad` count operations invoked, and those not ok, in equal stretches of `duration` seconds.

    `faults` are (kind, start, end) as parts of the run, `at` where the last word of its violation is.
    """

    duration: float
    rate: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()
    faults: tuple[tuple[str, float, float], ...] = ()
    at: float | None = None


def spark(history: History, verdicts: Sequence[Verdict]) -> Spark | None:
    """The thumbnail of a run; None where it has no operation with a time."""
    c, duration = history.columns, history.duration
    if not len(c) or min(c.start) < 0 or duration <= 0:
        return None
    rate, bad = [0] * STRETCHES, [0] * STRETCHES
    ok, scale = OUTCOMES.index("ok"), STRETCHES / (duration * NANOSECONDS)
    for start, kind in zip(c.start, c.type, strict=True):
        k = min(int(start * scale), STRETCHES - 1)
        rate[k] += 1
        bad[k] += kind != ok

    def part(time: int | None) -> float:
        return 1.0 if time is None else round(min(time / NANOSECONDS / duration, 1.0), 4)

    faults = [
        (visible(f.kind)[:40], part(f.start), part(f.end)) for f in history.faults if f.start is not None
    ]
    ends = {v.witness.culprit for v in verdicts if v.judgement == "invalid" and v.witness}
    at = next((part(start) for i, start in zip(c.index, c.start, strict=True) if i in ends), None)
    return Spark(round(duration, 6), tuple(rate), tuple(bad), tuple(faults[:FAULTS]), at)


def spark_picture(seen: Spark) -> Markup:
    """The thumbnail as SVG; its title says the same in words."""
    top = max(seen.rate, default=0) or 1
    step = WIDTH / max(len(seen.rate), 1)
    parts: list[Markup] = []
    for kind, start, end in seen.faults:
        at = {"x": f"{start * WIDTH:.1f}", "width": f"{max((end - start) * WIDTH, 1.5):.1f}"}
        parts.append(el("rect", **at, y=0, height=HEIGHT, class_=f"tint {family(kind)}"))
        parts.append(el("rect", **at, y=0, height=4, class_=f"force {family(kind)}"))
    for k, (count, bad) in enumerate(zip(seen.rate, seen.bad, strict=True)):
        for number, look in ((count, "ok"), (bad, "bad")):
            if number:
                high = max(number / top * (HEIGHT - TOP), 1.0)
                at = {"x": f"{k * step:.1f}", "y": f"{HEIGHT - high:.1f}"}
                parts.append(el("rect", **at, width=f"{step - 0.6:.1f}", height=f"{high:.1f}", class_=look))
    if seen.at is not None:
        parts.append(el("path", d=f"M{seen.at * WIDTH:.1f} 0l4 5l-4 5l-4 -5zv{HEIGHT}", class_="at"))
    kinds = ", ".join(dict.fromkeys(kind for kind, _, _ in seen.faults))
    peak = top / seen.duration * len(seen.rate) if seen.rate else 0.0
    words = f"{counted(sum(seen.rate), 'operation')}, {sum(seen.bad):,} not ok, up to {peak:,.0f} a second"
    words += f"; {counted(len(seen.faults), 'fault')}: {kinds}" if seen.faults else "; no fault"
    return el(
        "svg", el("title", words), *parts, viewBox=f"-4 0 {WIDTH + 8} {HEIGHT}", role="img", class_="spark"
    )

"""Two runs of one test over one time axis: the one that failed, and a good one to hold it against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.history import NANOSECONDS, OUTCOMES, History
from harness.report.markup import (
    Child,
    Markup,
    asset,
    breakable,
    document,
    el,
    family,
    joined,
    judged,
    mark,
    table,
)
from harness.report.nodes import rivals, spans
from harness.report.page import WORDS, Page, save
from harness.report.recovery import last_heal, recoveries, told
from harness.report.redact import redactor
from harness.report.sections import plan_name
from harness.report.text import DASH, lasted, name_text, seconds, shorten, visible
from harness.report.witness import last_word, ticks

STRETCHES, MOST_FAULTS = 120, 60
WIDTHS = (340, 1120)
RATE, LATENCY = 60, 74
_OK = OUTCOMES.index("ok")


def write_comparison(path: Path, one: Page, other: Page) -> Path:
    """Write `one` run above `other` as one HTML file without script or network, and return its path.

    Both have the same scales: what differs to the eye differs. Raises OSError where `path` cannot be written.
    """
    pages = (one, other)
    worse = min(pages, key=lambda page: ("invalid", "error", "unknown", "valid").index(page.word))
    title = shorten(redactor(one.environment)(one.test), 300)
    headline = f"{WORDS[one.word]} beside {WORDS[other.word].lower()}"
    if one.test != other.test:
        title += f" / {shorten(redactor(other.environment)(other.test), 300)}"
    return save(
        path,
        document(
            "index.html",
            asset("common.css") + asset("page.css") + asset("index.css"),
            word=worse.word,
            title=f"Comparison: {title}",
            heading=breakable(title),
            headline=headline,
            stamp=joined((mark(worse.word, 44), el("strong", "Comparison"))),
            facts=None,
            runs=joined((_pictures(pages), _table(pages))),
        ),
    )


# --------------------------------------------------------------------------------------------- the picture


def _pictures(pages: Sequence[Page]) -> Markup:
    end = max((page.history.duration for page in pages), default=0) or 1.0
    drawn = [_Drawn(page, end) for page in pages]
    top = max(max(d.rate, default=0) for d in drawn) or 1
    slow = max(max(d.slow, default=0) for d in drawn) or 1
    parts: list[Child] = []
    for number, d in enumerate(drawn):
        name = el("h2", judged(d.page.word), f" {'first' if number == 0 else 'second'} run, seed {d.seed}")
        pictures = (d.picture(width, top, slow) for width in WIDTHS)
        parts.append(el("section", name, el("div", *pictures, class_="picture compared")))
    hint = (
        "Both runs on one axis and one scale: faults as observed, who led (red where two did), operations "
        "invoked (those not ok in front), latency of ok operations (median and slowest), "
        "a diamond where the story ends."
    )
    return joined((el("p", hint, class_="hint axis"), *parts))


class _Drawn:
    """One run in equal stretches of the longer run's time."""

    def __init__(self, page: Page, end: float) -> None:
        self.page, self.end, self.history = page, end, page.history
        self.seed = shorten(name_text(page.history.header.get("seed")), 24)
        self.rate, self.bad = [0] * STRETCHES, [0] * STRETCHES
        took: list[list[int]] = [[] for _ in range(STRETCHES)]
        c = page.history.columns
        if not len(c) or min(c.start) >= 0:
            for start, done, kind in zip(c.start, c.end, c.type, strict=True):
                k = min(int(start / NANOSECONDS / end * STRETCHES), STRETCHES - 1)
                self.rate[k] += 1
                self.bad[k] += kind != _OK
                if kind == _OK and done >= 0:
                    took[k].append(done - start)
        self.middle = [sorted(times)[len(times) // 2] if times else 0 for times in took]
        self.slow = [max(times, default=0) for times in took]

    def picture(self, width: int, top: int, slow: int) -> Markup:
        """The run as SVG of this width, its bars against `top` and its latencies (ns) against `slow`."""
        left, right = 8, width - 8

        def x(nanoseconds: float) -> float:
            return left + min(nanoseconds / NANOSECONDS / self.end, 1.0) * (right - left)

        parts: list[Markup] = []
        faults = [f for f in self.history.faults if f.start is not None][:MOST_FAULTS]
        rows: list[int] = []
        high = 0
        for fault in faults:
            a, b = fault.start or 0, fault.end if fault.end is not None else round(self.end * NANOSECONDS)
            row = next((k for k, until in enumerate(rows) if until < a), len(rows))
            rows[row : row + 1] = [b]
            at = {"x": f"{x(a):.1f}", "width": f"{max(x(b) - x(a), 2):.1f}"}
            parts.append(el("rect", el("title", visible(fault.what)[:200]), **at, y=row * 22, height=18,
                            class_=f"band {family(fault.kind)}"))  # fmt: skip
            letters, text = int((x(b) - x(a) - 10) / 7.2), visible(fault.what)
            if letters >= min(len(text), 6):
                text = text if len(text) <= letters else f"{text[: letters - 1]}…"
                parts.append(el("text", text, x=f"{x(a) + 6:.1f}", y=row * 22 + 13, class_="bandtext"))
            high = max(high, row * 22 + 24)
        found = spans(self.history.events, round(self.history.duration * NANOSECONDS))
        for span in found:
            if span.state == "leader":
                at = {"x": f"{x(span.start):.1f}", "width": f"{max(x(span.end) - x(span.start), 1):.1f}"}
                parts.append(
                    el(
                        "rect",
                        el("title", f"{span.node} led {span.term}"),
                        **at,
                        y=high,
                        height=8,
                        class_="led",
                    )
                )
        for a, b in rivals(found):
            at = {"x": f"{x(a):.1f}", "width": f"{max(x(b) - x(a), 1):.1f}"}
            parts.append(el("rect", el("title", "two led"), **at, y=high + 8, height=3, class_="rival"))
        high += 16 if found else 2
        step = (right - left) / STRETCHES
        for k in range(STRETCHES):
            for number, look in ((self.rate[k], "ok"), (self.bad[k], "bad")):
                if number:
                    size = max(number / top * (RATE - 16), 1.0)
                    parts.append(_bar(left + k * step, high + RATE - size, step, size, look))
            if self.slow[k]:
                low, size = high + RATE + 8 + LATENCY, max(self.slow[k] / slow * (LATENCY - 12), 1.0)
                parts.append(_bar(left + k * step, low - size, step, size, "slow"))
                half = max(self.middle[k] / slow * (LATENCY - 12), 1.0)
                parts.append(_bar(left + k * step, low - half, step, half, "ok"))
        rate = f"operations, up to {top / self.end * STRETCHES:,.0f} a second"
        parts.append(el("text", rate, x=left, y=high + 8, class_="note"))
        words = f"latency, up to {lasted(slow / NANOSECONDS)}"
        parts.append(el("text", words, x=left, y=high + RATE + 20, class_="note"))
        high += RATE + 8 + LATENCY
        for time in self._ends():
            parts.append(el("path", d=f"M{x(time):.1f} 0l6 7l-6 7l-6 -7zv{high}", class_="at"))
        for tick in ticks(0.0, self.end, width / 110):
            parts.append(
                el("text", f"{tick:g} s", x=f"{x(tick * NANOSECONDS):.1f}", y=high + 16, class_="note")
            )
        words = (
            f"{WORDS[self.page.word]} run: {len(self.history):,} operations in {self.history.duration:.1f} s"
        )
        return el(
            "svg",
            el("title", words),
            *parts,
            viewBox=f"0 0 {width} {high + 22}",
            role="img",
            class_=f"c{width}",
        )

    def _ends(self) -> list[int]:
        wanted = {last_word(v.witness) for v in self.page.verdicts if v.judgement == "invalid" and v.witness}
        c = self.history.columns
        return [
            start for index, start in zip(c.index, c.start, strict=True) if index in wanted and start >= 0
        ]


def _bar(x: float, y: float, step: float, high: float, look: str) -> Markup:
    return el(
        "rect",
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        width=f"{max(step - 0.6, 0.6):.1f}",
        height=f"{high:.1f}",
        class_=look,
    )


# ----------------------------------------------------------------------------------------------- the table


def _table(pages: Sequence[Page]) -> Markup:
    """The same in words, what differs marked."""
    columns = [_facts(page) for page in pages]
    rows: list[Sequence[Child]] = []
    for name in columns[0]:
        a, b = columns[0][name], columns[1][name]
        rows.append((name, a, b, el("b", "yes") if a != b else el("small", "no")))
    return el(
        "section",
        el("h2", "Side by side"),
        table("Side by side", ("what", "first run", "second run", "differs"), rows, "beside"),
    )


def _facts(page: Page) -> dict[str, str]:
    history, redact = page.history, redactor(page.environment)
    counts, found = history.counts, recoveries(history)
    seen = [f for f in history.faults if f.start is not None]
    took = sorted(
        end - start
        for start, end, kind in zip(
            history.columns.start, history.columns.end, history.columns.type, strict=True
        )
        if kind == _OK and end >= 0
    )
    recovery = last_heal(found)
    return {
        "verdict": f"{WORDS[page.word]}: {redact(page.summary)}",
        "seed": shorten(name_text(history.header.get("seed")), 40),
        "plan": redact(plan_name(history.header)) or DASH,
        "target": redact(name_text(history.header.get("target") or DASH, 120)),
        "duration": f"{history.duration:.1f} s",
        "operations": f"{len(history):,}",
        **{name: f"{counts[name]:,}" for name in OUTCOMES},
        "p50 of ok": _quantile(took, 0.5),
        "p99 of ok": _quantile(took, 0.99),
        "faults": f"{len(seen)} of {len(history.faults)} took effect",
        "faults observed": "; ".join(
            redact(shorten(f"{visible(f.what or f.kind)} {seconds(f.start)} to {seconds(f.end)}", 120))
            for f in seen[:12]
        )
        or "none",
        "recovery after the last heal": told(recovery) if recovery else DASH,
        "two led at once": _rivals(history),
    }


def _rivals(history: History) -> str:
    long = sum(b - a for a, b in rivals(spans(history.events, round(history.duration * NANOSECONDS))))
    return f"for {lasted(long / NANOSECONDS)}" if long else "never"


def _quantile(times: Sequence[int], share: float) -> str:
    return lasted(times[min(int(share * len(times)), len(times) - 1)] / NANOSECONDS) if times else DASH

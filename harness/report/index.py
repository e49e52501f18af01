"""The index page of a session: one line a run, what needs a look first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.markup import Child, asset, breakable, document, el, joined, judged, link, mark, table
from harness.report.page import WORDS, Page, Word, save
from harness.report.recovery import recovered
from harness.report.redact import redactor
from harness.report.spark import Spark, spark, spark_picture
from harness.report.text import counted, name_text, shorten

HEAD = ("verdict", "test", "summary", "rate and faults", "recovery", "operations", "duration", "seed")
ORDER: tuple[Word, ...] = ("invalid", "error", "unknown", "valid")


@dataclass(frozen=True)
class Entry:
    """A run as the index shows it: `duration` in seconds, `link` its page relative to the index, or "".

    `spark` is its thumbnail, `recovery` says how long it took after the last heal.
    `expected` marks a verdict that the test asked for (a planted bug): it needs no look.
    """

    test: str
    verdict: Word
    summary: str
    link: str
    operations: int
    duration: float
    seed: str | int = ""
    expected: bool = False
    spark: Spark | None = None
    recovery: str = ""

    @property
    def good(self) -> bool:
        """Whether nobody needs to look at it."""
        return self.expected or self.verdict == "valid"

    def __post_init__(self) -> None:
        if self.verdict not in ORDER:
            raise ValueError(f"verdict {self.verdict!r} is none of {', '.join(ORDER)}")

    @classmethod
    def of(cls, page: Page, link: str) -> Entry:
        """The entry of `page`, so that page and index cannot disagree."""
        seed, redact = page.history.header.get("seed"), redactor(page.environment)
        return cls(
            test=redact(page.test),
            verdict=page.word,
            summary=redact(page.summary),
            link=link,
            operations=len(page.history),
            duration=page.history.duration,
            seed="" if seed is None else name_text(seed, 60),
            spark=spark(page.history, page.verdicts),
            recovery=recovered(page.history),
        )


def write_index(
    path: Path, entries: Sequence[Entry], *, title: str = "Chaos tests", seed: str | int = ""
) -> Path:
    """Write the session's index page, one HTML file without script or network, and return its path.

    Invalid runs come first, then errors, unknown, valid, each in the order given. Raises OSError where
    `path` cannot be written.
    """
    ranked = sorted(entries, key=lambda entry: (entry.good, ORDER.index(entry.verdict)))
    tally = Counter(entry.verdict for entry in entries)
    bad = sum(not entry.good for entry in entries)
    deciding: Word = ranked[0].verdict if bad else "valid" if ranked else "unknown"
    if bad:
        headline = f"{bad:,} of {counted(len(entries), 'run')} {'needs' if bad == 1 else 'need'} a look"
    else:
        good = "all valid" if tally["valid"] == len(entries) else "all as expected"
        headline = f"{counted(len(entries), 'run')}, {good}" if entries else "No run was recorded"
    rows = []
    for e in ranked:
        name, look = breakable(shorten(e.test, 300)), judged(e.verdict, WORDS[e.verdict])
        test = el("a", name, href=link(e.link), class_="mono") if e.link else el("span", name, class_="mono")
        rows.append(
            (
                look,
                test,
                shorten(e.summary, 300) + (", as the test expects" if e.expected else ""),
                spark_picture(e.spark) if e.spark else None,
                shorten(e.recovery, 60),
                f"{e.operations:,}",
                f"{e.duration:.1f} s",
                shorten(str(e.seed), 24),
            )
        )
    facts: list[Child] = [
        el("div", el("dt", WORDS[word].lower()), el("dd", f"{tally[word]:,}"))
        for word in ORDER
        if tally[word]
    ]
    if seed != "":
        facts.append(el("div", el("dt", "session seed"), el("dd", seed)))
    text = document(
        "index.html",
        asset("common.css") + asset("index.css"),
        word=deciding,
        title=title,
        heading=title,
        headline=headline,
        stamp=joined((mark(deciding, 44), el("strong", WORDS[deciding]))) if entries else mark(deciding, 44),
        facts=joined(facts),
        runs=table("Runs", HEAD, rows, "runs") if rows else None,
    )
    return save(path, text)

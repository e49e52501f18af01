"""One run as one HTML file: verdicts, witness, timeline, faults, plan, environment, logs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.history import History
from harness.report import sections
from harness.report.aggregate import Aggregate, aggregate, small
from harness.report.answers import answers
from harness.report.clocks import KINDS, clock_table, drawn_clocks, observed, plot
from harness.report.columns import Rows, arrange, pack, packed_json
from harness.report.coverage import coverage
from harness.report.drawing import drawing, whole
from harness.report.extract import carried as beside
from harness.report.keys import keys
from harness.report.logs import Tail, drawn_logs, logged, node_logs, tails
from harness.report.markup import Child, asset, breakable, document, el, joined, judged, mark
from harness.report.nodes import drawn, rivals, spans
from harness.report.recovery import recoveries, recovery_table
from harness.report.redact import Redact, redacted, redactor
from harness.report.text import counted, name_text, shorten, visible
from harness.report.traces import named, traces
from harness.report.witness import story
from harness.verdict import Verdict, worst

Word = Literal["valid", "invalid", "unknown", "error"]
SCRIPTS = (
    "tools", "data", "view", "paint", "lanes", "logs", "charts", "clocks", "pointer", "operations", "start",
)  # fmt: skip
NAMED = 40  # lanes of processes that have room for their names; as lanes.js
WORDS = {"valid": "Valid", "invalid": "Invalid", "unknown": "Unknown", "error": "Error"}


@dataclass(frozen=True)
class Page:
    """Everything that one page shows.

    `test` is the test's id and `replay` the command that runs it again. `logs` are the nodes' log files by
    node. `findings` fail the run beside its verdicts (a node died, an unmapped exception), `error` is that
    of a run that ended early. `history_link` is the raw history's path relative to the page.
    """

    history: History
    verdicts: tuple[Verdict, ...]
    test: str
    replay: str = ""
    logs: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    error: str = ""
    history_link: str = ""

    @property
    def word(self) -> Word:
        """How the run stands: a violation outweighs an error, an error an unknown; unjudged is unknown."""
        decided = worst(self.verdicts)
        if decided and decided.judgement == "invalid":
            return "invalid"
        if self.error or self.findings:
            return "error"
        return decided.judgement if decided else "unknown"

    @property
    def summary(self) -> str:
        """The same in one line."""
        decided = worst(self.verdicts)
        if self.word == "error":
            return shorten(
                (self.error.strip() or self.findings[0]).splitlines()[-1 if self.error else 0], 160
            )
        if decided is None:
            return "Nothing was judged"
        alike = sum(1 for v in self.verdicts if v.judgement == decided.judgement) - 1
        key = "" if decided.key is None else f"{name_text(decided.key, 40)}: "
        text = shorten(decided.summary or decided.checker, 160)
        text = key + text if key else text[:1].upper() + text[1:]
        if decided.judgement == "valid":
            seen = sum(1 for f in self.history.faults if f.start is not None)
            return text + (f", under {counted(seen, 'fault')}" if seen else "")
        return text + (f", and {counted(alike, f'more {decided.judgement} verdict')}" if alike else "")


def write_page(path: Path, page: Page) -> Path:
    """Write `page` as one HTML file that needs no network and no other file, and return its path.

    Everything in it is escaped text first; a script, allowed by its hash, draws the pictures. What is cut or
    left out, the page says. Secrets are blanked. Raises OSError where `path` cannot be written.

    >>> import tempfile
    >>> from harness.history import History
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(Path(folder) / "index.html", Page(History.from_events([]), (), "test_x")).name
    'index.html'
    """
    return save(path, render(page, path))


def render(page: Page, path: Path) -> str:
    """The text of the page that is to lie at `path`."""
    history, redact = page.history, redactor(page.environment)
    rows = arrange(history)
    shown = {
        op
        for v in page.verdicts
        if v.witness
        for op in (*v.witness.operations, v.witness.culprit)
        if op is not None
    }
    coarse = aggregate(history, rows, page.verdicts)
    carried, shown_rows = (history, rows) if coarse is None else small(history, rows, coarse.kept)
    by_row = shown_rows.row_of(carried.columns, shown)
    layout, columns = pack(carried, shown_rows)
    clocks = observed(history, redact)
    ends = tails(page.logs, path, redact, history, clocks)
    drawn_run = drawing(carried, shown_rows, page.verdicts, by_row, redact)
    steps, steps_left = traces(carried, shown_rows.row_of(carried.columns, named(carried)), redact)
    carried_beside = beside(history, drawn_run["values"], page.verdicts, redact, coarse is not None)
    return document(
        "page.html",
        asset("common.css") + asset("page.css"),
        "".join(asset(f"{name}.js") for name in SCRIPTS),
        word=page.word,
        title=f"{WORDS[page.word]}: {redact(page.test)}",
        stamp=joined((mark(page.word, 44), el("strong", WORDS[page.word]))),
        nav_mark=mark(page.word, 18),
        headline=redact(page.summary),
        test=breakable(redact(page.test)),
        totals=sections.totals(history),
        facts=sections.facts(history, page.history_link, redact),
        answers=answers(
            history,
            page.verdicts,
            by_row,
            redact(page.replay),
            bool(page.error or page.findings),
            redact,
        ),
        findings=sections.findings(page.findings, page.error, redact),
        story=_story(page, by_row, redact),
        empty="" if len(history) or history.faults or history.events else "empty",
        legend=sections.legend(history, page.verdicts, bool(rivals(spans(history.events, 0))), logged(ends)),
        notes=_notes(history, rows, clocks.every, coarse, steps_left, ends),
        periods=sections.periods(history),
        clocks=plot(clocks),
        clock_table=clock_table(clocks, history.faults, redact),
        verdicts=sections.verdict_table(page.verdicts, redact),
        coverage=coverage(history),
        keys=_section("keys", "Keys", keys(history, page.verdicts)),
        keys_link=el("a", "Keys", href="#keys") if len(history.columns.keys) > 1 else None,
        operations_link=el("a", "Operations", href="#operations") if len(history) else None,
        recovery=recovery_table(recoveries(history), history, redact),
        faults=sections.fault_table(history.faults, redact),
        plan=sections.plan_text(history.header, redact),
        environment=sections.environment(history, redacted(page.environment), redact),
        logs=node_logs(ends, history, clocks, whole(history, rows)),
        drawing=packed_json(
            {
                "layout": layout,
                "clocks": drawn_clocks(clocks),
                **drawn_run,
                "traces": steps,
                "logs": drawn_logs(ends),
                **({} if coarse is None else _coarse(history, rows, coarse)),
            }
        ),
        columns=columns,
        extract=packed_json(carried_beside),
    )


def save(path: Path, text: str) -> Path:
    """Write all of a page or nothing: whoever opens it meanwhile sees the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(text.encode("utf-8", "backslashreplace"))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _story(page: Page, by_index: dict[int, int], redact: Redact) -> Child:
    """Every violation with its witness; where there is none, what is unknown and why, or what was checked."""
    invalid = [v for v in page.verdicts if v.judgement == "invalid"]
    unknown = [v for v in page.verdicts if v.judgement == "unknown"]
    parts: list[Child] = []
    for verdict in invalid:
        if len(invalid) > 1:
            key = "" if verdict.key is None else f" {redact(name_text(verdict.key, 40))}:"
            words = f"{key} {redact(shorten(verdict.summary, 200))}"
            parts.append(el("h3", judged("invalid", verdict.checker), words))
        parts.append(story(page.history, verdict, by_index, redact))
    parts += [sections.undecided(verdict, redact) for verdict in unknown]
    if not page.verdicts:
        parts.append(
            el(
                "p",
                "Nothing was judged. A chaos test that judges nothing has shown nothing.",
                class_="sentence",
            )
        )
    elif not invalid:
        parts.append(sections.checked(page.history))
    title = (
        "What went wrong"
        if invalid
        else "What is not known"
        if unknown or not page.verdicts
        else "What was checked"
    )
    return joined((el("h2", title, id="h-witness"), *parts))


def _section(name: str, title: str, content: Child) -> Child:
    """A section of the page; None where it has nothing to say."""
    if content is None:
        return None
    return el("section", el("h2", title, id=f"h-{name}"), content, id=name, aria_labelledby=f"h-{name}")


def _coarse(history: History, rows: Rows, coarse: Aggregate) -> dict[str, Any]:
    """What the script draws in place of the operations that are not carried."""
    start, end = whole(history, rows)
    exact = [[a / 1e6, b / 1e6] for a, b in coarse.whole]
    tally = Counter(history.columns.key)
    of = [tally[key] for key in range(len(history.columns.keys))]
    return {"from": start, "to": end, "total": coarse.total, "bins": coarse.bins, "exact": exact, "of": of}


def _notes(
    history: History, rows: Rows, every: int, coarse: Aggregate | None, steps_left: int, ends: Sequence[Tail]
) -> Child:
    """What the timeline leaves out or puts together."""
    notes = [coarse.words] if coarse else []
    if steps_left:
        notes.append(f"Of what nodes did for single operations {counted(steps_left, 'step')} are left out.")
    if rows.timeless:
        notes.append("This history has no times: the axis shows the order of events, a millisecond each.")
    if rows.shared:
        notes.append("Several processes share a lane.")
    if rows.lanes > NAMED:
        notes.append("One lane of processes in four is named; an operation under the pointer names its own.")
    if every > 1:
        notes.append(f"Of the nodes' clocks one reading in {every} is drawn.")
    if any(tail.cut and tail.timed for tail in ends):
        notes.append("Of the nodes' logs the ends alone are drawn: the section of logs says how much.")
    _, left = drawn([event for event in history.events if event.kind not in KINDS])
    if left:
        kinds = ", ".join(f"{n:,} {visible(kind)[:40]}" for kind, n in list(left.items())[:20])
        notes.append(f"Node events not drawn, for their number: {kinds}.")
    return el("p", " ".join(notes), class_="hint notes") if notes else None

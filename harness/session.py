"""What one test and one session leave: a page per run, an index, lines for the terminal and for CI.

Everything is said from the same verdicts, so that terminal, junit, page and index cannot disagree.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.chaos import Chaos
from harness.checkers.words import headline, text as full
from harness.history import History
from harness.report import Entry, Page, write_index as write_index_page, write_page
from harness.report.page import Word
from harness.report.recovery import recovered
from harness.report.spark import spark
from harness.run import Run
from harness.verdict import worst

if TYPE_CHECKING:
    import pytest

ENTRY = "entry.json"


@dataclass(frozen=True)
class Done:
    """A finished test: `text` for the terminal, `properties` (strings only) for junit and the controller.

    `trouble` says what could not be written, or is empty.
    """

    text: str
    properties: list[tuple[str, object]]
    trouble: str = ""


@dataclass(frozen=True)
class Ended:
    """A test in the lists at the end: `word` is its verdict, and says so where the test expects a bad one."""

    test: str
    word: str
    failed: bool
    properties: Mapping[str, str]


def conclude(chaos: Chaos, test: str, *, failed: bool, page: bool, command: str) -> Done:
    """Write the pages of every run of a finished test and say how it ended; `failed` if it raised."""
    where = trouble = ""
    for run in chaos.runs if page else ():
        if hasattr(run, "history"):
            try:
                write_page(run.settings.output / "index.html", _page(run, test, chaos.error, command))
                where = str(_short(chaos.output / "index.html"))
            except Exception as error:  # neither the verdict nor the other tests may be lost by it
                trouble = f"a page could not be written: {type(error).__name__}: {error}"
    word, summary = _ending(chaos, failed)
    summary = _printable(summary)
    history: History | None = getattr(_decisive(chaos), "history", None)
    entry = Entry(
        test=test,
        verdict=word,
        summary=summary,
        link=f"{chaos.output.name}/index.html" if where else "",
        operations=sum(len(h) for h in chaos.histories),
        duration=sum(h.duration for h in chaos.histories),
        seed=str(chaos.settings.seed),
        expected=not chaos.failed and word != "valid",
        spark=None if history is None else spark(history, history.verdicts),
        recovery="" if history is None else recovered(history),
    )
    part = chaos.output / f"{ENTRY}.part"
    try:
        chaos.output.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.encode(entry))
        part.replace(chaos.output / ENTRY)
    except OSError as error:
        trouble = (
            f"{_short(chaos.output)} cannot be written ({error.strerror}): choose another --nemesis-output"
        )
    text = _printable(_text(test, word, summary, history, chaos, where or trouble, command))
    return Done(
        text,
        [
            ("nemesis.verdict", word),
            ("nemesis.summary", summary),
            ("nemesis.seed", str(chaos.settings.seed)),
            ("nemesis.operations", str(entry.operations)),
            ("nemesis.report", where),
            ("nemesis.history", str(_short(history.path)) if history and history.path else ""),
            ("nemesis.text", text),
        ],
        trouble,
    )


def _printable(text: str) -> str:
    """Without lone surrogates, which cross no process border and no terminal."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def replay_command(config: pytest.Config, test: str, chaos: Chaos) -> str:
    """The exact command line that carries out this test's recorded schedule again."""
    run = _decisive(chaos)
    history = getattr(run, "history", None)
    if history is None or history.path is None:
        return shlex.join(["pytest", test, f"--nemesis-seed={chaos.settings.seed}"])
    return shlex.join(["pytest", test, f"--nemesis-replay={_short(history.path)}"])


def write_index(output: Path, seed: int) -> Path | None:
    """The session's index page from the entries that every worker left; None when nothing ran."""
    entries = [
        msgspec.convert(msgspec.json.decode(path.read_bytes()), Entry)
        for path in sorted(output.glob(f"*/{ENTRY}"))
    ]
    if not entries:
        return None
    path = write_index_page(output / "index.html", entries, seed=seed)
    latest = output.parent / "latest"
    if latest.is_symlink() or not latest.exists():
        temporary = output.parent / f".latest-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(output.name)
        temporary.replace(latest)
    return path


def ended(reports: Iterable[tuple[str, bool, Mapping[str, str]]]) -> list[Ended]:
    """One for each test that left a verdict, from (test, failed, properties) of each of its reports.

    A test has several where it has subtests or was run again: it failed if any of them did.
    """
    tests: dict[str, tuple[bool, dict[str, str]]] = {}
    for test, failed, properties in reports:
        before = tests.get(test, (False, {}))
        tests[test] = (before[0] or failed, {**before[1], **properties})
    return [
        Ended(
            test,
            word if failed or word == "valid" else f"{word} as expected",
            failed,
            properties,
        )
        for test, (failed, properties) in tests.items()
        if (word := properties.get("nemesis.verdict", ""))
    ]


def hidden(chaos: Chaos) -> str:
    """What a test that skips now would hide: a verdict that is not valid, findings; or ""."""
    run, verdict = _decisive(chaos), chaos.verdict
    if run is not None and verdict is not None and not verdict.valid:
        return f"skipped after its run was judged\n{full(verdict, run.history)}"
    if chaos.findings:
        return f"skipped after its run left findings\n{findings(chaos)}"
    return ""


def findings(chaos: Chaos) -> str:
    """All of them, as they fail a test."""
    lines = "\n".join(f"  {line}" for line in chaos.findings)
    return f"FINDINGS: not what the plan did, so the run fails\n{lines}"


def rerun(chaos: Chaos, test: str) -> str:
    """Why a test that failed is not run again."""
    word, summary = _ending(chaos, True)
    return (
        f"{test} ran before in this session and was {word.upper()}: {_printable(summary)}; it is not run "
        "again, for a violation seen once is a violation"
    )


def github_summary(tests: Iterable[Ended]) -> None:
    """Append a table to the job's summary page where GitHub Actions asks for one."""
    if not (path := os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    rows = [
        f"| {' | '.join(_cell(text) for text in (test.test, test.word, *_columns(test)))} |" for test in tests
    ]
    table = "\n".join(
        ["### nemesis", "", "| test | verdict | what | operations |", "|---|---|---|---|", *rows, "", ""]
    )
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(table)


def _columns(test: Ended) -> tuple[str, ...]:
    return tuple(test.properties[name] for name in ("nemesis.summary", "nemesis.operations"))


def _cell(text: str) -> str:
    """`text` with nothing in it that Markdown or HTML would take for its own."""
    return re.sub(r"[|<>&`*~#@!$\[\]\\]", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def _ending(chaos: Chaos, failed: bool) -> tuple[Word, str]:
    """The word and the line that say how a test stands. A violation that the test expected is still one."""
    verdict = chaos.verdict
    if verdict is not None and not verdict.valid:
        return verdict.judgement, verdict.summary
    if failed:
        told = chaos.error or (chaos.findings[0] if chaos.findings else "the test's own check failed")
        return "error", told.strip().split("\n")[0]
    return "valid", verdict.summary if verdict else ""


def _decisive(chaos: Chaos) -> Run | None:
    """The run whose verdict decides, else the one with findings, else the last."""
    if not chaos.runs:
        return None
    ranks = {"invalid": 0, "unknown": 1, "valid": 3, None: 3}

    def rank(run: Run) -> int:
        history: History | None = getattr(run, "history", None)
        if history is None:
            return 2
        bad = worst(history.verdicts)
        return min(ranks[bad.judgement if bad else None], 2 if history.findings else 3)

    return min(reversed(chaos.runs), key=rank)


def _text(
    test: str, word: Word, summary: str, history: History | None, chaos: Chaos, where: str, command: str
) -> str:
    name, verdict = test.rpartition("::")[2], chaos.verdict
    if word in ("invalid", "unknown") and verdict is not None and history is not None:
        lines = [f"{name}   {headline(verdict, history)}"]
        if verdict.witness is not None:
            lines.append(f"  {verdict.witness.sentence}")
    else:
        lines = [f"{name}   {word.upper()}: {summary}"]
    lines += [f"  finding: {finding}" for finding in chaos.findings]
    lines.append("  " + "    ".join([*([f"report: {where}"] if where else []), f"replay: {command}"]))
    return "\n".join(lines)


def _page(run: Run, test: str, error: str, command: str) -> Page:
    output = run.settings.output
    logs = dict(run.cluster.logs) if hasattr(run, "cluster") else {}
    return Page(
        history=run.history,
        verdicts=tuple(run.history.verdicts),
        test=test,
        replay=command,
        logs={node: path for node, path in logs.items() if path.exists()},
        environment=dict(os.environ),
        findings=run.history.findings,
        error=error,
        history_link=os.path.relpath(run.history.path, output) if run.history.path else "",
    )


def _short(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


__all__ = [
    "Done",
    "Ended",
    "conclude",
    "ended",
    "findings",
    "github_summary",
    "hidden",
    "replay_command",
    "rerun",
    "write_index",
]

"""What one test and one session leave: a page per run, an index, lines for the terminal and for CI.

Everything is said from the same verdicts, so that terminal, junit, page and index cannot disagree.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.chaos import Chaos
from harness.checkers.words import headline
from harness.history import History
from harness.report import Entry, Page, write_index as write_index_page, write_page
from harness.report.page import Word
from harness.run import Run
from harness.verdict import worst

if TYPE_CHECKING:
    import pytest

ENTRY = "entry.json"


@dataclass(frozen=True)
class Done:
    """A finished test: `text` for the terminal, `properties` (strings only) for junit and the controller.

    `trouble` says why a page could not be written, or is empty.
    """

    text: str
    properties: list[tuple[str, object]]
    trouble: str = ""


def conclude(chaos: Chaos, test: str, *, failed: bool, page: bool, command: str) -> Done:
    """Write the pages of every run of a finished test and say how it ended."""
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
    text = _printable(_text(test, word, summary, history, chaos, where or trouble, command))
    entry = Entry(
        test=test,
        verdict=word,
        summary=summary,
        link=f"{chaos.output.name}/index.html" if where else "",
        operations=sum(len(h) for h in chaos.histories),
        duration=sum(h.duration for h in chaos.histories),
        seed=str(chaos.settings.seed),
        expected=not failed and word != "valid",
    )
    chaos.output.mkdir(parents=True, exist_ok=True)
    part = chaos.output / f"{ENTRY}.part"
    part.write_bytes(msgspec.json.encode(entry))
    part.replace(chaos.output / ENTRY)
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


def github_summary(tests: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Append a table to the job's summary page where GitHub Actions asks for one."""
    if not (path := os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    columns = ("nemesis.verdict", "nemesis.summary", "nemesis.operations")
    rows = [
        f"| {' | '.join(_cell(text) for text in (test, *(p[c] for c in columns)))} |" for test, p in tests
    ]
    table = "\n".join(
        ["### nemesis", "", "| test | verdict | what | operations |", "|---|---|---|---|", *rows, "", ""]
    )
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(table)


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


__all__ = ["Done", "conclude", "github_summary", "replay_command", "write_index"]

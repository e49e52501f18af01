"""The ends of the nodes' logs, in bounded time and space, each line with its time of the run."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from harness.history import NANOSECONDS, History
from harness.report.clocks import Clocks
from harness.report.log_times import log_times, steps_of
from harness.report.markup import Markup, el, family, joined, link
from harness.report.redact import Redact
from harness.report.text import counted, name_text, visible

LINES = 1000
WIDTH = 400
TOTAL = 200_000
"""Characters of all logs on one page; a quarter of that where `MANY` operations fill it."""
MANY = 50_000
# A line that tells of trouble: by a word, or by the letter or sign that klog and redis have for it.
LOUD = re.compile(r"(?i:error|warn|panic|fatal)|^[WEF]\d{4,6} |^\d+:[XCSM] .{12,30} # ")
UNKNOWN = (
    "This history does not say what the wall clock showed when the run began, so where these lines belong on "
    "its time axis is not known."
)

Times = tuple[list[int | None], int | None]
"""The times of lines, and the zone of those that name none, as `log_times` gives them."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The last `lines` of a node's log; `cut` says what is missing, `path` is relative to the page.

    `times` are the lines' own, in ns since the run began, None of a line that has none. `loud` are the places
    of lines that tell of trouble. `zone` (seconds east of UTC) is that of the times that name none.
    """

    node: str
    lines: tuple[str, ...]
    cut: str
    path: str | None
    times: tuple[int | None, ...] = ()
    loud: tuple[int, ...] = ()
    zone: int | None = None

    @property
    def timed(self) -> bool:
        """Whether any line has a time."""
        return any(time is not None for time in self.times)

    @property
    def leads(self) -> list[str]:
        """What stands before each line: its time or as much room; nothing where no line has a time."""
        return _leads(self.times)


def tails(
    logs: Mapping[str, Path], page: Path, redact: Redact, history: History, clocks: Clocks
) -> list[Tail]:
    """The end of each log; a log that is not there, or unreadable, says so in place of its lines."""
    total = TOTAL if len(history) < MANY else TOTAL // 4
    room = max(min(64_000, total // max(len(logs), 1)), 2_000)
    end = round(history.duration * NANOSECONDS)

    def times(node: str, lines: Sequence[str], whole: bool) -> Times:
        if history.wall is None:
            return [None] * len(lines), None
        return log_times(lines, history.wall, end, steps_of(clocks, node), whole)

    return [_tail(node, path, page, redact, room, times) for node, path in logs.items()]


def _tail(
    node: str,
    path: Path,
    page: Path,
    redact: Redact,
    room: int,
    times: Callable[[str, Sequence[str], bool], Times],
) -> Tail:
    try:
        if not path.is_file():
            return Tail(node, (), "no log was written", None)
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(0, size - 4 * room)
            file.seek(begin)
            data = file.read(size - begin)
    except OSError as error:
        return Tail(node, (), f"the log cannot be read: {error.strerror}", None)
    everything = data.decode("utf-8", "replace").splitlines()
    if begin and len(everything) > 1:
        everything = everything[1:]  # it starts in the middle
    everything = [line[: 8 * WIDTH] for line in everything]
    told, zone = times(node, everything, not begin)
    lead = max(map(len, _leads(told[-LINES:])), default=0)
    lines: list[str] = []
    for line in reversed(everything[-LINES:]):
        line = visible(redact(line))
        if len(line) > WIDTH:
            line = f"{line[:WIDTH]}… (cut)"
        room -= lead + len(line) + 1
        if room < 0:
            break
        lines.append(line)
    lines.reverse()
    of = f"{size:,} bytes" if begin else f"{len(everything):,} lines"
    cut = f"the last {len(lines):,} lines of {of}" if begin or len(lines) < len(everything) else ""
    left = len(everything) - len(lines)
    loud = tuple(k for k, line in enumerate(everything[left:]) if LOUD.search(line))
    return Tail(node, tuple(lines), cut, _below(path, page), tuple(told[left:]), loud, zone)


def _leads(times: Sequence[int | None]) -> list[str]:
    told = ["" if time is None else f"{time / NANOSECONDS:.3f} s" for time in times]
    width = max(map(len, told), default=0)
    return [f"{text:>{width}}  " if width else "" for text in told]


def _below(path: Path, page: Path) -> str | None:
    """`path` relative to the page, if it lies beside or below it: only that travels with the page."""
    try:
        return path.resolve().relative_to(page.parent.resolve()).as_posix()
    except (ValueError, OSError):
        return None


def drawn_logs(tails: Sequence[Tail]) -> list[dict[str, Any]]:
    """What the script draws lines from; their texts it takes out of the section of logs.

    `at` are whole microseconds since the line before that has a time; `lead` is how wide the times are there.
    """
    return [
        {
            "node": name_text(tail.node, 40),
            "id": _id(place),
            "lead": len(tail.leads[0]),
            "at": _steps(tail.times),
            "loud": tail.loud,
        }
        for place, tail in enumerate(tails)
        if tail.timed
    ]


def logged(tails: Sequence[Tail]) -> list[tuple[str, str]]:
    """What the marks of lines look like and mean, as far as there are any."""
    timed = [tail for tail in tails if tail.timed]
    loud = ("loud", "log line with error, warn, panic or fatal")
    return [("logged", "log lines"), *([loud] if any(tail.loud for tail in timed) else [])] if timed else []


def _id(place: int) -> str:
    return f"log-{place}"


def _steps(times: Sequence[int | None]) -> list[int | None]:
    steps: list[int | None] = []
    last = 0
    for time in times:
        steps.append(None if time is None else round(time / 1000) - last)
        last = last if time is None else round(time / 1000)
    return steps


def node_logs(tails: Sequence[Tail], history: History, clocks: Clocks, span: tuple[float, float]) -> Markup:
    """The end of each node's log, folded; `span` (seconds) is what the time axis has."""
    if not tails:
        return el("p", "No node logs.")
    parts = [_explained(tails, history, clocks)]
    for place, tail in enumerate(tails):
        says = [tail.cut or counted(len(tail.lines), "line"), *_untimed(tail, span, history)]
        name = el("summary", el("b", tail.node), f" {'; '.join(says)}")
        whole = el("p", el("a", "the whole log", href=link(tail.path)), class_="hint") if tail.path else None
        lines = "\n".join(map("".join, zip(tail.leads, tail.lines, strict=True)))
        shown = Markup(
            html.escape(lines, quote=False)
        )  # logs in JSON are full of quotes, five bytes more each
        text = el("pre", shown, class_="scroll log", tabindex=0) if tail.lines else None
        parts.append(el("details", name, whole, text, id=_id(place)))
    return joined(parts)


def _untimed(tail: Tail, span: tuple[float, float], history: History) -> list[str]:
    """Which lines are not on the time axis, or only by the line before them."""
    if not tail.lines or history.wall is None:
        return []
    told = [place for place, time in enumerate(tail.times) if time is not None]
    if not told:
        return ["none has a time"]
    after = len(tail.lines) - told[0] - len(told)
    outside = sum(t is not None and not span[0] <= t / NANOSECONDS <= span[1] for t in tail.times)
    counts = (
        (after, "without a time, at that of the line before"),
        (told[0], "without a time"),
        (outside, "before the run or after it"),
    )
    return [f"{number:,} {words}" for number, words in counts if number]


def _explained(tails: Sequence[Tail], history: History, clocks: Clocks) -> Markup | None:
    """Where the times before the lines come from."""
    if history.wall is None:
        return el("p", UNKNOWN, class_="prose")
    if not any(tail.timed for tail in tails):
        return None
    began = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=history.wall.unix // 1000)
    words = [
        "The times before the lines are those of the run, from what the lines say themselves; "
        f"it began at {began.isoformat(sep=' ', timespec='milliseconds')}."
    ]
    for zone in sorted({tail.zone for tail in tails if tail.zone is not None}):
        nodes = [name_text(tail.node, 40) for tail in tails if tail.zone == zone]
        words.append(
            f"Of {_some(nodes)}, times that name no zone are read as {_zone(zone)}, from first to last."
        )
    named = [tail.node for tail in tails]
    off = [node for node in named if len(steps_of(clocks, node)) > 1]
    skewed = {n for f in history.faults if family(f.kind) == "clock" and f.start is not None for n in f.nodes}
    if off:
        words.append(
            f"The clock of {_some(off)} was off: a line is put right by what was last seen of that, so it "
            "may stand wrong by as much as the clock changed between two looks."
        )
    if unseen := [node for node in named if node in skewed and node not in off]:
        words.append(f"The clock of {_some(unseen)} was skewed, and lines stand where it says.")
    return el("p", " ".join(words), class_="prose")


def _some(nodes: Sequence[str]) -> str:
    rest = len(nodes) - 8
    return ", ".join(name_text(node, 40) for node in nodes[:8]) + (f" and {rest} more" if rest > 0 else "")


def _zone(east: int) -> str:
    return str(timezone(timedelta(seconds=east)))


__all__ = ["Tail", "drawn_logs", "logged", "node_logs", "tails"]

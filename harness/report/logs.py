"""The ends of the nodes' logs, in bounded time and space."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.report.redact import Redact
from harness.report.text import visible

LINES = 200
WIDTH = 400
TOTAL = 200_000
"""Characters of all logs on one page."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The last `lines` of a node's log; `cut` says what is missing, `path` is relative to the page."""

    node: str
    lines: tuple[str, ...]
    cut: str
    path: str | None


def tails(logs: Mapping[str, Path], page: Path, redact: Redact) -> list[Tail]:
    """The end of each log; a log that is not there, or unreadable, says so in place of its lines."""
    room = max(min(64_000, TOTAL // max(len(logs), 1)), 2_000)
    return [_tail(node, path, page, redact, room) for node, path in logs.items()]


def _tail(node: str, path: Path, page: Path, redact: Redact, room: int) -> Tail:
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
    if begin and everything:
        everything = everything[1:]  # it starts in the middle
    lines: list[str] = []
    for line in reversed(everything[-LINES:]):
        line = visible(redact(line[: 8 * WIDTH]))
        if len(line) > WIDTH:
            line = f"{line[:WIDTH]}… (cut)"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    lines.reverse()
    of = f"{size:,} bytes" if begin else f"{len(everything):,} lines"
    cut = f"the last {len(lines):,} lines of {of}" if begin or len(lines) < len(everything) else ""
    return Tail(node, tuple(lines), cut, _below(path, page))


def _below(path: Path, page: Path) -> str | None:
    """`path` relative to the page, if it lies beside or below it: only that travels with the page."""
    try:
        return path.resolve().relative_to(page.parent.resolve()).as_posix()
    except (ValueError, OSError):
        return None

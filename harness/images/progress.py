"""What an engine says while it pulls or builds, condensed into lines for somebody who waits."""

from __future__ import annotations

import re
import textwrap
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[str], None]
EVERY = 2.0  # seconds between two lines on the same pull
KEPT = 15  # lines of output that an error quotes
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_THERE = ("Pull complete", "Already exists")


def silent(line: str) -> None:
    """Progress for nobody."""


@dataclass
class Layers:
    """The layers of one pull: `take` says a line when some time has gone by and at the end."""

    reference: str
    progress: Progress
    every: float = EVERY
    there: dict[str, bool] = field(default_factory=dict)
    size: dict[str, tuple[int, int]] = field(default_factory=dict)
    said: float = field(default_factory=time.monotonic)

    def take(self, event: Mapping[str, Any]) -> None:
        """One event of the engine's stream."""
        layer, status = event.get("id"), str(event.get("status", ""))
        if not layer or status.startswith("Pulling from"):
            return
        self.there[layer] = status in _THERE
        detail = event.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self.size[layer] = int(detail.get("current", 0)), int(detail["total"])
        elif layer in self.size:
            self.size[layer] = (self.size[layer][1],) * 2
        if all(self.there.values()) or time.monotonic() - self.said >= self.every:
            self.said = time.monotonic()
            self.progress(self.line())

    def line(self) -> str:
        """Where the pull is."""
        got, total = (sum(size[i] for size in self.size.values()) for i in (0, 1))
        amount = f", {megabytes(got)} of {megabytes(total)}" if total else ""
        return f"{self.reference}: {sum(self.there.values())} of {len(self.there)} layers{amount}"


@dataclass
class Steps:
    """The output of one build: each step is a line of progress, the last lines are kept for an error."""

    reference: str
    progress: Progress
    last: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    _rest: str = ""  # of a line that has not ended yet
    _layers: Layers | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """One event of the engine's stream."""
        if "status" in event:  # the base is being pulled
            self._layers = self._layers or Layers(f"{self.reference}, base image", self.progress)
            self._layers.take(event)
        *lines, self._rest = (self._rest + str(event.get("stream", ""))).split("\n")
        for line in lines:
            if line := _COLOUR.sub("", line).strip():
                self.last.append(line)
                if line.startswith("Step "):
                    self.progress(f"{self.reference}: {textwrap.shorten(line, 100, placeholder=' …')}")


def megabytes(size: int) -> str:
    """Bytes as a person reads them.

    >>> megabytes(16_330_700), megabytes(200)
    ('16 MB', '<1 MB')
    """
    return f"{size / 1e6:.0f} MB" if size >= 500_000 else "<1 MB"


__all__ = ["Layers", "Progress", "Steps", "megabytes", "silent"]

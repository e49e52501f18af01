"""One node's process as its cluster knows it, and the words that errors use for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.cluster.lock import ClusterError
from harness.cluster.proof import Held
from harness.target import Node, Target

TAIL = 12  # lines of a log that an error shows
State = Literal["down", "starting", "up", "paused"]


@dataclass
class Member:
    """A node's process: `launches` counts its starts, `asked` says that the plan killed it, `served` that it
    was ready once; `ended` is how it ended and `why` what keeps it from being ready, as words; `held` proves
    its pause; `limited` says that the plan limits its memory, `starved` that it ended for lack of that."""

    node: Node
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    state: State = "down"
    pid: int = 0
    launches: int = 0
    launched: float = 0.0
    asked: bool = False
    limited: bool = False
    starved: bool = False
    served: bool = False
    ended: str = "was never started"
    why: str = "nothing answered yet"
    held: Held | None = None

    @classmethod
    def of(cls, target: Target, node: Node, log: Path, env: Mapping[str, str], **labels: str) -> Member:
        """The process that `target` wants for `node`, in `env`, its own environment and `labels`. Raises
        ClusterError for what is no command."""
        own = node.container and target.runs_image  # then the image says what it does
        argv = () if own else target.command(node)
        if isinstance(argv, (str, bytes)) or not (argv or own):
            raise ClusterError(
                f"{target.name}.command({node.name}) returned {argv!r}; it must be a list of words, the "
                "program first"
            )
        # unbuffered, or the last lines of a killed Python node are lost
        env = {"PYTHONUNBUFFERED": "1", **env, **target.environment(node), **labels}
        return cls(node, [os.fspath(word) for word in argv], env, log)

    @property
    def words(self) -> str:
        """Its state for a sentence."""
        return f"down (it {self.ended})" if self.state == "down" else self.state.replace("up", "running")

    @property
    def command(self) -> str:
        """Its command line and how its log ends, for an error."""
        return f"  command: {' '.join(self.argv) or 'that of its image'}\n{last(self.log)}"

    def died(self, hint: str) -> ClusterError:
        """What to say when it ended before it was ready; `hint` is what the site knows of that."""
        if self.ended.endswith("code 0"):
            hint = "a node's command must stay in the foreground"
        return ClusterError(
            f"{self.node.name} {self.ended} before it was ready{'; ' if hint else ''}{hint}\n{self.command}"
        )


def how_ended(how: Mapping[str, Any]) -> str:
    """An exit as words."""
    if how.get("oom"):
        return "was killed by the kernel, being out of memory"
    return f"was ended by signal {how['signal']}" if "signal" in how else f"exited with code {how['code']}"


def last_lines(log: Path) -> list[str]:
    """The last lines of a log."""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
        return file.read().decode(errors="replace").splitlines()[-TAIL:]
    return []


def last(log: Path) -> str:
    """The last lines of a log, for an error."""
    return "\n".join([f"  {log} ends:", *(f"    {line}" for line in last_lines(log) or ["(nothing)"])])

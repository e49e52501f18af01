"""What was judged: valid, invalid or unknown, with the evidence and the smallest sub-history that shows it.

One verdict object feeds the terminal, junit properties and the page, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Judgement = Literal["valid", "invalid", "unknown"]
JUDGEMENTS: tuple[Judgement, ...] = ("valid", "invalid", "unknown")


@dataclass(frozen=True, slots=True)
class Edge:
    """Why one operation of a witness stands before another; both are `Operation.index`."""

    before: int
    after: int
    why: str


@dataclass(frozen=True, slots=True)
class Witness:
    """The smallest sub-history that shows a violation, with one plain sentence.

    `operations` are `Operation.index` numbers in the full history, in order of invocation; the last word
    of the story is `culprit`, the operation that cannot be explained. `node_events` are places in
    ``history.events``, for violations that nodes rather than clients showed.
    """

    sentence: str
    operations: tuple[int, ...] = ()
    culprit: int | None = None
    edges: tuple[Edge, ...] = ()
    node_events: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one checker says of a history.

    `checker` names the promise (``linearizable``); `summary` is the short form on the first line of a
    failure (``not linearizable``). `cause` is set where the judgement is unknown: ``vacuous``, ``time``,
    ``memory``, ``ambiguous``, ``crashed``. `evidence` are counts that show what was looked at. `key` is the
    key that the witness concerns, where the checker works per key.
    """

    checker: str
    judgement: Judgement
    summary: str
    cause: str = ""
    witness: Witness | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    key: Any = None

    def __post_init__(self) -> None:
        if self.judgement not in JUDGEMENTS:
            raise ValueError(f"judgement {self.judgement!r} is none of {', '.join(JUDGEMENTS)}")
        if self.judgement == "unknown" and not self.cause:
            raise ValueError("an unknown verdict says its cause")
        if self.judgement == "invalid" and self.witness is None:
            raise ValueError("an invalid verdict carries its witness")

    @property
    def valid(self) -> bool:
        """True only where the promise was kept: unknown is never green."""
        return self.judgement == "valid"


class Violation(AssertionError):
    """A promise was broken (verdict invalid)."""

    def __init__(self, verdict: Verdict, text: str) -> None:
        super().__init__(text)
        self.verdict = verdict


class Undecided(AssertionError):
    """Nobody can say whether the promise was kept (verdict unknown): this fails too, with its cause."""

    def __init__(self, verdict: Verdict, text: str) -> None:
        super().__init__(text)
        self.verdict = verdict


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict that decides: invalid before unknown before valid; None of none."""
    rank = {"invalid": 0, "unknown": 1, "valid": 2}
    return min(verdicts, key=lambda v: rank[v.judgement], default=None)

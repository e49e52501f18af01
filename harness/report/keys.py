"""Each key with its operations and its verdict, those that need a look first."""

from __future__ import annotations

from collections.abc import Sequence

from harness.history import OUTCOMES, History, frozen
from harness.report.markup import Child, Markup, bar, el, joined, judged, table
from harness.report.text import DASH, counted, name_text
from harness.verdict import Verdict

LISTED = 60
_RANK = {"invalid": 0, "unknown": 1, "valid": 2}


def keys(history: History, verdicts: Sequence[Verdict]) -> Markup | None:
    """The keys of a history; None where it has none. Of many, the busiest and those with a verdict of their own."""
    c = history.columns
    tallies = [[0] * len(OUTCOMES) for _ in range(len(c.keys))]
    for key, kind in zip(c.key, c.type, strict=True):
        tallies[key][kind] += 1
    numbers = [k for k in range(1, len(c.keys)) if any(tallies[k])]
    if not numbers:
        return None
    place = {(type(key), key): k for k, key in enumerate(c.keys.values)}
    own: dict[int, list[Verdict]] = {}
    for verdict in verdicts:
        key = frozen(verdict.key)
        if verdict.key is not None and (type(key), key) in place:
            own.setdefault(place[type(key), key], []).append(verdict)
    numbers.sort(
        key=lambda k: (min((_RANK[v.judgement] for v in own.get(k, ())), default=3), -sum(tallies[k]))
    )
    rows: list[Sequence[Child]] = []
    for k in numbers[:LISTED]:
        said: Child = (
            joined(
                el("div", judged(v.judgement), f" {v.checker}")
                for v in sorted(own[k], key=lambda v: _RANK[v.judgement])[:6]
            )
            if k in own
            else DASH
        )
        rows.append(
            (
                el("b", name_text(c.keys.values[k], 60), class_="mono"),
                said,
                f"{sum(tallies[k]):,}",
                joined((bar(zip(OUTCOMES, tallies[k], strict=True)),
                        el("small", ", ".join(f"{n:,} {name}" for n, name in zip(tallies[k], OUTCOMES, strict=True) if n)))),
            )
        )  # fmt: skip
    cut = len(numbers) - LISTED
    return joined(
        (
            table("Keys", ("key", "verdict of its own", "operations", "by outcome"), rows, "keys"),
            el(
                "p",
                f"{counted(cut, 'more key')} with fewer operations left out; the search below finds theirs.",
                class_="hint",
            )
            if cut > 0
            else None,
        )
    )

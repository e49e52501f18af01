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
    """The keys of a history; None where it has none. Of many, those with a verdict and the busiest."""
    c = history.columns
    tallies = [[0] * len(OUTCOMES) for _ in range(len(c.keys))]
    for key, kind in zip(c.key, c.type, strict=True):
        tallies[key][kind] += 1
    numbers = [k for k in range(1, len(c.keys)) if any(tallies[k])]
    if not numbers:
        return None
    place = {(type(key), key): k for k, key in enumerate(c.keys.values)}
    own: dict[int, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda v: _RANK[v.judgement]):
        name = frozen(verdict.key)
        if name is not None and (type(name), name) in place:
            own.setdefault(place[type(name), name], []).append(verdict)

    def order(k: int) -> tuple[int, int]:
        return (_RANK[own[k][0].judgement] if k in own else len(_RANK), -sum(tallies[k]))

    numbers.sort(key=order)
    rows: list[Sequence[Child]] = []
    for k in numbers[:LISTED]:
        said = [el("div", judged(v.judgement), f" {v.checker}") for v in own.get(k, ())[:6]]
        parts = list(zip(OUTCOMES, tallies[k], strict=True))
        words = el("small", ", ".join(f"{n:,} {name}" for name, n in parts if n))
        rows.append(
            (
                el("b", name_text(c.keys.values[k], 60) or '""', class_="mono", data_key=str(k)),
                joined(said) if said else DASH,
                f"{sum(tallies[k]):,}",
                joined((bar(parts), words)),
            )
        )
    cut = len(numbers) - LISTED
    return joined(
        (
            table("Keys", ("key", "verdict of its own", "operations", "by outcome"), rows, "cards keys"),
            el(
                "p",
                f"{counted(cut, 'more key')} left out; the search below finds theirs.",
                class_="hint",
            )
            if cut > 0
            else None,
        )
    )

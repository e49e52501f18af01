"""A history too large to be carried whole: every operation counted in equal stretches of time, few kept.

Kept as they are: what surrounds each witness, then whatever is not ok, as many as there is room for. The
page says what it counts and what it keeps; the raw history has every operation.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.history import OUTCOMES, Columns, History
from harness.report.columns import Rows, deflated
from harness.report.text import seconds
from harness.verdict import Verdict

WHOLE = 250_000
"""Operations that a page carries one by one; of a longer history it aggregates."""
KEPT = 40_000
AROUND = 2_000
"""Operations kept before and after each witness."""
STRETCHES = 4_096
QUANTILES = (0.5, 0.95, 0.99, 1.0)
_OK, _INFO = OUTCOMES.index("ok"), OUTCOMES.index("info")
_RANK = (2, 1, 3)  # by outcome, as data.js: the worst wins a stretch


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What stands for the operations that are not carried.

    `kept` are page rows of the full history, ascending; `whole` the stretches (µs) of which every operation
    is kept. `bins` are for the script: counts by outcome, quantiles of latency, the worst outcome per lane.
    """

    kept: Sequence[int]
    whole: Sequence[tuple[int, int]]
    bins: dict[str, Any]
    total: int
    width: float
    left: int

    @property
    def words(self) -> str:
        """What is aggregated and what is not."""
        around = ", ".join(f"{seconds(a * 1000)} to {seconds(b * 1000)}" for a, b in self.whole[:5])
        text = (
            f"Of {self.total:,} operations the charts show counts, quantiles and the worst outcome "
            f"in {STRETCHES:,} stretches of {self.width * 1e3:.3g} ms; "
            f"{len(self.kept):,} are here one by one: "
        )
        text += f"every one from {around}, around the witness, and " if around else ""
        text += (
            f"those that are not ok{f' ({self.left:,} more of these are only counted)' if self.left else ''}."
        )
        return text + " The raw history has every one."


def aggregate(history: History, rows: Rows, verdicts: Sequence[Verdict]) -> Aggregate | None:
    """None where the page carries every operation itself."""
    n = len(rows.order)
    if n <= WHOLE:
        return None
    c = history.columns
    types = [c.type[r] for r in rows.order]
    kept, whole = _around(history, rows, verdicts)
    others = [k for k, kind in enumerate(types) if kind == _INFO]
    others += [k for k, kind in enumerate(types) if kind not in (_OK, _INFO)]
    room = max(KEPT - len(kept), 0)
    kept.update(others[:room])
    low, high = rows.start[0], max(rows.start[-1], max(rows.end), rows.start[0] + 1)
    width = (high - low + 1) / STRETCHES
    counts = [[0] * STRETCHES for _ in OUTCOMES]
    took: list[list[int]] = [[] for _ in range(STRETCHES)]
    lanes = [bytearray(STRETCHES) for _ in range(rows.lanes)]
    for start, end, lane, kind in zip(rows.start, rows.end, rows.lane, types, strict=True):
        k = int((start - low) / width)
        counts[kind][k] += 1
        rank, mine = _RANK[kind], lanes[lane]
        if mine[k] < rank:
            mine[k] = rank
        if kind == _OK and end >= 0:
            took[k].append(end - start)
            for j in range(k + 1, int((end - low) / width) + 1):  # it lasted into later stretches
                mine[j] = max(mine[j], rank)
    quantiles: list[list[int]] = [[] for _ in QUANTILES]
    for times in took:
        times.sort()
        for column, share in zip(quantiles, QUANTILES, strict=True):
            column.append(times[min(int(share * len(times)), len(times) - 1)] if times else -1)
    bins = {
        "from": low / 1e6,
        "width": width / 1e6,
        "counts": counts,
        "quantiles": quantiles,
        "lanes": deflated(b"".join(map(bytes, lanes))),
    }
    return Aggregate(
        sorted(kept), whole, bins, n, width / 1e6, len(set(others[room:]) - kept) if room < len(others) else 0
    )


def _around(
    history: History, rows: Rows, verdicts: Sequence[Verdict]
) -> tuple[set[int], list[tuple[int, int]]]:
    """Page rows around each witness, and the time of which no operation is missing."""
    wanted = [list(v.witness.operations) for v in verdicts if v.witness and v.witness.operations][:5]
    place = rows.row_of(history.columns, {i for its in wanted for i in its})
    kept: set[int] = set(place.values())
    spans: list[tuple[int, int]] = []
    for its in wanted:
        found = sorted(place[i] for i in its if i in place)
        if not found or found[-1] - found[0] > KEPT // 4:
            continue  # a story over the whole run: its operations are kept, not all between them
        first, last = max(found[0] - AROUND, 0), min(found[-1] + AROUND, len(rows.order) - 1)
        kept.update(range(first, last + 1))
        # an operation from before may reach into the stretch: those are kept, too
        begin, end = rows.start[first], rows.start[last]
        reach = range(bisect_left(rows.start, begin - 60_000_000), first)
        kept.update(k for k in reach if rows.end[k] >= begin)
        spans.append((begin, rows.start[bisect_right(rows.start, end) - 1]))
    return kept, sorted(spans)


def small(history: History, rows: Rows, kept: Sequence[int]) -> tuple[History, Rows]:
    """A history of the operations `kept` alone, its values numbered anew, and their rows on the page."""
    c, few = history.columns, Columns()
    few.fs, few.keys, few.nodes, few.errors = c.fs, c.keys, c.nodes, c.errors
    code = few.values.code
    for k in kept:
        r = rows.order[k]
        for name in ("index", "process", "start", "end", "f", "key", "node", "error", "type", "final"):
            getattr(few, name).append(getattr(c, name)[r])
        few.value.append(code(c.values.values[c.value[r]]))
        few.result.append(code(c.values.values[c.result[r]]))
        few.completion.append(c.completion[r])
    shown = Rows(
        range(len(kept)),
        [rows.start[k] for k in kept],
        [rows.end[k] for k in kept],
        [rows.lane[k] for k in kept],
        rows.lanes,
        rows.timeless,
        rows.shared,
    )
    return History(history.header, few, history.faults, history.events, history.phases, history.path), shown

"""How long until the target served again after each heal: measured, where `checkers.recovers` judges.

A heal counts as recovered from when an operation of every kind that was tried has succeeded since, and one on
every node that was asked. Final reads do not count: they come when the run has waited for health.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.history import NANOSECONDS, OUTCOMES, Fault, History
from harness.report.markup import Child, Markup, chip, el, joined, judged, table
from harness.report.redact import Redact
from harness.report.text import DASH, counted, lasted, name_text, seconds, shorten, visible

LISTED = 200
_OK = OUTCOMES.index("ok")
Name = tuple[str, str]
"""What has to succeed again: ``("kind", "write")`` or ``("node", "n3")``."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What followed the heal of `fault`, up to the next fault or the end (`until`, ns).

    `after` is the first success of each kind and node in ns since the heal, None where it was tried in vain.
    `others` are the faults that stay in force: then nothing is owed yet.
    """

    fault: Fault
    until: int
    ended: bool
    after: Mapping[Name, int | None]
    others: int

    @property
    def lasted(self) -> int | None:
        """Nanoseconds from the heal until everything had succeeded; None: it never had, or none was tried."""
        found = [time for time in self.after.values() if time is not None]
        return max(found) if found and len(found) == len(self.after) else None

    @property
    def missing(self) -> list[str]:
        """What was tried and had no success."""
        return [name for (_, name), time in self.after.items() if time is None]


def recoveries(history: History) -> list[Recovery]:
    """One for each fault that was seen to heal, in that order."""
    healed = sorted((f for f in history.faults if f.end is not None), key=lambda f: f.end or 0)
    if not healed or not len(history) or min(history.columns.start) < 0:
        return []
    tried, good = _times(history)
    last = max((times[-1] for found in (tried, good) for times in found.values()), default=0)
    starts = sorted(f.start for f in history.faults if f.start is not None)
    found = []
    for fault in healed:
        heal = fault.end or 0
        k = bisect_left(starts, heal + 1)
        until = min(starts[k], last) if k < len(starts) else last
        others = sum(o.id != fault.id and _holds_after(o, heal) for o in history.faults)
        after: dict[Name, int | None] = {}
        for name, times in tried.items():
            first = _next(good.get(name, ()), heal)
            if first is not None and first <= max(until, heal):
                after[name] = first - heal
            elif (asked := _next(times, heal)) is not None and asked <= until:
                after[name] = None
        found.append(Recovery(fault, until, k >= len(starts), after, others))
    return found


def _times(history: History) -> tuple[dict[Name, list[int]], dict[Name, list[int]]]:
    """Per kind and node when it was tried, and when it succeeded, each in order."""
    c = history.columns
    tried: dict[tuple[int, int], list[int]] = defaultdict(list)
    good: dict[tuple[int, int], list[int]] = defaultdict(list)
    for start, end, kind, f, node, final in zip(c.start, c.end, c.type, c.f, c.node, c.final, strict=True):
        if final:
            continue
        for name in ((0, f), (1, node)) if node else ((0, f),):
            tried[name].append(start)
            if kind == _OK and end >= 0:
                good[name].append(end)

    def named(found: Mapping[tuple[int, int], list[int]]) -> dict[Name, list[int]]:
        tables = (("kind", c.fs.values), ("node", c.nodes.values))
        return {
            (tables[which][0], name_text(tables[which][1][number], 40)): sorted(times)
            for (which, number), times in found.items()
        }

    return named(tried), named(good)


def _next(times: Sequence[int], time: int) -> int | None:
    k = bisect_left(times, time)
    return times[k] if k < len(times) else None


def _holds_after(fault: Fault, time: int) -> bool:
    return fault.start is not None and fault.start <= time and (fault.end is None or fault.end > time)


def healthy(history: History) -> str:
    """The run's own word of health after its last heal, e.g. ``healthy 0.09 s after heal``; or ""."""
    return next((visible(name)[:80] for _, name in history.phases if name.startswith("healthy ")), "")


def told(recovery: Recovery) -> str:
    """A recovery in a few words: ``12.3 ms: every kind of operation and every node``."""
    if (time := recovery.lasted) is not None:
        return lasted(time / NANOSECONDS)
    if not recovery.after:
        return "not seen: no operation was tried after the heal"
    watched = lasted(max(recovery.until - (recovery.fault.end or 0), 0) / NANOSECONDS)
    what = shorten(", ".join(recovery.missing), 60)
    then = "the run ended" if recovery.ended else "the next fault came"
    return f"not seen within {watched}, when {then}: no success of {what}"


def last_heal(found: Sequence[Recovery], within: Sequence[Fault] = ()) -> Recovery | None:
    """The recovery that a reader asks for: of the faults in `within`, else of the run's last heal."""
    ids = {fault.id for fault in within}
    return next((r for r in reversed(found) if r.fault.id in ids), found[-1] if found else None)


def recovered(history: History) -> str:
    """How long the run's last heal took, in a few words; "" where nothing was healed."""
    found = last_heal(recoveries(history))
    return (
        ""
        if found is None
        else lasted(found.lasted / NANOSECONDS)
        if found.lasted is not None
        else "not seen"
    )


def recovery_table(found: Sequence[Recovery], history: History, redact: Redact) -> Markup:
    """Each heal with its recovery, and what came back last."""
    if not any(fault.end is not None for fault in history.faults):
        return el("p", "Nothing to recover from: no fault was healed.")
    if not found:
        return el("p", "No heal was followed by operations with times.")
    rows: list[Sequence[Child]] = []
    for r in found[:LISTED]:
        took: Child = told(r) if r.lasted is not None else judged("unknown", told(r))
        if r.others:
            took = joined((took, f" ({counted(r.others, 'other fault')} still in force)"))
        split = [
            max((t for (kind, _), t in r.after.items() if kind == which and t is not None), default=None)
            for which in ("kind", "node")
        ]
        slowest = max(r.after.items(), key=lambda item: -1 if item[1] is None else item[1], default=None)
        last = slowest[0][1] if slowest and slowest[1] is not None else DASH
        rows.append(
            (
                chip(visible(r.fault.kind)[:40], redact(shorten(visible(r.fault.what), 120))),
                seconds(r.fault.end),
                took,
                *(DASH if time is None else lasted(time / NANOSECONDS) for time in split),
                last,
            )
        )
    head = ("fault", "healed", "recovered after", "every kind", "every node", "last to succeed")
    more = len(found) - LISTED
    word = healthy(history)
    return joined(
        (
            el(
                "p",
                "From the heal until an operation of every kind that was tried had succeeded, "
                "and one on every node that was asked.",
                f" The run's own word: {word}." if word else None,
                class_="hint",
            ),
            table("Recovery after each heal", head, rows, "cards recovery"),
            el("p", f"The first {LISTED}; {counted(more, 'more heal')} in the raw history.", class_="hint")
            if more > 0
            else None,
        )
    )

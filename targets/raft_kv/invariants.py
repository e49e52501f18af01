"""Raft's own promises, judged over what nodes said (figure 3 of the paper).

*Election safety*: a term has at most one leader. *State-machine safety*: no two nodes apply different
entries at one index. *Log matching*: logs that share an entry's index and term are equal up to it.
*Leader completeness*: an applied entry is in the log of every leader of a later term. All but the first
need the node events of ``RaftKV(audit=True)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.history import NANOSECONDS, History, NodeEvent
from harness.verdict import Verdict, Witness
from targets.raft_kv.node.raft import chained

CHECKER = "raft"


@dataclass(slots=True)
class _Seen:
    leaders: dict[int, int] = field(default_factory=dict)  # term -> event
    entries: dict[int, tuple[Any, int]] = field(default_factory=dict)  # index -> (entry, event)
    digests: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)  # (index, term) -> ...
    furthest: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # term -> (index, digest, event)
    logs: list[int] = field(default_factory=list)


def check_raft(history: History) -> Verdict:
    """Judge Raft's invariants over ``history.events``; differs from the other checkers in what it sees:
    nodes, not clients. Unknown (``vacuous``) where no node ever said that it leads."""
    seen = _Seen()
    found = next(_violations(history.events, seen), None)
    evidence = {
        "terms": len(seen.leaders), "applied": len(seen.entries), "leaders' logs": len(seen.logs),
    }  # fmt: skip
    if found is not None:
        promise, sentence, events = found
        return Verdict(
            CHECKER, "invalid", f"no {promise}", evidence=evidence,
            witness=Witness(sentence, node_events=events),
        )  # fmt: skip
    if not seen.leaders:
        return Verdict(CHECKER, "unknown", "no leader was ever seen", cause="vacuous", evidence=evidence)
    judged = "Raft's invariants hold" if seen.entries else "election safety holds; the rest needs audit=True"
    return Verdict(CHECKER, "valid", judged, evidence=evidence)


Found = tuple[str, str, tuple[int, ...]]


def _violations(events: tuple[NodeEvent, ...], seen: _Seen) -> Iterator[Found]:
    """Each violation as (promise, sentence, places in `events`), in the order in which it showed."""

    def who(place: int) -> str:
        return f"{events[place].node} at {events[place].time / NANOSECONDS:.2f} s"

    for place, event in enumerate(events):
        detail = event.detail
        if event.kind == "role" and detail.get("role") == "leader":
            first = seen.leaders.setdefault(detail["term"], place)
            if events[first].node != event.node:
                yield (
                    "election safety",
                    f"term {detail['term']} had two leaders: {who(first)} and {who(place)}",
                    (first, place),
                )
        elif event.kind == "apply":
            yield from _applied(place, event, seen, who)
        elif event.kind == "log":
            seen.logs.append(place)
            digest = detail["digest"]
            for index, (term, digest) in enumerate(detail["tail"], detail["applied"] + 1):
                yield from _matches(index, term, digest, place, seen, who)
    for place in seen.logs:
        yield from _complete(place, events[place], seen, who)


def _applied(place: int, event: NodeEvent, seen: _Seen, who: Callable[[int], str]) -> Iterator[Found]:
    digest, index = event.detail["before"], event.detail["first"] - 1
    for index, entry in enumerate(event.detail["entries"], event.detail["first"]):
        term, _, check = entry
        known, first = seen.entries.setdefault(index, (entry, place))
        if known != entry:
            yield (
                "state-machine safety",
                f"at index {index}, {who(place)} applied {_entry(entry)} "
                f"although {who(first)} applied {_entry(known)}",
                (first, place),
            )
        digest = chained(digest, check)
        yield from _matches(index, term, digest, place, seen, who)
    term = event.detail["term"]
    if index > seen.furthest.get(term, (0, 0, 0))[0]:
        seen.furthest[term] = (index, digest, place)


def _entry(entry: Any) -> str:
    term, request, check = entry
    return f"{'a no-op' if request is None else f'request {request}'} of term {term} ({check:08x})"


def _matches(
    index: int, term: int, digest: int, place: int, seen: _Seen, who: Callable[[int], str]
) -> Iterator[Found]:
    known, first = seen.digests.setdefault((index, term), (digest, place))
    if known != digest:
        yield (
            "log matching",
            f"{who(first)} and {who(place)} share the entry {index} of term {term}, "
            "but not what is before it",
            (first, place),
        )


def _complete(place: int, event: NodeEvent, seen: _Seen, who: Callable[[int], str]) -> Iterator[Found]:
    detail = event.detail
    last = detail["applied"] + len(detail["tail"])
    earlier = [found for term, found in seen.furthest.items() if term < detail["term"]]
    if not earlier:
        return
    index, digest, first = max(earlier)
    if index > last:
        lacks = f"ends at index {last}"
    elif index > detail["applied"] and detail["tail"][index - detail["applied"] - 1][1] != digest:
        lacks = "holds another"
    else:
        return
    yield (
        "leader completeness",
        f"{who(place)} led term {detail['term']} without the entry {index}, "
        f"which {who(first)} had applied: its log {lacks}",
        (first, place),
    )

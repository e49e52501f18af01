"""What sessions say of the order of a register's versions, and where that contradicts itself.

A session is what one process did. Each `Before` is one reason why a version is older than another; where the
reasons form a cycle, no order of the versions satisfies them all, and where they form none, one does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from harness.checkers.versions import INITIAL, Register, Values, shown_version
from harness.checkers.words import at
from harness.verdict import Edge

EFFORT = 200_000  # edges looked at for a shorter cycle


class Reason(Enum):
    """Why a version is older than another, or at least not newer."""

    FIRST = "it was there from the beginning"
    UPDATE = "the other was made from it, by a cas or an rmw"
    WRITES = "one session wrote it and then the other"
    READS = "one session read it and then the other"
    OWN = "one session wrote it and then read the other"
    FOLLOWS = "one session read it and then wrote the other"


class Before(NamedTuple):
    """Version `older` stands before `newer`, because of the rows `a` and `b`, in this order."""

    older: int
    newer: int
    reason: Reason
    a: int
    b: int


def orders(
    values: Values, register: Register, reasons: Collection[Reason], aside: Collection[int] = ()
) -> tuple[list[Before], int]:
    """What the sessions say for these reasons, and how often they did; versions `aside` say nothing.

    Enough of it that the rest follows: of one session only what came next to each other.
    """
    process, read, writes = values.columns.process, register.read, set(register.writes)
    last_read: dict[int, tuple[int, int]] = {}  # process -> version, row
    last_write: dict[int, int] = {}
    since: dict[int, list[tuple[int, int]]] = {}  # what was read since the last write
    found: list[Before] = []
    said = 0
    reads, own, wrote, follows, made = (
        reason in reasons
        for reason in (Reason.READS, Reason.OWN, Reason.WRITES, Reason.FOLLOWS, Reason.UPDATE)
    )
    for row in register.rows:
        who = process[row]
        version = read.get(row)
        if version in aside:
            version = None
        if version is not None:
            if reads:
                if (before := last_read.get(who)) is not None:
                    said += 1
                    if before[0] != version:
                        found.append(Before(before[0], version, Reason.READS, before[1], row))
                last_read[who] = (version, row)
            if own and (write := last_write.get(who)) is not None:
                said += 1
                if write != version:
                    found.append(Before(write, version, Reason.OWN, write, row))
        if row in writes and row not in aside:
            if wrote and (write := last_write.get(who)) is not None:
                said += 1
                found.append(Before(write, row, Reason.WRITES, write, row))
            if follows:
                for older, by in since.pop(who, ()):
                    said += 1
                    found.append(Before(older, row, Reason.FOLLOWS, by, row))
            if made and version is not None:
                found.append(Before(version, row, Reason.UPDATE, row, row))
            last_write[who] = row
        elif follows and version is not None:
            since.setdefault(who, []).append((version, row))
    return found + _first(found), said


def _first(found: Sequence[Before]) -> list[Before]:
    """Nothing is older than the first version: said of all that may be said to be, where anything is."""
    back = {b.older: b for b in found if b.newer == INITIAL and b.older != INITIAL}
    if not back:
        return []
    nothing = next(iter(back.values())).b  # the row that read it
    others = {b.older: b._replace(b=nothing) for b in found if b.older != INITIAL and b.older not in back}
    return [Before(INITIAL, version, Reason.FIRST, b.b, b.a) for version, b in (back | others).items()]


def knots(edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The groups of nodes that can all be reached from one another, of two nodes or more, each sorted."""
    out: dict[int, list[int]] = {}
    inward: dict[int, list[int]] = {}
    for a, b in edges:
        if a != b:
            out.setdefault(a, []).append(b)
            inward.setdefault(b, []).append(a)
    gone = _peeled(out, inward)
    if len(gone) == len(out.keys() | inward.keys()):
        return []
    gone |= _peeled(inward, out)
    left = [node for node in out if node not in gone]
    return _tarjan(left, {node: [n for n in out[node] if n not in gone] for node in left})


def _peeled(out: dict[int, list[int]], inward: dict[int, list[int]]) -> set[int]:
    """The nodes that only cycles upstream keep: all but those, and what comes after them."""
    waiting = {node: len(before) for node, before in inward.items()}
    ready = [node for node in out if node not in waiting]
    gone = set(ready)
    while ready:
        for node in out.get(ready.pop(), ()):
            waiting[node] -= 1
            if not waiting[node]:
                ready.append(node)
                gone.add(node)
    return gone


def _tarjan(nodes: Iterable[int], out: dict[int, list[int]]) -> list[list[int]]:
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on: set[int] = set()
    found: list[list[int]] = []
    for root in nodes:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        on.add(root)
        path = [(root, iter(out[root]))]
        while path:
            node, rest = path[-1]
            for following in rest:
                if following not in number:
                    number[following] = low[following] = len(number)
                    stack.append(following)
                    on.add(following)
                    path.append((following, iter(out[following])))
                    break
                if following in on:
                    low[node] = min(low[node], number[following])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == number[node]:
                    group = []
                    while True:
                        group.append(member := stack.pop())
                        on.discard(member)
                        if member == node:
                            break
                    if len(group) > 1:
                        found.append(sorted(group))
    return found


def cycle(edges: Sequence[Before], when: Callable[[Before], int]) -> list[Before]:
    """A shortest cycle (of the shortest, one that `when` says was complete first); none: []."""
    found = knots((e.older, e.newer) for e in edges)
    if not found:
        return []
    knot = {node: place for place, group in enumerate(found) for node in group}
    first: dict[tuple[int, int], Before] = {}
    out: dict[int, list[int]] = {}
    for edge in edges:
        pair = (edge.older, edge.newer)
        if edge.older in knot and knot[edge.older] == knot.get(edge.newer) and edge.older != edge.newer:
            if pair not in first:
                out.setdefault(edge.older, []).append(edge.newer)
                first[pair] = edge
            elif when(edge) < when(first[pair]):
                first[pair] = edge
    twos = [(max(when(e), when(first[b, a])), a, b) for (a, b), e in first.items() if (b, a) in first]
    if twos:
        _, a, b = min(twos)
        return [first[a, b], first[b, a]]
    best: list[int] = []
    effort = 0
    for group in sorted(found, key=len):
        for start in group:
            if best and effort > EFFORT:
                break
            path, cost = _around(out, start, len(best) or len(group) + 1)
            effort += cost
            best = path or best
    return [first[a, b] for a, b in zip(best, [*best[1:], best[0]], strict=True)]


def _around(out: dict[int, list[int]], start: int, shorter: int) -> tuple[list[int], int]:
    """The nodes of a shortest cycle through `start`, if it has fewer than `shorter`; and edges looked at."""
    back: dict[int, int] = {}
    depth = {start: 1}
    waiting = deque((start,))
    cost = 0
    while waiting:
        node = waiting.popleft()
        if depth[node] >= shorter:
            break
        for following in out[node]:
            cost += 1
            if following == start:
                path = [node]
                while path[-1] != start:
                    path.append(back[path[-1]])
                return path[::-1], cost
            if following not in depth:
                depth[following], back[following] = depth[node] + 1, node
                waiting.append(following)
    return [], cost


def rows_of(register: Register, cycle_: Iterable[Before]) -> list[int]:
    """The rows that a cycle needs: those of its reasons, and the writes of its versions."""
    needed = set()
    for edge in cycle_:
        needed |= {edge.a, edge.b, edge.older, edge.newer}
    return sorted(row for row in needed if row >= 0)


def part(register: Register, rows: Collection[int]) -> Register | None:
    """The register with only these rows; None where a value that is still read has lost its write.

    What an update read does not count any more where its write is left out: the update still left something.
    """
    kept, writes = set(rows), set(register.writes)
    read = {}
    for row, version in register.read.items():
        if row in kept:
            if version < 0 or version in kept:
                read[row] = version
            elif row not in writes:
                return None
    return Register(
        register.key, sorted(kept), read, [row for row in register.writes if row in kept],
        refused=[row for row in register.refused if row in kept],
    )  # fmt: skip


def fewest(register: Register, rows: Sequence[int], broken: Callable[[Register], bool]) -> Register:
    """A part of the register that is `broken` and of which nothing can be left out."""
    kept, before = list(rows), -1
    while len(kept) != before:
        before = len(kept)
        for row in list(kept):
            fewer = part(register, [other for other in kept if other != row])
            if fewer is not None and broken(fewer):
                kept = fewer.rows
    whole = part(register, kept)
    assert whole is not None
    return whole


def because(values: Values, register: Register, edge: Before) -> str:
    """A reason in words: ``process 0 wrote 1 before 2``."""
    older = shown_version(values, register, edge.older)
    newer = shown_version(values, register, edge.newer)
    first, then = values.process(edge.a), values.process(edge.b)
    return {
        Reason.FIRST: f"{older} was there from the beginning",
        Reason.UPDATE: f"process {then} replaced {older} by {newer}",
        Reason.WRITES: f"process {then} wrote {older} before {newer}",
        Reason.READS: f"process {then} read {older} before {newer}",
        Reason.OWN: f"process {first} wrote {older} before it read {newer}",
        Reason.FOLLOWS: f"process {first} read {older} before it wrote {newer}",
    }[edge.reason]


def told(values: Values, register: Register, edge: Before) -> str:
    """A reason in words, with its times: ``process 0 wrote 1 at 0.10 s and then 2 at 0.20 s``."""
    if edge.reason is Reason.FIRST:
        return because(values, register, edge)
    older = shown_version(values, register, edge.older)
    newer = shown_version(values, register, edge.newer)
    c = values.columns
    first, then = at(c.start[edge.a], c.start[edge.b])
    who = f"process {values.process(edge.b)}"
    if edge.reason is Reason.UPDATE:
        return f"{who} replaced {older} by {newer} at {then}"
    did = "wrote" if edge.reason in (Reason.WRITES, Reason.OWN) else "read"
    after = {Reason.OWN: "read ", Reason.FOLLOWS: "wrote "}.get(edge.reason, "")
    return f"{who} {did} {older} at {first} and then {after}{newer} at {then}"


def edges_of(values: Values, register: Register, cycle_: Sequence[Before]) -> tuple[Edge, ...]:
    """The cycle as edges between operations: each version is its write, or the first that read it."""
    index = values.columns.index

    def carrier(version: int) -> int:
        if version >= 0:
            return version
        return min(row for row, read in register.read.items() if read == version)

    return tuple(
        Edge(index[carrier(edge.older)], index[carrier(edge.newer)], because(values, register, edge))
        for edge in cycle_
    )

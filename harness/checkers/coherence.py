"""Coherence: each key is sequentially consistent by itself.

There is one order of the operations on a key in which those of each session (process) stand as it made them
and each reads what the last write before it left; a cas or an rmw reads and writes at one instant. Time does
not count, save that nothing is read before its write was invoked: differs so from linearizability. It does
not compose: a store may be coherent and yet no one order explains all its keys, as sequential consistency
demands. (Linearizability does compose.)

Where the values that were read were written once, this is decided exactly in linear time, for then an order
of the *versions* is enough: one in which those that each session met are in the order in which it met them,
and an update stands right behind what it replaced (Gibbons & Korach, "Testing shared memories", 1997).
Otherwise, and where that alone does not place a refused cas, a key that is linearizable is coherent; of
others orders are tried, up to a limit: past it, the verdict is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from harness.checkers.interleaved import Linear, Orders, no_order
from harness.checkers.order import (
    Before,
    Reason,
    cycle,
    edges_of,
    fewest,
    knots,
    orders,
    rows_of,
    told,
)
from harness.checkers.vacuity import judged
from harness.checkers.versions import INITIAL, LOST, NONE, OK, Register, Values, shown_version
from harness.checkers.words import at, in_force, key_of, number
from harness.history import History
from harness.verdict import Edge, Verdict, Witness

CONFIGURATIONS = 50_000  # of all keys that are tried at most
REASONS = (Reason.WRITES, Reason.READS, Reason.OWN, Reason.FOLLOWS, Reason.UPDATE)


def coherent(history: History) -> Verdict:
    """Each key is sequentially consistent by itself; that says nothing of several keys together.

    Raises CheckError where an operation is none of ``read``, ``write``, ``cas`` and ``rmw``.
    """
    values = Values(history)
    keys = searched = 0
    undecided: list[str] = []
    linear, left = Linear(values), CONFIGURATIONS
    for register in values.by_key():
        keys += 1
        found = _odd(values, register) or _contradiction(values, register)
        if found is not None or not (register.unclear or not _refusals_fit(values, register)):
            pass  # the versions tell
        elif not linear.explains(register):
            searched += 1
            orders_ = Orders(values, register)
            answer = orders_.explained(left)
            left -= orders_.tried
            if answer is False and not register.guessed:
                found = no_order(values, register)
            elif answer is not True:
                undecided.append(_undecided(values, register, answer))
        if found is not None:
            return judged(
                "coherence", history, kept="", key=values.columns.keys.values[register.key],
                witness=("not coherent", found), evidence={"keys": keys, "searched": searched},
            )  # fmt: skip
    evidence = {"keys": keys, "searched": searched}
    if undecided:
        return Verdict(
            "coherence", "unknown", undecided[0], cause="memory", evidence={**evidence, "missing": undecided}
        )
    lacking = []
    if not any(
        read != NONE and type_ == OK for read, type_ in zip(values.read, values.columns.type, strict=True)
    ):
        lacking.append("nothing was read")
    if all(left == NONE for left in values.left):
        lacking.append("nothing was written")
    return judged("coherence", history, kept="coherent", evidence=evidence, lacking=lacking)


def _undecided(values: Values, register: Register, answer: bool | None) -> str:
    name = values.columns.keys.values[register.key]
    which = "" if name is None else f" of {key_of(name)}"
    if answer is None:
        return f"not decided with {number(CONFIGURATIONS, 'configuration')}{which}: values repeat"
    return f"not decided{which}: nobody knows which rmw of unknown outcome left what was read"


# ------------------------------------------------------------------------ where every value was written once


class Chains(NamedTuple):
    """Versions that stand right behind one another: by version, the first of its chain and its place."""

    head: dict[int, int]
    place: dict[int, int]

    @classmethod
    def of(cls, register: Register) -> Chains:
        """The chains of a register whose updates are in no cycle and of which no two replace one version."""
        following = {register.read[row]: row for row in register.updates}
        head: dict[int, int] = {}
        place: dict[int, int] = {}
        updates = set(following.values())
        for version in (INITIAL, *register.writes, *set(register.read.values())):
            if version in updates or version in head:
                continue
            at_, link = 0, version
            head[link], place[link] = version, at_
            while (after := following.get(link)) is not None:
                link, at_ = after, at_ + 1
                head[link], place[link] = version, at_
        return cls(head, place)


def _edges(values: Values, register: Register) -> list[Before]:
    return orders(values, register, REASONS)[0]


def _twice(register: Register) -> tuple[int, int] | None:
    """Two updates of one version."""
    replaced: dict[int, int] = {}
    for row in register.updates:
        other = replaced.setdefault(register.read[row], row)
        if other != row:
            return other, row
    return None


def _joined(edges: Sequence[Before], chains: Chains) -> list[Before]:
    """The edges as they are between chains; nothing stands before the one that begins with the beginning."""
    head = chains.head
    found = [
        edge._replace(older=head[edge.older], newer=head[edge.newer])
        for edge in edges
        if head[edge.older] != head[edge.newer]
    ]
    late = {edge.older: edge for edge in found if edge.newer == INITIAL}
    found += [Before(INITIAL, older, Reason.FIRST, edge.b, edge.a) for older, edge in late.items()]
    return found


def _broken(values: Values, register: Register) -> bool:
    """Whether versions alone show that there is no order."""
    edges = _edges(values, register)
    if knots((e.older, e.newer) for e in edges) or _twice(register):
        return True
    return bool(knots((e.older, e.newer) for e in _joined(edges, Chains.of(register))))


def _contradiction(values: Values, register: Register) -> Witness | None:
    """The witness where versions alone show that there is no order."""
    if not _broken(values, register):
        return None
    if register.guessed:
        register = values.register(register.key, register.rows, guess=False)
        if not _broken(values, register):
            return None
    c = values.columns
    edges = _edges(values, register)
    around = cycle(edges, lambda e: c.call[e.b])
    rows = rows_of(register, around)
    if not around and (pair := _twice(register)):
        rows = [row for row in (*pair, register.read[pair[0]]) if row >= 0]
    elif not around:
        chains = Chains.of(register)
        joined = cycle(_joined(edges, chains), lambda e: c.call[e.b])
        within = {edge.older for edge in joined}
        rows = [
            row
            for row in {*(r for edge in joined for r in (edge.a, edge.b)), *_members(chains, within)}
            if row >= 0
        ]
        rows = sorted({*rows, *(v for row in rows if (v := register.read.get(row, -1)) >= 0)})
    least = fewest(register, rows, lambda fewer: _broken(values, fewer))
    return _witness(values, least)


def _members(chains: Chains, heads: Iterable[int]) -> list[int]:
    wanted = set(heads)
    return [version for version, head in chains.head.items() if head in wanted]


def _witness(values: Values, least: Register) -> Witness:
    """What a smallest contradiction says."""
    c = values.columns
    edges = _edges(values, least)
    around = cycle(edges, lambda e: c.call[e.b])
    shown_edges: tuple[Edge, ...] = edges_of(values, least, around)
    where = values.of(least.key).replace(" of ", " to ", 1)
    if around:
        reasons = [told(values, least, edge) for edge in around]
        culprit = max((edge.b for edge in around), key=c.call.__getitem__)
    elif pair := _twice(least):
        reasons = [
            f"process {c.process[row]} replaced {shown_version(values, least, least.read[row])} "
            f"by {shown_version(values, least, row)} at {at(c.start[row])[0]}"
            for row in pair
        ]
        culprit = max(pair, key=c.call.__getitem__)
    else:
        joined = {edge[2:] for edge in cycle(_joined(edges, Chains.of(least)), lambda e: c.call[e.b])}
        around = [edge for edge in edges if edge.reason is Reason.UPDATE or edge[2:] in joined]
        reasons = [told(values, least, edge) for edge in around]
        culprit = max(least.rows, key=c.call.__getitem__)
        shown_edges = edges_of(values, least, around)
    sentence = f"no order of the writes{where} explains that {' and '.join(reasons)}"
    return Witness(
        sentence + in_force(values.history, c.start[culprit]), values.indexes(least.rows), c.index[culprit],
        shown_edges,
    )  # fmt: skip


def _odd(values: Values, register: Register) -> Witness | None:
    if not register.odd:
        return None
    c = values.columns
    odd = register.odd[0]
    sentence = values.told(register.key, odd) + in_force(values.history, c.start[odd.row])
    return Witness(sentence, values.indexes((odd.row, *odd.writes[-1:])), c.index[odd.row])


def _refusals_fit(values: Values, register: Register) -> bool:
    """Whether an order of the versions that is as good as any leaves room for each refused cas."""
    if not register.refused:
        return True
    chains = Chains.of(register)
    value = {version: values.read[row] for row, version in register.read.items()}
    value |= {row: values.left[row] for row in register.writes if values.left[row] != LOST} | {INITIAL: 0}
    line = _line(_joined(_edges(values, register), chains), chains)
    place = {version: i for i, version in enumerate(line)}
    writes, refused = set(register.writes), set(register.refused)
    halves = values.columns.values.halves
    now: dict[int, int] = {}
    for row in register.rows:
        who = values.columns.process[row]
        at_ = now.get(who, 0)
        if row in refused:
            old = halves[2 * values.columns.value[row]]
            while at_ < len(line) and value[line[at_]] == old:
                at_ += 1
            if at_ == len(line):
                return False
        elif row in writes:
            if at_ >= place[row]:
                return False
            at_ = place[row]
        elif row in register.read:
            version = register.read[row]
            if at_ > place[version]:
                return False
            at_ = place[version]
        now[who] = at_
    return True


def _line(joined: Iterable[Before], chains: Chains) -> list[int]:
    """All versions in an order that fits, of several always the one invoked first."""
    members: dict[int, list[int]] = {}
    for version, head in sorted(chains.head.items(), key=lambda item: chains.place[item[0]]):
        members.setdefault(head, []).append(version)
    after: dict[int, list[int]] = {}
    waiting = dict.fromkeys(members, 0)
    for edge in joined:
        after.setdefault(edge.older, []).append(edge.newer)
        waiting[edge.newer] += 1
    ready = [head for head, count in waiting.items() if not count]
    heapify(ready)
    line: list[int] = []
    while ready:
        head = heappop(ready)
        line += members[head]
        for newer in after.get(head, ()):
            waiting[newer] -= 1
            if not waiting[newer]:
                heappush(ready, newer)
    return line


__all__ = ["coherent"]

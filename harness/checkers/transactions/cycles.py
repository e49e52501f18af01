"""Cycles in a graph of transactions, by the anomaly that each is.

Adya's phenomena, with the edges that close the cycle: G0 (writes only), G1c (writes and reads), G-single (one
anti-dependency), G-nonadjacent (several, none next to another), G2 (others; -item without predicates); with
``-process`` or ``-realtime`` where the order of a session or of real time is needed.

Whether there is a cycle that a model forbids is decided exactly, however large the graph: for each set of edges
that some model forbids to be cyclic, components tell whether it is, and where it is some cycle in it is found;
one with a single anti-dependency is looked for until it is found or none can be. Only how short the cycles
shown are, and whether further names are found beside those that rule out the same models, depends on `EFFORT`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from harness.checkers.transactions.found import Case, Found
from harness.checkers.transactions.graph import (
    ANTI,
    BITS,
    BY_PROCESS,
    BY_TIME,
    FREE,
    INFERRED,
    ON,
    PREDICATE,
    PROCESS,
    READ,
    REALTIME,
    RW,
    RWP,
    RWR,
    RWS,
    WR,
    WRITE,
    WRP,
    Graph,
    components,
)  # fmt: skip

EFFORT = 100_000  # edges looked at, for a shorter cycle of one sort in one component
ENOUGH = 100  # components in which cycles of one sort are looked for and found
KINDS = 12
CHUNK = 2048  # queries answered in one pass

Step = tuple[int, int]  # a node and the kind of the edge that leaves it
Start = tuple[int, int, int]  # an edge: from, to, kind
Out = Sequence[Sequence[int]]

VARIANTS: tuple[tuple[int, int], ...] = (  # what may be used, what must be: each in those before it
    (BY_PROCESS | BY_TIME, BY_TIME),
    (BY_PROCESS, BY_PROCESS),
    (0, 0),
)


def search(graph: Graph, found: Found) -> None:
    """Add to `found` a case of each sort of cycle, in as many components as there are or are `ENOUGH`."""
    parts = components(graph.out)
    if not parts:
        return
    part = _Part(graph, parts)
    for predicates in (False, True):
        if predicates and not part.predicates:
            break
        out = part.only(~0 if predicates else ~PREDICATE)
        for may, must in VARIANTS:
            mask = WRITE | READ | 1 << RW | 1 << RWP | FREE | may
            out = _sub(out, mask)
            components_ = components(out)
            if not components_:
                break
            out = _inside(out, components_)
            if must and not any(must >> (e & 15) & 1 for edges in out for e in edges):
                continue
            _Search(part, found, out, may, must, predicates).run()


class _Part:
    """The nodes of all components, numbered anew, transactions first."""

    def __init__(self, graph: Graph, parts: list[list[int]]) -> None:
        self.ids = sorted(node for nodes in parts for node in nodes)
        number = {node: place for place, node in enumerate(self.ids)}
        of = {node: place for place, nodes in enumerate(parts) for node in nodes}
        self.size = sum(1 for node in self.ids if node < graph.size)
        self.out = [
            [number[e >> BITS] << BITS | e & 15 for e in graph.out[node] if of.get(e >> BITS) == of[node]]
            for node in self.ids
        ]
        self.numbers = number
        self.known: set[tuple[Step, ...]] = set()  # cycles found
        self.predicates = any(PREDICATE >> (e & 15) & 1 for edges in self.out for e in edges)

    def only(self, mask: int) -> list[list[int]]:
        """The edges of these kinds, without those that another one between the same two makes needless."""
        out = []
        for edges in self.out:
            kinds: dict[int, int] = {}
            for e in edges:
                if mask >> (e & 15) & 1:
                    kinds[e >> BITS] = kinds.get(e >> BITS, 0) | 1 << (e & 15)
            kept: list[int] = []
            for other, these in kinds.items():
                kept += [other << BITS | kind for kind in range(KINDS) if _strong(these) >> kind & 1]
            out.append(kept)
        return out


def _strong(kinds: int) -> int:
    """Of the kinds of edges between two transactions those that say most."""
    if kinds & WRITE:
        return WRITE
    if kinds & 1 << WR:
        kinds &= 1 << WR | 1 << PROCESS | 1 << REALTIME
    if kinds & 1 << RW:
        kinds &= ~(1 << RWP | 1 << RWS | 1 << RWR)
    if kinds & 1 << WRP:
        kinds &= ~(1 << RWP)
    if kinds & 1 << PROCESS:
        kinds &= ~(1 << REALTIME)
    return kinds


def _sub(out: Out, mask: int) -> list[list[int]]:
    return [[e for e in edges if mask >> (e & 15) & 1] for edges in out]


def _numbered(size: int, parts: Iterable[Iterable[int]]) -> list[int]:
    """The number of each node's component, -1 for a node that is alone."""
    of = [-1] * size
    for place, nodes in enumerate(parts):
        for node in nodes:
            of[node] = place
    return of


def _inside(out: Out, parts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The edges inside the components."""
    of = _numbered(len(out), parts)
    return [
        [e for e in edges if of[e >> BITS] == of[node]] if of[node] >= 0 else []
        for node, edges in enumerate(out)
    ]


# ------------------------------------------------------------------------------------ kinds of cycles


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which walks close a cycle, as an automaton over edges: `plain` and `anti` are its next states, -1 for none.

    It begins in state 0 after the first edge.
    """

    plain: tuple[int, ...]
    anti: tuple[int, ...]
    goals: tuple[int, ...]


_ANY = _Rule(plain=(0,), anti=(0,), goals=(0,))
_ONE = _Rule(plain=(0,), anti=(-1,), goals=(0,))
# after an anti-dependency, and after another edge; the same once there were several
_APART = _Rule(plain=(1, 1, 3, 3), anti=(-1, 2, -1, 2), goals=(3,))
_APART_ANY = _Rule(plain=(1, 1, 3, 3), anti=(-1, 2, -1, 2), goals=(1, 3))
_ADJACENT = _Rule(plain=(-1, 1), anti=(1, 1), goals=(1,))


def _table(rule: _Rule, musts: Sequence[int]) -> list[list[int]]:
    """By state * 2**len(musts) + which of `musts` were seen, by kind: the next one."""
    table = []
    for state in range(len(rule.plain)):
        for seen in range(1 << len(musts)):
            row = []
            for kind in range(KINDS):
                to = (rule.anti if ANTI >> kind & 1 else rule.plain)[state]
                row.append(-1 if to < 0 else to << len(musts) | seen | _seen(musts, kind))
            row[ON] = state << len(musts) | seen
            table.append(row)
    return table


def _seen(musts: Sequence[int], kind: int) -> int:
    return sum(1 << place for place, must in enumerate(musts) if must >> kind & 1)


class _Search:
    """Looks for each sort of cycle in one variant; `out` are the edges inside its components."""

    def __init__(
        self, part: _Part, found: Found, out: list[list[int]], may: int, must: int, predicates: bool
    ) -> None:
        self.part, self.found, self.out = part, found, out
        self.must = must
        self.musts = [those for those in (must, PREDICATE if predicates else 0) if those]
        self.before = WRITE | READ | FREE | (may & ~ANTI)

    def run(self) -> None:
        must = self.must
        informed = self.before & ~INFERRED  # edges by which one transaction's doing reaches another
        self.look(informed & ~READ, must & informed if must else WRITE, _ANY)
        self.look(informed, READ, _ANY)
        if must:
            self.look(informed, must & informed, _ANY, everything=True)
            self.look(self.before, INFERRED & ~ANTI, _ANY, everything=True)
        self.single()
        self.apart()
        self.look(~0, ANTI, _ADJACENT)
        self.look(~0, must or ANTI, _ANY, everything=True)

    def starts(self, out: Out, kinds: int) -> Iterator[Start]:
        for node, edges in enumerate(out):
            for e in edges:
                if kinds >> (e & 15) & 1:
                    yield node, e >> BITS, e & 15

    def look(self, mask: int, kinds: int, rule: _Rule, *, everything: bool = False) -> None:
        """Cycles in the edges of `mask` with an edge of `kinds`; `everything`: need not have what it must."""
        out = _sub(self.out, mask)
        parts = components(out)
        if not parts:
            return
        of = _numbered(len(out), parts)
        groups: dict[int, list[Start]] = defaultdict(list)
        for start in self.starts(out, kinds):
            if of[start[0]] >= 0 and of[start[0]] == of[start[1]]:
                groups[of[start[0]]].append(start)
        self.shortest(_inside(out, parts), groups, rule, everything)

    def shortest(
        self, out: Out, groups: dict[int, list[Start]], rule: _Rule, everything: bool = False
    ) -> None:
        """The shortest closed walk of each group, as far as the effort goes."""
        musts = () if everything else self.musts
        successes = 0
        for _, starts in sorted(groups.items()):
            walk, _ = _shortest(out, self.part.size, starts, rule, musts, EFFORT)
            if walk is not None and self.add(walk):
                successes += 1
                if successes == ENOUGH:
                    return

    def single(self) -> None:
        """Cycles with one anti-dependency: exact, since consistent view forbids them but not all that are rarer."""
        parts = components(self.out)
        of = _numbered(len(self.out), parts)
        base = _sub(self.out, self.before)
        rank = _ranks(base, self.part.size)
        groups: dict[int, list[Start]] = defaultdict(list)
        for start in self.starts(self.out, ANTI):
            if rank[start[1]] <= rank[start[0]]:  # else nothing leads back
                groups[of[start[0]]].append(start)
        successes = 0
        for _, starts in sorted(groups.items()):
            walk, complete = _shortest(base, self.part.size, starts, _ONE, self.musts, EFFORT)
            if walk is None and (self.musts or not complete):
                walk, complete = _shortest(base, self.part.size, starts, _ONE, (), EFFORT)
            if walk is None and not complete:
                true = _leads_back(base, rank, starts)
                if true is not None:
                    walk, _ = _shortest(base, self.part.size, [true], _ONE, (), 1 << 62)
            if walk is not None and self.add(walk):
                successes += 1
                if successes == ENOUGH:
                    return

    def apart(self) -> None:
        """Cycles without two adjacent anti-dependencies: components of the graph of (node, after one)."""
        out = self.out
        doubled: list[list[int]] = []
        for edges in out:
            plain = [(e >> BITS) * 2 << BITS for e in edges if self.before >> (e & 15) & 1 and e & 15 != ON]
            anti = [(e >> BITS) * 2 + 1 << BITS for e in edges if ANTI >> (e & 15) & 1]
            doubled.append(plain + [(e >> BITS) * 2 << BITS for e in edges if e & 15 == ON] + anti)
            doubled.append(plain + [(e >> BITS) * 2 + 1 << BITS for e in edges if e & 15 == ON])
        of = _numbered(len(doubled), components(doubled))
        groups: dict[int, list[Start]] = defaultdict(list)
        for u, v, kind in self.starts(out, ANTI):
            if 0 <= of[2 * u] == of[2 * v + 1]:
                groups[of[2 * u]].append((u, v, kind))
        self.shortest(out, groups, _APART)
        self.shortest(out, groups, _APART_ANY, everything=True)

    def add(self, walk: Sequence[Step]) -> bool:
        """Add the cycles that a closed walk is made of; whether there is any."""
        any_ = False
        for cycle in _simple(self.contracted(walk)):
            if len(cycle) > 1:
                any_ = True
                case = _case([(self.part.ids[node], kind) for node, kind in cycle], self.direct)
                if case.cycle not in self.part.known:
                    self.part.known.add(case.cycle)
                    self.found.add(case)
        return any_

    def contracted(self, walk: Sequence[Step]) -> list[Step]:
        """Without the junctions: an edge into one leads to where the way goes on from it."""
        return [(node, kind) for node, kind in walk if node < self.part.size]

    def direct(self, before: int, after: int) -> int:
        """The kinds of edges, of those that may be used here, between two transactions."""
        number = self.part.numbers
        kinds = 0
        for e in self.out[number[before]]:
            if e >> BITS == number[after]:
                kinds |= 1 << (e & 15)
        return kinds


def _case(cycle: list[Step], direct: Callable[[int, int], int]) -> Case:
    """A cycle by its name, beginning with its first transaction or so that its last edge is an anti-dependency."""
    kinds = []
    for (node, kind), (after, _) in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        these = _strong(direct(node, after) | 1 << kind)
        kinds.append(kind if these >> kind & 1 else (these & -these).bit_length() - 1)
    nodes = [node for node, _ in cycle]
    last = [i for i, kind in enumerate(kinds) if ANTI >> kind & 1] or range(len(kinds))
    turn = min((nodes[(i + 1) % len(nodes)], i) for i in last)[1] + 1
    steps = [(nodes[(turn + i) % len(nodes)], kinds[(turn + i) % len(nodes)]) for i in range(len(nodes))]
    name, implied = classified([kind for _, kind in steps])
    return Case(name, tuple(nodes), max(nodes), implies=(implied,), cycle=tuple(steps))


def classified(kinds: Sequence[int]) -> tuple[str, str]:
    """The name of a cycle of edges of these kinds, and the name in the order of anomalies (-item or not)."""
    bits = 0
    for kind in kinds:
        bits |= 1 << kind
    anti = [ANTI >> kind & 1 for kind in kinds]
    item = "" if bits & PREDICATE else "-item"
    variant = "-realtime" if bits & BY_TIME else "-process" if bits & BY_PROCESS else ""
    if sum(anti) > 1:
        if any(a and b for a, b in zip(anti, [*anti[1:], anti[0]], strict=True)):
            return f"G2{item}{variant}", f"G2{item}{variant}"
        return f"G-nonadjacent{variant}", f"G-nonadjacent{item}{variant}"
    if any(anti) or bits & INFERRED:  # an order that is inferred is true, or else there is such a cycle
        return f"G-single{variant}", f"G-single{item}{variant}"
    name = f"{'G1c' if bits & READ else 'G0'}{variant}"
    return name, name


def _simple(walk: Sequence[Step]) -> Iterator[list[Step]]:
    """The cycles of a closed walk, none of which meets a node twice."""
    way: list[Step] = []
    place: dict[int, int] = {}
    for node, kind in walk:
        if node in place:
            cycle = way[place[node] :]
            del way[place[node] :]
            for gone, _ in cycle:
                del place[gone]
            yield cycle
        place[node] = len(way)
        way.append((node, kind))
    yield way


# ------------------------------------------------------------------------------------------- searching


def _shortest(
    out: Out, size: int, starts: Sequence[Start], rule: _Rule, musts: Sequence[int], effort: int
) -> tuple[list[Step] | None, bool]:
    """The shortest closed walk that begins with one of `starts`, and whether all of them were tried.

    At least the first is searched to its end.
    """
    table = _table(rule, musts)
    states = len(table)
    goals = {(state + 1 << len(musts)) - 1 for state in rule.goals}
    best: list[Step] | None = None
    limit = 1 << 62
    for start in starts:
        if effort < 0:
            return best, False
        first = _seen(musts, start[2])
        walk, used = _walk(out, size, start, first, table, states, goals, limit)
        effort -= used
        if walk is not None:
            best = walk
            limit = sum(1 for node, _ in best if node < size) - 1
            if limit < 2:
                break
    return best, True


def _walk(
    out: Out, size: int, start: Start, state: int, table: list[list[int]], states: int, goals: set[int],
    limit: int,
) -> tuple[list[Step] | None, int]:  # fmt: skip
    """Breadth first, edges from junctions for nothing; the walk of at most `limit` edges, and the effort."""
    source, target, kind = start
    begin = target * states + state
    ends = {source * states + goal for goal in goals}
    cost = {begin: 1}
    come: dict[int, tuple[int, int]] = {}
    level, now, used = [begin], 1, 0
    while level and now <= limit:
        later: list[int] = []
        for place in level:  # grows meanwhile
            if cost[place] < now:
                continue
            if place in ends and (now > 1 or place != begin):
                return _way(come, begin, place, states, start), used
            node, at = divmod(place, states)
            row = table[at]
            edges = out[node]
            used += len(edges) + 1
            for e in edges:
                to = row[e & 15]
                other = e >> BITS
                if to < 0 or (other == target and target < size):
                    continue
                to += other * states
                free = e & 15 == ON
                price = now if free else now + 1
                known = cost.get(to)
                if known is None or price < known:
                    cost[to] = price
                    come[to] = (place, e & 15)
                    (level if free else later).append(to)
        level, now = later, now + 1
    return None, used


def _way(come: dict[int, tuple[int, int]], begin: int, end: int, states: int, start: Start) -> list[Step]:
    way: list[Step] = []
    while end != begin:
        end, kind = come[end]
        way.append((end // states, kind))
    way.append((start[0], start[2]))
    return way[::-1]


def _ranks(base: Out, size: int) -> list[int]:
    """A number for each node that grows along the edges, the same in a component; early transactions first.

    So most anti-dependencies, which go forward in time, are seen at once to be in no cycle of their own.
    """
    parts = components(base)
    of = list(range(len(base)))
    for nodes in parts:
        for node in nodes:
            of[node] = nodes[0]
    members: dict[int, list[int]] = {nodes[0]: nodes for nodes in parts}
    entering = [0] * len(base)
    for node, edges in enumerate(base):
        for e in edges:
            if of[e >> BITS] != of[node]:
                entering[of[e >> BITS]] += 1
    ready = [
        node if node < size else -node for node in range(len(base)) if of[node] == node and not entering[node]
    ]
    heapify(ready)
    rank = [0] * len(base)
    count = 0
    while ready:
        first = abs(heappop(ready))
        for node in members.get(first, (first,)):
            rank[node] = count
            for e in base[node]:
                to = of[e >> BITS]
                if to != first:
                    entering[to] -= 1
                    if not entering[to]:
                        heappush(ready, to if to < size else -to)
        count += 1
    return rank


def _leads_back(base: Out, rank: Sequence[int], starts: Sequence[Start]) -> Start | None:
    """The first of these edges from whose end its beginning can be reached: a bit each, carried along the graph."""
    order: dict[int, list[int]] = defaultdict(list)
    for node, place in enumerate(rank):
        order[place].append(node)
    ranks = sorted(order)
    for begin in range(0, len(starts), CHUNK):
        chunk = starts[begin : begin + CHUNK]
        carried: dict[int, int] = defaultdict(int)
        ends: dict[int, list[int]] = defaultdict(list)
        for bit, (source, target, _) in enumerate(chunk):
            carried[rank[target]] |= 1 << bit
            ends[rank[source]].append(bit)
        for place in ranks:
            bits = carried.pop(place, 0)
            if not bits:
                continue
            for bit in ends.get(place, ()):
                if bits >> bit & 1:
                    return chunk[bit]
            for node in order[place]:
                for e in base[node]:
                    if rank[e >> BITS] != place:
                        carried[rank[e >> BITS]] |= bits
    return None

"""Closed walks through a graph of transactions: the shortest of a sort, or whether there is any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from harness.checkers.transactions.graph import ANTI, BITS, KIND, KINDS, ON, components

CHUNK = 2048  # queries answered in one pass

Step = tuple[int, int]  # a node and the kind of the edge that leaves it
Start = tuple[int, int, int]  # an edge: from, to, kind
Out = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Rule:
    """Which walks close a cycle, as an automaton over edges: `plain` and `anti` are its next states, -1 for
    none.

    It begins in state 0 after the first edge.
    """

    plain: tuple[int, ...]
    anti: tuple[int, ...]
    goals: tuple[int, ...]


ANY = Rule(plain=(0,), anti=(0,), goals=(0,))
ONE = Rule(plain=(0,), anti=(-1,), goals=(0,))
# after an anti-dependency, and after another edge; the same once there were several
APART = Rule(plain=(1, 1, 3, 3), anti=(-1, 2, -1, 2), goals=(3,))
APART_ANY = Rule(plain=(1, 1, 3, 3), anti=(-1, 2, -1, 2), goals=(1, 3))
ADJACENT = Rule(plain=(-1, 1), anti=(1, 1), goals=(1,))


def _table(rule: Rule, musts: Sequence[int]) -> list[list[int]]:
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


def simple(walk: Sequence[Step]) -> Iterator[list[Step]]:
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


@dataclass(slots=True)
class Effort:
    """How many edges may still be looked at."""

    left: int

    @property
    def over(self) -> bool:
        """Whether that was all."""
        return self.left < 0


def shortest(
    out: Out, size: int, starts: Sequence[Start], rule: Rule, musts: Sequence[int], effort: Effort
) -> tuple[list[Step] | None, bool]:
    """The shortest closed walk that begins with one of `starts`, and whether all of them were tried.

    At least the first is searched to its end, the others while there is effort left.
    """
    table = _table(rule, musts)
    states = len(table)
    goals = {(state + 1 << len(musts)) - 1 for state in rule.goals}
    best: list[Step] | None = None
    limit = 1 << 62
    for start in starts:
        if effort.over and start is not starts[0]:
            return best, False
        first = _seen(musts, start[2])
        walk, used = _walk(out, size, start, first, table, states, goals, limit)
        effort.left -= used
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
    source, target, _ = start
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
                to = row[e & KIND]
                other = e >> BITS
                if to < 0 or (other == target and target < size):
                    continue
                to += other * states
                free = e & KIND == ON
                price = now if free else now + 1
                known = cost.get(to)
                if known is None or price < known:
                    cost[to] = price
                    come[to] = (place, e & KIND)
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


def ranks(base: Out, size: int) -> list[int]:
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


def leads_back(base: Out, rank: Sequence[int], starts: Sequence[Start]) -> Start | None:
    """The first of these edges from whose end its beginning can be reached: a bit of each is carried."""
    order: dict[int, list[int]] = defaultdict(list)
    for node, place in enumerate(rank):
        order[place].append(node)
    places = sorted(order)
    for begin in range(0, len(starts), CHUNK):
        chunk = starts[begin : begin + CHUNK]
        carried: dict[int, int] = defaultdict(int)
        ends: dict[int, list[int]] = defaultdict(list)
        for bit, (source, target, _) in enumerate(chunk):
            carried[rank[target]] |= 1 << bit
            ends[rank[source]].append(bit)
        for place in places:
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

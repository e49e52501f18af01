"""What must stand before what: transactions as numbers, an edge as one integer.

An edge in `Graph.out` is ``target << BITS | kind``. Nodes beyond the transactions are junctions: an edge into
one goes on, by edges of the kind ON, to each transaction that it leads to. So all readers of a version stand
before all its overwriters, and all that is over before all that begins later, with edges in linear number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

BITS = 4
KIND = (1 << BITS) - 1
WW, WR, WRP, RW, RWP, PROCESS, REALTIME, ON = range(8)
# Write-write and read-write, where what came first is known only from the order in which sessions (S), or all
# that happened in real time (R), met the versions: true where that order counts.
WWS, RWS, WWR, RWR = range(8, 12)
KINDS = 12

WRITE = 1 << WW
READ = 1 << WR | 1 << WRP
ANTI = 1 << RW | 1 << RWP | 1 << RWS | 1 << RWR
PREDICATE = 1 << WRP | 1 << RWP
BY_PROCESS = 1 << PROCESS | 1 << WWS | 1 << RWS
BY_TIME = 1 << REALTIME | 1 << WWR | 1 << RWR
INFERRED = 1 << WWS | 1 << RWS | 1 << WWR | 1 << RWR
FREE = 1 << ON

DIRECT = 16  # pairs that are linked without a junction


class Graph:
    """`size` transactions and the junctions after them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.out: list[list[int]] = [[] for _ in range(size)]

    def junction(self) -> int:
        """A new node that is no transaction."""
        self.out.append([])
        return len(self.out) - 1

    def link(self, before: int, after: int, kind: int) -> None:
        """An edge, unless it were one from a node to itself."""
        if before != after:
            self.out[before].append(after << BITS | kind)

    def link_all(self, before: Sequence[int], after: Sequence[int], kind: int) -> None:
        """Each of `before`, which are distinct, stands before each other one of `after`.

        Where these are many, a junction is between. Those in both stand before each other; of their edges
        only those between neighbours are kept, which connect them all the same.
        """
        if len(before) * len(after) <= DIRECT:
            for one in before:
                for other in after:
                    self.link(one, other, kind)
            return
        both = sorted(set(before) & set(after))
        for one, other in pairwise(both):
            self.link(one, other, kind)
            self.link(other, one, kind)
        apart = set(both)
        self._join([node for node in before if node not in apart], after, kind)
        self._join(both, [node for node in after if node not in apart], kind)

    def _join(self, before: Iterable[int], after: Iterable[int], kind: int) -> None:
        between = self.junction()
        for node in before:
            self.link(node, between, kind)
        for node in after:
            self.link(between, node, ON)


def by_time(graph: Graph, members: Iterable[int], call: Sequence[int], ret: Sequence[int]) -> None:
    """Real time: what returned stands before all that was called later.

    A chain of junctions, one for each run of returns that a call follows: linear, where linking them
    directly would take an edge for each pair of clients.
    """
    out = graph.out
    events = {call[t]: t for t in members}
    events |= {ret[t]: ~t for t in members if ret[t] >= 0}
    latest, over = -1, list[int]()
    for place in sorted(events):
        t = events[place]
        if t < 0:
            over.append(~t)
            continue
        if over:
            now = graph.junction()
            for other in over:
                out[other].append(now << BITS | REALTIME)
            if latest >= 0:
                out[latest].append(now << BITS | ON)
            latest, over = now, []
        if latest >= 0:
            out[latest].append(t << BITS | ON)


def by_process(graph: Graph, members: Iterable[int], process: Sequence[int]) -> None:
    """Each process does one thing after another; `members` are in the order of invocation."""
    latest: dict[int, int] = {}
    for t in members:
        before = latest.get(process[t])
        if before is not None:
            graph.out[before].append(t << BITS | PROCESS)
        latest[process[t]] = t


def components(out: Sequence[Sequence[int]]) -> list[list[int]]:
    """Strongly connected components of two nodes or more (Tarjan 1972, without recursion), each sorted.

    In plain Python, since a library takes longer to be told the edges than this takes to walk them.
    """
    size = len(out)
    over = size + 1  # above every number: of nodes whose component is known
    number = [0] * size
    low = [0] * size
    stack: list[int] = []
    found: list[list[int]] = []
    count = 0
    for root in range(size):
        if number[root]:
            continue
        count += 1
        number[root] = low[root] = count
        stack.append(root)
        work = [(root, iter(out[root]))]
        while work:
            node, edges = work[-1]
            least = low[node]
            for edge in edges:
                other = edge >> BITS
                seen = number[other]
                if not seen:
                    low[node] = least
                    count += 1
                    number[other] = low[other] = count
                    stack.append(other)
                    work.append((other, iter(out[other])))
                    break
                if seen < least:
                    least = seen
            else:
                work.pop()
                if least < number[node]:
                    low[node] = least
                    before = work[-1][0]
                    if least < low[before]:
                        low[before] = least
                elif stack[-1] == node:
                    stack.pop()
                    number[node] = over
                else:
                    place = stack.index(node) if len(stack) < 64 else _last(stack, node)
                    members = sorted(stack[place:])
                    del stack[place:]
                    for member in members:
                        number[member] = over
                    found.append(members)
    return found


def _last(items: list[int], item: int) -> int:
    place = len(items) - 1
    while items[place] != item:
        place -= 1
    return place

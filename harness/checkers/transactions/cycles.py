"""Cycles in a graph of transactions, by the anomaly that each is.

Adya's phenomena, with the edges that close the cycle: G0 (writes only), G1c (writes and reads), G-single (one
anti-dependency), G-nonadjacent (several, none next to another), G2 (others; -item without predicates); with
``-process`` or ``-realtime`` where the order of a session or of real time is needed.

Whether there is a cycle that a model forbids is decided exactly, however large the graph: for each set of
edges that some model forbids to be cyclic, components tell whether it is, and where it is some cycle in it is
found; one with a single anti-dependency is looked for until it is found or none can be. Only how short the
cycles shown are, and whether further names are found beside those that rule out the same models, depends on
`EFFORT`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.checkers.transactions.found import Case, Found
from harness.checkers.transactions.graph import (
    ANTI,
    BITS,
    BY_PROCESS,
    BY_TIME,
    FREE,
    INFERRED,
    KIND,
    KINDS,
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
)
from harness.checkers.transactions.walks import (
    ADJACENT,
    ANY,
    APART,
    APART_ANY,
    ONE,
    Effort,
    Out,
    Rule,
    Start,
    Step,
    leads_back,
    ranks,
    shortest,
    simple,
)  # fmt: skip

EFFORT = 200_000  # edges looked at, for short cycles of one sort
ENOUGH = 50  # components in which cycles of one sort are looked for and found

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
            if must and not any(must >> (e & KIND) & 1 for edges in out for e in edges):
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
            [number[e >> BITS] << BITS | e & KIND for e in graph.out[node] if of.get(e >> BITS) == of[node]]
            for node in self.ids
        ]
        self.numbers = number
        self.known: set[tuple[Step, ...]] = set()  # cycles found
        self.predicates = any(PREDICATE >> (e & KIND) & 1 for edges in self.out for e in edges)

    def only(self, mask: int) -> list[list[int]]:
        """The edges of these kinds, without those that another one between the same two makes needless."""
        out = []
        for edges in self.out:
            kinds: dict[int, int] = {}
            for e in edges:
                if mask >> (e & KIND) & 1:
                    kinds[e >> BITS] = kinds.get(e >> BITS, 0) | 1 << (e & KIND)
            kept: list[int] = []
            for other, these in kinds.items():
                strong = _strong(these)
                kept += [other << BITS | kind for kind in range(KINDS) if strong >> kind & 1]
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
    return [[e for e in edges if mask >> (e & KIND) & 1] for edges in out]


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
        self.look(informed & ~READ, must & informed if must else WRITE, ANY)
        self.look(informed, READ, ANY)
        if must:
            self.look(informed, must & informed, ANY, everything=True)
            self.look(self.before, INFERRED & ~ANTI, ANY, everything=True)
        self.single()
        self.apart()
        self.look(~0, ANTI, ADJACENT)
        self.look(~0, must or ANTI, ANY, everything=True)

    def starts(self, out: Out, kinds: int) -> Iterator[Start]:
        for node, edges in enumerate(out):
            for e in edges:
                if kinds >> (e & KIND) & 1:
                    yield node, e >> BITS, e & KIND

    def look(self, mask: int, kinds: int, rule: Rule, *, everything: bool = False) -> None:
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
        self, out: Out, groups: dict[int, list[Start]], rule: Rule, everything: bool = False
    ) -> None:
        """The shortest closed walk of each group, the small ones first, as far as the effort goes."""
        musts = () if everything else self.musts
        effort, successes = Effort(EFFORT), 0
        for starts in _small_first(groups):
            walk, _ = shortest(out, self.part.size, starts, rule, musts, effort)
            successes += walk is not None and self.add(walk)
            if successes == ENOUGH or effort.over:
                return

    def single(self) -> None:
        """Cycles with one anti-dependency: exact, as consistent view forbids them and no others."""
        parts = components(self.out)
        of = _numbered(len(self.out), parts)
        base = _sub(self.out, self.before)
        rank = ranks(base, self.part.size)
        groups: dict[int, list[Start]] = defaultdict(list)
        for start in self.starts(self.out, ANTI):
            if rank[start[1]] <= rank[start[0]]:  # else nothing leads back
                groups[of[start[0]]].append(start)
        effort, successes = Effort(EFFORT), 0
        untried: list[Start] = []
        for starts in _small_first(groups):
            if effort.over:
                untried += starts
                continue
            walk, complete = shortest(base, self.part.size, starts, ONE, self.musts, effort)
            if walk is None and self.musts:
                walk, complete = shortest(base, self.part.size, starts, ONE, (), effort)
            if walk is None and not complete:
                untried += starts
            successes += walk is not None and self.add(walk)
            if successes == ENOUGH:
                return
        if untried and not successes and (true := leads_back(base, rank, untried)) is not None:
            walk, _ = shortest(base, self.part.size, [true], ONE, (), effort)
            self.add(walk or ())

    def apart(self) -> None:
        """Cycles without two adjacent anti-dependencies: components of the graph of (node, after one)."""
        out = self.out
        doubled: list[list[int]] = []
        for edges in out:
            plain = [
                (e >> BITS) * 2 << BITS for e in edges if self.before >> (e & KIND) & 1 and e & KIND != ON
            ]
            anti = [(e >> BITS) * 2 + 1 << BITS for e in edges if ANTI >> (e & KIND) & 1]
            doubled.append(plain + [(e >> BITS) * 2 << BITS for e in edges if e & KIND == ON] + anti)
            doubled.append(plain + [(e >> BITS) * 2 + 1 << BITS for e in edges if e & KIND == ON])
        of = _numbered(len(doubled), components(doubled))
        groups: dict[int, list[Start]] = defaultdict(list)
        for u, v, kind in self.starts(out, ANTI):
            if 0 <= of[2 * u] == of[2 * v + 1]:
                groups[of[2 * u]].append((u, v, kind))
        self.shortest(out, groups, APART)
        self.shortest(out, groups, APART_ANY, everything=True)

    def add(self, walk: Sequence[Step]) -> bool:
        """Add the cycles that a closed walk is made of; whether there is any."""
        any_ = False
        for cycle in simple(self.contracted(walk)):
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
                kinds |= 1 << (e & KIND)
        return kinds


def _small_first(groups: dict[int, list[Start]]) -> list[list[Start]]:
    return sorted(groups.values(), key=lambda starts: (len(starts), starts[0]))


def _case(cycle: list[Step], direct: Callable[[int, int], int]) -> Case:
    """A cycle by its name; where it has anti-dependencies, one of them is its last edge."""
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

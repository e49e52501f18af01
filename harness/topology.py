"""How a partition divides the cluster: pure functions from the nodes to a grudge.

A grudge maps a node to the nodes it hears nothing from: ``{"n1": {"n2"}}`` drops the bytes from n2 to n1 and
leaves those from n1 to n2 alone, so cuts in one direction can be told, too. The shapes are those of
Jepsen's nemeses; `majorities_ring` is built anew (see there).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from harness.selector import (
    Link,
    Scene,
    Selector,
    check,
    must_select,
    read_selector,
    resolve,
    resolve_pairs,
)
from harness.value import PlanError, Reader, Value, read

Grudge: TypeAlias = Mapping[str, frozenset[str]]


def complete_grudge(components: Iterable[Collection[str]]) -> Grudge:
    """The grudge that cuts `components` apart: a node hears its own component only.

    >>> complete_grudge([["n1"], ["n2"]])
    {'n1': frozenset({'n2'}), 'n2': frozenset({'n1'})}
    """
    parts = [frozenset(component) for component in components]
    everybody: frozenset[str] = frozenset().union(*parts)
    if sum(map(len, parts)) != len(everybody):
        raise PlanError(f"a node is in one component only, not in two of {[sorted(part) for part in parts]}")
    return grudge_of({node: everybody - part for part in parts for node in sorted(part)})


def invert_grudge(heard: Mapping[str, Collection[str]]) -> Grudge:
    """The grudge under which each node hears only those that `heard` gives it (and itself).

    >>> invert_grudge({"n1": ["n2"], "n2": []})
    {'n2': frozenset({'n1'})}
    """
    if strangers := {other for others in heard.values() for other in others} - set(heard):
        raise PlanError(f"{', '.join(sorted(strangers))} are no nodes; the nodes are {', '.join(heard)}")
    return grudge_of({node: set(heard) - set(others) - {node} for node, others in heard.items()})


def grudge_of(silent: Mapping[str, Collection[str]]) -> Grudge:
    """A grudge as it is kept: frozen, without nodes that hear everybody."""
    return {node: frozenset(others) for node, others in silent.items() if others}


def links(grudge: Grudge) -> frozenset[Link]:
    """The cut links: (source, destination) where the source's bytes to the destination are dropped."""
    return frozenset((other, node) for node, others in grudge.items() for other in others)


class Topology(Value):
    """Base of the partitions' shapes: `grudge(scene, rng)` is a pure function of its arguments."""

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        """Who no longer hears whom. Raises PlanError if nothing would be cut, NoSuchNode as selectors do."""
        raise NotImplementedError(f"{type(self).__name__} has no grudge(scene, rng)")

    def _needs(self, count: int, scene: Scene) -> None:
        if len(scene.nodes) < count:
            there = ", ".join(scene.nodes) or "none"
            raise PlanError(f"{self!r} needs {count} nodes or more; the nodes are {there}")

    def _check(self, grudge: Grudge, scene: Scene) -> Grudge:
        if not grudge:
            raise PlanError(
                f"{self!r} cuts no link of {', '.join(scene.nodes)}; select fewer nodes, or another topology"
            )
        return {node: grudge[node] for node in scene.nodes if node in grudge}


@dataclass(frozen=True, repr=False)
class halves(Topology):
    """The first half of the nodes, in order, against the rest (the larger part of an odd number)."""

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        return self._check(complete_grudge(_bisect(list(scene.nodes))), scene)


@dataclass(frozen=True, repr=False)
class random_halves(Topology):
    """Two halves drawn at random; differs from `majority_minority` in that nobody is steered into a half."""

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        return self._check(complete_grudge(_bisect(_shuffled(scene, rng))), scene)


@dataclass(frozen=True, repr=False)
class isolate(Topology):
    """The selected nodes, together, cut from all others in both directions; a drawn set never is everybody.

    >>> isolate("n1").grudge(Scene({"n1": "node", "n2": "node"}), random.Random(0))
    {'n1': frozenset({'n2'}), 'n2': frozenset({'n1'})}
    """

    selector: Selector

    parts: ClassVar[Mapping[str, Reader]] = {"selector": read_selector}

    def __post_init__(self) -> None:
        must_select(self, "selector")

    def chosen(self, scene: Scene, rng: random.Random) -> tuple[str, ...]:
        """The nodes on the selected side."""
        self._needs(2, scene)
        return resolve(self.selector, scene, rng, other_than=(rng.choice(list(scene.nodes)),))

    def around(self, chosen: Collection[str], scene: Scene) -> Grudge:
        """The grudge with `chosen` on one side."""
        return self._check(complete_grudge([chosen, set(scene.nodes) - set(chosen)]), scene)

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        return self.around(self.chosen(scene, rng), scene)


@dataclass(frozen=True, repr=False)
class majority_minority(Topology):
    """The largest minority, (n-1)//2 nodes, against the rest; `minority` nodes are in it, others are drawn.

    ``majority_minority("leader")`` puts the leader on the side that cannot commit, with company to lead.
    """

    minority: Selector = "one"

    parts: ClassVar[Mapping[str, Reader]] = {"minority": read_selector}

    def __post_init__(self) -> None:
        must_select(self, "minority")
        if self.minority in ("majority", "all"):
            raise self._fail("minority", "a selector of no more than a minority")

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        self._needs(2, scene)
        size = max(1, (len(scene.nodes) - 1) // 2)
        others = rng.sample(list(scene.nodes), len(scene.nodes) - size)
        placed = resolve(self.minority, scene, rng, other_than=others)
        if len(placed) > size:
            raise PlanError(
                f"{self!r}: {', '.join(placed)} are more than a minority, {size} of {len(scene.nodes)} nodes"
            )
        drawn = rng.sample([node for node in scene.nodes if node not in placed], size - len(placed))
        minority = {*placed, *drawn}
        return self._check(complete_grudge([minority, set(scene.nodes) - minority]), scene)


@dataclass(frozen=True, repr=False)
class majorities_ring(Topology):
    """Every node talks with a majority, no two with the same one.

    Links are cut in both directions. The nodes, shuffled, form a ring; each keeps n//2 others: the nearest
    on either side and, where n//2 is odd, the one opposite (if n is odd as well, one node keeps one more).
    With 5 nodes each keeps its two neighbours; with 3 it is a chain. Needs three nodes.
    """

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        ring, half = _shuffled(scene, rng), len(scene.nodes) // 2
        self._needs(3, scene)
        kept: dict[str, set[str]] = {node: set() for node in ring}

        def keep(i: int, j: int) -> None:
            a, b = ring[i], ring[j % len(ring)]
            kept[a].add(b)
            kept[b].add(a)

        for i in range(len(ring)):
            for distance in range(1, half // 2 + 1):
                keep(i, i + distance)
        if half % 2:
            for i in range((len(ring) + 1) // 2):
                keep(i, i + half)
        return self._check(invert_grudge(kept), scene)


@dataclass(frozen=True, repr=False)
class bridge(Topology):
    """Two random halves cut apart, and `node` (by default one at random) that talks with both."""

    node: Selector = "one"

    parts: ClassVar[Mapping[str, Reader]] = {"node": read_selector}

    def __post_init__(self) -> None:
        must_select(self, "node")

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        self._needs(3, scene)
        bridging = resolve(self.node, scene, rng, other_than=rng.sample(list(scene.nodes), 2))
        banks = [node for node in _shuffled(scene, rng) if node not in bridging]
        if len(banks) < 2:
            raise PlanError(
                f"{self!r}: beside {', '.join(bridging)} two nodes or more must be left to be cut apart; "
                f"the nodes are {', '.join(scene.nodes)}"
            )
        return self._check(complete_grudge(_bisect(banks)), scene)


@dataclass(frozen=True, repr=False)
class one_way(Topology):
    """The nodes of `target` hear nothing from those of `source`; what target's nodes say still arrives.

    >>> one_way("n1", "n2").grudge(Scene({"n1": "node", "n2": "node"}), random.Random(0))
    {'n2': frozenset({'n1'})}
    """

    source: Selector
    target: Selector

    parts: ClassVar[Mapping[str, Reader]] = {"source": read_selector, "target": read_selector}

    def __post_init__(self) -> None:
        must_select(self, "source", "target")

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        return self._check(_from_pairs(resolve_pairs(self.source, self.target, scene, rng)), scene)


@dataclass(frozen=True, repr=False, init=False)
class pairs(Topology):
    """Exactly these ordered pairs of nodes: (source, destination) drops the bytes from source to destination.

    >>> pairs(("n1", "n2"), ("n2", "n3")).grudge(Scene({"n1": "a", "n2": "a", "n3": "a"}), random.Random(0))
    {'n2': frozenset({'n1'}), 'n3': frozenset({'n2'})}
    """

    pairs: tuple[Link, ...]

    def __init__(self, *pairs: Link) -> None:
        self._set(pairs=tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs))
        whole = all(
            isinstance(p, tuple) and len(p) == 2 and all(isinstance(n, str) and n for n in p) and p[0] != p[1]
            for p in self.pairs
        )
        if not pairs or not whole or len(set(self.pairs)) != len(pairs):
            raise self._fail("pairs", 'one or more different pairs of two nodes, such as ("n1", "n2")')

    def named(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node for pair in self.pairs for node in pair))

    def _call(self) -> tuple[tuple[Link, ...], dict[str, Any]]:
        return self.pairs, {}

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        return cls(*cls._read_list(data, "pairs"))

    def grudge(self, scene: Scene, rng: random.Random) -> Grudge:
        check(self, scene)
        return self._check(_from_pairs(self.pairs), scene)


TOPOLOGIES: tuple[type[Topology], ...] = (
    halves, random_halves, isolate, majority_minority, majorities_ring, bridge, one_way, pairs,
)  # fmt: skip


def read_topology(data: Any) -> Topology:
    """A topology from its JSON. Raises PlanError that lists the topologies or the fields."""
    return read(data, TOPOLOGIES, "topology")


def words(grudge: Grudge, scene: Scene) -> str:
    """A grudge as one says it: ``n2 cut from n1, n3`` or ``n1, n2 | n3, n4, n5 cut apart``."""
    cut = links(grudge)
    kept = {n: {o for o in scene.nodes if not cut & {(o, n), (n, o)}} for n in scene.nodes}
    both_ways = all((b, a) in cut for a, b in cut)
    components = list(dict.fromkeys(scene.ordered(kept[node]) for node in scene.nodes))
    if both_ways and sum(map(len, components)) == len(scene.nodes):  # the groups do not overlap
        components.sort(key=len)
        if len(components) == 2 and len(components[0]) == 1:
            return f"{components[0][0]} cut from {', '.join(components[1])}"
        return f"{' | '.join(', '.join(c) for c in components)} cut apart"
    place = {node: i for i, node in enumerate(scene.nodes)}
    said: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for node in scene.nodes:
        mutual = [o for o in scene.nodes if {(o, node), (node, o)} <= cut and place[o] > place[node]]
        silent = [o for o in scene.nodes if (o, node) in cut and (node, o) not in cut]
        for verb, others in (("cut from", mutual), ("hears nothing from", silent)):
            if others:
                said.setdefault((verb, tuple(others)), []).append(node)
    return "; ".join(
        f"{', '.join(who)} {verb if len(who) == 1 else verb.replace('hears', 'hear')} {', '.join(others)}"
        for (verb, others), who in said.items()
    )


def _from_pairs(cut: Iterable[Link]) -> Grudge:
    silent: dict[str, set[str]] = {}
    for source, target in cut:
        silent.setdefault(target, set()).add(source)
    return grudge_of(silent)


def _bisect(names: list[str]) -> tuple[list[str], list[str]]:
    middle = len(names) // 2
    return names[:middle], names[middle:]


def _shuffled(scene: Scene, rng: random.Random) -> list[str]:
    return rng.sample(list(scene.nodes), len(scene.nodes))


__all__ = [
    "TOPOLOGIES", "Grudge", "Topology", "bridge", "complete_grudge", "grudge_of", "halves", "invert_grudge",
    "isolate", "links", "majorities_ring", "majority_minority", "one_way", "pairs", "random_halves",
    "read_topology", "words",
]  # fmt: skip

"""Who a fault is for: node selectors, and what they mean in a running cluster.

A selector is a node's name, a role, one of `WORDS`, or ``nodes("n1", "n3")``. It is drawn when the fault
begins, not when the plan is written: the leader is whoever leads then.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeAlias

from harness.value import PlanError, Reader, Value, read

DRAWN = ("one", "minority", "majority", "random")
WORDS = (*DRAWN, "leader", "followers", "all")
CLIENT = "client"

Link: TypeAlias = tuple[str, str]


class NoSuchNode(PlanError):
    """A selector matches nothing *now* (no leader yet): worth another try, unlike any other PlanError."""


@dataclass(frozen=True)
class Scene:
    """The cluster at the moment a fault begins: `nodes` name -> role, in order, and who leads, if anybody.

    Raises PlanError where a name or a role could be taken for another selector.
    """

    nodes: Mapping[str, str]
    leader: str | None = None

    def __post_init__(self) -> None:
        roles = set(self.nodes.values())
        for name in (*self.nodes, *sorted(roles)):
            what = "node" if name in self.nodes else "role"
            if name in (*WORDS, CLIENT):
                raise PlanError(
                    f"{what} {name!r} has the name of a selector; the names "
                    f"{_list((*WORDS, CLIENT))} are taken: rename it"
                )
            if name in self.nodes and name in roles and self._of(name) != [name]:
                raise PlanError(
                    f"{name!r} is both a node and a role, so a selector could mean either; rename one"
                )
        if self.leader is not None and self.leader not in self.nodes:
            raise PlanError(f"leader {self.leader!r} is none of the nodes {_list(self.nodes)}")
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))

    def _of(self, role: str) -> list[str]:
        return [node for node, its in self.nodes.items() if its == role]

    def ordered(self, names: Collection[str]) -> tuple[str, ...]:
        """`names` in the order of the cluster's nodes."""
        return tuple(node for node in self.nodes if node in names)


@dataclass(frozen=True, repr=False, init=False)
class nodes(Value):
    """Exactly these nodes, by name.

    >>> nodes("n1", "n3")
    nodes('n1', 'n3')
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        self._set(names=names)
        if not names or not all(isinstance(n, str) and n for n in names) or len(set(names)) != len(names):
            raise self._fail("names", "one or more different names of nodes")

    def named(self) -> tuple[str, ...]:
        return self.names

    def _call(self) -> tuple[tuple[str, ...], dict[str, Any]]:
        return self.names, {}

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        return cls(*cls._read_list(data, "names"))


Selector: TypeAlias = str | nodes


def read_selector(data: Any) -> Selector:
    """A selector from its JSON: plain text, or an object of kind ``nodes``."""
    return data if isinstance(data, str) else read(data, (nodes,), "selector")


@dataclass(frozen=True, repr=False)
class link(Value):
    """Bytes from `source` to `target` only, whoever opened the connection.

    Both are selectors; ``"client"`` stands for the clients. Differs from a plain selector, which means all
    links of a node to its peers, in both directions.

    >>> link("n1", "n2"), link("leader", "followers"), link("client", "n1")
    (link('n1', 'n2'), link('leader', 'followers'), link('client', 'n1'))
    """

    source: Selector
    target: Selector

    parts: ClassVar[Mapping[str, Reader]] = {"source": read_selector, "target": read_selector}

    def __post_init__(self) -> None:
        must_select(self, "source", "target")
        if self.source == CLIENT == self.target:
            raise self._fail("target", "a selector of nodes where the source is 'client'")


def read_links(data: Any) -> Selector | link:
    """A selector or a `link` from its JSON."""
    if isinstance(data, str):
        return data
    kinds: tuple[type[nodes | link], ...] = (nodes, link)
    return read(data, kinds, "selector")


def must_select(value: Value, *names: str, links: bool = False) -> None:
    """Raise PlanError unless the fields `names` of `value` could be selectors (or links) of some cluster."""
    for name in names:
        given = getattr(value, name)
        kinds = (nodes, link, str) if links else (nodes, str)
        if not isinstance(given, kinds) or not given:
            extra = ' or link("n1", "n2")' if links else ""
            expected = f'a node, a role, one of {_list(WORDS)}, nodes("n1", ...)'
            raise value._fail(name, expected + extra)


def check(value: object, scene: Scene) -> None:
    """Raise PlanError where `value`, or a value inside it, selects what the cluster can never have."""
    if isinstance(value, Value):
        for name in value.named():
            if name not in scene.nodes:
                raise PlanError(f"{value!r}: {name!r} is no node; the nodes are {_list(scene.nodes)}")
        for name, item in vars(value).items():
            if isinstance(item, str) and value.parts.get(name) in (read_selector, read_links):
                if not (item == CLIENT and isinstance(value, link)):
                    _must_know(item, scene)
            else:
                check(item, scene)
    elif isinstance(value, tuple):
        for item in value:
            check(item, scene)


def resolve(
    selector: Selector, scene: Scene, rng: random.Random, *, other_than: Collection[str] = ()
) -> tuple[str, ...]:
    """The nodes that `selector` means in `scene`, in the cluster's order, at least one.

    ``one`` is any node, ``random`` a non-empty set, ``minority`` 1 to (n-1)//2 nodes (1 where n < 3),
    ``majority`` n//2 + 1 nodes, all drawn from `rng` and never from `other_than`; ``followers`` are the nodes
    of the leader's role that do not lead. Raises NoSuchNode where it matches nothing now, PlanError with the
    choices where it never can.

    >>> resolve("followers", Scene({"n1": "node", "n2": "node", "n3": "node"}, leader="n2"), random.Random(1))
    ('n1', 'n3')
    """
    if isinstance(selector, nodes):
        check(selector, scene)
        return scene.ordered(selector.names)
    _must_know(selector, scene)
    if selector in scene.nodes:
        return (selector,)
    if selector in ("leader", "followers"):
        if scene.leader is None:
            raise NoSuchNode(f"selector {selector!r} matches nothing: none of {_list(scene.nodes)} leads now")
        if selector == "leader":
            return (scene.leader,)
        role = scene.nodes[scene.leader]
        return _some(selector, [n for n, r in scene.nodes.items() if r == role and n != scene.leader])
    if selector in DRAWN:
        pool = _some(selector, [node for node in scene.nodes if node not in other_than])
        size = min(_size(selector, len(scene.nodes), len(pool), rng), len(pool))
        return scene.ordered(rng.sample(pool, size))
    return tuple(n for n, role in scene.nodes.items() if selector in ("all", role))


def resolve_pairs(source: Selector, target: Selector, scene: Scene, rng: random.Random) -> tuple[Link, ...]:
    """Every ordered pair from a node of `source` to another node of `target`, ``client`` standing for itself.

    Drawn selectors are drawn last and avoid the single node at the other end, so that ``one`` -> ``one`` is
    always a link. Raises PlanError where there is no pair.
    """
    turned = source in DRAWN and target not in DRAWN
    ends: list[tuple[str, ...]] = []
    for selector in (target, source) if turned else (source, target):
        avoid = ends[0] if ends and len(ends[0]) == 1 else ()
        ends.append((CLIENT,) if selector == CLIENT else resolve(selector, scene, rng, other_than=avoid))
    sources, targets = reversed(ends) if turned else ends
    pairs = tuple((a, b) for a in sources for b in targets if a != b)
    if not pairs:
        raise PlanError(f"no link goes from {_list(sources)} to {_list(targets)}; name two different nodes")
    return pairs


def _size(selector: str, count: int, available: int, rng: random.Random) -> int:
    if selector == "one":
        return 1
    if selector == "minority":
        return rng.randint(1, max(1, (count - 1) // 2))
    return count // 2 + 1 if selector == "majority" else rng.randint(1, available)


def _some(selector: str, found: list[str]) -> tuple[str, ...]:
    if not found:
        raise NoSuchNode(f"selector {selector!r} matches nothing: no node is left for it")
    return tuple(found)


def _must_know(selector: str, scene: Scene) -> None:
    roles = dict.fromkeys(scene.nodes.values())
    if selector not in (*scene.nodes, *roles, *WORDS):
        raise PlanError(
            f"unknown selector {selector!r}; choose a node ({_list(scene.nodes)}), a role ({_list(roles)}), "
            f'one of {_list(WORDS)}, or nodes("{next(iter(scene.nodes), "n1")}", ...)'
        )


def _list(names: Collection[str]) -> str:
    return ", ".join(names)


__all__ = [
    "CLIENT", "WORDS", "Link", "NoSuchNode", "Scene", "Selector", "check", "link", "must_select", "nodes",
    "read_links", "read_selector", "resolve", "resolve_pairs",
]  # fmt: skip

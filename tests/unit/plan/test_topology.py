"""Topologies: what each grudge must be like, for any number of nodes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from harness.selector import Scene
from harness.topology import (
    Grudge,
    Topology,
    bridge,
    complete_grudge,
    halves,
    invert_grudge,
    isolate,
    links,
    majorities_ring,
    majority_minority,
    one_way,
    pairs,
    random_halves,
    words,
)
from harness.value import PlanError
from tests.unit.plan.strategies import TOPOLOGIES, scenes

SEEDS = st.integers()


def heard(grudge: Grudge, scene: Scene) -> dict[str, frozenset[str]]:
    """Whom each node can talk with, both ways, itself included."""
    cut = links(grudge)
    return {
        node: frozenset(other for other in scene.nodes if not cut & {(node, other), (other, node)})
        for node in scene.nodes
    }


def symmetric(grudge: Grudge) -> bool:
    return all(node in grudge.get(other, ()) for node, others in grudge.items() for other in others)


@given(TOPOLOGIES, scenes(least=5), SEEDS)
def test_every_grudge_cuts_something_and_nobody_from_itself(
    topology: Topology, scene: Scene, seed: int
) -> None:
    try:
        grudge = topology.grudge(scene, random.Random(seed))
    except PlanError as error:  # such as isolate("all"): what is said is tested below
        refusals = ("cuts no link", "more than a minority", "must be left", "no link goes from")
        assert any(text in str(error) for text in refusals)
        return
    assert links(grudge)
    assert all(node not in others for node, others in grudge.items())
    assert {node for pair in links(grudge) for node in pair} <= set(scene.nodes)
    assert all(grudge.values()), "a node that hears everybody bears no grudge"


@given(scenes(least=3, most=25), SEEDS)
def test_majorities_ring(scene: Scene, seed: int) -> None:
    grudge = majorities_ring().grudge(scene, random.Random(seed))
    seen = heard(grudge, scene)
    majority = len(scene.nodes) // 2 + 1
    assert symmetric(grudge)
    assert all(node in others for node, others in seen.items())
    assert all(len(others) >= majority for others in seen.values())
    assert len(set(seen.values())) == len(scene.nodes), "no two nodes see the same majority"
    larger = [node for node, others in seen.items() if len(others) > majority]
    assert len(larger) <= 1, "nobody but one node (odd numbers) sees more than it needs"
    assert all(len(seen[node]) == majority + 1 for node in larger)


def test_majorities_ring_of_five_is_the_ring() -> None:
    scene = Scene(dict.fromkeys(["a", "b", "c", "d", "e"], "node"))
    seen = heard(majorities_ring().grudge(scene, random.Random(3)), scene)
    assert sorted(map(len, seen.values())) == [3] * 5


@given(scenes(least=2), SEEDS)
def test_halves(scene: Scene, seed: int) -> None:
    names = list(scene.nodes)
    middle = len(names) // 2
    assert halves().grudge(scene, random.Random(seed)) == complete_grudge([names[:middle], names[middle:]])
    grudge = random_halves().grudge(scene, random.Random(seed))
    assert symmetric(grudge)
    sides = set(heard(grudge, scene).values())
    assert sorted(map(len, sides)) == sorted([middle, len(names) - middle])


@given(scenes(least=2), SEEDS, st.sampled_from(["one", "random", "minority", "majority", "leader"]))
def test_isolate_leaves_both_sides_somebody(scene: Scene, seed: int, selector: str) -> None:
    grudge = isolate(selector).grudge(scene, random.Random(seed))
    sides = set(heard(grudge, scene).values())
    assert symmetric(grudge)
    assert len(sides) == 2
    assert sum(map(len, sides)) == len(scene.nodes)


@given(scenes(least=3), SEEDS)
def test_majority_minority(scene: Scene, seed: int) -> None:
    seen = heard(majority_minority("leader").grudge(scene, random.Random(seed)), scene)
    assert scene.leader is not None
    assert len(seen[scene.leader]) == max(1, (len(scene.nodes) - 1) // 2)
    assert max(map(len, seen.values())) > len(scene.nodes) / 2


@given(scenes(least=3), SEEDS, st.sampled_from(["one", "leader", "random", "minority", "majority"]))
def test_a_bridge_sees_both_banks(scene: Scene, seed: int, selector: str) -> None:
    grudge = bridge(selector).grudge(scene, random.Random(seed))
    assert symmetric(grudge)
    bridging = set(scene.nodes) - set(grudge)
    banks = {frozenset(others - bridging) for node, others in heard(grudge, scene).items() if node in grudge}
    assert bridging
    assert len(banks) == 2
    assert not frozenset.intersection(*banks)


def test_one_way_drops_the_source_s_bytes_only() -> None:
    scene = Scene(dict.fromkeys(["n1", "n2", "n3"], "node"), "n1")
    grudge = one_way("leader", "followers").grudge(scene, random.Random(0))
    assert grudge == {"n2": frozenset({"n1"}), "n3": frozenset({"n1"})}
    assert links(grudge) == {("n1", "n2"), ("n1", "n3")}
    assert links(pairs(("n1", "n2"), ("n3", "n1")).grudge(scene, random.Random(0))) == {
        ("n1", "n2"),
        ("n3", "n1"),
    }


def test_helpers() -> None:
    assert complete_grudge([["a", "b"], ["c"]]) == {
        "a": frozenset("c"),
        "b": frozenset("c"),
        "c": frozenset("ab"),
    }
    assert invert_grudge({"a": "b", "b": "ac", "c": "b"}) == {"a": frozenset("c"), "c": frozenset("a")}
    with pytest.raises(PlanError, match="one component only"):
        complete_grudge([["a", "b"], ["b"]])
    with pytest.raises(PlanError, match="z are no nodes; the nodes are a, b"):
        invert_grudge({"a": "z", "b": ""})


@given(scenes(least=3), SEEDS)
def test_a_complete_grudge_is_inverted_by_who_hears_whom(scene: Scene, seed: int) -> None:
    grudge = random_halves().grudge(scene, random.Random(seed))
    assert invert_grudge(heard(grudge, scene)) == grudge


def test_words_name_each_cut_pair_once() -> None:
    scene = Scene(dict.fromkeys(["n1", "n2", "n3", "n4", "n5"], "node"))
    ring = invert_grudge({f"n{i + 1}": {f"n{(i + 1) % 5 + 1}", f"n{(i + 4) % 5 + 1}"} for i in range(5)})
    assert words(ring, scene) == "n1 cut from n3, n4; n2 cut from n4, n5; n3 cut from n5"
    split = complete_grudge([["n1", "n4"], ["n2"], ["n3", "n5"]])
    assert words(split, scene) == "n2 | n1, n4 | n3, n5 cut apart"
    bridged = complete_grudge([["n1", "n2"], ["n4", "n5"]])
    assert words(bridged, scene) == "n1, n2 cut from n4, n5"


@pytest.mark.parametrize(
    ("topology", "count", "says"),
    [
        (isolate("all"), 5, r"isolate\('all'\) cuts no link of n1, n2, n3, n4, n5"),
        (isolate("one"), 1, r"needs 2 nodes or more; the nodes are n1"),
        (halves(), 1, r"halves\(\) cuts no link"),
        (majorities_ring(), 2, r"needs 3 nodes or more; the nodes are n1, n2"),
        (bridge("followers"), 3, r"beside n2, n3 two nodes or more must be left"),
        (one_way("n1", "n1"), 3, r"no link goes from n1 to n1"),
        (pairs(("n1", "n9")), 3, r"'n9' is no node; the nodes are n1, n2, n3"),
    ],
)
def test_a_topology_that_would_cut_nothing_is_refused(topology: Topology, count: int, says: str) -> None:
    scene = Scene({f"n{i}": "node" for i in range(1, count + 1)}, "n1")
    with pytest.raises(PlanError, match=says):
        topology.grudge(scene, random.Random(0))

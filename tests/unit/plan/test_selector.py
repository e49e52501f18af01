"""Selectors: what each means, and what they say when they mean nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from harness.selector import DRAWN, WORDS, NoSuchNode, Scene, nodes, resolve, resolve_pairs
from harness.value import PlanError
from tests.unit.plan.strategies import NODES, SELECTORS, scenes

SHOP = Scene({"app1": "app", "app2": "app", "db1": "db", "db2": "db", "db3": "db"}, "db2")


@given(st.sampled_from(WORDS), scenes(least=2), st.integers())
def test_words_mean_sets_of_the_right_size(word: str, scene: Scene, seed: int) -> None:
    count = len(scene.nodes)
    sizes = {
        "one": range(1, 2),
        "minority": range(1, max(1, (count - 1) // 2) + 1),
        "majority": range(count // 2 + 1, count // 2 + 2),
        "random": range(1, count + 1),
        "leader": range(1, 2),
        "followers": range(count - 1, count),
        "all": range(count, count + 1),
    }
    found = resolve(word, scene, random.Random(seed))
    assert len(found) in sizes[word]
    assert list(found) == [node for node in scene.nodes if node in found]


@pytest.mark.parametrize("word", DRAWN)
def test_every_node_can_be_drawn(word: str) -> None:
    scene = Scene(dict.fromkeys(NODES, "node"))
    drawn = {node for seed in range(100) for node in resolve(word, scene, random.Random(seed))}
    assert drawn == set(NODES)


def test_roles_names_and_lists() -> None:
    rng = random.Random(0)
    assert resolve("db", SHOP, rng) == ("db1", "db2", "db3")
    assert resolve("app2", SHOP, rng) == ("app2",)
    assert resolve(nodes("db1", "app1"), SHOP, rng) == ("app1", "db1")
    assert resolve("followers", SHOP, rng) == ("db1", "db3"), "followers have the leader's role"


@pytest.mark.parametrize("word", ["leader", "followers"])
def test_no_leader_yet_is_worth_another_try(word: str) -> None:
    with pytest.raises(NoSuchNode, match=f"'{word}' matches nothing: none of n1, n2 leads now"):
        resolve(word, Scene({"n1": "node", "n2": "node"}), random.Random(0))


def test_an_unknown_selector_lists_nodes_roles_and_words() -> None:
    with pytest.raises(PlanError) as caught:
        resolve("leadr", SHOP, random.Random(0))
    assert str(caught.value) == (
        "unknown selector 'leadr'; choose a node (app1, app2, db1, db2, db3), a role (app, db), "
        'one of one, minority, majority, random, leader, followers, all, or nodes("app1", ...)'
    )
    assert not isinstance(caught.value, NoSuchNode)
    with pytest.raises(PlanError, match="'n9' is no node; the nodes are app1"):
        resolve(nodes("app1", "n9"), SHOP, random.Random(0))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"n1": "leader"}, "role 'leader' has the name of a selector"),
        ({"all": "node"}, "node 'all' has the name of a selector"),
        ({"client": "node"}, "node 'client' has the name of a selector"),
        ({"db": "db", "n1": "db"}, "'db' is both a node and a role"),
    ],
)
def test_names_that_could_mean_two_things_are_refused(members: dict[str, str], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        Scene(members)


def test_a_leader_must_be_a_node() -> None:
    with pytest.raises(PlanError, match="leader 'n9' is none of the nodes n1, n2"):
        Scene({"n1": "node", "n2": "node"}, "n9")


@given(SELECTORS | st.just("client"), SELECTORS | st.just("client"), st.integers())
def test_drawn_ends_of_a_link_always_meet(source: str | nodes, target: str | nodes, seed: int) -> None:
    scene = Scene(dict.fromkeys(NODES, "node"), "n2")
    try:
        pairs = resolve_pairs(source, target, scene, random.Random(seed))
    except PlanError as error:
        assert "no link goes from" in str(error)
        assert source not in DRAWN
        assert target not in DRAWN
    else:
        assert pairs
        assert all(a != b for a, b in pairs)

"""Plans are data: Python, JSON and random choices come back as they went."""

from __future__ import annotations

import json
import pkgutil
import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

import harness
from harness.condition import event, leader_elected, read_condition, until
from harness.faults import (
    FAULTS,
    Resolved,
    bandwidth,
    clock_drift,
    clock_jump,
    clock_scramble,
    clock_strobe,
    cpu_limit,
    disk_full,
    fault,
    kill,
    latency,
    limit_data,
    memory_limit,
    message_corrupt,
    message_delay,
    message_drop,
    message_duplicate,
    message_reorder,
    packet_corrupt,
    packet_delay,
    packet_duplicate,
    packet_loss,
    packet_rate,
    packet_reorder,
    partition,
    pause,
    read_fault,
    reset_peer,
    slicer,
    slow_close,
    timeout,
)
from harness.plan import Plan, at, every, when
from harness.seed import stream
from harness.selector import WORDS, Scene, Selector, link, nodes
from harness.topology import TOPOLOGIES, halves, isolate, majority_minority, one_way, pairs, read_topology
from harness.value import PlanError
from tests.unit.plan import strategies
from tests.unit.plan.strategies import NODES, namespace

SCENE = Scene(dict.fromkeys(NODES, "node"), "n2")


def wound(context: object) -> None:
    """A fault of one's own."""


def cure(context: object) -> None:
    """The end of it."""


@given(strategies.plans())
def test_a_plan_is_the_python_it_prints(plan: Plan) -> None:
    again = eval(repr(plan), namespace())
    assert again == plan
    assert hash(again) == hash(plan)
    assert repr(again) == repr(plan)


@given(strategies.plans())
def test_a_plan_comes_back_from_its_json(plan: Plan) -> None:
    again = Plan.from_json(json.loads(plan.canonical()))
    assert again == plan
    assert again.canonical() == plan.canonical()


@given(strategies.TOPOLOGIES, strategies.FAULTS, strategies.CONDITIONS)
def test_parts_come_back_from_their_json(topology: Any, planned: Any, condition: Any) -> None:
    assert read_topology(topology.to_json()) == topology
    assert read_fault(planned.to_json()) == planned
    assert read_condition(condition.to_json()) == condition


def test_numbers_are_canonical_whatever_was_written() -> None:
    assert latency("n1", 1, jitter=0).canonical() == latency("n1", 1.0, jitter=0.0).canonical()
    assert bandwidth("n1", 2000.0).canonical() == bandwidth("n1", 2000).canonical()  # type: ignore[arg-type]
    assert Plan(at(2, kill("n1"), lasts=3)) == Plan(at(2.0, kill("n1"), lasts=3.0), end=5)
    assert every(5, pause("n1"), lasts=1) == every(5, pause("n1"), lasts=1, start=5)
    assert reset_peer("n1", -0.0).canonical() == reset_peer("n1").canonical()


def test_the_plan_of_the_readme_prints_as_it_is_written() -> None:
    slow = "at(8, latency('leader', 0.2, jitter=0.05), lasts=3)"
    text = f"Plan(at(2, partition(isolate('leader')), lasts=4), {slow})"
    assert repr(eval(text, namespace())) == text


def test_every_name_of_a_plan_is_importable_from_the_package() -> None:
    names = ["PlanError", "at", "event", "every", "leader_elected", "link", "nodes", "restarted", "until"]
    names += ["Plan", "when", *(kind.__name__ for kind in (*FAULTS, *TOPOLOGIES))]
    assert set(names) <= set(harness.__all__)
    made = {**namespace(), "PlanError": PlanError}
    assert [name for name in names if getattr(harness, name) is not made[name]] == []
    submodules = {module.name for module in pkgutil.iter_modules(harness.__path__)}
    assert submodules & set(harness.__all__) == set(), "once imported, a submodule hides the name it shares"


def test_a_history_header_may_carry_the_repr_beside_the_plan() -> None:
    plan = Plan(at(1, kill("leader"), lasts=2), name="x")
    assert Plan.from_json({"repr": repr(plan), **plan.to_json()}) == plan


def test_a_fault_of_ones_own_is_written_by_name_and_refuses_to_load() -> None:
    own = fault(wound, heal=cure)
    assert own.to_json() == {"kind": "fault", "name": "wound"}
    assert eval(repr(own), {**namespace(), "wound": wound, "cure": cure}) == own
    named = fault(lambda chaos: None, name="prick")
    assert repr(named).endswith("name='prick')")
    assert (own.instant, named.instant) == (False, True)
    plan = Plan(at(1, own, lasts=1), at(2, named))
    assert plan.own_fault("prick") is named
    with pytest.raises(PlanError, match="'wound' is made of functions and cannot be loaded"):
        Plan.from_json(plan.to_json())
    with pytest.raises(PlanError, match="no fault of its own named 'bite'; it has wound, prick"):
        plan.own_fault("bite")
    with pytest.raises(PlanError, match="two different faults are named 'wound'"):
        Plan(at(1, own, lasts=1), at(2, fault(wound, heal=cure, verify=cure), lasts=1))


@given(strategies.FAULTS, strategies.scenes(), st.integers())
def test_the_same_stream_draws_the_same_nodes(planned: Any, scene: Scene, seed: int) -> None:
    def resolve() -> Resolved | str:
        try:
            return planned.resolve(scene, stream(seed, "test", "plan", 0))  # type: ignore[no-any-return]
        except PlanError as error:
            return str(error)

    first = resolve()
    assert resolve() == first
    if isinstance(first, Resolved):
        assert Resolved.from_json(json.loads(json.dumps(first.to_json()))) == first
        assert first.nodes and set(first.nodes) <= set(scene.nodes)
        assert len(set(first.links)) == len(first.links)
        assert all(a != b and {a, b} <= {*scene.nodes, "client"} for a, b in first.links)
        assert read_fault(first.spec) == planned


def test_other_streams_draw_other_nodes() -> None:
    seen = {kill("one").resolve(SCENE, stream(seed, "plan", 0)).nodes for seed in range(100)}
    assert seen == {(node,) for node in NODES}


# ---------------------------------------------------------------------------- what resolves to what


@pytest.mark.parametrize(
    ("planned", "what"),
    [
        (partition("leader"), "n2 cut from n1, n3, n4, n5"),
        (partition(isolate(nodes("n5", "n1"))), "n1, n5 | n2, n3, n4 cut apart"),
        (partition("n4", clients=True), "n4 cut from n1, n2, n3, n5; n4 cut from clients"),
        (partition(halves()), "n1, n2 | n3, n4, n5 cut apart"),
        (partition(one_way("leader", "followers")), "n1, n3, n4, n5 hear nothing from n2"),
        (partition(one_way("n1", "n3")), "n3 hears nothing from n1"),
        (
            partition(pairs(("n1", "n2"), ("n2", "n1"), ("n1", "n3"))),
            "n1 cut from n2; n3 hears nothing from n1",
        ),
        (latency("n3", 0.2, jitter=0.05), "links of n3 slowed by 0.2 s ± 0.05 s"),
        (latency(nodes("n1", "n3"), 1, clients=True), "links and clients of n1, n3 slowed by 1 s"),
        (latency(link("n1", "n2"), 0.2), "link n1→n2 slowed by 0.2 s"),
        (
            bandwidth(link("leader", nodes("n1", "n2", "n3")), 5000),
            "links n2→n1, n2→n3 limited to 5000 bytes/s",
        ),
        (packet_loss("n1", 0.25), "links of n1 lose 25 % of their packets"),
        (packet_delay("n1", 0.2, 0.05), "links of n1 delay packets by 0.2 s ± 0.05 s"),
        (packet_reorder("n1", 0.25), "links of n1 reorder 25 % of their packets"),
        (packet_duplicate("n1", 0.25), "links of n1 duplicate 25 % of their packets"),
        (packet_corrupt("n1", 0.25), "links of n1 corrupt 25 % of their packets"),
        (packet_rate("n1", 5000), "links of n1 carry 5000 bytes/s of packets"),
        (message_drop("n1", 0.25, clients=True), "links and clients of n1 lose 25 % of their messages"),
        (message_duplicate("n1", 1), "links of n1 deliver 100 % of their messages twice"),
        (message_corrupt(link("n1", "n2"), 0.5), "link n1→n2 flip a bit in 50 % of their messages"),
        (message_reorder("n1", 0.1), "links of n1 hold 10 % of their messages for 0.05 s"),
        (message_delay("n1", 0.2, jitter=0.1), "links of n1 deliver messages 0.2 s ± 0.1 s late"),
        (reset_peer("n1"), "links of n1 reset at the next byte"),
        (reset_peer(link("client", "n1"), 0.5), "link client→n1 reset 0.5 s after the next byte"),
        (slicer("n1", 64, 16, 0.01), "links of n1 sliced into pieces of 64 ± 16 bytes, 0.01 s apart"),
        (limit_data("n1", 4096), "links of n1 closed after 4096 bytes"),
        (slow_close("n1", 0.5), "links of n1 close 0.5 s late"),
        (timeout("n1", 0), "links of n1 swallow every byte"),
        (timeout("n1", 2), "links of n1 swallow every byte and close after 2 s without any"),
        (kill(nodes("n4", "n1")), "n1, n4 killed"),
        (pause("leader"), "n2 paused"),
        (cpu_limit(nodes("n3", "n1"), 0.25), "n1, n3 limited to 0.25 CPUs"),
        (memory_limit("leader", 64 << 20), "n2 limited to 67108864 bytes of memory"),
        (disk_full("n4"), "n4 without a free byte on the data volume"),
        (clock_jump("leader", -2), "n2 2 s behind"),
        (clock_jump("n1", 0.5, monotonic=True), "n1 0.5 s ahead, monotonic ones too"),
        (clock_drift("n1", -0.02), "n1 with clocks that go 2 % too slow"),
        (
            clock_strobe("n1", 0.2, 0.01),
            "n1 by turns 0.2 s ahead and true, each for 0.01 s",
        ),
        (fault(wound), "wound"),
    ],
)
def test_a_resolved_fault_says_what_it_is(planned: Any, what: str) -> None:
    assert planned.resolve(SCENE, random.Random(0)).what == what


def test_a_selector_means_all_links_of_the_node_and_a_link_one_direction() -> None:
    rng = random.Random(0)
    around = {(a, b) for a in NODES for b in NODES if a != b and "n3" in (a, b)}
    assert set(latency("n3", 1).resolve(SCENE, rng).links) == around
    entries = {("client", "n3"), ("n3", "client")}
    assert set(latency("n3", 1, clients=True).resolve(SCENE, rng).links) == around | entries
    assert latency(link("n3", "n1"), 1).resolve(SCENE, rng).links == (("n3", "n1"),)
    assert latency(link("n3", "client"), 1).resolve(SCENE, rng).links == (("n3", "client"),)
    everything = latency("all", 1).resolve(SCENE, rng).links
    assert len(everything) == len(set(everything)) == 20


def test_parameters_are_the_plain_numbers_of_the_fault() -> None:
    resolved = slicer("n1", 64, 16, 0.01).resolve(SCENE, random.Random(0))
    assert resolved.parameters == {"average_size": 64, "size_variation": 16, "delay": 0.01}
    assert memory_limit("n1", 8e6).resolve(SCENE, random.Random(0)).parameters == {"bytes": 8_000_000}  # type: ignore[arg-type]
    assert timeout("n1", 2).resolve(SCENE, random.Random(0)).parameters == {"timeout": 2.0}


def test_a_message_fault_draws_the_seed_of_its_choices_with_its_nodes() -> None:
    planned = message_drop("one", 0.5)
    first, same, other = (planned.resolve(SCENE, stream(seed, "plan", 0)) for seed in (1, 1, 2))
    assert first == same and set(first.parameters) == {"probability", "seed"}
    assert first.parameters["seed"] != other.parameters["seed"] > 0
    assert Resolved.from_json(first.to_json()) == first


def test_a_scramble_draws_an_offset_for_each_node() -> None:
    planned = clock_scramble("all", 5)
    first, same, other = (planned.resolve(SCENE, stream(seed, "plan", 0)) for seed in (1, 1, 2))
    assert first == same != other
    offsets = [first.parameters[node] for node in NODES]
    assert len(set(offsets)) == len(NODES) and all(0.001 <= abs(offset) <= 5 for offset in offsets)
    assert {offset < 0 for offset in offsets + [other.parameters[node] for node in NODES]} == {True, False}
    assert f"n1 {abs(offsets[0]):g} s {'ahead' if offsets[0] > 0 else 'behind'}" in first.what
    assert Resolved.from_json(first.to_json()) == first


def test_one_way_cuts_no_byte_the_other_way() -> None:
    resolved = partition(one_way("n1", nodes("n2", "n3"))).resolve(SCENE, random.Random(0))
    assert set(resolved.links) == {("n1", "n2"), ("n1", "n3")}
    assert resolved.grudge == {"n2": frozenset({"n1"}), "n3": frozenset({"n1"})}


# ---------------------------------------------------------------------------- what cannot be


def _bad(make: str) -> str:
    with pytest.raises(PlanError) as caught:
        eval(make, {**namespace(), "wound": wound, "cure": cure})
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        ("latency('n1', -1)", "latency: delay is -1, but must be seconds, at least 0.001"),
        ("latency('n1', 0)", "at least 0.001"),
        ("latency('n1', '1')", "delay is '1'"),
        ("latency('n1', True)", "delay is True"),
        ("latency('n1', float('nan'))", "delay is nan"),
        ("latency('n1', float('inf'))", "delay is inf"),
        ("latency('n1', 10**400)", "delay is 1000"),
        ("latency('n1', 0.1, jitter=0.2)", "jitter is 0.2, but must be seconds (no more than the delay)"),
        ("latency('n1', 0.1, clients=1)", "clients is 1, but must be True or False"),
        ("latency(3, 0.1)", "latency: selector is 3, but must be a node, a role, one of " + ", ".join(WORDS)),
        ("latency('', 0.1)", "selector is ''"),
        ("latency(link('n1', 'n2'), 0.1, clients=True)", 'link("client", "n1")'),
        ("kill(link('n1', 'n2'))", "kill: selector is link('n1', 'n2')"),
        ("link('client', 'client')", "where the source is 'client'"),
        ("cpu_limit('n1', 0)", "cpu_limit: cpus is 0, but must be CPUs, at least 0.01"),
        ("cpu_limit(link('n1', 'n2'), 1)", "cpu_limit: selector is link('n1', 'n2')"),
        ("memory_limit('n1', 1000)", "bytes is 1000, but must be a whole number of bytes, at least 6291456"),
        ("memory_limit('n1', 1e7 + 0.5)", "bytes is 10000000.5"),
        ("disk_full(3)", "disk_full: selector is 3"),
        ("clock_jump('n1', 0)", "offset is 0, but must be seconds, of a size of at least 0.001 and at most"),
        ("clock_jump('n1', float('nan'))", "offset is nan"),
        ("clock_jump('n1', 10**400)", "offset is 1000"),
        ("clock_jump('n1', 1, monotonic=1)", "monotonic is 1, but must be True or False"),
        ("clock_drift('n1', -1)", "rate is -1, but must be seconds in a second"),
        ("clock_strobe('n1', 1, 0)", "period is 0, but must be seconds, at least 0.001"),
        ("clock_scramble('n1', 0.001)", "within is 0.001, but must be seconds, at least 0.01"),
        ("clock_scramble(link('n1', 'n2'), 1)", "clock_scramble: selector is link('n1', 'n2')"),
        ("bandwidth('n1', 999)", "rate is 999, but must be a whole number of bytes a second, at least 1000"),
        ("bandwidth('n1', 1000.5)", "rate is 1000.5"),
        ("packet_loss('n1', 0)", "probability is 0, but must be a probability, at least 0.002 and at most 1"),
        ("packet_loss('n1', 1.01)", "at most 1"),
        ("message_drop('n1', 0.001)", "probability is 0.001, but must be a probability, at least 0.002"),
        ("message_corrupt('n1', 1.5)", "at most 1"),
        ("message_reorder('n1', 0.95)", "at most 0.9"),
        ("message_reorder('n1', 0.5, hold=0)", "hold is 0, but must be seconds, at least 0.001"),
        ("message_delay('n1', 0)", "delay is 0, but must be seconds, at least 0.001"),
        ("message_delay('n1', 0.1, jitter=0.2)", "jitter is 0.2, but must be seconds (no more"),
        ("slicer('n1', 0)", "average_size is 0"),
        ("slicer('n1', 10, 10)", "size_variation is 10, but must be less than average_size, which is 10"),
        ("limit_data('n1', -1)", "bytes is -1"),
        ("slow_close('n1', 0.0001)", "delay is 0.0001"),
        ("timeout('n1', 0.0004)", "0 (for ever) or at least 0.001 seconds"),
        ("reset_peer('n1', -1)", "timeout is -1"),
        ("partition(3)", "partition: 3 is neither a topology nor a selector; "),
        ("partition(kill('n1'))", "neither a topology nor a selector"),
        ("partition(halves(), clients=True)", "use isolate, not halves()"),
        ("isolate(['n1'])", 'nodes("n1", ...)'),
        ("nodes()", "one or more different names"),
        ("nodes('n1', 'n1')", "one or more different names"),
        ("pairs()", 'such as ("n1", "n2")'),
        ("pairs(('n1', 'n1'))", "different pairs of two nodes"),
        ("pairs('n1', 'n2')", "different pairs of two nodes"),
        ("majority_minority('all')", "no more than a minority"),
        ("fault(3)", "fault: inject is 3, but must be a function"),
        ("fault(wound, heal=3)", "heal is 3, but must be a function of the chaos context, or None"),
        ("fault(lambda chaos: None)", 'name="..."'),
        ("at(-1, kill('n1'))", "time is -1, but must be seconds since the plan began, at least 0"),
        ("at(1, kill('n1'), lasts=0)", "lasts is 0, but must be seconds or until(...), more than 0"),
        ("at(1, kill('n1'), lasts='1')", "lasts is '1'"),
        ("at(1, 'n1')", "at: fault is 'n1', but must be a fault: partition(...), latency(...)"),
        ("at(1, kill)", "but must be a fault"),
        ("at(1, restart('n1'), lasts=1)", "restart('n1') is over at once; or use kill"),
        ("at(1, fault(wound), lasts=1)", "is over at once; or give it a heal function"),
        ("every(2, kill('n1'), lasts=3)", "lasts is 3.0, but must be no more than the period, which is 2"),
        ("every(2, kill('n1'))", "lasts is None, but must be given, up to the period (2)"),
        ("every(0, restart('n1'))", "period is 0"),
        ("every(1, restart('n1'), start=-1)", "start is -1"),
        ("every(1, restart('n1'), times=0)", "times is 0"),
        ("every(2, kill('n1'), lasts=until(leader_elected()))", "no more than the period"),
        ("when('leader', kill('n1'))", "but must be one of leader_elected(...), restarted(...), event"),
        ("when(leader_elected(), kill('n1'), after=-1)", "after is -1"),
        ("when(leader_elected(), kill('n1'), times=0)", "times is 0"),
        ("leader_elected('one')", "it is matched, not drawn"),
        ("restarted('leader')", "it is matched, not drawn"),
        ("event('')", "the kind of a node event"),
        ("event('role', term=[1])", "term is [1], but must be text, a number"),
        ("until(kill('n1'))", "condition is kill('n1')"),
        ("until(leader_elected(), at_most=0)", "at_most is 0"),
        ("Plan(kill('n1'))", "entry 1 is kill('n1'), but must be one of at(...), every(...), when(...)"),
        ("Plan(name=3)", "name is 3"),
        ("Plan(at(1, kill('n1'), lasts=4), end=3)", "no less than its entries need, at least 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_where_it_is_written(make: str, says: str) -> None:
    assert says in _bad(make)


KILL = {"kind": "kill", "selector": "n1"}
NODE_TWICE = {"kind": "event", "name": "x", "fields": {"node": 1}}
FAULT_NAMES = ", ".join(kind.__name__ for kind in FAULTS)
TOPOLOGY_NAMES = ", ".join(kind.__name__ for kind in TOPOLOGIES)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"kind": "earthquake"}, f"unknown fault 'earthquake'; choose from {FAULT_NAMES}"),
        ({}, f"has no kind; it is an object with a kind of {FAULT_NAMES}"),
        (3, f"has no kind; it is an object with a kind of {FAULT_NAMES}"),
        (
            {"kind": "latency", "selector": "n1", "dealy": 1},
            "latency has no field 'dealy'; it has selector, delay, jitter, clients",
        ),
        (
            {"kind": "latency", "selector": "n1"},
            "latency lacks the field 'delay'; it has selector, delay, jitter",
        ),
        ({"kind": "latency", "selector": 3, "delay": 1}, "selector 3 has no kind"),
        ({"kind": "kill", "selector": {"kind": "link"}}, "unknown selector 'link'; choose from nodes"),
        ({"kind": "kill", "selector": {"kind": "nodes", "names": "n1"}}, "the list 'names'"),
        (
            {"kind": "partition", "topology": {"kind": "ring"}},
            f"unknown topology 'ring'; choose from {TOPOLOGY_NAMES}",
        ),
        ({"kind": "partition", "topology": {"kind": "pairs", "pairs": [["n1"]]}}, "pairs of two nodes"),
        (
            {"kind": "partition", "topology": {"kind": "halves", "n": 1}},
            "halves has no field 'n'; it has none",
        ),
    ],
)
def test_json_that_says_nothing_lists_the_choices(data: Any, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        read_fault(data)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"kind": "Plan"}, "entries is None, but must be a list"),
        ({"kind": "Plan", "entries": [{"kind": "on"}]}, "unknown entry 'on'; choose from at, every, when"),
        ({"kind": "Plan", "entries": [], "seed": 1}, "Plan has no field 'seed'; it has entries, name, end"),
        ({"kind": "plan"}, "unknown plan 'plan'; choose from Plan"),
        ([], "has no kind"),
        (
            {"kind": "Plan", "entries": [{"kind": "at", "time": 1, "fault": KILL, "lasts": {"kind": "to"}}]},
            "unknown lasts 'to'; choose from until",
        ),
        (
            {"kind": "Plan", "entries": [{"kind": "when", "condition": {"kind": "moon"}, "fault": {}}]},
            "unknown condition 'moon'; choose from leader_elected, restarted, event",
        ),
        (
            {"kind": "Plan", "entries": [{"kind": "when", "condition": NODE_TWICE, "fault": {}}]},
            "event needs a name, and an object",
        ),
    ],
)  # fmt: skip
def test_a_plans_json_that_says_nothing_lists_the_choices(data: Any, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.from_json(data)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "part", ["kind", "nodes", "links", "grudge", "parameters", "what", "spec", "instant"]
)
def test_a_resolved_fault_that_is_damaged_does_not_load(part: str) -> None:
    whole = partition("leader").resolve(SCENE, random.Random(0)).to_json()
    with pytest.raises(PlanError, match=f"lacks '{part}'"):
        Resolved.from_json({name: value for name, value in whole.items() if name != part})
    if part != "instant":
        with pytest.raises(PlanError, match="cannot be read"):
            Resolved.from_json({**whole, part: 3})
    with pytest.raises(PlanError, match="no 'colour'"):
        Resolved.from_json({**whole, "colour": 3})


def test_a_condition_looks_at_kind_node_and_details() -> None:
    from harness.history import NodeEvent

    elected = NodeEvent(0, "n1", "role", {"role": "leader", "term": 3})
    assert leader_elected().holds(elected, SCENE)
    assert leader_elected(nodes("n1", "n2")).holds(elected, SCENE)
    assert leader_elected("node").holds(elected, SCENE)
    assert not leader_elected("n2").holds(elected, SCENE)
    assert event("role", term=3).holds(elected, SCENE)
    assert not event("role", term=4).holds(elected, SCENE)
    assert not event("role", shard=None).holds(elected, SCENE)
    assert not leader_elected().holds(NodeEvent(0, "n1", "role", {"role": "follower"}), SCENE)
    assert when(leader_elected(), kill("n1"), lasts=until(event("role", node="n1"))).end == 15


def test_a_minority_takes_the_selected_node_and_company() -> None:
    selectors: tuple[Selector, ...] = ("leader", "n2", nodes("n2", "n4"), "one", "minority", "random")
    for selector in selectors:
        for seed in range(30):
            grudge = majority_minority(selector).grudge(SCENE, random.Random(seed))
            assert sorted(len(others) for others in grudge.values()) == [2, 2, 2, 3, 3]
            if selector in ("leader", "n2"):
                assert len(grudge["n2"]) == 3
    with pytest.raises(PlanError, match="are more than a minority, 2 of 5 nodes"):
        majority_minority("followers").grudge(SCENE, random.Random(0))

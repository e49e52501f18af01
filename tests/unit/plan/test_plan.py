"""Plans over a run: ends, repetitions, what does not fit, and replays of what was recorded."""

from __future__ import annotations

import importlib.util
import inspect
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from harness import plans as standard
from harness.condition import leader_elected, until
from harness.faults import (
    Fault,
    fault,
    kill,
    latency,
    packet_loss,
    partition,
    pause,
    restart,
)
from harness.history import Fault as Observed, History
from harness.nemesis.acts import PACKETS
from harness.plan import Plan, at, every, when
from harness.schedule import Schedule
from harness.selector import Scene, link, nodes
from harness.topology import bridge, isolate, one_way
from harness.value import PlanError
from tests.unit.plan import strategies
from tests.unit.plan.strategies import NODES

CLUSTER = dict.fromkeys(NODES, "node")
SCENE = Scene(CLUSTER, "n2")


def times(schedule: Schedule) -> list[tuple[float, object]]:
    return [(step.time, step.lasts) for step in schedule.steps]


def test_a_plan_ends_with_its_last_entry() -> None:
    assert Plan().end == 0
    assert Plan(end=3).end == 3
    assert Plan(at(2, kill("n1"), lasts=4), at(1, restart("n1"))).end == 6
    assert Plan(at(2, kill("n1"))).end == 2
    assert Plan(at(2, kill("n1"), lasts=until(leader_elected(), at_most=3))).end == 5
    assert Plan(every(5, pause("n1"), lasts=2)).end == 17
    assert Plan(every(5, pause("n1"), lasts=2, start=0, times=2)).end == 7
    assert Plan(when(leader_elected(), pause("leader"), lasts=1, after=0.5)).end == 6.5
    assert Plan(at(2, kill("n1"), lasts=4)).run_length() == 8


def test_a_run_of_its_own_length_carries_out_the_plan_once() -> None:
    plan = Plan(at(2, kill("n1"), lasts=4), at(8, latency("n1", 0.2), lasts=3))
    assert times(plan.schedule()) == times(plan.schedule(13)) == [(2, 4), (8, 3)]
    assert times(plan.schedule(25.9)) == [(2, 4), (8, 3)], "whole repetitions only"
    assert times(plan.schedule(26)) == [(2, 4), (8, 3), (15, 4), (21, 3)]
    assert times(Plan(at(0, restart("n1"))).schedule()) == [(0, None)]
    assert Plan().schedule(100) == Schedule()


def test_without_lasts_a_fault_holds_until_the_heal_between_repetitions() -> None:
    plan = Plan(at(1, kill("n1")), at(2, restart("n2")))
    assert times(plan.schedule()) == [(1, None), (2, None)]
    assert times(plan.schedule(8)) == [(1, 3), (2, None), (5, None), (6, None)]


def test_an_open_every_goes_on_in_its_rhythm_for_the_whole_run() -> None:
    plan = Plan(every(5, pause("n1"), lasts=2))
    assert [t for t, _ in times(plan.schedule())] == [5, 10, 15]
    assert [t for t, _ in times(plan.schedule(60))] == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55]
    assert [t for t, _ in times(plan.schedule(7))] == [5], "a run in which it fits once will do"
    counted = Plan(every(1, restart("n1"), times=2))
    assert [t for t, _ in times(counted.schedule(8))] == [1, 2, 5, 6]
    assert [step.repetition for step in counted.schedule(8).steps] == [0, 1, 2, 3]


def test_a_condition_is_waited_for_anew_in_each_repetition() -> None:
    plan = Plan(when(leader_elected(), pause("leader"), lasts=1, after=0.1, times=2, start=1, within=3))
    once, again = plan.schedule(14.2).steps
    assert [once.time, once.expires, once.repetition] == pytest.approx([1, 7.1, 0])
    assert again.time == pytest.approx(8.1)
    assert (again.expires, again.repetition) == (None, 2)
    assert (again.condition, again.after, again.times, again.lasts) == (leader_elected(), 0.1, 2, 1)


@given(strategies.plans(), st.floats(0, 500))
def test_a_schedule_fits_its_run(plan: Plan, more: float) -> None:
    length = plan.run_length() + more
    schedule = plan.schedule(length)
    assert [s.time for s in schedule.steps] == sorted(s.time for s in schedule.steps)
    assert {s.entry for s in schedule.steps} == set(range(len(plan.entries))), "no entry is left out"
    assert len({(s.entry, s.repetition) for s in schedule.steps}) == len(schedule.steps), (
        "no stream is used twice"
    )
    for step in schedule.steps:
        lasts = step.lasts.at_most if isinstance(step.lasts, until) else step.lasts or 0
        assert 0 <= step.time <= length
        assert step.condition is not None or step.time + lasts <= length + 1e-6
        assert step.instant == step.fault.instant


def test_each_fault_of_a_run_has_a_stream_of_its_own_that_the_seed_names() -> None:
    steps = Plan(*(at(t, kill("one"), lasts=0.5) for t in range(20))).schedule().steps
    drawn = [step.resolve(SCENE, 7, "test_x").nodes for step in steps]
    assert drawn == [step.resolve(SCENE, 7, "test_x").nodes for step in steps]
    assert len(set(drawn)) > 1
    assert drawn != [step.resolve(SCENE, 8, "test_x").nodes for step in steps]
    assert drawn != [step.resolve(SCENE, 7, "test_y").nodes for step in steps]
    assert drawn != [step.resolve(SCENE, 7, "test_x", firing=1).nodes for step in steps]


def test_a_plan_longer_than_the_run_says_both_lengths() -> None:
    plan = Plan(at(2, kill("n1"), lasts=4), name="long_one")
    for refuse in (plan.check, plan.run_length, plan.schedule):
        with pytest.raises(
            PlanError, match="plan long_one needs 6 s, but the run lasts 5 s: give the run 8 s"
        ):
            refuse(5)
    assert plan.run_length(6) == 6
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(PlanError, match="more than 0 seconds"):
            plan.run_length(bad)


@pytest.mark.parametrize(
    ("planned", "says"),
    [
        (kill("leadr"), "unknown selector 'leadr'; choose a node (n1, n2, n3, n4, n5), a role (node)"),
        (kill(nodes("n1", "n7")), "'n7' is no node"),
        (latency(link("client", "n7"), 1), "unknown selector 'n7'"),
        (partition(isolate("db")), "unknown selector 'db'"),
        (partition(isolate("all")), "cuts no link"),
        (partition(bridge("followers")), "two nodes or more must be left"),
        (latency(link("n1", "n1"), 1), "no link goes from n1 to n1"),
    ],
)
def test_what_the_cluster_can_never_have_is_found_before_it_starts(planned: Fault, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan(at(1, planned, lasts=1)).check(nodes=CLUSTER)
    assert says in str(caught.value)


def test_conditions_are_checked_against_the_cluster_too() -> None:
    with pytest.raises(PlanError, match="unknown selector 'n7'"):
        Plan(when(leader_elected("n7"), kill("n1"))).check(nodes=CLUSTER)
    with pytest.raises(PlanError, match="unknown selector 'n8'"):
        Plan(at(1, kill("n1"), lasts=until(leader_elected("n8")))).check(nodes=CLUSTER)


def test_what_depends_on_who_leads_is_not_refused_beforehand() -> None:
    Plan(at(1, latency(link("leader", "n1"), 1)), at(1, partition(one_way("n1", "leader")))).check(
        nodes=CLUSTER
    )
    Plan(at(1, kill("followers"))).check(nodes={"n1": "node"})


def test_a_fault_that_the_runtime_lacks_is_refused_with_the_reason() -> None:
    plan = Plan(at(1, packet_loss("leader", 0.1), lasts=2))
    with pytest.raises(PlanError) as caught:
        plan.refuse_unsupported({"packet_loss": "a proxy cannot lose packets"}, "local")
    assert str(caught.value) == (
        "the runtime local has no packet_loss, which at(1, packet_loss('leader', 0.1), lasts=2) asks for: "
        "a proxy cannot lose packets"
    )
    plan.refuse_unsupported({"clock": "no clocks"}, "local")


# ---------------------------------------------------------------------------------------- replay


def test_a_replay_does_again_what_a_history_recorded() -> None:
    plan = Plan(
        at(1, partition("one"), lasts=2),
        at(2, restart("random")),
        at(3, latency("majority", 0.2, clients=True)),
    )
    done = [step.resolve(SCENE, 11, "test_x") for step in plan.schedule().steps]
    asked = [(1.004, 3.1), (2.0, 2.0), (3.2, None)]
    events = []
    for i, (resolved, (begin, end)) in enumerate(zip(done, asked, strict=True)):
        value = {
            "fault": i,
            "kind": resolved.kind,
            "asked": [begin, end],
            "spec": resolved.to_json(),
            "done": True,
        }
        events.append(
            {
                "index": i,
                "time": i,
                "type": "info",
                "process": "nemesis",
                "f": f"start-{resolved.kind}",
                "value": value,
            }
        )
    history = History.from_events(json.loads(json.dumps(events)))
    schedule = Schedule.from_history(reversed(history.faults))
    assert [step.fault for step in schedule.steps] == done
    assert times(schedule) == [(1.004, pytest.approx(2.096)), (2.0, None), (3.2, None)]
    assert [step.instant for step in schedule.steps] == [False, True, False]
    other = Scene(CLUSTER, "n5")
    assert [step.resolve(other, 99, "test_z") for step in schedule.steps] == done, "nothing is drawn again"


def test_a_replay_of_ones_own_fault_finds_its_functions_by_name() -> None:
    own = fault(lambda chaos: None, name="prick")
    plan = Plan(at(1, own))
    (step,) = plan.schedule().steps
    resolved = step.resolve(SCENE, 1, "t")
    observed = Observed(0, "fault", "prick", (1.0, None), 0, 0, spec=resolved.to_json())
    (again,) = Schedule.from_history([observed]).steps
    assert plan.own_fault(again.resolve(SCENE, 1, "t").name) is own


def test_a_fault_recorded_without_its_nodes_cannot_be_replayed() -> None:
    lost = Observed(4, "kill", "", (2.5, None), None, None, error="no leader within 2 s")
    with pytest.raises(
        PlanError, match=r"fault 4 \(kill\) at 2.5 s cannot be replayed.*\(no leader within 2 s\)"
    ):
        Schedule.from_history([lost])
    spec = {**kill("n1").resolve(SCENE, random.Random(0)).to_json(), "kind": "quake"}
    with pytest.raises(PlanError, match="unknown kind 'quake'; choose from partition, latency"):
        Schedule.from_history([Observed(5, "quake", "", (1, None), None, None, spec=spec)])


# ---------------------------------------------------------------------------------------- the catalogue

FAULTS = Path(__file__).parents[3] / "faults"


@pytest.mark.parametrize("name", standard.STANDARD)
@pytest.mark.parametrize("count", [3, 5])
def test_a_standard_plan_is_short_and_fits_any_cluster_with_a_leader(name: str, count: int) -> None:
    make = getattr(standard, name)
    plan = make()
    assert plan == make()
    assert plan.name == name
    assert len((inspect.getdoc(make) or "").splitlines()) == 1
    assert plan.end <= 6
    plan.check(plan.run_length(), {f"n{i}": "node" for i in range(1, count + 1)})
    if name not in ("lossy_links", "jumbled_packets"):
        plan.refuse_unsupported(dict.fromkeys(PACKETS, "no packets"), "local")
    assert Plan.from_json(plan.to_json()) == plan


def test_every_standard_plan_is_in_the_catalogue_once_with_a_line_on_what_it_is_for() -> None:
    found: dict[str, str] = {}
    for file in sorted(FAULTS.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"catalogue_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, value in vars(module).items():
            function = getattr(value, "__wrapped__", None)
            if function is None:
                continue
            assert inspect.signature(function).return_annotation is Plan, f"{file.name}: {name} is no plan"
            assert len((inspect.getdoc(function) or "").splitlines()) == 1, f"{file.name}: {name}"
            assert name not in found, f"{name} is in {found.get(name)} and {file.name}"
            found[name] = file.name
            assert function() == getattr(standard, name)()
    assert set(found) >= set(standard.STANDARD)

"""What `pytest -m chaos` runs here: the replicated store under every plan, and one planted bug."""

from __future__ import annotations

import re

import pytest

from harness import (
    Chaos,
    Plan,
    Violation,
    assert_linearizable,
    assert_no_lost_update,
    assert_no_lost_write,
    assert_recovers,
    at,
    every,
    isolate,
    judge,
    latency,
    message_duplicate,
    message_reorder,
    partition,
    pause,
    register_workload,
    rmw_workload,
    set_workload,
)
from targets.raft_kv import RaftKV, check_raft


@pytest.fixture
def split_then_slow() -> Plan:
    return Plan(
        at(1, partition(isolate("leader")), lasts=2), at(4, latency("leader", 0.2, jitter=0.05), lasts=1.5)
    )


@pytest.mark.chaos(target=RaftKV(nodes=5))
def test_register_survives_a_lost_leader(chaos: Chaos, split_then_slow: Plan) -> None:
    history = chaos.run(register_workload(keys=3, clients=10, total_rate=200), split_then_slow)
    assert_linearizable(history, model="cas-register")
    assert_recovers(history, within=2)


@pytest.mark.chaos(target=RaftKV(nodes=5, audit=True))
def test_register_survives_every_plan(chaos: Chaos, plan: Plan) -> None:
    history = chaos.run(register_workload(keys=3, clients=10, total_rate=200), plan)
    assert_linearizable(history, model="cas-register")
    judge(history, check_raft)


@pytest.fixture
def paused_then_cut_off() -> Plan:
    return Plan(
        at(0.5, pause("leader"), lasts=1), every(2.5, partition(isolate("leader")), lasts=1.5, times=2)
    )


@pytest.mark.chaos(target=RaftKV(nodes=5, lease_reads=True, audit=True))
def test_reads_by_a_lease_are_of_the_last_write(chaos: Chaos, paused_then_cut_off: Plan) -> None:
    history = chaos.run(register_workload(keys=3, clients=10, total_rate=200), paused_then_cut_off)
    assert_linearizable(history, model="cas-register")
    judge(history, check_raft)


@pytest.mark.chaos(target=RaftKV(nodes=5))
def test_no_update_is_lost(chaos: Chaos, split_brain: Plan) -> None:
    assert_no_lost_update(chaos.run(rmw_workload(keys=3, clients=10, total_rate=200), split_brain))


@pytest.mark.chaos(target=RaftKV(nodes=5))
def test_no_acknowledged_write_is_lost(chaos: Chaos, killed_leader: Plan) -> None:
    assert_no_lost_write(chaos.run(set_workload(clients=10, total_rate=200), killed_leader))


@pytest.mark.chaos(target=RaftKV(nodes=5, bug="deposed_reads"))
def test_reads_of_a_deposed_leader_are_convicted(chaos: Chaos, split_brain: Plan) -> None:
    history = chaos.run(
        register_workload(keys=3, clients=10, total_rate=200), split_brain, stop_at_violation=True
    )
    with pytest.raises(Violation, match="not linearizable"):
        assert_linearizable(history, model="cas-register")


@pytest.fixture
def repeated_and_overtaken() -> Plan:
    return Plan(
        at(0.5, message_duplicate("all", 0.3), lasts=3),
        at(1, message_reorder("all", 0.2, hold=0.03), lasts=2),
    )


@pytest.mark.chaos(target=RaftKV(nodes=3, audit=True), runtime="local")
def test_messages_between_nodes_may_come_twice_and_overtake(
    chaos: Chaos, repeated_and_overtaken: Plan
) -> None:
    history = chaos.run(register_workload(keys=3, clients=6, total_rate=150), repeated_and_overtaken)
    assert_linearizable(history, model="cas-register")
    judge(history, check_raft)
    twice, mixed = sorted(history.faults, key=lambda fault: fault.kind)
    assert "duplicated" in twice.proof and "overtaken" in mixed.proof
    assert re.search(r"of \d{3,} of the cluster's own messages \d{2,} duplicated;", twice.healed)
    assert re.search(r"of \d{3,} of the cluster's own messages \d{2,} reordered;", mixed.healed)

"""Raft over many seeds of loss, reordering, cuts, crashes: correct holds, and every planted bug shows."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from harness.verdict import Verdict
from targets.raft_kv.invariants import check_raft
from targets.raft_kv.node.bugs import BUGS
from targets.raft_kv.node.lease import DRIFT
from tests.unit.raft_kv.simulation import Call, Simulation, linearizable

SCRIPTED = {"counts_old_terms"}  # figure 8 needs a script: test_raft_core
BY_NODES = {"forgetful"}  # clients see it too, but in few of these seeds
NEEDS: dict[str, dict[str, Any]] = {"lease_by_wall_clock": {"lease_reads": True, "set_clocks": True}}


def simulate(seed: int, bug: str | None = None, **more: Any) -> tuple[Simulation, Verdict]:
    sim = Simulation(
        seed, bug=bug, nodes=3 if seed % 2 else 5, snapshot_every=15 if seed % 3 == 0 else 10_000,
        loss=0.05 if seed % 4 == 0 else 0.0, stalls=seed % 5 != 0, **more,
    )  # fmt: skip
    sim.crash_while_saving = 0.002
    for number in range(3):
        sim.client(f"c{number}", until=4.0)
    sim.trouble(until=3.0)
    sim.run(6.0)
    return sim, check_raft(sim.history())


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_correct_raft_holds(start: int) -> None:
    done = 0
    for seed in range(start, start + 50):
        sim, verdict = simulate(seed)
        assert verdict.judgement == "valid", f"seed {seed}: {verdict}"
        assert linearizable(sim.calls), f"seed {seed}: not linearizable"
        assert not (lost := sim.lost()), f"seed {seed}: acknowledged and lost: {lost}"
        assert sim.leader() is not None, f"seed {seed}: no leader 3 s after healing"
        done += sum(call.outcome == "ok" for call in sim.calls)
    assert done > 50 * 20  # otherwise nothing was judged


def apart(seed: int) -> dict[str, float]:
    """How fast each node's monotonic clock goes: two differ by `DRIFT` at most."""
    random, slow = Random(f"{seed}/rates"), 1.0 - DRIFT
    return {f"n{i + 1}": random.choice((1.0, slow, random.uniform(slow, 1.0))) for i in range(5)}


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_reads_by_a_lease_hold_whatever_walls_show(start: int) -> None:
    leased = 0
    for seed in range(start, start + 50):
        rates = {name: rate for name, rate in apart(seed).items() if name < "n4" or seed % 2 == 0}
        sim, verdict = simulate(seed, lease_reads=True, set_clocks=True, rates=rates)
        assert verdict.judgement == "valid", f"seed {seed}: {verdict}"
        assert linearizable(sim.calls), f"seed {seed}: not linearizable"
        assert sim.against_leases == [], f"seed {seed}"
        assert sim.leader() is not None, f"seed {seed}: no leader 3 s after healing"
        leased += sum(raft.leased for raft in sim.raft.values())
    assert leased > 50 * 5  # otherwise no lease was judged


def test_a_lease_by_the_wall_clock_holds_while_nobody_sets_it() -> None:
    leased = 0
    for seed in range(50):
        sim, _ = simulate(seed, "lease_by_wall_clock", lease_reads=True)
        assert linearizable(sim.calls), f"seed {seed}: not linearizable"
        leased += sum(raft.leased for raft in sim.raft.values())
    assert leased > 50 * 5


@pytest.mark.parametrize("bug", sorted(set(BUGS) - SCRIPTED))
def test_every_bug_shows(bug: str) -> None:
    for seed in range(200):
        sim, verdict = simulate(seed, bug, **NEEDS.get(bug, {}))
        seen_by_clients = not linearizable(sim.calls) or bool(sim.lost())
        if seen_by_clients or (bug in BY_NODES and verdict.judgement == "invalid"):
            return
    pytest.fail(f"{bug}: nothing in 200 seeds")


def test_the_same_seed_is_the_same_run() -> None:
    first, second = simulate(3)[0], simulate(3)[0]
    assert first.node_events == second.node_events
    assert first.calls == second.calls


def call(f: str, value: object, start: float, end: float, result: object = None) -> Call:
    return Call("c", 0, f, value, start, end, "ok", result)


def test_the_judge_itself() -> None:
    stale = [call("write", "a", 0, 1), call("write", "b", 2, 3), call("read", None, 4, 5, "a")]
    assert not linearizable(stale)
    assert linearizable([*stale[:2], call("read", None, 2.5, 5, "a")])
    assert linearizable([stale[0], Call("c", 0, "write", "b", 2), call("read", None, 4, 5, "b")])
    assert not linearizable([stale[0], call("cas", ["b", "c"], 2, 3)])

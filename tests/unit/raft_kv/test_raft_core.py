"""The core by itself: elections, replication, commits, reads, snapshots, sessions, each rule of the paper."""

from __future__ import annotations

from typing import Any

import pytest

from targets.raft_kv.invariants import check_raft
from targets.raft_kv.node.raft import Message
from targets.raft_kv.node.store import STALE, Store
from tests.unit.raft_kv.simulation import Simulation


def lead(sim: Simulation, name: str) -> None:
    """Let `name` alone stand for election, and win."""
    for raft in sim.raft.values():
        raft.heard = sim.now - 1.0
    sim.raft[name].election_due = sim.now

    def won() -> bool:
        for other, raft in sim.raft.items():
            if other != name:
                raft.election_due = sim.now + 5.0
        return sim.raft[name].role == "leader"

    assert sim.run(3.0, until=won), f"{name} did not win"


def propose(sim: Simulation, name: str, value: str, session: str = "s", number: int = 1) -> None:
    sim.raft[name].propose(("scripted", value), session, number, "write", "k", value)
    sim.step(name)


def converged(sim: Simulation) -> bool:
    applied = {raft.applied for raft in sim.raft.values()}
    return len(applied) == 1 and applied == {raft.log.last for raft in sim.raft.values()}


def test_one_leader_per_term_and_everyone_knows_it() -> None:
    sim = Simulation(1)
    assert sim.run(3.0, until=lambda: {r.leader for r in sim.raft.values()} == {sim.leader()})
    assert check_raft(sim.history()).judgement == "valid"


def test_a_cluster_of_one_serves() -> None:
    sim = Simulation(1, nodes=1)
    lead(sim, "n1")
    propose(sim, "n1", "x")
    answers: list[Any] = []
    sim.back = lambda token, result: answers.append(result)  # type: ignore[method-assign]
    sim.raft["n1"].read("r", "k")
    sim.step("n1")
    assert answers == ["x"]


def test_a_node_that_was_cut_off_does_not_disturb_the_term() -> None:
    sim = Simulation(2)
    lead(sim, "n1")
    term = sim.raft["n1"].term
    sim.isolate("n5")
    sim.run(5.0)
    assert sim.raft["n5"].role == "pre-candidate"
    sim.heal()
    sim.run(1.0)
    assert sim.raft["n1"].role == "leader"
    assert {raft.term for raft in sim.raft.values()} == {term}


def test_a_leader_without_a_majority_steps_down_and_drops_what_waits() -> None:
    sim = Simulation(3)
    lead(sim, "n1")
    sim.isolate("n1")
    propose(sim, "n1", "lost")
    raft = sim.raft["n1"]
    high = raft.timing.election[1]
    started = sim.now
    assert sim.run(2.0, until=lambda: raft.role != "leader")
    assert high - 0.1 <= sim.now - started <= high + 0.1
    assert raft.waiting == {}
    sim.heal()
    assert sim.run(3.0, until=lambda: sim.leader() is not None and converged(sim))


def test_conflicting_entries_are_replaced() -> None:
    sim = Simulation(4)
    lead(sim, "n1")
    sim.isolate("n1")
    for number in range(5):
        propose(sim, "n1", f"lost {number}", number=number)
    sim.run(1.0)
    lead(sim, "n2")
    propose(sim, "n2", "kept", session="t")
    sim.heal()
    assert sim.run(3.0, until=lambda: converged(sim))
    assert {raft.store.registers["k"] for raft in sim.raft.values()} == {"kept"}
    assert check_raft(sim.history()).judgement == "valid"


@pytest.mark.parametrize("bug", [None, "deposed_reads"])
def test_a_cut_off_leader_answers_no_read(bug: str | None) -> None:
    sim = Simulation(5, bug=bug)
    lead(sim, "n1")
    sim.run(0.5)
    sim.isolate("n1")
    answers: list[Any] = []
    sim.back = lambda token, result: answers.append(token)  # type: ignore[method-assign]
    sim.raft["n1"].read("stale?", "k")
    sim.step("n1")
    sim.run(3.0)
    sim.heal()
    sim.run(3.0)
    assert answers == (["stale?"] if bug else [])


def test_one_round_confirms_all_waiting_reads() -> None:
    sim = Simulation(6)
    lead(sim, "n1")
    sim.run(0.5)
    answers: list[Any] = []
    sim.back = lambda token, result: answers.append(token)  # type: ignore[method-assign]
    raft = sim.raft["n1"]
    before = raft.round
    for token in range(50):
        raft.read(token, "k")
    sim.step("n1")
    assert sim.run(1.0, until=lambda: len(answers) == 50)
    assert raft.round - before <= 2


@pytest.mark.parametrize("bug", [None, "counts_old_terms"])
def test_figure_8(bug: str | None) -> None:
    """An entry of an old term on a majority is not committed; who counts it is convicted by its nodes."""
    sim = Simulation(7, bug=bug)
    lead(sim, "n1")
    sim.run(0.5)
    sim.isolate("n1", "n2")
    propose(sim, "n1", "old")  # (a) on n1 and n2 only
    sim.run(0.1)
    sim.crash("n1")
    sim.isolate("n2")
    sim.filter = lambda source, target, message: message[0] != "append"
    lead(sim, "n5")  # (b) n5 leads the next term, and its entry stays its own
    propose(sim, "n5", "newer", session="t")
    sim.crash("n5")
    sim.cut.clear()
    sim.held.clear()
    sim.restart("n1")
    sim.raft["n1"].batch = 1

    def old_only(source: str, target: str, message: Message) -> bool:
        entries = message[4] if message[0] == "append" else ()
        return source != "n1" or all(entry[0] < message[1] for entry in entries)

    sim.filter = old_only
    lead(sim, "n1")  # (c) n1 copies the old entry to n3, nothing of its own term
    sim.run(0.5)
    at = sim.raft["n3"].log.last
    assert sim.raft["n3"].log[at][5] == "old"
    assert (sim.raft["n1"].commit >= at) == (bug is not None)
    sim.crash("n1")
    sim.filter = lambda source, target, message: True
    sim.restart("n5")
    lead(sim, "n5")  # (d) n5's log is newer: it replaces the old entry
    propose(sim, "n5", "last", session="u")
    sim.run(1.0)
    verdict = check_raft(sim.history())
    assert verdict.judgement == ("invalid" if bug else "valid"), verdict
    if bug:
        assert verdict.summary == "no state-machine safety"
        assert verdict.witness is not None and len(verdict.witness.node_events) == 2


@pytest.mark.parametrize("bug", [None, "forgetful"])
def test_restart_within_an_election_does_not_vote_twice(bug: str | None) -> None:
    sim = Simulation(8, bug=bug)
    sim.filter = lambda source, target, message: message[0] != "append"
    lead(sim, "n1")
    sim.run(0.05)
    sim.isolate("n1")
    for name in ("n2", "n3", "n4", "n5"):
        sim.crash(name)
        sim.restart(name)
    sim.filter = lambda source, target, message: True
    lead(sim, "n2")
    assert sim.raft["n2"].term == (1 if bug else 2)
    assert check_raft(sim.history()).judgement == ("invalid" if bug else "valid")


def test_snapshots_bring_a_late_node_up() -> None:
    sim = Simulation(9, snapshot_every=10)
    lead(sim, "n1")
    sim.isolate("n5")
    sim.held.clear()
    for number in range(95):
        propose(sim, "n1", f"v{number}", number=number)
        sim.run(0.02)
    sim.held.clear()
    sim.heal()
    assert sim.run(5.0, until=lambda: converged(sim))
    late = sim.raft["n5"]
    assert late.log.snapshot.index >= 80 and len(late.log.entries) < 20
    assert late.store.registers == {"k": "v94"} and late.store.sessions == {"s": (94, None)}
    sim.crash("n5")
    sim.restart("n5")
    assert sim.raft["n5"].store.registers["k"] in {f"v{n}" for n in range(80, 95)}
    assert sim.run(2.0, until=lambda: converged(sim))
    assert check_raft(sim.history()).judgement == "valid"


def test_a_retried_request_applies_once() -> None:
    store = Store()
    cas = (1, "s", 7, "cas", "k", [None, "a"])
    assert store.apply(cas) is True
    assert store.apply((1, "t", 1, "write", "k", "b")) is None
    assert store.apply(cas) is True  # the answer of the first time, and no effect
    assert store.read("k") == "b"
    assert store.apply((2, "s", 6, "write", "k", "ancient")) == STALE
    assert store.read("k") == "b"
    copy = Store()
    copy.load(store.dump())
    assert copy.apply(cas) is True and copy.read("k") == "b"


def test_double_apply_applies_twice() -> None:
    store = Store("double_apply")
    cas = (1, "s", 7, "cas", "k", [None, "a"])
    assert store.apply(cas) is True
    assert store.apply(cas) is False


def test_the_set_is_read_in_order() -> None:
    store = Store()
    for number, element in enumerate([10, 9, 100, 9]):
        store.apply((1, "s", number, "add", None, element))
    assert store.read(None) == [9, 10, 100]

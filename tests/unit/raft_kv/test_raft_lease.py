"""Leases: when a leader may answer alone, what its followers keep to for it, and which clock says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from targets.raft_kv.node.lease import DRIFT, Lease
from tests.unit.raft_kv.simulation import Simulation
from tests.unit.raft_kv.test_raft_core import lead, propose

LOYAL = 0.3


def led(seed: int, bug: str | None = None) -> tuple[Simulation, list[Any]]:
    """Five nodes that n1 leads, "x" written, and a list that takes the answers of scripted reads."""
    sim = Simulation(seed, bug=bug, lease_reads=True)
    lead(sim, "n1")
    propose(sim, "n1", "x")
    sim.run(0.5)
    answers: list[Any] = []
    sim.back = lambda token, result: answers.append(result)  # type: ignore[method-assign]
    return sim, answers


def read(sim: Simulation, name: str = "n1") -> None:
    sim.raft[name].read("read", "k")
    sim.step(name)


def test_a_lease_counts_from_the_sending_of_what_a_majority_answered() -> None:
    now = 100.0
    lease = Lease(LOYAL, lambda: now)
    assert not lease.holds()
    lease.sending(1)
    now = 100.1
    lease.sending(2)
    assert not lease.holds()
    lease.confirmed(1)
    now = 100.0 + 0.99 * (1 - DRIFT) * LOYAL
    assert lease.holds()
    now = 100.0 + (1 - DRIFT) * LOYAL
    assert not lease.holds()
    lease.confirmed(2)
    assert lease.holds()
    lease.confirmed(1)  # old news
    assert lease.holds()
    now = 100.1 + (1 - DRIFT) * LOYAL
    assert not lease.holds()


@pytest.mark.parametrize("lease_reads", [True, False])
def test_a_lease_answers_without_a_round(lease_reads: bool) -> None:
    sim = Simulation(21, lease_reads=lease_reads)
    lead(sim, "n1")
    propose(sim, "n1", "x")
    sim.run(0.5)
    answers: list[Any] = []
    sim.back = lambda token, result: answers.append(result)  # type: ignore[method-assign]
    before = sim.raft["n1"].round
    read(sim)
    assert answers == (["x"] if lease_reads else [])
    assert sim.raft["n1"].round == before + (not lease_reads)
    assert sim.run(0.2, until=lambda: answers == ["x"])
    assert sim.raft["n1"].status()["leased"] == lease_reads


def test_a_new_leader_answers_only_when_it_knows_what_is_committed() -> None:
    sim, answers = led(22)
    sim.filter = lambda source, target, message: message[0] != "append" or not message[4]  # no entries
    sim.crash("n1")
    lead(sim, "n2")
    sim.run(0.2)
    raft = sim.raft["n2"]
    assert raft.lease is not None and raft.lease.holds()
    read(sim, "n2")
    assert answers == []  # its first entry is not committed
    sim.filter = lambda source, target, message: True
    assert sim.run(1.0, until=lambda: answers == ["x"])


def test_without_an_answer_of_a_majority_the_lease_ends() -> None:
    sim, answers = led(23)
    sim.isolate("n1", "n2")
    sim.run(LOYAL)
    assert sim.raft["n1"].role == "leader"
    read(sim)
    sim.run(2.0)
    assert answers == []


def test_a_process_that_stood_still_looks_at_the_clock_again() -> None:
    """Time passes between the turn's beginning and the read, as where the process was stopped there."""
    sim, answers = led(24)
    sim.pause("n1")
    sim.run(LOYAL)
    read(sim)  # the first that it does: no tick, no message came before
    assert sim.raft["n1"].role == "leader" and answers == []


def test_who_heard_a_leader_neither_votes_for_another_nor_takes_its_term() -> None:
    sim, _ = led(25)
    follower = sim.raft["n3"]
    term, last = follower.term, follower.log.last
    vote = ("vote?", term + 1, False, last, follower.log.term(last))
    heard = follower.heard
    follower.receive("n2", vote, heard + 0.99 * LOYAL)
    assert (follower.term, follower.late) == (term, [])
    follower.receive("n2", vote, heard + 1.01 * LOYAL)
    assert follower.late == [("n2", ("vote!", term + 1, False, True))]


def test_who_starts_waits_before_it_votes() -> None:
    """It may have heard a leader just before it was killed."""
    sim, _ = led(26)
    sim.crash("n3")
    sim.restart("n3")
    began, back = sim.now, sim.raft["n3"]
    last = back.log.last
    for pre in (True, False):
        back.receive("n2", ("vote?", back.term + 1, pre, last, back.log.term(last)), began + 0.99 * LOYAL)
    assert not any(message[3] for _, message in back.late)
    assert back.election_due >= began + LOYAL  # nor does it stand itself
    back.receive("n2", ("vote?", back.term + 1, False, last, back.log.term(last)), began + 1.01 * LOYAL)
    assert back.late[-1][1][3] is True


WALL = "lease_by_wall_clock"


@pytest.mark.parametrize(
    "bug, offset, stale",
    [(None, -2.0, False), (None, 2.0, False), (WALL, 0.0, False), (WALL, 2.0, False), (WALL, -2.0, True)],
)
@pytest.mark.parametrize("clock_first", [True, False])
def test_the_wall_clock_matters_to_the_bug_alone(
    bug: str | None, offset: float, stale: bool, clock_first: bool
) -> None:
    sim, answers = led(27, bug)

    def set_clock() -> None:
        sim.wall_offset["n1"] += offset

    steps: list[Callable[[], None]] = [set_clock, lambda: sim.isolate("n1")]
    for step in steps if clock_first else reversed(steps):
        step()
        sim.run(0.1)
    others = [raft for name, raft in sim.raft.items() if name != "n1"]
    assert sim.run(1.6, until=lambda: any(raft.role == "leader" and raft.commit > 2 for raft in others))
    newer = next(raft.name for raft in others if raft.role == "leader")
    propose(sim, newer, "y", session="t")
    assert sim.run(0.2, until=lambda: sim.raft[newer].store.registers["k"] == "y")
    answers.clear()
    read(sim)
    assert answers == (["x"] if stale else [])
    assert bool(sim.against_leases) == stale
    sim.run(3.0)
    assert sim.raft["n1"].role != "leader"  # this lease ends, too


def test_a_clock_set_forward_costs_the_lease_and_nothing_else() -> None:
    sim, answers = led(28, WALL)
    sim.wall_offset["n1"] = 5.0
    read(sim)
    assert answers == []
    assert sim.run(0.2, until=lambda: answers == ["x"])  # by read index
    read(sim)
    assert sim.raft["n1"].leased == 1  # the next round has brought a lease again

"""What provokes each planted bug of raft_kv so that its clients see it: target, plan, workload, and why."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import (
    Lane,
    Op,
    Plan,
    Workload,
    at,
    clock_jump,
    every,
    isolate,
    latency,
    leader_elected,
    link,
    nodes,
    partition,
    register_workload,
    reset_peer,
    restart,
    until,
    when,
)
from harness.plan import Entry
from targets.raft_kv import RaftKV

CAP = 60.0
"""Seconds that a run with a bug may last; it ends at the first violation."""


@dataclass(frozen=True)
class Scenario:
    """One planted bug and what shows it: `plan` and `workload` on a RaftKV with the fields of `target`.

    `why` says how the plan leads to what a client sees. Under `harmless`, the plan without what provokes the
    bug, even a store with it keeps its promises.
    """

    bug: str
    why: str
    plan: Plan
    workload: Callable[[], Workload]
    target: Mapping[str, Any] = field(default_factory=dict)
    harmless: Plan | None = None

    @property
    def test(self) -> str:
        """The name in the random streams, the same with and without the bug."""
        return f"convict/{self.bug}"

    def store(self, *, correct: bool) -> RaftKV:
        """The store with the bug, or without it."""
        return RaftKV(nodes=5, bug=None if correct else self.bug, **self.target)


# ------------------------------------------------------------------------------------------- workloads


def few_keys() -> Workload:
    """So few registers that each is read and written all the time."""
    return register_workload(keys=3, clients=10, total_rate=200)


def many_keys() -> Workload:
    """So many registers that a lost write is read before the next write of its key hides it.

    And so many clients that a node which is cut off is handed a good number of writes before all of its own
    clients wait.
    """
    return register_workload(keys=120, clients=60, total_rate=300)


def slow_clients() -> Workload:
    """So many clients that a good number of operations is under way although each takes long."""
    return register_workload(keys=20, clients=40, total_rate=300)


def bursts(cycle: float, *windows: tuple[float, float]) -> Workload:
    """Reads all the time; writes in `windows` (from, to) of each `cycle` only, in seconds."""
    keys = [f"k{i + 1}" for i in range(12)]

    def mixed(rng: random.Random) -> Iterator[Op]:
        began = time.monotonic()
        for value in itertools.count(1):
            now = (time.monotonic() - began) % cycle
            if any(begin <= now < end for begin, end in windows):
                yield Op("write", value, rng.choice(keys))
            else:
                yield Op("read", key=rng.choice(keys))

    def reads(rng: random.Random) -> Iterator[Op]:
        while True:
            yield Op("read", key=rng.choice(keys))

    return Workload(
        name="bursts", lanes=(Lane(20, mixed, 60.0), Lane(None, reads, 60.0)),
        final=lambda: (Op("read", key=key) for key in keys), keyed=True,
        checks=("linearizable:cas-register",), model="cas-register", time_limit=0.5,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- scenarios

PAIR, OTHERS = nodes("n1", "n2"), nodes("n3", "n4", "n5")
ROUND = 12.0
"""Seconds that figure 8 takes."""


def figure_8(begin: float) -> tuple[Entry, ...]:
    """One round from `begin` (seconds) on; `PAIR` must be eager, so that one of it leads when another falls.

    Whoever leads falls, since at a slow start that may be one of `OTHERS`. (a) `PAIR` writes what it cannot
    commit; (b) another is elected, cut off at once, and writes, too; (c) `PAIR` meets the rest and copies its
    old writes to a majority; (d) `PAIR` is cut off, the other comes back and alone can be elected. In (b) and
    (c) nobody may commit a write of the later terms.
    """
    return (
        at(begin + 0.2, partition(isolate("leader")), lasts=until(leader_elected(), at_most=1.5)),
        at(begin + 2, partition(isolate(PAIR)), lasts=3.2),
        when(leader_elected(OTHERS), partition(isolate("leader")), lasts=3.5, start=begin + 2, within=3.2),
        when(
            leader_elected(), partition(isolate(PAIR)),
            after=0.5, lasts=2.5, start=begin + 5.2, within=1.5,
        ),
    )  # fmt: skip


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "stale_reads",
        "a node answers from its own store what the others have overwritten, the more so while it is cut off",
        Plan(at(0.5, partition(isolate("leader")), lasts=2)),
        few_keys,
    ),
    Scenario(
        "deposed_reads",
        "a leader that is cut off goes on answering reads after the others elected another",
        Plan(at(0.5, partition(isolate("leader")), lasts=2)),
        few_keys,
    ),
    Scenario(
        "lease_by_wall_clock",
        "the leader's clock is set back, so that its lease seems to hold for seconds more; it is cut off, "
        "the others elect another and write, and its clients still read what it has",
        Plan(
            at(0.5, clock_jump("leader", offset=-5.0), lasts=4),
            at(2, partition(isolate("leader")), lasts=2),
        ),
        few_keys,
        {"lease_reads": True},
        harmless=Plan(at(2, partition(isolate("leader")), lasts=2)),
    ),
    Scenario(
        "early_ack",
        "a leader that is cut off acknowledges writes which the next leader never had",
        Plan(every(2.5, partition(isolate("leader")), lasts=1.5, start=0.5, times=3)),
        many_keys,
    ),
    # The cuts overlap by 0.05 s, so that who comes back hears nothing of the leader that is cut off then.
    Scenario(
        "random_votes",
        "each leader comes back, behind the others, just when the next one is cut off: now and then it is "
        "elected again, and what was committed meanwhile is gone",
        Plan(
            every(2.8, partition(isolate("leader")), lasts=1.45, start=0.5, times=3),
            every(2.8, partition(isolate("leader")), lasts=1.45, start=1.9, times=2),
        ),
        many_keys,
    ),
    Scenario(
        "forgetful",
        "n1 is cut off; the others restart and elect a second leader of the same term; n1, back, takes its "
        "own entries for theirs, since the terms agree; it shows when n1 leads again",
        Plan(
            at(0.5, partition(isolate("leader")), lasts=until(leader_elected(), at_most=4)),
            at(0.6, restart("followers")),
            when(
                leader_elected(), partition(isolate("leader")),
                after=0.7, lasts=1.5, times=2, start=1, within=3.5,
            ),
        ),
        many_keys,
        {"eager": ("n1",)},
    ),
    Scenario(
        "no_truncate",
        "n1, cut off, writes what it cannot commit; back, it keeps that in the place of what the others "
        "committed; it shows when n1 leads again",
        Plan(every(2, partition(isolate("leader")), lasts=1.5, start=0.5, times=3)),
        many_keys,
        {"eager": ("n1",)},
    ),
    Scenario(
        "double_apply",
        "connections break under way with the answers: the retry of a compare-and-set that succeeded fails",
        Plan(
            at(0.3, latency(link("all", "client"), 0.3), lasts=4),
            every(1, reset_peer(link("all", "client")), lasts=0.1, start=1, times=3),
        ),
        slow_clients,
    ),
    Scenario(
        "counts_old_terms",
        "writes of an old term are counted as committed, are read, and then erased by a leader that never "
        "had them (figure 8)",
        Plan(*figure_8(0), *figure_8(ROUND)),
        lambda: bursts(ROUND, (0, 2.7), (4.3, 4.8)),
        {"eager": ("n1", "n2")},
    ),
)  # fmt: skip

BY_BUG: Mapping[str, Scenario] = {scenario.bug: scenario for scenario in SCENARIOS}

__all__ = ["BY_BUG", "CAP", "SCENARIOS", "Scenario", "few_keys"]

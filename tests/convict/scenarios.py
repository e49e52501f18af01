"""What provokes each planted bug of raft_kv so that its clients see it: target, plan, workload, why."""

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
    every,
    isolate,
    latency,
    leader_elected,
    link,
    majority_minority,
    nodes,
    partition,
    register_workload,
    reset_peer,
    restart,
    when,
)
from targets.raft_kv import RaftKV

CAP = 60.0
"""Seconds that a run with a bug may last; it ends at the first violation."""


@dataclass(frozen=True)
class Scenario:
    """One planted bug and what shows it: `plan` and `workload` on a RaftKV with the fields of `target`.

    `why` says in a line how the plan leads to what a client sees.
    """

    bug: str
    why: str
    plan: Plan
    workload: Callable[[], Workload]
    target: Mapping[str, Any] = field(default_factory=dict)

    @property
    def test(self) -> str:
        """The name in the random streams, the same with and without the bug."""
        return f"convict/{self.bug}"

    def store(self, *, correct: bool) -> RaftKV:
        """The store with the bug, or without it."""
        return RaftKV(**{**self.target, "nodes": 5, "bug": None if correct else self.bug})


def many_keys() -> Workload:
    """So many registers that a lost write is read before the next write of its key hides it.

    And so many clients that a node which is cut off is handed a good number of writes before all of its wait.
    """
    return register_workload(keys=120, clients=60, total_rate=300)


def slow_clients() -> Workload:
    """So many clients that a good number of operations is under way although each takes long."""
    return register_workload(keys=20, clients=40, total_rate=300)


def few_keys() -> Workload:
    """So few registers that each is read and written all the time."""
    return register_workload(keys=3, clients=10, total_rate=200)


def bursts(cycle: float, *windows: tuple[float, float]) -> Workload:
    """Reads all the time, and writes in `windows` (from, to) of each `cycle`, in seconds since the first draw."""
    names = [f"k{i + 1}" for i in range(12)]

    def mixed(rng: random.Random) -> Iterator[Op]:
        began = time.monotonic()
        for value in itertools.count(1):
            now = (time.monotonic() - began) % cycle
            writing = any(begin <= now < end for begin, end in windows)
            yield Op("write", value, rng.choice(names)) if writing else Op("read", key=rng.choice(names))

    def reads(rng: random.Random) -> Iterator[Op]:
        while True:
            yield Op("read", key=rng.choice(names))

    return Workload(
        name="bursts", lanes=(Lane(20, mixed, 60.0), Lane(None, reads, 60.0)),
        final=lambda: (Op("read", key=name) for name in names), keyed=True,
        checks=("linearizable:cas-register",), model="cas-register", time_limit=0.5,
    )  # fmt: skip


PAIR = nodes("n1", "n2")

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "stale_reads",
        "a node that is cut off answers reads from its own store while the others write",
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
        "early_ack",
        "a leader that is cut off acknowledges writes which the next leader never had",
        Plan(every(2.5, partition(isolate("leader")), lasts=1.5, start=0.5, times=3)),
        many_keys,
    ),
    Scenario(
        "random_votes",
        "n1 comes back from behind while the next leader is cut off, is elected, and erases what was committed",
        Plan(
            every(4, partition(isolate("leader")), lasts=2.3, start=0.5, times=2),
            at(2.5, partition(isolate("leader")), lasts=2.3),
        ),
        many_keys,
        {"eager": ("n1",)},
    ),
    Scenario(
        "forgetful",
        "n1 is cut off, the others restart and elect a second leader of the same term; n1 keeps what only it wrote in "
        "the place of what they committed, since it has the same term, and leads again",
        Plan(
            at(0.5, partition(isolate("leader")), lasts=3.4),
            at(0.6, restart("followers")),
            every(1.8, partition(isolate("leader")), lasts=1.6, start=4.2, times=2),
        ),
        many_keys,
        {"eager": ("n1",)},
    ),
    Scenario(
        "no_truncate",
        "a leader that was cut off keeps what only it wrote in the place of what the others committed, and leads again",
        Plan(every(2, partition(isolate("leader")), lasts=1.5, start=0.5, times=3)),
        many_keys,
        {"eager": ("n1",)},
    ),
    Scenario(
        "double_apply",
        "answers are lost when connections break: the retried compare-and-set fails, although it had succeeded",
        Plan(
            at(0.3, latency(link("all", "client"), 0.3), lasts=4),
            every(1, reset_peer(link("all", "client")), lasts=0.1, start=1, times=3),
        ),
        slow_clients,
    ),
    Scenario(
        "counts_old_terms",
        "figure 8: n1 and n2 keep writes apart, a later leader keeps others alone, n1 or n2 count the old ones as "
        "committed, the later leader returns and erases them",
        Plan(
            at(1, partition(isolate(PAIR)), lasts=3.2),
            when(leader_elected(nodes("n3", "n4", "n5")), partition(isolate("leader")), lasts=3.5, start=1),
            when(leader_elected(), partition(isolate(PAIR)), after=0.5, lasts=2.5, start=4.2, within=1.5),
        ),
        lambda: bursts(10.7, (0, 1.7), (3.3, 3.8)),
        {"eager": ("n1", "n2")},
    ),
)  # fmt: skip

BY_BUG: Mapping[str, Scenario] = {scenario.bug: scenario for scenario in SCENARIOS}

__all__ = ["BY_BUG", "CAP", "SCENARIOS", "Scenario"]

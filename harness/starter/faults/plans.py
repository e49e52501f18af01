"""Fault plans: each fixture that returns a Plan is one, and `plan` in a test means each of them in turn.

CHANGE: add a fixture, get a plan. `harness.plans` has fourteen to start from.
"""

import pytest

from harness import Plan, at, isolate, kill, latency, partition, pause


@pytest.fixture
def cut_off() -> Plan:
    """A node that nobody hears must not answer from what it knew before."""
    return Plan(at(1, partition(isolate("n2")), lasts=2))


@pytest.fixture
def slow_then_killed() -> Plan:
    """What was acknowledged survives a crash."""
    return Plan(at(1, latency("leader", 0.05), lasts=1), at(2.5, kill("leader"), lasts=0.5))


@pytest.fixture
def paused() -> Plan:
    """A node that stops for a while, as in a long garbage collection, goes on as if nothing had happened."""
    return Plan(at(1, pause("leader"), lasts=1))

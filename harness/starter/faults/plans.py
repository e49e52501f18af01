"""Fault plans: each fixture that returns a Plan is one, and `plan` in a test means each of them in turn.

CHANGE: add a fixture, get a plan. `harness.plans` has fourteen to start from.
"""

import pytest

from harness import Plan, at, isolate, kill, latency, partition


@pytest.fixture
def cut_off() -> Plan:
    """A node that nobody hears must not answer from what it knew before."""
    return Plan(at(1, partition(isolate("n2")), lasts=2))


@pytest.fixture
def slow_then_killed() -> Plan:
    """What was acknowledged survives a crash."""
    return Plan(at(1, latency("leader", 0.05), lasts=1), at(2.5, kill("leader"), lasts=0.5))

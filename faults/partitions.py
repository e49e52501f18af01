"""Plans that cut the network: who still hears whom, and who believes that it leads."""

import pytest

from harness import Plan, plans


@pytest.fixture
def isolated_leader() -> Plan:
    """Stale reads and lost writes of a leader that is alone without knowing it."""
    return plans.isolated_leader()


@pytest.fixture
def split_brain() -> Plan:
    """Two leaders at once, each with company."""
    return plans.split_brain()


@pytest.fixture
def overlapping_majorities() -> Plan:
    """Leaders that only some nodes hear of, since no two nodes see the same majority."""
    return plans.overlapping_majorities()


@pytest.fixture
def bridged_halves() -> Plan:
    """Votes and entries that meet in a single node."""
    return plans.bridged_halves()


@pytest.fixture
def mute_leader() -> Plan:
    """A leader that hears everybody and is heard by nobody."""
    return plans.mute_leader()


@pytest.fixture
def flapping_partition() -> Plan:
    """Logs that diverge again before they were repaired."""
    return plans.flapping_partition()

"""Plans that stop processes: killed, restarted, paused."""

import pytest

from harness import Plan, plans


@pytest.fixture
def killed_leader() -> Plan:
    """Acknowledged writes that were not on enough disks."""
    return plans.killed_leader()


@pytest.fixture
def rolling_restarts() -> Plan:
    """Votes and logs that are read back from disk."""
    return plans.rolling_restarts()


@pytest.fixture
def paused_leader() -> Plan:
    """A leader that wakes up in the past."""
    return plans.paused_leader()

"""Plans that make nodes' wall clocks wrong."""

import pytest

from harness import Plan, plans


@pytest.fixture
def scrambled_clocks() -> Plan:
    """Order by timestamps, and leases that end early."""
    return plans.scrambled_clocks()


@pytest.fixture
def strobing_clock() -> Plan:
    """Time that goes back between two lines of a program."""
    return plans.strobing_clock()


@pytest.fixture
def overdue_leader() -> Plan:
    """A lease that outlives the leadership."""
    return plans.overdue_leader()

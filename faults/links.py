"""Plans that spoil links without cutting them: slow, thin, torn."""

import pytest

from harness import Plan, plans


@pytest.fixture
def slow_leader() -> Plan:
    """Time-outs that are too short, and answers that come after them."""
    return plans.slow_leader()


@pytest.fixture
def thin_links() -> Plan:
    """Replication that falls behind, and messages that arrive in pieces."""
    return plans.thin_links()


@pytest.fixture
def broken_connections() -> Plan:
    """Requests sent again because their answer was lost."""
    return plans.broken_connections()


@pytest.fixture
def lossy_links() -> Plan:
    """Streams that stall, and timers that fire too early."""
    return plans.lossy_links()


@pytest.fixture
def jumbled_packets() -> Plan:
    """What must not depend on the order or the delay of packets."""
    return plans.jumbled_packets()

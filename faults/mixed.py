"""Plans that mix faults, and the one without any."""

import pytest

from harness import Plan, plans


@pytest.fixture
def calm() -> Plan:
    """The test itself: it must pass where nothing goes wrong."""
    return plans.calm()


@pytest.fixture
def storm() -> Plan:
    """Recovery from one fault that meets the next."""
    return plans.storm()

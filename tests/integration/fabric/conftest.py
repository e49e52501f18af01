"""A fabric over five small nodes, on the embedded Toxiproxy server and on the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration.fabric.support import Lab, lab
from tests.integration.proxy.conftest import command_of


@pytest.fixture(scope="session", params=["embedded", "real"])
def shared(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with lab(command_of(request.param)) as made:
        yield made


@pytest.fixture
def five(shared: Lab) -> Iterator[Lab]:
    """Five nodes without a fault; every one that a test leaves is healed."""
    with ExitStack() as stack:
        yield Lab(shared.fabric, shared.nodes, stack)
    shared.fabric.heal_all()

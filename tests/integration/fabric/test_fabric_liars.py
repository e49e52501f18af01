"""A proxy server that stores toxics and applies none, or never removes them, cannot pass for a fault or a
heal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.fabric import Effect, FaultError, Pair
from harness.fabric.loopback import Loopback
from tests.integration.fabric.support import Lab, lab, liar_command

TWO: list[Pair] = [("n1", "n2"), ("n2", "client")]
VERBS: dict[str, Callable[[Loopback], Effect]] = {
    "cut": lambda f: f.cut("x", TWO),
    "latency": lambda f: f.shape("x", TWO, latency=0.05),
    "small latency": lambda f: f.shape("x", TWO, latency=0.002),
    "latency and jitter": lambda f: f.shape("x", TWO, latency=0.05, jitter=0.02),
    "jitter": lambda f: f.shape("x", TWO, jitter=0.03),
    "rate": lambda f: f.shape("x", TWO, rate=1e6),
    "high rate": lambda f: f.shape("x", TWO, rate=1e7),
    "reset_peer": lambda f: f.stream("x", TWO, "reset_peer", timeout=0),
    "late reset_peer": lambda f: f.stream("x", TWO, "reset_peer", timeout=50),
    "slicer": lambda f: f.stream("x", TWO, "slicer", average_size=64),
    "slow slicer": lambda f: f.stream("x", TWO, "slicer", average_size=64, delay=10_000),
    "limit_data": lambda f: f.stream("x", TWO, "limit_data", bytes=10_000),
    "slow_close": lambda f: f.stream("x", TWO, "slow_close", delay=100),
    "long slow_close": lambda f: f.stream("x", TWO, "slow_close", delay=60_000),
    "timeout": lambda f: f.stream("x", TWO, "timeout", timeout=100),
    "timeout for ever": lambda f: f.stream("x", TWO, "timeout", timeout=0),
}


@pytest.fixture(scope="module")
def storing() -> Iterator[Lab]:
    with lab(liar_command("stores"), ("n1", "n2")) as made:
        yield made


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_applies_nothing_is_found_out(storing: Lab, verb: str) -> None:
    with pytest.raises(FaultError, match="did not take effect"):
        VERBS[verb](storing.fabric)
    assert storing.fabric.snapshot() == {}
    assert {len(proxy.toxics) for proxy in storing.fabric._server.proxies().values()} == {0}


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_removes_nothing_is_found_out(verb: str) -> None:
    with lab(liar_command("keeps"), ("n1", "n2")) as made:
        VERBS[verb](made.fabric)
        for _ in range(2):  # asked again it is not gone either
            with pytest.raises(FaultError, match="is not gone"):
                made.fabric.heal("x")
        assert made.fabric.snapshot()[("n1", "n2")] == ("x",)

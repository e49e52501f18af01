"""Redis, unmodified, in containers: what it loses, and what it keeps."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness import (
    Chaos,
    Plan,
    Run,
    Violation,
    assert_no_lost_update,
    assert_no_lost_write,
    at,
    clock_jump,
    isolate,
    kill,
    partition,
    rmw_workload,
    set_workload,
)
from harness.engine import NoEngine, connect
from harness.options import option
from targets.redis import Redis, RedisCompose, RedisSentinel

COMPOSE = Path(__file__).resolve().parents[2] / "targets/redis/docker-compose.yml"


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    """Skip where another runtime is asked for, or no engine answers; in CI there has to be one."""
    if (asked := option(request.config, "runtime")) not in ("auto", "docker", ""):
        pytest.skip(f"redis is an image, and runtime {asked} was asked for")
    try:
        connect().close()
    except NoEngine as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def leader(run: Run, other_than: str | None = None, within: float = 20.0) -> str:
    """Who takes writes by what the nodes say, awaited."""
    deadline = time.monotonic() + within
    while (found := run.cluster.leader()) in (None, other_than):
        assert time.monotonic() < deadline and run.wait(0.05), f"no leader other than {other_than}"
    assert found is not None
    return found


@pytest.mark.chaos(target=RedisSentinel(), runtime="docker")
def test_sentinel_loses_what_a_cut_off_primary_acknowledged(chaos: Chaos) -> None:
    with chaos.running(set_workload(clients=6, total_rate=150)) as run:
        run.wait(0.3)
        first = leader(run)
        with run.fault(partition(isolate("leader"))):
            leader(run, other_than=first)
    with pytest.raises(Violation, match="lost"):
        assert_no_lost_write(run.history)


@pytest.mark.chaos(target=RedisCompose(COMPOSE), runtime="docker")
def test_the_same_system_from_a_compose_file_loses_as_much(chaos: Chaos) -> None:
    plan = Plan(at(0.5, partition(isolate("primary")), lasts=5))
    history = chaos.run(set_workload(clients=6, total_rate=150), plan)
    assert any("restart: unless-stopped of service primary is neutralised" in note for note in history.notes)
    with pytest.raises(Violation, match="lost"):
        assert_no_lost_write(history)


@pytest.mark.chaos(target=Redis(), runtime="docker")
def test_updates_by_get_and_set_are_lost_without_any_fault(chaos: Chaos) -> None:
    history = chaos.run(rmw_workload(keys=1, clients=6, total_rate=None), duration=0.5)
    with pytest.raises(Violation, match="lost"):
        assert_no_lost_update(history)


@pytest.mark.chaos(target=Redis(), runtime="docker")
def test_a_synced_log_keeps_every_write_over_kills(chaos: Chaos) -> None:
    plan = Plan(at(0.5, kill("n1"), lasts=0.3), at(1.5, kill("n1"), lasts=0.3))
    assert_no_lost_write(chaos.run(set_workload(clients=4, total_rate=200), plan, duration=2.5))


@pytest.mark.chaos(target=Redis(), runtime="docker")
def test_a_clock_that_is_set_takes_no_write_away(chaos: Chaos) -> None:
    plan = Plan(at(0.5, clock_jump("n1", 3600), lasts=1.5), at(1, kill("n1"), lasts=0.2))
    history = chaos.run(set_workload(clients=4, total_rate=200), plan, duration=2.5)
    assert_no_lost_write(history)
    (jump,) = [fault for fault in history.faults if fault.kind == "clock_jump"]
    assert "asked +3600.00" in jump.proof, "redis itself says so"

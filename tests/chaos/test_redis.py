"""Redis, unmodified, in containers: what it loses, and what it keeps."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from redis.sentinel import MasterNotFoundError

from harness import (
    Chaos,
    Endpoint,
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
from harness.cluster import SiteCluster
from harness.engine import NoEngine, connect
from harness.options import option
from targets.redis import Redis, RedisCompose, RedisPrimary, RedisSentinel
from targets.redis.client import MASTER, SET, Guide
from targets.redis.target import ask

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


@pytest.mark.chaos(target=RedisPrimary(), runtime="docker")
def test_clients_follow_the_primary_that_sentinel_names(chaos: Chaos) -> None:
    """By the driver's own ways: the clients of every node write, though two of three nodes are replicas."""
    with chaos.running(set_workload(clients=6, total_rate=150)) as run:
        cluster = run.cluster
        assert isinstance(cluster, SiteCluster) and cluster._site is not None
        names = {name for name, _ in cluster.target.members()}
        run.wait(0.5)
        first = leader(run)
        with run.fault(partition(isolate("leader"))):  # clients hear of nothing yet, and write on there
            second = cluster.node(leader(run, other_than=first))
            with run.fault(partition(first, clients=True)):
                for name in sorted(names - {first}):
                    while not named(cluster.node(name), second):
                        assert run.wait(0.05)
                there = added_at_least(run, second, 100)
            assert cluster._site.bypassed() == dict.fromkeys(names, 0)
    adds = [op for op in run.history.operations if op.f == "add" and op.type == "ok"]
    began, gone = sorted(fault.start for fault in run.history.faults if fault.start is not None)
    assert {op.node for op in adds if op.start < began} == names
    assert {op.node for op in adds if op.start > gone and op.value in there} == names - {first}
    with pytest.raises(Violation, match="lost"):
        assert_no_lost_write(run.history)


def named(node: Endpoint, leads: Endpoint) -> bool:
    """Whether the Sentinel beside `node` says that `leads` is the primary."""
    try:
        return Guide(node, 0.5).discover_master(MASTER) == (leads.host, leads.port)
    except MasterNotFoundError:  # it still looks for it
        return False


def added_at_least(run: Run, node: Endpoint, count: int, within: float = 20.0) -> set[int]:
    """The elements that `node` has, once there are so many more than now."""
    deadline, before = time.monotonic() + within, 0
    while True:
        found = {int(element) for element in ask(node, "main", "SMEMBERS", SET)}
        before = before or len(found)
        if len(found) >= before + count:
            return found
        assert time.monotonic() < deadline and run.wait(0.05), f"{node.name} was not written to"


@pytest.mark.chaos(target=RedisCompose(COMPOSE), runtime="docker")
def test_the_same_system_from_a_compose_file_loses_as_much(chaos: Chaos) -> None:
    with chaos.running(set_workload(clients=6, total_rate=150)) as run:
        run.wait(0.5)
        with run.fault(partition(isolate("primary"))):  # the Sentinels may need more than one vote
            deadline = time.monotonic() + 30
            while not any(is_primary(run.cluster.node(name)) for name in ("replica1", "replica2")):
                assert time.monotonic() < deadline and run.wait(0.05), "no replica was made primary"
    notes = run.history.notes
    assert any("restart: unless-stopped of service primary is neutralised" in note for note in notes)
    with pytest.raises(Violation, match="lost"):
        assert_no_lost_write(run.history)


def is_primary(node: Endpoint) -> bool:
    """By its own word."""
    return bool(ask(node, next(iter(node.ports)), "ROLE")[0] == "master")


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

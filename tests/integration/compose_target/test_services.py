"""A Compose file as a running cluster: order, names, volumes, networks, and what is not a node."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cluster import ClusterError
from harness.fabric import FaultUnsupported
from harness.target import TargetError
from tests.integration.cluster.support import Events
from tests.integration.compose_target.conftest import Start
from tests.integration.compose_target.support import Services, addresses, of_run, said, site_of, written

if TYPE_CHECKING:
    from docker import DockerClient

SHOP = """
services:
  app:
    build: REDIS
    command: >
      sh -c 'test "$$(redis-cli -h warehouse get filled)" = yes && test -e /shared/filled
      && exec redis-server --protected-mode no --save ""'
    depends_on:
      fill: {condition: service_completed_successfully}
    environment: {COLOUR: blue}
    volumes: ["shared:/shared", "./conf:/etc/own:ro"]
    deploy: {replicas: 2}
    links: ["store:bank"]
  fill:
    build: REDIS
    command: sh -c 'redis-cli -h store set filled yes && touch /shared/filled && echo all is filled'
    depends_on: {store: {condition: service_healthy}}
    volumes: ["shared:/shared"]
  store:
    build: REDIS
    command: sh -c 'sleep 1; exec redis-server --protected-mode no --save ""'
    healthcheck: {test: redis-cli ping | grep PONG, interval: 200ms}
    hostname: vault
    extra_hosts: ["elsewhere:192.0.2.7"]
    networks: {default: {aliases: [warehouse]}}
    restart: always
    sysctls: {net.ipv4.tcp_keepalive_time: 77}
    configs: [{source: motto, target: /etc/motto, mode: 0440}]
configs:
  motto: {content: keep it}
volumes:
  shared:
"""


def test_a_file_as_people_have_it(start: Start, client: DockerClient, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "own.conf").write_text("of this machine")
    events = Events()
    with start(Services(written(tmp_path, SHOP)), events) as cluster:
        assert [(node.name, node.role) for node in cluster.nodes] == [
            ("app1", "app"), ("app2", "app"), ("store", "store"),
        ]  # fmt: skip

        # order: healthy before the job, the job before those that wait for it
        told = [(node, kind) for node, kind, _ in events.all]
        assert told.index(("store", "ready")) < told.index(("app1", "start"))
        assert events.of("store", "ready")[0]["after"] >= 1
        assert (cluster._directory / "fill.log").read_text() == "OK\nall is filled\n"
        assert events.of("fill", "exit", "start") == []

        # names lead to the true addresses, also the job's own and those of one service only
        true = addresses(cluster)
        for name, node in {"store": "store", "warehouse": "store", "app2": "app2", "bank": "store"}.items():
            assert said(cluster, "app1", f"getent ahostsv4 {name}")[1].split()[0] == true[node]
        assert {said(cluster, "store", "getent hosts app")[1].split()[0]} <= {true["app1"], true["app2"]}
        assert said(cluster, "app1", "redis-cli -h store ping") == (0, "PONG")
        assert said(cluster, "store", "getent hosts bank")[0] != 0

        # and so for a client whose driver is told one of them, unless several nodes have it
        entry = cluster.entry("store")
        for name in ("store", "vault", "warehouse", true["store"]):
            assert entry.reach(name, 6379) == (entry.host, entry.port)
        assert "app" not in {name for name, _ in entry.addresses}

        # what the service says of its container
        assert said(cluster, "store", "hostname; cat /etc/motto; stat -c %a /etc/motto")[1].split("\n") == [
            "vault", "keep it440",
        ]  # fmt: skip
        assert said(cluster, "store", "getent hosts elsewhere")[1].split()[0] == "192.0.2.7"
        assert said(cluster, "store", "cat /proc/sys/net/ipv4/tcp_keepalive_time") == (0, "77")
        assert said(cluster, "app2", "echo $COLOUR; cat /etc/own/own.conf")[1] == "blue\nof this machine"
        assert said(cluster, "app2", "echo no > /etc/own/own.conf")[0] != 0

        # a volume of the run's own, shared by the services
        volumes = of_run(cluster, client.volumes)
        assert len(volumes) == 1 and volumes[0].endswith("-shared")
        assert any("restart: always of service store is neutralised" in note for note in cluster.notes)

        # a node that is killed stays dead until it is started again, and has its files
        said(cluster, "app1", "echo kept > /tmp/kept")
        assert cluster.kill("app1").endswith("refused")
        cluster.restart("app1")
        assert said(cluster, "app1", "cat /tmp/kept") == (0, "kept")
        cluster.await_healthy(10)
        label = site_of(cluster).ground.run.label
    for kind, how in ((client.containers, {"all": True}), (client.networks, {}), (client.volumes, {})):
        assert kind.list(filters={"label": f"nemesis.run={label}"}, **how) == []


def test_a_job_that_fails_ends_the_start(start: Start, tmp_path: Path) -> None:
    text = """
services:
  store:
    build: REDIS
    command: redis-server
    depends_on: {fill: {condition: service_completed_successfully}}
  fill: {build: REDIS, command: "sh -c 'echo no goods; exit 3'"}
"""
    with (
        pytest.raises(ClusterError, match=r"fill exited with code 3, but .*\n.*\n    no goods"),
        start(Services(written(tmp_path, text))),
    ):
        pass


class Impatient(Services):
    ready_within = 3.0


def test_what_is_never_healthy_is_never_ready(start: Start, tmp_path: Path) -> None:
    text = """
services:
  store:
    build: REDIS
    command: redis-server
    healthcheck: {test: "echo far from it; exit 1", interval: 200ms, retries: 2}
"""
    said = r"store was not ready within 3 s .*its health check says unhealthy: far from it"
    with pytest.raises(ClusterError, match=said), start(Impatient(written(tmp_path, text))):
        pass


NETWORKS = """
services:
  store:
    build: REDIS
    command: redis-server --protected-mode no
    networks: [back]
  app: {build: REDIS, command: redis-server --protected-mode no, networks: [front, back]}
  web: {build: REDIS, command: redis-server --protected-mode no, networks: [front]}
networks: {front: , back: {internal: true}}
"""


def test_services_without_a_common_network_never_reach_each_other(
    start: Start, client: DockerClient, tmp_path: Path
) -> None:
    with start(Services(written(tmp_path, NETWORKS))) as cluster:

        def pings(a: str, b: str) -> bool:
            line = f"timeout 1 redis-cli -h {b} ping"
            return said(cluster, a, line) == (0, "PONG")

        def seen() -> dict[str, bool]:
            every = [("app", "store"), ("store", "app"), ("web", "app"), ("web", "store"), ("store", "web")]
            return {f"{a}-{b}": pings(a, b) for a, b in every}

        apart = {
            "app-store": True,
            "store-app": True,
            "web-app": True,
            "web-store": False,
            "store-web": False,
        }
        assert seen() == apart
        # faults come and go on the same links, are proved, and change nothing of it
        links = [("web", "store"), ("store", "web"), ("app", "store"), ("store", "app")]
        cluster.fabric.cut("c", links)
        assert not any(pings(a, b) for a, b in links)
        cluster.fabric.heal("c")
        assert seen() == apart
        # an internal network leads nowhere else: not even a refusal comes back
        bridge = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
        outside = ipaddress.IPv4Network(bridge)[1]  # this machine's own end
        probe = f"timeout 1 bash -c 'exec 3<>/dev/tcp/{outside}/9'"
        code, text = said(cluster, "app", probe)
        assert code == 1 and "Connection refused" in text
        assert said(cluster, "store", probe) == (124, "")
        assert any("services store and web share no network" in note for note in cluster.notes)


BARE = """
services:
  store: {build: REDIS, command: redis-server --protected-mode no}
  worker: {image: "debian:bookworm-slim", command: sleep infinity, init: true, scale: 2}
"""


def test_a_node_without_a_port_has_no_streams_but_all_else(start: Start, tmp_path: Path) -> None:
    with start(Services(written(tmp_path, BARE))) as cluster:
        assert cluster.node("worker1").ports == {}
        both = [("worker1", "worker2")]
        with pytest.raises(FaultUnsupported, match="carries none on worker1→worker2: neither end has a port"):
            cluster.fabric.stream("s", both, "reset_peer", timeout=0)
        assert cluster.fabric.snapshot() == {}
        cluster.fabric.cut("c", both)
        assert cluster.fabric.snapshot() == {both[0]: ("c",)}
        cluster.fabric.heal("c")
        cluster.fabric.stream("s", [("worker1", "store")], "slicer", average_size=100)
        cluster.fabric.heal("s")
        assert "it has no port" in cluster.kill("worker1")
        cluster.restart("worker1")
        assert "process(es) stopped" in cluster.pause("worker2")
        cluster.resume("worker2")
        with pytest.raises(ClusterError, match="worker1 has no TCP port by which client could reach it"):
            cluster.entry("worker1")


BUILT = """
services:
  store:
    build:
      context: .
      target: last
      dockerfile_inline: |
        FROM debian:bookworm-slim AS first
        RUN echo one > /which
        FROM first AS last
        RUN echo ${WORD} > /which
        FROM first AS other
        RUN exit 1
    command: sleep infinity
    init: true
"""


@pytest.fixture
def command_line() -> None:
    """``docker compose``, which builds what the engine's own builder is not told."""
    asked = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("this machine has no `docker compose`")


@pytest.mark.usefixtures("command_line")
def test_the_command_line_builds_where_it_is_there(start: Start, tmp_path: Path) -> None:
    target = Services(written(tmp_path, BUILT), variables={"WORD": "two"})
    with start(target) as cluster:
        assert said(cluster, "store", "cat /which") == (0, "two")
    wrong = Services(written(tmp_path, BUILT.replace("target: last", "target: other")), variables={})
    with pytest.raises(TargetError, match=r"docker compose .* build store ended with code \d+:\n"):
        wrong.build(print)

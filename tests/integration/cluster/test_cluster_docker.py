"""DockerCluster: nodes as containers behind one router; its links, faults, and what it tells of itself."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import Plan
from harness.cluster import ClusterError, FaultError, SiteCluster, docker as runtime
from harness.fabric.layout import API
from harness.fabric.routed import Routed
from harness.images import ensure
from harness.run import Run, Settings
from harness.target import Endpoint, Node, Running
from tests.integration.cluster.engines import boxes, of_run, rules, site, there, within
from tests.integration.cluster.support import (
    Boxed,
    Events,
    addresses_lead,
    ask,
    of_run as processes_of,
    until,
)
from tests.integration.cluster.test_cluster_bypass import ASKING, Asking

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.usefixtures("untouched")
THREE = ("n1", "n2", "n3")
MAJORITY = [("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1")]


@pytest.fixture(scope="module", params=["toxiproxy", "embedded"])
def three(
    client: DockerClient, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SiteCluster]:
    """A cluster with the real proxy server, then one with our own."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "embedded":
            patch.setattr(runtime, "find", lambda client, reference: None)
        with boxes(Boxed(nodes=3, options=("--ticks",)), tmp_path_factory.mktemp("three")) as cluster:
            if request.param == "embedded":
                assert site(cluster).proxy == "the embedded server"
            yield cluster


@pytest.fixture
def fabric(three: SiteCluster) -> Iterator[Routed]:
    routed = three.fabric
    assert isinstance(routed, Routed)
    yield routed
    routed.heal_all()


# ---------------------------------------------------------------------- links and faults


@pytest.mark.parametrize(
    "pairs",
    [[("n1", "n2")], MAJORITY, [("client", "n1"), ("n2", "client")]],
    ids=["one way", "majority", "clients"],
)
def test_a_cut_holds_exactly_its_pairs(
    three: SiteCluster, fabric: Routed, pairs: list[tuple[str, str]]
) -> None:
    effect = fabric.cut("cut", pairs)
    assert effect.mechanism == "iptables DROP" and set(fabric.snapshot()) == set(pairs)
    if ("client", "n1") in pairs:
        with pytest.raises(OSError, match="timed out"):
            ask(three.entry("n1"))
        assert ask(three.entry("n3")) and ask(three.node("n1"))
    assert "0 packets crossed in" in fabric.heal("cut").proof and not fabric.snapshot()
    assert three.await_healthy(10.0) < 10.0
    assert ask(three.entry("n1"))


def test_what_the_proxy_server_holds_does_not_cross_a_cut(fabric: Routed) -> None:
    fabric.shape("slow", [("n1", "n2")], latency=0.3)
    (wire,) = fabric._probes.open([("n1", "n2")])
    for _ in range(50):
        wire.up.send(1000)
    fabric.cut("cut", [("n1", "n2")])
    arrived = wire.up.bytes
    fabric._probes.pump(lambda: False, 0.8)
    assert wire.up.bytes == arrived < 50_000
    fabric.heal("cut")
    assert fabric._probes.pump(lambda: wire.up.settled, 20.0), "TCP sends it again after heal"
    wire.close()
    fabric.heal("slow")


def test_peers_are_reached_by_name_and_seen_at_their_own_addresses(three: SiteCluster) -> None:
    layout, inside = site(three).layout, site(three).inside
    assert within(three, "n1", "getent", "hosts", "n2").split() == [layout.ip("n2"), "n2"]
    assert within(three, "n1", "hostname").strip() == "n1"
    before = three.fabric.counters()["n1", "n2"]
    for port in (layout.ports["n2"]["main"] + 1, 5555):
        with inside["n2"].listening(layout.ip("n2"), port) as listening:
            listening.settimeout(5.0)
            dial = f"import socket; socket.create_connection(('n2', {port}), 5)"
            within(three, "n1", "python3", "-c", dial)
            accepted, (peer, _) = listening.accept()
            accepted.close()
            assert peer == layout.ip("n1")
    ask(three.node("n1"), f"dial n2:{layout.ports['n2']['main']}")  # through the proxy server
    rows = list(site(three).seat(three._members["n2"].node).rows(layout.ports["n2"]["main"]))
    assert rows and three.fabric.counters()["n1", "n2"] > before


def test_what_nodes_advertise_leads_clients_there_through_the_fabric(
    three: SiteCluster, fabric: Routed
) -> None:
    addresses_lead(three)
    entry, port = three.entry("n1"), site(three).layout.ports["n3"]["main"]
    for advertised in ("n3", site(three).layout.ip("n3")):
        host, number = entry.reach(advertised, port)
        there = Endpoint("n3", "node", host, {"main": number})
        assert ask(there)["pid"] == ask(three.node("n3"))["pid"]
        fabric.cut("cut", [("client", "n3")])
        with pytest.raises(OSError, match="timed out"):
            ask(there)
        fabric.heal("cut")


def test_nobody_gets_past_the_router(three: SiteCluster) -> None:
    layout, inside = site(three).layout, site(three).inside
    before = site(three).bypassed()
    with pytest.raises(TimeoutError):  # the host itself
        socket.create_connection((layout.ip("n1"), layout.ports["n1"]["main"]), 0.5)
    for host, port in (
        (layout.router, API),
        (layout.listen("n2", "n3"), layout.ports["n3"]["main"]),
        (layout.upstream("n2", "n3"), layout.ports["n3"]["main"]),
    ):
        with pytest.raises(TimeoutError):
            inside["n1"].connect(host, port, 0.5)
    everybody = f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); \
[s.sendto(b'', (to, 5555)) for to in ('224.0.0.251', '255.255.255.255', '{layout.subnet[255]}')]"
    within(three, "n1", "python3", "-c", everybody)
    assert site(three).bypassed() == before == dict.fromkeys(THREE, 0)


# ---------------------------------------------------------------------- process faults


def test_a_killed_node_comes_back_with_its_data_and_address(three: SiteCluster) -> None:
    within(three, "n1", "sh", "-c", "echo kept >/data/mark; echo lost >/tmp/mark")
    pid, address = three._members["n1"].pid, site(three).layout.ip("n1")
    assert f"pid {pid} reaped" in three.kill("n1")
    with pytest.raises(OSError):
        ask(three.node("n1"))
    assert f"after pid {pid}" in three.restart("n1")
    assert within(three, "n1", "cat", "/data/mark") == "kept\n"
    assert within(three, "n1", "hostname", "-i").split() == [address]
    assert ask(three.entry("n1")) and three.await_healthy(10.0) < 10.0


def test_a_paused_node_goes_on_after_resume_and_never_when_it_is_killed(three: SiteCluster) -> None:
    assert three.pause("n2").startswith("freezer: 1 process(es) stopped, a fresh connection to ")
    with pytest.raises(ClusterError, match="n2 is paused and cannot be paused"):
        three.pause("n2")
    assert three.resume("n2").startswith("freezer off: ")
    three.pause("n2")
    paused = time.monotonic()
    three.kill("n2")
    ticks = [float(line.split()[1]) for line in three.logs["n2"].read_text().splitlines() if "tick" in line]
    assert 0 < ticks[-1] < paused, "it ran for a moment before it died"
    three.restart("n2")


# ---------------------------------------------------------------------- what happens by itself


class Strays(Boxed):
    """n1 speaks to n2 by another way for a moment."""

    client = Asking

    def setup(self, cluster: Running) -> None:
        assert isinstance(cluster, SiteCluster)
        stray(cluster)


def stray(cluster: SiteCluster) -> None:
    """Send a few packets from n1 to n2 round the router."""
    layout, inside = site(cluster).layout, site(cluster).inside
    inside["n1"].run(["ip", "route", "replace", layout.ip("n2"), "dev", "eth0"])
    for port in (layout.ports["n2"]["main"], 5555):
        with pytest.raises(TimeoutError):
            inside["n1"].connect(layout.ip("n2"), port, 0.3)
    inside["n1"].run(["ip", "route", "del", layout.ip("n2")])


def test_packets_past_the_router_are_stopped_counted_and_told(tmp_path: Path) -> None:
    with Run(
        Strays(nodes=2), ASKING, Plan(), Settings(1, "t", tmp_path / "out", "docker", duration=0.5)
    ) as run:
        run.to_end()
    (finding,) = run.history.findings
    assert finding.startswith("n2 was sent ") and "packets past the router" in finding
    (event,) = [event for event in run.history.events if event.kind == "bypass"]
    assert event.node == "n2" and event.detail["packets"] >= 2


def test_each_packet_past_the_router_is_told_once_and_a_lost_guard_is_an_error(tmp_path: Path) -> None:
    events = Events()
    with boxes(Boxed(nodes=2), tmp_path, events=events) as cluster:
        stray(cluster)
        assert site(cluster).bypassed()["n2"] >= 2 and site(cluster).bypassed()["n1"] == 0
        cluster.await_healthy(10.0)
        cluster.await_healthy(10.0)
        (told,) = events.of("n2", "bypass")
        assert told["packets"] == site(cluster).bypassed()["n2"]
        site(cluster).inside["n2"].run(["iptables", "-t", "raw", "-F"])
        with pytest.raises(ClusterError, match="the pod of n2 has lost its guard"):
            cluster.await_healthy(1.0)


def test_the_death_of_proxy_and_router(tmp_path: Path, client: DockerClient) -> None:
    events = Events()
    with boxes(Boxed(nodes=2), tmp_path, events=events) as cluster:
        layout, inside = site(cluster).layout, site(cluster).inside
        entry = cluster.entry("n1")
        assert ask(entry)
        client.containers.get(site(cluster).made.name("router.proxy")).kill()
        assert events.wait("proxy", "exit")["signal"] == 9
        with pytest.raises(ClusterError, match="the proxy server's container was ended by signal 9"):
            cluster.kill("n1")
        site(cluster).router.kill()
        events.wait("router", "exit")
        began = time.monotonic()
        for verb in (lambda: cluster.fabric.cut("c", [("n1", "n2")]), cluster.fabric.counters):
            with pytest.raises(FaultError, match=r"router: its agent does not answer .* is it still running"):
                verb()
        assert time.monotonic() - began < 2.0
        for again in (False, True):
            if again:
                site(cluster).router.start()
                until(lambda: "NEMESIS_CLOSED" in save(cluster), 10.0, "the router's second start")
            with pytest.raises(OSError, match=r"timed out|unreachable|No route"):
                inside["n1"].connect(layout.ip("n2"), 5555, 0.5)
            with pytest.raises(OSError):
                ask(entry)
    assert not of_run(client, tmp_path)


def save(cluster: SiteCluster) -> str:
    """The rules of a router that was started again; its first agent's socket is of no use any more."""
    code, out = site(cluster).router.exec_run(["iptables-save", "-t", "raw"])
    return str(out.decode()) if code == 0 else ""


# ---------------------------------------------------------------------- starts and ends


def test_nothing_is_left(tmp_path: Path, client: DockerClient) -> None:
    """With an image that has an entrypoint and a volume of its own, an odd run id, and a paused node."""
    run_id, tag = "odd:'$x`\"&;=,é", "nemesis/boxed-with-entrypoint:test"
    plain = ensure(client, runtime.image_of(Boxed(), "node")).reference
    lines = f'FROM {plain}\nENTRYPOINT ["python3", "-S", "/program.py"]\nVOLUME /junk\n'
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(lines)
    client.images.build(path=str(context), tag=tag, rm=True)

    @dataclass(frozen=True)
    class Entered(Boxed):
        image = tag
        context = None

        def command(self, node: Node) -> Sequence[str]:
            return list(super().command(node))[3:]

    try:
        before = there(client, tmp_path)
        with boxes(Entered(nodes=2), tmp_path, run_id) as cluster:
            labelled, subnet = of_run(client, tmp_path, run_id), str(site(cluster).layout.subnet)
            kinds = [what.split()[0] for what in labelled]
            counts = {kind: kinds.count(kind) for kind in kinds}
            assert counts == {"container": 2 + 2 + 2, "network": 1, "volume": 2}
            assert len(there(client, tmp_path) - before) == 6 + 1 + 4  # and a volume of the image for each
            assert ask(cluster.entry("n1"))["pid"] == 1
            if shutil.which("iptables-save"):
                assert not rules() or subnet in rules()
            cluster.pause("n2")
        assert there(client, tmp_path) == before and not of_run(client, tmp_path, run_id)
        assert subnet not in rules() and not processes_of(tmp_path, run_id)
        assert not list((tmp_path / "base" / "runs").iterdir())
    finally:
        client.images.remove(tag, force=True)


class Unknown(Boxed):
    image = "nemesis.invalid/none:1"
    context = None


class Missing(Boxed):
    def command(self, node: Node) -> Sequence[str]:
        return ["no-such-program"]


class Patient(Boxed):
    ready_within = 3.0  # for a Python to start on a loaded machine


class Lasting(Boxed):
    def container(self, node: Node) -> dict[str, Any]:
        return {"restart_policy": {"Name": "always"}}


class Broken(Boxed):
    def setup(self, cluster: Running) -> None:
        raise RuntimeError("no schema")


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (Unknown(nodes=1), r"image nemesis\.invalid/none:1 could not be pulled"),
        (
            Missing(nodes=1),
            r"n\d could not be started: .*no-such-program.*is no-such-program a program of image",
        ),
        (
            Boxed(nodes=2, only={"n2": ("--dies=3",)}),
            r"(?s)n2 exited with code 3 before it was ready.*disk is full",
        ),
        (Patient(nodes=1, options=("--mute",)), r"n1 was not ready within 3 s .*refused"),
        (Patient(nodes=1, options=("--host=127.0.0.1",)), r"n\d was not ready within 3 s .*refused"),
        (Lasting(nodes=1), r"restart_policy.*would undo a kill"),
        (Broken(nodes=1), "Broken.setup failed: RuntimeError: no schema"),
    ],
    ids=["image", "program", "dies", "mute", "elsewhere", "restart policy", "setup"],
)
def test_a_start_that_fails_says_why(tmp_path: Path, client: DockerClient, target: Boxed, error: str) -> None:
    with pytest.raises(ClusterError, match=error), boxes(target, tmp_path):
        pytest.fail("it started")
    assert not of_run(client, tmp_path) and not processes_of(tmp_path)
    assert not list((tmp_path / "base" / "runs").iterdir())


def test_a_router_that_cannot_boot_says_why(
    tmp_path: Path, client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cluster.containers.boot", lambda layout: "*raw\n-A NOWHERE\nCOMMIT\n")
    with (
        pytest.raises(ClusterError, match=r"(?s)-router has ended:.*iptables-restore"),
        boxes(Boxed(nodes=1), tmp_path),
    ):
        pytest.fail("it started")
    assert not of_run(client, tmp_path)

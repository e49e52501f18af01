"""NetnsCluster: nodes in namespaces behind one router; its faults are those of packets, and are proved."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cluster import ClusterError, FaultError, NetnsCluster, SiteCluster
from harness.cluster.netns import NetnsSite
from harness.cluster.sockets import in_table
from harness.fabric import Pair
from harness.fabric.binomial import interval
from harness.fabric.inside import UDP, InsideError
from harness.fabric.packet_spec import PacketSpec
from harness.fabric.routed import ROUTER, Routed
from harness.fabric.rules import cuts
from targets.raft_kv import RaftKV
from tests.integration.cluster.support import (
    Asked,
    Events,
    Tiny,
    addresses_lead,
    ask,
    no_namespaces,
    of_run,
    running,
    until,
    with_words,
)

FIVE = ("n1", "n2", "n3", "n4", "n5")
MAJORITY = [(a, b) for a in FIVE[:3] for b in FIVE[3:]] + [(b, a) for a in FIVE[:3] for b in FIVE[3:]]


@pytest.fixture(autouse=True, scope="module")
def needed() -> None:
    if why := no_namespaces():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteCluster]:
    with running(Asked(nodes=5), tmp_path_factory.mktemp("five"), kind=NetnsCluster) as cluster:
        yield cluster


@pytest.fixture
def fabric(five: SiteCluster) -> Iterator[Routed]:
    routed = five.fabric
    assert isinstance(routed, Routed)
    yield routed
    routed.heal_all()


def router(cluster: SiteCluster) -> NetnsSite:
    site = cluster._site
    assert isinstance(site, NetnsSite)
    return site


def test_each_node_has_an_address_of_its_own_and_is_reached_from_here(five: SiteCluster) -> None:
    hosts = {member.node.host for member in five._members.values()}
    assert len(hosts) == 5 and "127.0.0.1" not in hosts
    assert {ask(node)["pid"] for node in five.nodes} == {m.pid for m in five._members.values()}
    assert ask(five.entry("n3"))["pid"] == five._members["n3"].pid
    for name in FIVE:
        assert os.readlink(f"/proc/{five._members[name].pid}/ns/net") != os.readlink("/proc/self/ns/net")


def test_peers_are_seen_at_their_own_addresses(tmp_path: Path) -> None:
    class Two(Tiny):
        ports = ("main", "second")

    with running(Two(nodes=2), tmp_path, kind=NetnsCluster) as cluster:
        inside, layout = router(cluster).inside, router(cluster).layout
        before = cluster.fabric.counters()["n1", "n2"]
        for port in (layout.ports["n2"]["second"], 5555):  # through the proxy server, and past it
            there = inside["n2"].listening(layout.ip("n2"), port)
            with there, inside["n1"].connect(layout.ip("n2"), port, 5.0):
                there.settimeout(5.0)
                accepted, (peer, _) = there.accept()
                accepted.close()
                assert peer == layout.ip("n1")
        assert cluster.fabric.counters()["n1", "n2"] > before
        assert cluster.entry("n1").ports.keys() == {"main", "second"}
        addresses_lead(cluster)


@pytest.mark.parametrize(
    "pairs",
    [[("n1", "n2")], MAJORITY, [("client", "n1")], [("n1", "client")], [("n2", "n1"), ("client", "n3")]],
    ids=["one way", "majority", "client in", "client out", "mixed"],
)
def test_a_cut_holds_exactly_its_pairs(fabric: Routed, pairs: list[tuple[str, str]]) -> None:
    effect = fabric.cut("cut", pairs)
    assert effect.mechanism == "iptables DROP" and "iptables-restore took" in effect.proof
    if ("n1", "n2") in pairs:
        assert "no datagram crossed n1→n2" in effect.proof or "and" in effect.proof
    assert set(fabric.snapshot()) == set(pairs)
    healed = fabric.heal("cut")
    assert "0 packets crossed in" in healed.proof and not fabric.snapshot()
    assert fabric.await_healthy(10.0) < 10.0


def test_cuts_unite_and_heal_apart(fabric: Routed) -> None:
    fabric.cut("a", [("n1", "n2"), ("n1", "n3")])
    fabric.cut("b", [("n1", "n2"), ("n2", "n1")])
    assert "n1→n2 still under b" in fabric.heal("a").proof
    assert set(fabric.snapshot()) == {("n1", "n2"), ("n2", "n1")}
    fabric.heal("b")


@pytest.mark.parametrize(
    ("spec", "seen"),
    [
        (PacketSpec(loss=0.01), "datagrams lost on n1→n2, n4→n5"),
        (PacketSpec(loss=0.5), "datagrams lost on n1→n2, n4→n5"),
        (PacketSpec(delay=0.05, jitter=0.01), "half of them took 5"),
        (PacketSpec(duplicate=0.2), "came twice"),
        (PacketSpec(corrupt=0.1), "datagrams lost or damaged"),
        (PacketSpec(delay=0.02, reorder=0.2), "overtook"),
        (PacketSpec(rate=100_000), "bytes a second (100000 asked)"),
    ],
    ids=lambda value: "-".join(value.verbs) if isinstance(value, PacketSpec) else "",
)
def test_packet_faults_show_in_packets(fabric: Routed, spec: PacketSpec, seen: str) -> None:
    effect = fabric.packets("packets", [("n1", "n2"), ("n4", "n5")], spec, seed=7)
    assert seen in effect.proof, effect
    for verb in spec.verbs:
        assert f"({verb})" in effect.mechanism
    assert set(fabric.snapshot()) == {("n1", "n2"), ("n4", "n5")}
    healed = fabric.heal("packets")
    assert "0 of" in healed.proof and "lost" in healed.proof
    assert fabric.await_healthy(10.0) < 10.0


def test_packet_faults_unite_and_heal_apart(fabric: Routed) -> None:
    fabric.packets("a", [("n1", "n2")], PacketSpec(loss=0.5))
    both = fabric.packets("b", [("n1", "n2"), ("n2", "n3")], PacketSpec(loss=0.5))
    assert "hidden" in both.proof  # on the link that another fault disturbs already
    samples = fabric._datagrams.sample([("n1", "n2"), ("n2", "n3")], 1000, 0.0)
    for pair, probability in ((("n1", "n2"), 0.75), (("n2", "n3"), 0.5)):
        low, high = interval(1000, probability, 1e-7)
        assert low <= samples[pair].missing <= high
    fabric.heal("a")
    fabric.cut("c", [("n1", "n2")])  # a cut on a lossy link
    fabric.heal("b")
    fabric.heal("c")


def test_packets_held_by_the_engine_do_not_cross_a_cut(fabric: Routed) -> None:
    fabric.packets("slow", [("n1", "n2")], PacketSpec(delay=0.5))
    datagrams = fabric._datagrams
    datagrams._begin([("n1", "n2")])
    for _ in range(20):
        datagrams._send([("n1", "n2")])
    began = time.monotonic()
    with fabric._turn:  # the rules alone: the proof takes longer than the packets are held
        fabric._router.restore(cuts(fabric.layout, [("n1", "n2")]))
    assert time.monotonic() - began < 0.4
    while time.monotonic() < began + 1.0:
        datagrams._receive(0.05)
    assert not datagrams._delays["n1", "n2"]
    fabric._load()
    fabric.heal("slow")


def test_packet_faults_that_lie_are_found_out(fabric: Routed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabric._packets, "apply", lambda faults: {})
    with pytest.raises(FaultError, match=r"0 of \d+ datagrams were lost or damaged on n1→n2, expected"):
        fabric.packets("void", [("n1", "n2")], PacketSpec(loss=0.1))
    with pytest.raises(FaultError, match=r"datagrams take .* expected 50 ms"):
        fabric.packets("void", [("n1", "n2")], PacketSpec(delay=0.05))
    monkeypatch.undo()
    fabric.packets("stays", [("n1", "n2")], PacketSpec(loss=0.3))
    monkeypatch.setattr(fabric._packets, "apply", lambda faults: {})
    with pytest.raises(FaultError, match=r"is not gone: .* datagrams were lost or damaged on n1→n2"):
        fabric.heal("stays")
    monkeypatch.undo()
    fabric.heal("stays")


def test_toxics_act_on_one_link_while_another_is_cut(fabric: Routed) -> None:
    fabric.cut("cut", [("n3", "n4"), ("n4", "n3")])
    effect = fabric.shape("slow", [("n1", "n2")], latency=0.05)
    assert effect.mechanism == "toxiproxy latency" and "n1→n2 took 5" in effect.proof
    assert "gone" not in fabric.heal("slow").proof
    fabric.heal("cut")


def test_what_the_proxy_server_holds_does_not_cross_a_cut(five: SiteCluster, fabric: Routed) -> None:
    """A stream under way, delayed in the proxy server: not a byte comes once the cut is in force."""
    site = router(five)
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
    assert site.layout.nodes == FIVE


def test_a_cut_is_in_force_at_once(five: SiteCluster, fabric: Routed) -> None:
    """A stream of numbered datagrams: none arrives that was sent after the call of `cut` returned."""
    site = router(five)
    (near,), (far,) = site.inside["n1"].sockets([UDP]), site.inside["n2"].sockets([UDP])
    address, late, over = (site.layout.ip("n2"), 5555), list[float](), threading.Event()
    far.bind(address)
    far.setblocking(False)

    def stream() -> None:
        while not over.is_set():
            near.sendto(str(time.monotonic()).encode(), address)
            time.sleep(0.001)

    sender = threading.Thread(target=stream)
    sender.start()
    try:
        until(lambda: received(far), 5.0, "datagrams")
        for _ in range(5):
            began = time.monotonic()
            fabric._router.restore(cuts(fabric.layout, [("n1", "n2")]))  # without the proof
            returned = time.monotonic()
            time.sleep(0.03)
            late += [sent - began for sent in received(far) if sent > returned]
            fabric._load()
            until(lambda: received(far), 5.0, "datagrams after heal")
            assert returned - began < 1.0
    finally:
        over.set()
        sender.join()
        near.close()
        far.close()
    assert not late


def received(sock: socket.socket) -> list[float]:
    found = []
    while True:
        try:
            found.append(float(sock.recv(100)))
        except BlockingIOError:
            return found


def test_what_loads_the_filter_may_fail_and_end(five: SiteCluster, fabric: Routed) -> None:
    inside = router(five).inside[ROUTER]
    with pytest.raises(InsideError, match=r"did not load the rules: it ended with code \d"):
        inside.restore("*raw\n-A NEMESIS_NONE -j DROP\nCOMMIT\n")
    inside.run(["iptables", "-t", "raw", "-A", "OUTPUT", "-d", "192.0.2.1"])  # by somebody else
    fabric.cut("cut", [("n1", "n2")])
    there = os.readlink(inside.namespace()[1])
    (pid,) = (pid for pid in with_words("iptables-restore") if os.readlink(f"/proc/{pid}/ns/net") == there)
    os.kill(pid, signal.SIGKILL)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", 5.0, "its end")
    fabric.heal("cut")
    assert "-d 192.0.2.1/32" in inside.run(["iptables-save", "-t", "raw"])


def test_filters_that_lie_are_found_out(fabric: Routed, monkeypatch: pytest.MonkeyPatch) -> None:
    def lying(change: Callable[[set[Pair]], set[Pair]]) -> None:
        lie = lambda layout, pairs: cuts(layout, change(set(pairs)))  # noqa: E731
        monkeypatch.setattr("harness.fabric.routed.cuts", lie)

    lying(lambda pairs: set())  # does nothing
    with pytest.raises(FaultError, match="datagrams crossed n1→n2, expected none"):
        fabric.cut("void", [("n1", "n2")])
    lying(lambda pairs: pairs - {("n3", "n4")})  # has a hole
    with pytest.raises(FaultError, match="datagrams crossed n3→n4, expected none"):
        fabric.cut("hole", [("n1", "n2"), ("n3", "n4")])
    lying(lambda pairs: {*pairs, ("n3", "n4")})  # cuts too much
    with pytest.raises(FaultError, match="no datagram crosses n3→n4"):
        fabric.cut("more", [("n1", "n2")])
    monkeypatch.undo()
    fabric._load()
    fabric.cut("stays", [("n1", "n2")])
    lying(lambda pairs: {*pairs, ("n1", "n2")})
    with pytest.raises(FaultError, match="is not gone: no datagram crosses n1→n2"):
        fabric.heal("stays")
    monkeypatch.undo()
    fabric.heal("stays")


def test_a_cut_that_somebody_undoes_is_found_out(five: SiteCluster, fabric: Routed) -> None:
    fabric.cut("cut", MAJORITY)
    router(five).inside[ROUTER].run(["iptables", "-t", "raw", "-F", "NEMESIS_IN"])
    fabric._datagrams._begin([("n1", "n4")])
    fabric._datagrams._send([("n1", "n4")])
    with pytest.raises(FaultError, match=r"had not held: .* packets through n1→n4"):
        fabric.heal("cut")


def test_process_faults_inside(tmp_path: Path) -> None:
    events = Events()
    with running(Asked(nodes=3), tmp_path, events=events, kind=NetnsCluster) as cluster:
        pid = cluster._members["n1"].pid
        assert "10.213.0.11:7000 refused" in cluster.kill("n1")
        assert f"after pid {pid}" in cluster.restart("n1")
        assert "not accepted for" in cluster.pause("n2")
        assert "accepted" in cluster.resume("n2")
        assert cluster.await_healthy(10.0) < 10.0
        assert events.wait("n1", "restart")
    assert not of_run(tmp_path)


def interfaces() -> set[str]:
    """The host's network interfaces, but for those that containers of whomever come and go with."""
    return {name for name in os.listdir("/sys/class/net") if not name.startswith(("br-", "veth"))}


def test_set_up_and_end_leave_nothing(tmp_path: Path) -> None:
    before = interfaces()
    took = []
    for number in range(3):
        began = time.monotonic()
        with running(Tiny(nodes=3), tmp_path, run_id=f"r{number}", kind=NetnsCluster) as cluster:
            took.append(time.monotonic() - began)
            assert interfaces() == before, "the host's network is not touched"
            assert cluster.fabric.counters()
        assert not of_run(tmp_path, f"r{number}")
    assert statistics.median(took) < 30
    assert interfaces() == before


def test_a_port_of_the_target_s_own_choice(tmp_path: Path) -> None:
    class Numbered(Tiny):
        ports = {"main": 6379}  # noqa: RUF012

    with running(Numbered(nodes=2), tmp_path, kind=NetnsCluster) as cluster:
        assert [member.node.port for member in cluster._members.values()] == [6379, 6379]
        table = router(cluster).inside["n2"].read("/proc/thread-self/net/tcp")
        assert any(in_table(table, 6379))


def test_a_node_that_listens_elsewhere_is_not_ready(tmp_path: Path) -> None:
    class Elsewhere(Tiny):
        ready_within = 1.0

        def command(self, node):  # type: ignore[no-untyped-def]
            return [*super().command(node), "--host=127.0.0.1"]

    with (
        pytest.raises(ClusterError, match=r"was not ready within 1 s .*refused"),
        running(Elsewhere(nodes=1), tmp_path, kind=NetnsCluster),
    ):
        pass
    assert not of_run(tmp_path)


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
AS_NOBODY = """
import sys, pathlib
sys.path[:0] = sys.argv[2:]
from harness.cluster import NetnsCluster
from harness.skew.patcher import Spec
from tests.integration.cluster.support import Tiny, running
with running(Tiny(nodes=3), pathlib.Path(sys.argv[1]), kind=NetnsCluster) as cluster:
    print(cluster.fabric.cut("c", [("n1", "n2")]).proof)
    print(cluster.fabric.heal("c").proof)
    print(cluster.kill("n1"), cluster.restart("n1"))
    print(cluster.skew("n1", Spec(offset=5.0)), cluster.set_right("n1"))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="is somebody else than root already")
def test_no_privilege_is_needed(open_path: Path) -> None:
    """As user nobody, in a user namespace of its own; by the system's Python, which all may run."""
    if subprocess.run([*NOBODY, "unshare", "-Urn", "true"], check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    python, packages = shutil.which("python3", path="/usr/bin:/bin"), Path(pytest.__file__).parents[1]
    home = open_path / "home"
    home.mkdir()
    home.chmod(0o777)
    argv = [*NOBODY, str(python), "-c", AS_NOBODY, str(home), str(Path(__file__).parents[3]), str(packages)]
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd="/", env=env, check=False)
    if "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("the system's Python has another version than these packages are for")
    assert done.returncode == 0, done.stderr
    assert "no datagram crossed n1→n2" in done.stdout and "0 packets crossed" in done.stdout
    assert "vdso, by the nodes' supervisor" in done.stdout and done.stdout.count("called") == 3


def test_the_raft_store_elects_and_serves(tmp_path: Path) -> None:
    with running(RaftKV(nodes=3), tmp_path, kind=NetnsCluster) as cluster:
        until(lambda: cluster.leader() is not None, 10.0, "a leader")
        leader = cluster.leader()
        others = [node.name for node in cluster.nodes if node.name != leader]
        cut = [(leader, other) for other in others] + [(other, leader) for other in others]
        cluster.fabric.cut("cut", cut)  # type: ignore[arg-type]
        until(lambda: cluster.leader() in others, 10.0, "another leader")
        cluster.fabric.heal("cut")

"""Each verb, both ways, seen by the nodes themselves beside the fabric's own proof."""

from __future__ import annotations

import re
import socket
import threading
import time

import pytest

from harness.fabric import Effect, FaultError, FaultUnsupported, Pair
from harness.fabric.packet_spec import PacketSpec
from tests.integration.fabric.support import NAMES, Lab

LEFT, RIGHT = NAMES[:2], NAMES[2:]
HALVES = [pair for a in LEFT for b in RIGHT for pair in ((a, b), (b, a))]
ONE: list[Pair] = [("n1", "n2")]


def echoed(connection: socket.socket, text: bytes, within: float = 5.0) -> float:
    """Seconds that a round trip takes; TimeoutError after `within`."""
    connection.settimeout(within)
    start = time.monotonic()
    connection.sendall(text)
    got = b""
    while len(got) < len(text):
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError("closed")
        got += part
    assert got == text
    return time.monotonic() - start


def silent(connection: socket.socket, within: float = 0.15) -> bool:
    """Whether nothing arrives, not even an end."""
    connection.settimeout(within)
    try:
        return not connection.recv(1, socket.MSG_PEEK) and False
    except TimeoutError:
        return True


def test_a_cut_holds_bytes_and_closes_of_live_and_new_connections_and_loses_none(five: Lab) -> None:
    live, kept, closing = five.connect("n1", "n2"), five.connect("n2", "n1"), five.connect("n1", "n2")
    for connection in (live, kept, closing):
        echoed(connection, b"before")
    node = five.nodes["n2"]
    received, closes = len(node.received), node.closes
    effect = five.fabric.cut("cut", ONE)
    assert effect.mechanism == "stall"
    new = five.connect("n1", "n2")
    live.sendall(b"held")
    new.sendall(b"held")
    closing.close()
    kept.sendall(b"away")  # n2 to n1 is open; n1's answer is not
    assert five.nodes["n1"].awaits(lambda n: n.received.endswith(b"away"), 5)
    assert not node.awaits(lambda n: len(n.received) > received or n.closes > closes, 0.2)
    assert silent(kept)
    assert five.fabric.snapshot() == {("n1", "n2"): ("cut",)}
    healed = five.fabric.heal("cut")
    assert "held arrived" in healed.proof
    assert node.awaits(lambda n: len(n.received) == received + 8 and n.closes > closes, 5)
    kept.settimeout(5)
    assert kept.recv(10) == b"away"
    assert live.recv(10) == new.recv(10) == b"held"
    assert five.fabric.snapshot() == {}


def test_a_partition_of_five_nodes_leaves_the_rest_alone(five: Lab) -> None:
    between = {(a, b): five.connect(a, b) for a in NAMES for b in NAMES if a != b}
    effect = five.fabric.cut("halves", HALVES)
    for (a, b), connection in between.items():
        if (a, b) in HALVES:
            connection.sendall(b"x")
        else:
            echoed(connection, b"x")
    for pair in HALVES:
        assert silent(between[pair], 0.01), pair
    for name in NAMES:
        echoed(five.connect("client", name), b"clients still reach every node")
    assert effect.took < 1.0
    assert "18 other links delivered" in effect.proof
    five.fabric.heal("halves")
    for pair in HALVES:
        between[pair].settimeout(5)
        assert between[pair].recv(1) == b"x"


def test_a_client_can_be_cut_off_one_way(five: Lab) -> None:
    connection = five.connect("client", "n3")
    echoed(connection, b"before")
    five.fabric.cut("deaf", [("n3", "client")])
    connection.sendall(b"asked")
    assert five.nodes["n3"].awaits(lambda n: n.received.endswith(b"asked"), 5)
    assert silent(connection)
    five.fabric.heal("deaf")
    connection.settimeout(5)
    assert connection.recv(10) == b"asked"


def test_cuts_unite_and_healing_one_leaves_the_other(five: Lab) -> None:
    connection = five.connect("n1", "n2")
    five.fabric.cut("first", [*ONE, ("n1", "n3")])
    five.fabric.cut("second", [*ONE, ("n4", "n5")])
    connection.sendall(b"united")
    five.fabric.shape("slow", ONE, latency=0.05)
    first = five.fabric.heal("first")
    assert "n1→n2 still under second, slow" in first.proof
    assert "no byte and no close crossed n1→n2" in first.proof
    assert not five.nodes["n2"].awaits(lambda n: n.received.endswith(b"united"), 0.15)
    echoed(five.connect("n1", "n3"), b"open again")
    five.fabric.heal("slow")
    assert not five.nodes["n2"].awaits(lambda n: n.received.endswith(b"united"), 0.15)
    five.fabric.heal("second")
    assert five.nodes["n2"].awaits(lambda n: n.received.endswith(b"united"), 5)
    connection.settimeout(5)
    assert connection.recv(10) == b"united"


def test_what_a_delay_holds_when_the_cut_comes_is_held(five: Lab) -> None:
    connection, node = five.connect("n1", "n2"), five.nodes["n2"]
    echoed(connection, b"before")
    five.fabric.shape("slow", ONE, latency=2)
    connection.sendall(b"late")
    connection.sendall(b"r")
    five.fabric.cut("cut", ONE)
    received = len(node.received)
    assert not node.received.endswith(b"later"), "the machine was too slow for this test: the delay was over"
    assert not node.awaits(lambda n: len(n.received) > received, 2.2)
    five.fabric.heal_all()
    assert node.awaits(lambda n: n.received.endswith(b"later"), 5)


def test_the_clusters_own_bytes_are_counted(five: Lab) -> None:
    connection = five.connect("n1", "n2")
    echoed(connection, bytes(1000))
    before = five.fabric.counters()
    echoed(connection, bytes(1000))
    after = five.fabric.counters()
    assert {pair: n - before[pair] for pair, n in after.items() if n != before[pair]} == {("n2", "n1"): 1000}
    five.fabric.cut("cut", [("n2", "n1")])
    connection.sendall(bytes(1000))
    assert silent(connection)
    assert re.search(
        r"^0 bytes of 1 of the cluster's own connections crossed in \d", five.fabric.heal("cut").proof
    )


def test_a_cut_that_does_not_hold_the_nodes_own_traffic_is_found_out(five: Lab) -> None:
    connection = five.connect("n1", "n2")
    echoed(connection, b"before")
    five.fabric.cut("cut", [("n2", "n1")])
    server = five.fabric._server
    link = next(proxy for proxy in server.proxies().values() if proxy.name == "n1-n2.main")
    server.remove_many([(link.name, toxic.name) for toxic in link.toxics])  # the probes are still cut
    echoed(connection, b"leaks")
    with pytest.raises(FaultError, match=r"5 bytes of 1 of the cluster's own.*first on n2→n1"):
        five.fabric.heal("cut")
    assert five.fabric.snapshot() == {}


@pytest.mark.parametrize("pair", [("n1", "n2"), ("n2", "n1")])
def test_latency_concerns_one_way_whoever_connects(five: Lab, pair: Pair) -> None:
    effect = five.fabric.shape("slow", [pair], latency=0.1)
    assert effect.mechanism == "toxiproxy latency"
    for src, dst in (("n1", "n2"), ("n2", "n1")):
        assert min(echoed(five.connect(src, dst), b"x") for _ in range(3)) >= 0.1
    assert min(echoed(five.connect("n1", "n3"), b"x") for _ in range(5)) < 0.1
    five.fabric.heal("slow")
    assert min(echoed(five.connect(*pair), b"x") for _ in range(5)) < 0.1


def test_latencies_add_up_and_a_small_one_is_seen(five: Lab) -> None:
    five.fabric.shape("a", ONE, latency=0.1)
    five.fabric.shape("b", [*ONE, ("n2", "n1")], latency=0.005)
    took = echoed(five.connect("n1", "n2"), b"x")
    assert took >= 0.11
    five.fabric.heal("a")
    assert min(echoed(five.connect("n1", "n2"), b"x") for _ in range(5)) < 0.1


def test_jitter_alone_is_seen_and_gone(five: Lab) -> None:
    five.fabric.shape("jitter", ONE, jitter=0.03)
    assert "still" not in five.fabric.heal("jitter").proof


def test_a_rate_limits_each_way_it_is_asked_for(five: Lab) -> None:
    effect = five.fabric.shape("thin", ONE, rate=500_000)
    assert effect.mechanism == "toxiproxy bandwidth"
    assert re.search(r"bursts of 100000 bytes crossed at \d+ kB/s at most \(500 asked\)", effect.proof)
    assert echoed(five.connect("n1", "n2"), bytes(100_000)) > 0.1
    assert "300000 bytes take less than 300 ms" in five.fabric.heal("thin").proof


STREAMS: list[tuple[str, dict[str, int]]] = [
    ("reset_peer", {"timeout": 0}),
    ("reset_peer", {"timeout": 100}),
    ("reset_peer", {"timeout": 5000}),
    ("slicer", {"average_size": 64, "size_variation": 0, "delay": 0}),
    ("slicer", {"average_size": 64, "size_variation": 32, "delay": 10_000}),
    ("limit_data", {"bytes": 0}),
    ("limit_data", {"bytes": 10_000}),
    ("slow_close", {"delay": 100}),
    ("slow_close", {"delay": 60_000}),
    ("timeout", {"timeout": 0}),
    ("timeout", {"timeout": 100}),
    ("timeout", {"timeout": 60_000}),
]


@pytest.mark.parametrize(("kind", "attributes"), STREAMS, ids=str)
def test_stream_verbs_are_proved_both_ways_and_healed(
    five: Lab, kind: str, attributes: dict[str, int]
) -> None:
    effect = five.fabric.stream("verb", [*ONE, ("n2", "n1"), ("n3", "client")], kind, **attributes)
    assert effect.mechanism == f"toxiproxy {kind}"
    five.fabric.heal("verb")
    assert five.fabric.await_healthy(10) < 10
    for link in (("n1", "n2"), ("n2", "n1"), ("client", "n3")):
        echoed(five.connect(*link), bytes(20_000))


def test_a_reset_reaches_the_node_that_sends(five: Lab) -> None:
    five.fabric.stream("reset", ONE, "reset_peer", timeout=0)
    with pytest.raises(ConnectionError):
        echoed(five.connect("n1", "n2"), b"x")


def test_a_limit_ends_the_stream_after_its_bytes(five: Lab) -> None:
    received = len(five.nodes["n2"].received)
    five.fabric.stream("limit", ONE, "limit_data", bytes=1000)
    five.connect("n1", "n2").sendall(bytes(5000))
    node = five.nodes["n2"]
    assert node.awaits(lambda n: len(n.received) == received + 1000, 5)
    assert not node.awaits(lambda n: len(n.received) > received + 1000, 0.1)


def test_a_fault_under_a_cut_is_proved_when_the_cut_is_healed(five: Lab) -> None:
    five.fabric.cut("cut", ONE)
    effect = five.fabric.stream("reset", ONE, "reset_peer", timeout=0)
    assert "hidden on n1→n2" in effect.proof
    assert "reset, hidden until now: RST" in five.fabric.heal("cut").proof


def test_heal_is_idempotent_and_removes_only_its_own(five: Lab) -> None:
    five.fabric.shape("a", ONE, latency=0.05)
    five.fabric.shape("b", [("n1", "n3")], latency=0.05)
    five.fabric.heal("a")
    again = five.fabric.heal("a")
    assert again == Effect("none", again.start, "nothing of it is in force", 0.0)
    assert five.fabric.snapshot() == {("n1", "n3"): ("b",)}
    with pytest.raises(FaultError, match="'b'"):
        five.fabric.await_healthy(1)
    five.fabric.heal_all()
    assert five.fabric.snapshot() == {}
    assert {len(proxy.toxics) for proxy in five.fabric._server.proxies().values()} == {0}


def test_faults_from_several_threads_take_turns(five: Lab) -> None:
    errors: list[Exception] = []

    def run(number: int) -> None:
        try:
            for _ in range(3):
                five.fabric.cut(f"cut{number}", [(f"n{number}", "n5"), ("n5", f"n{number}")])
                five.fabric.heal(f"cut{number}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert five.fabric.snapshot() == {}


def test_packet_faults_are_refused_with_every_mechanism_tried(five: Lab) -> None:
    with pytest.raises(FaultUnsupported, match=r"\(loss\).*byte streams has no packets.*docker or netns"):
        five.fabric.packets("loss", ONE, PacketSpec(loss=0.1))


@pytest.mark.parametrize(
    ("error", "text", "verb", "pairs", "arguments"),
    [
        (ValueError, "no link 'n1' to 'n9'.*n1, n2, n3, n4, n5, client", "cut", [("n1", "n9")], {}),
        (ValueError, "no link 'n1' to 'n1'", "cut", [("n1", "n1")], {}),
        (ValueError, "on no links", "cut", [], {}),
        (ValueError, "latency -1", "shape", ONE, {"latency": -1}),
        (ValueError, "latency nan", "shape", ONE, {"latency": float("nan")}),
        (ValueError, "shape changes nothing", "shape", ONE, {}),
        (ValueError, "rate 0 lets nothing pass", "shape", ONE, {"rate": 0}),
        (FaultUnsupported, "unit of 1 ms", "shape", ONE, {"latency": 0.0001}),
        (FaultUnsupported, "unit of 1,000 bytes/s", "shape", ONE, {"rate": 10}),
        (ValueError, "none of limit_data, reset_peer", "stream", ONE, {"type": "latency"}),
        (ValueError, "no attribute 'size'; it has delay", "stream", ONE, {"type": "slow_close", "size": 1}),
        (ValueError, "integer of 0 or more", "stream", ONE, {"type": "slow_close", "delay": -1}),
        (ValueError, "size_variation from 0", "stream", ONE,
         {"type": "slicer", "average_size": 1, "size_variation": 2}),
        (FaultUnsupported, "32768 bytes at once", "stream", ONE, {"type": "slicer", "average_size": 40_000}),
        (FaultUnsupported, "cannot be proved", "stream", ONE, {"type": "limit_data", "bytes": 1 << 30}),
    ],
)  # fmt: skip
def test_nonsense_is_refused_before_anything_is_applied(
    five: Lab, error: type[Exception], text: str, verb: str, pairs: list[Pair], arguments: dict[str, object]
) -> None:
    with pytest.raises(error, match=text):
        getattr(five.fabric, verb)("x", pairs, **arguments)
    assert five.fabric.snapshot() == {}
    assert {len(proxy.toxics) for proxy in five.fabric._server.proxies().values()} == {0}


def test_a_name_in_force_is_refused(five: Lab) -> None:
    five.fabric.cut("cut", ONE)
    with pytest.raises(ValueError, match="'cut' is in force"):
        five.fabric.cut("cut", ONE)


def test_endpoints_name_what_there_is(five: Lab) -> None:
    with pytest.raises(ValueError, match="no port 'gossip'; it has main"):
        five.fabric.endpoint("n1", "n2", "gossip")
    with pytest.raises(ValueError, match="clients do not listen"):
        five.fabric.endpoint("n1", "client")

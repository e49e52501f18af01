"""Packet faults act on real packets, as asked, on the pairs asked, and are gone afterwards."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.fabric import FaultError, FaultUnsupported, packet_engine
from harness.fabric.packet_faults import PacketFaults
from harness.fabric.packet_spec import PacketSpec
from tests.integration.fabric.packet_rig import A, B, C, NoNamespaces, Piped, Rig, rig, within_binomial

AB = (A, B)
TRIES = 5  # of a measurement that another process of the machine can spoil
FRAME = 14 + 20 + 8  # bytes of a datagram on a wire, beside its payload


@pytest.fixture(scope="module")
def net() -> Iterator[Rig]:
    try:
        with rig() as made:
            yield made
    except NoNamespaces as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must try packet faults: {reason}")
        pytest.skip(str(reason))


@contextmanager
def faulty(net: Rig, **how: object) -> Iterator[PacketFaults]:
    faults = net.faults(**how)  # type: ignore[arg-type]
    try:
        yield faults
    finally:
        faults.close()
    assert "NEMESIS" not in net.router.run(["iptables-save"])
    assert "htb" not in net.router.run(["tc", "qdisc"])


@pytest.fixture
def faults(net: Rig) -> Iterator[PacketFaults]:
    with faulty(net) as made:
        yield made


def only(engine: str, faults: PacketFaults, spec: PacketSpec) -> None:
    """Apply a fault to A→B; skip where this kernel does not have the engine."""
    try:
        engines = faults.apply({AB: [spec]})[AB]
    except FaultUnsupported as reason:
        assert engine == "netem", reason  # every Linux router must have the others
        pytest.skip(str(reason))
    assert set(engines.values()) == {engine}


def awaited(condition: Callable[[], bool], within: float = 5.0) -> bool:
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def delays(arrivals: list[tuple[int, int, int]]) -> list[float]:
    return sorted((arrived - sent) / 1e9 for _, sent, arrived in arrivals)


@pytest.mark.parametrize("engine", ["nfqueue", "netem"])
@pytest.mark.parametrize("delay", [0.005, 0.05, 0.2])
def test_delay(net: Rig, engine: str, delay: float) -> None:
    with faulty(net, force=engine) as faults:
        only(engine, faults, PacketSpec(delay=delay))
        medians = []
        for _ in range(TRIES):
            seen = delays(net.sent_all(A, B, 100, gap=0.001))
            assert len(seen) == 100
            assert seen[0] >= delay
            medians.append(statistics.median(seen))
            if medians[-1] <= delay * 1.02 + 0.001:
                break
        else:
            pytest.fail(f"medians {medians}, expected {delay} at most 1 ms + 2 % late")
        for src, dst in ((B, A), (A, C)):
            others = delays(net.sent_all(src, dst, 100, gap=0.001))
            assert len(others) == 100 and statistics.median(others) < delay / 2
        faults.apply({})
        assert statistics.median(delays(net.sent_all(A, B, 100, gap=0.001))) < delay / 2


def test_jitter_stays_in_its_range_and_in_order(net: Rig, faults: PacketFaults) -> None:
    faults.apply({AB: [PacketSpec(delay=0.02, jitter=0.01)]})
    for _ in range(TRIES):
        arrivals = net.sent_all(A, B, 150, gap=0.008)
        seen = delays(arrivals)
        assert len(seen) == 150 and seen[0] >= 0.01
        assert [number for number, _, _ in arrivals] == list(range(150))
        assert seen[-1] - seen[0] > 0.012  # of 0.02
        if seen[135] <= 0.03 * 1.02 + 0.001:
            return
    pytest.fail(f"a tenth of the delays is above {seen[135]}, expected 0.03")


@pytest.mark.parametrize(
    ("engine", "verb"),
    [
        ("statistic", "loss"),
        ("nfqueue", "loss"),
        ("netem", "loss"),
        ("nfqueue", "corrupt"),
        ("netem", "corrupt"),
        ("nfqueue", "duplicate"),
    ],
)
@pytest.mark.parametrize("probability", [0.02, 0.3])
def test_counts_are_those_of_the_probability(net: Rig, engine: str, verb: str, probability: float) -> None:
    """What arrives is exactly what the counters say; within 99.9 %, thrice where choices are not seeded."""
    count, seen = 4000, []
    with faulty(net, force=engine, seed="counts") as faults:
        for _ in range(1 if engine == "nfqueue" else 3):
            faults.apply({})
            only(engine, faults, PacketSpec(**{verb: probability}))
            numbers = [number for number, _, _ in net.sent(A, B, count, gap=0.00005)]
            reading = faults.in_force()[AB]
            assert (reading.packets, reading.overflowed) == (count, 0)
            if verb == "duplicate":
                assert set(numbers) == set(range(count))
                assert len(numbers) - count == reading.duplicated
            else:
                assert len(numbers) == len(set(numbers))
                counted = reading.dropped if verb == "loss" else reading.corrupted
                assert counted in (count - len(numbers), None)
            seen.append(abs(len(numbers) - count))
            if within_binomial(seen[-1], count, probability):
                break
        else:
            pytest.fail(f"{seen} of {count}, expected {probability:.0%}")
        assert len(net.sent_all(B, A, 500, gap=0.00005)) == 500


def test_reordered_packets_overtake(net: Rig, faults: PacketFaults) -> None:
    count = 1000
    faults.apply({AB: [PacketSpec(delay=0.02, reorder=0.2)]})
    numbers = [number for number, _, _ in net.sent(A, B, count, gap=0.0005)]
    assert sorted(numbers) == list(range(count))
    overtaking, lowest = 0, count
    for number in reversed(numbers):  # those that came before one with a lower number
        overtaking += number > lowest
        lowest = min(lowest, number)
    reordered = faults.in_force()[AB].reordered
    assert reordered is not None and within_binomial(reordered, count, 0.2)
    assert reordered - 5 <= overtaking <= reordered  # the first of all have nobody to overtake


@pytest.mark.parametrize("megabits", [1, 8])
def test_rate(net: Rig, faults: PacketFaults, megabits: int) -> None:
    asked = megabits * 125_000
    assert faults.apply({AB: [PacketSpec(rate=asked)]})[AB] == {"rate": "htb"}
    count = max(60, asked // 1442 // 2)
    arrivals = net.sent_all(A, B, count, size=1400)
    assert len(arrivals) == count
    after = arrivals[10:]  # the burst is over
    got = (1400 + FRAME) * (len(after) - 1) / ((after[-1][2] - after[0][2]) / 1e9)
    assert got == pytest.approx(asked, rel=0.1)
    before = time.monotonic()
    assert len(net.sent_all(B, A, 100, size=1400)) == 100
    assert time.monotonic() - before < 100 * 1400 / 125_000 + 0.5


def test_rates_of_two_pairs_on_one_interface(net: Rig, faults: PacketFaults) -> None:
    faults.apply({AB: [PacketSpec(rate=2_000_000)], (C, B): [PacketSpec(rate=2_000_000)]})
    faults.apply({AB: [PacketSpec(rate=2_000_000)], (C, B): [PacketSpec(rate=250_000)]})
    assert [reading.spec.rate for reading in faults.in_force().values()] == [2_000_000, 250_000]
    faults.apply({(C, B): [PacketSpec(rate=250_000)]})
    spans = {}
    for src in (A, C):
        arrivals = net.sent_all(src, B, 60, size=1400)[10:]
        spans[src] = (arrivals[-1][2] - arrivals[0][2]) / 1e9
    assert (1400 + FRAME) * 49 / spans[C] == pytest.approx(250_000, rel=0.1)
    assert spans[A] < spans[C] / 2


def test_rate_of_a_stream(net: Rig, faults: PacketFaults) -> None:
    faults.apply({AB: [PacketSpec(rate=1_000_000)]})
    done = net.nodes[A].ask("stream", to=B, size=1_000_000)
    assert done["bytes"] == 1_000_000
    assert done["seconds"] == pytest.approx(1_000_000 * 1514 / 1448 / 1_000_000, rel=0.15)
    assert faults.in_force()[AB].packets >= 1_000_000 / 1460


@pytest.mark.parametrize("reach", [True, False])
def test_a_packet_is_a_packet(net: Rig, reach: bool) -> None:
    """One loss loses no 64 KB: by iptables where segments are cut by the sender, else by the engine."""
    source = (packet_engine.__file__.replace("packet_engine", "offloads"),)

    def offloads() -> list[str]:
        with open(*source) as text:
            script = text.read()
        on = json.loads(net.nodes[A].run(["python3", "-I", "-S", "-", "off", "eth0"], script))
        net.nodes[A].run(["python3", "-I", "-S", "-", "on", json.dumps(on)], script)
        return list(on["eth0"])

    before = offloads()
    assert "tx-tcp-segmentation" in before
    with faulty(net, reach=reach) as faults:
        engine = "statistic" if reach else "nfqueue"
        assert faults.apply({AB: [PacketSpec(loss=0.001)]})[AB] == {"loss": engine}
        assert net.nodes[A].ask("stream", to=B, size=4_000_000)["bytes"] == 4_000_000
        reading = faults.in_force()[AB]
        assert 4_000_000 < reading.bytes <= 1500 * reading.packets
    assert offloads() == before


def test_faults_unite_and_the_others_stay(net: Rig, faults: PacketFaults) -> None:
    late, lossy = PacketSpec(delay=0.02), PacketSpec(loss=0.5)
    faults.apply({AB: [late, lossy, lossy], (A, C): [late]})
    seen = delays(net.sent(A, B, 1000, gap=0.0001))
    assert seen[0] >= 0.02 and within_binomial(len(seen), 1000, 0.25)
    faults.apply({AB: [late], (A, C): [late]})
    for other in (B, C):
        seen = delays(net.sent_all(A, other, 200, gap=0.0001))
        assert len(seen) == 200 and seen[0] >= 0.02
    faults.apply({AB: [PacketSpec(rate=1_000_000), lossy]})
    assert within_binomial(len(net.sent(A, B, 300, gap=0.0001)), 300, 0.5, 1 - 1e-9)
    assert faults.in_force()[AB].engines == {"rate": "htb", "loss": "statistic"}
    assert delays(net.sent_all(A, C, 200, gap=0.0001))[100] < 0.01


def test_what_is_held_goes_out_in_order_when_the_fault_goes(net: Rig, faults: PacketFaults) -> None:
    long = PacketSpec(delay=60, jitter=30)
    faults.apply({AB: [long], (A, C): [long]})
    for dst in (B, C):
        net.send(A, dst, 50)
    assert awaited(lambda: [reading.held for reading in faults.in_force().values()] == [50, 50])
    faults.apply({(A, C): [long]})
    assert [number for number, _, _ in net.arrivals(A, B, 50)] == list(range(50))
    assert faults.in_force()[(A, C)].held == 50
    faults.close()
    assert [number for number, _, _ in net.arrivals(A, C, 50)] == list(range(50))


def test_packets_in_a_queue_of_tc_go_out_when_the_rate_goes(net: Rig, faults: PacketFaults) -> None:
    faults.apply({AB: [PacketSpec(rate=2_000)]})
    net.send(A, B, 50, size=1000)
    assert awaited(lambda: (faults.in_force()[AB].held or 0) >= 40)
    faults.apply({})
    assert [number for number, _, _ in net.arrivals(A, B, 50)] == list(range(50))


def test_a_dead_engine_lets_packets_pass_and_is_found_out(net: Rig, faults: PacketFaults) -> None:
    faults.apply({AB: [PacketSpec(delay=60)]})
    net.engines[-1].process.kill()
    net.engines[-1].process.wait()
    assert len(net.sent_all(A, B, 50)) == 50
    with pytest.raises(FaultError, match="engine"):
        faults.in_force()
    faults.apply({AB: [PacketSpec(delay=0.03)]})
    assert delays(net.sent_all(A, B, 50))[0] >= 0.03
    net.engines[-1].process.kill()
    faults.apply({})
    assert len(net.sent_all(A, B, 50)) == 50


def test_equal_seeds_make_equal_choices(net: Rig) -> None:
    def survivors(seed: str) -> list[int]:
        with faulty(net, seed=seed, force="nfqueue") as faults:
            faults.apply({AB: [PacketSpec(delay=0.001, loss=0.3, duplicate=0.1)]})
            return sorted(number for number, _, _ in net.sent(A, B, 400))

    first = survivors("x")
    assert first == survivors("x") != survivors("y")


def test_a_duplicate_goes_the_way_of_its_packet(net: Rig, faults: PacketFaults) -> None:
    """Each packet of a redirected stream comes twice, and none goes past the proxy in the router."""
    node = Piped([*net.router.enter, "python3", "-I", "-S", _node()])
    table = [f"-I PREROUTING -s {A} -d {B} -p tcp -j REDIRECT --to-ports 9000"]
    count = [f"-I FORWARD -s {A} -d {B} -p tcp -j ACCEPT"]
    try:
        node.ask('{"do": "arrivals", "source": "", "count": 0, "within": 0, "quiet": 0}')
        for name, rule in (("nat", table), ("filter", count)):
            net.router.run(["iptables-restore", "--noflush"], "\n".join([f"*{name}", *rule, "COMMIT", ""]))
        for spec in (PacketSpec(duplicate=1.0), PacketSpec(duplicate=1.0, delay=0.005, jitter=0.005)):
            faults.apply({AB: [spec]})
            assert net.nodes[A].ask("stream", to=B, size=200_000)["bytes"] == 200_000
            reading = faults.in_force()[AB]
            assert (reading.duplicated or 0) >= 200_000 / 1460
        assert f"[0:0] -A FORWARD -s {A}/32" in net.router.run(["iptables-save", "-c", "-t", "filter"])
    finally:
        net.router.run(["iptables", "-t", "nat", "-F"])
        net.router.run(["iptables", "-F", "FORWARD"])
        node.process.kill()
        node.close()


def _node() -> str:
    from tests.integration.fabric import packet_node

    return packet_node.__file__


def test_refusals_name_what_was_tried_and_change_nothing(net: Rig) -> None:
    with faulty(net, reach=False) as faults:
        faults._spawn = lambda: Piped([*net.router.enter, "false"])
        with pytest.raises(
            FaultUnsupported, match=r"statistic: .*64 KB.*netem: .*nfqueue: the packet engine"
        ):
            faults.apply({AB: [PacketSpec(loss=0.1)], (A, C): [PacketSpec(rate=1000)]})
        assert not faults.in_force() and "NEMESIS" not in net.router.run(["iptables-save"])
        with pytest.raises(ValueError, match=r"10\.9\.9\.9.* is none of"):
            faults.apply({(A, "10.9.9.9"): [PacketSpec(loss=0.1)]})


def test_a_rule_that_somebody_removed_is_missed(net: Rig, faults: PacketFaults) -> None:
    faults.apply({AB: [PacketSpec(loss=0.1)]})
    net.router.run(["iptables", "-t", "mangle", "-F", "NEMESIS_PACKETS"])
    with pytest.raises(FaultError, match="0 rules"):
        faults.in_force()


def test_the_engine_answers_nonsense_and_goes_on(net: Rig) -> None:
    engine = net.engine()

    def error(line: str) -> str:
        answer = json.loads(engine.ask(line))
        assert answer["ok"] is False
        return str(answer["error"])

    assert "JSONDecodeError" in error("{")
    assert "none of set, remove, read, ping" in error('{"do": "dance"}')
    assert "probability of 0 to 1" in error('{"do": "set", "queues": {"1": {}, "2": {"loss": 2}}}')
    assert "none of delay, jitter" in error('{"do": "set", "queues": {"1": {"dealy": 2}}}')
    assert json.loads(engine.ask('{"do": "ping"}')) == {"ok": True, "queues": []}
    rival = net.engine()
    assert json.loads(rival.ask('{"do": "set", "queues": {"7": {}}}'))["ok"]
    assert "another program" in error('{"do": "set", "queues": {"6": {}, "7": {}}}')
    assert json.loads(engine.ask('{"do": "ping"}'))["queues"] == []
    rival.close()
    engine.close()
    assert rival.process.returncode == engine.process.returncode == 0


def test_a_full_queue_is_counted_and_a_closed_engine_lets_go(net: Rig) -> None:
    engine = net.engine()
    rule = ["PREROUTING", "-s", A, "-d", B, "-j", "NFQUEUE", "--queue-num", "9", "--queue-bypass"]
    asked = {"do": "set", "queues": {9: {"delay": 60, "limit": 10}}}
    assert json.loads(engine.ask(json.dumps(asked)))["ok"]
    net.router.run(["iptables", "-t", "mangle", "-A", *rule])
    try:
        net.arrivals(A, B, 0, quiet=0)
        net.send(A, B, 30)
        queue = json.loads(engine.ask('{"do": "read"}'))["queues"]["9"]
        assert awaited(lambda: json.loads(engine.ask('{"do": "read"}'))["queues"]["9"]["held"] == 10), queue
        assert json.loads(engine.ask('{"do": "read"}'))["queues"]["9"]["overflowed"] == 20
        engine.close()
        assert [number for number, _, _ in net.arrivals(A, B, 10)] == list(range(10))
    finally:
        net.router.run(["iptables", "-t", "mangle", "-D", *rule])

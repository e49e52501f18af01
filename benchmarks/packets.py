"""Packet faults, asked against observed: `python benchmarks/packets.py` makes three nodes and a router.

What is counted is judged by the exact binomial interval of 99.9 %, delays by 1 ms + 2 % at the median, rates
by 10 %. Every verb is measured with each engine that this kernel has for it; what it lacks is named. Arrival
times are the kernel's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.fabric import FaultUnsupported
from harness.fabric.packet_faults import PacketFaults, Reading
from harness.fabric.packet_spec import PacketSpec
from tests.integration.fabric.packet_rig import A, B, NoNamespaces, Rig, binomial_bounds, rig

AB = (A, B)
PACKETS = 20_000  # of each measurement that counts
GAP = 0.0001
FRAME = 42  # bytes around a datagram's payload

Row = tuple[str, str, str, str, bool]  # what, asked, observed, bound, within


def counted(net: Rig, faults: PacketFaults, verb: str, asked: float) -> Row:
    """Lose, double or corrupt packets; count those that arrive."""
    faults.apply({})  # so that counters start anew
    faults.apply({AB: [PacketSpec(**{verb: asked})]})
    arrived = len(net.sent(A, B, PACKETS, gap=GAP))
    low, high = binomial_bounds(PACKETS, asked)
    seen = abs(arrived - PACKETS)
    return share(verb, asked, seen, low, high, faults.in_force()[AB])


def share(verb: str, asked: float, seen: int, low: int, high: int, reading: Reading) -> Row:
    bound = f"{low / PACKETS:.3%} to {high / PACKETS:.3%}"
    clean = reading.packets == PACKETS and not reading.overflowed
    return verb, f"{asked:.0%}", f"{seen / PACKETS:.3%}", bound, clean and low <= seen <= high


def reordered(net: Rig, faults: PacketFaults, asked: float) -> Row:
    """Let packets overtake others that are 10 ms late; count those that came before a lower number."""
    faults.apply({})
    faults.apply({AB: [PacketSpec(delay=0.01, reorder=asked)]})
    numbers = [number for number, _, _ in net.sent(A, B, PACKETS, gap=GAP)]
    overtaking, lowest = 0, PACKETS
    for number in reversed(numbers):
        overtaking += number > lowest
        lowest = min(lowest, number)
    low, high = binomial_bounds(PACKETS, asked)
    return share("reorder", asked, overtaking, low, high, faults.in_force()[AB])


def delayed(net: Rig, faults: PacketFaults, asked: float) -> Row:
    faults.apply({AB: [PacketSpec(delay=asked)]})
    late = sorted((arrived - sent) / 1e9 for _, sent, arrived in net.sent(A, B, 2000, gap=0.001))
    p50, p95 = statistics.median(late), late[len(late) * 95 // 100]
    bound = asked * 1.02 + 0.001
    observed = f"p50 {p50 * 1e3:.2f} p95 {p95 * 1e3:.2f} ms"
    good = len(late) == 2000 and asked <= late[0] and p50 <= bound
    return "delay", f"{asked * 1e3:g} ms", observed, f"p50 {asked * 1e3:g} to {bound * 1e3:.2f} ms", good


def jittered(net: Rig, faults: PacketFaults) -> Row:
    """The quantiles of a uniform jitter; packets are so far apart that none waits for the one before."""
    delay, jitter, count = 0.03, 0.01, 500
    faults.apply({AB: [PacketSpec(delay=delay, jitter=jitter)]})
    late = sorted((arrived - sent) / 1e9 for _, sent, arrived in net.sent(A, B, count, gap=2.1 * jitter))
    good, parts = len(late) == count and late[0] >= delay - jitter, []
    for quantile in (0.05, 0.5, 0.95) if good else ():
        asked = delay + (2 * quantile - 1) * jitter
        low, high = binomial_bounds(count, quantile)
        good &= late[low] - (asked * 0.02 + 0.001) <= asked <= late[min(high, count - 1)]
        parts.append(f"p{quantile * 100:.0f} {late[int(quantile * count)] * 1e3:.1f}")
    asked_text = f"{delay * 1e3:g} ± {jitter * 1e3:g} ms"
    return "jitter", asked_text, " ".join(parts) + " ms", "p5 21 p50 30 p95 39 ms, 99.9 %", good


def limited(net: Rig, faults: PacketFaults, megabits: int) -> Iterator[Row]:
    """A rate in bytes of frames, by datagrams and by a stream."""
    asked = megabits * 125_000
    faults.apply({AB: [PacketSpec(rate=asked)]})
    arrivals = net.sent(A, B, 60, size=1400)[5:]
    got = [(1400 + FRAME) * (len(arrivals) - 1) / (arrivals[-1][2] - arrivals[0][2]) * 8e3]
    size = asked * 3
    done = net.nodes[A].ask("stream", to=B, size=size)
    got.append(size * 1514 / 1448 / done["seconds"] * 8 / 1e6)
    for how, rate in zip(("UDP", "TCP"), got, strict=True):
        good = abs(rate / megabits - 1) <= 0.1
        bound = f"{megabits * 0.9:.1f} to {megabits * 1.1:.1f} Mbit/s"
        yield f"rate, {how}", f"{megabits} Mbit/s", f"{rate:.2f} Mbit/s", bound, good


def measured(net: Rig, engine: str) -> Iterator[Row]:
    """Every row of an engine. FaultUnsupported where this kernel does not have it."""
    faults = net.faults(seed=7, force=None if engine == "htb" else engine)
    try:
        if engine == "htb":
            for megabits in (1, 8):
                yield from limited(net, faults, megabits)
            return
        for probability in (0.01, 0.1, 0.5):
            yield counted(net, faults, "loss", probability)
        if engine == "statistic":
            return
        for delay in (0.005, 0.05, 0.2):
            yield delayed(net, faults, delay)
        yield jittered(net, faults)
        if engine == "nfqueue":
            yield counted(net, faults, "duplicate", 0.1)
        yield counted(net, faults, "corrupt", 0.05)
        yield reordered(net, faults, 0.05)
    finally:
        faults.close()


def cost(net: Rig) -> Iterator[str]:
    """What the engine itself costs: processor time of a packet that passes, and of an idle second."""
    faults = net.faults(force="nfqueue")
    faults.apply({AB: [PacketSpec(delay=0.001)]})
    pid = net.engines[-1].process.pid

    def used() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used()
    net.sent(A, B, PACKETS, gap=GAP)
    yield f"the packet engine takes {(used() - before) / PACKETS * 1e6:.0f} us of a processor for a packet"
    before = used()
    time.sleep(2)
    yield f"and {(used() - before) / 2:.1%} of one when idle"
    faults.close()
    many = {(a, b): [PacketSpec(delay=0.01)] for a in net.nodes for b in net.nodes if a != b}
    faults = net.faults(force="nfqueue")
    faults.apply({AB: [PacketSpec(delay=0.01)]})
    for name, wanted in (("put into", many), ("taken out of", {})):
        start = time.monotonic()
        faults.apply(wanted)
        yield f"{len(many)} pairs are {name} force in {(time.monotonic() - start) * 1e3:.0f} ms"
    faults.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    before, bad = os.getloadavg()[0], 0
    head = ("engine", "verb", "asked", "observed", "bound", "within?")
    shape = "{:<10} {:<10} {:<11} {:<28} {:<32} {}"
    try:
        with rig() as net:
            if not options.json:
                print(shape.format(*head))
            for engine in ("statistic", "netem", "nfqueue", "htb"):
                try:
                    for *row, good in measured(net, engine):
                        bad += not good
                        line = (engine, *row, "yes" if good else "NO")
                        if options.json:
                            print(json.dumps(dict(zip(head, line, strict=True))), flush=True)
                        else:
                            print(shape.format(*line), flush=True)
                except FaultUnsupported as reason:
                    print(f"# {engine}: {reason}")
            for text in cost(net):
                print(f"# {text}")
    except NoNamespaces as reason:
        print(f"packet faults cannot be tried here: {reason}", file=sys.stderr)
        return 2
    after = os.getloadavg()[0]
    print(f"# load average {before:.1f} before, {after:.1f} after, on {os.cpu_count()} processors")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

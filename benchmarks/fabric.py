"""The routed fabric, each runtime that this machine has: `python benchmarks/fabric.py` makes five nodes.

Set-up and teardown are those of the network, its links and the self-test, without the nodes' own programs.
When a cut is in force, and when it is gone, is what a prober sees that sends a datagram each millisecond;
arrival times are the kernel's. Nothing may cross between the return of a cut and the call of its heal: no
datagram, and no byte of what a slow proxy has read ahead (without the rules for the proxy's own packets some
must, or that check could not fail). Limits are those of an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.cluster.docker import DockerCluster, DockerSite
from harness.cluster.lock import ClusterError, RunDirectory
from harness.cluster.netns import NetnsSite
from harness.cluster.site import Ground
from harness.fabric import Pair
from harness.fabric.inside import UDP
from harness.fabric.routed import ROUTER, Routed
from harness.fabric.rules import cuts
from harness.images import ImageError
from targets.raft_kv import RaftKV

Routing = NetnsSite | DockerSite
Row = tuple[str, str, str, bool]  # what, observed, limit, within

SITES: dict[str, type[Routing]] = {"netns": NetnsSite, "docker": DockerSite}
LIMITS = {"netns": (0.3, 0.3), "docker": (3.0, 2.0)}  # seconds of set-up and teardown
IN_FORCE = 0.010  # seconds until a cut, or a heal, is seen by the prober
CUTS = 50
PROBE_EVERY = 1_000_000  # ns
PROBED = 5999  # the prober's port
LATENCY = 0.3  # seconds, of the stream's toxic
STREAMED = 1.0  # seconds of streaming before the cut, and of listening after it


# ---------------------------------------------------------------- a network without nodes


@contextlib.contextmanager
def site(kind: type[Routing], nodes: int) -> Iterator[tuple[Routing, list[float]]]:
    """An open site, and the seconds of its set-up; after the block those of its teardown too."""
    with tempfile.TemporaryDirectory(prefix="nemesis-bench-") as place:
        base, logs = Path(place, "base"), Path(place, "logs")
        logs.mkdir()
        run = RunDirectory.claim(base, f"bench-{os.getpid()}")
        closing, took = threading.Event(), list[float]()
        began = time.perf_counter()
        ground = Ground(RaftKV(nodes=nodes), run, logs, lambda *_: None, lambda: None, closing, lambda: None)
        made = kind(ground)
        try:
            made.open()
            took.append(time.perf_counter() - began)
            yield made, took
        finally:
            closing.set()
            began = time.perf_counter()
            failed = made.end()
            took.append(time.perf_counter() - began)
            run.release(remove=True)
            if failed:
                raise ClusterError("; ".join(failed))


def bring_up(kind: type[Routing], runtime: str, rounds: int) -> Iterator[Row]:
    ups, downs, tests = [], [], []
    for _ in range(rounds):
        with site(kind, 5) as (made, took):
            tests.append(routed(made).report.seconds)
        ups.append(took[0])
        downs.append(took[1])
    up, down = LIMITS[runtime]
    for what, values, limit in (
        ("set-up", ups, up),
        ("of it the self-test", tests, 1.0),
        ("teardown", downs, down),
    ):
        median = statistics.median(values)
        text = f"{median:.2f} s ({min(values):.2f} to {max(values):.2f})"
        yield f"{what}, median of {rounds}", text, f"{limit:g} s", median < limit


def routed(made: Routing) -> Routed:
    assert isinstance(made.fabric, Routed)
    return made.fabric


# ---------------------------------------------------------------- datagrams: when a cut is in force


@dataclass(frozen=True)
class Change:
    """One load of the filter, ns of the monotonic clock."""

    began: int
    returned: int


def probe(sender: int, receiver: int, address: str) -> None:
    """Send a datagram each millisecond until standard input ends; then print when each was sent and came."""
    out, back = socket.socket(fileno=sender), socket.socket(fileno=receiver)
    back.setblocking(False)
    back.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
    seen: list[tuple[int, int]] = []
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, extra, _, _ = back.recvmsg(64, 128)
                seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
                arrived = seconds * 10**9 + nanoseconds - (time.time_ns() - time.monotonic_ns())
                seen.append((int.from_bytes(data, "big"), arrived))

    threading.Thread(target=wait, daemon=True).start()
    print("ready", flush=True)
    due = time.monotonic_ns()
    while not over.is_set():
        out.sendto(time.monotonic_ns().to_bytes(8, "big"), (address, PROBED))
        read()
        due += PROBE_EVERY
        time.sleep(max(due - time.monotonic_ns(), 0) / 1e9)
    time.sleep(0.05)
    read()
    print(json.dumps(seen), flush=True)


def cut_and_heal(made: Routing) -> Iterator[Row]:
    """Cut {n1, n2, n3} from {n4, n5} and heal, while a prober sends from n1 to n4."""
    fabric, layout, inside = routed(made), made.layout, made.inside
    majority = [(a, b) for a in ("n1", "n2", "n3") for b in ("n4", "n5")]
    pairs = [*majority, *((b, a) for a, b in majority)]
    (out,), (back,) = inside["n1"].sockets([UDP]), inside["n4"].sockets([UDP])
    with out, back:
        back.bind((layout.ip("n4"), PROBED))
        back.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        prober = subprocess.Popen(
            [sys.executable, __file__, "--probe", str(out.fileno()), str(back.fileno()), layout.ip("n4")],
            pass_fds=(out.fileno(), back.fileno()), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert prober.stdout is not None
    with prober:
        prober.stdout.readline()
        changes = []
        for _ in range(CUTS):
            for wanted in (pairs, ()):
                time.sleep(0.05)  # what the prober is to see of the state before
                changes.append(changed(fabric, wanted))
        time.sleep(0.05)
        said, _ = prober.communicate()
    yield from seen(changes, sorted(arrived for _, arrived in json.loads(said)))


def changed(fabric: Routed, wanted: Collection[Pair]) -> Change:
    began = time.monotonic_ns()
    fabric._load(wanted)
    return Change(began, time.monotonic_ns())


def seen(changes: list[Change], arrivals: list[int]) -> Iterator[Row]:
    cut, healed = changes[::2], changes[1::2]
    leaked = sum(c.returned < at < h.began for c, h in zip(cut, healed, strict=True) for at in arrivals)
    last = [max((at for at in arrivals if c.began < at < h.began), default=c.began) - c.began
            for c, h in zip(cut, healed, strict=True)]  # fmt: skip
    first = [min((at for at in arrivals if at > h.began), default=h.began + 10**12) - h.began for h in healed]
    for name, loads, effects, which in (("cut", cut, last, "last"), ("heal", healed, first, "first")):
        calls = sorted((one.returned - one.began) / 1e6 for one in loads)
        effect = statistics.median(effects) / 1e6
        yield f"{name}, call", f"{statistics.median(calls):.1f} ms (max {calls[-1]:.1f})", "", True
        yield (f"{name}, {which} packet after the call", f"{effect:.1f} ms (max {max(effects) / 1e6:.1f})",
               f"{IN_FORCE * 1e3:g} ms", effect < IN_FORCE * 1e3)  # fmt: skip
    yield f"packets across {CUTS} cuts in force", str(leaked), "0", leaked == 0


# ---------------------------------------------------------------- a stream: nothing read ahead comes


def stream(made: Routing) -> Iterator[Row]:
    """Bytes that come after the return of a one-way cut, of a stream that a toxic holds up by 300 ms."""
    fabric, pair = routed(made), ("n1", "n2")
    fabric.shape("slow", [pair], latency=LATENCY)
    try:
        rules = cuts(made.layout, [pair])
        half = "".join(
            line for line in rules.splitlines(keepends=True) if not line.startswith("-A NEMESIS_OUT")
        )
        leaked, before = streamed(made, rules)
        yield "bytes of a stream after a cut's return", f"{leaked:,} (before: {before:,})", "0", not leaked
        leaked, _ = streamed(made, half)
        yield "without the rules for the proxy's own", f"{leaked:,}", "more than 0", leaked > 0
    finally:
        fabric.heal("slow")


def streamed(made: Routing, rules: str) -> tuple[int, int]:
    """Bytes that n2 reads of n1's after `rules` are loaded, and before."""
    layout, inside, router = made.layout, made.inside, made.inside[ROUTER]
    port = layout.ports["n2"]["main"]
    over = threading.Event()
    with inside["n2"].listening(layout.ip("n2"), port) as listener:
        source = inside["n1"].connect(layout.ip("n2"), port, 5.0)
        listener.settimeout(5.0)
        sink, _ = listener.accept()
    with source, sink:
        source.settimeout(0.05)
        sink.setblocking(False)

        def send() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    source.send(bytes(512))
                over.wait(0.002)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            before = drained(sink, STREAMED)
            router.restore(rules)
            before += drained(sink, 0)
            after = drained(sink, STREAMED)
        finally:
            over.set()
            sender.join()
            router.restore(cuts(layout, ()))
    return after, before


def drained(sink: socket.socket, seconds: float) -> int:
    """Bytes that come within so many seconds; at least what is there."""
    end, size = time.monotonic() + seconds, 0
    while True:
        try:
            size += len(sink.recv(1 << 16))
        except BlockingIOError:
            if time.monotonic() >= end:
                return size
            time.sleep(0.001)


# ---------------------------------------------------------------- printing


def ready(runtime: str) -> None:
    """Have what a runtime needs. Raises ClusterError, ImageError where it cannot be had here."""
    if runtime == "docker":
        with tempfile.TemporaryDirectory() as place:
            cluster = DockerCluster(
                RaftKV(nodes=5), run_id="bench", logs=Path(place), on_event=lambda *_: None
            )
            cluster.prepare(lambda text: print(f"# {text}", file=sys.stderr))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="set-ups of each runtime")
    parser.add_argument("--runtime", choices=[*SITES], action="append", help="only this one")
    parser.add_argument("--probe", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        probe(int(options.probe[0]), int(options.probe[1]), options.probe[2])
        return 0
    before, wrong, measured = os.getloadavg()[0], 0, 0
    print(f"{'runtime':<8} {'what':<40} {'observed':<32} {'limit':<12} within?")
    for runtime in options.runtime or SITES:
        kind = SITES[runtime]
        try:
            ready(runtime)
            rows = [*bring_up(kind, runtime, options.rounds)]
            with site(kind, 5) as (made, _):
                rows += [*cut_and_heal(made), *stream(made)]
        except (ClusterError, ImageError) as reason:
            print(f"# {runtime}: {reason}")
            continue
        measured += 1
        for what, observed, limit, within in rows:
            late = limit.endswith("s") and not within
            wrong += not within and not late
            print(f"{runtime:<8} {what:<40} {observed:<32} {limit:<12} {'yes' if within else 'NO'}")
    after = os.getloadavg()[0]
    print(f"# load average {before:.1f} before, {after:.1f} after, on {os.cpu_count()} processors")
    return 1 if wrong or not measured else 0


if __name__ == "__main__":
    sys.exit(main())

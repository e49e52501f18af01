"""What a proxy costs: `python benchmarks/proxy.py` compares no proxy, the embedded one and the real one.

Round-trip times of 64 bytes, and throughput of one direction over 1 and 8 streams, without toxics. All three
take turns in each round, so that whatever else the machine does meets all of them; medians are printed.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.proxy.real import NoRealServer, real_server
from tests.integration.proxy.support import embedded_command, running

Address = tuple[str, int]

PING = b"x" * 64
PINGS = 3_000
BLOCK = 1 << 20  # bytes per call of the load generator: few calls, so that it does not dominate
VOLUME = 400 << 20  # bytes per measurement of throughput, over all streams


# ---------------------------------------------------------------- the load: this process and a peer


def serve_peer() -> None:
    """The upstream, a process of its own: an 8-byte number of bytes to send, or 0 for an echo."""

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            (size,) = struct.unpack("!Q", connection.recv(8, socket.MSG_WAITALL))
            if size:
                block = bytes(BLOCK)
                for _ in range(size // BLOCK):
                    connection.sendall(block)
            else:
                buffer = memoryview(bytearray(4096))
                while count := connection.recv_into(buffer):
                    connection.sendall(buffer[:count])

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def connect(address: Address, size: int) -> socket.socket:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(struct.pack("!Q", size))
    return connection


def round_trips(address: Address) -> tuple[float, float]:
    """The median and the 99th percentile, in microseconds."""
    times = []
    buffer = bytearray(len(PING))
    with connect(address, 0) as connection:
        for _ in range(PINGS):
            begin = time.perf_counter()
            connection.sendall(PING)
            connection.recv_into(buffer, len(PING), socket.MSG_WAITALL)
            times.append(time.perf_counter() - begin)
    times.sort()
    return times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6


def throughput(address: Address, streams: int) -> float:
    """Megabytes (of 10**6 bytes) per second that arrive over all streams."""
    size = VOLUME // streams // BLOCK * BLOCK

    def pull() -> None:
        buffer = bytearray(BLOCK)
        with connect(address, size) as connection:
            received = 0
            while received < size:
                received += connection.recv_into(buffer)

    threads = [threading.Thread(target=pull) for _ in range(streams)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return size * streams / (time.perf_counter() - begin) / 1e6


# ---------------------------------------------------------------- measuring and printing


def measure(ways: dict[str, Address], rounds: int) -> dict[str, dict[str, float]]:
    """The median of each figure, by figure and way."""
    seen: dict[str, dict[str, list[float]]] = {}

    def note(figure: str, way: str, value: float) -> None:
        seen.setdefault(figure, {}).setdefault(way, []).append(value)

    names = list(ways)
    for turn in range(rounds):
        order = names[turn % len(names) :] + names[: turn % len(names)]
        for way in order:
            p50, p99 = round_trips(ways[way])
            note("round trip p50, us", way, p50)
            note("round trip p99, us", way, p99)
        for streams in (1, 8):
            for way in order:
                note(
                    f"throughput, {streams} stream{'s' * (streams > 1)}, MB/s",
                    way,
                    throughput(ways[way], streams),
                )
    return {
        figure: {way: statistics.median(values) for way, values in by_way.items()}
        for figure, by_way in seen.items()
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """One line per figure; a ratio above 1 means that the embedded server is the better one."""
    lines = [f"{'':32}{'direct':>10}{'embedded':>10}{'real':>10}   embedded : real, better is above 1"]
    for figure, by_way in figures.items():
        cells = "".join(
            f"{by_way[way]:>10.0f}" if way in by_way else f"{'-':>10}"
            for way in ("direct", "embedded", "real")
        )
        ratio = ""
        if "real" in by_way:
            ratio = f"   {by_way['embedded'] / by_way['real']:.2f}"
            if figure.startswith("round trip"):
                added = {way: by_way[way] - by_way["direct"] for way in ("embedded", "real")}
                # On a loaded machine a tail can be shorter through a proxy than without: no ratio then.
                fair = min(added.values()) > 0
                ratio = f"   {added['real'] / added['embedded']:.2f}" if fair else "   -   "
                ratio += f"   adds {added['embedded']:.0f} : {added['real']:.0f}"
        lines.append(f"{figure:32}{cells}{ratio}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve_peer()
    with ExitStack() as stack:
        peer = subprocess.Popen([sys.executable, __file__, "--peer"], stdout=subprocess.PIPE, text=True)
        stack.enter_context(peer)
        stack.callback(peer.kill)
        assert peer.stdout
        upstream = f"127.0.0.1:{int(peer.stdout.readline())}"
        ways: dict[str, Address] = {"direct": _address(upstream)}
        commands: dict[str, Callable[[], list[str | Path]]] = {
            "embedded": embedded_command,
            "real": lambda: [real_server()],
        }
        for way, command in commands.items():
            try:
                server = stack.enter_context(running(command()))
            except NoRealServer as reason:
                print(f"without the real server: {reason}")
                continue
            ways[way] = _address(server.populate([("bench", "127.0.0.1:0", upstream)])["bench"])
        before = os.getloadavg()[0]
        print(table(measure(ways, options.rounds)))
        after = os.getloadavg()[0]
        print(f"load average {before:.1f} before, {after:.1f} after, on {os.cpu_count()} processors")


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()

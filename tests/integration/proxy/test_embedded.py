"""The embedded server where it is more than the real one: what that dies of or hangs in, and extensions."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.proxy import EMBEDDED, Server, Stream, toxic
from tests.integration.proxy.support import (
    Bench,
    Wire,
    embedded_command,
    noise,
    one_way,
    read_exactly,
    read_to_end,
    running,
    silent,
    stopwatch,
)

LIARS = Path(__file__).with_name("liars.py")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    """Only the embedded server."""
    with running(embedded_command()) as server:
        yield server


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("slicer", {}),
        ("slicer", {"average_size": 10, "size_variation": 50}),
        ("slicer", {"average_size": -5, "size_variation": -5, "delay": -1}),
        ("latency", {"latency": -100, "jitter": -100}),
        ("latency", {"latency": 0, "jitter": 2**63 - 1}),
        ("bandwidth", {"rate": 2**63 - 1}),
    ],
)
def test_attributes_that_kill_the_real_server_are_survived(
    bench: Bench, wire: Wire, kind: str, attributes: dict[str, int]
) -> None:
    body = {"type": kind, "attributes": attributes, "stream": "upstream"}
    assert wire.ask("POST", f"/proxies/{bench.name}/toxics", body).status == 200
    line = bench.open()
    line.client.sendall(noise(2_000))
    bench.server.reset()
    assert read_exactly(line.peer, 2_000) == noise(2_000)


def test_a_negative_rate_stalls(bench: Bench, wire: Wire) -> None:
    body = {"type": "bandwidth", "attributes": {"rate": -1}, "stream": "upstream"}
    assert wire.ask("POST", f"/proxies/{bench.name}/toxics", body).status == 200
    line = bench.open()
    line.client.sendall(b"held")
    assert silent(line.peer, 0.1)


def test_an_upstream_that_does_not_answer_holds_nobody_up(server: Server, bench: Bench, wire: Wire) -> None:
    """The clients whose dial hangs are closed with the proxy, at once, and the next ones are served."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [
            socket.socket() for _ in range(4)
        ]  # its queue is full, so the kernel lets further dials wait
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            old = server.proxies()[bench.name].upstream
            path = f"/proxies/{bench.name}"
            wire.ask("PATCH", path, {"upstream": f"127.0.0.1:{deaf.getsockname()[1]}"})
            clients = [bench.dial() for _ in range(3)]
            assert all(silent(client, 0.05) for client in clients)
            with stopwatch() as taken:
                wire.ask("PATCH", path, {"upstream": old})
                assert all(read_to_end(client)[0] == b"" for client in clients)
                one_way(bench.open(), "upstream")
            assert taken[0] < 2
        finally:
            for filler in fillers:
                filler.close()


def test_clients_that_come_and_go_leave_no_descriptor_behind() -> None:
    """Whoever closes first, and with whatever toxic in between."""
    with running(embedded_command()) as server, socket.create_server(("127.0.0.1", 0)) as upstream:
        upstream.settimeout(10)
        to = f"127.0.0.1:{upstream.getsockname()[1]}"
        bound = server.populate([("p", "127.0.0.1:0", to)])["p"]
        address = ("127.0.0.1", int(bound.rpartition(":")[2]))
        process = _listener_of(server.port)
        before = len(os.listdir(f"/proc/{process}/fd"))
        for number in range(60):
            if number == 30:
                server.add("p", toxic("latency", latency=1))
            with socket.create_connection(address, 10) as client:
                peer = upstream.accept()[0]
                first, second = (client, peer) if number % 2 else (peer, client)
                first.sendall(b"x")
                first.close()
                assert read_to_end(second)[0] == b"x"
                peer.close()
        server.delete("p")
        assert len(os.listdir(f"/proc/{process}/fd")) < before


def _listener_of(port: int) -> int:
    """The process of this test's children that listens on a port."""
    inode = next(
        row.split()[9]
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A"
    )
    for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for process in child.read_text().split():
            for file in Path(f"/proc/{process}/fd").iterdir():
                if file.is_symlink() and os.readlink(file) == f"socket:[{inode}]":
                    return int(process)
    raise AssertionError(f"none of this process's children listens on {port}")


def test_a_seed_repeats_the_dice() -> None:
    def rolls(seed: str) -> list[int]:
        with running(embedded_command(), "-seed", seed) as server:
            with socket.create_server(("127.0.0.1", 0)) as upstream:
                upstream.settimeout(10)
                to = f"127.0.0.1:{upstream.getsockname()[1]}"
                bound = server.populate([("p", "127.0.0.1:0", to)])["p"]
                server.add("p", toxic("limit_data", stream="upstream", toxicity=0.5))
                seen = []
                for _ in range(24):
                    address = ("127.0.0.1", int(bound.rpartition(":")[2]))
                    with socket.create_connection(address, 10) as client, upstream.accept()[0] as peer:
                        peer.settimeout(10)
                        client.sendall(b"x")
                        seen.append(len(peer.recv(1)))
            return seen

    assert rolls("7") == rolls("7") != rolls("8")


# ---------------------------------------------------------------- the program


@pytest.mark.parametrize("options", [["--port=0"], ["-port", "0"], ["-host=127.0.0.1", "--port", "0"]])
def test_options_take_one_dash_or_two(options: list[str]) -> None:
    with subprocess.Popen([sys.executable, EMBEDDED, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert line.startswith("listening on 127.0.0.1:") and not line.endswith(":0\n")


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, EMBEDDED, "-host", "127.0.0.1", "-port", port], capture_output=True, text=True
        )
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_one_file_is_all_it_needs(tmp_path: Path) -> None:
    """Copied elsewhere and run without site packages, as in a container."""
    alone = tmp_path / "server.py"
    alone.write_bytes(EMBEDDED.read_bytes())
    with running([sys.executable, "-I", "-S", alone]) as server:
        assert server.await_ready() == "2.12.0"


def test_it_dies_with_its_parent() -> None:
    parent = (
        "import subprocess, sys\n"
        f"subprocess.Popen([{sys.executable!r}, {str(EMBEDDED)!r}, '-port', '0', '--die-with-parent'])\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("listening on")
        process.kill()
        # Parent and child hold the other end of this pipe: it ends when both are gone.
        assert process.stdout.read() == ""


# ---------------------------------------------------------------- the liars


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_the_liar_that_stores_applies_nothing(stream: Stream) -> None:
    with running([sys.executable, LIARS, "--lie", "stores"]) as server, ExitStack() as stack:
        bench = Bench(server, stack)
        line = bench.open()
        server.add(bench.name, toxic("timeout", stream=stream))
        for each in (line, bench.open()):
            one_way(each, stream)
        server.remove(bench.name, f"timeout_{stream}")


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_the_liar_that_keeps_removes_for_the_api_only(stream: Stream) -> None:
    with running([sys.executable, LIARS, "--lie", "keeps"]) as server, ExitStack() as stack:
        bench = Bench(server, stack)
        line = bench.open()
        server.add(bench.name, toxic("bandwidth", stream=stream, rate=0))
        server.remove(bench.name, f"bandwidth_{stream}")
        server.reset()
        assert server.proxies()[bench.name].toxics == ()
        for each in (line, bench.open()):
            sender, receiver = each.ends(stream)
            sender.sendall(b"held")
            assert silent(receiver, 0.1)

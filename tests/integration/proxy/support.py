"""What the proxy tests share: servers to start, the API as raw HTTP, and connections held at both ends."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.proxy import EMBEDDED, Server, Stream


def free_port() -> int:
    """A port of the loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str | Path], *options: str) -> Iterator[Server]:
    """A server of its own: `command` is one that prints `listening on`, or the real one's binary."""
    announces = len(command) > 1
    port = 0 if announces else free_port()
    process = subprocess.Popen(
        [*command, "-host", "127.0.0.1", "-port", str(port), *options],
        stdout=subprocess.PIPE if announces else subprocess.DEVNULL,
        text=True,
    )
    try:
        if process.stdout:
            line = process.stdout.readline()
            assert line.startswith("listening on 127.0.0.1:"), f"expected the line of a server, got {line!r}"
            port = int(line.rpartition(":")[2])
        server = Server("127.0.0.1", port)
        try:
            server.await_ready()
            yield server
        finally:
            server.close()
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


def embedded_command() -> list[str | Path]:
    """How the embedded server is started."""
    return [sys.executable, "-I", "-S", EMBEDDED, "--die-with-parent"]


# ---------------------------------------------------------------- the API, as raw HTTP


@dataclass(frozen=True)
class Answer:
    """What came back, undecoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """Sends requests as they are, without a client library's opinion on them."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=10)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request; a str or bytes body goes out as it is, anything else as JSON."""
        raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else None
        if raw is None and body is not None:
            raw = json.dumps(body).encode()
        self.connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            self.connection.putheader(name.replace("_", "-"), value)
        self.connection.putheader("Content-Length", str(len(raw or b"")))
        self.connection.endheaders(raw)
        response = self.connection.getresponse()
        lower = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lower, response.read())

    def close(self) -> None:
        self.connection.close()


# ---------------------------------------------------------------- connections, held at both ends


@dataclass(frozen=True)
class Line:
    """One connection through a proxy: the client's end and the end the upstream accepted."""

    client: socket.socket
    peer: socket.socket

    def ends(self, stream: Stream) -> tuple[socket.socket, socket.socket]:
        """Who sends and who receives on this stream."""
        return (self.client, self.peer) if stream == "upstream" else (self.peer, self.client)


class Bench:
    """A proxy before an upstream that the test itself accepts for."""

    def __init__(self, server: Server, stack: ExitStack, name: str = "bench") -> None:
        self.server, self.stack, self.name = server, stack, name
        self.upstream = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.upstream.settimeout(10)
        port = self.upstream.getsockname()[1]
        bound = server.populate([(name, "127.0.0.1:0", f"127.0.0.1:{port}")])[name]
        self.address = ("127.0.0.1", int(bound.rpartition(":")[2]))

    def dial(self) -> socket.socket:
        """A client of the proxy, whatever becomes of it."""
        client = self.stack.enter_context(socket.create_connection(self.address, 10))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def open(self) -> Line:
        """A connection through the proxy."""
        client = self.dial()
        peer = self.stack.enter_context(self.upstream.accept()[0])
        peer.settimeout(10)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Line(client, peer)


def read_exactly(end: socket.socket, size: int) -> bytes:
    """That many bytes; fails where the connection ends before."""
    data = bytearray()
    while len(data) < size:
        part = end.recv(min(size - len(data), 1 << 16))
        assert part, f"expected {size} bytes, the connection ended after {len(data)}"
        data += part
    return bytes(data)


def read_to_end(end: socket.socket) -> tuple[bytes, str]:
    """All bytes until the connection ends, and how it did: `FIN` or `RST`."""
    data = bytearray()
    try:
        while part := end.recv(1 << 16):
            data += part
    except ConnectionResetError:
        return bytes(data), "RST"
    return bytes(data), "FIN"


def silent(end: socket.socket, seconds: float) -> bool:
    """Whether nothing comes, not even the end, for that long."""
    before = end.gettimeout()
    end.settimeout(seconds)
    try:
        end.recv(1, socket.MSG_PEEK)
        return False
    except TimeoutError:
        return True
    finally:
        end.settimeout(before)


def noise(size: int) -> bytes:
    """Bytes of which no two stretches are alike."""
    return hashlib.shake_128(b"noise").digest(size)


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Appends the seconds that the block took."""
    taken: list[float] = []
    begin = time.monotonic()
    yield taken
    taken.append(time.monotonic() - begin)


def one_way(line: Line, stream: Stream, message: bytes = b"ping") -> float:
    """Seconds from sending to having received."""
    sender, receiver = line.ends(stream)
    begin = time.monotonic()
    sender.sendall(message)
    assert read_exactly(receiver, len(message)) == message
    return time.monotonic() - begin

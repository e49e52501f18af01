"""What the fabric's tests share: small nodes, a fabric over them, servers that lie."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from harness.fabric.loopback import Loopback
from harness.framing import Framing, Framings
from tests.integration.proxy import liars
from tests.integration.proxy.support import running

NAMES = ("n1", "n2", "n3", "n4", "n5")


class Node:
    """A node that keeps what it receives and sends it back."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.received = bytearray()
        self.closes = 0
        self._changed = threading.Condition()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(65536):
                with self._changed:
                    self.received += data
                    self._changed.notify_all()
                connection.sendall(data)
        with self._changed:
            self.closes += 1
            self._changed.notify_all()
        connection.close()

    def awaits(self, condition: Callable[[Node], bool], within: float) -> bool:
        """Whether the condition comes true within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), within)

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._threads[0].join()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


class Lab:
    """A fabric, its nodes, and connections between them as the nodes would make them."""

    def __init__(self, fabric: Loopback, nodes: dict[str, Node], stack: ExitStack) -> None:
        self.fabric, self.nodes, self.stack = fabric, nodes, stack

    def connect(self, src: str, dst: str) -> socket.socket:
        """A connection from `src` to `dst` through the fabric."""
        return self.stack.enter_context(socket.create_connection(self.fabric.endpoint(src, dst), timeout=10))


@contextmanager
def lab(
    command: list[str | Path],
    names: tuple[str, ...] = NAMES,
    framing: Mapping[str, Framing | Framings] = MappingProxyType({}),
) -> Iterator[Lab]:
    """A fabric over nodes of these names, on a server that `command` starts."""
    with ExitStack() as stack:
        server = stack.enter_context(running(command))
        nodes = {name: Node() for name in names}
        for node in nodes.values():
            stack.callback(node.close)
        ports = {name: {"main": node.port} for name, node in nodes.items()}
        fabric = Loopback(server, ports, framing=framing)
        stack.callback(fabric.close)
        yield Lab(fabric, nodes, stack)


def liar_command(lie: str) -> list[str | Path]:
    """A server that stores toxics and applies none, or that keeps what it says it removed."""
    return [sys.executable, Path(liars.__file__), "--lie", lie]

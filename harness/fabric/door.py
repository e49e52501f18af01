"""Doors from the host's loopback into network namespaces, for whoever speaks to a cluster from outside.

Runs as a file of standard library in a process of its own: ``door.py '[[AGENT-SOCKET, ADDRESS, PORT], ...]'``
listens on a free port of 127.0.0.1 for each, prints them as one JSON list, and carries every connection to
ADDRESS:PORT by a socket that the namespace's agent makes. Ends and resets are passed on as what they are.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable

CHUNK = 1 << 18


class Agent:
    """Sockets of the namespace, made ahead of need."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sock: socket.socket | None = None
        self.ready: list[socket.socket] = []

    def connect(self) -> socket.socket:
        directory = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY)
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(self.path)}")
            return sock
        finally:
            os.close(directory)

    def take(self) -> socket.socket:
        try:
            return self.fetch()
        except OSError:  # it was started again
            self.sock = None
            return self.fetch()

    def fetch(self) -> socket.socket:
        if self.sock is None:
            self.sock, self.ready = self.connect(), []
        if not self.ready:
            kind = f"[{int(socket.AF_INET)}, {int(socket.SOCK_STREAM)}, 0]"
            kinds = ", ".join([kind] * 16)
            self.sock.sendall(f'{{"do": "sockets", "kinds": [{kinds}]}}\n'.encode())
            descriptors, data = array.array("i"), b""
            while not data.endswith(b"\n"):
                part, ancillary, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(16 * 4))
                for _, _, payload in ancillary:
                    descriptors.frombytes(payload)
                if not part:
                    raise ConnectionError("the agent has ended")
                data += part
            self.ready = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        return self.ready.pop()


class Door:
    """All connections, served by one selector."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def open(self, agent: Agent, address: tuple[str, int]) -> int:
        """Listen for `address` inside; on which port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.setblocking(False)
        self.watch(listener, selectors.EVENT_READ, lambda _: self.accept(listener, agent, address))
        return int(listener.getsockname()[1])

    def watch(self, sock: socket.socket, events: int, call: Callable[[int], None]) -> None:
        self.selector.register(sock, events, call)

    def accept(self, listener: socket.socket, agent: Agent, address: tuple[str, int]) -> None:
        with contextlib.suppress(BlockingIOError):
            outer, _ = listener.accept()
            try:
                inner = agent.take()
            except OSError:  # nobody serves the namespace any more
                outer.close()
                return
            for sock in (outer, inner):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                inner.connect(address)
            Passage(self, outer, inner)

    def run(self) -> None:
        while True:
            for key, events in self.selector.select():
                key.data(events)


class Passage:
    """One connection: an outer and an inner socket, and what is on its way each way."""

    def __init__(self, door: Door, outer: socket.socket, inner: socket.socket) -> None:
        self.door = door
        self.peer = {outer: inner, inner: outer}
        self.waiting = {outer: b"", inner: b""}  # what is to be written to it
        self.ended = {outer: False, inner: False}  # it has sent its end
        self.shut = {outer: False, inner: False}  # its end has been passed to the other
        for sock in self.peer:
            events = selectors.EVENT_WRITE if sock is inner else selectors.EVENT_READ
            door.watch(sock, events, lambda events, sock=sock: self.ready(sock, events))  # type: ignore[misc]

    def ready(self, sock: socket.socket, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, os.strerror(error))
                self.write(sock)
            if events & selectors.EVENT_READ:
                self.read(sock)
            for one in self.peer:
                self.arrange(one)
        except OSError:
            self.close(reset=True)
        if all(self.shut.values()):
            self.close(reset=False)

    def read(self, sock: socket.socket) -> None:
        other = self.peer[sock]
        if self.waiting[other]:
            return
        with contextlib.suppress(BlockingIOError):
            data = sock.recv(CHUNK)
            if data:
                self.waiting[other] = data
            else:
                self.ended[sock] = True
        self.write(other)

    def write(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.waiting[sock]:
                self.waiting[sock] = self.waiting[sock][sock.send(self.waiting[sock]) :]
        other = self.peer[sock]
        if not self.waiting[sock] and self.ended[other] and not self.shut[other]:
            sock.shutdown(socket.SHUT_WR)
            self.shut[other] = True

    def arrange(self, sock: socket.socket) -> None:
        """Ask for what can go on: reading only what the other side takes."""
        events = 0
        if not self.ended[sock] and not self.waiting[self.peer[sock]]:
            events |= selectors.EVENT_READ
        if self.waiting[sock]:
            events |= selectors.EVENT_WRITE
        known = self.door.selector.get_map()
        if sock in known:
            key = known[sock]
            if not events:
                self.door.selector.unregister(sock)
            elif key.events != events:
                self.door.selector.modify(sock, events, key.data)
        elif events:
            self.door.watch(sock, events, lambda events, sock=sock: self.ready(sock, events))  # type: ignore[misc]

    def close(self, reset: bool) -> None:
        for sock in self.peer:
            if sock.fileno() < 0:
                continue
            if sock in self.door.selector.get_map():
                self.door.selector.unregister(sock)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def main() -> None:
    door, agents, ports = Door(), dict[str, Agent](), []
    for path, address, port in json.loads(sys.argv[1]):
        ports.append(door.open(agents.setdefault(path, Agent(path)), (address, port)))
    print(json.dumps(ports), flush=True)
    door.run()


if __name__ == "__main__":
    main()

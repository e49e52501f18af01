"""The way to a packet engine: a line there, a line back."""

from __future__ import annotations

import socket
from typing import Protocol


class Channel(Protocol):
    """Lines to and from an engine that was started in the router's namespace."""

    def ask(self, line: str) -> str:
        """Send a line, and return the one that answers it. OSError or EOFError if the engine is gone."""
        ...

    def close(self) -> None:
        """Close the engine's stdin, at which it ends; idempotent."""
        ...


class Wired:
    """A channel over a socket whose other end is the engine's standard input and output; who made the socket
    has started the engine there.
    """

    def __init__(self, sock: socket.socket, within: float = 15.0) -> None:
        self._sock, self._unread = sock, b""
        sock.settimeout(within)

    def ask(self, line: str) -> str:
        self._sock.sendall(line.encode() + b"\n")
        while b"\n" not in self._unread:
            data = self._sock.recv(1 << 16)
            if not data:
                raise EOFError("the packet engine has ended")
            self._unread += data
        answer, _, self._unread = self._unread.partition(b"\n")
        return answer.decode()

    def close(self) -> None:
        self._sock.close()

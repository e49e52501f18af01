"""The way to a packet engine: a line there, a line back."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Sequence
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
    """A channel over a socket that is the engine's standard input and output.

    Differs from `Piped` in that somebody else has started the engine, where the socket's other end is.
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


class Piped:
    """A channel to a command that is run as a child process.

    An answer must come `within` so many seconds; after one that did not, the channel is of no use.
    """

    def __init__(self, argv: Sequence[str], within: float = 15.0) -> None:
        # In a session of its own: Ctrl-C must not take the engine away before its faults are healed.
        self.process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._within, self._unread = within, b""

    def ask(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        if self.process.stdin.closed:
            raise EOFError("the channel to the packet engine is closed")
        data = line.encode() + b"\n"
        while data:
            data = data[os.write(self.process.stdin.fileno(), data) :]
        end = time.monotonic() + self._within
        while b"\n" not in self._unread:
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the packet engine did not answer within {self._within:g} s")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError("the packet engine has ended")
            self._unread += data
        answer, _, self._unread = self._unread.partition(b"\n")
        return answer.decode()

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(self._within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

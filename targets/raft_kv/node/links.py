"""Connections between nodes: each dials one to every peer and sends on it; it reads from those it accepts.

A connection starts with a line ``raft NAME``, then come frames: four bytes of length, and a marshalled
list of messages. The accepting side returns a byte now and then while data arrives; a connection that
took data and returned nothing for `PATIENCE` seconds swallowed it, and is replaced.
"""

from __future__ import annotations

import asyncio
import marshal
import struct
import sys
from collections.abc import Callable
from typing import Any

HELLO = b"raft "
LENGTH = struct.Struct("<I")
LONGEST = 1 << 28  # bytes of a frame
PENDING = 4 << 20  # bytes held for a peer that does not take them; more is dropped, Raft sends again
PATIENCE = 1.5
ALIVE_AFTER = 0.2
BACK_OFF = (0.03, 0.5)


class Link(asyncio.Protocol):
    """The outgoing connection to one peer, dialled again whenever it breaks."""

    def __init__(self, name: str, host: str, port: int, linked: Callable[[], None]) -> None:
        self.name, self.host, self.port, self.linked = name, host, port, linked
        self.transport: asyncio.Transport | None = None
        self.back_off = BACK_OFF[0]
        self.unanswered: float | None = None
        self.loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()

    async def keep(self) -> None:
        """Dial for ever."""
        while True:
            self._closed.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self.loop.create_connection(lambda: self, self.host, self.port)
            except (OSError, TimeoutError):
                pass
            else:
                await self._closed.wait()
            await asyncio.sleep(self.back_off)
            self.back_off = min(2 * self.back_off, BACK_OFF[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.unanswered = self.loop.time()
        transport.write(HELLO + self.name.encode() + b"\n")
        self.linked()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._closed.set()

    def data_received(self, data: bytes) -> None:
        self.unanswered = None
        self.back_off = BACK_OFF[0]  # only now: a proxy accepts for a peer that is dead

    def eof_received(self) -> bool:
        return False

    def send(self, messages: list[Any]) -> None:
        """Send `messages` in one frame, or drop them: Raft repeats what matters."""
        if self.transport is None or self.transport.get_write_buffer_size() > PENDING:
            return
        body = marshal.dumps(messages)
        self.transport.write(LENGTH.pack(len(body)) + body)
        if self.unanswered is None:
            self.unanswered = self.loop.time()

    def check(self, now: float) -> None:
        """Give up a connection that swallows what it is given."""
        if self.transport is not None and self.unanswered is not None and now - self.unanswered > PATIENCE:
            self.transport.abort()


class Listener(asyncio.Protocol):
    """An accepted connection from a peer, after its first line."""

    def __init__(
        self, peer: str, received: Callable[[str, list[Any]], None], transport: asyncio.Transport
    ) -> None:
        self.peer, self.received, self.transport = peer, received, transport
        self.buffer = bytearray()
        self._alive: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        if self._alive is None:
            self._alive = asyncio.get_running_loop().call_later(ALIVE_AFTER, self._say_alive)
        buffer = self.buffer
        buffer += data
        place = 0
        while len(buffer) - place >= 4:
            (length,) = LENGTH.unpack_from(buffer, place)
            if length > LONGEST:
                print(f"frame of {length} bytes from {self.peer}: closed", file=sys.stderr, flush=True)
                self.transport.abort()
                return
            if len(buffer) - place - 4 < length:
                break
            with memoryview(buffer) as view:
                messages = marshal.loads(view[place + 4 : place + 4 + length])
            place += 4 + length
            self.received(self.peer, messages)
        del buffer[:place]

    def connection_lost(self, error: Exception | None) -> None:
        if self._alive:
            self._alive.cancel()

    def _say_alive(self) -> None:
        self._alive = None
        self.transport.write(b".")

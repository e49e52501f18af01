"""Traffic of the fabric's own: connections whose two ends are here, so that each direction is measured alone.

A probe connection goes through a proxy (or any path) whose far end is a listener of `Probes`. Frames carry
their number and the time they were sent; both ends read the same clock, so one-way times are exact. All
sockets are served by one selector in the thread that calls `pump`; nothing here is thread-safe.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.fabric.tally import Tally

HEADER = struct.Struct("!IIIQ")  # connection, number, size of the frame, time sent
FRAME = HEADER.size
_SEGMENTS_IN = 152  # offset of data_segs_in in struct tcp_info, Linux >= 4.6


class Flow:
    """One direction of a probe connection: what was sent into it and what came out.

    `took` is the one-way time in seconds of the newest frame that arrived whole, `spread` the seconds from
    sending it to its last byte; `pieces` counts the parts in which bytes arrived.
    """

    def __init__(self, probes: Probes, number: int) -> None:
        self.probes, self.number = probes, number
        self.source: End | None = None
        self.sink: End | None = None
        self.sent = self.arrived = self.bytes = self.pieces = 0
        self.took = 0.0
        self.ended: int | None = None  # ns at which the sink saw the end
        self.reset = False  # the end was a RST
        self.damaged = ""
        self.tally: Tally | None = None  # takes what arrives, once there is one
        self._head = bytearray()
        self._left = 0
        self._stamp = 0

    @property
    def settled(self) -> bool:
        """Whether all that was sent has arrived."""
        return self.arrived == self.sent

    @property
    def dead(self) -> bool:
        """Whether nothing can be sent any more, or nothing can arrive."""
        return self.ended is not None or not (
            self.source and self.source.open and self.sink and self.sink.open
        )

    def send(self, size: int = FRAME) -> None:
        """Send one frame of `size` bytes, stamped now."""
        if self.source is None or not self.source.open:
            return
        body = bytes(max(size - FRAME, 0))
        self.sent += 1
        self.source.write(HEADER.pack(self.number, self.sent, FRAME + len(body), time.monotonic_ns()) + body)

    def begin(self, tally: Tally) -> None:
        """Send the frames of `tally`, and then the end of the stream; what arrives is the tally's."""
        self.tally = tally
        if self.source is not None and self.source.open:
            self.source.write(tally.frames())
            self.source.ending = True
            self.source.write(b"")

    def close(self) -> None:
        """End the stream at its source; the other direction stays readable here."""
        if self.source is not None and self.source.open:
            with contextlib.suppress(OSError):
                self.source.sock.shutdown(socket.SHUT_WR)

    def segments(self) -> int:
        """TCP segments with data that the sink has received, where the kernel tells; else parts that were
        read.
        """
        if self.sink is not None and self.sink.open and hasattr(socket, "TCP_INFO"):
            info = self.sink.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            if len(info) >= _SEGMENTS_IN + 4:
                return int.from_bytes(info[_SEGMENTS_IN : _SEGMENTS_IN + 4], sys.byteorder)
        return self.pieces

    def feed(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.bytes += len(data)
        self.pieces += 1
        if self.tally is not None:
            self.tally.feed(data, now)
            return
        view = memoryview(data)
        while view:
            if self._left == 0:
                need = FRAME - len(self._head)
                self._head += view[:need]
                view = view[need:]
                if len(self._head) < FRAME:
                    return
                number, count, size, self._stamp = HEADER.unpack(self._head)
                self._head.clear()
                if number != self.number or count != self.arrived + 1 or size < FRAME:
                    self.damaged = (
                        f"frame {count} of connection {number}"
                        f" where frame {self.arrived + 1} of {self.number} was due"
                    )
                    return
                self._left = size - FRAME
            else:
                part = min(self._left, len(view))
                self._left -= part
                view = view[part:]
            if self._left == 0:
                self.arrived += 1
                self.took = (now - self._stamp) / 1e9


class End:
    """One socket of a probe connection; what it reads belongs to the flow `reads`."""

    def __init__(self, probes: Probes, sock: socket.socket, reads: Flow) -> None:
        self.probes, self.sock, self.reads = probes, sock, reads
        self.open = True
        self.ending = False  # once all is sent
        self._outbox: deque[memoryview] = deque()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        probes.selector.register(sock, selectors.EVENT_READ, self)

    def write(self, data: bytes) -> None:
        if data:
            self._outbox.append(memoryview(data))
        if len(self._outbox) <= 1:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                sent = self.sock.send(self._outbox[0])
                if sent < len(self._outbox[0]):
                    self._outbox[0] = self._outbox[0][sent:]
                    break
                self._outbox.popleft()
            if self.ending and not self._outbox:
                self.sock.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._outbox.clear()  # the reading side sees how the connection ended
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
        if self.open and self.probes.selector.get_key(self.sock).events != wanted:
            self.probes.selector.modify(self.sock, wanted, self)

    def ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and self.open:
            self._flush()
        if not events & selectors.EVENT_READ or not self.open:
            return
        try:
            data = self.sock.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, self.reads.reset = b"", True
        if data:
            self.reads.feed(data)
        else:
            self.reads.ended = time.monotonic_ns()
            self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._outbox.clear()
            self.probes.selector.unregister(self.sock)
            self.sock.close()


class Wire:
    """A probe connection: `up` flows from the end that connected to the end that accepted, `down` back."""

    def __init__(self, probes: Probes, number: int) -> None:
        self.up, self.down = Flow(probes, number), Flow(probes, number)

    def flow(self, stream: str) -> Flow:
        return self.up if stream == "upstream" else self.down

    @property
    def accepted(self) -> bool:
        return self.up.sink is not None

    @property
    def refused(self) -> bool:
        """Whether it was refused, or has ended at the end that connected."""
        return self.up.source is not None and not self.up.source.open

    @property
    def dead(self) -> bool:
        return self.up.dead or self.down.dead

    def close(self) -> None:
        for end in (self.up.source, self.up.sink):
            if end is not None:
                end.close()


class Ends(Protocol):
    """Where the two ends of a path live: they make its sockets."""

    def far(self, path: Hashable) -> socket.socket:
        """A socket that listens where the path ends."""
        ...

    def near(self, paths: Sequence[Hashable]) -> list[socket.socket]:
        """A TCP socket where each path begins, not yet connected."""
        ...


class Here:
    """Both ends on this machine's own loopback."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host

    def far(self, path: Hashable) -> socket.socket:
        return socket.create_server((self.host, 0), backlog=256)

    def near(self, paths: Sequence[Hashable]) -> list[socket.socket]:
        return [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in paths]


class _Listener:
    """Where the far ends of one path arrive; `waiting` are the wires that are being opened through it,
    oldest first.
    """

    def __init__(self, probes: Probes, sock: socket.socket) -> None:
        self.probes, self.sock = probes, sock
        self.sock.setblocking(False)
        self.waiting: deque[Wire] = deque()
        probes.selector.register(self.sock, selectors.EVENT_READ, self)

    def ready(self, events: int) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError:
            return
        if not self.waiting:
            sock.close()  # of a connection that was given up
            return
        wire = self.waiting.popleft()
        end = End(self.probes, sock, wire.up)
        wire.up.sink = wire.down.source = end


class Probes:
    """The probe connections of one fabric, and the listeners at which they end.

    A path is registered by `listen`, which gives the port its far side must lead to, and `attach`, which
    says where its near side listens::

        port = probes.listen("a")
        probes.attach("a", proxy_to("127.0.0.1", port))
        wire, = probes.open(["a"])
        wire.up.send()
        assert probes.pump(lambda: wire.up.settled, 1.0)
    """

    def __init__(self, ends: Ends | None = None) -> None:
        self._ends = Here() if ends is None else ends
        self.selector = selectors.DefaultSelector()
        self._listeners: dict[Hashable, _Listener] = {}
        self._near: dict[Hashable, tuple[str, int]] = {}
        self._count = 0

    def listen(self, path: Hashable) -> int:
        """Make the far side of `path`; the port it listens on."""
        listener = self._listeners[path] = _Listener(self, self._ends.far(path))
        return int(listener.sock.getsockname()[1])

    def end(self, path: Hashable) -> socket.socket:
        """What listens at the far side of `path`."""
        return self._listeners[path].sock

    def attach(self, path: Hashable, address: tuple[str, int]) -> None:
        """Say where the near side of `path` listens."""
        self._near[path] = address

    def open(self, paths: Iterable[Hashable], within: float = 10.0) -> list[Wire]:
        """A new connection through each of `paths` (any of them may be named often), both ends in hand.

        Raises OSError where one is refused or does not come through within `within` seconds.
        """
        paths = list(paths)
        wires: list[Wire] = []
        try:
            for path, near in zip(paths, self._ends.near(paths), strict=True):
                self._count += 1
                wire = Wire(self, self._count)
                wires.append(wire)
                end = End(self, near, wire.down)
                wire.up.source = wire.down.sink = end
                self._listeners[path].waiting.append(wire)
                with contextlib.suppress(BlockingIOError):
                    near.connect(self._near[path])
            # one that ends at once may yet be accepted: its far end has been dialled before it was closed
            self.pump(lambda: all(wire.accepted or wire.refused for wire in wires), within)
            if not self.pump(lambda: all(wire.accepted for wire in wires), min(1.0, within)):
                missing = [path for path, wire in zip(paths, wires, strict=True) if not wire.accepted]
                raise ConnectionError(
                    f"no connection through {missing[:5]}, refused or not within {within:g} s"
                )
        except OSError:
            for listener in self._listeners.values():
                listener.waiting.clear()
            for wire in wires:
                wire.close()
            raise
        return wires

    def pump(self, done: Callable[[], bool], within: float) -> bool:
        """Serve all sockets until `done` or for `within` seconds; whether it was done.

        What has arrived by then is read before the answer, however late this thread was scheduled.
        """
        deadline = time.monotonic() + within
        while not done():
            left = deadline - time.monotonic()
            ready = self.selector.select(max(left, 0))
            for key, events in ready:
                key.data.ready(events)
            if left <= 0 and not ready:
                return done()
        return True

    def close(self) -> None:
        """Close every socket; idempotent."""
        for key in list((self.selector.get_map() or {}).values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()

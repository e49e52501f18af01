"""Probe datagrams between nodes: what crosses each ordered pair, one direction at a time.

TCP needs both directions, so only datagrams tell a one-way cut from a whole one, and only they are packets
that can be counted one by one.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Collection, Mapping

from harness.fabric import FaultError, Pair
from harness.fabric.inside import UDP, Inside
from harness.fabric.layout import DATAGRAM, Layout
from harness.fabric.watch import PATIENCE, WINDOW, show

_BODY = struct.Struct("!IHHQ")  # round, source, destination, time sent
BATCH = 50  # datagrams in flight on each pair: fewer than a receive buffer holds
AGAIN = 0.05  # seconds after which what must arrive, but has not, is sent once more


class Datagrams:
    """A UDP socket in every node's network. Not safe from several threads."""

    def __init__(self, layout: Layout, inside: Mapping[str, Inside]) -> None:
        self._layout = layout
        self._socks: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._round = 0
        self._names = {layout.number(node): node for node in layout.nodes}
        self._arrived: dict[Pair, int] = {}
        try:
            for node in layout.nodes:
                (sock,) = inside[node].sockets([UDP])
                self._socks[node] = sock
                sock.setblocking(False)
                sock.bind((layout.ip(node), DATAGRAM))
                self._selector.register(sock, selectors.EVENT_READ, node)
        except BaseException:
            self.close()
            raise

    def matrix(self, held: Collection[Pair], doubtful: Collection[Pair] = ()) -> str:
        """See that nothing crosses the pairs `held`, while every other one delivers; in words.

        `doubtful` pairs may do either. Raises FaultError.
        """
        expected = [pair for pair in self._layout.pairs if pair not in held and pair not in doubtful]
        closed = [pair for pair in self._layout.pairs if pair in held]
        began = time.monotonic()
        self._begin([*closed, *expected])
        self._send([*closed, *expected])
        sent = began
        while (missing := [p for p in expected if not self._arrived[p]]) or time.monotonic() < began + WINDOW:
            now = time.monotonic()
            if missing and now - began > 5 * PATIENCE:
                raise FaultError(
                    f"no datagram crosses {show(missing)} within {now - began:.1f} s, though nothing should"
                    " hold it"
                )
            if missing and now - sent > AGAIN:
                self._send([*closed, *missing])
                sent = now
            self._receive(0.005)
        self._receive(0)
        if crossed := [pair for pair in closed if self._arrived[pair]]:
            raise FaultError(
                f"{sum(self._arrived[p] for p in crossed)} datagrams crossed {show(crossed)}, expected none"
            )
        said = [f"no datagram crossed {show(closed)} in {WINDOW * 1e3:.0f} ms"] if closed else []
        if expected:
            said.append(f"{len(expected)} ordered pairs delivered theirs")
        return ", ".join(said)

    def count(self, pairs: Collection[Pair], number: int) -> Mapping[Pair, int]:
        """Send `number` datagrams on each pair; how many arrived of each, once no more can come."""
        self._begin(pairs)
        for first in range(0, number, BATCH):
            for _ in range(min(BATCH, number - first)):
                self._send(pairs)
            self._drain(first + BATCH)
        return dict(self._arrived)

    def close(self) -> None:
        """Close every socket; idempotent."""
        for sock in self._socks.values():
            sock.close()
        self._socks.clear()
        self._selector.close()

    def _begin(self, pairs: Collection[Pair]) -> None:
        self._round += 1
        self._arrived = dict.fromkeys(pairs, 0)

    def _send(self, pairs: Collection[Pair]) -> None:
        number = self._layout.number
        for a, b in pairs:
            body = _BODY.pack(self._round, number(a), number(b), time.monotonic_ns())
            try:
                self._socks[a].sendto(body, (self._layout.ip(b), DATAGRAM))
            except OSError as error:  # a namespace that has lost its route, say
                raise FaultError(f"no datagram can be sent from {a} to {b}: {error}") from error

    def _drain(self, most: int, quiet: float = 0.05) -> None:
        """Read until all of `most` a pair are there or nothing has come for `quiet` seconds."""
        last = time.monotonic()
        while any(count < most for count in self._arrived.values()):
            if self._receive(0.005):
                last = time.monotonic()
            elif time.monotonic() - last > quiet:
                return

    def _receive(self, within: float) -> int:
        """What has arrived by now, or does within so many seconds."""
        read = 0
        for key, _ in self._selector.select(within):
            sock: socket.socket = key.fileobj  # type: ignore[assignment]
            while True:
                try:
                    data = sock.recv(2048)
                except BlockingIOError:
                    break
                except OSError:  # an ICMP error of an earlier datagram
                    continue
                if len(data) != _BODY.size:
                    continue
                turn, a, b, _sent = _BODY.unpack(data)
                pair = self._names.get(a, ""), self._names.get(b, "")
                if turn == self._round and pair in self._arrived:
                    self._arrived[pair] += 1
                    read += 1
        return read


__all__ = ["Datagrams"]

"""Probe datagrams between nodes: what crosses each ordered pair, one direction at a time.

TCP needs both directions, so only datagrams tell a one-way cut from a whole one, and only they are packets
that can be counted one by one.
"""

from __future__ import annotations

import selectors
import socket
import statistics
import struct
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from harness.fabric import FaultError, Pair
from harness.fabric.inside import UDP, Inside
from harness.fabric.layout import DATAGRAM, Layout
from harness.fabric.watch import PATIENCE, WINDOW, show

_BODY = struct.Struct("!IHHIQ")  # round, source, destination, number, time sent
BUFFER = 1 << 20  # bytes asked for as receive buffer; the kernel gives what it allows
AGAIN = 0.05  # seconds after which what must arrive, but has not, is sent once more
QUIET = 0.1  # seconds without any after which no more will come
APART = 0.004  # seconds between datagrams that are timed
IN_FLIGHT = 160  # datagrams on their way to one node: fewer than the smallest receive buffer holds


@dataclass(frozen=True, slots=True)
class Sample:
    """What came of `sent` datagrams: how many `copies` of each, and their numbers in `order` of arrival."""

    sent: int
    copies: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def missing(self) -> int:
        """Those of which nothing came."""
        return sum(not count for count in self.copies)

    @property
    def doubled(self) -> int:
        """Those that came more than once."""
        return sum(count > 1 for count in self.copies)

    @property
    def overtook(self) -> int:
        """Those that came before one that was sent earlier."""
        count, least = 0, self.sent
        for number in reversed(self.order):
            count += number > least
            least = min(least, number)
        return count


class Datagrams:
    """A UDP socket in every node's network. Not safe from several threads."""

    def __init__(self, layout: Layout, inside: Mapping[str, Inside]) -> None:
        self._layout = layout
        self._socks: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._round = 0
        self._names = {layout.number(node): node for node in layout.nodes}
        self._begin(())
        try:
            for node in layout.nodes:
                (sock,) = inside[node].sockets([UDP])
                self._socks[node] = sock
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
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
        while (missing := [p for p in expected if not self._delays[p]]) or time.monotonic() < began + WINDOW:
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
        if crossed := [pair for pair in closed if self._delays[pair]]:
            raise FaultError(
                f"{sum(len(self._delays[p]) for p in crossed)} datagrams crossed {show(crossed)}, expected"
                " none"
            )
        said = [f"no datagram crossed {show(closed)} in {WINDOW * 1e3:.0f} ms"] if closed else []
        if expected:
            said.append(f"{len(expected)} ordered pairs delivered theirs")
        return ", ".join(said)

    def sample(self, pairs: Collection[Pair], number: int, within: float) -> dict[Pair, Sample]:
        """Send `number` datagrams on each pair, which may take `within` seconds; what came of them.

        As many are on their way at once as the receivers have room for.
        """
        self._begin(pairs)
        batch = max(1, IN_FLIGHT // max(Counter(dst for _, dst in pairs).values(), default=1))
        for first in range(0, number, batch):
            upto = min(first + batch, number)
            for _ in range(first, upto):
                self._send(pairs)
                self._receive(0)
            self._drain(upto, within + QUIET)
        return {pair: Sample(number, tuple(self._copies[pair]), tuple(self._order[pair])) for pair in pairs}

    def timed(self, pairs: Collection[Pair], number: int, within: float) -> tuple[dict[Pair, float], float]:
        """The median of the seconds that datagrams take on each pair, of those that come within `within`.

        They are sent a few milliseconds apart, so that none waits for another. The second number is of as
        many within one node, over no link, sent in between: what the machine does.
        """
        every = [*pairs, None]
        self._begin(every)
        for _ in range(number):
            self._send(every)
            until = time.monotonic() + APART
            while (left := until - time.monotonic()) > 0:
                self._receive(left)
        self._drain(number, within + QUIET)
        medians = {pair: statistics.median(took) if (took := self._delays[pair]) else 0.0 for pair in every}
        return {pair: medians[pair] for pair in pairs}, medians[None]

    def throughput(self, pairs: Collection[Pair], rate: float, seconds: float) -> Mapping[Pair, float]:
        """Bytes a second that cross each pair while half as much again is sent as `rate` lets pass.

        What was saved up while nothing was sent passes at once: it is sent first, and not counted.
        """
        size = int(min(1200, max(100, rate * seconds / 20)))
        self._begin(pairs)
        began = time.monotonic()
        sent, end = 0, began + 2 * seconds
        half: tuple[float, Mapping[Pair, int]] | None = None
        while (now := time.monotonic()) < end:
            if sent * size < 1.5 * rate * (now - began) + 2 * size:
                self._send(list(pairs), size)
                sent += 1
            else:
                self._receive(0.002)
            self._receive(0)
            if half is None and now > began + seconds:
                half = now, {pair: len(self._delays[pair]) for pair in pairs}
        assert half is not None
        since, before = half
        each = (size + 28) / (time.monotonic() - since)  # bytes on the wire, with the headers of UDP and IP
        return {pair: (len(self._delays[pair]) - before[pair]) * each for pair in pairs}

    def close(self) -> None:
        """Close every socket; idempotent."""
        for sock in self._socks.values():
            sock.close()
        self._socks.clear()
        self._selector.close()

    def _begin(self, pairs: Collection[Pair | None]) -> None:
        self._round += 1
        self._sent: dict[Pair | None, int] = dict.fromkeys(pairs, 0)
        self._copies: dict[Pair | None, list[int]] = {pair: [] for pair in pairs}
        self._order: dict[Pair | None, list[int]] = {pair: [] for pair in pairs}
        self._delays: dict[Pair | None, list[float]] = {pair: [] for pair in pairs}

    def _send(self, pairs: Collection[Pair | None], size: int = 0) -> None:
        """One datagram on each pair; on None from a node to itself."""
        number = self._layout.number
        some = self._layout.nodes[0]
        for pair in pairs:
            a, b = pair or (some, some)
            body = _BODY.pack(self._round, number(a), number(b), self._sent[pair], time.monotonic_ns())
            self._sent[pair] += 1
            self._copies[pair].append(0)
            try:
                self._socks[a].sendto(body + bytes(max(size - len(body), 0)), (self._layout.ip(b), DATAGRAM))
            except OSError as error:  # a namespace that has lost its route, say
                raise FaultError(f"no datagram can be sent from {a} to {b}: {error}") from error

    def _drain(self, most: int, quiet: float) -> None:
        """Read until all of `most` a pair are there or nothing has come for `quiet` seconds."""
        last = time.monotonic()
        while any(sum(map(bool, copies)) < most for copies in self._copies.values()):
            if self._receive(0.005):
                last = time.monotonic()
            elif time.monotonic() - last > quiet:
                return
        self._receive(0.002)  # the second ones of those that came twice

    def _receive(self, within: float) -> int:
        """Read what has arrived by now, or does within so many seconds; how many."""
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
                if len(data) < _BODY.size:
                    continue
                turn, a, b, count, stamp = _BODY.unpack_from(data)
                known = self._names.get(a, ""), self._names.get(b, "")
                pair = None if a == b else known
                if turn == self._round and pair in self._copies and count < len(self._copies[pair]):
                    self._copies[pair][count] += 1
                    self._order[pair].append(count)
                    self._delays[pair].append((time.monotonic_ns() - stamp) / 1e9)
                    read += 1
        return read


__all__ = ["Datagrams"]

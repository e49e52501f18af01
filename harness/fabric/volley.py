"""Probes of many links at once, and what became of them: datagrams, connections, the proxy server's own leg.

Both ends of every probe are here, in sockets of the nodes' and the router's networks.
"""

from __future__ import annotations

import itertools
import os
import selectors
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from harness.fabric import CLIENT, FaultError, Pair
from harness.fabric.inside import TCP, UDP, Inside
from harness.fabric.layout import PROBE, Layout

DATAGRAM, CONNECTION, LEG = "UDP", "TCP", "proxy leg"  # the leg begins in the router, where the proxy's does
CONNECT, ECHO = "connect", "echo"  # what is seen of a connection: that it opens, that bytes come back

_KINDS = (DATAGRAM, CONNECTION, LEG)
_BODY = struct.Struct("!8sBII")  # whose, kind, round, number of the link
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: an end that leaves nothing to be sent once the link is cut

Sight = tuple[str, int, Pair]  # protocol, round, link


class Volley:
    """`seen` has what crossed, `strange` what crossed where it should not have, or from another's address.

    `ends` listen where the connections of each link end; they stay open. Not safe from several threads.
    """

    def __init__(
        self, layout: Layout, inside: Mapping[str, Inside], router: str, ends: Mapping[Pair, socket.socket]
    ) -> None:
        self._layout, self._inside, self._router = layout, inside, router
        self._links = layout.links
        self._mark = os.urandom(8)
        self._numbers = {link: number for number, link in enumerate(self._links)}
        self._selector = selectors.DefaultSelector()
        self._socks: dict[str, socket.socket] = {}
        self._flying: set[socket.socket] = set()
        self._stock: dict[str, list[socket.socket]] = {}
        self.seen: set[Sight] = set()
        self.strange: dict[Sight, str] = {}
        self.sent = 0
        try:
            for node in layout.nodes:
                (sock,) = inside[node].sockets([UDP])
                self._socks[node] = sock
                sock.setblocking(False)
                sock.bind((layout.ip(node), PROBE))
                self._selector.register(sock, selectors.EVENT_READ, self._hears(sock))
            for link, sock in ends.items():
                self._selector.register(sock, selectors.EVENT_READ, self._accepts(sock, link))
        except BaseException:
            self.close()
            raise

    def datagrams(self, turn: int, pairs: Collection[Pair]) -> None:
        """Send one on each pair of nodes. Raises FaultError where a node has no way out."""
        for pair in pairs:
            self.sent += 1
            body = _BODY.pack(self._mark, _KINDS.index(DATAGRAM), turn, self._numbers[pair])
            try:
                self._socks[pair[0]].sendto(body, (self._layout.ip(pair[1]), PROBE))
            except OSError as error:
                raise FaultError(f"no datagram can be sent from {pair[0]} to {pair[1]}: {error}") from error

    def connections(self, turn: int, links: Sequence[Pair]) -> None:
        """Begin two on each link: as its source does, and as the proxy server does for it."""
        self.stock(links)
        for kind, link in _calls(links):
            self.sent += 1
            sock = self._stock[self._place(kind, link)].pop()
            self._own(sock)
            with suppress(OSError):  # one that fails at once is one that does not open
                sock.connect(self._where(kind, link))
            self._selector.register(sock, selectors.EVENT_WRITE, self._opens(sock, kind, turn, link))

    def stock(self, links: Sequence[Pair]) -> None:
        """Have the sockets that `connections` of `links` needs."""
        for place, count in Counter(self._place(kind, link) for kind, link in _calls(links)).items():
            have = self._stock.setdefault(place, [])
            if count > len(have):
                have += self._inside[place].sockets([TCP] * (count - len(have)))

    def receive(self, within: float) -> None:
        """Serve what has come by now, or does within so many seconds."""
        for key, _ in self._selector.select(within):
            key.data()

    def hang_up(self) -> None:
        """Give up every connection, both ends."""
        for sock in list(self._flying):
            self._drop(sock)

    def close(self) -> None:
        """Close every socket but the ends; idempotent."""
        self.hang_up()
        for sock in (*self._socks.values(), *itertools.chain.from_iterable(self._stock.values())):
            sock.close()
        self._socks.clear()
        self._stock.clear()
        self._selector.close()

    def _place(self, kind: str, link: Pair) -> str:
        """Where a connection begins."""
        return self._router if kind == LEG or link[0] == CLIENT else link[0]

    def _where(self, kind: str, link: Pair) -> tuple[str, int]:
        near, far = self._layout.probe(link)
        if kind == LEG:
            return self._layout.upstream(*link), far
        return (self._layout.router, near) if link[0] == CLIENT else (self._layout.ip(link[1]), PROBE)

    # ------------------------------------------------------------------ what the selector calls

    def _hears(self, sock: socket.socket) -> Callable[[], None]:
        def ready() -> None:
            with suppress(OSError):
                while True:
                    body, (address, _) = sock.recvfrom(64)
                    if sight := self._read(body):
                        self.seen.add(sight)
                        self._judge(sight, sight[2], address)

        return ready

    def _opens(self, sock: socket.socket, kind: str, turn: int, link: Pair) -> Callable[[], None]:
        body = _BODY.pack(self._mark, _KINDS.index(kind), turn, self._numbers[link])

        def echoed() -> None:
            if _received(sock) == body:
                self.seen.add((f"{kind} {ECHO}", turn, link))
            self._idle(sock)

        def opened() -> None:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._idle(sock)
                return
            self.seen.add((f"{kind} {CONNECT}", turn, link))
            with suppress(OSError):  # it has ended: no echo
                sock.send(body)
            self._selector.modify(sock, selectors.EVENT_READ, echoed)

        return opened

    def _accepts(self, listener: socket.socket, link: Pair) -> Callable[[], None]:
        def ready() -> None:
            with suppress(OSError):
                sock, (address, _) = listener.accept()
                self._own(sock)
                self._selector.register(sock, selectors.EVENT_READ, self._answers(sock, link, address))

        return ready

    def _answers(self, sock: socket.socket, link: Pair, address: str) -> Callable[[], None]:
        def ready() -> None:
            body = _received(sock)
            if sight := self._read(body):
                self._judge(sight, link, address)
                with suppress(OSError):
                    sock.send(body)
            self._idle(sock)

        return ready

    # ------------------------------------------------------------------ helpers

    def _read(self, body: bytes) -> Sight | None:
        if len(body) != _BODY.size:
            return None
        mark, kind, turn, number = _BODY.unpack(body)
        if mark != self._mark:  # of an earlier volley, which was given up
            return None
        return _KINDS[kind], turn, self._links[number]

    def _judge(self, sight: Sight, link: Pair, address: str) -> None:
        due = self._layout.ip(link[0])
        if sight[2] != link:
            self.strange[sight] = f"arrived by the way of {link[0]}→{link[1]}"
        elif address != due:
            self.strange[sight] = f"was seen to come from {address}, expected {due}"

    def _own(self, sock: socket.socket) -> None:
        self._flying.add(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)

    def _idle(self, sock: socket.socket) -> None:
        """Expect nothing more of a connection; it stays open, so that nothing ends the other way."""
        with suppress(KeyError):
            self._selector.unregister(sock)

    def _drop(self, sock: socket.socket) -> None:
        self._idle(sock)
        self._flying.discard(sock)
        sock.close()


def _calls(links: Sequence[Pair]) -> list[tuple[str, Pair]]:
    return [(kind, link) for link in links for kind in (CONNECTION, LEG)]


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(64)
    except OSError:
        return b""


__all__ = ["CONNECT", "CONNECTION", "DATAGRAM", "ECHO", "LEG", "Sight", "Volley"]

"""The fabric of the runtimes `docker` and `netns`: all links cross one router, and the proxy server in it.

Nodes keep their true addresses. Their declared TCP ports pass through the proxy server by translation in
the router, for each ordered pair apart; all other packets are only forwarded. Cuts and losses are rules of
the router's packet filter, loaded for the whole cluster at one instant.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from harness.fabric import CLIENT, Effect, FaultError, FaultUnsupported, Pair
from harness.fabric.datagrams import Datagrams
from harness.fabric.inside import TCP, Inside
from harness.fabric.layout import CONTROL as CONTROL_PORT, PROBE, Layout
from harness.fabric.packets import PacketCut, PacketLoss
from harness.fabric.probe import Probes
from harness.fabric.proxied import InForce, Proxied
from harness.fabric.rules import RESTORE, Counted, counted, cuts
from harness.fabric.watch import CONTROL, show
from harness.framing import Framing, Framings
from harness.proxy.adapter import Server

ROUTER = "router"
SAVE = ("iptables-save", "-c", "-t", "raw")


class InsideEnds:
    """The ends of probe connections: in the networks of the nodes between which they run."""

    def __init__(self, layout: Layout, inside: Mapping[str, Inside]) -> None:
        self._layout, self._inside = layout, inside

    def far(self, path: Hashable) -> socket.socket:
        if path == CONTROL:
            return self._inside[ROUTER].listening(self._layout.router, CONTROL_PORT - 1)
        assert isinstance(path, tuple)
        return self._inside[path[1]].listening(self._layout.ip(path[1]), self._layout.probe(path)[1])

    def near(self, paths: Sequence[Hashable]) -> list[socket.socket]:
        places = [self._place(path) for path in paths]
        made = {place: iter(self._inside[place].sockets([TCP] * places.count(place))) for place in {*places}}
        return [next(made[place]) for place in places]

    @staticmethod
    def _place(path: Hashable) -> str:
        return ROUTER if path == CONTROL or path[0] == CLIENT else str(path[0])  # type: ignore[index]


class Routed(Proxied):
    """A `Fabric` over a router's namespace.

    `inside` has the router (by the name ``router``) and every node; `server` is the proxy server that runs in
    the router. `entrance` says where clients reach a port of the router's. The router must have been booted
    (`harness.fabric.rules.boot`).
    """

    def __init__(
        self,
        server: Server,
        layout: Layout,
        inside: Mapping[str, Inside],
        entrance: Callable[[int], tuple[str, int]],
        framing: Mapping[str, Framing | Framings] = MappingProxyType({}),
    ) -> None:
        self.layout, self._inside, self._entrance = layout, inside, entrance
        self._router = inside[ROUTER]
        self._filter = threading.Lock()
        self._since: dict[str, tuple[float, Mapping[Pair, Counted]]] = {}  # what had crossed when a cut held
        self._load(())
        self._datagrams = Datagrams(layout, inside)
        try:
            super().__init__(server, layout.ports, Probes(InsideEnds(layout, inside)), framing)
            self._datagrams.matrix(())
        except BaseException:
            self._datagrams.close()
            raise

    def _populate(self) -> dict[str, tuple[str, int]]:
        layout = self.layout
        rows = [
            (self._proxy(link, name), f"{layout.listen(*link)}:{near}", f"{layout.upstream(*link)}:{far}")
            for link, name, near, far in layout.proxies()
        ]
        for link in self._links:
            near, far = layout.probe(link)
            self._probes.listen(link)
            self._probes.attach(
                link, (layout.ip(link[1]), PROBE) if link[0] != CLIENT else (layout.router, near)
            )
            rows.append(
                (self._probe(link), f"{layout.listen(*link)}:{near}", f"{layout.upstream(*link)}:{far}")
            )
        self._probes.listen(CONTROL)
        self._probes.attach(CONTROL, (layout.router, CONTROL_PORT))
        rows.append((CONTROL, f"{layout.router}:{CONTROL_PORT}", f"{layout.router}:{CONTROL_PORT - 1}"))
        self._server.populate(rows)
        return {
            self._proxy(link, name): self._entrance(near) if link[0] == CLIENT else (layout.ip(link[1]), near)
            for link, name, near, _ in layout.proxies()
        }

    # ------------------------------------------------------------------ verbs

    def cut(self, name: str, pairs: Iterable[Pair]) -> Effect:
        """No packet of `pairs` arrives until healed, those of the proxy server included; all of them at one
        instant (mechanism ``iptables``).
        """
        return self._apply(name, pairs, PacketCut(self._datagrams, self._dial, self._cut_now, self._doubtful))

    def loss(self, name: str, pairs: Iterable[Pair], probability: float) -> Effect:
        """Each packet that a node sends on `pairs` is lost with `probability`."""
        known = self._known(pairs)
        if not 0 < probability <= 1:
            raise ValueError(f"probability {probability!r}: expected more than 0, at most 1")
        if clients := [pair for pair in known if CLIENT in pair]:
            raise FaultUnsupported(
                f"fault {name!r}: packets of clients are not lost ({show(clients)}): they come through the"
                " host's own stack; aim the loss at links between nodes"
            )
        return self._apply(name, known, PacketLoss(probability, self._datagrams, self._lost))

    def counters(self) -> Mapping[Pair, int]:
        """Bytes of the packets that the nodes sent on each pair and the router let through, headers
        included."""
        return {pair: one.bytes for pair, one in self._counted().items()}

    def dropped(self) -> Mapping[Pair, int]:
        """Packets that each cut in force has stopped."""
        return {pair: one.dropped for pair, one in self._counted().items() if one.dropped}

    def close(self) -> None:
        """Close the probes; the namespaces stay, with their rules, until they are taken down."""
        super().close()
        with self._turn:
            self._datagrams.close()

    # ------------------------------------------------------------------ how faults are put in force

    def _enforce(self, fault: InForce) -> str:
        if fault.verb.toxics:
            return super()._enforce(fault)
        return f"one iptables-restore took {self._reload() * 1e3:.1f} ms"

    def _lift(self, faults: Collection[InForce]) -> None:
        super()._lift([fault for fault in faults if fault.verb.toxics])
        if any(not fault.verb.toxics for fault in faults):
            self._reload()

    def _reload(self) -> float:
        return self._load(self._cut_now())

    def _load(self, cut: Collection[Pair]) -> float:
        """Have exactly the faults in force in the router's filter; the seconds it took."""
        losses = {pair: p for pair in self.layout.pairs if (p := self._lost(pair))}
        began = time.monotonic()
        with self._filter:
            self._router.run(RESTORE, cuts(self.layout, cut, losses))
        return time.monotonic() - began

    def _holds(self, fault: InForce) -> None:
        if isinstance(fault.verb, PacketCut):
            self._since[fault.name] = time.monotonic(), self._counted()

    def _has_held(self, fault: InForce) -> str:
        """What of the cluster's own traffic the router let through a cut while it held: nothing, or
        FaultError.

        The rules are read back, so a filter that somebody else has emptied is seen; and one more round of
        datagrams is sent through it.
        """
        if (since := self._since.pop(fault.name, None)) is None:
            return ""
        began, before = since
        seconds, now = time.monotonic() - began, self._counted()
        for pair in sorted(fault.pairs):
            was, has = before.get(pair, Counted()), now.get(pair, Counted())
            if crossed := has.passed - was.passed + has.relayed - was.relayed:
                raise FaultError(
                    f"the router let {crossed} packets through {pair[0]}→{pair[1]} in {seconds:.1f} s;"
                    " expected none: were its rules changed by somebody else?"
                )
        self._datagrams.matrix(self._cut_now(), self._doubtful())
        stopped = sum(now.get(pair, Counted()).dropped for pair in fault.pairs)
        return f"0 packets crossed in {seconds:.1f} s, {stopped} were stopped"

    # ------------------------------------------------------------------ what the faults in force mean

    def _cut_now(self) -> frozenset[Pair]:
        every = [f.pairs for f in self._faults.copy().values() if isinstance(f.verb, PacketCut)]
        return frozenset().union(*every)

    def _doubtful(self) -> list[Pair]:
        return [pair for pair in self.layout.pairs if self._lost(pair)]

    def _lost(self, pair: Pair) -> float:
        """The share of packets that the faults in force lose together."""
        kept = 1.0
        for fault in getattr(self, "_faults", {}).copy().values():
            if isinstance(fault.verb, PacketLoss) and pair in fault.pairs:
                kept *= 1 - fault.verb.probability
        return 1 - kept

    def _counted(self) -> Mapping[Pair, Counted]:
        return counted(self._router.run(SAVE))

    def _dial(self, paths: Sequence[Pair]) -> list[socket.socket]:
        """Begin a connection on each path, as a node or a client would."""
        socks = InsideEnds(self.layout, self._inside).near(paths)
        for path, sock in zip(paths, socks, strict=True):
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(self._near(path))
        return socks

    def _near(self, link: Pair) -> tuple[str, int]:
        """Where a probe connection of `link` begins: at the peer's own address, or where clients enter."""
        if link[0] == CLIENT:
            return self.layout.router, self.layout.probe(link)[0]
        return self.layout.ip(link[1]), PROBE


__all__ = ["ROUTER", "Routed"]

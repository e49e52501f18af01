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
from harness.fabric.packet_channel import Channel, Wired
from harness.fabric.packet_cut import PacketCut
from harness.fabric.packet_faults import PacketFaults
from harness.fabric.packet_spec import VERBS, PacketSpec, merged
from harness.fabric.packet_verb import PacketVerb
from harness.fabric.probe import Probes
from harness.fabric.proxied import InForce, Proxied
from harness.fabric.rules import Counted, counted, cuts
from harness.fabric.selftest import Report, self_test
from harness.fabric.volley import Volley
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

    `inside` has the router (by the name ``router``) and every node; `server` gives the proxy server that runs
    in the router, as soon as it serves: it is called when all else is prepared. `entrance` says where clients
    reach a port of the router's. `cables` are the router's interfaces towards the nodes, whose own are called
    eth0; `engine` is the command that starts the packet engine in the router. `bypassed` counts packets that
    reached each node past the router, where one could.
    The router must have been booted (`harness.fabric.rules.boot`).

    `report` says what the self-test of all links has seen. Raises SelfTestError, a FaultError, where one
    does not do what the router's rules say.
    """

    portless = True

    def __init__(
        self,
        server: Callable[[], Server],
        layout: Layout,
        inside: Mapping[str, Inside],
        entrance: Callable[[int], tuple[str, int]],
        *,
        cables: Mapping[str, str],
        engine: Sequence[str],
        bypassed: Callable[[], Mapping[str, int]] | None = None,
        framing: Mapping[str, Framing | Framings] = MappingProxyType({}),
    ) -> None:
        self.layout, self._inside, self._entrance = layout, inside, entrance
        self._router = inside[ROUTER]
        self._filter = threading.Lock()
        self._since: dict[str, tuple[float, Mapping[Pair, Counted]]] = {}  # what had crossed when a cut held
        self._faults: dict[str, InForce] = {}
        self._served: dict[str, str] = {}  # by which engines, of each packet fault
        self._load()
        ends = {layout.ip(node): (inside[node].run, "eth0") for node in layout.nodes}
        towards = {layout.ip(node): name for node, name in cables.items()}
        self._packets = PacketFaults(self._router.run, self._engine, towards, senders=ends)
        self._program = engine
        self._datagrams = Datagrams(layout, inside)
        try:
            probes = self._prepared(Probes(InsideEnds(layout, inside)))
            super().__init__(server(), layout.ports, probes, framing)
            self.report = self._self_test(bypassed)
        except BaseException:
            self._datagrams.close()
            raise

    def _self_test(self, bypassed: Callable[[], Mapping[str, int]] | None) -> Report:
        volley = Volley(self.layout, self._inside, ROUTER, {p: self._probes.end(p) for p in self._links})
        try:
            return self_test(self.layout, volley, self._load, bypassed)
        except BaseException:
            self._probes.close()
            raise
        finally:
            volley.close()

    def _prepared(self, probes: Probes) -> Probes:
        """With both ends of every path."""
        layout = self.layout
        try:
            for link in layout.links:
                probes.listen(link)
                near = layout.probe(link)[0]
                entry = (layout.router, near) if link[0] == CLIENT else (layout.ip(link[1]), near)
                probes.attach(link, entry)
            probes.listen(CONTROL)
            probes.attach(CONTROL, (layout.router, CONTROL_PORT))
        except BaseException:
            probes.close()
            raise
        return probes

    def _populate(self) -> dict[str, tuple[str, int]]:
        layout = self.layout
        rows = [
            (self._proxy(link, name), f"{layout.listen(*link)}:{near}", f"{layout.upstream(*link)}:{far}")
            for link, name, near, far in layout.proxies()
        ]
        for link in self._links:
            near, far = layout.probe(link)
            rows.append(
                (self._probe(link), f"{layout.listen(*link)}:{near}", f"{layout.upstream(*link)}:{far}")
            )
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

    def packets(self, name: str, pairs: Iterable[Pair], spec: PacketSpec, *, seed: int = 0) -> Effect:
        """What `spec` says becomes of each packet that a node sends on `pairs`; what is a matter of chance
        follows from `seed`, as far as the engine that serves it has one.

        A mechanism says which engine serves which verb (netem, nfqueue, statistic, htb). Raises
        FaultUnsupported that names each one tried.
        """
        known = self._known(pairs)
        if not spec.verbs:
            raise ValueError(f"fault {name!r} changes nothing: expected one of {', '.join(VERBS)}")
        if clients := [pair for pair in known if CLIENT in pair]:
            raise FaultUnsupported(
                f"fault {name!r}: the packets of clients cannot be had ({show(clients)}): they come through"
                " the host's own stack; aim at links between nodes"
            )
        verb = PacketVerb(spec, self._datagrams, self._spec)
        with self._turn:
            self._packets.seed = seed
            return self._apply(name, known, verb)

    def counters(self) -> Mapping[Pair, int]:
        """Bytes of the packets that the nodes sent on each pair and the router let through, headers
        included."""
        return {pair: one.bytes for pair, one in self._counted().items()}

    def close(self) -> None:
        """Close the probes; the namespaces stay, with their rules, until they are taken down."""
        super().close()
        with self._turn:
            self._packets.close()
            self._datagrams.close()

    # ------------------------------------------------------------------ how faults are put in force

    def _enforce(self, fault: InForce) -> str:
        if isinstance(fault.verb, PacketCut):
            return f"one iptables-restore took {self._load() * 1e3:.1f} ms"
        if isinstance(fault.verb, PacketVerb):
            began = time.monotonic()
            self._served[fault.name] = self._change(fault.pairs)
            return f"in force after {(time.monotonic() - began) * 1e3:.0f} ms"
        return super()._enforce(fault)

    def _lift(self, faults: Collection[InForce]) -> None:
        super()._lift([fault for fault in faults if fault.verb.toxics])
        if any(isinstance(fault.verb, PacketCut) for fault in faults):
            self._load()
        if changed := [fault for fault in faults if isinstance(fault.verb, PacketVerb)]:
            self._change(frozenset().union(*(fault.pairs for fault in changed)))
            for fault in changed:
                self._served.pop(fault.name, None)

    def _mechanism(self, fault: InForce) -> str:
        return self._served.get(fault.name) or super()._mechanism(fault)

    def _load(self, pairs: Collection[Pair] | None = None) -> float:
        """Have exactly the cuts in force (or `pairs`) in the router's filter; the seconds it took."""
        began = time.monotonic()
        with self._filter:
            self._router.restore(cuts(self.layout, self._cut_now() if pairs is None else pairs))
        return time.monotonic() - began

    def _change(self, pairs: Collection[Pair]) -> str:
        """Have exactly the packet faults in force; which engine serves what on `pairs`, in words."""
        wanted: dict[tuple[str, str], list[PacketSpec]] = {}
        for a, b in self.layout.pairs:
            if specs := self._specs((a, b)):
                wanted[self.layout.ip(a), self.layout.ip(b)] = specs
        engines = self._packets.apply(wanted)
        served = {
            f"{engine} ({verb})"
            for a, b in pairs
            for verb, engine in engines.get((self.layout.ip(a), self.layout.ip(b)), {}).items()
        }
        return " + ".join(sorted(served))

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
        return [pair for pair in self.layout.pairs if self._spec(pair).loss or self._spec(pair).corrupt]

    def _specs(self, pair: Pair) -> list[PacketSpec]:
        faults = self._faults.copy().values()
        return [f.verb.spec for f in faults if isinstance(f.verb, PacketVerb) and pair in f.pairs]

    def _spec(self, pair: Pair) -> PacketSpec:
        """What the faults in force make of a pair's packets together."""
        return merged(self._specs(pair))

    def _engine(self) -> Channel:
        return Wired(self._router.spawn(self._program))

    def _counted(self) -> Mapping[Pair, Counted]:
        return counted(self.layout, self._router.run(SAVE))

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

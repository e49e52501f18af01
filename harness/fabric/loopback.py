"""The fabric of the runtime `local`: every link a proxy of one Toxiproxy server, on loopback.

What it is not: packets. A cut stalls the bytes in the proxy (nothing is lost, a connection can still be
opened), rates are per connection, and a close takes both directions of a connection (Toxiproxy has no
half-close).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from harness.fabric import Effect, FaultError, FaultUnsupported, Pair
from harness.fabric.packet_spec import PacketSpec
from harness.fabric.probe import Here, Probes
from harness.fabric.proxied import InForce, Proxied
from harness.fabric.sockets import Sent, sent_by_port
from harness.fabric.stalling import Cut
from harness.fabric.watch import CONTROL
from harness.framing import Framing, Framings
from harness.proxy.adapter import Server


class Loopback(Proxied):
    """A `Fabric` whose proxies listen on free ports of `host`.

    fabric = Loopback(server, {"n1": {"main": 7001}, "n2": {"main": 7002}})
    host, port = fabric.endpoint("n1", "n2")
    fabric.cut("cut", [("n1", "n2")])
    fabric.heal("cut")
    """

    def __init__(
        self,
        server: Server,
        nodes: Mapping[str, Mapping[str, int]],
        *,
        host: str = "127.0.0.1",
        framing: Mapping[str, Framing | Framings] = MappingProxyType({}),
    ) -> None:
        self._host = host
        self._watched: dict[str, tuple[float, dict[bytes, Sent]]] = {}  # live connections of proved cuts
        super().__init__(server, nodes, Probes(Here(host)), framing)
        # what a link's proxy sends from its own port goes back to who connected
        self._pair_of = {
            self._listen[self._proxy(link, port)][1]: (link[1], link[0])
            for link in self._links
            for port in self._nodes[link[1]]
        }

    def _populate(self) -> dict[str, tuple[str, int]]:
        listen = f"{self._host}:0"
        rows = [
            (self._proxy(link, port), listen, f"{self._host}:{number}")
            for link in self._links
            for port, number in self._nodes[link[1]].items()
        ]
        paths = {self._probe(link): link for link in self._links} | {CONTROL: CONTROL}
        if twice := [name for name, n in Counter([*paths, *(name for name, _, _ in rows)]).items() if n > 1]:
            raise ValueError(
                f"node and port names make proxies {', '.join(twice)} twice; rename nodes or ports"
            )
        rows += [(name, listen, f"{self._host}:{self._probes.listen(path)}") for name, path in paths.items()]
        bound = {}
        for name, address in self._server.populate(rows).items():
            host, _, port = address.rpartition(":")
            bound[name] = (host.strip("[]"), int(port))
        for name, path in paths.items():
            self._probes.attach(path, bound[name])
        return bound

    def cut(self, name: str, pairs: Iterable[Pair]) -> Effect:
        """No byte and no close of `pairs` arrives until healed, then all of them do (mechanism ``stall``)."""
        return self._apply(name, pairs, Cut())

    def packets(self, name: str, pairs: Iterable[Pair], spec: PacketSpec, *, seed: int = 0) -> Effect:
        """Refused: raises FaultUnsupported."""
        raise FaultUnsupported(
            f"fault {name!r}: packet faults ({', '.join(spec.verbs)}) cannot be had on runtime local. Tried:"
            " toxiproxy: a proxy of byte streams has no packets (a toxic that deletes bytes would corrupt the"
            " stream); the kernel (netem, NFQUEUE, xt_statistic): loopback is the host's own, which is never"
            " modified. Use runtime docker or netns"
        )

    def counters(self) -> Mapping[Pair, int]:
        """Bytes that the kernel delivered from a to b on the connections that b holds to a, per pair (a, b).

        The other half, on connections that a opened, cannot be told apart by its sockets: all proxies of a
        destination dial the same port. Raises FaultUnsupported where the kernel does not count.
        """
        try:
            sockets = sent_by_port(self._pair_of)
        except OSError as error:
            raise FaultUnsupported(
                f"bytes of live connections are not counted here: sock_diag: {error}"
            ) from error
        counted = dict.fromkeys(self._pair_of.values(), 0)
        for one in sockets.values():
            counted[self._pair_of[one.port]] += one.sent
        return counted

    # ------------------------------------------------------------------ the cluster's own traffic

    def _sent(self, fault: InForce) -> dict[bytes, Sent]:
        """The sockets that send the bytes of a fault's pairs to the nodes that connected."""
        with contextlib.suppress(OSError):
            return sent_by_port({port for port, pair in self._pair_of.items() if pair in fault.pairs})
        return {}

    def _holds(self, fault: InForce) -> None:
        if isinstance(fault.verb, Cut):
            self._watched[fault.name] = time.monotonic(), self._sent(fault)

    def _has_held(self, fault: InForce) -> str:
        """What of the cluster's own traffic crossed a cut while it held: FaultError unless nothing did.

        A connection that was not drained when the cut came is left out: the kernel still delivers from it.
        """
        # once: when it is healed again, bytes do cross
        if (watched := self._watched.pop(fault.name, None)) is None:
            return ""
        since, before = watched
        seconds, now = time.monotonic() - since, self._sent(fault)
        judged = {k: s.sent - (before[k].sent if k in before else 0) for k, s in now.items()
                  if k not in before or not before[k].queued}  # fmt: skip
        if loud := [key for key, count in judged.items() if count]:
            one = self._pair_of[now[loud[0]].port]
            raise FaultError(
                f"{sum(judged.values())} bytes of {len(loud)} of the cluster's own connections crossed it in"
                f" {seconds:.1f} s, first on {one[0]}→{one[1]}; expected none"
            )
        return (
            f"0 bytes of {len(judged)} of the cluster's own connections crossed in {seconds:.1f} s"
            if judged
            else ""
        )

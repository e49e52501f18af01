"""The fabric of the runtime `local`: every link a proxy of one Toxiproxy server, on loopback.

Each link has a twin of its own, a *probe proxy* that carries the same toxics and ends in this process, so
that
an effect is proved by traffic on it, in both directions, on connections from before the fault and on new
ones.

What it is not: packets. A cut stalls the bytes in the proxy (nothing is lost, a connection can still be
opened), rates are per connection, and a close takes both directions of a connection (Toxiproxy has no
half-close).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.fabric import CLIENT, Effect, FaultError, FaultUnsupported, Pair
from harness.fabric.ledger import PROBE, Ledger
from harness.fabric.probe import Probes
from harness.fabric.proof import Prover
from harness.fabric.shaping import Shape
from harness.fabric.sockets import Sent, sent_by_port
from harness.fabric.stalling import Cut, SlowClose
from harness.fabric.verb import Verb
from harness.fabric.verbs import stream_verb
from harness.fabric.watch import CONTROL, Expected, show
from harness.proxy.adapter import ProxyError, Server
from harness.proxy.toxics import Stream


@dataclass
class _Fault:
    """A fault in force: what it is, where, and the pairs on which faults before it hide its effect."""

    name: str
    verb: Verb
    pairs: frozenset[Pair]
    hidden: set[Pair] = field(default_factory=set)
    watched: dict[bytes, Sent] = field(default_factory=dict)  # a cut's live connections when it was proved
    since: float = 0.0

    def __str__(self) -> str:
        return f"fault {self.name!r} ({self.verb.mechanism} on {show(self.pairs)})"


class Loopback:
    """A `Fabric` over one Toxiproxy server, real or embedded.

    `nodes` gives the true port of each node's named ports. All proxies are made at once, listening on
    free ports of `host`. Raises ProxyError where the server does not make them, FaultError where a link
    carries no probe.

        fabric = Loopback(server, {"n1": {"main": 7001}, "n2": {"main": 7002}})
        host, port = fabric.endpoint("n1", "n2")
        fabric.cut("cut", [("n1", "n2")])
        fabric.heal("cut")
    """

    def __init__(
        self, server: Server, nodes: Mapping[str, Mapping[str, int]], *, host: str = "127.0.0.1"
    ) -> None:
        if not nodes or CLIENT in nodes or any(not ports for ports in nodes.values()):
            raise ValueError(
                f"nodes {dict(nodes)!r}: expected one or more, none called {CLIENT!r}, each with its ports"
            )
        self._server, self._nodes, self._host = server, {n: dict(p) for n, p in nodes.items()}, host
        self._links: list[Pair] = [(a, b) for a in (*nodes, CLIENT) for b in nodes if a != b]
        self._turn = threading.RLock()
        self._faults: dict[str, _Fault] = {}
        self._unhealed: dict[str, _Fault] = {}
        self._ledger = Ledger(server, self._channels)
        self._closed = False
        self._probes = Probes(host)
        try:
            self._listen = self._populate()
            self._pair_of = {
                self._listen[self._proxy(link, port)][1]: (link[1], link[0])
                for link in self._links
                for port in self._nodes[link[1]]
            }  # what a link's proxy sends from its own port goes back to who connected
            self._prover = Prover(self._probes, self._links, self._expect)
        except BaseException:
            self._probes.close()
            raise

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

    @staticmethod
    def _proxy(link: Pair, port: str) -> str:
        return f"{link[0]}-{link[1]}.{port}"

    @staticmethod
    def _probe(link: Pair) -> str:
        return f"{link[0]}-{link[1]}{PROBE}"

    def endpoint(self, src: str, dst: str, port: str = "main") -> tuple[str, int]:
        """Where `src` (a node, or ``client``) reaches the port of `dst`: host and port."""
        self._known([(src, dst)])
        if dst == CLIENT or port not in self._nodes[dst]:
            choices = "nothing: clients do not listen" if dst == CLIENT else ", ".join(self._nodes[dst])
            raise ValueError(f"{dst} has no port {port!r}; it has {choices}")
        return self._listen[self._proxy((src, dst), port)]

    # ------------------------------------------------------------------ verbs

    def cut(self, name: str, pairs: Iterable[Pair]) -> Effect:
        """No byte and no close of `pairs` arrives until healed, then all of them do (mechanism ``stall``)."""
        return self._apply(name, pairs, Cut())

    def shape(
        self,
        name: str,
        pairs: Iterable[Pair],
        *,
        latency: float = 0,
        jitter: float = 0,
        rate: float | None = None,
    ) -> Effect:
        """Delay by `latency` ± `jitter` seconds, let `rate` bytes a second pass on each connection.

        The wire's units are 1 ms and 1,000 bytes a second: values are rounded to them, smaller ones refused.
        """
        ms = {
            "latency": _units(latency, 1e3, "latency", "1 ms"),
            "jitter": _units(jitter, 1e3, "jitter", "1 ms"),
        }
        kilobytes = None if rate is None else _units(rate, 1e-3, "rate", "1,000 bytes/s")
        if kilobytes == 0:
            raise ValueError(
                "rate 0 lets nothing pass: expected more than 0 bytes/s; a link is stalled by `cut`"
            )
        if not (ms["latency"] or ms["jitter"] or kilobytes):
            raise ValueError("shape changes nothing: expected latency or jitter (seconds) or rate (bytes/s)")
        return self._apply(name, pairs, Shape(**ms, rate=kilobytes))

    def loss(self, name: str, pairs: Iterable[Pair], probability: float) -> Effect:
        """Refused: raises FaultUnsupported."""
        raise FaultUnsupported(
            f"fault {name!r}: packet loss of {probability:g} cannot be had on runtime local. Tried:"
            f" toxiproxy: a proxy of"
            " byte streams cannot lose packets (a toxic that deletes bytes would corrupt the stream); the"
            " kernel"
            " (netem, xt_statistic): loopback is the host's own, which is never modified. Use runtime"
            " docker or netns"
        )

    def stream(self, name: str, pairs: Iterable[Pair], type: str, **attributes: int) -> Effect:
        """One of Toxiproxy's verbs: reset_peer, slicer, limit_data, slow_close, timeout, in the wire's
        units.
        """
        return self._apply(name, pairs, stream_verb(type, attributes))

    def heal(self, name: str) -> Effect:
        """Remove exactly what `name` applied, and prove it gone as far as no other fault holds the link."""
        return self._heal([name])

    def heal_all(self) -> Effect:
        """Remove every fault, and prove all of them gone."""
        return self._heal([*self._faults, *self._unhealed])

    def await_healthy(self, within: float) -> float:
        """Wait until every link carries bytes again, both ways, on live and new connections; the seconds it
        took.

        Raises FaultError when that is not so after `within` seconds, or while a fault is in force.
        """
        start = time.monotonic()
        with self._turn:
            self._usable()
            if self._faults:
                raise FaultError(
                    f"links cannot be healthy: in force are {', '.join(map(str, self._faults.values()))}"
                )
            while True:
                try:
                    self._prover.verify(self._links)
                    return time.monotonic() - start
                except FaultError as error:
                    if time.monotonic() - start >= within:
                        raise FaultError(f"not every link is healthy after {within:g} s: {error}") from error

    def snapshot(self) -> Mapping[Pair, tuple[str, ...]]:
        """Names of the faults in force per pair that has any, those included that would not heal."""
        found: dict[Pair, tuple[str, ...]] = {}
        for fault in (*self._unhealed.copy().values(), *self._faults.copy().values()):
            for pair in fault.pairs:
                found[pair] = (*found.get(pair, ()), fault.name)
        return found

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

    def close(self) -> None:
        """Close the probes; the proxies stay, with their faults, until the server ends."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._probes.close()

    # ------------------------------------------------------------------ the cluster's own traffic

    def _sent(self, fault: _Fault) -> dict[bytes, Sent]:
        """The sockets that send the bytes of a fault's pairs to the nodes that connected."""
        with contextlib.suppress(OSError):
            return sent_by_port({port for port, pair in self._pair_of.items() if pair in fault.pairs})
        return {}

    def _crossed(self, fault: _Fault) -> str:
        """What of the cluster's own traffic crossed a cut while it held: FaultError unless nothing did.

        A connection that was not drained when the cut came is left out: the kernel still delivers from it.
        """
        if not isinstance(fault.verb, Cut) or not fault.since:
            return ""
        seconds, now = time.monotonic() - fault.since, self._sent(fault)
        fault.since = 0.0  # once: when it is healed again, bytes do cross
        before = fault.watched
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

    # ------------------------------------------------------------------ applying

    def _expect(self, pair: Pair) -> Expected:
        expected = Expected()
        for fault in self._faults.values():
            if pair in fault.pairs:
                expected = fault.verb.expect(fault.name, expected)
        return expected

    def _known(self, pairs: Iterable[Any]) -> frozenset[Pair]:
        """The pairs as a set; ValueError where there are none, or one is not of this fabric."""
        found = frozenset((a, b) for a, b in pairs)
        for a, b in found:
            if (a, b) not in self._links and (b, a) not in self._links:
                names = ", ".join((*self._nodes, CLIENT))
                raise ValueError(f"no link {a!r} to {b!r}: expected two different ones of {names}")
        if not found:
            raise ValueError("a fault on no links would silently do nothing: expected one pair or more")
        return found

    def _usable(self) -> None:
        if self._closed:
            raise FaultError("the fabric is closed; nothing can be applied, healed or proved any more")

    def _channels(self, pair: Pair) -> list[tuple[str, Stream]]:
        """Proxies and streams that carry the bytes of `pair`: the links' own first, then their probes."""
        there: list[tuple[Pair, Stream]] = [(pair, "upstream"), (pair[::-1], "downstream")]
        known = [(link, stream) for link, stream in there if link in self._links]
        real = [(self._proxy(link, port), s) for link, s in known for port in self._nodes[link[1]]]
        return real + [(self._probe(link), s) for link, s in known]

    def _apply(self, name: str, pairs: Iterable[Pair], verb: Verb) -> Effect:
        known = self._known(pairs)
        with self._turn:
            self._usable()
            if name in self._faults or name in self._unhealed:
                raise ValueError(f"fault {name!r} is in force; heal it first, or use another name")
            fault = _Fault(name, verb, known)
            prover = self._prover
            prover.revive()
            opened = (
                prover.watches(prover.channels(known), "live") if isinstance(verb, Cut | SlowClose) else []
            )
            if not isinstance(verb, Cut):  # what a cut does is seen whatever else holds the link
                fault.hidden = {p for p in known if self._expect(p).held or prover.lossy(p)}
            begin = time.monotonic()
            try:
                self._faults[name] = fault
                toxics = self._ledger.place(name, known, verb)
                self._server.add_many(toxics)
                start, took = time.monotonic_ns(), time.monotonic() - begin
                if self._breaks(fault):
                    prover.forget(known)
                proof = verb.prove(prover, known, opened)
            except BaseException as error:
                self._withdraw(fault)
                if isinstance(error, FaultUnsupported) or not isinstance(error, FaultError | ProxyError):
                    raise
                raise FaultError(f"{fault} did not take effect: {error}") from error
            fault.watched, fault.since = (
                (self._sent(fault) if isinstance(verb, Cut) else {}),
                time.monotonic(),
            )
            also = f"hidden on {show(fault.hidden)} by faults in force before" if fault.hidden else ""
            applied = f"{len(toxics)} toxics applied one by one within {took * 1e3:.0f} ms"
            return Effect(verb.mechanism, start, "; ".join(filter(None, (proof, also, applied))), took)

    def _breaks(self, fault: _Fault) -> bool:
        return bool(fault.verb.expect(fault.name, Expected()).lossy)

    def _withdraw(self, fault: _Fault) -> None:
        """Take back a fault that is not proved, so that none stays in force unnoticed."""
        with contextlib.suppress(ProxyError):
            self._ledger.lift([fault.name])
        self._faults.pop(fault.name, None)
        self._prover.forget(fault.pairs)
        self._prover.drop(fault.pairs)

    def _heal(self, names: Iterable[str]) -> Effect:
        with self._turn:
            self._usable()
            found = {n: f for n in names if (f := self._faults.get(n) or self._unhealed.get(n))}
            if not found:
                return Effect("none", time.monotonic_ns(), "nothing of it is in force", 0.0)
            faults = list(found.values())
            pairs = frozenset().union(*(fault.pairs for fault in faults))
            mechanism = ", ".join(dict.fromkeys(fault.verb.mechanism for fault in faults))
            leaks = []
            crossed = []
            for fault in faults:
                try:
                    crossed.append(self._crossed(fault))
                except FaultError as error:
                    leaks.append(f"{fault}: {error}")
            begin = time.monotonic()
            for fault in faults:
                self._faults.pop(fault.name, None)
                self._unhealed[fault.name] = fault
            try:
                self._ledger.lift(found)
                start, took = time.monotonic_ns(), time.monotonic() - begin
                proofs = dict.fromkeys(fault.verb.gone(self._prover, fault.pairs) for fault in faults)
                proofs |= dict.fromkeys(self._uncovered(pairs))
            except (FaultError, ProxyError) as error:
                what = ", ".join(map(str, faults))
                raise FaultError(
                    f"{what} is not gone: {error}; heal it again, or end the proxy server"
                ) from error
            for fault in faults:
                del self._unhealed[fault.name]
            if leaks:
                raise FaultError(f"healed, but it had not held: {'; '.join(leaks)}")
            kept = {p: names for p, names in self.snapshot().items() if p in pairs}
            others = ", ".join(dict.fromkeys(name for names in kept.values() for name in names))
            still = f"{show(kept)} still under {others}" if kept else ""
            text = "; ".join(filter(None, (*crossed, *proofs, still, f"removed within {took * 1e3:.0f} ms")))
            return Effect(mechanism, start, text, took)

    def _uncovered(self, pairs: Iterable[Pair]) -> list[str]:
        """Proofs of faults whose effect a healed one had hidden."""
        texts = []
        for fault in self._faults.values():
            others = {
                p: set(self._expect(p).held + self._prover.lossy(p)) - {fault.name} for p in fault.hidden
            }
            if seen := {p for p in fault.hidden.intersection(pairs) if not others[p]}:
                try:
                    texts.append(
                        f"{fault.name}, hidden until now: {fault.verb.prove(self._prover, seen, ())}"
                    )
                except FaultError as error:
                    raise FaultError(f"{fault}, hidden until now, did not take effect: {error}") from error
                fault.hidden -= seen
        return texts


def _units(value: float, factor: float, what: str, unit: str) -> int:
    """`value` in whole units of the wire; ValueError for nonsense, FaultUnsupported for less than one
    unit.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"{what} {value!r}: expected a number of 0 or more")
    if 0 < value * factor < 0.9995:
        raise FaultUnsupported(f"{what} {value:g} is less than Toxiproxy's unit of {unit}")
    return round(value * factor)

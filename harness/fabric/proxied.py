"""What every fabric behind a Toxiproxy server has in common: faults by name, proofs by probes.

Each link has a twin of its own, a *probe proxy* that carries the same toxics and ends in this process, so
that an effect is proved by traffic on it, in both directions, on connections from before the fault and on
new ones.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.fabric import CLIENT, Effect, FaultError, FaultUnsupported, Pair
from harness.fabric.framed import FramedStreams
from harness.fabric.ledger import Ledger
from harness.fabric.message_spec import MessageSpec
from harness.fabric.messages import PROBED, Messages, measurable
from harness.fabric.probe import Probes
from harness.fabric.proof import Prover
from harness.fabric.shaping import Shape
from harness.fabric.stalling import AnyCut, SlowClose
from harness.fabric.verb import PROBE, Verb
from harness.fabric.verbs import stream_verb
from harness.fabric.watch import Expected, show
from harness.framing import Framing, Framings, framings
from harness.proxy.adapter import ProxyError, Server
from harness.proxy.toxics import Stream


@dataclass
class InForce:
    """A fault in force: what it is, where, and the pairs on which faults before it hide its effect."""

    name: str
    verb: Verb
    pairs: frozenset[Pair]
    hidden: set[Pair] = field(default_factory=set)

    def __str__(self) -> str:
        return f"fault {self.name!r} ({self.verb.mechanism} on {show(self.pairs)})"


class Proxied(ABC):
    """A `Fabric` over one Toxiproxy server, real or embedded, whose proxies `_populate` makes at once.

    `nodes` gives the port of each node's named ports, `framing` how messages are told apart on them.
    Raises ProxyError where the server does not make the
    proxies, FaultError where a link carries no probe.
    """

    def __init__(
        self,
        server: Server,
        nodes: Mapping[str, Mapping[str, int]],
        probes: Probes,
        framing: Mapping[str, Framing | Framings],
    ) -> None:
        if not nodes or CLIENT in nodes or not (self.portless or all(nodes.values())):
            probes.close()
            raise ValueError(
                f"nodes {dict(nodes)!r}: expected one or more, none called {CLIENT!r}, each with its ports"
            )
        self._server, self._nodes = server, {n: dict(p) for n, p in nodes.items()}
        self._links: list[Pair] = [(a, b) for a in (*nodes, CLIENT) for b in nodes if a != b]
        self._turn = threading.RLock()
        self._faults: dict[str, InForce] = {}
        self._unhealed: dict[str, InForce] = {}
        self._ledger = Ledger(server, self._channels)
        self._closed = False
        self._probes = probes
        try:
            self._listen = self._populate()
            self._framed = FramedStreams(server, self._framings(framing))
            self._prover = Prover(self._probes, self._links, self._expect)
        except BaseException:
            self._probes.close()
            raise

    portless: ClassVar[bool] = False  # whether nodes may have no port that passes through the proxy server

    @abstractmethod
    def _populate(self) -> dict[str, tuple[str, int]]:
        """Make the proxies of all links and of their probes; where each listens."""

    @staticmethod
    def _proxy(link: Pair, port: str) -> str:
        return f"{link[0]}-{link[1]}.{port}"

    @staticmethod
    def _probe(link: Pair) -> str:
        return f"{link[0]}-{link[1]}{PROBE}"

    def _framings(self, declared: Mapping[str, Framing | Framings]) -> dict[tuple[str, Stream], Framing]:
        """How the messages of each stream are told apart, probes included where anything is declared."""
        told: dict[tuple[str, Stream], Framing] = {}
        streams: tuple[Stream, Stream] = ("upstream", "downstream")
        for link in self._links if declared else ():
            told |= {(self._probe(link), stream): PROBED for stream in streams}
            for port in declared.keys() & self._nodes[link[1]].keys():
                ways = framings(declared[port])
                both = (ways.clients, ways.to_clients) if link[0] == CLIENT else (ways.peers, ways.to_peers)
                named = zip(streams, both, strict=True)
                told |= {(self._proxy(link, port), stream): one for stream, one in named if one is not None}
        return told

    def endpoint(self, src: str, dst: str, port: str = "main") -> tuple[str, int]:
        """Where `src` (a node, or ``client``) reaches the port of `dst`: host and port."""
        self._known([(src, dst)])
        if dst == CLIENT or port not in self._nodes[dst]:
            choices = "nothing: clients do not listen" if dst == CLIENT else ", ".join(self._nodes[dst])
            raise ValueError(f"{dst} has no port {port!r}; it has {choices}")
        return self._listen[self._proxy((src, dst), port)]

    # ------------------------------------------------------------------ verbs

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

    def stream(self, name: str, pairs: Iterable[Pair], type: str, **attributes: int) -> Effect:
        """One of Toxiproxy's verbs: reset_peer, slicer, limit_data, slow_close, timeout, in the wire's
        units.
        """
        return self._apply(name, pairs, stream_verb(type, attributes))

    def messages(self, name: str, pairs: Iterable[Pair], spec: MessageSpec, *, seed: int = 0) -> Effect:
        """Do what `spec` says to whole messages; the same `seed` makes the same choices.

        Raises FaultUnsupported where the server is a real one, or where no port of a pair has a framing.
        """
        known = self._known(pairs)
        channels = {channel for pair in known for channel in self._channels(pair)}
        own = {pair: self._real(pair) for pair in known}
        return self._apply(name, known, self._framed.verb(name, spec, seed, own, channels))

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

    def close(self) -> None:
        """Close the probes; the proxies stay, with their faults, until the server ends."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._probes.close()

    # ------------------------------------------------------------------ what back-ends do their own way

    def _enforce(self, fault: InForce) -> str:
        """Put a fault into effect; how that was done, in words."""
        begin = time.monotonic()
        toxics = self._ledger.place(fault.name, fault.pairs, fault.verb)
        self._server.add_many(toxics)
        return f"{len(toxics)} toxics applied one by one within {(time.monotonic() - begin) * 1e3:.0f} ms"

    def _mechanism(self, fault: InForce) -> str:
        """What a fault that is in force is served by."""
        return fault.verb.mechanism

    def _lift(self, faults: Collection[InForce]) -> None:
        """End the effect of faults."""
        self._ledger.lift([fault.name for fault in faults])

    def _holds(self, fault: InForce) -> None:  # noqa: B027  (nothing to do is what most do)
        """A fault has been proved and holds from now on."""

    def _has_held(self, fault: InForce) -> str:
        """A fault is about to be healed: what shows that it held until now. Raises FaultError if it did
        not."""
        return ""

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
        return self._real(pair) + [(self._probe(link), s) for link, s in known]

    def _real(self, pair: Pair) -> list[tuple[str, Stream]]:
        """Those of the cluster's own bytes."""
        there: list[tuple[Pair, Stream]] = [(pair, "upstream"), (pair[::-1], "downstream")]
        known = [(link, stream) for link, stream in there if link in self._links]
        return [(self._proxy(link, port), s) for link, s in known for port in self._nodes[link[1]]]

    def _carried(self, pair: Pair) -> bool:
        """Whether the proxy server carries anything of the nodes' own on a pair."""
        return any(self._nodes.get(end) for end in pair)

    def _apply(self, name: str, pairs: Iterable[Pair], verb: Verb) -> Effect:
        known = self._known(pairs)
        if verb.toxics and (bare := [pair for pair in sorted(known) if not self._carried(pair)]):
            raise FaultUnsupported(
                f"fault {name!r} acts on TCP streams, but the proxy server carries none on {show(bare)}: "
                "neither end has a port that its target declares, or its image exposes; declare it"
            )
        with self._turn:
            self._usable()
            if name in self._faults or name in self._unhealed:
                raise ValueError(f"fault {name!r} is in force; heal it first, or use another name")
            fault = InForce(name, verb, known)
            prover = self._prover
            prover.revive()
            opened = (
                prover.watches(prover.channels(known), "live")
                if isinstance(verb, AnyCut | SlowClose) and verb.toxics
                else []
            )
            if isinstance(verb, Messages):
                self._framed.read(verb, ())
                fault.hidden = {p for p in known if not measurable(prover, p)}
            elif not isinstance(verb, AnyCut):  # what a cut does is seen whatever else holds the link
                fault.hidden = {p for p in known if self._expect(p).held or prover.lossy(p)}
            begin = time.monotonic()
            try:
                self._faults[name] = fault
                applied = self._enforce(fault)
                start, took = time.monotonic_ns(), time.monotonic() - begin
                if verb.expect(name, Expected()).lossy:
                    prover.forget(known)
                proof = verb.prove(prover, known, opened)
            except BaseException as error:
                self._withdraw(fault)
                if isinstance(error, FaultUnsupported) or not isinstance(error, FaultError | ProxyError):
                    raise
                raise FaultError(f"{fault} did not take effect: {error}") from error
            self._holds(fault)
            also = f"hidden on {show(fault.hidden)} by faults in force before" if fault.hidden else ""
            return Effect(
                self._mechanism(fault), start, "; ".join(filter(None, (proof, also, applied))), took
            )

    def _withdraw(self, fault: InForce) -> None:
        """Take back a fault that is not proved, so that none stays in force unnoticed."""
        self._faults.pop(fault.name, None)
        with contextlib.suppress(ProxyError, FaultError):
            self._lift([fault])
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
            mechanism = ", ".join(dict.fromkeys(map(self._mechanism, faults)))
            leaks = []
            crossed = []
            for fault in faults:
                try:
                    crossed.append(self._has_held(fault))
                    if isinstance(fault.verb, Messages):
                        crossed.append(self._framed.read(fault.verb, self._ledger.toxics(fault.name)))
                except FaultError as error:
                    leaks.append(f"{fault}: {error}")
            begin = time.monotonic()
            for fault in faults:
                self._faults.pop(fault.name, None)
                self._unhealed[fault.name] = fault
            try:
                self._lift(faults)
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

    def _hides(self, fault: InForce, pair: Pair) -> bool:
        """Whether other faults hide the effect of `fault` on `pair`."""
        if isinstance(fault.verb, Messages):
            return not measurable(self._prover, pair)
        return bool(set(self._expect(pair).held + self._prover.lossy(pair)) - {fault.name})

    def _uncovered(self, pairs: Iterable[Pair]) -> list[str]:
        """Proofs of faults whose effect a healed one had hidden."""
        texts = []
        for fault in self._faults.values():
            if seen := {p for p in fault.hidden.intersection(pairs) if not self._hides(fault, p)}:
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

"""What each kind of fault does to a running cluster: inject, prove, heal, prove again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harness.cluster import Cluster, ClusterError
from harness.cluster.resources import RESOURCES
from harness.fabric import Effect, FaultError, FaultUnsupported
from harness.fabric.message_spec import MessageSpec
from harness.fabric.packet_spec import PacketSpec
from harness.faults import CLOCK_FAULTS, fault
from harness.resolved import Resolved
from harness.skew.patcher import Spec

PACKETS: Mapping[str, Callable[[Mapping[str, float]], PacketSpec]] = {
    "packet_loss": lambda n: PacketSpec(loss=n["probability"]),
    "packet_delay": lambda n: PacketSpec(delay=n["delay"], jitter=n["jitter"]),
    "packet_reorder": lambda n: PacketSpec(delay=n["delay"], reorder=n["probability"]),
    "packet_duplicate": lambda n: PacketSpec(duplicate=n["probability"]),
    "packet_corrupt": lambda n: PacketSpec(corrupt=n["probability"]),
    "packet_rate": lambda n: PacketSpec(rate=n["rate"]),
}


@dataclass(frozen=True)
class Context:
    """What a user's own fault is called with: the running `cluster`, and its own random stream."""

    cluster: Cluster
    rng: random.Random

    @property
    def leader(self) -> str | None:
        """Who leads now, as far as the target says."""
        return self.cluster.leader()


@dataclass(frozen=True)
class Act:
    """One fault about to happen: `name` is its own in the fabric; `own` are a user's functions."""

    cluster: Cluster
    name: str
    resolved: Resolved
    rng: random.Random
    own: fault | None = None

    def inject(self) -> Effect:
        """Make it happen and prove it by traffic. Raises FaultError or ClusterError where it is not seen."""
        fault, fabric = self.resolved, self.cluster.fabric
        numbers, links = fault.parameters, fault.links
        match fault.kind:
            case "partition":
                return fabric.cut(self.name, links)
            case "latency":
                return fabric.shape(self.name, links, latency=numbers["delay"], jitter=numbers["jitter"])
            case "bandwidth":
                return fabric.shape(self.name, links, rate=numbers["rate"])
            case kind if kind in PACKETS:
                spec, seed = PACKETS[kind](numbers), self.rng.getrandbits(32)
                return fabric.packets(self.name, links, spec, seed=seed)
            case (
                "message_drop" | "message_duplicate" | "message_corrupt" | "message_reorder" | "message_delay"
            ):
                of_messages = _message_spec(fault.kind, numbers)
                return fabric.messages(self.name, links, of_messages, seed=int(numbers["seed"]))
            case "reset_peer" | "timeout":
                return fabric.stream(self.name, links, fault.kind, timeout=_ms(numbers["timeout"]))
            case "slow_close":
                return fabric.stream(self.name, links, fault.kind, delay=_ms(numbers["delay"]))
            case "limit_data":
                return fabric.stream(self.name, links, fault.kind, bytes=int(numbers["bytes"]))
            case "slicer":
                return fabric.stream(
                    self.name,
                    links,
                    fault.kind,
                    average_size=int(numbers["average_size"]),
                    size_variation=int(numbers["size_variation"]),
                    delay=round(numbers["delay"] * 1e6),
                )
            case "kill":
                return self._each(self.cluster.kill, "SIGKILL")
            case "pause":
                return self._each(self.cluster.pause, "SIGSTOP")
            case "restart":
                return self._each(self._restart, "SIGKILL and start")
            case kind if kind in RESOURCES:
                return self._take(kind, numbers.get("cpus", numbers.get("bytes", 0.0)))
            case kind if kind in CLOCK_FAULTS:
                return self._skew()
            case "fault":
                return self._own_inject()
        raise FaultError(f"nobody carries out a fault of kind {fault.kind!r}")

    def heal(self) -> Effect:
        """Undo it and prove by traffic that it is gone."""
        match self.resolved.kind:
            case "kill":
                return self._each(self.cluster.restart, "start")
            case "pause":
                return self._each(self.cluster.resume, "SIGCONT")
            case kind if kind in RESOURCES:
                return self._each(partial(self.cluster.give_back, kind), RESOURCES[kind])
            case kind if kind in CLOCK_FAULTS:
                return self._clocks(self.cluster.set_right)
            case "fault":
                return self._own_heal()
        return self.cluster.fabric.heal(self.name)

    def _restart(self, node: str) -> str:
        return f"{self.cluster.kill(node)}; {self.cluster.restart(node)}"

    def _take(self, resource: str, amount: float) -> Effect:
        if reason := self.cluster.unsupported.get(resource):
            raise FaultUnsupported(f"the runtime {self.cluster.runtime} has no {resource}: {reason}")
        return self._each_or_none(
            lambda node: self.cluster.take(resource, node, amount),
            partial(self.cluster.give_back, resource),
            RESOURCES[resource],
        )

    def _each_or_none(self, verb: Callable[[str], str], undo: Callable[[str], str], mechanism: str) -> Effect:
        """As `_each`, but what does not hold on all nodes is left on none."""
        held: list[str] = []

        def hold(node: str) -> str:
            proof = verb(node)
            held.append(node)
            return proof

        try:
            return self._each(hold, mechanism)
        except BaseException as error:
            for node in held:
                try:
                    undo(node)
                except (FaultError, ClusterError) as also:
                    error.add_note(f"and its end on {node}: {also}")
            raise

    def _skew(self) -> Effect:
        origin = Spec().based().origin  # one for all, so that they change in step

        def skew(node: str) -> Effect:
            return self.cluster.skew(node, replace(_spec(self.resolved, node), origin=origin))

        return self._clocks(skew, lambda node: self.cluster.set_right(node).proof)

    def _clocks(self, verb: Callable[[str], Effect], undo: Callable[[str], str] | None = None) -> Effect:
        """`verb` of every node at once; in force, or gone, from when it is so on the last of them."""
        effects: list[Effect] = []

        def proof(node: str) -> str:
            effects.append(effect := verb(node))
            return effect.proof

        all_of = self._each_or_none(proof, undo, "") if undo else self._each(proof, "")
        mechanisms = ", ".join(sorted({effect.mechanism for effect in effects} - {""}))
        if not mechanisms and undo is None:  # a fault that does nothing must not pass for one that was borne
            raise FaultError(
                f"{', '.join(self.resolved.nodes)} never ran while it lasted: no clock was skewed"
            )
        return replace(
            all_of, mechanism=mechanisms or "none yet", start=max(effect.start for effect in effects)
        )

    def _each(self, verb: Callable[[str], str], mechanism: str) -> Effect:
        began = time.monotonic()
        proofs = together(verb, self.resolved.nodes)
        return Effect(mechanism, time.monotonic_ns(), "; ".join(proofs), time.monotonic() - began)

    def _own_inject(self) -> Effect:
        assert self.own is not None
        context, began = Context(self.cluster, self.rng), time.monotonic()
        try:
            said = self.own.inject(context)
            proof = _measured(said)
            if self.own.verify is not None:
                if not (held := self.own.verify(context)):
                    raise FaultError(
                        f"{self.own.name}: verify says {held!r} after inject, expected that it holds"
                    )
                proof = f"verify says {held!r}"
        except BaseException as error:
            if self.own.heal is not None:  # it may have acted before it failed, and nothing else undoes it
                try:
                    self.own.heal(context)
                except Exception as also:
                    error.add_note(f"and heal raised {type(also).__name__}: {also}")
            raise
        return Effect(f"own: {self.own.name}", time.monotonic_ns(), proof, time.monotonic() - began)

    def _own_heal(self) -> Effect:
        assert self.own is not None and self.own.heal is not None
        context, began = Context(self.cluster, self.rng), time.monotonic()
        said = self.own.heal(context)
        proof = _measured(said)
        if self.own.verify is not None:
            if held := self.own.verify(context):
                raise FaultError(
                    f"{self.own.name}: verify says {held!r} after heal, expected that it is gone"
                )
            proof = f"verify says {held!r}"
        return Effect(f"own: {self.own.name}", time.monotonic_ns(), proof, time.monotonic() - began)


def together(verb: Callable[[str], str], nodes: Iterable[str]) -> list[str]:
    """Call `verb` of every node at once; the answers in order, or the first error once all have ended."""
    answers: dict[str, Any] = {}

    def one(node: str) -> None:
        try:
            answers[node] = verb(node)
        except Exception as error:
            answers[node] = error

    threads = [threading.Thread(target=one, args=(node,), daemon=True) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers.values():
        if isinstance(answer, Exception):
            raise answer
    return [f"{node}: {answers[node]}" if len(threads) > 1 else str(answers[node]) for node in nodes]


def _measured(said: Any) -> str:
    return "nothing was measured: the fault has no verify function" if said is None else str(said)


def _message_spec(kind: str, numbers: Mapping[str, float]) -> MessageSpec:
    if kind == "message_delay":
        return MessageSpec(delay=numbers["delay"], jitter=numbers["jitter"])
    share = {kind.removeprefix("message_"): numbers["probability"]}
    return MessageSpec(**share, hold=numbers.get("hold", 0.0))


def _spec(fault: Resolved, node: str) -> Spec:
    """What the clocks of `node` are to be."""
    numbers = fault.parameters
    clocks = ("wall", "monotonic") if fault.spec.get("monotonic") else ("wall",)
    match fault.kind:
        case "clock_drift":
            return Spec(rate=numbers["rate"], clocks=clocks)
        case "clock_strobe":
            return Spec(amplitude=numbers["offset"], half=numbers["period"], clocks=clocks)
        case "clock_scramble":
            return Spec(offset=numbers[node], clocks=clocks)
    return Spec(offset=numbers["offset"], clocks=clocks)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


__all__ = ["Act", "Context", "together"]

"""The links between nodes: cuts, shaping, surgery on streams, each proved by traffic.

A fabric carries the bytes of every ordered pair of nodes, and of every client to its node, and can hold
them, slow them or break their connections. `harness.fabric.loopback` is the back-end of the runtime
``local``; other back-ends keep the Protocol `Fabric`.

The bytes of the pair ``("n1", "n2")`` are those from n1 to n2, whoever opened the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.fabric.message_spec import MessageSpec

from harness.fabric.packet_spec import PacketSpec

Pair = tuple[str, str]
CLIENT = "client"


class FaultError(RuntimeError):
    """A fault did not take effect, or is not gone: the text says on which link, what was measured, what
    was expected.
    """


class FaultUnsupported(FaultError):
    """A fault cannot be had on this runtime; the text names each mechanism tried, why not, and where it
    can be had.
    """


@dataclass(frozen=True, slots=True)
class Effect:
    """What was observed when a fault was applied or healed.

    `start` is CLOCK_MONOTONIC in nanoseconds when it held (or was gone) on every link, `proof` what
    traffic showed, `took` the seconds that applying it took, without the proof.
    """

    mechanism: str
    start: int
    proof: str
    took: float


class Fabric(Protocol):
    """What carries the links; every verb returns only after traffic has proved its effect.

    Faults have names. Several unite on a link, and healing one leaves the others. Verbs raise FaultError
    where the effect was not seen (nothing of the fault is left in force then), FaultUnsupported where the
    runtime does not have it, and ValueError for a name in force, no pairs, an unknown node or a bad number.
    They may be called from several threads; they take turns.
    """

    def endpoint(self, src: str, dst: str, port: str = "main") -> tuple[str, int]:
        """Where `src` (a node, or ``client``) reaches the port of `dst`: host and port."""
        ...

    def cut(self, name: str, pairs: Iterable[Pair]) -> Effect:
        """No byte of `pairs` arrives until healed."""
        ...

    def shape(
        self,
        name: str,
        pairs: Iterable[Pair],
        *,
        latency: float = 0,
        jitter: float = 0,
        rate: float | None = None,
    ) -> Effect:
        """Delay the bytes of `pairs` by `latency` ± `jitter` seconds, let `rate` bytes a second pass."""
        ...

    def packets(self, name: str, pairs: Iterable[Pair], spec: PacketSpec, *, seed: int = 0) -> Effect:
        """Delay, lose, reorder, duplicate or corrupt packets of `pairs`, or limit their rate."""
        ...

    def stream(self, name: str, pairs: Iterable[Pair], type: str, **attributes: int) -> Effect:
        """One of Toxiproxy's verbs on the TCP streams of `pairs`, in the units of its wire."""
        ...

    def messages(self, name: str, pairs: Iterable[Pair], spec: MessageSpec, *, seed: int = 0) -> Effect:
        """Do what `spec` says to the whole messages of `pairs`, on the ports whose framing is known."""
        ...

    def heal(self, name: str) -> Effect:
        """Remove exactly what `name` applied; a name that is not in force is healed already."""
        ...

    def heal_all(self) -> Effect:
        """Remove every fault."""
        ...

    def await_healthy(self, within: float) -> float:
        """Wait until every link carries bytes again; the seconds it took. FaultError after `within`
        seconds.
        """
        ...

    def snapshot(self) -> Mapping[Pair, tuple[str, ...]]:
        """Names of the faults in force, per pair that has any."""
        ...

    def counters(self) -> Mapping[Pair, int]:
        """Bytes of the cluster's own traffic that crossed each pair, as far as the back-end can tell."""
        ...

    def close(self) -> None:
        """Release what the fabric holds; idempotent, heals nothing."""
        ...


__all__ = ["CLIENT", "Effect", "Fabric", "FaultError", "FaultUnsupported", "Pair"]

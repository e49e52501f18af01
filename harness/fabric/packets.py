"""Faults on packets, applied by the router: cuts and losses."""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from socket import SO_ERROR, SOL_SOCKET, socket

from harness.fabric import CLIENT, FaultError, Pair
from harness.fabric.datagrams import Datagrams
from harness.fabric.proof import Prover
from harness.fabric.stalling import AnyCut
from harness.fabric.verb import Toxics
from harness.fabric.watch import WINDOW, Expected, Watch, show

DOUBT = 1e-6  # chance with which a right rate is called wrong, per pair
SAMPLE = 400  # datagrams by which a rate is judged


@dataclass(frozen=True, slots=True)
class PacketCut(AnyCut):
    """Packets are dropped in the router: silence, for new connections too; TCP sends again after heal.

    Differs from a stalled proxy in that no connection is accepted across it, and in that a cut of one
    direction leaves datagrams of the other alone, though no TCP connection works any more.
    """

    datagrams: Datagrams
    dial: Callable[[Sequence[Pair]], list[socket]]  # begins connections to the peers' probes
    held: Callable[[], Collection[Pair]]  # pairs that are cut now, by any fault
    doubtful: Callable[[], Collection[Pair]]  # pairs that may lose datagrams now
    mechanism = "iptables DROP"
    toxics: Toxics = ()

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, held=(*before.held, name), lossy=(*before.lossy, name))

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        watches = [w for w in prover.living(prover.channels(pairs)) if w.pair in pairs]
        dialled = self.dial(sorted({*pairs, *(p[::-1] for p in pairs)} & {*prover.paths}))
        try:
            before = {w.flow: w.flow.arrived for w in watches}
            for watch in watches:
                watch.flow.send()
            seen = self.datagrams.matrix(self.held(), self.doubtful())
            prover.attend(lambda: True, 0, at_least=WINDOW)
            for watch in watches:
                if watch.flow.arrived != before[watch.flow]:
                    raise FaultError(f"bytes crossed {watch}, expected none")
            if through := sum(map(_connected, dialled)):
                raise FaultError(f"{through} of {len(dialled)} new connections came through, expected none")
        finally:
            for sock in dialled:
                sock.close()
            prover.drop(pairs)
        tcp = f"no byte on {len(watches)} live connections, none of {len(dialled)} new ones opened"
        return "; ".join(filter(None, (seen, tcp, prover.verify(()))))

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        return f"{self.datagrams.matrix(self.held(), self.doubtful())}; {prover.verify(pairs)}"


@dataclass(frozen=True, slots=True)
class PacketLoss:
    """Each packet is lost with `probability`, of all protocols: TCP sends again, and is slower."""

    probability: float
    datagrams: Datagrams
    expected: Callable[[Pair], float]  # the loss of all faults in force
    mechanism = "iptables statistic"
    toxics: Toxics = ()

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, lossy=(*before.lossy, name))

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        seen = self._counted([p for p in pairs if CLIENT not in p and not prover.expect(p).held])
        return "; ".join(filter(None, (seen, prover.verify(()))))

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        free = [p for p in pairs if CLIENT not in p and not prover.expect(p).held]
        return f"{self._counted(free)}; {prover.verify(pairs)}"

    def _counted(self, pairs: Sequence[Pair]) -> str:
        if not pairs:
            return ""
        # rare losses need many packets to be told from none
        rarest = min((p for p in map(self.expected, pairs) if p), default=1.0)
        number = max(SAMPLE, min(math.ceil(-math.log(DOUBT) / rarest), 20_000))
        arrived = self.datagrams.count(pairs, number)
        for pair in pairs:
            lost, probability = number - arrived[pair], self.expected(pair)
            low, high = binomial_interval(number, probability, DOUBT)
            if not low <= lost <= high:
                raise FaultError(
                    f"{lost} of {number} datagrams were lost on {pair[0]}→{pair[1]}, expected {low} to {high}"
                    f" ({probability:.4g} of them)"
                )
        lost = number * len(pairs) - sum(arrived.values())
        return f"{lost} of {number * len(pairs)} datagrams lost on {show(pairs)}"


def binomial_interval(number: int, probability: float, doubt: float) -> tuple[int, int]:
    """The fewest and the most successes of `number` that are not too unlikely: each tail at most `doubt`/2.

    >>> binomial_interval(20_000, 0.1, 0.001)
    (1862, 2141)
    """
    if probability in (0.0, 1.0):
        return (round(number * probability),) * 2
    logs = math.log(probability), math.log1p(-probability)

    def chance(k: int) -> float:
        ways = math.lgamma(number + 1) - math.lgamma(k + 1) - math.lgamma(number - k + 1)
        return math.exp(ways + k * logs[0] + (number - k) * logs[1])

    low, tail = 0, chance(0)
    while tail <= doubt / 2:
        low += 1
        tail += chance(low)
    high, tail = number, chance(number)
    while tail <= doubt / 2:
        high -= 1
        tail += chance(high)
    return low, high


def _connected(sock: socket) -> bool:
    """Whether a connection that was begun has been answered."""
    _, writable, _ = select.select([], [sock], [], 0)
    return bool(writable) and sock.getsockopt(SOL_SOCKET, SO_ERROR) == 0


__all__ = ["DOUBT", "SAMPLE", "PacketCut", "PacketLoss", "binomial_interval"]

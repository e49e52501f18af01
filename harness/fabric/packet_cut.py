"""Cuts of packets, applied by the router."""

from __future__ import annotations

import select
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from socket import SO_ERROR, SOL_SOCKET, socket

from harness.fabric import FaultError, Pair
from harness.fabric.datagrams import Datagrams
from harness.fabric.proof import Prover
from harness.fabric.stalling import AnyCut
from harness.fabric.verb import Toxics
from harness.fabric.watch import WINDOW, Expected, Watch


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


def _connected(sock: socket) -> bool:
    """Whether a connection that was begun has been answered."""
    poller = select.poll()  # as select takes no descriptor above 1023, which 25 nodes need
    poller.register(sock, select.POLLOUT)
    return bool(poller.poll(0)) and sock.getsockopt(SOL_SOCKET, SO_ERROR) == 0


__all__ = ["PacketCut"]

"""What becomes of single packets on a link, proved by counting and timing datagrams."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from harness.fabric import FaultError, Pair
from harness.fabric.binomial import interval
from harness.fabric.datagrams import Datagrams, Sample
from harness.fabric.packet_spec import NOTHING, PacketSpec
from harness.fabric.proof import Prover
from harness.fabric.verb import Toxics
from harness.fabric.watch import Expected, Tries, Watch, show

DOUBT = 1e-7  # chance with which a right rate is called wrong, per pair and verb
SAMPLE = 400  # datagrams by which a pair is judged, or as many as tell a rare thing from none
MOST = 20_000
SLACK = 0.02  # seconds that a datagram may take on its own on a loaded machine before it is measured again
BURST = 0.4  # seconds for which a rate is measured
TIMED = 21  # datagrams of which the median is taken
EARLY = 0.001  # seconds by which timers may be early


@dataclass(frozen=True, slots=True)
class PacketVerb:
    """Packets that nodes send on a link are delayed, lost, reordered, doubled or damaged, of all protocols.

    TCP makes streams of them all the same, only slower: probe connections on such a link show nothing, so
    only datagrams are measured. `expected` gives what all faults in force make of a pair.
    """

    spec: PacketSpec
    datagrams: Datagrams
    expected: Callable[[Pair], PacketSpec]
    toxics: Toxics = ()

    @property
    def mechanism(self) -> str:
        return " + ".join(f"packet {verb}" for verb in self.spec.verbs)

    def expect(self, name: str, before: Expected) -> Expected:
        return replace(before, lossy=(*before.lossy, name))

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        seen = self._measured([p for p in sorted(pairs) if not prover.expect(p).held])
        return "; ".join(filter(None, (seen, prover.verify(()))))

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        seen = self._measured([p for p in sorted(pairs) if not prover.expect(p).held])
        return "; ".join(filter(None, (seen, prover.verify(pairs))))

    def _measured(self, pairs: Sequence[Pair]) -> str:
        """What datagrams show on each pair is what is expected of it."""
        said = []
        for spec in dict.fromkeys(map(self.expected, pairs)):
            same = [pair for pair in pairs if self.expected(pair) == spec]
            said.append(self._judged(same, spec))
        return "; ".join(said)

    def _judged(self, pairs: Sequence[Pair], spec: PacketSpec) -> str:
        """Time and count datagrams on pairs with one expectation; a rate lets them wait for their turn."""
        typical = 0.0 if spec.rate else self._timed(pairs, spec)
        samples = self.datagrams.sample(pairs, self._number(spec), spec.delay + spec.jitter)
        for pair, sample in samples.items():
            self._counted(pair, sample, spec)
        rate = self._rated(pairs, spec) if spec.rate else ""
        return "; ".join(filter(None, (self._said(pairs, list(samples.values()), spec, typical), rate)))

    def _timed(self, pairs: Sequence[Pair], spec: PacketSpec) -> float:
        """The median of what they take: too little fails at once, too much is measured again."""
        low = spec.delay - spec.jitter - EARLY if spec.reorder < 0.3 else 0.0
        high = spec.delay + spec.jitter + SLACK
        tries = Tries()
        while True:
            took, control = self.datagrams.timed(pairs, TIMED, spec.delay + spec.jitter)
            for (a, b), seconds in took.items():
                if seconds < low:
                    raise FaultError(
                        f"datagrams take {seconds * 1e3:.1f} ms on {a}→{b}, expected {spec.delay * 1e3:g} ms"
                        f" ± {spec.jitter * 1e3:g} ms"
                    )
            slow = [(pair, seconds) for pair, seconds in took.items() if seconds > high]
            if not slow:
                return statistics.median(took.values())
            if not tries.again(control < SLACK / 2):
                ((a, b), seconds), *_ = slow
                raise FaultError(
                    f"datagrams take {seconds * 1e3:.1f} ms on {a}→{b}, expected {spec.delay * 1e3:g} ms"
                    f" (and {control * 1e3:.1f} ms without a link)"
                )

    @staticmethod
    def _number(spec: PacketSpec) -> int:
        """Enough datagrams that the rarest thing asked for would hardly ever not happen."""
        rarest = min((p for p in (spec.loss, spec.duplicate, spec.corrupt, spec.reorder) if p), default=1.0)
        number = max(SAMPLE, min(math.ceil(1.5 * -math.log(DOUBT) / rarest), MOST))
        return min(number, max(50, int(spec.rate * BURST / 80))) if spec.rate else number

    @staticmethod
    def _counted(pair: Pair, sample: Sample, spec: PacketSpec) -> None:
        """Numbers within what chance allows. A damaged datagram is thrown away by its receiver's checksum."""
        gone = 1 - (1 - spec.loss) * (1 - spec.corrupt)
        counts = [("were lost or damaged", sample.missing, sample.sent, gone)]
        arrived = sample.sent - sample.missing
        if not (spec.loss or spec.corrupt):
            counts.append(("came twice", sample.doubled, arrived, spec.duplicate))
        if spec.reorder and not (spec.rate or spec.duplicate):
            counts.append(("overtook", sample.overtook, arrived, spec.reorder))
        for what, count, number, probability in counts:
            low, high = interval(number, probability, DOUBT)
            if not low <= count <= high:
                raise FaultError(
                    f"{count} of {number} datagrams {what} on {pair[0]}→{pair[1]}, expected {low} to {high}"
                    f" ({probability:.4g} of them)"
                )

    def _rated(self, pairs: Sequence[Pair], spec: PacketSpec) -> str:
        """Bytes a second that cross while more is sent than may."""
        assert spec.rate is not None
        seen = self.datagrams.throughput(pairs, spec.rate, BURST)
        for pair, rate in seen.items():
            if not 0.5 * spec.rate <= rate <= 1.3 * spec.rate:
                raise FaultError(
                    f"{rate:.0f} bytes a second cross {pair[0]}→{pair[1]}, expected about {spec.rate:.0f}"
                )
        return f"{statistics.median(seen.values()):.0f} bytes a second ({spec.rate:.0f} asked)"

    @staticmethod
    def _said(pairs: Sequence[Pair], samples: Sequence[Sample], spec: PacketSpec, typical: float) -> str:
        sent, missing = sum(s.sent for s in samples), sum(s.missing for s in samples)
        doubled = sum(s.doubled for s in samples)
        words = []
        if spec.loss or spec.corrupt or spec == NOTHING:
            words.append(f"{missing} of {sent} datagrams lost" + (" or damaged" if spec.corrupt else ""))
        if spec.duplicate or spec == NOTHING:
            words.append(f"{doubled} of {sent} came twice")
        if spec.delay or spec == NOTHING:
            asked = f" ({spec.delay * 1e3:g} ± {spec.jitter * 1e3:g} asked)" if spec.delay else ""
            words.append(f"half of them took {typical * 1e3:.1f} ms or less{asked}")
        if spec.reorder:
            words.append(f"{sum(s.overtook for s in samples)} of {sent} overtook")
        return f"{', '.join(words)} on {show(pairs)}" if words else ""


__all__ = ["PacketVerb"]

"""Faults on whole messages, where the proxy knows their framing: proved by counting those of probes."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from harness.fabric import FaultError, Pair
from harness.fabric.binomial import interval
from harness.fabric.message_spec import MessageSpec, shares
from harness.fabric.proof import Channel as Path, Prover
from harness.fabric.tally import SIZE, Counts, Tally
from harness.fabric.verb import LIMIT, PROBE, Toxics
from harness.fabric.watch import PATIENCE, SLACK, TOLERANCE, Expected, Tries, Watch, ended, show
from harness.framing import LengthPrefixed
from harness.proxy.toxics import Stream

DOUBT = 1e-9  # chance with which a right share is called wrong, per connection and effect
SAMPLE = 400  # messages by which a share is judged, at least
TELLING = 450  # of them that must be concerned, so that half as many are told from all
FEW = 64  # messages by which a delay is judged
SECONDS = 2e-5  # that a message may take through the server
PROBED = LengthPrefixed(4, offset=8, adjust=-12)  # of probe frames, whose length counts all of them

Channel = tuple[str, Stream]  # a proxy, and a direction on it


@dataclass(frozen=True, slots=True)
class Messages:
    """Whole messages are dropped, corrupted, duplicated, overtaken or delayed, by `spec`.

    `channels` are the streams with a known framing, `left` the pairs that have others, too, which are left
    alone; `kept` are connections that were opened under the fault, to be looked at again when it is gone.
    """

    spec: MessageSpec
    seed: int
    channels: frozenset[Channel]
    left: frozenset[Pair] = frozenset()
    kept: list[Watch] = field(default_factory=list, compare=False)
    mechanism = "embedded proxy message"

    @property
    def own(self) -> frozenset[Channel]:
        """The streams of the cluster's own bytes."""
        return frozenset(channel for channel in self.channels if not channel[0].endswith(PROBE))

    @property
    def toxics(self) -> Toxics:
        return (("message", self.spec.attributes(self.seed)),)

    def expect(self, name: str, before: Expected) -> Expected:
        spec = self.spec
        return replace(
            before,
            lossy=(*before.lossy, name),
            messages=(*before.messages, (name, spec)),
            low=before.low + spec.delay - spec.jitter,
            high=before.high + spec.delay + spec.jitter,
        )

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        others = prover.verify(())
        free = [p for p in sorted(pairs) if measurable(prover, p)]
        back = [p[::-1] for p in free if p[::-1] not in pairs and measurable(prover, p[::-1])]
        channels = prover.channels(free)
        live = [w for w in prover.living(channels) if w.pair in free]
        seen = tallied(prover, [*live, *prover.watches(channels, "new")], free)
        late = _timed(prover, channels, self.spec) if self.spec.delay and self.spec.drop < 0.9 else ""
        tallied(prover, prover.watches(prover.channels(back), "new"), ())
        prover.drop(pairs)  # the live connections have been used up
        self.kept.extend(prover.watches(channels, "live"))
        skipped = sorted(set(pairs) - set(free))
        unseen = f"not measured on {show(skipped)}, under other faults" if skipped else ""
        way_back = f"{show(back)} as before" if back else ""
        text = f"asked {self.spec.words()}: {seen}" if free else ""
        alone = f"streams without a framing are left alone on {show(self.left)}" if self.left else ""
        return "; ".join(filter(None, (text, late, way_back, unseen, alone, others)))

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        free = [p for p in sorted(pairs) if measurable(prover, p)]
        kept = [w for w in prover.refreshed(self.kept) if w.pair in free and not w.wire.dead]
        seen = tallied(prover, [*kept, *prover.watches(prover.channels(free), "new")], free)
        for watch in self.kept:
            watch.wire.close()
        self.kept.clear()
        if self.spec.delay:
            _prompt(prover, prover.channels(free), (self.spec.delay + self.spec.jitter) / 2)
        return "; ".join(filter(None, (seen, prover.verify(pairs))))


def measurable(prover: Prover, pair: Pair) -> bool:
    """Whether what becomes of messages can be counted on a pair: nothing else holds or breaks it, or spreads
    its bytes."""
    ways = prover.expect(pair), prover.expect(pair[::-1])
    ours = {name for way in ways for name, _ in way.messages}
    others = {name for way in ways for name in way.lossy} - ours
    return not (others or ways[0].held or ways[0].rate or ways[0].sliced)


def tallied(prover: Prover, watches: Sequence[Watch], pairs: Collection[Pair]) -> str:
    """Send frames on each of `watches` and judge what arrives, on each and on all together; ends them.

    Returns what was seen on `pairs`, in words. What cannot be by chance fails at once; too few that were
    overtaken are looked for again on new connections, as on a busy machine all may have come late.
    """
    total, tries = Counts(), Tries()
    for specs in dict.fromkeys(w.expected.messages for w in watches):
        todo = [w for w in watches if w.expected.messages == specs]
        while todo:
            counted, low = _round(prover, todo)
            if not low:
                total += sum((c for w, c in zip(todo, counted, strict=True) if w.pair in pairs), Counts())
                break
            if not tries.again(True):
                raise FaultError(f"{low}, in the best of {tries.count} tries")
            streams = [(w.pair, "upstream" if w.flow is w.wire.up else "downstream") for w in todo]
            same = [c for pair, stream in streams for c in prover.channels([pair]) if c[1] == stream]
            todo = prover.watches(same, "new")
    return f"of {total} on {show(pairs)} (live and new connections)" if total.sent else ""


def _round(prover: Prover, watches: Sequence[Watch]) -> tuple[list[Counts], str]:
    """Counts of each of `watches`, of which the same is expected, and what was too little, if anything."""
    numbers = _number(watches[0].expected, len(watches))
    group = max(1, LIMIT // (sum(numbers) * SIZE))
    counted, low = [], ""
    for first in range(0, len(watches), group):
        some = watches[first : first + group]
        for watch, tally in zip(some, _sent(prover, some, numbers), strict=True):
            torn(watch, tally)
            counts = Counts.of(tally, numbers[0])
            low = low or _judged(counts, watch.expected, str(watch))
            counted.append(counts)
    together = sum(counted, Counts())
    return counted, low or _judged(together, watches[0].expected, f"all {len(watches)} connections together")


def _timed(prover: Prover, channels: Sequence[Path], spec: MessageSpec) -> str:
    """A few messages at a time: too quick fails at once, too slow is measured again, beside the control."""
    missing, tries, times = list(channels), Tries(), [math.inf, 0.0]
    while missing:
        some, rest = missing[:8], missing[8:]
        watches = prover.watches(some, "new")
        asked = shares([each for _, each in watches[0].expected.messages])
        few = math.ceil(FEW / (1 - asked.missing))
        tallies = _sent(prover, watches, (few, 0))
        fair, again = prover.prompt(SLACK), []
        for channel, watch, tally in zip(some, watches, tallies, strict=True):
            torn(watch, tally)
            low, high = watch.expected.low, watch.expected.high
            # as they keep their order, the slowest of many takes nearly all that it may
            seen = low + 0.75 * (high - low) - TOLERANCE
            took = f"took {tally.quickest * 1e3:.1f} to {tally.slowest * 1e3:.1f} ms on {watch}"
            if tally.arrived > FEW / 2 and tally.slowest < seen:
                raise FaultError(f"{few} messages {took}, expected the slowest to take {seen * 1e3:.1f} ms")
            if tally.quickest <= high + SLACK:
                times = [min(times[0], tally.quickest), max(times[1], tally.slowest)]
                continue
            again.append(channel)
            if not tries.again(fair):
                raise FaultError(
                    f"{few} messages {took} at best of {tries.count} tries, expected the quickest to take at"
                    f" most {(high + SLACK) * 1e3:g} ms ({prover.control_text()})"
                )
        missing = again + rest
    return f"they took {times[0] * 1e3:.1f} to {times[1] * 1e3:.1f} ms one way" if channels else ""


def _prompt(prover: Prover, channels: Sequence[Path], slack: float) -> None:
    """See that the slowest of a few messages is no later than others make it, and `slack` seconds."""
    missing, tries = list(channels), Tries()
    while missing:
        some, rest = missing[:8], missing[8:]
        watches = prover.watches(some, "new")
        tallies = _sent(prover, watches, (FEW, 0))
        fair, late = prover.prompt(slack), []
        for channel, watch, tally in zip(some, watches, tallies, strict=True):
            high = watch.expected.high + sum(spec.hold for _, spec in watch.expected.messages) + slack
            if tally.slowest > high:
                late.append(channel)
                if not tries.again(fair):
                    raise FaultError(
                        f"messages still took up to {tally.slowest * 1e3:.1f} ms on {watch} at best of"
                        f" {tries.count} tries, expected at most {high * 1e3:g} ms ({prover.control_text()})"
                    )
        missing = late + rest


def _number(expected: Expected, watches: int) -> tuple[int, int]:
    """Frames to count on each, and those to send behind them, so that somebody overtakes the last ones.

    So many that on each none at all is too few, and on all together half as many as asked for are.
    """
    asked = shares([spec for _, spec in expected.messages])
    rarest = min((share for share in asked.each() if share), default=1.0)
    number = max(SAMPLE, -1.5 * math.log(DOUBT) / rarest, TELLING / rarest / watches)
    absent = asked.missing + asked.overtaken
    tail = math.log(DOUBT) / math.log(absent) if asked.overtaken and absent < 1 else 0
    return math.ceil(number), math.ceil(tail)


def _sent(prover: Prover, watches: Sequence[Watch], numbers: tuple[int, int]) -> list[Tally]:
    """Frames on each, then its end; what arrived until this came."""
    tallies = []
    for watch in watches:
        tally = Tally(watch.flow.number, sum(numbers), time.monotonic_ns())
        watch.flow.begin(tally)
        tallies.append(tally)
    within = max(w.expected.high + sum(s.hold for _, s in w.expected.messages) for w in watches)
    within += SECONDS * sum(numbers) * len(watches)
    done = prover.attend(partial(ended, [w.flow for w in watches]), within)
    for watch, tally in zip(watches, tallies, strict=True):
        if not (done or watch.flow.ended):
            raise FaultError(
                f"{tally.arrived} of {tally.sent} messages came on {watch}, and their end did not, within"
                f" {within + PATIENCE:.1f} s"
            )
        watch.wire.close()
    return tallies


def torn(watch: Watch, tally: Tally) -> None:
    """FaultError where messages came in parts, or earlier than they can."""
    if tally.strange or tally.left:
        what = tally.strange or f"{tally.left} bytes at the end"
        raise FaultError(f"messages were torn on {watch}: {what}, expected whole ones")
    if tally.arrived and tally.quickest < watch.expected.low - TOLERANCE:
        raise FaultError(
            f"a message took {tally.quickest * 1e3:.1f} ms on {watch}, expected"
            f" {watch.expected.low * 1e3:g} ms at least"
        )


def _judged(counts: Counts, expected: Expected, where: str) -> str:
    """What was too little and may be by the machine's doing; FaultError for all else."""
    specs = [spec for _, spec in expected.messages]
    asked, low = shares(specs), ""
    for name, seen, among, share in counts.judged(asked):
        least, most = interval(among, share, DOUBT)
        # messages that come one after the other, as delays and jitter make them, overtake less
        least = 1 if name == "overtaken" and share and any(spec.delay for spec in specs) else least
        text = f"{seen} of {among} messages were {name} on {where}, expected {least} to {most}"
        text += f" ({share:.4g} of them)"
        if seen > most or (seen < least and name != "overtaken"):
            raise FaultError(text)
        if seen < least:
            low = text
    return low


__all__ = ["DOUBT", "PROBED", "SAMPLE", "Messages", "measurable"]

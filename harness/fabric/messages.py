"""Faults on whole messages, where the proxy knows their framing: proved by counting those of probes."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from harness.fabric import FaultError, Pair
from harness.fabric.message_spec import MessageSpec, Shares, shares
from harness.fabric.packets import binomial_interval
from harness.fabric.proof import Channel as Path, Prover
from harness.fabric.tally import SIZE, Tally
from harness.fabric.verb import LIMIT, PROBE, Toxics
from harness.fabric.watch import SLACK, SURELY_NOT, TOLERANCE, Expected, Tries, Watch, ended, show
from harness.framing import LengthPrefixed
from harness.proxy.toxics import Stream

DOUBT = 1e-9  # chance with which a right share is called wrong, per connection and effect
SAMPLE = 400  # messages by which a share is judged, at least
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
        late = _timed(prover, channels, self.spec) if self.spec.delay else ""
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
        slack = min(SLACK, self.spec.delay / 2) if self.spec.delay else SLACK
        return "; ".join(filter(None, (seen, prover.verify(pairs, slack=slack))))


def measurable(prover: Prover, pair: Pair) -> bool:
    """Whether what becomes of messages can be counted on a pair: nothing else holds or breaks it, or spreads
    its bytes."""
    ways = prover.expect(pair), prover.expect(pair[::-1])
    ours = {name for way in ways for name, _ in way.messages}
    others = {name for way in ways for name in way.lossy} - ours
    return not (others or ways[0].held or ways[0].rate or ways[0].sliced)


def tallied(prover: Prover, watches: Sequence[Watch], pairs: Collection[Pair]) -> str:
    """Send frames on each of `watches` and judge what arrives; ends them. What was seen on `pairs`, in words.

    What cannot be by chance fails at once; too few that were overtaken are looked for again on new
    connections, as on a busy machine all may have come late.
    """
    total: dict[str, int] = dict.fromkeys(("sent", "dropped", "corrupted", "duplicated", "overtaken"), 0)
    todo, tries = list(watches), Tries()
    while todo:
        again = []
        size = max(_number(w.expected)[0] + _number(w.expected)[1] for w in todo) * SIZE
        group = max(1, LIMIT // size)
        for first in range(0, len(todo), group):
            some = todo[first : first + group]
            for watch, tally in zip(some, _sent(prover, some), strict=True):
                counts, low = _judged(watch, tally)
                if low:
                    again.append((watch, low))
                elif watch.pair in pairs:
                    total = {name: count + counts[name] for name, count in total.items()}
        if again and not tries.again(True):
            raise FaultError(f"{again[0][1]}, in the best of {tries.count} tries")
        streams = [(w.pair, "upstream" if w.flow is w.wire.up else "downstream") for w, _ in again]
        same = [c for pair, stream in streams for c in prover.channels([pair]) if c[1] == stream]
        todo = prover.watches(same, "new")
    if not total["sent"]:
        return ""
    counted = ", ".join(f"{count} {name}" for name, count in total.items() if name != "sent" and count)
    counted = counted or "all came once, whole, in order"
    return f"of {total['sent']} messages {counted} on {show(pairs)} (live and new connections)"


def _timed(prover: Prover, channels: Sequence[Path], spec: MessageSpec) -> str:
    """A few messages at a time, so that their delay is the fault's: each channel shows it once."""
    seen = max(spec.delay - spec.jitter, spec.delay / 3)
    missing, tries, times = list(channels), Tries(SURELY_NOT), [math.inf, 0.0]
    while missing:
        some, rest = missing[:8], missing[8:]
        watches = prover.watches(some, "new")
        tallies = _sent(prover, watches, (4, 0))
        fair, again = prover.prompt(seen), []
        for channel, watch, tally in zip(some, watches, tallies, strict=True):
            _judged_times(watch, tally)
            took, high = tally.quickest, watch.expected.high + SLACK
            if not (fair and tally.arrived and seen - TOLERANCE <= took <= high):
                again.append(channel)
                if not tries.again(fair):
                    raise FaultError(
                        f"the quickest of 4 messages took {took * 1e3:.1f} ms on {watch} in the last of"
                        f" {tries.count} tries, expected {seen * 1e3:g} to {high * 1e3:g} ms"
                        f" ({prover.control_text()})"
                    )
            else:
                times = [min(times[0], took), max(times[1], took)]
        missing = again + rest
    return f"they took {times[0] * 1e3:.1f} to {times[1] * 1e3:.1f} ms one way" if channels else ""


def _number(expected: Expected) -> tuple[int, int]:
    """Frames to count, and how many more to send behind them, so that somebody overtakes the last ones."""
    specs = [spec for _, spec in expected.messages]
    found = shares(specs)
    parts = (found.missing, found.repeated, found.overtaken, found.corrupted)
    rarest = min((share for share in parts if share > 0), default=1.0)
    number = max(SAMPLE, math.ceil(-1.5 * math.log(DOUBT) / rarest))  # so that none at all is too few
    absent = found.missing + found.overtaken
    tail = math.ceil(math.log(DOUBT) / math.log(absent)) if found.overtaken and absent < 1 else 0
    return number, tail


def _sent(prover: Prover, watches: Sequence[Watch], numbers: tuple[int, int] | None = None) -> list[Tally]:
    """Frames on each, then its end; what arrived until this came."""
    tallies = []
    for watch in watches:
        number, tail = numbers or _number(watch.expected)
        tally = Tally(watch.flow.number, number + tail, time.monotonic_ns())
        watch.flow.begin(tally)
        tallies.append(tally)
    within = max(w.expected.high + sum(s.hold for _, s in w.expected.messages) for w in watches)
    done = prover.attend(
        partial(ended, [w.flow for w in watches]), within + 5e-6 * sum(t.sent for t in tallies)
    )
    for watch, tally in zip(watches, tallies, strict=True):
        if not (done or watch.flow.ended):
            raise FaultError(
                f"{tally.arrived} of {tally.sent} messages came on {watch}, and their end did not, within "
                f"{within:g} s and a second"
            )
        watch.wire.close()
    return tallies


def _judged(watch: Watch, tally: Tally) -> tuple[dict[str, int], str]:
    """Counts of one connection, and what was too little, if anything; FaultError for what was too much."""
    _judged_times(watch, tally)
    specs = [spec for _, spec in watch.expected.messages]
    number, _ = _number(watch.expected)
    asked = shares(specs)
    judged = range(1, number + 1)
    came = [n for n in judged if n in tally.first]
    counts = {
        "dropped": number - len(came),
        "duplicated": sum(tally.times[n] > 1 for n in came),
        "overtaken": tally.overtaken(number),
        "corrupted": sum(n in tally.changed for n in came),
    }
    low = ""
    for name, share, among in _asked(asked, number, len(came)):
        least, most = binomial_interval(among, share, DOUBT)
        # messages that come one after the other, as delays and jitter make them, overtake less
        least = 1 if name == "overtaken" and share and any(spec.delay for spec in specs) else least
        text = f"{counts[name]} of {among} messages were {name} on {watch}, expected {least} to {most}"
        text += f" ({share:.4g} of them)"
        if counts[name] > most or (counts[name] < least and name != "overtaken"):
            raise FaultError(text)
        if counts[name] < least:
            low = text
    return {"sent": number, **counts}, low


def _judged_times(watch: Watch, tally: Tally) -> None:
    """FaultError where messages came in parts, or earlier than they can."""
    if tally.strange or tally.left:
        raise FaultError(
            f"messages were torn on {watch}: {tally.strange or f'{tally.left} bytes at the end'}"
        )
    if tally.arrived and tally.quickest < watch.expected.low - TOLERANCE:
        raise FaultError(
            f"a message took {tally.quickest * 1e3:.1f} ms on {watch}, expected"
            f" {watch.expected.low * 1e3:g} ms at least"
        )


def _asked(asked: Shares, number: int, came: int) -> list[tuple[str, float, int]]:
    return [
        ("dropped", asked.missing, number),
        ("duplicated", asked.repeated, number),
        ("overtaken", asked.overtaken, number),
        ("corrupted", asked.corrupted, came),
    ]


__all__ = ["DOUBT", "PROBED", "SAMPLE", "Messages", "measurable"]

"""What traffic shows: probe connections compared with what the faults in force should make of them.

Every judgement has a control: a path through the same proxy server that never carries a toxic. What is slow
there too says nothing about a fault, so a loaded machine makes a measurement inconclusive (it is taken
again, a bounded number of times), while an effect that is missing or wrong fails at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

from harness.fabric import FaultError, Pair
from harness.fabric.probe import Probes, Wire
from harness.fabric.watch import (
    BOUND,
    CONTROL,
    DELIVERIES,
    FINE,
    PATIENCE,
    SLACK,
    SURELY_NOT,
    TOLERANCE,
    WINDOW,
    Expected,
    Tries,
    Watch,
    after,
    ended,
    show,
)

# the path of a probe (source, destination of its connections) and the stream on it
Channel = tuple[Pair, str]


class Prover:
    """The probes of all paths, live connections through each, and the judgements on them.

    `expect` gives what the faults in force make of a pair. Methods raise FaultError where traffic disagrees.
    """

    def __init__(self, probes: Probes, paths: Sequence[Pair], expect: Callable[[Pair], Expected]) -> None:
        self.probes, self.paths, self.expect = probes, paths, expect
        self.live: dict[Pair, Wire] = {}
        self.owed: list[Watch] = []  # stalled by a cut: bytes and closes that must arrive once it is healed
        self.control, self.meter = self.open([CONTROL, CONTROL])  # for single frames, and for bursts
        self.promptness: float | None = (
            None  # what the control's first frame took in the last exchange, in seconds
        )
        self.revive()

    # ------------------------------------------------------------------ channels and connections

    def channels(self, pairs: Iterable[Pair]) -> list[Channel]:
        """The streams that carry the bytes of `pairs`: on connections opened by either end."""
        known = set(self.paths)
        both = [((pair, "upstream"), (pair[::-1], "downstream")) for pair in sorted(set(pairs))]
        return [channel for two in both for channel in two if channel[0] in known]

    def open(self, paths: Sequence[Pair | str]) -> list[Wire]:
        """New connections; FaultError where the proxy does not let them through (no fault of ours does
        that).
        """
        try:
            return self.probes.open(paths)
        except OSError as error:
            raise FaultError(
                f"the proxy server does not carry the fabric's own probes: {error}; is it running?"
            ) from error

    def watches(self, channels: Sequence[Channel], where: str) -> list[Watch]:
        """A new connection for each channel (never shared, as a close or a reset takes the whole of it)."""
        wires = self.open([path for path, _ in channels])
        return [self._watch(channel, where, wire) for channel, wire in zip(channels, wires, strict=True)]

    def _watch(self, channel: Channel, where: str, wire: Wire) -> Watch:
        path, stream = channel
        pair = path if stream == "upstream" else path[::-1]
        return Watch(pair, where, wire, wire.flow(stream), self.expect(pair), wire.flow(stream).bytes)

    def refreshed(self, watches: Iterable[Watch]) -> list[Watch]:
        """The same flows with what is expected of them now."""
        return [replace(watch, expected=self.expect(watch.pair)) for watch in watches]

    def lossy(self, pair: Pair) -> tuple[str, ...]:
        """Faults that break connections of `pair`: its own, and those of the way back."""
        return self.expect(pair).lossy + self.expect(pair[::-1]).lossy

    def broken(self, pair: Pair) -> bool:
        """Whether something breaks connections of `pair`, or loses their bytes, not only whole messages."""
        ways = self.expect(pair), self.expect(pair[::-1])
        return any(set(way.lossy) - {name for name, _ in way.messages} for way in ways)

    def revive(self) -> None:
        """Replace live connections that a fault has broken, where no such fault is in force."""
        gone = [p for p in self.paths if (p not in self.live or self.live[p].dead) and not self.lossy(p)]
        for path in gone:
            if path in self.live:
                self.live.pop(path).close()
        self.live.update(zip(gone, self.open(gone), strict=True))

    def live_watches(self, pairs: Collection[Pair] | None = None) -> list[Watch]:
        """The live connections' flows, of all pairs or of `pairs`, without those that a fault may break."""
        every = [(path, stream) for path in self.paths for stream in ("upstream", "downstream")]
        found = [self._watch(c, "live", self.live[c[0]]) for c in every if c[0] in self.live]
        return [w for w in found if (pairs is None or w.pair in pairs) and not self.lossy(w.pair)]

    def living(self, channels: Sequence[Channel]) -> list[Watch]:
        """The live connections of `channels`, each once, also under faults that will break it."""
        first = {path: (path, stream) for path, stream in reversed(channels)}
        return [
            self._watch(c, "live", self.live[p])
            for p, c in first.items()
            if p in self.live and not self.live[p].dead
        ]

    def free(self, watches: Iterable[Watch]) -> list[Watch]:
        """Those that no fault holds or may break, with what is expected of them now."""
        return [w for w in self.refreshed(watches) if not w.expected.held and not self.lossy(w.pair)]

    def samples(self, pairs: Collection[Pair]) -> list[Watch]:
        """Flows of the live connections and of new ones, on the `pairs` that no fault holds or may break."""
        live = self.free(self.live_watches(pairs))
        return live + self.watches(self.channels({w.pair for w in live}), "new")

    def discard(self, watches: Iterable[Watch]) -> None:
        """Close the new connections among `watches`."""
        for watch in watches:
            if watch.where == "new":
                watch.wire.close()

    def drop(self, pairs: Collection[Pair]) -> None:
        """Give up the live connections that carry `pairs`; `revive` opens others."""
        for path, _ in self.channels(pairs):
            if path in self.live:
                self.live.pop(path).close()

    def forget(self, pairs: Collection[Pair]) -> None:
        """Owe nothing more on `pairs`: their connections are going to be broken on purpose."""
        both = {*pairs, *(p[::-1] for p in pairs)}
        for watch in self.owed:
            if watch.pair in both:
                watch.wire.close()
        self.owed = [w for w in self.owed if w.pair not in both]

    # ------------------------------------------------------------------ exchanges

    def _control(self) -> None:
        if self.control.dead:
            self.control.close()
            self.control = self.open([CONTROL])[0]
        self.control.up.send()
        self.control.down.send()

    def _control_took(self) -> float:
        return max(self.control.up.took, self.control.down.took)

    def control_text(self) -> str:
        """What the control took in the last exchange, in words."""
        return "the control path delivered late" if self.promptness is None else (
            f"the control path took {self.promptness * 1e3:.1f} ms")  # fmt: skip

    def prompt(self, threshold: float) -> bool:
        """Whether, in the last exchange, the control took less than half of `threshold` seconds.

        Its frame was sent after all others: what took `threshold` beside it was not held up by the machine.
        """
        return self.promptness is not None and self.promptness < threshold / 2

    def _control_settled(self) -> bool:
        return self.control.up.settled and self.control.down.settled

    def attend(self, done: Callable[[], bool], within: float, *, at_least: float = 0.0) -> bool:
        """Serve the probes until `done` and `at_least` seconds have passed; whether it was done.

        Gives up after `within` seconds in which the control path delivered too. FaultError where that does
        not.
        """
        start, deliveries = time.monotonic(), 0
        self._control()
        self.promptness = None

        def over() -> bool:
            if self.promptness is None and self._control_settled():
                self.promptness = self._control_took()
            return done() and self._control_settled() and time.monotonic() - start >= at_least

        while not self.probes.pump(over, 0.005):
            waited = time.monotonic() - start
            if self._control_settled():
                deliveries += waited > at_least
                self._control()
            if waited > within + at_least + PATIENCE and deliveries >= DELIVERIES:
                return False
            if waited > within + at_least + 30 * PATIENCE:
                raise FaultError(
                    f"the proxy server's own control path, which carries no fault, delivered {deliveries}"
                    f" frames in"
                    f" {waited:.0f} s: nothing can be proved; is the proxy server running, the machine"
                    f" overloaded?"
                )
        return True

    def exchange(self, watches: Sequence[Watch], closing: Sequence[Watch] = ()) -> None:
        """One frame on each flow, a close on each of `closing`: what should arrive does, what is held does
        not.
        """
        watches = [w for w in watches if not w.expected.sliced]
        moving = [w for w in watches if not w.expected.held]
        ending = [w for w in closing if not w.expected.held and w.expected.close <= BOUND]
        still = [w for w in watches if w.expected.held]
        quiet = [w for w in closing if w not in ending]
        before = {w.flow: w.flow.arrived for w in still}
        start = time.monotonic_ns()
        for watch in watches:
            watch.flow.send()
        for watch in closing:
            watch.flow.close()
        window = WINDOW if still or quiet else 0.0
        if any(not w.expected.held for w in quiet):
            window = BOUND
        within = max((w.expected.high + w.expected.close for w in (*moving, *ending)), default=0.0)

        def done() -> bool:
            return all(w.flow.settled for w in moving) and all(w.flow.ended for w in ending)

        self.attend(done, within, at_least=window)
        self._control()  # after the window: had the proxy slept through it, this shows what it lets pass now
        self.probes.pump(self._control_settled, PATIENCE)
        span = (time.monotonic_ns() - start) / 1e9
        for watch in watches:
            if watch.flow.damaged:
                raise FaultError(f"bytes were lost or changed on {watch}: {watch.flow.damaged}")
        for watch in still:
            if watch.flow.arrived != before[watch.flow]:
                raise FaultError(
                    f"bytes crossed {watch}, which {', '.join(watch.expected.held)} should hold: "
                    f"{watch.flow.arrived - before[watch.flow]} frames within {span:.2f} s, expected none"
                )
        for watch in quiet:
            if watch.flow.ended:
                why = f"{', '.join(watch.expected.held)} should hold" if watch.expected.held else (
                    f"should take {watch.expected.close:g} s to close")  # fmt: skip
                raise FaultError(
                    f"a close crossed {watch}, which {why}: after {(watch.flow.ended - start) / 1e9:.3f} s"
                )
        for watch in moving:
            if not watch.flow.settled:
                raise FaultError(
                    f"nothing arrives on {watch}: {watch.flow.sent - watch.flow.arrived} frames missing"
                    f" after {span:.2f} s"
                    f" (expected within {watch.expected.high:g} s), while the control path delivers"
                    + (f"; the connection was closed after {(watch.flow.ended - start) / 1e9:.3f} s"
                       if watch.flow.ended else "")
                )  # fmt: skip
        for watch in ending:
            if not watch.flow.ended:
                raise FaultError(f"a close does not cross {watch}: not seen within {span:.2f} s")
            took = (watch.flow.ended - start) / 1e9
            if took < watch.expected.close - TOLERANCE:
                raise FaultError(
                    f"a close crossed {watch} after {took:.3f} s, expected {watch.expected.close:g} s"
                )

    def times(self, watches: Sequence[Watch], slack: float = SLACK) -> tuple[float, float]:
        """Judge the one-way times of the newest frames; smallest and largest in seconds.

        Too quick fails at once; too slow is measured again, beside the control.
        """
        moving = [w for w in watches if not w.expected.held and not w.expected.sliced]
        best = {w.flow: w.flow.took for w in moving}
        tries = Tries()
        while True:
            for watch in moving:
                if watch.flow.took < watch.expected.low - TOLERANCE:
                    raise FaultError(
                        f"{watch} took {watch.flow.took * 1e3:.1f} ms one way,"
                        f" expected {watch.expected.low * 1e3:g} ms at least"
                    )
                best[watch.flow] = min(best[watch.flow], watch.flow.took)
            moving = [w for w in moving if best[w.flow] > w.expected.high + slack]
            if not moving:
                return min(best.values(), default=0.0), max(best.values(), default=0.0)
            if not tries.again(self.prompt(slack)):
                worst = moving[0]
                raise FaultError(
                    f"{worst} took {best[worst.flow] * 1e3:.1f} ms one way at best of {tries.count}"
                    f" tries, expected at"
                    f" most {(worst.expected.high + slack) * 1e3:g} ms ({self.control_text()})"
                )
            self.exchange(moving)

    def fair(self, watches: Sequence[Watch], threshold: float, *, batch: int = 8) -> float:
        """Frames that take `threshold` seconds while the control does not take half of it; the largest time
        seen.

        Each flow must show one such frame: the evidence that a delay is the fault's, not the machine's.
        """
        largest = 0.0
        for first in range(0, len(watches), batch):
            missing = list(watches[first : first + batch])
            tries = Tries(SURELY_NOT)
            while missing:
                self.exchange(missing)
                self.times(missing)
                largest = max(largest, *(w.flow.took for w in missing))
                fair = self.prompt(threshold)
                if fair:
                    missing = [w for w in missing if w.flow.took < threshold]
                if missing and not tries.again(fair):
                    raise FaultError(
                        f"{missing[0]} took {missing[0].flow.took * 1e3:.1f} ms in the last of"
                        f" {tries.count} tries, and"
                        f" never {threshold * 1e3:g} ms while the control path was quick"
                        f" ({self.control_text()})"
                    )
        return largest

    def burst(self, watches: Sequence[Watch], size: int, within: float = 0.0) -> float:
        """One frame of `size` bytes on each flow, and then on the control; what the control took in
        seconds.
        """
        if self.meter.dead:
            self.meter.close()
            self.meter = self.open([CONTROL])[0]
        flows = [*(w.flow for w in watches), self.meter.up]
        for flow in flows:
            flow.send(size)
        for watch in watches:
            within = max(within, watch.expected.high + 2 * size / (watch.expected.rate or 1e8))
        if not self.attend(lambda: all(flow.settled for flow in flows), within):
            late = [str(w) for w in watches if not w.flow.settled] or ["the control path"]
            raise FaultError(f"of {size} bytes on {late[0]} not all arrived in {within + PATIENCE:.1f} s")
        return self.meter.up.took

    # ------------------------------------------------------------------ the matrix

    def verify(
        self,
        suspects: Collection[Pair],
        *,
        closing: Sequence[Watch] = (),
        slack: float = SLACK,
        close_slack: float = SLACK,
        delay: float = 0.0,
    ) -> str:
        """Every link does what the faults in force make of it; `suspects` also on new connections, with
        closes.

        `closing` are connections opened before the change; frames on `suspects` must show `delay` seconds
        as the
        fault's own. Returns what was seen, in words. Connections that a cut holds are kept: they are owed
        their bytes.
        """
        self.revive()
        sure = [p for p in suspects if not self.lossy(p)]
        # whatever becomes of messages, what a cut holds does not come
        mute = [p for p in suspects if p not in sure and self.expect(p).held and not self.broken(p)]
        channels = self.channels([*sure, *mute])
        fresh, closers = self.watches(channels, "new"), self.watches(channels, "new")
        for watch in (w for w in closing if w.pair not in sure):
            watch.wire.close()
        closing = [w for w in self.refreshed(closing) if w.pair in sure] + closers
        every = self.live_watches()
        near = [w for w in every if w.pair in suspects or w.expected.high <= BOUND]
        self.exchange([*near, *fresh], closing)
        unclear = delay > 0 and not self.prompt(delay)
        mine = [w for w in (*near, *fresh) if w.pair in suspects and not w.expected.held]
        least, most = self.times(mine, slack)
        _, other = self.times([w for w in near if w.pair not in suspects])
        if unclear or (delay > 0 and (least < delay or delay < FINE)):
            most = max(most, self.fair(mine, delay, batch=8 if delay < FINE else 64))
        for watch in (*fresh, *closing):
            if watch.expected.held and not watch.expected.lossy:
                self.owed.append(watch)
            else:
                watch.wire.close()
        self._prompt([w for w in closers if not w.expected.held and w.expected.close == 0], close_slack)
        held = {w.pair for w in (*near, *fresh) if w.expected.held}
        moving = {w.pair for w in near if not w.expected.held and w.pair not in suspects}
        text = []
        if still := held & set(suspects):
            text.append(
                f"no byte and no close crossed {show(still)} in {WINDOW * 1e3:.0f} ms (live and new"
                f" connections)"
            )
        if open_ := {w.pair for w in fresh} - held:
            text.append(
                f"{show(open_)} took {least * 1e3:.1f} to {most * 1e3:.1f} ms one way (live and new"
                f" connections)"
            )
        if moving:
            text.append(f"{len(moving)} other links delivered within {other * 1e3:.1f} ms")
        if skipped := {w.pair for w in every} - {w.pair for w in near}:
            text.append(f"{show(skipped)} not measured, too slow under other faults")
        return "; ".join(text)

    def _prompt(self, closers: Sequence[Watch], slack: float) -> None:
        """Closes that no fault delays come at once (the best of some tries)."""
        tries = Tries()
        late = list(closers)
        while late:
            again = self.watches(self.channels({w.pair for w in late}), "new")
            (beside,) = self.open([CONTROL])
            start = time.monotonic_ns()
            for flow in (*(w.flow for w in again), beside.up):
                flow.close()
            ending = [*(w.flow for w in again), beside.up]
            self.attend(partial(ended, ending), BOUND)
            late = [w for w in again if after(start, w.flow) > slack + w.expected.high]
            for wire in (*(w.wire for w in again), beside):
                wire.close()
            took = after(start, beside.up)
            if late and not tries.again(took < slack / 2):
                raise FaultError(
                    f"a close still takes more than {slack * 1e3:g} ms on {late[0]} in the best of"
                    f" {tries.count} tries"
                    f" (the control path took {took * 1e3:.1f} ms)"
                )

    def settle(self) -> str:
        """What healed links were owed arrives: nothing was lost."""
        due = self.refreshed(self.owed)
        mine = [w for w in due if not w.expected.held]
        self.owed = [w for w in due if w.expected.held]
        closes = [w for w in mine if not w.flow.sent]
        frames = [w for w in mine if w.flow.sent]

        def done() -> bool:
            return all(w.flow.settled for w in frames) and all(
                w.flow.ended for w in closes if w.expected.close <= BOUND
            )

        within = max((w.expected.high + w.expected.close for w in mine), default=0.0)
        ok = self.attend(done, within) if mine else True
        late = [w for w in frames if not w.flow.settled or w.flow.damaged]
        late += [w for w in closes if not w.flow.ended and w.expected.close <= BOUND]
        for watch in mine:
            watch.wire.close()
        if not ok or late:
            what = f"{late[0].flow.sent - late[0].flow.arrived} frames" if late[0].flow.sent else "a close"
            raise FaultError(
                f"{what} held on {late[0]} did not arrive after the cut was healed {late[0].flow.damaged}"
            )
        return f"all {len(frames)} frames and {len(closes)} closes that it held arrived" if mine else ""

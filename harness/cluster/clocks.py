"""The clocks of a cluster's nodes: skewed, looked at while they are, and set right again."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, RLock, Thread
from typing import Any, Literal

from harness.cluster.lock import ClusterError
from harness.cluster.observer import OnEvent
from harness.fabric import Effect, FaultError, FaultUnsupported
from harness.skew.patcher import BILLION, Spec
from harness.skew.program import PatcherError, Way

LOOK_EVERY = 0.25  # seconds between looks at clocks that are skewed
TOLERANCE = 1e-4  # seconds beyond what the bracket of a look leaves open
ASK_WITHIN = 5.0  # seconds for the target's own probe
PROBES = 5  # answers of it at most, until one was so quick:
SURE = 0.002  # seconds, half of the time that it was under way
ARM_WITHIN = 2.0  # seconds for a process to be stopped
SETTLED_WITHIN = 1.0  # seconds for one that is becoming another program to be that

Ask = Callable[[str], float]
State = Literal["runs", "stopped", "frozen", "down"]
"""What a node's processes can be asked for: those that are stopped can be patched but not called, those that
are frozen can only have a patch changed."""
Moves = Callable[[str], tuple[State, int]]
"""A node's state, and how often it was started."""
LATER = "it does not run now: from when it does"


@dataclass(frozen=True)
class Seen:
    """An offset as it was observed: `offset` seconds, give or take `error`, at a moment between two (ns).

    `how` it was seen: ``called`` (the process itself was made to read its clock), ``asked`` (the target's
    own probe) or ``read back`` (the skew that stands in the process's memory).
    """

    how: str
    offset: float
    error: float
    since: int
    until: int
    pid: int | None = None

    def fits(self, spec: Spec) -> bool:
        """Whether it is what `spec` makes of a true clock at some moment between the two."""
        assert spec.origin is not None
        ends = [spec.offset + spec.rate * (at - spec.origin[0]) / BILLION for at in (self.since, self.until)]
        low, high = min(ends) - self.error - TOLERANCE, max(ends) + self.error + TOLERANCE
        steps = (0.0, spec.amplitude) if spec.half else (0.0,)
        return any(low + step <= self.offset <= high + step for step in steps)

    def words(self) -> str:
        return f"{self.how} {self.offset:+.6f} s ± {self.error * 1e6:.0f} µs"


@dataclass
class Worn:
    """A skew in force `since` some time (ns, CLOCK_MONOTONIC); `way` is None while no process bears it, and
    `mechanism` is '' until one has."""

    spec: Spec
    way: Way | None = None
    mechanism: str = ""
    audited: str = ""
    since: int = field(default_factory=time.monotonic_ns)


class Clocks:
    """The nodes' clocks. `ways` are how a node's processes can be reached, the preferred one first; `moves`
    says what they can be asked for. ``tell(node, kind, detail)`` is told what is observed: ``clock`` and
    ``clock-gap``; `ask` is the target's own probe of a node's clock, with its `resolution` in seconds. For
    `audit` seconds before each skew the nodes' system calls are watched for those that would escape it.
    """

    def __init__(
        self,
        ways: Callable[[str], Sequence[Way]],
        moves: Moves,
        tell: OnEvent,
        ask: Ask | None = None,
        resolution: float = 0.0,
        audit: float = 0.0,
    ) -> None:
        self._ways, self._moves, self._tell = ways, moves, tell
        self._ask, self._resolution, self._audit = ask, resolution, audit
        self._worn: dict[str, Worn] = {}
        self._lock = RLock()
        self._turns = defaultdict[str, RLock](RLock)  # of a node: it may be started while it is skewed
        self._over = Event()
        self._looking: Thread | None = None

    # ------------------------------------------------------------------ verbs

    def skew(self, name: str, spec: Spec) -> Effect:
        """Have the clocks of `name` be off by `spec`; where it does not run, from when it does.

        Raises FaultUnsupported that says of every way why not, FaultError where the skew was not seen.
        """
        began = time.monotonic()
        with self._turn(name):
            if name in self._worn:
                raise ClusterError(f"the clocks of {name} are skewed already: set them right first")
            worn = self._worn[name] = Worn(spec.based())
            try:
                proof = self._if_it_stays(name, lambda state: self._put(name, worn, state))
            except BaseException as error:
                try:
                    self._take_off(name, worn)
                except (FaultError, ClusterError) as also:
                    error.add_note(f"and its end: {also}")
                raise
            self._look()
            return self._effect(worn, began, proof or LATER)

    def right(self, name: str) -> Effect:
        """Set the clocks of `name` right, having seen that they were skewed until then.

        The effect has no mechanism where it never ran meanwhile, so that nothing was skewed.
        """
        held, began = "", time.monotonic()
        with self._turn(name):
            if (worn := self._worn.get(name)) is None:
                raise ClusterError(f"the clocks of {name} are not skewed")
            try:
                if worn.way is not None:
                    held = self._held(name, worn, "until its end")
            finally:
                gone = self._take_off(name, worn)
        held = f"until its end {held}; then " if held else ""
        return self._effect(worn, began, held + (gone or "it does not run now: when it does, they are right"))

    def goes_on(self, name: str, since: float, anew: bool) -> None:
        """`name` was started `anew`, or goes on: where its clocks are skewed, so are those of its processes.

        It runs `since` (seconds, CLOCK_MONOTONIC), and until it is reached with true time, a gap. What proves
        the skew, once it serves, is `settled`: its start may be a chain of programs.
        """
        with self._turn(name):
            if (worn := self._worn.get(name)) is None:
                return
            if worn.way is not None and anew:  # what it has armed is no more
                with contextlib.suppress(PatcherError):
                    worn.way.request("drop", name=name)
                worn.way = None
            if worn.way is None and self._if_it_stays(name, lambda state: self._reach(name, worn)):
                gap = worn.since / BILLION - since
                self._tell(
                    name, "clock-gap", {"gap": round(gap, 6), "what": "started" if anew else "went on"}
                )

    def settled(self, name: str) -> str:
        """What proves the skew of a node that serves again; '' where its clocks are true."""
        with self._turn(name):
            if (worn := self._worn.get(name)) is None:
                return ""
            return self._held(name, worn, "since it runs again")

    def close(self) -> None:
        """Look no more; processes are left as they are, since they are about to end. Idempotent."""
        self._over.set()

    # ------------------------------------------------------------------ how

    def _turn(self, name: str) -> RLock:
        with self._lock:
            return self._turns[name]

    def _if_it_stays(self, name: str, work: Callable[[State], str]) -> str:
        """What `work` says of a node that runs; '' where it does not, or does no more when `work` fails."""
        before = self._moves(name)
        if before[0] in ("down", "frozen"):
            return ""
        try:
            return work(before[0])
        except FaultError:
            if self._moves(name) == before:
                raise
            return ""

    def _held(self, name: str, worn: Worn, when: str) -> str:
        return self._if_it_stays(name, lambda state: self._seen(name, worn, worn.spec, when, state))

    def _effect(self, worn: Worn, began: float, proof: str) -> Effect:
        return Effect(worn.mechanism, worn.since, proof, time.monotonic() - began)

    def _put(self, name: str, worn: Worn, state: State) -> str:
        """Skew its processes, which were right, and see both."""
        before = self._asked(name, Spec().based(), "before") if state == "runs" else ""
        self._reach(name, worn, self._audit if state == "runs" else 0.0)
        seen = self._seen(name, worn, worn.spec, "", state)
        return "; ".join(filter(None, (before, seen, worn.audited)))

    def _reach(self, name: str, worn: Worn, audit: float = 0.0) -> str:
        """Skew its processes by the first way that can; which, in words."""
        refused = list[str]()
        for way in self._ways(name):
            try:
                if audit:
                    worn.audited = _audited(way, name, worn.spec, audit)
                mechanisms = _armed(way, name)
                way.request("set", name=name, spec=asdict(worn.spec))
                worn.since = time.monotonic_ns()
            except PatcherError as error:
                refused.append(f"{way.name}: {error}")
                continue
            worn.way, worn.mechanism = way, f"{mechanisms}, {way.name}"
            return worn.mechanism
        raise FaultUnsupported(f"the clocks of {name} cannot be skewed:\n  " + "\n  ".join(refused))

    def _take_off(self, name: str, worn: Worn) -> str:
        """Set its processes right and let go of them; what proves it, '' where they do not run."""
        self._worn.pop(name, None)
        if (way := worn.way) is None:
            return ""
        true = Spec(clocks=worn.spec.clocks).based()

        def seen(state: State) -> str:
            return self._seen(name, worn, true, "after heal", state)

        with contextlib.suppress(PatcherError):  # if it matters, it is seen below
            way.request("set", name=name, spec=asdict(true))
        worn.since = time.monotonic_ns()
        try:
            return self._if_it_stays(name, seen)
        finally:
            frozen = self._moves(name)[0] == "frozen"  # it cannot be stopped, and is let go of later
            with contextlib.suppress(PatcherError):
                way.request("drop", name=name, within=0.0 if frozen else ARM_WITHIN)

    def _seen(self, name: str, worn: Worn, spec: Spec, when: str, state: State) -> str:
        """See `spec` on each process of `name`. Raises FaultError where one has another."""
        assert worn.way is not None
        asked = self._asked(name, spec, when) if state == "runs" else ""  # first: it makes an idle node look
        looks = self._looks(name, worn.way, call=state == "runs")
        for one in looks:
            self._must_fit(name, one, spec, when)
            self._told(name, one)
        processes = len({one.pid for one in looks})
        called = [one for one in looks if one.how == "called"] or looks
        worst = max(called, key=lambda one: one.error)
        many = f"{processes} processes " if processes > 1 else ""
        return "; ".join(filter(None, (f"{many}{worst.words()}", asked)))

    def _looks(self, name: str, way: Way, call: bool) -> list[Seen]:
        deadline = time.monotonic() + SETTLED_WITHIN
        while True:  # some may just be ending, or becoming another program
            since = time.time_ns()
            processes = way.request("verify", name=name, call=call)["processes"]
            until = time.time_ns()
            failed = [one for one in processes if one["error"]]
            if (processes and not failed) or time.monotonic() > deadline or self._over.wait(0.01):
                break
        if not processes:
            raise FaultError(f"{name} has no process whose clock is skewed")
        if failed:
            raise FaultError(f"{name}, pid {failed[0]['pid']} ({failed[0]['exe']}): {failed[0]['error']}")
        found = list[Seen]()
        for one in processes:
            found.append(Seen("read back", one["offset_read"], 0.0, since, until, one["pid"]))
            if one.get("offset_called") is not None:
                found.append(
                    Seen("called", one["offset_called"], one["uncertainty"], since, until, one["pid"])
                )
        return found

    def _asked(self, name: str, spec: Spec, when: str) -> str:
        """What the target's own probe says, in words; '' where it has none. Raises FaultError."""
        if (one := self._probe(name)) is None:
            return ""
        self._must_fit(name, one, spec, when)
        self._told(name, one)
        return one.words()

    def _probe(self, name: str) -> Seen | None:
        """The surest of a few answers: one that was long under way says little of the clock."""
        best: Seen | None = None
        for _ in range(PROBES if self._ask is not None else 0):
            assert self._ask is not None
            since = time.time_ns()
            try:
                said = _within(self._ask, name)
            except FaultError:
                if best is None:
                    raise
                break
            until = time.time_ns()
            half = (until - since) / 2e9
            one = Seen("asked", said - (since + until) / 2e9, half + self._resolution, since, until)
            best = one if best is None or one.error < best.error else best
            if half < SURE:
                break
        return best

    def _must_fit(self, name: str, one: Seen, spec: Spec, when: str) -> None:
        if not one.fits(spec):
            who = f"{name}, pid {one.pid}" if one.pid else name
            raise FaultError(
                f"{who}: clock {one.words()}{f' {when}' if when else ''}, expected {_words(spec)}"
            )

    # ------------------------------------------------------------------ while it lasts

    def noticed(self, event: Mapping[str, Any]) -> None:
        """A patcher tells that a process came, went, or lost its skew; kept is what ran with true time."""
        if not event["gap"] or event["what"] == "gone":
            return
        detail = {key: value for key, value in event.items() if key != "name"}
        self._tell(str(event["name"]), "clock-gap", detail)

    def _told(self, name: str, one: Seen) -> None:
        self._tell(
            name,
            "clock",
            {"offset": round(one.offset, 9), "error": round(one.error, 9), "how": one.how, "pid": one.pid},
        )

    def _look(self) -> None:
        with self._lock:
            if self._looking is None and not self._over.is_set():
                self._looking = Thread(target=self._look_on, name="nemesis-clocks", daemon=True)
                self._looking.start()

    def _look_on(self) -> None:
        """Record what the clocks are like of nodes that are skewed."""
        while not self._over.wait(LOOK_EVERY):
            for name, worn in list(self._worn.items()):
                if worn.way is not None:
                    with contextlib.suppress(PatcherError, FaultError, ClusterError):
                        for one in (*self._looks(name, worn.way, call=False), self._probe(name)):
                            if one is not None and self._worn.get(name) is worn:
                                self._told(name, one)


def _within(ask: Ask, name: str) -> float:
    """What a user's own code answers: a time. Raises FaultError where it does not."""
    answers = SimpleQueue[Any]()

    def answer() -> None:
        try:
            answers.put(ask(name))
        except Exception as error:
            answers.put(error)

    Thread(target=answer, name="nemesis-clock-ask", daemon=True).start()
    try:
        said = answers.get(timeout=ASK_WITHIN)
    except Empty:
        raise FaultError(f"the target's clock({name}) did not answer within {ASK_WITHIN:g} s") from None
    if isinstance(said, Exception):
        raise FaultError(f"the target's clock({name}) raised {type(said).__name__}: {said}") from said
    if not isinstance(said, (int, float)) or isinstance(said, bool) or not math.isfinite(said):
        raise FaultError(f"the target's clock({name}) gave {said!r}, expected seconds since 1970")
    return float(said)


def _words(spec: Spec) -> str:
    if spec.half:
        return f"0 and {spec.amplitude:+g} s by turns of {spec.half:g} s"
    return f"{spec.rate * 100:+g} %" if spec.rate else f"{spec.offset:+g} s"


def _audited(way: Way, name: str, spec: Spec, seconds: float) -> str:
    """What the processes of `name` do that would escape `spec`, in words. Raises PatcherError."""
    _armed(way, name, follow=False)  # one tracer at a time
    try:
        way.request("set", name=name, spec=asdict(Spec(clocks=spec.clocks).based()))  # what it is to watch
        processes = way.request("audit", name=name, seconds=seconds)["processes"]
    finally:
        way.request("drop", name=name)
    words = list[str]()
    for one in processes:
        calls = {**one["escapes"], **one["waits"]}
        found = ", ".join(f"{count} {call}" for call, count in calls.items())
        words.append(f"pid {one['pid']} {one.get('error') or one['verdict']}{found and f' ({found})'}")
    return f"audit of {seconds:g} s: {', '.join(words)}"


def _armed(way: Way, name: str, follow: bool = True) -> str:
    """Arm all processes of `name` or none; the mechanisms. Raises PatcherError."""
    how = {"name": name, "who": way.who(name), "within": ARM_WITHIN, "follow": follow}
    armed = way.request("arm", **how)["processes"]
    if failed := [f"pid {one['pid']} ({one['exe']}): {one['error']}" for one in armed if one["error"]]:
        way.request("drop", name=name)
        raise PatcherError("; ".join(failed))
    return ", ".join(sorted({one["mechanism"] for one in armed})) or "vdso"


__all__ = ["Clocks", "Seen"]

"""Carries a schedule out: waits, draws nodes, injects, proves, heals, and records what was observed."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.cluster import Cluster, ClusterError
from harness.condition import Condition, until
from harness.fabric import Effect, FaultError, Pair
from harness.faults import Fault, fault
from harness.history import NANOSECONDS, NodeEvent
from harness.journal import Journal
from harness.nemesis.acts import Act
from harness.nemesis.claims import Claims
from harness.plan import Plan, Schedule, Step, every
from harness.resolved import Resolved
from harness.seed import stream
from harness.selector import NoSuchNode, Scene
from harness.value import PlanError

UNDO_WITHIN = 10.0
"""Seconds that the functions of a user's own faults have to undo them when the run is given up."""
RESOLVE_WITHIN = 2.0
"""Seconds that a selector may match nothing (no leader yet) before the run fails by its name."""


class _Ended(Exception):
    """The run was ended early before a fault began: nobody's finding."""


class Nemesis:
    """What carries a plan out beside the workload: `start`, `stop`; a thread per fault.

    `seed` is (run's seed, test's id), from which each fault's random stream derives. ``finding(text)`` is
    told what fails the run; `over` is set where going on makes no sense: a fault that cannot be proved.
    `injected` is what a recorded run's test injected itself (`during`), to be resolved as it was then.
    """

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        schedule: Schedule,
        *,
        plan: Plan,
        seed: tuple[int, str],
        finding: Callable[[str], None],
        over: threading.Event,
        injected: Sequence[Resolved] = (),
    ) -> None:
        self._cluster, self._journal, self._schedule, self._plan = cluster, journal, schedule, plan
        self._seed, self._test = seed
        self._finding, self._over, self._injected = finding, over, injected
        self._ids = itertools.count(1)
        self._own_steps = itertools.count()
        self._threads: list[threading.Thread] = []
        self._own_threads: list[threading.Thread] = []  # of a user's own faults
        self._stop = threading.Event()
        self._abandoned = False
        self._lock = threading.Lock()
        self._listeners: list[queue.SimpleQueue[NodeEvent]] = []
        self._claims = Claims()
        self._active: dict[int, str] = {}
        self._doing: dict[int, str] = {}  # what is being injected or healed just now
        self._happened: set[tuple[int, int]] = set()  # entry and repetition of each fault that has begun
        self.touched: set[Pair] = set()  # every link on which a fault was injected

    # ------------------------------------------------------------------ for the run

    def start(self) -> None:
        """Begin with the schedule; time zero is the journal's."""
        for step in self._schedule.steps:
            # listeners are there before anything happens, so that no event is missed
            events = self._listen() if step.condition is not None else None
            self._spawn(step, events)

    def stop(self) -> None:
        """Heal every fault that is still in force; returns when all are proved gone."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._abandoned or self._over.is_set():
            return
        missed: dict[int, list[Step]] = {}
        for step in self._schedule.steps:
            if step.condition is None and not self._has_happened(step):
                missed.setdefault(step.entry, []).append(step)
        for steps in missed.values():
            times = f", {len(steps)} times," if len(steps) > 1 else ""
            self._finding(
                f"the run ended before {steps[0].time:g} s, so {steps[0].fault!r}{times} never happened"
            )

    def _has_happened(self, step: Step) -> bool:
        """Whether its fault began; of what has no number of its own (an open ``every``), once is enough."""
        entries = self._plan.entries
        planned = entries[step.entry] if 0 <= step.entry < len(entries) else None
        if isinstance(planned, every) and planned.times is not None and step.repetition < planned.times:
            return (step.entry, step.repetition) in self._happened
        return any(entry == step.entry for entry, _ in self._happened)

    def abandon(self) -> None:
        """End without healing: the cluster is about to be taken down. A user's own faults are undone."""
        self._abandoned = True
        self._stop.set()
        end = time.monotonic() + UNDO_WITHIN
        for thread in self._own_threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                self._finding(f"{thread.name} was not undone within {UNDO_WITHIN:g} s of the run's end")

    def notice(self, event: NodeEvent) -> None:
        """Tell conditions of a node event; called from any thread, never blocks."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.put(event)

    def in_force(self) -> list[str]:
        """The faults in force, in words."""
        with self._lock:
            return list(self._active.values())

    def doing(self) -> list[str]:
        """What is being injected or healed just now, in words."""
        with self._lock:
            return list(self._doing.values())

    @contextlib.contextmanager
    def during(self, fault: Fault) -> Iterator[Resolved]:
        """`fault` for the body, in the caller's thread: errors are raised, not recorded as findings."""
        place = next(self._own_steps)
        again = self._injected[place] if place < len(self._injected) else None
        same = again is not None and again.kind == type(fault).__name__ != "fault"
        step = Step(self._now(), again if again is not None and same else fault, entry=-1 - place)
        act, begun = self._begin(step, 0)
        try:
            yield act.resolved
        finally:
            if not step.instant and (act.own or not self._abandoned):
                self._end(act, begun)

    # ------------------------------------------------------------------ one step

    def _spawn(self, step: Step, events: queue.SimpleQueue[NodeEvent] | None) -> None:
        own = (
            step.fault.kind == "fault" if isinstance(step.fault, Resolved) else isinstance(step.fault, fault)
        )
        name = repr(step.fault) if own else "nemesis-fault"
        thread = threading.Thread(target=self._carry_out, args=(step, events), name=name, daemon=True)
        self._threads.append(thread)
        if own:
            self._own_threads.append(thread)
        thread.start()

    def _carry_out(self, step: Step, events: queue.SimpleQueue[NodeEvent] | None) -> None:
        if step.condition is None:
            if self._wait_until(step.time):
                self._happen(step, 0)
            return
        assert events is not None
        try:
            for firing in range(step.times):
                came = self._await(step.condition, events, step.time, step.expires)
                if not came or (step.after and self._stop.wait(step.after)):
                    if firing == 0:  # a fault that silently never happened is the worst failure
                        self._never(step, came)
                    return
                self._happen(step, firing)
        finally:
            self._leave(events)

    def _happen(self, step: Step, firing: int) -> None:
        # heard from before the injection on: what ends the fault may come while it is being proved
        events = self._listen() if isinstance(step.lasts, until) else None
        act = None
        try:
            act, begun = self._begin(step, firing)
            if step.instant:
                return
            if isinstance(step.lasts, until):
                assert events is not None
                self._await(step.lasts.condition, events, begun["start"], self._now() + step.lasts.at_most)
            else:
                self._stop.wait(step.lasts)
            if act.own or not self._abandoned:
                self._end(act, begun)
        except _Ended:
            return
        except (FaultError, ClusterError, PlanError) as error:
            self._fail(str(error), act)
        except Exception as error:  # a user's own fault may raise anything
            self._fail(f"{type(error).__name__} in {step.fault!r}: {error}", act)
        finally:
            if events is not None:
                self._leave(events)

    def _never(self, step: Step, came: bool) -> None:
        if not self._abandoned and not self._over.is_set():
            why = f"came less than {step.after:g} s before the run's end" if came else "never came"
            self._finding(f"{step.condition!r} {why}, so {step.fault!r} never happened")

    def _fail(self, text: str, act: Act | None) -> None:
        if not self._abandoned or (act is not None and act.own):
            self._finding(text)
            self._over.set()

    def _begin(self, step: Step, firing: int) -> tuple[Act, dict[str, Any]]:
        """Draw, record the intent, inject, prove, record what was observed."""
        number, asked = next(self._ids), self._now()
        self._happened.add((step.entry, step.repetition))
        place = (step.entry, step.repetition + firing)
        try:
            resolved = self._resolve(step, firing)
        except PlanError as error:
            kind = type(step.fault).__name__
            about: dict[str, Any] = {
                "fault": number,
                "kind": kind,
                "what": repr(step.fault),
                "asked": [asked, None],
                "place": place,
            }
            self._journal.note("nemesis", f"start-{kind}", {**about, "error": str(error)})
            raise
        asked = self._now()  # a selector may have waited for a leader: a replay does not
        lasts = step.lasts if isinstance(step.lasts, (int, float)) else None
        about = {
            "fault": number,
            "kind": resolved.kind,
            "what": resolved.what,
            "asked": [asked, asked if step.instant else asked + lasts if lasts is not None else None],
            "nodes": resolved.nodes,
            "links": resolved.links,
            "grudge": {node: sorted(others) for node, others in resolved.grudge.items()},
            "spec": resolved.to_json(),
            "place": place,
        }
        self._journal.note("nemesis", f"start-{resolved.kind}", about)
        own = self._own(step, resolved)
        rng = stream(self._seed, self._test, "fault", *place)
        act = Act(self._cluster, f"f{number}", resolved, rng, own)
        self.touched.update(resolved.links)
        try:
            with self._busily(number, f"{resolved.what} (injecting)"):
                effect = act.inject()
        except Exception as error:
            self._release(resolved)
            text = _told(error)
            self._journal.note("nemesis", f"start-{resolved.kind}", {"fault": number, "error": text})
            raise FaultError(f"{resolved.what}: {text}") from error
        with self._lock:
            self._active[number] = resolved.what
        if step.instant:  # it held while it was being done
            began = replace(effect, start=effect.start - round(effect.took * NANOSECONDS))
            self._observed("start", act, number, began, about["asked"])
            self._release(resolved)
            self._observed("stop", act, number, effect, about["asked"])
            with self._lock:
                del self._active[number]
        else:
            self._observed("start", act, number, effect, about["asked"])
        return act, {**about, "start": (effect.start - self._journal.zero) / NANOSECONDS}

    def _end(self, act: Act, about: dict[str, Any]) -> None:
        """Heal, prove that it is gone, record it."""
        number, (begin, end) = about["fault"], about["asked"]
        asked = [begin, self._now() if end is None else end]
        kind = act.resolved.kind
        self._journal.note("nemesis", f"stop-{kind}", {"fault": number, "asked": asked})
        try:
            with self._busily(number, f"{act.resolved.what} (healing)"):
                effect = act.heal()
        except Exception as error:
            text = _told(error)
            self._journal.note("nemesis", f"stop-{kind}", {"fault": number, "error": text})
            raise FaultError(f"heal of {act.resolved.what}: {text}") from error
        finally:
            self._release(act.resolved)
            with self._lock:
                self._active.pop(number, None)
        self._observed("stop", act, number, effect, asked)

    @contextlib.contextmanager
    def _busily(self, number: int, what: str) -> Iterator[None]:
        with self._lock:
            self._doing[number] = what
        try:
            yield
        finally:
            with self._lock:
                del self._doing[number]

    def _observed(self, verb: str, act: Act, number: int, effect: Effect, asked: list[float | None]) -> None:
        observed = {
            "fault": number,
            "done": True,
            verb if verb == "start" else "end": max(0, effect.start - self._journal.zero),
            "proof": effect.proof,
            "took": round(effect.took, 4),
            "asked": asked,
        }
        if verb == "start":
            observed["mechanism"] = effect.mechanism
        self._journal.note("nemesis", f"{verb}-{act.resolved.kind}", observed)

    # ------------------------------------------------------------------ who

    def _resolve(self, step: Step, firing: int) -> Resolved:
        """Draw the nodes; while a selector matches nothing, again, for RESOLVE_WITHIN seconds."""
        end = time.monotonic() + RESOLVE_WITHIN
        while True:
            try:
                return self._try_resolve(step, firing)
            except NoSuchNode as error:
                if time.monotonic() > end:
                    raise PlanError(f"{step.fault!r}: {error}, for {RESOLVE_WITHIN:g} s") from None
                if self._stop.wait(0.02):
                    if self._over.is_set():
                        raise _Ended from None
                    raise PlanError(f"{step.fault!r}: {error}, and then the run ended") from None

    def _try_resolve(self, step: Step, firing: int) -> Resolved:
        roles = {node.name: node.role for node in self._cluster.nodes}
        leader = self._cluster.leader()
        resolved = step.resolve(Scene(roles, leader), self._seed, self._test, firing)
        with self._lock:
            if hindered := self._claims.hindered(resolved):
                # "one" means one that can still be killed; a node that was named cannot be had twice
                left = {name: roles[name] for name in self._claims.free(resolved.kind, roles)}
                if isinstance(step.fault, Resolved) or not left:
                    raise NoSuchNode(hindered)
                try:
                    scene = Scene(left, leader if leader in left else None)
                    resolved = step.resolve(scene, self._seed, self._test, firing)
                except PlanError:
                    raise NoSuchNode(hindered) from None
            self._claims.take(resolved)
        return resolved

    def _release(self, resolved: Resolved) -> None:
        with self._lock:
            self._claims.release(resolved)

    def _own(self, step: Step, resolved: Resolved) -> fault | None:
        if resolved.kind != "fault":
            return None
        return step.fault if isinstance(step.fault, fault) else self._plan.own_fault(resolved.name)

    # ------------------------------------------------------------------ when

    def _now(self) -> float:
        return self._journal.now() / NANOSECONDS

    def _wait_until(self, moment: float) -> bool:
        return not self._stop.wait(max(0.0, moment - self._now()))

    def _listen(self) -> queue.SimpleQueue[NodeEvent]:
        events: queue.SimpleQueue[NodeEvent] = queue.SimpleQueue()
        with self._lock:
            self._listeners.append(events)
        return events

    def _leave(self, events: queue.SimpleQueue[NodeEvent]) -> None:
        with self._lock:
            self._listeners.remove(events)

    def _await(
        self, condition: Condition, events: queue.SimpleQueue[NodeEvent], since: float, expires: float | None
    ) -> bool:
        """Wait for an event from `since` on for which `condition` holds; False when it never came."""
        scene = Scene({node.name: node.role for node in self._cluster.nodes})
        while not self._stop.is_set() and (expires is None or self._now() < expires):
            try:
                event = events.get(timeout=0.05)
            except queue.Empty:
                continue
            if event.time >= since * NANOSECONDS and condition.holds(event, scene):
                return True
        return False


def _told(error: Exception) -> str:
    """Its text; of what a user's own function raised, its type too."""
    ours = isinstance(error, (FaultError, ClusterError, PlanError))
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return "; ".join([text, *getattr(error, "__notes__", ())])


__all__ = ["RESOLVE_WITHIN", "Nemesis"]

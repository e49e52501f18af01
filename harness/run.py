"""One run: set-up, workload beside nemesis, heal, await healthy, final reads; then a history.

Processes and data are fresh for each run, and everything is cleaned up after any kind of end.
"""

from __future__ import annotations

import contextlib
import reprlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness import cluster as runtimes
from harness.cluster.slots import Slot
from harness.faults import CLOCK_FAULTS, MESSAGE_FAULTS, Fault
from harness.header import header
from harness.history import History, NodeEvent
from harness.journal import Journal, load
from harness.nemesis import Nemesis
from harness.online import Judge
from harness.plan import SETTLE, Plan, PlanError, Schedule
from harness.resolved import Resolved
from harness.runtime import NoRuntime, choose
from harness.seed import stream
from harness.selector import CLIENT
from harness.target import Target, TargetError
from harness.workload import Persistent, Source, Workers, Workload


class RunError(RuntimeError):
    """A run could not be carried through; the text names the phase, what happened and what to do."""


@dataclass(frozen=True)
class Settings:
    """How to run: `seed` and `test` name the random streams, `output` is this run's own directory.

    Times in seconds. `duration` None: the plan's end + 2. `replay` is a recorded schedule that takes the
    plan's place, `injected` what its test injected then. `stop_at_violation` ends the run at the first
    violation of the workload's own checks. `number` counts the runs of one test. `slots` bounds how many
    clusters run at once on this machine, None: no bound.
    """

    seed: int
    test: str
    output: Path
    runtime: str = "auto"
    duration: float | None = None
    replay: Schedule | None = None
    injected: tuple[Resolved, ...] = ()
    stop_at_violation: bool = False
    keep: bool = False
    slots: int | None = None
    setup_within: float = 60.0
    heal_within: float = 30.0
    final_within: float = 10.0
    number: int = 1

    @property
    def stream(self) -> str:
        """What the run's random streams are named by beside the seed: each run of a test has its own."""
        return self.test if self.number == 1 else f"{self.test}#{self.number}"


def for_users(error: Any) -> bool:
    """Whether an error is about what the user wrote, so that pytest need not show our own lines."""
    return bool(error.errisinstance((PlanError, TargetError, RunError, runtimes.ClusterError)))


class Run:
    """A run under way: a context manager around whatever the test does while clients work.

    Entering sets the cluster up and starts the workload and the plan; leaving heals, waits for health,
    reads a last time and makes `history`. `chaos.run` waits for the plan's end in between; a test that
    wants to act itself uses `fault`::

        with chaos.running(register_workload()) as run:
            with run.fault(partition(isolate("leader"))):
                run.wait(3)
        assert_linearizable(run.history)
    """

    history: History

    def __init__(
        self,
        target: Target,
        workload: Workload,
        plan: Plan,
        settings: Settings,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        __tracebackhide__ = for_users
        for name, given, kind, example in (
            ("workload", workload, Workload, "register_workload()"),
            ("plan", plan, Plan, 'Plan(at(1, partition("n1"), lasts=2))'),
        ):
            if not isinstance(given, kind):
                raise RunError(
                    f"run(workload, plan): {name} is {reprlib.repr(given)}, "
                    f"but must be a {kind.__name__}, such as {example}"
                )
        if isinstance(length := settings.duration, bool) or not isinstance(length, (int, float, type(None))):
            raise RunError(f"run(duration={length!r}) must be a number: of seconds")
        target.check()
        self.target, self.workload, self.plan, self.settings = target, workload, plan, settings
        self.duration = plan.run_length(settings.duration, SETTLE)
        self.findings: list[str] = []
        self._bypassed: dict[tuple[str, str], str] = {}  # who spoke with whom past the fabric, and where
        self._progress = progress
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._judge: Judge | None = None
        self.cluster: runtimes.Cluster
        self._nemesis: Nemesis | None = None
        self._slot: Slot | None = None

    # ------------------------------------------------------------------ for the test

    def wait(self, seconds: float) -> bool:
        """Let the run go on for `seconds`; False when it was ended early (violation found, fault failed)."""
        return not self._over.wait(seconds)

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Inject `fault` for the body: proved when it starts, healed and proved gone after it."""
        if self._nemesis is None or hasattr(self, "history"):
            raise RunError("fault() needs a run under way: with chaos.running(...) as run")
        with self._nemesis.during(fault):
            yield

    def to_end(self) -> None:
        """Wait until the run's length is over or it was ended early."""
        end = time.monotonic() + self.duration
        while (left := end - time.monotonic()) > 0 and self.wait(min(left, 0.25)):
            self._show(left)

    # ------------------------------------------------------------------ phases

    def __enter__(self) -> Run:
        __tracebackhide__ = for_users
        settings = self.settings
        self.plan.check(nodes=dict(self.target.members()))
        if settings.stop_at_violation and not self.workload.checks:
            raise RunError(
                f"stop_at_violation: the workload {self.workload.name!r} names no checks, so nothing can be "
                'judged meanwhile; give it some, such as checks=("linearizable:cas-register",)'
            )
        self.cluster, runtime, why = self._make_cluster({})
        self.plan.refuse_unsupported(self.cluster.unsupported, runtime)
        self._check_replay(runtime)
        self._journal = Journal(
            settings.output / "history.jsonl",
            header(
                self.target,
                self.plan,
                self.workload,
                runtime=runtime,
                why=why,
                seed=settings.seed,
                test=settings.test,
                run=settings.number,
                duration=self.duration,
                concurrency=self._concurrency,
                replay=settings.replay is not None,
            ),
        )
        try:
            if settings.slots is not None:
                self._slot = Slot.take(settings.slots, progress=self._progress)
            self._phase("set-up")
            within = settings.setup_within + self.target.ready_within
            self._limited("set-up", within, self.cluster.start, "does Target.setup hang?")
            for text in getattr(self.cluster, "notes", ()):  # a cluster of the target's own may have none
                self._journal.note("run", "note", text)
            self._workers = self._clients()
            self._journal.start()
            self._phase("workload")
            self._nemesis = Nemesis(
                self.cluster,
                self._journal,
                self._schedule(),
                plan=self.plan,
                seed=(settings.seed, settings.stream),
                finding=self._finding,
                over=self._over,
                injected=settings.injected,
            )
            self._workers.start()
            self._nemesis.start()
            if settings.stop_at_violation:
                self._judge = Judge(self._journal.path, self._violated, self._ended_early)
        except BaseException as error:
            self._abort(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._conclude()
            except BaseException as broken:
                self._abort(broken)
                raise
            self._finish(stop=not self.settings.keep)
        else:
            self._abort(error)

    def _conclude(self) -> None:
        assert self._nemesis is not None
        nemesis, within = self._nemesis, max(self.settings.heal_within, self.target.ready_within + 10)
        early = self._over.is_set()
        self._phase("heal")
        self._limited("heal", within, nemesis.stop, lambda: "; ".join(nemesis.doing()))
        self._bypass_findings(nemesis)
        self._workers.stop()
        self._join("clients", self._workers, 0.0)
        self._phase("await healthy")
        self._settle()
        if self.workload.final is not None and not (early and self.findings):
            self._phase("final reads")
            self._final_reads(self.workload.final)
        self._client_findings()
        self._phase("end")

    def _join(self, who: str, workers: Workers, within: float) -> None:
        within += self.workload.time_limit + 5
        if not workers.join(within):
            raise RunError(
                f"{who} did not end within {within:g} s: does {self.target.client.__name__} or the generator "
                f"of {self.workload.name!r} block where no time limit reaches (never awaiting)?"
            )

    def _client_findings(self) -> None:
        name = self.target.client.__name__
        for text, count in self._workers.unmapped.items():
            self._finding(
                f"{name} raised {text} {count} times and neither `outcomes` nor `classify` says what that "
                "means: map it to 'fail' (did not happen) or 'info' (may have)"
            )
        if never := self._workers.never_opened:
            self._finding(f"{name}: {never}")

    def _bypass_findings(self, nemesis: Nemesis) -> None:
        """A fault on a link means nothing where the nodes speak past it."""
        for (src, dst), address in self._bypassed.items():
            if {(src, dst), (dst, src)} & nemesis.touched:
                self._finding(
                    f"{src} connected to {dst} at its own address {address}, past the fabric, so no fault on "
                    f"their links reached that: let {src} use the addresses of Node.peers (does {dst} "
                    "advertise its own?)"
                )

    def _make_cluster(self, without: Mapping[str, str]) -> tuple[runtimes.Cluster, str, str]:
        """The cluster, not started; of the next best runtime where one was not asked for by name and its
        images cannot be had."""
        how: dict[str, Any] = {
            "run_id": f"{self.settings.output.name[:40]}-{uuid.uuid4().hex[:8]}",
            "logs": self.settings.output,
            "on_event": self._event,
        }
        if (own := self.target.make_cluster(**how)) is not None:
            return own, own.runtime, "the target brings it"
        try:
            runtime, why = choose(self.settings.runtime, self.target, without=without)
        except NoRuntime as error:
            raise RunError(str(error)) from None
        cluster = runtimes.runtime_class(runtime)(self.target, **how)
        cluster.messages = not MESSAGE_FAULTS.isdisjoint(self._kinds())
        cluster.clocks = not CLOCK_FAULTS.isdisjoint(self._kinds())
        try:
            cluster.prepare(self._progress or (lambda text: None))
        except runtimes.ClusterError as error:
            if self.settings.runtime != "auto":
                raise
            return self._make_cluster({**without, runtime: str(error)})
        return cluster, runtime, why

    def _kinds(self) -> set[str]:
        """The kinds of faults that the plan, or the schedule that is replayed, has."""
        planned = {type(entry.fault).__name__ for entry in self.plan.entries}
        steps = self.settings.replay.steps if self.settings.replay else ()
        return planned | {step.fault.kind for step in steps if isinstance(step.fault, Resolved)}

    def _settle(self) -> None:
        took: list[float] = []
        within = self.settings.heal_within

        def work() -> None:
            took.append(self.cluster.await_healthy(within))

        try:
            self._limited("await healthy", within + 5, work, f"does {self.target.name}.ready hang?")
            self._journal.note("run", "healthy", f"healthy {took[0]:.2f} s after heal")
        except (runtimes.ClusterError, runtimes.FaultError, RunError) as error:
            self._finding(f"the cluster did not become healthy after heal: {error}")

    def _final_reads(self, final: Callable[[], Any]) -> None:
        within, nodes = self.settings.final_within, self._served()
        first = self.workload.processes(len(nodes))
        readers: list[tuple[int, Any, Source]] = [
            (first + i, self.cluster.entry(name), Persistent(final(), within)) for i, name in enumerate(nodes)
        ]
        workers = self._make_workers(readers, final=True)
        workers.start()
        self._join("final reads", workers, within)
        self._workers.unmapped.update(workers.unmapped)

    def _served(self) -> list[str]:
        """The nodes that clients connect to."""
        roles = self.target.client_roles
        return [name for name, role in self.target.members() if not roles or role in roles]

    def _clients(self) -> Workers:
        seed, test, nodes = self.settings.seed, self.settings.stream, self._served()
        processes: list[tuple[int, Any, Source]] = []
        for number, lane in enumerate(self.workload.lanes):
            rng = stream(seed, test, "workload", number)
            source = Source(lane.make(rng), lane.rate, stream(seed, test, "rate", number))
            for _ in range(len(nodes) if lane.processes is None else lane.processes):
                place = len(processes)
                processes.append((place, self.cluster.entry(nodes[place % len(nodes)]), source))
        return self._make_workers(processes, final=False)

    def _make_workers(self, processes: list[tuple[int, Any, Source]], final: bool) -> Workers:
        return Workers(
            self._journal,
            self.target.client,
            processes,
            concurrency=self._concurrency,
            time_limit=self.workload.time_limit,
            keyed=self.workload.keyed,
            final=final,
            broken=self._ended_early,
        )

    @property
    def _concurrency(self) -> int:
        """Processes at once, with one on each node for the final reads: how far a new number is apart."""
        count = len(self._served())
        return self.workload.processes(count) + count

    def _schedule(self) -> Schedule:
        return self.settings.replay if self.settings.replay else self.plan.schedule(self.duration)

    def _check_replay(self, runtime: str) -> None:
        """Raise PlanError before anything starts where a recorded fault cannot be had here."""
        known = {CLIENT, *(name for name, _ in self.target.members())}
        for step in self.settings.replay.steps if self.settings.replay else ():
            if not isinstance(fault := step.fault, Resolved):
                continue
            if strange := {*fault.nodes, *(end for link in fault.links for end in link)} - known:
                raise PlanError(
                    f"replay: {fault.what!r} at {step.time:g} s concerns {', '.join(sorted(strange))}, but "
                    f"the nodes of {self.target!r} are {', '.join(sorted(known - {CLIENT}))}"
                )
            if reason := self.cluster.unsupported.get(fault.kind):
                raise PlanError(f"replay: the runtime {runtime} has no {fault.kind}: {reason}")
            if fault.kind == "fault":
                self.plan.own_fault(fault.name)

    # ------------------------------------------------------------------ what happens meanwhile

    def _event(self, node: str, kind: str, detail: Mapping[str, Any]) -> None:
        at = self._journal.note("cluster", kind, {**detail, "node": node})
        if self._nemesis is not None:
            self._nemesis.notice(NodeEvent(at, node, kind, detail))
        if kind == "bypass" and "packets" in detail:
            self._finding(
                f"{node} was sent {detail['packets']} packets past the router, which its guard dropped: did "
                "something change the routes or addresses of a node?"
            )
        elif kind == "bypass":
            self._bypassed[node, str(detail["peer"])] = str(detail["address"])
        elif kind == "exit" and not detail.get("asked"):
            how = f"code {detail['code']}" if "code" in detail else f"signal {detail.get('signal')}"
            how += ", killed by the kernel: it was out of memory" if detail.get("oom") else ""
            tail = "\n".join(f"    {line}" for line in detail.get("log", ()))
            self._finding(f"{node} exited by itself ({how}); its log ends:\n{tail}")
        elif kind == "error":
            self._finding(f"{self.target.name}'s own code failed for {node}: {detail.get('error')}")
        elif kind == "panic":
            self._finding(f"{node} logged a panic: {str(detail.get('line', ''))[:200]}")

    def _finding(self, text: str) -> None:
        with self._lock:
            if text in self.findings:
                return
            self.findings.append(text)
        with contextlib.suppress(OSError):  # no room: it is kept here, and joins the history at the end
            self._journal.note("run", "finding", text)

    def _ended_early(self, text: str) -> None:
        """Going on makes no sense: a finding, and the run ends."""
        self._over.set()
        self._finding(text)

    def _violated(self, check: str) -> None:
        self._journal.note("run", "phase", f"violation found ({check}), run ended early")
        self._over.set()

    def _phase(self, name: str) -> None:
        self._journal.note("run", "phase", name)
        if self._progress:
            self._progress(name)

    def _show(self, left: float) -> None:
        if self._progress and self._nemesis:
            faults = ", ".join(self._nemesis.in_force()) or "no fault"
            self._progress(f"{self._journal.operations} operations · {faults} · {left:.0f} s left")

    def _limited(
        self, phase: str, seconds: float, work: Callable[[], None], hint: str | Callable[[], str]
    ) -> None:
        """Run `work` in a thread of its own, so that a hanging one cannot hang the run."""
        __tracebackhide__ = for_users
        failed: list[BaseException] = []

        def body() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=body, name=f"nemesis-{phase}", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            hint = hint if isinstance(hint, str) else hint()
            raise RunError(f"{phase} did not end within {seconds:g} s: {hint}")
        if failed:
            raise failed[0]

    # ------------------------------------------------------------------ ends

    def _abort(self, error: BaseException) -> None:
        """After an exception or Ctrl-C: nothing is proved any more, but nothing is left or lost."""
        with contextlib.suppress(Exception):
            self._journal.note("run", "phase", f"aborted: {type(error).__name__}")
        self._over.set()
        started = self._nemesis is not None
        with contextlib.ExitStack() as ends:  # also when a second Ctrl-C breaks off what comes before
            ends.callback(
                self._finish, stop=not (self.settings.keep and started and isinstance(error, Exception))
            )
            if hasattr(self, "_workers"):
                ends.callback(self._client_findings)
                ends.callback(self._workers.stop)
            if self._nemesis is not None:
                self._nemesis.abandon()

    def _finish(self, stop: bool) -> None:
        """The judge ends, the cluster goes down, the history is complete: each whatever the others do."""
        with contextlib.ExitStack() as ends:
            ends.callback(self._load)
            if (
                self._slot is not None and stop
            ):  # a cluster that is kept keeps its slot until this process ends
                ends.callback(self._slot.release)
            if stop and hasattr(self, "cluster"):
                ends.callback(self.cluster.stop)
            if self._judge is not None:
                ends.callback(self._judge.end)

    def _load(self) -> None:
        try:
            path = self._journal.finish()
        except OSError:  # no room for the zipped one beside it: the plain one says it all
            path = self._journal.path
        self.history = load(path)
        told = self.history.findings
        self.history.findings = (*told, *(text for text in self.findings if text not in told))


__all__ = ["Run", "RunError", "Settings", "for_users"]

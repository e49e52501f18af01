"""One run: set-up, workload beside nemesis, heal, await healthy, final reads; then a history.

Processes and data are fresh for each run, and everything is cleaned up after any kind of end.
"""

from __future__ import annotations

import contextlib
import datetime
import platform
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from harness import cluster as runtimes
from harness.faults import Fault
from harness.history import History, NodeEvent
from harness.journal import Journal, load
from harness.nemesis import Nemesis
from harness.plan import SETTLE, Plan, Schedule
from harness.runtime import choose
from harness.seed import stream
from harness.target import Target
from harness.workload import Persistent, Source, Workers, Workload


class RunError(RuntimeError):
    """A run could not be carried through; the text names the phase, what happened and what to do."""


@dataclass(frozen=True)
class Settings:
    """How to run: `seed` and `test` name the random streams, `output` is this run's own directory.

    Times in seconds. `duration` None: the plan's end + 2. `replay` is a recorded schedule that takes the
    plan's place. `stop_at_violation` ends the run at the first violation of the workload's own checks.
    """

    seed: int
    test: str
    output: Path
    runtime: str = "auto"
    duration: float | None = None
    replay: Schedule | None = None
    stop_at_violation: bool = False
    keep: bool = False
    setup_within: float = 60.0
    heal_within: float = 30.0
    final_within: float = 10.0


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
        target.check()
        self.target, self.workload, self.plan, self.settings = target, workload, plan, settings
        self.duration = plan.run_length(settings.duration, SETTLE)
        self.findings: list[str] = []
        self._progress = progress
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._judge: subprocess.Popen[str] | None = None
        self.cluster: runtimes.Cluster
        self._nemesis: Nemesis | None = None

    # ------------------------------------------------------------------ for the test

    def wait(self, seconds: float) -> bool:
        """Let the run go on for `seconds`; False when it was ended early (violation found, fault failed)."""
        return not self._over.wait(seconds)

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Inject `fault` for the body: proved when it starts, healed and proved gone after it."""
        assert self._nemesis is not None, "fault() needs a run under way: with chaos.running(...) as run"
        with self._nemesis.during(fault):
            yield

    def to_end(self) -> None:
        """Wait until the run's length is over or it was ended early."""
        end = time.monotonic() + self.duration
        while (left := end - time.monotonic()) > 0 and self.wait(min(left, 0.25)):
            self._show(left)

    # ------------------------------------------------------------------ phases

    def __enter__(self) -> Run:
        settings = self.settings
        self.plan.check(nodes=dict(self.target.members()))
        self.cluster, runtime, why = self._make_cluster()
        self.plan.refuse_unsupported(self.cluster.unsupported, runtime)
        self._journal = Journal(settings.output / "history.jsonl", self._header(runtime, why))
        try:
            self._phase("set-up")
            self._limited("set-up", settings.setup_within, self.cluster.start)
            self._workers = self._clients()
            self._journal.start()
            self._phase("workload")
            self._nemesis = Nemesis(
                self.cluster,
                self._journal,
                self._schedule(),
                plan=self.plan,
                seed=(settings.seed, settings.test),
                finding=self._finding,
                over=self._over,
            )
            self._workers.start()
            self._nemesis.start()
            if settings.stop_at_violation:
                self._watch_for_violation()
        except BaseException:
            self._abort()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abort()
            return
        assert self._nemesis is not None
        settings, early = self.settings, self._over.is_set()
        try:
            self._phase("heal")
            self._limited("heal", settings.heal_within, self._nemesis.stop)
            self._workers.stop()
            if not self._workers.join(self.workload.time_limit + 5):
                raise RunError(
                    f"clients did not end within {self.workload.time_limit + 5:g} s of the run's end"
                )
            self._phase("await healthy")
            self._settle(early)
            if self.workload.final is not None and not (early and self.findings):
                self._phase("final reads")
                self._final_reads(self.workload.final)
            for text, count in [*self._workers.unmapped.items()]:
                self._finding(
                    f"{self.target.client.__name__} raised {text} {count} times and neither `outcomes` nor "
                    "`classify` says what that means: map it to 'fail' (did not happen) or 'info' (may have)"
                )
            self._phase("end")
        finally:
            self._end_judge()
            if not settings.keep:
                self.cluster.stop()
            self.history = load(self._journal.finish())

    def _make_cluster(self) -> tuple[runtimes.Cluster, str, str]:
        how: dict[str, Any] = {
            "run_id": f"{self.settings.output.name[:40]}-{uuid.uuid4().hex[:8]}",
            "logs": self.settings.output,
            "on_event": self._event,
        }
        if (own := self.target.make_cluster(**how)) is not None:
            return own, own.runtime, "the target brings it"
        runtime, why = choose(self.settings.runtime)
        return runtimes.runtime_class(runtime)(self.target, **how), runtime, why

    def _settle(self, early: bool) -> None:
        try:
            took = self.cluster.await_healthy(self.settings.heal_within)
            self._journal.note("run", "healthy", f"healthy {took:.2f} s after heal")
        except (runtimes.ClusterError, runtimes.FaultError) as error:
            self._finding(f"the cluster did not become healthy after heal: {error}")

    def _final_reads(self, final: Callable[[], Any]) -> None:
        within = self.settings.final_within
        first = self.workload.processes(len(self.cluster.nodes))
        readers: list[tuple[int, Any, Source]] = [
            (first + i, self.cluster.entry(node.name), Persistent(final(), within))
            for i, node in enumerate(self.cluster.nodes)
        ]
        workers = self._make_workers(readers, final=True)
        workers.start()
        if not workers.join(within + self.workload.time_limit + 5):
            raise RunError(f"final reads did not end within {within + self.workload.time_limit + 5:g} s")
        self._workers.unmapped.update(workers.unmapped)

    def _clients(self) -> Workers:
        settings, nodes = self.settings, self.cluster.nodes
        processes: list[tuple[int, Any, Source]] = []
        for number, lane in enumerate(self.workload.lanes):
            rng = stream(settings.seed, settings.test, "workload", number)
            source = Source(lane.make(rng), lane.rate, stream(settings.seed, settings.test, "rate", number))
            for _ in range(len(nodes) if lane.processes is None else lane.processes):
                place = len(processes)
                processes.append((place, self.cluster.entry(nodes[place % len(nodes)].name), source))
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
        )

    @property
    def _concurrency(self) -> int:
        """Processes at once, with one on each node for the final reads: how far a new number is apart."""
        count = len(self.target.members())
        return self.workload.processes(count) + count

    def _schedule(self) -> Schedule:
        return self.settings.replay if self.settings.replay else self.plan.schedule(self.duration)

    # ------------------------------------------------------------------ what happens meanwhile

    def _event(self, node: str, kind: str, detail: Mapping[str, Any]) -> None:
        at = self._journal.note("cluster", kind, {"node": node, **detail})
        if self._nemesis is not None:
            self._nemesis.notice(NodeEvent(at, node, kind, detail))
        if kind == "exit" and not detail.get("asked"):
            how = f"code {detail['code']}" if "code" in detail else f"signal {detail.get('signal')}"
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
        self._journal.note("run", "finding", text)

    def _phase(self, name: str) -> None:
        self._journal.note("run", "phase", name)
        if self._progress:
            self._progress(name)

    def _show(self, left: float) -> None:
        if self._progress and self._nemesis:
            faults = ", ".join(self._nemesis.in_force()) or "no fault"
            self._progress(f"{self._journal.operations} operations · {faults} · {left:.0f} s left")

    def _limited(self, phase: str, seconds: float, work: Callable[[], None]) -> None:
        """Run `work` in a thread of its own, so that a hanging one cannot hang the run."""
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
            raise RunError(f"{phase} did not end within {seconds:g} s")
        if failed:
            raise failed[0]

    # ------------------------------------------------------------------ ends

    def _abort(self) -> None:
        """After an exception or Ctrl-C: nothing is proved any more, but nothing is left or lost."""
        with contextlib.suppress(Exception):
            self._journal.note("run", "phase", "aborted")
        self._over.set()
        if hasattr(self, "_workers"):
            self._workers.stop()
        if self._nemesis is not None:
            self._nemesis.abandon()
        self._end_judge()
        try:
            if hasattr(self, "cluster"):
                self.cluster.stop()
        finally:
            path = self._journal.finish()
            with contextlib.suppress(ValueError):
                self.history = load(path)

    def _watch_for_violation(self) -> None:
        """A side process judges the recorded prefix every second and speaks up at the first violation."""
        self._judge = subprocess.Popen(
            [sys.executable, "-m", "harness.online", str(self._journal.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        judge = self._judge

        def listen() -> None:
            assert judge.stdout is not None
            if judge.stdout.readline().startswith("invalid"):
                self._journal.note("run", "phase", "violation found, run ended early")
                self._over.set()

        threading.Thread(target=listen, name="nemesis-online", daemon=True).start()

    def _end_judge(self) -> None:
        if self._judge is not None:
            self._judge.kill()
            self._judge.wait()
            for pipe in (self._judge.stdin, self._judge.stdout):
                if pipe is not None:
                    pipe.close()
            self._judge = None

    def _header(self, runtime: str, why: str) -> dict[str, Any]:
        settings, target = self.settings, self.target
        return {
            "seed": settings.seed,
            "test": settings.test,
            "plan": {"repr": repr(self.plan), **self.plan.to_json()},
            "duration": self.duration,
            "target": repr(target),
            "nodes": [name for name, _ in target.members()],
            "roles": dict(target.members()),
            "runtime": runtime,
            "why": why,
            "workload": self.workload.name,
            "model": self.workload.model,
            "checks": list(self.workload.checks),
            "keyed": self.workload.keyed,
            "final_reads": self.workload.final is not None,
            "time_limit": self.workload.time_limit,
            "concurrency": self._concurrency,
            "replay": settings.replay is not None,
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {
                "pytest-nemesis": _version("pytest-nemesis"),
                "pytest": _version("pytest"),
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
        }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


__all__ = ["Run", "RunError", "Settings"]

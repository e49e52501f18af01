"""The `chaos` fixture's object: runs workloads under plans and keeps what each run left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.history import History
from harness.plan import Plan, Schedule
from harness.resolved import Resolved
from harness.run import Run, RunError, Settings, for_users
from harness.target import Target
from harness.verdict import Verdict, worst
from harness.workload import Workload


@dataclass
class Chaos:
    """What a chaos test is handed: ``chaos.run(workload, plan)`` gives the history to judge.

    `target` is the marker's; `settings` come from the marker and the command line. Each run has a fresh
    cluster and its own directory below the test's `output`. `error` is what else than a verdict ended the
    test, `failed` whether any part of it (a subtest, a fixture) failed.
    """

    target: Target
    settings: Settings
    output: Path
    progress: Callable[[str], None] | None = None
    replay_from: History | None = None
    runs: list[Run] = field(default_factory=list)
    error: str = ""
    failed: bool = False

    def run(
        self,
        workload: Workload,
        plan: Plan | None = None,
        *,
        duration: float | None = None,
        stop_at_violation: bool = False,
    ) -> History:
        """Set up, drive `workload` while `plan` is carried out, heal, read a last time; the history.

        `duration`, a number of seconds, is the workload's, without set-up and final reads; by default the
        marker's or option's, else the plan's end + 2. `stop_at_violation` ends the run at the first
        violation of the workload's own checks. Raises what kept the run from being carried through
        (PlanError, ClusterError, RunError); what went wrong during it is in ``history.findings`` and fails
        the test.
        """
        __tracebackhide__ = for_users
        with self.running(workload, plan, duration=duration, stop_at_violation=stop_at_violation) as run:
            run.to_end()
        return run.history

    @contextlib.contextmanager
    def running(
        self,
        workload: Workload,
        plan: Plan | None = None,
        *,
        duration: float | None = None,
        stop_at_violation: bool = False,
    ) -> Iterator[Run]:
        """A run under way, for a test that acts itself: ``with run.fault(...)``, ``run.wait(s)``.

        Differs from `run` in that it ends with the body rather than with the plan.
        """
        __tracebackhide__ = for_users
        number = len(self.runs) + 1
        settings = replace(
            self.settings,
            number=number,
            output=self.output if number == 1 else self.output / f"run-{number}",
            duration=self.settings.duration if duration is None else duration,
            stop_at_violation=stop_at_violation,
        )
        again = self.replay_from
        if again is not None and number == again.header.get("run", 1):  # other runs of the test go on as ever
            settings = replace(
                settings,
                replay=Schedule.from_history(fault for fault in again.faults if not fault.by_test),
                injected=tuple(Resolved.from_json(f.spec) for f in again.faults if f.by_test and f.spec),
                duration=again.header.get("duration") if settings.duration is None else settings.duration,
            )
        self.close(keep=False)  # one that was kept: one cluster at a time
        run = Run(self.target, workload, plan if plan is not None else Plan(), settings, self.progress)
        self.runs.append(run)
        with contextlib.ExitStack() as under_way:
            try:
                under_way.enter_context(run)
            except OSError as error:
                if not _concerns(error, settings.output):
                    raise
                raise RunError(
                    f"{error.filename} cannot be written ({error.strerror}): choose another --nemesis-output"
                ) from None
            yield run

    @property
    def histories(self) -> list[History]:
        """What the runs left, in order; a run that crashed left what was recorded until then."""
        return [run.history for run in self.runs if hasattr(run, "history")]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Everything judged, over all runs."""
        return tuple(v for history in self.histories for v in history.verdicts)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that decides."""
        return worst(self.verdicts)

    @property
    def findings(self) -> tuple[str, ...]:
        """What fails the test beside verdicts, over all runs."""
        return tuple(f for history in self.histories for f in history.findings)

    def unjudged(self) -> str:
        """Why nothing can be said of this test although it passed, or ''."""
        if not self.runs:
            return "this chaos test never called chaos.run(), so it tested nothing"
        for number, run in enumerate(self.runs, 1):
            which = f"run {number} of {len(self.runs)}" if len(self.runs) > 1 else "the run"
            if not hasattr(run, "history"):
                return (
                    f"{which} was refused before it began, so it tested nothing; let its error fail the test"
                )
            if not run.history.verdicts:
                return (
                    f"{which} was judged by nothing: end the test with assert_linearizable(history), "
                    "assert_no_lost_update, assert_no_lost_write or judge(history, your_checker)"
                )
        return ""

    def close(self, keep: bool) -> str:
        """Stop what is still up; `keep` leaves it running and returns how to reach and end it."""
        texts = [run.cluster.stop(keep=keep) for run in self.runs if hasattr(run, "cluster")]
        return "\n".join(text for text in texts if text)


def _concerns(error: OSError, output: Path) -> bool:
    """Whether it is about the directory `output`, what is in it or what it is in."""
    if not isinstance(error.filename, (str, Path)):
        return False
    path = Path(error.filename)
    return path == output or path in output.parents or output in path.parents


__all__ = ["Chaos"]

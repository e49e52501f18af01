"""A plan laid out over one run: every fault with its time, as the nemesis carries it out.

`harness.plan.Plan.schedule` makes one with selectors still open; `Schedule.from_history` makes one whose
faults are resolved, which is how a replay does again exactly what was done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness import history
from harness.condition import Condition, until
from harness.faults import FAULTS, Fault
from harness.resolved import Resolved
from harness.seed import stream
from harness.selector import Scene
from harness.value import PlanError


@dataclass(frozen=True)
class Step:
    """One fault of a run: at `time`, or each time that `condition` holds from `time` until `expires`.

    Seconds since the plan began. With a condition the fault begins `after` seconds later, at most `times`
    times; `expires` None is the end of the run. `lasts` is how long: seconds, `until` a condition, or None:
    until the run heals (of an `instant` fault: there is nothing to heal). `entry` is the place in the plan,
    `repetition` counts its faults over a longer run; together they name the random stream.
    """

    time: float
    fault: Fault | Resolved
    lasts: float | until | None = None
    entry: int = 0
    repetition: int = 0
    condition: Condition | None = None
    after: float = 0.0
    times: int = 1
    expires: float | None = None

    @property
    def instant(self) -> bool:
        """Whether there is nothing to heal."""
        return self.fault.instant

    def resolve(self, scene: Scene, seed: int | str, test: str, firing: int = 0) -> Resolved:
        """Draw the nodes from the stream ``seed/test/plan/entry/repetition``; the recorded ones in a replay.

        `firing` counts the times that the condition held before. Raises what `Fault.resolve` raises.
        """
        if isinstance(self.fault, Resolved):
            return self.fault
        return self.fault.resolve(scene, stream(seed, test, "plan", self.entry, self.repetition + firing))


@dataclass(frozen=True)
class Schedule:
    """The steps of one run, in order of time."""

    steps: tuple[Step, ...] = ()

    @classmethod
    def from_history(cls, faults: Iterable[history.Fault]) -> Schedule:
        """What was done, to be done again: at the times asked, on the nodes and links resolved.

        Needs in each fault's `spec` the JSON of `Resolved`, in `asked` when it was to begin and to heal;
        raises PlanError where a fault was recorded without.
        """
        steps = []
        for recorded in faults:
            which = f"fault {recorded.id} ({recorded.kind}) at {recorded.asked[0]:g} s"
            if recorded.spec is None:
                why = f" ({recorded.error})" if recorded.error else ""
                raise PlanError(
                    f"{which} cannot be replayed: the history does not say what it resolved to{why}; "
                    "leave --nemesis-replay out and run the plan"
                )
            resolved = Resolved.from_json(recorded.spec)
            if resolved.kind not in (kinds := [kind.__name__ for kind in FAULTS]):
                raise PlanError(
                    f"{which} is of unknown kind {resolved.kind!r}; choose from {', '.join(kinds)}"
                )
            begin, end = recorded.asked
            lasts = None if end is None or resolved.instant or end <= begin else end - begin
            entry, repetition = recorded.place
            steps.append(Step(begin, resolved, lasts, entry, repetition))
        return cls(tuple(sorted(steps, key=lambda step: (step.time, step.entry))))


__all__ = ["Schedule", "Step"]

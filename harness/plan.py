"""What will be done to a cluster, and when: a plan of faults as a frozen value.

::

    Plan(at(2, partition(isolate("leader")), lasts=4), at(8, latency("leader", 0.2, jitter=0.05), lasts=3))
    Plan(every(5, partition(majority_minority()), lasts=2), when(leader_elected(), pause("leader"), lasts=1))

Times are seconds as float since the plan began. A plan is data: `repr` is the Python that makes it,
`to_json` and `Plan.from_json` are exact, and carrying it out is the nemesis's. What is random in it
(``"one"``) is drawn when each fault begins, from a stream of that fault's own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from harness.condition import Condition, must_be_condition, read_condition, until
from harness.faults import FAULTS, Fault, fault, read_fault
from harness.schedule import Schedule, Step
from harness.selector import NoSuchNode, Scene, check
from harness.value import PlanError, Reader, Value, read

SETTLE = 2.0
"""Seconds of calm after a plan's end, in which the cluster shows that it recovers."""

UNBOUNDED = 3
"""How many faults of an ``every`` without `times` count for the plan's end."""

Lasts: TypeAlias = float | until | None


def read_lasts(data: Any) -> Lasts:
    """``lasts`` from its JSON: seconds, an object of kind ``until``, or null."""
    return read(data, (until,), "lasts") if isinstance(data, Mapping) else data


class Entry(Value):
    """Base of a plan's lines: which fault, how long, and (in the subclass) when.

    `end` is the second by which it is over, `least` the shortest run in which it happens at all.
    """

    fault: Fault
    lasts: Lasts

    parts: ClassVar[Mapping[str, Reader]] = {
        "fault": read_fault, "lasts": read_lasts, "condition": read_condition,
    }  # fmt: skip

    @property
    def end(self) -> float:
        raise NotImplementedError

    @property
    def least(self) -> float:
        return self.end

    def _check_fault(self) -> None:
        if not isinstance(self.fault, Fault):
            raise self._fail("fault", f"a fault: {', '.join(f'{kind.__name__}(...)' for kind in FAULTS)}")
        if self.fault.instant and self.lasts is not None:
            hint = (
                "use kill(...), which lasts"
                if not isinstance(self.fault, fault)
                else "give it a heal function"
            )
            raise self._fail("lasts", f"left out, since {self.fault!r} is over at once; or {hint}")
        if self.lasts is not None and not isinstance(self.lasts, until):
            self._number("lasts", "seconds or until(...)", above=True)

    @property
    def _length(self) -> float:
        return self.lasts.at_most if isinstance(self.lasts, until) else self.lasts or 0.0


class Unsupported(PlanError):
    """A plan asks for a fault that its runtime does not have; the text says which, and why not."""


@dataclass(frozen=True, repr=False)
class at(Entry):
    """`fault` at `time`, for `lasts` seconds.

    Without `lasts` it holds until the run heals (a repeated plan heals between its repetitions): a node
    killed stays down until then.
    """

    time: float
    fault: Fault
    lasts: Lasts = None

    def __post_init__(self) -> None:
        self._number("time", "seconds since the plan began")
        self._check_fault()

    @property
    def end(self) -> float:
        return self.time + self._length


@dataclass(frozen=True, repr=False)
class every(Entry):
    """`fault` at `start` (by default after one `period`) and each `period` from then on, for `lasts` seconds.

    With `times` it happens so often, and again when the plan is repeated; without, it goes on for the
    whole run, however long, and the plan's end leaves room for three.
    """

    period: float
    fault: Fault
    lasts: Lasts = None
    start: float | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        self._number("period", "seconds", above=True)
        if self.start is None:
            self._set(start=self.period)
        self._number("start", "seconds since the plan began")
        if self.times is not None:
            self._count("times", "faults", least=1)
        self._check_fault()
        if self._length > self.period:
            raise self._fail(
                "lasts", f"no more than the period, which is {self.period:g}: the next begins then"
            )
        if self.lasts is None and not self.fault.instant:
            raise self._fail(
                "lasts", f"given, up to the period ({self.period:g}): it is over before the next begins"
            )

    def _defaults(self) -> dict[str, Any]:
        return {**super()._defaults(), "start": self.period}

    @property
    def first(self) -> float:
        """When it happens first."""
        assert self.start is not None
        return self.start

    @property
    def end(self) -> float:
        return self.first + ((self.times or UNBOUNDED) - 1) * self.period + self._length

    @property
    def least(self) -> float:
        return self.end if self.times else self.first + self._length

    def moments(self, duration: float) -> Iterator[float]:
        """When it begins in a run of `duration` seconds: so that each fault is over by then."""
        count = 0
        while self.times is None or count < self.times:
            time = self.first + count * self.period
            if self.times is None and time + self._length > duration + 1e-9:
                return
            yield time
            count += 1


@dataclass(frozen=True, repr=False)
class when(Entry):
    """`fault`, `after` seconds after a node event for which `condition` holds, the first `times` times.

    Events before `start` do not count. It is waited for until the run (or the plan's repetition) ends; the
    plan's end leaves `within` seconds for it.
    """

    condition: Condition
    fault: Fault
    lasts: Lasts = None
    after: float = 0.0
    times: int = 1
    start: float = 0.0
    within: float = 5.0

    def __post_init__(self) -> None:
        must_be_condition(self)
        self._check_fault()
        self._number("after", "seconds")
        self._count("times", "faults", least=1)
        self._number("start", "seconds since the plan began")
        self._number("within", "seconds")

    @property
    def end(self) -> float:
        return self.start + self.within + self.after + self._length

    @property
    def least(self) -> float:
        return self.start + self.after + self._length


ENTRIES: tuple[type[Entry], ...] = (at, every, when)


@dataclass(frozen=True, repr=False, init=False)
class Plan(Value):
    """Faults and their times. ``Plan()`` does nothing: a calm run to compare with.

    `end` is the last second that the plan needs, by default the latest end of its entries; a run lasts two
    seconds longer unless told otherwise, and a longer run repeats the plan. Raises PlanError for what
    cannot be.
    """

    entries: tuple[Entry, ...]
    name: str
    end: float

    def __init__(self, *entries: Entry, name: str = "", end: float | None = None) -> None:
        self._set(entries=entries, name=name)
        for place, entry in enumerate(entries, 1):
            if not isinstance(entry, Entry):
                choices = ", ".join(f"{kind.__name__}(...)" for kind in ENTRIES)
                raise PlanError(f"Plan: entry {place} is {entry!r}, but must be one of {choices}")
        if not isinstance(name, str):
            raise self._fail("name", "text")
        needed = max((entry.end for entry in entries), default=0.0)
        same = isinstance(end, (int, float)) and needed - 1e-9 <= end <= needed  # 0.2 + 0.4 is above 0.6
        self._set(end=needed if end is None or same else end)
        self._number("end", "seconds, no less than its entries need", least=needed)
        functions: dict[str, fault] = {}
        for entry in entries:
            own = entry.fault
            if isinstance(own, fault) and functions.setdefault(own.name, own) != own:
                raise PlanError(
                    f'Plan: two different faults are named {own.name!r}; give one another name="..."'
                )

    def _call(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        needed = max((entry.end for entry in self.entries), default=0.0)
        named = {"name": self.name} if self.name else {}
        return self.entries, {**named, **({"end": self.end} if self.end != needed else {})}

    @classmethod
    def from_json(cls, data: Any) -> Plan:
        """The plan that `to_json` wrote (a ``repr`` beside it, as in a history's header, is ignored).

        Raises PlanError that lists the kinds or fields, and for a user's own faults, which cannot be loaded.
        """
        if isinstance(data, Mapping):
            data = {name: item for name, item in data.items() if name != "repr"}
        return read(data, (cls,), "plan")

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        cls._known(data, "entries", "name", "end")
        if not isinstance(entries := data.get("entries"), (list, tuple)):
            raise PlanError(f"Plan: entries is {entries!r}, but must be a list")
        return cls(
            *(read(e, ENTRIES, "entry") for e in entries), name=data.get("name", ""), end=data.get("end")
        )

    # ------------------------------------------------------------------ before a run

    def check(self, duration: float | None = None, nodes: Mapping[str, str] | None = None) -> None:
        """Raise PlanError if the plan does not fit a run of `duration` seconds or a cluster of `nodes`.

        `nodes` maps names to roles. Meant for before anything starts; what only shows then (no
        leader within 2 s) is the nemesis's to report.
        """
        if duration is not None and not 0 < duration < math.inf:
            raise PlanError(f"the run lasts {duration!r} s, but must last more than 0 seconds")
        if duration is not None and duration < self.least - 1e-9:
            raise PlanError(
                f"plan {self.name or repr(self)} needs {self.least:g} s, but the run lasts {duration:g} s: "
                f"give the run {self.run_length():g} s, or leave its duration out"
            )
        if nodes is None:
            return
        for entry in self.entries:
            check(entry, Scene(nodes))
            _try(entry.fault, nodes)

    def refuse_unsupported(self, unsupported: Mapping[str, str], runtime: str) -> None:
        """Raise Unsupported if a fault's kind is in `unsupported`, a map from kinds to the reason."""
        for entry in self.entries:
            if reason := unsupported.get(kind := type(entry.fault).__name__):
                raise Unsupported(f"the runtime {runtime} has no {kind}, which {entry!r} asks for: {reason}")

    def run_length(self, duration: float | None = None, after: float = SETTLE) -> float:
        """Seconds that a run lasts: `duration` if it is long enough (PlanError), else the end + `after`."""
        if duration is None:
            return self.end + after
        self.check(duration)
        return duration

    @property
    def least(self) -> float:
        """The shortest run in which each entry happens: `end`, with one fault of each open ``every``."""
        return max((entry.least for entry in self.entries), default=0.0)

    def own_fault(self, name: str) -> fault:
        """The user's own fault that is recorded by `name`, with its functions, for a replay."""
        own = {entry.fault.name: entry.fault for entry in self.entries if isinstance(entry.fault, fault)}
        if name not in own:
            raise PlanError(
                f"the plan has no fault of its own named {name!r}; it has {', '.join(own) or 'none'}"
            )
        return own[name]

    # ------------------------------------------------------------------ over a run

    def schedule(self, duration: float | None = None) -> Schedule:
        """Its faults laid out over a run of `duration` seconds (None: `run_length`).

        A longer run repeats the plan each ``end + 2`` seconds, whole repetitions only; the rest stays calm.
        An ``every`` without `times` is not repeated, it goes on. Raises PlanError where it does not fit.
        """
        length = self.run_length(duration)
        cycle = self.end + SETTLE
        count = max(1, int((length + 1e-9) // cycle))
        steps: list[Step] = []
        for k, entry in enumerate(self.entries):
            if isinstance(entry, every) and entry.times is None:
                steps += [
                    Step(t, entry.fault, entry.lasts, k, i) for i, t in enumerate(entry.moments(length))
                ]
                continue
            for r in range(count):
                offset, last = r * cycle, r == count - 1
                if isinstance(entry, at):
                    lasts = entry.lasts
                    if lasts is None and not entry.fault.instant and not last:
                        lasts = cycle - entry.time
                    steps.append(Step(offset + entry.time, entry.fault, lasts, k, r))
                elif isinstance(entry, every):
                    moments = list(entry.moments(length))
                    steps += [
                        Step(offset + t, entry.fault, entry.lasts, k, r * len(moments) + i)
                        for i, t in enumerate(moments)
                    ]
                elif isinstance(entry, when):
                    steps.append(
                        Step(
                            offset + entry.start, entry.fault, entry.lasts, k, r * entry.times,
                            entry.condition, entry.after, entry.times, None if last else offset + cycle,
                        )
                    )  # fmt: skip
        return Schedule(tuple(sorted(steps, key=lambda step: (step.time, step.entry))))


def _try(planned: Fault, nodes: Mapping[str, str]) -> None:
    """Raise PlanError if `planned` cannot be resolved whoever leads: nothing that happens would help."""
    refused: PlanError | None = None
    for leader in nodes:
        try:
            planned.resolve(Scene(nodes, leader), random.Random(0))
            return
        except NoSuchNode:
            return
        except PlanError as error:
            refused = refused or error
    if refused:
        raise refused


__all__ = [
    "Entry",
    "Lasts",
    "Plan",
    "PlanError",
    "Schedule",
    "Step",
    "at",
    "every",
    "read_lasts",
    "until",
    "when",
]

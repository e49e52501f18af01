"""Generators: plain iterators of operations, and the few ways to combine them.

Any iterable of `harness.Op` is a generator; ``itertools`` is the rest of this module.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.target import Op

Make = Callable[[random.Random], Iterable[Op]]
"""Makes a generator from its own random stream."""


def mix(
    rng: random.Random, *generators: Iterable[Op], weights: Sequence[float] | None = None
) -> Iterator[Op]:
    """Each time the next operation of a generator chosen at random; ends when all have ended."""
    live = [iter(g) for g in generators]
    chances = list(weights) if weights is not None else [1.0] * len(live)
    if len(chances) != len(live):
        raise ValueError(f"mix of {len(live)} generators got {len(chances)} weights")
    while live:
        (place,) = rng.choices(range(len(live)), chances)
        try:
            yield next(live[place])
        except StopIteration:
            del live[place], chances[place]


def limit(count: int, generator: Iterable[Op]) -> Iterator[Op]:
    """The first `count` operations of `generator`."""
    return itertools.islice(generator, count)


def phases(*generators: Iterable[Op]) -> Iterator[Op]:
    """One generator after the other (no barrier: the next starts while last operations are open)."""
    return itertools.chain.from_iterable(generators)


@dataclass(frozen=True)
class Lane:
    """Some processes that draw from one generator: ``Lane(5, make, rate=100)``.

    `processes` is a number, or None for one process on each node. `rate` is operations a second of all of
    them together, at random distances (None: as fast as they come back). Lanes are how a workload
    reserves processes for one kind of operation.
    """

    processes: int | None
    make: Make
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"a lane of {self.processes} processes does nothing; at least 1 is needed")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate {self.rate!r} must be above 0 operations a second, or None")


@dataclass(frozen=True)
class Workload:
    """What the clients do during a run, what is read at its end, and what it is good for.

    `final` makes the operations that every node is asked once all faults are healed. `keyed` says that
    operations have keys. `checks` names the checkers that fit, `model` the model of the first.
    """

    name: str
    lanes: tuple[Lane, ...]
    final: Callable[[], Iterable[Op]] | None = None
    keyed: bool = False
    checks: tuple[str, ...] = ()
    model: str = ""
    time_limit: float = 1.0

    def __post_init__(self) -> None:
        if not self.lanes or not all(isinstance(lane, Lane) for lane in self.lanes):
            raise ValueError(f"workload {self.name!r}: lanes {self.lanes!r} must be one or more of Lane(...)")
        if not self.time_limit > 0:
            raise ValueError(
                f"workload {self.name!r}: time_limit {self.time_limit!r} must be above 0 seconds"
            )

    def processes(self, nodes: int) -> int:
        """How many processes run at once on a cluster of `nodes`."""
        return sum(nodes if lane.processes is None else lane.processes for lane in self.lanes)


__all__ = ["Lane", "Make", "Workload", "limit", "mix", "phases"]

"""The ready-made workloads: register, read-modify-write, set."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from harness.target import Op
from harness.workload.generator import Lane, Workload, mix


def _keys(count: int) -> tuple[str, ...]:
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"keys={count!r} must be a number of keys, at least 1")
    return tuple(f"k{i + 1}" for i in range(count))


def _shares(clients: int, readers: bool, total_rate: float | None) -> tuple[float | None, float | None]:
    """The rate of the clients and of the readers: half each, so that every node is read often."""
    if clients < 1:
        raise ValueError(f"clients={clients!r} must be at least 1")
    if total_rate is not None and not total_rate > 0:
        raise ValueError(f"total_rate={total_rate!r} must be above 0 operations a second, or None")
    if total_rate is None:
        return None, None
    return (total_rate / 2, total_rate / 2) if readers else (total_rate, None)


def register_workload(
    *,
    keys: int = 3,
    clients: int = 10,
    total_rate: float | None = 200.0,
    time_limit: float = 1.0,
    readers: bool = True,
) -> Workload:
    """Reads, writes and compare-and-sets of `keys` registers; judge it by ``assert_linearizable``.

    `clients` processes do all three; beside them one process on each node only reads, so that a node
    that is cut off is still read (a client that blocks on its own write reads nothing). `total_rate` is
    operations a second of all of them (None: as fast as they come back). Every value is written once, and
    a compare-and-set expects a value handed out shortly before, so that many succeed.
    """
    names = _keys(keys)
    write_rate, read_rate = _shares(clients, readers, total_rate)

    def mixed(rng: random.Random) -> Iterator[Op]:
        fresh = itertools.count(1)
        recent: dict[str, int | None] = dict.fromkeys(names)

        def reads() -> Iterator[Op]:
            while True:
                yield Op("read", key=rng.choice(names))

        def writes() -> Iterator[Op]:
            while True:
                key = rng.choice(names)
                recent[key] = value = next(fresh)
                yield Op("write", value, key)

        def cas() -> Iterator[Op]:
            while True:
                key = rng.choice(names)
                old, new = recent[key], next(fresh)
                recent[key] = new
                yield Op("cas", (old, new), key)

        return mix(rng, reads(), writes(), cas(), weights=(1, 2, 1))

    def only_reads(rng: random.Random) -> Iterator[Op]:
        while True:
            yield Op("read", key=rng.choice(names))

    lanes = [Lane(clients, mixed, write_rate)]
    if readers:
        lanes.append(Lane(None, only_reads, read_rate))
    return Workload(
        name="register",
        lanes=tuple(lanes),
        final=lambda: (Op("read", key=key) for key in names),
        keyed=True,
        checks=("linearizable:cas-register",),
        model="cas-register",
        time_limit=time_limit,
    )


def rmw_workload(
    *, keys: int = 3, clients: int = 10, total_rate: float | None = 200.0, time_limit: float = 1.0
) -> Workload:
    """Read-modify-writes of `keys` registers; judge it by ``assert_no_lost_update``.

    One operation reads a value and writes one computed from it: its result is ``[read, written]``. Two
    acknowledged ones that read the same value of a key mean that one update was lost. `value` is a fresh
    number that makes what is written unique.
    """
    names = _keys(keys)
    rate, _ = _shares(clients, False, total_rate)

    def updates(rng: random.Random) -> Iterator[Op]:
        for fresh in itertools.count(1):
            yield Op("rmw", fresh, rng.choice(names))

    return Workload(
        name="rmw",
        lanes=(Lane(clients, updates, rate),),
        final=lambda: (Op("read", key=key) for key in names),
        keyed=True,
        checks=("no-lost-update",),
        model="",
        time_limit=time_limit,
    )


def set_workload(
    *,
    clients: int = 10,
    total_rate: float | None = 200.0,
    time_limit: float = 1.0,
    elements: int | None = None,
) -> Workload:
    """Adds of unique elements to one set, read on every node at the end; ``assert_no_lost_write``.

    `elements` ends the adds after so many (None: never), so that a fault can meet a quiet cluster.
    """
    rate, _ = _shares(clients, False, total_rate)
    if elements is not None and elements < 1:
        raise ValueError(f"elements={elements!r} must be at least 1, or None")

    def adds(rng: random.Random) -> Iterator[Op]:
        for element in itertools.islice(itertools.count(1), elements):
            yield Op("add", element)

    return Workload(
        name="set",
        lanes=(Lane(clients, adds, rate),),
        final=lambda: [Op("read")],
        keyed=False,
        checks=("no-lost-write",),
        model="",
        time_limit=time_limit,
    )


__all__ = ["register_workload", "rmw_workload", "set_workload"]

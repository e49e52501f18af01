"""Long histories of real data structures in which every value is put in once, to measure and to try."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Any

from harness.history import History
from tests.unit.checkers.histories import Event, history

TAKES = {"stack": ("push", "pop"), "queue": ("enqueue", "dequeue"), "priority-queue": ("enqueue", "dequeue")}


def structure(
    name: str, seed: int, operations: int, clients: int, *, unknown: float = 0.0, bend: bool = False,
    puts: float = 0.5, lost_takes: bool = False,
) -> History:  # fmt: skip
    """A history of a real structure: each operation takes effect at one instant inside its interval.

    `unknown`: share of what puts something in that nobody heard back from, half of which took effect
    (`lost_takes`: of what takes something, too). `bend`: two late results are exchanged.
    """
    rnd = random.Random(f"{name}/{seed}")
    fresh = list(range(operations))
    if name == "priority-queue":
        rnd.shuffle(fresh)
    values = iter(fresh)
    free = [(rnd.random() * 100, process) for process in range(clients)]
    planned: list[Event] = []
    new = count(clients)
    for _ in range(operations):
        free.sort()
        start, process = free.pop(0)
        took = 20 + 160 * rnd.random()
        op: Event = {"process": process, "start": start, "end": start + took, "type": "ok"}
        op |= _drawn(name, rnd, values, puts)
        op["at"] = start + took * rnd.random()
        if rnd.random() < unknown and (lost_takes or op["f"] in ("push", "enqueue", "add", "remove")):
            op["type"] = "info"
            op["at"] = None if rnd.random() < 0.5 else start + 5 * took * rnd.random()
            process = next(new)
        planned.append(op)
        free.append((start + took + rnd.random() * 40 + 1, process))
    do = _real(name)
    for op in sorted((o for o in planned if o["at"] is not None), key=lambda o: float(o["at"])):
        op["result"] = do(op["f"], op["value"])
    if bend:
        late = [
            o
            for o in planned[len(planned) * 9 // 10 :]
            if o["type"] == "ok" and o["f"] in ("pop", "dequeue", "read", "contains")
        ]
        one, other = late[0], late[min(clients * 3, len(late) - 1)]
        if name in ("counter", "set"):
            one["result"] = one["result"] + clients + 3 if name == "counter" else not one["result"]
        else:
            one["result"], other["result"] = other["result"], one["result"]
    for op in planned:
        op["start"], op["end"] = round(op["start"] * 1000), round(op["end"] * 1000)
    return history(planned)


def _drawn(name: str, rnd: random.Random, values: Any, puts: float) -> Event:
    if name in TAKES:
        put, take = TAKES[name]
        return {"f": put, "value": next(values)} if rnd.random() < puts else {"f": take, "value": None}
    if name == "counter":
        return {"f": "add", "value": 1} if rnd.random() < puts else {"f": "read", "value": None}
    f = rnd.choice(("add", "remove", "contains", "contains"))
    return {"f": f, "value": rnd.randrange(200)}


def _real(name: str) -> Callable[[str, Any], Any]:
    held: list[Any] = []
    total = [0]

    def do(f: str, value: Any) -> Any:
        if f in ("push", "enqueue"):
            held.append(value)
            if name == "priority-queue":
                held.sort()
            return value
        if f in ("pop", "dequeue"):
            return held.pop(-1 if f == "pop" else 0) if held else None
        if f == "contains":
            return value in held
        if f == "read":
            return total[0]
        if name == "counter":
            total[0] += value
        elif f == "add" and value not in held:
            held.append(value)
        elif f == "remove" and value in held:
            held.remove(value)
        return value

    return do

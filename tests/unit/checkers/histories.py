"""Histories written compactly, and three slow but obvious judges of them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from harness.checkers.model import NOT_KNOWN, Inconsistent, Model
from harness.checkers.models import model
from harness.history import History, Operation

Event = dict[str, Any]
SHORT = {"r": "read", "w": "write", "c": "cas"}


def history(
    operations: Iterable[Mapping[str, Any]],
    header: Mapping[str, Any] | None = None,
    extra: Iterable[Event] = (),
) -> History:
    """A history of operations ``{process, f, value, result, type, start, end, key, node, final}``.

    `start` and `end` are integers (ns). `end` is when an operation of unknown outcome was given up, if
    anybody knows. `extra` are nemesis or other events, which have a `time`.
    """
    header = dict(header or {})
    operations = list(operations)
    keyed = header.setdefault("keyed", any("key" in o for o in operations))
    return History.from_events(events(operations, keyed, extra), header)


def events(operations: Iterable[Mapping[str, Any]], keyed: bool, extra: Iterable[Event] = ()) -> list[Event]:
    """The events of such operations, among them `extra`, in order of time."""
    timeline: list[tuple[int, int, int, Event]] = []
    order = count()
    for o in operations:

        def value(v: Any, o: Mapping[str, Any] = o) -> Any:
            return [o.get("key"), v] if keyed else v

        common = {"process": o["process"], "f": o["f"]}
        invoke = {**common, "type": "invoke", "time": o["start"], "value": value(o.get("value"))}
        invoke |= {k: o[k] for k in ("node", "final") if k in o}
        timeline.append((o["start"], 0, next(order), invoke))
        kind = o.get("type", "ok")
        if o.get("end") is not None:
            result = o["result"] if kind == "ok" and "result" in o else o.get("value")
            done = {**common, "type": kind, "time": o["end"], "value": value(result)}
            timeline.append((o["end"], 1, next(order), done))
    for e in extra:
        timeline.append((e["time"], 2, next(order), dict(e)))
    timeline.sort(key=lambda e: e[:3])
    for index, event in enumerate(timeline):
        event[3]["index"] = index
    return [e[3] for e in timeline]


def fault(
    start: int, end: int | None, kind: str = "partition", what: str = "n2 cut from n1, n3", id: int = 1
) -> list[Event]:
    """The nemesis events of a fault that held from `start` to `end` (ns)."""
    about = {"fault": id, "kind": kind, "what": what, "asked": [start / 1e9, None]}
    both = [("start", start)] + ([("stop", end)] if end is not None else [])
    return [
        {"time": time, "type": "info", "process": "nemesis", "f": f"{verb}-{kind}", "value": about | extra}
        for verb, time in both
        for extra in ({}, {"done": True, "proof": "measured"})
    ]


def drawn(picture: str, unit: int = 1, **header: Any) -> History:
    """A history of a register from a picture: a line per process, a column per `unit` nanoseconds.

    ``[w1   ]`` a write of 1, ``[r1]`` a read of 1, ``[r-]`` of nothing, ``[c1>2 ]`` a cas; ``?`` instead of
    ``]``: nobody knows, ``!``: it failed. After ``?`` the line goes on as another process.
    """
    lines = [line for line in picture.splitlines() if line.strip()]
    operations = []
    for number, line in enumerate(lines):
        process = number
        for found in re.finditer(r"\[([rwc])([^\]?!]*)([\]?!])", line):
            f, words, end = found.groups()
            values = [None if v.strip() == "-" else int(v) for v in words.split(">")]
            value = {"r": None, "w": values[0], "c": values}[f]
            result = values[0] if f == "r" else value
            operations.append(
                {
                    "process": process, "f": SHORT[f], "value": value, "result": result,
                    "type": {"]": "ok", "?": "info", "!": "fail"}[end],
                    "start": found.start() * unit, "end": (found.end() - 1) * unit,
                }
            )  # fmt: skip
            if end == "?":
                process += len(lines)
    return history(operations, header)


def spans(
    history: History, keep: Iterable[int] | None = None, key: Any = ...
) -> list[tuple[int, float, Operation]]:
    """(call, return, operation) of what may have happened, in the model's terms of time: positions."""
    c = history.columns
    wanted = None if keep is None else set(keep)
    return [
        (c.call[row], c.ret[row] if c.ret[row] >= 0 else float("inf"), op)
        for row, op in enumerate(history.operations)
        if op.type != "fail" and (wanted is None or op.index in wanted) and (key is ... or op.key == key)
    ]


def explained(
    operations: Sequence[tuple[int, float, Operation]],
    model_: Model | str = "cas-register",
    optional: Iterable[int] = (),
) -> bool:
    """Brute force: every order that respects time; unknown outcomes (and `optional`) may be left out."""
    m = model(model_)
    free = set(optional)

    def extend(left: tuple[tuple[int, float, Operation], ...], state: Any) -> bool:
        must = [o for o in left if o[1] != float("inf") and o[2].index not in free]
        if not must:
            return True
        first_return = min(o[1] for o in left) if not free else min(o[1] for o in must)
        for o in left:
            if o[0] > first_return:
                continue
            rest = tuple(x for x in left if x is not o)
            if o[2].index in free or free:  # optional ones that end before `o` begins are out of the game
                rest = tuple(x for x in rest if not (x[2].index in free and x[1] < o[0]))
            result = o[2].result if o[2].type == "ok" else NOT_KNOWN
            to = m.step(state, o[2].f, o[2].value, result)
            if not isinstance(to, Inconsistent) and extend(rest, to):
                return True
        return False

    return extend(tuple(operations), m.initial)


def wing_gong(
    operations: Sequence[tuple[int, float, Operation]], model_: Model | str = "cas-register"
) -> bool:
    """Depth-first with a cache of (operations done, state), after Wing & Gong and Lowe."""
    m = model(model_)
    ops = sorted(operations, key=lambda o: o[0])
    must = sum(1 << i for i, o in enumerate(ops) if o[1] != float("inf"))
    seen: set[tuple[int, Any]] = set()
    stack = [(0, m.initial)]
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        bound = float("inf")
        for i, (call, ret, op) in enumerate(ops):
            if call > bound:
                break
            if done >> i & 1:
                continue
            bound = min(bound, ret)
            to = m.step(state, op.f, op.value, op.result if op.type == "ok" else NOT_KNOWN)
            if not isinstance(to, Inconsistent):
                stack.append((done | 1 << i, to))
    return False


def simulated(
    seed: int, operations: int, clients: int, *, keys: int = 1, values: int | None = 5, unknown: float = 0.0,
    bend: bool = False, cas: bool = True, busy: float = 0.8,
) -> History:  # fmt: skip
    """A history of real registers: each operation takes effect at one instant inside its interval.

    `values` None: every write its own. `unknown`: share of writes and cas that nobody heard back from, half
    of which took effect. `bend`: one late read reports a value from long before.
    """
    rnd = random.Random(f"simulated/{seed}")
    fresh = count(1000)
    free = [(rnd.random() * 100, process) for process in range(clients)]
    planned: list[dict[str, Any]] = []
    for _ in range(operations):
        free.sort()
        start, process = free.pop(0)
        took = 20 + 160 * rnd.random()
        f = rnd.choice(("read", "write", "cas") if cas else ("read", "write"))
        new = next(fresh) if values is None else rnd.randrange(values)
        op: Event = {
            "process": process,
            "f": f,
            "key": f"k{rnd.randrange(keys)}",
            "start": start,
            "end": start + took,
        }
        op["at"] = start + took * rnd.random()
        op["new"] = new
        op["type"] = "info" if f != "read" and rnd.random() < unknown else "ok"
        if op["type"] == "info":
            op["at"] = None if rnd.random() < 0.5 else start + 5 * took * rnd.random()
            process += clients
        planned.append(op)
        free.append((start + took + rnd.random() * took * (1 / busy - 1) + 1, process))
    state: dict[str, list[Any]] = {}
    for op in sorted((o for o in planned if o["at"] is not None), key=lambda o: o["at"]):
        past = state.setdefault(op["key"], [None])
        if op["f"] == "read":
            op["result"] = past[-1]
            op["before"] = past[max(0, len(past) - 60)]
        elif op["f"] == "write":
            past.append(op["new"])
        else:
            wrong = rnd.random() < 0.2
            op["value"] = [rnd.randrange(values or 9) if wrong else past[-1], op["new"]]
            if op["value"][0] == past[-1]:
                past.append(op["new"])
            elif op["type"] == "ok":
                op["type"] = "fail"
    for op in planned:
        if op["f"] == "write":
            op["value"] = op["new"]
        elif op["f"] == "cas":
            op.setdefault("value", [rnd.randrange(values or 9), op["new"]])
    if bend:
        late = [
            o for o in planned[len(planned) * 9 // 10 :] if o["f"] == "read" and o["before"] != o["result"]
        ]
        if late:
            late[0]["result"] = late[0]["before"]
    for op in planned:
        op["start"], op["end"] = round(op["start"] * 1000), round(op["end"] * 1000)
    return history(planned)


def small(rnd: random.Random, *, keys: int = 1, unique: bool = False) -> History:
    """A random history of a few operations, as often linearizable as not: real registers, then bent."""
    clients = rnd.randint(1, 4)
    clocks = {process: rnd.randint(0, 4) for process in range(clients)}
    values = rnd.choice((2, 3))
    fresh = count(1)
    planned: list[Event] = []
    for _ in range(rnd.randint(1, 7)):
        process = rnd.choice(list(clocks))
        start = clocks.pop(process) + rnd.randint(0, 3)
        end = start + rnd.randint(0, 9)
        outcome = rnd.choices(("ok", "info", "fail"), (8, 2, 1))[0]
        op: Event = {"process": process, "f": rnd.choice(("read", "write", "cas")), "type": outcome}
        op |= {"start": start, "end": end, "at": rnd.uniform(start, end), "new": rnd.randrange(values)}
        if unique:
            op["new"] = next(fresh)
        if keys > 1:
            op["key"] = rnd.choice([f"k{i}" for i in range(keys)])
        clocks[process + clients if outcome == "info" else process] = end + rnd.randint(1, 3)
        planned.append(op)
    state: dict[Any, Any] = {}
    for op in sorted(planned, key=lambda o: float(o["at"])):
        now = state.get(op.get("key"))
        happens = op["type"] == "ok" or (op["type"] == "info" and rnd.random() < 0.6)
        op["value"] = {"read": None, "write": op["new"], "cas": [now, op["new"]]}[op["f"]]
        if op["f"] == "read":
            op["result"] = now
        elif happens:
            state[op.get("key")] = op["new"]
    if rnd.random() < 0.6:
        bent = rnd.choice(planned)
        told = rnd.choice([None, *(o["new"] for o in planned), 77])
        if bent["f"] == "read":
            bent["result"] = told
        elif bent["f"] == "cas":
            bent["value"] = [told, bent["new"]]
        elif rnd.random() < 0.5:
            bent["type"] = "fail"
    return history(planned)


def entangled(n: int) -> History:
    """Everything at once, and one cas too many: cost grows exponentially with `n`, and 11 takes seconds."""
    there, back = [[0, i] for i in range(1, n + 1)], [[i, 0] for i in range(1, n + 1)]
    return history(
        [
            {"process": 99, "f": "write", "value": 0, "start": 0, "end": 1},
            *(
                {"process": p, "f": "cas", "value": value, "start": 10 + p, "end": 1000 + p}
                for p, value in enumerate([[n, 0], *there, *back])
            ),
        ]
    )


def unreachable(n: int) -> History:
    """Every cas among `n` values at once, and a ring of them among others that nobody ever comes to.

    There are makers enough of each value, so only trying all orders shows that none does: exponential in n².
    """
    moves = [[a, b] for a in range(n) for b in range(n) if a != b]
    ring = [[100, 101], [101, 102], [102, 100]]
    return history(
        [
            {"process": 999, "f": "write", "value": 0, "start": 0, "end": 1},
            *(
                {"process": p, "f": "cas", "value": value, "start": 10 + p, "end": 1000 + p}
                for p, value in enumerate([*moves, *ring])
            ),
        ]
    )

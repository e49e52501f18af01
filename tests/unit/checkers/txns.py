"""Histories of transactions written compactly, small random ones, and slow but obvious judges of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

from harness.checkers.transactions import list_append, rw_register
from harness.checkers.transactions.consistency import ruled_out
from harness.checkers.transactions.cycles import classified, search
from harness.checkers.transactions.found import Found
from harness.checkers.transactions.graph import (
    PROCESS,
    REALTIME,
    RW,
    RWP,
    RWR,
    RWS,
    WR,
    WRP,
    WW,
    WWR,
    WWS,
    Graph,
)  # fmt: skip
from harness.history import History, Operation
from tests.unit.checkers.histories import history

Step = tuple[str, Any, Any]
State = dict[Any, Any]


def txn(process: int, start: int, end: int, *steps: list[Any], **more: Any) -> dict[str, Any]:
    """A transaction; its steps are as it reported them, where it succeeded."""
    asked = [[f, key, None if f == "r" else value] for f, key, value in steps]
    return {"process": process, "f": "txn", "value": asked, "result": [list(step) for step in steps],
            "start": start, "end": end, **more}  # fmt: skip


def parsed(text: str) -> History:
    """A history from lines such as ``0 [0 10] ax1 rx12 fail``: process, times, steps, outcome.

    ``ax1`` appends 1 to x, ``rx12`` read [1, 2], ``rx`` read nothing; ``wx1`` and ``rx1`` for registers,
    where the line has a ``w`` or the text no ``a``.
    """
    lists = " a" in text
    operations = []
    for line in filter(None, map(str.strip, text.splitlines())):
        process, begin, end, *words = line.replace("[", "").replace("]", "").split()
        outcome = words.pop() if words and words[-1] in ("ok", "fail", "info") else "ok"
        steps: list[list[Any]] = []
        for word in words:
            digits = [int(d) for d in word[2:]]
            if word[0] == "r" and lists:
                steps.append(["r", word[1], digits])
            else:
                name = {"a": "append"}.get(word[0], word[0])
                steps.append([name, word[1], digits[0] if digits else None])
        operations.append(txn(int(process), int(begin), int(end), *steps, type=outcome))
    return history(operations)


# --------------------------------------------------------------------------------------------- oracles


def _run(steps: Any, state: State, *, lists: bool, reads: bool) -> State | None:
    """The state after a transaction, None where it cannot have read what it did."""
    after = dict(state)
    for f, key, value in steps:
        if f == "append":
            after[key] = (*after.get(key, ()), value)
        elif f in ("w", "insert"):
            after[key] = value
        elif f == "delete":
            after.pop(key, None)
        elif f == "rp":
            if reads and {k: v for k, v in after.items() if _fits(key, v)} != dict(value):
                return None
        elif reads and after.get(key, () if lists else None) != (value or () if lists else value):
            return None
    return after


def _fits(predicate: Any, value: int) -> bool:
    if predicate == "true":
        return True
    return value == predicate[1] if predicate[0] == "=" else bool(value % predicate[1] == predicate[2])


def _before(a: Operation, b: Operation, order: str, times: dict[int, tuple[int, int]]) -> bool:
    if order in ("process", "realtime") and a.process == b.process and a.index < b.index:
        return True
    return order == "realtime" and 0 <= times[a.index][1] < times[b.index][0]


def _happened(h: History) -> tuple[list[Operation], dict[int, tuple[int, int]]]:
    c = h.columns
    times = {c.index[row]: (c.call[row], c.ret[row]) for row in range(len(c))}
    return [op for op in h.operations if op.type != "fail"], times


def serializable(h: History, order: str = "") -> bool:
    """Whether they can have run one after another; `order`: as ``process`` or ``realtime`` has it."""
    ops, times = _happened(h)
    lists = _lists(h)

    def extend(left: list[Operation], state: State) -> bool:
        if all(op.type == "info" for op in left):
            return True
        for op in left:
            if any(
                _before(other, op, order, times) for other in left if other.type == "ok" and other is not op
            ):
                continue
            ok = op.type == "ok"
            after = _run(op.result if ok else op.value, state, lists=lists, reads=ok)
            rest = [
                o for o in left if o is not op and not (o.type == "info" and _before(o, op, order, times))
            ]
            if after is not None and extend(rest, after):
                return True
        return False

    return extend(ops, {})


def snapshot(h: History, order: str = "") -> bool:
    """Whether each can have read what was committed when it began, and no two at once wrote the same key.

    `order`: with each beginning after the end of those before it, as ``process`` or ``realtime`` has it.
    """
    ops, times = _happened(h)
    lists = _lists(h)

    def extend(
        left: list[Operation], running: list[tuple[Operation, int]], log: list[Operation], state: State
    ) -> bool:
        if not running and all(op.type == "info" for op in left):
            return True
        for place, (op, began) in enumerate(running):
            mine = _written(op)
            if any(_written(other) & mine for other in log[began:]):
                return False
            steps = op.result if op.type == "ok" else op.value
            after = _run(steps, state, lists=lists, reads=False)
            assert after is not None
            if extend(left, running[:place] + running[place + 1 :], [*log, op], after):
                return True
        for op in left:
            others = [o for o in left if o is not op] + [o for o, _ in running]
            if any(_before(o, op, order, times) for o in others if o.type == "ok" or o not in left):
                continue
            ok = op.type == "ok"
            if _run(op.result if ok else op.value, state, lists=lists, reads=ok) is None:
                continue
            rest = [
                o for o in left if o is not op and not (o.type == "info" and _before(o, op, order, times))
            ]
            if extend(rest, [*running, (op, len(log))], log, state):
                return True
        return False

    return extend(ops, [], [], {})


def _written(op: Operation) -> set[Any]:
    return {key for f, key, _ in op.value if f in ("append", "w", "insert", "delete")}


def _lists(h: History) -> bool:
    done = [step for op in h.operations for step in (*op.value, *(op.result or ()))]
    return any(f == "append" or (f == "r" and isinstance(value, tuple)) for f, _, value in done)


def recoverable(h: History) -> bool:
    """Whether the order of all versions of each key is known: of lists, at most one was never read.

    Of registers, each is written once, or by transactions that read it first.
    """
    ops, _ = _happened(h)
    if _lists(h):
        read = {(k, e) for op in ops if op.type == "ok" for f, k, v in op.result if f == "r" for e in v or ()}
        unseen: dict[Any, set[int]] = {}
        for op in ops:
            for f, key, element in op.value:
                if f == "append" and (key, element) not in read:
                    unseen.setdefault(key, set()).add(op.index)
        return all(len(those) < 2 for those in unseen.values())
    writers: dict[Any, list[Operation]] = {}
    for op in ops:
        for key in _written(op):
            writers.setdefault(key, []).append(op)
    return all(
        len(those) == 1 or all(op.type == "ok" and _reads_first(op, key) for op in those)
        for key, those in writers.items()
    )


def _reads_first(op: Operation, key: Any) -> bool:
    return bool(next(f for f, k, _ in op.result if k == key) == "r")


# ----------------------------------------------------------------------------------------- random ones


PREDICATES = ("true", ("=", 1), ("=", 2), ("mod", 2, 0), ("mod", 2, 1))


def drawn(rnd: random.Random, *, lists: bool, predicates: bool = False, most: int = 5) -> History:
    """A few transactions of a store that isolates them well or badly, some reads bent afterwards."""
    gone: set[str] = set()
    fresh: dict[str, Iterator[int]] = {key: count(1) for key in "xy"}
    keys = rnd.choice(("x", "xy", "xy"))
    isolation = rnd.choice(("serial", "serial", "snapshot", "stale", "none"))
    clients = rnd.randint(1, 4)
    clocks = {process: rnd.randint(0, 4) for process in range(clients)}
    planned: list[dict[str, Any]] = []
    for _ in range(rnd.randint(2, most)):
        process = rnd.choice(list(clocks))
        start = clocks.pop(process) + rnd.randint(0, 3)
        end = start + rnd.randint(0, 9)
        outcome = rnd.choices(("ok", "info", "fail"), (12, 2, 1))[0]
        steps: list[list[Any]] = []
        for _ in range(rnd.randint(1, 3)):
            key = rnd.choice(keys)
            if predicates and rnd.random() < 0.4:
                steps.append(["rp", rnd.choice(PREDICATES), None])
            elif predicates and rnd.random() < 0.1 and key not in gone:
                gone.add(key)
                steps.append(["delete", key, None])
            elif rnd.random() < 0.5:
                steps.append(["r", key, None])
            else:
                if not lists and rnd.random() < 0.6 and ["r", key, None] not in steps:
                    steps.append(["r", key, None])
                steps.append(["append" if lists else "w", key, next(fresh[key])])
        at = rnd.uniform(start, end)
        began = {"serial": at, "none": at, "snapshot": rnd.uniform(start, at), "stale": rnd.uniform(0, at)}[
            isolation
        ]
        clocks[process + clients if outcome == "info" else process] = end + rnd.randint(1, 2)
        planned.append(
            {"process": process, "f": "txn", "type": outcome, "start": start, "end": end, "at": at,
             "began": began, "steps": steps,
             "happens": outcome == "ok" or (outcome == "info" and rnd.random() < 0.6)}
        )  # fmt: skip
    moments = sorted(
        [(p["began"], 0, i) for i, p in enumerate(planned)] + [(p["at"], 1, i) for i, p in enumerate(planned)]
    )
    state: State = {}
    for _, commits, i in moments:
        p = planned[i]
        if not commits:
            now = dict(state)
            p["result"] = []
            for f, key, value in p["steps"]:
                if isolation == "none" and f == "r" and rnd.random() < 0.5:
                    now = dict(state)
                if f == "append":
                    now[key] = [*now.get(key, []), value]
                elif f == "w":
                    now[key] = value
                elif f == "delete":
                    now.pop(key, None)
                seen = now.get(key, [] if lists else None) if f == "r" else value
                if f == "rp":
                    seen = {k: v for k, v in now.items() if _fits(key, v)}
                p["result"].append([f, key, seen])
        elif p["happens"]:
            for f, key, value in p["steps"]:
                if f == "append":
                    state[key] = [*state.get(key, []), value]
                elif f == "w":
                    state[key] = value
                elif f == "delete":
                    state.pop(key, None)
    if rnd.random() < 0.3:
        reads = [step for p in planned for step in p["result"] if step[0] == "r"]
        for step in rnd.sample(reads, min(len(reads), rnd.choice((1, 1, 2)))):
            step[2] = _bent(rnd, step[2], lists)
    for p in planned:
        p["value"] = p.pop("steps")
    return history(planned)


def _bent(rnd: random.Random, value: Any, lists: bool) -> Any:
    if not lists:
        return rnd.choice((None, 1, 2, 3))
    items = list(value)
    what = rnd.random()
    if items and what < 0.4:
        items.pop(rnd.choice((-1, -1, 0)))
    elif len(items) > 1 and what < 0.6:
        rnd.shuffle(items)
    else:
        items.append(rnd.randint(1, 4))
    return items


# ------------------------------------------------------------------------------------------ comparing

MODELS: dict[str, tuple[Callable[[History, str], bool], str]] = {
    "strict-serializable": (serializable, "realtime"),
    "strong-session-serializable": (serializable, "process"),
    "serializable": (serializable, ""),
    "strong-snapshot-isolation": (snapshot, "realtime"),
    "strong-session-snapshot-isolation": (snapshot, "process"),
    "snapshot-isolation": (snapshot, ""),
}


def disagreements(h: History, *, predicates: bool = False) -> tuple[bool, list[str]]:
    """Whether a history is strictly serializable, and what the checkers say that brute force does not.

    What is invalid must be so. What is not must be found invalid: of lists always, for serializability, and
    wherever the order of all versions is known; not where predicates are in play, which hide versions.
    """
    lists = _lists(h)
    judge = list_append if lists else rw_register
    known, strict, wrong = not predicates and recoverable(h), True, []
    for name, (oracle, order) in MODELS.items():
        true = oracle(h, order)
        if order == "realtime" and oracle is serializable:
            strict = true
        verdict = judge(h, name)
        found = verdict.judgement == "invalid"
        if found and true:
            wrong.append(f"{name}: {verdict.summary}, but brute force finds an order")
        elif not found and not true and (known or (lists and oracle is serializable)):
            wrong.append(f"{name}: {verdict.judgement}, but there is no order; {dict(verdict.evidence)}")
    return strict, wrong


def fuzz_transactions(
    seed: int, cases: int, *, lists: bool, predicates: bool = False
) -> tuple[int, list[str]]:
    """How many of the cases are not strictly serializable, and what disagrees."""
    rnd = random.Random(f"fuzz/transactions/{lists}/{predicates}/{seed}")
    illegal, wrong = 0, []
    for case in range(cases):
        h = drawn(rnd, lists=lists, predicates=predicates)
        strict, those = disagreements(h, predicates=predicates)
        illegal += not strict
        wrong += [f"case {case}: {text}: {list(h.operations)}" for text in those]
    return illegal, wrong


# --------------------------------------------------------------------------------------------- cycles

POOLS = (
    (WW, WR, RW), (WW, WR, RW, PROCESS), (WW, WR, RW, PROCESS, REALTIME), (WR, RW), (RW, WW), (RW,),
    (WW, WR, RW, PROCESS, WWS, RWS), (WW, WR, RW, PROCESS, REALTIME, WWS, RWS, WWR, RWR),
    (WW, WR, WRP, RW, RWP), (WW, WR, WRP, RW, RWP, PROCESS, REALTIME), (RW, WW, REALTIME), (WR, RW, REALTIME),
)  # fmt: skip


def drawn_graph(rnd: random.Random) -> tuple[int, set[tuple[int, int, int]]]:
    """A few transactions and edges between them; the orders of processes and of real time have no cycle."""
    size, pool = rnd.randint(2, 6), rnd.choice(POOLS)
    edges = set()
    for _ in range(rnd.randint(size - 1, 2 * size)):
        a, b = rnd.sample(range(size), 2)
        kind = rnd.choice(pool)
        edges.add((min(a, b), max(a, b), kind) if kind in (PROCESS, REALTIME) else (a, b, kind))
    return size, edges


def all_cycles(size: int, edges: Iterable[tuple[int, int, int]]) -> set[str]:
    """The names of all cycles there are, by trying all ways."""
    out: dict[int, list[tuple[int, int]]] = {}
    for a, b, kind in edges:
        out.setdefault(a, []).append((b, kind))
    names: set[str] = set()

    def go(begin: int, way: list[int], kinds: list[int]) -> None:
        for other, kind in out.get(way[-1], ()):
            if other == begin:
                names.add(classified([*kinds, kind])[1])
            elif other > begin and other not in way:
                go(begin, [*way, other], [*kinds, kind])

    for begin in range(size):
        go(begin, [begin], [])
    return names


def found_cycles(size: int, edges: Iterable[tuple[int, int, int]]) -> set[str]:
    """The names of the cycles that the search finds."""
    graph, found = Graph(size), Found()
    for edge in sorted(edges):
        graph.link(*edge)
    search(graph, found)
    return {name for case in found.cases() for name in case.implies}


def fuzz_cycles(seed: int, cases: int) -> tuple[int, list[str]]:
    """How many of the graphs have cycles, and where the search finds one that is none, or misses a model."""
    rnd = random.Random(f"fuzz/cycles/{seed}")
    cyclic, wrong = 0, []
    for case in range(cases):
        size, edges = drawn_graph(rnd)
        true, found = all_cycles(size, edges), found_cycles(size, edges)
        cyclic += bool(true)
        if found - true or ruled_out(found) != ruled_out(true):
            wrong.append(f"case {case}: found {found}, there are {true}: {sorted(edges)}")
    return cyclic, wrong

"""Histories of registers whose copies lag behind, and slow but obvious judges of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, permutations, product
from typing import Any

from harness.checkers.model import identity
from harness.history import History, Operation
from tests.unit.checkers.histories import Event, history

INITIAL = -1
Version = int  # the `Operation.index` of its write

GIVEN = {
    "read-your-writes": ("writes", "own"),
    "monotonic-reads": ("writes", "reads"),
    "monotonic-writes": ("reads", "writes"),
    "writes-follow-reads": ("reads writes", "follows"),
}


def lagging(rnd: random.Random, *, most: int = 9, repeats: bool = False, hard: bool = False) -> History:
    """A history of a register whose reads may be answered by a copy that lags behind; some are bent.

    `hard`: few clients do much on one key, and it lags more.
    """
    clients = rnd.randint(2, 3) if hard else rnd.randint(1, 4)
    clocks = {process: rnd.randint(0, 4) for process in range(clients)}
    lag = rnd.choice((0, 0, 1, 2)) if hard else rnd.choice((0, 0, 1, 2, 5))
    keys = None if hard else rnd.choice((None, None, "ab"))
    fresh = count(1)
    planned: list[Event] = []
    for _ in range(rnd.randint(most // 2 if hard else 2, most)):
        process = rnd.choice(list(clocks))
        start = clocks.pop(process) + rnd.randint(0, 3)
        end = start + rnd.randint(0, 6)
        f = rnd.choices(("read", "write", "cas", "rmw"), (12, 8, 1, 1) if hard else (3, 2, 1, 1))[0]
        op: Event = {"process": process, "f": f, "start": start, "end": end, "at": rnd.uniform(start, end)}
        op["type"] = rnd.choices(("ok", "info", "fail"), (30 if hard else 12, 2, 1))[0]
        op["new"] = rnd.randrange(3) if repeats else next(fresh)
        if keys:
            op["key"] = rnd.choice(keys)
        clocks[process + clients if op["type"] == "info" else process] = end + rnd.randint(1, 3)
        planned.append(op)
    log: dict[Any, list[Any]] = {}
    for op in sorted(planned, key=lambda o: float(o["at"])):
        past = log.setdefault(op.get("key"), [None])
        now = past[-1 - min(rnd.randint(0, lag), len(past) - 1)]
        happens = op["type"] == "ok" or (op["type"] == "info" and rnd.random() < 0.6)
        op["value"] = {"read": None, "write": op["new"], "cas": [now, op["new"]], "rmw": None}[op["f"]]
        if op["f"] == "read":
            op["result"] = now
        elif op["f"] == "cas" and op["type"] == "ok" and rnd.random() < 0.2:
            op["result"] = False
            op["value"] = [rnd.choice(past), op["new"]]
        else:
            op["result"] = [now, op["new"]] if op["f"] == "rmw" else op["value"]
            if happens:
                late = rnd.random() < (0.5 if hard else 0.1)
                past.insert(rnd.randint(1, len(past)) if late else len(past), op["new"])
    if rnd.random() < 0.3:
        bent = rnd.choice(planned)
        if bent["f"] == "read":
            bent["result"] = rnd.choice([None, *(o["new"] for o in planned), 77])
        elif bent["type"] == "ok":
            bent["type"] = "fail"
    return history(planned)


# ---------------------------------------------------------------------------------- what was read and left


def asked(op: Operation) -> Any:
    """The value that an operation read, if it did; else ... ."""
    if op.f == "cas":
        return ... if op.result is False and op.type == "ok" else op.value[0]
    if op.type != "ok" or op.f == "write":
        return ...
    return op.result[0] if op.f == "rmw" else op.result


def left(op: Operation) -> Any:
    """The value that an operation may have left; else ... ."""
    if op.type == "fail" or op.f == "read" or (op.f == "cas" and op.type == "ok" and op.result is False):
        return ...
    if op.f == "write":
        return op.value
    if op.f == "rmw" and op.type == "info":
        return ...
    old, new = op.value if op.f == "cas" else op.result
    return ... if identity(old) == identity(new) else new


def by_key(h: History) -> list[list[Operation]]:
    keys = dict.fromkeys(identity(op.key) for op in h.operations)
    return [[op for op in h.operations if identity(op.key) == key and op.type != "fail"] for key in keys]


class Reading:
    """One way to say which version each operation on a key read: `read` by index, `writes` by index."""

    def __init__(
        self, ops: Sequence[Operation], read: dict[int, Version], writes: dict[int, Operation]
    ) -> None:
        self.ops, self.read, self.writes = ops, read, writes
        self.versions = [INITIAL, *writes]


def readings(h: History, ops: Sequence[Operation]) -> Iterator[Reading | None]:
    """Every way; None where some read is of no version. Reads that may be of several writes are left out."""
    row = {op.index: row for row, op in enumerate(h.operations)}
    call, ret = h.columns.call, h.columns.ret
    sources: dict[Any, list[int]] = {identity(None): [INITIAL]}
    for op in ops:
        if left(op) is not ...:
            sources.setdefault(identity(left(op)), []).append(op.index)
    lost = [op for op in ops if op.f == "rmw" and op.type == "info"]
    happened = {op.index for op in ops if op.type == "ok"}
    while True:
        reading = [op for op in ops if op.index in happened and asked(op) is not ...]
        more = {
            source[0]
            for op in reading
            if len(source := sources.get(identity(asked(op)), [])) == 1 and source[0] != INITIAL
        } - happened
        if not more:
            break
        happened |= more
    read: dict[int, Version] = {}
    orphans: dict[Any, list[Operation]] = {}
    for op in reading:
        source = sources.get(identity(asked(op)), [])
        if not source:
            orphans.setdefault(identity(asked(op)), []).append(op)
        elif len(source) == 1:
            end = ret[row[op.index]] if op.type == "ok" else float("inf")
            if source[0] != INITIAL and end < call[row[source[0]]]:
                yield None
                return
            read[op.index] = source[0]
    writes = {op.index: op for op in ops if left(op) is not ... and op.index in happened}
    for chosen in permutations(lost, len(orphans)):
        fits = all(
            call[row[writer.index]] < min(ret[row[op.index]] if op.type == "ok" else 1 << 60 for op in reads)
            for writer, reads in zip(chosen, orphans.values(), strict=True)
        )
        if fits:
            more_read = {
                op.index: writer.index
                for writer, reads in zip(chosen, orphans.values(), strict=True)
                for op in reads
            }
            order = {op.index: op for op in ops}
            all_writes = {**writes, **{writer.index: writer for writer in chosen}}
            yield Reading(
                ops, {**read, **more_read}, {index: order[index] for index in order if index in all_writes}
            )


def unclear(ops: Sequence[Operation]) -> bool:
    """Whether a value that was read may be of two writes."""
    sources: dict[Any, int] = {identity(None): 1}
    for op in ops:
        if left(op) is not ...:
            sources[identity(left(op))] = sources.get(identity(left(op)), 0) + 1
    return any(asked(op) is not ... and sources.get(identity(asked(op)), 0) > 1 for op in ops)


# --------------------------------------------------------------------------------------------- sessions


def pairs(reading: Reading, name: str, aside: set[Version]) -> set[tuple[Version, Version, bool]]:
    """(older, newer, whether strictly) of every pair of operations of a session that `name` speaks of."""
    found = set()
    ops = [op for op in reading.ops if op.index in reading.read or op.index in reading.writes]
    for i, first in enumerate(ops):
        old = reading.read.get(first.index)
        if first.index in reading.writes and old is not None:
            found.add((old, first.index, True))
        for second in ops[i + 1 :]:
            if first.process != second.process:
                continue
            new = reading.read.get(second.index)
            if "reads" in name and old is not None and new is not None:
                found.add((old, new, False))
            if "own" in name and first.index in reading.writes and new is not None:
                found.add((first.index, new, False))
            if "writes" in name and first.index in reading.writes and second.index in reading.writes:
                found.add((first.index, second.index, True))
            if "follows" in name and old is not None and second.index in reading.writes:
                found.add((old, second.index, True))
    found |= {(INITIAL, version, True) for version in reading.writes}
    return {pair for pair in found if not {*pair[:2]} & aside}


def ordered(versions: Iterable[Version], said: set[tuple[Version, Version, bool]]) -> bool:
    """Whether some order of the versions fits: all orders are tried, and each left where it goes wrong."""
    if any(a == b and strict for a, b, strict in said):
        return False
    before = {(a, b) for a, b, _ in said if a != b}

    def extend(left: frozenset[Version]) -> bool:
        return not left or any(
            extend(left - {version}) for version in left if not any((a, version) in before for a in left)
        )

    return extend(frozenset(versions))


def both_ways(versions: Sequence[Version], said: set[tuple[Version, Version, bool]]) -> set[Version]:
    """The versions that are said to be before and after another one."""
    before = {(a, b) for a, b, _ in said if a != b}
    for via, a, b in product(versions, repeat=3):
        if (a, via) in before and (via, b) in before:
            before.add((a, b))
    return {a for a, b in before if a != b and (b, a) in before}


def judged(h: History, name: str) -> str:
    """What is to be said of a session guarantee, vacuity aside."""
    said = set()
    for ops in by_key(h):
        its = set()
        for reading in readings(h, ops):
            if reading is None:
                its.add("invalid")
                continue
            given, adds = GIVEN[name]
            aside = both_ways(reading.versions, pairs(reading, given, set()))
            versions = [version for version in reading.versions if version not in aside]
            if not ordered(versions, pairs(reading, f"{given} {adds}", aside)):
                its.add("invalid")
            else:
                its.add("unknown" if aside or unclear(ops) else "valid")
        if "valid" in its:
            said.add("valid")
        else:
            said.add("unknown" if "unknown" in its else "invalid")
    return "invalid" if "invalid" in said else "unknown" if "unknown" in said else "valid"


# -------------------------------------------------------------------------------------------- anomalies


def anomalies(h: History) -> set[str]:
    """The anomalies of reads, each by its definition, of all triples of operations."""
    c = h.columns
    found = set()
    for ops in by_key(h):
        row = {op.index: row for row, op in enumerate(h.operations)}
        call = {op.index: c.call[row[op.index]] for op in ops}
        ret = {op.index: c.ret[row[op.index]] for op in ops if op.type == "ok"}
        reads = [(op.index, identity(asked(op))) for op in ops if op.type == "ok" and asked(op) is not ...]
        writes = [(op.index, identity(left(op))) for op in ops if left(op) is not ...]
        lost = [op.index for op in ops if op.f == "rmw" and op.type == "info"]
        nothing = identity(None)

        def before(a: int, b: int, call: dict[int, int] = call, ret: dict[int, int] = ret) -> bool:
            return a in ret and ret[a] < call[b]

        for read, value in reads:
            makers = [w for w, v in writes if v == value]
            if value != nothing and not any(call[w] < ret[read] for w in makers or lost):
                key = identity(next(op.key for op in ops if op.index == read))
                failed = [
                    op for op in h.operations
                    if (op.type == "fail" and identity(op.key) == key and identity(op.value) == value)
                    or (op.type == "fail" and op.f == "cas" and identity(op.key) == key
                        and identity(op.value[1]) == value != identity(op.value[0]))
                ]  # fmt: skip
                failed = [op for op in failed if op.f in ("write", "cas")]
                found.add("future read" if makers else "dirty read" if failed else "unwritten value")
            once = len(makers) + (value == nothing) < 2
            there = [*makers, *(r for r, v in reads if v == value)] if once else makers

            def seen_before(
                b: int, value: Any = value, once: bool = once, there: list[int] = there, makers: Any = makers,
                nothing: Any = nothing,
            ) -> bool:  # fmt: skip
                """Whether all that may have left the value was surely over."""
                if once:
                    return value == nothing or any(before(a, b) for a in there)
                return all(before(a, b) for a in makers)

            for write, other in writes:
                if other == value or not seen_before(write):
                    continue
                single = sum(v == other for _, v in writes) + (other == nothing) == 1
                shows = [r for r, v in reads if v == other and single]
                early = single and any(r in ret and ret[r] < call[write] for r in shows)
                if not early and any(before(a, read) for a in (write, *shows)):
                    found.add("stale read")
            for between, other in reads:
                if other != value and once and seen_before(between) and before(between, read):
                    found.add("non-monotonic read")
    return found


def as_cas(h: History) -> History | None:
    """The history with cas for rmw, as the register model has it; None where some rmw is unknown."""
    planned: list[Event] = []
    for op in h.operations:
        if op.f == "rmw" and op.type == "info":
            return None
        event: Event = {
            "process": op.process, "f": op.f, "value": op.value, "result": op.result, "type": op.type,
            "start": op.start, "end": op.end, "key": op.key,
        }  # fmt: skip
        if op.f == "rmw":
            pair = op.result if op.type == "ok" else (None, None)
            event |= {"f": "cas", "value": pair, "result": pair}
        planned.append(event)
    return history(planned)


def interleaved(h: History, ops: Sequence[Operation]) -> bool:
    """Whether some order of the operations on a key, session by session, explains what was read."""
    row = {op.index: row for row, op in enumerate(h.operations)}
    call, ret = h.columns.call, h.columns.ret
    known = {identity(left(op)) for op in ops if left(op) is not ...} | {identity(None)}
    orphans = tuple({identity(asked(op)) for op in ops if asked(op) is not ...} - known)
    lines = [[op for op in ops if op.process == process] for process in {op.process for op in ops}]
    seen = set()

    def extend(places: tuple[int, ...], state: Any, written: float, free: tuple[Any, ...]) -> bool:
        if (places, state, written, free) in seen:
            return False
        seen.add((places, state, written, free))
        if all(
            place == len(line) or line[place].type != "ok"
            for place, line in zip(places, lines, strict=True)
        ):  # fmt: skip
            return True
        for i, (place, line) in enumerate(zip(places, lines, strict=True)):
            if place == len(line):
                continue
            op = line[place]
            moved = (*places[:i], place + 1, *places[i + 1 :])
            if op.f == "cas" and op.type == "ok" and op.result is False:
                if state != identity(op.value[0]) and extend(moved, state, written, free):
                    return True
                continue
            want = asked(op)
            end = ret[row[op.index]] if op.type == "ok" else float("inf")
            if want is not ... and (identity(want) != state or written >= end):
                continue
            if op.f == "rmw" and op.type == "info":
                for orphan in free:
                    rest = tuple(o for o in free if o != orphan)
                    if extend(moved, orphan, call[row[op.index]], rest):
                        return True
            elif left(op) is not ...:
                if extend(moved, identity(left(op)), call[row[op.index]], free):
                    return True
            elif extend(moved, state, written, free):
                return True
        return False

    return extend((0,) * len(lines), identity(None), -1, orphans)

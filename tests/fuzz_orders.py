"""The checkers of orders against slow but obvious judges of small histories, for `tests.fuzz_stores`.

Long forks, values that grow, causes, reversed causes and logs: what is right is an order of the operations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise, permutations, product
from typing import Any

from harness.checkers.causal import causal
from harness.checkers.causal_reverse import causal_reverse
from harness.checkers.kafka import kafka
from harness.checkers.long_fork import long_fork
from harness.checkers.monotonic import monotonic
from harness.checkers.spans import Span, spans
from harness.history import History
from tests.fuzz_parts import Case, happen, planned
from tests.unit.checkers.histories import history

# -------------------------------------------------------------------------------------------- long-fork


def forks(rnd: random.Random) -> Case:
    """Up to four keys, each written once; reads of some of them."""
    keys = ["x", "y", "z", "u"][: rnd.randint(2, 4)]
    fresh = iter(keys)
    held: dict[str, int] = {}

    def draw() -> tuple[str, Any]:
        if rnd.random() < 0.4 and (key := next(fresh, None)):
            return "write", [["w", key, 1]]
        return "read", [["r", key, None] for key in rnd.sample(keys, rnd.randint(1, len(keys)))]

    def do(op: dict[str, Any]) -> Any:
        if op["f"] == "write":
            held[op["value"][0][1]] = 1
            return op["value"]
        return [["r", key, held.get(key)] for _, key, _ in op["value"]]

    operations = planned(rnd, draw, 10)
    happen(operations, do)
    written = {op["value"][0][1] for op in operations if op["f"] == "write" and op["type"] != "fail"}
    for op in operations:
        if op["f"] == "read" and op["type"] == "ok":
            for part in op["result"]:
                if rnd.random() < 0.22 and part[1] in written:
                    part[2] = None if part[2] else 1
    h = history(operations)
    return h, long_fork(h).judgement, one_order(h)


def one_order(h: History) -> str:
    """What is true of reads of keys that are written once: every order of the writes is tried."""
    found = spans(h, ("write", "read"), "")
    writes = {s.op.value[0][1]: s for s in found if s.op.f == "write" and s.op.type != "fail"}
    reads = [span for span in found if span.op.f == "read" and span.happened]
    saw = [{key: value for _, key, value in read.op.result} for read in reads]
    if any(
        value and (key not in writes or writes[key].call > read.ret)
        for read, told in zip(reads, saw, strict=True)
        for key, value in told.items()
    ):
        return "invalid"
    keys = {key for told in saw for key in told} | set(writes)
    if not any(all(is_prefix(order, told) for told in saw) for order in permutations(sorted(keys))):
        return "invalid"
    telling = any(0 < sum(map(bool, told.values())) < len(told) for told in saw)
    done = {span.op.f for span in found if span.happened}
    return "valid" if telling and writes and done == {span.op.f for span in found} else "unknown"


def is_prefix(order: Sequence[str], told: dict[str, Any]) -> bool:
    """Whether what a read saw written comes before all that it saw unwritten."""
    flags = [bool(told[key]) for key in order if key in told]
    return flags == sorted(flags, reverse=True)


# -------------------------------------------------------------------------------------------- monotonic


def grown(stamped: bool) -> Callable[[random.Random], Case]:
    def case(rnd: random.Random) -> Case:
        held = [0, 0]

        def draw() -> tuple[str, Any]:
            return ("read", None) if rnd.random() < 0.6 else ("inc", None)

        def do(op: dict[str, Any]) -> Any:
            held[0] += 1
            held[1] += op["f"] == "inc"
            return list(held) if stamped else held[1]

        operations = planned(rnd, draw, 8)
        happen(operations, do)
        for op in operations:
            if op["type"] == "ok" and rnd.random() < (0.25 if stamped else 0.15):
                change = rnd.choice((-2, -1, 1))
                if stamped:
                    op["result"][rnd.randrange(2)] += change
                else:
                    op["result"] += change
        h = history(operations)
        return h, monotonic(h).judgement, in_pairs(h, stamped)

    return case


def in_pairs(h: History, stamped: bool) -> str:
    """What is true of values that grow: each pair of operations is looked at."""
    seen = [span for span in spans(h, ("read", "inc"), "") if span.happened]
    for a, b in product(seen, seen):
        if a is b:
            continue
        old, new = ([s.op.result] if not stamped else list(s.op.result) for s in (a, b))
        both = a.op.f == b.op.f == "inc" and old[-1] == new[-1]
        before = a.ret < b.call or (a.op.process == b.op.process and a.call < b.call)
        fell = any(n < o for o, n in zip(old, new, strict=True)) or (b.op.f == "inc" and new[-1] <= old[-1])
        if both or (before and fell) or (stamped and old[0] < new[0] and old[1] > new[1]):
            return "invalid"
    done = {span.op.f for span in seen}
    return "valid" if len(seen) > 1 and done == {op.f for op in h.operations} else "unknown"


# ----------------------------------------------------------------------------------------------- causal


def registers(rnd: random.Random) -> Case:
    """Two keys, each value written once; reads return what is there, or else anything."""
    fresh = iter(range(1, 100))
    held: dict[str, int | None] = {"x": None, "y": None}
    ever: list[int] = []

    def draw() -> tuple[str, Any]:
        return ("write", next(fresh)) if rnd.random() < 0.45 else ("read", None)

    operations = planned(rnd, draw, 10)
    for op in operations:
        op["key"] = rnd.choice("xy")

    def do(op: dict[str, Any]) -> Any:
        if op["f"] == "write":
            held[op["key"]] = op["value"]
            return op["value"]
        return held[op["key"]]

    happen(operations, do)
    for op in operations:
        if op["f"] == "read" and op["type"] == "ok" and rnd.random() < 0.4:
            ever = [o["value"] for o in operations if o["f"] == "write" and o["key"] == op["key"]]
            op["result"] = rnd.choice((None, *ever, *ever, *([77] if rnd.random() < 0.1 else ())))
    h = history(operations)
    return h, causal(h).judgement, in_causal_order(h)


def in_causal_order(h: History) -> str:
    """What is true of registers: the causal order is closed, the causes of a read put in every order."""
    found = spans(h, ("write", "read"), "")
    writes = {(s.op.key, s.op.value): s for s in found if s.op.f == "write" and s.op.type != "fail"}
    reads = [s for s in found if s.op.f == "read" and s.happened]
    sources = {s: writes.get((s.op.key, s.op.result)) for s in reads if s.op.result is not None}
    if any(write is None or write.call > read.ret for read, write in sources.items()):
        return "invalid"
    all_of_it = [*writes.values(), *reads]
    before = {
        (a, b) for a in all_of_it for b in all_of_it
        if sources.get(b) is a or (a.op.process == b.op.process and a.call < b.call)
    }  # fmt: skip
    for middle, a, b in product(all_of_it, repeat=3):
        if (a, middle) in before and (middle, b) in before:
            before.add((a, b))
    if any((a, a) in before for a in all_of_it):
        return "invalid"
    for read in reads:
        past = [w for w in writes.values() if w.op.key == read.op.key and (w, read) in before]
        explained = [
            order for order in permutations(past)
            if (order[-1] if order else None) is sources.get(read)
            and not any((b, a) in before for i, a in enumerate(order) for b in order[i + 1 :])
        ]  # fmt: skip
        if not explained:
            return "invalid"
    done = {span.op.f for span in found if span.happened}
    return "valid" if sources and done == {span.op.f for span in found} else "unknown"


# --------------------------------------------------------------------------------------- causal-reverse


def a_log(ordered: bool) -> Callable[[random.Random], Case]:
    def case(rnd: random.Random) -> Case:
        fresh = iter(range(100))
        held: list[int] = []

        def draw() -> tuple[str, Any]:
            return ("read", None) if rnd.random() < 0.4 else ("write", next(fresh))

        def do(op: dict[str, Any]) -> Any:
            if op["f"] == "write":
                held.append(op["value"])
                return op["value"]
            return list(held)

        operations = planned(rnd, draw, 16)
        happen(operations, do)
        for op in operations:
            if op["f"] == "read" and op["type"] == "ok" and op["result"] and rnd.random() < 0.5:
                if rnd.random() < 0.7:
                    op["result"].remove(op["result"][0])
                else:
                    rnd.shuffle(op["result"])
        h = history(operations)
        return h, causal_reverse(h, ordered).judgement, forwards(h, ordered)

    return case


def forwards(h: History, ordered: bool) -> str:
    """What is true of reads of a log: each pair of writes is looked at for each."""
    found = spans(h, ("write", "read"), "")
    writes = {s.op.value: s for s in found if s.op.f == "write" and s.op.type != "fail"}
    reads = [s for s in found if s.op.f == "read" and s.happened]
    for read in reads:
        seen = list(read.op.result)
        if any(value not in writes or writes[value].call > read.ret for value in seen):
            return "invalid"
        for (one, first), (two, second) in product(writes.items(), repeat=2):
            turned = one not in seen or (ordered and two in seen and seen.index(two) < seen.index(one))
            if first.ret < second.call and first.happened and two in seen and turned:
                return "invalid"
    done = {span.op.f for span in found if span.happened}
    told = any(read.op.result for read in reads)
    return "valid" if told and done == {span.op.f for span in found} else "unknown"


# ------------------------------------------------------------------------------------------------ kafka


def partitions(rnd: random.Random) -> Case:
    """One or two logs; each process polls on from where it stopped. Then some of what was told is bent."""
    fresh = iter(range(100))
    held: dict[str, list[int]] = {"x": [], "y": []}
    names = "xy"[: rnd.randint(1, 2)]
    places: dict[tuple[int, str], int] = {}

    def draw() -> tuple[str, Any]:
        if rnd.random() < 0.5:
            return "poll", [["poll"]] * rnd.randint(1, 2)
        return "send", [["send", rnd.choice(names), next(fresh)] for _ in range(rnd.randint(1, 2))]

    def do(op: dict[str, Any]) -> Any:
        told: list[Any] = []
        for part in op["value"]:
            if part[0] == "send":
                held[part[1]].append(part[2])
                told.append(["send", part[1], [len(held[part[1]]) - 1, part[2]]])
                continue
            got = {}
            for name in names:
                begin = places.get((op["process"], name), 0)
                end = min(len(held[name]), begin + rnd.randint(1, 3))
                got[name] = [[offset, held[name][offset]] for offset in range(begin, end)]
                places[op["process"], name] = end
            told.append(["poll", got])
        return told

    operations = planned(rnd, draw, 9)
    happen(operations, do)
    for op in operations:
        if op["type"] != "ok" or rnd.random() > 0.15:
            continue
        for part in op["result"]:
            if part[0] == "send":
                part[2][0] += rnd.choice((-1, 1))
            for pairs in part[1].values() if part[0] == "poll" else ():
                if pairs and rnd.random() < 0.7:
                    rnd.choice(
                        (
                            pairs.pop,
                            pairs.reverse,
                            lambda p=pairs: p.append([p[-1][0] + 1, rnd.randrange(9)]),
                            lambda p=pairs: p.append(p[0]),
                        )
                    )()
    h = history(operations)
    said = kafka(h)
    return h, said.judgement + ", ".join(sorted(said.evidence.get("anomalies", {}))), in_log_order(h)


def in_log_order(h: History) -> str:
    """What is true of logs, each anomaly by its definition."""
    found = spans(h, ("send", "poll"), "")
    names: set[str] = set()
    sent: dict[tuple[str, int], Span] = {}
    at: set[tuple[str, int, int]] = set()
    polled: dict[tuple[str, int], int] = {}
    for span in found:
        for part in span.op.value:
            if part[0] == "send":
                sent[part[1], part[2]] = span
    for span in found:
        for part in span.op.result if span.happened else ():
            if part[0] == "send":
                at.add((part[1], part[2][0], part[2][1]))
            for key, pairs in part[1] if part[0] == "poll" else ():
                for offset, value in pairs:
                    at.add((key, offset, value))
                    polled[key, value] = min(span.ret, polled.get((key, value), 1 << 63))
    for key, value in polled:
        send = sent.get((key, value))
        if send is None or (send.op.type != "fail" and send.call > polled[key, value]):
            names.add("phantom")
        elif send.op.type == "fail":
            names.add("G1a")
    for (k1, o1, v1), (k2, o2, v2) in product(at, at):
        if k1 == k2 and (o1 == o2) != (v1 == v2):
            names.add("duplicate" if v1 == v2 else "inconsistent-offsets")
    for key, _, value in at:
        if (key, value) not in polled:
            last = max(o for k, o, v in at if (k, v) == (key, value))
            reads = [min(o for k, o, v in at if (k, v) == seen) for seen in polled if seen[0] == key]
            if reads and last <= max(reads):
                names.add("lost-write")
    for process in {span.op.process for span in found}:
        for what in ("send", "poll"):
            steps: list[tuple[int, str, int]] = []
            for number, span in enumerate(s for s in found if s.op.process == process and s.happened):
                for part in span.op.result:
                    if part[0] == what == "send":
                        steps.append((number, part[1], part[2][0]))
                    elif part[0] == what:
                        steps += [(number, key, offset) for key, pairs in part[1] for offset, _ in pairs]
            for key in "xy":
                mine = [(number, offset) for number, k, offset in steps if k == key]
                for (n1, o1), (n2, o2) in pairwise(mine):
                    within = "int-" if n1 == n2 else ""
                    between = {o for k, o, _ in at if k == key and o1 < o < o2}
                    if o2 <= o1:
                        names.add(f"{within}nonmonotonic-{what}")
                    elif between and what == "poll":
                        names.add(f"{within}{what}-skip")
    if names:
        return "invalid" + ", ".join(sorted(names))
    done = {span.op.f for span in found if span.happened}
    return "valid" if polled and sent and done == {span.op.f for span in found} else "unknown"


ORDERS: dict[str, Callable[[random.Random], Case]] = {
    "long-fork": forks,
    "monotonic": grown(False),
    "monotonic, timestamps": grown(True),
    "causal": registers,
    "causal-reverse": a_log(False),
    "causal-reverse, ordered": a_log(True),
    "kafka": partitions,
}

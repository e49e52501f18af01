"""The checkers of stores against slow but obvious judges of small histories, for `tests.fuzz`.

Each entry of STORES makes a history from a real structure, bends most of them, and returns it with what the
checker says and what brute force says.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from harness.checkers.counter_sum import counter
from harness.checkers.set_full import set_full
from harness.checkers.spans import Span, spans
from harness.checkers.total_queue import total_queue
from harness.history import History
from tests.fuzz_orders import ORDERS
from tests.fuzz_parts import Case, happen, orders, planned
from tests.unit.checkers.histories import history

# ---------------------------------------------------------------------------------------------- set-full


def a_grown_set(rnd: random.Random) -> History:
    fresh = iter(range(100))
    held: list[int] = []

    def draw() -> tuple[str, Any]:
        return ("read", None) if rnd.random() < 0.6 else ("add", next(fresh))

    def do(op: dict[str, Any]) -> Any:
        if op["f"] == "add":
            held.append(op["value"])
            return op["value"]
        return list(held)

    operations = planned(rnd, draw, 7)
    happen(operations, do)
    for op in operations:
        if op["f"] == "read":
            op["final"] = rnd.random() < 0.1
            if op["type"] == "ok" and rnd.random() < 0.25:
                elements = list(op["result"])
                if elements and rnd.random() < 0.6:
                    elements.remove(rnd.choice(elements))
                else:
                    elements.append(rnd.randrange(4))
                op["result"] = elements
    return history(operations)


def fates(h: History, linearizable: bool) -> str:
    """What is true of a grown set, element by element."""
    found = spans(h, ("add", "read"), "")
    reads = [span for span in found if span.op.f == "read" and span.happened]
    if any(count > 1 for read in reads for count in Counter(read.op.result).values()):
        return "invalid"
    stable = False
    elements = {span.op.value for span in found if span.op.f == "add"}
    for element in elements | {e for read in reads for e in read.op.result}:
        adds = [s for s in found if s.op.f == "add" and s.op.value == element and s.op.type != "fail"]
        having = [read for read in reads if element in read.op.result]
        if any(read.ret < min((add.call for add in adds), default=1 << 63) for read in having):
            return "invalid"
        known = min([s.ret for s in having] + [s.ret for s in adds if s.happened], default=1 << 63)
        late = [read for read in reads if read not in having and read.call > known]
        if any(read.op.final for read in late):
            return "invalid"
        every = list(orders(reads))
        for read in late:
            if not any(other in having for order in every for other in order[order.index(read) + 1 :]):
                return "invalid"
        if (
            linearizable
            and adds
            and not any(
                [other in having for other in order if other is not adds[0]]
                == [order.index(other) > order.index(adds[0]) for other in order if other is not adds[0]]
                for order in orders([*reads, adds[0]])
            )
        ):
            return "invalid"
        stable = stable or bool(having)
    return (
        "valid"
        if stable and all(kind in {s.op.f for s in found if s.happened} for kind in {s.op.f for s in found})
        else "unknown"
    )


def a_set(linearizable: bool) -> Callable[[random.Random], Case]:
    def case(rnd: random.Random) -> Case:
        h = a_grown_set(rnd)
        return h, set_full(h, linearizable).judgement, fates(h, linearizable)

    return case


# ------------------------------------------------------------------------------------------ total-queue


def a_queue(rnd: random.Random) -> Case:
    """Values may go in twice; at the end a drain that seldom crashes."""
    held: list[int] = []

    def draw() -> tuple[str, Any]:
        return ("dequeue", None) if rnd.random() < 0.45 else ("enqueue", rnd.randrange(4))

    def do(op: dict[str, Any]) -> Any:
        if op["f"] == "enqueue":
            held.append(op["value"])
            return op["value"]
        if op["f"] == "drain":
            taken = list(held)
            held.clear()
            return taken
        return held.pop(rnd.randrange(len(held))) if held else None

    operations = planned(rnd, draw, 6)
    last = max(op["end"] for op in operations)
    drained = [
        {"process": 50 + i, "f": "drain", "value": None, "type": rnd.choice(("ok", "ok", "ok", "ok", "info")),
         "start": last - 2 * i + 1, "end": last + 3, "at": last + 30 + i}
        for i in range(rnd.choice((0, 1, 1, 1, 1, 2)))
    ]  # fmt: skip
    operations += drained
    happen(operations, do)
    for op in operations:
        if op["type"] == "ok" and rnd.random() < 0.12:
            if op["f"] == "dequeue":
                op["result"] = rnd.choice((None, 0, 1, 2))
            elif op["f"] == "drain":
                op["result"] = op["result"][1:] if rnd.random() < 0.7 else [*op["result"], rnd.randrange(4)]
            else:
                op["type"] = "fail"
    h = history(operations)
    return h, total_queue(h).judgement, whereabouts(h)


def whereabouts(h: History) -> str:
    """What is true of a queue: some order explains what came out, and who can have got what did not."""
    found = spans(h, ("enqueue", "dequeue", "drain"), "")
    moves: list[tuple[Span, int, int]] = []  # an operation, a value, how many more there are after it
    for span in found:
        if span.op.f == "enqueue" and span.op.type != "fail":
            moves.append((span, span.op.value, 1))
        elif span.op.f != "enqueue" and span.happened:
            got = span.op.result if span.op.f == "drain" else (span.op.result,)
            moves += [(span, value, -1) for value in got if value is not None]
    for value in {value for _, value, _ in moves}:
        steps = [Span(move[0].op, move[0].call, move[0].ret) for move in moves if move[1] == value]
        change = [change for _, v, change in moves if v == value]
        where = {id(step): i for i, step in enumerate(steps)}
        if not any(
            min(sum(change[where[id(one)]] for one in order[: i + 1]) for i in range(len(order))) >= 0
            for order in orders(steps)
        ):
            return "invalid"
    drains = [span for span in found if span.op.f == "drain"]
    crashed = any(span.op.type == "info" for span in drains)
    done = [span for span in drains if span.happened]
    takers = sum(span.op.f == "dequeue" and span.op.type == "info" for span in found)
    lost = 0
    for value in {value for _, value, _ in moves} if done else ():
        due = sum(
            change > 0 and span.happened and span.ret < max(d.call for d in done)
            for span, v, change in moves if v == value
        )  # fmt: skip
        lost += max(0, due - sum(change < 0 for _, v, change in moves if v == value))
    if lost > takers and not crashed:
        return "invalid"
    shown = done and not (lost and crashed) and {span.op.f for span in found if span.happened}
    return "valid" if shown == {span.op.f for span in found} and "enqueue" in shown else "unknown"


# ---------------------------------------------------------------------------------------------- counter


def a_counter(amounts: Sequence[int]) -> Callable[[random.Random], Case]:
    def case(rnd: random.Random) -> Case:
        held = [0]

        def draw() -> tuple[str, Any]:
            return ("read", None) if rnd.random() < 0.35 else ("add", rnd.choice(amounts))

        def do(op: dict[str, Any]) -> Any:
            if op["f"] == "add":
                held[0] += op["value"]
                return op["value"]
            return held[0]

        operations = planned(rnd, draw, 10, crashes=rnd.choice((0, 1, 4)))
        happen(operations, do)
        for op in operations:
            if op["f"] == "read" and op["type"] == "ok" and rnd.random() < 0.3:
                op["result"] += rnd.choice((-2, -1, 1, 2, *amounts))
        h = history(operations)
        return h, counter(h).judgement, sums(h)

    return case


def sums(h: History) -> str:
    """What is true of a counter's reads: every choice of adds is tried for each."""
    found = spans(h, ("add", "read"), "")
    adds = [span for span in found if span.op.f == "add" and span.op.type != "fail"]
    reads = [span for span in found if span.op.f == "read" and span.happened]
    for read in reads:
        base = sum(add.op.value for add in adds if add.ret < read.call)
        free = [add.op.value for add in adds if add.ret > read.call and add.call < read.ret]
        choices = (tuple(n for i, n in enumerate(free) if bits >> i & 1) for bits in range(1 << len(free)))
        if all(base + sum(chosen) != read.op.result for chosen in choices):
            return "invalid"
    done = {span.op.f for span in found if span.happened}
    return "valid" if done == {span.op.f for span in found} and adds and reads else "unknown"


STORES: dict[str, Callable[[random.Random], Case]] = {
    "set-full": a_set(False),
    "set-full, linearizable": a_set(True),
    "total-queue": a_queue,
    "counter, by sums": a_counter((1, 1, 2, -1)),
    "counter, far apart": a_counter((3, 7, -10, 25)),
    **ORDERS,
}

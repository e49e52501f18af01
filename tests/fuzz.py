"""Every model's histories, made by a plain seeded generator, judged by the engine and by brute force.

    python -m tests.fuzz [N] [--seed S] [--model NAME]

A history comes from a real data structure: each operation takes effect at one instant inside its interval.
About half are bent afterwards: a result is replaced by another, or a failure told as a success. One that was
not bent must be valid: so the model itself is judged as well. Prints a line per model, ends with 1 where
anything disagrees. Models are judged side by side, each by a process of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from harness.checkers import (
    MODELS,
    Budget,
    counting,
    elements,
    fifo,
    lifo,
    native,
    priority,
    unique,
    versioned,
)
from harness.checkers.decide import decide, rows_of
from harness.checkers.kinds import Kinds
from harness.history import History
from tests.fuzz_registers import REGISTERS, fuzz_registers
from tests.fuzz_stores import STORES
from tests.unit.checkers.histories import history, spans, wing_gong
from tests.unit.checkers.txns import fuzz_cycles, fuzz_transactions

Done = tuple[str, Any]  # outcome and result


@dataclass
class Real:
    """A real structure: `draw` an operation, `do` it. `claims`: what a bent one may report, by f."""

    draw: Callable[[random.Random], tuple[str, Any]]
    do: Callable[[str, Any], Done]
    claims: dict[str, Callable[[random.Random], Any]] = field(default_factory=dict)


def small_int(rnd: random.Random) -> int:
    return rnd.randrange(3)


def register(cas: bool) -> Real:
    held: list[Any] = [None]

    def do(f: str, value: Any) -> Done:
        if f == "read":
            return "ok", held[0]
        if f == "write":
            held[0] = value
            return "ok", value
        if held[0] != value[0]:
            return "ok", False  # a refusal that somebody saw
        held[0] = value[1]
        return "ok", True

    def draw(rnd: random.Random) -> tuple[str, Any]:
        f = rnd.choice(("read", "read", "write", "cas") if cas else ("read", "write"))
        return f, {
            "read": None,
            "write": small_int(rnd),
            "cas": [rnd.choice((None, 0, 1, 2)), small_int(rnd)],
        }[f]

    return Real(
        draw, do, {"read": lambda rnd: rnd.choice((None, 0, 1, 2)), "cas": lambda rnd: rnd.random() < 0.5}
    )


def unique_register() -> Real:
    made, real = iter(range(100)), register(False)

    def draw(rnd: random.Random) -> tuple[str, Any]:
        return ("read", None) if rnd.random() < 0.5 else ("write", next(made))

    return Real(draw, real.do, {"read": lambda rnd: rnd.choice((None, 0, 1, 2, 3, 4))})


def versioned_register(unique: bool = False) -> Real:
    made = iter(range(100))
    held: list[Any] = [None, 0]

    def do(f: str, value: Any) -> Done:
        if f == "write":
            held[:] = [value, held[1] + (1 if held[1] % 3 else 2)]
        return "ok", list(held) if f == "read" else held[1]

    def draw(rnd: random.Random) -> tuple[str, Any]:
        return ("read", None) if rnd.random() < 0.6 else ("write", next(made) if unique else small_int(rnd))

    return Real(
        draw, do,
        {"read": lambda rnd: rnd.choice(([None, 0], [0, 2], [1, 3], [1, 5], [0, 3], [2, 5])),
         "write": lambda rnd: rnd.randrange(1, 7)},
    )  # fmt: skip


def multi_register() -> Real:
    held: dict[str, int] = {}

    def do(f: str, value: Any) -> Done:
        if f == "write":
            held.update(dict(value))
            return "ok", value
        return "ok", [[key, held.get(key)] for key in value]

    def draw(rnd: random.Random) -> tuple[str, Any]:
        keys = rnd.choice((["a"], ["b"], ["a", "b"]))
        return rnd.choice((("read", keys), ("write", [[key, small_int(rnd)] for key in keys])))

    return Real(draw, do, {"read": lambda rnd: [["a", rnd.choice((None, 0, 1, 2))]]})


def mapping() -> Real:
    held: dict[str, int] = {}

    def do(f: str, value: Any) -> Done:
        if f == "put":
            held[value[0]] = value[1]
        elif f == "delete":
            held.pop(value, None)
        return "ok", held.get(value) if f == "get" else value

    def draw(rnd: random.Random) -> tuple[str, Any]:
        f, key = rnd.choice(("put", "get", "get", "delete")), rnd.choice("ab")
        return f, [key, small_int(rnd)] if f == "put" else key

    return Real(draw, do, {"get": lambda rnd: rnd.choice((None, 0, 1, 2))})


def text(unique: bool) -> Real:
    held = [""]
    made = iter("abcdefghijklmnopqrstuvwxyz")

    def do(f: str, value: Any) -> Done:
        if f != "get":
            held[0] = (held[0] if f == "append" else "") + value
        return "ok", held[0] if f == "get" else value

    def draw(rnd: random.Random) -> tuple[str, Any]:
        f = rnd.choice(("get", "get", "append", "append", "put"))
        return f, None if f == "get" else next(made) if unique else rnd.choice(("a", "b", "ab", ""))

    def claim(rnd: random.Random) -> str:
        return "".join(rnd.choice("abc") for _ in range(rnd.randrange(4)))

    return Real(draw, do, {"get": claim})


def append_list() -> Real:
    held: list[int] = []

    def do(f: str, value: Any) -> Done:
        if f == "append":
            held.append(value)
        return "ok", list(held) if f == "read" else value

    def draw(rnd: random.Random) -> tuple[str, Any]:
        return ("read", None) if rnd.random() < 0.4 else ("append", small_int(rnd))

    return Real(draw, do, {"read": lambda rnd: [small_int(rnd) for _ in range(rnd.randrange(4))]})


def mutex(kind: str) -> Real:
    held: list[Any] = [None, 0]

    def do(f: str, value: Any) -> Done:
        if f == "acquire":
            if held[0] is not None:
                return "fail", None
            held[:] = [value, held[1] + 1]
            return "ok", held[1] if kind == "fenced" else value
        if held[0] is None or (kind == "owned" and held[0] != value):
            return "fail", None
        held[0] = None
        return "ok", value

    def draw(rnd: random.Random) -> tuple[str, Any]:
        return rnd.choice(("acquire", "acquire", "release")), rnd.randrange(2)

    return Real(draw, do, {"acquire": lambda rnd: rnd.randrange(1, 5)} if kind == "fenced" else {})


def counter(steps: tuple[int, ...] = (1, 1, 2, -1)) -> Real:
    held = [0]

    def do(f: str, value: Any) -> Done:
        held[0] += value if f == "add" else 0
        return "ok", held[0] if f == "read" else value

    def draw(rnd: random.Random) -> tuple[str, Any]:
        return ("read", None) if rnd.random() < 0.5 else ("add", rnd.choice(steps))

    return Real(draw, do, {"read": lambda rnd: rnd.randrange(-1, 5)})


def a_set(fs: tuple[str, ...] = ("add", "add", "remove", "contains", "read")) -> Real:
    held: set[int] = set()

    def do(f: str, value: Any) -> Done:
        if f == "add":
            held.add(value)
        elif f == "remove":
            held.discard(value)
        return "ok", {"contains": value in held, "read": sorted(held)}.get(f, value)

    def draw(rnd: random.Random) -> tuple[str, Any]:
        f = rnd.choice(fs)
        return f, None if f == "read" else small_int(rnd)

    return Real(
        draw, do,
        {"contains": lambda rnd: rnd.random() < 0.5,
         "read": lambda rnd: rnd.sample(range(3), rnd.randrange(4))},
    )  # fmt: skip


def items(put: str, take: str, place: Callable[[list[int]], int], unique: bool = False) -> Real:
    held: list[int] = []
    made = iter(range(100))

    def do(f: str, value: Any) -> Done:
        if f == put:
            held.append(value)
            return "ok", value
        return "ok", held.pop(place(held)) if held else None

    def draw(rnd: random.Random) -> tuple[str, Any]:
        return (take, None) if rnd.random() < 0.5 else (put, next(made) if unique else small_int(rnd))

    return Real(draw, do, {take: lambda rnd: rnd.choice((None, 0, 1, 2, *((3, 4, 5) if unique else ())))})


FAMILIES: dict[str, tuple[str, Callable[[random.Random], Real]]] = {
    "register": ("register", lambda rnd: register(False)),
    "register, values once": ("register", lambda rnd: unique_register()),
    "cas-register": ("cas-register", lambda rnd: register(True)),
    "multi-register": ("multi-register", lambda rnd: multi_register()),
    "versioned-register": ("versioned-register", lambda rnd: versioned_register()),
    "versioned-register, once": ("versioned-register", lambda rnd: versioned_register(unique=True)),
    "map": ("map", lambda rnd: mapping()),
    "text": ("text", lambda rnd: text(False)),
    "text, values once": ("text", lambda rnd: text(True)),
    "append-list": ("append-list", lambda rnd: append_list()),
    "mutex": ("mutex", lambda rnd: mutex("")),
    "owned-mutex": ("owned-mutex", lambda rnd: mutex("owned")),
    "fenced-mutex": ("fenced-mutex", lambda rnd: mutex("fenced")),
    "counter": ("counter", lambda rnd: counter()),
    "set": ("set", lambda rnd: a_set()),
    "queue": ("queue", lambda rnd: items("enqueue", "dequeue", lambda held: 0)),
    "queue, items once": ("queue", lambda rnd: items("enqueue", "dequeue", lambda held: 0, unique=True)),
    "unordered-queue": (
        "unordered-queue", lambda rnd: items("enqueue", "dequeue", lambda held: rnd.randrange(len(held)))
    ),
    "priority-queue": (
        "priority-queue", lambda rnd: items("enqueue", "dequeue", lambda held: held.index(min(held)))
    ),
    "priority-queue, once": (
        "priority-queue",
        lambda rnd: items("enqueue", "dequeue", lambda held: held.index(min(held)), unique=True),
    ),
    "stack": ("stack", lambda rnd: items("push", "pop", lambda held: -1)),
    "stack, items once": ("stack", lambda rnd: items("push", "pop", lambda held: -1, unique=True)),
    "counter, by one": ("counter", lambda rnd: counter((1,))),
    "set, by element": ("set", lambda rnd: a_set(("add", "remove", "contains", "contains", "contains"))),
}  # fmt: skip

# how the first engine judges where no search is needed; of nearly all cases it must find something
DIRECT: dict[str, Callable[[Kinds, list[int]], object]] = {
    "register, values once": unique.judged,
    "queue, items once": fifo.judged,
    "priority-queue, once": priority.judged,
    "stack, items once": lifo.judged,
    "counter, by one": counting.judged,
    "versioned-register, once": versioned.judged,
    "set, by element": lambda kinds, rows: elements.apart(kinds),
}


def drawn_history(rnd: random.Random, family: str, most: int = 10) -> tuple[History, bool]:
    """A history of a few operations of a real structure, and whether it was bent afterwards."""
    planned, bent = drawn(rnd, FAMILIES[family][1](rnd), most)
    return history(planned), bent


def drawn(rnd: random.Random, real: Real, most: int = 10) -> tuple[list[dict[str, Any]], bool]:
    """The operations of such a history."""
    clients = rnd.randint(1, 5)
    clocks = {process: rnd.randint(0, 4) for process in range(clients)}
    planned: list[dict[str, Any]] = []
    for _ in range(rnd.randint(2, most)):
        process = rnd.choice(list(clocks))
        start = clocks.pop(process) + rnd.randint(0, 3)
        end = start + rnd.randint(0, 9)
        f, value = real.draw(rnd)
        op = {"process": process, "f": f, "value": value, "start": start, "end": end}
        op["known"] = rnd.random() < 0.85
        op["at"] = rnd.uniform(start, end if op["known"] else end + 10)
        op["happens"] = op["known"] or rnd.random() < 0.6
        clocks[process if op["known"] else process + clients] = end + rnd.randint(1, 3)
        planned.append(op)
    for op in sorted(planned, key=lambda o: float(o["at"])):
        outcome, result = real.do(op["f"], op["value"]) if op["happens"] else ("ok", None)
        op["type"] = outcome if op["known"] else "info"
        op["result"] = result
    bent = rnd.random() < 0.7
    if bent:
        for op in rnd.sample(planned, min(len(planned), rnd.choice((1, 1, 2, 3)))):
            if op["type"] == "fail":
                op["type"] = "ok"
                if "acquire" in real.claims and op["f"] == "acquire":
                    op["result"] = real.claims["acquire"](rnd)
                else:
                    op.pop("result")
            elif op["f"] in real.claims and op["type"] == "ok":
                op["result"] = real.claims[op["f"]](rnd)
            elif op["type"] == "ok":
                op["type"] = "fail"
    return planned, bent


def verdicts(h: History, model: str) -> dict[str, str]:
    """What each engine says of a history of one key."""
    said: dict[str, str] = {}
    kernel = native.KERNEL
    built = ("native", "native, no zones") if kernel is not None else ()
    for name in (*built, "python", "python, inferred"):
        kinds = Kinds(h.columns, MODELS[model])
        if name == "python, inferred" and not kinds.infer(400):
            continue
        if name == "native, no zones":
            kinds.infer(400 if len(h) % 2 else 0)
            found = native.Asked(kinds).run(None, native.NEVER, 1 << 20, zones=False, beam=1)[2]
            said[name] = found[0].answer.lower() if found else "valid"
            continue
        native.KERNEL = kernel if name == "native" else None
        try:
            decision = decide(kinds, Budget(), monotonic() + 60)
        finally:
            native.KERNEL = kernel
        said[name] = decision.finding.judgement
    return said


def fuzz(family: str, seed: int, cases: int) -> tuple[int, list[str]]:
    """How many of the cases are illegal, and what disagrees."""
    rnd = random.Random(f"fuzz/{family}/{seed}")
    illegal, direct, wrong = 0, 0, []
    for case in range(cases):
        h, bent = drawn_history(rnd, family)
        model = FAMILIES[family][0]
        if family in DIRECT:
            direct += DIRECT[family](Kinds(h.columns, MODELS[model]), rows_of(h.columns, 0)) is not None
        true = wing_gong(spans(h), model)
        illegal += not true
        if not true and not bent:
            wrong.append(f"case {case}: a real one is illegal: {list(h.operations)}")
        for engine, said in verdicts(h, model).items():
            if said != ("valid" if true else "invalid"):
                wrong.append(f"case {case}: {engine} says {said}, brute force {true}: {list(h.operations)}")
    if family in DIRECT and direct < 0.9 * cases:
        wrong.append(f"only {direct} of {cases} were judged without a search")
    return illegal, wrong


def fuzz_store(family: str, seed: int, cases: int) -> tuple[int, list[str]]:
    """The same of a checker of `tests.fuzz_stores`."""
    rnd = random.Random(f"fuzz/{family}/{seed}")
    illegal, wrong = 0, []
    for case in range(cases):
        h, said, true = STORES[family](rnd)
        illegal += true.startswith("invalid")
        if said != true:
            wrong.append(f"case {case}: it says {said}, brute force {true}: {list(h.operations)}")
    return illegal, wrong


# Judged by oracles of their own: (seed, cases) -> how many are illegal, what disagrees.
OTHERS: dict[str, Callable[[int, int], tuple[int, list[str]]]] = {
    "list-append": lambda seed, cases: fuzz_transactions(seed, cases, lists=True),
    "rw-register": lambda seed, cases: fuzz_transactions(seed, cases, lists=False),
    "rw-register, predicates": lambda seed, cases: fuzz_transactions(
        seed, cases, lists=False, predicates=True
    ),
    "cycles": fuzz_cycles,
    **{name: partial(fuzz_registers, name) for name in REGISTERS},
    **{family: partial(fuzz_store, family) for family in STORES},
}


def judged(family: str, seed: int, cases: int) -> tuple[int, list[str]]:
    """What `fuzz` says, or who judges the family otherwise."""
    return OTHERS[family](seed, cases) if family in OTHERS else fuzz(family, seed, cases)


def main() -> int:
    """Print the table; 1 where anything disagrees, or too few of one sort to show anything."""
    parser = argparse.ArgumentParser(description="the engine against brute force")
    parser.add_argument("cases", type=int, nargs="?", default=2000, help="of each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", choices=sorted([*FAMILIES, *OTHERS]))
    options = parser.parse_args()
    failed = False
    families = [options.model] if options.model else [*FAMILIES, *OTHERS]
    print(f"{'model':<24}{'cases':>9}{'illegal':>9}{'mismatches':>12}   judged by {native.kernel()}")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(judged, family, options.seed, options.cases) for family in families]
        for family, job in zip(families, jobs, strict=True):
            illegal, wrong = job.result()
            share = illegal / options.cases
            failed = failed or bool(wrong) or not 0.2 <= share <= 0.8
            print(f"{family:<24}{options.cases:>9,}{share:>9.0%}{len(wrong):>12}", flush=True)
            for line in wrong[:3]:
                print(f"  {line}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""What is judged of registers by versions, against brute force: cases for `tests.fuzz`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from harness.checkers import (
    Checker,
    coherent,
    monotonic_reads,
    monotonic_writes,
    no_dirty_read,
    no_non_monotonic_read,
    no_stale_read,
    read_your_writes,
    writes_follow_reads,
)
from harness.history import History
from harness.verdict import Verdict
from tests.unit.checkers import registers

Case = tuple[History, str, str]  # what the checker says of it, and what is true

SESSIONS: Mapping[str, Checker] = {
    "read-your-writes": read_your_writes,
    "monotonic-reads": monotonic_reads,
    "monotonic-writes": monotonic_writes,
    "writes-follow-reads": writes_follow_reads,
}
ANOMALIES: Mapping[Checker, set[str]] = {
    no_dirty_read: {"dirty read", "future read", "unwritten value"},
    no_stale_read: {"stale read"},
    no_non_monotonic_read: {"non-monotonic read"},
}


def said(verdict: Verdict, history: History, true: str) -> str:
    """The judgement, vacuity aside; several rmws of unknown outcome may leave it unknown."""
    if verdict.cause == "vacuous" and true != "invalid":
        return true
    lost = sum(op.f == "rmw" and op.type == "info" for op in history.operations)
    return true if verdict.judgement == "unknown" and lost > 1 else verdict.judgement


def session(name: str) -> Callable[[random.Random], Case]:
    """A history of one register that lags, judged by a session guarantee; drawn again if it broke none."""

    def case(rnd: random.Random) -> Case:
        for _ in range(2):
            h = registers.lagging(rnd, most=16, repeats=rnd.random() < 0.03, hard=True)
            true = registers.judged(h, name)
            if true == "invalid":
                break
        return h, said(SESSIONS[name](h), h, true), true

    return case


def coherence(rnd: random.Random) -> Case:
    """The same by coherence."""
    h = registers.lagging(rnd, repeats=rnd.random() < 0.3)
    fits = all(registers.interleaved(h, ops) for ops in registers.by_key(h))
    true = "valid" if fits else "invalid"
    return h, said(coherent(h), h, true), true


def reads(rnd: random.Random) -> Case:
    """The same by the anomalies of reads, whose names are to be the same."""
    h = registers.lagging(rnd, repeats=rnd.random() < 0.3)
    true = registers.anomalies(h)
    found = {name for checker in ANOMALIES for name in checker(h).evidence.get("anomalies", ())}
    judgement = "invalid" if true else "valid"
    return h, judgement if found == true else f"{sorted(found)}, not {sorted(true)}", judgement


REGISTERS: Mapping[str, Callable[[random.Random], Case]] = {
    **{name: session(name) for name in SESSIONS},
    "coherence": coherence,
    "stale, dirty, back": reads,
}


def fuzz_registers(name: str, seed: int, cases: int) -> tuple[int, list[str]]:
    """How many of the cases are illegal, and what disagrees."""
    rnd = random.Random(f"fuzz/{name}/{seed}")
    illegal, wrong = 0, []
    for case in range(cases):
        h, it_says, true = REGISTERS[name](rnd)
        illegal += true == "invalid"
        if it_says != true:
            wrong.append(f"case {case}: it says {it_says}, brute force {true}: {list(h.operations)}")
    return illegal, wrong

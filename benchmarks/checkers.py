"""How fast linearizability is judged, beside a plain Wing-Gong-Lowe search in Python in the same run.

    python -m benchmarks.checkers [--quick]

Each line is one generated history of registers; `ratio` is how many times longer the plain search takes on
the same operations, with the same model and the same step function. It is given ten times as long, and
``>`` says that it had not ended by then. Preparation is included on both sides, parsing on neither.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from harness.checkers import Inconsistent, Model, linearizable, model
from harness.checkers.model import NOT_KNOWN
from harness.history import History
from tests.unit.checkers.histories import simulated, spans

PATIENCE = 10.0  # times as long as ours
AT_LEAST = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Case:
    """One history: `values` None means that each value is written once."""

    operations: int
    clients: int
    keys: int
    values: int | None = None
    unknown: float = 0.0
    bend: bool = False

    def history(self) -> History:
        """The same history each time."""
        return simulated(
            1, self.operations, self.clients, keys=self.keys, values=self.values, unknown=self.unknown,
            bend=self.bend,
        )  # fmt: skip

    def __str__(self) -> str:
        values = "unique" if self.values is None else f"{self.values} values"
        kind = "bad" if self.bend else "ok"
        return (
            f"{self.operations:>7,} c{self.clients:<3} keys {self.keys:<3} {values:<8} "
            f"unknown {self.unknown:<6.1%} {kind:<3}"
        )


CASES = (
    Case(1_000, 5, 1),
    Case(1_000, 5, 1, values=5),
    Case(1_000, 10, 1, unknown=0.01, bend=True),
    Case(1_000, 20, 1, values=5),
    Case(1_000, 20, 3, unknown=0.02, bend=True),
    Case(10_000, 5, 1),
    Case(10_000, 10, 1, values=5),
    Case(10_000, 10, 3, unknown=0.01),
    Case(10_000, 20, 3, unknown=0.005),
    Case(10_000, 50, 10, unknown=0.005),
    Case(100_000, 5, 1),
    Case(100_000, 10, 3),
    Case(100_000, 20, 10, unknown=0.0005),
)


def plain(operations: Sequence[tuple[int, float, Any]], machine: Model, patience: float) -> bool | None:
    """Wing & Gong's search with Lowe's cache over a linked list of events; None where patience ran out."""
    deadline = perf_counter() + patience
    events: list[tuple[float, int, int]] = []
    for i, (call, back, _) in enumerate(operations):
        events += [(call, 0, i), (back, 1, i)]
    events.sort()
    size = len(events)
    after, before = list(range(1, size + 3)), list(range(-1, size + 1))
    place = {(kind, i): at + 1 for at, (_, kind, i) in enumerate(events)}
    must = sum(1 for _, back, _ in operations if back != float("inf"))
    calls: list[tuple[int, Any, int]] = []
    seen: set[tuple[int, Any]] = set()
    state, done, steps = machine.initial, 0, 0
    at = after[0]
    while must:
        steps += 1
        if not steps & 1023 and perf_counter() > deadline:
            return None
        kind, i = events[at - 1][1:]
        if kind == 0:
            op = operations[i][2]
            to = machine.step(state, op.f, op.value, op.result if op.type == "ok" else NOT_KNOWN)
            mark = (done | 1 << i, to)
            if not isinstance(to, Inconsistent) and mark not in seen:
                seen.add(mark)
                calls.append((i, state, done))
                state, done = to, mark[0]
                must -= operations[i][1] != float("inf")
                for gone in (at, place[1, i]):
                    after[before[gone]], before[after[gone]] = after[gone], before[gone]
                at = after[0]
            else:
                at = after[at]
            continue
        if not calls:
            return False
        i, state, done = calls.pop()
        must += operations[i][1] != float("inf")
        for back in (place[1, i], place[0, i]):
            after[before[back]] = before[after[back]] = back
        at = after[place[0, i]]
    return True


def measure(case: Case) -> str:
    """One line of the table. Raises AssertionError where the two disagree."""
    history = case.history()
    began = perf_counter()
    verdict = linearizable(history)
    ours = perf_counter() - began
    keys = [spans(history, key=key) for key in history.columns.keys.values[1:]]
    patience = max(AT_LEAST, PATIENCE * ours)
    began = perf_counter()
    answers: list[bool | None] = []
    for operations in keys:
        answers.append(plain(operations, model("cas-register"), patience - (perf_counter() - began)))
        if answers[-1] is not True:
            break
    theirs = perf_counter() - began
    if False in answers:
        assert verdict.judgement == "invalid", case
    elif None not in answers:
        assert verdict.judgement == "valid", case
    size = f"{len(verdict.witness.operations)} ops" if verdict.witness else "-"
    more = ">" if None in answers else " "
    return (
        f"{case}  {verdict.judgement:<8} {ours * 1000:>9,.1f} ms  {len(history) / ours:>9,.0f} ops/s  "
        f"witness {size:<6}  plain {more}{theirs * 1000:>9,.1f} ms  ratio {more}{theirs / ours:>6.1f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="time the linearizability checker")
    parser.add_argument("--quick", action="store_true", help="only histories of at most 1,000 operations")
    quick = parser.parse_args().quick
    for case in CASES:
        if case.operations <= 1_000 or not quick:
            print(measure(case), flush=True)


if __name__ == "__main__":
    main()

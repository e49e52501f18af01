"""Small random histories, operation by operation, and every order that they may have happened in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.checkers.spans import Span
from harness.history import History

Case = tuple[History, str, str]  # what the checker says, and what is true
Planned = list[dict[str, Any]]


def planned(
    rnd: random.Random, draw: Callable[[], tuple[str, Any]], most: int = 8, crashes: int = 1
) -> Planned:
    """Operations of a few processes, each with the instant `at` which it takes effect, or None."""
    clients = rnd.randint(1, 4)
    clocks = {process: rnd.randint(0, 4) for process in range(clients)}
    found = []
    for _ in range(rnd.randint(2, most)):
        process = rnd.choice(list(clocks))
        start = clocks.pop(process) + rnd.randint(0, 3)
        end = start + rnd.randint(0, 9)
        f, value = draw()
        kind = rnd.choices(("ok", "info", "fail"), (16, 3 * crashes, 1))[0]
        instant = None if kind == "fail" else rnd.uniform(start, end)
        if kind == "info":
            instant = rnd.choice((None, start + rnd.uniform(0, 20)))
        found.append(
            {"process": process, "f": f, "value": value, "type": kind, "start": start, "end": end,
             "at": instant}
        )  # fmt: skip
        clocks[process + clients if kind == "info" else process] = end + rnd.randint(1, 3)
    return found


def happen(operations: Planned, do: Callable[[dict[str, Any]], Any]) -> None:
    """Let those that take effect do so in their order; what `do` returns is the result."""
    for op in sorted((op for op in operations if op["at"] is not None), key=lambda op: float(op["at"])):
        op["result"] = do(op)


def orders(found: Sequence[Span], done: tuple[Span, ...] = ()) -> Iterator[tuple[Span, ...]]:
    """Every order that respects what surely came before what."""
    left = [span for span in found if not any(span is other for other in done)]
    if not left:
        yield done
    first = min((span.ret for span in left), default=0)
    for span in left:
        if span.call <= first:
            yield from orders(found, (*done, span))

"""How the time of a judgement grows with the length of a history and with how much is open at once."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import logs
from benchmarks.plot import Line, plot
from harness.history import History

ROOT = Path(__file__).parent.parent
LENGTHS, CLIENTS = (1_000, 3_000, 10_000, 30_000, 100_000), (2, 5, 10, 20, 50)
LONGEST = 2.0  # seconds of one judgement, from which on a line ends

Judge = Callable[[Sequence[logs.Event]], tuple[float, bool]]  # seconds, whether it answered


def against_length(
    ours: Callable[[History], float], slow: Callable[[History], float], peer: Judge | None
) -> list[Line]:
    """One cas-register of 5, 20 and 50 clients, ever more operations; the others with 5 clients."""
    lines = []
    for clients in (5, 20, 50):
        cells = [(n, logs.generated(n, clients)) for n in LENGTHS]
        lines.append(
            _line(f"native, {clients} clients", cells, lambda e: (ours(logs.history(e, True)), True))
        )
        if clients == 5:
            few = cells
    lines.append(_line("Python, 5 clients", few, lambda e: (slow(logs.history(e, True)), True)))
    if peer is not None:
        lines.append(_line("Porcupine, 5 clients", few, peer))
    return lines


def against_clients(
    ours: Callable[[History], float], slow: Callable[[History], float], peer: Judge | None
) -> list[Line]:
    """One cas-register, 1,000 operations by ever more clients."""
    cells = [(clients, logs.generated(1_000, clients)) for clients in CLIENTS]
    lines = [
        _line("native", cells, lambda e: (ours(logs.history(e, True)), True)),
        _line("Python", cells, lambda e: (slow(logs.history(e, True)), True)),
    ]
    if peer is not None:
        lines.append(_line("Porcupine", cells, peer))
    return lines


def _line(name: str, cells: Iterable[tuple[int, Sequence[logs.Event]]], judge: Judge) -> Line:
    points = []
    for x, events in cells:
        seconds, answered = judge(events)
        points.append((float(x), seconds))
        if not answered:
            return Line(name, tuple(points), unanswered=True)
        if seconds > LONGEST:
            break
    return Line(name, tuple(points))


def texts(lines: Sequence[Line], across: str) -> list[str]:
    """The points of a plot as a table."""
    longest = max((line.points for line in lines), key=len)
    found = [f"{across:<24}" + "".join(f"{x:>14,.0f}" for x, _ in longest)]
    for line in lines:
        told = [f"{1000 * y:>11.2f} ms" for _, y in line.points]
        if line.unanswered:
            told[-1] = f">{told[-1][1:]}"
        found.append(f"{line.name:<24}" + "".join(told))
    return found


PAGE = """# How fast histories are judged

Written by `python -m benchmarks.checkers --write` on {when}: {machine}, Python {python}, commit {commit}.
Porcupine is version 1.3.1, built with {go}; both judged the same histories in the same run, beside whatever
else the machine was doing, so that ratios say more than times. A judgement that both reached and that
differed would have ended the run. `make bench` measures it again.

## Side by side with Porcupine

Medians; *ratio* is Porcupine's time by ours. The first part is the decision alone, from the history in
memory, preparation included; *from text* parses as well, on both sides; *a process* is from its start to
its end. *in Python* is what judges where no compiler was at hand when the package was installed: the
same search and never another verdict, only slower: *unknown* is where 60 s were not enough.

```text
{tables}
```

## One register, few and many clients

One cas-register: operations, clients (c), crashed ones; *stale* has one read near the end of a value that
was overwritten long ago and had been written three times. {seeds} Median of a cell, the longest of it, and
the memory that judging took beyond the history.

```text
{grid}
```

## How it grows

The cost is linear in the length of a history and exponential only in how much is open at once, which the
beam of the search keeps from being seen on all but the hardest histories.

![Time against the number of operations](performance-length.svg)

```text
{length}
```

![Time against the number of clients](performance-clients.svg)

```text
{clients}
```

What stays hard: many clients on one key that hold many values open, and a violation that only shows when
all of them are taken together. Deciding linearizability is NP-complete, and a budget of time and memory
ends in *unknown*, with the longest explained beginning, never in a guess.
"""


def page(tables: Sequence[str], grid: Sequence[str], length: Sequence[Line], clients: Sequence[Line]) -> None:
    """Write docs/performance.md and its two plots."""
    docs = ROOT / "docs"
    (docs / "performance-length.svg").write_text(
        plot("One cas-register: time against length", "operations", length)
    )
    (docs / "performance-clients.svg").write_text(
        plot("1,000 operations on one cas-register: time against concurrency", "clients", clients)
    )
    (docs / "performance.md").write_text(
        PAGE.format(
            when=datetime.now(UTC).date(),
            machine=f"{platform.system()} {platform.machine()}, {_cores()} cores",
            python=platform.python_version(),
            commit=_said("git", "rev-parse", "--short", "HEAD"),
            go=_said("go", "version").removeprefix("go version ").split(" ")[0],
            tables="\n".join(tables),
            seeds=f"{grid[0][0].upper()}{grid[0][1:]}.",
            grid="\n".join(grid[1:]),
            length="\n".join(texts(length, "operations")),
            clients="\n".join(texts(clients, "clients")),
        )
    )


def _cores() -> int:
    return sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


__all__ = ["against_clients", "against_length", "page", "texts"]

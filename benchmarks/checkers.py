"""How fast linearizability is judged, side by side with Porcupine on the same histories in the same run.

    python -m benchmarks.checkers [--quick] [--grid] [--growth] [--write] [--times 7] [--seed N]

Porcupine (github.com/anishathalye/porcupine) is built here with the Go tool chain, and its own logs, which
come with the module, are judged by both; without Go only this engine is timed. Times are medians of the
decision alone, from the history in memory, preparation included; then from the text file, parsing included on
both sides, and what a process costs from start to end. ``>`` says that Porcupine had not ended after its
patience. `--grid` judges one cas-register of {1k, 10k, 100k} operations by {5, 10, 20, 50} clients, {0, 10,
20} of them crashed, instead, each cell in a process of its own, and says what was not answered in time;
`--growth` how time grows with length and concurrency. `--write` does all of it and writes
docs/performance.md, with the plots.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import Any

from benchmarks import growth, logs
from benchmarks.plot import Line
from harness.checkers import NOT_KNOWN, Budget, Inconsistent, Model, list_append, model, native
from harness.checkers.decide import decide
from harness.checkers.kinds import Kinds
from harness.history import History
from harness.interchange import read

HERE = Path(__file__).parent
MODULE = "github.com/anishathalye/porcupine"
PATIENCE = 15.0  # seconds for one judgement of Porcupine
SKIPPED = "etcd_095.log"  # Porcupine's own tests leave it out: it has a client that speaks twice at once
LONGEST = {1_000: (0.010, 1.0), 10_000: (0.100, 2.0), 100_000: (1.0, 5.0)}  # seconds: median, single one
MEGABYTES = 300
CLIENTS, CRASHED = (5, 10, 20, 50), (0, 10, 20)
SEEDS = 5
SETTLED = 0.01  # seconds for which what takes microseconds is judged again, as what takes milliseconds is
ROUNDS = 5  # of one and the other in turn, since a machine is not as fast at all times
TOGETHER = 6  # of many small files judged by one before the other's turn


def in_python() -> Model:
    """A cas-register as a user would write it: one function, of which the engine knows nothing else."""

    def register(state: Any, op: Any) -> Any:
        if op.f == "read":
            return state if op.result == state else Inconsistent(f"read {op.result}, not {state}")
        if op.f == "write":
            return op.value
        old, new = op.value
        if op.result is not NOT_KNOWN and op.result != (state == old):
            return Inconsistent(f"compared {state} with {old}")
        return new if state == old else state

    return Model.of(register, reads=("read",))


class Peer:
    """Porcupine as a program; `judge` files, None where it cannot be built here."""

    def __init__(self, where: Path) -> None:
        self.program = where / "peer"
        shutil.copy(HERE / "porcupine/main.go", where)
        for command in (["mod", "init", "peer"], ["get", f"{MODULE}@v1.3.1"], ["build", "-o", "peer"]):
            subprocess.run(["go", *command], cwd=where, check=True, capture_output=True, text=True)
        listed = subprocess.run(
            ["go", "list", "-m", "-f", "{{.Dir}}", MODULE],
            cwd=where,
            check=True,
            capture_output=True,
            text=True,
        )
        self.data = Path(listed.stdout.strip()) / "test_data"

    def judge(self, files: Sequence[Path], times: int) -> list[dict[str, Any]]:
        """A line about each file: result (Ok, Illegal, Unknown), seconds of the median, of parsing."""
        command = [str(self.program), "-times", str(times), "-patience", str(PATIENCE), *map(str, files)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]


def judged(history: History, machine: Model, times: int) -> tuple[float, str]:
    """Seconds of the median, and the judgement."""
    took: list[float] = []
    judgement, budget = "", Budget(60.0)
    while len(took) < times or (times > 1 and sum(took) < SETTLED):
        began = perf_counter()
        judgement = decide(Kinds(history.columns, machine), budget, monotonic() + 60.0).finding.judgement
        took.append(perf_counter() - began)
        if sum(took) > 5:
            break
    return statistics.median(took), judgement


SAME = {"valid": "Ok", "invalid": "Illegal", "unknown": "Unknown"}


def line(name: str, ours: float, judgement: str, theirs: float | None, result: str = "") -> str:
    """One line of a table. Raises AssertionError where both answered, and differently."""
    text = f"{name:<50}{judgement:<9}{1000 * ours:>10.3f} ms"
    if theirs is None:
        return text
    known = {SAME.get(judgement, ""), result} - {"Unknown", ""}
    assert len(known) < 2, (name, judgement, result)
    more = ">" if result == "Unknown" else " "
    return f"{text}   Porcupine {more}{1000 * theirs:>11.3f} ms   ratio {more}{theirs / ours:>9.1f}"


def side_by_side(
    peer: Peer | None, where: Path, name: str, events: Iterable[logs.Event], keyed: bool, machine: Model,
    times: int, rounds: int = 1,
) -> Iterator[str]:  # fmt: skip
    """One history, judged by both in turn, and by ours without its kernel."""
    events = list(events)
    history, path = logs.history(events, keyed), where / "history.txt"
    if peer is not None:
        logs.for_porcupine(events, keyed, path)
    theirs, ours, without = [], [], []
    for _ in range(rounds):
        if peer is not None:
            theirs += peer.judge([path], times)
        ours.append(judged(history, machine, times))
        with fallback():
            without.append(judged(history, machine, times))
    its = statistics.median(told["median"] for told in theirs) if theirs else None
    result = theirs[0]["result"] if theirs else ""
    for shown, took in ((name, ours), (f"{name}, in Python", without)):
        yield line(shown, statistics.median(seconds for seconds, _ in took), took[0][1], its, result)


def etcd(peer: Peer, where: Path, times: int) -> Iterator[str]:
    """Porcupine's logs of etcd, all together and both in turn: times are sums of medians, over the rounds."""
    paths = [path for path in sorted((peer.data / "jepsen").glob("etcd_*.log")) if path.name != SKIPPED]
    histories = [logs.history(logs.etcd(path), False) for path in paths]
    texts = [where / path.name for path in paths]
    for path, to in zip(paths, texts, strict=True):
        logs.for_porcupine(logs.etcd(path), False, to)
    ways = (
        ("native", model("cas-register"), False),
        ("model in Python", in_python(), False),
        ("in Python", model("cas-register"), True),
    )
    theirs = [0.0] * ROUNDS
    ours = {name: [0.0] * ROUNDS for name, _, _ in ways}
    for place, begin in product(range(ROUNDS), range(0, len(paths), TOGETHER)):
        some = slice(begin, begin + TOGETHER)
        told = peer.judge(texts[some], times)
        theirs[place] += sum(each["median"] for each in told)
        for name, machine, without in ways:
            with fallback() if without else nullcontext():
                answers = [judged(history, machine, times) for history in histories[some]]
            for path, (_, judgement), each in zip(paths[some], answers, told, strict=True):
                assert SAME[judgement] == each["result"], path
            ours[name][place] += sum(seconds for seconds, _ in answers)
    for name, took in ours.items():
        shown = f"{len(paths)} etcd logs, same verdicts, {name}"
        yield line(shown, statistics.median(took), "", statistics.median(theirs))


@contextmanager
def fallback() -> Iterator[None]:
    """Judge without the native kernel, as where there is no compiler."""
    kernel, native.KERNEL = native.KERNEL, None
    try:
        yield
    finally:
        native.KERNEL = kernel


def from_text(peer: Peer | None, where: Path, times: int) -> Iterator[str]:
    """A key-value history from memory, and from the file that Porcupine's own parser reads; both in turn."""
    name, path, machine = "100,000 get, put, append, 500 keys", where / "kv.txt", model("text")
    logs.as_texts(logs.texts_generated(100_000, 20, 500), path)
    theirs: list[tuple[float, float]] = []
    ours: list[tuple[float, float]] = []
    judgement = result = ""
    for _ in range(times):
        if peer is not None:
            told = peer.judge([path], 1)[0]
            theirs.append((told["median"], told["median"] + told["parsing"]))
            result = told["result"]
        began = perf_counter()
        history = read(path)
        parsing = perf_counter() - began
        seconds, judgement = judged(history, machine, 1)
        ours.append((seconds, seconds + parsing))
    for place, what in enumerate(("", ", from text")):
        middle = statistics.median(both[place] for both in ours)
        its = statistics.median(both[place] for both in theirs) if theirs else None
        yield line(f"{name}{what}", middle, judgement, its, result)
    yield process(peer, path, path, "text", f"{name}, a process")


def process(peer: Peer | None, path: Path, for_peer: Path, machine: str, name: str) -> str:
    """From the start of a process to its end, with reading the file."""
    ours, code, _ = command([*CHECK, "--model", machine, str(path)])
    judgement = {0: "valid", 1: "invalid"}.get(code, "unknown")
    if peer is None:
        return line(name, ours, judgement, None)
    began = perf_counter()
    told = peer.judge([for_peer], 1)[0]
    return line(name, ours, judgement, perf_counter() - began, told["result"])


CHECK = (sys.executable, "-m", "harness", "check")


def command(words: Sequence[str]) -> tuple[float, int, float]:
    """Seconds that a command takes, its exit code, and the megabytes that it had at most."""
    began = perf_counter()
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=HERE.parent)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return perf_counter() - began, child.returncode, used.ru_maxrss / 1024


def million(where: Path) -> str:
    """A million operations as a run of ours leaves them, loaded and judged by a process of its own."""
    path = where / "history.jsonl.gz"
    # made by another process: a child is said to have had at least what its parent had when it began
    command([sys.executable, "-m", "benchmarks.checkers", "--million", str(path)])
    took, code, megabytes = command([*CHECK, str(path)])
    judgement = {0: "valid", 1: "invalid"}.get(code, "unknown")
    shown = line("1,000,000 operations, 1,000 keys, a process", took, judgement, None)
    return f"{shown}  {megabytes:>6.0f} MB (asked: 20 s, 2,000 MB)"


def tables(peer: Peer | None, where: Path, times: int, quick: bool) -> Iterator[str]:
    """All that is measured, a line each."""
    cas, text = model("cas-register"), model("text")
    if peer is not None:
        yield from etcd(peer, where, times)
        for path in sorted((peer.data / "kv").glob("*.txt")):
            name = f"kv log {path.name}"
            yield from side_by_side(peer, where, name, logs.texts(path), True, text, times, ROUNDS)
    yield from from_text(peer, where, times)
    for stale in (False, True):
        name = f"100,000 operations, 500 keys, {'stale' if stale else 'ok'}"
        events = logs.generated(100_000, 20, keys=500, stale=stale)
        yield from side_by_side(peer, where, name, events, True, cas, times)
    for operations, clients, crashed, stale in (
        (1_000, 5, 0, False), (1_000, 5, 10, True), (1_000, 10, 0, True), (1_000, 20, 0, False),
        (10_000, 5, 0, True), (10_000, 10, 10, False), (10_000, 50, 20, True),
    ):  # fmt: skip
        if operations > 1_000 and quick:
            continue
        name = f"{operations:,} c{clients} crashed {crashed} {'stale' if stale else 'ok'}"
        events = logs.generated(operations, clients, crashed=crashed, stale=stale)
        yield from side_by_side(peer, where, name, events, True, cas, times)
    yield from lists(times)
    if peer is not None:
        path, written = peer.data / "jepsen/etcd_000.log", where / "etcd_000.log"
        logs.for_porcupine(logs.etcd(path), False, written)
        yield process(peer, path, written, "cas-register", "etcd_000.log, a process")
        path = peer.data / "kv/c50-ok.txt"
        yield process(peer, path, path, "text", "kv log c50-ok.txt, a process")
    if not quick:
        yield million(where)


def lists(times: int) -> Iterator[str]:
    """Transactions on lists, by all models of consistency at once; Porcupine has none for them."""
    for stale in (False, True):
        history = History.from_events(logs.transactions(100_000, 20, stale=stale))
        took = []
        for _ in range(times):
            began = perf_counter()
            judgement = list_append(history).judgement
            took.append(perf_counter() - began)
            if sum(took) > 20:
                break
        name = f"list-append, 100,000 transactions{', stale' if stale else ''}"
        yield line(name, statistics.median(took), judgement, None)


def grid(seed: int, quick: bool) -> Iterator[str]:
    """Each cell in a process of its own, for its memory; at the end what was not kept."""
    yield f"{SEEDS} seeds a cell, from {seed}"
    failed = []
    for operations, (asked, longest) in LONGEST.items():
        if operations > 10_000 and quick:
            continue
        medians, most = [], 0.0
        for clients, crashed, stale in product(CLIENTS, CRASHED, (False, True)):
            cell = map(str, (operations, clients, crashed, int(stale), seed))
            command = [sys.executable, "-m", "benchmarks.checkers", "--cell", *cell]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent)
            told = json.loads(done.stdout)
            median, slowest = statistics.median(told["seconds"]), max(told["seconds"])
            name = f"{operations:,} c{clients} crashed {crashed} {'stale' if stale else 'ok'}"
            shown = line(name, median, ", ".join(sorted(set(told["judgements"]))), None)
            yield f"{shown}  longest {1000 * slowest:>10.3f} ms  {told['megabytes']:>6.0f} MB"
            medians.append(median)
            most = max(most, slowest)
            right = set(told["judgements"]) == {"invalid" if stale else "valid"}
            if not right or median > asked or slowest > longest or told["megabytes"] > MEGABYTES:
                failed.append(name)
        yield (
            f"{operations:,}: median of all {1000 * statistics.median(medians):.1f} ms, of a cell at most "
            f"{1000 * max(medians):.1f} ms of {1000 * asked:.0f} ms asked, longest {1000 * most:.1f} ms"
        )
    yield f"not kept: {', '.join(failed) or 'nothing'}"


def cell(operations: int, clients: int, crashed: int, stale: bool, seed: int) -> None:
    """Judge a history of each seed, and say what that took beyond the history itself."""
    took, judgements, more = [], [], 0
    judged(
        logs.history(logs.generated(100, 5), True), model("cas-register"), 1
    )  # once, so that all is loaded
    for its in range(seed, seed + SEEDS):
        events = logs.generated(operations, clients, crashed=crashed, stale=stale, seed=its)
        history = logs.history(events, True)
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far counts from here
        before = _kilobytes("VmRSS")
        seconds, judgement = judged(history, model("cas-register"), 1)
        more = max(more, _kilobytes("VmHWM") - before)
        took.append(seconds)
        judgements.append(judgement)
    print(json.dumps({"seconds": took, "judgements": judgements, "megabytes": more / 1024}))


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def grown(peer: Peer | None, where: Path, times: int) -> tuple[list[Line], list[Line]]:
    """What is plotted: time against the number of operations, and against that of clients."""
    cas = model("cas-register")

    def ours(history: History) -> float:
        return judged(history, cas, times)[0]

    def slow(history: History) -> float:
        with fallback():
            return judged(history, cas, 1)[0]

    def theirs(events: Sequence[logs.Event]) -> tuple[float, bool]:
        assert peer is not None
        path = where / "grown.txt"
        logs.for_porcupine(events, True, path)
        told = peer.judge([path], 1)[0]
        return told["median"], told["result"] != "Unknown"

    judge = None if peer is None else theirs
    return growth.against_length(ours, slow, judge), growth.against_clients(ours, slow, judge)


def said(lines: Iterable[str]) -> list[str]:
    """The lines, each of which was printed as soon as it was there."""
    found = []
    for text in lines:
        print(text, flush=True)
        found.append(text)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="time the linearizability checker")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--grid", action="store_true", help="one cas-register of all sizes, instead")
    parser.add_argument("--growth", action="store_true", help="time against length and concurrency, instead")
    parser.add_argument("--write", action="store_true", help="all of it, into docs/performance.md")
    parser.add_argument("--times", type=int, default=7, help="how often each is judged")
    parser.add_argument("--seed", type=int, default=int(time()), help="of the first history of a cell")
    parser.add_argument("--million", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cell", type=int, nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        operations, clients, crashed, stale, seed = options.cell
        return cell(operations, clients, crashed, bool(stale), seed)
    if options.million:
        events = logs.generated(1_000_000, 20, keys=1_000)
        return logs.as_ours(events, options.million, "cas-register")
    print(f"judged by the {native.kernel()} kernel")
    with tempfile.TemporaryDirectory() as folder:
        where, peer = Path(folder), None
        try:
            peer = None if options.grid else Peer(where)
        except FileNotFoundError:
            print("no Go tool chain on PATH: Porcupine cannot be built, only this engine is timed")
        except subprocess.CalledProcessError as error:
            print(f"Porcupine cannot be built, only this engine is timed: {error.stderr.strip()[-200:]}")
        only = options.grid or options.growth
        told = [] if only else said(tables(peer, where, options.times, options.quick))
        cells = said(grid(options.seed, options.quick)) if options.grid or options.write else []
        if options.growth or options.write:
            length, concurrency = grown(peer, where, options.times)
            said([*growth.texts(length, "operations"), *growth.texts(concurrency, "clients")])
            if options.write:
                growth.page(told, cells, length, concurrency)
    return None


if __name__ == "__main__":
    main()

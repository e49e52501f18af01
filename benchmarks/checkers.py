"""How fast linearizability is judged, side by side with Porcupine on the same histories in the same run.

    python -m benchmarks.checkers [--quick] [--grid] [--times 7]

Porcupine (github.com/anishathalye/porcupine) is built here with the Go tool chain, and its own logs, which
come with the module, are judged by both; without Go only this engine is timed. Times are medians of the
decision alone, from the history in memory, preparation included; what a process costs from start to end,
parsing included, is a table of its own. ``>`` says that Porcupine had not ended after its patience. `--grid`
judges one cas-register of {1k, 10k, 100k} operations by {5, 10, 20, 50} clients, {0, 10, 20} of them crashed,
instead, each in a process of its own, and says what was not answered in time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from benchmarks import logs
from harness.checkers import NOT_KNOWN, Budget, Inconsistent, Model, list_append, model, native
from harness.checkers.decide import decide
from harness.checkers.kinds import Kinds
from harness.history import History

HERE = Path(__file__).parent
MODULE = "github.com/anishathalye/porcupine"
PATIENCE = 15.0  # seconds for one judgement of Porcupine
SKIPPED = "etcd_095.log"  # Porcupine's own tests leave it out: it has a client that speaks twice at once
LONGEST = {1_000: (0.010, 1.0), 10_000: (0.100, 2.0), 100_000: (1.0, 5.0)}  # seconds: median, single one
MEGABYTES = 300
CLIENTS, CRASHED = (5, 10, 20, 50), (0, 10, 20)


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
    took, judgement = [], ""
    for _ in range(times):
        began = perf_counter()
        judgement = decide(
            Kinds(history.columns, machine), Budget(60.0), monotonic() + 60.0
        ).finding.judgement
        took.append(perf_counter() - began)
        if sum(took) > 5:
            break
    return statistics.median(took), judgement


SAME = {"valid": "Ok", "invalid": "Illegal", "unknown": "Unknown"}


def line(name: str, ours: float, judgement: str, theirs: float | None, result: str = "") -> str:
    """One line of a table. Raises AssertionError where both answered, and differently."""
    text = f"{name:<44}{judgement:<9}{1000 * ours:>10.3f} ms"
    if theirs is None:
        return text
    known = {SAME.get(judgement, ""), result} - {"Unknown", ""}
    assert len(known) < 2, (name, judgement, result)
    more = ">" if result == "Unknown" else " "
    return f"{text}   Porcupine {more}{1000 * theirs:>11.3f} ms   ratio {more}{theirs / ours:>9.1f}"


def side_by_side(
    peer: Peer | None, where: Path, name: str, events: Iterable[logs.Event], keyed: bool, machine: Model,
    times: int,
) -> str:  # fmt: skip
    """One history, judged by both."""
    events = list(events)
    ours, judgement = judged(logs.history(events, keyed), machine, times)
    if peer is None:
        return line(name, ours, judgement, None)
    path = where / "history.txt"
    logs.for_porcupine(events, keyed, path)
    (told,) = peer.judge([path], times)
    return line(name, ours, judgement, told["median"], told["result"])


def etcd(peer: Peer, where: Path, times: int) -> Iterator[str]:
    """Porcupine's logs of etcd, all together: times are sums of medians."""
    paths = [path for path in sorted((peer.data / "jepsen").glob("etcd_*.log")) if path.name != SKIPPED]
    histories = [logs.history(logs.etcd(path), False) for path in paths]
    texts = [where / path.name for path in paths]
    for path, to in zip(paths, texts, strict=True):
        logs.for_porcupine(logs.etcd(path), False, to)
    told = peer.judge(texts, times)
    theirs = sum(each["median"] for each in told)
    for name, machine in (("native", model("cas-register")), ("model in Python", in_python())):
        answers = [judged(history, machine, times) for history in histories]
        for path, (_, judgement), each in zip(paths, answers, told, strict=True):
            assert SAME[judgement] == each["result"], path
        ours = sum(seconds for seconds, _ in answers)
        yield line(f"{len(paths)} etcd logs, same verdicts, {name}", ours, "", theirs)


def whole(peer: Peer, where: Path) -> Iterator[str]:
    """From the start of a process to its end, with reading the same file."""
    cases = {
        "etcd_000.log": (logs.etcd(peer.data / "jepsen/etcd_000.log"), False, "cas-register"),
        "c50-ok.txt": (logs.texts(peer.data / "kv/c50-ok.txt"), True, "text"),
        "100,000 operations, 500 keys": (logs.generated(100_000, 20, keys=500), True, "cas-register"),
    }
    for name, (events, keyed, machine) in cases.items():
        path = where / "whole.txt"
        logs.for_porcupine(events, keyed, path)
        took = []
        for command in (
            [sys.executable, "-m", "benchmarks.checkers", "--judge", str(path), machine],
            [str(peer.program), "-times", "1", str(path)],
        ):
            began = perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=HERE.parent)
            took.append(perf_counter() - began)
        yield line(f"{name}, a process", took[0], "valid", took[1], "Ok")


def tables(peer: Peer | None, where: Path, times: int, quick: bool) -> Iterator[str]:
    """All that is measured, a line each."""
    cas, text = model("cas-register"), model("text")
    if peer is not None:
        yield from etcd(peer, where, times)
        for path in sorted((peer.data / "kv").glob("*.txt")):
            yield side_by_side(peer, where, f"kv log {path.name}", logs.texts(path), True, text, times)
    for stale in (False, True):
        name = f"100,000 operations, 500 keys, {'stale' if stale else 'ok'}"
        events = logs.generated(100_000, 20, keys=500, stale=stale)
        yield side_by_side(peer, where, name, events, True, cas, times)
    for operations, clients, crashed, stale in (
        (1_000, 5, 0, False), (1_000, 5, 10, True), (1_000, 10, 0, True), (1_000, 20, 0, False),
        (10_000, 5, 0, True), (10_000, 10, 10, False), (10_000, 50, 20, True),
    ):  # fmt: skip
        if operations > 1_000 and quick:
            continue
        name = f"{operations:,} c{clients} crashed {crashed} {'stale' if stale else 'ok'}"
        events = logs.generated(operations, clients, crashed=crashed, stale=stale)
        yield side_by_side(peer, where, name, events, True, cas, times)
    yield from lists(times)
    if peer is not None:
        yield from whole(peer, where)


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


def grid(times: int, quick: bool) -> Iterator[str]:
    """Each cell in a process of its own, for its memory; at the end what was not kept."""
    failed = []
    for operations, (median, longest) in LONGEST.items():
        if operations > 10_000 and quick:
            continue
        medians = []
        for clients in CLIENTS:
            for crashed in CRASHED:
                for stale in (False, True):
                    cell = [operations, clients, crashed, int(stale)]
                    command = [sys.executable, "-m", "benchmarks.checkers", "--times", str(times), "--cell"]
                    done = subprocess.run(
                        [*command, *map(str, cell)],
                        check=True,
                        capture_output=True,
                        text=True,
                        cwd=HERE.parent,
                    )
                    told = json.loads(done.stdout)
                    medians.append(told["median"])
                    name = f"{operations:,} c{clients} crashed {crashed} {'stale' if stale else 'ok'}"
                    shown = line(name, told["median"], told["judgement"], None)
                    yield f"{shown}  {told['megabytes']:>6.0f} MB"
                    right = told["judgement"] == ("invalid" if stale else "valid")
                    if not right or told["median"] > longest or told["megabytes"] > MEGABYTES:
                        failed.append(name)
        middle = statistics.median(medians)
        asked = f"{1000 * median:.0f} ms asked, longest {1000 * max(medians):.1f} ms"
        yield f"{operations:,}: median {1000 * middle:.1f} ms of {asked}"
        if middle > median:
            failed.append(f"the median of {operations:,}")
    yield f"not kept: {', '.join(failed) or 'nothing'}"


def cell(operations: int, clients: int, crashed: int, stale: bool, times: int) -> None:
    """Judge one history, and say what it took beyond the history itself."""
    history = logs.history(logs.generated(operations, clients, crashed=crashed, stale=stale), True)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far counts from here
    before = _kilobytes("VmRSS")
    median, judgement = judged(history, model("cas-register"), times)
    more = _kilobytes("VmHWM") - before
    print(json.dumps({"median": median, "judgement": judgement, "megabytes": more / 1024}))


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="time the linearizability checker")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--grid", action="store_true", help="one cas-register of all sizes, instead")
    parser.add_argument("--times", type=int, default=7, help="how often each is judged")
    parser.add_argument("--cell", type=int, nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--judge", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        operations, clients, crashed, stale = options.cell
        return cell(operations, clients, crashed, bool(stale), options.times)
    if options.judge:
        path, machine = options.judge
        history = logs.history(logs.written(Path(path)), True)
        return print(judged(history, model(machine), 1)[1])
    print(f"judged by the {native.kernel()} kernel")
    if options.grid:
        for text in grid(options.times, options.quick):
            print(text, flush=True)
        return None
    with tempfile.TemporaryDirectory() as where:
        peer = None
        try:
            peer = Peer(Path(where))
        except FileNotFoundError:
            print("no Go tool chain on PATH: Porcupine cannot be built, only this engine is timed")
        except subprocess.CalledProcessError as error:
            print(f"Porcupine cannot be built, only this engine is timed: {error.stderr.strip()[-200:]}")
        for text in tables(peer, Path(where), options.times, options.quick):
            print(text, flush=True)
    return None


if __name__ == "__main__":
    main()

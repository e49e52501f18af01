"""How far the verdicts can be trusted: the planted bugs over seeds, and the correct store over many short runs.

``make trust`` runs it, prints a table and writes docs/trust.md. Each run is a process of its own; its result
is a line in reports/trust/results.jsonl, so a run that is there, made by the same code, is not made again.
What did not end as it should keeps its history and logs in reports/trust/kept.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from harness import (
    History,
    Plan,
    Verdict,
    Workload,
    check,
    plans,
    register_workload,
    rmw_workload,
    set_workload,
)
from harness.history import NANOSECONDS
from harness.run import Run, Settings
from harness.verdict import worst
from targets.raft_kv import RaftKV, check_raft
from tests.convict.scenarios import BY_BUG, CAP, SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
WORKLOADS: Mapping[str, Callable[[], Workload]] = {
    "register": register_workload, "rmw": rmw_workload, "set": set_workload,
}  # fmt: skip
SCALE = 0.5  # of the standard plans' times in a short run
CALM = 1.0  # s after the plan's end in a short run
GIVE_UP = 240.0  # s after which a run's process is ended


@dataclass(frozen=True)
class Job:
    """One run to make: `kind` is convict, acquit, unprovoked or short; `name` a bug, or plan/workload."""

    kind: str
    name: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind} {self.name}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """What came of a job. `judgement` is the worst of all checks, or ``error``: the run was not carried through.

    `seconds` of workload until clients had seen the whole violation.
    """

    job: Job
    judgement: str
    said: str = ""
    seconds: float | None = None
    operations: int = 0
    faults: int = 0
    findings: tuple[str, ...] = ()
    code: str = ""
    date: str = ""
    at_once: int = 1

    @property
    def expected(self) -> bool:
        """Whether it ended as it should: convicted, or valid, and nothing was found beside."""
        return self.judgement == ("invalid" if self.job.kind == "convict" else "valid") and not self.findings

    @property
    def ended(self) -> str:
        """How it ended, in a word: the judgement, or ``finding``."""
        return "finding" if self.findings and self.judgement in ("valid", "unknown") else self.judgement


# ------------------------------------------------------------------------------------------- one run


def jobs(seeds: int, short_runs: int) -> Iterator[Job]:
    """All runs in turn: each bug with, without and unprovoked over the seeds, then the short ones."""
    for seed in range(1, seeds + 1):
        for scenario in SCENARIOS:
            yield Job("convict", scenario.bug, seed)
            yield Job("acquit", scenario.bug, seed)
            if scenario.harmless is not None:
                yield Job("unprovoked", scenario.bug, seed)
    names = list(WORKLOADS)
    # the runtime local has no packets
    several = [name for name in plans.STANDARD if name not in ("lossy_links", "jumbled_packets")]
    for number in range(short_runs):  # 17 plans and 3 workloads: every pair comes up
        plan = several[number % len(several)]
        yield Job("short", f"{plan}/{names[number % len(names)]}", number + 1)


def shortened(plan: Plan) -> Plan:
    """The same faults in half the time."""
    times = ("time", "period", "start", "lasts", "after", "within")
    entries = []
    for entry in plan.entries:
        given = {name: getattr(entry, name, None) for name in times}
        scaled = {name: SCALE * value for name, value in given.items() if isinstance(value, (int, float))}
        entries.append(replace(entry, **scaled))
    return Plan(*entries, name=plan.name, end=SCALE * plan.end)


def carry_out(job: Job, output: Path, runtime: str) -> Result:
    """Make the run of `job`, with its files in `output`, and judge it."""
    settings = Settings(job.seed, f"trust/{job.name}", output, runtime)
    if job.kind == "short":
        plan_name, workload_name = job.name.split("/")
        target = RaftKV(nodes=5, audit=True)
        plan = shortened(getattr(plans, plan_name)())
        workload = WORKLOADS[workload_name]()
        settings = replace(settings, duration=plan.end + CALM)
    else:
        scenario, correct = BY_BUG[job.name], job.kind == "acquit"
        target, plan, workload = scenario.store(correct=correct), scenario.plan, scenario.workload()
        settings = replace(settings, test=scenario.test)
        if job.kind == "unprovoked":
            assert scenario.harmless is not None
            plan = scenario.harmless
        elif not correct:
            settings = replace(settings, duration=CAP, stop_at_violation=True)
    run = Run(target, workload, plan, settings)
    with run:
        run.to_end()
    history = run.history
    verdicts = [check(history, name) for name in workload.checks]
    if job.kind != "convict":  # a conviction is by what clients saw; an acquittal is by everything
        verdicts.append(check_raft(history))
    verdict = worst(verdicts)
    assert verdict is not None
    return Result(
        job,
        verdict.judgement,
        verdict.witness.sentence if verdict.witness else verdict.summary,
        complete(history, verdict),
        len(history),
        len(history.faults),
        tuple(history.findings),
    )


def complete(history: History, verdict: Verdict) -> float | None:
    """The second at which clients had seen all of the witness; None without one."""
    shown = set(verdict.witness.operations) if verdict.witness else set()
    ends = [op.end for op in history.operations if op.index in shown and op.end is not None]
    return max(ends) / NANOSECONDS if ends else None


# ------------------------------------------------------------------------------------------- many runs


class Book:
    """The results on disk: a line each, read back by who goes on after an interruption."""

    def __init__(self, folder: Path, at_once: int) -> None:
        self.folder, self.path = folder, folder / "results.jsonl"
        self.code, self.at_once = code(), at_once
        folder.mkdir(parents=True, exist_ok=True)

    def results(self) -> dict[Job, Result]:
        """What was made by this very code; the last line of a job counts."""
        if not self.path.exists():
            return {}
        rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        read = (
            Result(**{**row, "job": Job(**row["job"]), "findings": tuple(row["findings"])}) for row in rows
        )
        return {result.job: result for result in read if result.code == self.code}

    def add(self, result: Result) -> Result:
        """Keep a result for good. Raises SystemExit where the code was changed meanwhile."""
        if (made_by := code()) != self.code:
            raise SystemExit(
                f"the code was changed (from {self.code} to {made_by}) while runs were made: start again"
            )
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        result = replace(result, code=self.code, date=now, at_once=self.at_once)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        return result


def code() -> str:
    """A digest of everything that takes part in a run, so that results of different code are not mixed."""
    files = [*ROOT.glob("harness/**/*.py"), *ROOT.glob("targets/raft_kv/**/*.py"), Path(__file__)]
    files.append(Path(__file__).with_name("scenarios.py"))
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.parent.name != "report":
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def in_process(job: Job, folder: Path, runtime: str) -> Result:
    """Make a run in a process of its own; what ended otherwise than expected keeps its files."""
    output = Path(tempfile.mkdtemp(prefix="trust-"))
    command = [sys.executable, "-m", "tests.convict.trust", "--runtime", runtime, "--one", str(output)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, input=json.dumps(asdict(job)), capture_output=True, text=True, timeout=GIVE_UP
        )
        row = json.loads(done.stdout.splitlines()[-1])
        result = Result(**{**row, "job": job, "findings": tuple(row["findings"])})
    except subprocess.TimeoutExpired:
        result = Result(job, "error", f"did not end within {GIVE_UP:g} s")
    except (ValueError, IndexError):
        result = Result(job, "error", f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    if not result.expected:
        kept = folder / "kept" / f"{job.kind}-{job.name.replace('/', '-')}-{job.seed}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(output, kept)
    shutil.rmtree(output, ignore_errors=True)
    return result


def carry_out_all(todo: list[Job], book: Book, runtime: str) -> None:
    """Make all runs, a line on the screen for each as it ends."""
    pool = ThreadPoolExecutor(book.at_once)
    try:
        futures = [pool.submit(in_process, job, book.folder, runtime) for job in todo]
        for number, future in enumerate(as_completed(futures), 1):
            result = book.add(future.result())
            after = f" after {result.seconds:.1f} s" if result.seconds is not None else ""
            note = "" if result.expected else f"   !! {' / '.join([*result.findings, result.said])[:300]}"
            print(f"[{number}/{len(todo)}] {result.job}: {result.judgement}{after}{note}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


# ------------------------------------------------------------------------------------------- what is said


def table(results: Iterable[Result]) -> str:
    """The bugs, as a table in Markdown."""
    by_kind: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_kind.setdefault((result.job.kind, result.job.name), []).append(result)
    lines = [
        "| planted bug | convicted | first violation: median | slowest | same plan and seeds without it: valid |",
        "|---|---|---|---|---|",
    ]
    for bug in BY_BUG:
        tried, without = by_kind.get(("convict", bug), []), by_kind.get(("acquit", bug), [])
        convicted = [r for r in tried if r.expected]
        times = sorted(r.seconds for r in convicted if r.seconds is not None)
        spent = f"{statistics.median(times):.1f} s | {times[-1]:.1f} s" if times else "- | -"
        valid = sum(r.expected for r in without)
        lines.append(f"| `{bug}` | {len(convicted)} of {len(tried)} | {spent} | {valid} of {len(without)} |")
    for (kind, bug), its in by_kind.items():
        if kind == "unprovoked":
            valid = sum(r.expected for r in its)
            lines += [
                "",
                f"`{bug}` under its plan without what provokes it: valid in {valid} of {len(its)} runs.",
            ]
    return "\n".join(lines)


def short_table(results: Iterable[Result]) -> str:
    """The correct store's short runs by plan, as a table in Markdown."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        if result.job.kind == "short":
            rows.setdefault(result.job.name.split("/")[0], []).append(result)
    lines = [
        "| plan | runs | valid | false alarms | unknown | findings, errors | operations | faults |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for plan, its in [*rows.items(), ("all", [r for rs in rows.values() for r in rs])]:
        ends = Counter(r.ended for r in its)
        lines.append(
            f"| {plan} | {len(its)} | {ends['valid']} | {ends['invalid']} | {ends['unknown']} "
            f"| {ends['finding'] + ends['error']} | {sum(r.operations for r in its):,} "
            f"| {sum(r.faults for r in its)} |"
        )
    return "\n".join(lines)


def page(results: list[Result], asked: int, runtime: str) -> str:
    """docs/trust.md: what was run and what came of it."""
    odd = [r for r in results if not r.expected]
    dates = sorted(r.date for r in results) or ["-"]
    at_once = " or ".join(map(str, sorted({r.at_once for r in results}))) or "-"
    missing = (
        f" **{asked - len(results)} of the {asked} runs asked for were not made.**"
        if len(results) < asked
        else ""
    )
    lines = [f"- {r.job}: {r.ended}: {' / '.join([*r.findings, r.said])[:400]}" for r in odd]
    return f"""# How much you can trust it

Written by `make trust` (`tests/convict/trust.py`) from {len(results)} runs, {at_once} at a time, made from
{dates[0]} to {dates[-1]}.{missing}
pytest-nemesis {metadata.version("pytest-nemesis")} (code {code()}), runtime {runtime}, Python {platform.python_version()},
Linux {platform.release()}, {os.cpu_count()} cores.

## Is what is wrong found?

Every planted bug of [raft_kv](../targets/raft_kv/README.md), with the plan and workload of
[its scenario](../tests/convict/scenarios.py), a seed a run. A run is at most {CAP:g} s long and ends at the first
violation. *Convicted* means: verdict *invalid* by what clients saw (never by what nodes say of themselves), with a
witness, and nothing else found. The time is that of the workload until clients had seen the whole witness.

{table(results)}

## Is what is right left alone?

The correct store under the standard plans without packet faults in half their time, with the register, read-modify-write and set
workloads in turn, {CALM:g} s of calm at the end, and a seed of its own for each run. *Valid* means: the workload's check
and Raft's invariants (`check_raft`, over every applied entry) hold, every kind of operation succeeded, operations
overlapped faults, the final reads came, each fault was proved to act and to be gone, and no node died by itself.

{short_table(results)}

## What did not end as it should

{chr(10).join(lines) if lines else "Nothing."}
"""


def main(argv: list[str] | None = None) -> int:
    """Make what is missing, then print the tables and write the page; 1 where anything ended otherwise."""
    parser = argparse.ArgumentParser(prog="make trust", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="runs of each bug, with and without it")
    parser.add_argument("--short-runs", type=int, default=300, help="runs of the correct store")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--runtime", default="local")
    parser.add_argument("--results", type=Path, default=ROOT / "reports/trust", help="where results are kept")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/trust.md", help="the page to write")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one is not None:
        job = Job(**json.load(sys.stdin))
        print(json.dumps(asdict(carry_out(job, options.one / "run", options.runtime))))
        return 0
    book = Book(options.results, options.jobs)
    asked = list(jobs(options.seeds, options.short_runs))
    there = book.results()
    todo = [job for job in asked if job not in there]
    print(f"{len(todo)} runs to make, {len(asked) - len(todo)} are there; results in {book.path}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        carry_out_all(todo, book, options.runtime)
    there = book.results()
    results = [there[job] for job in asked if job in there]
    options.page.write_text(page(results, len(asked), options.runtime))
    print(f"\n{table(results)}\n\n{short_table(results)}\n\nwritten: {options.page}")
    return 0 if len(results) == len(asked) and all(r.expected for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())

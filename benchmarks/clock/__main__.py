"""Skewed clocks, asked against observed: `python -m benchmarks.clock`.

Every program is asked for the time, by itself or over the network, while its clock jumps, drifts and strobes;
what it tells is compared with the true time right before and after. Then it is true again. What a call costs
and how long a process stands for a patch come next, and patches put in and taken away under load: after each
the time told is compared again. A program that this machine lacks is named; where CI is true it is a failure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.clock.cycles import LOADS, cycles
from benchmarks.clock.mechanisms import MECHANISMS, Refusal
from benchmarks.clock.places import Docker, Local, Place
from benchmarks.clock.programs import PROGRAMS, Lacking, Probe
from benchmarks.clock.servers import SERVERS
from benchmarks.clock.skews import SKEWS, TRUE, Asked, Seen, quantile, seen

MICROSECOND = 1e-6
BARS = {"Python": 50e-6, "JVM": 50e-6, "Node": 1.1e-3}  # seconds, p99 of the error; of others FINE
FINE = 5e-6
SLACK = 2000  # ns by which the two clocks of a probe may disagree
TRIES = 3  # of a measurement: another process can make readings come late, but none of them wrong
CALLS = 20_000  # of which a cost is the mean
DEARER = 2.0  # what a call of a patched program may cost, in calls of an unpatched one


class Table:
    """Prints rows, and counts those whose bar was not kept."""

    def __init__(self, shape: str, *head: str) -> None:
        self.shape, self.broken = shape, 0
        print(f"\n{shape.format(*head)}".rstrip())

    def row(self, *cells: str, kept: bool) -> None:
        self.broken += not kept
        print(self.shape.format(*cells, "ok" if kept else "NOT"), flush=True)


class Missing:
    """What this machine lacks, each said once."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, what: str, reason: object) -> None:
        if (text := f"{what}: {reason}") not in self.said:
            self.said.append(text)
            print(f"# skipped: {text}", flush=True)

    def broken(self) -> int:
        return len(self.said) if os.environ.get("CI") == "true" else 0


def micro(seconds: float) -> str:
    return f"{seconds / MICROSECOND:.2f}"


# ---------------------------------------------------------------- asked against observed


def accuracy(places: list[Place], names: list[str], missing: Missing) -> int:
    head = ("program", "where", "how", "asked", "observed", "p50 us", "p99", "max", "wrong", "bar of p99", "")
    table = Table("{:<12} {:<7} {:<8} {:<22} {:<26} {:>7} {:>8} {:>8} {:>5}  {:<22} {}", *head)
    for place in places:
        for name in names:
            for kind in place.how:
                try:
                    for asked, result in observed(place, name, kind):
                        bar, kept = judged(name, result)
                        errors = (micro(result.quantile(share)) for share in (0.5, 0.99, 1))
                        told = (asked.name, result.observed, *errors, str(result.wrong), bar)
                        table.row(name, place.name, kind, *told, kept=kept and not result.wrong)
                except Lacking as reason:
                    missing.say(name, reason)
                except Refusal as reason:
                    print(f"# {kind} is not for {name}, {place.name}: {reason}")
    return table.broken


def judged(name: str, result: Seen) -> tuple[str, bool]:
    if name in SERVERS:  # what is told lies between the question and the answer
        return f"1/2 round trip {micro(result.trip / 2e9)}", not result.wrong
    bar = BARS.get(name, FINE)
    return f"{micro(bar)}", result.quantile(0.99) < bar


def observed(place: Place, name: str, kind: str) -> Iterator[tuple[Asked, Seen]]:
    """Each skew in turn, and then none. Raises Lacking; Refusal where a mechanism is not for a program."""
    resolution = PROGRAMS[name].resolution if name in PROGRAMS else SERVERS[name].resolution
    fewer = 5 if name in SERVERS else 1
    with MECHANISMS[kind](place, name) as skew:

        def look(asked: Asked, slot: bytes | None) -> Seen:
            for _ in range(TRIES):
                samples = skew.running.samples(asked.count // fewer, asked.gap * fewer)
                result = seen(asked, slot, samples, resolution, SLACK)
                if result.wrong or judged(name, result)[1]:
                    break
            return result

        for asked in SKEWS:
            yield asked, look(asked, skew.set(asked.spec))
        skew.restore()
        yield TRUE, look(TRUE, None)


# ---------------------------------------------------------------- what it costs


def costs(places: list[Place], names: list[str], missing: Missing) -> int:
    kinds = ("fast", "stub", "preload")
    head = ("program", "where", "unpatched ns", *kinds, "fast / unpatched", "bar", "")
    table = Table("{:<12} {:<7} {:>12} {:>8} {:>8} {:>8} {:>17}  {:<10} {}", *head)
    for place in places:
        for name in (name for name in names if name in PROGRAMS):
            try:
                with place.started(name) as running:
                    assert isinstance(running, Probe)
                    before = cost(running)
                    unpatched = min(before, cost(running))
                spent = {kind: patched_cost(place, name, kind) for kind in kinds}
            except Lacking as reason:
                missing.say(name, reason)
                continue
            fast = spent["fast"]
            ratio = fast / unpatched if fast else float("inf")
            cells = [f"{value:.1f}" if value else "-" for value in (unpatched, *spent.values())]
            table.row(name, place.name, *cells, f"{ratio:.2f}", f"under {DEARER:g}", kept=ratio < DEARER)
    return table.broken


def cost(probe: Probe) -> float:
    """The ns of a call."""
    (text,) = probe.ask(f"cost {CALLS}")
    return float(text)


def patched_cost(place: Place, name: str, kind: str) -> float | None:
    """With a skew of all kinds in force; None where this mechanism is not for this program."""
    try:
        with MECHANISMS[kind](place, name) as skew:
            assert isinstance(skew.running, Probe)
            skew.set(SKEWS[-1].spec)
            return min(cost(skew.running), cost(skew.running))
    except Refusal:
        return None


# ---------------------------------------------------------------- in and out, under load


def endurance(places: list[Place], total: int, missing: Missing) -> int:
    head = ("program", "where", "cycles", "alive", "wrong", "steps", "stop p50 us", "p99", "max", "")
    table = Table("{:<24} {:<7} {:>6} {:>6} {:>6} {:>6} {:>12} {:>9} {:>9}  {}", *head)
    for place in places:
        for load in LOADS:
            try:
                done = cycles(place, load, round(total * load.share / len(places)))
            except Lacking as reason:
                missing.say(load.name, reason)
                continue
            stops = sorted(done.stops) or [0.0]
            quantiles = (micro(quantile(stops, share)) for share in (0.5, 0.99, 1))
            counts = (str(done.cycles), "yes" if done.alive else "NO", str(done.wrong), str(done.steps))
            name, kept = f"{load.name}, {load.words}", done.alive and not done.wrong
            table.row(name, place.name, *counts, *quantiles, kept=kept)
            if done.trouble:
                print(f"# {name}: {done.trouble}")
    return table.broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clock", description=__doc__)
    parser.add_argument("--cycles", type=int, default=20_000, help="patches put in and taken away, in total")
    parser.add_argument("--where", choices=["local", "docker"], action="append", help="only there")
    parser.add_argument("--only", choices=[*PROGRAMS, *SERVERS], action="append", help="only this program")
    options = parser.parse_args()
    names, before, missing = options.only or [*PROGRAMS, *SERVERS], os.getloadavg()[0], Missing()
    with tempfile.TemporaryDirectory(prefix="nemesis-clock-") as directory:
        out = Path(directory)
        out.chmod(0o755)
        places: list[Place] = []
        makers: dict[str, Callable[[], Place]] = {"local": lambda: Local(out), "docker": lambda: Docker(out)}
        for where in options.where or makers:
            try:
                places.append(makers[where]())
            except Lacking as reason:
                missing.say(where, reason)
        broken = accuracy(places, names, missing)
        broken += costs(places[:1], names, missing)
        if options.cycles and not options.only:
            broken += endurance(places, options.cycles, missing)
    after = os.getloadavg()[0]
    print(f"# load average {before:.1f} before, {after:.1f} after, on {os.cpu_count()} processors")
    broken += missing.broken()
    return 1 if broken or not places else 0


if __name__ == "__main__":
    sys.exit(main())

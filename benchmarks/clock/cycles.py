"""Patches put in and taken away while a program's threads do nothing else than ask for the time."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.clock.places import Place, Running
from benchmarks.clock.programs import PROGRAMS, Probe, Sample, needed
from benchmarks.clock.servers import Redis
from benchmarks.clock.skews import due
from harness.skew.patcher import Process, Refused, Spec

WITHIN = 30.0  # seconds for a stop on a machine that is loaded
SLACK = 2000  # ns by which the two clocks of a probe may disagree
MODES = ("fast", "stub")


@dataclass(frozen=True, slots=True)
class Load:
    """A program, what loads it, and its share of all cycles."""

    name: str
    words: str
    share: float
    threads: int = 4


LOADS = (
    Load("C", "4 threads", 0.35),
    Load("Go static", "4 goroutines", 0.2),
    Load("JVM", "4 threads", 0.1),
    Load("Python", "4 threads", 0.1),
    Load("redis", "redis-benchmark", 0.25),
)


@dataclass(slots=True)
class Done:
    """How it went: `stops` are the seconds that the program stood, `steps` what its threads had to go."""

    cycles: int = 0
    wrong: int = 0
    steps: int = 0
    alive: bool = True
    trouble: str = ""
    stops: list[float] = field(default_factory=list)


def cycles(place: Place, load: Load, count: int) -> Done:
    """Put a patch in, look, take it away, look, so many times, half of them in each mode. Raises Lacking."""
    done = Done()
    with place.started(load.name) as running, loaded(running, load), Process.open(running.pid) as process:
        resolution = PROGRAMS[load.name].resolution if load.name in PROGRAMS else Redis.resolution
        spec = Spec(offset=-3600.0).based()
        try:
            for number in range(count):
                process.install(mode=MODES[2 * number // count], within=WITHIN)
                note(done, process)
                slot = process.set(spec)
                done.wrong += off(slot, running.samples(1), resolution)
                process.restore(WITHIN)
                note(done, process)
                done.wrong += off(None, running.samples(1), resolution)
                done.cycles += 1
        except (RuntimeError, OSError, Refused) as error:
            done.alive, done.trouble = False, f"after {done.cycles} cycles: {error}"
    return done


def note(done: Done, process: Process) -> None:
    done.stops.append(process.stopped)
    done.steps += process.steps


def off(slot: bytes | None, samples: Sequence[Sample], resolution: int) -> int:
    """How many are not what they should be."""
    reach = resolution + SLACK
    return sum(
        not due(slot, before) - reach < told < due(slot, after) + reach for before, told, after in samples
    )


@contextlib.contextmanager
def loaded(running: Running, load: Load) -> Iterator[None]:
    if isinstance(running, Probe):
        running.ask(f"load {load.threads}")
        yield
        return
    host, port = running.address
    argv = [needed("redis-benchmark"), "-h", host, "-p", str(port), "-l", "-q", "-c", "20", "-t", "set,get"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        try:
            time.sleep(0.5)
            if bench.poll() is not None:
                raise RuntimeError(f"redis-benchmark ended with {bench.returncode}")
            yield
            if bench.poll() is not None:
                raise RuntimeError(f"redis-benchmark ended with {bench.returncode}")
        finally:
            bench.terminate()

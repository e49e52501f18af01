"""How many operations a second: the harness on a client that does nothing, and raft_kv with everything on.

Prints both with the limit they are held to, in one run. The store has five nodes, fsync on, every link and
every client behind the proxy; half of the operations are writes.

    python -m benchmarks.throughput [--seconds 10] [--clients 64]
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness import Client, Endpoint, Lane, Op, Plan, Workload
from harness.history import NANOSECONDS, History
from harness.journal import Journal, load
from harness.run import Run, Settings
from harness.workload import Source, Workers
from targets.raft_kv import RaftKV

HARNESS_LIMIT, STORE_LIMIT = 20_000, 2_000


class Null(Client):
    """Answers at once."""

    def invoke(self, op: Op) -> None:
        """Nothing to do."""


class AsyncNull(Client):
    """Answers at once, as a coroutine."""

    async def open(self, node: Endpoint) -> None:
        """Nothing to do."""

    async def invoke(self, op: Op) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


def half_writes(rng: random.Random) -> Iterator[Op]:
    """Reads and writes in turn, over sixteen keys."""
    for number in itertools.count():
        key = f"k{rng.randrange(16)}"
        yield Op("write", number, key) if number % 2 else Op("read", key=key)


def null(client: type[Client], processes: int, seconds: float, directory: Path) -> float:
    """Operations a second through generator, recorder and threads (or loop), onto disk."""
    journal = Journal(directory / f"{client.__name__}-{processes}.jsonl", {"keyed": True})
    node = Endpoint("n1", "node", "127.0.0.1", {"main": 1})
    source = Source(half_writes(random.Random(1)), None, random.Random(1))
    workers = Workers(
        journal,
        client,
        [(i, node, source) for i in range(processes)],
        concurrency=processes,
        time_limit=1,
        keyed=True,
    )
    journal.start()
    workers.start()
    time.sleep(seconds)
    workers.stop()
    workers.join(5)
    took = journal.now() / NANOSECONDS
    return len(load(journal.finish())) / took


def store(clients: int, seconds: float, directory: Path) -> History:
    """A run without faults, as fast as answers come."""
    workload = Workload("half-writes", (Lane(clients, half_writes, None),), keyed=True)
    settings = Settings(
        seed=1, test="throughput", output=directory / "store", runtime="local", duration=seconds
    )
    with Run(RaftKV(nodes=5), workload, Plan(), settings) as run:
        run.to_end()
    return run.history


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for client, processes in ((Null, 1), (Null, 10), (AsyncNull, 10)):
            rate = null(client, processes, min(3.0, given.seconds), directory)
            kind = "tasks" if client is AsyncNull else "threads"
            print(
                f"null client, {processes:2} {kind}: {rate:8,.0f} operations/s   "
                f"{rate / HARNESS_LIMIT:.2f} of the {HARNESS_LIMIT:,} aimed at"
            )
        history = store(given.clients, given.seconds, directory)
    ok = [op for op in history.operations if op.type == "ok" and op.end is not None]
    count = Counter(op.f for op in ok)
    rate = len(ok) / given.seconds
    waits = sorted((op.end - op.start) / 1e6 for op in ok if op.end is not None)
    print(
        f"raft_kv, 5 nodes, {given.clients} clients: {rate:8,.0f} acknowledged/s   "
        f"{rate / STORE_LIMIT:.2f} of the {STORE_LIMIT:,} asked; {count['write'] / len(ok):.0%} writes, "
        f"latency p50 {waits[len(waits) // 2]:.1f} ms, p99 {waits[len(waits) * 99 // 100]:.1f} ms, "
        f"{history.counts['info']} unknown, {history.counts['fail']} failed"
    )


if __name__ == "__main__":
    main()

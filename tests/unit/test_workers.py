"""The processes that drive clients: outcomes, time limits, replacement, rates. Real threads, real loop."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.history import History
from harness.journal import Journal, load
from harness.target import Client, Endpoint, Failed, Op, Unknown
from harness.workload import Lane, Persistent, Source, Workers, limit, mix, phases

NODE = Endpoint("n1", "node", "127.0.0.1", {"main": 1})


def drive(
    tmp_path: Path,
    client: type[Any],
    operations: Iterable[Op],
    *,
    processes: int = 1,
    time_limit: float = 1.0,
    within: float = 10.0,
    rate: float | None = None,
    keyed: bool = False,
    broken: Callable[[str], None] = lambda text: None,
) -> tuple[History, Workers]:
    journal = Journal(tmp_path / "history.jsonl", {"keyed": keyed})
    journal.start()
    source = Source(operations, rate, random.Random(1))
    workers = Workers(
        journal,
        client,
        [(i, NODE, source) for i in range(processes)],
        concurrency=processes,
        time_limit=time_limit,
        keyed=keyed,
        broken=broken,
    )
    workers.start()
    assert workers.join(within), "the workers did not end"
    return load(journal.finish()), workers


def writes(count: int) -> Iterable[Op]:
    return (Op("write", n, "k") for n in range(count))


def raising(error: BaseException, sent: bool = True, **more: Any) -> type[Client]:
    class Raises(Client):
        outcomes: ClassVar[Any] = more.get("outcomes", {})

        def invoke(self, op: Op) -> Any:
            self.sent = sent
            raise error

    return Raises


def test_what_a_client_returns_is_recorded(tmp_path: Path) -> None:
    class Store(Client):
        def invoke(self, op: Op) -> Any:
            return 42 if op.f == "read" else None

    history, _ = drive(tmp_path, Store, [Op("read", key="k"), Op("write", 7, "k")], keyed=True)
    read, write = history.operations
    assert (read.key, read.result, write.result, write.type) == ("k", 42, 7, "ok")


def test_the_invocation_is_in_the_file_before_the_client_is_called(tmp_path: Path) -> None:
    seen: list[bytes] = []

    class Looks(Client):
        def invoke(self, op: Op) -> Any:
            seen.append((tmp_path / "history.jsonl").read_bytes().split(b"\n")[-2])

    history, _ = drive(tmp_path, Looks, writes(3))
    assert all(b'"type":"invoke"' in line for line in seen)
    assert [op.index for op in history.operations] == [1, 3, 5]  # after what the wall clock showed


@pytest.mark.parametrize(
    ("error", "sent", "f", "outcome"),
    [
        (Failed("no"), True, "write", "fail"),
        (Unknown("hm"), True, "write", "info"),
        (ConnectionResetError(), True, "write", "info"),
        (ConnectionResetError(), False, "write", "fail"),
        (ConnectionResetError(), True, "read", "fail"),
        (ConnectionRefusedError(), True, "write", "fail"),
    ],
)
def test_errors_become_outcomes(
    tmp_path: Path, error: BaseException, sent: bool, f: str, outcome: str
) -> None:
    client = raising(error, sent, outcomes={ConnectionError: "info", ConnectionRefusedError: "fail"})
    history, workers = drive(tmp_path, client, [Op(f, 1)])
    assert history.operations[0].type == outcome
    assert not workers.unmapped


def test_an_exception_that_nobody_classified_is_counted_by_text(tmp_path: Path) -> None:
    history, workers = drive(tmp_path, raising(KeyError("leader")), writes(3))
    assert dict(workers.unmapped) == {"KeyError: 'leader'": 3}
    assert {op.type for op in history.operations} == {"info"}


def test_a_process_that_ends_in_info_is_replaced_and_its_client_opened_anew(tmp_path: Path) -> None:
    opened: list[Client] = []

    class Doubts(Client):
        def open(self, node: Endpoint) -> None:
            opened.append(self)

        def invoke(self, op: Op) -> Any:
            if op.value == 1:
                raise Unknown("lost sight")

    history, _ = drive(tmp_path, Doubts, writes(3))
    assert [op.process for op in history.operations] == [0, 0, 1]
    assert len(opened) == 2


def test_a_failed_open_is_fail_no_client(tmp_path: Path) -> None:
    class Shut(Client):
        def open(self, node: Endpoint) -> None:
            raise ConnectionRefusedError("nobody there")

        def invoke(self, op: Op) -> Any:
            raise AssertionError("never opened")

    history, _ = drive(tmp_path, Shut, writes(2))
    assert [op.type for op in history.operations] == ["fail", "fail"]
    assert str(history.operations[0].error).startswith("no-client: ConnectionRefusedError")


def test_a_hanging_client_is_given_up_and_its_late_completion_discarded(tmp_path: Path) -> None:
    release = threading.Event()
    late: list[int] = []

    class Hangs(Client):
        def invoke(self, op: Op) -> Any:
            if op.value == 0:
                release.wait(20)
                late.append(op.index)

    history, _ = drive(tmp_path, Hangs, writes(3), time_limit=0.2)
    release.set()
    first, second, third = history.operations
    assert first.type == "info" and str(first.error).startswith("timeout")
    assert (first.process, second.process, second.type, third.type) == (0, 1, "ok", "ok")


def test_a_hanging_open_is_no_client_and_nothing_is_sent_when_it_returns_late(tmp_path: Path) -> None:
    release = threading.Event()
    opening: list[threading.Thread] = []
    called: list[int] = []

    class HangsOpening(Client):
        def open(self, node: Endpoint) -> None:
            opening.append(threading.current_thread())
            release.wait(20)

        def invoke(self, op: Op) -> Any:
            called.append(op.index)  # its outcome was recorded as fail: this would be a lie

    history, workers = drive(tmp_path, HangsOpening, writes(2), time_limit=0.2)
    release.set()
    for thread in opening:
        thread.join(10)
        assert not thread.is_alive()
    assert called == []
    assert [op.type for op in history.operations] == ["fail", "fail"]
    assert "open took longer" in str(history.operations[0].error)
    assert "none of 2 attempts" in workers.never_opened


def test_a_client_that_cannot_be_made_is_told_and_its_operations_fail(tmp_path: Path) -> None:
    class Needs(Client):
        def __init__(self, url: str) -> None:
            self.url = url

    told: list[str] = []
    history, workers = drive(tmp_path, Needs, writes(2), broken=told.append)
    assert [op.type for op in history.operations] == ["fail", "fail"]
    assert "Needs() raised TypeError" in told[0] and "TypeError" in workers.never_opened


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_generator_that_raises_is_told_and_ends_every_process(tmp_path: Path, kind: str) -> None:
    class Sync(Client):
        def invoke(self, op: Op) -> Any:
            pass

    class Async(Client):
        async def invoke(self, op: Op) -> Any:
            pass

    def broken() -> Iterable[Op]:
        yield Op("write", 1)
        raise LookupError("no more keys")

    told: list[str] = []
    client = Sync if kind == "threads" else Async
    history, _ = drive(tmp_path, client, broken(), processes=3, broken=told.append)
    assert len(history) == 1
    assert [text for text in told if "LookupError: no more keys" in text] == told != []


def test_what_is_no_operation_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    drive(tmp_path, Client, [("write", 1)], broken=told.append)  # type: ignore[list-item]
    assert "a generator yields harness.Op, not ('write', 1)" in told[0]


def test_a_close_that_hangs_costs_no_more_than_the_time_limit(tmp_path: Path) -> None:
    release = threading.Event()

    class HangsClosing(Client):
        def invoke(self, op: Op) -> Any:
            raise Unknown("lost sight")

        def close(self) -> None:
            release.wait(30)

    history, _ = drive(tmp_path, HangsClosing, writes(3), time_limit=0.2)
    release.set()
    assert [op.process for op in history.operations] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["exit", "coroutine", "read mapped to ok"])
def test_what_ends_a_thread_or_lies_is_unmapped_rather_than_lost(tmp_path: Path, kind: str) -> None:
    class Odd(Client):
        outcomes: ClassVar[Any] = {LookupError: "ok"}

        def invoke(self, op: Op) -> Any:
            if kind == "exit":
                raise SystemExit(3)
            if kind == "coroutine":
                return asyncio.sleep(0)
            raise LookupError("empty")

    history, workers = drive(tmp_path, Odd, [Op("read"), Op("read")])
    assert [op.type for op in history.operations] == ["info", "info"]
    assert sum(workers.unmapped.values()) == 2


def test_a_coroutine_that_cancels_itself_is_one_operation_of_unknown_outcome(tmp_path: Path) -> None:
    class Cancels(Client):
        async def invoke(self, op: Op) -> Any:
            if op.value == 0:
                raise asyncio.CancelledError

    history, workers = drive(tmp_path, Cancels, writes(3))
    assert [op.type for op in history.operations] == ["info", "ok", "ok"]
    assert dict(workers.unmapped) == {"CancelledError: ": 1}


def test_a_coroutine_that_never_waits_starves_nobody(tmp_path: Path) -> None:
    class Busy(Client):
        async def invoke(self, op: Op) -> Any:
            if op.process % 2:
                await asyncio.Event().wait()  # for ever

    history, _ = drive(tmp_path, Busy, writes(4000), processes=2, time_limit=0.05)
    hung = [op for op in history.operations if op.process % 2]
    assert len({op.process for op in history.operations if not op.process % 2}) == 1
    assert hung and all(op.type == "info" for op in hung)


def test_nothing_is_sent_that_cannot_be_recorded(tmp_path: Path) -> None:
    sent: list[int] = []

    class Sends(Client):
        def invoke(self, op: Op) -> Any:
            sent.append(op.index)

    journal = Journal(tmp_path / "history.jsonl", {})
    journal.finish()
    source = Source(writes(5), None, random.Random(1))
    workers = Workers(journal, Sends, [(0, NODE, source)], concurrency=1, time_limit=1, keyed=False)
    workers.start()
    assert workers.join(5)
    assert sent == []


def test_coroutines_share_one_loop_and_keep_the_same_rules(tmp_path: Path) -> None:
    loops: set[int] = set()

    class Async(Client):
        async def open(self, node: Endpoint) -> None:
            await asyncio.sleep(0)

        async def invoke(self, op: Op) -> Any:
            loops.add(id(asyncio.get_running_loop()))
            if op.value == 0:
                await asyncio.sleep(60)
            if op.value == 1:
                raise Failed("no")

        async def close(self) -> None:
            await asyncio.sleep(0)

    history, _ = drive(tmp_path, Async, writes(6), processes=2, time_limit=0.2)
    outcomes = {op.value: op.type for op in history.operations}
    assert outcomes == {0: "info", 1: "fail", 2: "ok", 3: "ok", 4: "ok", 5: "ok"}
    assert len(loops) == 1


def test_no_operation_is_drawn_after_stop_and_open_ones_end(tmp_path: Path) -> None:
    started = threading.Event()

    class Marks(Client):
        def invoke(self, op: Op) -> Any:
            started.set()

    journal = Journal(tmp_path / "history.jsonl", {})
    source = Source((Op("write", n) for n in itertools.count()), 1000, random.Random(1))
    workers = Workers(journal, Marks, [(0, NODE, source)], concurrency=1, time_limit=1, keyed=False)
    workers.start()
    assert started.wait(5)
    workers.stop()
    assert workers.join(5)
    assert all(op.type == "ok" for op in load(journal.finish()).operations)


def test_a_persistent_source_asks_again_until_it_is_ok(tmp_path: Path) -> None:
    tries = itertools.count()

    class Third(Client):
        def invoke(self, op: Op) -> Any:
            if next(tries) < 2:
                raise Failed("not yet")
            return 5

    journal = Journal(tmp_path / "history.jsonl", {})
    source = Persistent([Op("read")], within=5)
    workers = Workers(
        journal, Third, [(0, NODE, source)], concurrency=1, time_limit=1, keyed=False, final=True
    )
    workers.start()
    assert workers.join(10)
    operations = load(journal.finish()).operations
    assert [op.type for op in operations] == ["fail", "fail", "ok"] and all(op.final for op in operations)


def test_a_persistent_source_gives_up_in_time() -> None:
    source = Persistent([Op("read")], within=0.0)
    assert Persistent([Op("read")], within=5).draw() is not None
    assert source.draw() is None


def test_the_rate_is_the_mean_over_all_processes() -> None:
    source = Source((Op("write", n) for n in range(1000)), 100.0, random.Random(3))
    waits = [drawn[1] for drawn in (source.draw() for _ in range(1000)) if drawn]
    assert waits[-1] == pytest.approx(10.0, rel=0.1)  # nothing was waited for, so they add up


def test_generators_combine() -> None:
    def count(f: str) -> Callable[[int], Iterable[Op]]:
        return lambda n: (Op(f, i) for i in range(n))

    mixed = list(mix(random.Random(1), count("a")(50), count("b")(50), weights=(3, 1)))
    assert len(mixed) == 100 and sum(op.f == "a" for op in mixed[:40]) > 20
    assert [op.f for op in phases(count("a")(2), count("b")(1))] == ["a", "a", "b"]
    assert len(list(limit(2, count("a")(9)))) == 2
    with pytest.raises(ValueError, match="2 generators got 1 weights"):
        next(mix(random.Random(1), [], [], weights=(1,)))


@pytest.mark.parametrize(("processes", "rate"), [(0, None), (1, 0.0)])
def test_an_impossible_lane_is_refused(processes: int, rate: float | None) -> None:
    with pytest.raises(ValueError, match=r"at least 1|above 0"):
        Lane(processes, lambda rng: [], rate)

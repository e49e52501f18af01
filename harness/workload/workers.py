"""The logical processes of a run: each draws operations, drives its client, and records both ends.

Functions run in a thread per process, coroutines together in one loop. Every operation has a time limit:
past it ``info`` is recorded, the thread (or task) is abandoned, the client opened anew, and a late
completion is discarded. A process that ends in ``info`` is replaced by ``p + concurrency``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.history import OUTCOMES
from harness.journal import Journal
from harness.target import Client, Endpoint, Failed, Op, Unknown, is_async

_REOPEN_AFTER = 0.05  # s between two attempts to open a client where the workload has no rate


class Source:
    """One generator drawn from by several processes, with the rate they share."""

    def __init__(self, operations: Iterable[Op], rate: float | None, rng: random.Random) -> None:
        self._operations: Iterator[Op] = iter(operations)
        self._rate, self._rng = rate, rng
        self._due = 0.0
        self._lock = threading.Lock()

    def draw(self) -> tuple[Op, float] | None:
        """The next operation and how long to wait before it (s); None when there is none left."""
        with self._lock:
            op = next(self._operations, None)
            if op is None:
                return None
            if self._rate is None:
                return op, 0.0
            now = time.monotonic()
            # uniform distances of mean 1/rate; a stall is not made up for by a burst
            self._due = max(self._due, now) + self._rng.uniform(0, 2 / self._rate)
            return op, self._due - now

    def ended(self, op: Op, outcome: str) -> None:
        """How a drawn operation ended; a generator that cares overrides this."""


class Persistent(Source):
    """Operations of one process, each asked again until it is ``ok``, at most `within` seconds in all.

    Differs from `Source` in that it minds outcomes: final reads must come, or the run shows nothing.
    """

    def __init__(self, operations: Iterable[Op], within: float) -> None:
        super().__init__(operations, None, random.Random())
        self._again: Op | None = None
        self._until = time.monotonic() + within

    def draw(self) -> tuple[Op, float] | None:
        """The operation that has not succeeded yet, after a short pause, else the next."""
        if time.monotonic() > self._until:
            return None
        if self._again is not None:
            return self._again, 0.1
        drawn = super().draw()
        self._again = drawn[0] if drawn else None
        return drawn

    def ended(self, op: Op, outcome: str) -> None:
        """Go on to the next operation once this one is ok."""
        if outcome == "ok":
            self._again = None


class Invocation:
    """An open operation. Whoever claims it first, its worker or the watchdog, records its end."""

    __slots__ = ("_claim", "client", "deadline", "op", "opening", "slot", "value")

    def __init__(self, slot: Slot, op: Op, value: Any, deadline: float) -> None:
        self.slot, self.op, self.value, self.deadline = slot, op, value, deadline
        self.client: Any = None
        self.opening = False
        self._claim = threading.Lock()

    def claim(self) -> bool:
        return self._claim.acquire(blocking=False)


class Slot:
    """What a process number stands on: a thread or task that keeps its node over replacements."""

    __slots__ = ("current", "entry", "process", "source")

    def __init__(self, process: int, entry: Endpoint, source: Source) -> None:
        self.process, self.entry, self.source = process, entry, source
        self.current: Invocation | None = None


class Workers:
    """All processes of one phase: `start`, `stop`, `join`.

    `processes` are (number, where its client connects, source). `concurrency` is added to a process that
    ended in ``info``. `unmapped` counts exceptions that no client classified: each fails the run.
    """

    def __init__(
        self,
        journal: Journal,
        client: type[Any],
        processes: Sequence[tuple[int, Endpoint, Source]],
        *,
        concurrency: int,
        time_limit: float,
        keyed: bool,
        final: bool = False,
    ) -> None:
        self.unmapped: Counter[str] = Counter()
        self._journal, self._client = journal, client
        self._slots = [Slot(number, entry, source) for number, entry, source in processes]
        self._concurrency, self._limit = concurrency, time_limit
        self._keyed, self._final = keyed, final
        self._reads = getattr(client, "reads", Client.reads)
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._live = 0

    def start(self) -> None:
        """Start every process and return."""
        self._live = len(self._slots)
        if is_async(self._client):
            threading.Thread(target=self._loop, name="nemesis-clients", daemon=True).start()
            return
        for slot in self._slots:
            self._spawn(slot)
        threading.Thread(target=self._watch, name="nemesis-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Draw no further operation; those that are open end or reach their limit."""
        self._stop.set()

    def join(self, within: float | None = None) -> bool:
        """Wait until every process has ended; whether it came to that within `within` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: self._live == 0, within)

    # ------------------------------------------------------------------ both kinds

    def _begin(self, slot: Slot, op: Op) -> Invocation:
        value = [op.key, op.value] if self._keyed else op.value
        index, _ = self._journal.invoke(slot.process, op.f, value, slot.entry.name, self._final)
        full = Op(op.f, op.value, op.key, index, slot.process, self._limit, self._final)
        invocation = Invocation(slot, full, value, time.monotonic() + self._limit)
        slot.current = invocation
        return invocation

    def _end(
        self, invocation: Invocation, outcome: str, result: Any = None, error: str | None = None
    ) -> None:
        at = self._journal.now()
        slot, op, value = invocation.slot, invocation.op, invocation.value
        if outcome == "ok" and (result is not None or op.f in self._reads):
            value = [op.key, result] if self._keyed else result
        slot.current = None
        self._journal.complete(slot.process, outcome, op.f, value, error, at)
        slot.source.ended(op, outcome)
        if outcome == "info":
            slot.process += self._concurrency

    def _fail(self, invocation: Invocation, client: Any, error: BaseException) -> bool:
        """Record an operation that raised; whether its client may be used again."""
        if isinstance(error, Failed):
            self._end(invocation, "fail", error=str(error) or "failed")
            return True
        text = _describe(error)
        if isinstance(error, Unknown):
            self._end(invocation, "info", error=text)
            return False
        try:
            classify = getattr(client, "classify", None)
            sent = bool(getattr(client, "sent", True))
            outcome = classify(error, invocation.op, sent) if classify else None
        except Exception as broken:
            text, outcome = f"{text}; and classify raised {_describe(broken)}", None
        if outcome not in OUTCOMES:
            self.unmapped[text.split("\n")[0]] += 1
            self._end(invocation, "info", error=f"unmapped: {text}")
        else:
            self._end(invocation, outcome, error=text)
        return False

    def _ended(self) -> None:
        with self._idle:
            self._live -= 1
            self._idle.notify_all()

    # ------------------------------------------------------------------ threads

    def _spawn(self, slot: Slot) -> None:
        threading.Thread(
            target=self._work, args=(slot,), name=f"nemesis-p{slot.process}", daemon=True
        ).start()

    def _work(self, slot: Slot) -> None:
        client: Any = None
        abandoned = False
        try:
            while not self._stop.is_set():
                drawn = slot.source.draw()
                if drawn is None or (drawn[1] > 0 and self._stop.wait(drawn[1])):
                    return
                invocation = self._begin(slot, drawn[0])
                if client is None:
                    client = invocation.client = self._client()
                    invocation.opening = True
                    try:
                        client.open(slot.entry)
                    except BaseException as error:
                        if abandoned := not invocation.claim():
                            return
                        self._end(invocation, "fail", error=f"no-client: {_describe(error)}")
                        self._close(client)
                        client = None
                        self._stop.wait(_REOPEN_AFTER)
                        continue
                    invocation.opening = False
                invocation.client = client
                client.sent = True
                try:
                    result = client.invoke(invocation.op)
                except BaseException as error:
                    if abandoned := not invocation.claim():
                        return
                    if not self._fail(invocation, client, error):
                        self._close(client)
                        client = None
                else:
                    if abandoned := not invocation.claim():
                        return
                    self._end(invocation, "ok", result)
        finally:
            self._close(client)
            if not abandoned:
                self._ended()

    def _watch(self) -> None:
        """Give up operations past their limit: their thread may hang for ever, the run may not."""
        while not self.join(within=0.01):
            now = time.monotonic()
            for slot in self._slots:
                invocation = slot.current
                if invocation is None or invocation.deadline > now or not invocation.claim():
                    continue
                self._expire(invocation)
                # close from a thread of its own: it may free the hanging one, and may hang itself
                threading.Thread(target=self._close, args=(invocation.client,), daemon=True).start()
                if self._stop.is_set():
                    self._ended()
                else:
                    self._spawn(slot)

    def _expire(self, invocation: Invocation) -> None:
        if invocation.opening:
            self._end(invocation, "fail", error=f"no-client: open took longer than {self._limit:g} s")
        else:
            self._end(invocation, "info", error=f"timeout: no answer within {self._limit:g} s")

    def _close(self, client: Any) -> None:
        if client is not None:
            with contextlib.suppress(Exception):  # a connection that is given up has nothing to say
                client.close()

    # ------------------------------------------------------------------ coroutines

    def _loop(self) -> None:
        async def everyone() -> None:
            await asyncio.gather(*(self._task(slot) for slot in self._slots))

        asyncio.run(everyone())

    async def _task(self, slot: Slot) -> None:
        client: Any = None
        try:
            while not self._stop.is_set():
                drawn = slot.source.draw()
                if drawn is None or not await self._pause(drawn[1]):
                    return
                invocation = self._begin(slot, drawn[0])
                if client is None:
                    client = self._client()
                    invocation.opening = True
                    try:
                        await self._limited(client.open(slot.entry), invocation)
                    except Exception as error:
                        if invocation.claim():
                            self._end(invocation, "fail", error=f"no-client: {_describe(error)}")
                        await self._aclose(client)
                        client = None
                        await self._pause(_REOPEN_AFTER)
                        continue
                    invocation.opening = False
                client.sent = True
                try:
                    result = await self._limited(client.invoke(invocation.op), invocation)
                except Exception as error:
                    usable = invocation.claim() and self._fail(invocation, client, error)
                    if not usable:
                        await self._aclose(client)
                        client = None
                else:
                    self._end(invocation, "ok", result)
        finally:
            await self._aclose(client)
            self._ended()

    async def _limited(self, work: Any, invocation: Invocation) -> Any:
        """Await `work` up to the deadline; past it cancel it without waiting, and raise TimeoutError."""
        if not asyncio.iscoroutine(work):
            return work
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=max(0.0, invocation.deadline - time.monotonic()))
        if not done:
            if invocation.claim():
                self._expire(invocation)
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            task.cancel()
            raise TimeoutError
        return task.result()

    async def _pause(self, seconds: float) -> bool:
        """Wait in steps that notice `stop`; False when stopped."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop.is_set():
            await asyncio.sleep(min(left, 0.05))
        return not self._stop.is_set()

    async def _aclose(self, client: Any) -> None:
        if client is None:
            return
        with contextlib.suppress(Exception):
            closing = client.close()
            if asyncio.iscoroutine(closing):
                await asyncio.wait_for(closing, self._limit)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


__all__ = ["Persistent", "Source", "Workers"]

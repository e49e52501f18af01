"""The logical processes of a run: each draws operations, drives its client, and records both ends.

Functions run in a thread per process, coroutines together in one loop. Every operation has a time limit:
past it ``info`` is recorded, the thread (or task) is abandoned, the client opened anew, and a late
completion is discarded. A process that ends in ``info`` is replaced by ``p + concurrency``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import CoroutineType
from typing import Any

from harness.history import OUTCOMES
from harness.journal import Journal
from harness.target import Client, Endpoint, Failed, Op, Unknown, is_async
from harness.workload.source import Source

_REOPEN_AFTER = 0.05  # s between two attempts to open a client where the workload has no rate
_LOOK_EVERY = 0.01  # s between two looks for operations past their limit


class Invocation:
    """An open operation. Whoever claims it first, its worker or the watchdog, records its end.

    While its client is opened, nothing was sent; `proceed` is the step from there to the call.
    """

    __slots__ = ("_claimed", "_lock", "client", "deadline", "op", "opening", "slot", "value")

    def __init__(self, slot: Slot, op: Op, value: Any, deadline: float, client: Any) -> None:
        self.slot, self.op, self.value, self.deadline, self.client = slot, op, value, deadline, client
        self.opening = client is None
        self._claimed = False
        self._lock = threading.Lock()

    def claim(self) -> bool:
        with self._lock:
            first, self._claimed = not self._claimed, True
            return first

    def proceed(self) -> bool:
        """The client is open; False where it was given up meanwhile: then it may not be called any more."""
        with self._lock:
            if not self._claimed:
                self.opening = False
            return not self._claimed


class Slot:
    """What a process number stands on: a thread or task that keeps its node over replacements."""

    __slots__ = ("current", "entry", "process", "source", "task")

    def __init__(self, process: int, entry: Endpoint, source: Source) -> None:
        self.process, self.entry, self.source = process, entry, source
        self.current: Invocation | None = None
        self.task: asyncio.Task[None] | None = None


class Workers:
    """All processes of one phase: `start`, `stop`, `join`.

    `processes` are (number, where its client connects, source). `concurrency` is added to a process that
    ended in ``info``. `unmapped` counts exceptions that no client classified: each fails the run. `broken` is
    told what ended a process before its time: a generator that raised, a client that cannot be made.
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
        broken: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.unmapped: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()  # why clients did not open
        self._opened = False
        self._journal, self._client, self._broken = journal, client, broken
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
            loop = threading.Thread(target=lambda: asyncio.run(self._loop()), name="nemesis-clients")
            loop.daemon = True
            loop.start()
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

    @property
    def never_opened(self) -> str:
        """Why not a single client could be opened, or ``""``."""
        if self._opened or not self._refused:
            return ""
        ((text, _),) = self._refused.most_common(1)
        return f"none of {sum(self._refused.values()):,} attempts to open a client succeeded: {text}"

    # ------------------------------------------------------------------ both kinds

    def _begin(self, slot: Slot, op: Op, client: Any) -> Invocation | None:
        """Record the invocation; None where the journal has ended: what is not recorded is not done."""
        value = [op.key, op.value] if self._keyed else op.value
        index, _ = self._journal.invoke(slot.process, op.f, value, slot.entry.name, self._final)
        if index < 0:
            return None
        full = Op(op.f, op.value, op.key, index, slot.process, self._limit, self._final)
        slot.current = Invocation(slot, full, value, time.monotonic() + self._limit, client)
        return slot.current

    def _end(
        self, invocation: Invocation, outcome: str, result: Any = None, error: str | None = None, at: int = -1
    ) -> None:
        """Record how it ended: at `at` (ns; left out: now)."""
        slot, op, value = invocation.slot, invocation.op, invocation.value
        if outcome == "ok" and (result is not None or op.f in self._reads):
            value = [op.key, result] if self._keyed else result
        slot.current = None
        at = self._journal.now() if at < 0 else at
        self._journal.complete(slot.process, outcome, op.f, value, error, at)
        slot.source.ended(op, outcome)
        if outcome == "info":
            slot.process += self._concurrency

    def _expire(self, invocation: Invocation) -> None:
        if invocation.opening:
            text = f"open took longer than {self._limit:g} s"
            self._refused[text] += 1
            self._end(invocation, "fail", error=f"no-client: {text}")
        else:
            self._end(invocation, "info", error=f"timeout: no answer within {self._limit:g} s")

    def _no_client(self, invocation: Invocation, error: BaseException) -> None:
        self._refused[_describe(error)] += 1
        self._end(invocation, "fail", error=f"no-client: {_describe(error)}")
        if invocation.client is None:
            self._broken(f"{self._client.__name__}() raised {_describe(error)}; it must need no arguments")

    def _fail(self, invocation: Invocation, error: BaseException, at: int) -> bool:
        """Record an operation that raised; whether its client may be used again."""
        client, op = invocation.client, invocation.op
        if isinstance(error, Failed):
            self._end(invocation, "fail", error=str(error) or "failed", at=at)
            return True
        text = _describe(error)
        if isinstance(error, Unknown):
            self._end(invocation, "info", error=text, at=at)
            return False
        try:
            classify = getattr(client, "classify", None)
            sent = bool(getattr(client, "sent", True))
            outcome = classify(error, op, sent) if classify else None
        except Exception as broken:
            text, outcome = f"{text}; and classify raised {_describe(broken)}", None
        if outcome == "ok" and op.f in self._reads:
            text, outcome = f"{text}, mapped to ok although a {op.f} then has no value", None
        if outcome not in OUTCOMES:
            self.unmapped[text.split("\n")[0]] += 1
            self._end(invocation, "info", error=f"unmapped: {text}", at=at)
        else:
            self._end(invocation, outcome, error=text, at=at)
        return False

    def _broke(self, slot: Slot, error: BaseException) -> None:
        """A process ends by what is no client's: its open operation stays of unknown outcome."""
        if (invocation := slot.current) is not None:
            invocation.claim()
            slot.current = None
        self._broken(f"process {slot.process} of the workload ended by {_describe(error)}")

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
                if (invocation := self._begin(slot, drawn[0], client)) is None:
                    return
                if client is None:
                    try:
                        client = invocation.client = self._client()
                        client.open(slot.entry)
                    except BaseException as error:
                        if abandoned := not invocation.claim():
                            return
                        self._no_client(invocation, error)
                        self._close(client)
                        client = None
                        self._stop.wait(_REOPEN_AFTER)
                        continue
                    if abandoned := not invocation.proceed():
                        return
                    self._opened = True
                try:
                    client.sent = True
                    result = client.invoke(invocation.op)
                    at = self._journal.now()
                    if type(result) is CoroutineType:
                        result.close()
                        raise TypeError("invoke returned a coroutine: make it an async def")
                except BaseException as error:
                    at = self._journal.now()
                    if abandoned := not invocation.claim():
                        return
                    if not self._fail(invocation, error, at):
                        self._close(client)
                        client = None
                else:
                    if abandoned := not invocation.claim():
                        return
                    self._end(invocation, "ok", result, at=at)
        except BaseException as error:
            self._broke(slot, error)
        finally:
            self._close(client)
            if not abandoned:
                self._ended()

    def _watch(self) -> None:
        """Give up operations past their limit: their thread may hang for ever, the run may not."""
        while not self.join(within=_LOOK_EVERY):
            for slot, invocation in self._expired():
                try:
                    self._expire(invocation)
                    # not waited for: it may free the hanging thread, and may hang itself
                    self._closing(invocation.client)
                    if not self._stop.is_set():
                        self._spawn(slot)
                        continue
                except Exception as error:
                    self._broke(slot, error)
                self._ended()

    def _expired(self) -> Iterator[tuple[Slot, Invocation]]:
        """The open operations past their limit, claimed."""
        now = time.monotonic()
        for slot in self._slots:
            invocation = slot.current
            if invocation is not None and invocation.deadline <= now and invocation.claim():
                yield slot, invocation

    def _closing(self, client: Any) -> threading.Thread:
        def close() -> None:
            with contextlib.suppress(Exception):  # a connection that is given up has nothing to say
                client.close()

        thread = threading.Thread(target=close, name="nemesis-close", daemon=True)
        thread.start()
        return thread

    def _close(self, client: Any) -> None:
        """Close it, but wait no longer than for an operation."""
        if client is not None:
            self._closing(client).join(self._limit)

    # ------------------------------------------------------------------ coroutines

    async def _loop(self) -> None:
        """The same as tasks of one loop: given up by cancelling, without waiting for it."""
        for slot in self._slots:
            slot.task = asyncio.create_task(self._task(slot))
        while self._live:
            await asyncio.sleep(_LOOK_EVERY)
            for slot, invocation in self._expired():
                task, slot.task = slot.task, None
                try:
                    self._expire(invocation)
                    if not self._stop.is_set():
                        slot.task = asyncio.create_task(self._task(slot))
                        continue
                except Exception as error:
                    self._broke(slot, error)
                finally:
                    if task is not None:
                        task.cancel()
                self._ended()

    async def _task(self, slot: Slot) -> None:
        client: Any = None
        abandoned = False
        try:
            while not self._stop.is_set():
                drawn = slot.source.draw()
                if drawn is None or not await self._pause(drawn[1]):
                    return
                if (invocation := self._begin(slot, drawn[0], client)) is None:
                    return
                if client is None:
                    try:
                        client = invocation.client = self._client()
                        if asyncio.iscoroutine(opening := client.open(slot.entry)):
                            await opening
                    except BaseException as error:
                        if abandoned := not invocation.claim():
                            return
                        self._no_client(invocation, error)
                        await self._aclose(client)
                        client = None
                        await self._pause(_REOPEN_AFTER)
                        continue
                    if abandoned := not invocation.proceed():
                        return
                    self._opened = True
                try:
                    client.sent = True
                    result = await client.invoke(invocation.op)
                    at = self._journal.now()
                except BaseException as error:
                    at = self._journal.now()
                    if abandoned := not invocation.claim():
                        return
                    if not self._fail(invocation, error, at):
                        await self._aclose(client)
                        client = None
                else:
                    if abandoned := not invocation.claim():
                        return
                    self._end(invocation, "ok", result, at=at)
        except BaseException as error:
            self._broke(slot, error)
        finally:
            await self._aclose(client)
            if not abandoned:
                self._ended()

    async def _pause(self, seconds: float) -> bool:
        """Let the others on; wait in steps that notice `stop`; False when stopped."""
        end = time.monotonic() + seconds
        await asyncio.sleep(min(seconds, 0.05))
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


__all__ = ["Workers"]

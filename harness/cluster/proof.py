"""Whether a node is really down, stopped or back: measured by traffic, not by reading the setting back."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from threading import Event, Thread
from typing import Any

from harness.cluster.lock import ClusterError
from harness.cluster.seat import Seat
from harness.cluster.sockets import ESTABLISHED, SYN_RECV, holder_of, listening
from harness.fabric import FaultError
from harness.target import Endpoint

HOLD = 0.06  # seconds for which a stopped node must leave a connection waiting and a question unanswered
WITHIN = 5.0  # seconds for an effect to show on a loaded machine
Status = Callable[[], Mapping[str, Any] | None]


class NotProved(ClusterError, FaultError):
    """A process fault did not take effect, or is not gone; the text says what was measured."""


def refused(node: Endpoint, seat: Seat) -> str:
    """Prove that nothing listens on any port of `node`."""
    for name, port in node.ports.items():
        deadline = time.monotonic() + WITHIN
        while (error := _connect(seat, port)) is None or not isinstance(error, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise NotProved(
                    f"{node.name} was killed, but its port {name} ({node.host}:{port}) still answers "
                    f"({error or 'connected'}): {holder_of(seat.rows(port))} holds it"
                )
            time.sleep(0.01)
    where = ", ".join(f"{node.host}:{port}" for port in node.ports.values())
    return f"{where} refused" if where else "it has no port that could be asked"


class Held:
    """A connection that a stopped node leaves waiting: opened by the pause, watched until the resume."""

    def __init__(self, node: Endpoint, seat: Seat, pids: Iterable[int], status: Status | None) -> None:
        self.node, self.seat = node, seat
        self.pids = tuple(pids)
        self.status = status
        self.port = next((port for port in node.ports.values() if listening(seat.rows(port))), None)
        self.sock: socket.socket | None = None

    def prove(self) -> str:
        """Prove the pause: every process stopped, a fresh connection not accepted, a question not answered.

        Raises NotProved.
        """
        self._await_state(stopped=True)
        words = [f"{len(self.pids)} process(es) stopped"]
        question = Question(self.status) if self.status else None
        began = time.monotonic()
        if self.port is not None:
            try:
                self.sock = self.seat.connect(self.port, WITHIN)
            except OSError as error:  # a full queue: nobody accepts either
                words.append(f"a fresh connection to {self._where} got none ({error})")
        while (elapsed := time.monotonic() - began) < HOLD:
            if self.sock is not None and not self._waiting():
                raise NotProved(
                    f"{self.node.name} was stopped ({self.seat.stops} of pids {list(self.pids)}), yet a "
                    f"connection to {self._where} was accepted after {1e3 * elapsed:.0f} ms by "
                    f"{holder_of(self.seat.rows(self.port or 0))}"
                )
            time.sleep(0.005)
        if self.sock is not None:
            queue = listening(self.seat.rows(self.port or 0))
            words.append(
                f"a fresh connection to {self._where} not accepted for {1e3 * elapsed:.0f} ms"
                f" ({queue.queued if queue else 0} in its queue)"
            )
        if question is not None:
            if question.answered.is_set() and question.error is None:
                name, answer = self.node.name, question.answer
                raise NotProved(
                    f"{name} was stopped, yet status({name}) returned {answer!r}: it must ask the node itself"
                )
            words.append("status unanswered")
        return ", ".join(words)

    def prove_gone(self) -> str:
        """Prove the resume: the waiting connection is accepted, or a question answered. Raises NotProved."""
        began = time.monotonic()
        self._await_state(stopped=False)
        question = Question(self.status) if self.status else None
        while True:
            took = f"after {1e3 * (time.monotonic() - began):.0f} ms"
            if self.sock is not None and not self._waiting():
                return f"the waiting connection was accepted {took}"
            if question is not None and question.answered.is_set():
                if question.error is None:
                    return f"status answered {took}"
                question = Question(self.status) if self.status else None
            if self.sock is None and question is None:
                return f"{len(self.pids)} process(es) run again {took} (it listens on no port)"
            if time.monotonic() - began > WITHIN:
                raise NotProved(
                    f"{self.node.name} was resumed (pids {list(self.pids)}), but in {WITHIN:g} s "
                    "it neither accepted the connection that waits for it nor answered status"
                )
            time.sleep(0.005)

    def close(self) -> None:
        """Give the connection up; idempotent."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    @property
    def _where(self) -> str:
        return f"{self.node.host}:{self.port}"

    def _waiting(self) -> bool:
        """Whether our connection is still in the queue: it has no inode until somebody accepts it."""
        assert self.sock is not None and self.port is not None
        own = self.sock.getsockname()[1]
        return any(
            row.remote == own and (row.state == SYN_RECV or (row.state == ESTABLISHED and row.inode == 0))
            for row in self.seat.rows(self.port)
        )

    def _await_state(self, *, stopped: bool) -> None:
        deadline = time.monotonic() + WITHIN
        while wrong := self.seat.unsettled(self.pids, stopped):
            if time.monotonic() > deadline:
                raise NotProved(
                    f"{self.node.name}: {wrong} {'not stopped' if stopped else 'still stopped'} "
                    f"{WITHIN:g} s after it was asked for"
                )
            time.sleep(0.001)


class Question:
    """A call of `status` in a thread of its own, since a stopped node may hold it for as long as it likes."""

    def __init__(self, status: Status) -> None:
        self.answer: Mapping[str, Any] | None = None
        self.error: Exception | None = None
        self.answered = Event()
        self._status = status
        Thread(target=self._ask, name="nemesis-status-proof", daemon=True).start()

    def _ask(self) -> None:
        try:
            self.answer = self._status()
        except Exception as error:  # whatever a driver raises when nobody answers
            self.error = error
        self.answered.set()


def _connect(seat: Seat, port: int) -> OSError | None:
    try:
        seat.connect(port, 1.0).close()
    except OSError as error:
        return error
    return None

"""The test process's end of its supervisor: requests with answers, exits as they happen."""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any

from harness.cluster import supervisor
from harness.cluster.lock import ClusterError
from harness.cluster.site import Refused

WITHIN = 15.0  # seconds for an answer; the supervisor itself gives up on a process after 5


class Supervisor:
    """A running supervisor process (`harness.cluster.supervisor`).

    `exited(name, how)` is called for each exit of something it started, `lost()` when it is gone though
    nobody closed it, ``clock(event)`` for what its patcher of clocks tells; all in a thread of this object,
    where no request may be made.
    """

    def __init__(
        self,
        label: str,
        log: Path,
        exited: Callable[[str, Mapping[str, Any]], None],
        lost: Callable[[], None],
        clock: Callable[[Mapping[str, Any]], None] = lambda event: None,
    ) -> None:
        ours, theirs = socket.socketpair()
        with theirs, open(log, "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, str(theirs.fileno()), str(os.getpid())],
                env={**os.environ, supervisor.RUN: label},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._log, self._exited, self._lost, self._clock = log, exited, lost, clock
        self._socket = ours
        self._sending, self._waiting = Lock(), dict[int, SimpleQueue[dict[str, Any]]]()
        self._ids = itertools.count()
        self._open = True
        self._reader = Thread(target=self._read, name="nemesis-supervisor", daemon=True)
        self._reader.start()

    def request(
        self, do: str, *, descriptor: int | None = None, within: float = WITHIN, **how: Any
    ) -> dict[str, Any]:
        """Have the supervisor `do` something, `how`; `descriptor` is passed along.

        Raises Refused, or ClusterError where it is gone or does not answer `within` seconds.
        """
        if current_thread() is self._reader:
            raise ClusterError(
                f"{do!r} was asked for by the receiver of an event, while the cluster waits for it: "
                "ask from another thread"
            )
        number, answers = next(self._ids), SimpleQueue[dict[str, Any]]()
        line = json.dumps({"id": number, "do": do, "with": how}).encode() + b"\n"
        with self._sending:
            if not self._open:
                raise ClusterError(self._gone())
            self._waiting[number] = answers
            try:
                if descriptor is not None:  # with the first byte only: it would be passed again with each
                    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
                    line = line[self._socket.sendmsg([line[:1]], [rights]) :]
                self._socket.sendall(line)
            except OSError:
                raise ClusterError(self._gone()) from None
        try:
            answer = answers.get(timeout=within)
        except Empty:
            raise ClusterError(
                f"the supervisor (pid {self.pid}) did not answer {do!r} within {within:g} s; is it stopped?"
            ) from None
        finally:
            self._waiting.pop(number, None)
        if "lost" in answer:
            raise ClusterError(self._gone())
        if "error" in answer:
            raise Refused(answer["error"], answer.get("errno"))
        return answer

    def close(self, within: float = WITHIN) -> None:
        """End it, which ends everything it started, and wait until it is gone; idempotent.

        Raises ClusterError where that takes more than `within` seconds.
        """
        self._disown()
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"the supervisor (pid {self.pid}) does not end; see {self._log}") from None

    def leave(self) -> None:
        """Let go of one that was told to ``keep``."""
        self._disown()
        self._process.returncode = 0  # or Popen complains that nobody waits for it

    def _disown(self) -> None:
        with self._sending:
            self._open = False
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if current_thread() is not self._reader:
            self._reader.join(WITHIN)
        self._socket.close()

    def _read(self) -> None:
        rest = b""
        while data := self._receive():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "clock" in message:
                    self._clock(message["clock"])
                elif "re" not in message:
                    self._exited(message.pop("exit"), message)
                elif waiting := self._waiting.get(message["re"]):
                    waiting.put(message)
        with self._sending:
            lost, self._open = self._open, False
            waiting_now = list(self._waiting.values())
        for waiting in waiting_now:
            waiting.put({"lost": True})
        if lost:
            self._lost()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except OSError:
            return b""

    def _gone(self) -> str:
        with contextlib.suppress(OSError):
            if words := self._log.read_text(errors="replace")[-2000:].strip():
                return f"the supervisor (pid {self.pid}) has ended, and with it every node:\n{words}"
        return f"the supervisor (pid {self.pid}) has ended, and with it every node: was it killed?"

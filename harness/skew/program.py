"""The patcher from the test process's side: requests with answers, and what it tells unasked."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from harness.fabric import FaultError
from harness.skew import patcher

WITHIN = 15.0  # seconds for an answer; the patcher itself gives up on a process after a few

Heard = Callable[[Mapping[str, Any]], None]


class PatcherError(FaultError):
    """A patcher could not do what it was asked for; the text says why."""


@dataclass(frozen=True)
class Way:
    """One way to a node's processes: its `name` in words, ``request(do, **how)``, and `who` they are to it.

    `request` raises PatcherError.
    """

    name: str
    request: Callable[..., Mapping[str, Any]]
    who: Callable[[str], Mapping[str, Any]]


class Conversation:
    """JSON lines with a patcher: requests by `write`, answers and events in `lines`.

    ``heard(event)`` is called for what it tells unasked, in a thread of this object; `gone` says why there
    are no more lines.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        lines: Iterable[bytes],
        gone: Callable[[], str],
        heard: Heard,
    ) -> None:
        self._write, self._lines, self._gone, self._heard = write, lines, gone, heard
        self._sending, self._waiting = Lock(), dict[int, SimpleQueue[Mapping[str, Any]]]()
        self._ids = itertools.count()
        self._open = True
        self._reader = Thread(target=self._read, name="nemesis-patcher", daemon=True)
        self._reader.start()

    def join(self) -> None:
        """Wait until there are no more lines."""
        self._reader.join(WITHIN)

    def request(self, do: str, **how: Any) -> Mapping[str, Any]:
        """Have it `do` something. Raises PatcherError where it refuses, has ended or does not answer."""
        number, answers = next(self._ids), SimpleQueue[Mapping[str, Any]]()
        with self._sending:
            self._waiting[number] = answers
            try:
                if not self._open:
                    raise BrokenPipeError
                self._write(json.dumps({"id": number, "do": do, "with": how}).encode() + b"\n")
            except (OSError, ValueError):
                raise PatcherError(f"the patcher has ended: {self._gone()}") from None
        try:
            answer = answers.get(timeout=WITHIN)
        except Empty:
            raise PatcherError(f"the patcher did not answer {do!r} within {WITHIN:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if "lost" in answer:
            raise PatcherError(f"the patcher has ended: {self._gone()}")
        if "error" in answer:
            raise PatcherError(str(answer["error"]))
        return answer

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._lines:
                message = json.loads(line)
                if "event" in message:
                    self._heard(message["event"])
                elif waiting := self._waiting.get(message["re"]):
                    waiting.put(message)
        with self._sending:
            self._open = False
            lost = list(self._waiting.values())
        for waiting in lost:
            waiting.put({"lost": True})


class Program:
    """A patcher as a process of this machine, in conversation; it ends with its owner."""

    def __init__(self, heard: Heard) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", patcher.__file__],
            cwd="/",
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._talk = Conversation(self._process.stdin.write, self._process.stdout, self._why, heard)
        self.request = self._talk.request

    def close(self) -> None:
        """End it; the processes that it has patched stay as they are. Idempotent."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._talk.join()
        for pipe in (process.stdout, process.stderr):
            pipe.close()

    def _why(self) -> str:
        assert self._process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired, OSError, ValueError):
            self._process.wait(1.0)
            return self._process.stderr.read().decode(errors="replace")[-2000:].strip()
        return "it says nothing"


__all__ = ["Conversation", "PatcherError", "Program", "Way"]

"""The inside of a network namespace, as the test process uses it: sockets, commands, files of that place."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.fabric import FaultError

WITHIN = 15.0  # seconds for an answer; the agent gives a command 10
RIGHTS = socket.CMSG_SPACE(256 * array.array("i").itemsize)
TCP = (int(socket.AF_INET), int(socket.SOCK_STREAM), 0)
UDP = (int(socket.AF_INET), int(socket.SOCK_DGRAM), 0)


class InsideError(FaultError):
    """A namespace's agent could not do what was asked, or is gone; the text says where and why."""


class Inside:
    """One place (the router, or a node's network), through its agent (`harness.fabric.agent`).

    Sockets made here stay in that place while this process uses them. Safe from several threads. Raises
    InsideError where the agent is gone, refuses or does not answer.
    """

    def __init__(self, place: str, directory: Path, *, within: float = 10.0) -> None:
        self.place = place
        self._turn = threading.Lock()
        self._socket = _connect(directory, f"{place}.sock", within, place)
        self._socket.settimeout(WITHIN)

    def sockets(self, kinds: Sequence[tuple[int, int, int]]) -> list[socket.socket]:
        """New sockets of this place, of (family, type, protocol) each; neither bound nor connected."""
        made: list[socket.socket] = []
        for first in range(0, len(kinds), 200):
            some = kinds[first : first + 200]
            _, descriptors = self._ask("sockets", kinds=some)
            made += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        return made

    def listening(self, host: str, port: int) -> socket.socket:
        """A TCP socket of this place that listens at `host` and `port`."""
        (sock,) = self.sockets([TCP])
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(256)
        except OSError as error:
            sock.close()
            raise InsideError(f"{self.place}: {host}:{port} cannot be listened on: {error}") from error
        return sock

    def connect(self, host: str, port: int, within: float) -> socket.socket:
        """A TCP connection opened from this place. Raises OSError as `socket.create_connection`."""
        (sock,) = self.sockets([TCP])
        try:
            sock.settimeout(within)
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        """The output of a command run in this place."""
        answer, _ = self._ask("run", argv=list(argv), stdin=stdin)
        if answer["code"]:
            raise InsideError(
                f"{self.place}: {' '.join(argv)} failed with code {answer['code']}:"
                f" {(answer['err'] or answer['out']).strip()}"
            )
        return str(answer["out"])

    def restore(self, rules: str) -> None:
        """Load rules into this place's packet filter: in force on return.

        Differs from `run` of iptables-restore in that it does not wait until the kernel has freed what the
        rules have taken away.
        """
        answer, _ = self._ask("restore", rules=rules)
        if answer["err"]:
            raise InsideError(f"{self.place}: iptables-restore did not load the rules: {answer['err']}")

    def read(self, path: str) -> str:
        """The text of a file as this place sees it."""
        answer, _ = self._ask("read", path=path)
        return str(answer["out"])

    def spawn(self, argv: Sequence[str]) -> socket.socket:
        """Start a program in this place; the socket is its standard input and output, and ends it when
        closed."""
        _, (descriptor,) = self._ask("spawn", argv=list(argv))
        return socket.socket(fileno=descriptor)

    def namespace(self) -> tuple[str, str]:
        """Paths below /proc of this place's user and network namespaces, for who wants to enter them."""
        answer, _ = self._ask("namespace")
        return answer["user"], answer["net"]

    def close(self) -> None:
        """Let go of the agent; idempotent."""
        self._socket.close()

    def _ask(self, do: str, **how: Any) -> tuple[dict[str, Any], list[int]]:
        with self._turn:
            try:
                self._socket.sendall(json.dumps({"do": do, **how}).encode() + b"\n")
                data, descriptors = self._answer()
            except OSError as error:
                raise InsideError(
                    f"{self.place}: its agent does not answer {do!r} ({error}); is it still running?"
                ) from error
        answer: dict[str, Any] = json.loads(data)
        if "error" in answer:
            raise InsideError(f"{self.place}: {do}: {answer['error']}")
        return answer, descriptors

    def _answer(self) -> tuple[bytes, list[int]]:
        data, descriptors = b"", list[int]()
        while not data.endswith(b"\n"):
            part, ancillary, _, _ = self._socket.recvmsg(1 << 16, RIGHTS, socket.MSG_CMSG_CLOEXEC)
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors += array.array("i", payload)
            if not part:
                raise ConnectionError("it has ended")
            data += part
        return data, descriptors


def _connect(directory: Path, name: str, within: float, place: str) -> socket.socket:
    """The agent's socket, as soon as it listens; by a short path, since that of a run may be too long."""
    deadline = time.monotonic() + within
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(f"/proc/self/fd/{descriptor}/{name}")
                return sock
            except OSError as error:
                sock.close()
                if time.monotonic() > deadline:
                    raise InsideError(
                        f"{place}: no agent listens at {directory / name} within {within:g} s: {error}"
                    ) from error
            time.sleep(0.002)
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


__all__ = ["TCP", "UDP", "Inside", "InsideError"]

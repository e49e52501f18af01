"""A process's connection to one raft_kv node: one JSON line per request, one per answer."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Literal

from harness.target import Client, Endpoint, Failed, Op, Unknown

FUNCTIONS = ("read", "write", "cas", "rmw", "add")


class RaftKVClient(Client):
    """Reads, writes, compare-and-sets, read-modify-writes of registers, and adds to the set.

    ``read`` of key None returns the set's elements; ``rmw`` reads, then compares and sets ``op.value`` in,
    and returns ``[read, written]``. A request whose connection broke is sent once more with the same id
    (`Op.index` in this client's session), which the store applies once.
    """

    outcomes: ClassVar[Mapping[type[BaseException], Literal["ok", "fail", "info"]]] = {
        ConnectionRefusedError: "fail",
        OSError: "info",  # TimeoutError and ConnectionError among them
    }
    open_within: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self.session = secrets.token_hex(6)
        self._endpoint: Endpoint | None = None
        self._socket: socket.socket | None = None
        self._number = 0
        self._closed = True

    def open(self, node: Endpoint) -> None:
        """Connect and have one ping answered: an accepted connection alone may be a proxy's."""
        self._endpoint, self._closed = node, False
        deadline = time.monotonic() + self.open_within
        self._connect(deadline)
        try:
            self._exchange(b'{"f":"ping"}\n', deadline, changes=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Break the connection, also under a waiting `invoke`, which then tries no other."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def invoke(self, op: Op) -> Any:
        """Carry out `op` within nine tenths of its time limit.

        Raises Failed and Unknown by the store's catalogue of errors, TimeoutError and ConnectionError by
        the socket's, ValueError for an `op.f` that is none of read, write, cas, rmw, add.
        """
        self.sent = False
        self._number = op.index if op.index >= 0 else self._number + 1
        deadline = time.monotonic() + 0.9 * op.timeout
        if op.f in ("write", "add"):
            self._ask({"f": op.f, "key": op.key, "value": op.value}, deadline)
            return None
        if op.f == "read":
            return self._ask({"f": "read", "key": op.key}, deadline)
        if op.f == "cas":
            self._ask({"f": "cas", "key": op.key, "value": list(op.value)}, deadline)
            return None
        if op.f == "rmw":
            seen = self._ask({"f": "read", "key": op.key}, deadline)
            self._ask({"f": "cas", "key": op.key, "value": [seen, op.value]}, deadline)
            return [seen, op.value]
        raise ValueError(f"raft_kv has no operation {op.f!r}; it has {', '.join(FUNCTIONS)}")

    def _ask(self, request: dict[str, Any], deadline: float) -> Any:
        changes = request["f"] != "read"
        if changes:
            request |= {"session": self.session, "id": self._number}
        answer, again = self._twice(request, deadline, changes)
        if "error" not in answer:
            return answer["ok"]
        text = f"{answer['error']}: {answer['text']}"
        # A refusal of the second sending says nothing of the first; only a result is kept per request id.
        definite = answer["definite"] and (not again or answer["error"] == "precondition")
        raise Failed(text) if definite or not changes else Unknown(text)

    def _twice(self, request: dict[str, Any], deadline: float, changes: bool) -> tuple[Any, bool]:
        """The answer, and whether an earlier sending may have arrived, too."""
        for last in (False, True):
            again = self.sent and last
            # The node gives up a little earlier than this client, so that its reason arrives.
            within = max(0.9 * (deadline - time.monotonic()), 0.001)
            line = json.dumps(request | {"within": within}, separators=(",", ":")).encode() + b"\n"
            try:
                if self._socket is None:
                    self._connect(deadline)
                return self._exchange(line, deadline, changes), again
            except ConnectionError as error:
                self._drop()
                if self.sent and isinstance(error, ConnectionRefusedError):
                    raise ConnectionResetError("it broke, and the node refuses another") from error
                if last or isinstance(error, ConnectionRefusedError):
                    raise
            except OSError:
                self._drop()  # a late answer must not meet the next request
                raise
        raise AssertionError("unreachable")

    def _connect(self, deadline: float) -> None:
        if self._endpoint is None or self._closed:
            raise ConnectionAbortedError("the client is closed: call open(node) first")
        address = (self._endpoint.host, self._endpoint.port)
        self._socket = socket.create_connection(address, timeout=_left(deadline))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _exchange(self, line: bytes, deadline: float, changes: bool) -> Any:
        connection = self._socket
        if connection is None:
            raise ConnectionAbortedError("closed")
        connection.settimeout(_left(deadline))
        self.sent |= changes
        connection.sendall(line)
        answer = b""
        while not answer.endswith(b"\n"):
            connection.settimeout(_left(deadline))
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionResetError("the node closed the connection")
            answer += piece
        return json.loads(answer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left

"""A process's connection to one redis node, by the standard driver's own connection: no retry, no pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry

from harness.target import Client, Endpoint, Op

FUNCTIONS = ("read", "write", "rmw", "add")
SET = "elements"


class RedisClient(Client):
    """Reads and writes of strings, read-modify-writes by GET and then SET, and adds to one set.

    ``read`` of key None returns the set's elements; ``rmw`` returns ``[read, written]``. A refusal
    (`ResponseError`: a replica is read-only, a node still loads) did not happen; of a request whose answer
    did not come nobody knows.
    """

    outcomes: ClassVar[Mapping[type[BaseException], Literal["ok", "fail", "info"]]] = {
        ResponseError: "fail",
        TimeoutError: "info",
        ConnectionError: "info",
        OSError: "info",
    }
    within: ClassVar[float] = 0.9  # seconds for an answer, below the workloads' limit of 1

    def open(self, node: Endpoint) -> None:
        """Connect, and have a ping answered: an accepted connection alone may be the proxy's."""
        self._connection = connection(node.host, node.port, self.within)
        self._connection.connect()
        self._ask("PING")

    def invoke(self, op: Op) -> Any:
        """Carry out `op`. Raises the driver's errors, ValueError for an `op.f` that it has not."""
        self.sent = False
        if op.f == "add":
            self._change("SADD", SET, op.value)
            return None
        if op.f == "write":
            self._change("SET", op.key, op.value)
            return None
        if op.f == "rmw":
            read = self._read(op.key)
            self._change("SET", op.key, op.value)
            return [read, op.value]
        if op.f != "read":
            raise ValueError(f"redis has no operation {op.f!r}; it has {', '.join(FUNCTIONS)}")
        return self._read(op.key) if op.key is not None else sorted(map(int, self._ask("SMEMBERS", SET)))

    def close(self) -> None:
        """Break the connection, also under a waiting `invoke`."""
        if hasattr(self, "_connection"):
            self._connection.disconnect()

    def _read(self, key: Any) -> int | None:
        found = self._ask("GET", key)
        return None if found is None else int(found)

    def _change(self, *words: Any) -> None:
        self.sent = True
        self._ask(*words)

    def _ask(self, *words: Any) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()


def connection(host: str, port: int, within: float) -> Connection:
    """A connection to be, whose every step may take `within` seconds; it sends nothing twice."""
    return Connection(
        host=host,
        port=port,
        socket_timeout=within,
        socket_connect_timeout=within,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=True,
    )


__all__ = ["FUNCTIONS", "RedisClient", "connection"]

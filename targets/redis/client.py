"""A process's connection to redis by the standard driver, which sends nothing twice: to one node, or to the
primary, whoever that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from harness.target import Client, Endpoint, Op

FUNCTIONS = ("read", "write", "rmw", "add")
SET = "elements"
MASTER = "m"  # what the sentinels call what they watch


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


class Guide(Sentinel):
    """The driver's Sentinel, asking the one beside `node`; what it names is reached through the fabric."""

    def __init__(self, node: Endpoint, within: float) -> None:
        there = node.host, node.ports["sentinel"]
        super().__init__([there], **patience(within))  # type: ignore[no-untyped-call]
        self._node = node

    def discover_master(self, service_name: str) -> tuple[str, int]:
        named = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        return self._node.reach(*named)

    def discover_slaves(self, service_name: str) -> list[tuple[str, int]]:
        named = super().discover_slaves(service_name)  # type: ignore[no-untyped-call]
        return [self._node.reach(host, port) for host, port in named]


class SentinelClient(RedisClient):
    """Differs from `RedisClient` in that it connects to the primary that its node's Sentinel names, and to
    the next one when it is told that this is none any more.
    """

    def open(self, node: Endpoint) -> None:
        """Connect to the primary. Raises the driver's errors."""
        self._guide = Guide(node, self.within)
        primary = self._guide.master_for(  # type: ignore[no-untyped-call]
            MASTER, protocol=2, decode_responses=True
        )
        self._connection = primary.connection_pool.get_connection()
        self._ask("PING")

    def close(self) -> None:
        """Break all connections."""
        super().close()
        if hasattr(self, "_guide"):
            for sentinel in self._guide.sentinels:
                sentinel.close()


def patience(within: float) -> Mapping[str, Any]:
    """What makes a driver wait so many seconds for each step, and send nothing twice."""
    return {
        "socket_timeout": within,
        "socket_connect_timeout": within,
        "retry": Retry(NoBackoff(), 0),
    }


def connection(host: str, port: int, within: float) -> Connection:
    """A connection to be, whose every step may take `within` seconds; it sends nothing twice."""
    return Connection(host=host, port=port, protocol=2, decode_responses=True, **patience(within))


__all__ = ["FUNCTIONS", "MASTER", "SET", "Guide", "RedisClient", "SentinelClient", "connection"]

"""What a system under test must offer: how a node starts, when it is ready, and a client.

A target of your own is about fifteen lines::

    class Shop(Target):
        roles = {"app": 2, "db": 1}
        client = ShopClient

        def command(self, node):
            return [sys.executable, "server.py", "--port", str(node.port), "--data", str(node.data),
                    *(f"--peer={p.name}={p.address}" for p in node.peers)]
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from harness.framing import Framing, Framings, framings
from harness.history import OUTCOMES, Outcome


class TargetError(ValueError):
    """A target's description cannot work; the text says which part, and what it should be."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something listens. `address` is ``host:port``."""

    name: str
    role: str
    host: str
    ports: Mapping[str, int]

    @property
    def port(self) -> int:
        """The first declared port."""
        return next(iter(self.ports.values()))

    @property
    def address(self) -> str:
        """``host:port`` of the first declared port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Node(Endpoint):
    """A node as its own start command sees it.

    `host` and `ports` are what it must bind; `peers` are the addresses at which *it* reaches the others
    (through the fabric: each link has its own); `data` is its own directory, kept over restarts and new
    for each run. `index` counts from 0. `container`: it is started from the target's image, with
    that image's programs and files.
    """

    index: int = 0
    data: Path = Path()
    peers: tuple[Endpoint, ...] = ()
    container: bool = False


@dataclass(frozen=True, slots=True)
class Op:
    """What a client is asked to do.

    `index` is unique in the run and the same in the history: use it as request id where a system has
    idempotency keys. `key` is None where the workload has no keys. `timeout` is the time limit in seconds.
    """

    f: str
    value: Any = None
    key: Hashable = None
    index: int = -1
    process: int = -1
    timeout: float = 1.0
    final: bool = False


class Failed(Exception):
    """Raise from `invoke` when the operation definitely did not happen (``fail``)."""


class Unknown(Exception):
    """Raise from `invoke` when the operation may have happened, or may happen later (``info``)."""


class Client:
    """A connection of one process to one node: `open`, `invoke`, `close`.

    Plain functions run in a thread per process, so any driver fits; coroutines run together in one loop.
    `invoke` returns what the operation reported: a read its value, a write nothing. It raises `Failed`
    when the operation did not happen and `Unknown` when it may have; any other exception goes through
    `classify`. Where a client knows that nothing of an operation has left yet, it sets ``self.sent = False``
    when `invoke` starts and ``True`` before the first byte; untouched it counts as sent.
    """

    outcomes: ClassVar[Mapping[type[BaseException], Literal["ok", "fail", "info"]]] = {}
    reads: ClassVar[frozenset[str]] = frozenset({"read"})
    sent: bool = True

    def open(self, node: Endpoint) -> Any:
        """Connect to `node`; an exception here is ``fail: no-client`` for the operation that waited."""

    def invoke(self, op: Op) -> Any:
        """Carry out `op` and return its result."""
        raise NotImplementedError(f"{type(self).__name__} has no invoke(op)")

    def close(self) -> Any:
        """Release the connection; called from any thread, also while `invoke` hangs."""

    def classify(self, error: BaseException, op: Op, sent: bool) -> Outcome | None:
        """The outcome that `error` means, or None: nobody knows, which fails the run.

        The shorthand is the table `outcomes` from exceptions to ``fail`` or ``info``, nearest class first. A
        mapped error of an operation that was not `sent`, or of one of `reads` (no change), is ``fail``.
        """
        for kind in type(error).__mro__:
            if (outcome := self.outcomes.get(kind)) is not None:
                return "fail" if outcome == "info" and (not sent or op.f in self.reads) else outcome
        return None


class Running(Protocol):
    """A running cluster as a target sees it (`Target.setup`, `Target.status`)."""

    @property
    def nodes(self) -> Sequence[Endpoint]: ...


@dataclass(frozen=True)
class Target:
    """A system under test. Subclass it, say `command` and `client`; the rest has defaults.

    `nodes` is a number of nodes, or a number per role; names are ``n1 ...`` for one role, else
    ``app1 app2 db1``. Instances are frozen: a test that needs another configuration makes another target.
    """

    nodes: int | Mapping[str, int] = 3

    roles: ClassVar[Mapping[str, int]] = {}
    # names, or names with the numbers that nodes listen on where each has an address of its own
    ports: ClassVar[tuple[str, ...] | Mapping[str, int]] = ("main",)
    # how messages are told apart on ports, for faults on whole messages; see `harness.framing`
    framing: ClassVar[Mapping[str, Framing | Framings]] = {}
    # roles whose nodes clients connect to, where not every node serves them; () is all
    client_roles: ClassVar[tuple[str, ...]] = ()
    client: ClassVar[type[Any]] = Client
    # the image that nodes are started from on runtime docker; built from `context` (a directory) where given
    image: ClassVar[str] = ""
    context: ClassVar[Path | None] = None
    dockerfile: ClassVar[str] = "Dockerfile"
    # regular expressions or literal text; a line of a node's log that matches fails the run
    panics: ClassVar[tuple[str, ...]] = (
        "panic:",
        "PANIC",
        "Traceback (most recent call last)",
        "fatal error:",
    )
    ready_within: ClassVar[float] = 20.0
    status_every: ClassVar[float] = 0.2

    def command(self, node: Node) -> Sequence[str]:
        """The command line that starts `node`; it must stay in the foreground."""
        raise NotImplementedError(f"{type(self).__name__} has no command(node)")

    def environment(self, node: Node) -> Mapping[str, str]:
        """Environment variables beside those of the test process."""
        return {}

    def container(self, node: Node) -> Mapping[str, Any]:
        """More about the node's container, as ``docker.containers.create`` takes it (`user`, `volumes`)."""
        return {}

    def ready(self, node: Endpoint) -> bool:
        """Whether `node` serves: by default, whether its first port accepts a connection."""
        try:
            socket.create_connection((node.host, node.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def setup(self, cluster: Running) -> None:
        """Called once when every node is ready: schema, users, the like."""

    def status(self, node: Endpoint) -> Mapping[str, Any] | None:
        """Role, term and so on of `node` (``{"role": "leader"}``), polled; changes become node events.

        Selectors such as ``leader`` need it. Raise OSError where the node does not answer.
        """
        return None

    def event(self, line: str) -> tuple[str, Mapping[str, Any]] | None:
        """A line of a node's log as node event ``(kind, detail)``, or None: most lines are none.

        Differs from `status` in that the node says it itself, at once, and misses no change.
        """
        return None

    def make_cluster(self, *, run_id: str, logs: Path, on_event: Any) -> Any:
        """A runtime of the target's own (see `harness.cluster.Cluster`), or None: the one that was chosen."""
        return None

    # ------------------------------------------------------------------ derived, not meant to be changed

    @property
    def name(self) -> str:
        """The target's name in reports."""
        return type(self).__name__

    def members(self) -> tuple[tuple[str, str], ...]:
        """(name, role) of each node. Raises TargetError for impossible numbers."""
        roles = self.nodes if isinstance(self.nodes, Mapping) else (dict(self.roles) or {"node": self.nodes})
        if not roles or any(not isinstance(n, int) or n < 1 for n in roles.values()):
            raise TargetError(f"{self.name}: nodes {dict(roles)!r} must be one or more per role")
        if len(roles) == 1:
            ((role, count),) = roles.items()
            return tuple((f"n{i + 1}", role) for i in range(count))
        return tuple((f"{role}{i + 1}", role) for role, count in roles.items() for i in range(count))

    def check(self) -> None:
        """Raise TargetError, naming the part, where this target cannot work."""
        roles = dict.fromkeys(role for _, role in self.members())
        if strange := [role for role in self.client_roles if role not in roles]:
            raise TargetError(
                f"{self.name}: client_roles has {strange[0]!r}, but the roles are {', '.join(roles)}"
            )
        if not self.ports or len(set(self.ports)) != len(self.ports):
            raise TargetError(f"{self.name}: ports {self.ports!r} must be one or more different names")
        if strange := [port for port in self.framing if port not in self.ports]:
            raise TargetError(
                f"{self.name}: framing has {strange[0]!r}, but the ports are {', '.join(self.ports)}"
            )
        for port, declared in self.framing.items():
            try:
                framings(declared)
            except ValueError as error:
                raise TargetError(f"{self.name}.framing[{port!r}]: {error}") from None
        for verb in ("open", "invoke", "close"):
            if not callable(getattr(self.client, verb, None)):
                raise TargetError(
                    f"{self.name}: client {self.client!r} has no {verb}(); it needs open, invoke, close"
                )
        kinds = {v: inspect.iscoroutinefunction(getattr(self.client, v)) for v in ("open", "close")}
        if not is_async(self.client) and any(kinds.values()):
            verb = next(v for v, coroutine in kinds.items() if coroutine)
            raise TargetError(
                f"{self.name}: {self.client.__name__}.{verb} is a coroutine but invoke is none; "
                "make invoke an async def, too"
            )
        for kind, outcome in getattr(self.client, "outcomes", {}).items():
            if outcome not in OUTCOMES:
                where = f"{self.client.__name__}.outcomes[{kind.__name__}]"
                raise TargetError(f"{where} is {outcome!r}, none of {', '.join(OUTCOMES)}")

    def has_status(self) -> bool:
        """Whether this target says who leads."""
        return type(self).status is not Target.status or type(self).event is not Target.event


def is_async(client: type[Any]) -> bool:
    """Whether a client's `invoke` is a coroutine; then all processes share one event loop."""
    return inspect.iscoroutinefunction(client.invoke)


__all__ = [
    "Client",
    "Endpoint",
    "Failed",
    "Node",
    "Op",
    "Running",
    "Target",
    "TargetError",
    "Unknown",
    "is_async",
]

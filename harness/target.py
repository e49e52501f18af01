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
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from harness.framing import Framing, Framings, framings
from harness.history import OUTCOMES, Outcome

Address = tuple[str, int]  # host (or name) and port
LEAST_DISK = 1 << 20  # bytes of a data volume of bounded size


class TargetError(ValueError):
    """A target's description cannot work; the text says which part, and what it should be."""


class UnknownAddress(LookupError):
    """An address is none of the cluster's; the text lists those that are known."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something listens. `address` is ``host:port``.

    `addresses` has, for each address by which the cluster's nodes know each other, the one that leads there
    from where this endpoint does (see `reach`).
    """

    name: str
    role: str
    host: str
    ports: Mapping[str, int]
    addresses: Mapping[Address, Address] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )

    @property
    def port(self) -> int:
        """The first declared port. Raises TargetError where there is none."""
        for port in self.ports.values():
            return port
        raise TargetError(f"{self.name} has no TCP port: declare one in `ports`, or in the image by EXPOSE")

    @property
    def address(self) -> str:
        """``host:port`` of the first declared port."""
        return f"{self.host}:{self.port}"

    def reach(self, host: str, port: int) -> Address:
        """Where to connect for an address that the cluster has told: a node's name or host, and its port.

        For drivers that follow what nodes advertise. From a client's endpoint it leads through the fabric,
        from a node's own (`setup`, `ready`, `status`) past all faults. Raises UnknownAddress.
        """
        try:
            return self.addresses[host, int(port)]
        except KeyError:
            known = ", ".join(sorted(f"{name}:{number}" for name, number in self.addresses))
            raise UnknownAddress(
                f"{host}:{port} is no address of this cluster, which knows {known or 'none'}: let nodes"
                " advertise one of these, and declare each port that clients use in `ports`"
            ) from None


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
class File:
    """A file that a node's container has from its first start on (`Target.container`)."""

    text: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """Roles whose nodes start at the same time; those of `ready` must serve before the next stage begins."""

    roles: tuple[str, ...]
    ready: tuple[str, ...] = ()


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
    # names, or names with the numbers that nodes listen on where each has an address of its own; or such a
    # mapping for each role. An image without a `command` listens where it says itself (EXPOSE), unless told
    ports: ClassVar[tuple[str, ...] | Mapping[str, int] | Mapping[str, Mapping[str, int]]] = ("main",)
    # how messages are told apart on ports, for faults on whole messages; see `harness.framing`
    framing: ClassVar[Mapping[str, Framing | Framings]] = {}
    # roles whose nodes clients connect to, where not every node serves them; () is all
    client_roles: ClassVar[tuple[str, ...]] = ()
    client: ClassVar[type[Any]] = Client
    # the image that nodes are started from on runtime docker; built from `context` (a directory) where given;
    # one for all, or one for each role
    image: ClassVar[str | Mapping[str, str]] = ""
    context: ClassVar[Path | Mapping[str, Path] | None] = None
    dockerfile: ClassVar[str] = "Dockerfile"
    # bytes of a node's data volume on runtime docker, in memory then; 0: the engine's ordinary volume
    disk: ClassVar[int] = 0
    # regular expressions or literal text; a line of a node's log that matches fails the run
    panics: ClassVar[tuple[str, ...]] = (
        "panic:",
        "PANIC",
        "Traceback (most recent call last)",
        "fatal error:",
    )
    # seconds: how coarse `clock` is; how long a node's system calls are watched, before a clock fault, for
    # those that would escape it, which slows the node
    clock_resolution: ClassVar[float] = 0.0
    clock_audit: ClassVar[float] = 0.0
    ready_within: ClassVar[float] = 20.0
    status_every: ClassVar[float] = 0.2

    def command(self, node: Node) -> Sequence[str]:
        """The command line that starts `node`; it must stay in the foreground.

        A target with an image need not have one: its containers do what the image says.
        """
        raise NotImplementedError(f"{type(self).__name__} has no command(node)")

    def environment(self, node: Node) -> Mapping[str, str]:
        """Environment variables beside those of the test process."""
        return {}

    def container(self, node: Node) -> Mapping[str, Any]:
        """More about the node's container, as ``docker.containers.create`` takes it (`user`, `volumes`).

        Named volumes are the run's own: new, and removed with it. Beside that, `files` gives what the
        container has before its first start, a text or `File` by path, and `aliases` more host names.
        """
        return {}

    def ready(self, node: Endpoint) -> bool:
        """Whether `node` serves: by default, whether its first port accepts a connection.

        In containers with a health check it is, by default, what the engine says of their health.
        """
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

    def clock(self, node: Endpoint) -> float:
        """The time that `node` itself tells, in seconds since 1970: optional, the best proof of clock faults.

        Whatever the application shows of its wall clock: an SQL ``clock_timestamp()``, Redis' TIME, the Date
        of an HTTP answer. `clock_resolution` says how coarse that is. Must answer within a second.
        """
        raise NotImplementedError(f"{self.name} has no clock(node)")

    def event(self, line: str) -> tuple[str, Mapping[str, Any]] | None:
        """A line of a node's log as node event ``(kind, detail)``, or None: most lines are none.

        Differs from `status` in that the node says it itself, at once, and misses no change.
        """
        return None

    def make_cluster(self, *, run_id: str, logs: Path, on_event: Any) -> Any:
        """A runtime of the target's own (see `harness.cluster.Cluster`), or None: the one that was chosen."""
        return None

    # ------------------------------------------------------------------ what a description elsewhere says

    def image_of(self, role: str) -> str:
        """The image of a role's nodes, or ''."""
        return self.image.get(role, "") if isinstance(self.image, Mapping) else self.image

    def build_of(self, role: str) -> Mapping[str, Any]:
        """How that image is built, as `harness.images.Image` takes it; {} where it is published."""
        context = self.context.get(role) if isinstance(self.context, Mapping) else self.context
        return {} if context is None else {"context": context, "dockerfile": self.dockerfile}

    def build(self, progress: Callable[[str], None]) -> None:
        """Build what images others than the harness build; called before they are looked for."""

    def ports_of(self, role: str) -> tuple[str, ...] | Mapping[str, int] | None:
        """The ports of a role's nodes, as `ports`; None: those that its image exposes."""
        given = self.ports
        if not isinstance(given, Mapping):
            return None if self.runs_image and given == Target.ports else given
        own = {key: value for key, value in given.items() if isinstance(value, Mapping)}
        return own.get(role, {}) if own else {k: v for k, v in given.items() if isinstance(v, int)}

    def listens(self, role: str) -> bool:
        """Whether a role's nodes are ready when their first port accepts a connection, not before."""
        return True

    def stages(self) -> tuple[Stage, ...]:
        """In what order nodes are started: by default all at once."""
        return (Stage(tuple(dict.fromkeys(role for _, role in self.members()))),)

    def jobs(self) -> tuple[tuple[str, str], ...]:
        """(name, role) of containers that are no nodes: each runs in its role's stage, and must end well."""
        return ()

    def apart(self) -> frozenset[tuple[str, str]]:
        """Ordered pairs of nodes that never reach each other; ``("n1", "")``: n1 reaches nothing outside."""
        return frozenset()

    def notes(self) -> tuple[str, ...]:
        """Sentences for the report: what is not as somebody who knows this target's files would expect."""
        return ()

    # ------------------------------------------------------------------ derived, not meant to be changed

    @property
    def runs_image(self) -> bool:
        """Whether nodes do what their image says, since there is no command."""
        return type(self).command is Target.command and any(
            self.image_of(role) for role in dict.fromkeys(role for _, role in self.members())
        )

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
        self._check_roles(tuple(roles))
        if not isinstance(self.disk, int) or (self.disk and self.disk < LEAST_DISK):
            raise TargetError(
                f"{self.name}: disk is {self.disk!r}, but must be a whole number of bytes, at least "
                f"{LEAST_DISK}, or 0: a volume as large as the engine's disk"
            )
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

    def _check_roles(self, roles: tuple[str, ...]) -> None:
        """Raise TargetError where what is said by role does not fit the roles, or ports are none."""
        by_role: dict[str, object] = {"image": self.image, "context": self.context}
        if isinstance(self.ports, Mapping) and any(isinstance(v, Mapping) for v in self.ports.values()):
            by_role["ports"] = self.ports
        for what, given in by_role.items():
            if isinstance(given, Mapping) and (strange := [role for role in given if role not in roles]):
                raise TargetError(
                    f"{self.name}: {what} has {strange[0]!r}, but the roles are {', '.join(roles)}"
                )
        if isinstance(self.image, Mapping) and (bare := [role for role in roles if not self.image.get(role)]):
            raise TargetError(f"{self.name}: image says nothing for role {bare[0]!r}; give it one, too")
        for role in roles:
            ports = self.ports_of(role)
            if ports is not None and (
                isinstance(ports, str) or not self.ports or len(set(ports)) != len(ports)
            ):
                where = f" of role {role!r}" if "ports" in by_role else ""
                raise TargetError(f"{self.name}: ports {ports!r}{where} must be one or more different names")
            for name, number in ports.items() if isinstance(ports, Mapping) else ():
                if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 65536:
                    raise TargetError(f"{self.name}: port {name!r} is {number!r}; expected 1 to 65535")

    def has_status(self) -> bool:
        """Whether this target says who leads."""
        return type(self).status is not Target.status or type(self).event is not Target.event


def is_async(client: type[Any]) -> bool:
    """Whether a client's `invoke` is a coroutine; then all processes share one event loop."""
    return inspect.iscoroutinefunction(client.invoke)


__all__ = [
    "Address",
    "Client",
    "Endpoint",
    "Failed",
    "File",
    "Node",
    "Op",
    "Running",
    "Stage",
    "Target",
    "TargetError",
    "Unknown",
    "UnknownAddress",
    "is_async",
]

"""Where a cluster lives: what carries its links, and what starts, signals and ends its nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any, ClassVar

from harness.cluster.lock import ClusterError, RunDirectory
from harness.cluster.member import Member
from harness.cluster.resources import NO_CONTAINERS, Given
from harness.cluster.seat import Seat
from harness.fabric import CLIENT, Fabric, FaultUnsupported
from harness.skew.program import Heard, Way
from harness.target import Address, Endpoint, Node, Target

Exited = Callable[[str, Mapping[str, Any]], None]


class Refused(ClusterError):
    """A node could not be started or signalled; `errno` is the system's reason where there is one."""

    def __init__(self, text: str, errno: int | None) -> None:
        super().__init__(text)
        self.errno = errno


@dataclass(frozen=True)
class Ground:
    """What a site builds on. `exited(name, how)` is told of each end of what it started, `lost` that all is
    gone; `closing` is set when the cluster is being stopped, from whatever thread; `check` raises then.
    `messages` and `clocks` say that faults on whole messages, or on clocks, are wanted. ``clock(event)`` is
    told what a patcher of clocks tells.
    """

    target: Target
    run: RunDirectory
    logs: Path
    exited: Exited
    lost: Callable[[], None]
    closing: Event
    check: Callable[[], None]
    messages: bool = False
    clocks: bool = False
    clock: Heard = lambda event: None


class Site(ABC):
    """One runtime's way of carrying a cluster. Verbs raise ClusterError, `start` and `signal` Refused where
    the system says no.

    `helpers` are processes that are no nodes; their end ends the run.
    """

    helpers: ClassVar[Mapping[str, str]] = {}
    shared: ClassVar[bool] = True  # whether nodes share this machine's ports and could speak past the fabric
    at_once: ClassVar[int] = 1  # how many nodes are started at the same time
    fabric: Fabric
    notes: tuple[str, ...] = ()  # what of its making the report should say

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._ends: list[Callable[[], Any]] = []
        self._lock = Lock()

    def _own(self, close: Callable[[], Any]) -> None:
        """Have something closed by `close`, the last first; at once where that has begun already."""
        with self._lock:
            if not self.ground.closing.is_set():
                self._ends.append(close)
                return
        close()
        self.ground.check()

    @abstractmethod
    def open(self) -> None:
        """Bring up the network and what carries the links: `fabric` is there after it."""

    @abstractmethod
    def true(self, name: str, role: str, index: int) -> Node:
        """A node as its own start command sees it."""

    def seen(self, node: Node) -> Node:
        """The same node as this process reaches it, past all faults on links."""
        return node

    @abstractmethod
    def seat(self, node: Node) -> Seat:
        """How a node is looked at from within its own network."""

    @abstractmethod
    def member(self, node: Node, log: Path) -> Member:
        """The process that the target wants for `node`."""

    @abstractmethod
    def start(self, member: Member) -> int:
        """Start a node's process, its output appended to its log; the pid."""

    @abstractmethod
    def signal(self, name: str, number: int) -> list[int]:
        """SIGKILL, SIGSTOP or SIGCONT to all processes of a node; their pids."""

    @abstractmethod
    def keep(self) -> str:
        """Let everything outlive this process; how it is stopped."""

    @abstractmethod
    def verify(self, members: Mapping[str, Member]) -> None:
        """See that nothing is left. Raises ClusterError naming what is."""

    def end(self) -> list[str]:
        """End everything, the last first; what could not be, as words. Idempotent."""
        failed: list[str] = []
        while True:
            with self._lock:
                if not self._ends:
                    return failed
                close = self._ends.pop()
            try:
                close()
            except (ClusterError, OSError) as error:
                failed.append(str(error))

    def entry(self, node: Node) -> Endpoint:
        """Where clients reach `node`: through the fabric."""
        return self.reached(CLIENT, node.name, node.role)

    def reached(self, src: str, dst: str, role: str) -> Endpoint:
        """`dst` as `src` reaches it."""
        places = {port: self.fabric.endpoint(src, dst, port) for port in self.ports(dst, role)}
        if not places:
            raise ClusterError(
                f"{dst} has no TCP port by which {src} could reach it: declare one, or name the roles that "
                "clients connect to in client_roles"
            )
        host = next(iter(places.values()))[0]
        return Endpoint(dst, role, host, {port: number for port, (_, number) in places.items()})

    def known(self, node: Node) -> Iterator[tuple[str, int, str]]:
        """By which addresses nodes know `node`: a name or host, the number of a port, and the port's name."""
        for host in (node.name, node.host):
            for port, number in node.ports.items():
                yield host, number, port

    def addresses(self, nodes: Iterable[tuple[Node, Endpoint]]) -> Mapping[Address, Address]:
        """Where each address by which nodes know each other leads by the endpoints that are given for them,
        which lead there themselves. What several nodes are known by leads nowhere.
        """
        found: dict[Address, set[Address]] = {}
        for node, end in nodes:
            own = [(end.host, number, port) for port, number in end.ports.items()]
            for host, number, port in (*self.known(node), *own):
                found.setdefault((host, number), set()).add((end.host, end.ports[port]))
        return {known: leads.pop() for known, leads in found.items() if len(leads) == 1}

    def ports(self, name: str, role: str) -> Collection[str]:
        """The names of a node's ports."""
        return self.ground.target.ports_of(role) or ()

    def ready(self, node: Node) -> bool:
        """Whether a node serves, where its target asks no question of its own."""
        self.seat(node).connect(node.port, 1.0).close()
        return True

    def complete(self, names: Sequence[str]) -> None:  # noqa: B027  (only containers can be jobs)
        """Run those of the target's jobs, and see each of them end well."""

    def data(self, name: str) -> Path:
        """A node's own directory, new for each run."""
        path = self.ground.run.path / "data" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def members(self) -> Sequence[tuple[str, str]]:
        return self.ground.target.members()

    def explain(self, member: Member, error: Refused) -> str:
        """What to do where a node could not be started."""
        return ""

    def bypassed(self) -> Mapping[str, int]:
        """Packets that each node was sent by its peers past the fabric, and that were stopped at its door.

        Raises ClusterError where nothing would stop them any more.
        """
        return {}

    def take(self, resource: str, name: str, amount: float) -> str:
        """Limit a resource of a node, or take all of it; what proves it. Raises FaultError, too."""
        raise FaultUnsupported(f"{resource}: {NO_CONTAINERS.get(resource, 'there is no such resource')}")

    def give_back(self, resource: str, name: str) -> Given:
        """End what `take` began. Raises FaultError, too."""
        raise FaultUnsupported(f"{resource}: {NO_CONTAINERS.get(resource, 'there is no such resource')}")

    def ways(self, name: str) -> Sequence[Way]:
        """How the clocks of a node's processes can be reached, the preferred way first."""
        return ()

    def starved(self, name: str) -> bool:
        """Whether a node that has just ended was killed by the kernel for lack of memory, as far as known."""
        return False

    def taken(self, node: Node) -> str:
        """Which of its ports somebody else listens on, and who; '' where none is."""
        return ""


__all__ = ["Exited", "Ground", "Refused", "Site"]

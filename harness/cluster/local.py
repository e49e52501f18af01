"""The runtime ``local``: nodes as processes on loopback, every link and client entry through a proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from harness.cluster.base import SiteCluster
from harness.cluster.lock import ClusterError
from harness.cluster.member import Member
from harness.cluster.ports import Ports
from harness.cluster.processes import ProcessSite
from harness.cluster.resources import NO_CONTAINERS
from harness.cluster.seat import HostSeat, Seat
from harness.cluster.site import Site
from harness.cluster.sockets import holder, listener
from harness.fabric.loopback import Loopback
from harness.proxy.adapter import Server
from harness.target import Node

HOST = "127.0.0.1"


class LoopbackSite(ProcessSite):
    """All nodes share this machine's loopback, each with ports of its own."""

    def open(self) -> None:
        given = {name: self.ports(name, role) for name, role in self.members()}
        ports = Ports(sum(map(len, given.values())), start=self.ground.run.path.name)
        self._own(ports.release)
        numbers = iter(ports.numbers)
        self.true_ports = {name: {port: next(numbers) for port in its} for name, its in given.items()}
        self._begin_proxy()
        self._serve(HOST, 0)
        server = Server(*self._served())
        server.await_ready()
        fabric = Loopback(server, self.true_ports, framing=self.ground.target.framing)
        self._own(fabric.close)
        self.fabric = fabric
        self.notes = (f"links are carried by {self.proxy}",)

    def true(self, name: str, role: str, index: int) -> Node:
        peers = tuple(self.reached(name, other, its) for other, its in self.members() if other != name)
        return Node(name, role, HOST, self.true_ports[name], index, self.data(name), peers)

    def known(self, node: Node) -> Iterator[tuple[str, int, str]]:
        yield from super().known(node)
        for other, _ in self.members():
            if other != node.name:
                for port in node.ports:
                    yield *self.fabric.endpoint(other, node.name, port), port

    def seat(self, node: Node) -> Seat:
        return HostSeat(HOST)

    def taken(self, node: Node) -> str:
        return "; ".join(
            f"port {name} ({node.host}:{port}) is taken by {holder(port)}: end that process"
            for name, port in node.ports.items()
            if listener(port)
        )

    def verify(self, members: Mapping[str, Member]) -> None:
        super().verify(members)
        for member in members.values():
            for port in member.node.ports.values() if member.served else ():
                if listener(port):
                    raise ClusterError(
                        f"port {port} of {member.node.name} is still served: {holder(port)} holds it"
                    )


class LocalCluster(SiteCluster):
    """A running target, made of processes of this machine.

    Nothing of it outlives this process, however that ends; what stays on disk is swept by the next start.

    >>> cluster = LocalCluster(Shop(), run_id="r1", logs=Path("logs"), on_event=print)  # doctest: +SKIP
    """

    runtime: ClassVar[str] = "local"
    unsupported: Mapping[str, str] = {
        **dict.fromkeys(
            (
                "packet_loss",
                "packet_delay",
                "packet_reorder",
                "packet_duplicate",
                "packet_corrupt",
                "packet_rate",
            ),
            "a proxy of byte streams has no packets; use runtime docker or netns",
        ),
        **NO_CONTAINERS,
    }
    site: ClassVar[type[Site]] = LoopbackSite


__all__ = ["HOST", "LocalCluster"]

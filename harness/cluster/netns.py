"""The runtime ``netns``: nodes as processes, each in a network namespace of its own, behind one router.

The host's network is not touched: all of it is in namespaces that end with their processes. It needs root,
or user namespaces (then everything happens in one of this user's own), and the programs ip and iptables.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from harness.cluster.base import SiteCluster
from harness.cluster.lock import ClusterError
from harness.cluster.processes import ProcessSite
from harness.cluster.resources import NO_CONTAINERS
from harness.cluster.routes import Doors, named_ports
from harness.cluster.seat import InsideSeat, Seat
from harness.cluster.site import Ground, Site
from harness.cluster.sockets import holder_of, listening
from harness.fabric import agent, door, packet_engine
from harness.fabric.inside import Inside, InsideError
from harness.fabric.layout import API, Layout
from harness.fabric.routed import ROUTER, Routed
from harness.fabric.rules import boot
from harness.kernel import PATH
from harness.proxy.adapter import Server
from harness.target import Node

SUBNET = ipaddress.IPv4Network("10.213.0.0/24")  # in namespaces: every cluster may have the same
NETWORK, DOOR = "network", "door"
PROGRAMS = ("ip", "iptables-restore", "iptables-save")


class NetnsSite(ProcessSite):
    """A namespace for each node, and one that routes between them."""

    shared = False
    helpers: ClassVar[Mapping[str, str]] = {
        **ProcessSite.helpers,
        NETWORK: "the agent of the network namespaces",
        DOOR: "the door for clients",
    }

    def __init__(self, ground: Ground) -> None:
        if missing := [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]:
            raise ClusterError(
                f"runtime netns needs the programs {', '.join(missing)}, which are not on PATH: on Debian "
                "and Ubuntu, apt-get install iproute2 iptables"
            )
        super().__init__(ground)
        self.inside: dict[str, Inside] = {}

    def open(self) -> None:
        nodes = [name for name, _ in self.members()]
        self.layout = Layout(
            SUBNET, {name: named_ports(self.ground.target, role) for name, role in self.members()}
        )
        self.doors = Doors(self.layout, self._sockets())
        network = self._begin([ROUTER, *nodes])
        self._begin_proxy()
        log = self._help(DOOR, door)
        self._go(DOOR, self.doors.wanted())
        self._made(network, [ROUTER, *nodes])
        try:
            self._wire()
        except InsideError as error:
            raise ClusterError(f"the network could not be set up: {error}") from error
        self.doors.opened(self._await(DOOR, log, rb"(\[.*\])\n")[1])
        fabric = Routed(
            self._server,
            self.layout,
            self.inside,
            self.doors.entrance,
            cables={node: f"v{self.layout.number(node)}" for node in self.layout.nodes},
            engine=[sys.executable, "-I", "-S", packet_engine.__file__],
            framing=self.ground.target.framing,
        )
        self._own(fabric.close)
        self.fabric = fabric
        self.notes = (f"links are carried by {self.proxy}", str(fabric.report))

    def _sockets(self) -> Path:
        return self.ground.run.path / "net"

    def _begin(self, places: Sequence[str]) -> Path:
        """Have a namespace made for each place, with an agent in it; the log that will say so."""
        self._sockets().mkdir()
        log = self._help(NETWORK, agent)
        self._go(NETWORK, "make", str(self._sockets()), *places)
        return log

    def _made(self, log: Path, places: Sequence[str]) -> None:
        """Await the namespaces, and speak to the agents."""
        said = self._await(NETWORK, log, rb"(ready|failed .*)\n")[1].decode()
        if said != "ready":
            raise ClusterError(
                f"no network namespaces can be made here ({said.removeprefix('failed ')}): run as root, or "
                "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, on Ubuntu also "
                "kernel.apparmor_restrict_unprivileged_userns=0), or use runtime local"
            )
        for place in places:
            self.inside[place] = Inside(place, self._sockets())
            self._own(self.inside[place].close)
        self._namespaces = {place: self.inside[place].namespace() for place in places}

    def enters(self, name: str) -> Sequence[str]:
        user, net = self._namespaces[name]
        return [net] if os.getuid() == 0 else [user, net]

    def _wire(self) -> None:
        """A cable from each node to the router, routes, the router's rules; all places side by side.

        The proxy server begins as soon as the router has its address.
        """
        layout, router = self.layout, self.inside[ROUTER]
        router.run(
            ["ip", "-batch", "-"],
            _lines("link set lo up", f"addr add {layout.router}/32 dev lo",
                   "route add local 198.18.0.0/16 dev lo", "route add 198.19.0.0/16 dev lo"),
        )  # fmt: skip
        self._serve(layout.router, API, self.enters(ROUTER))
        with ThreadPoolExecutor(len(layout.nodes) + 1) as together:
            jobs: list[Future[Any]] = [together.submit(self._filter)]
            cables = []
            for node in layout.nodes:
                cable = f"v{layout.number(node)}"
                cables += [
                    f"link add {cable} type veth peer name eth0 netns {self._namespaces[node][1]}",
                    f"link set {cable} up",
                    f"route add {layout.ip(node)} dev {cable}",
                ]
            router.run(["ip", "-batch", "-"], _lines(*cables))
            for node in layout.nodes:
                there = _lines(
                    "link set lo up", "link set eth0 up", f"addr add {layout.ip(node)}/32 dev eth0",
                    f"route add {layout.router} dev eth0 scope link",
                    f"route add default via {layout.router} dev eth0 onlink",
                )  # fmt: skip
                jobs.append(together.submit(self.inside[node].run, ["ip", "-batch", "-"], there))
        for job in jobs:
            job.result()

    def _server(self) -> Server:
        """The proxy server in the router, awaited."""
        self._served()
        server = Server(*self.doors.entrance(API))
        server.await_ready()
        return server

    def _filter(self) -> None:
        """The router's rules, by a conversation of their own: its agent is busy with the cables."""
        router = Inside(ROUTER, self._sockets())
        try:
            router.restore(boot(self.layout))
            router.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
        finally:
            router.close()

    def true(self, name: str, role: str, index: int) -> Node:
        peers = tuple(self.reached(name, other, its) for other, its in self.members() if other != name)
        return Node(name, role, self.layout.ip(name), self.layout.ports[name], index, self.data(name), peers)

    def seen(self, node: Node) -> Node:
        host, ports = self.doors.of(node.name)
        return replace(node, host=host, ports=ports)

    def seat(self, node: Node) -> Seat:
        return InsideSeat(self.inside[node.name], self.layout.ip(node.name))

    def taken(self, node: Node) -> str:
        seat = self.seat(node)
        return "; ".join(
            f"port {name} ({node.host}:{port}) is taken by {holder_of(seat.rows(port))}: end that process"
            for name, port in node.ports.items()
            if listening(seat.rows(port))
        )

    def keep(self) -> str:
        close = self.supervisor.close
        self._ends = [close, *(inside.close for inside in self.inside.values())]
        return super().keep()


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


class NetnsCluster(SiteCluster):
    """A running target, made of processes of this machine in network namespaces of their own.

    Differs from `LocalCluster` in that partitions and losses are those of packets, and that nodes cannot
    speak past the fabric.
    """

    runtime: ClassVar[str] = "netns"
    unsupported = NO_CONTAINERS
    site: ClassVar[type[Site]] = NetnsSite


__all__ = ["NetnsCluster"]

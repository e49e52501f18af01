"""The runtime ``netns``: nodes as processes, each in a network namespace of its own, behind one router.

The host's network is not touched: all of it is in namespaces that end with their processes. It needs root,
or user namespaces (then everything happens in one of this user's own), and the programs ip and iptables.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from harness.cluster.base import SiteCluster
from harness.cluster.lock import ClusterError
from harness.cluster.processes import ProcessSite
from harness.cluster.routes import Doors, named_ports
from harness.cluster.seat import InsideSeat, Seat
from harness.cluster.site import Ground, Site
from harness.cluster.sockets import holder_of, listening
from harness.fabric import agent, door
from harness.fabric.inside import Inside, InsideError
from harness.fabric.layout import API, Layout
from harness.fabric.routed import ROUTER, Routed
from harness.fabric.rules import RESTORE, boot
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
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            raise ClusterError(
                f"runtime netns needs the programs {', '.join(missing)}, which are not on PATH: on Debian "
                "and Ubuntu, apt-get install iproute2 iptables"
            )
        super().__init__(ground)
        self.inside: dict[str, Inside] = {}

    def open(self) -> None:
        nodes = [name for name, _ in self.members()]
        self.layout = Layout(SUBNET, {name: named_ports(self.ground.target) for name in nodes})
        self._make([ROUTER, *nodes])
        try:
            self._wire()
        except InsideError as error:
            raise ClusterError(f"the network could not be set up: {error}") from error
        self.doors = Doors(self.layout, self._sockets())
        log = self._help(DOOR, Path(door.__file__), self.doors.wanted())
        self._proxy(self.layout.router, API, enter=self.enters(ROUTER))
        self.doors.opened(self._await(DOOR, log, rb"(\[.*\])\n")[1])
        server = Server(*self.doors.entrance(API))
        fabric = Routed(server, self.layout, self.inside, self.doors.entrance, self.ground.target.framing)
        self._own(fabric.close)
        self.fabric = fabric

    def _sockets(self) -> Path:
        return self.ground.run.path / "net"

    def _make(self, places: Sequence[str]) -> None:
        """A namespace for each place, with an agent in it."""
        directory = self._sockets()
        directory.mkdir()
        log = self._help(NETWORK, Path(agent.__file__), "make", str(directory), *places)
        said = self._await(NETWORK, log, rb"(ready|failed .*)\n")[1].decode()
        if said != "ready":
            raise ClusterError(
                f"no network namespaces can be made here ({said.removeprefix('failed ')}): run as root, or "
                "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, on Ubuntu also "
                "kernel.apparmor_restrict_unprivileged_userns=0), or use runtime local"
            )
        for place in places:
            self.inside[place] = Inside(place, directory)
            self._own(self.inside[place].close)
        self._namespaces = {place: self.inside[place].namespace() for place in places}

    def enters(self, name: str) -> Sequence[str]:
        user, net = self._namespaces[name]
        return [net] if os.getuid() == 0 else [user, net]

    def _wire(self) -> None:
        """A cable from each node to the router, routes, the router's rules; all places side by side."""
        layout, router = self.layout, self.inside[ROUTER]
        cables = [
            f"link add v{layout.number(node)} type veth peer name eth0 netns {self._namespaces[node][1]}"
            for node in layout.nodes
        ]
        lines = [*cables, "link set lo up", f"addr add {layout.router}/32 dev lo",
                 "route add local 198.18.0.0/16 dev lo", "route add 198.19.0.0/16 dev lo"]  # fmt: skip
        for node in layout.nodes:
            cable = f"v{layout.number(node)}"
            lines += [f"link set {cable} up", f"route add {layout.ip(node)} dev {cable}"]
        router.run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
        with ThreadPoolExecutor(8) as together:
            jobs = [together.submit(router.run, ["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])]
            jobs.append(together.submit(router.run, RESTORE, boot(layout)))
            for node in layout.nodes:
                there = [
                    "link set lo up", "link set eth0 up", f"addr add {layout.ip(node)}/32 dev eth0",
                    f"route add {layout.router} dev eth0 scope link",
                    f"route add default via {layout.router} dev eth0 onlink",
                ]  # fmt: skip
                batch = "\n".join(there) + "\n"
                jobs.append(together.submit(self.inside[node].run, ["ip", "-batch", "-"], batch))
        for job in jobs:
            job.result()

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


class NetnsCluster(SiteCluster):
    """A running target, made of processes of this machine in network namespaces of their own.

    Differs from `LocalCluster` in that partitions and losses are those of packets, and that nodes cannot
    speak past the fabric.
    """

    runtime: ClassVar[str] = "netns"
    site: ClassVar[type[Site]] = NetnsSite


__all__ = ["NetnsCluster"]

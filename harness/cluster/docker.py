"""The runtime ``docker``: nodes as containers of the target's own image, behind one router container.

A node is a pod: a container of ours owns its network, and the node's own, unmodified, joins that. All links
cross the router, where the proxy server is and where packets are cut and lost; only the router and the pods
have the capability NET_ADMIN. The host's network has a bridge more while the cluster runs, and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import TYPE_CHECKING, ClassVar

from harness.cluster import engine
from harness.cluster.base import SiteCluster
from harness.cluster.containers import DATA, PROXY, Containers, Life, published
from harness.cluster.engine import asking
from harness.cluster.lock import ClusterError
from harness.cluster.member import Member
from harness.cluster.netns import DOOR
from harness.cluster.processes import ProcessSite
from harness.cluster.routes import Doors, named_ports
from harness.cluster.seat import InsideSeat, Seat
from harness.cluster.site import Ground, Refused, Site
from harness.engine import NoEngine, connect
from harness.fabric import door
from harness.fabric.inside import Inside
from harness.fabric.layout import API
from harness.fabric.routed import ROUTER, Routed
from harness.fabric.rules import bypassed
from harness.images import TOXIPROXY, Image, ImageError, ensure, fabric_image, find
from harness.proxy.adapter import Server
from harness.target import Node, Target

if TYPE_CHECKING:
    from docker import DockerClient

Progress = Callable[[str], None]


def open_engine() -> DockerClient:
    """A client of the engine. Raises ClusterError that says what is missing."""
    try:
        return connect()
    except NoEngine as error:
        raise ClusterError(str(error)) from error


def image_of(target: Target) -> Image:
    """What a target's nodes are started from. Raises ClusterError where it names none."""
    if not target.image:
        raise ClusterError(
            f"runtime docker starts {target.name} from an image, but it names none: give it `image` (and "
            "`context`, a directory with a Dockerfile, where it is built), or use runtime netns or local"
        )
    try:
        return Image(target.image, context=target.context, dockerfile=target.dockerfile)
    except ValueError as error:
        raise ClusterError(f"{target.name}.image: {error}") from error


class DockerSite(ProcessSite):
    """Pods at the Docker engine, and one router between them."""

    shared, at_once = False, 8
    helpers: ClassVar[Mapping[str, str]] = {DOOR: "the door for questions to the nodes"}

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.client = open_engine()
        self._own(self.client.close)
        self.inside: dict[str, Inside] = {}
        self._lives: dict[str, Life] = {}

    def open(self) -> None:
        run = self.ground.run
        sockets = run.path / "net"
        sockets.mkdir()
        fabric = ensure(self.client, fabric_image()).reference
        self.image = ensure(self.client, image_of(self.ground.target)).reference
        self._reap([sys.executable, "-m", engine.__name__, "remove", run.label])
        self._own(self._remove)
        self.made = made = Containers(self.client, run.label, fabric, sockets)
        nodes = [name for name, _ in self.members()]
        self.layout = layout = made.network({name: named_ports(self.ground.target) for name in nodes})
        self.doors = Doors(layout, sockets, router=False)
        log = self._help(DOOR, Path(door.__file__), self.doors.wanted())
        with ThreadPoolExecutor(len(nodes) + 1) as together:
            started = together.submit(made.router, layout)
            pods = [together.submit(made.pod, layout, node) for node in nodes]
            self.router = started.result()
            self.proxy = self._start_proxy()
            for pod in pods:
                pod.result()
        for place in (ROUTER, *nodes):
            self.inside[place] = Inside(place, sockets)
            self._own(self.inside[place].close)
        self.doors.opened(self._await(DOOR, log, rb"(\[.*\])\n")[1])
        entrances = published(self.router)
        if missing := {API, *layout.entries.values()} - entrances.keys():
            raise ClusterError(f"the router's ports {sorted(missing)} are not published; is it running?")
        server = Server(*entrances[API])
        server.await_ready()
        routed = Routed(server, layout, self.inside, entrances.__getitem__, self.ground.target.framing)
        self._own(routed.close)
        self.fabric = routed

    def _start_proxy(self) -> str:
        """The real server where its image is there, else our own; which, in words.

        Our own, too, for a target that declares how its messages are framed: the real one knows no messages.
        """
        if not self.ground.target.framing and find(self.client, TOXIPROXY.published):
            self.made.proxy(self.router, TOXIPROXY.published, self.layout)
            return f"Toxiproxy, image {TOXIPROXY.published}"
        place = Inside(ROUTER, self.ground.run.path / "net")
        argv = [
            "python3",
            "-I",
            "-S",
            PROXY,
            "--host",
            self.layout.router,
            "--port",
            str(API),
        ]
        place.start(argv)
        place.close()
        return "the embedded server"

    def _reap(self, argv: list[str]) -> None:
        """What is to be run should this process die without having taken everything down."""
        self.supervisor.request("last", argv=argv)
        self._own(lambda: self.supervisor.request("last", argv=[]))

    def _remove(self) -> None:
        engine.remove(self.client, self.ground.run.label)

    # ------------------------------------------------------------------ nodes

    def true(self, name: str, role: str, index: int) -> Node:
        peers = tuple(self.reached(name, other, its) for other, its in self.members() if other != name)
        ports = self.layout.ports[name]
        return Node(name, role, self.layout.ip(name), ports, index, Path(DATA), peers, container=True)

    def seen(self, node: Node) -> Node:
        host, ports = self.doors.of(node.name)
        return replace(node, host=host, ports=ports)

    def seat(self, node: Node) -> Seat:
        return PodSeat(self.inside[node.name], self.layout.ip(node.name), self._lives.get(node.name))

    def member(self, node: Node, log: Path) -> Member:
        return Member.of(self.ground.target, node, log, {})

    def start(self, member: Member) -> int:
        self.ground.check()
        name = member.node.name
        if name not in self._lives:
            options = self.ground.target.container(member.node)
            container = self.made.node(name, self.image, member.argv, member.env, options)
            self._lives[name] = Life(container, member.log, lambda how: self.ground.exited(name, how))
        try:
            return self._lives[name].start()
        except ClusterError as error:
            raise Refused(str(error), None) from error

    def signal(self, name: str, number: int) -> list[int]:
        self.ground.check()
        life = self._lives[name]
        try:
            pids = life.pids()
        except ClusterError as error:
            raise Refused(str(error), None) from error
        with asking(f"{name} cannot be signalled"):
            if number == SIGSTOP:
                life.container.pause()
            elif number == SIGKILL:
                if life.paused():  # the engine refuses to kill what its freezer holds
                    life.container.unpause()
                life.container.kill("SIGKILL")
            else:
                life.container.unpause()
        return pids

    def explain(self, member: Member, error: Refused) -> str:
        return f"is {member.argv[0]} a program of image {self.image}?" if member.argv else ""

    def keep(self) -> str:
        run = self.ground.run
        (run.path / engine.KEPT).touch()
        self._ends = [self.client.close, *(inside.close for inside in self.inside.values())]
        self.supervisor.request("last", argv=[])
        self.end()
        pid = self.supervisor.request("keep", descriptor=run.descriptor)["pid"]
        self.supervisor.leave()
        return f"kill {pid}; docker rm -fv $(docker ps -aq --filter label={engine.RUN}={run.label})"

    def verify(self, members: Mapping[str, Member]) -> None:
        super().verify(members)
        client = open_engine()
        try:
            if there := engine.left(client, self.ground.run.label):
                raise ClusterError(f"the Docker engine still has {', '.join(there)}")
        finally:
            client.close()

    def bypassed(self) -> Mapping[str, int]:
        """Packets that each pod has received from its peers past the router. Raises ClusterError where a pod
        has lost its guard."""
        found = {}
        for name in self.layout.nodes:
            count = bypassed(self.inside[name].run(["iptables-save", "-c", "-t", "raw"]))
            if count is None:
                raise ClusterError(f"the pod of {name} has lost its guard: were its rules changed?")
            found[name] = count
        return found


class PodSeat(InsideSeat):
    """A container in its pod's network."""

    stops, goes_on = "freezer", "freezer off"

    def __init__(self, inside: Inside, host: str, life: Life | None) -> None:
        super().__init__(inside, host)
        self._life = life

    def unsettled(self, pids: Iterable[int], stopped: bool) -> str:
        if self._life is None or self._life.paused() is stopped:
            return ""
        return f"container {self._life.container.name} is"


class DockerCluster(SiteCluster):
    """A running target, made of containers.

    Differs from `NetnsCluster` in that nodes are unmodified images with their own programs and files.
    """

    runtime: ClassVar[str] = "docker"
    site: ClassVar[type[Site]] = DockerSite

    def prepare(self, progress: Progress) -> None:
        """Have the images, which may take minutes the first time. Raises ImageError, ClusterError."""
        client = open_engine()
        try:
            ensure(client, fabric_image(), progress=progress)
            ensure(client, image_of(self.target), progress=progress)
            try:
                ensure(client, TOXIPROXY, progress=progress)
            except ImageError as error:
                progress(f"{TOXIPROXY.name} is not to be had, the embedded server takes its place: {error}")
        finally:
            client.close()

    def sweep(self) -> None:
        client = open_engine()
        try:
            engine.sweep(client)
        finally:
            client.close()
        super().sweep()


__all__ = ["DockerCluster", "image_of"]

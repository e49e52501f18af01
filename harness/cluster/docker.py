"""The runtime ``docker``: nodes as containers of the target's own image, behind one router container.

A node is a pod: a container of ours owns its network, and the node's own, unmodified, joins that. All links
cross the router, where the proxy server is and where packets are cut and lost; only the router and the pods
have the capability NET_ADMIN. The host's network has a bridge more while the cluster runs, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from harness.cluster import engine
from harness.cluster.base import SiteCluster
from harness.cluster.clock_ways import ContainerWays
from harness.cluster.containers import DATA, ENGINE, FILLER, Containers, Life, end_of, output, published
from harness.cluster.disk import DiskFull, unbounded
from harness.cluster.engine import asking
from harness.cluster.limits import CpuLimit, MemoryLimit, killed_for_memory
from harness.cluster.lock import ClusterError
from harness.cluster.member import Member, how_ended, last
from harness.cluster.netns import DOOR
from harness.cluster.observer import OnEvent
from harness.cluster.processes import EMBEDDED, PROXY, ProcessSite
from harness.cluster.resources import CPU, DISK, MEMORY, Given, Taken
from harness.cluster.routes import Doors, named_ports
from harness.cluster.seat import InsideSeat, Seat
from harness.cluster.site import Ground, Refused, Site
from harness.cluster.wanted import Wanted
from harness.engine import NoEngine, connect
from harness.fabric import FaultUnsupported, door
from harness.fabric.inside import Inside, InsideError
from harness.fabric.layout import API
from harness.fabric.routed import ROUTER, Routed
from harness.fabric.rules import apart, bypassed
from harness.images import TOXIPROXY, Found, Image, ImageError, ensure, fabric_image, find
from harness.images.progress import silent
from harness.proxy.adapter import Server
from harness.skew.program import Way
from harness.target import Endpoint, Node, Target

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

POD = "pod"
Progress = Callable[[str], None]


def open_engine() -> DockerClient:
    """A client of the engine. Raises ClusterError that says what is missing."""
    try:
        return connect()
    except NoEngine as error:
        raise ClusterError(str(error)) from error


def image_of(target: Target, role: str) -> Image:
    """What a role's nodes are started from. Raises ClusterError where the target names none."""
    if not (name := target.image_of(role)):
        raise ClusterError(
            f"runtime docker starts {target.name} from an image, but it names none for {role}: give it "
            "`image` (and `context`, a directory with a Dockerfile, where it is built), or use runtime netns "
            "or local"
        )
    try:
        return Image(name, **target.build_of(role))
    except ValueError as error:
        raise ClusterError(f"{target.name}.image: {error}") from error


def images(client: DockerClient, target: Target, progress: Progress = silent) -> Mapping[str, Found]:
    """What each role is started from. Raises ImageError, ClusterError."""
    target.build(progress)
    roles = dict.fromkeys(role for _, role in (*target.members(), *target.jobs()))
    wanted = {role: image_of(target, role) for role in roles}
    return {role: ensure(client, image, progress=progress) for role, image in wanted.items()}


def exposed(client: DockerClient, found: Found) -> list[int]:
    """The TCP ports that an image says it listens on."""
    with asking(f"image {found.reference} cannot be looked at"):
        config = client.images.get(found.id).attrs["Config"]
    ports = (port.split("/") for port in config.get("ExposedPorts") or {})
    return sorted(int(number) for number, *protocol in ports if protocol in ([], ["tcp"]))


class DockerSite(ProcessSite):
    """Pods at the Docker engine, and one router between them."""

    shared, at_once = False, 8
    helpers: ClassVar[Mapping[str, str]] = {
        DOOR: "the door for questions to the nodes",
        ROUTER: "the router's container",
        PROXY: "the proxy server's container",
        POD: "the container of a node's network",
    }

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.client = open_engine()
        self._own(self.client.close)
        self.inside: dict[str, Inside] = {}
        self._lives: dict[str, Life] = {}
        self._nodes: dict[str, Node] = {}
        self._wanted: dict[str, Wanted] = {}
        self._taken: dict[tuple[str, str], Taken] = {}
        self._own(self._let_go)

    def open(self) -> None:
        run = self.ground.run
        sockets = run.path / "net"
        sockets.mkdir()
        fabric = ensure(self.client, fabric_image()).reference
        self.images = images(self.client, self.ground.target)
        self._reap([sys.executable, "-m", engine.__name__, "remove", run.label])
        self._own(self._remove)
        self.made = made = Containers(self.client, run.label, fabric, sockets, self.ground.target.disk)
        self._clocks = ContainerWays(made, self._lives.__getitem__, self.ground.clock)
        self._own(self._clocks.close)
        places = (*self.members(), *self.ground.target.jobs())
        nodes = [name for name, _ in places]
        if taken := [name for name in nodes if name in (ROUTER, *self.helpers)]:
            raise ClusterError(f"a node cannot be called {taken[0]!r}, which is the fabric's; rename it")
        self.layout = layout = made.network({name: self._ports(role) for name, role in places})
        index = {role: 0 for _, role in places}
        for name, role in places:
            self._nodes[name] = node = self._node(name, role, index[role])
            self._wanted[name] = Wanted.of(self.ground.target.container(node), f"container({name})")
            index[role] += 1
        self.doors = Doors(layout, sockets, router=False)
        log = self._help(DOOR, door)
        self._go(DOOR, self.doors.wanted())
        # more at once than there are processors delay the router, for which the proxy server waits
        at_once = min(len(nodes), os.cpu_count() or 1) + 1
        try:
            with ThreadPoolExecutor(at_once) as together:
                started = together.submit(made.router, layout)
                pods = [together.submit(made.pod, layout, node, self._wanted[node]) for node in nodes]
                self.router = started.result()
                self._watch(ROUTER, self.router)
                self.proxy = self._start_proxy()
                for pod in pods:
                    self._watch(POD, pod.result())
            for place in (ROUTER, *nodes):
                self.inside[place] = Inside(place, sockets)
                self._own(self.inside[place].close)
        except (ClusterError, InsideError) as error:
            why = made.ended() or "does the Docker engine run on this machine, and share its files?"
            raise ClusterError(f"{error}; {why}") from error
        self.doors.opened(self._await(DOOR, log, rb"(\[.*\])\n")[1])
        entrances = published(self.router)
        if missing := {API, *layout.entries.values()} - entrances.keys():
            raise ClusterError(f"the router's ports {sorted(missing)} are not published; is it running?")
        server = Server(*entrances[API])
        server.await_ready()
        routed = Routed(
            lambda: server,
            layout,
            self.inside,
            entrances.__getitem__,
            cables=dict.fromkeys(layout.nodes, "eth0"),
            engine=["python3", "-I", "-S", ENGINE],
            bypassed=self.bypassed,
            framing=self.ground.target.framing,
        )
        self._own(routed.close)
        self.fabric = routed
        if lines := apart(layout, self.ground.target.apart()):
            self.inside[ROUTER].restore(lines)
        self.notes = (
            f"links are carried by {self.proxy}",
            str(routed.report),
            *(f"{role} is started from {one.reference}, {one.id[:19]}" for role, one in self.images.items()),
        )

    def _ports(self, role: str) -> Mapping[str, int]:
        """A role's ports by name; where the target leaves it to the image, those that this exposes."""
        target = self.ground.target
        if target.ports_of(role) is not None:
            return named_ports(target, role)
        return {str(port): port for port in exposed(self.client, self.images[role])}

    def _start_proxy(self) -> str:
        """The real server where its image is there, else our own; which, in words.

        Our own, too, where faults on messages are wanted: the real one knows no messages.
        """
        real = not self.ground.messages and find(self.client, TOXIPROXY.published) is not None
        self._watch(PROXY, self.made.proxy(self.router, self.layout, TOXIPROXY.published if real else ""))
        return f"Toxiproxy, image {TOXIPROXY.published}" if real else EMBEDDED

    def _watch(self, helper: str, container: Container) -> None:
        """Have the end of a container told without which nothing can go on."""

        def wait() -> None:
            if (how := end_of(container)) is not None:
                with contextlib.suppress(ClusterError, OSError):
                    (self.ground.logs / f"{helper}.log").write_bytes(output(container))
                self.ground.exited(helper, how)

        Thread(target=wait, name="nemesis-wait", daemon=True).start()

    def _reap(self, argv: list[str]) -> None:
        """What is to be run should this process die without having taken everything down."""
        self.supervisor.request("last", argv=argv)

    def _let_go(self) -> None:
        """Of resources that are taken still."""
        for taken in self._taken.values():
            taken.close()

    def _remove(self) -> None:
        """Take everything down; where that fails, the supervisor does it once this process lets go of it."""
        engine.remove(self.client, self.ground.run.label)
        with contextlib.suppress(ClusterError):  # where it has died, nothing is to be taken back
            self.supervisor.request("last", argv=[])

    # ------------------------------------------------------------------ nodes

    def _node(self, name: str, role: str, index: int) -> Node:
        layout = self.layout
        peers = tuple(
            Endpoint(other, its, layout.ip(other), layout.ports[other])
            for other, its in self.members()
            if other != name
        )
        return Node(name, role, layout.ip(name), layout.ports[name], index, Path(DATA), peers, container=True)

    def true(self, name: str, role: str, index: int) -> Node:
        return self._nodes[name]

    def known(self, node: Node) -> Iterator[tuple[str, int, str]]:
        yield from super().known(node)
        wanted = self._wanted[node.name]
        for alias in {*wanted.aliases, wanted.pod.get("hostname", node.name)} - {node.name}:
            for port, number in node.ports.items():
                yield alias, number, port

    def ports(self, name: str, role: str) -> Collection[str]:
        return self.layout.ports[name]

    def ready(self, node: Node) -> bool:
        state = self._lives[node.name].state()
        if health := state.get("Health"):
            if health["Status"] != "healthy":
                said = (health.get("Log") or [{}])[-1].get("Output", "").strip()
                raise ClusterError(f"its health check says {health['Status']}{said and f': {said}'}")
            return True
        if node.ports and self.ground.target.listens(node.role):
            return super().ready(node)
        return bool(state["Running"])

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
            self._make(member, lambda how: self.ground.exited(name, how))
        try:
            return self._lives[name].start()
        except ClusterError as error:
            raise Refused(str(error), None) from error

    def _make(self, member: Member, ended: Callable[[Mapping[str, Any]], None]) -> None:
        name, role = member.node.name, member.node.role
        image = self.images[role].reference
        container = self.made.node(name, image, member.argv, member.env, self._wanted[name])
        self._lives[name] = Life(container, member.log, ended)

    def complete(self, names: Sequence[str]) -> None:
        target, ends = self.ground.target, dict[str, Mapping[str, Any]]()
        jobs = {name: self.member(self._nodes[name], self.ground.logs / f"{name}.log") for name in names}
        for name, member in jobs.items():
            self.ground.check()
            member.log.write_bytes(b"")
            self._make(member, partial(ends.__setitem__, name))
            self._lives[name].start()
        deadline = monotonic() + target.ready_within
        for name, member in jobs.items():
            while name not in ends:
                self.ground.check()
                if monotonic() > deadline:
                    raise ClusterError(
                        f"{name} did not end within {target.ready_within:g} s ({target.name}.ready_within)\n"
                        f"{last(member.log)}"
                    )
                self.ground.closing.wait(0.01)
            if ends[name].get("code") != 0:
                raise ClusterError(
                    f"{name} {how_ended(ends[name])}, but others wait until it has ended well (code 0)\n"
                    f"{last(member.log)}"
                )

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
            elif number == SIGKILL:  # of a paused one, too: its first process is not let go on for a moment
                life.container.kill("SIGKILL")
            else:
                life.container.unpause()
        return pids

    def take(self, resource: str, name: str, amount: float) -> str:
        self.ground.check()
        if (resource, name) in self._taken:
            raise ClusterError(f"{name} has a {resource} in force already: heal it first")
        self._taken[resource, name] = taken = self._resource(resource, name, amount)
        try:
            return taken.take()
        except BaseException:
            del self._taken[resource, name]
            raise

    def give_back(self, resource: str, name: str) -> Given:
        if (resource, name) not in self._taken:
            raise ClusterError(f"{name} has no {resource} in force")
        try:
            return self._taken[resource, name].give_back()
        finally:
            del self._taken[resource, name]

    def _resource(self, resource: str, name: str, amount: float) -> Taken:
        container = self._lives[name].container
        if resource == CPU:
            return CpuLimit(self.client, name, container, amount)
        if resource == MEMORY:
            return MemoryLimit(self.client, name, container, int(amount))
        if resource == DISK and self.ground.target.disk:
            return DiskFull(self.inside[name], name, container, self.made.name(f"{name}.data"), FILLER)
        raise FaultUnsupported(unbounded(self.ground.target.name).get(resource, f"nobody takes {resource}"))

    def ways(self, name: str) -> Sequence[Way]:
        return self._clocks.ways()

    def starved(self, name: str) -> bool:
        limit = self._taken.get((MEMORY, name))
        if isinstance(limit, MemoryLimit) and limit.killed_lately:
            return True
        return killed_for_memory(self.client, self._lives[name].container)

    def explain(self, member: Member, error: Refused) -> str:
        image = self.images[member.node.role].reference
        return f"is {member.argv[0]} a program of image {image}?" if member.argv else ""

    def keep(self) -> str:
        rest = (self.client.close, *(inside.close for inside in self.inside.values()))
        self._ends = [self.supervisor.close, *rest, self.fabric.close]
        return super().keep()  # what the supervisor runs last removes the containers then

    def verify(self, members: Mapping[str, Member]) -> None:
        super().verify(members)
        client = open_engine()
        try:
            if there := engine.left(client, self.ground.run.label):
                raise ClusterError(f"the Docker engine still has {', '.join(there)}")
        finally:
            client.close()

    def bypassed(self) -> Mapping[str, int]:
        nodes = self.layout.nodes
        with ThreadPoolExecutor(len(nodes)) as together:
            saved = together.map(
                lambda name: self.inside[name].run(["iptables-save", "-c", "-t", "raw"]), nodes
            )
            counts = dict(zip(nodes, map(bypassed, saved), strict=True))
        found = {name: count for name, count in counts.items() if count is not None}
        if lost := [name for name in nodes if name not in found]:
            raise ClusterError(f"the pod of {lost[0]} has lost its guard: were its rules changed?")
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

    def __init__(
        self, target: Target, *, run_id: str, logs: Path, on_event: OnEvent, base: Path | None = None
    ) -> None:
        super().__init__(target, run_id=run_id, logs=logs, on_event=on_event, base=base)
        self.unsupported = {} if target.disk else unbounded(target.name)

    def prepare(self, progress: Progress) -> None:
        """Have the images, which may take minutes the first time. Raises ImageError, ClusterError."""
        client = open_engine()
        try:
            ensure(client, fabric_image(), progress=progress)
            images(client, self.target, progress)
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


__all__ = ["DockerCluster", "exposed", "image_of", "images"]

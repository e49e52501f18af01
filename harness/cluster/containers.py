"""The containers of one cluster: its network, router, pods, proxy server and nodes, at the Docker engine."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from harness.cluster.disk import bounded
from harness.cluster.engine import RUN, asking, labels
from harness.cluster.lock import ClusterError
from harness.cluster.wanted import Wanted
from harness.fabric import agent
from harness.fabric.layout import API, FIRST_ENTRY, Layout
from harness.fabric.rules import boot, guard

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

SUBNETS = ipaddress.IPv4Network("10.213.0.0/16")
SOCKETS, PROGRAMS = "/nemesis/sock", "/nemesis/harness"
AGENT, PROXY = f"{PROGRAMS}/fabric/agent.py", f"{PROGRAMS}/proxy/embedded.py"
ENGINE = f"{PROGRAMS}/fabric/packet_engine.py"
FILLER = f"{PROGRAMS}/fabric/filler.py"
PATCHER = f"{PROGRAMS}/skew/patcher.py"
ENDING = 1.0  # seconds for a container that is ending to have ended
DATA = "/data"  # where a node's own volume is, unless the target says otherwise


class Containers:
    """Makes what `run` (the label) needs. Raises ClusterError with the engine's own words."""

    def __init__(self, client: DockerClient, run: str, image: str, sockets: Path, disk: int = 0) -> None:
        self.client, self.image, self._sockets, self._disk = client, image, sockets, disk
        self.labels = dict(labels(run))
        self.prefix = f"nemesis-{hashlib.sha256(run.encode()).hexdigest()[:10]}"
        self.pods: dict[str, Container] = {}

    def name(self, role: str) -> str:
        return f"{self.prefix}-{role}"

    # ------------------------------------------------------------------ the network

    def network(self, ports: Mapping[str, Mapping[str, int]]) -> Layout:
        """A network of our own in the first subnet that is free."""
        import docker.errors
        from docker.types import IPAMConfig, IPAMPool

        every = list(SUBNETS.subnets(new_prefix=24))
        start = int(self.prefix[-4:], 16) % len(every)  # so that neighbours rarely try the same one
        for subnet in every[start:] + every[:start]:
            layout = Layout(subnet, ports)
            pool = IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet), gateway=layout.gateway)])
            try:
                self.client.networks.create(
                    self.name("net"), driver="bridge", ipam=pool, labels=self.labels, check_duplicate=True
                )
                return layout
            except docker.errors.APIError as error:
                if "overlap" not in str(error):
                    raise ClusterError(f"no network can be made: the Docker engine says: {error}") from error
        raise ClusterError(
            f"no subnet of {SUBNETS} is free: remove networks that nobody uses (`docker network prune`)"
        )

    def router(self, layout: Layout) -> Container:
        """What carries all traffic between nodes; clients enter by its ports, published on loopback."""
        lines = [
            "route replace local 198.18.0.0/16 dev lo",
            "route replace 198.19.0.0/16 dev lo",
        ]
        return self._start(
            "router", layout, layout.router, _boot(boot(layout), lines, "router"),
            mac_address=layout.router_mac,
            ports={f"{port}/tcp": ("127.0.0.1", None) for port in (API, *layout.entries.values())},
            sysctls={
                "net.ipv4.ip_forward": 1,
                "net.ipv4.conf.all.send_redirects": 0,
                "net.ipv4.conf.default.send_redirects": 0,
                # none that a node's system picks, or the host's table of connections takes both legs for one
                "net.ipv4.ip_local_port_range": f"1024 {FIRST_ENTRY - 1}",
            },
        )  # fmt: skip

    def pod(self, layout: Layout, node: str, wanted: Wanted) -> Container:
        """What owns a node's network, whatever becomes of the node."""
        lines = [
            f"route replace {layout.router} dev eth0",
            f"route replace {layout.subnet} via {layout.router}",
            f"route replace default via {layout.router}",
        ]
        own = {"net.ipv4.conf.all.accept_redirects": 0, "net.ipv6.conf.all.disable_ipv6": 1}
        how = {"hostname": node, **wanted.pod, "sysctls": {**wanted.pod.get("sysctls", {}), **own}}
        pod = self._start(
            f"{node}.pod", layout, layout.ip(node), _boot(guard(layout), lines, node),
            aliases=[node, *wanted.aliases], volumes=self._bounded(node), **how,
        )  # fmt: skip
        self.pods[node] = pod
        return pod

    def _start(
        self,
        role: str,
        layout: Layout,
        address: str,
        script: str,
        aliases: Sequence[str] = (),
        **options: Any,
    ) -> Container:
        from docker.types import EndpointConfig, Mount

        endpoint = EndpointConfig(self.client.api._version, ipv4_address=address, aliases=list(aliases))
        mounts = [
            Mount(SOCKETS, str(self._sockets), type="bind"),
            _programs(),
        ]
        with asking(f"container {self.name(role)} cannot be started"):
            return self.client.containers.run(
                self.image, ["sh", "-c", script], name=self.name(role), labels=self.labels, detach=True,
                cap_add=["NET_ADMIN"], network=self.name("net"),
                networking_config={self.name("net"): endpoint}, mounts=mounts, **options,
            )  # fmt: skip

    def proxy(self, router: Container, layout: Layout, image: str) -> Container:
        """In the router's network, the real Toxiproxy server from its `image`; our own where that is ''."""
        argv = [f"-host={layout.router}", f"-port={API}"]
        if not image:
            argv = ["python3", "-I", "-S", PROXY, "--host", layout.router, "--port", str(API)]
        with asking("the proxy server cannot be started"):
            return self.client.containers.run(
                image or self.image, argv, name=self.name("router.proxy"), labels=self.labels, detach=True,
                network_mode=f"container:{router.id}", mounts=[] if image else [_programs()],
            )  # fmt: skip

    def patcher(self, name: str, node: Container) -> Container:
        """What patches the clocks of a node from beside it, not yet started; it sees no more than the node's
        own processes."""
        with asking(f"container {self.name(f'{name}.clock')} cannot be made"):
            return self.client.containers.create(
                self.image, ["python3", "-I", "-S", PATCHER],
                name=self.name(f"{name}.clock"), labels=self.labels, stdin_open=True,
                pid_mode=f"container:{node.id}", network_mode="none", cap_add=["SYS_PTRACE"],
                mounts=[_programs()],
            )  # fmt: skip

    def ended(self) -> str:
        """Which containers of the run have ended, and what they wrote last; '' where none has.

        One that is ending is given a moment: the engine says late what others have felt already.
        """
        chosen = {"label": f"{RUN}={self.labels[RUN]}", "status": "exited"}
        deadline = time.monotonic() + ENDING
        while True:
            with asking("the containers that have ended cannot be listed"):
                found = self.client.containers.list(all=True, filters=chosen, ignore_removed=True)
            if found or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return "\n".join(f"{one.name} has ended:\n{output(one).decode(errors='replace')}" for one in found)

    def _bounded(self, node: str) -> Mapping[str, Any]:
        """The node's data volume, as its pod mounts it; nothing where its size is not bounded."""
        if not self._disk:
            return {}
        return bounded(self.client, self.name(f"{node}.data"), self._disk, self.labels)

    # ------------------------------------------------------------------ nodes

    def node(
        self, name: str, image: str, argv: Sequence[str], env: Mapping[str, str], wanted: Wanted
    ) -> Container:
        """A node's container, in its pod's network, not yet started; a command has a volume at DATA."""
        how = {**wanted.container}
        if (policy := how.get("restart_policy", {})).get("Name", "no") not in ("", "no"):
            raise ClusterError(f"container({name}) has restart_policy={policy!r}, which would undo a kill")
        labels = {**how.pop("labels", {}), **self.labels}
        volumes = {self._volume(source): place for source, place in how.pop("volumes", {}).items()}
        mounts = [self._mount(each) for each in how.pop("mounts", ())]
        places = [*(each.get("bind") for each in volumes.values()), *(each["Target"] for each in mounts)]
        if DATA in places and self._disk:
            raise ClusterError(
                f"{name}: `disk` bounds the volume at {DATA}, but `container` mounts another one there; "
                "leave one of them out"
            )
        if (argv or self._disk) and DATA not in places:
            volumes[self._volume(f"{name}.data")] = {"bind": DATA, "mode": "rw"}
        with asking(f"container {self.name(name)} cannot be made"):
            command = list(argv) or how.pop("command", None)
            if command == [] and not how.get("entrypoint"):  # without an entrypoint it would be the image's
                how["entrypoint"] = self.client.images.get(image).attrs["Config"].get("Entrypoint")
            container = self.client.containers.create(
                image, command, name=self.name(name), labels=labels,
                environment={**how.pop("environment", {}), **env},
                network_mode=f"container:{self.pods[name].id}", volumes=volumes, mounts=mounts, **how,
            )  # fmt: skip
        if wanted.files:
            with asking(f"its files cannot be put into container {self.name(name)}"):
                container.put_archive("/", wanted.archive())
        return container

    def _mount(self, mount: Mapping[str, Any]) -> dict[str, Any]:
        """A mount as the engine takes it, of this run's volume where it is one with a name."""
        from docker.utils import version_lt

        if mount["Type"] != "volume" or not mount.get("Source"):
            return {**mount}
        how = mount.get("VolumeOptions", {})
        if how.get("Subpath") and version_lt(self.client.api._version, "1.45"):
            raise ClusterError(
                f"volume {mount['Source']} is mounted by its subpath {how['Subpath']}, which this Docker "
                "engine does not have (API 1.45, Docker 26); mount the whole volume"
            )
        options = how.get("DriverConfig", {}).get("Options")
        return {**mount, "Source": self._volume(mount["Source"], options, how.get("Labels"))}

    def _volume(
        self, name: str, options: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None
    ) -> str:
        """A volume of this run, made where it is not there yet: its name. A path stays what it is."""
        if name.startswith("/"):
            return name
        with asking(f"volume {self.name(name)} cannot be made"):
            self.client.volumes.create(
                self.name(name), driver_opts=dict(options or {}), labels={**(labels or {}), **self.labels}
            )
        return self.name(name)


def _programs() -> dict[str, Any]:
    """The harness's own files, as a container sees them."""
    from docker.types import Mount

    mount: dict[str, Any]
    mount = Mount(PROGRAMS, str(Path(agent.__file__).parents[1]), type="bind", read_only=True)
    return mount


def _boot(rules: str, lines: Sequence[str], place: str) -> str:
    """What a container of the fabric does: rules and routes, then its agent, each time it is started."""
    batch = "\n".join(lines)
    return (
        f"set -e\niptables-restore --noflush <<'E'\n{rules}E\nip -batch - <<'E'\n{batch}\nE\n"
        f"exec python3 -I -S {AGENT} here {SOCKETS} {place}\n"
    )


def published(router: Container) -> Mapping[int, tuple[str, int]]:
    """Where the host reaches each published port of the router."""
    with asking("the router's ports cannot be read"):
        router.reload()
    found: dict[int, tuple[str, int]] = {}
    for port, places in (router.ports or {}).items():
        if places:
            found[int(port.partition("/")[0])] = places[0]["HostIp"], int(places[0]["HostPort"])
    return found


class Life:
    """One node's container while it lives: its log is written, its end is told, once for each start."""

    def __init__(self, container: Container, log: Path, ended: Callable[[Mapping[str, Any]], None]) -> None:
        self.container, self._log, self._ended = container, log, ended
        self._turn = Lock()

    def start(self) -> int:
        """Start it; the pid of its first process, on this machine."""
        with asking(f"container {self.container.name} cannot be started"):
            stream = self.container.attach_socket(params={"stdout": 1, "stderr": 1, "stream": 1})
            try:
                self.container.start()
            except BaseException:
                _close(stream)
                raise
        copier = Thread(target=self._copy, args=(stream,), name="nemesis-log", daemon=True)
        copier.start()
        Thread(target=self._wait, args=(copier,), name="nemesis-wait", daemon=True).start()
        with asking(f"container {self.container.name} cannot be looked at"):
            self.container.reload()
        return int(self.container.attrs["State"]["Pid"])

    def pids(self) -> list[int]:
        """All its processes, the first one first."""
        with asking(f"the processes of {self.container.name} cannot be listed"):
            self.container.reload()
            table = self.container.top()
        place = table["Titles"].index("PID")
        first = int(self.container.attrs["State"]["Pid"])
        return sorted((int(row[place]) for row in table["Processes"]), key=lambda pid: (pid != first, pid))

    def state(self) -> Mapping[str, Any]:
        """What the engine says of it: `Running`, and `Health` where it has a health check."""
        with asking(f"container {self.container.name} cannot be looked at"):
            self.container.reload()
        state: Mapping[str, Any] = self.container.attrs["State"]
        return state

    def paused(self) -> bool:
        """Whether the engine's freezer holds it."""
        return bool(self.state()["Paused"])

    def _copy(self, stream: Any) -> None:
        """What it writes to the log, without a torn last line."""
        raw: socket.socket = stream._sock
        raw.settimeout(None)
        with contextlib.suppress(OSError), open(self._log, "ab+") as file:
            if size := file.seek(0, 2):
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            for data in frames(raw):
                file.write(data)
                file.flush()
        _close(stream)

    def _wait(self, copier: Thread) -> None:
        if (how := end_of(self.container)) is not None:
            copier.join(2.0)
            self._ended(how)


def end_of(container: Container) -> Mapping[str, Any] | None:
    """How a container ended, awaited; None where it has been removed, or the engine is gone."""
    import docker.errors
    import requests

    try:
        code = int(container.wait(timeout=None)["StatusCode"])
    except (docker.errors.DockerException, requests.RequestException, OSError):
        return None
    return {"signal": code - 128} if 128 < code < 193 else {"code": code}


def output(container: Container) -> bytes:
    """The last lines of what a container wrote."""
    with asking(f"the output of {container.name} cannot be read"):
        return bytes(container.logs(tail=50))


def frames(sock: socket.socket) -> Iterator[bytes]:
    """What the engine sends of a container's output: each frame is a stream's number, zeros, a length."""
    while head := _exactly(sock, 8):
        yield _exactly(sock, int.from_bytes(head[4:], "big"))


def _close(stream: Any) -> None:
    """Close what the library returned for an attachment, and the connection below it, which it keeps open."""
    sock: socket.socket = stream._sock
    with contextlib.suppress(OSError):
        stream.close()
        sock.close()


def _exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or none at the end."""
    data = b""
    while len(data) < size:
        if not (part := sock.recv(size - len(data))):
            return b""
        data += part
    return data


__all__ = ["DATA", "SOCKETS", "Containers", "Life", "end_of", "frames", "output", "published"]

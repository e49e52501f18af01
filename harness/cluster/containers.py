"""The containers of one cluster: its network, router, pods, proxy server and nodes, at the Docker engine."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from harness.cluster.disk import bounded
from harness.cluster.engine import asking, labels
from harness.cluster.lock import ClusterError
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

    def pod(self, layout: Layout, node: str) -> Container:
        """What owns a node's network, whatever becomes of the node."""
        lines = [
            f"route replace {layout.router} dev eth0",
            f"route replace {layout.subnet} via {layout.router}",
            f"route replace default via {layout.router}",
        ]
        sysctls = {"net.ipv4.conf.all.accept_redirects": 0, "net.ipv6.conf.all.disable_ipv6": 1}
        pod = self._start(
            f"{node}.pod", layout, layout.ip(node), _boot(guard(layout), lines, node),
            hostname=node, sysctls=sysctls, aliases=[node], volumes=self._bounded(node),
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
            Mount(PROGRAMS, str(Path(agent.__file__).parents[1]), type="bind", read_only=True),
        ]
        with asking(f"container {self.name(role)} cannot be started"):
            return self.client.containers.run(
                self.image, ["sh", "-c", script], name=self.name(role), labels=self.labels, detach=True,
                cap_add=["NET_ADMIN"], network=self.name("net"),
                networking_config={self.name("net"): endpoint}, mounts=mounts, **options,
            )  # fmt: skip

    def proxy(self, router: Container, image: str, layout: Layout) -> None:
        """The real Toxiproxy server, from its own image, in the router's network."""
        with asking(f"the proxy server cannot be started from image {image}"):
            self.client.containers.run(
                image, [f"-host={layout.router}", f"-port={API}"], name=self.name("proxy"),
                labels=self.labels, detach=True, network_mode=f"container:{router.id}",
            )  # fmt: skip

    def _bounded(self, node: str) -> Mapping[str, Any]:
        """The node's data volume, as its pod mounts it; nothing where its size is not bounded."""
        if not self._disk:
            return {}
        return bounded(self.client, self.name(f"{node}.data"), self._disk, self.labels)

    # ------------------------------------------------------------------ nodes

    def node(
        self, name: str, image: str, argv: Sequence[str], env: Mapping[str, str], options: Mapping[str, Any]
    ) -> Container:
        """A node's container, in its pod's network, not yet started."""
        how = {**options}
        volumes = dict(how.pop("volumes", {}))
        own = any(each.get("bind") == DATA for each in volumes.values())
        if own and self._disk:
            raise ClusterError(
                f"{name}: `disk` bounds the volume at {DATA}, but `container` mounts another one there; "
                "leave one of them out"
            )
        if not own:
            volumes[self.volume(f"{name}.data")] = {"bind": DATA, "mode": "rw"}
        with asking(f"container {self.name(name)} cannot be made"):
            return self.client.containers.create(
                image, list(argv) or None, name=self.name(name), labels=self.labels, environment=dict(env),
                network_mode=f"container:{self.pods[name].id}", volumes=volumes, **how,
            )  # fmt: skip

    def volume(self, role: str) -> str:
        """A volume of this run; its name."""
        with asking(f"volume {self.name(role)} cannot be made"):
            self.client.volumes.create(self.name(role), labels=self.labels)
        return self.name(role)


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

    def paused(self) -> bool:
        """Whether the engine's freezer holds it."""
        with asking(f"container {self.container.name} cannot be looked at"):
            self.container.reload()
        return bool(self.container.attrs["State"]["Paused"])

    def _copy(self, stream: Any) -> None:
        """The engine's frames (stream number, three zeros, length) to the log, without a torn last line."""
        raw: socket.socket = stream._sock
        raw.settimeout(None)
        with contextlib.suppress(OSError), open(self._log, "ab+") as file:
            if size := file.seek(0, 2):
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            while head := _exactly(raw, 8):
                file.write(_exactly(raw, int.from_bytes(head[4:], "big")))
                file.flush()
        _close(stream)

    def _wait(self, copier: Thread) -> None:
        import docker.errors
        import requests

        try:
            code = int(self.container.wait(timeout=None)["StatusCode"])
        except (docker.errors.DockerException, requests.RequestException, OSError):
            return  # it has been removed, or the engine is gone
        copier.join(2.0)
        self._ended({"signal": code - 128} if 128 < code < 193 else {"code": code})


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


__all__ = ["DATA", "SOCKETS", "Containers", "Life", "published"]

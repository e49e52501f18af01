"""Limits on a container's CPU and memory: set by the engine's update call, proved by the kernel's files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from datetime import datetime
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from harness.cluster.cgroup import Cgroup, CpuUse, MemoryUse, Unseen
from harness.cluster.engine import asking
from harness.cluster.lock import ClusterError
from harness.cluster.resources import Given
from harness.cluster.supervisor import process
from harness.fabric import FaultError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

PERIOD = 100_000  # µs in which a share of CPU is counted
EVERYTHING = (1 << 63) - 4096  # bytes: no limit, in the only words that the engine's update takes for it
LOOK_EVERY = 0.005  # seconds; a killed container's cgroup is there for 7 ms at least
DYING = 0.5  # seconds for a process that was killed to be gone


class Limit:
    """Base of the limits: where a node's container is at the engine and in the kernel."""

    def __init__(self, client: DockerClient, name: str, container: Container) -> None:
        self.client, self.name, self.container = client, name, container

    def close(self) -> None:
        """Nothing is held here but in the kernel."""

    def _look(self) -> Mapping[str, Any]:
        """What the engine says of it now."""
        with asking(f"{self.name} cannot be looked at"):
            self.container.reload()
        attributes: Mapping[str, Any] = self.container.attrs
        return attributes

    def _update(self, **how: int) -> None:
        with asking(f"{self.name} cannot be limited"):
            api = self.client.api  # its own call knows no NanoCpus, which a container made with them needs
            url = api._url("/containers/{0}/update", self.container.id)
            api._raise_for_status(api._post_json(url, data=how))

    def _cgroup(self) -> Cgroup:
        return Cgroup(self._pid(), str(self.container.id))

    def _pid(self) -> int:
        return int(self._look()["State"]["Pid"])

    def _engine(self, what: str, why: Unseen) -> str:
        return f"the engine says {what}; not looked up in the kernel: {why}"


class CpuLimit(Limit):
    """At most `cpus` CPUs for a node. At its end the kernel's counts tell what it was like."""

    def __init__(self, client: DockerClient, name: str, container: Container, cpus: float) -> None:
        super().__init__(client, name, container)
        self.cpus = cpus
        self._had = ""  # what the kernel said before
        self._since, self._pid_then = 0.0, 0
        self._start: CpuUse | None = None

    def take(self) -> str:
        host = self._look()["HostConfig"]
        with asking("its number of CPUs is not told"):
            machine = float(self.client.info()["NCPU"])
        quota, period, nano = (host.get(key) or 0 for key in ("CpuQuota", "CpuPeriod", "NanoCpus"))
        has = nano / 1e9 if nano else quota / (period or PERIOD) if quota > 0 else machine
        if self.cpus >= has:
            raise FaultError(
                f"{self.name} has {has:g} CPUs: a limit of {self.cpus:g} takes nothing from it; ask for less"
            )
        if nano:
            self._before, how = {"NanoCpus": nano}, {"NanoCpus": round(self.cpus * 1e9)}
        else:
            self._before = {"CpuPeriod": period or PERIOD, "CpuQuota": quota or -1}
            how = {"CpuPeriod": PERIOD, "CpuQuota": round(self.cpus * PERIOD)}
        with contextlib.suppress(Unseen):
            self._had = self._cgroup().cpu_limit()
        with contextlib.ExitStack() as undo:
            undo.callback(self._update, **self._before)
            self._update(**how)
            proof = self._begun()
            undo.pop_all()
        return proof

    def _begun(self) -> str:
        self._pid_then = self._pid()
        try:
            group = self._cgroup()
            limit, text = group.cpus(), group.cpu_limit()
            self._start, self._since = group.cpu_use(), time.monotonic()
        except Unseen as why:
            return self._engine(f"{self.cpus:g} CPUs", why)
        if limit is None or abs(limit - self.cpus) > 0.01 * self.cpus:
            raise FaultError(f"{self.name}: the kernel says {text}, expected {self.cpus:g} CPUs")
        return text

    def give_back(self) -> Given:
        observed = self._observed()
        self._update(**self._before)
        try:
            group = self._cgroup()
            text = group.cpu_limit()
        except Unseen as why:
            return Given(f"{observed}; then {self._engine('that it is over', why)}")
        if self._had and text != self._had:
            raise FaultError(f"{self.name}: the kernel says {text} after heal, expected {self._had}")
        return Given(f"{observed}; then {text}")

    def _observed(self) -> str:
        """What the kernel has counted. Raises FaultError where the limit did not hold."""
        try:
            group = self._cgroup()  # which asks the engine, and that may take its time
            now, took = group.cpu_use(), time.monotonic() - self._since
        except Unseen as why:
            return f"asked {self.cpus:g} CPUs; what it used is not known: {why}"
        if self._start is None or self._pid() != self._pid_then:
            return f"asked {self.cpus:g} CPUs; since it was started again it {_throttled(now)}"
        use = now.since(self._start)
        if use.used > 1.25 * self.cpus * (took + 2e-6 * PERIOD) + 0.05:
            raise FaultError(
                f"{self.name} used {use.used:.2f} s of CPU in {took:.2f} s, expected {self.cpus:g} CPUs"
            )
        return f"asked {self.cpus:g} CPUs, had {use.used / took:.3g} over {took:.2f} s: it {_throttled(use)}"


class MemoryLimit(Limit):
    """At most `size` bytes of memory for a node, and no swap; a watch sees when the kernel kills for it."""

    def __init__(self, client: DockerClient, name: str, container: Container, size: int) -> None:
        super().__init__(client, name, container)
        self.size = size
        self._over = Event()
        self._had: int | None = None  # what the kernel said before
        self._peak, self._kills, self._killed = 0, 0, -1e9
        self._first = MemoryUse(0, 0)

    @property
    def killed_lately(self) -> bool:
        """Whether the kernel has just killed a process of it for lack of memory."""
        return time.monotonic() - self._killed < 2.0

    def take(self) -> str:
        host = self._look()["HostConfig"]
        with asking("its memory is not told"):
            info = self.client.info()
        has = min(host.get("Memory") or EVERYTHING, int(info["MemTotal"]))
        if self.size >= has:
            raise FaultError(
                f"{self.name} has {has} bytes of memory: a limit of {self.size} takes nothing from it; "
                "ask for less"
            )
        self._before = {"Memory": host["Memory"], "MemorySwap": host.get("MemorySwap") or -1}
        if not host.get("Memory"):
            # what is left of `MemorySwap` is swap where cgroups are of version 2, and must be something
            most = EVERYTHING if info.get("CgroupVersion", "1") == "1" else EVERYTHING // 2
            self._before = {"Memory": most, "MemorySwap": EVERYTHING}
        uses = ""
        with contextlib.suppress(Unseen):
            group = self._cgroup()
            self._had, self._first = group.memory(), group.memory_use()
            uses = f" (it uses {self._first.used} bytes now, of which some can be given up)"
            Thread(target=self._watch, args=(group,), name="nemesis-memory", daemon=True).start()
        with contextlib.ExitStack() as undo:
            undo.callback(self._over.set)
            try:
                self._update(Memory=self.size, MemorySwap=self.size)
            except ClusterError as error:
                raise ClusterError(f"{error}{uses}") from error
            undo.callback(self._update, **self._before)
            proof = self._begun()
            undo.pop_all()
        return proof

    def _begun(self) -> str:
        try:
            group = self._cgroup()
            limit, text, used = group.memory(), group.memory_limit(), group.memory_use().used
            swap = "" if group.swap() == 0 else "; swap is not limited, since this kernel does not count it"
        except Unseen as why:
            return self._engine(f"{self.size} bytes", why)
        if limit is None or not self.size - 4096 < limit <= self.size:
            raise FaultError(f"{self.name}: the kernel says {text}, expected {self.size}")
        return f"{text}, {used} in use{swap}"

    def _watch(self, group: Cgroup) -> None:
        """Look while there is something to look at: what a container's last moments were, nobody tells."""
        with contextlib.suppress(Unseen):
            while not self._over.wait(LOOK_EVERY):
                now = group.memory_use()
                self._peak = max(self._peak, now.used)
                if (kills := now.kills - self._first.kills) > self._kills:
                    self._kills, self._killed = kills, time.monotonic()

    def give_back(self) -> Given:
        self._update(**self._before)
        self._over.set()
        died = self._died()
        said = self._observed()
        if died:
            return Given(said, died=True)
        try:
            group = self._cgroup()
            limit, text = group.memory(), group.memory_limit()
        except Unseen as why:
            return Given(f"{said}; then {self._engine('that it is over', why)}")
        if limit != self._had:
            raise FaultError(
                f"{self.name}: the kernel says {text} after heal, expected {self._had or 'none'}"
            )
        return Given(f"{said}; then {text}")

    def close(self) -> None:
        self._over.set()

    def _died(self) -> bool:
        """Whether it has ended; one of which a process was killed just now has a moment to do so."""
        deadline = time.monotonic() + (DYING if self.killed_lately else 0.0)
        while True:
            state = self._look()["State"]
            if not state["Running"] or ((entry := process(state["Pid"])) and entry.state in "ZX"):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_EVERY)

    def _observed(self) -> str:
        if not self._peak:
            return f"asked {self.size} bytes; what it used was not seen"
        killed = f"; the kernel killed {self._kills} process{'es' * (self._kills > 1)} of it"
        most = f"asked {self.size} bytes, had at most {self._peak} when looked at"
        return most + (killed if self._kills else "")


def killed_for_memory(client: DockerClient, container: Container, within: float = 0.5) -> bool:
    """Whether a container that was killed was so for lack of memory; the engine may learn it `within` s.

    Where it told the end first it never corrects it, and only its events know.
    """
    import docker.errors
    import requests

    try:
        container.reload()
        state = container.attrs["State"]
        if state["Running"] or state["OOMKilled"] or state["ExitCode"] != 137:
            return bool(state["OOMKilled"]) and not state["Running"]
        chosen = {"container": container.id, "event": "oom"}
        # not what ended it before it was started again, a moment ago
        started = datetime.fromisoformat(f"{state['StartedAt'].rstrip('Z')[:26]}+00:00").timestamp()
        since = max(time.time() - 2.0, started)
        events = client.events(since=since, until=time.time() + within, filters=chosen)
        try:
            return any(True for _ in events)
        finally:
            events._response.close()  # its own close leaves the connection open
    except (docker.errors.DockerException, requests.RequestException, OSError):
        return False  # it has been removed, or the engine is gone


def _throttled(use: CpuUse) -> str:
    if not use.throttled:
        return "was never throttled"
    return f"was throttled in {use.throttled} of {use.periods} periods, for {use.waited:.2f} s"


__all__ = ["CpuLimit", "MemoryLimit", "killed_for_memory"]

"""Resource faults on containers: what nodes themselves meet, what the kernel counted, what comes after."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness import Client, Endpoint, Op, Plan, at, cpu_limit, disk_full, memory_limit
from harness.cluster import ClusterError, LocalCluster, NetnsCluster, SiteCluster
from harness.cluster.cgroup import Cgroup
from harness.cluster.docker import DockerCluster, DockerSite
from harness.engine import NoEngine, engine
from harness.fabric import FaultError
from harness.history import History
from harness.plan import Unsupported
from harness.run import Run, Settings
from harness.target import Node, Target
from harness.workload import Lane, Workload
from targets.raft_kv import RaftKV
from tests.integration.cluster.support import Events, running, until

PROGRAM = Path(__file__).with_name("eater.py")
MB = 1 << 20


class EaterClient(Client):
    """An operation's value is a line for the node."""

    outcomes: ClassVar[Mapping[type[BaseException], Any]] = {OSError: "info"}

    def open(self, node: Endpoint) -> None:
        self.address = node.host, node.port

    def invoke(self, op: Op) -> str:
        return said(self.address, str(op.value))


@dataclass(frozen=True)
class Eater(Target):
    """Nodes of `eater.py` in an image that has Python; `most` bytes of memory for each, of its own accord."""

    nodes: int | Mapping[str, int] = 2
    most: int = 0

    client: ClassVar[type[Any]] = EaterClient
    image: ClassVar[str] = RaftKV.image
    context: ClassVar[Path | None] = RaftKV.context
    disk: ClassVar[int] = 16 * MB

    def command(self, node: Node) -> Sequence[str]:
        return ["python3", "-S", "-c", PROGRAM.read_text(), node.host, str(node.port), str(node.data)]

    def container(self, node: Node) -> Mapping[str, Any]:
        return {"mem_limit": self.most, "memswap_limit": self.most} if self.most else {}


class Boundless(Eater):
    """Data on the engine's own disk."""

    disk: ClassVar[int] = 0


def said(address: tuple[str, int], line: str, within: float = 10.0) -> str:
    with socket.create_connection(address, timeout=within) as sock:
        sock.sendall(line.encode() + b"\n")
        if not (answer := sock.makefile().readline()):
            raise ConnectionResetError("no answer")
    return answer.strip()


@pytest.fixture(scope="module")
def there() -> None:
    try:
        with engine():
            return
    except NoEngine as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def events() -> Events:
    return Events()


@pytest.fixture(scope="module")
def cluster(there: None, events: Events, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteCluster]:
    with running(Eater(), tmp_path_factory.mktemp("eater"), events=events, kind=DockerCluster) as cluster:
        yield cluster


def ask(cluster: SiteCluster, name: str, line: str) -> str:
    node = cluster.node(name)
    return said((node.host, node.port), line)


def container(cluster: SiteCluster, name: str) -> Any:
    site = cluster._site
    assert isinstance(site, DockerSite)
    found = site._lives[name].container
    found.reload()
    return found


def cgroup(cluster: SiteCluster, name: str) -> Cgroup:
    found = container(cluster, name)
    return Cgroup(found.attrs["State"]["Pid"], found.id)


# ---------------------------------------------------------------------------------- CPU


def test_a_busy_node_has_the_share_that_was_asked(cluster: SiteCluster) -> None:
    kernel = cgroup(cluster, "n1")
    assert kernel.cpus() is None
    assert ask(cluster, "n1", "burn 2") == "ok"
    assert "20000" in cluster.take("cpu_limit", "n1", 0.2)
    assert kernel.cpus() == 0.2 and cgroup(cluster, "n2").cpus() is None
    first, since = kernel.cpu_use(), time.monotonic()
    until(lambda: held_up(kernel), 30.0, "a second in which this machine has time to spare")
    whole, took = kernel.cpu_use().since(first), time.monotonic() - since
    told = cluster.give_back("cpu_limit", "n1")
    asked, had = re.search(r"asked (\S+) CPUs, had (\S+) over", told).groups()  # type: ignore[union-attr]
    assert float(asked) == 0.2
    assert float(had) == pytest.approx(whole.used / took, rel=0.2) and float(had) < 1.2 * 0.2
    assert re.search(r"throttled in \d+ of \d+ periods", told)
    assert kernel.cpus() is None
    before = kernel.cpu_use()
    until(lambda: kernel.cpu_use().since(before).used > 0.4, 10.0, "it runs as it did")
    assert kernel.cpu_use().throttled == before.throttled


def held_up(kernel: Cgroup) -> bool:
    """A second's use is no more than 0.2 CPUs, and no less where the limit is what held the node up."""
    before, began = kernel.cpu_use(), time.monotonic()
    until(lambda: kernel.cpu_use().periods - before.periods >= 10, 10.0, "ten periods of CPU time")
    use, took = kernel.cpu_use().since(before), time.monotonic() - began
    assert use.used / took < 1.2 * 0.2
    if use.throttled < 0.9 * use.periods:  # others had the CPU meanwhile
        return False
    assert use.used / took > 0.8 * 0.2
    return True


def test_a_limit_outlives_the_process_and_is_healed_on_a_dead_node(cluster: SiteCluster) -> None:
    cluster.take("cpu_limit", "n1", 0.5)
    cluster.kill("n1")
    cluster.restart("n1")
    assert cgroup(cluster, "n1").cpus() == 0.5
    cluster.kill("n1")
    assert "it does not run" in cluster.give_back("cpu_limit", "n1")
    cluster.restart("n1")
    assert cgroup(cluster, "n1").cpus() is None


def test_a_paused_node_can_be_limited(cluster: SiteCluster) -> None:
    cluster.pause("n2")
    cluster.take("cpu_limit", "n2", 0.5)
    cluster.resume("n2")
    assert cgroup(cluster, "n2").cpus() == 0.5
    cluster.give_back("cpu_limit", "n2")


def test_what_takes_nothing_is_refused_and_so_is_twice(cluster: SiteCluster) -> None:
    with pytest.raises(FaultError, match=r"n1 has \d+ CPUs: a limit of 1000 takes nothing from it"):
        cluster.take("cpu_limit", "n1", 1000)
    with pytest.raises(FaultError, match=r"n1 has \d+ bytes of memory: a limit of"):
        cluster.take("memory_limit", "n1", 1 << 50)
    cluster.take("cpu_limit", "n1", 0.5)
    with pytest.raises(ClusterError, match="n1 has a cpu_limit in force already: heal it first"):
        cluster.take("cpu_limit", "n1", 0.4)
    cluster.give_back("cpu_limit", "n1")
    with pytest.raises(ClusterError, match="n1 has no cpu_limit in force"):
        cluster.give_back("cpu_limit", "n1")


# ---------------------------------------------------------------------------------- memory


def test_a_node_that_needs_more_memory_dies_of_it_and_comes_back(
    cluster: SiteCluster, events: Events
) -> None:
    limit, exits = 40 * MB, len(events.of("n1", "exit"))
    assert str(limit) in cluster.take("memory_limit", "n1", limit)
    assert cgroup(cluster, "n1").memory() == limit and cgroup(cluster, "n1").swap() in (0, None)
    ask(cluster, "n1", f"allocate {2 * limit}")
    ended = events.wait("n1", "exit", exits + 1)
    assert (ended["asked"], ended["oom"]) == (True, True) and not cluster.alive("n1")
    told = cluster.give_back("memory_limit", "n1")
    peak = int(re.search(r"had at most (\d+)", told)[1])  # type: ignore[index]
    assert 0.7 * limit < peak <= limit and "the kernel killed 1 process of it; started again: pid" in told
    assert cgroup(cluster, "n1").memory() is None
    assert ask(cluster, "n1", "files") is not None


def test_a_child_that_dies_of_it_is_told_and_the_node_lives(cluster: SiteCluster, events: Events) -> None:
    exits = len(events.of("n2", "exit"))
    cluster.take("memory_limit", "n2", 40 * MB)
    assert ask(cluster, "n2", f"child {80 * MB}") == "-9"
    told = cluster.give_back("memory_limit", "n2")
    assert "the kernel killed 1 process of it; then" in told and "started again" not in told
    assert cluster.alive("n2") and len(events.of("n2", "exit")) == exits
    assert ask(cluster, "n2", f"child {80 * MB}") == "0", "what was taken is there again"


def test_a_kill_under_a_limit_is_no_lack_of_memory(cluster: SiteCluster, events: Events) -> None:
    exits = len(events.of("n1", "exit"))
    cluster.take("memory_limit", "n1", 64 * MB)
    container(cluster, "n1").kill("SIGKILL")
    ended = events.wait("n1", "exit", exits + 1)
    assert ended["asked"] is False and "oom" not in ended
    assert "started again" not in cluster.give_back("memory_limit", "n1")
    with pytest.raises(ClusterError, match=r"n1 is down .* and has no memory to limit"):
        cluster.take("memory_limit", "n1", 64 * MB)
    cluster.restart("n1")


# ---------------------------------------------------------------------------------- disk


def test_a_full_disk_refuses_the_nodes_own_writes_until_it_is_healed(cluster: SiteCluster) -> None:
    assert ask(cluster, "n1", "total") == str(Eater.disk)
    assert ask(cluster, "n1", "write before 8192") == "ok"
    proof = cluster.take("disk_full", "n1", 0)
    assert "0 bytes free, a write fails with ENOSPC" in proof
    assert ask(cluster, "n1", "write more 1") == "ENOSPC"
    assert ask(cluster, "n1", "write before 1") == "ENOSPC"
    assert ask(cluster, "n2", "write more 1") == "ok", "the other node has a disk of its own"
    assert ask(cluster, "n1", "files") == "before,more", "what fills it is not to be seen"
    ask(cluster, "n1", "remove before")
    files = (f"write more{number} 1" for number in count())  # each needs a block of its own
    until(lambda: ask(cluster, "n1", next(files)) == "ENOSPC", 5.0, "what came free is taken")
    healed = cluster.give_back("disk_full", "n1")
    assert "bytes free, a write works" in healed
    assert ask(cluster, "n1", f"write more {8 * MB}") == "ok"


def test_data_survives_a_kill_with_the_disk_full_and_without(cluster: SiteCluster) -> None:
    ask(cluster, "n2", "write kept 5000")
    cluster.kill("n2")
    cluster.restart("n2")
    assert ask(cluster, "n2", "size kept") == "5000"
    cluster.take("disk_full", "n2", 0)
    cluster.kill("n2")
    cluster.restart("n2")
    assert ask(cluster, "n2", "size kept") == "5000"
    assert ask(cluster, "n2", "write new 1") == "ENOSPC", "it is full for the next process, too"
    cluster.give_back("disk_full", "n2")
    assert ask(cluster, "n2", "write new 1") == "ok"


def test_what_fills_a_disk_and_is_gone_is_told(cluster: SiteCluster) -> None:
    site = cluster._site
    assert isinstance(site, DockerSite)
    cluster.take("disk_full", "n1", 0)
    pod = site.inside["n1"]
    pod.run(["python3", "-c", KILL_FILLER])
    with pytest.raises(FaultError, match="what fills its disk"):
        cluster.give_back("disk_full", "n1")
    until(lambda: ask(cluster, "n1", "write again 1") == "ok", 5.0, "nothing is left of it")


KILL_FILLER = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline").read().split("\\0")
    if any(word.endswith("/filler.py") for word in words):
        os.kill(int(pid), signal.SIGKILL)
"""


# ---------------------------------------------------------------------------------- plans


def eating(size: int) -> Workload:
    """Each operation makes a node take `size` bytes more."""

    def make(rng: random.Random) -> Iterator[Op]:
        for _ in itertools.count():
            yield Op("write", f"allocate {size}")
            time.sleep(0.05)

    return Workload("eating", (Lane(2, make),))


def carried_out(target: Target, plan: Plan, output: Path, duration: float) -> History:
    settings = Settings(seed=1, test="t", output=output, runtime="docker", duration=duration)
    with Run(target, eating(2 * MB), plan, settings) as run:
        run.to_end()
    return run.history


def test_a_plan_of_resource_faults(there: None, tmp_path: Path) -> None:
    plan = Plan(
        at(0.3, memory_limit("n1", 40 * MB), lasts=2.5),
        at(0.4, cpu_limit("all", 0.5), lasts=1.5),
        at(0.5, disk_full("n2"), lasts=1),
    )
    history = carried_out(Eater(), plan, tmp_path / "out", 4.0)
    assert history.findings == ()
    found = {fault.kind: fault for fault in history.faults}
    assert all(fault.start is not None and fault.end is not None for fault in history.faults)
    assert "started again" in found["memory_limit"].healed
    assert "n1: asked 0.5 CPUs" in found["cpu_limit"].healed and "n2: asked" in found["cpu_limit"].healed
    assert "ENOSPC" in found["disk_full"].proof and "a write works" in found["disk_full"].healed
    exits = [event for event in history.events if event.kind == "exit"]
    assert [(e.node, e.detail["asked"], e.detail["oom"]) for e in exits] == [("n1", True, True)]


def test_lack_of_memory_without_the_plans_doing_is_a_finding(there: None, tmp_path: Path) -> None:
    history = carried_out(Eater(nodes=1, most=40 * MB), Plan(), tmp_path / "out", 4.0)
    assert re.match(
        r"n1 exited by itself \(signal 9, killed by the kernel: it was out of memory\)", history.findings[0]
    )


def test_a_full_disk_needs_a_bound_and_says_so_before_anything_starts(there: None, tmp_path: Path) -> None:
    settings = Settings(seed=1, test="t", output=tmp_path / "out", runtime="docker")
    run = Run(Boundless(), eating(1), Plan(at(1, disk_full("n1"), lasts=1)), settings)
    with pytest.raises(Unsupported, match=r"no disk_full, .* disk = 64 << 20 in Boundless"), run:
        pass
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("runtime", [LocalCluster, NetnsCluster])
@pytest.mark.parametrize("fault", [cpu_limit("n1", 1), memory_limit("n1", 10 * MB), disk_full("n1")])
def test_runtimes_without_containers_refuse_them(runtime: type[SiteCluster], fault: Any) -> None:
    with pytest.raises(Unsupported, match="use runtime docker"):
        Plan(at(1, fault, lasts=1)).refuse_unsupported(runtime.unsupported, runtime.runtime)

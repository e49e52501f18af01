"""Clock faults on every runtime: what nodes themselves read, their children, and programs that they run."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.clock_faults import clock_jump
from harness.cluster import ClusterError, LocalCluster, NetnsCluster, SiteCluster, clocks
from harness.cluster.docker import DockerCluster
from harness.engine import NoEngine, engine
from harness.fabric import FaultError
from harness.nemesis.acts import Act
from harness.selector import Scene
from harness.skew.patcher import Spec
from harness.target import Endpoint, Node, Target
from targets.raft_kv import RaftKV
from tests.integration.cluster.support import Events, no_namespaces, running, until

PROGRAM = Path(__file__).with_name("clock_program.py")
KINDS: dict[str, type[SiteCluster]] = {
    kind.runtime: kind for kind in (LocalCluster, NetnsCluster, DockerCluster)
}
NEAR = 0.001  # seconds


@dataclass(frozen=True)
class Clocked(Target):
    """Nodes of `clock_program.py`, in an image that has Python."""

    nodes: int | Mapping[str, int] = 2

    image: ClassVar[str] = RaftKV.image
    context: ClassVar[Path | None] = RaftKV.context

    def command(self, node: Node) -> Sequence[str]:
        return ["python3", "-S", "-c", PROGRAM.read_text(), node.host, str(node.port)]

    def clock(self, node: Endpoint) -> float:
        return read(node)["wall"]


class Silent(Clocked):
    """Without a probe of its own."""

    clock = Target.clock


def read(node: Endpoint, what: str = "here") -> dict[str, float]:
    """What a node reads: its clocks."""
    with socket.create_connection((node.host, node.port), timeout=5) as sock:
        sock.sendall(what.encode() + b"\n")
        answer: dict[str, float] = json.loads(sock.makefile().readline())
    return answer


@dataclass(frozen=True)
class Off:
    """How far a node's clocks are off: wall and monotonic, each between two bounds; the host's are the true
    ones for both."""

    wall: tuple[float, float]
    monotonic: tuple[float, float]

    def at(self, wall: float, monotonic: float = 0.0) -> bool:
        """Whether they may be these."""
        given = zip((wall, monotonic), (self.wall, self.monotonic), strict=True)
        return all(low - NEAR <= value <= high + NEAR for value, (low, high) in given)


def off(cluster: SiteCluster, name: str, what: str = "here") -> Off:
    node = cluster.node(name)
    before = time.time(), time.monotonic()
    said = read(node, what)
    after = time.time(), time.monotonic()
    values = said["wall"], said["monotonic"]
    wall, monotonic = ((value - t1, value - t0) for value, t0, t1 in zip(values, before, after, strict=True))
    return Off(wall, monotonic)


def called(proof: str, offset: float) -> bool:
    """Whether processes that were made to read their clocks were off by `offset`."""
    found = re.search(r"called (\S+) s ± (\d+) µs", proof)
    assert found, proof
    return abs(float(found[1]) - offset) < NEAR + float(found[2]) / 1e6


def lost(text: str) -> None:
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(text)


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> type[SiteCluster]:
    if request.param == "docker":
        try:
            with engine():
                pass
        except NoEngine as error:
            lost(str(error))
    if request.param == "netns" and (why := no_namespaces()):
        lost(why)
    return KINDS[request.param]


@pytest.fixture(scope="module")
def events() -> Events:
    return Events()


@pytest.fixture(scope="module")
def cluster(
    kind: type[SiteCluster], events: Events, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SiteCluster]:
    with running(Clocked(), tmp_path_factory.mktemp("clocks"), events=events, kind=kind) as cluster:
        yield cluster


@pytest.mark.parametrize("offset", [0.5, -0.3, 3600.0])
def test_a_jump_is_read_by_all_of_a_node_and_by_no_other(
    cluster: SiteCluster, events: Events, offset: float
) -> None:
    read(cluster.node("n1"), "lasting")
    effect = cluster.skew("n1", Spec(offset=offset))
    try:
        assert effect.mechanism.startswith("vdso") and "asked" in effect.proof
        assert called(effect.proof, offset)
        for what in ("here", "thread", "forked", "lasting", "program"):
            assert off(cluster, "n1", what).at(offset), what
        assert off(cluster, "n2").at(0)
        seen = len(events.of("n1", "clock"))
        until(lambda: len(events.of("n1", "clock")) > seen + 3, 5.0, "looks at a skewed clock")
        for one in events.of("n1", "clock")[seen:]:
            assert abs(one["offset"] - offset) <= one["error"] + 0.001, one
    finally:
        gone = cluster.set_right("n1").proof
    held, right = gone.split("; then ")
    assert held.startswith("until its end") and called(held, offset) and called(right, 0)
    for what in ("here", "thread", "forked", "lasting", "program"):
        assert off(cluster, "n1", what).at(0), what


def test_a_drift_grows_and_ends(cluster: SiteCluster) -> None:
    before = time.monotonic()
    cluster.skew("n1", Spec(rate=0.5))
    after = time.monotonic()
    try:
        until(lambda: off(cluster, "n1").wall[0] > 0.2, 5.0, "a clock that is 0.2 s ahead")
        least = 0.5 * (time.monotonic() - after)
        low, high = off(cluster, "n1").wall
        most = 0.5 * (time.monotonic() - before)
        assert low <= most + NEAR and high >= least - NEAR
    finally:
        cluster.set_right("n1")
    assert off(cluster, "n1").at(0)


def test_a_strobe_goes_to_and_fro(cluster: SiteCluster) -> None:
    cluster.skew("n1", Spec(amplitude=10.0, half=0.01))
    try:
        seen = [off(cluster, "n1") for _ in range(200)]
        assert all(one.at(0) or one.at(10) for one in seen)
        assert any(one.at(0) for one in seen) and any(one.at(10) for one in seen)
    finally:
        cluster.set_right("n1")
    assert all(off(cluster, "n1").at(0) for _ in range(50))


def test_monotonic_clocks_on_request(cluster: SiteCluster) -> None:
    cluster.skew("n1", Spec(offset=5.0, clocks=("wall", "monotonic")))
    try:
        assert off(cluster, "n1").at(5, 5)
    finally:
        cluster.set_right("n1")
    assert off(cluster, "n1").at(0)


def test_a_program_that_is_started_meanwhile_is_skewed_from_its_beginning(cluster: SiteCluster) -> None:
    cluster.kill("n2")
    cluster.restart("n2")  # without the child of an earlier test
    cluster.skew("n2", Spec(offset=100.0))
    try:
        for what in ("lasting", "program", "program"):
            assert off(cluster, "n2", what).at(100), what
    finally:
        cluster.set_right("n2")
    for what in ("lasting", "program"):
        assert off(cluster, "n2", what).at(0), what


def test_a_node_that_is_killed_and_started_again_stays_skewed(cluster: SiteCluster, events: Events) -> None:
    told = len(events.of("n1", "clock-gap"))
    cluster.skew("n1", Spec(offset=-50.0))
    try:
        cluster.kill("n1")
        assert called(cluster.restart("n1"), -50)
        assert off(cluster, "n1").at(-50)
        gap = events.wait("n1", "clock-gap", told + 1)  # from its start until it was found
        assert 0 < gap["gap"] < 10 and gap["what"] in ("new", "started")
    finally:
        cluster.set_right("n1")
    assert off(cluster, "n1").at(0)


def test_a_node_that_is_down_is_skewed_from_its_start(cluster: SiteCluster) -> None:
    cluster.kill("n1")
    assert "from when it does" in cluster.skew("n1", Spec(offset=7.0)).proof
    cluster.restart("n1")
    assert off(cluster, "n1").at(7)
    cluster.kill("n1")
    assert "when it does, they are right" in cluster.set_right("n1").proof
    cluster.restart("n1")
    assert off(cluster, "n1").at(0)


def test_a_fault_that_no_running_node_bore_is_a_finding(cluster: SiteCluster) -> None:
    planned = clock_jump("n1", 5.0).resolve(Scene({"n1": "node", "n2": "node"}), random.Random(0))
    act = Act(cluster, "f1", planned, random.Random(0))
    cluster.kill("n1")
    try:
        assert act.inject().mechanism == "none yet"
        with pytest.raises(FaultError, match="n1 never ran while it lasted: no clock was skewed"):
            act.heal()
    finally:
        cluster.restart("n1")
    assert off(cluster, "n1").at(0)
    assert act.inject().mechanism.startswith("vdso") and act.heal().mechanism.startswith("vdso")


def test_a_node_that_stands_still_is_skewed_when_it_goes_on(cluster: SiteCluster) -> None:
    cluster.pause("n1")
    cluster.skew("n1", Spec(offset=9.0))
    cluster.resume("n1")
    try:
        assert off(cluster, "n1").at(9)
        cluster.pause("n1")
    finally:
        cluster.set_right("n1")
    cluster.resume("n1")
    assert off(cluster, "n1").at(0)


def test_a_node_that_is_killed_and_started_while_it_is_skewed(cluster: SiteCluster) -> None:
    """Whatever comes first: it is skewed afterwards, and right in the end."""
    stop = threading.Event()
    failed: list[Exception] = []

    def again() -> None:
        try:
            while not stop.is_set():
                cluster.kill("n1")
                cluster.restart("n1")
        except Exception as error:
            failed.append(error)

    killing = threading.Thread(target=again)
    killing.start()
    try:
        for offset in (3.0, -3.0, 300.0, -300.0):
            cluster.skew("n1", Spec(offset=offset))
            cluster.set_right("n1")
        cluster.skew("n1", Spec(offset=77.0))
    finally:
        stop.set()
        killing.join()
    assert not failed
    assert off(cluster, "n1").at(77)
    cluster.set_right("n1")
    assert off(cluster, "n1").at(0)


def test_one_skew_at_a_time(cluster: SiteCluster) -> None:
    cluster.skew("n1", Spec(offset=1.0))
    try:
        with pytest.raises(ClusterError, match="n1 are skewed already"):
            cluster.skew("n1", Spec(offset=2.0))
    finally:
        cluster.set_right("n1")
    with pytest.raises(ClusterError, match="n1 are not skewed"):
        cluster.set_right("n1")


def test_a_clock_that_lies_is_found(tmp_path: Path) -> None:
    """The target's own probe is believed more than ours."""

    class Lying(Clocked):
        def clock(self, node: Endpoint) -> float:
            return time.time()

    with running(Lying(nodes=1), tmp_path) as cluster:
        with pytest.raises(FaultError, match=r"n1: clock asked .* expected \+0.5 s"):
            cluster.skew("n1", Spec(offset=0.5))
        assert off(cluster, "n1").at(0), "what is not proved is not left in force"


@pytest.mark.parametrize("said", ["now", float("nan"), None, True])
def test_what_is_no_time_is_no_probe(tmp_path: Path, said: Any) -> None:
    class Odd(Clocked):
        def clock(self, node: Endpoint) -> Any:
            return said

    with running(Odd(nodes=1), tmp_path) as cluster:
        with pytest.raises(FaultError, match=rf"clock\(n1\) gave {said!r}, expected seconds since 1970"):
            cluster.skew("n1", Spec(offset=0.5))
        assert off(cluster, "n1").at(0)


def test_a_probe_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    class Hanging(Clocked):
        def clock(self, node: Endpoint) -> float:
            asked.wait()
            return 0.0

    monkeypatch.setattr(clocks, "ASK_WITHIN", 0.2)
    with running(Hanging(nodes=1), tmp_path) as cluster:
        try:
            with pytest.raises(FaultError, match=r"clock\(n1\) did not answer within 0.2 s"):
                cluster.skew("n1", Spec(offset=0.5))
        finally:
            asked.set()
        assert off(cluster, "n1").at(0)


def test_what_has_no_probe_is_called(tmp_path: Path) -> None:
    with running(Silent(nodes=1), tmp_path) as cluster:
        proof = cluster.skew("n1", Spec(offset=0.5)).proof
        assert called(proof, 0.5) and "asked" not in proof
        assert called(cluster.set_right("n1").proof.split("; then ")[1], 0)


@pytest.mark.parametrize("kind", ["local", "docker"], indirect=True)
def test_an_audit_says_what_escapes(kind: type[SiteCluster], tmp_path: Path) -> None:
    class Audited(Clocked):
        clock_audit = 0.5

    with running(Audited(nodes=1), tmp_path, kind=kind) as cluster:
        asking = threading.Event()

        def ask() -> None:
            while not asking.is_set():
                read(cluster.node("n1"), "escape")

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            proof = cluster.skew("n1", Spec(offset=5.0)).proof
        finally:
            asking.set()
            asker.join()
        assert "audit of 0.5 s: pid " in proof and " escapes (" in proof and "clock_gettime" in proof, proof
        assert off(cluster, "n1").at(5) and off(cluster, "n1", "escape").at(0), "as was said"
        cluster.set_right("n1")


# A process that may not trace, nor may its children, as in a container whose seccomp profile forbids it.
UNTRACED = """
import ctypes, struct, sys, pathlib
libc = ctypes.CDLL(None, use_errno=True)
load, equal, give = (0x20, 0, 0, 0), (0x15, 0, 1, 101), ((0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000))
program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in (load, equal, *give)))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(4, ctypes.addressof(program))), 0, 0) == 0
sys.path.insert(0, sys.argv[2])
from harness.cluster import LocalCluster
from harness.skew.patcher import Spec
from tests.integration.cluster.support import Events
from tests.integration.cluster.test_cluster_clocks import Clocked, Silent, off
base = pathlib.Path(sys.argv[1])
"""


def untraced(tmp_path: Path, body: str) -> str:
    """What `body` prints where nobody may trace."""
    argv = [sys.executable, "-c", UNTRACED + body, str(tmp_path), str(Path(__file__).parents[3])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_where_nobody_may_trace_the_library_is_preloaded(tmp_path: Path) -> None:
    said = untraced(
        tmp_path,
        """
cluster = LocalCluster(Clocked(), run_id="r", logs=base / "r", on_event=Events(), base=base / "base")
cluster.clocks = True
try:
    cluster.start()
    print(cluster.skew("n1", Spec(offset=50.0)))
    assert off(cluster, "n1").at(50) and off(cluster, "n2").at(0)
    assert off(cluster, "n1", "program").at(50) and off(cluster, "n1", "lasting").at(50)
    cluster.kill("n1"), print(cluster.restart("n1"))
    assert off(cluster, "n1").at(50)
    print(cluster.set_right("n1"))
    assert off(cluster, "n1").at(0)
finally:
    cluster.stop()
""",
    )
    assert "'preload, preloaded'" in said and said.count("asked +50.") + said.count("asked +49.") == 3, said


def test_where_neither_is_to_be_had_each_reason_is_told(tmp_path: Path) -> None:
    said = untraced(
        tmp_path,
        """
cluster = LocalCluster(Silent(nodes=1), run_id="r", logs=base / "r", on_event=Events(), base=base / "base")
try:
    cluster.start()
    try:
        cluster.skew("n1", Spec(offset=50.0))
    except Exception as error:
        print(type(error).__name__, error)
finally:
    cluster.stop()
""",
    )
    assert said.startswith("FaultUnsupported the clocks of n1 cannot be skewed:\n"), said
    assert "by the nodes' supervisor: " in said and "Operation not permitted" in said
    assert "preloaded: it was started without the library" in said

"""LocalCluster on real processes: start, stop, the process faults and their proofs, errors."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.cluster import ClusterError, FaultError, LocalCluster, NetnsCluster, SiteCluster, runtime_class
from harness.runtime import choose
from harness.target import Endpoint, Node, Running
from tests.integration.cluster.support import (
    Asked,
    Events,
    Tiny,
    Told,
    addresses_lead,
    ask,
    no_namespaces,
    of_run,
    running,
    site_of,
    until,
    with_words,
)
from tests.integration.proxy.conftest import command_of


def nothing_left(cluster: SiteCluster, tmp_path: Path) -> None:
    assert not of_run(tmp_path, cluster.run_id)
    assert not list((tmp_path / "base" / "runs").iterdir())
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("nemesis-logs", "nemesis-super"))]


def test_starts_quickly_and_leaves_nothing(tmp_path: Path) -> None:
    events = Events()
    began = time.monotonic()
    with running(Tiny(nodes=5), tmp_path, events=events) as cluster:
        took = time.monotonic() - began
        assert [node.name for node in cluster.nodes] == ["n1", "n2", "n3", "n4", "n5"]
        for node in cluster.nodes:
            assert [kind for name, kind, _ in events.all if name == node.name] == ["start", "ready"]
            assert ask(node)["pid"] == events.of(node.name, "start")[0]["pid"]
            assert ask(cluster.entry(node.name)) == ask(node)
            assert cluster.entry(node.name).port != node.port
            assert len({peer.port for peer in node.peers} - {node.port}) == 4
            assert cluster.logs[node.name].read_text() == f"program tiny on {node.port}\n"
            assert cluster.alive(node.name) and node.data.is_dir()
        assert len(of_run(tmp_path)) == 7  # with supervisor and proxy
        assert cluster.await_healthy(5.0) < 5.0
    assert took < 1.5 or os.getloadavg()[0] > 3
    nothing_left(cluster, tmp_path)
    assert not [detail for name, kind, detail in events.all if kind == "exit"]
    assert cluster.stop() == ""


def test_roles_and_ports(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Shop(Tiny):
        roles: ClassVar[dict[str, int]] = {"app": 2, "db": 1}
        ports: ClassVar[tuple[str, ...]] = ("main", "peer")

    with running(Shop(), tmp_path) as cluster:
        assert [(node.name, node.role) for node in cluster.nodes] == [
            ("app1", "app"), ("app2", "app"), ("db1", "db"),
        ]  # fmt: skip
        addresses_lead(cluster)
        app1 = cluster.node("app1")
        assert [(peer.name, peer.role, [*peer.ports]) for peer in app1.peers] == [
            ("app2", "app", ["main", "peer"]), ("db1", "db", ["main", "peer"]),
        ]  # fmt: skip
        (db1,) = (peer for peer in app1.peers if peer.name == "db1")
        assert ask(db1) == ask(cluster.node("db1"))  # the link leads there
        every = [port for node in cluster.nodes for e in (node, *node.peers) for port in e.ports.values()]
        assert len(set(every)) == len(every) == 3 * 2 * 3
        with pytest.raises(ClusterError, match="no node 'web'; the nodes are app1, app2, db1"):
            cluster.kill("web")


def test_kill_and_restart(tmp_path: Path) -> None:
    events = Events()
    with running(Tiny(nodes=2), tmp_path, events=events) as cluster:
        node, other = cluster.nodes
        before = ask(node)["pid"]
        (node.data / "kept").write_text("yes")
        proof = cluster.kill("n1")
        assert re.fullmatch(
            rf"SIGKILL: pid {before} reaped after \d+\.\d ms, 127.0.0.1:{node.port} refused", proof
        )
        assert not cluster.alive("n1") and cluster.alive("n2") and ask(other)
        assert events.of("n1", "exit") == [{"signal": 9, "asked": True}]
        for verb in (cluster.kill, cluster.pause, cluster.resume):
            with pytest.raises(ClusterError, match=r"n1 is down \(it was killed by the plan\) and cannot be"):
                verb("n1")
        with pytest.raises(ClusterError, match="n1 is down"):
            cluster.await_healthy(1.0)
        proof = cluster.restart("n1")
        after = ask(node)["pid"]
        assert after != before and f"pid {after} after pid {before}, ready after" in proof
        assert [k for n, k, _ in events.all if n == "n1"] == ["start", "ready", "exit", "restart", "ready"]
        assert (node.data / "kept").read_text() == "yes"
        assert cluster.logs["n1"].read_text().count("program tiny") == 2
        with pytest.raises(ClusterError, match="n1 is running and cannot be started: kill it first"):
            cluster.restart("n1")


def test_pause_and_resume(tmp_path: Path) -> None:
    with running(Asked(nodes=2), tmp_path) as cluster:
        node = cluster.node("n1")
        proof = cluster.pause("n1")
        assert "1 process(es) stopped" in proof and "status unanswered" in proof
        where = f"127.0.0.1:{node.port}"
        held = re.search(rf"connection to {where} not accepted for (\d+) ms \((\d+) in its queue\)", proof)
        assert held and int(held[1]) >= 50 and int(held[2]) >= 1
        assert cluster.alive("n1")
        with pytest.raises(TimeoutError):
            ask(node)
        assert ask(cluster.node("n2"))
        with pytest.raises(ClusterError, match="n1 is paused and cannot be paused"):
            cluster.pause("n1")
        proof = cluster.resume("n1")
        assert re.match(r"SIGCONT: (the waiting connection was accepted|status answered) after \d+ ms", proof)
        until(lambda: ask(node)["pid"], 5.0, "an answer")
        with pytest.raises(ClusterError, match="n1 is running and cannot be resumed: only a paused"):
            cluster.resume("n1")
        cluster.pause("n1")
        assert "refused" in cluster.kill("n1")  # also while it is stopped
        with pytest.raises(ClusterError, match=r"n1 is down .* cannot be resumed"):
            cluster.resume("n1")


def test_faults_that_do_nothing_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Asked(nodes=1), tmp_path) as cluster:
        site = site_of(cluster)
        signal = site.signal

        def harmless(name: str, number: int) -> list[int]:
            return signal(name, 0)

        monkeypatch.setattr(site, "signal", harmless)
        monkeypatch.setattr("harness.cluster.proof.WITHIN", 0.3)
        with pytest.raises(FaultError, match=r"are not stopped 0\.3 s after it was asked for"):
            cluster.pause("n1")
        monkeypatch.undo()
        cluster.pause("n1")
        monkeypatch.setattr(site, "signal", harmless)
        monkeypatch.setattr("harness.cluster.proof.WITHIN", 0.3)
        with pytest.raises(FaultError, match="are still stopped"):
            cluster.resume("n1")


def test_a_pause_is_judged_by_traffic_not_by_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Tiny(nodes=1), tmp_path) as cluster:
        monkeypatch.setattr(site_of(cluster), "signal", lambda name, number: [])
        monkeypatch.setattr("harness.cluster.proof.HOLD", 5.0)  # for a machine too busy to accept sooner
        with pytest.raises(FaultError, match=r"yet a connection to .* was accepted after"):
            cluster.pause("n1")


def test_a_pause_that_is_not_proved_is_not_left_in_force(tmp_path: Path) -> None:
    class Constant(Tiny):
        def status(self, node: Endpoint) -> dict[str, Any]:
            return {"role": "leader"}  # whether it answers or not

    with running(Constant(nodes=1), tmp_path) as cluster:
        with pytest.raises(FaultError, match="it must ask the node itself"):
            cluster.pause("n1")
        assert ask(cluster.node("n1"))["pid"] and cluster.await_healthy(5) < 5
        cluster.kill("n1")


def test_faults_reach_the_whole_tree(tmp_path: Path) -> None:
    tag = f"family-{os.getpid()}"
    with running(Tiny(nodes=2, only={"n1": ("--family",)}, tag=tag), tmp_path) as cluster:
        until(lambda: len(with_words(tag)) == 2 + 3, 5.0, "two nodes and a family of three")
        two = ask(cluster.node("n2"))["pid"]
        daemon = next(p for p in with_words(tag) if not Path(f"/proc/{p}/environ").read_bytes())

        def state(pid: int) -> str:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

        assert "3 process(es) stopped" in cluster.pause("n1")
        assert {pid for pid in with_words(tag) if state(pid) != "T"} == {two, daemon}
        cluster.resume("n1")
        assert not [pid for pid in with_words(tag) if state(pid) == "T"]
        assert "and 2 more of its tree" in cluster.kill("n1")
        assert set(with_words(tag)) == {two, daemon}  # a daemon that shed its label too goes with the cluster
        cluster.restart("n1")
    assert not with_words(tag)


def test_an_exit_nobody_asked_for_tells_why(tmp_path: Path) -> None:
    events = Events()
    with running(Tiny(nodes=2), tmp_path, events=events) as cluster:
        with pytest.raises(OSError):
            ask(cluster.node("n1"), "exit 3")
        detail = events.wait("n1", "exit")
        assert detail["code"] == 3 and detail["asked"] is False and "program tiny" in detail["log"][0]
        until(lambda: not cluster.alive("n1"), 5.0, "the state follows")
        with pytest.raises(ClusterError, match=r"n1 is down \(it exited with code 3\) and cannot be killed"):
            cluster.kill("n1")
        cluster.restart("n1")
        os.kill(ask(cluster.node("n1"))["pid"], signal.SIGSEGV)
        assert events.wait("n1", "exit", 2)["signal"] == signal.SIGSEGV


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dies=7",), r"n2 exited with code 7 before it was ready\n.*command: (.|\n)*the disk is full"),
        (("--daemon",), r"n2 exited with code 0 before it was ready; a node's command must stay in the fore"),
        (
            ("--mute",),
            r"n2 was not ready within 1 s \(Impatient.ready_within\): .*ready\(n2\) raised Conn.*refused",
        ),
    ],
)
def test_a_node_that_does_not_come_up(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    class Impatient(Tiny):
        ready_within: ClassVar[float] = 1.0

    cluster = LocalCluster(
        Impatient(nodes=3, only={"n2": options}), run_id="bad", logs=tmp_path / "logs",
        on_event=Events(), base=tmp_path / "base",
    )  # fmt: skip
    with pytest.raises(ClusterError, match=message):
        cluster.start()
    nothing_left(cluster, tmp_path)


def start_and_fail(target: Tiny, tmp_path: Path, message: str) -> None:
    with pytest.raises(ClusterError, match=message), running(target, tmp_path) as cluster:
        pytest.fail(f"{cluster.nodes} should not have started")
    assert not of_run(tmp_path) and not list((tmp_path / "base" / "runs").iterdir())


def test_commands_that_are_none(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Wrong(Tiny):
        words: Any = ()

        def command(self, node: Node) -> Sequence[str]:
            return self.words  # type: ignore[no-any-return]

    readable = tmp_path / "readable"
    readable.write_text("no program")
    for words, message in (
        ("redis-server", r"Wrong.command\(n1\) returned 'redis-server'; it must be a list of words"),
        (
            ["no-such-program"],
            r"n1 could not be started: .*: 'no-such-program'; no such program on PATH",
        ),
        ([str(readable)], r"n1 could not be started: .*readable'; is it executable\?"),
    ):
        start_and_fail(Wrong(words=words), tmp_path, message)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    taken: list[socket.socket] = []

    class Robbed(Tiny):
        def command(self, node: Node) -> Sequence[str]:
            if node.name == "n2":
                taken.append(socket.create_server((node.host, node.port)))
            return super().command(node)

    message = rf"n2 cannot be started: port main \(127.0.0.1:\d+\) is taken by pid {os.getpid()} \(.*\): end"
    start_and_fail(Robbed(nodes=2), tmp_path, message)
    taken.pop().close()


def test_a_setup_that_fails_and_one_that_works(tmp_path: Path) -> None:
    class Broken(Tiny):
        def setup(self, cluster: Running) -> None:
            raise KeyError(f"no table on {cluster.nodes[0].name}")

    start_and_fail(Broken(), tmp_path, "Broken.setup failed: KeyError: 'no table on n1'\n.*n1.log ends:")

    class Interrupted(Tiny):
        def setup(self, cluster: Running) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), running(Interrupted(), tmp_path):
        pass
    assert not of_run(tmp_path)


def test_a_hanging_ready_does_not_hang_the_start(tmp_path: Path) -> None:
    free = threading.Event()

    class Hangs(Tiny):
        ready_within: ClassVar[float] = 0.5

        def ready(self, node: Endpoint) -> bool:
            return free.wait(30)

    began = time.monotonic()
    start_and_fail(Hangs(nodes=1), tmp_path, "n1 was not ready within 0.5 s")
    free.set()
    assert time.monotonic() - began < 10


def test_killed_while_it_starts(tmp_path: Path) -> None:
    with running(Tiny(nodes=1), tmp_path) as cluster:
        cluster.kill("n1")
        cluster._members["n1"].argv = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
        failed: list[BaseException] = []

        def restart() -> None:
            try:
                cluster.restart("n1")
            except ClusterError as error:
                failed.append(error)

        thread = threading.Thread(target=restart)
        thread.start()
        until(lambda: with_words("time.sleep(60)"), 5.0, "its process")
        with pytest.raises(ClusterError, match="n1 is starting and cannot be paused"):
            cluster.pause("n1")
        cluster.kill("n1")
        thread.join(5)
        assert "n1 was killed by the plan before it was ready" in str(failed[0])


def test_stopped_from_another_thread_while_it_starts(tmp_path: Path) -> None:
    cluster = LocalCluster(
        Tiny(nodes=2, options=("--mute",)), run_id="run", logs=tmp_path / "run", on_event=Events(),
        base=tmp_path / "base",
    )  # fmt: skip
    failed: list[BaseException] = []

    def start() -> None:
        try:
            cluster.start()
        except ClusterError as error:
            failed.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    until(lambda: len(of_run(tmp_path)) >= 4, 10.0, "the nodes")
    cluster.stop()
    thread.join(5)
    assert "has been stopped" in str(failed[0])
    nothing_left(cluster, tmp_path)
    with pytest.raises(ClusterError, match="needs a new LocalCluster"):
        cluster.start()


def test_a_thread_that_started_it_may_end(tmp_path: Path) -> None:
    """PDEATHSIG fires when a thread ends, not the process: nothing here hangs on the test's threads."""
    cluster = LocalCluster(
        Tiny(nodes=2), run_id="run", logs=tmp_path / "run", on_event=Events(), base=tmp_path / "base"
    )
    thread = threading.Thread(target=cluster.start)
    thread.start()
    thread.join()
    try:
        cluster.kill("n1")
        cluster.restart("n1")
        assert ask(cluster.entry("n2")) and cluster.alive("n1")
    finally:
        cluster.stop()


def test_two_clusters_at_once(tmp_path: Path) -> None:
    first, second = Events(), Events()
    with (
        running(Asked(nodes=3), tmp_path, "one", first) as one,
        running(Asked(nodes=3), tmp_path, "two", second) as two,
    ):
        assert not {n.port for n in one.nodes} & {n.port for n in two.nodes}
        again = LocalCluster(Tiny(), run_id="one", logs=tmp_path, on_event=Events(), base=tmp_path / "base")
        with pytest.raises(ClusterError, match="run 'one' is running already"):
            again.start()
        one.kill("n1")
        assert all(ask(two.entry(node.name)) for node in two.nodes)
        one.stop()
        assert (
            all(ask(node) for node in two.nodes) and of_run(tmp_path, "two") and not of_run(tmp_path, "one")
        )
    assert not second.of("n1", "exit") and len(first.of("n1", "exit")) == 1


def test_the_leader(tmp_path: Path) -> None:
    target = Asked(nodes=3, only={"n2": ("--role=leader", "--term=3"), "n3": ("--role=leader", "--term=2")})
    events = Events()
    with running(target, tmp_path, events=events) as cluster:
        until(lambda: cluster.leader() == "n2" and events.of("n3", "role"), 5.0, "n2 leads")
        ask(cluster.node("n3"), "role leader 4")
        until(lambda: cluster.leader() == "n3", 5.0, "n3 leads by its term")
        assert [(d["role"], d["term"]) for d in events.of("n3", "role")] == [("leader", 2), ("leader", 4)]
        cluster.pause("n3")
        assert cluster.leader() == "n2"  # what n3 said is old
        cluster.resume("n3")
        until(lambda: cluster.leader() == "n3", 5.0, "n3 is back")
        cluster.kill("n3")
        assert cluster.leader() == "n2"
        cluster.restart("n3")
        until(lambda: len(events.of("n3", "role")) == 3, 5.0, "its role is told anew")
        cluster.kill("n2")
        cluster.kill("n3")
        assert cluster.leader() is None


def test_what_a_log_tells(tmp_path: Path) -> None:
    events = Events()
    with running(Told(nodes=2), tmp_path, events=events) as cluster:
        began = time.monotonic()
        ask(cluster.node("n1"), 'say {"event": "role", "role": "leader", "term": 9}')
        assert events.wait("n1", "role") == {"role": "leader", "term": 9}
        assert time.monotonic() - began < 0.5 or os.getloadavg()[0] > 3
        assert cluster.leader() == "n1"
        ask(cluster.node("n2"), "say Traceback (most recent call last):")
        assert events.wait("n2", "panic") == {"line": "Traceback (most recent call last):"}
        ask(cluster.node("n2"), "say {broken")
        assert "Told.event raised JSONDecodeError" in events.wait("n2", "error")["error"]
        with pytest.raises(OSError):
            ask(cluster.node("n2"), "torn panic: out of ideas")
        events.wait("n2", "exit")
        assert [kind for name, kind, _ in events.all if name == "n2"][-2:] == ["panic", "exit"]
        assert events.of("n2", "panic")[-1] == {"line": "panic: out of ideas"}
        cluster.restart("n2")
        assert "panic: out of ideas\nprogram tiny" in cluster.logs["n2"].read_text()


def test_a_receiver_that_raises_is_not_hidden(tmp_path: Path) -> None:
    def receiver(node: str, kind: str, detail: object) -> None:
        if kind == "restart":
            raise ValueError("no room")

    cluster = LocalCluster(
        Tiny(nodes=1), run_id="run", logs=tmp_path / "run", on_event=receiver, base=tmp_path / "base"
    )
    try:
        cluster.start()
        cluster.kill("n1")
        with pytest.raises(ClusterError, match="events raised ValueError: no room for 'restart' of n1"):
            cluster.restart("n1")
    finally:
        cluster.stop()


def test_a_dead_proxy_is_told(tmp_path: Path) -> None:
    events = Events()
    with running(Tiny(nodes=2), tmp_path, events=events) as cluster:
        os.kill(next(pid for pid in with_words("nemesis proxy") if pid in of_run(tmp_path)), signal.SIGKILL)
        events.wait("proxy", "exit")
        with pytest.raises(ClusterError, match="the proxy server was ended by signal 9"):
            cluster.kill("n1")
    nothing_left(cluster, tmp_path)


@pytest.mark.parametrize("kind", [LocalCluster, NetnsCluster])
def test_the_real_server_is_taken_where_it_is_on_path(
    kind: type[SiteCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind is NetnsCluster and (why := no_namespaces()):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    real = command_of("real")[0]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "toxiproxy-server").symlink_to(real)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with running(Asked(nodes=2), tmp_path, kind=kind) as cluster:
        assert cluster.notes[0] == f"links are carried by Toxiproxy, {tmp_path / 'bin' / 'toxiproxy-server'}"
        assert [pid for pid in with_words("toxiproxy-server") if pid in of_run(tmp_path)]
        cluster.fabric.shape("slow", [("n1", "n2")], latency=0.05)
        cluster.fabric.heal("slow")
    nothing_left(cluster, tmp_path)


def test_the_class_of_a_runtime() -> None:
    assert runtime_class(choose("local")[0]) is LocalCluster
    assert choose("auto")[0] == "auto", "what it is depends on the target"
    assert runtime_class("local").runtime == "local" and "packet_loss" in LocalCluster.unsupported
    assert runtime_class("netns") is NetnsCluster and "packet_loss" not in NetnsCluster.unsupported

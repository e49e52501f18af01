"""Real nodes: clients over a lost leader, restarts from disk, retries, refusals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.target import Endpoint, Failed, Op, Unknown
from targets.raft_kv import RaftKV, RaftKVClient, check_raft
from targets.raft_kv.node.requests import failure, success
from tests.integration.raft_kv.started import Started, running, wait


def test_operations_through_every_node(tmp_path: Path) -> None:
    with running(RaftKV(), tmp_path) as cluster:
        for number, name in enumerate(cluster.nodes):
            cluster.ask(name, "write", number, "k")
            assert {cluster.ask(each, "read", key="k") for each in cluster.nodes} == {number}
        assert cluster.ask("n1", "read", key="never") is None
        cluster.ask("n2", "cas", (4, 5), "k")
        with pytest.raises(Failed, match="precondition"):
            cluster.ask("n3", "cas", (4, 6), "k")
        assert cluster.ask("n4", "rmw", 7, "k") == [5, 7]
        for element in (3, 1, 2):
            cluster.ask(f"n{element}", "add", element)
        assert cluster.ask("n5", "read") == [1, 2, 3]
        with pytest.raises(ValueError, match="read, write, cas, rmw, add"):
            cluster.ask("n1", "drop")


def test_a_lease_answers_reads_and_a_leader_without_followers_has_none(tmp_path: Path) -> None:
    with running(RaftKV(nodes=3, lease_reads=True), tmp_path) as cluster:
        cluster.ask("n1", "write", 1, "k")
        for name in cluster.nodes:
            wait("a read by lease", lambda name=name: by_lease(cluster, name))  # type: ignore[misc]
        leader = cluster.leader()
        followers = [name for name in cluster.nodes if name != leader]
        for name in followers:
            cluster.processes[name].send_signal(signal.SIGSTOP)
        try:
            wait("its lease is over", lambda: not by_lease(cluster, leader))
            wait("stepped down", lambda: cluster.status(leader).get("role") != "leader")
        finally:
            for name in followers:
                cluster.processes[name].send_signal(signal.SIGCONT)
        cluster.leader()
        wait("a read by lease again", lambda: by_lease(cluster, "n1"))


def by_lease(cluster: Started, name: str) -> bool:
    """Whether a read of 1 through `name` happens, and some leader answers it alone."""

    def leased() -> int:
        return sum(cluster.status(each).get("leased", 0) for each in cluster.nodes)

    before = leased()
    client = cluster.client(name)
    try:
        return bool(client.invoke(Op("read", None, "k", timeout=0.4)) == 1 and leased() > before)
    except (Failed, OSError):
        return False
    finally:
        client.close()


def test_acknowledged_adds_survive_a_killed_leader(tmp_path: Path) -> None:
    target = RaftKV(audit=True, snapshot_every=200)
    with running(target, tmp_path) as cluster:
        indexes = iter(range(1_000_000))
        acknowledged: list[int] = []
        outcomes: Counter[str] = Counter()
        stop = threading.Event()

        def work(home: str) -> None:
            client: RaftKVClient | None = None
            while not stop.is_set():
                index = next(indexes)
                try:
                    if client is None:
                        client = cluster.client(home)
                    client.invoke(Op("add", index, index=index))
                    acknowledged.append(index)
                    outcomes["ok"] += 1
                except Failed:
                    outcomes["fail"] += 1
                except (Unknown, OSError):
                    outcomes["unknown"] += 1
                    if client is not None:
                        client.close()
                    client = None
                    stop.wait(0.02)
            if client is not None:
                client.close()

        threads = [threading.Thread(target=work, args=(name,)) for name in cluster.nodes for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                enough = len(acknowledged) + 300
                wait("300 adds", lambda enough=enough: len(acknowledged) >= enough)  # type: ignore[misc]
                old = cluster.leader()
                cluster.kill(old)
                killed = time.monotonic()
                cluster.leader(but=old)
                took = time.monotonic() - killed
                enough = len(acknowledged) + 300
                wait("300 adds more", lambda enough=enough: len(acknowledged) >= enough)  # type: ignore[misc]
                cluster.start(old)
                assert took < 5.0, f"{took:.1f} s without a leader"
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        assert outcomes["ok"] > 1000, outcomes
        wait("all caught up", lambda: len({cluster.status(n).get("applied") for n in cluster.nodes}) == 1)
        assert min(cluster.status(name)["snapshot"] for name in cluster.nodes) >= 200
        for name in cluster.nodes:
            assert set(acknowledged) <= set(cluster.ask(name, "read")), name
        verdict = check_raft(cluster.history())
        assert verdict.judgement == "valid", verdict
        assert verdict.evidence["applied"] >= len(acknowledged) and verdict.evidence["leaders' logs"] >= 2


def test_everything_comes_back_from_disk(tmp_path: Path) -> None:
    with running(RaftKV(nodes=3, snapshot_every=20), tmp_path) as cluster:
        for number in range(50):
            cluster.ask("n1", "write", number, f"k{number % 7}")
        term = cluster.status("n1")["term"]
        cluster.kill("n1", "n2", "n3")
        with (cluster.nodes["n1"].data / "log").open("ab") as log:
            log.write(b"\x40\0\0\0torn")
        cluster.start()
        cluster.leader()
        assert cluster.status("n1")["term"] > term
        assert [cluster.ask("n2", "read", key=f"k{key}") for key in range(7)] == [49, 43, 44, 45, 46, 47, 48]


def test_without_a_majority_nothing_is_promised(tmp_path: Path) -> None:
    with running(RaftKV(nodes=3), tmp_path) as cluster:
        cluster.ask("n1", "write", 1, "k")
        leader = cluster.leader()
        cluster.kill(*(name for name in cluster.nodes if name != leader))
        client = cluster.client(leader)
        with pytest.raises((Unknown, TimeoutError)):
            client.invoke(Op("write", 2, "k", timeout=0.5))
        client.close()
        wait("stepped down", lambda: cluster.status(leader).get("role") != "leader")
        with pytest.raises(Failed, match="no-leader"):
            cluster.ask(leader, "write", 3, "k")
        with pytest.raises(Failed):
            cluster.ask(leader, "read", key="k")
        cluster.start(*(name for name in cluster.nodes if name != leader))
        cluster.leader()
        assert cluster.ask("n2", "read", key="k") in (1, 2)


@contextmanager
def relay(upstream: Endpoint, answers: Callable[[int], bool]) -> Iterator[Endpoint]:
    """A port in front of a node that closes a connection instead of passing an answer on, for each answer
    (numbered from 0) that `answers` refuses."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    count = iter(range(1_000_000))

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                with near, socket.create_connection((upstream.host, upstream.port), timeout=10) as far:
                    near.settimeout(10)
                    while line := near.recv(65536):
                        far.sendall(line)
                        answer = far.recv(65536)
                        if not answers(next(count)):
                            break
                        near.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Endpoint(upstream.name, upstream.role, "127.0.0.1", {"main": listener.getsockname()[1]})
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize("bug", [None, "double_apply"])
def test_a_lost_answer_is_asked_for_again_and_applies_once(tmp_path: Path, bug: str | None) -> None:
    with running(RaftKV(nodes=3, bug=bug), tmp_path) as cluster:
        node = cluster.nodes["n2"]
        cluster.ask("n2", "read", key="k")  # it knows a leader
        with relay(node, lambda number: number != 1) as entry:  # 0 is the ping of open
            client = RaftKVClient()
            client.open(entry)
            op = Op("cas", (None, 1), "k", index=17, timeout=5.0)
            if bug:
                with pytest.raises(Failed, match="precondition"):  # done, and said not to be: the bug
                    client.invoke(op)
            else:
                client.invoke(op)
            client.close()
        assert cluster.ask("n1", "read", key="k") == 1


@pytest.mark.parametrize("error, outcome", [("no-leader", Unknown), ("precondition", Failed)])
def test_a_refused_second_sending_says_nothing_of_the_first(error: str, outcome: type[Exception]) -> None:
    answers = [success(None), b"", failure(error)]  # to the ping; to a write whose answer is lost; again

    def serve(server: socket.socket) -> None:
        connection = server.accept()[0]
        for answer in answers:
            connection.recv(1 << 16)
            if not answer:
                connection.close()
                connection = server.accept()[0]
            else:
                connection.sendall(answer)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        client = RaftKVClient()
        client.open(Endpoint("n1", "node", "127.0.0.1", {"main": server.getsockname()[1]}))
        with pytest.raises(outcome, match=error):
            client.invoke(Op("write", 1, "k", timeout=5.0))
        client.close()
        thread.join(10)


def test_errors_of_opening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_end = Endpoint("n1", "node", "127.0.0.1", {"main": silent.getsockname()[1]})
        started = time.monotonic()
        client = RaftKVClient()
        with pytest.raises(TimeoutError):
            client.open(silent_end)
        assert time.monotonic() - started < 3.0
        op = Op("write", 1, "k", timeout=0.2)
        assert client.classify(TimeoutError(), op, sent=True) == "info"
        assert client.classify(TimeoutError(), op, sent=False) == "fail"
    client = RaftKVClient()
    with pytest.raises(ConnectionRefusedError) as refused:
        client.open(silent_end)
    assert client.classify(refused.value, op, sent=False) == "fail"
    assert client.classify(KeyError("k"), op, sent=True) is None
    client.close()
    with pytest.raises(ConnectionAbortedError, match="open"):
        client.invoke(op)
    assert not client.sent


def lines(cluster: Started, name: str, *sent: bytes) -> list[Any]:
    node = cluster.nodes[name]
    address, answers = (node.host, node.port), []
    with socket.create_connection(address, timeout=5) as connection, connection.makefile("rwb") as stream:
        for line in sent:
            stream.write(line)
            stream.flush()
            answers.append(json.loads(stream.readline()))
    return answers


def test_what_is_no_request_is_refused_and_the_node_lives(tmp_path: Path) -> None:
    with running(RaftKV(nodes=1), tmp_path) as cluster:
        node = cluster.nodes["n1"]
        wrong = (b"no json\n", b"[]\n", b'{"f":"drop"}\n', b"\xff\xfe\n")
        answers = lines(cluster, "n1", *wrong, b'{"f":"ping"}\n')
        assert [answer.get("error") for answer in answers] == ["malformed"] * 4 + [None]
        assert all(answer["definite"] for answer in answers[:4])
        for hello in (b"raft stranger\n", b"raft " + b"\xff\n", b"x" * (2 << 20)):
            with socket.create_connection((node.host, node.port), timeout=5) as connection, suppress(OSError):
                connection.sendall(hello)
                while connection.recv(65536):
                    pass
        assert cluster.ask("n1", "write", 1, "k") is None


def test_two_nodes_cannot_share_a_data_directory(tmp_path: Path) -> None:
    with running(RaftKV(nodes=1), tmp_path) as cluster:
        second = Started(cluster.target, tmp_path)
        command = cluster.target.command(second.nodes["n1"])
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        assert done.returncode != 0
        assert b"in use by another running node" in done.stderr

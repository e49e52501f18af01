"""Five real nodes on loopback, directly connected: the smallest thing that runs the store."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.history import History
from harness.target import Endpoint, Node, Op
from targets.raft_kv import RaftKV, RaftKVClient


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait(what: str, until: Callable[[], Any], within: float = 15.0) -> Any:
    """The first true value of `until`; polled, bounded."""
    deadline = time.monotonic() + within
    while not (value := until()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)
    return value


class Started:
    def __init__(self, target: RaftKV, directory: Path) -> None:
        self.target, self.directory = target, directory
        names = [name for name, _ in target.members()]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        ends = {name: Endpoint(name, "node", "127.0.0.1", {"main": ports[name]}) for name in names}
        self.nodes = {
            name: Node(
                name, "node", "127.0.0.1", {"main": ports[name]}, data=directory / name,
                peers=tuple(end for other, end in ends.items() if other != name),
            )
            for name in names
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        for name in names or self.nodes:
            with (self.directory / f"{name}.log").open("ab") as log:
                command = self.target.command(self.nodes[name])
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        for name in names or self.nodes:
            wait(f"{name} ready", lambda name=name: self.target.ready(self.nodes[name]))  # type: ignore[misc]

    def kill(self, *names: str) -> None:
        for name in names:
            self.processes[name].kill()
        for name in names:
            self.processes.pop(name).wait(10)

    def status(self, name: str) -> dict[str, Any]:
        try:
            return dict(self.target.status(self.nodes[name]))
        except OSError:
            return {}

    def leader(self, but: str = "") -> str:
        def look() -> str:
            known = {name: self.status(name) for name in self.processes}
            leaders = [(s["term"], n) for n, s in known.items() if s.get("role") == "leader" and n != but]
            return max(leaders)[1] if leaders else ""

        return str(wait("a leader", look))

    def client(self, name: str) -> RaftKVClient:
        client = RaftKVClient()
        client.open(self.nodes[name])
        return client

    def ask(self, name: str, f: str, value: Any = None, key: Any = None, index: int = -1) -> Any:
        """One operation on a client of its own."""
        client = self.client(name)
        try:
            return client.invoke(Op(f, value, key, index, timeout=5.0))
        finally:
            client.close()

    def history(self) -> History:
        """The nodes' own reports as a history. Their order is by node: the invariants need no clock."""
        events: list[dict[str, Any]] = []
        for name in self.nodes:
            for line in (self.directory / f"{name}.log").read_text().splitlines():
                if (event := self.target.event(line)) is not None:
                    place = len(events)
                    events.append(
                        {"index": place, "time": place, "type": "info", "process": "cluster", "f": event[0],
                         "value": {"node": name, **event[1]}}
                    )  # fmt: skip
        return History.from_events(events)


@contextmanager
def running(target: RaftKV, directory: Path) -> Iterator[Started]:
    """A running cluster, killed at the end; a node that died by itself or left a traceback fails."""
    cluster = Started(target, directory)
    try:
        cluster.start()
        cluster.leader()
        yield cluster
        died = {name: process.poll() for name, process in cluster.processes.items()}
        assert set(died.values()) == {None}, died
        for name in cluster.nodes:
            assert "Traceback" not in (directory / f"{name}.log").read_text()
    finally:
        cluster.kill(*cluster.processes)

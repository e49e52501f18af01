"""Clusters of `program.py`, and ways to see what runs."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness import UnknownAddress, kernel
from harness.cluster import LocalCluster, SiteCluster
from harness.cluster.processes import ProcessSite
from harness.cluster.sweep import labelled
from harness.target import Endpoint, Node, Target

PROGRAM = Path(__file__).with_name("program.py")


@dataclass(frozen=True)
class Tiny(Target):
    """Nodes of `program.py`; `options` for all of them, `only` for some by name."""

    options: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] | None = None
    tag: str = "tiny"

    ready_within: ClassVar[float] = 10.0

    def command(self, node: Node) -> Sequence[str]:
        extra = (*self.options, *(self.only or {}).get(node.name, ()))
        where = f"--host={node.host}", f"--port={node.port}"
        return [sys.executable, "-S", str(PROGRAM), *where, f"--tag={self.tag}", *extra]


class Asked(Tiny):
    """Its status is polled."""

    status_every: ClassVar[float] = 0.05

    def status(self, node: Endpoint) -> Mapping[str, Any]:
        return ask(node)


class Boxed(Asked):
    """In containers."""

    image: ClassVar[str] = "nemesis/boxed"
    context: ClassVar[Path | None] = PROGRAM.parent

    def command(self, node: Node) -> Sequence[str]:
        return ["python3", "-S", "/program.py", *list(super().command(node))[3:]]


class Told(Tiny):
    """Its log tells what happens: JSON lines ``{"event": ...}``."""

    def event(self, line: str) -> tuple[str, Mapping[str, Any]] | None:
        if not line.startswith("{"):
            return None
        detail = json.loads(line)
        return detail.pop("event"), detail


def ask(node: Endpoint, words: str = "status") -> dict[str, Any]:
    """One question to a node: its answer; OSError where it does not answer."""
    with socket.create_connection((node.host, node.port), timeout=1.0) as sock:
        sock.settimeout(1.0)
        sock.sendall(words.encode() + b"\n")
        line = sock.makefile().readline()
    if not line:
        raise ConnectionResetError(f"{node.name} closed the connection")
    answer: dict[str, Any] = json.loads(line)
    return answer


class Events:
    """What a cluster told, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, Mapping[str, Any]]] = []
        self._more = threading.Condition()

    def __call__(self, node: str, kind: str, detail: Mapping[str, Any]) -> None:
        with self._more:
            self.all.append((node, kind, detail))
            self._more.notify_all()

    def of(self, node: str, *kinds: str) -> list[Mapping[str, Any]]:
        """Details of what `node` did of these kinds."""
        return [detail for name, kind, detail in list(self.all) if name == node and kind in kinds]

    def wait(self, node: str, kind: str, count: int = 1, within: float = 5.0) -> Mapping[str, Any]:
        """The `count`-th event of that kind, awaited."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.of(node, kind)) >= count, within), (
                f"no {kind} of {node} within {within} s; there were {self.all}"
            )
        return self.of(node, kind)[count - 1]


@contextmanager
def running(
    target: Target,
    tmp_path: Path,
    run_id: str = "run",
    events: Events | None = None,
    kind: type[SiteCluster] = LocalCluster,
) -> Iterator[SiteCluster]:
    """A started cluster below `tmp_path`, stopped at the end."""
    cluster = kind(
        target, run_id=run_id, logs=tmp_path / run_id, on_event=events or Events(), base=tmp_path / "base"
    )
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def no_namespaces() -> str:
    """What this machine lacks for runtime netns, or ''."""
    trial = kernel.routing()
    return f"runtime netns: {trial.trouble} ({trial.mend})" if trial.trouble else ""


def site_of(cluster: SiteCluster) -> ProcessSite:
    """What carries a cluster of processes."""
    site = cluster._site
    assert isinstance(site, ProcessSite)
    return site


def of_run(directory: Path, run_id: str = "run") -> list[int]:
    """Processes that carry the label of a run of `running` below `directory`."""
    return labelled(str(directory / "base" / "runs" / run_id))


def addresses_lead(cluster: SiteCluster) -> None:
    """Each address by which nodes know each other leads a client there, and the test past all faults."""
    members = [member.node for member in cluster._members.values()]
    for node in members:
        there, itself = cluster.entry(node.name), cluster.node(node.name)
        seen = [peer for other in members for peer in other.peers if peer.name == node.name]
        known = {(node.name, node.ports[port], port) for port in node.ports}
        known |= {(end.host, number, port) for end in (node, *seen) for port, number in end.ports.items()}
        for other in members:
            for host, number, port in known:
                reached = cluster.entry(other.name).reach(host, number)
                assert reached == (there.host, there.ports[port])
                assert cluster.entry(other.name).reach(*reached) == reached
                past = cluster.node(other.name).reach(host, number)
                assert past == (itself.host, itself.ports[port])
    one = members[0]
    told = rf"n9:1 is no address of this cluster, which knows .*\b{one.name}:{one.port}\b"
    with pytest.raises(UnknownAddress, match=told):
        cluster.entry(one.name).reach("n9", 1)


def until(condition: Callable[[], object], within: float, what: str) -> float:
    """Await `condition`; the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"{what}: not within {within} s"
        time.sleep(0.01)
    return time.monotonic() - began


def with_words(*words: str) -> list[int]:
    """Processes with one of `words` in their command line, this one and its parents left out."""
    found, spared = [], {os.getpid(), os.getppid()}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in spared:
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if any(word.encode() in line for word in words):
                found.append(int(name))
    return found

"""A store in memory with bugs to order: test a plugin, a plan or a page without a process or a socket.

`MemoryKV` is a target like any other, on a runtime of its own. It is no substitute for the real thing:
its faults are switches, and that they hold is looked up, not measured.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from harness.cluster import ClusterError, OnEvent
from harness.cluster.resources import RESOURCES
from harness.fabric import CLIENT, Effect, FaultError, FaultUnsupported, Pair
from harness.fabric.message_spec import MessageSpec
from harness.fabric.packet_spec import PacketSpec
from harness.faults import CLOCK_FAULTS, MESSAGE_FAULTS
from harness.nemesis.acts import PACKETS
from harness.skew.patcher import Spec
from harness.target import Client, Endpoint, Failed, Node, Op, Target, TargetError, Unknown

BUGS = {
    "stale_reads": "a node that is cut off answers reads from what it last knew",
    "lost_writes": "a node that is cut off acknowledges writes that nobody else ever sees",
    "lost_updates": "two read-modify-writes at once may both build on the same value",
    "dies": "node n1 exits by itself after 20 operations",
    "panics": "node n1 logs a panic after 20 operations",
    "hangs": "an operation in 20 never returns",
    "raises": "an operation in 20 raises an exception that the client does not classify",
    "never_ready": "no node ever becomes ready",
    "idle": "every operation fails",
    "sticky_faults": "a fault that is healed stays",
    "void_faults": "a fault that is injected does nothing",
}


@dataclass(frozen=True, slots=True)
class MemoryEndpoint(Endpoint):
    """A node of a `MemoryCluster` as its clients find it."""

    cluster: MemoryCluster | None = None


class MemoryClient(Client):
    """Calls its node directly."""

    outcomes: ClassVar[Mapping[type[BaseException], Any]] = {ConnectionError: "fail"}

    def open(self, node: Endpoint) -> None:
        assert isinstance(node, MemoryEndpoint) and node.cluster is not None
        self._node, self._cluster = node.name, node.cluster
        if not self._cluster.alive(self._node):
            raise ConnectionRefusedError(f"{self._node} is down")

    def invoke(self, op: Op) -> Any:
        return self._cluster.serve(self._node, op)


@dataclass(frozen=True)
class MemoryKV(Target):
    """A key-value store of `nodes` that share one memory; `bug` is one of `BUGS`, or none.

    >>> MemoryKV(nodes=3, bug="stale_reads").members()
    (('n1', 'node'), ('n2', 'node'), ('n3', 'node'))
    """

    bug: str | None = None

    client: ClassVar[type[Any]] = MemoryClient

    def check(self) -> None:
        """Refuse a bug that is none, listing those there are."""
        super().check()
        if self.bug is not None and self.bug not in BUGS:
            raise TargetError(f"bug {self.bug!r} is none of {', '.join(BUGS)}")

    def make_cluster(self, *, run_id: str, logs: Path, on_event: OnEvent) -> MemoryCluster:
        """Its own runtime, ``memory``."""
        return MemoryCluster(self, logs, on_event)

    def has_status(self) -> bool:
        """n1 leads, as long as it lives."""
        return True


@dataclass
class MemoryCluster:
    """The runtime ``memory``: nodes are dictionary entries, faults are switches."""

    target: MemoryKV
    log_directory: Path
    on_event: OnEvent
    runtime: ClassVar[str] = "memory"
    unsupported: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(PACKETS, "memory has no packets"),
        **dict.fromkeys(MESSAGE_FAULTS, "memory carries no messages"),
        **dict.fromkeys(CLOCK_FAULTS, "memory has no processes with clocks"),
        **dict.fromkeys(RESOURCES, "memory has no resources of a node's own"),
    }
    nodes: tuple[Node, ...] = ()
    logs: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fabric = MemoryFabric(self.target.bug)
        self._lock = threading.RLock()
        self._values: dict[Any, Any] = {}
        self._own: dict[str, dict[Any, Any]] = {}  # what a node that is cut off believes
        self._down: set[str] = set()
        self._paused: set[str] = set()
        self._served = 0
        self._said = False

    # ------------------------------------------------------------------ what the clients see

    def serve(self, node: str, op: Op) -> Any:
        """Carry out `op` at `node`, as correct or as buggy as ordered."""
        bug = self.target.bug
        with self._lock:
            self._served += 1
            served = self._served
        if bug == "idle":
            raise Failed("never does anything")
        if bug == "hangs" and served % 20 == 0:
            threading.Event().wait(60)
        if bug == "raises" and served % 20 == 0:
            raise LookupError("a surprise")
        if bug in ("dies", "panics") and served > 20:
            self._misbehave(bug)
        if node in self._down:
            raise ConnectionResetError(f"{node} is down")
        if node in self._paused:
            time.sleep(op.timeout * 1.5)
            raise Unknown(f"{node} does not answer")
        cut_off = self._cut_off(node)
        if cut_off and op.f == "read" and bug == "stale_reads":
            return self._believed(node).get(op.key)
        if cut_off and op.f in ("write", "add") and bug == "lost_writes":
            self._change(self._believed(node), op)
            return None
        if cut_off:
            raise Failed("no majority")
        if op.f == "rmw" and bug == "lost_updates":
            read = self._values.get(op.key)
            time.sleep(0.002)
            with self._lock:
                self._values[op.key] = op.value
            return [read, op.value]
        with self._lock:
            return self._change(self._values, op)

    @staticmethod
    def _change(values: dict[Any, Any], op: Op) -> Any:
        match op.f:
            case "read":
                return values.get(op.key) if op.key is not None else sorted(values.get("set", ()))
            case "write":
                values[op.key] = op.value
            case "cas":
                old, new = op.value
                if values.get(op.key) != old:
                    raise Failed("precondition failed")
                values[op.key] = new
            case "rmw":
                read, values[op.key] = values.get(op.key), op.value
                return [read, op.value]
            case "add":
                values["set"] = {*values.get("set", ()), op.value}
            case _:
                raise Failed(f"no such operation: {op.f}")
        return None

    def _cut_off(self, node: str) -> bool:
        names = [n.name for n in self.nodes if n.name not in self._down]
        heard = [o for o in names if not self.fabric.blocked(node, o)]
        if 2 * len(heard) > len(self.nodes):
            self._own.pop(node, None)
            return False
        return True

    def _believed(self, node: str) -> dict[Any, Any]:
        with self._lock:
            return self._own.setdefault(node, dict(self._values))

    def _misbehave(self, bug: str) -> None:
        with self._lock:
            if self._said:
                return
            self._said = True
        if bug == "panics":
            self.on_event("n1", "panic", {"line": "panic: index out of range"})
        else:
            self._down.add("n1")
            self.on_event("n1", "exit", {"code": 3, "asked": False, "log": ["bye"]})

    # ------------------------------------------------------------------ the runtime

    def start(self) -> None:
        """Make the nodes, write a line to each log."""
        if self.target.bug == "never_ready":
            raise ClusterError("n1 is not ready after 0.1 s; it was ordered so (bug never_ready)")
        members = self.target.members()
        self.nodes = tuple(
            Node(name, role, "memory", {"main": i + 1}, index=i) for i, (name, role) in enumerate(members)
        )
        self.log_directory.mkdir(parents=True, exist_ok=True)
        for node in self.nodes:
            self.logs[node.name] = self.log_directory / f"{node.name}.log"
            self.logs[node.name].write_text(f"{node.name} started\n")
        self.fabric.names = [node.name for node in self.nodes]
        self.target.setup(self)
        self.on_event("n1", "role", {"role": "leader", "term": 1})

    def stop(self, keep: bool = False) -> str:
        """Nothing to stop."""
        return ""

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def entry(self, name: str) -> Endpoint:
        """The node as clients find it."""
        return MemoryEndpoint(name, "node", "memory", {"main": 1}, cluster=self)

    def alive(self, name: str) -> bool:
        """Whether it is neither killed nor dead."""
        return name not in self._down

    def leader(self) -> str | None:
        """n1, as long as it lives."""
        return "n1" if "n1" not in self._down else None

    def await_healthy(self, within: float) -> float:
        """At once, unless faults stick."""
        return self.fabric.await_healthy(within)

    def kill(self, name: str) -> str:
        """Switch it off."""
        self._down.add(name)
        self.on_event(name, "exit", {"signal": "SIGKILL", "asked": True})
        return "switched off"

    def restart(self, name: str) -> str:
        """Switch it on."""
        self._down.discard(name)
        self.on_event(name, "restart", {})
        return "switched on"

    def pause(self, name: str) -> str:
        """Let it stop answering."""
        self._paused.add(name)
        return "switched to silence"

    def resume(self, name: str) -> str:
        """Let it answer again."""
        self._paused.discard(name)
        return "switched back"

    def take(self, resource: str, name: str, amount: float) -> str:
        """Not in memory."""
        raise FaultUnsupported(f"{resource}: {self.unsupported[resource]}")

    def give_back(self, resource: str, name: str) -> str:
        """Not in memory."""
        raise FaultUnsupported(f"{resource}: {self.unsupported[resource]}")

    def skew(self, name: str, spec: Spec) -> Effect:
        """Not in memory."""
        raise FaultUnsupported(self.unsupported["clock_jump"])

    def set_right(self, name: str) -> Effect:
        """Not in memory."""
        raise FaultUnsupported(self.unsupported["clock_jump"])


class MemoryFabric:
    """Cuts as switches; everything else that needs bytes is refused."""

    def __init__(self, bug: str | None) -> None:
        self.names: list[str] = []
        self._bug = bug
        self._cuts: dict[str, set[Pair]] = {}
        self._slow: dict[str, float] = {}

    def blocked(self, a: str, b: str) -> bool:
        """Whether a and b cannot talk with each other."""
        return any((a, b) in pairs or (b, a) in pairs for pairs in self._cuts.values())

    def endpoint(self, src: str, dst: str, port: str = "main") -> tuple[str, int]:
        """There is only one address."""
        return "memory", 1

    def _effect(self, what: str) -> Effect:
        return Effect("memory", time.monotonic_ns(), what, 0.0)

    def cut(self, name: str, pairs: Iterable[Pair]) -> Effect:
        """Switch the links off."""
        cut = {pair for pair in pairs if CLIENT not in pair}
        if self._bug != "void_faults":
            self._cuts[name] = cut
        if not all(self.blocked(a, b) for a, b in cut):
            raise FaultError(f"cut {name}: bytes still pass on {len(cut)} links, expected none")
        return self._effect(f"{len(cut)} links switched off")

    def shape(
        self,
        name: str,
        pairs: Iterable[Pair],
        *,
        latency: float = 0,
        jitter: float = 0,
        rate: float | None = None,
    ) -> Effect:
        """Remember the latency."""
        self._slow[name] = latency
        return self._effect(f"switched to {latency:g} s")

    def packets(self, name: str, pairs: Iterable[Pair], spec: PacketSpec, *, seed: int = 0) -> Effect:
        """Not in memory."""
        raise FaultUnsupported("memory has no packets")

    def stream(self, name: str, pairs: Iterable[Pair], type: str, **attributes: int) -> Effect:
        """Not in memory."""
        raise FaultUnsupported(f"{type}: memory has no TCP streams")

    def messages(self, name: str, pairs: Iterable[Pair], spec: MessageSpec, *, seed: int = 0) -> Effect:
        """Not in memory."""
        raise FaultUnsupported(f"message {spec.words()}: memory carries no messages")

    def heal(self, name: str) -> Effect:
        """Switch back."""
        if self._bug == "sticky_faults" and name in self._cuts:
            raise FaultError(f"heal {name}: links are still off, expected on")
        self._cuts.pop(name, None)
        self._slow.pop(name, None)
        return self._effect("switched back")

    def heal_all(self) -> Effect:
        """Switch everything back."""
        self._cuts.clear()
        self._slow.clear()
        return self._effect("switched back")

    def await_healthy(self, within: float) -> float:
        """Raise FaultError if a cut is left."""
        if self._cuts:
            raise FaultError(f"links are still cut by {', '.join(self._cuts)}")
        return 0.0

    def snapshot(self) -> Mapping[Pair, tuple[str, ...]]:
        """The cuts per link."""
        pairs = {pair for cut in self._cuts.values() for pair in cut}
        return {pair: tuple(n for n, cut in self._cuts.items() if pair in cut) for pair in pairs}

    def counters(self) -> Mapping[Pair, int]:
        """No bytes here."""
        return {}

    def close(self) -> None:
        """Nothing to release."""


__all__ = ["BUGS", "MemoryCluster", "MemoryKV"]

"""Seeded histories for the report's tests: linearizable by construction, with one read bent on request."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from harness.history import History
from harness.verdict import Edge, Verdict, Witness

NODES = ("n1", "n2", "n3", "n4", "n5")
CLIENTS = 10
LENGTH = 12.0
MS = 1_000_000
PLAN = (
    'Plan(at(2.0, partition(isolate("leader")), lasts=4.0), '
    'at(8.0, latency("n3", 0.2, jitter=0.05), lasts=2.0))'
)


def header(**more: Any) -> dict[str, Any]:
    return {
        "keyed": True,
        "seed": 20261,
        "test": "tests/chaos/test_register.py::test_linearizable[isolated_leader]",
        "plan": {"repr": PLAN, "name": "isolated_leader", "entries": [1, 2]},
        "versions": {"pytest-nemesis": "0.1.0", "python": "3.11"},
        "target": "RaftKV(nodes=5)",
        "nodes": list(NODES),
        "runtime": "local",
        "why": "no Docker engine answers",
        "model": "cas-register",
        "checks": ["linearizable:cas-register"],
        "began": "2026-11-22T09:14:07+00:00",
        **more,
    }


def history(
    operations: int, seed: int = 1, *, bend: int = 0, head: Mapping[str, Any] | None = None
) -> History:
    """The `events` of a run as a history."""
    return History.from_events(events(operations, seed, bend=bend), header() if head is None else head)


def events(
    operations: int, seed: int = 1, *, bend: int = 0, clients: int = CLIENTS,
    nodes: Sequence[str] = NODES, length: float = LENGTH,
) -> list[dict[str, Any]]:  # fmt: skip
    """A run of `operations` operations on three keys in `length` s, with a partition, latency and a kill.

    Each operation takes effect at one instant between invocation and completion. `bend`: one read of so many
    keys, in the partition, answers with the value before the last; see `stale`.
    """
    rng = random.Random(f"{seed}/synthetic")
    pace = length / LENGTH
    timeline: list[tuple[int, int, dict[str, Any]]] = []
    steps: list[tuple[int, dict[str, Any]]] = []
    gap = max(pace * 12_000 * MS * clients / max(operations, 1), 20_000)
    free = {client: rng.uniform(0, gap) for client in range(clients)}
    process = {client: client for client in range(clients)}
    made: list[dict[str, Any]] = []
    for _ in range(operations):
        client = min(free, key=lambda c: free[c])
        start = int(free[client])
        node = nodes[client % len(nodes)]
        lasted = int(rng.lognormvariate(0, 0.5) * min(1.5 * MS, gap / 3)) + 1000
        cut = 2_010 * MS * pace <= start < 6_020 * MS * pace and node == "n2"
        slow = 8_030 * MS * pace <= start < 10_010 * MS * pace and node == "n3"
        lasted = lasted + 40 * MS if slow else lasted
        f = rng.choices(("read", "write", "cas"), (50, 30, 20))[0]
        outcome = "ok" if not cut or rng.random() > 0.5 else "fail" if f == "read" else "info"
        if outcome != "ok":
            lasted = int(min(500 * MS, 3 * gap))
        op: dict[str, Any] = {
            "start": start,
            "end": start + lasted,
            "process": process[client],
            "f": f,
            "node": node,
            "key": f"k{rng.randrange(3)}",
            "type": outcome,
            "at": start + int(lasted * rng.uniform(0.2, 0.9)),
        }
        made.append(op)
        steps.append((op["at"], op))
        if outcome == "info":
            process[client] += clients
        free[client] = start + lasted + 1 + rng.expovariate(1 / gap)
    _take_effect(sorted(steps, key=lambda s: s[0]), rng)
    if bend:
        _bend(made, bend, pace)
    for op in made:
        timeline.append((op["start"], 0, {**_event(op, "invoke", op["asked"]), "node": op["node"]}))
        done = _event(op, op["type"], op["answer"])
        if op["type"] != "ok":
            done["error"] = op.get("error", "timeout: no answer")
        timeline.append((op["end"], 1, done))
    if operations:
        timeline += [(event["time"], 2, event) for event in others(nodes, pace)]
    timeline.sort(key=lambda e: (e[0], e[1]))
    return [{"index": index, **event} for index, (_, _, event) in enumerate(timeline)]


def _event(op: Mapping[str, Any], kind: str, value: Any) -> dict[str, Any]:
    time = op["start"] if kind == "invoke" else op["end"]
    return {"time": time, "type": kind, "process": op["process"], "f": op["f"], "value": [op["key"], value]}


def _take_effect(steps: list[tuple[int, dict[str, Any]]], rng: random.Random) -> None:
    state: dict[str, int | None] = {}
    for number, (_, op) in enumerate(steps, 1):
        now, takes = state.get(op["key"]), op["type"] == "ok" or (op["type"] == "info" and rng.random() < 0.5)
        op["asked"] = {
            "read": None,
            "write": number,
            "cas": [now if rng.random() < 0.8 else number - 1, number],
        }[op["f"]]
        if op["f"] == "cas" and op["asked"][0] != now and op["type"] == "ok":
            op["type"], op["error"], takes = "fail", "precondition failed", False
        if takes and op["f"] != "read" and not (op["f"] == "cas" and op["asked"][0] != now):
            state[op["key"]] = number
        op["answer"] = now if op["f"] == "read" and op["type"] == "ok" else op["asked"]


def _bend(made: list[dict[str, Any]], keys: int, pace: float) -> None:
    """The first such read of so many keys from 3 s on answers with the value before the last write."""
    by_start = sorted((op for op in made if op["type"] == "ok"), key=lambda op: op["start"])
    bent = set[str]()
    for read in (op for op in by_start if op["f"] == "read" and op["start"] > 3_000 * MS * pace):
        if read["key"] in bent:
            continue
        before = [
            op
            for op in by_start
            if op["f"] == "write" and op["key"] == read["key"] and op["end"] < read["start"]
        ]
        if len(before) > 1 and before[-2]["end"] < before[-1]["start"]:
            read["answer"], read["bent"] = before[-2]["asked"], True
            bent.add(read["key"])
            if len(bent) == keys:
                return
    raise AssertionError("no read to bend")


def others(nodes: Sequence[str] = NODES, pace: float = 1.0) -> list[dict[str, Any]]:
    """What the nemesis, the cluster and the run tell, in `pace` times 12 s."""

    def nemesis(at: float, f: str, **value: Any) -> dict[str, Any]:
        return {"time": int(at * pace * 1e9), "type": "info", "process": "nemesis", "f": f, "value": value}

    def node(at: float, kind: str, name: str, **detail: Any) -> dict[str, Any]:
        return {
            "time": int(at * pace * 1e9),
            "type": "info",
            "process": "cluster",
            "f": kind,
            "value": {"node": name, **detail},
        }

    def phase(at: float, name: str) -> dict[str, Any]:
        return {"time": int(at * pace * 1e9), "type": "info", "process": "run", "f": "phase", "value": name}

    fourth, fifth = nodes[-2:]
    rest = [name for name in nodes if name != "n2"]
    grudge = {"n2": rest, **{name: ["n2"] for name in rest}}
    named = ", ".join(rest if len(rest) < 5 else [*rest[:3], f"{len(rest) - 3} more"])
    cut = {
        "fault": 1,
        "kind": "partition",
        "what": f"n2 cut from {named}",
        "asked": [2.0 * pace, 6.0 * pace],
        "nodes": list(nodes),
        "grudge": grudge,
        "mechanism": "stall",
    }
    slow = {
        "fault": 2,
        "kind": "latency",
        "what": "links of n3 slowed by 0.04 s",
        "asked": [8.0 * pace, 10.0 * pace],
        "nodes": ["n3"],
        "mechanism": "toxiproxy latency",
    }
    kill = {
        "fault": 3,
        "kind": "kill",
        "what": f"{fourth} killed",
        "asked": [9.0 * pace, 9.8 * pace],
        "nodes": [fourth],
        "mechanism": "SIGKILL",
    }
    never = {
        "fault": 4,
        "kind": "pause",
        "what": f"{fifth} paused",
        "asked": [10.5 * pace, 11.0 * pace],
        "nodes": [fifth],
        "mechanism": "SIGSTOP",
    }
    return [
        node(0.21, "role", "n2", role="leader", term=6),
        node(0.22, "role", "n1", role="follower", term=6),
        nemesis(2.0, "start-partition", **cut),
        nemesis(2.01, "start-partition", **cut, done=True, proof="8 of 8 probes got no byte in 0.2 s"),
        node(3.1, "role", "n3", role="leader", term=7),
        node(4.4, "role", "n2", role="follower", term=7),
        nemesis(6.0, "stop-partition", **cut),
        nemesis(6.02, "stop-partition", **cut, done=True, proof="8 of 8 probes answered"),
        nemesis(8.0, "start-latency", **slow),
        nemesis(8.03, "start-latency", **slow, done=True, proof="round trip 0.3 ms before, 80.4 ms now"),
        nemesis(9.0, "start-kill", **kill),
        node(9.003, "exit", fourth, signal=9, asked=True),
        nemesis(9.004, "start-kill", **kill, done=True, proof="process gone in 3 ms"),
        node(9.81, "restart", fourth),
        nemesis(9.9, "stop-kill", **kill, done=True, proof="serves again after 90 ms"),
        nemesis(10.01, "stop-latency", **slow, done=True, proof="round trip 0.3 ms"),
        nemesis(10.6, "start-pause", **never, error=f"{fifth} still answered 0.5 s after SIGSTOP"),
        node(11.2, "panic", "n1", line="panic: index out of range"),
        phase(0.1, "workload"),
        phase(11.9, "heal"),
    ]


def stale(bent: History) -> Verdict:
    """The verdict of a history made with `bend=True`, its witness worked out from the history alone."""
    written = {op.value: op for op in bent.operations if op.f == "write"}
    for read in bent.operations:
        if read.f != "read" or read.type != "ok" or read.result not in written:
            continue
        old = written[read.result]
        newer = [
            op
            for op in written.values()
            if op.key == read.key
            and op.type == "ok"
            and op.end is not None
            and old.end is not None
            and op.start > old.end
            and op.end < read.start
        ]
        if newer:
            new = newer[-1]
            assert new.end is not None and read.end is not None
            sentence = (
                f"process {read.process} read {read.result} from {read.key} at {read.end / 1e9:.3f} s "
                f"although process {new.process}'s write of {new.value} was acknowledged at "
                f"{new.end / 1e9:.3f} s; n2 cut from n1, n3, n4, n5 since 2.01 s"
            )
            edges = (
                Edge(old.index, new.index, "acknowledged before it was invoked"),
                Edge(new.index, read.index, "acknowledged before it was invoked"),
            )
            witness = Witness(sentence, (old.index, new.index, read.index), read.index, edges)
            return Verdict(
                "linearizable",
                "invalid",
                "not linearizable",
                witness=witness,
                key=read.key,
                evidence={"operations": len(bent), "keys": 3, "configurations": 4711},
            )
    raise AssertionError("no stale read")


VALID = Verdict("linearizable", "valid", "linearizable", evidence={"operations": 10_000, "keys": 3})
UNKNOWN = Verdict(
    "linearizable",
    "unknown",
    "key k2 undecided after 30 s",
    cause="time",
    key="k2",
    evidence={"configurations": 14_200_000},
)
VACUOUS = Verdict(
    "no-lost-update", "unknown", "no operation overlapped a fault", cause="vacuous", evidence={"reads": 0}
)

"""The target's description: command, events, refusals; and the verdict on node events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.history import History
from harness.target import Endpoint, Node, TargetError
from targets.raft_kv import BUGS, RaftKV, check_raft
from targets.raft_kv.node.raft import chained
from targets.raft_kv.node.requests import ERRORS, parse


def node(target: RaftKV, name: str = "n1") -> Node:
    peers = tuple(
        Endpoint(other, "node", "127.0.0.1", {"main": 7000 + int(other[1:])})
        for other, _ in target.members()
        if other != name
    )
    return Node(name, "node", "127.0.0.1", {"main": 7001}, data=Path("data"), peers=peers)


def test_command() -> None:
    target = RaftKV(nodes=3, bug="early_ack", audit=True, eager=("n1",))
    target.check()
    command = list(target.command(node(target)))
    assert "--peer=n3=127.0.0.1:7003" in command and "--bug=early_ack" in command and "--audit" in command
    assert command[command.index("--election") + 1 :][:2] == ["0.3", "0.6"]
    patient = list(target.command(node(target, "n2")))
    assert [float(word) for word in patient[patient.index("--election") + 1 :][:2]] == pytest.approx(
        [1.2, 1.5]
    )
    assert "--lease-reads" in RaftKV(nodes=3, lease_reads=True).command(node(target))
    plain = list(RaftKV(nodes=3).command(node(target)))
    assert not [word for word in plain if word.startswith(("--bug", "--audit", "--lease"))]


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"bug": "none"}, "random_votes, forgetful"),
        ({"bug": "lease_by_wall_clock"}, "it needs lease_reads=True"),
        ({"election": (0.6, 0.3)}, "do not fit"),
        ({"heartbeat": 0.3}, "do not fit"),
        ({"snapshot_every": 0}, "one entry or more"),
        ({"nodes": 3, "eager": ("n4",)}, "none of the nodes n1, n2, n3"),
    ],
)
def test_refusals(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(TargetError, match=says):
        RaftKV(**wrong)


def test_events() -> None:
    target = RaftKV()
    line = '{"event":"role","time":1795849200.25,"role":"leader","term":3}'
    assert target.event(line) == ("role", {"role": "leader", "term": 3})
    assert target.event("anything else") is None
    assert target.event('{"event":"apply","entr') is None
    kind, detail = target.event('{"event":"apply","first":1,"entries":[[1,null,5],[1,28,6]]}') or ("", {})
    assert kind == "apply" and detail["ops"] == [28]  # a leader's own entry is nobody's operation


def test_the_catalogue_is_documented() -> None:
    readme = (Path(__file__).parents[3] / "targets/raft_kv/README.md").read_text()
    assert [name for name in (*BUGS, *ERRORS) if f"`{name}`" not in readme] == []


@pytest.mark.parametrize(
    "request_, says",
    [
        ([], "f must be one of"),
        ({"f": "drop"}, "f must be one of"),
        ({"f": "write", "key": ["k"]}, "must be a string"),
        ({"f": "write", "value": 1, "session": "s", "id": 1}, "needs a key"),
        ({"f": "cas", "key": "k", "value": 1}, "old, new"),
        ({"f": "write", "key": "k", "value": 1}, "session"),
        ({"f": "add", "value": None, "session": "s", "id": 1}, "an add"),
        ({"f": "read", "key": "k", "within": -1}, "within"),
    ],
)
def test_malformed_requests(request_: Any, says: str) -> None:
    class Nowhere:
        def answer(self, line: bytes) -> None:
            raise AssertionError(line)

    with pytest.raises(ValueError, match=says):
        parse(request_, Nowhere(), 0.0, 0.3)


Row = tuple[str, str, dict[str, Any]]


def events(*rows: Row) -> History:
    return History.from_events(
        {"index": i, "time": i * 10**9, "type": "info", "process": "cluster", "f": kind,
         "value": {"node": name, **detail}}
        for i, (name, kind, detail) in enumerate(rows)
    )  # fmt: skip


LED = ("n1", "role", {"role": "leader", "term": 1})
A, B = [1, 7, 111], [1, 8, 222]


def apply(name: str, term: int, first: int, *entries: list[int], before: int = 0) -> Row:
    return (name, "apply", {"term": term, "first": first, "before": before, "entries": list(entries)})


def test_verdicts() -> None:
    assert check_raft(events()).cause == "vacuous"
    assert check_raft(events(LED)).judgement == "valid"
    again = (apply("n1", 1, 1, A, B), apply("n2", 1, 1, A), apply("n2", 1, 1, A, B))
    assert check_raft(events(LED, *again)).valid

    twice = check_raft(events(LED, ("n2", "role", {"role": "leader", "term": 1})))
    assert twice.summary == "no election safety" and twice.witness is not None
    assert twice.witness.sentence == "term 1 had two leaders: n1 at 0.00 s and n2 at 1.00 s"

    differ = check_raft(events(LED, apply("n1", 1, 1, A), apply("n2", 1, 1, B)))
    assert differ.summary == "no state-machine safety"

    matching = check_raft(events(LED, apply("n1", 1, 2, B, before=5), apply("n2", 1, 2, B, before=6)))
    assert matching.summary == "no log matching"


def test_leader_completeness() -> None:
    applied = apply("n1", 1, 1, A, B)
    first, both = chained(0, 111), chained(chained(0, 111), 222)

    def led(term: int, at: int, digest: int, *tail: list[int]) -> Row:
        return ("n2", "log", {"term": term, "applied": at, "digest": digest, "tail": list(tail)})

    assert check_raft(events(LED, applied, led(2, 0, 0, [1, first], [1, both]))).valid
    assert check_raft(events(LED, applied, led(2, 2, both))).valid
    assert check_raft(events(LED, applied, led(1, 1, first))).valid  # not a later term
    short = check_raft(events(LED, applied, led(2, 1, first)))
    assert short.summary == "no leader completeness"
    other = check_raft(events(LED, applied, led(3, 1, first, [2, 999])))
    assert other.summary == "no leader completeness"

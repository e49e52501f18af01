"""Nodes that speak past the fabric are seen, and a fault on their link is no longer believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Failed, Op, Plan, at, kill, one_way, partition
from harness.run import Run, Settings
from harness.target import Client, Endpoint, Node, Running
from harness.workload import Lane, Workload
from tests.integration.cluster.support import Events, Tiny, ask, running

ASKING = Workload("asking", (Lane(2, lambda rng: iter(lambda: Op("status"), None), rate=50),))


class Asking(Client):
    outcomes = {OSError: "info"}  # noqa: RUF012

    def open(self, node: Endpoint) -> None:
        self.node = node

    def invoke(self, op: Op) -> object:
        if op.f != "status":
            raise Failed("nothing else")
        return ask(self.node)

    def close(self) -> None:
        pass


class Gossips(Tiny):
    """n1 is told n2's own address, as by a peer that advertises it."""

    client = Asking

    def setup(self, cluster: Running) -> None:
        ask(cluster.nodes[0], f"dial {cluster.nodes[1].address}")


class Obeys(Tiny):
    """n1 speaks to n2 through the fabric."""

    client = Asking

    def setup(self, cluster: Running) -> None:
        assert isinstance(cluster.nodes[0], Node)
        ask(cluster.nodes[0], f"dial {cluster.nodes[0].peers[0].address}")


def test_a_lasting_connection_past_the_fabric_is_told_once(tmp_path: Path) -> None:
    events = Events()
    with running(Gossips(nodes=3), tmp_path, events=events) as cluster:
        assert events.wait("n1", "bypass") == {"peer": "n2", "address": cluster.nodes[1].address}
        cluster.kill("n1")  # and its connection
        cluster.restart("n1")
        ask(cluster.nodes[2], f"dial {cluster.nodes[1].address}")
        events.wait("n3", "bypass")
    assert [(name, d["peer"]) for name, kind, d in events.all if kind == "bypass"] == [
        ("n1", "n2"),
        ("n3", "n2"),
    ]


def test_what_goes_through_the_fabric_or_to_itself_is_no_bypass(tmp_path: Path) -> None:
    events = Events()
    with running(Obeys(nodes=2), tmp_path, events=events) as cluster:
        ask(cluster.nodes[0], f"dial {cluster.entry('n2').address}")  # as a client does
        ask(cluster.nodes[0], f"dial {cluster.nodes[0].address}")  # itself
        cluster._bypass.stop()
        for _ in range(3):
            cluster._bypass.look()
    assert not [kind for _, kind, _ in events.all if kind == "bypass"]


@pytest.mark.parametrize(
    "plan, told",
    [
        (Plan(at(0.5, partition("n2"), lasts=0.5)), True),
        (Plan(at(0.5, partition(one_way("n3", "n1")), lasts=0.5)), False),  # not their link
        (Plan(at(0.5, kill("n3"), lasts=0.5)), False),  # no fault of a link
    ],
)
def test_a_fault_that_could_not_reach_them_fails_the_run(tmp_path: Path, plan: Plan, told: bool) -> None:
    with Run(Gossips(nodes=3), ASKING, plan, Settings(1, "t", tmp_path / "out", "local")) as run:
        run.to_end()
    found = [f for f in run.history.findings if "past the fabric, so no fault on their links reached" in f]
    assert bool(found) is told and len(run.history.findings) == told
    if told:
        assert found[0].startswith(f"n1 connected to n2 at its own address {run.cluster.nodes[1].address}")
    assert any(event.kind == "bypass" for event in run.history.events)

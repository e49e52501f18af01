"""Figure 8 of the Raft paper on real nodes, by kill -9 alone; with the bug each step has one outcome."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from harness.target import Failed, Op, Unknown
from targets.raft_kv import RaftKV, check_raft
from tests.integration.raft_kv.started import Started, running, wait


def write_alone(cluster: Started, name: str, value: str) -> None:
    """A write that `name` logs and nobody can commit."""
    last = cluster.status(name)["last"]
    client = cluster.client(name)
    with pytest.raises((Unknown, TimeoutError)):
        client.invoke(Op("write", value, "k", timeout=0.5))
    client.close()
    assert cluster.status(name)["last"] == last + 1


def led_by(cluster: Started, *may: str) -> str:
    leader = cluster.leader()
    assert leader in may
    with suppress(Failed, Unknown, OSError):  # a read adds no entry
        cluster.ask(leader, "read", key="k")
    return leader


def written(cluster: Started, name: str) -> bool:
    """Whether a write through `name` happened; it may know no leader yet, or none any more."""
    with suppress(Failed):
        cluster.ask(name, "write", "last", "k")
        return True
    return False


@pytest.mark.parametrize("bug", [None, "counts_old_terms"])
def test_figure_8(tmp_path: Path, bug: str | None) -> None:
    with running(RaftKV(audit=True, bug=bug), tmp_path) as cluster:
        first = cluster.leader()
        wait("one log", lambda: len({cluster.status(n).get("applied") for n in cluster.nodes}) == 1)
        second, *others = (name for name in cluster.nodes if name != first)
        cluster.kill(*others)
        write_alone(cluster, first, "old")  # (a) on the first two
        wait("copied", lambda: cluster.status(second)["last"] == cluster.status(first)["last"])
        cluster.kill(first, second)

        cluster.start(*others)
        third = led_by(cluster, *others)
        rest = [name for name in others if name != third]
        wait("one log", lambda: len({cluster.status(n).get("applied") for n in others}) == 1)
        cluster.kill(*rest)
        write_alone(cluster, third, "newer")  # (b) of a later term, on the third alone
        cluster.kill(third)

        cluster.start(first, second, rest[0])
        # (c) with the bug only they can win: they copy the old entry to a majority, and count it
        led_by(cluster, first, second, *([] if bug else rest))
        wait("applied", lambda: len({cluster.status(n).get("applied") for n in cluster.processes}) == 1)
        cluster.kill(first, second)

        cluster.start(third, rest[1])  # (d) with the bug only the third can win, and erases what was applied
        led_by(cluster, *([third] if bug else others))
        wait("a write", lambda: written(cluster, rest[1]))
        verdict = check_raft(cluster.history())
        assert verdict.judgement == ("invalid" if bug else "valid"), verdict
        assert not bug or verdict.summary == "no state-machine safety"

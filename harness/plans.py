"""The standard plans: what a replicated service meets sooner or later, a few seconds each.

Every plan works with any cluster of three nodes or more in which somebody leads; those of packets need a
runtime that has them, docker or netns. Times are seconds. Use one as it is, or start your own from it::

    @pytest.fixture
    def split_brain() -> Plan:
        return plans.split_brain()
"""

from __future__ import annotations

from harness.faults import (
    bandwidth,
    clock_jump,
    clock_scramble,
    clock_strobe,
    kill,
    latency,
    limit_data,
    packet_corrupt,
    packet_delay,
    packet_duplicate,
    packet_loss,
    packet_reorder,
    partition,
    pause,
    reset_peer,
    restart,
    slicer,
)
from harness.plan import Plan, at, every
from harness.topology import bridge, isolate, majorities_ring, majority_minority, one_way, random_halves


def calm() -> Plan:
    """No fault at all: shows that the test itself is sound, and what the others are compared with."""
    return Plan(name="calm", end=2)


def isolated_leader() -> Plan:
    """The leader is cut off while clients still reach it: stale reads, writes that never commit."""
    return Plan(at(1, partition(isolate("leader")), lasts=3), name="isolated_leader")


def split_brain() -> Plan:
    """The leader stays with a minority, the majority elects another: two leaders, both with company."""
    return Plan(at(1, partition(majority_minority("leader")), lasts=3), name="split_brain")


def overlapping_majorities() -> Plan:
    """Each node sees a majority, no two the same one: leaders that only some nodes hear of."""
    return Plan(at(1, partition(majorities_ring()), lasts=3), name="overlapping_majorities")


def bridged_halves() -> Plan:
    """Two halves that meet in one node only: votes and entries that travel through a single bridge."""
    return Plan(at(1, partition(bridge()), lasts=3), name="bridged_halves")


def mute_leader() -> Plan:
    """The leader hears the others but they do not hear it: a cut in one direction, as of a broken port."""
    return Plan(at(1, partition(one_way("leader", "followers")), lasts=3), name="mute_leader")


def flapping_partition() -> Plan:
    """A new split before the last one is forgotten: interrupted elections, logs that diverge again."""
    return Plan(every(1.2, partition(random_halves()), lasts=0.7, times=4), name="flapping_partition")


def slow_leader() -> Plan:
    """The leader's links are slow and uneven, yet up: time-outs too short, answers that come late."""
    return Plan(at(1, latency("leader", 0.2, jitter=0.05), lasts=3), name="slow_leader")


def thin_links() -> Plan:
    """Little bandwidth, bytes in small pieces: replication that falls behind, half a message in a buffer."""
    return Plan(
        at(1, bandwidth("all", 100_000), lasts=3),
        at(1, slicer("leader", 200, size_variation=50), lasts=3),
        name="thin_links",
    )


def broken_connections() -> Plan:
    """Connections reset or closed in mid-message: requests sent twice, answers lost, connections leaked."""
    return Plan(
        every(0.8, reset_peer("leader"), lasts=0.3, times=2),
        at(2.5, limit_data("one", 2_000), lasts=1.5),
        name="broken_connections",
    )


def lossy_links() -> Plan:
    """Packets that are lost or come twice, between all nodes: streams that stall, timers that fire early."""
    return Plan(
        at(1, packet_loss("all", 0.1), lasts=3),
        at(1, packet_duplicate("all", 0.05), lasts=3),
        name="lossy_links",
    )


def jumbled_packets() -> Plan:
    """Packets late, out of order and damaged around the leader, as on a long way with several paths."""
    return Plan(
        at(1, packet_delay("leader", 0.02, jitter=0.01), lasts=3),
        at(1.5, packet_reorder("leader", 0.2, delay=0.02), lasts=2),
        at(2, packet_corrupt("leader", 0.02), lasts=1.5),
        name="jumbled_packets",
    )


def killed_leader() -> Plan:
    """The leader is killed and comes back with its data: what was acknowledged must be there."""
    return Plan(at(1, kill("leader"), lasts=2), name="killed_leader")


def rolling_restarts() -> Plan:
    """Nodes killed and started again, as in a hasty upgrade: votes and logs read back from disk."""
    return Plan(every(1, restart("one"), times=4), name="rolling_restarts")


def paused_leader() -> Plan:
    """The leader stands still, as in a long garbage collection, and goes on believing that it still leads."""
    return Plan(at(1, pause("leader"), lasts=2), name="paused_leader")


def scrambled_clocks() -> Plan:
    """Every wall clock is wrong in its own way: order by timestamps, leases that end too early or late."""
    return Plan(
        at(0.5, clock_scramble("all", 30), lasts=1.5),
        at(3.5, clock_scramble("all", 0.5), lasts=1.5),
        name="scrambled_clocks",
    )


def strobing_clock() -> Plan:
    """The leader's wall clock jumps to and fro, a hundred times a second: time that goes back."""
    return Plan(at(1, clock_strobe("leader", 0.2, 0.01), lasts=3), name="strobing_clock")


def overdue_leader() -> Plan:
    """The leader's wall clock is behind when it is cut off: a lease that outlives the leadership."""
    return Plan(
        at(1, clock_jump("leader", -5), lasts=3.5),
        at(1.5, partition(isolate("leader")), lasts=2.5),
        name="overdue_leader",
    )


def storm() -> Plan:
    """Slow links, a partition and a dead node at the same time: recovery that meets the next fault."""
    return Plan(
        at(0.5, latency("all", 0.03, jitter=0.02), lasts=4.5),
        at(1, partition(majority_minority("leader")), lasts=2),
        at(2, kill("one"), lasts=1.5),
        at(4, pause("leader"), lasts=1),
        name="storm",
    )


STANDARD = (
    "calm", "isolated_leader", "split_brain", "overlapping_majorities", "bridged_halves", "mute_leader",
    "flapping_partition", "slow_leader", "thin_links", "broken_connections", "lossy_links", "jumbled_packets",
    "killed_leader", "rolling_restarts", "paused_leader", "scrambled_clocks", "strobing_clock",
    "overdue_leader", "storm",
)  # fmt: skip
"""The names of the standard plans, each a function of this module without arguments."""

__all__ = ["STANDARD", *STANDARD]

"""What can be done to a cluster: fault values, and what each means once its nodes are drawn.

Three things carry the name. A `Fault` here is what a plan asks for, with selectors still open. A
`harness.resolved.Resolved` has its nodes and links drawn: it is what is carried out, recorded and
replayed. A `harness.history.Fault` is what was then observed.

Times are seconds as float, sizes bytes. A selector means the node's links to its peers, both directions;
``link("n1", "n2")`` means the bytes from n1 to n2 only; ``clients=True`` adds the clients' links to the node.
"""

from __future__ import annotations

from typing import Any

from harness.clock_faults import ClockFault, clock_drift, clock_jump, clock_scramble, clock_strobe
from harness.fault_base import Fault, Links
from harness.link_faults import (
    bandwidth,
    latency,
    limit_data,
    partition,
    reset_peer,
    slicer,
    slow_close,
    timeout,
)
from harness.message_faults import (
    MessageFault,
    message_corrupt,
    message_delay,
    message_drop,
    message_duplicate,
    message_reorder,
)
from harness.node_faults import cpu_limit, disk_full, kill, memory_limit, pause, restart
from harness.own_fault import fault
from harness.packet_faults import (
    packet_corrupt,
    packet_delay,
    packet_duplicate,
    packet_loss,
    packet_rate,
    packet_reorder,
)
from harness.resolved import Resolved
from harness.value import read

FAULTS: tuple[type[Fault], ...] = (
    partition, latency, bandwidth, reset_peer, slicer, limit_data, slow_close, timeout,
    packet_loss, packet_delay, packet_reorder, packet_duplicate, packet_corrupt, packet_rate,
    message_drop, message_duplicate, message_corrupt, message_reorder, message_delay,
    clock_jump, clock_drift, clock_strobe, clock_scramble,
    kill, pause, restart, cpu_limit, memory_limit, disk_full, fault,
)  # fmt: skip

MESSAGE_FAULTS = frozenset(kind.__name__ for kind in FAULTS if issubclass(kind, MessageFault))
"""Names of the faults on whole messages."""

CLOCK_FAULTS = frozenset(kind.__name__ for kind in FAULTS if issubclass(kind, ClockFault))
"""Names of the faults on clocks."""


def read_fault(data: Any) -> Fault:
    """A fault from its JSON. Raises PlanError that lists the faults or the fields, and for a user's own."""
    return read(data, FAULTS, "fault")


__all__ = [
    "CLOCK_FAULTS", "FAULTS", "MESSAGE_FAULTS", "Fault", "Links", "Resolved", "bandwidth", "clock_drift",
    "clock_jump", "clock_scramble", "clock_strobe", "cpu_limit", "disk_full", "fault", "kill", "latency",
    "limit_data", "memory_limit", "message_corrupt", "message_delay", "message_drop", "message_duplicate",
    "message_reorder", "packet_corrupt", "packet_delay", "packet_duplicate", "packet_loss", "packet_rate",
    "packet_reorder", "partition", "pause", "read_fault", "reset_peer", "restart", "slicer", "slow_close",
    "timeout",
]  # fmt: skip

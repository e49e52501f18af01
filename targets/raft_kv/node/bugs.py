"""The planted bugs: which rule of Raft each breaks, and who can see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """One switch: `rule` it breaks, `source` in the paper (extended version), what to `provoke` it with."""

    rule: str
    source: str
    provoke: str


BUGS: Mapping[str, Bug] = {
    "random_votes": Bug(
        "a node votes once per term, and only for a candidate whose log is at least as up to date as its own",
        "5.2, 5.4.1",
        "a node that does not hear the leader, but is heard: it wins with an old log and erases entries",
    ),
    "forgetful": Bug(
        "term and vote are on disk before a node answers",
        "figure 2 (persistent state), 5.2",
        "cut the leader off and restart the others at once: they elect a second leader of the same term",
    ),
    "stale_reads": Bug(
        "reads go through the leader",
        "8",
        "read from a node that is cut off or slow",
    ),
    "deposed_reads": Bug(
        "a leader makes sure that it still leads before it answers a read",
        "8 (read index: dissertation 6.4)",
        "cut the leader off from the others, but not from its clients",
    ),
    "lease_by_wall_clock": Bug(
        "a lease is measured by a clock that nobody sets (with lease_reads)",
        "8 (leases: dissertation 6.4.1)",
        "set the leader's clock back and cut it off: its lease lasts that much longer than it should",
    ),
    "early_ack": Bug(
        "a write is acknowledged after a majority holds it",
        "5.3",
        "cut the leader off, or kill it, under writes",
    ),
    "counts_old_terms": Bug(
        "only entries of the leader's own term are committed by counting copies (a new leader's no-op, which "
        "would hide it, is left out too)",
        "5.4.2, figure 8",
        "leaders that fail in turn with entries copied in part: the script of test_raft_kv_figure8.py",
    ),
    "no_truncate": Bug(
        "a follower deletes its entries that conflict with the leader's",
        "5.3, figure 2 (AppendEntries 2 and 3)",
        "a leader cut off while its clients write, healed, and made leader again",
    ),
    "double_apply": Bug(
        "a retried request is applied once",
        "8",
        "connections that break before the answer, under compare-and-sets: retries carry the same id",
    ),
}  # fmt: skip

"""raft_kv: a replicated key-value store whose bugs are known, to test the harness by."""

from targets.raft_kv.client import RaftKVClient
from targets.raft_kv.invariants import check_raft
from targets.raft_kv.node.bugs import BUGS, Bug
from targets.raft_kv.target import RaftKV

__all__ = ["BUGS", "Bug", "RaftKV", "RaftKVClient", "check_raft"]

"""Judging a history: checkers return a `Verdict`; ``assert_*`` remember it and fail unless it is valid.

Knows nothing but histories and verdicts, so any stored history can be judged again without a cluster.
"""

from harness.checkers.anomalies import no_dirty_read, no_non_monotonic_read, no_stale_read
from harness.checkers.asserts import (
    assert_available,
    assert_bank,
    assert_causal,
    assert_coherent,
    assert_counter,
    assert_kafka,
    assert_linearizable,
    assert_list_append,
    assert_monotonic,
    assert_monotonic_reads,
    assert_monotonic_writes,
    assert_no_causal_reverse,
    assert_no_dirty_read,
    assert_no_long_fork,
    assert_no_lost_update,
    assert_no_lost_write,
    assert_no_non_monotonic_read,
    assert_no_stale_read,
    assert_no_write_skew,
    assert_read_your_writes,
    assert_recovers,
    assert_rw_register,
    assert_set_full,
    assert_total_queue,
    assert_unique_ids,
    assert_writes_follow_reads,
    judge,
)
from harness.checkers.availability import available, recovers
from harness.checkers.bank import bank
from harness.checkers.causal import causal
from harness.checkers.causal_reverse import causal_reverse
from harness.checkers.coherence import coherent
from harness.checkers.counter_sum import counter
from harness.checkers.kafka import kafka
from harness.checkers.linearizable import linearizable
from harness.checkers.long_fork import long_fork
from harness.checkers.model import NOT_KNOWN, Call, CheckError, Effect, Inconsistent, Model
from harness.checkers.models import MODELS, model
from harness.checkers.monotonic import monotonic
from harness.checkers.registry import Checker, check, checkers, choices, no_such_check
from harness.checkers.search import Budget
from harness.checkers.sessions import (
    monotonic_reads,
    monotonic_writes,
    read_your_writes,
    writes_follow_reads,
)
from harness.checkers.set_full import set_full
from harness.checkers.total_queue import total_queue
from harness.checkers.transactions import list_append, rw_register
from harness.checkers.unique_ids import unique_ids
from harness.checkers.updates import no_lost_update, no_lost_write
from harness.checkers.vacuity import missing
from harness.checkers.words import headline, table, text
from harness.checkers.write_skew import write_skew

__all__ = [
    "MODELS", "NOT_KNOWN", "Budget", "Call", "CheckError", "Checker", "Effect", "Inconsistent", "Model",
    "assert_available", "assert_bank", "assert_causal", "assert_coherent", "assert_counter", "assert_kafka",
    "assert_linearizable", "assert_list_append", "assert_monotonic", "assert_monotonic_reads",
    "assert_monotonic_writes", "assert_no_causal_reverse", "assert_no_dirty_read", "assert_no_long_fork",
    "assert_no_lost_update", "assert_no_lost_write", "assert_no_non_monotonic_read", "assert_no_stale_read",
    "assert_no_write_skew", "assert_read_your_writes", "assert_recovers", "assert_rw_register",
    "assert_set_full", "assert_total_queue", "assert_unique_ids", "assert_writes_follow_reads", "available",
    "bank", "causal", "causal_reverse", "check", "checkers", "choices", "coherent", "counter", "headline",
    "judge", "kafka", "linearizable", "list_append", "long_fork", "missing", "model", "monotonic",
    "monotonic_reads", "monotonic_writes", "no_dirty_read", "no_lost_update", "no_lost_write",
    "no_non_monotonic_read", "no_stale_read", "no_such_check", "read_your_writes", "recovers",
    "rw_register", "set_full", "table", "text", "total_queue", "unique_ids", "write_skew",
    "writes_follow_reads",
]  # fmt: skip

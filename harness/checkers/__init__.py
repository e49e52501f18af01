"""Judging a history: checkers return a `Verdict`; ``assert_*`` remember it and fail unless it is valid.

Knows nothing but histories and verdicts, so any stored history can be judged again without a cluster.
"""

from harness.checkers.asserts import (
    Checker,
    assert_available,
    assert_bank,
    assert_causal,
    assert_counter,
    assert_kafka,
    assert_linearizable,
    assert_list_append,
    assert_monotonic,
    assert_no_causal_reverse,
    assert_no_long_fork,
    assert_no_lost_update,
    assert_no_lost_write,
    assert_no_write_skew,
    assert_recovers,
    assert_rw_register,
    assert_set_full,
    assert_total_queue,
    assert_unique_ids,
    check,
    checkers,
    judge,
)
from harness.checkers.availability import available, recovers
from harness.checkers.bank import bank
from harness.checkers.causal import causal
from harness.checkers.causal_reverse import causal_reverse
from harness.checkers.counter_sum import counter
from harness.checkers.kafka import kafka
from harness.checkers.linearizable import linearizable
from harness.checkers.long_fork import long_fork
from harness.checkers.model import NOT_KNOWN, Call, CheckError, Effect, Inconsistent, Model
from harness.checkers.models import MODELS, model
from harness.checkers.monotonic import monotonic
from harness.checkers.search import Budget
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
    "assert_available", "assert_bank", "assert_causal", "assert_counter", "assert_kafka",
    "assert_linearizable", "assert_list_append", "assert_monotonic", "assert_no_causal_reverse",
    "assert_no_long_fork", "assert_no_lost_update", "assert_no_lost_write", "assert_no_write_skew",
    "assert_recovers", "assert_rw_register", "assert_set_full", "assert_total_queue",
    "assert_unique_ids", "available", "bank", "causal", "causal_reverse", "check", "checkers", "counter",
    "headline", "judge", "kafka", "linearizable", "list_append", "long_fork", "missing", "model",
    "monotonic", "no_lost_update", "no_lost_write", "recovers", "rw_register", "set_full", "table",
    "text", "total_queue", "unique_ids", "write_skew",
]  # fmt: skip

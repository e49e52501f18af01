"""Judging a history: checkers return a `Verdict`; ``assert_*`` remember it and fail unless it is valid.

Knows nothing but histories and verdicts, so any stored history can be judged again without a cluster.
"""

from harness.checkers.anomalies import no_dirty_read, no_non_monotonic_read, no_stale_read
from harness.checkers.asserts import (
    Checker,
    assert_available,
    assert_coherent,
    assert_linearizable,
    assert_list_append,
    assert_monotonic_reads,
    assert_monotonic_writes,
    assert_no_dirty_read,
    assert_no_lost_update,
    assert_no_lost_write,
    assert_no_non_monotonic_read,
    assert_no_stale_read,
    assert_read_your_writes,
    assert_recovers,
    assert_rw_register,
    assert_writes_follow_reads,
    check,
    checkers,
    judge,
)
from harness.checkers.availability import available, recovers
from harness.checkers.coherence import coherent
from harness.checkers.linearizable import linearizable
from harness.checkers.model import NOT_KNOWN, Call, CheckError, Effect, Inconsistent, Model
from harness.checkers.models import MODELS, model
from harness.checkers.search import Budget
from harness.checkers.sessions import (
    monotonic_reads,
    monotonic_writes,
    read_your_writes,
    writes_follow_reads,
)
from harness.checkers.transactions import list_append, rw_register
from harness.checkers.updates import no_lost_update, no_lost_write
from harness.checkers.vacuity import missing
from harness.checkers.words import headline, table, text

__all__ = [
    "MODELS", "NOT_KNOWN", "Budget", "Call", "CheckError", "Checker", "Effect", "Inconsistent", "Model",
    "assert_available", "assert_coherent", "assert_linearizable", "assert_list_append",
    "assert_monotonic_reads", "assert_monotonic_writes", "assert_no_dirty_read", "assert_no_lost_update",
    "assert_no_lost_write", "assert_no_non_monotonic_read", "assert_no_stale_read",
    "assert_read_your_writes", "assert_recovers", "assert_rw_register", "assert_writes_follow_reads",
    "available", "check", "checkers", "coherent", "headline", "judge", "linearizable", "list_append",
    "missing", "model", "monotonic_reads", "monotonic_writes", "no_dirty_read", "no_lost_update",
    "no_lost_write", "no_non_monotonic_read", "no_stale_read", "read_your_writes", "recovers",
    "rw_register", "table", "text", "writes_follow_reads",
]  # fmt: skip

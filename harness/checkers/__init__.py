"""Judging a history: checkers return a `Verdict`; ``assert_*`` remember it and fail unless it is valid.

Knows nothing but histories and verdicts, so any stored history can be judged again without a cluster.
"""

from harness.checkers.asserts import (
    Checker,
    assert_available,
    assert_linearizable,
    assert_list_append,
    assert_no_lost_update,
    assert_no_lost_write,
    assert_recovers,
    assert_rw_register,
    check,
    checkers,
    judge,
)
from harness.checkers.availability import available, recovers
from harness.checkers.linearizable import linearizable
from harness.checkers.model import NOT_KNOWN, Call, CheckError, Effect, Inconsistent, Model
from harness.checkers.models import MODELS, model
from harness.checkers.search import Budget
from harness.checkers.transactions import list_append, rw_register
from harness.checkers.updates import no_lost_update, no_lost_write
from harness.checkers.vacuity import missing
from harness.checkers.words import headline, table, text

__all__ = [
    "MODELS", "NOT_KNOWN", "Budget", "Call", "CheckError", "Checker", "Effect", "Inconsistent", "Model",
    "assert_available", "assert_linearizable", "assert_list_append", "assert_no_lost_update",
    "assert_no_lost_write", "assert_recovers", "assert_rw_register", "available", "check", "checkers",
    "headline", "judge", "linearizable", "list_append", "missing", "model", "no_lost_update",
    "no_lost_write", "recovers", "rw_register", "table", "text",
]  # fmt: skip

"""What a test calls: judge, remember the verdict in the history, and fail unless it is valid."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any

from harness.checkers import words
from harness.checkers.anomalies import no_dirty_read, no_non_monotonic_read, no_stale_read
from harness.checkers.availability import available, recovers
from harness.checkers.bank import bank
from harness.checkers.causal import causal
from harness.checkers.causal_reverse import causal_reverse
from harness.checkers.coherence import coherent
from harness.checkers.counter_sum import counter
from harness.checkers.kafka import kafka
from harness.checkers.linearizable import linearizable
from harness.checkers.long_fork import long_fork
from harness.checkers.model import Model
from harness.checkers.monotonic import monotonic
from harness.checkers.registry import Checker, check
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
from harness.checkers.write_skew import write_skew
from harness.history import History
from harness.verdict import Undecided, Verdict, Violation


def judge(history: History, checker: str | Checker | Verdict) -> Verdict:
    """Judge by a checker of your own (or by name), remember the verdict, fail unless it is valid.

    Valid becomes unknown (cause ``vacuous``) where the run shows too little for any promise: see `missing`.
    Raises Violation where it is invalid, Undecided where it is unknown, TypeError where a checker returns no
    Verdict.

    >>> def at_most_one_write(history):
    ...     writes = [op.index for op in history.operations if op.f == "write"]
    ...     if len(writes) > 1:
    ...         return Verdict("one-write", "invalid", "wrote twice", witness=Witness("...", tuple(writes)))
    ...     return Verdict("one-write", "valid", "wrote once")
    """
    __tracebackhide__ = True
    verdict = checker
    if isinstance(checker, str):
        verdict = check(history, checker)
    elif not isinstance(checker, Verdict):
        verdict = checker(history)
    if not isinstance(verdict, Verdict):
        raise TypeError(f"the checker {checker!r} returned {verdict!r}; expected a harness.Verdict")
    if verdict.valid and not isinstance(checker, str) and (absent := missing(history)):
        verdict = replace(
            verdict, judgement="unknown", summary=absent[0], cause="vacuous",
            evidence={**verdict.evidence, "missing": absent},
        )  # fmt: skip
    return _remember(history, verdict)


def _remember(history: History, verdict: Verdict) -> Verdict:
    """Keep the verdict with its history, as it is, and fail unless it is valid."""
    __tracebackhide__ = True
    history.verdicts.append(verdict)
    if verdict.judgement == "invalid":
        raise Violation(verdict, words.text(verdict, history))
    if verdict.judgement == "unknown":
        raise Undecided(verdict, words.text(verdict, history))
    return verdict


def assert_linearizable(
    history: History, model: str | Model = "cas-register", budget: Budget | float | None = None
) -> Verdict:
    """Fail unless every key is linearizable by `model`; `budget` in seconds (30). See `linearizable`."""
    __tracebackhide__ = True
    return _remember(history, linearizable(history, model, budget))


def assert_list_append(history: History, model: str = "strict-serializable") -> Verdict:
    """Fail if transactions on lists show an anomaly that a model rules out. See `list_append`."""
    __tracebackhide__ = True
    return _remember(history, list_append(history, model))


def assert_rw_register(
    history: History, model: str = "strict-serializable", *, sequential_keys: bool = False,
    linearizable_keys: bool = False,
) -> Verdict:  # fmt: skip
    """Fail if transactions on registers show an anomaly that a model rules out. See `rw_register`."""
    __tracebackhide__ = True
    return _remember(
        history,
        rw_register(history, model, sequential_keys=sequential_keys, linearizable_keys=linearizable_keys),
    )


def assert_no_lost_update(history: History) -> Verdict:
    """Fail if two acknowledged updates of a key were built on the same read. See `no_lost_update`."""
    __tracebackhide__ = True
    return _remember(history, no_lost_update(history))


def assert_no_lost_write(history: History) -> Verdict:
    """Fail if an acknowledged add is missing from a final read of any node. See `no_lost_write`."""
    __tracebackhide__ = True
    return _remember(history, no_lost_write(history))


def assert_coherent(history: History) -> Verdict:
    """Fail unless each key is sequentially consistent by itself. See `coherent`."""
    __tracebackhide__ = True
    return _remember(history, coherent(history))


def assert_monotonic_reads(history: History) -> Verdict:
    """Fail if a session read an older version of a key than before. See `monotonic_reads`."""
    __tracebackhide__ = True
    return _remember(history, monotonic_reads(history))


def assert_monotonic_writes(history: History) -> Verdict:
    """Fail if a session's writes of a key were read out of order. See `monotonic_writes`."""
    __tracebackhide__ = True
    return _remember(history, monotonic_writes(history))


def assert_no_dirty_read(history: History) -> Verdict:
    """Fail if a value was read that was never there. See `no_dirty_read`."""
    __tracebackhide__ = True
    return _remember(history, no_dirty_read(history))


def assert_no_non_monotonic_read(history: History) -> Verdict:
    """Fail if a value was read again after a newer one. See `no_non_monotonic_read`."""
    __tracebackhide__ = True
    return _remember(history, no_non_monotonic_read(history))


def assert_no_stale_read(history: History) -> Verdict:
    """Fail if a value was read after it had been overwritten. See `no_stale_read`."""
    __tracebackhide__ = True
    return _remember(history, no_stale_read(history))


def assert_read_your_writes(history: History) -> Verdict:
    """Fail if a session read an older version than it had written. See `read_your_writes`."""
    __tracebackhide__ = True
    return _remember(history, read_your_writes(history))


def assert_writes_follow_reads(history: History) -> Verdict:
    """Fail if a write was read before what its session had read. See `writes_follow_reads`."""
    __tracebackhide__ = True
    return _remember(history, writes_follow_reads(history))


def assert_set_full(history: History, linearizable: bool = False) -> Verdict:
    """Fail if a set lost, invented or doubled an element; `linearizable`: or hid one. See `set_full`."""
    __tracebackhide__ = True
    return _remember(history, set_full(history, linearizable))


def assert_total_queue(history: History) -> Verdict:
    """Fail if a queue lost, invented or doubled a value. See `total_queue`."""
    __tracebackhide__ = True
    return _remember(history, total_queue(history))


def assert_unique_ids(history: History) -> Verdict:
    """Fail if an id was given twice. See `unique_ids`."""
    __tracebackhide__ = True
    return _remember(history, unique_ids(history))


def assert_counter(history: History, initial: int = 0, final_only: bool = False) -> Verdict:
    """Fail if a read of a counter is no possible sum of the adds. See `counter`."""
    __tracebackhide__ = True
    return _remember(history, counter(history, initial, final_only))


def assert_bank(
    history: History, total: int | None = None, accounts: Iterable[Hashable] | None = None,
    negative: bool = False,
) -> Verdict:  # fmt: skip
    """Fail if a read of all accounts has another total, or a wrong balance or account. See `bank`."""
    __tracebackhide__ = True
    return _remember(history, bank(history, total, accounts, negative))


def assert_no_long_fork(history: History) -> Verdict:
    """Fail if reads disagree about the order of writes. See `long_fork`."""
    __tracebackhide__ = True
    return _remember(history, long_fork(history))


def assert_monotonic(history: History, real_time: bool = True) -> Verdict:
    """Fail if a value, or its timestamp, fell. See `monotonic`."""
    __tracebackhide__ = True
    return _remember(history, monotonic(history, real_time))


def assert_no_write_skew(history: History) -> Verdict:
    """Fail if two inserts that exclude each other succeeded. See `write_skew`."""
    __tracebackhide__ = True
    return _remember(history, write_skew(history))


def assert_causal(history: History, initial: Any = None) -> Verdict:
    """Fail if a read misses a cause, or has none. See `causal`."""
    __tracebackhide__ = True
    return _remember(history, causal(history, initial))


def assert_no_causal_reverse(history: History, ordered: bool = False) -> Verdict:
    """Fail if a read has a later write without an earlier one. See `causal_reverse`."""
    __tracebackhide__ = True
    return _remember(history, causal_reverse(history, ordered))


def assert_kafka(history: History) -> Verdict:
    """Fail if a log lost, doubled or reordered a message. See `kafka`."""
    __tracebackhide__ = True
    return _remember(history, kafka(history))


def assert_recovers(history: History, within: float) -> Verdict:
    """Fail if some kind of operation did not succeed `within` seconds after a heal. See `recovers`."""
    __tracebackhide__ = True
    return _remember(history, recovers(history, within))


def assert_available(history: History, during: str, at_least: float = 0.9) -> Verdict:
    """Fail if less than this fraction of operations succeeded during a kind of fault. See `available`."""
    __tracebackhide__ = True
    return _remember(history, available(history, during, at_least))

"""The checkers by name, as histories' headers and the command line name them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from harness.checkers.anomalies import no_dirty_read, no_non_monotonic_read, no_stale_read
from harness.checkers.bank import bank
from harness.checkers.causal import causal
from harness.checkers.causal_reverse import causal_reverse
from harness.checkers.coherence import coherent
from harness.checkers.counter_sum import counter
from harness.checkers.kafka import kafka
from harness.checkers.linearizable import linearizable
from harness.checkers.long_fork import long_fork
from harness.checkers.model import CheckError
from harness.checkers.models import MODELS
from harness.checkers.monotonic import monotonic
from harness.checkers.sessions import (
    monotonic_reads,
    monotonic_writes,
    read_your_writes,
    writes_follow_reads,
)
from harness.checkers.set_full import set_full
from harness.checkers.total_queue import total_queue
from harness.checkers.transactions import MODELS as CONSISTENCY, list_append, rw_register
from harness.checkers.unique_ids import unique_ids
from harness.checkers.updates import no_lost_update, no_lost_write
from harness.checkers.write_skew import write_skew
from harness.history import History
from harness.verdict import Verdict

Checker = Callable[[History], Verdict]


def checkers() -> dict[str, Checker]:
    """The checkers that need no more than a history, by name, as ``header["checks"]`` names them.

    What follows a colon is a model, or says how the one before it judges.
    """
    return {
        **{f"linearizable:{name}": partial(linearizable, model_=name) for name in MODELS},
        "bank": bank,
        "causal": causal,
        "causal-reverse": causal_reverse,
        "causal-reverse:ordered": partial(causal_reverse, ordered=True),
        "coherence": coherent,
        "counter": counter,
        "counter:final": partial(counter, final_only=True),
        "kafka": kafka,
        "list-append": list_append,
        **{f"list-append:{name}": partial(list_append, model=name) for name in CONSISTENCY},
        "long-fork": long_fork,
        "monotonic": monotonic,
        "monotonic:process": partial(monotonic, real_time=False),
        "monotonic-reads": monotonic_reads,
        "monotonic-writes": monotonic_writes,
        "no-dirty-read": no_dirty_read,
        "no-lost-update": no_lost_update,
        "no-lost-write": no_lost_write,
        "no-non-monotonic-read": no_non_monotonic_read,
        "no-stale-read": no_stale_read,
        "read-your-writes": read_your_writes,
        "rw-register": rw_register,
        **{f"rw-register:{name}": partial(rw_register, model=name) for name in CONSISTENCY},
        "set-full": set_full,
        "set-full:linearizable": partial(set_full, linearizable=True),
        "total-queue": total_queue,
        "unique-ids": unique_ids,
        "write-skew": write_skew,
        "writes-follow-reads": writes_follow_reads,
    }


def choices() -> str:
    """Their names for people: what may follow the colon is told once."""
    variants: dict[str, list[str]] = {}
    for name in checkers():
        kind, _, variant = name.partition(":")
        variants.setdefault(kind, []).append(variant)
    alike: dict[tuple[str, ...], list[str]] = {}
    for kind, those in variants.items():
        alike.setdefault(tuple(those), []).append(kind)
    alone = alike.pop(("",), [])
    return "; ".join(
        [", ".join(alone), *(f"{'|'.join(kinds)}{_after(those)}" for those, kinds in alike.items())]
    )


def _after(variants: tuple[str, ...]) -> str:
    named = "|".join(filter(None, variants))
    return f"[:{named}]" if "" in variants else f":{named}"


def check(history: History, name: str) -> Verdict:
    """The verdict of the checker of that name; fails nothing. Raises CheckError, listing the names."""
    known = checkers()
    if name not in known:
        raise no_such_check(name)
    return known[name](history)


def no_such_check(name: str) -> CheckError:
    """There is no checker of that name."""
    return CheckError(f"unknown check {name!r}; there are: {choices()}")


__all__ = ["Checker", "check", "checkers", "choices", "no_such_check"]

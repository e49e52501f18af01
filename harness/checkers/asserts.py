"""What a test calls: judge, remember the verdict in the history, and fail unless it is valid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.checkers import words
from harness.checkers.availability import available, recovers
from harness.checkers.linearizable import linearizable
from harness.checkers.model import CheckError, Model
from harness.checkers.models import MODELS
from harness.checkers.search import Budget
from harness.checkers.transactions import MODELS as CONSISTENCY, list_append, rw_register
from harness.checkers.updates import no_lost_update, no_lost_write
from harness.checkers.vacuity import missing
from harness.history import History
from harness.verdict import Undecided, Verdict, Violation

Checker = Callable[[History], Verdict]


def checkers() -> dict[str, Checker]:
    """The checkers that need no more than a history, by name, as ``header["checks"]`` names them."""

    def of(name: str) -> Checker:
        return lambda history: linearizable(history, name)

    def by(checker: Callable[[History, str], Verdict], name: str) -> Checker:
        return lambda history: checker(history, name)

    return {
        **{f"linearizable:{name}": of(name) for name in MODELS},
        "no-lost-update": no_lost_update,
        "no-lost-write": no_lost_write,
        "list-append": list_append,
        "rw-register": rw_register,
        **{f"list-append:{name}": by(list_append, name) for name in CONSISTENCY},
        **{f"rw-register:{name}": by(rw_register, name) for name in CONSISTENCY},
    }


def check(history: History, name: str) -> Verdict:
    """The verdict of the checker of that name; fails nothing. Raises CheckError, listing the names."""
    known = checkers()
    if name not in known:
        raise CheckError(f"unknown check {name!r}; there are: {', '.join(known)}")
    return known[name](history)


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


def assert_recovers(history: History, within: float) -> Verdict:
    """Fail if some kind of operation did not succeed `within` seconds after a heal. See `recovers`."""
    __tracebackhide__ = True
    return _remember(history, recovers(history, within))


def assert_available(history: History, during: str, at_least: float = 0.9) -> Verdict:
    """Fail if less than this fraction of operations succeeded during a kind of fault. See `available`."""
    __tracebackhide__ = True
    return _remember(history, available(history, during, at_least))

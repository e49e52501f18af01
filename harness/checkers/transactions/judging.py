"""The verdict on the transactions of a history: list-append and rw-register."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.checkers.transactions import consistency
from harness.checkers.transactions.cycles import search
from harness.checkers.transactions.found import Case, Found, Names, Sentence, Why
from harness.checkers.transactions.graph import PROCESS, REALTIME, Graph, by_process, by_time
from harness.checkers.transactions.list_append import APPENDS, Lists
from harness.checkers.transactions.list_reasons import Reasons
from harness.checkers.transactions.reading import OK, Transactions, told
from harness.checkers.transactions.rw_register import WRITES, Registers
from harness.checkers.vacuity import judged, missing
from harness.checkers.words import at, in_force
from harness.history import History
from harness.verdict import Edge, Verdict, Witness

Explain = Callable[[int, int, int], Why]


def list_append(history: History, model: str = consistency.STRICT) -> Verdict:
    """Judge transactions (``txn``) that append elements to lists and read them: ``["append", k, v]``, ``["r",
    k, [v, ...]]``.

    Finds every violation of serializability that the reads show, and of each weaker model that
    `consistency.MODELS` names by the anomalies that rule it out (`consistency.PROSCRIBES`); what is found but
    allowed is in the evidence, with the models that the history does ``not`` keep. Raises CheckError for an
    unknown model, for what is no such transaction, and where an element is appended to one key twice.

    >>> history = History.from_events([
    ...     {"index": 0, "type": "invoke", "process": 0, "f": "txn", "value": [["append", "x", 1]]},
    ...     {"index": 1, "type": "ok", "process": 0, "f": "txn", "value": [["append", "x", 1]]},
    ...     {"index": 2, "type": "invoke", "process": 1, "f": "txn", "value": [["r", "x", None]]},
    ...     {"index": 3, "type": "ok", "process": 1, "f": "txn", "value": [["r", "x", []]]}])
    >>> verdict = list_append(history)
    >>> list(verdict.evidence["anomalies"]), verdict.evidence["not"]
    (['G-single-realtime'], ['strong-snapshot-isolation'])
    >>> list_append(history, "serializable").judgement
    'unknown'
    """
    asked = consistency.named(model)
    transactions = Transactions(history, APPENDS)
    lists = Lists(transactions)
    reasons = Reasons(lists)
    lacking = []
    if not any(f == "append" for t in lists.members for f, _, _ in transactions.steps[t]):
        lacking.append("no append succeeded")
    elif not lists.read:
        lacking.append("no transaction that succeeded read anything; let the workload read what it appended")
    elif not lists.saw:
        lacking.append("no read saw any element")
    return _judged("list-append", history, asked, transactions, lists.members, lists.graph, lists.found,
                   reasons.why, lacking, shorter=reasons.shorter)  # fmt: skip


def rw_register(
    history: History, model: str = consistency.STRICT, *, sequential_keys: bool = False,
    linearizable_keys: bool = False,
) -> Verdict:  # fmt: skip
    """Judge transactions (``txn``) that write registers and read them: ``["w", k, v]``, ``["r", k, v]``.

    Like `list_append`, but a read tells less: what is found is there, and where each write of a key was read,
    or its writer had read the key before, nothing more is to be found. `sequential_keys` and
    `linearizable_keys` say that each key was promised to be so by itself, whatever the model: then the order
    in which processes, or all in real time, met its versions is theirs, and what contradicts it is a
    violation. Raises CheckError as `list_append` does, and where null or a key's initial value is written.
    """
    asked = consistency.named(model)
    transactions = Transactions(history, WRITES)
    registers = Registers(transactions, sequential_keys, linearizable_keys)
    lacking = []
    if not any(registers.last[t] for t in registers.members):
        lacking.append("no write succeeded")
    elif not registers.read:
        lacking.append("no transaction that succeeded read anything; let the workload read what it wrote")
    elif not registers.saw:
        lacking.append("no read saw what any transaction wrote")
    more = {"unordered_keys": registers.unordered}
    return _judged("rw-register", history, asked, transactions, registers.members, registers.graph,
                   registers.found, registers.why, lacking, more)  # fmt: skip


def _judged(
    checker: str, history: History, asked: str, transactions: Transactions, members: Sequence[int],
    graph: Graph, found: Found, why: Explain, lacking: list[str], more: Mapping[str, Any] | None = None,
    shorter: Callable[[Case], Case] = lambda case: case,
) -> Verdict:  # fmt: skip
    by_process(graph, members, transactions.process)
    by_time(graph, members, transactions.call, transactions.ret)
    search(graph, found)
    cases = found.cases()
    broken = [case for case in cases if case.promised or asked in consistency.ruled_out(_names(case))]
    names = [name for case in cases for name in _names(case)]
    impossible = consistency.ruled_out(names)
    least = consistency.weakest(impossible)
    evidence: dict[str, Any] = {
        "model": asked,
        "transactions": len(members),
        **(more or {}),
        "anomalies": {case.name: found.counts[case.name] for case in cases},
        "not": least,
        "also-not": [name for name in consistency.MODELS if name in impossible and name not in least],
    }
    if broken:
        case = min(map(shorter, broken), key=lambda case: len(case.transactions))  # of these the worst
        ruled_out = asked in consistency.ruled_out(_names(case))
        summary = f"{case.name}, which {asked} rules out"
        if not ruled_out:
            summary = f"{case.name}, which was not to be, whatever the model"
        return judged(
            _name(checker, asked), history, kept="", witness=(summary, _witness(transactions, case, why)),
            key=told(case.key), evidence=evidence,
        )  # fmt: skip
    kept = f"nothing rules out {asked}"
    if cases:
        kept += f", {cases[0].name} rules out {least[0]}" if least else ""
    if not any(o == OK for o in transactions.outcome):
        lacking = ["no transaction succeeded" if len(transactions) else "no transaction was invoked"]
    return judged(
        _name(checker, asked), history, kept=kept, evidence=evidence, lacking=[*missing(history), *lacking],
        general=False,
    )  # fmt: skip


def _name(checker: str, asked: str) -> str:
    return checker if asked == consistency.STRICT else f"{checker}:{asked}"


def _names(case: Case) -> tuple[str, ...]:
    return case.implies or (case.name,)


def _witness(transactions: Transactions, case: Case, why: Explain) -> Witness:
    index = transactions.index
    if case.text is not None:
        names = Names(transactions, case.transactions)
        sentence, shown = case.text(names), case.transactions
        start = transactions.history.columns.start[transactions.rows[case.culprit]]
        return Witness(
            sentence + in_force(transactions.history, start), tuple(sorted(map(index, shown))),
            index(case.culprit), _edges(index, names, case.edges),
        )  # fmt: skip
    reasons = list(_reasons(transactions, case, why))
    shown = tuple(sorted({*case.transactions, *(t for reason in reasons for t in reason.support)}))
    names = Names(transactions, shown)
    parts = []
    for place, reason in enumerate(reasons):
        begin = "but " if place == len(reasons) - 1 else ""
        one, other = names(reason.before), names(reason.after)
        parts.append(f"{begin}{one} < {other}, because {reason.text(names)}")
    start = transactions.history.columns.start[transactions.rows[case.culprit]]
    return Witness(
        "; ".join(parts) + in_force(transactions.history, start),
        tuple(sorted(map(index, shown))),
        index(case.culprit),
        _edges(index, names, reasons),
    )


def _edges(index: Callable[[int], int], names: Names, reasons: Sequence[Why]) -> tuple[Edge, ...]:
    return tuple(
        Edge(index(reason.before), index(reason.after), reason.text(names.plain)) for reason in reasons
    )


def _reasons(transactions: Transactions, case: Case, why: Explain) -> Iterator[Why]:
    after = [t for t, _ in case.cycle[1:]] + [case.cycle[0][0]]
    for (before, kind), to in zip(case.cycle, after, strict=True):
        if kind == PROCESS:
            yield Why(before, to, _one_after_the_other(before, to))
        elif kind == REALTIME:
            yield Why(before, to, _over_before(transactions, before, to))
        else:
            yield why(before, to, kind)


def _one_after_the_other(before: int, after: int) -> Sentence:
    return lambda name: f"one process ran {name(before)} before {name(after)}"


def _over_before(
    transactions: Transactions, before: int, after: int
) -> Callable[[Callable[[int], str]], str]:
    c = transactions.history.columns
    end, start = at(c.end[transactions.rows[before]], c.start[transactions.rows[after]])
    return lambda name: f"{name(before)} had ended at {end} when {name(after)} began at {start}"

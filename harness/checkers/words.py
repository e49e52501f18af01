"""How verdicts and operations read: a headline, a sentence, a small table.

Knows the words, not the reasons: a checker says why (`Witness.sentence`), this says how it looks.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from harness.history import NANOSECONDS, Fault, History, Operation
from harness.verdict import Verdict

ROWS = 20  # of a witness's table
FAULTS = 4  # named in a sentence

ADVICE = {
    "vacuous": "the run shows nothing: make it longer or faster, or check that client and target work at all",
    "time": "give the check a larger budget, or the run more keys or fewer clients: less happens at once",
    "memory": "give the check a larger budget, or the run more keys or fewer clients: less happens at once",
    "ambiguous": "let every write of a key have a value of its own, and see first that reads never go back",
    "crashed": "the checker itself failed: this is a bug, its text above says where",
}


def number(count: int, noun: str) -> str:
    """``2,391 operations``, ``1 operation``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def shown(value: Any) -> str:
    """A value as Python writes it, on one line, cut when it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text):,} characters)"


def key_of(key: Hashable) -> str:
    """A key, without quotes where they would say nothing."""
    return key if isinstance(key, str) and key.isidentifier() and len(key) <= 40 else shown(key)


def at(*times: int) -> list[str]:
    """Times in seconds with so many decimals that different ones look different, two at least."""
    for decimals in (2, 3, 6, 9):
        texts = [f"{time / NANOSECONDS:.{decimals}f} s" for time in times]
        if len(set(texts)) == len(set(times)):
            break
    return texts


def in_force(history: History, time: int) -> str:
    """``; n2 cut from n1, n3 since 2.01 s`` for what was in force at an instant, or nothing."""
    return _faults([fault for fault in history.in_force(time) if fault.start is not None])


def _faults(faults: Sequence[Fault]) -> str:
    texts = [f"; {fault.what or fault.kind} since {at(fault.start or 0)[0]}" for fault in faults[:FAULTS]]
    if len(faults) > FAULTS:
        texts.append(f"; {number(len(faults) - FAULTS, 'more fault')}")
    return "".join(texts)


def listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def headline(verdict: Verdict, history: History) -> str:
    """``INVALID: not linearizable   2,391 operations, 31 of unknown outcome``."""
    cause = f"{verdict.cause}: " if verdict.judgement == "unknown" else ""
    counts = f"{number(len(history), 'operation')}, {history.counts['info']:,} of unknown outcome"
    return f"{verdict.judgement.upper()}: {cause}{verdict.summary}   {counts}"


def text(verdict: Verdict, history: History) -> str:
    """All that a terminal shows of a verdict: headline, sentence, table of the witness, or what to do."""
    lines = [headline(verdict, history)]
    if verdict.witness is not None:
        lines.append(f"  {verdict.witness.sentence}")
        lines += [f"  {line}" for line in table(history, verdict.witness.operations, verdict.witness.culprit)]
    if verdict.judgement == "unknown":
        lines += [f"  {line}" for line in verdict.evidence.get("missing", ())[1:]]
        lines.append(f"  {ADVICE.get(verdict.cause, 'nobody can say whether the promise was kept')}")
    return "\n".join(lines)


def table(history: History, indexes: Sequence[int], culprit: int | None = None) -> list[str]:
    """Lines of a table of operations, the culprit marked; where they are many, the first are left out."""
    wanted = list(indexes)
    left_out = len(wanted) - ROWS
    if left_out > 0:
        wanted = sorted({*wanted[left_out:], *([culprit] if culprit is not None else [])})
    operations = {op.index: op for op in by_index(history, wanted)}
    head = ("", "index", "process", "node", "f", "key", "value -> result", "start-end (s)", "outcome")
    rows = [head]
    for index in wanted:
        if (op := operations.get(index)) is None:
            continue
        told = op.type == "ok" and (op.value is None or op.result != op.value)
        result = f" -> {shown(op.result)}" if told else ""
        start, *end = at(op.start, *([] if op.end is None else [op.end]))
        rows.append(
            (
                ">" if index == culprit else "", str(op.index), str(op.process), op.node or "-", op.f,
                "-" if op.key is None else key_of(op.key), f"{shown(op.value)}{result}",
                f"{start[:-2]}-{end[0][:-2] if end else '?'}",
                {"ok": "ok", "fail": "failed", "info": "unknown"}[op.type],
            )
        )  # fmt: skip
    used = [i for i in range(len(head)) if i in (0, 1) or any(row[i] != "-" for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in used}
    lines = [" ".join(row[i].ljust(widths[i]) for i in used).rstrip() for row in rows]
    return lines if left_out <= 0 else [*lines, f"  ({number(left_out, 'earlier operation')} not shown)"]


def by_index(history: History, indexes: Iterable[int]) -> list[Operation]:
    """The operations with these `Operation.index` numbers, in the order of the history."""
    wanted = set(indexes)
    return [history.operations[row] for row, index in enumerate(history.columns.index) if index in wanted]

"""The five questions of whoever opens the page, answered before anything else.

What broke (the headline of the page), which operation proves it, which fault was in force, how long until
recovery, how to run it again. What the history does not say is answered with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.history import NANOSECONDS, Fault, History, Operation
from harness.report.markup import Child, Markup, chip, el, joined
from harness.report.nodes import event_text
from harness.report.recovery import healthy, last_heal, recoveries, told
from harness.report.redact import Redact
from harness.report.text import counted, lasted, name_text, operation_text, seconds, shorten, visible
from harness.verdict import Verdict, worst

SHOWN = 3


def answers(
    history: History,
    verdicts: Sequence[Verdict],
    rows: Mapping[int, int],
    replay: str,
    troubled: bool,
    redact: Redact,
) -> Markup:
    """The answers as a list of terms; `rows` are the page's rows by operation index.

    `troubled` says that an error or a finding failed the run, beside its verdicts.
    """
    decided = worst(verdicts)
    operation = _proof(history, decided)
    faults = _in_force(history, decided, operation)
    then = "Fault in force then" if operation or faults else "Faults"
    asked: list[tuple[str, str, Child]] = [
        ("proof", "Which operation proves it", _which(history, decided, operation, rows, troubled, redact)),
        ("force", then, _faults(history, faults, operation, redact)),
        ("recovery", "Until recovery", _recovery(history, faults, redact)),
    ]  # fmt: skip
    if replay:
        code = el("code", replay, id="replay", tabindex=0)
        copy = el("button", "Copy", id="b-copy", type="button", aria_label="Copy the command")
        asked.append(("again", "Run it again", joined((code, copy))))
    return el(
        "dl",
        *(
            el("div", el("dt", question), el("dd", answer), id=f"answer-{name}")
            for name, question, answer in asked
        ),
        id="answers",
    )


def _proof(history: History, decided: Verdict | None) -> Operation | None:
    """The last word of the witness: its culprit, else its last operation."""
    if decided is None or decided.witness is None:
        return None
    witness = decided.witness
    index = (
        witness.culprit
        if witness.culprit is not None
        else witness.operations[-1]
        if witness.operations
        else None
    )
    row = (
        next((r for r, i in enumerate(history.columns.index) if i == index), None)
        if index is not None
        else None
    )
    return None if row is None else history.operations[row]


def _which(
    history: History,
    decided: Verdict | None,
    op: Operation | None,
    rows: Mapping[int, int],
    troubled: bool,
    redact: Redact,
) -> Child:
    if op is not None:
        assert decided is not None and decided.witness is not None
        where = "" if op.node is None else f" → {name_text(op.node, 24)}"
        key = "" if op.key is None else f" of {name_text(op.key, 24)}"
        when = f" at {seconds(op.end if op.end is not None else op.start)}" if op.start >= 0 else ""
        others = len(decided.witness.operations) - 1
        number = el("a", f"#{op.index}", href=f"#op={rows[op.index]}") if op.index in rows else f"#{op.index}"
        return joined(
            (
                el("b", number, f" {redact(shorten(operation_text(op), 60))}", class_="mono"),
                f"{key}, process {op.process}{where}{when}",
                f", against {counted(others, 'other')} below" if others > 0 else None,
            )
        )
    if decided is not None and decided.witness is not None and decided.witness.node_events:
        events = [history.events[k] for k in decided.witness.node_events if 0 <= k < len(history.events)]
        if events:
            text = shorten(event_text(events[-1]), 90)
            return redact(f"no operation: {events[-1].node} at {seconds(events[-1].time)}: {text}")
    if troubled and (decided is None or decided.judgement != "invalid"):
        return "no operation: the run itself failed, see below"
    if decided is None:
        return "none: nothing was judged"
    if decided.judgement == "unknown":
        return f"none: nothing is proven, cause {visible(decided.cause)[:40]}"
    if decided.judgement == "invalid":
        return "the checker names none"
    return f"none: no violation among {counted(len(history), 'operation')}"


def _in_force(history: History, decided: Verdict | None, op: Operation | None) -> list[Fault]:
    if op is not None:
        return history.in_force(op.start, op.end if op.end is not None else op.start)
    if decided is not None and decided.witness is not None:
        times = [history.events[k].time for k in decided.witness.node_events if 0 <= k < len(history.events)]
        return history.in_force(times[-1]) if times else []
    return []


def _faults(history: History, faults: Sequence[Fault], op: Operation | None, redact: Redact) -> Child:
    if faults:
        lines: list[Child] = [_fault(fault, history, redact) for fault in faults[:SHOWN]]
        more = len(faults) - SHOWN
        return joined(
            (*lines, el("div", f"and {counted(more, 'more fault')}", class_="dim") if more > 0 else None)
        )
    seen = [fault for fault in history.faults if fault.start is not None]
    if not seen:
        return "none was started" if not history.faults else "none was observed to take effect"
    if op is None:
        kinds = ", ".join(list(dict.fromkeys(visible(f.kind)[:40] for f in seen))[:5])
        return f"{len(seen)} of {len(history.faults)} took effect: {kinds}"
    before = [fault for fault in seen if fault.end is not None and fault.end < op.start]
    if not before:
        return "none: it happened without a fault"
    last = max(before, key=lambda fault: fault.end or 0)
    since = lasted((op.start - (last.end or 0)) / NANOSECONDS)
    return joined((f"none; {since} after this one was healed:", _fault(last, history, redact)))


def _fault(fault: Fault, history: History, redact: Redact) -> Markup:
    number = history.faults.index(fault)
    until = "never healed" if fault.end is None else f"to {seconds(fault.end)}"
    name = chip(visible(fault.kind)[:40], redact(shorten(visible(fault.what), 70)))
    how = f", {redact(shorten(visible(fault.mechanism), 40))}" if fault.mechanism else ""
    return el(
        "div", el("a", name, href=f"#fault={number}", class_="plain"), f" {seconds(fault.start)} {until}{how}"
    )


def _recovery(history: History, faults: Sequence[Fault], redact: Redact) -> Child:
    found = recoveries(history)
    recovery = last_heal(found, faults)
    if recovery is None:
        open_ = [fault for fault in history.faults if fault.start is not None and fault.end is None]
        if open_:
            return (
                f"never: {redact(shorten(visible(open_[0].what or open_[0].kind), 60))} was not seen to heal"
            )
        return "nothing to recover from: no fault was healed"
    parts: list[Child] = [
        el("b", told(recovery)),
        f" after the heal at {seconds(recovery.fault.end)}" if recovery.lasted is not None else None,
        f", {counted(recovery.others, 'other fault')} still in force" if recovery.others else None,
    ]
    if word := healthy(history):
        parts.append(el("div", f"cluster {word}"))
    if len(found) > 1:
        slowest = max((r.lasted for r in found if r.lasted is not None), default=None)
        text = f"{len(found):,} heals" + (
            "" if slowest is None else f", the slowest took {lasted(slowest / NANOSECONDS)}"
        )
        parts.append(el("div", el("a", text, href="#recovery")))
    return joined(parts)

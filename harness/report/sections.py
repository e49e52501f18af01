"""What a page says in words, section by section: there before any script runs, and without one."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from harness.history import NANOSECONDS, OUTCOMES, Fault, History
from harness.report.coverage import overlapping
from harness.report.markup import Child, Markup, bar, chip, el, joined, judged, link, pairs, table
from harness.report.redact import Redact
from harness.report.text import DASH, counted, lasted, name_text, seconds, shorten
from harness.verdict import Verdict

LISTED_FAULTS = 400
PERIODS = 20
ADVICE = {
    "vacuous": "The run did not test what it was meant to test, so that nothing was found means nothing. "
    "Let the workload run for as long as the plan does, and see that each kind of operation succeeds once.",
    "time": "The checker ran out of time. Operations of unknown outcome are what makes a history hard: each "
    "may take effect at any later time. A shorter run, more keys, fewer time-outs or a larger budget decide "
    "it; the raw history can be checked again without a cluster.",
    "memory": "The checker ran out of memory. Operations of unknown outcome are what makes a history hard. "
    "A shorter run, more keys or fewer time-outs decide it; the raw history can be checked again.",
    "ambiguous": "The history does not tell what happened: a value that was read may be of more than one "
    "write, or reads that went back say nothing of the order of writes. Let every write of a key have a "
    "value of its own, and see first that reads never go back.",
    "crashed": "The checker itself failed, which says nothing about the target. "
    "The raw history can be checked again.",
}


def totals(history: History) -> Markup:
    """Number of operations, by outcome."""
    counts = history.counts
    words = [
        el("span", el("b", f"{counts[name]:,}"), f" {name}", class_=f"outcome {name}") for name in OUTCOMES
    ]
    noun = " operation" if len(history) == 1 else " operations"
    return joined((el("p", el("b", f"{len(history):,}"), noun), bar((n, counts[n]) for n in OUTCOMES),
                   el("p", *words, class_="counts")))  # fmt: skip


def facts(history: History, history_link: str, redact: Redact) -> Markup:
    """What one wants to know of a run at a glance; what the header does not say is left out."""
    header, faults = history.header, history.faults
    seen = sum(1 for f in faults if f.start is not None)
    items: list[tuple[str, Child]] = [
        (name, redact(name_text(header[name]))) for name in ("seed",) if header.get(name) is not None
    ]
    if name := plan_name(header):
        items.append(("plan", redact(shorten(name, 60))))
    items.append(("duration", f"{history.duration:.1f} s"))
    if faults:
        items.append(
            (
                "faults",
                f"{seen} of {len(faults)} took effect" if seen < len(faults) else f"{seen}, all took effect",
            )
        )
    for name in ("runtime", "target"):
        if header.get(name):
            items.append((name, redact(name_text(header[name], 32))))
    if history_link:
        items.append(
            (
                "raw history",
                el("a", history_link.replace("\\", "/").rsplit("/", 1)[-1], href=link(history_link)),
            )
        )
    return joined(el("div", el("dt", name), el("dd", value)) for name, value in items)


def plan_name(header: Mapping[str, Any]) -> str:
    """The plan's name, if it has one."""
    plan = header.get("plan")
    name = plan.get("name") if isinstance(plan, Mapping) else None
    return name_text(name) if name else ""


def checked(history: History) -> Markup:
    """In place of a witness, where nothing was violated: what was looked at."""
    if not len(history):
        return el("p", "No operation was recorded, so there was nothing to judge.", class_="sentence")
    touched = overlapping(history)
    proven = sum(1 for f in history.faults if f.start is not None)
    words = f"No violation among {counted(len(history), 'operation')}."
    if history.faults:
        words += (
            f" {touched:,} of them overlapped a fault; {proven} of {len(history.faults)} faults took effect."
        )
    return el("p", words, class_="sentence")


def undecided(verdict: Verdict, redact: Redact) -> Markup:
    """Why a verdict is unknown, and what to do."""
    cause = judged("unknown", f"unknown, cause: {verdict.cause}")
    advice = ADVICE.get(verdict.cause)
    return joined((el("p", cause, f" {redact(shorten(verdict.summary, 600))}", class_="sentence"),
                   el("p", advice, class_="prose") if advice else None))  # fmt: skip


def verdict_table(verdicts: Sequence[Verdict], redact: Redact) -> Markup:
    """Every verdict with its evidence."""
    if not verdicts:
        return el("p", "Nothing was judged. A chaos test that judges nothing has shown nothing.")

    def evidence(verdict: Verdict) -> Child:
        items = list(verdict.evidence.items())[:40]
        return pairs((name_text(k, 60), redact(_told(v))) for k, v in items) if items else "none given"

    rows = [
        (
            judged(verdict.judgement),
            el("b", verdict.checker),
            redact(shorten(verdict.summary, 600)) + (f" (cause: {verdict.cause})" if verdict.cause else ""),
            None if verdict.key is None else name_text(verdict.key),
            evidence(verdict),
        )
        for verdict in verdicts
    ]
    return table("Verdicts", ("verdict", "checker", "summary", "key", "evidence"), rows, "cards")


def _told(value: Any) -> str:
    """A value of a verdict's evidence, its digits grouped where it is a count."""
    return f"{value:,}" if type(value) is int and abs(value) < 10**18 else name_text(value, 400)


def fault_table(faults: Sequence[Fault], redact: Redact) -> Markup:
    """What was asked beside what was observed, how it was done and what proves it."""
    if not faults:
        return el("p", "No fault was started.")
    rows = []
    for k, fault in enumerate(faults[:LISTED_FAULTS]):
        asked_start, asked_end = asked(fault)
        late = [
            f"{(seen / NANOSECONDS - due) * 1000:+,.0f} ms"
            for seen, due in ((fault.start, asked_start), (fault.end, asked_end))
            if seen is not None and due is not None
        ]
        observed: Child = judged("error", "never observed")
        if fault.start is not None:
            healed: Child = (
                f"{seconds(fault.end)}" if fault.end is not None else judged("error", "not seen to heal")
            )
            observed = joined((f"{seconds(fault.start)} {DASH} ", healed))
        healing = (
            f"healed: {fault.healed}" if fault.healed not in ("", fault.proof) else ""
        )  # an instant one is both
        proof = [el("div", redact(shorten(text, 600))) for text in (fault.proof, healing) if text]
        if fault.error:
            proof.append(el("div", judged("error", "error"), f" {redact(shorten(fault.error, 1000))}"))
        name = el("a", chip(fault.kind, redact(shorten(fault.what, 200))), href=f"#fault={k}", class_="plain")
        how = redact(shorten(fault.mechanism, 200)) or DASH
        rows.append(
            (
                name,
                span_text(asked_start, asked_end),
                observed,
                ", ".join(late) or DASH,
                how,
                joined(proof) or "none",
            )
        )
    head = ("fault", "asked", "observed", "late by", "mechanism", "proof")
    cut = len(faults) - LISTED_FAULTS
    return joined(
        (
            table("Faults", head, rows, "cards faults"),
            el(
                "p",
                f"The first {LISTED_FAULTS}; {counted(cut, 'more fault')} in the raw history.",
                class_="hint",
            )
            if cut > 0
            else None,
        )
    )


def asked(fault: Fault) -> tuple[float | None, float | None]:
    """The plan's own times in seconds; an imported history may hold anything there."""
    times = [
        float(t) if isinstance(t, (int, float)) and abs(t) < 1e9 else None for t in (*fault.asked, None, None)
    ]
    return times[0], times[1]


def span_text(start: float | None, end: float | None) -> str:
    """A stretch of time in seconds, open where nothing ends it."""
    begin = "?" if start is None else f"{start:.3f} s"
    return f"{begin} {DASH} {'until healed' if end is None else f'{end:.3f} s'}"


def plan_text(header: Mapping[str, Any], redact: Redact) -> Markup:
    """The plan as code, an entry a line."""
    plan = header.get("plan")
    code = plan.get("repr") if isinstance(plan, Mapping) else plan
    if not code:
        return el("p", "This history names no plan.")
    return el("pre", redact(shorten(unfolded(str(code)), 20_000)), class_="scroll", tabindex=0)


def unfolded(code: str) -> str:
    """A call as code with one argument a line; anything else as it is (it is parsed, never run).

    >>> print(unfolded("Plan(at(1, kill('n1')), name='one')"))
    Plan(
        at(1, kill('n1')),
        name='one',
    )
    """
    if len(code) > 20_000 or "\n" in code:
        return code
    try:
        call = ast.parse(code, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return code
    if not isinstance(call, ast.Call) or not (call.args or call.keywords):
        return code
    source = code.encode()  # positions count bytes of UTF-8
    parts: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
    lines = [
        f"    {source[p.col_offset : p.end_col_offset].decode()},\n"
        for p in sorted(parts, key=lambda p: p.col_offset)
    ]
    return f"{source[call.func.col_offset : call.func.end_col_offset].decode()}(\n{''.join(lines)})"


def environment(history: History, variables: Mapping[str, str], redact: Redact) -> Markup:
    """What ran where: the header's facts, the notes, then `variables`, already redacted."""
    header = history.header
    items: list[tuple[str, str]] = []
    for name in ("target", "runtime", "why", "nodes", "model", "checks", "began"):
        if header.get(name):
            items.append((name, redact(name_text(header[name], 600))))
    versions = header.get("versions")
    if isinstance(versions, Mapping):
        items += [(name_text(k, 80), redact(name_text(v, 200))) for k, v in list(versions.items())[:100]]
    parts: list[Child] = [pairs(items) if items else el("p", "Nothing was recorded of it.")]
    if history.notes:
        texts = [el("li", redact(shorten(text, 600))) for text in history.notes[:100]]
        parts.append(el("ul", *texts, class_="notes"))
    if variables:
        shown = pairs((name_text(k, 80), name_text(v, 600)) for k, v in sorted(variables.items())[:400])
        title = f"{counted(len(variables), 'environment variable')} of the test process, secrets blanked"
        parts.append(el("details", el("summary", title), shown))
    return joined(parts)


def legend(
    history: History, verdicts: Sequence[Verdict], rivals: bool, logs: Sequence[tuple[str, str]] = ()
) -> Markup:
    """What the marks that are drawn mean: each has a shape, none rests on colour alone.

    `logs` are those of log lines, as `logged` gives them.
    """
    words = [
        ("ok", "ok: happened"),
        ("fail", "fail: did not happen"),
        ("info", "info: unknown, may happen later"),
    ]
    counts = history.counts
    words = [(name, text) for name, text in words if counts[name]]
    if any(v.witness and v.witness.operations for v in verdicts):
        words.append(("anomaly", "anomaly"))
    parts: list[Child] = [el("span", text, class_=f"outcome {name}") for name, text in words]
    parts += [chip(kind) for kind in dict.fromkeys(fault.kind for fault in history.faults[:50])][:16]
    if rivals:
        parts.append(el("span", "two lead at once", class_="outcome rivals"))
    parts += [el("span", text, class_=f"outcome {name}") for name, text in logs]
    return joined(parts)


def periods(history: History) -> Markup:
    """The charts as a table: the run in equal stretches."""
    c, total = history.columns, history.duration
    if not len(c) or total <= 0 or min(c.start) < 0:
        return el("p", "Nothing to show: no operation with a time was recorded.")
    width = total / PERIODS * NANOSECONDS
    tallies = [[0] * len(OUTCOMES) for _ in range(PERIODS)]
    times: list[list[int]] = [[] for _ in range(PERIODS)]
    for start, end, kind in zip(c.start, c.end, c.type, strict=True):
        k = min(int(start / width), PERIODS - 1)
        tallies[k][kind] += 1
        if end >= 0 and kind == 0:
            times[k].append(end - start)

    def quantile(values: list[int], share: float) -> str:
        return (
            lasted(values[min(int(share * len(values)), len(values) - 1)] / NANOSECONDS) if values else DASH
        )

    rows = []
    for k, (tally, took) in enumerate(zip(tallies, times, strict=True)):
        took.sort()
        force = dict.fromkeys(f.kind for f in history.in_force(int(k * width), int((k + 1) * width)))
        counts = [f"{n:,}" for n in (sum(tally), *tally)]
        latency = [quantile(took, share) for share in (0.5, 0.95, 0.99)]
        rows.append((seconds(int(k * width), 2), *counts, *latency, ", ".join(list(force)[:8]) or "none"))
    return table(
        "The charts as a table",
        ("from", "operations", *OUTCOMES, "p50", "p95", "p99", "faults in force"),
        rows,
    )


def findings(texts: Sequence[str], error: str, redact: Redact) -> Markup | None:
    """What fails the run beside its verdicts."""
    if not texts and not error:
        return None
    items = [
        el("li", judged("error", "finding"), el("pre", redact(shorten(text, 4000)))) for text in texts[:50]
    ]
    if len(texts) > 50:
        items.append(el("li", f"and {len(texts) - 50:,} more"))
    crash = (
        el(
            "div",
            el("p", judged("error", "the run ended early")),
            el("pre", redact(shorten(error, 8000)), class_="scroll", tabindex=0),
        )
        if error
        else None
    )
    title = el("h2", "What failed beside the verdicts" if texts else "The error", id="h-findings")
    listed = el("ul", *items, class_="findings") if items else None
    return el("section", title, crash, listed, id="findings", aria_labelledby="h-findings")

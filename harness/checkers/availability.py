"""Whether the system served: again soon after each heal, and how much of the time while faults were in force.

Promises about time rather than about values: nothing here says that an answer was right.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.checkers.model import CheckError
from harness.checkers.vacuity import judged
from harness.checkers.words import at, in_force, listed, number
from harness.history import NANOSECONDS, Fault, History, Operation
from harness.verdict import Verdict, Witness

SHOWN = 10  # operations in a witness


def recovers(history: History, within: float) -> Verdict:
    """After each heal that leaves no fault in force, some operation of every kind succeeds `within` seconds.

    A kind that nobody tried in that time is not judged by that heal, nor is one without success by a heal
    that another fault or the end of the run followed too soon. With nothing left to judge, or with a kind
    that was tried but that no heal could judge, the verdict is unknown. Raises CheckError where `within` is
    not positive.
    """
    if not within > 0:
        raise CheckError(f"within={within!r} must be a number of seconds above 0")
    span = round(within * NANOSECONDS)
    operations = [op for op in history.operations if not op.final]
    kinds = list(dict.fromkeys(op.f for op in operations))
    last = max((max(op.start, op.end or 0) for op in operations), default=0)
    judgements = 0
    seen: set[str] = set()  # kinds that some heal judged
    unseen: dict[str, tuple[int, str]] = {}  # of those tried: the longest time after a heal, and why not
    for fault in sorted((f for f in history.faults if f.end is not None), key=lambda f: f.end or 0):
        heal = fault.end or 0
        if any(_holds_after(other, heal) for other in history.faults if other.id != fault.id):
            continue
        until = min(
            [heal + span, *(f.start for f in history.faults if f.start is not None and f.start > heal)]
        )
        for kind in kinds:
            tried = [
                op for op in operations
                if op.f == kind and op.start <= until and (op.start >= heal or (op.end or 0) >= heal)
            ]  # fmt: skip
            good = [op for op in tried if op.type == "ok" and op.end is not None and heal <= op.end <= until]
            if good:
                judgements += 1
                seen.add(kind)
            elif tried and until == heal + span and last >= until:
                return _not_recovered(history, fault, kind, within, heal, tried, operations)
            elif tried and (had := min(until, last) - heal) > unseen.get(kind, (-1, ""))[0]:
                unseen[kind] = (had, _too_soon(fault, kind, span, heal, had, last > until, len(tried)))
    lacking = [why for kind, (_, why) in unseen.items() if kind not in seen]
    if not judgements and not lacking:
        lacking = [f"no heal was followed by {within:g} s of operations without a fault"]
    return judged(
        "recovers", history, kept=f"recovers within {within:g} s",
        evidence={"judged": judgements, "within": within},
        lacking=lacking, general=False,
    )  # fmt: skip


def _holds_after(fault: Fault, time: int) -> bool:
    return fault.start is not None and fault.start <= time and (fault.end is None or fault.end > time)


def _too_soon(fault: Fault, kind: str, span: int, heal: int, had: int, faulty: bool, tried: int) -> str:
    """Why a heal could not judge a kind without success: the run, or (`faulty`) the peace, ended too soon."""
    what = fault.what or fault.kind
    text = f"no {kind} succeeded after {what} healed at {at(heal)[0]}: {tried:,} tried, but "
    short, asked = at(had, span)
    if faulty:
        return text + (
            f"the next fault came {short} after it, within the {asked} asked: "
            "give the run a longer duration, and the faults more time between them"
        )
    return text + f"the run went on for only {short} of the {asked} asked: give it a longer duration"


def _not_recovered(
    history: History, fault: Fault, kind: str, within: float, heal: int, tried: Sequence[Operation],
    operations: Sequence[Operation],
) -> Verdict:  # fmt: skip
    later = min(
        (
            op.end
            for op in operations
            if op.f == kind and op.type == "ok" and op.end is not None and op.end > heal
        ),
        default=None,
    )
    healed, *then = at(heal, *([] if later is None else [later]))
    text = (
        f"no {kind} succeeded within {within:g} s after {fault.what or fault.kind} healed at {healed}: "
        f"{len(tried):,} tried, the next success came "
        + (f"at {then[0]}" if then else "never")
    )  # fmt: skip
    shown = tried[-SHOWN:]
    witness = Witness(text, tuple(op.index for op in shown), shown[-1].index)
    return judged(
        "recovers", history, kept="", witness=("did not recover", witness), evidence={"within": within}
    )


def available(history: History, during: str, at_least: float = 0.9) -> Verdict:
    """Of the operations invoked while a fault of kind `during` was in force, this fraction succeeded.

    Without such a fault, or without an operation in its time, the verdict is unknown. Raises CheckError where
    `at_least` is no fraction.
    """
    if not 0 < at_least <= 1:
        raise CheckError(f"at_least={at_least!r} must be a fraction above 0, at most 1")
    faults = [fault for fault in history.faults if fault.kind == during and fault.start is not None]
    meant = [op for op in history.operations if any(fault.overlaps(op.start, op.start) for fault in faults)]
    good = sum(1 for op in meant if op.type == "ok")
    evidence = {"during": during, "invoked": len(meant), "ok": good, "at_least": at_least}
    if meant and good < at_least * len(meant):
        bad = [op for op in meant if op.type != "ok"]
        text = (
            f"{good:,} of {number(len(meant), 'operation')} invoked during {during} succeeded "
            f"({good / len(meant):.1%}), fewer than the {at_least:.1%} asked; the first that did not is "
            f"process {bad[0].process}'s {bad[0].f} at {at(bad[0].start)[0]}{in_force(history, bad[0].start)}"
        )
        witness = Witness(text, tuple(op.index for op in bad[:SHOWN]), bad[0].index)
        return judged("available", history, kept="", witness=("not available", witness), evidence=evidence)
    lacking = []
    if not faults:
        kinds = list(dict.fromkeys(f.kind for f in history.faults))
        seen = f"it had {listed(kinds)}" if kinds else "it had none"
        lacking.append(f"no {during} was in force in this run; {seen}")
    elif not meant:
        lacking.append(f"no operation was invoked during {during}")
    return judged(
        "available",
        history,
        kept=f"available during {during}",
        evidence=evidence,
        lacking=lacking,
        general=False,
    )

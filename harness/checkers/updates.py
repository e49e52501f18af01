"""Lost updates and lost writes: what was acknowledged must not be undone by others' work or forgotten.

Differs from linearizability in that each looks for one anomaly in workloads made to show it, in linear time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

from harness.checkers.model import CheckError, identity
from harness.checkers.set_full import Elements, absences, elements_of, phantoms, seen
from harness.checkers.spans import Span
from harness.checkers.vacuity import judged
from harness.checkers.words import at, in_force, key_of, listed, number, shown
from harness.history import History, Operation
from harness.verdict import Verdict, Witness

UPDATES = ("rmw", "write", "cas", "read")  # what no_lost_update can judge
SHOWN = 8  # nodes' readings in a witness


def no_lost_update(history: History) -> Verdict:
    """No two acknowledged read-modify-writes (``rmw``, result ``[read, written]``) of a key share a read.

    A value that others left several times, also by ``write`` or ``cas``, may be read and replaced as often.
    An ``rmw`` of unknown outcome is taken to have left something new, as counters and unique values do.
    Raises CheckError where the result of one is no pair, and where any operation is none of these and no
    ``read``: nobody knows what it left.
    """
    groups: dict[tuple[Hashable, Hashable], list[Operation]] = {}  # (key, what was read) -> acknowledged
    left: Counter[tuple[Hashable, Hashable]] = Counter()  # how often a value of a key was left
    sources: dict[tuple[Hashable, Hashable], list[int]] = {}
    invoked = acknowledged = 0
    for op in history.operations:
        _known(op, UPDATES, "lost updates")
        key = identity(op.key)
        if op.f in ("write", "cas") and op.type != "fail":
            for value in _left(op):
                left[key, value] += 1
                sources.setdefault((key, value), []).append(op.index)
        if op.f != "rmw":
            continue
        invoked += 1
        if op.type != "ok":
            continue
        acknowledged += 1
        if not isinstance(op.result, tuple) or len(op.result) != 2:
            raise CheckError(f"operation {op.index}, 'rmw', reported {op.result!r}: expected [read, written]")
        read, written = map(identity, op.result)
        if read != written:
            groups.setdefault((key, read), []).append(op)
            left[key, written] += 1
            sources.setdefault((key, written), []).append(op.index)
    lost = [
        (place, sorted(group, key=_ending))
        for place, group in groups.items()
        if len(group) > max(1, left[place] + (place[1] == identity(None)))
    ]
    evidence = {"updates": acknowledged, "lost": len(lost)}
    if not lost:
        lacking = [] if invoked else ["no rmw was invoked"]
        return judged("no-lost-update", history, kept="no update lost", evidence=evidence, lacking=lacking)
    (place, group) = min(lost, key=lambda found: _ending(found[1][_spare(left, found[0])]))
    group = group[: _spare(left, place) + 1]
    last, before = group[-1], group[-2]
    when, earlier = at(last.end or 0, before.end or 0)
    old, new = last.result
    of = "" if last.key is None else f" of {key_of(last.key)}"
    text = (
        f"process {last.process}'s update{of} from {shown(old)} to {shown(new)}, acknowledged at {when}, "
        f"was built on the same read as process {before.process}'s to {shown(before.result[1])}, "
        f"acknowledged at {earlier}"
    )
    if len(group) > 2:
        text += f": {len(group)} updates from a value that was left {len(group) - 1} times"
    operations = sorted({*(op.index for op in group), *sources.get(place, ())})
    witness = Witness(text + in_force(history, last.start), tuple(operations), last.index)
    return judged(
        "no-lost-update", history, kept="", witness=("update lost", witness), key=last.key, evidence=evidence
    )


def _known(op: Operation, fs: tuple[str, ...], what: str) -> None:
    if op.f not in fs:
        raise CheckError(
            f"operation {op.index} is {op.f!r}; {what} can be judged where all operations are {listed(fs)}, "
            "since nobody knows what another one does to the values"
        )


def _left(op: Operation) -> list[Hashable]:
    """What a write or cas may have left that was not there before."""
    if op.f == "write":
        return [identity(op.value)]
    if not isinstance(op.value, tuple) or len(op.value) != 2:
        raise CheckError(f"operation {op.index}, 'cas' of {op.value!r}: a cas has [old, new]")
    old, new = map(identity, op.value)
    return [] if old == new else [new]


def _ending(op: Operation) -> tuple[int, int]:
    return (op.end or 0, op.index)


def _spare(left: Counter[tuple[Hashable, Hashable]], place: tuple[Hashable, Hashable]) -> int:
    """How many updates of a value can have been right: as often as it was left, at least once."""
    return max(1, left[place] + (place[1] == identity(None)))


def no_lost_write(history: History) -> Verdict:
    """Every acknowledged ``add`` is in every final ``read`` of every node, and nothing is that nobody added.

    Differs from `set_full` in that only final reads, operations with `final`, and acknowledged adds are asked
    for: an element counts where its ``add`` was acknowledged before the read began. Missing from any final
    read of a node, it is lost there, and the sentence says where. Raises CheckError where a read reports no
    list of elements, and where any operation is neither ``add`` nor ``read``: it may have put elements there
    or taken them away.
    """
    sets = elements_of(history, "lost writes", ("add", "read"))
    nodes: dict[str, bool] = {}  # whether it has a final read
    for op in history.operations:
        if op.node is not None:
            nodes[op.node] = nodes.get(op.node, False) or (op.f == "read" and op.type == "ok" and op.final)
    finals = [[read for read in elements.reads if read.op.final] for elements in sets]
    read_twice = sum(
        1 for reads in finals for read in reads for count in Counter(seen(read)).values() if count > 1
    )
    evidence = {
        "acknowledged": sum(len(elements.acknowledged()) for elements in sets),
        "final_reads": sum(map(len, finals)),
        "read_twice": read_twice,
    }
    found: tuple[str, Witness, Any, int] | None = None  # summary, witness, key, how many anomalies
    if unexpected := [anomaly for elements in sets for anomaly in phantoms(elements)]:
        first = min(unexpected, key=lambda anomaly: anomaly.place)
        op = first.culprit.op
        indexes = tuple(sorted({op.index, *first.others}))
        witness = Witness(first.say() + in_force(history, op.start), indexes, op.index)
        found = ("unexpected element read", witness, op.key, len(unexpected))
    else:
        found = _lost(history, [*zip(sets, finals, strict=True)])
    if found is not None:
        summary, witness, key, count = found
        return judged(
            "no-lost-write", history, kept="", witness=(summary, witness), key=key,
            evidence={**evidence, "anomalies": count},
        )  # fmt: skip
    lacking = [] if any(elements.adds for elements in sets) else ["no add was invoked"]
    if not any(finals):
        lacking.append("the final reads never came")
    elif silent := [node for node, came in nodes.items() if not came and any(nodes.values())]:
        lacking.append(f"no final read on {listed(silent)} succeeded")
    return judged("no-lost-write", history, kept="no write lost", evidence=evidence, lacking=lacking)


def _lost(history: History, sets: list[tuple[Elements, list[Span]]]) -> tuple[str, Witness, Any, int] | None:
    """An acknowledged element that is missing from a final read."""
    lost = [
        (known[element], finals, element, missing)
        for elements, finals in sets
        for known in (elements.acknowledged(),)
        for element, missing in absences(known, finals).items()
    ]
    if not lost:
        return None
    first, finals, element, missing = min(lost, key=lambda found: _ending(found[0].op))
    add, absent = first.op, [read.op for read in missing]
    present = [read.op for read in finals if read.call > first.ret and element in seen(read)]
    text = f"process {add.process}'s add of {shown(add.value)}"
    text += "" if add.key is None else f" to {key_of(add.key)}"
    gone = _places(absent)
    kept = [place for place in _places(present) if place not in gone]
    text += f", acknowledged at {at(add.end or 0)[0]}, is missing from "
    text += f"the final reads of {listed(gone)}" if gone else "the final reads"
    if kept:
        text += f" ({listed(kept)} {'has' if len(kept) == 1 else 'have'} it)"
    elif gone and not present:
        text += ": no node has it" if len(gone) > 1 else ""
    shown_reads = {op.node: op.index for op in reversed([*present[:1], *absent[:SHOWN]])}
    culprit = absent[0].index
    operations = sorted({add.index, culprit, *shown_reads.values()})
    witness = Witness(text + in_force(history, add.start), tuple(operations), culprit)
    return (f"{number(len(lost), 'acknowledged write')} lost", witness, add.key, len(lost))


def _places(reads: Iterable[Operation]) -> list[str]:
    return list(dict.fromkeys(op.node for op in reads if op.node is not None))

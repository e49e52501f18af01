"""Lost updates and lost writes: what was acknowledged must not be undone by others' work or forgotten.

Differs from linearizability in that each looks for one anomaly in workloads made to show it, in linear time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from harness.checkers.model import CheckError, identity
from harness.checkers.vacuity import judged
from harness.checkers.words import at, in_force, key_of, listed, number, shown
from harness.history import History, Operation
from harness.verdict import Verdict, Witness

UPDATES = ("rmw", "write", "cas", "read")  # what no_lost_update can judge
SETS = ("add", "read")  # what no_lost_write can judge
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

    Final reads are operations with `final`; an element counts where its ``add`` was acknowledged before the
    read began. Missing from any final read of a node, it is lost there, and the sentence says where. Raises
    CheckError where a read reports no list of elements, and where any operation is neither ``add`` nor
    ``read``: it may have put elements there or taken them away.
    """
    adds: dict[tuple[Hashable, Hashable], list[Operation]] = {}
    reads: list[tuple[Operation, Counter[Hashable]]] = []
    nodes: dict[str, bool] = {}  # whether it has a final read
    for op in history.operations:
        _known(op, SETS, "lost writes")
        if op.node is not None:
            nodes.setdefault(op.node, False)
        if op.f == "add":
            adds.setdefault((identity(op.key), identity(op.value)), []).append(op)
        elif op.f == "read" and op.type == "ok":
            reads.append((op, Counter(map(identity, _elements(op)))))
            if op.final and op.node is not None:
                nodes[op.node] = True
    finals = [(read, elements) for read, elements in reads if read.final]
    found = _unexpected(history, adds, reads) or _lost(history, adds, finals)
    evidence = {
        "acknowledged": sum(1 for added in adds.values() if any(op.type == "ok" for op in added)),
        "final_reads": len(finals),
        "read_twice": sum(1 for _, elements in finals for count in elements.values() if count > 1),
    }
    if found is not None:
        summary, witness, key, count = found
        return judged(
            "no-lost-write", history, kept="", witness=(summary, witness), key=key,
            evidence={**evidence, "anomalies": count},
        )  # fmt: skip
    lacking = [] if adds else ["no add was invoked"]
    if not finals:
        lacking.append("the final reads never came")
    elif silent := [node for node, came in nodes.items() if not came and any(nodes.values())]:
        lacking.append(f"no final read on {listed(silent)} succeeded")
    return judged("no-lost-write", history, kept="no write lost", evidence=evidence, lacking=lacking)


def _elements(op: Operation) -> tuple[Any, ...]:
    if op.result is None:
        return ()
    if not isinstance(op.result, tuple):
        raise CheckError(f"operation {op.index}, 'read', reported {op.result!r}: expected a list of elements")
    return op.result


Found = tuple[str, Witness, Any, int]  # summary, witness, key, how many anomalies


def _unexpected(
    history: History, adds: dict[tuple[Hashable, Hashable], list[Operation]],
    reads: Iterable[tuple[Operation, Counter[Hashable]]],
) -> Found | None:  # fmt: skip
    """An element that was read although nobody had added it by then."""
    found: list[tuple[Operation, Any, list[Operation]]] = []
    for read, elements in reads:
        for element in _elements(read):
            added = adds.get((identity(read.key), identity(element)), [])
            if identity(element) in elements and not any(
                op.type != "fail" and op.start <= (read.end or 0) for op in added
            ):
                found.append((read, element, added))
    if not found:
        return None
    read, element, added = min(found, key=lambda f: _ending(f[0]))
    where = "" if read.node is None else f" on {read.node}"
    of = "" if read.key is None else f" of {key_of(read.key)}"
    text = f"process {read.process} read {shown(element)}{of}{where} at {at(read.start)[0]}"
    if not added:
        text += ", an element that nobody added"
    elif all(op.type == "fail" for op in added):
        text += f" although process {added[-1].process}'s add of it was reported as failed"
    else:
        first = next(op for op in added if op.type != "fail")
        end, when = at(read.end or 0, first.start)
        text = (
            f"process {read.process} read {shown(element)}{of}{where} by {end}, "
            f"before process {first.process}'s add of it was invoked at {when}"
        )
    operations = sorted({read.index, *(op.index for op in added)})
    witness = Witness(text + in_force(history, read.start), tuple(operations), read.index)
    return ("unexpected element read", witness, read.key, len(found))


def _lost(
    history: History, adds: dict[tuple[Hashable, Hashable], list[Operation]],
    finals: list[tuple[Operation, Counter[Hashable]]],
) -> Found | None:  # fmt: skip
    """An acknowledged element that is missing from a final read."""
    lost = list(_missing(adds, finals))
    if not lost:
        return None
    add, absent, present = min(lost, key=lambda found: _ending(found[0]))
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


def _missing(
    adds: dict[tuple[Hashable, Hashable], list[Operation]], finals: list[tuple[Operation, Counter[Hashable]]]
) -> Iterator[tuple[Operation, list[Operation], list[Operation]]]:
    """(add, final reads without its element, final reads with it) for each element that is lost somewhere."""
    for (key, element), added in adds.items():
        first = min((op for op in added if op.type == "ok"), key=_ending, default=None)
        if first is None or first.end is None:
            continue
        due = [(op, seen) for op, seen in finals if identity(op.key) == key and op.start > first.end]
        absent = [op for op, seen in due if element not in seen]
        if absent:
            yield first, absent, [op for op, seen in due if element in seen]


def _places(reads: Iterable[Operation]) -> list[str]:
    return list(dict.fromkeys(op.node for op in reads if op.node is not None))

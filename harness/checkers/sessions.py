"""Session guarantees of registers: what one process may count on, whichever copies answer it.

After Terry et al., "Session guarantees for weakly consistent replicated data" (1994), each said of histories:
is there, for each key, an order of its versions in which ...? A version is what one write left (or nothing,
the first of all); a cas or an rmw reads one and leaves the next. A session is a process. Every read must
return a version at all: a value that was written, by an operation that did not fail and was invoked before
the read returned. The questions are these; a question is about the pairs of operations that it names.

* read-your-writes: an order that keeps each session's own writes as it made them, and updates after what they
  replaced, in which no session reads an older version than the one it wrote before.
* monotonic-reads: such an order in which no session reads an older version than it read before.
* monotonic-writes: an order that keeps what each session read as it read it (never back), and updates after
  what they replaced, in which also each session's writes stand as it made them: others see them so.
* writes-follow-reads: an order that keeps what each session read and what it wrote, in which also each write
  comes after all that its session had read before.

Each is decided exactly, in linear time, where the values that were read were written once: an order exists
where the reasons form no cycle. Writes show their order only through what others read. So where reads alone
put two versions in both orders (for writes-follow-reads: reads and writes), these versions are set aside and
the rest is judged; was nothing found, the verdict is unknown (``ambiguous``), since nobody can tell. So it is
where a value that was read may be of two writes: such reads say nothing, a violation of the others stands. Of
an rmw of unknown outcome see `versions`. A refused cas says nothing. Time does not count, save that nothing
is read before its write was invoked: differs so from linearizability; from coherence in that each asks for
one thing only. Keys are judged apart: an order that only several keys together contradict is a matter of
causality, not of sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness.checkers.order import (
    Before,
    Reason,
    because,
    cycle,
    edges_of,
    fewest,
    knots,
    orders,
    rows_of,
    told,
)
from harness.checkers.vacuity import judged
from harness.checkers.versions import NEVER, Register, Values, shown_version
from harness.checkers.words import at, in_force, number
from harness.history import History
from harness.verdict import Verdict, Witness

AMBIGUOUS = "ambiguous"  # cause: the history does not say what happened, however long one looks


class Guarantee(NamedTuple):
    """A promise: what is taken as `given`, what it `adds`, and what a run must have to show it at all."""

    name: str
    given: tuple[Reason, ...]
    adds: Reason
    shows: tuple[tuple[Reason, str], ...]
    broken: str


_WRITES = (Reason.WRITES, Reason.UPDATE)
_WROTE_TWICE = (Reason.WRITES, "no session wrote a key twice")
_READ_TWICE = (Reason.READS, "no session read a key twice")
READ_YOUR_WRITES = Guarantee(
    "read-your-writes", _WRITES, Reason.OWN,
    ((Reason.OWN, "no session read a key that it had written"),), "own write not read",
)  # fmt: skip
MONOTONIC_READS = Guarantee(
    "monotonic-reads", _WRITES, Reason.READS, (_READ_TWICE,), "reads went back"
)  # fmt: skip
MONOTONIC_WRITES = Guarantee(
    "monotonic-writes", (Reason.READS, Reason.UPDATE), Reason.WRITES, (_WROTE_TWICE, _READ_TWICE),
    "writes seen out of order",
)  # fmt: skip
WRITES_FOLLOW_READS = Guarantee(
    "writes-follow-reads", (Reason.READS, *_WRITES), Reason.FOLLOWS,
    ((Reason.FOLLOWS, "no session wrote a key that it had read"), _READ_TWICE), "write seen before its cause",
)  # fmt: skip


def read_your_writes(history: History) -> Verdict:
    """No session reads an older version of a key than the one that it wrote itself before.

    Raises CheckError where an operation is none of ``read``, ``write``, ``cas`` and ``rmw``.
    """
    return _judge(history, READ_YOUR_WRITES)


def monotonic_reads(history: History) -> Verdict:
    """No session reads an older version of a key than it read before. Raises as `read_your_writes` does."""
    return _judge(history, MONOTONIC_READS)


def monotonic_writes(history: History) -> Verdict:
    """Nobody reads one session's writes of a key against the order in which it made them.

    Raises as `read_your_writes` does.
    """
    return _judge(history, MONOTONIC_WRITES)


def writes_follow_reads(history: History) -> Verdict:
    """Nobody reads a write and later something that its session had read before it wrote.

    Raises as `read_your_writes` does.
    """
    return _judge(history, WRITES_FOLLOW_READS)


class _Broken(NamedTuple):
    summary: str
    witness: Witness
    key: object
    when: int


def _judge(history: History, guarantee: Guarantee) -> Verdict:
    values = Values(history)
    seen = dict.fromkeys((reason for reason, _ in guarantee.shows), 0)
    found: list[_Broken] = []
    names: dict[str, int] = {}
    unclear = aside = keys = said = 0
    for register in values.by_key():
        keys += 1
        unclear += len(register.unclear)
        for reason in seen:
            seen[reason] += orders(values, register, (reason,))[1]
        edges, its_aside, its_said = _edges(values, register, guarantee)
        aside += len(its_aside)
        said += its_said
        if register.odd:
            found.append(_odd(values, register))
            names["read of no version"] = names.get("read of no version", 0) + len(register.odd)
            continue
        wrong = len(knots((e.older, e.newer) for e in edges))
        if wrong and register.guessed:
            register = values.register(register.key, register.rows, guess=False)
            edges, its_aside, _ = _edges(values, register, guarantee)
            wrong = len(knots((e.older, e.newer) for e in edges))
            unclear += not wrong
        if wrong:
            found.append(_shown(values, register, guarantee, edges, its_aside))
            names[guarantee.broken] = names.get(guarantee.broken, 0) + wrong
    evidence = {"keys": keys, "pairs": said, "unclear_reads": unclear, "set_aside": aside}
    if found:
        first = min(found, key=lambda broken: broken.when)
        return judged(
            guarantee.name, history, kept="", witness=(first.summary, first.witness), key=first.key,
            evidence={**evidence, "anomalies": names},
        )  # fmt: skip
    lacking = [text for reason, text in guarantee.shows if not seen[reason]]
    verdict = judged(
        guarantee.name, history, kept=f"{guarantee.name} kept", evidence=evidence, lacking=lacking
    )
    if not verdict.valid or not (unclear or aside):
        return verdict
    why = f"{number(unclear, 'read')} may be of more than one write"
    if not unclear:
        why = f"reads alone show {number(aside, 'version')} in both orders and so say nothing of writes"
    return Verdict(guarantee.name, "unknown", why, cause=AMBIGUOUS, evidence={**evidence, "missing": [why]})


def _edges(values: Values, register: Register, guarantee: Guarantee) -> tuple[list[Before], set[int], int]:
    """What is said of the versions, save of those that what is given contradicts by itself."""
    given, _ = orders(values, register, guarantee.given)
    aside = {version for knot in knots((e.older, e.newer) for e in given) for version in knot}
    edges, said = orders(values, register, (*guarantee.given, guarantee.adds), aside)
    return edges, aside, said


def _odd(values: Values, register: Register) -> _Broken:
    c = values.columns
    odd = register.odd[0]
    sentence = values.told(register.key, odd) + in_force(values.history, c.start[odd.row])
    witness = Witness(sentence, values.indexes((odd.row, *odd.writes[-1:])), c.index[odd.row])
    when = c.ret[odd.row] if c.ret[odd.row] >= 0 else NEVER
    return _Broken("what was read was never written", witness, c.keys.values[register.key], when)


def _shown(
    values: Values, register: Register, guarantee: Guarantee, edges: list[Before], aside: set[int]
) -> _Broken:
    """The smallest cycle of the edges, as a witness."""
    c = values.columns

    def when(edge: Before) -> int:
        return c.call[edge.b]

    def broken(part: Register) -> bool:
        left, set_aside, _ = _edges(values, part, guarantee)
        return not set_aside and bool(knots((e.older, e.newer) for e in left))

    around = cycle(edges, when)
    least = fewest(register, rows_of(register, around), broken)
    around = cycle(_edges(values, least, guarantee)[0], when)
    sentence, culprit = _sentence(values, least, guarantee, around)
    witness = Witness(
        sentence + in_force(values.history, c.start[culprit]), values.indexes(least.rows), c.index[culprit],
        edges_of(values, least, around),
    )  # fmt: skip
    return _Broken(guarantee.broken, witness, c.keys.values[register.key], max(map(when, around)))


def _sentence(
    values: Values, register: Register, guarantee: Guarantee, around: list[Before]
) -> tuple[str, int]:
    """What the cycle says, and the row that cannot be explained."""
    c = values.columns
    of = values.of(register.key)
    name: Callable[[int], str] = lambda version: shown_version(values, register, version)  # noqa: E731
    main = max((e for e in around if e.reason is guarantee.adds), key=lambda e: c.call[e.b])
    place = around.index(main)
    rest = around[place + 1 :] + around[:place]  # from the newer one of `main` back to its older one
    before, then = at(c.start[main.a], c.start[main.b])
    who = f"process {values.process(main.b)}"
    if main.reason in (Reason.OWN, Reason.READS):
        did = "written" if main.reason is Reason.OWN else "read"
        reasons = " and ".join(because(values, register, edge) for edge in rest)
        had = f"it had {did} {name(main.older)} at {before}"
        first = f"{who} read {name(main.newer)}{of} at {then} although {had}"
        return f"{first}, and {name(main.newer)} is older: {reasons}", main.b
    did = "wrote" if main.reason is Reason.WRITES else "read"
    seen = [edge for edge in rest if edge.reason is Reason.READS]
    culprit = max(seen, key=lambda e: c.call[e.b]).b if seen else main.b
    reasons = " and ".join(told(values, register, edge) for edge in rest)
    first = f"{who} {did} {name(main.older)}{of} at {before} before it wrote {name(main.newer)} at {then}"
    return f"{first}, but {reasons}", culprit


__all__ = [
    "monotonic_reads",
    "monotonic_writes",
    "read_your_writes",
    "writes_follow_reads",
]

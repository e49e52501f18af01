"""What happened in one run: operations as columns, the faults as observed, what the nodes did.

A history is what checkers judge and the report draws. It knows nothing of clusters: any stored
history can be judged and shown again (see `harness.journal` for the file).

The event map is Jepsen's: ``index time(ns) type(invoke|ok|fail|info) process f value [error ...]``.
Client processes are integers. Events of other processes are pairs or single ``info`` events:

* ``nemesis``: faults, ``start-KIND`` / ``stop-KIND``, each an intent followed by its outcome;
* ``cluster``: node events (``role``, ``exit``, ``restart``, ``panic``, whatever a target reports);
* ``run``: the phases of the run, its notes and its findings, and what the wall clock showed at time 0.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from harness.verdict import Verdict

Outcome = Literal["ok", "fail", "info"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "fail", "info")
EVENT_TYPES = ("invoke", *OUTCOMES)
OTHER_PROCESSES = ("nemesis", "cluster", "run")
NANOSECONDS = 1_000_000_000
DEEPEST = 100  # levels of a stored event; what is deeper is refused, since every reader of it recurses


class HistoryError(ValueError):
    """A history breaks a rule that every history must keep; the text names the event and the rule."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One client operation: its invocation and, unless nobody knows, its completion.

    `value` is what was asked, `result` what an ``ok`` completion reported (for a write, what was
    written). `start` and `end` are nanoseconds since the run began; `end` is None where the outcome is
    ``info``: the operation may take effect at any later time. `index` is its invocation's place in the
    full history and is unique: clients use it as a request id.
    """

    index: int
    process: int
    f: str
    key: Hashable
    value: Any
    result: Any
    type: Outcome
    start: int
    end: int | None
    error: str | None = None
    node: str | None = None
    final: bool = False

    @property
    def seconds(self) -> float:
        """When it was invoked, in seconds since the run began."""
        return self.start / NANOSECONDS


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something a node did: a change of role, an exit, a panic in its log, an entry applied."""

    time: int
    node: str
    kind: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as it was observed, beside what was asked.

    `start` and `end` are when it was seen to hold and seen to be gone (ns; None: never). `asked` are the
    plan's own times in seconds (end None: until healed). `grudge` maps a node to the nodes it hears
    nothing from; `links` are the ordered pairs concerned. `mechanism` says how it was done
    (``stall``, ``toxiproxy latency``, ``SIGKILL``), `proof` and `healed` what was measured. `place` names
    its random stream: the entry of the plan (below 0: injected by the test itself) and which of its faults.
    """

    id: int
    kind: str
    what: str
    asked: tuple[float, float | None]
    start: int | None
    end: int | None
    nodes: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    grudge: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mechanism: str = ""
    proof: str = ""
    healed: str = ""
    error: str = ""
    spec: Any = None
    place: tuple[int, int] = (0, 0)

    @property
    def by_test(self) -> bool:
        """Whether the test injected it itself (`Run.fault`), rather than the plan."""
        return self.place[0] < 0

    def overlaps(self, start: int, end: int | None) -> bool:
        """Whether [start, end] (end None: open) shares an instant with the fault."""
        if self.start is None:
            return False
        return (end is None or self.start <= end) and (self.end is None or start <= self.end)


@dataclass(frozen=True, slots=True)
class Wall:
    """What the wall clock showed at time 0: ns since 1970, and how far east of UTC its zone is (seconds)."""

    unix: int
    zone: int


class Pairs(tuple[Any, ...]):
    """A map as `frozen` leaves it: equal to the same tuple of pairs, but known to have been a map."""

    __slots__ = ()


_PLAIN = (int, str, type(None), bool)
_FLAT = frozenset(_PLAIN)


def frozen(value: Any) -> Hashable:
    """`value` as something hashable: lists become tuples, maps sorted tuples of pairs."""
    if isinstance(value, Pairs):
        return value
    if isinstance(value, (list, tuple)):
        if _FLAT.issuperset(map(type, value)):
            return tuple(value)  # long lists are common, and this is many times faster
        return tuple(frozen(item) for item in value)
    if isinstance(value, (set, frozenset)):
        return tuple(sorted((frozen(item) for item in value), key=repr))
    if isinstance(value, Mapping):
        return Pairs(sorted(((key, frozen(item)) for key, item in value.items()), key=repr))
    return value  # type: ignore[no-any-return]


class Interned:
    """Values numbered in the order they were first met; 0 is always None, the initial value.

    Equal values of different types stay apart (``1``, ``True`` and ``1.0`` are three values). `halves` has
    two numbers for each value: those of its parts where it is a pair, as a compare-and-set asks, else -1.
    """

    def __init__(self) -> None:
        self.values: list[Any] = [None]
        self.halves = array("q", (-1, -1))
        self._codes: defaultdict[type, dict[Hashable, int]] = defaultdict(dict, {type(None): {None: 0}})

    def code(self, value: Any) -> int:
        """The number of `value`, a new one if it was never met."""
        kind = type(value)
        key = mark = value
        if kind not in _PLAIN:
            key = mark = frozen(value)
            kind = type(key)
            if isinstance(key, tuple):
                kind, mark = tuple, _typed(key)
        codes = self._codes[kind]
        code = codes.get(mark)
        if code is None:
            pair = isinstance(key, tuple) and len(key) == 2
            halves = (self.code(key[0]), self.code(key[1])) if pair else (-1, -1)
            code = codes[mark] = len(self.values)
            self.values.append(key)
            self.halves.extend(halves)
        return code

    def codes(self, texts: Sequence[str], nil: str | None = None) -> list[int]:
        """`code` of many texts, much faster than one by one; `nil`, never a text itself, stands for None."""
        codes = self._codes[str]
        new = [text for text in dict.fromkeys(texts) if text not in codes and text != nil]
        codes.update(zip(new, count(len(self.values)), strict=False))
        self.values += new
        self.halves.extend(array("q", (-1, -1)) * len(new))
        return list(map(codes.get, texts, repeat(0)))

    def known(self, value: Hashable) -> int:
        """The number of a plain value, -1 if it was never met."""
        return self._codes[type(value)].get(value, -1)

    def __len__(self) -> int:
        return len(self.values)


def _typed(items: tuple[Any, ...]) -> tuple[Any, ...]:
    kinds = set(map(type, items))
    if len(kinds) == 1 and kinds <= _FLAT:
        return (tuple, kinds.pop(), items)  # no other one begins with a type
    return tuple(_typed(i) if isinstance(i, tuple) else (type(i), i) for i in items)


class Columns:
    """Client operations as small integers, a column each, in the order of invocation.

    `call` and `ret` number the events of all operations in true-time order, invocations first where two
    times are equal, since intervals are closed; `ret` is -1 for an unknown outcome. Checkers need no
    other clock. `value`, `result`, `key`, `f`, `node` and `error` are numbers in the tables of
    the same name; `type` is a place in OUTCOMES.
    """

    def __init__(self) -> None:
        self.fs, self.keys, self.values = Interned(), Interned(), Interned()
        self.nodes, self.errors = Interned(), Interned()
        self.index, self.process, self.start, self.end = array("q"), array("q"), array("q"), array("q")
        self.f, self.key, self.value, self.result = array("q"), array("q"), array("q"), array("q")
        self.node, self.error, self.type = array("q"), array("q"), array("b")
        self.final = array("b")
        self.completion = array("q")
        self.call, self.ret = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.index)

    def number_events(self) -> None:
        """Fill `call` and `ret` by the times, in whatever order the events came."""
        start, end = self.start, self.end
        # rows are in order of invocation, and sorts are stable: equal times keep the order of the events
        calls = sorted(range(len(self)), key=start.__getitem__)
        ended = [row for row, time in enumerate(self.end) if time >= 0]
        ended.sort(key=self.completion.__getitem__)
        ended.sort(key=end.__getitem__)
        self.call, self.ret = array("q", bytes(8 * len(self))), array("q", [-1]) * len(self)
        position = place = 0
        for row in ended:
            while place < len(calls) and start[calls[place]] <= end[row]:
                self.call[calls[place]] = position
                position, place = position + 1, place + 1
            self.ret[row] = position
            position += 1
        for row in calls[place:]:
            self.call[row] = position
            position += 1


class Operations(Sequence[Operation]):
    """The client operations of a history in the order of invocation, as views on its columns."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns)

    @overload
    def __getitem__(self, row: int) -> Operation: ...
    @overload
    def __getitem__(self, row: slice) -> list[Operation]: ...
    def __getitem__(self, row: int | slice) -> Operation | list[Operation]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        c = self._columns
        return Operation(
            index=c.index[row],
            process=c.process[row],
            f=c.fs.values[c.f[row]],
            key=c.keys.values[c.key[row]],
            value=c.values.values[c.value[row]],
            result=c.values.values[c.result[row]],
            type=OUTCOMES[c.type[row]],
            start=c.start[row],
            end=c.end[row] if c.end[row] >= 0 else None,
            error=c.errors.values[c.error[row]],
            node=c.nodes.values[c.node[row]],
            final=bool(c.final[row]),
        )

    def __iter__(self) -> Iterator[Operation]:
        return (self[row] for row in range(len(self)))


class History:
    """One run as recorded: `operations` of the clients, `faults` as observed, `events` of the nodes.

    `columns` are the same operations as integers, for checkers and the report. `header` is the first
    line of the file: seed, plan, target, runtime, versions, model; of another tool's file `format` and
    `ordered`, which says that the order of its events counts and not their times. `findings` fail a run
    whatever its verdicts: a node that died by itself, a panic in a log, an exception that no client
    classified, a fault that could not be proved. `notes` say how the cluster was made. `wall` places it on
    the wall clock, where that is known. `verdicts` collects what ``assert_*`` judged of it.

    >>> history = History.from_events([
    ...     {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "write", "value": 1},
    ...     {"index": 1, "time": 5, "type": "ok", "process": 0, "f": "write", "value": 1}])
    >>> [(op.f, op.value, op.type) for op in history.operations]
    [('write', 1, 'ok')]
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        columns: Columns,
        faults: Sequence[Fault] = (),
        events: Sequence[NodeEvent] = (),
        phases: Sequence[tuple[int, str]] = (),
        path: Path | None = None,
        findings: Sequence[str] = (),
        notes: Sequence[str] = (),
        wall: Wall | None = None,
    ) -> None:
        self.header = header
        self.columns = columns
        self.operations = Operations(columns)
        self.faults = tuple(faults)
        self.events = tuple(events)
        self.phases = tuple(phases)
        self.findings = tuple(findings)
        self.notes = tuple(notes)
        self.wall = wall
        self.path = path
        self.verdicts: list[Verdict] = []

    @classmethod
    def from_events(
        cls,
        events: Iterable[Mapping[str, Any]],
        header: Mapping[str, Any] | None = None,
        path: Path | None = None,
    ) -> History:
        """Pair events into operations and faults; `header["keyed"]` says that values are [key, value].

        Raises HistoryError where an event breaks a rule: unknown type, an index that does not grow, a
        process that invokes twice or again after ``info``, a completion without its invocation.
        """
        from harness.pairing import pair

        return pair(events, header or {}, path)

    def __len__(self) -> int:
        return len(self.columns)

    def in_force(self, start: int, end: int | None = None) -> list[Fault]:
        """Faults observed at some instant of [start, end] (ns); `end` left out: at `start`."""
        return [fault for fault in self.faults if fault.overlaps(start, start if end is None else end)]

    @property
    def has_faults(self) -> bool:
        """Whether its plan asked for any fault (an imported history has no plan)."""
        return bool(self.faults) or bool((self.header.get("plan") or {}).get("entries"))

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of operations by outcome, derived from the columns."""
        return {name: sum(1 for t in self.columns.type if t == i) for i, name in enumerate(OUTCOMES)}

    @property
    def duration(self) -> float:
        """Seconds from the start of the run to the last event."""
        c = self.columns
        last = max((max(c.start, default=0), max(c.end, default=0)))
        return max([last, *(e.time for e in self.events), *(t for t, _ in self.phases)]) / NANOSECONDS

"""What transactions that write registers and read them depend on, after Elle (Kingsbury & Alvaro, VLDB 2020).

Each value is written to a key once, so that a read tells who wrote what it saw, but not what was there
before: the order of versions is inferred. Every version comes after the initial one, and what a transaction
wrote after what it had read of the same key. The order in which sessions or real time met the versions of a
key counts as far as sessions or real time do: a cycle that needs it is one of a ``-process`` or ``-realtime``
anomaly, unless it was promised of each key.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.checkers.model import CheckError
from harness.checkers.transactions.found import Case, Found, Namer, Sentence, Why
from harness.checkers.transactions.graph import (
    BITS,
    RW,
    RWP,
    RWR,
    RWS,
    WR,
    WRP,
    WW,
    WWR,
    WWS,
    Graph,
    components,
)  # fmt: skip
from harness.checkers.transactions.predicates import GONE, NIL, PredicateReads, items, plainly
from harness.checkers.transactions.reading import FAIL, INFO, OK, Transactions, key_name, marked, told
from harness.checkers.transactions.register_cases import (
    aborted_case,
    future_case,
    garbage_case,
    intermediate_case,
    internal_case,
    lost_case,
)  # fmt: skip
from harness.checkers.words import shown

WRITES = ("r", "w", "rp", "insert", "delete")


class Order(NamedTuple):
    """Why one version came before another: `first` met the one, then `last` the other."""

    how: str  # initial, read, process, realtime
    first: int
    last: int


class Registers:
    """What a history says of its registers; `graph` has the dependencies, `found` what shows without them.

    A version is a number, `value` what it is and `key` of what. Raises CheckError where a value is written to
    a key twice, or null, or what the key held at first: then nobody knows who wrote what was read.
    """

    def __init__(self, transactions: Transactions, sequential: bool, linearizable: bool) -> None:
        self.transactions = transactions
        self.found = Found()
        self.graph = Graph(len(transactions))
        self.number: dict[tuple[Hashable, Hashable], int] = {}
        self.key: list[Hashable] = []
        self.value: list[Hashable] = []
        self.writer: list[int] = []  # of each version, -1: nobody
        self.readers: list[list[int]] = []  # committed ones that saw it first of all
        self.orders: list[dict[int, Order]] = []  # of each version those known to come after it
        self.first: list[dict[Hashable, int]] = []  # by transaction and key what it read, not having written
        self.last: list[dict[Hashable, int]] = []  # and what it left
        self.middle: set[int] = set()
        self.steps = list(map(plainly, transactions.steps))
        self.asked: list[tuple[int, Any, dict[Hashable, int]]] = []  # see `PredicateReads`
        self.read = self.saw = 0
        self._write()
        self._read()
        self.members = [
            t for t, o in enumerate(transactions.outcome)
            if o == OK or (o == INFO and self.was_read(t))
        ]  # fmt: skip
        self._member = set(self.members)
        self._versions()
        self.predicates = PredicateReads(self)
        self._overtaken("process", WW if sequential else WWS, RW if sequential else RWS, sequential)
        self._overtaken("realtime", WW if linearizable else WWR, RW if linearizable else RWR, linearizable)

    # ------------------------------------------------------------------------------------ collecting

    def version(self, key: Hashable, value: Hashable) -> int:
        """The number of a version; a key's initial one is numbered before all others."""
        place = (key, value)
        known = self.number.get(place)
        if known is None:
            initial = self.transactions.initial.get(key, NIL)
            if value != initial and (key, initial) not in self.number:
                self.version(key, initial)
            known = self.number[place] = len(self.key)
            self.key.append(key)
            self.value.append(value)
            self.writer.append(-1)
            self.readers.append([])
            self.orders.append({})
        return known

    def initial(self, key: Hashable) -> int:
        """The version that a key had before anybody wrote it."""
        return self.number[key, self.transactions.initial.get(key, NIL)]

    def was_read(self, t: int) -> bool:
        """Whether anybody read what a transaction wrote."""
        return any(
            self._any_reader[self.number[key, marked(value)]] for f, key, value in self.steps[t] if f == "w"
        )

    def _write(self) -> None:
        for t, steps in enumerate(self.steps):
            last: dict[Hashable, int] = {}
            for f, key, value in steps:
                if f == "w":
                    version = self.version(key, marked(value))
                    if self.writer[version] >= 0 or version == self.initial(key):
                        raise self._twice(t, version)
                    self.writer[version] = t
                    if key in last:
                        self.middle.add(last[key])
                    last[key] = version
            self.last.append(last)

    def _twice(self, t: int, version: int) -> CheckError:
        index, by = self.transactions.index, self.writer[version]
        value, key = told(self.value[version]), key_name(self.key[version])
        if by < 0:
            return CheckError(
                f"operation {index(t)} writes {value!r} to {key}, which is what it holds at first: expected "
                "values that tell who wrote them"
            )
        return CheckError(
            f"operation {index(t)} writes {value!r} to {key}, as operation {index(by)} does: expected each "
            "value of a key once, or nobody knows whose was read"
        )

    def _read(self) -> None:
        """What each committed transaction read, and what is wrong with that by itself."""
        self._any_reader: dict[int, list[int]] = defaultdict(list)
        self.keys = dict.fromkeys([*self.transactions.initial, *self.key])
        for t, outcome in enumerate(self.transactions.outcome):
            first: dict[Hashable, int] = {}
            self.first.append(first)
            if outcome != OK:
                continue
            now: dict[Hashable, int] = {}
            for f, key, value in self.steps[t]:
                if f == "w":
                    now[key] = self.number[key, marked(value)]
                elif f == "r":
                    self._met(t, key, marked(value), now)
                else:
                    seen = items(self.transactions.index(t), value, self.keys)
                    for name, item in seen.items():
                        self._met(t, name, item, now)
                    self.read += 1
                    self.asked.append((t, told(key), {**now, **dict.fromkeys(seen, -1)}))

    def _met(self, t: int, key: Hashable, value: Hashable, now: dict[Hashable, int]) -> None:
        """A read of a key; `now` is what the transaction knows of the keys."""
        self.read += 1
        if value == NIL and (gone := self.number.get((key, GONE))) is not None:
            if self.transactions.initial.get(key, NIL) == NIL and now.get(key) != gone:
                return  # nobody knows whether it was not there yet or no longer
            value = GONE
        version = self.version(key, value)
        if key not in now:
            self.first[t][key] = version
            self.readers[version].append(t)
            by = self.writer[version]
            if by >= 0 and by != t and self.transactions.outcome[by] != FAIL:
                self.graph.link(by, t, WR)
        elif now[key] != version:
            self.found.add(internal_case(t, key, self.of(version), self.value[now[key]]))
        now[key] = version
        self._any_reader[version].append(t)
        if version != self.initial(key):
            self.saw += 1
            if (case := self._unsound(t, version)) is not None:
                self.found.add(case)

    def _unsound(self, t: int, version: int) -> Case | None:
        """What is wrong with a read, if it must not have seen that version."""
        by, key, what = self.writer[version], self.key[version], self.of(version)
        if by < 0:
            return garbage_case(t, key, what)
        if by == t:
            return future_case(t, key, what) if self.first[t].get(key) == version else None
        if self.transactions.outcome[by] == FAIL:
            return aborted_case(t, by, key, what)
        return intermediate_case(t, by, key, what) if version in self.middle else None

    def of(self, version: int) -> str:
        return f"{key_name(self.key[version])} = {shown(told(self.value[version]))}"

    # ---------------------------------------------------------------------------- orders of versions

    def committed(self, version: int) -> int:
        """Who wrote it, -1 where nobody that committed."""
        by = self.writer[version]
        return by if by in self._member else -1

    def _versions(self) -> None:
        """The initial version before all, and what was read before what its reader wrote."""
        followed: set[int] = set()
        for t in self.members:
            first = self.first[t]
            for key, after in self.last[t].items():
                before = first.get(key)
                if before is None or before == after:
                    continue
                self.orders[before][after] = Order("read", t, t)
                if self.committed(before) >= 0:
                    followed.add(after)
        for before, those in enumerate(self.orders):
            if len(those) > 1:
                one, other = sorted(self.writer[version] for version in those)[:2]
                self.found.add(lost_case(one, other, self.key[before], self.of(before)))
        for t in self.members:
            for key, after in self.last[t].items():
                if after not in followed:
                    self.orders[self.initial(key)].setdefault(after, Order("initial", -1, -1))
        for before, those in enumerate(self.orders):
            self._before(before, list(those), RW)

    @property
    def unordered(self) -> int:
        """Of how many keys it is not known which of several versions was the first."""
        firsts: dict[Hashable, int] = defaultdict(int)
        for those in self.orders:
            for version, order in those.items():
                firsts[self.key[version]] += order.how == "initial"
        return sum(1 for count in firsts.values() if count > 1)

    def _before(self, before: int, after: Sequence[int], kind: int) -> None:
        """Readers of a version stand before those who wrote others that come after it."""
        writers = [by for version in after if (by := self.committed(version)) >= 0]
        if writers and self.readers[before]:
            self.graph.link_all(self.readers[before], writers, kind)

    # -------------------------------------------------------- orders in which versions were met

    def _overtaken(self, how: str, write: int, anti: int, promised: bool) -> None:
        """Edges for the order in which sessions, or all in real time, met the versions of each key."""
        met: list[dict[int, Order]] = [{} for _ in self.orders]
        for a, b, key in self._successions(how):
            before = self.last[a].get(key, self.first[a].get(key, -1))
            after = self.first[b].get(key, self.last[b].get(key, -1))
            if before != after and after not in met[before] and after not in self.orders[before]:
                met[before][after] = Order(how, a, b)
        if not any(met):
            return
        out = [
            [after << BITS for after in (*known, *new)] for known, new in zip(self.orders, met, strict=True)
        ]
        broken = set()
        for versions in components(out):
            broken.add(self.key[versions[0]])
            self._cyclic(versions, met, promised)
        for before, those in enumerate(met):
            if not those or self.key[before] in broken:
                continue
            self.orders[before] |= those
            self._before(before, list(those), anti)
            by = self.committed(before)
            for after, order in those.items():
                to = self.committed(after)
                if by >= 0 and to >= 0 and (by, to) != (order.first, order.last):
                    self.graph.link(by, to, write)

    def _successions(self, how: str) -> Iterator[tuple[int, int, Hashable]]:
        """(transaction, one after it that met the same key next, key); in real time all such, reduced."""
        touched: dict[Hashable, list[int]] = defaultdict(list)
        for t in self.members:
            for key in {**self.first[t], **self.last[t]}:
                touched[key].append(t)
        process, call, ret = self.transactions.process, self.transactions.call, self.transactions.ret
        for key, those in touched.items():
            if how == "process":
                latest: dict[int, int] = {}
                for t in those:
                    if process[t] in latest:
                        yield latest[process[t]], t, key
                    latest[process[t]] = t
                continue
            places = [(call[t], t, True) for t in those] + [(ret[t], t, False) for t in those if ret[t] >= 0]
            over: list[int] = []
            for _, t, begins in sorted(places):
                if begins:
                    for before in over:
                        yield before, t, key
                else:
                    over = [before for before in over if ret[before] > call[t]]
                    over.append(t)

    def _cyclic(self, versions: list[int], met: list[dict[int, Order]], promised: bool) -> None:
        """A shortest cycle of versions, each before the next one."""
        inside = set(versions)
        best: list[tuple[int, int]] = []
        way: list[tuple[int, int]]
        for begin in versions[:20]:
            come: dict[int, int] = {}
            queue = deque([begin])
            while queue and begin not in come:
                version = queue.popleft()
                for after in (*self.orders[version], *met[version]):
                    if after in inside and after not in come:
                        come[after] = version
                        queue.append(after)
            way, now = [], begin
            while begin in come and (not way or now != begin):
                way.append((come[now], now))
                now = come[now]
            if way and (not best or len(way) < len(best)):
                best = way[::-1]
        orders = [(a, b, self.orders[a].get(b) or met[a][b]) for a, b in best]
        hows = {order.how for _, _, order in orders}
        shown_ = {t for _, _, order in orders for t in (order.first, order.last) if t >= 0}
        shown_ |= {by for a, b, order in orders if order.how == "initial" and (by := self.writer[b]) >= 0}
        implied = "G-single-item-realtime" if "realtime" in hows else "G-single-item-process" \
            if "process" in hows else "G1c"  # fmt: skip

        def text(name: Namer) -> str:
            parts = [f"{self.of(a)} came before {shown(told(self.value[b]))}: {self._because(name, b, order)}"
                     for a, b, order in orders]  # fmt: skip
            return "; ".join([*parts[:-1], f"but {parts[-1]}"])

        self.found.add(
            Case("cyclic-versions", tuple(sorted(shown_)), max(shown_), text, (implied,),
                 key=self.key[versions[0]], promised=promised,
                 edges=tuple(Why(order.first, order.last, self._went_by(a, b, order))
                             for a, b, order in orders if order.first >= 0 and order.first != order.last))
        )  # fmt: skip

    def _went_by(self, before: int, after: int, order: Order) -> Sentence:
        one, other = self.of(before), shown(told(self.value[after]))
        if order.how == "process":
            return lambda name: f"its process met {one} here, and {other} there"
        return lambda name: f"it met {one}, and had ended when the other began, which met {other}"

    def _because(self, name: Namer, after: int, order: Order) -> str:
        if order.how == "initial":
            return f"it was there before {name(self.writer[after])} wrote"
        if order.how == "read":
            return f"{name(order.first)} read the one and wrote the other"
        when = "on the same process" if order.how == "process" else "and had ended when it began"
        return f"{name(order.first)} met the one before {name(order.last)} the other, {when}"

    # ------------------------------------------------------------------------------------ explaining

    def why(self, before: int, after: int, kind: int) -> Why:
        """Why a transaction stands before another, by a dependency of that kind."""
        if kind == WR:
            version = next(v for v in self.first[after].values() if self.writer[v] == before)
            return Why(before, after, lambda name: f"{name(after)} read {name(before)}'s {self.of(version)}")
        if kind in (WRP, RWP):
            return self.predicates.why(before, after, kind)
        reads = kind in (RW, RWS, RWR)
        mine = self.first[before] if reads else self.last[before]
        one, other, order = next(
            (a, b, self.orders[a][b])
            for key, a in mine.items()
            if (b := self.last[after].get(key, -1)) in self.orders[a]
        )
        support = tuple(t for t in (order.first, order.last) if t >= 0)

        def text(name: Namer) -> str:
            did = "read" if reads else "wrote"
            if order.how == "initial":
                theirs = shown(told(self.value[other]))
                return f"{name(before)} {did} {self.of(one)} before {name(after)}'s {theirs}"
            if order.how == "read":
                return (
                    f"{name(before)} {did} {self.of(one)}, which {name(after)} read and replaced by "
                    f"{shown(told(self.value[other]))}"
                )
            return (
                f"{name(before)} {did} {self.of(one)}, which came before {name(after)}'s "
                f"{shown(told(self.value[other]))}: {self._because(name, other, order)}"
            )

        return Why(before, after, text, support)

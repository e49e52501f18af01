"""What transactions that append to lists and read them depend on, after Elle (Kingsbury & Alvaro, VLDB 2020).

Each element is appended once, so that a read tells all versions of the list up to then, in their order, and
who wrote each. Differs from `rw_register`, where a read tells but one version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

from harness.checkers.model import CheckError
from harness.checkers.transactions.found import Found
from harness.checkers.transactions.graph import BITS, RW, WR, WW, Graph
from harness.checkers.transactions.list_cases import (
    Version,
    aborted_case,
    dirty_case,
    disordered_case,
    duplicate_case,
    future_case,
    garbage_case,
    incompatible_case,
    intermediate_case,
    internal_case,
    list_name,
    lost_case,
)  # fmt: skip
from harness.checkers.transactions.reading import FAIL, INFO, OK, Transactions, key_name, marked, told
from harness.checkers.transactions.version_order import VersionOrder

APPENDS = ("append", "r")
_PLAIN = {int, str}


class Lists:
    """What a history says of its lists; `graph` has the dependencies, `found` what shows without them.

    Raises CheckError where an element is appended to a key twice: then nobody knows who wrote what was read.
    """

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        self.found = Found()
        self.graph = Graph(len(transactions))
        self.writer: dict[Hashable, dict[Hashable, int]] = {}  # key -> element -> who appended it
        self.longest: dict[Hashable, Version] = {}
        self.longest_by: dict[Hashable, int] = {}
        self.middle: set[tuple[Hashable, Hashable]] = set()  # (key, element): not the last of its transaction
        self.earlier: dict[tuple[Hashable, Hashable], Hashable] = {}  # the one that it appended before
        self.read: list[tuple[int, Hashable, Version]] = []
        self.saw = False  # whether any read saw an element
        self.plain = True  # whether all elements are compared as they are
        self._collect()
        self.order = {key: VersionOrder(self, key) for key in {**self.writer, **self.longest}}
        self.fits = [self.order[key].fits(version) for _, key, version in self.read]
        self.apart = {  # (key, element) of versions that do not go with the longest
            (key, element)
            for (_, key, version), fits in zip(self.read, self.fits, strict=True)
            if not fits
            for element in version
        }
        seen = self._observed() if INFO in transactions.outcome else set()
        self.members = [t for t, o in enumerate(transactions.outcome) if o == OK or (o == INFO and t in seen)]
        self.again = self._again()
        self._alone()
        self._reads()
        self._orders()
        self._lost_updates()

    # ------------------------------------------------------------------------------------ collecting

    def _collect(self) -> None:
        writer, longest = self.writer, self.longest
        for t, (steps, outcome) in enumerate(
            zip(self.transactions.steps, self.transactions.outcome, strict=True)
        ):
            last: dict[Hashable, Hashable] = {}
            for f, key, value in steps:
                if f == "append":
                    element = marked(value)
                    of_key = writer.setdefault(key, {})
                    if element in of_key:
                        raise self._twice(t, key, element)
                    of_key[element] = t
                    if key in last:
                        self.middle.add((key, last[key]))
                        self.earlier[key, element] = last[key]
                    last[key] = element
                elif outcome == OK:
                    version = self._version(t, value)
                    self.read.append((t, key, version))
                    if key not in longest or len(version) > len(longest[key]):
                        longest[key], self.longest_by[key] = version, t

    def _version(self, t: int, value: Any) -> Version:
        if value is None:
            return ()
        if type(value) is not tuple:
            raise CheckError(
                f"operation {self.transactions.index(t)}, 'txn', read {value!r}: expected a list of "
                "elements, or null where there is none"
            )
        if self.plain and _PLAIN.issuperset(map(type, value)):
            return value
        self.plain = False
        return tuple(map(marked, value))

    def seen(self, value: Any) -> Version:
        """The version of a read that `_version` has seen before."""
        return value or () if self.plain else tuple(map(marked, value or ()))

    def _twice(self, t: int, key: Hashable, element: Hashable) -> CheckError:
        index = self.transactions.index
        first = self.writer[key][element]
        return CheckError(
            f"operation {index(t)} appends {told(element)!r} to {key_name(key)}, as operation "
            f"{index(first)} does: expected each element of a key once, or nobody knows whose was read"
        )

    def _observed(self) -> set[int]:
        """Transactions of which some element was read."""
        read = {(key, element) for key, version in self.longest.items() for element in version}
        return {
            by for key, element in read | self.apart if (by := self.writer.get(key, {}).get(element, -1)) >= 0
        }

    # ------------------------------------------------------------- what a transaction shows by itself

    def _alone(self) -> None:
        """Internal inconsistency, and elements read before the transaction itself appended them."""
        for t in self.again:
            if (wrong := self._contradiction(t)) is not None:
                self.found.add(internal_case(t, *wrong))
            if (early := self._too_early(t)) is not None:
                self.found.add(future_case(t, *early))

    def _again(self) -> list[int]:
        """Committed transactions that do more than one thing to some key."""
        return [
            t for t, outcome in enumerate(self.transactions.outcome)
            if outcome == OK
            and len(steps := self.transactions.steps[t]) > 1
            and len({key for _, key, _ in steps}) < len(steps)
        ]  # fmt: skip

    def _contradiction(self, t: int) -> tuple[Hashable, str, Version] | None:
        """The first read that contradicts what its transaction did before: key, expected, read."""
        whole: dict[Hashable, Version] = {}  # what a key must be
        end: dict[Hashable, Version] = {}  # what it must end in, where the beginning was never read
        for f, key, value in self.transactions.steps[t]:
            if f == "append":
                known = whole if key in whole else end
                known[key] = (*known.get(key, ()), marked(value))
                continue
            version = self.seen(value)
            if key in whole and version != whole[key]:
                return key, list_name(whole[key]), version
            own = end.pop(key, ())
            if own and version[-len(own) :] != own:
                return key, f"a list that ends in {list(own)}", version
            whole[key] = version
        return None

    def _too_early(self, t: int) -> tuple[Hashable, Hashable] | None:
        """(key, element) that a transaction read before it appended it itself."""
        read: list[tuple[Hashable, Version]] = []
        for f, key, value in self.transactions.steps[t]:
            if f == "r":
                read.append((key, self.seen(value)))
            elif any(of == key and marked(value) in version for of, version in read):
                return key, marked(value)
        return None

    # ------------------------------------------------------------------------- what reads are made of

    def _reads(self) -> None:
        out = self.graph.out
        for (t, key, version), fits in zip(self.read, self.fits, strict=True):
            order = self.order[key]
            if not version:
                order.readers[0].append(t)
                continue
            self.saw = True
            size = len(version)
            if fits:
                if size > order.sound:
                    self._unsound(t, key, version)
                order.readers[size].append(t)
                by = order.before[size]
            else:
                self.found.add(incompatible_case(t, self.longest_by[key], key, version, self.longest[key]))
                self._unsound(t, key, version)
                self._disordered(t, key, version)
                last = self.writer.get(key, {}).get(version[-1], -1)
                by = last if last < 0 or self.transactions.outcome[last] != FAIL else -1
            if by >= 0 and by != t:
                out[by].append(t << BITS | WR)
            if self.middle and (key, version[-1]) in self.middle and self.writer[key][version[-1]] != t:
                self.found.add(intermediate_case(t, self.writer[key][version[-1]], key, version[-1]))

    def _unsound(self, t: int, key: Hashable, version: Version) -> None:
        """Elements that occur twice, that nobody appended, or that only a failed transaction did."""
        twice = [element for element, times in Counter(version).items() if times > 1]
        if twice:
            self.found.add(duplicate_case(t, key, twice[0], version))
        writer = self.writer.get(key, {})
        for element in dict.fromkeys(version):
            by = writer.get(element)
            if by is None:
                self.found.add(garbage_case(t, key, element))
                break
        for element in dict.fromkeys(version):
            by = writer.get(element)
            if by is not None and self.transactions.outcome[by] == FAIL:
                self.found.add(aborted_case(t, by, key, element))
                break

    def _disordered(self, t: int, key: Hashable, version: Version) -> None:
        """Elements of one transaction in another order than it appended them, or the later ones alone."""
        if not self.earlier:
            return
        seen: set[Hashable] = set()
        for element in version:
            seen.add(element)
            before = self.earlier.get((key, element))
            if before is not None and before not in seen:
                self.found.add(disordered_case(t, self.writer[key][element], key, before, element))
                return

    # ---------------------------------------------------------------------------- orders of versions

    def _orders(self) -> None:
        outcome, link = self.transactions.outcome, self.graph.link
        members = set(self.members)
        for key, order in self.order.items():
            self._disordered(self.longest_by.get(key, -1), key, order.version)
            latest, failed = -1, -1
            for place, by in enumerate(order.owners):
                if by >= 0:
                    if latest >= 0:
                        link(latest, by, WW)
                    if failed >= 0 and outcome[by] == OK:
                        self.found.add(
                            dirty_case(failed, by, self.longest_by[key], key, order.version[place])
                        )
                    latest, failed = by, -1
                elif order.failed[place] >= 0:
                    failed = order.failed[place]
            unseen = [
                by for element, by in self.writer.get(key, {}).items()
                if element not in order.place and by in members and (key, element) not in self.apart
            ]  # fmt: skip
            unseen = list(dict.fromkeys(unseen))
            for by in unseen:
                if latest >= 0:
                    link(latest, by, WW)
            for size, readers in enumerate(order.readers):
                if readers and (after := order.after[size]) >= 0:
                    for t in readers:
                        if t != after:
                            self.graph.out[t].append(after << BITS | RW)
                elif readers:
                    self.graph.link_all(list(dict.fromkeys(readers)), unseen, RW)

    def _lost_updates(self) -> None:
        """Committed transactions that read the same version of a key first and then appended to it."""
        groups: dict[tuple[Hashable, int | Version], list[int]] = {}
        for t in self.again:
            begun: dict[Hashable, Version | None] = {}
            for f, key, value in self.transactions.steps[t]:
                if f == "r":
                    begun.setdefault(key, self.seen(value))
                    continue
                if (seen := begun.get(key)) is not None:
                    fits = self.order[key].fits(seen)
                    groups.setdefault((key, len(seen) if fits else seen), []).append(t)
                begun[key] = None  # counted once, and what it reads from here on is its own
        for (key, version), group in groups.items():
            if len(group) > 1:
                whole = self.longest.get(key, ())[:version] if isinstance(version, int) else version
                self.found.add(lost_case(group[0], group[1], key, whole))

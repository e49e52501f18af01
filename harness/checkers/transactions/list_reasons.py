"""Why one transaction on lists stands before another, and cycles made shorter by reasons that reach further.

The graph has an edge only to the next version: every other dependency follows. To say that a transaction read
a list without an element, or after one, none of those between needs to be told.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace

from harness.checkers.transactions.cycles import classified
from harness.checkers.transactions.found import Case, Namer, Why
from harness.checkers.transactions.graph import RW, WR, WW
from harness.checkers.transactions.list_append import Lists
from harness.checkers.transactions.list_cases import Version, element_name
from harness.checkers.transactions.reading import INFO, key_name, marked


class Reasons:
    """The reasons that the reads of some lists give."""

    def __init__(self, lists: Lists) -> None:
        self.lists = lists

    def shorter(self, case: Case) -> Case:
        """The same anomaly in two or three transactions, where some on or beside its cycle show it."""
        nodes = [t for t, _ in case.cycle]
        if len(nodes) < 3 or case.name not in ("G0", "G1c", "G-single"):
            return case
        if case.name == "G-single":
            first, last = nodes[0], nodes[-1]
            later, earlier = self._later(first), self._earlier(last)
            between = min((t for t in later if t in earlier and t not in (first, last)), default=None)
            if last in later:
                return _shown(case, ((first, later[last]), (last, RW)))
            if between is not None:
                return _shown(case, ((first, later[between]), (between, earlier[between]), (last, RW)))
            return case
        for t in nodes:
            later, earlier = self._later(t), self._earlier(t)
            for other in sorted(later.keys() & earlier.keys()):
                if classified([later[other], earlier[other]])[0] == case.name:
                    return _shown(case, ((t, later[other]), (other, earlier[other])))
        return case

    def _later(self, t: int) -> dict[int, int]:
        """Who overwrote what a transaction appended, or read it, with the kind of the dependency."""
        found: dict[int, int] = {}
        for key, element in self._appends(t):
            order = self.lists.order[key]
            place = order.place.get(element)
            if place is None:
                continue
            found |= {
                reader: WR for those in order.readers[place + 1 :] for reader in those if reader not in found
            }
            found |= {by: WW for by in order.owners[place + 1 :] if by >= 0}
        found.pop(t, None)
        return found

    def _earlier(self, t: int) -> dict[int, int]:
        """Whose appends a transaction overwrote or read, with the kind of the dependency."""
        found: dict[int, int] = {}
        for key, version in self._versions(t):
            order = self.lists.order[key]
            if order.fits(version):
                found |= {by: WR for by in order.owners[: len(version)] if by >= 0 and by not in found}
        for key, element in self._appends(t):
            order = self.lists.order[key]
            place = order.place.get(element)
            if place is not None:
                found |= {by: WW for by in order.owners[:place] if by >= 0}
        found.pop(t, None)
        return found

    def why(self, before: int, after: int, kind: int) -> Why:
        """Why a transaction stands before another, by a dependency of that kind."""
        reasons = {WW: self._wrote_after, WR: self._read_of, RW: self._did_not_see}[kind](before, after)
        return min(reasons, key=lambda reason: len(reason.support))

    def _appends(self, t: int) -> Iterator[tuple[Hashable, Hashable]]:
        for f, key, value in self.lists.transactions.steps[t]:
            if f == "append":
                yield key, marked(value)

    def _versions(self, t: int) -> Iterator[tuple[Hashable, Version]]:
        for f, key, value in self.lists.transactions.steps[t]:
            if f == "r":
                yield key, self.lists.seen(value)

    def _wrote_after(self, before: int, after: int) -> Iterator[Why]:
        for key, element in self._appends(after):
            order = self.lists.order[key]
            place = order.place.get(element, len(order.version))
            mine = [e for e in order.version[:place] if self.lists.writer[key].get(e) == before]
            if mine and (key, element) not in self.lists.apart:
                reader = self._reader(key, place + (place < len(order.version)), (before, after))

                def text(
                    name: Namer, key: Hashable = key, element: Hashable = element,
                    earlier: Hashable = mine[-1], reader: int = reader,
                ) -> str:  # fmt: skip
                    by = "" if reader == after else f", as {name(reader)} read"
                    return (
                        f"{name(after)} appended {element_name(element)} to {key_name(key)} after "
                        f"{name(before)}'s {element_name(earlier)}{by}"
                    )

                yield Why(before, after, text, () if reader in (before, after) else (reader,))

    def _reader(self, key: Hashable, size: int, rather: tuple[int, ...]) -> int:
        """Who read the first `size` elements of a key: one of these, or for every edge who read most."""
        readers = self.lists.order[key].readers
        own = [t for those in readers[size:] for t in those if t in rather]
        return min(own or readers[-1])

    def _read_of(self, before: int, after: int) -> Iterator[Why]:
        for key, version in self._versions(after):
            writer = self.lists.writer.get(key, {})
            element = next((e for e in reversed(version) if writer.get(e) == before), None)
            if element is not None:

                def text(name: Namer, key: Hashable = key, element: Hashable = element) -> str:
                    return f"{name(after)} read {name(before)}'s {element_name(element)} in {key_name(key)}"

                yield Why(before, after, text)

    def _did_not_see(self, before: int, after: int) -> Iterator[Why]:
        appended = list(self._appends(after))
        for key, version in self._versions(before):
            order = self.lists.order[key]
            if not order.fits(version):
                continue
            for of, element in appended:
                place = order.place.get(element, -1)
                if of != key or (of, element) in self.lists.apart or 0 <= place < len(version):
                    continue

                def text(
                    name: Namer, key: Hashable = key, element: Hashable = element, version: Version = version
                ) -> str:
                    theirs = f"{name(after)}'s {element_name(element)}"
                    if version:
                        return f"{name(before)} read {key_name(key)} without {theirs}"
                    return f"{name(before)} read {key_name(key)} before {theirs} was in it"

                info = self.lists.transactions.outcome[after] == INFO
                yield Why(
                    before, after, text, (self._reader(key, place + 1, (before, after)),) if info else ()
                )


def _shown(case: Case, cycle: tuple[tuple[int, int], ...]) -> Case:
    nodes = tuple(t for t, _ in cycle)
    if len(nodes) >= len(case.cycle):
        return case
    return replace(case, transactions=nodes, culprit=max(nodes), cycle=cycle)

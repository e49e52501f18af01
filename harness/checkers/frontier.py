"""The frontier of a history: every configuration that explains what was seen so far.

A configuration is a state of the model and which of the open operations have happened. A walk takes the
events in time order. An operation is put into the order no sooner than some return demands it (just-in-time
linearization, G. Lowe, "Testing for linearizability", 2017); an empty frontier is the first violation.
Cost is linear in the length of a history and exponential only in the number of operations open at once,
and three things keep that small:

* operations with the same effect are interchangeable: the one that returns first is used first, and one
  of unknown outcome last;
* observers are taken eagerly, since they change nothing; what an overwrite hides stays *optional*: it could
  have happened just before, unseen;
* a configuration covers another of the same state that has used up more and may leave out less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from time import monotonic

from harness.checkers.kinds import ILLEGAL, Kinds

NEVER = 1 << 62
GLANCE = 15  # a mask: how many configurations between two looks at the clock, each of which may meet many
STUCK = 100  # what an operation that waits for a value with no source in sight costs a configuration


class Exhausted(Exception):
    """A walk used up its budget; `cause` is ``time`` or ``memory``."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


Configuration = tuple[int, int]  # masks of open operations: those that happened, those that may have unseen
Frontier = dict[int, list[Configuration]]  # by the number of the state


class Open:
    """The open operations, a bit each: `movers` may change the state, `observers` never do (bit -> kind).

    `before` maps a mover to those of its kind that are used up before it, since they return earlier.
    """

    def __init__(self) -> None:
        self.movers: dict[int, int] = {}
        self.observers: dict[int, int] = {}
        self.before: dict[int, int] = {}
        self._returns: dict[int, int] = {}
        self._free: list[int] = []
        self._bits = 0

    def add(self, kind: int, observes: bool, returns: int) -> int:
        """A bit for an operation that was just invoked."""
        if self._free:
            bit = self._free.pop()
        else:
            bit = 1 << self._bits
            self._bits += 1
        if observes:
            self.observers[bit] = kind
            return bit
        earlier = 0
        for other, its_kind in self.movers.items():
            if its_kind == kind:
                if self._returns[other] <= returns:
                    earlier |= other
                else:
                    self.before[other] |= bit
        self.movers[bit], self._returns[bit], self.before[bit] = kind, returns, earlier
        return bit

    def remove(self, bit: int) -> None:
        """The operation returned: its bit is free again."""
        if self.observers.pop(bit, None) is None:
            kind = self.movers.pop(bit)
            del self._returns[bit], self.before[bit]
            for other, its_kind in self.movers.items():
                if its_kind == kind:
                    self.before[other] &= ~bit
        self._free.append(bit)

    def copy(self) -> Open:
        """An independent copy."""
        other = Open()
        other.movers, other.observers, other.before = (
            dict(self.movers),
            dict(self.observers),
            dict(self.before),
        )
        other._returns, other._free, other._bits = dict(self._returns), list(self._free), self._bits
        return other


def _keep(found: Frontier, state: int, done: int, may: int, movers: int) -> bool:
    """Add a configuration, unless one of the same state covers it, and drop those it covers."""
    there = found.get(state)
    if there is None:
        found[state] = [(done, may)]
        return True
    undone = ~done
    for done2, may2 in there:
        if not (may & ~may2 or done & ~(done2 | may2) or done2 & movers & undone):
            return False
    hidden, either, moved = ~may, ~(done | may), done & movers
    kept = [(d, m) for d, m in there if m & hidden or d & either or moved & ~d]
    kept.append((done, may))
    found[state] = kept
    return True


class Walk:
    """One pass over the events of `rows`, return by return (`advance`).

    `starts` are the states it may begin in (default: the initial one); rows in `optional` may be left out of
    the order; nothing after position `until` counts: what returned later has an unknown outcome. With
    `reusable`, what nobody waits for is never used up: not a proof of validity, but far fewer configurations.
    Failed operations did not happen: leave them out of `rows`.

    `exact` says that no configuration was dropped for width: then an empty frontier proves a violation;
    one that is not empty always proves that everything so far is explained (unless `reusable`).
    """

    def __init__(
        self, kinds: Kinds, rows: Iterable[int], *, starts: Iterable[int] = (),
        optional: Collection[int] = (), until: int = NEVER, reusable: bool = False,
    ) -> None:  # fmt: skip
        self.kinds, self.optional, self.until, self.reusable = kinds, optional, until, reusable
        self.events = _events(kinds, rows, until)
        self.at = 0  # the next event
        self.explained = 0  # returns
        self.exact = True
        self.work = 0  # events walked and configurations expanded
        self.opened = Open()
        self.bits: dict[int, int] = {}
        self.frontier: Frontier = {s: [(0, 0)] for s in starts} or {
            kinds.state(kinds.model.initial): [(0, 0)]
        }
        self.movers = self.overwriters = self.unneeded = 0  # masks of open operations

    def copy(self) -> Walk:
        """The same place, to come back to."""
        other = object.__new__(Walk)
        other.__dict__.update(self.__dict__)
        other.opened, other.bits, other.frontier = self.opened.copy(), dict(self.bits), dict(self.frontier)
        return other

    @property
    def done(self) -> bool:
        """Whether every event was walked."""
        return self.at == len(self.events)

    @property
    def width(self) -> int:
        """How many configurations the frontier has."""
        return sum(map(len, self.frontier.values()))

    def _open_until_return(self) -> tuple[int | None, dict[int, int], int]:
        """Open what is invoked up to the next return: its row, new observers and what nobody waits for."""
        kinds, columns, opened, events = self.kinds, self.kinds.columns, self.opened, self.events
        observers: dict[int, int] = {}
        unneeded = 0
        while self.at < len(events):
            row = events[self.at][1]
            self.at += 1
            self.work += 1
            if row < 0:
                self.unneeded |= unneeded
                return ~row, observers, unneeded
            kind, returns = kinds.kind(row), columns.ret[row]
            observes, endless = kinds.observes[kind], not 0 <= returns <= self.until
            bit = self.bits[row] = opened.add(kind, observes, NEVER if endless else returns)
            if observes:
                observers[bit] = kind
            else:
                self.movers |= bit
                if kinds.overwrites[kind]:
                    self.overwriters |= bit
            if endless or row in self.optional:
                unneeded |= bit
        return None, observers, unneeded

    def advance(
        self, width: int | None = None, configurations: int = NEVER, deadline: float = float("inf")
    ) -> int | None:
        """Walk on to the next return; None, or the row whose return nothing explains.

        `width` keeps only the most promising configurations, and not all of the ways to reach them. Raises
        Exhausted where one return has more than `configurations` or the clock passes `deadline`.
        """
        row, new_observers, new_unneeded = self._open_until_return()
        if row is None:
            return None  # nobody waits for what is open now
        step, movers = self.kinds.step, self.movers
        bit = self.bits.pop(row)
        rest = ~bit
        following: Frontier = {}
        without: Frontier = {}  # configurations in which the operation has yet to happen
        todo: list[tuple[int, int, int]] = []
        count = 0
        for state, found in self.frontier.items():
            seen = 0
            for observer, kind in new_observers.items():
                if step(state, kind) != ILLEGAL:
                    seen |= observer
            for done, may in found:
                if not (count := count + 1) & GLANCE and monotonic() > deadline:
                    raise Exhausted("time")
                done |= seen
                may |= new_unneeded
                if (done | may) & bit:
                    _keep(following, state, done & rest, may & rest, movers)
                if not done & bit and _keep(without, state, done, may & rest, movers):
                    todo.append((state, done, may & rest))
        if todo:
            limits = (configurations, deadline)
            if width is None:
                self._extend(following, without, todo, bit, self._wanted(), NEVER, limits)
            else:
                again = {state: list(found) for state, found in without.items()}, list(todo)
                if not self._extend(following, without, todo, bit, self._wanted(), 2 * width, limits):
                    self.exact = False
                    self._extend(following, *again, bit, self._wanted(row), 8 * width, limits)
        self.opened.remove(bit)
        self.movers, self.overwriters = movers & rest, self.overwriters & rest
        self.unneeded &= rest
        self.frontier = following
        if not following:
            return row
        self.explained += 1
        if width is not None and self.width > width:
            self._narrow(width)
        return None

    def _wanted(self, row: int | None = None) -> tuple[set[int | None], int]:
        """States that somebody open needs, and the movers that are worth trying, as a mask.

        An overwrite that nobody open needs can wait: whatever follows it hides it, and so makes it optional.
        With `row`, only what leads to that operation counts: it needs a state, what makes it needs another.
        """
        kinds, opened = self.kinds, self.opened
        if any(kinds.refuses[kind] for kind in opened.observers.values()):  # any state but one will do
            return {kinds.makes[kind] for kind in opened.movers.values()}, -1
        if row is None:
            everything = (opened.movers, opened.observers)
            return {kinds.needs[kind] for ops in everything for kind in ops.values()}, -1
        needs, mask, grown = {kinds.needs[kinds.kind(row)]}, 0, True
        while grown:
            grown = False
            for mover, kind in opened.movers.items():
                if not mover & mask and (kinds.makes[kind] is None or kinds.makes[kind] in needs):
                    mask, grown = mask | mover, True
                    needs.add(kinds.needs[kind])
        return needs, mask

    def _extend(
        self, following: Frontier, without: Frontier, todo: list[tuple[int, int, int]], bit: int,
        wanted: tuple[set[int | None], int], limit: int, limits: tuple[int, float],
    ) -> bool:  # fmt: skip
        """Fill `following` with what ends in the operation `bit`; False where `limit` stopped it short."""
        configurations, deadline = limits
        before, movers = self.opened.before, self.movers
        rest = ~bit
        lasting = ~self.unneeded if self.reusable else -1
        moves: dict[int, list[tuple[int, int, int, int]]] = {}
        for count, (state, done, may) in enumerate(todo):  # grows meanwhile
            if (done, may) not in without[state]:
                continue  # covered meanwhile
            if count > limit:
                return False
            self.work += 1
            if not count & 255 and len(todo) > configurations:
                raise Exhausted("memory")
            if not count & GLANCE and monotonic() > deadline:
                raise Exhausted("time")
            if (possible := moves.get(state)) is None:
                possible = moves[state] = self._moves(state, bit, wanted)
            for mover, to, seen, hides in possible:
                if mover & done or before[mover] & ~done & (-1 if mover & may else ~may):
                    continue
                done2 = done | (mover & lasting) | seen
                may2 = ((may & ~mover) | (hides & ~done2)) if mover & lasting else may | (hides & ~done2)
                if (done2 | may2 | mover) & bit:
                    _keep(following, to, done2 & rest, may2 & rest, movers)
                may2 &= rest
                if not done2 & bit and _keep(without, to, done2, may2, movers):
                    todo.append((to, done2, may2))
        return True

    def _moves(
        self, state: int, bit: int, wanted: tuple[set[int | None], int]
    ) -> list[tuple[int, int, int, int]]:
        """What is worth doing in a state: (mover, next state, open observers that fit it, what it hides)."""
        step, possible = self.kinds.step, []
        needed, mask = wanted
        for mover, kind in self.opened.movers.items():
            to = step(state, kind)
            hides = self.overwriters if mover & self.overwriters else 0
            if to == ILLEGAL or (mover & self.unneeded and to == state and not hides):
                continue
            if mover != bit and (not mover & mask or (hides and to not in needed)):
                continue
            seen = 0
            for observer, its_kind in self.opened.observers.items():
                if step(to, its_kind) != ILLEGAL:
                    seen |= observer
            possible.append((mover, to, seen, hides))
        return possible

    def _narrow(self, width: int) -> None:
        """Keep the `width` most promising configurations: least used up, least left to do, least stuck."""
        kinds, opened, movers, unneeded = self.kinds, self.opened, self.movers, self.unneeded
        needed = (movers & ~unneeded) | sum(opened.observers)
        sources: dict[int | None, int] = {}
        waiting: dict[int | None, int] = {}
        for mover, kind in opened.movers.items():
            sources[kinds.makes[kind]] = sources.get(kinds.makes[kind], 0) | mover
        for ops in (opened.movers, opened.observers):
            for bit, kind in ops.items():
                if bit & needed and kinds.needs[kind] is not None:
                    waiting[kinds.needs[kind]] = waiting.get(kinds.needs[kind], 0) | bit
        wants = [(need, bits, sources.get(need, 0)) for need, bits in waiting.items()]
        ranked = []
        for state, found in self.frontier.items():
            for done, may in found:
                cost = 14 * (done & movers).bit_count() + 10 * (done & unneeded).bit_count()
                cost += 4 * (needed & ~(done | may)).bit_count()
                cost += STUCK * sum(
                    1 for need, bits, source in wants if need != state and bits & ~done and not source & ~done
                )
                ranked.append((cost, state, done, may))
        ranked.sort()
        self.exact = False
        kept: Frontier = {}
        for _, state, done, may in ranked[:width]:
            kept.setdefault(state, []).append((done, may))
        self.frontier = kept


def _events(kinds: Kinds, rows: Iterable[int], until: int) -> list[tuple[int, int]]:
    """(position, row) of each invocation and (position, ~row) of each return, in order."""
    columns = kinds.columns
    events = []
    for row in rows:
        returned = 0 <= columns.ret[row] <= until
        if columns.call[row] > until or (not returned and kinds.observes[kinds.kind(row)]):
            continue  # whatever an observer saw, nobody was told
        events.append((columns.call[row], row))
        if returned:
            events.append((columns.ret[row], ~row))
    events.sort()
    return events

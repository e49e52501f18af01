"""What was found: of each anomaly how often, and the case that shows it best."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from harness.checkers.transactions.consistency import VARIANTS
from harness.checkers.transactions.reading import Transactions
from harness.checkers.words import at

Namer = Callable[[int], str]
Sentence = Callable[[Namer], str]

# The worst first: what the data show by themselves is worse than what a session or the clock is needed for.
SEVERITY = (
    "duplicate-elements", "garbage-read", "G1a", "dirty-update", "G1b", "incompatible-order", "internal",
    "future-read", "predicate-read-miss", "cyclic-versions",
    *(
        f"{name}{variant}"
        for variant in VARIANTS
        for name in ("G0", "G1c", *(() if variant else ("lost-update",)), "G-single", "G-nonadjacent",
                     "G2-item", "G2")
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Why:
    """One edge of a cycle between transactions, and the other transactions without which it is not known."""

    before: int
    after: int
    text: Sentence
    support: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """An anomaly as some transactions show it; `culprit` is the one that cannot be explained.

    `implies` are the names by which it rules out models: its own, if nothing else is said. Of a `cycle`, each
    transaction with the kind of the edge to the next one; `edges` are those of another sort. `promised`:
    breaks what was promised beside the model.
    """

    name: str
    transactions: tuple[int, ...]
    culprit: int
    text: Sentence | None = None
    implies: tuple[str, ...] = ()
    key: Hashable = None
    cycle: tuple[tuple[int, int], ...] = ()
    edges: tuple[Why, ...] = ()
    promised: bool = False


class Found:
    """Cases, counted by name; of each name (and of what it implies) the smallest, then the first, is kept."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.best: dict[tuple[str, tuple[str, ...]], Case] = {}

    def add(self, case: Case, count: int = 1) -> None:
        """Count a case, and keep it where it is the best of its name."""
        self.counts[case.name] = self.counts.get(case.name, 0) + count
        place = (case.name, case.implies)
        known = self.best.get(place)
        if known is None or _size(case) < _size(known):
            self.best[place] = case

    def cases(self) -> list[Case]:
        """The best of each, the worst anomaly first."""
        return sorted(self.best.values(), key=lambda c: (SEVERITY.index(c.name), *_size(c)))


def _size(case: Case) -> tuple[int, tuple[int, ...]]:
    return len(case.transactions), tuple(sorted(case.transactions))


class Names:
    """T1, T2, ... for transactions, in the order of invocation; the first time with who and when."""

    def __init__(self, transactions: Transactions, shown: Sequence[int]) -> None:
        self._transactions = transactions
        self._numbers = {t: place for place, t in enumerate(sorted(set(shown)), 1)}
        self._introduced: set[int] = set()

    def __call__(self, t: int) -> str:
        name = f"T{self._numbers[t]}"
        if t in self._introduced:
            return name
        self._introduced.add(t)
        c, row = self._transactions.history.columns, self._transactions.rows[t]
        return f"{name} (process {c.process[row]} at {at(c.start[row])[0]})"

    def plain(self, t: int) -> str:
        """The name and the operation's index."""
        return f"T{self._numbers[t]} (operation {self._transactions.index(t)})"

"""What every fault of a Toxiproxy fabric says of itself: its toxics, their effect, how traffic proves it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from harness.fabric import Pair
from harness.fabric.proof import Prover
from harness.fabric.watch import (
    Expected,
    Watch,
)

Toxics = tuple[tuple[str, Mapping[str, int]], ...]  # type and attributes, in the order of the chain
PROBE = "!probe"  # how the names of probe proxies end
FOR_EVER = 24 * 3600 * 1000  # ms
CHUNK = 32 * 1024  # bytes that Toxiproxy reads, and so slices, at once
LIMIT = 32 << 20  # bytes that a proof sends in one go


class Verb(Protocol):
    """One kind of fault on the links of a Toxiproxy server."""

    @property
    def mechanism(self) -> str: ...

    @property
    def toxics(self) -> Toxics: ...

    def expect(self, name: str, before: Expected) -> Expected:
        """What becomes of a pair of which `before` was expected, under this fault called `name`."""
        ...

    def prove(self, prover: Prover, pairs: Collection[Pair], opened: Sequence[Watch]) -> str:
        """See the effect on `pairs`; `opened` are connections from before it. Raises FaultError."""
        ...

    def gone(self, prover: Prover, pairs: Collection[Pair]) -> str:
        """See that the effect is over, as far as no other fault holds the pair. Raises FaultError."""
        ...

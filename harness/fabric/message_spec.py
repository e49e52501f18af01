"""What becomes of the messages of one ordered pair, and how often each thing should be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from harness.fabric import FaultUnsupported
from harness.proxy.embedded import MILLION

LONGEST = 3600.0
LEAST = 0.002  # the smallest share of messages that a proof can tell from none
MOST_HELD = 0.9  # the largest share that can be overtaken: somebody has to overtake


@dataclass(frozen=True, slots=True)
class MessageSpec:
    """A message fault: each message is dropped, corrupted (one bit), duplicated, or overtaken, with these
    probabilities; all come `delay` ± `jitter` seconds later, in order.

    Those to be overtaken (`reorder`) are held for `hold` seconds, while the others pass. Raises ValueError
    for a number that makes no sense, FaultUnsupported for one that cannot be had, or not be proved.

    >>> MessageSpec(reorder=0.1)
    Traceback (most recent call last):
    ValueError: reorder needs hold, the seconds for which a message is overtaken
    """

    drop: float = 0.0
    corrupt: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    hold: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{field.name}={value!r}: expected a finite number")
        for name in ("drop", "corrupt", "duplicate", "reorder"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={share!r}: expected a probability of 0 to 1")
            if 0 < share < LEAST:
                raise FaultUnsupported(
                    f"message {name} of {share:g} is too rare to be proved by traffic: ask for {LEAST:g}"
                )
        for name in ("hold", "delay", "jitter"):
            if not 0 <= getattr(self, name) <= LONGEST:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected seconds of 0 to {LONGEST:g}")
        for name in ("hold", "delay"):
            if 0 < getattr(self, name) < 0.001:
                raise FaultUnsupported(f"message {name} of {getattr(self, name):g} s: 1 ms is the least")
        if self.reorder and not self.hold:
            raise ValueError("reorder needs hold, the seconds for which a message is overtaken")
        if self.reorder > MOST_HELD:
            raise FaultUnsupported(
                f"message reorder of {self.reorder:g}: at most {MOST_HELD:g}, or nothing is left to overtake"
            )
        if self.jitter > self.delay:
            raise ValueError(
                f"jitter={self.jitter:g} exceeds delay={self.delay:g}: no message comes before it was sent"
            )
        if not any((self.drop, self.corrupt, self.duplicate, self.reorder, self.delay)):
            raise ValueError(
                "a message fault that changes nothing: expected drop, corrupt, duplicate, reorder or delay"
            )

    def attributes(self, seed: int) -> Mapping[str, int]:
        """The attributes of the toxic: millionths and milliseconds."""
        shares = ("drop", "corrupt", "duplicate", "reorder")
        found = {name: round(getattr(self, name) * MILLION) for name in shares}
        found |= {name: round(getattr(self, name) * 1e3) for name in ("hold", "delay", "jitter")}
        return found | {"seed": seed}

    def words(self) -> str:
        """What was asked for."""
        texts = [
            f"{name} {share * 100:g} %"
            for name in ("drop", "corrupt", "duplicate", "reorder")
            if (share := getattr(self, name))
        ]
        if self.reorder:
            texts[-1] += f" by {self.hold:g} s"
        if self.delay:
            texts.append(f"delay {self.delay:g} s" + (f" ± {self.jitter:g} s" if self.jitter else ""))
        return ", ".join(texts)


@dataclass(frozen=True, slots=True)
class Shares:
    """How likely it is that a message never comes, that it comes more than once, that it comes, and all its
    copies have been overtaken, and that the first copy that comes is changed.
    """

    missing: float = 0.0
    repeated: float = 0.0
    overtaken: float = 0.0
    corrupted: float = 0.0

    def each(self) -> tuple[float, ...]:
        return self.missing, self.repeated, self.overtaken, self.corrupted


def shares(specs: Sequence[MessageSpec]) -> Shares:
    """What faults in a row do to one message; what each does to a copy is independent of all else.

    >>> shares([MessageSpec(drop=0.5), MessageSpec(duplicate=0.5)]).repeated
    0.25
    """
    none, one, still, changed = 0.0, 0.0, 0.0, 0.0  # of no copy, of one in all, of no prompt one
    one = 1.0
    for spec in reversed(specs):
        kept, twice = 1 - spec.drop, spec.duplicate
        one = kept * ((1 - twice) * one + 2 * twice * one * none)
        none = spec.drop + kept * ((1 - twice) * none + twice * none**2)
        prompt = (1 - twice) * still + twice * still**2
        still = spec.drop + kept * (spec.reorder + (1 - spec.reorder) * prompt)
        changed = spec.corrupt + (1 - spec.corrupt) * changed
    # of binary fractions that should cancel, a trace may be left
    return Shares(none, _clean(1 - none - one), _clean(still - none), changed)


def _clean(share: float) -> float:
    return 0.0 if share < 1e-12 else share


__all__ = ["LEAST", "MOST_HELD", "MessageSpec", "Shares", "shares"]

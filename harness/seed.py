"""One seed, many named streams of random choices."""

from __future__ import annotations

import random


def stream(seed: int | str, *names: object) -> random.Random:
    """A random stream of its own for `names`, the same for the same seed and names on every machine.

    Streams do not disturb one another: a choice more in one changes nothing in the others.

    >>> stream(7, "plan", 0).random() == stream(7, "plan", 0).random() != stream(7, "plan", 1).random()
    True
    """
    return random.Random("/".join(str(part) for part in (seed, *names)))


__all__ = ["stream"]

"""How many of a number of independent trials succeed, exactly."""

from __future__ import annotations

import math


def interval(trials: int, probability: float, doubt: float) -> tuple[int, int]:
    """The fewest and the most successes that are not too unlikely: each tail is at most `doubt`/2.

    >>> interval(20_000, 0.1, 0.001)
    (1862, 2141)
    """
    if probability <= 0 or probability >= 1:
        return (trials if probability >= 1 else 0,) * 2
    logs = math.log(probability), math.log1p(-probability)

    def chance(k: int) -> float:
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        return math.exp(ways + k * logs[0] + (trials - k) * logs[1])

    low, tail = 0, chance(0)
    while tail <= doubt / 2:
        low += 1
        tail += chance(low)
    high, tail = trials, chance(trials)
    while tail <= doubt / 2:
        high -= 1
        tail += chance(high)
    return low, high


__all__ = ["interval"]

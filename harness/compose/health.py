"""A service's health check."""

from __future__ import annotations

from dataclasses import dataclass

from harness.compose.item import Item
from harness.compose.quantity import duration_of


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How the engine finds out whether a container is healthy; times in seconds.

    `test` is ``("CMD", word, ...)``, ``("CMD-SHELL", line)`` or ``("NONE",)``; empty, it is the image's. None
    is what the image says, or else the engine.
    """

    test: tuple[str, ...] = ()
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    start_period: float | None = None
    start_interval: float | None = None

    @property
    def disabled(self) -> bool:
        """Whether there is to be none, whatever the image says."""
        return self.test == ("NONE",)


_TIMES = ("interval", "timeout", "start_period", "start_interval")


def read_health(item: Item) -> HealthCheck:
    """The health check that `item` gives."""
    keys = item.mapping(("test", "disable", "retries", *_TIMES))
    if "disable" in keys and keys["disable"].flag():
        return HealthCheck(("NONE",))
    test = _test(keys["test"]) if "test" in keys else ()
    times = {name: duration_of(keys[name]) for name in _TIMES if name in keys}
    for name, length in times.items():
        # the engine refuses less than a millisecond and takes 0 as unsaid
        if 0 < length < 0.001:
            raise keys[name].expected("0 or at least 1ms")
    return HealthCheck(test, retries=keys["retries"].count() if "retries" in keys else None, **times)


def _test(item: Item) -> tuple[str, ...]:
    if isinstance(item.value, str):
        return ("CMD-SHELL", item.filled())
    words = item.texts()
    right = words and (
        words == ("NONE",)
        or (words[0] == "CMD" and len(words) > 1)
        or (words[0] == "CMD-SHELL" and len(words) == 2)
    )
    if not right:
        raise item.error('must be a line of shell, ["CMD", word, ...], ["CMD-SHELL", line] or ["NONE"]')
    return words


__all__ = ["HealthCheck", "read_health"]

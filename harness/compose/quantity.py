"""Durations and sizes as Compose writes them: ``1m30s`` in seconds, ``64m`` in bytes."""

from __future__ import annotations

import re
from decimal import Decimal

from harness.compose.item import Item

_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)"
_DURATION = re.compile(f"(?:{_PART})+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def seconds(text: str) -> float:
    """The length in seconds of a duration. Raises ValueError for anything else.

    >>> seconds("1m30s"), seconds("500ms"), seconds("1.5h")
    (90.0, 0.5, 5400.0)
    """
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration such as 1m30s or 500ms")
    return float(sum(Decimal(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)))


def size(text: str) -> int:
    """The number of bytes of a size; every unit is a power of 1024. Raises ValueError for anything else.

    >>> size("64m"), size("1.5kb"), size("300")
    (67108864, 1536, 300)
    """
    if not (match := _SIZE.fullmatch(text.strip())):
        raise ValueError(f"{text!r} is no size such as 64m or 1gb")
    return int(Decimal(match[1]) * 1024 ** _POWERS[match[2].lower()])


def duration_of(item: Item) -> float:
    """The duration in seconds that `item` gives. Raises ComposeError."""
    try:
        return seconds(item.text())
    except ValueError:
        raise item.expected("a duration such as 1m30s or 500ms (units: h, m, s, ms, us)") from None


def size_of(item: Item) -> int:
    """The bytes that `item` gives. Raises ComposeError."""
    try:
        return size(item.text())
    except ValueError:
        raise item.expected("a size such as 64m or 1gb (units: b, k, m, g)") from None


__all__ = ["duration_of", "seconds", "size", "size_of"]

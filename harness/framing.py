"""How the messages of a port are told apart, so that faults can act on whole messages.

A proxy of byte streams knows nothing of packets: TCP hides their loss, order and duplication. Where it knows
where messages end, it can lose, reorder, duplicate and corrupt these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

PREFIXES = (1, 2, 3, 4, 8)


class Framing:
    """Base of the framings; `wire` is how a proxy server is told."""

    def wire(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} has no wire()")


@dataclass(frozen=True)
class Lines(Framing):
    """A message is a line, with its newline: Redis inline commands, JSON lines, many text protocols."""

    def wire(self) -> dict[str, Any]:
        return {"kind": "line"}


@dataclass(frozen=True)
class LengthPrefixed(Framing):
    """A message says its length: `offset` bytes, a length of `size` bytes, then so many bytes plus `adjust`.

    So ``adjust=-4`` is for a length of 4 bytes that counts itself. `greeting` lines come first, once on each
    connection, and are no messages. Raises ValueError for numbers that cannot be.

    >>> LengthPrefixed(4, byteorder="little").wire()["size"]
    4
    >>> LengthPrefixed(5)
    Traceback (most recent call last):
    ValueError: LengthPrefixed: size is 5, but must be one of 1, 2, 3, 4, 8 (bytes)
    """

    size: int = 4
    byteorder: Literal["big", "little"] = "big"
    offset: int = 0
    adjust: int = 0
    greeting: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("offset", 0, 1024), ("adjust", -1024, 1024), ("greeting", 0, 1024)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise self._wrong(name, f"a whole number of {least} to {most}")
        if type(self.size) is not int or self.size not in PREFIXES:
            raise self._wrong("size", f"one of {', '.join(map(str, PREFIXES))} (bytes)")
        if self.byteorder not in ("big", "little"):
            raise self._wrong("byteorder", "'big' or 'little'")

    def _wrong(self, name: str, expected: str) -> ValueError:
        return ValueError(f"LengthPrefixed: {name} is {getattr(self, name)!r}, but must be {expected}")

    def wire(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("size", "offset", "adjust", "greeting")}
        return {"kind": "length", "little": self.byteorder == "little", **numbers}


@dataclass(frozen=True)
class Http1(Framing):
    """A message is a request or an answer of HTTP/1.1, with its body: by Content-Length, or chunked.

    What cannot be held back passes untouched: answers that end with the connection, ``100 Continue`` and what
    waits for it, and what comes after another protocol was agreed on.
    """

    def wire(self) -> dict[str, Any]:
        return {"kind": "http1"}


@dataclass(frozen=True)
class Framings:
    """The framings of a port where they depend on who connects and on the way; None: not known, not touched.

    `peers` are the bytes that other nodes send to the port, `to_peers` those that they get from it; `clients`
    and `to_clients` likewise.
    """

    peers: Framing | None = None
    to_peers: Framing | None = None
    clients: Framing | None = None
    to_clients: Framing | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not isinstance(value, Framing):
                expected = f"one of {_CHOICES}, or None"
                raise ValueError(f"Framings: {field.name} is {value!r}, but must be {expected}")


Declared = Mapping[str, Framing | Framings]
_CHOICES = "Lines(), LengthPrefixed(size), Http1()"


def framings(declared: object) -> Framings:
    """What a target says of a port, for each way. Raises ValueError that lists the choices."""
    if isinstance(declared, Framings):
        return declared
    if not isinstance(declared, Framing):
        raise ValueError(f"{declared!r} is no framing: expected {_CHOICES}, or Framings(...) of them")
    return Framings(declared, declared, declared, declared)


__all__ = ["Declared", "Framing", "Framings", "Http1", "LengthPrefixed", "Lines", "framings"]

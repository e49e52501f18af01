"""Toxics as values: what there is, with which attributes, and what must never reach a server.

`adapter` brings them to a server; nothing here speaks to one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from harness.proxy.embedded import ALL, DIRECTIONS, MILLION, OURS, STAGES

Stream = Literal["upstream", "downstream"]

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {kind: stage.attributes for kind, stage in STAGES.items()}
"""The attributes of each toxic type; all are integers, and 0 where not given."""

EXTENSIONS: Mapping[str, tuple[str, ...]] = {kind: stage.attributes for kind, stage in OURS.items()}
"""Those of the toxic types that only the embedded server has."""

_KNOWN = {kind: stage.attributes for kind, stage in ALL.items()}

LARGEST = 2**62 // 10**6
"""The largest attribute: twice as many milliseconds overflow a real server's arithmetic, or kill it."""


@dataclass(frozen=True)
class Toxic:
    """One fault on one stream of a proxy, as the wire has it; `toxic` makes one, with the defaults filled in.

    `stream` is the way of the bytes it acts on: `upstream` from client to server, `downstream` from server
    to client. `toxicity` is the share of connections (above 0, up to 1) that it concerns.
    """

    type: str
    stream: Stream
    attributes: Mapping[str, int] = field(hash=False)
    name: str
    toxicity: float = 1.0


def toxic(
    type: str,
    *,
    stream: Stream = "downstream",
    name: str | None = None,
    toxicity: float = 1.0,
    **attributes: int,
) -> Toxic:
    """A valid `Toxic`, with the wire's defaults for what is not said: downstream, `<type>_<stream>`, 1.0, 0.

    Attributes are in the wire's own units: `latency` (latency, jitter: ms), `bandwidth` (rate: KB of 1000
    bytes per second, 0 stalls), `slow_close` (delay: ms), `timeout` (timeout: ms, 0 is never), `reset_peer`
    (timeout: ms), `slicer` (average_size, size_variation: bytes; delay: microseconds), `limit_data` (bytes),
    `noop`. The embedded server alone has `message` (drop, corrupt, duplicate, reorder: millionths of the
    messages; hold, delay, jitter: ms; seed), on streams whose framing it was told (`Server.frame`).

    Raises ValueError, which lists the valid choices.

    >>> toxic("latency", latency=100).name
    'latency_downstream'
    """
    made = Toxic(type, stream, dict(attributes), name or f"{type}_{stream}", toxicity)
    validate(made)
    return Toxic(made.type, made.stream, complete(made), made.name, made.toxicity)


def validate(toxic: Toxic) -> None:
    """Find what a server would refuse, misread or die of; raises ValueError that lists the valid choices."""
    if toxic.type not in _KNOWN:
        raise ValueError(f"unknown toxic type {toxic.type!r}; there are {', '.join(_KNOWN)}")
    if toxic.stream not in DIRECTIONS:
        raise ValueError(
            f"unknown stream {toxic.stream!r} of {toxic.name!r}; there are {', '.join(DIRECTIONS)}"
        )
    for name, value in toxic.attributes.items():
        what = f"attribute {name!r} of toxic {toxic.name!r} ({toxic.type})"
        if name not in _KNOWN[toxic.type]:
            known = ", ".join(_KNOWN[toxic.type]) or "none"
            raise ValueError(f"unknown {what}; it has {known}")
        if type(value) is not int:
            raise ValueError(f"{what} is {value!r}; the wire takes whole numbers (int) only")
        if not 0 <= value <= LARGEST:
            raise ValueError(f"{what} is {value}; it can be 0 to {LARGEST}")
    if toxic.type == "slicer":
        average = toxic.attributes.get("average_size", 0)
        variation = toxic.attributes.get("size_variation", 0)
        if average < 1 or variation > average:
            raise ValueError(
                f"slicer {toxic.name!r} has average_size {average} and size_variation {variation}, which "
                "kills a real server; average_size must be at least 1 and size_variation at most average_size"
            )
    for name in ("drop", "corrupt", "duplicate", "reorder") if toxic.type == "message" else ():
        if (share := toxic.attributes.get(name, 0)) > MILLION:
            raise ValueError(
                f"attribute {name!r} of toxic {toxic.name!r} is {share} millionths of the messages; "
                f"it can be 0 to {MILLION}"
            )
    if isinstance(toxic.toxicity, bool) or not 0 < toxic.toxicity <= 1:
        raise ValueError(
            f"toxicity of {toxic.name!r} is {toxic.toxicity!r}; it can be above 0 up to 1. "
            "A toxic of toxicity 0 still has effects: remove it instead"
        )
    segment(toxic.name)


def complete(toxic: Toxic) -> dict[str, int]:
    """All attributes of the type; those that are not given are 0, as on the wire."""
    return {name: toxic.attributes.get(name, 0) for name in _KNOWN[toxic.type]}


def same(one: Toxic, other: Toxic) -> bool:
    """Equal on the wire, which keeps 32 bits of the toxicity."""
    return (one.type, one.stream, one.name, complete(one)) == (
        other.type,
        other.stream,
        other.name,
        dict(other.attributes),
    ) and math.isclose(one.toxicity, other.toxicity, rel_tol=1e-6)


def segment(name: str) -> str:
    """A name as a part of a path; raises ValueError where no path can name it."""
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"no path can name {name!r}; a name is not empty, '.' or '..', and has no '/'")
    return quote(name, safe="")

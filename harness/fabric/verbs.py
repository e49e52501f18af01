"""Toxiproxy's own verbs by name, checked before anything is applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.fabric.breaking import Limit, Reset, Timeout
from harness.fabric.shaping import Slicer
from harness.fabric.stalling import SlowClose
from harness.fabric.verb import Verb

STREAM: Mapping[str, type[Any]] = {
    "reset_peer": Reset,
    "slicer": Slicer,
    "limit_data": Limit,
    "slow_close": SlowClose,
    "timeout": Timeout,
}


def stream_verb(kind: str, attributes: Mapping[str, int]) -> Verb:
    """The verb of Toxiproxy's toxic `kind`; ValueError for an unknown one, or for attributes it does not
    have.
    """
    if kind not in STREAM:
        raise ValueError(
            f"stream type {kind!r} is none of {', '.join(sorted(STREAM))} (latency and bandwidth are"
            f" `shape`, cuts `cut`)"
        )
    fields = STREAM[kind].__dataclass_fields__
    for key, value in attributes.items():
        if key not in fields:
            raise ValueError(f"{kind} has no attribute {key!r}; it has {', '.join(fields)}")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise ValueError(
                f"{kind} {key}={value!r}: expected an integer of 0 or more, in the units of the wire"
            )
    try:
        verb: Verb = STREAM[kind](**attributes)
    except TypeError as error:
        raise ValueError(f"{kind}: {error}; it takes {', '.join(fields)}") from None
    return verb

"""What the reading of one service needs to know of the rest of its file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.compose.item import Item
from harness.compose.variables import Variables


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that a service may use, what may be written to, and where sentences for the report go.

    `services` says of each service of the file whether it takes part.
    """

    services: Mapping[str, bool]
    networks: Collection[str]
    volumes: Collection[str]
    configs: Mapping[str, Item]
    secrets: Mapping[str, Item]
    writable: Collection[Path]
    variables: Variables
    notes: list[str]


__all__ = ["Scope"]

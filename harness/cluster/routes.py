"""What routed clusters have in common: the nodes' ports, and doors for who speaks to them from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.fabric.layout import API, Layout
from harness.fabric.routed import ROUTER
from harness.target import Target

FIRST_PORT = 7000  # where a target does not say: each node has its own address, so all take the same
LOOPBACK = "127.0.0.1"


def named_ports(target: Target, role: str) -> Mapping[str, int]:
    """The ports of a role's nodes by name: those the target says, else numbered from 7000."""
    given = target.ports_of(role) or ()
    if isinstance(given, Mapping):
        return dict(given)
    return {name: FIRST_PORT + place for place, name in enumerate(given)}


class Doors:
    """Ports of the host's loopback that lead inside: to each node itself, past all faults, and to the
    router's own ports. `directory` has the agents' sockets.
    """

    def __init__(self, layout: Layout, directory: Path, *, router: bool = True) -> None:
        self._wanted: list[tuple[str, str, int]] = [
            (node, layout.ip(node), port) for node in layout.nodes for port in layout.ports[node].values()
        ]
        if router:
            self._wanted += [(ROUTER, layout.router, port) for port in (API, *layout.entries.values())]
        self._layout, self._directory = layout, directory
        self._open: dict[tuple[str, int], int] = {}

    def wanted(self) -> str:
        """The doors as the argument of `harness.fabric.door`."""
        return json.dumps(
            [(str(self._directory / f"{p}.sock"), host, port) for p, host, port in self._wanted]
        )

    def opened(self, ports: bytes) -> None:
        """The doors are open, where the program's line says."""
        places = [(place, port) for place, _, port in self._wanted]
        self._open = dict(zip(places, json.loads(ports), strict=True))

    def entrance(self, port: int) -> tuple[str, int]:
        """Where a port of the router is reached."""
        return LOOPBACK, self._open[ROUTER, port]

    def of(self, node: str) -> tuple[str, Mapping[str, int]]:
        """Where a node itself is reached, past all faults."""
        return LOOPBACK, {name: self._open[node, port] for name, port in self._layout.ports[node].items()}


__all__ = ["FIRST_PORT", "LOOPBACK", "Doors", "named_ports"]

"""Every address of one routed cluster, as a function of its subnet."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.fabric import CLIENT, Pair

MOST_NODES = 200
API = 8474  # where the proxy server is asked, at the router's address
FIRST_ENTRY = 20_000  # the router's ports by which clients enter: one per port of a node, one for its probe
PROBE = 64_000  # probe connections to a node go to this port of it; they end at PROBE + their source's number
DATAGRAM = 63_999  # probe datagrams
CONTROL = 63_998  # the path through the proxy server that no fault touches; it ends one port lower


@dataclass(frozen=True)
class Layout:
    """`ports` gives each node's TCP ports that pass through the proxy server, by name.

    Links are ordered pairs of nodes; a client is one by the name ``client``. `subnet` has 256 addresses.

    >>> layout = Layout(ipaddress.IPv4Network("10.213.0.0/24"), {"n1": {"main": 7000}, "n2": {"main": 7000}})
    >>> layout.ip("n2"), layout.listen("n1", "n2"), layout.upstream("n1", "n2")
    ('10.213.0.12', '198.18.1.2', '198.19.1.2')
    """

    subnet: ipaddress.IPv4Network
    ports: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        if len(self.ports) > MOST_NODES:
            raise ValueError(f"{len(self.ports)} nodes: a router carries up to {MOST_NODES}")
        for node, ports in self.ports.items():
            for name, port in ports.items():
                if not 0 < port < CONTROL - 1:
                    raise ValueError(
                        f"port {name} of {node} is {port}: expected 1 to {CONTROL - 2}; those above carry the"
                        " fabric's own probes"
                    )

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.ports)

    @property
    def gateway(self) -> str:
        """The host's address in the subnet, where it has one."""
        return str(self.subnet[1])

    @property
    def router(self) -> str:
        return str(self.subnet[2])

    @property
    def router_mac(self) -> str:
        return "02:42:" + ":".join(f"{byte:02x}" for byte in self.subnet[2].packed)

    @cached_property
    def links(self) -> tuple[Pair, ...]:
        """Ordered pairs of nodes, and each client's entry to a node."""
        return tuple((a, b) for a in (*self.ports, CLIENT) for b in self.ports if a != b)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Ordered pairs of nodes."""
        return tuple(link for link in self.links if link[0] != CLIENT)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {CLIENT: 0, **{node: number for number, node in enumerate(self.ports, 1)}}

    def number(self, node: str) -> int:
        """1, 2, ... for nodes, 0 for clients."""
        return self._numbers[node]

    def ip(self, node: str) -> str:
        """A node's own address; clients are seen at the router's."""
        return self.router if node == CLIENT else str(self.subnet[10 + self.number(node)])

    def listen(self, src: str, dst: str) -> str:
        """Where the proxy server listens for connections from `src` to `dst`."""
        return self.router if src == CLIENT else f"198.18.{self.number(src)}.{self.number(dst)}"

    def upstream(self, src: str, dst: str) -> str:
        """What it dials for them: the router makes it `dst`'s address, and the sender `src`'s."""
        return f"198.19.{self.number(src)}.{self.number(dst)}"

    @cached_property
    def entries(self) -> Mapping[tuple[str, str], int]:
        """The router's port by which clients enter, for each node and port name."""
        return {
            (node, name): self._first_entry[node] + place
            for node, ports in self.ports.items()
            for place, name in enumerate(ports)
        }

    @cached_property
    def _first_entry(self) -> Mapping[str, int]:
        """Where each node's row of entries begins; the last of a row is that of its probe."""
        rows = itertools.accumulate((len(ports) + 1 for ports in self.ports.values()), initial=FIRST_ENTRY)
        return dict(zip(self.ports, rows, strict=False))

    def proxies(self) -> Iterator[tuple[Pair, str, int, int]]:
        """Each proxy: its link, port name, the port it listens on, the port it dials."""
        for link in self.links:
            for name, port in self.ports[link[1]].items():
                yield link, name, self.entries[link[1], name] if link[0] == CLIENT else port, port

    def probe(self, link: Pair) -> tuple[int, int]:
        """The ports of a link's probe proxy: the one it listens on, and the one it dials."""
        src, dst = link
        near = self._first_entry[dst] + len(self.ports[dst]) if src == CLIENT else PROBE
        return near, PROBE + self.number(src)


__all__ = ["API", "CONTROL", "DATAGRAM", "FIRST_ENTRY", "MOST_NODES", "PROBE", "Layout"]

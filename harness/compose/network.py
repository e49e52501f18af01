"""Networks: which services reach each other, and by what names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from harness.compose.item import Item

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the file: services that share one reach each other. `internal`: nothing else."""

    name: str
    internal: bool = False


_REFUSED = {
    "external": "it is not the run's own, and what is on it could not be cut off; leave it out",
    "driver_opts": "the fabric carries the bytes, not a driver of the engine's; leave it out",
    "enable_ipv6": "the fabric carries IPv4 only; leave it out",
}
_KNOWN = ("attachable", "driver", "enable_ipv4", "internal", "ipam", "labels", "name")
_MEMBER = ("aliases", "gw_priority", "priority")
_NOT_MEMBER = {
    "ipv4_address": "the fabric gives the addresses; use names instead, and leave it out",
    "ipv6_address": "the fabric gives the addresses and carries IPv4 only; leave it out",
    "link_local_ips": "the fabric gives the addresses; leave it out",
    "mac_address": "the fabric tells nodes apart by addresses of its own; leave it out",
    "interface_name": "the fabric names the interfaces; leave it out",
    "driver_opts": "the fabric carries the bytes, not a driver of the engine's; leave it out",
}


def read_network(item: Item, notes: list[str]) -> Network:
    """A network that the file declares."""
    name = str(item.path[-1])
    keys = item.mapping((*_KNOWN, *_REFUSED))
    for key, why in _REFUSED.items():
        if key in keys and keys[key].value not in (False, None):
            raise keys[key].error(f"cannot be honoured: {why}")
    if "driver" in keys and keys["driver"].text() not in ("", "bridge", "default"):
        raise keys["driver"].error(f"is {keys['driver'].text()!r}, which cannot be honoured; valid is bridge")
    if "enable_ipv4" in keys and not keys["enable_ipv4"].flag():
        raise keys["enable_ipv4"].expected("true: the fabric carries IPv4 only")
    if "ipam" in keys:
        ipam = keys["ipam"].mapping(("config", "driver", "options"))
        for key in ("config", "options"):
            if key in ipam and ipam[key].value:
                raise ipam[key].error("cannot be honoured: the fabric gives the addresses; leave it out")
        if "driver" in ipam and ipam["driver"].text() != "default":
            raise ipam["driver"].expected("default: the fabric gives the addresses")
    if "name" in keys:
        notes.append(f"the name {keys['name'].text()} of network {name} is ignored: it is new for each run")
    return Network(name, "internal" in keys and keys["internal"].flag())


def read_membership(
    item: Item | None, declared: Collection[str], notes: list[str]
) -> dict[str, tuple[str, ...]]:
    """The networks of a service, each with the names that the service has there beside its own."""
    if item is None:
        return {DEFAULT: ()}
    members = item.value if isinstance(item.value, dict) else {part.text(): part for part in item.items()}
    found: dict[str, tuple[str, ...]] = {}
    for name, part in members.items():
        if name not in declared and name != DEFAULT:
            known = f"the networks are {', '.join(declared)}" if declared else "the file has none"
            raise part.error(f"joins the network {name!r}, which is not declared under networks; {known}")
        keys = part.mapping((*_MEMBER, *_NOT_MEMBER)) if isinstance(item.value, dict) else {}
        for key, why in _NOT_MEMBER.items():
            if key in keys:
                raise keys[key].error(f"cannot be honoured: {why}")
        notes.extend(
            f"{key} of service {item.path[1]} in network {name} is ignored: a node has one interface"
            for key in ("gw_priority", "priority")
            if key in keys
        )
        found[name] = keys["aliases"].texts() if "aliases" in keys else ()
    return found or {DEFAULT: ()}


__all__ = ["DEFAULT", "Network", "read_membership", "read_network"]

"""Ports of a service: ``ports`` and ``expose`` in all their forms."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from harness.compose.item import Item

_RANGE = "[0-9]+(?:-[0-9]+)?"
_SHORT = re.compile(
    rf"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]+(?:\.[0-9]+)+):(?P<there>{_RANGE})?:|(?P<host>{_RANGE})?:)?"
    rf"(?P<own>{_RANGE})(?:/(?P<protocol>[a-z]+))?"
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Container ports in the order of the file, and the host's ports that they were to have."""

    tcp: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()
    host: tuple[str, ...] = ()


def read_ports(ports: Item | None, expose: Item | None) -> Ports:
    """What `ports` and `expose` say together; each port once."""
    found: dict[str, dict[int, None]] = {"tcp": {}, "udp": {}}
    host: dict[str, None] = {}
    for item in ports.items() if ports is not None else ():
        numbers, protocol, published = _long(item) if isinstance(item.value, dict) else _short(item)
        found[protocol].update(dict.fromkeys(numbers))
        if published:
            host[published] = None
    for item in expose.items() if expose is not None else ():
        numbers, protocol, published = _short(item)
        if published:
            raise item.expected("a port, a range such as 3000-3005, or either with /udp")
        found[protocol].update(dict.fromkeys(numbers))
    return Ports(tuple(found["tcp"]), tuple(found["udp"]), tuple(host))


def _short(item: Item) -> tuple[range, str, str]:
    match = _SHORT.fullmatch(item.text())
    if match is None:
        raise item.expected('[[address:]port:]port[/protocol] as text, such as "8080:80" or "53:53/udp"')
    _loopback(item, (match["ip"] or "").strip("[]"))
    own = _range(item, match["own"])
    published = match["host"] or match["there"] or ""
    if published:
        wide = len(_range(item, published))
        if len(own) > 1 and wide != len(own):
            raise item.error(
                f"joins {wide} ports of the host with {len(own)} of the container; valid is as many"
            )
    return own, _protocol(item, match["protocol"] or "tcp"), published


def _long(item: Item) -> tuple[range, str, str]:
    keys = item.mapping(("name", "mode", "host_ip", "target", "published", "protocol", "app_protocol"))
    if "target" not in keys:
        raise item.error("lacks the target, a port of the container")
    if "host_ip" in keys:
        _loopback(keys["host_ip"], keys["host_ip"].text())
    protocol = _protocol(keys["protocol"], keys["protocol"].text()) if "protocol" in keys else "tcp"
    published = keys["published"].text() if "published" in keys else ""
    if published:
        _range(keys["published"], published)
    return _range(keys["target"], keys["target"].text()), protocol, published


def _range(item: Item, text: str) -> range:
    if not re.fullmatch(_RANGE, text):
        raise item.expected("a port or a range of ports such as 3000-3005")
    first, _, last = text.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers or numbers.start < 1 or numbers[-1] > 65535:
        raise item.error(f"has the ports {text}; they must be from 1 to 65535, the smaller one first")
    return numbers


def _protocol(item: Item, protocol: str) -> str:
    if protocol not in ("tcp", "udp"):
        raise item.error(f"has the protocol {protocol!r}; the fabric carries tcp and udp")
    return protocol


def _loopback(item: Item, address: str) -> None:
    """Refuse an address of the host that says more than `here`."""
    if not address:
        return
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise item.error(f"has the host address {address!r}, which is none") from None
    if not (parsed.is_loopback or parsed.is_unspecified):
        raise item.error(
            f"publishes on the host address {address}, which is not honoured: clients enter by the harness's "
            "own ports; leave the address out, or write 127.0.0.1, 0.0.0.0, ::1 or ::"
        )


__all__ = ["Ports", "read_ports"]

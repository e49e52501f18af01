"""The router's packet filter as text for iptables-restore: guards, translation, cuts.

All rules live in the router's network namespace (those of `guard` in each pod's), in chains of our own where
they change. Loading a text is atomic: all of it holds from one instant on, for the whole cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.fabric import CLIENT, Pair
from harness.fabric.layout import API, CONTROL, PROBE, Layout

IN, OUT, CLOSED = "NEMESIS_IN", "NEMESIS_OUT", "NEMESIS_CLOSED"
HELD = "NEMESIS_HELD"
APART = "NEMESIS_APART"
SEEN_IN, SEEN_OUT = "NEMESIS_SEEN_IN", "NEMESIS_SEEN_OUT"  # count what is let through, per link
BYPASS = "nemesis-bypass"


def _table(name: str, *lines: str) -> str:
    return "\n".join((f"*{name}", *lines, "COMMIT\n"))


def boot(layout: Layout) -> str:
    """What a router starts with: everything translated, and closed until the first `cuts`.

    A router that is started again by somebody else therefore stays closed: it must not heal by dying.
    """
    return (
        _table(
            "raw",
            *(f":{chain} - [0:0]" for chain in (IN, OUT, CLOSED, SEEN_IN, SEEN_OUT)),
            # what only the router itself may use
            *(f"-A PREROUTING ! -i lo -d {net} -j DROP" for net in ("198.18.0.0/15", "127.0.0.0/8")),
            f"-A PREROUTING -j {CLOSED}",
            *(f"-A PREROUTING -j {chain}" for chain in (IN, SEEN_IN)),
            *(f"-A OUTPUT -j {chain}" for chain in (OUT, SEEN_OUT)),
            *(rule for pair in every_pair(layout) for rule in _of(layout, pair, SEEN_IN, SEEN_OUT, "")),
            *(f"-A {CLOSED} -s {layout.ip(node)} -j DROP" for node in layout.nodes),
        )
        + _table("nat", *_translations(layout))
        + _table(
            "filter",
            f":{HELD} - [0:0]",
            *(f"-A {chain} -j {HELD}" for chain in ("INPUT", "FORWARD")),
            # with them nodes learn a route past the router
            "-A OUTPUT -p icmp --icmp-type redirect -j DROP",
            *(f"-A INPUT -s {layout.ip(node)} -p tcp --dport {API} -j DROP" for node in layout.nodes),
        )
    )


def _translations(layout: Layout) -> Iterator[str]:
    for a, b in layout.pairs:
        ports = [*layout.ports[b].values(), PROBE]
        for first in range(0, len(ports), 15):  # what multiport takes
            some = ",".join(map(str, ports[first : first + 15]))
            yield (
                f"-A PREROUTING -s {layout.ip(a)} -d {layout.ip(b)} -p tcp -m multiport --dports {some}"
                f" -j DNAT --to-destination {layout.listen(a, b)}"
            )
    for a, b in layout.links:
        yield f"-A OUTPUT -d {layout.upstream(a, b)} -p tcp -j DNAT --to-destination {layout.ip(b)}"
        yield (
            f"-A POSTROUTING -m conntrack --ctorigdst {layout.upstream(a, b)}"
            f" -j SNAT --to-source {layout.ip(a)}"
        )
    yield f"-A POSTROUTING -s {layout.subnet} ! -d {layout.subnet} -j MASQUERADE"


def cuts(layout: Layout, pairs: Iterable[Pair]) -> str:
    """Exactly `pairs` are cut from now on: nothing of a's reaches b, by whatever protocol.

    Three kinds of rule for each: the packets that a sends; what the proxy server sends to b for connections
    that a opened (it has read ahead); what it answers b, on connections that b opened.
    A fourth stops packets that the packet engine held when the cut came.
    """
    rules = [rule for pair in sorted(pairs) for rule in _of(layout, pair, IN, OUT, "-j DROP")]
    held = [
        f"-A {HELD} -s {layout.ip(a)} -d {address} -j DROP"
        for a, b in sorted(pairs)
        if CLIENT not in (a, b)
        for address in (layout.ip(b), layout.listen(a, b))
    ]
    return _table("raw", *(f"-F {chain}" for chain in (IN, OUT, CLOSED)), *rules) + _table(
        "filter", f"-F {HELD}", *held
    )


def apart(layout: Layout, pairs: Iterable[Pair]) -> str:
    """What keeps `pairs` of nodes from ever reaching each other, whatever faults come and go; '' for none.

    ``(a, "")`` keeps a from everything outside. The fabric's own probes pass, so that faults can be proved.
    """
    rules = [
        f"-A {APART} -s {layout.ip(a)} {f'-d {layout.ip(b)}' if b else f'! -d {layout.subnet}'} -j DROP"
        for a, b in sorted(pairs)
    ]
    probes = [
        f"-A {APART} -p {protocol} --{end} {CONTROL}:65535 -d {layout.subnet} -j RETURN"
        for protocol in ("tcp", "udp")
        for end in ("dport", "sport")
    ]
    jump = f"-I PREROUTING ! -i lo -j {APART}"
    return _table("raw", f":{APART} - [0:0]", *probes, *rules, jump) if rules else ""


def every_pair(layout: Layout) -> list[Pair]:
    """All ordered pairs that carry bytes, those of clients both ways."""
    return [*layout.links, *((node, CLIENT) for node in layout.nodes)]


def _of(layout: Layout, pair: Pair, inward: str, outward: str, action: str) -> Iterator[str]:
    """The rules that match what crosses a pair, and do `action` (nothing: count)."""
    for inside, match in _matches(layout, pair):
        yield f"-A {inward if inside else outward} {match} {action}".rstrip()


def _matches(layout: Layout, pair: Pair) -> Iterator[tuple[bool, str]]:
    """What crosses a pair, as iptables-save has it, and whether it is to be seen coming in.

    Only addresses and ports of TCP, which are the kernel's own words: an extension's match (comment,
    multiport) has each load wait until the kernel has freed the rules that the one before took away.
    """
    a, b = pair
    if a == CLIENT:
        yield True, f"-d {layout.router}/32 -p tcp -m tcp --dport {_entries(layout, b)}"
    else:
        yield True, f"-s {layout.ip(a)}/32 -d {layout.ip(b)}/32"
    if b == CLIENT:
        yield False, f"-s {layout.router}/32 -p tcp -m tcp --sport {_entries(layout, a)}"
    else:
        yield False, f"-d {layout.upstream(a, b)}/32"
        if a != CLIENT:
            yield False, f"-s {layout.listen(b, a)}/32 -d {layout.ip(b)}/32"


def _entries(layout: Layout, node: str) -> str:
    """The router's ports by which clients reach `node`, and that of its probe: numbered in a row."""
    ports = [layout.entries[node, name] for name in layout.ports[node]]
    last = layout.probe((CLIENT, node))[0]
    return f"{ports[0]}:{last}" if ports else str(last)


_COUNTED = re.compile(r"^\[(\d+):(\d+)\] -A (\S+) (.*?)(?: -j DROP)?$")


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one pair, since the router started: packets and bytes let through, on the legs from the nodes
    (`passed`) and on the proxy server's own (`relayed`); packets that the cut in force has `dropped`."""

    passed: int = 0
    relayed: int = 0
    bytes: int = 0
    dropped: int = 0


def counted(layout: Layout, saved: str) -> Mapping[Pair, Counted]:
    """What the rules have counted per pair, from the output of ``iptables-save -c -t raw``."""
    pairs = {match: pair for pair in every_pair(layout) for _, match in _matches(layout, pair)}
    found: dict[Pair, Counted] = {}
    for line in saved.splitlines():
        if (match := _COUNTED.match(line)) is None or (pair := pairs.get(match[4])) is None:
            continue
        packets, size, chain = int(match[1]), int(match[2]), match[3]
        before = found.get(pair, Counted())
        if chain == SEEN_IN:
            found[pair] = replace(before, passed=before.passed + packets, bytes=before.bytes + size)
        elif chain == SEEN_OUT:
            found[pair] = replace(before, relayed=before.relayed + packets)
        elif chain in (IN, OUT):
            found[pair] = replace(before, dropped=before.dropped + packets)
    return found


def guard(layout: Layout) -> str:
    """What a pod on a shared network starts with: packets of peers are taken from the router only.

    A pod that has lost its route, or learnt another one, is cut off rather than past the faults; what came
    round the router is counted (`bypassed`). What is sent to all at once never crosses a router: it is
    dropped, and no bypass.
    """
    everybody = ("224.0.0.0/4", "255.255.255.255", layout.subnet.broadcast_address)
    return _table(
        "raw",
        ":NEMESIS_GUARD - [0:0]",
        "-A PREROUTING ! -i lo -j NEMESIS_GUARD",
        f"-A NEMESIS_GUARD -m mac --mac-source {layout.router_mac} -j RETURN",
        f"-A NEMESIS_GUARD -s {layout.gateway} -j DROP",
        *(f"-A NEMESIS_GUARD -d {address} -j DROP" for address in everybody),
        f"-A NEMESIS_GUARD -s {layout.subnet} -m comment --comment {BYPASS} -j DROP",
        "-A NEMESIS_GUARD -j DROP",
    )


def bypassed(saved: str) -> int | None:
    """Packets that reached a pod past the router, from ``iptables-save -c -t raw``; None: it has no guard."""
    lines = [line for line in saved.splitlines() if BYPASS in line]
    return int(lines[0].lstrip("[").split(":")[0]) if lines else None


__all__ = ["Counted", "apart", "boot", "bypassed", "counted", "cuts", "every_pair", "guard"]

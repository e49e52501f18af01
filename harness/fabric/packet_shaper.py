"""What tc has of packet faults: a class per ordered pair on the interface towards its destination."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.fabric import packet_rules
from harness.fabric.packet_rules import Served
from harness.fabric.packet_trials import RUN_ERRORS, Run

_EMPTY = 2.0  # seconds, beside its delay, after which what a removed class still holds is given up
_PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a class holds now, and what it has dropped (lost on purpose by netem, or overflowed)."""

    packets: int
    dropped: int


class Shaper:
    """Classes of htb, with netem or a plain queue in them, on interfaces of a router.

    `interfaces` gives the one towards each address. Raises what `run` raises; an interface on which a command
    failed has no class any more.
    """

    def __init__(self, run: Run, interfaces: Mapping[str, str]) -> None:
        self._run, self._interfaces = run, interfaces
        self._on: dict[str, dict[int, Served]] = {}

    def put(self, wanted: Iterable[Served]) -> None:
        """Add or change the classes of these pairs; others stay as they are."""
        lines: dict[str, list[str]] = {}
        for served in wanted:
            interface = self._interfaces[served.pair[1]]
            there = self._on.get(interface, {}).get(served.number)
            if there == served:
                continue
            if there and packet_rules.leaf_kind(there) != packet_rules.leaf_kind(served):
                self.drop([there])
                there = None
            batch = lines.setdefault(interface, [])
            if interface not in self._on:
                self._on[interface] = {}
                batch.append(packet_rules.root(interface))
            batch += (packet_rules.changed if there else packet_rules.added)(interface, served)
            self._on[interface][served.number] = served
        for interface, batch in lines.items():
            self._tc(interface, batch)

    def drop(self, gone: Iterable[Served]) -> None:
        """Remove the classes of these pairs, after what they hold has gone out.

        This takes as long as the packets held have to wait: the kernel cannot be told to hurry them.
        """
        going: dict[str, list[Served]] = {}
        for served in gone:
            interface = self._interfaces[served.pair[1]]
            if served.number in self._on.get(interface, {}):
                going.setdefault(interface, []).append(self._on[interface][served.number])
        for interface, some in going.items():
            self._tc(interface, [line for s in some for line in packet_rules.opened(interface, s)])
        for interface, some in going.items():
            end = time.monotonic() + _EMPTY + max(s.spec.delay + s.spec.jitter for s in some)
            numbers = {s.number for s in some}
            while any(leaf.packets for n, leaf in self._leaves(interface).items() if n in numbers):
                if time.monotonic() > end:
                    break
                time.sleep(_PAUSE)
            self._tc(interface, [line for s in some for line in packet_rules.removed(interface, s)])
            for number in numbers:
                del self._on[interface][number]
            if not self._on[interface]:
                self._bare(interface)

    def kept(self) -> list[Served]:
        """What has a class now."""
        return [served for on in self._on.values() for served in on.values()]

    def leaves(self) -> dict[int, Leaf]:
        """What the kernel says of each class, by number."""
        return {number: leaf for interface in self._on for number, leaf in self._leaves(interface).items()}

    def close(self) -> None:
        """Remove everything; what is held is lost."""
        for interface in list(self._on):
            with contextlib.suppress(*RUN_ERRORS):
                self._bare(interface)
        self._on.clear()

    def _leaves(self, interface: str) -> dict[int, Leaf]:
        found = {}
        for one in json.loads(self._run(["tc", "-s", "-j", "qdisc", "show", "dev", interface])):
            root, _, number = one.get("parent", "").partition(":")
            if root == "1" and number:
                found[int(number, 16)] = Leaf(int(one["qlen"]), int(one["drops"]))
        return found

    def _tc(self, interface: str, lines: list[str]) -> None:
        try:
            self._run(["tc", "-batch", "-"], "\n".join(lines) + "\n")
        except RUN_ERRORS:
            with contextlib.suppress(*RUN_ERRORS):
                self._bare(interface)
            self._on.pop(interface, None)
            raise

    def _bare(self, interface: str) -> None:
        self._run(["tc", "qdisc", "del", "dev", interface, "root"])
        self._on.pop(interface, None)

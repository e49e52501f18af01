"""Packet faults in a router: per ordered pair of addresses, by whichever engine the kernel there has."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.fabric import FaultError, packet_rules
from harness.fabric.packet_channel import Channel
from harness.fabric.packet_rules import CHAIN, SERVES, Served
from harness.fabric.packet_shaper import Shaper
from harness.fabric.packet_spec import NOTHING, Addresses, PacketSpec, merged
from harness.fabric.packet_trials import RUN_ERRORS, Run, Trials, said

_OFFLOADS = Path(__file__).with_name("offloads.py")
_RULE = re.compile(rf"^\[(\d+):(\d+)\] -A {CHAIN} -s ([\d.]+)/32 -d ([\d.]+)/32 .*?-j (\w+)", re.MULTILINE)
_ENGINE_COUNTS = ("dropped", "duplicated", "corrupted", "reordered", "held", "overflowed")


@dataclass(frozen=True, slots=True)
class Reading:
    """What kernel and engine say of a pair; None where the engine that serves it does not count.

    `packets` and `bytes` came in, `dropped` were lost on purpose, `held` wait, `overflowed` found a queue
    full.
    """

    spec: PacketSpec
    engines: Mapping[str, str]
    packets: int
    bytes: int
    dropped: int | None = 0
    duplicated: int | None = 0
    corrupted: int | None = 0
    reordered: int | None = 0
    held: int | None = 0
    overflowed: int = 0


class PacketFaults:
    """Packet faults of one router.

    `run` executes a command in the router's namespace, `spawn_engine` starts `harness.fabric.packet_engine`
    there. `interfaces` gives the router's interface towards each address. `senders` gives the other end of
    the link, where it can be reached: how to run a command in the node's namespace, and its interface. There
    segment offloading is switched off while what the node sends has a fault that needs it; without it, only
    the packet engine, which needs none, may serve what is counted in packets. `force` is the only engine to
    take beside htb.

    Delay, jitter, loss and the like act where a packet enters the router (netem: where it leaves), rates
    where it leaves. Only the packet engine's choices follow `seed`; the kernel's own engines have no seed.
    Not safe for several threads.
    """

    def __init__(
        self,
        run: Run,
        spawn_engine: Callable[[], Channel],
        interfaces: Mapping[str, str],
        *,
        senders: Mapping[str, tuple[Run, str]] | None = None,
        seed: int | str = 0,
        force: str | None = None,
    ) -> None:
        if force is not None and force not in SERVES:
            raise ValueError(f"force={force!r} is none of {', '.join(SERVES)}")
        self._run, self._spawn, self._interfaces = run, spawn_engine, dict(interfaces)
        self._senders, self._force = dict(senders or {}), force
        self.seed = seed  # of what is applied from now on
        self._shaper, self._trials = Shaper(run, self._interfaces), Trials(run, self._ping)
        self._channel: Channel | None = None
        self._served: dict[Addresses, Served] = {}
        self._numbers: dict[Addresses, int] = {}
        self._specs: dict[Addresses, int] = {}  # how many a pair has had: each has random numbers of its own
        self._queues: dict[int, Mapping[str, Any]] = {}  # what the engine has
        self._rules: dict[Addresses, tuple[str, ...]] = {}  # what the chain has
        self._hooked = False
        self._switched: dict[tuple[str, str], list[str]] = {}  # features that were on, by end of a link

    # ------------------------------------------------------------ verbs

    def apply(
        self, faults: Mapping[Addresses, Sequence[PacketSpec]]
    ) -> Mapping[Addresses, Mapping[str, str]]:
        """Make these the faults in force, and no others; the engine of each verb, by pair.

        What a pair has in common with before goes on undisturbed. The rules of all pairs change in one step;
        classes of tc are in place just before, engines know their specs. Packets held by a fault that is gone
        are let go, in order: at once by the engine, at their time by tc, which this waits for.

        Raises ValueError for an unknown address, FaultUnsupported (nothing has changed), FaultError where a
        command failed or the kernel does not show what was asked: the faults before are put back then.
        """
        before = dict(self._served)
        wanted = self._planned(faults)
        try:
            self._enforce(wanted)
            self._readings()  # raises where kernel or engine do not have what was asked
        except (FaultError, *RUN_ERRORS) as error:
            try:
                self._enforce(before)
            except (FaultError, *RUN_ERRORS) as second:
                self.close()
                raise FaultError(
                    f"packet faults were not applied: {said(error)}; those before could not be put back"
                    f" ({said(second)}), so that none is in force"
                ) from error
            raise FaultError(f"packet faults were not applied: {said(error)}") from error
        return {pair: served.engines for pair, served in wanted.items()}

    def in_force(self) -> Mapping[Addresses, Reading]:
        """What kernel and engine say of each pair that has a fault. FaultError if one does not know of it."""
        try:
            return self._readings()
        except RUN_ERRORS as error:
            raise FaultError(f"packet faults cannot be read back: {said(error)}") from error

    def close(self) -> None:
        """Remove every fault and trace; what cannot be reached any more is gone already. Idempotent."""
        if self._hooked:
            with contextlib.suppress(*RUN_ERRORS):
                self._restore([f"-D PREROUTING -j {CHAIN}", f"-F {CHAIN}", f"-X {CHAIN}"])
        self._hooked = False
        self._rules.clear()
        if self._channel:
            with contextlib.suppress(FaultError):
                self._ask({"do": "remove", "queues": sorted(self._queues)})
        if self._channel:
            self._channel.close()
        self._channel = None
        self._queues.clear()
        self._shaper.close()
        self._unsplit(())
        self._served.clear()

    # ------------------------------------------------------------ planning

    def _planned(self, faults: Mapping[Addresses, Sequence[PacketSpec]]) -> dict[Addresses, Served]:
        """How each pair will be served; a pair whose faults are the same is served as before."""
        specs = {pair: spec for pair, some in faults.items() if (spec := self._asked(pair, some)) != NOTHING}
        needing = [pair for pair, spec in specs.items() if packet_rules.may_split(spec)]
        several: dict[str, str] | None = None

        def joined(source: str) -> str | None:
            nonlocal several
            if several is None:
                several = self._split(needing)  # of all pairs at once, since commands take their time
            return several.get(source)

        planned = {}
        try:
            for pair, spec in specs.items():
                if (there := self._served.get(pair)) and there.spec == spec:
                    planned[pair] = there
                    continue
                engines = packet_rules.chosen(
                    spec, partial(joined, pair[0]), self._trials.usable, self._force
                )
                number = self._numbers.setdefault(pair, len(self._numbers) + 1)
                count = self._specs[pair] = self._specs.get(pair, 0) + 1
                seed = f"{self.seed}/packets/{pair[0]}→{pair[1]}/{count}"
                planned[pair] = Served(number, pair, spec, engines, seed)
        except FaultError:
            self._unsplit(self._served.values())
            raise
        return planned

    def _asked(self, pair: Addresses, specs: Sequence[PacketSpec]) -> PacketSpec:
        """All faults of a pair in one. ValueError for one that is no link."""
        for address in pair:
            if address not in self._interfaces:
                raise ValueError(f"address {address!r} is none of {', '.join(self._interfaces)}")
        if pair[0] == pair[1]:
            raise ValueError(f"{pair[0]}→{pair[1]} is no link")
        return merged(specs)

    # ------------------------------------------------------------ segment offloading

    def _split(self, pairs: Collection[Addresses]) -> dict[str, str]:
        """Have what is sent on these pairs sent as single packets; where that is not sure, why, by source."""
        sources = {pair[0] for pair in pairs}
        here = sorted({self._interfaces[address] for pair in pairs for address in pair})
        try:
            self._switch_off("", self._run, [name for name in here if ("", name) not in self._switched])
        except RUN_ERRORS as error:
            why = f"segment offloading of the router cannot be switched off: {said(error)}"
            return dict.fromkeys(sources, why)
        several = {}
        for source in sources:
            if source not in self._senders:
                several[source] = f"the end of the link that {source} sends on is out of reach"
                continue
            run, interface = self._senders[source]
            try:
                if (source, interface) not in self._switched:
                    self._switch_off(source, run, [interface])
            except RUN_ERRORS as error:
                several[source] = f"segment offloading of {source} cannot be switched off: {said(error)}"
        return several

    def _switch_off(self, owner: str, run: Run, interfaces: list[str]) -> None:
        """Switch off what `owner` has: a node's address, or "" for the router."""
        if interfaces:
            before = json.loads(run(["python3", "-I", "-S", "-", "off", *interfaces], _OFFLOADS.read_text()))
            self._switched |= {(owner, name): features for name, features in before.items()}

    def _unsplit(self, wanted: Iterable[Served]) -> None:
        """Switch on again what none of these needs off; a node that is gone needs nothing."""
        pairs = [served.pair for served in wanted if served.split]
        needed = {("", self._interfaces[address]) for pair in pairs for address in pair}
        needed |= {(pair[0], self._senders[pair[0]][1]) for pair in pairs if pair[0] in self._senders}
        again: dict[str, dict[str, list[str]]] = {}
        for owner, name in self._switched.keys() - needed:
            again.setdefault(owner, {})[name] = self._switched.pop((owner, name))
        for owner, features in again.items():
            run = self._senders[owner][0] if owner else self._run
            with contextlib.suppress(*RUN_ERRORS):
                run(["python3", "-I", "-S", "-", "on", json.dumps(features)], _OFFLOADS.read_text())

    # ------------------------------------------------------------ enforcing

    def _enforce(self, wanted: Mapping[Addresses, Served]) -> None:
        self._split([pair for pair, served in wanted.items() if served.split])
        self._shaper.put(served for served in wanted.values() if packet_rules.shaped(served))
        queues = {s.number: packet_rules.queue(s) for s in wanted.values() if "nfqueue" in s.used}
        fresh = {number: spec for number, spec in queues.items() if self._queues.get(number) != spec}
        if fresh:
            self._ask({"do": "set", "queues": fresh})
            self._queues.update(fresh)
        self._rewrite({pair: packet_rules.rules(served) for pair, served in wanted.items()})
        if stale := sorted(self._queues.keys() - queues.keys()):
            try:
                self._ask({"do": "remove", "queues": stale})
            except FaultError:
                if self._channel:  # an engine that is gone has no queue any more
                    raise
            self._queues = {number: spec for number, spec in self._queues.items() if number in queues}
        shaped = {served.number for served in wanted.values() if packet_rules.shaped(served)}
        self._shaper.drop(served for served in self._shaper.kept() if served.number not in shaped)
        self._served = dict(wanted)
        self._unsplit(wanted.values())

    def _rewrite(self, rules: Mapping[Addresses, tuple[str, ...]]) -> None:
        """Replace the rules of pairs that changed, in one step; the others keep their counters."""
        lines = []
        if not self._hooked:
            if not rules:
                return
            lines += [f":{CHAIN} - [0:0]", f"-A {CHAIN} {packet_rules.skip_duplicates()}"]
            if f"-A PREROUTING -j {CHAIN}\n" not in self._run(["iptables-save", "-t", "mangle"]):
                lines.append(f"-I PREROUTING 1 -j {CHAIN}")
            self._rules.clear()
        for pair in self._rules.keys() | rules.keys():
            before, after = self._rules.get(pair, ()), rules.get(pair, ())
            if before != after:
                lines += [f"-D {CHAIN} {rule}" for rule in before]
                lines += [f"-A {CHAIN} {rule}" for rule in after]
        if lines:
            self._restore(lines)
        self._hooked, self._rules = True, dict(rules)

    def _restore(self, lines: list[str]) -> None:
        self._run(["iptables-restore", "--noflush", "--wait=5"], packet_rules.restore(lines))

    # ------------------------------------------------------------ the engine

    def _ping(self) -> None:
        self._ask({"do": "ping"})

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Let the engine carry a command out, started if it is not there. FaultError if it cannot."""
        try:
            if self._channel is None:
                self._queues.clear()
                self._channel = self._spawn()
            answer: dict[str, Any] = json.loads(self._channel.ask(json.dumps(command)))
        except (*RUN_ERRORS, EOFError, ValueError) as error:
            if self._channel:
                self._channel.close()
            self._channel = None
            self._queues.clear()
            raise FaultError(f"the packet engine: {said(error)}") from error
        if not answer.get("ok"):
            raise FaultError(f"the packet engine: {answer.get('error')}")
        return answer

    # ------------------------------------------------------------ reading back

    def _readings(self) -> dict[Addresses, Reading]:
        counted = _counted(self._run(["iptables-save", "-c", "-t", "mangle"])) if self._served else {}
        leaves = self._shaper.leaves()
        engine: dict[str, Any] = self._ask({"do": "read"})["queues"] if self._queues else {}
        found = {}
        for pair, served in self._served.items():
            name, number = f"{pair[0]}→{pair[1]}", served.number
            rules = counted.get(pair, [])
            if len(rules) != len(packet_rules.rules(served)):
                raise FaultError(f"{name}: {len(rules)} rules in {CHAIN}, which somebody else has changed")
            packets, size = sum(rule[1] for rule in rules), sum(rule[2] for rule in rules)
            counts: dict[str, int | None] = {}
            if "nfqueue" in served.used:
                if engine.get(str(number), {}).get("spec") != packet_rules.queue(served):
                    raise FaultError(f"{name}: the packet engine has no such queue any more")
                counts = {key: engine[str(number)][key] for key in _ENGINE_COUNTS}
                # The rule counts what is segment-offloaded once, the engine each packet of it.
                packets, size = engine[str(number)]["packets"], engine[str(number)]["bytes"]
            elif "statistic" in served.used:
                counts["dropped"] = sum(packets for target, packets, _ in rules if target == "DROP")
            if packet_rules.shaped(served):
                if number not in leaves:
                    raise FaultError(f"{name}: its class in tc is gone")
                leaf = leaves[number]
                counts["held"] = leaf.packets + (counts.get("held") or 0)
                if "netem" in served.used:
                    counts |= {"dropped": leaf.dropped, "corrupted": None, "reordered": None}
                else:
                    counts["overflowed"] = leaf.dropped + (counts.get("overflowed") or 0)
            found[pair] = Reading(served.spec, served.engines, packets, size, **counts)  # type: ignore[arg-type]
        return found


def _counted(saved: str) -> dict[Addresses, list[tuple[str, int, int]]]:
    """Target, packets and bytes of each rule, by pair, in what ``iptables-save -c`` printed."""
    found: dict[Addresses, list[tuple[str, int, int]]] = {}
    for packets, size, src, dst, target in _RULE.findall(saved):
        found.setdefault((src, dst), []).append((target, int(packets), int(size)))
    return found

"""A cluster in one process and virtual time: real Raft cores, a hostile network, disks that lose what
was not saved, clients that retry; every choice from one seed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from harness.history import History
from targets.raft_kv.node.lease import Clocks
from targets.raft_kv.node.log import Snapshot
from targets.raft_kv.node.raft import Message, Raft
from targets.raft_kv.node.storage import Saved, Write
from targets.raft_kv.node.store import STALE, Entry

TICK = 0.02


@dataclass
class Disk:
    """What was saved, as `storage.Storage` would give it back."""

    term: int = 0
    voted: str = ""
    snapshot: Snapshot = field(default_factory=Snapshot)
    entries: list[Entry] = field(default_factory=list)

    def save(self, write: Write) -> None:
        self.term, self.voted = write.term, write.voted
        if write.snapshot is not None:
            self.snapshot, self.entries = write.snapshot, []
        if write.entries:
            self.entries[write.first - self.snapshot.index - 1 :] = write.entries

    def load(self) -> Saved:
        return Saved(self.term, self.voted, self.snapshot, list(self.entries))


@dataclass
class Call:
    """A client's operation: `end` and `outcome` once it completed."""

    client: str
    number: int
    f: str
    value: Any
    start: float
    end: float | None = None
    outcome: str = "info"
    result: Any = None


class Simulation:
    """`run(seconds)`, or step by step with `raft`, `disks`, `cut`, `crash`, `restart`, `pause`.

    `set_clocks` lets `trouble` set wall clocks; `rates` say how fast the nodes' monotonic clocks go.
    """

    def __init__(
        self, seed: int, *, nodes: int = 5, bug: str | None = None, snapshot_every: int = 10_000,
        loss: float = 0.0, delay: tuple[float, float] = (0.001, 0.01), stalls: bool = True,
        lease_reads: bool = False, set_clocks: bool = False, rates: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self.random = Random(f"{seed}/simulation")
        self.now = 0.0
        self.names = [f"n{i + 1}" for i in range(nodes)]
        self.bug, self.snapshot_every = bug, snapshot_every
        self.loss, self.delay, self.stalls = loss, delay, stalls
        self.lease_reads, self.set_clocks = lease_reads, set_clocks
        self.rates = {**dict.fromkeys(self.names, 1.0), **(rates or {})}
        self.wall_offset = dict.fromkeys(self.names, 0.0)
        self.paused: dict[str, list[Callable[[], None]]] = {}  # what waits for each
        self.disks = {name: Disk() for name in self.names}
        self.raft: dict[str, Raft] = {}
        self.lives = dict.fromkeys(self.names, 0)
        self.cut: set[tuple[str, str]] = set()
        self.held: list[tuple[str, str, Message]] = []
        self.filter: Callable[[str, str, Message], bool] = lambda source, target, message: True
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = 0
        self.calls: list[Call] = []
        self.finals: list[list[str]] = []
        self.open: dict[tuple[str, int], Call] = {}
        self.node_events: list[tuple[float, str, str, dict[str, Any]]] = []
        self.against_leases: list[str] = []
        self.crash_while_saving = 0.0
        for name in self.names:
            self.restart(name)

    # ------------------------------------------------------------------ time

    def after(self, delay: float, do: Callable[[], None]) -> None:
        self.serial += 1
        heapq.heappush(self.queue, (self.now + delay, self.serial, do))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as `until` holds."""
        end = self.now + seconds
        while self.queue and self.queue[0][0] <= end:
            if until():
                return True
            self.now, _, do = heapq.heappop(self.queue)
            do()
        self.now = end
        return until()

    def clock(self, name: str) -> float:
        """The monotonic clock of `name`."""
        return self.now * self.rates[name]

    # ------------------------------------------------------------------ nodes

    def restart(self, name: str) -> None:
        self.lives[name] += 1
        life = self.lives[name]
        raft = Raft(
            name, [n for n in self.names if n != name], self.disks[name].load(), now=self.clock(name),
            random=Random(f"{self.random.random()}/{name}"), snapshot_every=self.snapshot_every,
            audit=True, bug=self.bug, lease_reads=self.lease_reads,
            clocks=Clocks(partial(self.clock, name), lambda: self.clock(name) + self.wall_offset[name]),
        )  # fmt: skip
        self.raft[name] = raft

        def tick() -> None:
            if self.lives[name] == life and name in self.raft:
                raft.tick(self.clock(name))
                self.step(name)
                self.after(TICK, turn)

        def turn() -> None:
            self.when_awake(name, tick)

        self.after(self.random.uniform(0, TICK), turn)

    def crash(self, name: str) -> None:
        """Lose everything but the disk."""
        del self.raft[name]
        self.paused.pop(name, None)

    def pause(self, name: str) -> None:
        """Let `name` stand still: what comes meanwhile waits for it."""
        self.paused.setdefault(name, [])

    def resume(self, name: str) -> None:
        for do in self.paused.pop(name, []):
            do()

    def when_awake(self, name: str, do: Callable[[], None]) -> None:
        """Now, or when `name` goes on."""
        if name in self.paused:
            self.paused[name].append(do)
        else:
            do()

    def leader(self) -> str | None:
        leaders = [(r.term, name) for name, r in self.raft.items() if r.role == "leader"]
        return max(leaders)[1] if leaders else None

    def step(self, name: str) -> None:
        """One turn of a node: what `server.Node.flush` does, with crashes in between."""
        raft = self.raft[name]
        raft.pump(self.clock(name))
        self.take(name, raft.early)
        if (write := raft.take_write()) is not None:
            if self.random.random() < self.crash_while_saving:
                if self.random.random() < 0.5:
                    self.disks[name].save(write)
                self.crash(name)
                self.after(self.random.uniform(0.05, 0.6), lambda: self.restart(name))
                return
            self.disks[name].save(write)
            raft.saved()
        self.take(name, raft.late)
        if any(kind == "role" and detail["role"] == "leader" for kind, detail in raft.events):
            self.against_leases += [
                f"{name} was elected at {self.now:.3f} s while {other} held a lease"
                for other, its in self.raft.items()
                if other != name and its.term < raft.term and its.lease and its.lease.holds()
            ]
        self.node_events += [(self.now, name, kind, detail) for kind, detail in raft.events]
        raft.events.clear()
        for token, result in raft.answers:
            self.back(token, result)
        raft.answers.clear()
        raft.dropped.clear()

    # ------------------------------------------------------------------ network

    def take(self, source: str, messages: list[tuple[str, Message]]) -> None:
        for target, message in messages:
            if not self.filter(source, target, message):
                continue
            if (source, target) in self.cut:
                if self.stalls:
                    self.held.append((source, target, message))
            elif self.random.random() >= self.loss:
                self.deliver(source, target, message)
                if self.random.random() < self.loss / 2:
                    self.deliver(source, target, message)
        messages.clear()

    def deliver(self, source: str, target: str, message: Message) -> None:
        def arrive() -> None:
            if target in self.raft:
                self.raft[target].receive(source, message, self.clock(target))
                self.step(target)

        self.after(self.random.uniform(*self.delay), lambda: self.when_awake(target, arrive))

    def isolate(self, *names: str) -> None:
        """Cut `names` off from the others, both ways."""
        for a in names:
            for b in set(self.names) - set(names):
                self.cut |= {(a, b), (b, a)}

    def heal(self) -> None:
        """Deliver what a stalled link held back, as the runtime ``local`` does."""
        self.cut.clear()
        held, self.held = self.held, []
        for source, target, message in held:
            self.deliver(source, target, message)

    # ------------------------------------------------------------------ clients

    def send(self, name: str, call: Call, session: str) -> None:
        """One try of a request at a node; its answer may be lost like any message."""
        if name in self.paused:
            self.paused[name].append(lambda: self.send(name, call, session))
            return
        raft = self.raft.get(name)
        if raft is None or not raft.serves(call.f) or self.open.get((session, call.number)) is not call:
            return
        token = (session, call.number)
        if call.f == "read":
            raft.read(token, "k")
        else:
            raft.propose(token, session, call.number, call.f, None if call.f == "add" else "k", call.value)
        self.step(name)

    def back(self, token: Any, result: Any) -> None:
        lost = self.random.random() < self.loss

        if token[0] == "final":
            self.finals.append(result)
            return

        def arrive() -> None:
            call = self.open.pop(token, None)
            if call is not None:
                call.end = self.now
                call.outcome = "fail" if call.f == "cas" and not result else "ok"
                call.result = result
                if result == STALE and call.f != "read":
                    call.outcome, call.end = "info", None

        if not lost:
            self.after(self.random.uniform(*self.delay), arrive)

    def client(self, name: str, until: float) -> None:
        """A process: one operation after another, tried again with the same id, given up after 1 s."""
        state: dict[str, Any] = {"session": 0, "number": 0, "seen": None}

        def begin() -> None:
            if self.now >= until:
                return
            state["number"] += 1
            number = state["number"]
            session = f"{name}.{state['session']}"
            f = self.random.choice(["read", "read", "write", "cas", "add"])
            fresh = f"{name}-{number}"
            value = {"read": None, "cas": [state["seen"], fresh]}.get(f, fresh)
            call = Call(name, number, f, value, self.now)
            self.calls.append(call)
            self.open[session, number] = call
            tries = 0

            def attempt() -> None:
                nonlocal tries
                if self.open.get((session, number)) is not call:
                    if call.f == "read":
                        state["seen"] = call.result
                    self.after(self.random.uniform(0.0, 0.1), begin)
                elif self.now - call.start > 1.0:
                    del self.open[session, number]
                    state["session"] += 1
                    self.after(0.01, begin)
                else:
                    if tries % 8 == 0:
                        up = [n for n in self.names if n in self.raft]
                        serving = [n for n in up if self.raft[n].serves(f)]
                        target = self.random.choice(serving or self.names)
                        self.after(self.random.uniform(*self.delay), lambda: self.send(target, call, session))
                    tries += 1
                    self.after(0.02, attempt)

            attempt()

        self.after(self.random.uniform(0, 0.1), begin)

    # ------------------------------------------------------------------ trouble and judgement

    def trouble(self, until: float) -> None:
        """Cuts, heals, crashes and restarts at random until `until`; then everything heals."""

        def strike() -> None:
            if self.now >= until:
                self.heal()
                return
            kinds = ["leader", "halves", "one", "crash", "crash leader", "heal", "oneway"]
            kinds += ["pause leader"] * self.lease_reads + ["set clock"] * 2 * self.set_clocks
            choice = self.random.choice(kinds)
            up = [n for n in self.names if n in self.raft]
            leader = self.leader() or self.random.choice(self.names)
            if choice == "heal":
                self.heal()
            elif choice == "leader":
                self.isolate(leader)
            elif choice == "one":
                self.isolate(self.random.choice(self.names))
            elif choice == "oneway":
                other = self.random.choice([n for n in self.names if n != leader])
                self.cut.add((leader, other))
            elif choice == "pause leader":
                self.pause(leader)
                self.after(self.random.uniform(0.1, 0.8), lambda: self.resume(leader))
            elif choice == "set clock":
                self.wall_offset[leader] += self.random.uniform(-3.0, 3.0)
            elif choice == "halves":
                self.heal()
                self.isolate(*self.random.sample(self.names, len(self.names) // 2))
            elif up:
                name = leader if choice == "crash leader" and leader in up else self.random.choice(up)
                self.crash(name)
                self.after(self.random.uniform(0.02, 0.7), lambda: self.restart(name))
            self.after(self.random.uniform(0.05, 0.9), strike)

        self.after(0.6, strike)

    def lost(self) -> set[str]:
        """Acknowledged adds that the final read of some leader lacks: each node in turn is made to lead."""
        missing: set[str] = set()
        for name in self.names:
            for other in self.names:  # the others wait, so that `name` stands first
                if other != name and other in self.raft:
                    self.raft[other].election_due = self.clock(other) + 2.0
                    if self.raft[other].role == "leader":
                        self.crash(other)
                        self.after(0.05, partial(self.restart, other))
            if not self.run(3.0, until=lambda: self.leader() is not None):
                continue
            leader = self.leader()
            assert leader is not None
            token, seen = ("final", name), len(self.finals)
            self.raft[leader].read(token, None)
            if self.run(1.0, until=lambda seen=seen: len(self.finals) > seen):  # type: ignore[misc]
                acknowledged = {c.value for c in self.calls if c.f == "add" and c.outcome == "ok"}
                missing |= acknowledged - set(self.finals[-1])
        return missing

    def history(self) -> History:
        """The node events as a history, for `check_raft`."""
        return History.from_events(
            {"index": i, "time": int(t * 1e9), "type": "info", "process": "cluster", "f": kind,
             "value": {"node": node, **detail}}
            for i, (t, node, kind, detail) in enumerate(self.node_events)
        )  # fmt: skip


def linearizable(calls: list[Call]) -> bool:
    """Whether one register explains `calls`: plain search over which operation took effect next
    (Wing and Gong, with Lowe's memory of visited configurations)."""
    done = [c for c in calls if c.f != "add" and c.outcome != "fail"]
    done = [c for c in done if not (c.outcome == "info" and c.f == "read")]
    done.sort(key=lambda c: c.start)
    ends = [c.end if c.end is not None and c.outcome == "ok" else float("inf") for c in done]
    must = sum(1 << i for i, end in enumerate(ends) if end != float("inf"))
    stack: list[tuple[int, Any]] = [(0, None)]
    visited = {(0, None)}
    while stack:
        taken, state = stack.pop()
        if taken & must == must:
            return True
        horizon = min(end for i, end in enumerate(ends) if not taken >> i & 1)
        for i, call in enumerate(done):
            if call.start > horizon:
                break
            if taken >> i & 1:
                continue
            if call.f == "read":
                if call.result != state:
                    continue
                after = state
            elif call.f == "write":
                after = call.value
            elif call.value[0] != state:
                continue
            else:
                after = call.value[1]
            following = (taken | 1 << i, after)
            if following not in visited:
                visited.add(following)
                stack.append(following)
    return False

"""A running target, whatever its runtime: bring-up, readiness, process faults, events, the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from threading import Condition, Event, RLock, Thread
from typing import Any, ClassVar, Literal

from harness.cluster import clocks
from harness.cluster.bypass import BypassWatch
from harness.cluster.lock import ClusterError, RunDirectory, base_directory, gate
from harness.cluster.member import Member, how_ended, last, last_lines
from harness.cluster.observer import Observer, OnEvent
from harness.cluster.proof import Held, NotProved, Status, refused
from harness.cluster.resources import MEMORY
from harness.cluster.site import Ground, Refused, Site
from harness.cluster.sweep import end, sweep
from harness.fabric import Effect, Fabric
from harness.faults import MESSAGE_FAULTS
from harness.skew.patcher import Spec
from harness.skew.program import Way
from harness.target import Address, Endpoint, Node, Target

LOOK_EVERY = 0.02  # seconds between questions whether a node is ready


class SiteCluster:
    """A running target on a `Site`, which is what the runtimes differ in.

    `nodes` are as this process reaches them, past all faults; their peers, and clients by `entry`, reach them
    through `fabric`.
    ``on_event(node, kind, detail)`` is called for ``start``, ``ready``, ``exit`` (`asked`: the plan killed
    it, `oom`: it was out of memory), ``restart``, ``role``, ``panic``, ``error`` (of the target's own code),
    ``bypass`` and what the target reports; one call at a time, from threads of the cluster, so it must
    neither wait nor call the cluster.
    Process faults return what was measured as proof that they took effect, and raise ClusterError where
    that was not seen.

    Nothing of it outlives this process, however that ends; what stays on disk is swept by the next start.
    """

    runtime: ClassVar[str]
    unsupported: Mapping[str, str] = {}
    site: ClassVar[type[Site]]

    def __init__(
        self, target: Target, *, run_id: str, logs: Path, on_event: OnEvent, base: Path | None = None
    ) -> None:
        target.check()
        self.target = target
        if not target.framing:
            why = f"{target.name} does not say how the messages of its ports are framed (`Target.framing`)"
            self.unsupported = {**self.unsupported, **dict.fromkeys(MESSAGE_FAULTS, why)}
        self.run_id = run_id
        # whether faults on whole messages, or on clocks, are wanted: set them before `start`
        self.messages = self.clocks = False
        self.nodes: tuple[Node, ...] = ()
        self._addresses: Mapping[Address, Address] = {}
        self.logs: Mapping[str, Path] = {name: logs / f"{name}.log" for name, _ in target.members()}
        self._base = base_directory() if base is None else base
        self._directory = logs
        self._members: dict[str, Member] = {}
        self._state = Condition(RLock())  # guards the members; never held while anything outside is called
        self._observer = Observer(target, self.logs, self._is_up, on_event)
        self._bypass = BypassWatch(self._pid, self._bypassed)
        ask = None if type(target).clock is Target.clock else lambda name: target.clock(self.node(name))
        precisely = target.clock_resolution, target.clock_audit
        self._clocks = clocks.Clocks(self._ways, self._moves, self._observer.tell, ask, *precisely)
        self._past: dict[str, int] = {}  # packets past the fabric that were told, by who received them
        self._closing, self._stopped, self._stop_lock = Event(), Event(), RLock()
        self._broken = ""
        self._run: RunDirectory | None = None
        self._site: Site | None = None

    # ------------------------------------------------------------------ start

    def start(self) -> None:
        """Bring everything up and await that every node is ready, then call the target's `setup`.

        Raises ClusterError and leaves nothing running where a command is not found, a node dies or is not
        ready within `Target.ready_within`, a port is taken, or `setup` fails.
        """
        if self._run is not None or self._stopped.is_set():
            again = f"each run needs a new {type(self).__name__}"
            raise ClusterError(f"run {self.run_id!r} was started already: {again}")
        try:
            self._start()
        except BaseException as error:
            try:
                self.stop()
            except ClusterError as also:
                error.add_note(str(also))
            raise

    def _start(self) -> None:
        self.sweep()
        with gate(self._base):
            run = RunDirectory.claim(self._base, self.run_id)
        self._own("_run", run, run.release)
        self._directory.mkdir(parents=True, exist_ok=True)
        for log in (*self.logs.values(), *(self._directory / f"{name}.log" for name in self.site.helpers)):
            log.write_bytes(b"")
        ground = Ground(
            self.target,
            run,
            self._directory,
            self._exited,
            self._lost,
            self._closing,
            self._check,
            self.messages,
            self.clocks,
            self._clocks.noticed,
        )
        site = self.site(ground)
        self._own("_site", site, site.end)
        site.open()
        self._prepare(site)
        self._observer.follow()
        for stage in self.target.stages():
            with ThreadPoolExecutor(site.at_once) as together:
                for started in [together.submit(self._launch, m, "start") for m in self._of(stage.roles)]:
                    started.result()
            site.complete([name for name, role in self.target.jobs() if role in stage.roles])
            self._await_ready(self._of(stage.ready))
        self._await_ready(list(self._members.values()))
        self._observer.poll({node.name: node for node in self.nodes})
        if site.shared:
            self._bypass.start(self.nodes)
        try:
            self.target.setup(self)
        except Exception as error:
            logs = "\n".join(last(log) for log in self.logs.values())
            raise ClusterError(
                f"{self.target.name}.setup failed: {type(error).__name__}: {error}\n{logs}"
            ) from error

    def _of(self, roles: Sequence[str]) -> list[Member]:
        return [member for member in self._members.values() if member.node.role in roles]

    def _own(self, attribute: str, thing: object, close: Callable[[], object]) -> None:
        """Keep `thing` for `stop`; where `stop` came meanwhile, from another thread, close it now."""
        with self._state:
            if not self._closing.is_set():
                setattr(self, attribute, thing)
                return
        close()
        raise ClusterError(f"run {self.run_id!r} was stopped while it started")

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Have what is needed and may take long, before `start`; `progress` is told of it."""

    def sweep(self) -> None:
        """Remove what runs without a living owner left."""
        sweep(self._base)

    @property
    def fabric(self) -> Fabric:
        """What carries the links. Raises ClusterError before there is one."""
        if self._site is None or not hasattr(self._site, "fabric"):
            raise ClusterError(f"run {self.run_id!r} is not started: call start() first")
        return self._site.fabric

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report: of the target, and of what carries it."""
        return (*self.target.notes(), *(self._site.notes if self._site is not None else ()))

    def _prepare(self, site: Site) -> None:
        """Describe every node and ask the target for its command."""
        nodes = [site.true(name, role, index) for index, (name, role) in enumerate(self.target.members())]
        seen = [site.seen(node) for node in nodes]
        past = site.addresses(zip(nodes, seen, strict=True))
        self.nodes = tuple(replace(node, addresses=past) for node in seen)
        self._addresses = site.addresses((node, site.entry(node)) for node in nodes if node.ports)
        for node in nodes:
            self._members[node.name] = site.member(node, self.logs[node.name])

    def _here(self) -> Site:
        self._check()
        if self._site is None:
            raise ClusterError(f"run {self.run_id!r} is not started: call start() first")
        return self._site

    def _launch(self, member: Member, kind: Literal["start", "restart"]) -> None:
        name = member.node.name
        with self._state:
            if member.state != "down":
                raise ClusterError(f"{name} is {member.words} and cannot be started: kill it first")
            # `ready` would take the other's answer for its own
            if taken := self._here().taken(member.node):
                raise ClusterError(f"{name} cannot be started: {taken}")
            member.state, member.asked, member.launched = "starting", False, time.monotonic()
            member.starved = False
            member.launches += 1
        try:
            pid = self._here().start(member)
        except BaseException as error:
            with self._state:
                member.state, member.ended = "down", "could not be started"
            if isinstance(error, Refused):
                hint = self._here().explain(member, error)
                raise ClusterError(
                    f"{name} could not be started: {error}{'; ' if hint else ''}{hint}\n{member.command}"
                ) from None
            raise
        with self._state:
            if member.state == "starting":
                member.pid = pid
        self._observer.tell(name, kind, {"pid": pid})
        self._clocks.goes_on(name, member.launched, anew=True)

    def _await_ready(self, members: Sequence[Member]) -> None:
        """Wait until all `members` are up; ClusterError for the first that ended or took too long."""
        launches = {member.node.name: member.launches for member in members}
        for member in members:
            name = f"nemesis-ready-{member.node.name}"
            Thread(target=self._try_ready, args=(member, member.launches), name=name, daemon=True).start()
        within = self.target.ready_within
        deadline = max((member.launched for member in members), default=0.0) + within
        with self._state:
            while True:
                self._check()
                gone = [m for m in members if m.state == "down" or m.launches != launches[m.node.name]]
                late = [m for m in members if m.state == "starting"]
                left = deadline - time.monotonic()
                if gone or not late or left <= 0:
                    break
                self._state.wait(left)
        if gone:
            raise gone[0].died(self._here().taken(gone[0].node))
        if late:
            raise ClusterError(
                f"{late[0].node.name} was not ready within {within:g} s ({self.target.name}.ready_within): "
                f"{late[0].why}\n{late[0].command}"
            )

    def _try_ready(self, member: Member, launch: int) -> None:
        """Ask until `member` is ready, in a thread of its own: the target's `ready` may hang."""
        question = f"{self.target.name}.ready({member.node.name})"
        while member.state == "starting" and member.launches == launch and not self._closing.is_set():
            try:
                ready, why = self._ready(member), f"{question} said no"
            except Exception as error:  # drivers raise what they like while nobody listens
                ready, why = False, f"{question} raised {type(error).__name__}: {error}"
            with self._observer.telling:  # so that it is told before an exit, or not at all
                if member.launches != launch or member.state != "starting":
                    return
                member.why = why
                if ready:
                    after = round(time.monotonic() - member.launched, 4)
                    self._observer.tell(member.node.name, "ready", {"after": after})
                    with self._state:
                        member.state, member.served = "up", True
                        self._state.notify_all()
                    return
            self._closing.wait(LOOK_EVERY)

    def _ready(self, member: Member) -> bool:
        """Whether a node serves: the target's own question, or the site's."""
        if type(self.target).ready is not Target.ready:
            return self.target.ready(self.node(member.node.name))
        return self._here().ready(member.node)

    # ------------------------------------------------------------------ what it offers

    def node(self, name: str) -> Node:
        """The node `name` as this process reaches it, past all faults."""
        self._member(name)
        return next(node for node in self.nodes if node.name == name)

    def entry(self, name: str) -> Endpoint:
        """Where clients reach `name`: through the fabric."""
        member = self._member(name)  # it is also told of a cluster that was kept, which this no longer owns
        return replace((self._site or self._here()).entry(member.node), addresses=self._addresses)

    def alive(self, name: str) -> bool:
        """Whether its process runs; a paused one does."""
        return self._member(name).state != "down"

    def leader(self) -> str | None:
        """Who leads: role ``leader`` with the highest term, among nodes that run and spoke lately."""
        return self._observer.leader({name for name, member in self._members.items() if member.state == "up"})

    def await_healthy(self, within: float) -> float:
        """Wait until every link carries bytes and every node is ready; the seconds it took.

        Raises ClusterError, or FaultError for a link, after `within` seconds or where a node is down.
        """
        began = time.monotonic()
        self._tell_packets()
        self.fabric.await_healthy(within)
        for name, member in self._members.items():
            while True:
                self._check()
                if member.state != "up":
                    raise ClusterError(f"{name} is {member.words}; it must run before health can be awaited")
                try:
                    ready, why = self._ready(member), "it said no"
                except Exception as error:
                    ready, why = False, f"{type(error).__name__}: {error}"
                if ready:
                    break
                if time.monotonic() - began > within:
                    raise ClusterError(
                        f"{name} is not ready {within:g} s after heal: {why}\n{last(member.log)}"
                    )
                self._closing.wait(LOOK_EVERY)
        return time.monotonic() - began

    # ------------------------------------------------------------------ process faults

    def kill(self, name: str) -> str:
        """SIGKILL to the whole tree of `name`, also while it starts; proved by refused connections."""
        member = self._running(name)
        with self._state:
            if member.state == "down":
                raise ClusterError(f"{name} is {member.words} and cannot be killed: restart it first")
            launch, member.asked = member.launches, True
        began = time.monotonic()
        hit = self._signal(member, SIGKILL, "killed")
        with self._state:
            if not self._state.wait_for(lambda: member.state == "down" or member.launches != launch, 5.0):
                raise NotProved(f"{name}: pid {member.pid} was killed, but its end was not seen within 5 s")
        took = 1e3 * (time.monotonic() - began)
        silent = refused(member.node, self._here().seat(member.node))
        return f"SIGKILL: {_pids(hit)} reaped after {took:.1f} ms, {silent}"

    def restart(self, name: str) -> str:
        """Start a dead `name` again on its data; proved by a new pid and its being ready."""
        member = self._running(name)
        before = member.pid
        self._launch(member, "restart")
        self._await_ready([member])
        took = time.monotonic() - member.launched
        if member.pid == before:
            raise NotProved(f"{name} was started again but still has pid {before}")
        clock = self._clocks.settled(name)
        return f"pid {member.pid} after pid {before}, ready after {took:.2f} s{clock and f', clock {clock}'}"

    def pause(self, name: str) -> str:
        """SIGSTOP to the whole tree of `name`; proved by a connection that nobody accepts."""
        member = self._running(name)
        with self._state:
            if member.state != "up":
                raise ClusterError(f"{name} is {member.words} and cannot be paused")
            member.state = "paused"
        with contextlib.ExitStack() as undo:
            undo.callback(self._go_on, member)  # what is not proved is not left in force
            held = self._held(member, self._signal(member, SIGSTOP, "paused"))
            undo.callback(held.close)
            proof = held.prove()
            with self._state:
                if member.state != "paused":
                    raise NotProved(f"{name} was stopped, but it is {member.words} now")
                member.held = held
            undo.pop_all()
        return f"{held.seat.stops}: {proof}"

    def resume(self, name: str) -> str:
        """SIGCONT to the whole tree of `name`; proved by the waiting connection, accepted now."""
        member = self._running(name)
        with self._state:
            if member.state != "paused":
                raise ClusterError(f"{name} is {member.words} and cannot be resumed: only a paused node can")
            held, member.held = member.held, None
        resumed = time.monotonic()
        hit = self._signal(member, SIGCONT, "resumed")
        with self._state:
            if member.state == "paused":
                member.state = "up"
        self._clocks.goes_on(name, resumed, anew=False)
        held = held or self._held(member, hit)
        try:
            return f"{held.seat.goes_on}: {held.prove_gone()}"
        finally:
            held.close()

    def _go_on(self, member: Member) -> None:
        with contextlib.suppress(ClusterError):
            self._signal(member, SIGCONT, "resumed")
        with self._state:
            if member.state == "paused":
                member.state = "up"

    def _signal(self, member: Member, number: int, verb: str) -> list[int]:
        try:
            return self._here().signal(member.node.name, int(number))
        except Refused:  # it ended by itself a moment ago
            raise ClusterError(f"{member.node.name} is {member.words} and cannot be {verb}") from None

    def _held(self, member: Member, pids: Sequence[int]) -> Held:
        node = self.node(member.node.name)
        return Held(member.node, self._here().seat(member.node), pids, self._status_of(node))

    def _status_of(self, node: Node) -> Status | None:
        return None if type(self.target).status is Target.status else lambda: self.target.status(node)

    # ------------------------------------------------------------------ faults on resources

    def take(self, resource: str, name: str, amount: float) -> str:
        """Limit a resource of `name` to `amount`, or fill its disk; proved by what the kernel says of it.

        A node that the kernel kills while its memory is limited has been killed by the plan.
        """
        member = self._running(name)
        with self._state:
            if resource == MEMORY and member.state == "down":
                raise ClusterError(f"{name} is {member.words} and has no memory to limit")
            member.limited = resource == MEMORY or member.limited
        try:
            return self._here().take(resource, name, amount)
        except BaseException:
            member.limited = resource != MEMORY and member.limited
            raise

    def give_back(self, resource: str, name: str) -> str:
        """End what `take` began, and start the node again where it was out of memory; proved likewise."""
        member = self._running(name)
        given = self._here().give_back(resource, name)
        if resource != MEMORY:
            return given.said
        with self._state:
            if given.died and not self._state.wait_for(lambda: member.state == "down", 5.0):
                raise NotProved(f"{name} has ended, but that was not seen within 5 s: {given.said}")
            member.limited = False
            again = member.state == "down" and member.starved
        return f"{given.said}; started again: {self.restart(name)}" if again else given.said

    # ------------------------------------------------------------------ clocks

    def skew(self, name: str, spec: Spec) -> Effect:
        """Have the clocks of `name` be off by `spec`, from the effect's start on.

        Raises FaultUnsupported, FaultError.
        """
        return self._clocks.skew(self._running(name).node.name, spec)

    def set_right(self, name: str) -> Effect:
        """Set the clocks of `name` right; the proof says that they were off until then, and are right."""
        return self._clocks.right(self._running(name).node.name)

    def _ways(self, name: str) -> Sequence[Way]:
        return self._here().ways(name)

    def _moves(self, name: str) -> tuple[clocks.State, int]:
        """What its processes can be asked for now, and how often it was started."""
        with self._state:
            member = self._members[name]
            state, life = member.state, member.launches
            if state == "down" or member.asked:  # or about to be
                return "down", life
        if state != "paused":
            return "runs", life
        return "stopped" if self._here().seat(member.node).stops == "SIGSTOP" else "frozen", life

    # ------------------------------------------------------------------ what happens by itself

    def _pid(self, name: str) -> int:
        member = self._members[name]
        return 0 if member.state == "down" else member.pid

    def _bypassed(self, name: str, peer: str, address: str) -> None:
        self._observer.tell(name, "bypass", {"peer": peer, "address": address})

    def _tell_packets(self) -> None:
        """Tell of the packets that went past the fabric since this was asked last."""
        for name, packets in self._here().bypassed().items():
            if more := packets - self._past.get(name, 0):
                self._past[name] = packets
                self._observer.tell(name, "bypass", {"packets": more})

    def _is_up(self, name: str) -> bool:
        return self._members[name].state == "up"

    def _exited(self, name: str, how: Mapping[str, Any]) -> None:
        detail = {key: how[key] for key in ("code", "signal") if key in how}
        if name in self.site.helpers:
            self._helper_exited(name, detail)
            return
        member = self._members[name]
        self._observer.ended(name)
        asked = member.asked and how.get("signal") == SIGKILL
        if not asked and self._site is not None and not self._closing.is_set() and self._site.starved(name):
            detail["oom"] = member.starved = True
            asked = member.limited
        detail["asked"] = asked
        if not asked:
            detail["log"] = last_lines(member.log)
        with self._observer.telling:
            if not self._closing.is_set():
                self._observer.tell(name, "exit", detail)
            with self._state:
                killed = asked and not member.starved
                member.state, member.ended = "down", "was killed by the plan" if killed else how_ended(detail)
                held, member.held = member.held, None
                self._state.notify_all()
        if held is not None:
            held.close()

    def _helper_exited(self, name: str, detail: Mapping[str, Any]) -> None:
        if self._closing.is_set():
            return
        log = self._directory / f"{name}.log"
        self._broken = self._broken or f"{self.site.helpers[name]} {how_ended(detail)}\n{last(log)}"
        self._observer.tell(name, "exit", {**detail, "asked": False, "log": last_lines(log)})
        with self._state:
            self._state.notify_all()

    def _lost(self) -> None:
        """The supervisor is gone: its nodes end with it (PDEATHSIG), what they started by its label."""
        self._broken = self._broken or "the supervisor has ended, and with it every node: was it killed?"
        if self._run is not None:
            with contextlib.suppress(ClusterError):
                end(self._run.label)
        for name, member in self._members.items():
            if member.state != "down":
                self._exited(name, {"signal": int(SIGKILL)})

    # ------------------------------------------------------------------ stop

    def stop(self, keep: bool = False) -> str:
        """End everything and see that it is gone; idempotent, from any thread, also while `start` runs.

        With `keep` it all goes on without this process, and what is returned says how to stop it. Raises
        ClusterError naming what could not be ended.
        """
        with self._stop_lock:
            if self._stopped.is_set():
                return ""
            if keep and self._site is not None and not (self._broken or self._closing.is_set()):
                return self._keep()
            with self._state:
                self._closing.set()
                self._state.notify_all()
            self._observer.stop_polling()
            self._clocks.close()
            self._bypass.stop()
            failed: list[str] = []
            if self._site is not None:
                failed += self._site.end()
            for step in (self._close_rest, self._verify):
                try:
                    step()
                except (ClusterError, OSError) as error:
                    failed.append(str(error))
            if self._run is not None:
                self._run.release(remove=not failed)
            self._stopped.set()
        if failed:
            raise ClusterError(f"run {self.run_id!r} could not be ended:\n  " + "\n  ".join(failed))
        return ""

    def _keep(self) -> str:
        assert self._site is not None and self._run is not None
        where = ", ".join(
            f"{n.name} {self._site.entry(n).address} (itself {self.node(n.name).address})"
            for n in (member.node for member in self._members.values())
        )
        how = self._site.keep()
        self._closing.set()
        self._bypass.stop()
        self._close_rest()
        self._run.release(remove=False)
        self._stopped.set()
        return f"the cluster keeps running: {where}; data in {self._run.path}; stop it with: {how}"

    def _close_rest(self) -> None:
        self._observer.stop()
        for member in self._members.values():
            if member.held is not None:
                member.held.close()

    def _verify(self) -> None:
        if self._run is None:  # the id may be a living neighbour's
            return
        end(self._run.label)
        if self._site is not None:
            self._site.verify(self._members)

    # ------------------------------------------------------------------ helpers

    def _member(self, name: str) -> Member:
        try:
            return self._members[name]
        except KeyError:
            known = ", ".join(self._members) or "none, since it is not started"
            raise ClusterError(f"there is no node {name!r}; the nodes are {known}") from None

    def _running(self, name: str) -> Member:
        """The member `name` of a cluster that can still act."""
        self._check()
        return self._member(name)

    def _check(self) -> None:
        """Raise where nothing can go on: stopped, or broken."""
        if self._closing.is_set():
            raise ClusterError(f"run {self.run_id!r} has been stopped")
        if broken := self._broken or self._observer.broken:
            raise ClusterError(broken)


def _pids(pids: Sequence[int]) -> str:
    return f"pid {pids[0]}" + (f" and {len(pids) - 1} more of its tree" if len(pids) > 1 else "")

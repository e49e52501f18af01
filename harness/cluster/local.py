"""The runtime ``local``: nodes as processes on loopback, every link and client entry through a proxy."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from threading import Condition, Event, RLock, Thread
from typing import Any, ClassVar, Literal

from harness.cluster.bypass import BypassWatch
from harness.cluster.control import Refused, Supervisor
from harness.cluster.lock import ClusterError, RunDirectory, base_directory, gate
from harness.cluster.member import Member, how_ended, last, last_lines
from harness.cluster.observer import Observer, OnEvent
from harness.cluster.ports import Ports
from harness.cluster.proof import Held, NotProved, Status, refused
from harness.cluster.sockets import holder, listener
from harness.cluster.supervisor import NODE, RUN
from harness.cluster.sweep import end, sweep
from harness.fabric import CLIENT
from harness.fabric.loopback import Loopback
from harness.proxy import embedded
from harness.proxy.adapter import Server
from harness.target import Endpoint, Node, Target

HOST = "127.0.0.1"
PROXY = "proxy"
PROXY_WITHIN = 10.0  # seconds for the proxy server to listen
LOOK_EVERY = 0.02  # seconds between questions whether a node is ready


class LocalCluster:
    """A running target, made of processes of this machine.

    `nodes` have their true addresses; their peers, and clients by `entry`, reach them through `fabric`.
    ``on_event(node, kind, detail)`` is called for ``start``, ``ready``, ``exit`` (`asked`: the plan killed
    it), ``restart``, ``role``, ``panic``, ``error`` (of the target's own code) and what the target reports;
    one call at a time, from threads of the cluster, so it must neither wait nor call the cluster.
    Process faults return what was measured as proof that they took effect, and raise ClusterError where
    that was not seen.

    Nothing of it outlives this process, however that ends; what stays on disk is swept by the next start.

    >>> cluster = LocalCluster(Shop(), run_id="r1", logs=Path("logs"), on_event=print)  # doctest: +SKIP
    """

    runtime: ClassVar[str] = "local"
    unsupported: ClassVar[Mapping[str, str]] = {
        "packet_loss": "a proxy of byte streams cannot lose packets; the runtimes docker and netns can, but "
        "they are not in this version"
    }

    def __init__(
        self, target: Target, *, run_id: str, logs: Path, on_event: OnEvent, base: Path | None = None
    ) -> None:
        target.check()
        self.target = target
        self.run_id = run_id
        self.nodes: tuple[Node, ...] = ()
        self.logs: Mapping[str, Path] = {name: logs / f"{name}.log" for name, _ in target.members()}
        self.fabric: Loopback
        self._base = base_directory() if base is None else base
        self._proxy_log = logs / f"{PROXY}.log"
        self._members: dict[str, Member] = {}
        self._state = Condition(RLock())  # guards the members; never held while anything outside is called
        self._observer = Observer(target, self.logs, self._is_up, on_event)
        self._bypass = BypassWatch(self._pid, self._bypassed)
        self._closing, self._stopped, self._stop_lock = Event(), Event(), RLock()
        self._broken = ""
        self._run: RunDirectory | None = None
        self._ports: Ports | None = None
        self._supervisor: Supervisor | None = None

    # ------------------------------------------------------------------ start

    def start(self) -> None:
        """Bring everything up and await that every node is ready, then call the target's `setup`.

        Raises ClusterError and leaves nothing running where a command is not found, a node dies or is not
        ready within `Target.ready_within`, a port is taken, or `setup` fails.
        """
        if self._run is not None or self._stopped.is_set():
            raise ClusterError(f"run {self.run_id!r} was started already: each run needs a new LocalCluster")
        try:
            self._start()
        except BaseException as error:
            try:
                self.stop()
            except ClusterError as also:
                error.add_note(str(also))
            raise

    def _start(self) -> None:
        sweep(self._base)
        with gate(self._base):
            run = RunDirectory.claim(self._base, self.run_id)
        self._own("_run", run, run.release)
        members = self.target.members()
        ports = Ports(len(members) * len(self.target.ports), start=self.run_id)
        self._own("_ports", ports, ports.release)
        numbers = iter(ports.numbers)
        true = {name: {port: next(numbers) for port in self.target.ports} for name, _ in members}
        self._proxy_log.parent.mkdir(parents=True, exist_ok=True)
        for log in (*self.logs.values(), self._proxy_log):
            log.write_bytes(b"")
        supervisor = Supervisor(run.label, run.path / "supervisor.log", self._exited, self._lost)
        self._own("_supervisor", supervisor, supervisor.close)
        fabric = Loopback(self._start_proxy(run), true)
        self._own("fabric", fabric, fabric.close)
        self._prepare(run, true)
        self._observer.follow()
        for member in self._members.values():
            self._launch(member, "start")
        self._await_ready(list(self._members.values()))
        self._observer.poll({node.name: node for node in self.nodes})
        self._bypass.start(self.nodes)
        try:
            self.target.setup(self)
        except Exception as error:
            logs = "\n".join(last(log) for log in self.logs.values())
            raise ClusterError(
                f"{self.target.name}.setup failed: {type(error).__name__}: {error}\n{logs}"
            ) from error

    def _own(self, attribute: str, thing: object, close: Callable[[], None]) -> None:
        """Keep `thing` for `stop`; where `stop` came meanwhile, from another thread, close it now."""
        with self._state:
            if not self._closing.is_set():
                setattr(self, attribute, thing)
                return
        close()
        raise ClusterError(f"run {self.run_id!r} was stopped while it started")

    def _start_proxy(self, run: RunDirectory) -> Server:
        argv = [sys.executable, "-I", "-S", embedded.__file__, "--host", HOST, "--port", "0"]
        env = {**os.environ, RUN: run.label, NODE: PROXY}
        self._request("start", name=PROXY, argv=argv, env=env, cwd="/", log=str(self._proxy_log.absolute()))
        deadline = time.monotonic() + PROXY_WITHIN
        while not (found := re.search(rb"listening on (\S+):(\d+)\n", self._proxy_log.read_bytes())):
            self._check()
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the proxy server did not listen within {PROXY_WITHIN:g} s\n{last(self._proxy_log)}"
                )
            self._closing.wait(0.005)
        return Server(found[1].decode(), int(found[2]))

    def _prepare(self, run: RunDirectory, true: Mapping[str, Mapping[str, int]]) -> None:
        """Describe every node and ask the target for its command."""
        members = self.target.members()
        self.nodes = tuple(
            Node(
                name, role, HOST, true[name], index, run.path / "data" / name,
                tuple(self._reached(name, other, its) for other, its in members if other != name),
            )
            for index, (name, role) in enumerate(members)
        )  # fmt: skip
        for node in self.nodes:
            node.data.mkdir(parents=True)
            self._members[node.name] = Member.of(self.target, node, self.logs[node.name], run.label)

    def _reached(self, src: str, dst: str, role: str) -> Endpoint:
        """`dst` as `src` reaches it."""
        places = {port: self.fabric.endpoint(src, dst, port) for port in self.target.ports}
        host = next(iter(places.values()))[0]
        return Endpoint(dst, role, host, {port: number for port, (_, number) in places.items()})

    def _launch(self, member: Member, kind: Literal["start", "restart"]) -> None:
        name = member.node.name
        with self._state:
            if member.state != "down":
                raise ClusterError(f"{name} is {member.words} and cannot be started: kill it first")
            if taken := member.taken():  # its `ready` would take the other's answer for its own
                raise ClusterError(f"{name} cannot be started: {taken}")
            member.state, member.asked, member.launched = "starting", False, time.monotonic()
            member.launches += 1
        try:
            log = str(member.log.absolute())
            answer = self._request(
                "start", name=name, argv=member.argv, env=member.env, cwd=os.getcwd(), log=log
            )
        except BaseException as error:
            with self._state:
                member.state, member.ended = "down", "could not be started"
            if isinstance(error, Refused):
                hint = "is it executable?" if error.errno == errno.EACCES else "is the program installed?"
                if os.sep not in member.argv[0] and not shutil.which(
                    member.argv[0], path=member.env.get("PATH")
                ):
                    hint = "no such program on PATH"
                raise ClusterError(
                    f"{name} could not be started: {error}; {hint}\n{member.command}"
                ) from None
            raise
        with self._state:
            if member.state == "starting":
                member.pid = answer["pid"]
        self._observer.tell(name, kind, {"pid": answer["pid"]})

    def _await_ready(self, members: Sequence[Member]) -> None:
        """Wait until all `members` are up; ClusterError for the first that ended or took too long."""
        launches = {member.node.name: member.launches for member in members}
        for member in members:
            name = f"nemesis-ready-{member.node.name}"
            Thread(target=self._try_ready, args=(member, member.launches), name=name, daemon=True).start()
        within = self.target.ready_within
        deadline = max(member.launched for member in members) + within
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
            raise gone[0].died()
        if late:
            raise ClusterError(
                f"{late[0].node.name} was not ready within {within:g} s ({self.target.name}.ready_within): "
                f"{late[0].why}\n{late[0].command}"
            )

    def _try_ready(self, member: Member, launch: int) -> None:
        """Ask until `member` is ready, in a thread of its own: the target's `ready` may hang."""
        node, question = member.node, f"{self.target.name}.ready({member.node.name})"
        while member.state == "starting" and member.launches == launch and not self._closing.is_set():
            try:
                ready, why = self.target.ready(node), f"{question} said no"
            except Exception as error:  # drivers raise what they like while nobody listens
                ready, why = False, f"{question} raised {type(error).__name__}: {error}"
            with self._observer.telling:  # so that it is told before an exit, or not at all
                if member.launches != launch or member.state != "starting":
                    return
                member.why = why
                if ready:
                    after = round(time.monotonic() - member.launched, 4)
                    self._observer.tell(node.name, "ready", {"after": after})
                    with self._state:
                        member.state, member.served = "up", True
                        self._state.notify_all()
                    return
            self._closing.wait(LOOK_EVERY)

    # ------------------------------------------------------------------ what it offers

    def node(self, name: str) -> Node:
        """The node `name` with its true address."""
        return self._member(name).node

    def entry(self, name: str) -> Endpoint:
        """Where clients reach `name`: through the fabric."""
        return self._reached(CLIENT, name, self.node(name).role)

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
        self.fabric.await_healthy(within)
        for name, member in self._members.items():
            while True:
                self._check()
                if member.state != "up":
                    raise ClusterError(f"{name} is {member.words}; it must run before health can be awaited")
                try:
                    ready, why = self.target.ready(member.node), "it said no"
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
        return f"SIGKILL: {_pids(hit)} reaped after {took:.1f} ms, {refused(member.node)}"

    def restart(self, name: str) -> str:
        """Start a dead `name` again on its data; proved by a new pid and its being ready."""
        member = self._running(name)
        before = member.pid
        self._launch(member, "restart")
        self._await_ready([member])
        took = time.monotonic() - member.launched
        if member.pid == before:
            raise NotProved(f"{name} was started again but still has pid {before}")
        return f"pid {member.pid} after pid {before}, ready after {took:.2f} s"

    def pause(self, name: str) -> str:
        """SIGSTOP to the whole tree of `name`; proved by a connection that nobody accepts."""
        member = self._running(name)
        with self._state:
            if member.state != "up":
                raise ClusterError(f"{name} is {member.words} and cannot be paused")
            member.state = "paused"
        with contextlib.ExitStack() as undo:
            undo.callback(self._go_on, member)  # what is not proved is not left in force
            held = Held(member.node, self._signal(member, SIGSTOP, "paused"), self._status_of(member.node))
            undo.callback(held.close)
            proof = held.prove()
            with self._state:
                if member.state != "paused":
                    raise NotProved(f"{name} was stopped, but it is {member.words} now")
                member.held = held
            undo.pop_all()
        return f"SIGSTOP: {proof}"

    def resume(self, name: str) -> str:
        """SIGCONT to the whole tree of `name`; proved by the waiting connection, accepted now."""
        member = self._running(name)
        with self._state:
            if member.state != "paused":
                raise ClusterError(f"{name} is {member.words} and cannot be resumed: only a paused node can")
            held, member.held = member.held, None
        hit = self._signal(member, SIGCONT, "resumed")
        with self._state:
            if member.state == "paused":
                member.state = "up"
        held = held or Held(member.node, hit, self._status_of(member.node))
        try:
            return f"SIGCONT: {held.prove_gone()}"
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
            answer = self._request("signal", name=member.node.name, signal=int(number))
        except Refused:  # it ended by itself a moment ago
            raise ClusterError(f"{member.node.name} is {member.words} and cannot be {verb}") from None
        pids: list[int] = answer["pids"]
        return pids

    def _status_of(self, node: Node) -> Status | None:
        return None if type(self.target).status is Target.status else lambda: self.target.status(node)

    # ------------------------------------------------------------------ what happens by itself

    def _pid(self, name: str) -> int:
        member = self._members[name]
        return 0 if member.state == "down" else member.pid

    def _bypassed(self, name: str, peer: str, address: str) -> None:
        self._observer.tell(name, "bypass", {"peer": peer, "address": address})

    def _is_up(self, name: str) -> bool:
        return self._members[name].state == "up"

    def _exited(self, name: str, how: Mapping[str, Any]) -> None:
        detail = {key: how[key] for key in ("code", "signal") if key in how}
        if name == PROXY:
            self._proxy_exited(detail)
            return
        member = self._members[name]
        self._observer.ended(name)
        asked = member.asked and how.get("signal") == SIGKILL
        detail["asked"] = asked
        if not asked:
            detail["log"] = last_lines(member.log)
        with self._observer.telling:
            if not self._closing.is_set():
                self._observer.tell(name, "exit", detail)
            with self._state:
                member.state, member.ended = "down", "was killed by the plan" if asked else how_ended(how)
                held, member.held = member.held, None
                self._state.notify_all()
        if held is not None:
            held.close()

    def _proxy_exited(self, detail: Mapping[str, Any]) -> None:
        if self._closing.is_set():
            return
        self._broken = self._broken or f"the proxy server {how_ended(detail)}\n{last(self._proxy_log)}"
        self._observer.tell(PROXY, "exit", {**detail, "asked": False, "log": last_lines(self._proxy_log)})
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
            if keep and self._supervisor is not None and not (self._broken or self._closing.is_set()):
                return self._keep()
            with self._state:
                self._closing.set()
                self._state.notify_all()
            self._observer.stop_polling()
            self._bypass.stop()
            failed: list[str] = []
            for step in (self._end_processes, self._close_rest, self._verify):
                try:
                    step()
                except (ClusterError, OSError) as error:
                    failed.append(str(error))
            if self._ports is not None:
                self._ports.release()
            if self._run is not None:
                self._run.release(remove=not failed)
            self._stopped.set()
        if failed:
            raise ClusterError(f"run {self.run_id!r} could not be ended:\n  " + "\n  ".join(failed))
        return ""

    def _keep(self) -> str:
        assert self._supervisor is not None and self._run is not None
        where = ", ".join(f"{n.name} {self.entry(n.name).address} (itself {n.address})" for n in self.nodes)
        pid = self._request("keep", descriptor=self._run.descriptor)["pid"]
        self._closing.set()
        self._bypass.stop()
        self._close_rest()
        self._supervisor.leave()
        self._run.release(remove=False)
        if self._ports is not None:
            self._ports.release()  # from now on the nodes hold them by listening
        self._stopped.set()
        return f"the cluster keeps running: {where}; data in {self._run.path}; stop it with: kill {pid}"

    def _end_processes(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()

    def _close_rest(self) -> None:
        if hasattr(self, "fabric"):
            self.fabric.close()
        self._observer.stop()
        for member in self._members.values():
            if member.held is not None:
                member.held.close()

    def _verify(self) -> None:
        if self._run is None:  # the id may be a living neighbour's
            return
        end(self._run.label)
        for member in self._members.values():
            for port in member.node.ports.values() if member.served else ():
                if listener(port):
                    raise ClusterError(
                        f"port {port} of {member.node.name} is still served: {holder(port)} holds it"
                    )

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

    def _request(self, do: str, **how: Any) -> dict[str, Any]:
        self._check()
        if self._supervisor is None:
            raise ClusterError(f"run {self.run_id!r} is not started: call start() first")
        return self._supervisor.request(do, **how)

    def _check(self) -> None:
        """Raise where nothing can go on: stopped, or broken."""
        if self._closing.is_set():
            raise ClusterError(f"run {self.run_id!r} has been stopped")
        if broken := self._broken or self._observer.broken:
            raise ClusterError(broken)


def _pids(pids: Sequence[int]) -> str:
    return f"pid {pids[0]}" + (f" and {len(pids) - 1} more of its tree" if len(pids) > 1 else "")

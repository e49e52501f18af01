"""Sites whose nodes are processes of this machine: one supervisor starts, signals and reaps them."""

from __future__ import annotations

import errno
import functools
import importlib.util
import marshal
import os
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any, ClassVar

from harness.cluster.control import Supervisor
from harness.cluster.lock import ClusterError
from harness.cluster.member import Member, last
from harness.cluster.ports import Ports
from harness.cluster.site import Ground, Refused, Site
from harness.cluster.supervisor import NODE, RUN
from harness.cluster.sweep import end
from harness.kernel import PATH, tracing
from harness.proxy import embedded
from harness.skew.preload import Preload
from harness.skew.program import PatcherError, Way
from harness.target import Node

PROXY = "proxy"
REAL = "toxiproxy-server"  # the published binary's name
EMBEDDED = "the embedded server"  # in words
WITHIN = 10.0  # seconds for a helper to say that it serves


class ProcessSite(Site):
    """What `local` and `netns` have in common."""

    helpers: ClassVar[Mapping[str, str]] = {PROXY: "the proxy server"}

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        run = ground.run
        log = run.path / "supervisor.log"
        self.supervisor = Supervisor(run.label, log, ground.exited, ground.lost, ground.clock)
        self._preload = Preload(run.path / "clocks", lambda name: self.signal(name, 0))
        self._own(self._preload.close)
        self._own(self.supervisor.close)

    # ------------------------------------------------------------------ nodes

    def member(self, node: Node, log: Path) -> Member:
        labels = {RUN: self.ground.run.label, NODE: node.name}
        member = Member.of(self.ground.target, node, log, os.environ, **labels)
        if self.ground.clocks and self._untraced:
            member.env = {**member.env, **self._preload.environment(node.name, member.argv, member.env)}
        return member

    @cached_property
    def _untraced(self) -> str:
        """Why nobody may be traced here; '' where that is allowed."""
        return tracing().trouble

    def start(self, member: Member) -> int:
        return self._start(
            member.node.name, member.argv, member.log, member.env, os.getcwd(), self.enters(member.node.name)
        )

    def enters(self, name: str) -> Sequence[str]:
        """The namespaces that a process of node (or place) `name` enters first."""
        return ()

    def signal(self, name: str, number: int) -> list[int]:
        pids: list[int] = self.supervisor.request("signal", name=name, signal=number)["pids"]
        return pids

    def ways(self, name: str) -> Sequence[Way]:
        traced = Way("by the nodes' supervisor", self._patch, self._tree)
        preloaded = self._preload.way()
        return [preloaded] if self._preload.has(name) else [traced, preloaded]

    def _patch(self, do: str, **how: Any) -> Mapping[str, Any]:
        """The supervisor is the one who may: of all processes only an ancestor, where Yama is in force."""
        try:
            return self.supervisor.request("patch", what=do, how=how)
        except ClusterError as error:
            raise PatcherError(str(error)) from error

    def _tree(self, name: str) -> Mapping[str, Any]:
        return {"label": [[RUN, self.ground.run.label], [NODE, name]]}  # the root's pid the supervisor knows

    def explain(self, member: Member, error: Refused) -> str:
        program = member.argv[0]
        if os.sep not in program and not shutil.which(program, path=member.env.get("PATH")):
            return "no such program on PATH"
        return "is it executable?" if error.errno == errno.EACCES else "is the program installed?"

    def keep(self) -> str:
        pid = self.supervisor.request("keep", descriptor=self.ground.run.descriptor)["pid"]
        self._ends.remove(self.supervisor.close)
        self.end()
        self.supervisor.leave()
        return f"kill {pid}"

    def verify(self, members: Mapping[str, Member]) -> None:
        end(self.ground.run.label)

    # ------------------------------------------------------------------ helpers

    def _start(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        cwd: str = "/",
        enter: Sequence[str] = (),
    ) -> int:
        started = self._asked(
            "start",
            name=name,
            argv=list(argv),
            env=dict(env),
            cwd=cwd,
            log=str(log.absolute()),
            enter=list(enter),
        )
        return int(started["pid"])

    def _help(self, name: str, program: ModuleType) -> Path:
        """Begin a helper, a module of standard library alone; its log. It gets ready, and awaits `_go`."""
        log = self.ground.logs / f"{name}.log"
        self._asked(
            "help",
            name=name,
            program=str(bytecode(program, self.ground.run.path)),
            env={"PATH": PATH, NODE: name},
            log=str(log.absolute()),
        )
        return log

    def _go(self, name: str, *arguments: str, enter: Sequence[str] = ()) -> None:
        """Have a helper do what it is for, in the namespaces `enter`."""
        self._asked("go", name=name, arguments=arguments, enter=list(enter))

    def _asked(self, do: str, **how: Any) -> dict[str, Any]:
        """What the supervisor answers. One that is gone as the cluster is being stopped is no surprise."""
        self.ground.check()
        try:
            return self.supervisor.request(do, **how)
        except ClusterError:
            self.ground.check()
            raise

    def _await(self, name: str, log: Path, pattern: bytes) -> re.Match[bytes]:
        """Wait until a helper's log says `pattern`."""
        deadline = monotonic() + WITHIN
        while not (found := re.search(pattern, log.read_bytes())):
            self.ground.check()
            if monotonic() > deadline:
                raise ClusterError(f"{self.helpers[name]} did not serve within {WITHIN:g} s\n{last(log)}")
            self.ground.closing.wait(0.003)
        return found

    def _begin_proxy(self) -> None:
        """Have the proxy server get ready; `proxy` says which it is, for the report.

        It is the real one where that is on PATH and no faults on messages are wanted, else the embedded one.
        """
        self._real = "" if self.ground.messages else shutil.which(REAL) or ""
        self.proxy = f"Toxiproxy, {self._real}" if self._real else EMBEDDED
        if not self._real:
            self._help(PROXY, embedded)

    def _serve(self, host: str, port: int, enter: Sequence[str] = ()) -> None:
        """Have the proxy server that has begun serve at `host` and `port` (0: a free one)."""
        if not self._real:
            self._go(PROXY, "--host", host, "--port", str(port), enter=enter)
            return
        if not port:
            ports = Ports(1, start=f"{self.ground.run.path.name} proxy")
            self._own(ports.release)
            (port,) = ports.numbers
        self._at = host, port
        argv = [self._real, "-host", host, "-port", str(port)]
        labels = {RUN: self.ground.run.label, NODE: PROXY}
        log = self.ground.logs / f"{PROXY}.log"
        self._start(PROXY, argv, log, {**os.environ, **labels}, enter=enter)

    def _served(self) -> tuple[str, int]:
        """Where it listens, awaited as far as it says so: the real one does not."""
        if self._real:
            return self._at
        found = self._await(PROXY, self.ground.logs / f"{PROXY}.log", rb"listening on (\S+):(\d+)\n")
        return found[1].decode(), int(found[2])


def bytecode(program: ModuleType, directory: Path) -> Path:
    """A module's bytecode: where Python has kept it, or in `directory`."""
    source = Path(program.__file__ or "")
    kept, status = Path(importlib.util.cache_from_source(str(source))), source.stat()
    try:
        with open(kept, "rb") as file:
            flags, changed, size = struct.unpack("<4xIII", file.read(16))
    except (OSError, struct.error):
        flags = changed = size = -1
    if (flags, changed, size) == (0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF):
        return kept
    own = directory / f"{source.stem}.pyc"
    own.write_bytes(_compiled(source))
    return own


@functools.cache
def _compiled(source: Path) -> bytes:
    """Once for this process, as long as the proxy server takes to do anything else before it serves."""
    return bytes(16) + marshal.dumps(compile(source.read_bytes(), str(source), "exec"))


__all__ = ["EMBEDDED", "PROXY", "ProcessSite"]

"""Sites whose nodes are processes of this machine: one supervisor starts, signals and reaps them."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import struct
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import monotonic
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
        self.ground.check()
        started = self.supervisor.request(
            "start",
            name=name,
            argv=list(argv),
            env=dict(env),
            cwd=cwd,
            log=str(log.absolute()),
            enter=list(enter),
        )
        return int(started["pid"])

    def _help(self, name: str, program: Path, *arguments: str, enter: Sequence[str] = ()) -> Path:
        """Start a helper, a file of standard library; its log."""
        log = self.ground.logs / f"{name}.log"
        argv = [sys.executable, "-I", "-S", str(_compiled(program)), *arguments]
        env = {**os.environ, "PATH": PATH, RUN: self.ground.run.label, NODE: name}
        self._start(name, argv, log, env, enter=enter)
        return log

    def _await(self, name: str, log: Path, pattern: bytes) -> re.Match[bytes]:
        """Wait until a helper's log says `pattern`."""
        deadline = monotonic() + WITHIN
        while not (found := re.search(pattern, log.read_bytes())):
            self.ground.check()
            if monotonic() > deadline:
                raise ClusterError(f"{self.helpers[name]} did not serve within {WITHIN:g} s\n{last(log)}")
            self.ground.closing.wait(0.003)
        return found

    def _proxy(self, host: str, port: int, enter: Sequence[str] = ()) -> tuple[str, int]:
        """Start the proxy server at `host` and `port` (0: a free one); where it listens, or is about to.

        It is the real one where that is on PATH and no faults on messages are wanted, else the embedded one;
        `proxy` says which, for the report.
        """
        if (real := shutil.which(REAL)) and not self.ground.messages:
            if not port:
                ports = Ports(1, start=f"{self.ground.run.path.name} proxy")
                self._own(ports.release)
                (port,) = ports.numbers
            self.proxy = f"Toxiproxy, {real}"
            log = self.ground.logs / f"{PROXY}.log"
            argv = [real, "-host", host, "-port", str(port)]
            labels = {RUN: self.ground.run.label, NODE: PROXY}
            self._start(PROXY, argv, log, {**os.environ, **labels}, enter=enter)
            return host, port
        self.proxy = EMBEDDED
        program = Path(embedded.__file__)
        log = self._help(PROXY, program, "--host", host, "--port", str(port), enter=enter)
        found = self._await(PROXY, log, rb"listening on (\S+):(\d+)\n")
        return found[1].decode(), int(found[2])


def _compiled(program: Path) -> Path:
    """The bytecode of a program, where Python has kept it and it is that of this very source: a script is
    compiled again at each start, which is a third of what it takes."""
    kept, source = Path(importlib.util.cache_from_source(str(program))), program.stat()
    try:
        with open(kept, "rb") as file:
            flags, changed, size = struct.unpack("<4xIII", file.read(16))
    except (OSError, struct.error):
        return program
    same = (0, int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
    return kept if (flags, changed, size) == same else program


__all__ = ["EMBEDDED", "PROXY", "ProcessSite"]

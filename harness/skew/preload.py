"""The preload library as a way to nodes' clocks, for a machine on which nobody may be traced.

Differs from the patcher in that a node must have been started with it, and that it knows its processes by
what they have mapped. One process never has both.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.skew import shim
from harness.skew.patcher import BILLION, Spec, exe, skewed
from harness.skew.program import PatcherError, Way

ANSWERED_WITHIN = 1.0  # seconds for a node to have read its clock
WITHOUT = (
    "it was started without the library, which is preloaded where the plan has faults on clocks and nobody "
    "may be traced"
)


class Preload:
    """The control files of a cluster's nodes, below `directory`; `processes` are the pids of a node."""

    def __init__(self, directory: Path, processes: Callable[[str], Sequence[int]]) -> None:
        self._directory, self._processes = directory, processes
        self._controls: dict[str, shim.Control] = {}
        self._unfit: dict[str, str] = {}

    def environment(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
        """The variables that a node is started with; none where its program cannot be preloaded."""
        self._directory.mkdir(parents=True, exist_ok=True)
        program = shutil.which(argv[0], path=env.get("PATH"))
        reason = shim.dynamic(program, env) if program else f"there is no program {argv[0]}"
        if reason:
            self._unfit[name] = reason
            return {}
        control = self._controls[name] = shim.Control(self._directory / name)
        return shim.environment(control.path, before=env.get("LD_PRELOAD", ""))

    def has(self, name: str) -> bool:
        """Whether a node was started with it."""
        return name in self._controls

    def way(self) -> Way:
        """The way to the nodes' clocks."""
        return Way("preloaded", self._request, lambda name: {})

    def close(self) -> None:
        """Let go of the files; processes keep what is in force."""
        for control in self._controls.values():
            control.close()

    def _request(self, do: str, *, name: str, **how: Any) -> Mapping[str, Any]:
        """What a patcher answers to the same request."""
        if not self.has(name):
            raise PatcherError(self._unfit.get(name, WITHOUT))
        control = self._controls[name]
        if do == "arm":  # whether they have mapped it is for `verify`: a start may be a chain of programs
            return {"processes": [{**one, "error": None} for one in self._all(control, name)]}
        if do == "verify":
            real, slot = time.time_ns(), control.state().spec.packed()
            off = (skewed(slot, time.CLOCK_REALTIME, real) - real) / BILLION
            found = [{**one, "offset_read": off, "offset_called": None} for one in self._all(control, name)]
            if found and how["call"] and not self._answered(control, name):
                found[0]["error"] = f"nothing has read its clock for {ANSWERED_WITHIN:g} s: nothing is proved"
            return {"processes": found}
        if do == "audit":
            raise PatcherError("system calls cannot be watched where nobody may be traced")
        control.set(Spec(**how["spec"]) if do == "set" else Spec())
        return {}

    def _all(self, control: shim.Control, name: str) -> list[dict[str, Any]]:
        """Each process of a node, as a patcher describes it; those that are ending are left out."""
        found = []
        for pid in self._processes(name):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                used = control.use(pid)
                trouble = None if used else "it has not mapped the library: was its environment cleaned?"
                found.append({"pid": pid, "exe": exe(pid), "mechanism": "preload", "error": trouble})
        return found

    def _answered(self, control: shim.Control, name: str) -> bool:
        """Whether a process has read its clock since it was set last: nobody can make it do so."""
        deadline, wanted = time.monotonic() + ANSWERED_WITHIN, control.state().generation
        while not any(use.generation == wanted for use in self._uses(control, name)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _uses(self, control: shim.Control, name: str) -> Iterator[shim.Use]:
        for pid in self._processes(name):
            with contextlib.suppress(OSError):
                if use := control.use(pid):
                    yield use


__all__ = ["Preload"]

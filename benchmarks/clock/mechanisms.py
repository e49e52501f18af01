"""How a program's clock is skewed: by a patch of its vDSO, put in from here or from a helper container, or by
the preload library. The container is started by a user who may do nothing but speak to the engine.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from benchmarks.clock.places import WITHIN, Docker, Place, Running
from benchmarks.clock.programs import PROGRAMS
from benchmarks.clock.servers import SERVERS
from harness.skew import patcher, shim
from harness.skew.patcher import Process, Spec


class Refusal(Exception):
    """This mechanism is not for this program."""


class Skewed(Protocol):
    """A program that runs and can be skewed."""

    running: Running

    def set(self, spec: Spec) -> bytes:
        """Put it in force; the parameters as they lie in the program."""

    def restore(self) -> None:
        """Make its time true again. Raises RuntimeError where nothing proves that it was skewed."""


class Patched:
    def __init__(self, running: Running, process: Process) -> None:
        self.running, self.process = running, process

    def set(self, spec: Spec) -> bytes:
        slot = self.process.set(spec)
        if self.process.slot() != slot or not self.process.installed():
            raise RuntimeError(f"process {self.running.pid}: what was written is not there")
        return slot

    def restore(self) -> None:
        self.process.restore()
        if self.process.installed():
            raise RuntimeError(f"process {self.running.pid}: the patch is still there")


class Preloaded:
    def __init__(self, running: Running, control: shim.Control) -> None:
        self.running, self.control = running, control

    def set(self, spec: Spec) -> bytes:
        based = spec.based()
        self.control.set(based)
        return based.packed()

    def restore(self) -> None:
        state, use = self.control.state(), self.control.use(self.running.pid)
        if use is None or use.generation != state.generation:
            raise RuntimeError(f"process {self.running.pid} leaves no proof of being skewed: {use}, {state}")
        self.control.set(Spec())


class Helped:
    """By the patcher as a program, in a container that shares the program's pid namespace."""

    def __init__(self, running: Running, helper: subprocess.Popen[str]) -> None:
        self.running, self.helper = running, helper
        self.ask("arm", who={"pids": [1]}, within=WITHIN)

    def set(self, spec: Spec) -> bytes:
        based = spec.based()
        self.ask("set", spec=asdict(based))
        self.ask("verify")
        return based.packed()

    def restore(self) -> None:
        self.ask("restore", call=True)

    def ask(self, verb: str, **how: object) -> None:
        """Raises RuntimeError with what the patcher says of any process."""
        assert self.helper.stdin is not None and self.helper.stdout is not None
        self.helper.stdin.write(json.dumps({"id": verb, "do": verb, "with": {"name": "bench", **how}}) + "\n")
        self.helper.stdin.flush()
        answer: dict[str, Any] = {}
        while answer.get("re") != verb:
            if not (line := self.helper.stdout.readline()):
                raise RuntimeError(f"the helper container has ended: {self.helper.wait(WITHIN)}")
            answer = json.loads(line)
        errors = [answer.get("error"), *answer.get("errors", [])]
        if verb != "set":
            errors += [one["error"] for one in answer.get("processes", [])]
        if any(errors):
            raise RuntimeError(f"{verb} in a helper container: {answer}")


@contextlib.contextmanager
def helped(place: Place, name: str) -> Iterator[Skewed]:
    assert isinstance(place, Docker)
    shutil.copy(patcher.__file__, place.out)
    with place.started(name) as running, place.beside(running, place.out / "patcher.py") as helper:
        yield Helped(running, helper)


@contextlib.contextmanager
def patched(mode: str, place: Place, name: str) -> Iterator[Skewed]:
    with place.started(name) as running, Process.open(running.pid) as process:
        process.install(mode=mode)
        yield Patched(running, process)


@contextlib.contextmanager
def preloaded(place: Place, name: str) -> Iterator[Skewed]:
    """Start it with the library. Raises Refusal for what cannot be preloaded."""
    program, *_ = (
        PROGRAMS[name].built(place.out) if name in PROGRAMS else SERVERS[name].argv("", 0, place.out)
    )
    if (found := shutil.which(program)) is None:
        raise Refusal(f"{program} is not on this machine, so nothing says whether it can be")
    if reason := shim.dynamic(found):
        raise Refusal(reason)
    library = place.out / shim.LIBRARY.name
    if not library.exists():
        shutil.copy(shim.LIBRARY, library)
    control = place.out / "control"
    control.unlink(missing_ok=True)
    with shim.Control(control) as made, place.started(name, shim.environment(control, library)) as running:
        yield Preloaded(running, made)


Mechanism = Callable[[Place, str], AbstractContextManager[Skewed]]
MECHANISMS: dict[str, Mechanism] = {
    "fast": partial(patched, "fast"),
    "stub": partial(patched, "stub"),
    "helper": helped,
    "preload": preloaded,
}

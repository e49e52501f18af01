"""How a program's clock is skewed: by a patch of its vDSO, put in from here, or by the preload library."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from benchmarks.clock.places import Place, Running
from benchmarks.clock.programs import PROGRAMS
from harness.skew import shim
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


@contextlib.contextmanager
def patched(mode: str, place: Place, name: str) -> Iterator[Skewed]:
    with place.started(name) as running, Process.open(running.pid) as process:
        process.install(mode=mode)
        yield Patched(running, process)


@contextlib.contextmanager
def preloaded(place: Place, name: str) -> Iterator[Skewed]:
    """Start it with the library. Raises Refusal for what cannot be preloaded."""
    program = PROGRAMS[name].built(place.out)[0] if name in PROGRAMS else name
    found = shutil.which(program)
    if found and (reason := shim.dynamic(found)):
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
    "preload": preloaded,
}

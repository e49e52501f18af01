"""How a program's clock is skewed: by a patch of its vDSO, from here; by the preload library."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from harness.skew import shim
from harness.skew.patcher import Process, Spec

from benchmarks.clock.places import Docker, Local, Running


class Skewed(Protocol):
    """A program that runs and can be skewed."""

    running: Running

    def set(self, spec: Spec) -> bytes | None:
        """Put it in force; the parameters as they lie in the program."""

    def restore(self) -> None: ...


class Patched:
    def __init__(self, running: Running, mode: str) -> None:
        self.running, self.process = running, Process.open(running.pid)
        self.process.install(mode=mode)

    def set(self, spec: Spec) -> bytes:
        return self.process.set(spec)

    def restore(self) -> None:
        self.process.restore()


class Preloaded:
    def __init__(self, running: Running, control: shim.Control) -> None:
        self.running, self.control = running, control

    def set(self, spec: Spec) -> bytes:
        return self.control.set(spec).spec.packed()

    def restore(self) -> None:
        state, use = self.control.state(), self.control.use(self.running.pid)
        if use is None or use.generation != state.generation:
            raise RuntimeError(f"process {self.running.pid} leaves no proof that it was skewed: {use}, {state}")
        self.control.set(Spec())

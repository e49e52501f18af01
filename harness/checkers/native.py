"""The native kernel, where it was built: the same search as `harness.checkers.search`, many times faster.

It is optional. `kernel` says which of the two judges here.
"""

from __future__ import annotations

import contextlib
import os
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from harness.checkers.kinds import OK, TRIED, Kinds
from harness.checkers.model import ANY, SAME, Effect, identity

KERNEL: Any = None  # the module, or None
with contextlib.suppress(ImportError):
    KERNEL = import_module("harness.checkers._linearize")

FIRST = 1 << 14  # configurations expanded before another key gets its turn, four times as many each time
BEAM = 4  # configurations kept at first
NEVER = 1 << 62
MANY = 4096  # operations from which it pays to begin threads


class Found(NamedTuple):
    """Of a key that is not valid: the kernel's `answer`, the row that nothing explains (-1: no search)."""

    key: int
    answer: str
    row: int
    explained: int


def kernel() -> str:
    """``native`` where the kernel was built, else ``python``."""
    return "python" if KERNEL is None else "native"


def processors() -> int:
    """How many there are for this process."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Asked:
    """A history and a model, made ready for the kernel; `run` judges its keys.

    Registers and texts are known to the kernel. Of other models it knows their `Effect`, where they have one,
    or it asks their step function.
    """

    def __init__(self, kinds: Kinds) -> None:
        self.kinds, self.columns = kinds, kinds.columns
        c, model = self.columns, kinds.model
        self._kinds: tuple[Any, ...]
        self._model: Any = None
        roles, growing = _roles(model.native)
        # the kernel's own data types begin with nothing; one that begins otherwise is as any other model
        begins = model.initial in ("", ()) if growing else model.initial is None
        codes = [roles.get(f, -1) for f in c.fs.values]  # the first is None, always
        texts: Any = None
        known = bool(roles) and begins and codes.count(-1) == 1
        if known and growing:
            texts = KERNEL.taken(c.values.values, False) if isinstance(model.initial, str) else self._items()
            known = texts is not None
        if known:
            refused = c.values.known(False)
            self._kinds = (array("q", codes), c.values.halves, refused, texts, None, None, None, 0)
        elif kinds.declared:
            self._declared(kinds.all())
        else:
            self._stepped()

    def _items(self) -> Any:
        """Each value as a text, so that a list grows as a text does; None where lists are items."""
        c = self.columns
        numbers: dict[Any, int] = {}

        def text(item: Any) -> bytes:
            return numbers.setdefault(identity(item), len(numbers) + 1).to_bytes(4, "big")

        reads = c.fs.known("read")
        appended = {value for f, value in zip(c.f, c.value, strict=True) if f != reads}
        values = c.values.values
        if any(values[code] is None or isinstance(values[code], tuple) for code in appended):
            return None
        told = {
            result for f, result, kind in zip(c.f, c.result, c.type, strict=True) if f == reads and kind == OK
        }
        if not all(values[code] is None or isinstance(values[code], tuple) for code in told):
            return None
        texts = [
            b"".join(map(text, value)) if isinstance(value, tuple) else b"" if value is None else text(value)
            for value in values
        ]
        return KERNEL.taken(texts, True)

    def _declared(self, column: Sequence[int]) -> None:
        effects = array("q")
        for effect in self.kinds.effects:
            effects.extend(self._effect(effect or Effect()))
        initial = self.kinds.state(self.kinds.model.initial)
        self._kinds = (None, None, -1, None, column, effects, None, initial)

    def _effect(self, effect: Effect) -> tuple[int, int, int]:
        state = self.kinds.state
        if effect.unlike is not ANY:
            return KERNEL.REFUSED, state(effect.unlike), 0
        if effect.makes is SAME:
            return (
                (KERNEL.READ, state(effect.needs), 0) if effect.needs is not ANY else (KERNEL.NOTHING, 0, 0)
            )
        if effect.needs is ANY:
            return KERNEL.WRITE, 0, state(effect.makes)
        return KERNEL.CAS, state(effect.needs), state(effect.makes)

    def _stepped(self) -> None:
        kinds, model = self.kinds, self.kinds.model
        fs = self.columns.fs.values
        if model.fs or model.shape:
            kinds.all()  # raises where the model does not know an operation
        looks = array("q", [f in model.reads for f in fs])
        initial = kinds.state(model.initial)
        self._kinds = (None, None, -1, None, None, None, looks, initial)
        self._ask()

    def _ask(self) -> None:
        self._model = KERNEL.model(len(self.columns), TRIED, self.kinds.asking())

    def run(
        self, tick: Any, limit: int, configurations: int, *, only: int = -1, until: int = NEVER,
        beam: int = BEAM, zones: bool = True, threads: int | None = None,
    ) -> tuple[int, int, list[Found]]:  # fmt: skip
        """Judge all keys or `only` one, up to a violation: work, returns explained, what is not valid.

        Many operations are judged by as many `threads` as there are processors, each a key at a time.
        """
        c = self.columns
        if threads is None:
            threads = processors() if only < 0 and len(c.call) >= MANY else 1
        if self._kinds[6] is not None and self._model is None:
            self._ask()
        try:
            answer, work, explained, found = KERNEL.search(
                c.call, c.ret, c.key, c.f, c.value, c.result, c.type, len(c.keys.values),
                len(c.values.values) if self._kinds[0] else max(len(c.values.values), len(self.kinds.states)),
                *self._kinds, self._model, tick, only, until, limit, configurations, beam, zones,
                threads,
            )  # fmt: skip
        except BaseException:
            self._model = None  # the traceback may be kept by the model: a circle no collector sees into
            raise
        if answer:
            if answer == KERNEL.SHAPE:
                self.kinds.all()  # raises
            raise MemoryError
        return work, explained, [Found(key, NAMES[answer], row, n) for key, answer, row, n in found]


ROLES = ("READ", "WRITE", "CAS", "APPEND")


@cache
def _roles(native: tuple[tuple[str, str], ...]) -> tuple[dict[str, int], bool]:
    """The kernel's numbers for the operations of a model, and whether it is one that grows."""
    numbers = {f: getattr(KERNEL, role) if role in ROLES else -1 for f, role in native}
    return numbers, "APPEND" in dict(native).values()


ANSWERS = ("VALID", "INVALID", "LIMIT", "MEMORY", "WIDE", "STOPPED", "SHAPE")
NAMES = {getattr(KERNEL, name): name for name in ANSWERS} if KERNEL is not None else {}

"""A fault of a user's own, made of functions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from harness.fault_base import Fault
from harness.resolved import Resolved
from harness.selector import Scene
from harness.value import PlanError


@dataclass(frozen=True, repr=False)
class fault(Fault):
    """A fault of your own: functions that are called with the running chaos context.

    `inject` makes it, `heal` ends it (without one it is over at once), `verify` returns whether it holds.
    `heal` is also called where `inject` raised, `verify` says that nothing holds, or the run is given up: it
    must do no harm where there is nothing to undo.
    It is recorded by `name`, the function's unless given; JSON has the name only and cannot be loaded.
    """

    inject: Callable[[Any], Any]
    heal: Callable[[Any], Any] | None = None
    verify: Callable[[Any], Any] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        for part in ("inject", "heal", "verify"):
            given = getattr(self, part)
            if not callable(given) and (part == "inject" or given is not None):
                raise self._fail(
                    part, "a function of the chaos context" + (", or None" if part != "inject" else "")
                )
        if not self.name:
            self._set(name=getattr(self.inject, "__name__", ""))
        if not isinstance(self.name, str) or not self.name or self.name == "<lambda>":
            raise self._fail("name", 'a name for the record, since the function has none: name="..."')

    @property
    def instant(self) -> bool:
        return self.heal is None

    def to_json(self) -> dict[str, Any]:
        """Its name only: functions cannot be written down."""
        return {"kind": "fault", "name": self.name}

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        return self._resolved((), self.name)

    def _call(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        positional, keywords = super()._call()
        shown = {k: _Written(_function(v)) if callable(v) else v for k, v in keywords.items()}
        if self.name == getattr(self.inject, "__name__", ""):
            del shown["name"]
        return [_Written(_function(function)) for function in positional], shown

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> NoReturn:
        raise PlanError(
            f"the fault {data.get('name')!r} is made of functions and cannot be loaded from JSON; "
            "run the plan from the Python that makes it"
        )


class _Written(str):
    """Text that stands in a repr as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _function(function: Any) -> str:
    return str(getattr(function, "__name__", None) or repr(function))


__all__ = ["fault"]

"""What plans are made of: frozen values whose repr is the Python that makes them, with canonical JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

V = TypeVar("V", bound="Value")
Reader: TypeAlias = Callable[[Any], Any]


class PlanError(ValueError):
    """A plan cannot be carried out as written; the text names the part, what it should be, the choices."""


@dataclass(frozen=True, repr=False)
class Value:
    """Base of everything in a plan: compares by content, prints as the call that makes it.

    `parts` says how fields that hold other values are read back from JSON. Numbers are kept as float
    (seconds) or int (bytes, counts), whatever was passed, so that equal values have equal JSON.
    """

    parts: ClassVar[Mapping[str, Reader]] = {}

    def __repr__(self) -> str:
        positional, keywords = self._call()
        shown = [*map(source, positional), *(f"{name}={source(v)}" for name, v in keywords.items())]
        return f"{type(self).__name__}({', '.join(shown)})"

    def to_json(self) -> dict[str, Any]:
        """The value as plain JSON data; `kind` is its name, every other field is written out."""
        return {"kind": type(self).__name__, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}

    def canonical(self) -> str:
        """The JSON text that all equal values share: keys sorted, no spaces."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def named(self) -> tuple[str, ...]:
        """Nodes that it names as nodes, so that a plan can be checked before anything starts."""
        return ()

    # ------------------------------------------------------------------ for subclasses

    def _defaults(self) -> dict[str, Any]:
        return {f.name: f.default for f in fields(self) if f.default is not MISSING}

    def _call(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Positional and keyword arguments that make this value; what a default gives is left out."""
        defaults = self._defaults()
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return (
            [v for name, v in given.items() if name not in defaults],
            {name: v for name, v in given.items() if name in defaults and v != defaults[name]},
        )

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        known = {f.name: f for f in fields(cls)}
        cls._known(data, *known)
        if missing := [n for n, f in known.items() if f.default is MISSING and n not in data]:
            raise PlanError(f"{cls.__name__} lacks the field {missing[0]!r}; it has {', '.join(known)}")
        return cls(**{name: cls.parts[name](v) if name in cls.parts else v for name, v in data.items()})

    @classmethod
    def _known(cls, data: Mapping[str, Any], *names: str) -> None:
        for name in data:
            if name not in names:
                raise PlanError(f"{cls.__name__} has no field {name!r}; it has {', '.join(names) or 'none'}")

    @classmethod
    def _read_list(cls, data: Mapping[str, Any], name: str) -> list[Any]:
        """The only field of `data`, which must be the list `name`."""
        if set(data) != {name} or not isinstance(data[name], (list, tuple)):
            raise PlanError(f"{cls.__name__} has one field, the list {name!r}, not {dict(data)!r}")
        return list(data[name])

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _fail(self, name: str, expected: str) -> PlanError:
        return PlanError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}, but must be {expected}")

    def _number(
        self, name: str, unit: str, *, least: float = 0.0, most: float = math.inf, above: bool = False
    ) -> None:
        """Make field `name` a float in [least, most], or (least, most] if `above`."""
        value = getattr(self, name)
        bound = f"more than {least:g}" if above else f"at least {least:g}"
        expected = f"{unit}, {bound}" + (f" and at most {most:g}" if most < math.inf else "")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._fail(name, expected)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not least <= number <= most or (above and number == least):
            raise self._fail(name, expected)
        self._set(**{name: number + 0.0})  # + 0.0: no negative zero

    def _count(self, name: str, unit: str, *, least: int = 0) -> None:
        """Make field `name` an int, at least `least`."""
        value = getattr(self, name)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if not whole or isinstance(value, bool) or value < least:
            raise self._fail(name, f"a whole number of {unit}, at least {least}")
        self._set(**{name: int(value)})

    def _flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise self._fail(name, "True or False")


def read(data: Any, kinds: Sequence[type[V]], noun: str) -> V:
    """The value that `data` describes, one of `kinds`; PlanError lists the kinds or the fields."""
    names = {kind.__name__: kind for kind in kinds}
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(kind, str):
        raise PlanError(f"{noun} {data!r} has no kind; it is an object with a kind of {', '.join(names)}")
    if kind not in names:
        raise PlanError(f"unknown {noun} {kind!r}; choose from {', '.join(names)}")
    return names[kind]._read({name: item for name, item in data.items() if name != "kind"})


def plain(value: Any) -> Any:
    """`value` as JSON data: nested values as objects, tuples as lists."""
    if isinstance(value, Value):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return value


def source(value: Any) -> str:
    """`value` as Python; whole floats without their point, as one writes seconds."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


__all__ = ["PlanError", "Reader", "Value", "plain", "read", "source"]

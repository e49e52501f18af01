"""A part of a Compose file that knows where it stands, so that every error can say so."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

Step: TypeAlias = str | int

# the word for one entry of a section
_SINGULAR = {
    "services": "service",
    "networks": "network",
    "volumes": "volume",
    "configs": "config",
    "secrets": "secret",
}


class ComposeError(ValueError):
    """A Compose file cannot be read or honoured; the text names file, line, service, key and choices."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value of the file: a scalar, a dict of items by key, or a list of items.

    `line` counts from 1. `path` is the keys that lead to it in the file as it is in force: what a service
    has from another by ``extends`` has the file and line of the other, and the path of the service.
    """

    value: Any
    file: Path
    line: int
    path: tuple[Step, ...] = ()

    @property
    def where(self) -> str:
        """Where it stands, as errors say it: ``compose.yml, line 7: service db: ports[0]``."""
        steps = list(self.path)
        said = f"{self.file.name}, line {self.line}"
        if len(steps) > 1 and steps[0] in _SINGULAR:
            said += f": {_SINGULAR[str(steps[0])]} {steps[1]}"
            del steps[:2]
        keys = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
        return said + (f": {keys.lstrip('.')}" if keys else "")

    @property
    def key(self) -> str:
        """The last key of its path that is a name."""
        return next((step for step in reversed(self.path) if isinstance(step, str)), "")

    def error(self, what: str) -> ComposeError:
        """The error that `what` is wrong here; to be raised."""
        return ComposeError(f"{self.where}: {what}")

    def expected(self, what: str) -> ComposeError:
        """The error that `what` was expected here."""
        return self.error(f"is {self._shown()}, but must be {what}")

    def make(self, value: Any) -> Item:
        """Another value at the same place."""
        return replace(self, value=value)

    def at(self, path: tuple[Step, ...]) -> Item:
        """The same with its parts as it stands at `path`; file and lines stay."""
        value = self.value
        if isinstance(value, dict):
            value = {key: item.at((*path, key)) for key, item in value.items()}
        elif isinstance(value, list):
            value = [item.at((*path, index)) for index, item in enumerate(value)]
        return replace(self, value=value, path=path)

    def walk(self) -> Iterator[Item]:
        """It and everything in it."""
        yield self
        if isinstance(self.value, dict):
            for item in self.value.values():
                yield from item.walk()
        elif isinstance(self.value, list):
            for item in self.value:
                yield from item.walk()

    # ------------------------------------------------------------------ as a value of some kind

    def mapping(self, known: Collection[str] | None = None) -> dict[str, Item]:
        """Its items by key without those that start with ``x-``; nothing at all is {}.

        Raises ComposeError where it is no mapping, or has a key that is none of `known`.
        """
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.expected("a mapping")
        if known is None:
            return dict(self.value)
        for key, item in self.value.items():
            if key not in known and not key.startswith("x-"):
                raise item.error(f"unknown key {key!r}; {nearest(key, known)}")
        return {key: item for key, item in self.value.items() if key in known}

    def items(self) -> list[Item]:
        """Its items in order; nothing at all is []."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.expected("a list")
        return list(self.value)

    def several(self) -> list[Item]:
        """Its items, where a single one may stand for a list of one."""
        return self.items() if self.value is None or isinstance(self.value, list) else [self]

    def text(self) -> str:
        """Its text; numbers and flags are written as Compose writes them."""
        if self.value is None or isinstance(self.value, (dict, list)):
            raise self.expected("text")
        return written(self.value)

    def filled(self) -> str:
        """Its text, which must not be empty."""
        text = self.text()
        if not text:
            raise self.expected("a text that is not empty")
        return text

    def choice(self, choices: Collection[str]) -> str:
        """Its text, which must be one of `choices`."""
        text = self.text()
        if text not in choices:
            raise self.expected(f"one of {', '.join(choices)}")
        return text

    def texts(self) -> tuple[str, ...]:
        """The texts of its items."""
        return tuple(item.text() for item in self.items())

    def flag(self) -> bool:
        """Whether it is true; also as text, since variables are texts."""
        value = self.value.lower() if isinstance(self.value, str) else self.value
        for flag, words in (
            (True, ("true", "yes", "on", "y", "1")),
            (False, ("false", "no", "off", "n", "0")),
        ):
            if value is flag or (isinstance(value, str) and value in words):
                return flag
        raise self.expected("true or false")

    def count(self, *, least: int | None = 0, most: int | None = None) -> int:
        """Its whole number within [least, most]; also as text."""
        value = self.value
        bounds = (f", at least {least}" if least is not None else "") + (
            f" and at most {most}" if most is not None else ""
        )
        expected = f"a whole number{bounds}"
        try:
            number = int(value, 10) if isinstance(value, str) else value
        except ValueError:
            raise self.expected(expected) from None
        if not isinstance(number, int) or isinstance(number, bool):
            raise self.expected(expected)
        if (least is not None and number < least) or (most is not None and number > most):
            raise self.expected(expected)
        return number

    def number(self) -> float:
        """Its number, above 0; also as text."""
        try:
            number = float(self.value) if not isinstance(self.value, bool) else 0.0
        except (TypeError, ValueError):
            number = 0.0
        if not 0 < number < float("inf"):
            raise self.expected("a number above 0")
        return number

    def pairs(self) -> dict[str, Item]:
        """Its items by name, from a mapping or from a list of ``name=value``.

        A name without a value has an item whose value is None.
        """
        if isinstance(self.value, dict):
            return dict(self.value)
        found: dict[str, Item] = {}
        for item in self.items():
            name, equals, value = item.text().partition("=")
            if not name:
                raise item.expected("name=value, or a name alone")
            found[name] = replace(item, value=value if equals else None, path=(*self.path, name))
        return found

    def _shown(self) -> str:
        if isinstance(self.value, dict):
            return f"a mapping ({', '.join(self.value) or 'empty'})"
        if isinstance(self.value, list):
            return f"a list of {len(self.value)}"
        return "empty" if self.value is None else repr(self.value)


def written(value: str | int | float | bool) -> str:
    """A scalar as the text that Compose gives to a container.

    >>> written(True), written(8080), written(1.50), written(100000.0), written(1e6)
    ('true', '8080', '1.5', '100000', '1e+06')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) - 1 + int(exponent)
    if value == 0 or -4 <= power < 6:
        return format(Decimal(repr(value)).normalize(), "f")
    return f"{value:.{len(digits) - 1}e}"


def nearest(word: str, known: Collection[str]) -> str:
    """What was probably meant by `word`, for the end of an error; all of `known` where nothing is near."""
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"the keys here are {', '.join(sorted(known))}"


__all__ = ["ComposeError", "Item", "Step", "nearest", "written"]

"""Variables in a Compose file: ``${NAME:-default}`` and its relatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.compose.item import Item

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_SECRET = re.compile("PASS|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)

VALID = (
    "valid are $NAME, ${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?message}, ${NAME?message}, "
    "${NAME:+instead}, ${NAME+instead}, and $$ for a dollar sign"
)


@dataclass
class Variables:
    """The variables that a file may use, and which of them it did.

    `unset` are those that it used though nobody set them; `secret` are values from outside the file of
    variables whose names say that nobody should read them.
    """

    values: Mapping[str, str]
    unset: dict[str, Item] = field(default_factory=dict)
    secret: set[str] = field(default_factory=set)

    def get(self, name: str) -> str | None:
        """The value of `name`, or None."""
        value = self.values.get(name)
        if value and is_secret(name):
            self.secret.add(value)
        return value

    def hide(self, others: Mapping[str, str | None]) -> None:
        """Count the values of others' variables among those that nobody should read, by their names."""
        self.secret |= {value for name, value in others.items() if value and is_secret(name)}

    def fill(self, item: Item) -> Item:
        """`item` with every text in it filled in. Raises ComposeError for a variable that must be set."""
        value = item.value
        if isinstance(value, dict):
            return item.make({key: self.fill(part) for key, part in value.items()})
        if isinstance(value, list):
            return item.make([self.fill(part) for part in value])
        if not isinstance(value, str) or "$" not in value:
            return item

        def missing(name: str) -> str:
            self.unset.setdefault(name, item)
            return ""

        try:
            return item.make(substitute(value, self.get, missing))
        except ValueError as error:
            raise item.error(str(error)) from None


def is_secret(name: str) -> bool:
    """Whether the value of a variable of this name should be shown to nobody.

    >>> is_secret("POSTGRES_PASSWORD"), is_secret("api_token"), is_secret("PGPASS"), is_secret("PORT")
    (True, True, True, False)
    """
    return _SECRET.search(name) is not None


def substitute(
    text: str, get: Callable[[str], str | None], missing: Callable[[str], str] = lambda name: ""
) -> str:
    """`text` with its variables filled in; `missing` gives the value of one that is not set.

    Raises ValueError for what is no variable, and for one that must be set.

    >>> substitute("${HOST:-db}:$PORT costs $$1", {"PORT": "5432"}.get)
    'db:5432 costs $1'
    """
    return _Scan(text, get, missing).until("")


class _Scan:
    """One reading of a text from left to right."""

    def __init__(
        self, text: str, get: Callable[[str], str | None], missing: Callable[[str], str], start: int = 0
    ) -> None:
        self.text = text
        self.get = get
        self.missing = missing
        self.place = start

    def until(self, end: str, *, live: bool = True) -> str:
        """What stands before `end`, filled in if `live`; the place is then behind `end`."""
        parts: list[str] = []
        while self.place < len(self.text):
            char = self.text[self.place]
            if char == end:
                self.place += 1
                return "".join(parts)
            if char != "$":
                parts.append(char)
                self.place += 1
                continue
            parts.append(self._dollar(live))
        if end:
            raise self._endless()
        return "".join(parts)

    def _dollar(self, live: bool) -> str:
        rest = self.text[self.place + 1 :]
        if rest.startswith("$"):
            self.place += 2
            return "$"
        braced = rest.startswith("{")
        match = _NAME.match(rest, 1 if braced else 0)
        if match is None and braced:
            raise ValueError(f"{self.text!r} has a ${{ that begins no variable; {VALID}")
        if match is None:  # Compose leaves such a one as it is
            self.place += 1
            return "$"
        self.place += 1 + match.end()
        name = match[0]
        if not braced:
            return self._plain(name, live)
        if self.text.startswith("}", self.place):
            self.place += 1
            return self._plain(name, live)
        operator = next((o for o in _OPERATORS if self.text.startswith(o, self.place)), None)
        if operator is None and "}" not in self.text[self.place :]:
            raise self._endless()
        if operator is None:
            raise ValueError(f"{self.text!r} has an unknown form of ${{{name}}}; {VALID}")
        self.place += len(operator)
        value = self.get(name) if live else None
        there = bool(value) if operator.startswith(":") else value is not None
        # a word that is not used is read but not filled in: what it asks for need not be set
        word = self.until("}", live=live and there == (operator[-1] == "+"))
        if operator.endswith("-"):
            return (value or "") if there else word
        if operator.endswith("+"):
            return word if there else ""
        if live and not there:
            how = "must be set and not be empty" if operator == ":?" else "must be set"
            raise ValueError(f"the variable {name} {how}" + (f": {word}" if word else ""))
        return value or ""

    def _endless(self) -> ValueError:
        return ValueError(f"{self.text!r} has a ${{ without its }}; {VALID}")

    def _plain(self, name: str, live: bool) -> str:
        if not live:
            return ""
        value = self.get(name)
        return self.missing(name) if value is None else value


__all__ = ["VALID", "Variables", "is_secret", "substitute"]

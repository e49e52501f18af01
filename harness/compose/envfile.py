"""Files of variables: ``.env``, and those that `env_file` and `label_file` name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from harness.compose.item import ComposeError
from harness.compose.variables import substitute

_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.\-]*)[ \t]*([=:]?)[ \t]*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


def read_variables(
    file: Path, get: Callable[[str], str | None], *, raw: bool = False
) -> dict[str, str | None]:
    """The variables that `file` sets; None for a name without a value, which others may set.

    Values may be quoted, over several lines, too; single quotes keep everything as it stands. Other values
    may use variables of the file above them and, first, what `get` knows. `raw` takes lines literally.
    Raises ComposeError with the line.
    """
    try:
        text = file.read_text(encoding="utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except OSError as error:
        raise ComposeError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ComposeError(f"{file}: is not UTF-8 text") from None
    found: dict[str, str | None] = {}

    def known(name: str) -> str | None:
        outside = get(name)
        return found.get(name) if outside is None else outside

    place = 0
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        line = text[place:end]
        if not line.strip() or line.lstrip().startswith("#"):
            place = end + 1
            continue
        number = text.count("\n", 0, place) + 1
        match = _LINE.match(text, place, end)
        if match is None or (not match[2] and text[match.end() : end].strip()):
            raise ComposeError(f"{file.name}, line {number}: {line.strip()!r} is no NAME=value")
        if not match[2]:
            found[match[1]] = None
            place = end + 1
            continue
        if raw:
            found[match[1]] = text[match.end(2) : end]
            place = end + 1
            continue
        try:
            found[match[1]], place = _value(text, match.end(), end, known)
        except ValueError as error:
            raise ComposeError(f"{file.name}, line {number}: {match[1]}: {error}") from None
    return found


def _value(text: str, start: int, end: int, get: Callable[[str], str | None]) -> tuple[str, int]:
    """The value that begins at `start`, and where the next line begins."""
    quote = text[start : start + 1]
    if quote not in ("'", '"') or start >= end:
        plain = text[start:end].partition(" #")[0]
        return substitute(plain.strip(), get), end + 1
    parts: list[str] = []
    place = start + 1
    while place < len(text):
        char = text[place]
        if char == quote:
            break
        if char == "\\" and text[place + 1 : place + 2] == quote == "'":
            parts.append("'")
            place += 2
            continue
        if quote == '"' and char == "\\" and place + 1 < len(text):
            parts.append(_ESCAPES.get(text[place + 1], "\\" + text[place + 1]))
            place += 2
            continue
        parts.append(char)
        place += 1
    else:
        raise ValueError(f"the quote {quote} has no end")
    end = text.find("\n", place)
    end = len(text) if end < 0 else end
    rest = text[place + 1 : end].strip()
    if rest and not rest.startswith("#"):
        raise ValueError(f"{rest!r} stands behind the end of the quotes")
    value = "".join(parts)
    return (value if quote == "'" else substitute(value, get)), end + 1


__all__ = ["read_variables"]

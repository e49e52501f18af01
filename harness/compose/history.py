"""What a history keeps of a Compose file: everything but secrets and where it lay on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from harness.compose.mount import Inline, Mount
from harness.compose.variables import is_secret

REDACTED = "(redacted)"

_NAMED = ("environment", "args", "labels")
# not to be stored at all
_LEFT_OUT = ("secrets",)
# a password in an address
_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)", re.IGNORECASE)
# names that are no place for a secret, though one may be spelled the same
_PUBLIC = ("name", "image", "source", "file", "user", "networks", "depends_on", "links", "hostname")


def stored(value: Any, directory: Path, secrets: Collection[str]) -> dict[str, Any]:
    """A frozen value as JSON data; what a default gives is left out.

    Paths in `directory` are relative to it. `secrets` are blotted out wherever they stand in a text, as are
    variables whose names are those of secrets, passwords in addresses, and inline secrets.
    """
    texts = sorted(filter(None, secrets), key=len, reverse=True)
    blot = re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in texts)) if texts else None
    plain = _plain(value, directory, blot)
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any, directory: Path, blot: re.Pattern[str] | None) -> Any:
    if isinstance(value, Inline):
        text = REDACTED if value.secret else value.text
        return {**_fields(value, directory, blot), "text": _text(text, blot)}
    if is_dataclass(value):
        return _fields(value, directory, blot)
    if isinstance(value, Path):
        return os.path.relpath(value, directory) if value.is_relative_to(directory) else str(value)
    if isinstance(value, Mapping):
        return {key: _plain(part, directory, blot) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part, directory, blot) for part in value]
    return _text(value, blot) if isinstance(value, str) else value


def _fields(value: Any, directory: Path, blot: re.Pattern[str] | None) -> dict[str, Any]:
    # a mount is one of several kinds; everything else is told by where it stands
    found: dict[str, Any] = {"kind": type(value).__name__} if isinstance(value, Mount) else {}
    for part in fields(value):
        content = getattr(value, part.name)
        default = part.default_factory() if part.default_factory is not MISSING else part.default
        if part.name in _LEFT_OUT or (default is not MISSING and content == default):
            continue
        if part.name in _NAMED:
            found[part.name] = {
                name: REDACTED if is_secret(name) else _text(text, blot) for name, text in content.items()
            }
        elif part.name == "context":
            found[part.name] = (
                _plain(Path(content), directory, None) if content.startswith("/") else _text(content, blot)
            )
        else:
            found[part.name] = _plain(content, directory, None if part.name in _PUBLIC else blot)
    return found


def _text(text: str, blot: re.Pattern[str] | None) -> str:
    text = _ADDRESS.sub(rf"\1{REDACTED}", text)
    return blot.sub(REDACTED, text) if blot is not None else text


__all__ = ["REDACTED", "stored"]

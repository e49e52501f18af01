"""Operations as elle-cli writes them: an array of JSON objects, or an object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from harness.history import DEEPEST
from harness.interchange.broken import Broken
from harness.journal import decoded

_SPACE = b" \t\r\n"


def operations(text: bytes) -> Iterator[tuple[int, Any]]:
    """(offset, object) of each operation. Raises Broken where the text is no JSON."""
    start = len(text) - len(text.lstrip(_SPACE))
    if text[start : start + 1] != b"[":
        yield from _by_line(text)
        return
    try:
        items = msgspec.json.decode(text, type=list[msgspec.Raw])
    except RecursionError:
        raise Broken(f"nested deeper than {DEEPEST} levels", start) from None
    except msgspec.DecodeError as error:
        raise Broken(f"this is no JSON array ({error})", _offset(error, len(text))) from None
    at = start
    for item in items:
        at = text.index(bytes(item), at)  # only spaces and a comma are between
        yield at, _value(bytes(item), at)
        at += len(memoryview(item))


def _by_line(text: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    for line in text.split(b"\n"):
        if line.strip(_SPACE):
            yield at, _value(line, at)
        at += len(line) + 1


def _value(text: bytes, at: int) -> Any:
    try:
        return decoded(text)
    except ValueError as error:
        raise Broken(f"this is no JSON ({error})", at) from None


def _offset(error: Exception, length: int) -> int:
    """Where msgspec stopped: it says ``(byte 17)``, or nothing where the text ended too soon."""
    place = str(error).rpartition("(byte ")[2].rstrip(")")
    return int(place) if place.isdecimal() else max(0, length - 1)

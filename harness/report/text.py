"""Words for values, operations and times; hostile characters become visible before anything shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.history import NANOSECONDS, Operation

DASH = "\N{EN DASH}"
READS = frozenset({"read", "r", "get"})
"""Operations whose answer is unknown, not nil, where they did not succeed."""
PAIRS = frozenset({"cas", "rmw"})
"""Operations on two values, old and new."""
WHOLES = frozenset({"txn"})
"""Operations whose answer repeats what was asked."""

# Control characters, and what could reorder the text around it or is no character at all.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def visible(text: str) -> str:
    r"""`text` with every control, direction and half character spelt out: nothing can hide or reorder.

    >>> visible("a\x1b[31m\u202eb")
    'a␛[31m\\u202eb'
    """
    return _INVISIBLE.sub(lambda match: _spelt(ord(match[0])), text)


def _spelt(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else f"\\u{code:04x}"


def shorten(text: str, limit: int) -> str:
    """`text`, or its beginning and how much is missing."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def cut(text: str, limit: int) -> str:
    """As `shorten`, for hostile text of any length: only what is shown is looked at."""
    rest = len(text) - limit
    return visible(text) if rest <= 0 else f"{visible(text[:limit])}… ({rest:,} more characters)"


def value_text(value: Any, limit: int = 120) -> str:
    """A value of a history as a person would write it, about `limit` characters at most.

    Differs from repr in that it costs no more than what it shows, and from JSON in that 1, "1" and nil
    are told apart at a glance.

    >>> value_text((1, "x", None)), value_text((("append", "x", 1), ("r", "y", (1, 2))))
    ('[1, "x", nil]', 'append x 1, r y [1, 2]')
    """
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):  # str() of an int refuses more than 4300 digits
        return str(value) if value.bit_length() < 256 else shorten(f"{value:#x}", limit)
    if isinstance(value, str):
        return f'"{cut(value, limit)}"'
    if isinstance(value, Mapping):
        return _listed((f"{name_text(k, limit)}: ", v) for k, v in value.items()).show(
            "{}", len(value), limit
        )
    if isinstance(value, (tuple, list)):
        if is_steps(value):
            return _listed(
                (f"{step[0]} {name_text(step[1], 40)} " if step[1] is not None else f"{step[0]} ", step[2])
                for step in value
            ).show(("", ""), len(value), limit)
        return _listed(("", item) for item in value).show("[]", len(value), limit)
    return shorten(visible(repr(value)), limit)


def is_steps(value: tuple[Any, ...] | list[Any]) -> bool:
    """Whether `value` reads as the steps of a transaction: each a word, what it concerns, and a value."""
    return bool(value) and all(
        type(step) in (tuple, list) and len(step) == 3 and isinstance(step[0], str) and step[0].isidentifier()
        for step in value[:50]
    ) and len(value) <= 50  # fmt: skip


class _listed:
    """Items that are turned into text only until the limit is reached."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def show(self, brackets: Sequence[str], total: int, limit: int) -> str:
        parts: list[str] = []
        room = limit
        for label, item in self.items:
            if room <= 0:
                return f"{brackets[0]}{', '.join(parts)}, … {total:,} items{brackets[1]}"
            parts.append(label + value_text(item, max(room, 8)))
            room -= len(parts[-1]) + 2
        return f"{brackets[0]}{', '.join(parts)}{brackets[1]}"


def name_text(value: Any, limit: int = 120) -> str:
    """As `value_text`, but a string stands without quotes: names of keys, nodes, fields."""
    return cut(value, limit) if isinstance(value, str) else value_text(value, limit)


def argument(operation: Operation) -> str:
    """What an operation was asked and what it answered: ``3``, ``3→4``, ``?`` for an unanswered read."""
    asked, answer = operation.value, operation.result

    def text(value: Any) -> str:
        if operation.f in PAIRS and isinstance(value, (tuple, list)) and len(value) == 2:
            return f"{value_text(value[0], 60)}→{value_text(value[1], 60)}"
        return value_text(value)

    if operation.type == "ok" and answer is not None and operation.f in WHOLES:
        return text(answer)
    if operation.type != "ok" or answer is None:
        return "?" if asked is None and operation.type != "ok" and operation.f in READS else text(asked)
    return text(answer) if asked is None or asked == answer else f"{text(asked)} ⇒ {text(answer)}"


def operation_text(operation: Operation) -> str:
    """An operation in one breath: ``write 3``, ``cas 3→4``."""
    return f"{name_text(operation.f, 40)} {argument(operation)}"


def seconds(nanoseconds: int | None, digits: int = 3) -> str:
    """A time since the run began; a dash where there is none."""
    return DASH if nanoseconds is None or nanoseconds < 0 else f"{nanoseconds / NANOSECONDS:.{digits}f} s"


def lasted(span: float) -> str:
    """A length of time (seconds) with the unit that suits it.

    >>> lasted(0.00042), lasted(0.0123), lasted(3.5)
    ('420 µs', '12.3 ms', '3.50 s')
    """
    if span < 0.9995e-3:
        return f"{span * 1e6:.0f} µs"
    if span >= 0.9995:
        return f"{span:.2f} s"
    return f"{span * 1e3:.3g} ms"


def offset_text(offset: float, error: float) -> str:
    """How far a clock is off (seconds), and give or take what; an error below 0.1 µs is none.

    >>> offset_text(-2.0, 12e-6), offset_text(0.0345, 0.0), offset_text(0.0, 1.0)
    ('-2.000 s ± 12 µs', '+34.500 ms', '0 µs ± 1.00 s')
    """
    size, sign = abs(offset), "-" if offset < 0 else "+"
    about = f" ± {lasted(error)}" if error >= 5e-8 else ""
    if size < 5e-7:
        return f"0 µs{about}"
    if size >= 0.9995:
        return f"{sign}{size:.3f} s{about}"
    if size >= 0.9995e-3:
        return f"{sign}{size * 1e3:.3f} ms{about}"
    return f"{sign}{size * 1e6:.0f} µs{about}"


def counted(number: int, noun: str) -> str:
    """``1 fault``, ``2,000 faults``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

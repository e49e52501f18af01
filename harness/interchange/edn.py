"""EDN, the notation of Clojure's data, to plain values and back.

As in JSON, a keyword or symbol is the string of its name, and lists and vectors are lists. Tags are left
out: ``#inst "2026-01-01"`` is its string, ``#jepsen.history.Op{...}`` a map. Differs from the libraries
there are in that it takes any tag, has no recursion to exhaust, refuses what is doubtful, and reads
200,000 maps in a few seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from harness.history import DEEPEST, Pairs, frozen
from harness.interchange.broken import Broken

_TOKEN = re.compile(
    r"""[\s,]*+(?:;[^\n]*+[\s,]*+)*+(?:
    (?::(?P<key>[a-z]++)[ ](?P<field>[^\s,;"()\[\]{}\\\#]++)(?=[,}]))
    |(?P<open>[\[({]|\#\{)
    |(?P<close>[\])}])
    |(?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+")
    |(?P<character>\\(?:[A-Za-z0-9]++|.))
    |(?P<discard>\#_)
    |(?P<atom>[^\s,;"()\[\]{}\\]++)
    |(?P<bad>.)
    |\Z)""",
    re.DOTALL | re.VERBOSE,
)
_KEY, _FIELD, _OPEN, _CLOSE, _STRING, _CHARACTER, _DISCARD, _ATOM, _BAD = range(1, 10)
_NAME = re.compile(r"[\w*+!?<>=.$%&|/-][\w*+!?<>=.$%&|/#:'-]*")
_INTEGER = re.compile(r"([+-]?(?:0|[1-9][0-9]*))N?")
_FLOAT = re.compile(r"([+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)(M?)")
_RATIO = re.compile(r"([+-]?(?:0|[1-9][0-9]*))/([1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-f]+")  # only in #object[...], as Clojure prints what has no other form
_TAG = re.compile(r"#[A-Za-z][\w*+!?<>=.$%&|/:-]*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "b": "\b", "f": "\f", "\\": "\\", '"': '"'}
_CHARACTERS = {
    "newline": "\n", "space": " ", "tab": "\t", "return": "\r", "formfeed": "\f", "backspace": "\b",
}  # fmt: skip
_CONSTANTS: Mapping[str, Any] = {
    "nil": None, "true": True, "false": False, "##Inf": math.inf, "##-Inf": -math.inf,
}  # fmt: skip
_CLOSERS = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_WORDS = {"[": "vector", "(": "list", "{": "map", "#{": "set"}
_KEPT = 4096  # distinct atoms that are read once only
_MISSING = object()


def forms(text: str, *, unwrap: bool = False) -> Iterator[tuple[int, Any]]:
    """(offset, value) of each form in turn; with `unwrap`, of what the one vector or list around all holds.

    Raises Broken, with the offset, where the text is no EDN or ends too soon.
    """
    atoms: dict[str, Any] = dict(_CONSTANTS)
    frames: list[tuple[list[Any], str, int, int]] = []  # around: items, bracket, offset, discards
    items: list[Any] = []
    bracket, begun, discards, tagged = "", 0, 0, -1
    floor = 0  # frames around a form that is yielded
    started = over = False
    for match in _TOKEN.finditer(text):
        kind = match.lastindex
        if kind is None:
            break
        if kind == _FIELD:  # most of a history is of this form: two tokens at once
            key, token = match.group(_KEY, _FIELD)
            value = atoms.get(token, _MISSING)
            if value is _MISSING:
                value = _read(token, match.start(kind), atoms)
            if len(frames) > floor and not discards:
                items += (key, value)
                tagged = -1
                continue
            if discards:
                discards -= 1
            elif not over:
                started = True
                yield match.start(_KEY) - 1, key
        at = match.start(kind)
        if kind == _FIELD:
            pass  # what follows is its value
        elif kind == _ATOM:
            token = match[kind]
            value = atoms.get(token, _MISSING)
            if value is _MISSING:
                if token[0] == "#" and _TAG.fullmatch(token):
                    tagged = at
                    continue
                value = _read(token, at, atoms)
        elif kind == _CLOSE:
            if not bracket or match[kind] != _CLOSERS[bracket]:
                raise Broken(f"{match[kind]!r} closes nothing that is open", at)
            if discards or tagged >= 0:
                raise Broken("a tag or #_ is followed by nothing", at)
            value, at, wrapper = _collected(bracket, items, begun), begun, len(frames) == floor == 1
            items, bracket, begun, discards = frames.pop()
            if wrapper:
                floor, over = 0, True
                continue
        elif kind == _OPEN:
            if len(frames) == DEEPEST:
                raise Broken(f"nested deeper than {DEEPEST} levels", at)
            if over:
                raise Broken("something follows the list of all operations", at)
            if unwrap and not (started or discards or frames) and match[kind] in "[(":
                floor = 1
            started = started or not (frames or discards)
            frames.append((items, bracket, begun, discards))
            items, bracket, begun, discards, tagged = [], match[kind], at, 0, -1
            continue
        elif kind == _STRING:
            value = match[kind][1:-1]
            if "\\" in value:
                value = _ESCAPE.sub(lambda escape, at=at: _escaped(escape, at), value)
        elif kind == _DISCARD:
            discards += 1
            continue
        elif kind == _CHARACTER:
            value = _character(match[kind][1:], at)
        else:
            what = "a string that never ends" if match[kind] == '"' else f"the character {match[kind]!r}"
            raise Broken(f"{what} is no EDN", at)
        tagged = -1
        if discards:
            discards -= 1
        elif len(frames) > floor:
            items.append(value)
        elif over:
            raise Broken("something follows the list of all operations", at)
        else:
            started = True
            yield at, value
    if frames:
        raise Broken(f"the text ends inside the {_WORDS[bracket]} that begins here", begun)
    if discards or tagged >= 0:
        raise Broken("the text ends after a tag or #_ that is followed by nothing", max(tagged, 0))


def _collected(bracket: str, items: list[Any], begun: int) -> Any:
    if bracket == "#{":
        return tuple(sorted(map(frozen, items), key=repr))
    if bracket != "{":
        return items
    keys = items[::2]
    if len(items) % 2:
        raise Broken("a map with a key that has no value", begun)
    try:
        found = dict(zip(keys, items[1::2], strict=True))
    except TypeError:  # a key that is a collection
        found = dict(zip(map(frozen, keys), items[1::2], strict=True))
    if len(found) != len(keys):
        raise Broken("a map that has a key twice", begun)
    return found


def _read(token: str, at: int, atoms: dict[str, Any]) -> Any:
    if token.isdigit() and token.isascii() and token[0] != "0" and len(token) < 20:
        return int(token)  # an index or a time: there is none like it
    value = _atom(token, at)
    if len(atoms) < _KEPT:
        atoms[token] = value
    return value


def _atom(token: str, at: int) -> Any:
    first = token[0]
    if first == ":":
        if _NAME.fullmatch(token, 1):
            return token[1:]
    elif first.isdigit() or (first in "+-" and token[1:2].isdigit()):
        return _number(token, at)
    elif token == "##NaN":
        raise Broken("##NaN equals nothing, not even itself: no checker can judge it", at)
    elif _NAME.fullmatch(token):
        return token
    raise Broken(f"{_cut(token)} is no EDN", at)


def _number(token: str, at: int) -> Any:
    if len(token) > 4000:  # more digits than Python reads without being asked
        raise Broken(f"a number of {len(token):,} digits", at)
    if match := _INTEGER.fullmatch(token):
        return int(match[1])
    if match := _FLOAT.fullmatch(token):
        if match[2]:
            return Decimal(match[1])
        if math.isfinite(number := float(match[1])):
            return number
        raise Broken(f"{_cut(token)} is larger than a float can be", at)
    if match := _RATIO.fullmatch(token):
        ratio = Fraction(int(match[1]), int(match[2]))
        return int(ratio) if ratio.denominator == 1 else ratio
    if _HEX.fullmatch(token):
        return int(token, 16)
    raise Broken(f"{_cut(token)} is no number", at)


def _escaped(escape: re.Match[str], at: int) -> str:
    said = escape[1]
    if said[0] == "u" and len(said) == 5:
        return chr(int(said[1:], 16))
    if said[0] in "01234567":
        return chr(int(said, 8))
    if said not in _ESCAPES:
        raise Broken(f"a string with the escape {escape[0]!r}, which EDN does not have", at)
    return _ESCAPES[said]


def _character(name: str, at: int) -> str:
    if len(name) == 1:
        return name
    if re.fullmatch("u[0-9a-fA-F]{4}", name):
        return chr(int(name[1:], 16))
    if name not in _CHARACTERS:
        raise Broken(f"\\{_cut(name)} is no character", at)
    return _CHARACTERS[name]


def _cut(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


# ------------------------------------------------------------------------------------------- writing

_SAFE = re.compile(r"[A-Za-z][A-Za-z0-9_*+!?<>=.-]*|=")  # as a keyword, for every reader
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]')
_SHORT = {"\t": "\\t", "\r": "\\r", "\n": "\\n", "\\": "\\\\", '"': '\\"'}


def keyword(name: str) -> str:
    """``:name``, or a string where a keyword might not be read again as it was."""
    return f":{name}" if _SAFE.fullmatch(name) else written(name)


def written(value: Any) -> str:
    """`value` as EDN on one line; what EDN has no form for as the string of its repr."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + _UNSAFE.sub(lambda m: _SHORT.get(m[0]) or f"\\u{ord(m[0]):04x}", value) + '"'
    if isinstance(value, int):
        return str(value) if -(2**63) <= value < 2**63 else f"{value}N"
    if isinstance(value, float) and not math.isnan(value):
        return repr(value) if math.isfinite(value) else "##Inf" if value > 0 else "##-Inf"
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value}M"
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, Mapping):
        return _map(value.items())
    if isinstance(value, Pairs):
        return _map(value)
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(written, value)) + "]"
    return written(repr(value))


def _map(pairs: Iterable[tuple[Any, Any]]) -> str:
    return "{" + ", ".join(f"{written(key)} {written(value)}" for key, value in pairs) + "}"

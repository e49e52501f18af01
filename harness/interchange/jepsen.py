"""Operations as Jepsen writes them: EDN maps, or lines of history.txt and of its log.

Porcupine's test data are of both kinds: its key-value logs are maps with a ``:key``, its etcd logs are lines
of Jepsen's log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from harness.interchange.broken import Broken
from harness.interchange.edn import forms

_MAPS = re.compile(r"[\s,]*+(?:;[^\n]*+[\s,]*+)*+(?:[{(#]|\[[\s,]*(?:[{\[\](#;]|\Z))")
_LINE = re.compile(
    r"(?P<before>(?:.*?[-:][ \t]++)?)(?P<process>-?\d{1,18}|:[\w-]++)[ \t]++"
    r":(?P<type>invoke|ok|fail|info)[ \t]++(?P<f>:?[^\s:]\S*+)[ \t]++(?P<rest>\S.*)"
)
_WHOLE = re.compile(r"[\])}\"]\s*\Z|\snil\s*\Z")  # the end of a value that is no beginning of another
_SAID = re.compile(r".*?jepsen\.\w+(?: -|:)[ \t]+(?:\d|:nemesis)")


def operations(text: str) -> Iterator[tuple[int, Any]]:
    """(offset, map) of each operation. Raises Broken where the text is neither EDN nor such lines."""
    return forms(text, unwrap=True) if _MAPS.match(text) else _by_line(text)


def is_log(text: str) -> bool:
    """Whether some line of the text is an operation of history.txt or of Jepsen's log."""
    return not _MAPS.match(text) and any(map(_LINE.fullmatch, text.splitlines()))


def _by_line(text: str) -> Iterator[tuple[int, Any]]:
    """What else a log says is no operation; history.txt, nothing before the process, says nothing else."""
    lines = text.split("\n")
    first = next((match for line in lines if (match := _LINE.fullmatch(line.rstrip("\r")))), None)
    if first is None:
        raise Broken("no line is an operation: expected process, :type, :f and value, or a map", 0)
    logged, at = bool(first["before"]), 0
    for line in lines:
        whole = line.rstrip("\r")
        if match := _LINE.fullmatch(whole):
            if at + len(line) == len(text) and match["type"] in ("invoke", "ok") and not _WHOLE.search(whole):
                raise Broken("the last line has no line end: its value may have been longer", at)
            yield at, _operation(match, at)
        elif _SAID.match(whole) if logged else whole.strip():
            raise Broken(f"{whole[:60]!r} is no operation: expected process, :type, :f and value", at)
        at += len(line) + 1


def _operation(match: re.Match[str], at: int) -> dict[str, Any]:
    process, kind = match["process"], match["type"]
    operation = {
        "process": process[1:] if process[0] == ":" else int(process),
        "type": kind,
        "f": match["f"].removeprefix(":"),
    }
    value, _, error = match["rest"].partition("\t")
    if kind in ("fail", "info"):  # the value is the invocation's, or what went wrong
        return {**operation, "error": error or value}
    try:
        found = [form for _, form in forms(value)]
    except Broken as broken:
        raise Broken(str(broken), at) from None
    if len(found) != 1:
        raise Broken(f"{value[:60]!r} is not one value", at)
    return {**operation, "value": found[0]}

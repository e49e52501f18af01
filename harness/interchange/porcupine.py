"""The logs of a key-value store that come with Porcupine, an operation a line.

They are EDN, which `harness.interchange.jepsen` reads as well, to the same history. This takes the one form
in which Porcupine's own parser has them, column by column and so many times faster, and leaves whatever is
otherwise to the other, which says what is wrong.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from harness.history import NANOSECONDS, OUTCOMES, Columns, History

_NIL = "\0"
_BEFORE_KEY = re.compile(r"\}\n\{:process (0|[1-9][0-9]{0,17}), :type :(invoke|ok), :f :([a-z]+), :key ")
_BEFORE_VALUE = ", :value "
_OK = OUTCOMES.index("ok")
_UNTIL_RETURN = (("q", -1), ("q", 0), ("b", OUTCOMES.index("info")))  # ret, result, type


def history(text: str, format: str, path: Path) -> History | None:
    """The history; None where something is not of this form, or breaks a rule of histories."""
    if _NIL in text or "\\" in text:
        return None
    # now each line has two strings, and quotes are nowhere but around them; one that had this in it is found
    # out below, since it put the sign for nil where no string is
    *pieces, end = text.replace(":value nil}", f':value "{_NIL}"}}').split('"')
    if len(pieces) % 4 or not pieces or end not in ("}", "}\n"):
        return None
    pieces[0] = f"}}\n{pieces[0]}"
    befores, keys, between, values = (pieces[place::4] for place in range(4))
    if set(between) != {_BEFORE_VALUE}:
        return None
    said: dict[str, tuple[int, bool, str]] = {}
    for before in dict.fromkeys(befores):
        if (match := _BEFORE_KEY.fullmatch(before)) is None:
            return None
        said[before] = int(match[1]), match[2] == "invoke", match[3]
    events = [said[before] for before in befores]
    columns = _paired(events, keys, values)
    if columns is None:
        return None
    return History({"keyed": True, "ordered": True, "format": format}, columns, path=path)


def _paired(
    events: Sequence[tuple[int, bool, str]], keys: Sequence[str], values: Sequence[str]
) -> Columns | None:
    """The columns of events (process, whether it invokes, f), whose order is all that is known of time.

    None where they break a rule of histories.
    """
    c = Columns()
    processes = [process for process, _, _ in events]
    invokes = [invocation for _, invocation, _ in events]
    returns = [not invocation for invocation in invokes]
    rows = _rows(processes, invokes)
    if rows is None:
        return None
    fs, names = c.fs.codes([f for _, _, f in events]), c.keys.codes(keys)
    c.f.extend(compress(fs, invokes))
    c.key.extend(compress(names, invokes))
    for row, f, name in compress(zip(rows, fs, names, strict=True), returns):
        if c.f[row] != f or c.key[row] != name:
            return None  # returns from something else than it invoked
    codes = c.values.codes(values, nil=_NIL)
    c.process.extend(compress(processes, invokes))
    c.value.extend(compress(codes, invokes))
    c.call.extend(compress(range(len(rows)), invokes))
    operations = len(c.call)
    c.ret, c.result, c.type = (array(kind, [fill]) * operations for kind, fill in _UNTIL_RETURN)
    for event, (row, result) in compress(enumerate(zip(rows, codes, strict=True)), returns):
        c.ret[row], c.result[row], c.type[row] = event, result, _OK
    c.index, c.completion = c.call[:], c.ret[:]
    c.start.extend([call * NANOSECONDS for call in c.call])
    c.end.extend([ret * NANOSECONDS if ret >= 0 else -1 for ret in c.ret])
    c.node, c.error, c.final = (array(kind, [0]) * operations for kind in "qqb")
    return c


def _rows(processes: Sequence[int], invokes: Sequence[bool]) -> list[int] | None:
    """For each event the row of its operation; None where a process speaks out of turn."""
    open_: dict[int, int] = {}
    rows, row = [], 0
    for process, invocation in zip(processes, invokes, strict=True):
        if invocation == (process in open_):
            return None
        if invocation:
            open_[process] = row
            rows.append(row)
            row += 1
        else:
            rows.append(open_.pop(process))
    return rows

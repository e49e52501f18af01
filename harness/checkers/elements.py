"""Sets that nobody reads as a whole: each element is a register of its own, held or not.

Linearizability composes: a set of which operations name one element each is right if and only if each element
is. So what is open at once on one element is all that the search has to deal with.
"""

from __future__ import annotations

from dataclasses import replace

from harness.checkers.kinds import OK, Kinds
from harness.checkers.models import MODELS
from harness.history import OUTCOMES, Columns

FAIL = OUTCOMES.index("fail")
ELEMENT = replace(MODELS["register"], name="element", initial=False, native=())


def apart(kinds: Kinds) -> Kinds | None:
    """The same operations, row by row, on registers whose keys are (key, element); None where a set was read.

    Raises CheckError for operations that are none of a set.
    """
    kinds.all()
    c = kinds.columns
    fs, values = c.fs.values, c.values.values
    for f, result, outcome in zip(c.f, c.result, c.type, strict=True):
        if outcome != FAIL and fs[f] == "read" and outcome == OK:
            return None
        if fs[f] == "contains" and outcome == OK and type(values[result]) is not bool:
            return None
    found = Columns()
    found.index, found.process, found.start, found.end = c.index, c.process, c.start, c.end
    found.node, found.type, found.call, found.ret, found.completion = (
        c.node,
        c.type,
        c.call,
        c.ret,
        c.completion,
    )
    there, absent = found.values.code(True), found.values.code(False)
    read, write = found.fs.code("read"), found.fs.code("write")
    left = [{"add": there, "remove": absent}.get(f, 0) for f in fs]
    seen = {code: there if values[code] is True else absent for code in set(c.result)}
    pairs: dict[tuple[int, int], int] = {}
    for f, key, value, result in zip(c.f, c.key, c.value, c.result, strict=True):
        if (code := pairs.get((key, value))) is None:
            code = pairs[key, value] = found.keys.code((key, value))
        found.key.append(code)
        found.f.append(write if left[f] else read)
        found.value.append(left[f])
        found.result.append(left[f] or seen[result])
    return Kinds(found, ELEMENT)

"""The operations of a history as one deflated block of text: what the page's script draws from.

Rows are in order of invocation time. A column is written as byte planes (all lowest bytes, then all second
bytes), against whatever it is usually near to: deflate finds far more in it, about 7 bytes an operation.
Times are whole microseconds; the raw history keeps nanoseconds.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.history import OUTCOMES, Columns, History
from harness.report.text import is_steps, name_text, value_text, visible

MAX_LANES = 256
TABLE_TEXT = 400_000
"""Characters of values and errors that a page carries; later ones show their number in the table only."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The order in which a page shows operations. `order` gives a history row per page row, `start` and
    `end` its times in µs (end -1: nobody knows), `lane` its lane. `timeless`: the history has no times
    and its order is all there is, a millisecond an event. `shared`: some lanes hold several clients.
    """

    order: Sequence[int]
    start: Sequence[int]
    end: Sequence[int]
    lane: Sequence[int]
    lanes: int
    timeless: bool
    shared: bool

    def row_of(self, columns: Columns, indices: Iterable[int]) -> dict[int, int]:
        """Page rows by `Operation.index`, for those that the history has."""
        wanted = set(indices)
        return {columns.index[r]: k for k, r in enumerate(self.order) if columns.index[r] in wanted}


def arrange(history: History) -> Rows:
    """The order and the lanes of a history's operations."""
    c = history.columns
    timeless = any(start < 0 for start in c.start)
    if timeless:
        start, end = [1000 * p for p in c.call], [1000 * p if p >= 0 else -1 for p in c.ret]
    else:
        start = [round(t / 1000) for t in c.start]
        end = [-1 if t < 0 else max(round(t / 1000), s) for t, s in zip(c.end, start, strict=True)]
    order = sorted(range(len(c)), key=lambda r: (start[r], c.index[r]))
    by_process, shared = lanes_of(c, order, start, end, history.header.get("concurrency"))
    lane = [by_process[c.process[r]] for r in order]
    return Rows(
        order,
        [start[r] for r in order],
        [end[r] for r in order],
        lane,
        max(lane, default=-1) + 1,
        timeless,
        shared,
    )


def lanes_of(
    c: Columns, order: Sequence[int], start: Sequence[int], end: Sequence[int], concurrency: Any = None
) -> tuple[dict[int, int], bool]:
    """A lane for each process: that of the process it replaces (p + concurrency follows a crashed p).

    Where a history does not say its concurrency it is the smallest number that explains every process;
    where none does, a process takes the first lane that is free when it appears.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    crashed: set[int] = set()
    for r in order:
        process = c.process[r]
        first.setdefault(process, start[r])
        last[process] = max(end[r], start[r])
        if c.type[r] == OUTCOMES.index("info"):
            crashed.add(process)
    processes = sorted(first)

    def explains(n: int) -> bool:
        return all(p < n or (p - n in crashed and last[p - n] <= first[p]) for p in processes)

    said = concurrency if isinstance(concurrency, int) and concurrency > 0 else None
    highest = min(processes[-1] + 1 if processes else 1, MAX_LANES)
    number = next((n for n in ([said] if said else range(1, highest + 1)) if explains(n)), None)
    if number and (not processes or processes[0] >= 0) and number <= MAX_LANES:
        used = {k: i for i, k in enumerate(sorted({p % number for p in processes}))}
        return {p: used[p % number] for p in processes}, False
    free: list[int] = []  # lane -> when its last process ended
    lanes: dict[int, int] = {}
    for p in sorted(processes, key=lambda p: first[p]):
        lane = next((k for k, until in enumerate(free) if until < first[p]), len(free))
        if lane == len(free):
            free.append(0)
        free[lane] = last[p]
        lanes[p] = lane % MAX_LANES
    return lanes, len(free) > MAX_LANES or len(set(lanes.values())) < len(lanes)


def zigzag(difference: int) -> int:
    """A small number for a small difference, of either sign: 0, -1, 1, -2 ... become 0, 1, 2, 3 ..."""
    return 2 * difference if difference >= 0 else -2 * difference - 1


def unzigzag(number: int) -> int:
    """The difference that `zigzag` made a number of."""
    return -(number + 1) // 2 if number % 2 else number // 2


def pack(history: History, rows: Rows) -> tuple[list[tuple[str, int]], str]:
    """The layout (name and bytes per value, in order) and the block in base64.

    ``value`` is 0 for None, else 1 + its zigzag against the last value met on the key; ``result`` is 0 for
    None, 1 where it is the value, else 2 + the like. ``process`` and ``node`` are against their lane's last.
    """
    c = history.columns
    names = "start lasted index lane process node f key type error final value result"
    out: dict[str, list[int]] = {name: [] for name in names.split()}
    add = {name: column.append for name, column in out.items()}
    clock = index = 0
    process, node, near = [0] * rows.lanes, [0] * rows.lanes, [0] * len(c.keys)
    for k, r in enumerate(rows.order):
        lane, key, value, result = rows.lane[k], c.key[r], c.value[r], c.result[r]
        add["start"](zigzag(rows.start[k] - clock))
        add["lasted"](0 if rows.end[k] < 0 else rows.end[k] - rows.start[k] + 1)
        add["index"](zigzag(c.index[r] - index))
        add["lane"](lane)
        add["process"](zigzag(c.process[r] - process[lane]))
        add["node"](zigzag(c.node[r] - node[lane]))
        add["value"](1 + zigzag(value - near[key]) if value else 0)
        near[key] = value or near[key]
        add["result"](1 if result == value and result else 2 + zigzag(result - near[key]) if result else 0)
        near[key] = result or near[key]
        clock, index, process[lane], node[lane] = rows.start[k], c.index[r], c.process[r], c.node[r]
    for name, source in (
        ("f", c.f),
        ("key", c.key),
        ("type", c.type),
        ("error", c.error),
        ("final", c.final),
    ):
        out[name] = [source[r] for r in rows.order]
    layout = [(name, max(1, (max(column, default=0).bit_length() + 7) // 8)) for name, column in out.items()]
    return layout, deflated(b"".join(_planes(out[name], width) for name, width in layout))


def unpack(layout: Sequence[Sequence[Any]], block: bytes, lanes: int, keys: int) -> dict[str, list[int]]:
    """The columns of `pack` again: times in µs, ``process``, ``node``, ``value`` and ``result`` as numbers.

    ``lasted`` stays 0 for an unknown end, else 1 + its µs; the script's `decode` does the same.
    """
    widths = [(str(name), int(width)) for name, width in layout]
    n = len(block) // max(sum(width for _, width in widths), 1)
    out: dict[str, list[int]] = {}
    at = 0
    for name, width in widths:
        planes = [block[at + k * n : at + (k + 1) * n] for k in range(width)]
        out[name] = [int.from_bytes(bytes(item), "little") for item in zip(*planes, strict=True)]
        at += width * n
    clock = index = 0
    process, node, near = [0] * lanes, [0] * lanes, [0] * keys
    for k in range(n):
        lane, key = out["lane"][k], out["key"][k]
        clock += unzigzag(out["start"][k])
        index += unzigzag(out["index"][k])
        process[lane] += unzigzag(out["process"][k])
        node[lane] += unzigzag(out["node"][k])
        value, result = out["value"][k], out["result"][k]
        if value:
            near[key] = value = near[key] + unzigzag(value - 1)
        if result:
            near[key] = result = value if result == 1 else near[key] + unzigzag(result - 2)
        for name, number in (
            ("start", clock), ("index", index), ("process", process[lane]), ("node", node[lane]),
            ("value", value), ("result", result),
        ):  # fmt: skip
            out[name][k] = number
    return out


def _planes(column: Sequence[int], width: int) -> bytes:
    raw = array("Q", column)
    if sys.byteorder == "big":
        raw.byteswap()
    flat = raw.tobytes()
    return b"".join(flat[k::8] for k in range(width))


def deflated(data: bytes) -> str:
    """`data` deflated, in base64: the browser's own DecompressionStream reads it."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def tables(history: History) -> dict[str, list[Any]]:
    """What the numbers of the columns stand for, as texts; a pair of values stays a pair (old, new).

    A whole number among the values stands as its difference from the one before: workloads count upwards.
    """
    c = history.columns
    room, last = TABLE_TEXT, 0

    def text(number: int, value: Any) -> Any:
        nonlocal room, last
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**52:
            last, difference = value, value - last
            return difference
        if room <= 0:
            return f"(value {number}, see the raw history)"
        if isinstance(value, tuple) and len(value) == 2 and not is_steps(value):
            shown: Any = [value_text(item, 60) for item in value]
            room -= len(shown[0]) + len(shown[1])
        else:
            shown = value_text(value)
            room -= len(shown)
        return shown

    errors = [None if e is None else visible(e)[:300] for e in c.errors.values]
    budget = TABLE_TEXT
    for k, error in enumerate(errors):
        budget -= len(error or "")
        if budget < 0:
            errors[k] = "(see the raw history)"
    return {
        "values": [text(n, value) for n, value in enumerate(c.values.values)],
        "errors": errors,
        "keys": [None if key is None else name_text(key) for key in c.keys.values],
        "fs": [name_text(f, 40) for f in c.fs.values],
        "nodes": [None if node is None else name_text(node, 40) for node in c.nodes.values],
    }


def packed_json(value: Any) -> str:
    """`value` as JSON, deflated, in base64; nothing of it is text to the HTML parser."""
    return deflated(json.dumps(value, separators=(",", ":")).encode())

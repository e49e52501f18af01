"""A history as other tools read it: EDN for Jepsen, Knossos and Elle, JSON for elle-cli.

Both are the same operations in true-time order, numbered anew, since to these tools the order is all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.history import OUTCOMES, History, Pairs
from harness.interchange.edn import keyword, written


def to_edn(history: History) -> str:
    """A map a line, as in Jepsen's history.edn; the names of a ``txn``'s micro-operations become keywords."""
    return "".join(f"{_line(event)}\n" for event in _events(history))


def to_json(history: History) -> str:
    """An array of objects, one a line, as elle-cli reads it; what JSON has no form for as its repr."""
    lines = (json.dumps(plain(event), default=repr) for event in _events(history))
    return "[" + ",\n".join(lines) + "]\n"


def _events(history: History) -> Iterator[dict[str, Any]]:
    """Each operation's invocation and, where there was one, its completion; faults as pairs of the nemesis.

    The completion of an unknown outcome comes last: it says nothing of when, or whether, it happened.
    """
    columns = history.columns
    keyed = bool(history.header.get("keyed"))
    places = sorted(
        [(call, row, "invoke") for row, call in enumerate(columns.call)]
        + [(ret, row, OUTCOMES[columns.type[row]]) for row, ret in enumerate(columns.ret) if ret >= 0]
    )
    crashed = [(-1, row, "info") for row, ret in enumerate(columns.ret) if ret < 0 <= columns.completion[row]]
    faults = _faults(history)
    for index, event in enumerate(_merged(_clients(history, [*places, *crashed], keyed), faults)):
        yield {"index": index, **event}


def _clients(history: History, places: list[tuple[int, int, str]], keyed: bool) -> Iterator[dict[str, Any]]:
    columns = history.columns
    process = _processes(history, places)
    latest = max([0, *columns.start, *columns.end])
    for _, row, kind in places:
        time = {"invoke": columns.start[row], "info": latest}.get(kind, columns.end[row])
        value = columns.values.values[(columns.result if kind == "ok" else columns.value)[row]]
        event = {
            "type": kind,
            "process": process[row],
            "f": columns.fs.values[columns.f[row]],
            "value": (columns.keys.values[columns.key[row]], value) if keyed else value,
        }
        if time >= 0:
            event = {"time": time, **event}
        if kind == "invoke":
            event |= {"node": node} if (node := columns.nodes.values[columns.node[row]]) is not None else {}
            event |= {"final": True} if columns.final[row] else {}
        elif columns.error[row]:
            event["error"] = columns.errors.values[columns.error[row]]
        yield event


def _processes(history: History, places: list[tuple[int, int, str]]) -> dict[int, int]:
    """The process of each row. One that invokes at the very time at which it completed has two at once.

    Intervals are closed, so both are concurrent with all else at that time: the second goes to a new process.
    """
    columns = history.columns
    found: dict[int, int] = {}
    busy: set[int] = set()
    fresh = max(columns.process, default=0) + 1
    for _, row, kind in places:
        if kind != "invoke":
            busy.discard(found[row])
            continue
        found[row] = columns.process[row]
        if found[row] in busy:
            found[row], fresh = fresh, fresh + 1
        busy.add(found[row])
    return found


def _faults(history: History) -> list[dict[str, Any]]:
    events = []
    for fault in history.faults:
        for verb, time in (("start", fault.start), ("stop", fault.end)):
            if time is not None:
                event = {"time": time, "type": "info", "process": "nemesis", "f": f"{verb}-{fault.kind}"}
                events += [{**event, "value": None}, {**event, "value": fault.what}]
    return sorted(events, key=lambda event: int(event["time"]))


def _merged(clients: Iterator[dict[str, Any]], faults: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each event of a fault before the first one of a client that is later."""
    at = 0
    for event in clients:
        while at < len(faults) and faults[at]["time"] < event.get("time", -1):
            yield faults[at]
            at += 1
        yield event
    yield from faults[at:]


def _line(event: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f":{name} {_field(name, event)}" for name in event) + "}"


def _field(name: str, event: Mapping[str, Any]) -> str:
    value = event[name]
    if name in ("type", "f") or (name == "process" and isinstance(value, str)):
        return keyword(value)
    if name == "value" and event["f"] == "txn" and _micro_operations(value):
        return "[" + " ".join(f"[{' '.join(_step(*step))}]" for step in value) + "]"
    return written(value)


def _step(f: str, *rest: Any) -> list[str]:
    """A micro-operation; of a predicate read, the predicate's name is a keyword as well."""
    if f == "rp" and rest:
        predicate, *found = rest
        name, *values = predicate if isinstance(predicate, tuple) and predicate else (predicate,)
        told = " ".join([keyword(name) if isinstance(name, str) else written(name), *map(written, values)])
        return [":rp", f"[{told}]" if isinstance(predicate, tuple) else told, *map(written, found)]
    return [keyword(f), *map(written, rest)]


def _micro_operations(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(item, tuple) and item and isinstance(item[0], str) for item in value
    )


def plain(value: Any) -> Any:
    """`value` as JSON has it: a map, frozen or not, as an object, and a float that JSON lacks as its repr."""
    if isinstance(value, (Mapping, Pairs)):
        pairs = value.items() if isinstance(value, Mapping) else value
        return {key if isinstance(key, str) else str(key): plain(item) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value

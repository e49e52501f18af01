"""The history inside a page: what it carries beside its pictures, and how a history is made of it again.

Times are the page's whole microseconds; those of a witness, of faults and of node events are exact. Secrets
stay blanked. A page that left anything out (it aggregates, or cut values) names what, and is refused.
"""

from __future__ import annotations

import base64
import gzip
import html.parser
import json
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from harness.history import OUTCOMES, Fault, History, Pairs
from harness.report.columns import TABLE_TEXT, unpack
from harness.report.redact import Redact
from harness.verdict import Verdict

LAST = 1 << 62
EVENTS = 20_000
"""Node events that a page carries whole."""
_WHOLE = re.compile(r"-?\d{1,15}|nil|true|false|\"[^\"\\\u2400-\u243f\u2026]*\"")


def carried(
    history: History, shown: Sequence[Any], verdicts: Sequence[Verdict], redact: Redact, aggregates: bool
) -> dict[str, Any]:
    """What `history_of` needs beside the drawing; `shown` are the values as the page shows them.

    ``lacks`` names what is left out, so that an extraction can refuse with the reason.
    """
    if aggregates:
        return {"lacks": ["it counts operations together"]}
    c, lacks = history.columns, list[str]()
    values: dict[str, Any] = {}
    room = TABLE_TEXT
    for number, value in enumerate(c.values.values):
        if value is not None and not isinstance(shown[number], int) and not _told(shown[number], value):
            try:
                plain = _plain(value, redact)
            except TypeError as error:
                lacks.append(f"value {number} is no JSON: {error}")
                break
            room -= len(json.dumps(plain))
            if room < 0:
                lacks.append(f"its values are longer than {TABLE_TEXT:,} characters")
                values = {}
                break
            values[str(number)] = plain
    if len(history.events) > EVENTS:
        lacks.append(f"it has {len(history.events):,} node events, more than {EVENTS:,}")
    if len(json.dumps(c.errors.values, default=str)) > TABLE_TEXT:
        lacks.append(f"its errors are longer than {TABLE_TEXT:,} characters")
    if min(c.start, default=0) < 0:
        lacks.append("its operations have no times")
    if lacks:
        return {"lacks": lacks}
    try:
        return {
            "lacks": [],
            "header": _plain(history.header, redact),
            "tables": {
                name: [_plain(item, redact) for item in table.values]
                for name, table in (("f", c.fs), ("key", c.keys), ("node", c.nodes), ("error", c.errors))
            },
            "values": values,
            "exact": _exact(history, verdicts),
            "faults": [_plain(_fault(fault), redact) for fault in history.faults],
            "events": [
                [e.time, e.kind, _plain({"node": e.node, **e.detail}, redact)] for e in history.events
            ],
            "run": [
                *([time, "phase", redact(name)] for time, name in history.phases),
                *([0, "note", redact(text)] for text in history.notes),
                *([0, "finding", redact(text)] for text in history.findings),
                *([[0, "wall", asdict(history.wall)]] if history.wall else []),
            ],
        }
    except TypeError as error:
        return {"lacks": [f"something in it is no JSON: {error}"]}


def _told(shown: Any, value: Any) -> bool:
    """Whether the text on the page says the value exactly."""
    if isinstance(shown, list):
        return all(_told(*pair) for pair in zip(shown, value, strict=True))
    return _WHOLE.fullmatch(shown) is not None and type(read := _read(shown)) is type(value) and read == value


def _read(shown: Any) -> Any:
    """The value of a text that says it exactly."""
    if isinstance(shown, list):
        return [_read(text) for text in shown]
    words = {"nil": None, "true": True, "false": False}
    return words[shown] if shown in words else shown[1:-1] if shown[:1] == '"' else int(shown)


def _plain(value: Any, redact: Redact) -> Any:
    """`value` as JSON holds it, secrets blanked; raises TypeError where JSON would make another of it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Pairs):
        value = dict(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a map with keys that are no text")
        return {redact(key): _plain(item, redact) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, redact) for item in value]
    raise TypeError(f"a {type(value).__name__}")


def _exact(history: History, verdicts: Sequence[Verdict]) -> list[list[int]]:
    """Index, start and end (-1: unknown) in ns of the operations of witnesses."""
    wanted = {i for v in verdicts if v.witness for i in v.witness.operations}
    c = history.columns
    return [[i, s, e] for i, s, e in zip(c.index, c.start, c.end, strict=True) if i in wanted]


def _fault(fault: Fault) -> dict[str, Any]:
    told = {
        name: getattr(fault, name)
        for name in ("kind", "what", "asked", "nodes", "links", "grudge", "mechanism", "spec", "place")
    }
    seen = {"start": fault.start, "end": fault.end, "proof": fault.proof, "healed": fault.healed}
    return {"fault": fault.id, **told, **seen, "error": fault.error}


# ------------------------------------------------------------------------------------------- the way back


class _Blocks(html.parser.HTMLParser):
    """The text of the page's data blocks, by id."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._id: str | None = None
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self._id = told.get("id") if tag == "script" and told.get("type") == "text/plain" else None

    def handle_endtag(self, tag: str) -> None:
        self._id = None

    def handle_data(self, data: str) -> None:
        if self._id is not None:
            self.found[self._id] = self.found.get(self._id, "") + data


def history_of(page: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the events of the history that `page` shows, as a history file holds them.

    Raises ValueError where it is no page of this program, or one that left something out; OSError where it
    cannot be read.
    """
    blocks = _Blocks(page.read_text("utf-8", "replace")).found
    try:
        drawn, block, beside = (
            zlib.decompress(base64.b64decode(blocks[name])) for name in ("drawing", "columns", "extract")
        )
        drawing, held = json.loads(drawn), json.loads(beside)
    except (KeyError, ValueError, zlib.error) as error:
        raise ValueError(f"{page}: no page of a run that carries its history ({error!r})") from None
    if held["lacks"]:
        raise ValueError(
            f"{page}: the page does not carry the whole history: {'; '.join(held['lacks'])}; "
            "take the raw history that it links to"
        )
    columns = unpack(drawing["layout"], block, drawing["lanes"], len(drawing["keys"]))
    events = [*_operations(drawing, held, columns), *_others(held)]
    return held["header"], _numbered(events)


Timed = tuple[int, int | None, dict[str, Any]]
"""An event with its time (ns) and, of an invocation, its number in the history."""


def _operations(
    drawing: dict[str, Any], held: dict[str, Any], columns: dict[str, list[int]]
) -> Iterator[Timed]:
    values: list[Any] = []
    last = 0
    for number, shown in enumerate(drawing["values"]):
        if isinstance(shown, int):
            last += shown
            values.append(last)
        elif str(number) in held["values"]:
            values.append(held["values"][str(number)])
        else:
            values.append(None if shown is None else _read(shown))
    exact = {index: (start, end) for index, start, end in held["exact"]}
    keyed, tables = bool(held["header"].get("keyed")), held["tables"]
    busy: dict[int, int] = {}  # process -> when its last operation ended: a microsecond hides their order
    for k, index in enumerate(columns["index"]):
        process, kind = columns["process"][k], OUTCOMES[columns["type"][k]]
        start, took = columns["start"][k] * 1000, columns["lasted"][k]
        end = start + 1000 * (took - 1) if took else -1
        start, end = exact.get(
            index, (max(start, busy.get(process, 0) + 1) if process in busy else start, end)
        )
        end = max(end, start + 1) if took else -1
        busy[process] = max(end, start + 1)
        f, error = tables["f"][columns["f"][k]], tables["error"][columns["error"][k]]
        key, value, result = (columns[name][k] for name in ("key", "value", "result"))
        event: dict[str, Any] = {"type": "invoke", "process": process, "f": f}
        event["value"] = [tables["key"][key], values[value]] if keyed else values[value]
        if (node := tables["node"][columns["node"][k]]) is not None:
            event["node"] = node
        if columns["final"][k]:
            event["final"] = True
        yield start, index, event
        if end < 0 and kind == "info" and error is None:
            continue  # never completed, or its end is not known: the same to every checker
        told = values[result] if kind == "ok" else values[value]
        ended: dict[str, Any] = {"type": kind, "process": process, "f": f}
        ended["value"] = [tables["key"][key], told] if keyed else told
        if error is not None:
            ended["error"] = error
        yield end if end >= 0 else LAST, None, ended  # when it was given up is not known, only that it was


def _others(held: dict[str, Any]) -> Iterator[Timed]:
    for time, kind, detail in held["events"]:
        yield time, None, {"type": "info", "process": "cluster", "f": kind, "value": detail}
    for time, kind, text in held["run"]:
        yield time, None, {"type": "info", "process": "run", "f": kind, "value": text}
    for fault in held["faults"]:
        told = {
            name: fault[name] for name in fault if name not in ("start", "end", "proof", "healed", "error")
        }
        kind, error = fault["kind"], {"error": fault["error"]} if fault["error"] else {}
        start, end = fault["start"], fault["end"]
        begin = start if start is not None else round((fault["asked"][0] or 0) * 1e9)
        seen = {} if start is None else {"done": True, "proof": fault["proof"]}
        yield _nemesis(begin, f"start-{kind}", {**told, **seen, **error})
        if end is not None:
            yield _nemesis(end, f"stop-{kind}", {**told, "done": True, "proof": fault["healed"], **error})


def _nemesis(time: int, f: str, value: dict[str, Any]) -> Timed:
    return time, None, {"type": "info", "process": "nemesis", "f": f, "value": value}


def _numbered(events: Iterable[Timed]) -> list[dict[str, Any]]:
    """Events in order of time, with numbers; invocations keep theirs, so that a witness still names them.

    The other events take the numbers between. Where those do not suffice, all are numbered anew, and
    ``was`` says an invocation's old number.
    """
    ordered = sorted(events, key=lambda event: (event[0], event[1] is not None))
    latest = max((time for time, _, _ in ordered if time < LAST), default=0)
    numbered: list[tuple[int, Timed]] = []
    ended: deque[Timed] = deque()
    others: deque[Timed] = deque()  # of these only the time counts, so that they wait for a free number
    last = -1
    for event in ordered:
        number = event[1]
        if number is None:
            (ended if isinstance(event[2]["process"], int) else others).append(event)
            continue
        while (ended or others) and last + 1 < number:
            last += 1
            numbered.append((last, (ended or others).popleft()))
        if number <= last or any(other[2]["process"] == event[2]["process"] for other in ended):
            numbered = []  # an operation would come before the end of the one before it
            break
        last = number
        numbered.append((number, event))
    else:
        numbered += zip(count(last + 1), (*ended, *others))
    made = []
    for index, (time, was, told) in numbered or enumerate(ordered):
        old = {} if was in (None, index) else {"was": was}
        made.append({"index": index, "time": min(time, latest + 1), **told, **old})
    return made


def write_history(path: Path, header: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> Path:
    """Write a history file, gzipped where its name ends so. Raises OSError, FileExistsError among them."""
    lines = (json.dumps(line, separators=(",", ":")) for line in ({"nemesis": 1, **header}, *events))
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    with path.open("xb") as file:
        file.write(gzip.compress(data, 6) if path.suffix == ".gz" else data)
    return path


__all__ = ["carried", "history_of", "write_history"]

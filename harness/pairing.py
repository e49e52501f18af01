"""How events become a history: invocations paired with completions, what was told of a fault put together.

Differs from `harness.history` in that it knows the events' form, and every rule that they must keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Raw, Struct, json, structs

from harness.history import EVENT_TYPES, OUTCOMES, Columns, Fault, History, HistoryError, NodeEvent, Wall

_INFO = OUTCOMES.index("info")
_TYPES: dict[str, int] = {name: place for place, name in enumerate(OUTCOMES)}
_FAULT_TYPES = {"start": int, "end": int, "nodes": list, "links": list, "grudge": dict, "asked": list}
_TOLD = ("id", "fault", "done", "proof", "error", "start", "end")
_KEPT = 1 << 17  # texts of values whose numbers are remembered


class ClientEvent(Struct):
    """An event of a client, each thing in its place; others, and what is odd, are mappings.

    A `value` that is still the text of JSON (`Raw`) is read once, however often it comes.
    """

    index: int
    type: Literal["invoke", "ok", "fail", "info"]
    process: int
    f: str
    time: int = -1
    value: Any = None
    node: Any = None
    error: Any = None
    final: bool = False


Event = Mapping[str, Any] | ClientEvent


def pair(events: Iterable[Event], header: Mapping[str, Any], path: Path | None) -> History:
    """The history of these events. Raises HistoryError that names the event and the rule it breaks."""
    if not isinstance(plan := header.get("plan") or {}, Mapping):
        raise HistoryError(f"header: plan is {plan!r}, not an object")
    builder = _Builder(keyed=bool(header.get("keyed")))
    for event in events:
        try:
            if isinstance(event, ClientEvent):
                builder.client(event)
            else:
                builder.add(event)
        except HistoryError:
            raise
        except (TypeError, ValueError, OverflowError, LookupError, AttributeError) as error:
            told = event if isinstance(event, Mapping) else structs.asdict(event)
            raise HistoryError(
                f"event {told.get('index')!r}: something in it is not of the type it must be "
                f"({type(error).__name__}: {error}): {str(dict(told))[:200]}"
            ) from None
    if builder.timed and not header.get("ordered") and not builder.sorted:
        builder.columns.number_events()
    return History(
        header,
        builder.columns,
        builder.observed(),
        builder.events,
        builder.phases,
        path,
        builder.findings,
        builder.notes,
        builder.wall,
    )


class _Builder:
    def __init__(self, keyed: bool) -> None:
        self.keyed = keyed
        self.columns = Columns()
        self.open: dict[int, int] = {}  # process -> row
        self.ended: set[int] = set()  # processes that ended in info
        self.faults: dict[int, dict[str, Any]] = {}
        self.events: list[NodeEvent] = []
        self.phases: list[tuple[int, str]] = []
        self.findings: list[str] = []
        self.notes: list[str] = []
        self.wall: Wall | None = None
        self.last = -1
        self.timed = True  # whether every event of a client has a time: else their order is all there is
        self.position = 0  # of the next event of an operation, in the order in which they come
        self.sorted, self.latest = True, -1  # whether that is the order of time, too; twice the latest time
        self._texts: dict[bytes, tuple[int, int]] = {}  # of values -> numbers of key and value

    def add(self, event: Mapping[str, Any]) -> None:
        """Any event, of which nothing is known yet."""
        try:
            index, kind, process, f = event["index"], event["type"], event["process"], event["f"]
        except KeyError as missing:
            raise HistoryError(
                f"event {dict(event)!r} has no {missing.args[0]!r}; every event has index, type, process, f"
            ) from None
        time = event.get("time", -1)
        if not isinstance(index, int) or not isinstance(time, int):
            raise HistoryError(
                f"event {index}: index {index!r} and time {time!r} must be integers (time in ns)"
            )
        if kind not in EVENT_TYPES:
            self.grown(index)
            raise HistoryError(f"event {index}: type {kind!r} is none of {', '.join(EVENT_TYPES)}")
        if type(process) is int:
            value, node, error = event.get("value"), event.get("node"), event.get("error")
            told = ClientEvent(
                index, kind, process, str(f), time, value, node, error, bool(event.get("final"))
            )
            return self.client(told)
        self.grown(index)
        if process == "nemesis":
            self.nemesis(event, index, time, str(f))
        elif process == "cluster":
            detail = dict(event.get("value") or {})
            self.events.append(NodeEvent(time, str(detail.pop("node", "")), str(f), detail))
        elif process == "run" and f == "finding":
            self.findings.append(str(event.get("value")))
        elif process == "run" and f == "note":
            self.notes.append(str(event.get("value")))
        elif process == "run" and f == "wall":
            self.wall = _wall(event.get("value"), time)
        elif process == "run":
            self.phases.append((time, str(event.get("value"))))
        elif not isinstance(process, str):
            raise HistoryError(f"event {index}: process {process!r} is neither an integer nor a name")
        return None

    def grown(self, index: int) -> None:
        """Note the index of an event, which is above that of the one before it."""
        if index <= self.last:
            raise HistoryError(f"event {index}: index does not grow (the one before it is {self.last})")
        self.last = index

    def client(self, event: ClientEvent) -> None:
        """An event of a client: of these a long history has millions."""
        if event.index <= self.last:
            self.grown(event.index)
        self.last = event.index
        if event.time < 0:
            self.timed = False
        if event.type == "invoke":
            self.invoke(event)
        else:
            self.complete(event)

    def invoke(self, event: ClientEvent) -> None:
        process, time, position, c = event.process, event.time, self.position, self.columns
        if process in self.open:
            raise HistoryError(
                f"event {event.index}: process {process} invokes again before its operation completed"
            )
        if process in self.ended:
            raise HistoryError(
                f"event {event.index}: process {process} ended with an unknown outcome and may not invoke "
                "again; a new process number takes its place"
            )
        key, value = self.codes(event)
        self.open[process] = len(c.index)
        c.index.append(event.index)
        c.process.append(process)
        c.start.append(time)
        c.end.append(-1)
        c.completion.append(-1)
        c.f.append(c.fs.code(event.f))
        c.key.append(key)
        c.value.append(value)
        c.result.append(0)
        c.type.append(_INFO)
        c.node.append(c.nodes.code(event.node))
        c.error.append(0)
        c.final.append(event.final)
        c.call.append(position)
        c.ret.append(-1)
        self.position = position + 1
        if 2 * time < self.latest:
            self.sorted = False
        self.latest = 2 * time

    def complete(self, event: ClientEvent) -> None:
        index, time, process, kind = event.index, event.time, event.process, event.type
        row = self.open.pop(process, None)
        if row is None:
            raise HistoryError(
                f"event {index}: process {process} completes an operation that it never invoked"
            )
        c = self.columns
        if event.f != (invoked := c.fs.values[c.f[row]]):
            raise HistoryError(
                f"event {index}: process {process} completes {event.f!r} but invoked {invoked!r}"
            )
        c.type[row] = _TYPES[kind]
        c.completion[row] = index
        if kind == "info":
            self.ended.add(process)
        elif 0 <= time < c.start[row]:
            raise HistoryError(
                f"event {index}: completes at {time} ns, before its invocation at {c.start[row]} ns"
            )
        else:
            c.end[row] = time if time >= 0 else index
            c.ret[row] = self.position
            self.position += 1
            # intervals are closed: of an invocation and a return at one time, the invocation is the first
            if 2 * time + 1 < self.latest:
                self.sorted = False
            self.latest = 2 * time + 1
        if kind == "ok":
            key, c.result[row] = self.codes(event)
            if key != c.key[row] and self.keyed:
                raise HistoryError(
                    f"event {index}: process {process} completes an operation on key "
                    f"{c.keys.values[key]!r}, but invoked it on {c.keys.values[c.key[row]]!r}"
                )
        if (error := event.error) is not None:
            c.error[row] = c.errors.code(error if isinstance(error, str) else str(error))

    def codes(self, event: ClientEvent) -> tuple[int, int]:
        """The numbers of the key and of the value in what it says."""
        value = event.value
        if type(value) is not Raw:
            return self.interned(event.index, value)
        text = bytes(value)
        known = self._texts.get(text)
        if known is None:
            if len(self._texts) >= _KEPT:
                self._texts.clear()
            known = self._texts[text] = self.interned(event.index, json.decode(text))
        return known

    def interned(self, index: int, value: Any) -> tuple[int, int]:
        c = self.columns
        if not self.keyed:
            return 0, c.values.code(value)
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise HistoryError(
                f"event {index}: values are said to be keyed, but {value!r} is not [key, value]"
            )
        return c.keys.code(value[0]), c.values.code(value[1])

    def nemesis(self, event: Mapping[str, Any], index: int, time: int, f: str) -> None:
        value = event.get("value")
        if not isinstance(value, Mapping) or "fault" not in value:
            return  # another tool's nemesis: kept in the file, nothing here to draw
        number = value["fault"]
        where = f"event {index}: fault {number!r}"
        if not isinstance(number, int):
            raise HistoryError(f"{where} must be an integer")
        for name, kind in _FAULT_TYPES.items():
            if not isinstance(value.get(name, kind()), kind) and value[name] is not None:
                raise HistoryError(f"{where}: {name} is {value[name]!r}, not of type {kind.__name__}")
        fault = self.faults.setdefault(number, {"start": None, "end": None})
        fault.update({name: item for name, item in value.items() if name not in _TOLD and item is not None})
        if value.get("error"):
            fault["error"] = str(value["error"])
        if value.get("done"):
            starting = f.startswith("start-")
            fault["start" if starting else "end"] = value.get("start" if starting else "end", time)
            fault["proof" if starting else "healed"] = str(value.get("proof", ""))
        _fault(number, fault)  # so that what is wrong is said of this event

    def observed(self) -> list[Fault]:
        """The faults, in the order in which they began."""
        return [_fault(number, told) for number, told in self.faults.items()]


def _fault(number: int, told: Mapping[str, Any]) -> Fault:
    begin, end = told.get("asked", (0.0, None))
    entry, repetition = told.get("place", (0, 0))
    return Fault(
        id=number,
        kind=str(told.get("kind", "")),
        what=str(told.get("what", "")),
        asked=(begin + 0, None if end is None else end + 0),
        start=told["start"],
        end=told["end"],
        nodes=tuple(map(str, told.get("nodes", ()))),
        links=tuple((str(a), str(b)) for a, b in told.get("links", ())),
        grudge={str(node): tuple(map(str, heard)) for node, heard in told.get("grudge", {}).items()},
        mechanism=str(told.get("mechanism", "")),
        proof=str(told.get("proof", "")),
        healed=str(told.get("healed", "")),
        error=str(told.get("error", "")),
        spec=told.get("spec"),
        place=(int(entry), int(repetition)),
    )


def _wall(told: Any, time: int) -> Wall | None:
    """What the wall clock showed at time 0, from what it showed at `time` (ns); None of what is no time."""
    unix, zone = (told.get(name) if isinstance(told, Mapping) else None for name in ("unix", "zone"))
    if type(unix) is not int or type(zone) is not int:
        return None
    began = unix - max(time, 0)
    return Wall(began, zone) if abs(began) < 1 << 62 and abs(zone) < 86_400 else None


__all__ = ["ClientEvent", "Event", "pair"]

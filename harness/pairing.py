"""How events become a history: invocations paired with completions, what was told of a fault put together.

Differs from `harness.history` in that it knows the events' form, and every rule that they must keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.history import EVENT_TYPES, OUTCOMES, Columns, Fault, History, HistoryError, NodeEvent

_INFO = OUTCOMES.index("info")
_TYPES: dict[str, int] = {name: place for place, name in enumerate(OUTCOMES)}
_FAULT_TYPES = {"start": int, "end": int, "nodes": list, "links": list, "grudge": dict, "asked": list}
_TOLD = ("id", "fault", "done", "proof", "error", "start", "end")


def pair(events: Iterable[Mapping[str, Any]], header: Mapping[str, Any], path: Path | None) -> History:
    """The history of these events. Raises HistoryError that names the event and the rule it breaks."""
    if not isinstance(plan := header.get("plan") or {}, Mapping):
        raise HistoryError(f"header: plan is {plan!r}, not an object")
    builder = _Builder(keyed=bool(header.get("keyed")))
    for event in events:
        try:
            builder.add(event)
        except HistoryError:
            raise
        except (TypeError, ValueError, OverflowError, LookupError, AttributeError) as error:
            raise HistoryError(
                f"event {event.get('index')!r}: something in it is not of the type it must be "
                f"({type(error).__name__}: {error}): {str(dict(event))[:200]}"
            ) from None
    builder.columns.number_events(timed=builder.timed and not header.get("ordered"))
    return History(
        header,
        builder.columns,
        builder.observed(),
        builder.events,
        builder.phases,
        path,
        builder.findings,
        builder.notes,
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
        self.last = -1
        self.timed = True  # whether every event of a client has a time: else their order is all there is

    def add(self, event: Mapping[str, Any]) -> None:
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
        if index <= self.last:
            raise HistoryError(f"event {index}: index does not grow (the one before it is {self.last})")
        self.last = index
        if kind not in EVENT_TYPES:
            raise HistoryError(f"event {index}: type {kind!r} is none of {', '.join(EVENT_TYPES)}")
        if type(process) is int:
            self.timed = self.timed and time >= 0
            if kind == "invoke":
                self.invoke(event, index, time, process, str(f))
            else:
                self.complete(event, index, time, process, str(f), kind)
        elif process == "nemesis":
            self.nemesis(event, index, time, str(f))
        elif process == "cluster":
            detail = dict(event.get("value") or {})
            self.events.append(NodeEvent(time, str(detail.pop("node", "")), str(f), detail))
        elif process == "run" and f == "finding":
            self.findings.append(str(event.get("value")))
        elif process == "run" and f == "note":
            self.notes.append(str(event.get("value")))
        elif process == "run":
            self.phases.append((time, str(event.get("value"))))
        elif not isinstance(process, str):
            raise HistoryError(f"event {index}: process {process!r} is neither an integer nor a name")

    def invoke(self, event: Mapping[str, Any], index: int, time: int, process: int, f: str) -> None:
        if process in self.open:
            raise HistoryError(
                f"event {index}: process {process} invokes again before its operation completed"
            )
        if process in self.ended:
            raise HistoryError(
                f"event {index}: process {process} ended with an unknown outcome and may not invoke again; "
                "a new process number takes its place"
            )
        c = self.columns
        key, value = self.split(index, event.get("value"))
        self.open[process] = len(c)
        c.index.append(index)
        c.process.append(process)
        c.start.append(time)
        c.end.append(-1)
        c.completion.append(-1)
        c.f.append(c.fs.code(f))
        c.key.append(c.keys.code(key))
        c.value.append(c.values.code(value))
        c.result.append(0)
        c.type.append(_INFO)
        c.node.append(c.nodes.code(event.get("node")))
        c.error.append(0)
        c.final.append(bool(event.get("final")))

    def complete(
        self, event: Mapping[str, Any], index: int, time: int, process: int, f: str, kind: str
    ) -> None:
        row = self.open.pop(process, None)
        if row is None:
            raise HistoryError(
                f"event {index}: process {process} completes an operation that it never invoked"
            )
        c = self.columns
        if f != (invoked := c.fs.values[c.f[row]]):
            raise HistoryError(f"event {index}: process {process} completes {f!r} but invoked {invoked!r}")
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
        if kind == "ok":
            key, result = self.split(index, event.get("value"))
            if self.keyed and c.keys.code(key) != c.key[row]:
                raise HistoryError(
                    f"event {index}: process {process} completes an operation on key {key!r}, "
                    f"but invoked it on {c.keys.values[c.key[row]]!r}"
                )
            c.result[row] = c.values.code(result)
        if (error := event.get("error")) is not None:
            c.error[row] = c.errors.code(error if isinstance(error, str) else str(error))

    def split(self, index: int, value: Any) -> tuple[Any, Any]:
        if not self.keyed:
            return None, value
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise HistoryError(
                f"event {index}: values are said to be keyed, but {value!r} is not [key, value]"
            )
        return value[0], value[1]

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


__all__ = ["pair"]

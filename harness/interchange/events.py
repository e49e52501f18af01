"""The operations of another tool as the events that make a history, and what each must have."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from harness.history import NANOSECONDS, History, HistoryError
from harness.interchange.broken import Broken
from harness.journal import told
from harness.pairing import pair

_MANY = 1 << 62  # a number that no column holds


def history(operations: Iterable[tuple[int, Any]], format: str, keyed: bool, path: Path) -> History:
    """The history of (offset, operation) pairs. Raises Broken where an operation breaks a rule.

    Differs from `History.from_events` in that the order of the operations counts, not their times, that an
    index may be missing, and that only clients' operations are taken.
    """
    clients = _clients(operations)
    first = next(clients, None)
    by_key = not keyed and first is not None and "key" in first[1]  # as Porcupine's have it
    header = {"keyed": keyed or by_key, "ordered": True, "format": format}
    events = _Events(by_key)
    try:
        found = pair(events.of(clients if first is None else chain((first,), clients)), header, path)
    except Broken:
        raise
    except HistoryError as error:
        raise Broken(told(error), events.at) from None
    if not events.timed:
        _show_order(found)
    return found


def _clients(operations: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Those of clients, whose process is a number; the nemesis and its like have a name."""
    for at, operation in operations:
        if not isinstance(operation, Mapping):
            raise Broken(f"{told(ValueError(repr(operation)))} is no operation: expected a map", at)
        process = operation.get("process")
        if isinstance(process, str) and process and not process[-1].isdigit():
            continue
        if type(process) is not int:
            raise Broken(f"process is {process!r}: expected a number, or the name of what is no client", at)
        yield at, operation


class _Events:
    """Makes events; `at` is the offset of the latest, `timed` whether all so far have a time."""

    def __init__(self, by_key: bool) -> None:
        self.by_key = by_key
        self.at = 0
        self.timed = True

    def of(self, operations: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
        indexed = None
        for place, (at, operation) in enumerate(operations):
            self.at = at
            index, time = operation.get("index"), operation.get("time")
            if indexed is None:
                indexed = index is not None
            if indexed != (index is not None):
                raise Broken("some operations have an index, others have none", at)
            for name, number in (("index", index), ("time", time)):
                if number is not None and (type(number) is not int or abs(number) >= _MANY):
                    raise Broken(f"{name} is {number!r}: expected an integer of 62 bits", at)
            f = operation.get("f", "txn" if _micro_operations(operation.get("value")) else None)
            if not isinstance(f, str) or not f.isprintable() or not f:
                raise Broken(f"f is {f!r}: expected the name of what was done", at)
            if operation.get("type") != "info":  # when nobody knows what happened, nobody asks when
                self.timed = self.timed and time is not None and time >= 0
            event = {
                "index": index if indexed else place,
                "time": -1 if time is None else time,
                "type": operation.get("type"),
                "process": operation["process"],
                "f": f,
                "value": operation.get("value"),
                "final": operation.get("final") is True or operation.get("final?") is True,
            }
            if self.by_key:
                if "key" not in operation:
                    raise Broken("this operation has no key, others have one", at)
                event["value"] = (operation["key"], event["value"])
            if isinstance(node := operation.get("node"), str) and node.isprintable():
                event["node"] = node
            if (error := operation.get("error")) is not None:
                event["error"] = told(ValueError(error if isinstance(error, str) else repr(error)))
            yield event


def _micro_operations(value: Any) -> bool:
    """Whether a value is what a transaction does, as Elle and elle-cli have it without saying ``:f :txn``."""
    return isinstance(value, list) and all(
        isinstance(step, list) and len(step) > 1 and isinstance(step[0], str) for step in value
    )


def _show_order(history: History) -> None:
    """Times for operations that have none: the n-th event is shown at n seconds."""
    columns = history.columns
    columns.start = array("q", (call * NANOSECONDS for call in columns.call))
    columns.end = array("q", (ret * NANOSECONDS if ret >= 0 else -1 for ret in columns.ret))

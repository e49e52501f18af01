"""Histories to measure checkers on: other tools' logs and generated ones, also as text for Porcupine."""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.history import History

Event = dict[str, Any]
ETCD = re.compile(r"^INFO\s+jepsen\.util\s+-\s+(\d+)\s+:(invoke|ok|fail)\s+:(read|write|cas)\s+(.*)$")
TEXT = re.compile(
    r'{:process (\d+), :type :(invoke|ok), :f :(get|put|append), :key "(.*)", :value (nil|"(.*)")}'
)


def etcd(path: Path) -> Iterator[Event]:
    """The events of one of Jepsen's etcd logs, read as Porcupine's own tests read them."""
    for line in path.read_text().splitlines():
        if not (found := ETCD.match(line)):
            continue
        process, kind, f, words = found.groups()
        event: Event = {"process": int(process), "type": kind, "f": f}
        if kind == "invoke":
            values = [int(word) for word in re.findall(r"\d+", words)]
            event["value"] = {"read": None, "write": values[:1], "cas": values}[f]
            if f == "write":
                event["value"] = values[0]
        elif f == "read":
            if kind == "fail" and words.strip() != ":timed-out":
                continue
            event["value"] = None if words.strip() == "nil" or kind == "fail" else int(words)
        elif f == "cas":
            if not words.startswith("["):
                continue
            event |= {"type": "ok", "value": kind == "ok"}  # a refusal that somebody saw
        elif kind == "ok":
            event["value"] = int(words)
        else:
            continue
        yield event


def texts(path: Path) -> Iterator[Event]:
    """The events of one of Porcupine's logs of a key-value store with append."""
    for line in path.read_text().splitlines():
        if found := TEXT.match(line):
            process, kind, f, key, word, value = found.groups()
            told = None if word == "nil" else value
            yield {"process": int(process), "type": kind, "f": f, "value": [key, told]}


def generated(
    operations: int, clients: int, *, keys: int = 1, crashed: int = 0, stale: bool = False, values: int = 5,
    seed: int = 0,
) -> list[Event]:  # fmt: skip
    """Events of cas-registers that work; nobody hears of `crashed` ones again, half of which happened.

    `stale`: one read near the end reports a value that was written three times, and overwritten long ago.
    """
    rnd = random.Random(f"{operations}-{clients}-{keys}-{crashed}-{seed}")
    lost = set(rnd.sample(range(operations // 10, operations * 9 // 10), crashed))
    old = {1, operations // 50, operations // 25} if stale else set()
    queue = [(rnd.random(), 0, process) for process in range(clients)]
    heapq.heapify(queue)
    planned: list[Event] = []
    while len(planned) < operations:
        now, _, process = heapq.heappop(queue)
        number, took = len(planned), 0.2 + 1.6 * rnd.random()
        f = rnd.choice(("read", "write", "cas"))
        if number in old or (number in lost and f == "read"):
            f = "write"
        value: Any = rnd.randrange(values) if f == "write" else None
        if f == "cas":
            value = [rnd.randrange(values), rnd.randrange(values)]
        key = 0 if number in old else rnd.randrange(keys)
        planned.append(
            {"process": process, "f": f, "key": f"k{key}", "value": 99 if number in old else value,
             "start": now, "end": now + took, "at": now + took * rnd.random(), "lost": number in lost}
        )  # fmt: skip
        if number in lost:
            process += clients
            planned[-1]["at"] = planned[-1]["at"] if rnd.random() < 0.5 else None
        heapq.heappush(queue, (now + took + rnd.random() * 0.2 + 1e-9, number, process))
    held: dict[str, Any] = {}
    for op in sorted((op for op in planned if op["at"] is not None), key=lambda op: float(op["at"])):
        there = held.get(op["key"])
        if op["f"] == "cas":
            op["result"] = there == op["value"][0]
            held[op["key"]] = op["value"][1] if op["result"] else there
        elif op["f"] == "write":
            held[op["key"]] = op["result"] = op["value"]
        else:
            op["result"] = there
    if stale:
        late = (op for op in planned[int(operations * 0.98) :] if op["f"] == "read" and op["key"] == "k0")
        next(late)["result"] = 99
    events = []
    for number, op in enumerate(planned):
        common = {"process": op["process"], "f": op["f"]}
        events.append((op["start"], number, {**common, "type": "invoke", "value": [op["key"], op["value"]]}))
        if not op["lost"]:
            done = {**common, "type": "ok", "value": [op["key"], op["result"]]}
            events.append((op["end"], number, done))
    events.sort(key=lambda event: event[:2])
    return [event for _, _, event in events]


def history(events: Iterable[Event], keyed: bool) -> History:
    """The events as a History, in the order in which they are."""
    numbered = ({"index": index, **event} for index, event in enumerate(events))
    return History.from_events(numbered, {"keyed": keyed})


def for_porcupine(events: Iterable[Event], keyed: bool, path: Path) -> None:
    """Write the events as `benchmarks/porcupine/main.go` reads them."""
    lines, open_ = [], {}
    for number, event in enumerate(events):
        key, value = event["value"] if keyed else ("", event["value"])
        if event["type"] == "invoke":
            open_[event["process"]] = number
            a, b = value if isinstance(value, list) else (value, "")
            lines.append(f"call\t{number}\t{key}\t{event['f']}\t{'' if a is None else a}\t{b}")
        elif event["type"] == "ok":
            told = str(value).lower() if isinstance(value, bool) else "" if value is None else value
            lines.append(f"return\t{open_.pop(event['process'])}\t{told}")
        else:
            open_.pop(event["process"])
    path.write_text("\n".join(lines) + "\n")


def written(path: Path) -> Iterator[Event]:
    """The events that `for_porcupine` wrote, each operation by a process of its own."""
    what: dict[str, tuple[str, str]] = {}
    for line in path.read_text().splitlines():
        words = line.split("\t")
        if words[0] == "call":
            _, number, key, f, a, b = words
            what[number] = f, key
            value: Any = [_plain(f, a), _plain(f, b)] if f == "cas" else None if not a else _plain(f, a)
            yield {"process": int(number), "type": "invoke", "f": f, "value": [key, value]}
        else:
            f, key = what.pop(words[1])
            told = None if not words[2] else _plain(f, words[2])
            yield {"process": int(words[1]), "type": "ok", "f": f, "value": [key, told]}


def _plain(f: str, word: str) -> Any:
    if f in ("get", "put", "append"):
        return word
    return {"true": True, "false": False}[word] if word in ("true", "false") else int(word)


def transactions(
    count: int, clients: int, *, active: int = 10, most: int = 100, stale: bool = False
) -> Iterator[dict[str, Any]]:
    """Events of transactions of one to four steps that read lists and append to them.

    Each takes effect at one instant inside its interval. Of the keys `active` are in use at a time, each
    until `most` elements were appended to it. `stale`: one of the last read a list as it was long before.
    """
    rnd = random.Random(f"transactions/{count}/{clients}")
    keys, fresh = list(range(active)), active
    lists: dict[int, list[int]] = {key: [] for key in keys}
    appended = dict.fromkeys(keys, 0)
    free = [(rnd.random(), process) for process in range(clients)]
    planned = []
    for _ in range(count):
        start, process = heapq.heappop(free)
        took = 0.2 + rnd.random()
        steps: list[list[Any]] = []
        for _ in range(rnd.randint(1, 4)):
            place = rnd.randrange(active)
            key = keys[place]
            if rnd.random() < 0.5:
                steps.append(["r", key, None])
                continue
            appended[key] += 1
            steps.append(["append", key, appended[key]])
            if appended[key] == most:
                keys[place], fresh = fresh, fresh + 1
                lists[keys[place]], appended[keys[place]] = [], 0
        planned.append((start, start + took * rnd.random(), start + took, process, steps))
        heapq.heappush(free, (start + took + 0.1 * rnd.random(), process))
    events: list[tuple[float, str, int, list[list[Any]]]] = []
    results: dict[int, list[list[Any]]] = {}
    late = False
    for number in sorted(range(count), key=lambda i: planned[i][1]):
        start, _, end, process, steps = planned[number]
        done = []
        for f, key, value in steps:
            if f == "append":
                lists[key].append(value)
                done.append([f, key, value])
                continue
            seen = list(lists[key])
            if stale and not late and number > count * 99 // 100 and len(seen) > 40:
                seen, late = seen[:-40], True
            done.append([f, key, seen])
        results[number] = done
    for number, (start, _, end, process, steps) in enumerate(planned):
        events.append((start, "invoke", process, steps))
        events.append((end, "ok", process, results[number]))
    events.sort(key=lambda event: event[0])
    for index, (time, kind, process, steps) in enumerate(events):
        yield {"index": index, "time": round(time * 1e6), "type": kind, "process": process, "f": "txn",
               "value": steps}  # fmt: skip

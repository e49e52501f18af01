"""A page of each kind of run: made here, judged by the real checkers, in plain or in hostile words."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from harness.checkers import Budget, check, linearizable
from harness.cli import main
from harness.history import History
from harness.interchange import read
from harness.report import Entry, Page, aggregate, write_comparison, write_index, write_page
from harness.report.columns import arrange
from harness.report.drawing import whole
from harness.verdict import Verdict
from tests.integration.report import synthetic
from tests.integration.report.synthetic import MS
from tests.unit.checkers.histories import events as recorded

Event = dict[str, Any]
Words = Callable[[Any], Any]
"""What is made of every text and value that a history or a user brings."""

TEST = "tests/chaos/test_register.py::test_linearizable[isolated_leader]"
REGISTER = "linearizable:cas-register"
SHOT = "</script><img src=x onerror=alert(1)><b onclick=alert(2)>\"'&"
STEPS = frozenset({"append", "r"})  # the steps of transactions are words of the field, as `f` is
TOLD = frozenset({"node", "nodes", "what", "grudge", "mechanism", "proof", "error", "line"})
"""What a nemesis or a cluster tells in words."""


def plain(value: Any) -> Any:
    """As it is."""
    return value


def hostile(value: Any) -> Any:
    """Every text and number of a value, as text that wants to be markup."""
    if isinstance(value, Mapping):
        return {hostile(key): hostile(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hostile(item) for item in value]
    return value if value is None or value in STEPS else f"{SHOT}{value}"


@dataclass(frozen=True)
class Made:
    """A written page and what it shows."""

    path: Path
    history: History
    verdicts: tuple[Verdict, ...] = ()

    @cached_property
    def whole(self) -> tuple[float, float]:
        """When the timeline begins and ends (seconds), with the little that it shows on either side."""
        begin, end = whole(self.history, arrange(self.history))
        return begin - 0.01 * (end - begin), end + 0.01 * (end - begin)

    def share(self, time: float) -> float:
        """Where `time` (seconds) stands in the timeline of the whole run, from 0 to 1."""
        return (time - self.whole[0]) / (self.whole[1] - self.whole[0])


def said(event: Event, words: Words) -> Event:
    """`event` in `words`; what is no text (numbers of faults, times, terms) stays."""
    if event["process"] in ("nemesis", "cluster"):
        value: Event = event["value"]
        told = {k: words(v) if k in TOLD and not isinstance(v, float) else v for k, v in value.items()}
        return {**event, "value": told}
    return {**event, **{name: words(event[name]) for name in ("value", "node", "error") if name in event}}


def history_of(
    events: Iterable[Event], words: Words, nodes: Sequence[str] = synthetic.NODES, **head: Any
) -> History:
    """`events` as a history in `words`."""
    about = synthetic.header(nodes=list(nodes), **head)
    about |= {name: words(about[name]) for name in ("test", "target", "nodes", "why", "runtime")}
    about["plan"] = {"name": words("isolated_leader"), "repr": words(synthetic.PLAN), "entries": [1]}
    return History.from_events([said(event, words) for event in events], about)


def judged(history: History, words: Words, *checks: str, **more: Any) -> Page:
    """The page of a history with the verdicts of these checks."""
    verdicts = tuple(check(history, name) for name in checks)
    return Page(history, verdicts, words(TEST), replay=words(f"pytest {TEST}"), **more)


# ----------------------------------------------------------------------------------------- what is violated


def valid(words: Words) -> Page:
    return judged(history_of(synthetic.events(2000), words), words, REGISTER)


def stale_read(words: Words) -> Page:
    return judged(history_of(synthetic.events(2000, bend=1), words), words, REGISTER)


def lost_update(words: Words) -> Page:
    """Counters, an update at a time; in the partition two of one key are built on the same read."""
    made, left = [], dict.fromkeys(("k0", "k1", "k2"), 0)
    for k in range(400):
        key, start = f"k{k % 3}", (100 + 29 * k) * MS
        read = left[key] - (k == 150)
        left[key] = read + 1
        made.append({"process": k % 10, "f": "rmw", "key": key, "value": None, "result": [read, read + 1],
                     "start": start, "end": start + 25 * MS, "node": f"n{k % 5 + 1}"})  # fmt: skip
    return judged(history_of(recorded(made, True, synthetic.others()), words), words, "no-lost-update")


def set_of(words: Words) -> Page:
    """Adds, and reads of all that was added; one add, acknowledged in the partition, is in no read."""
    made, inside = [], list[int]()
    for k in range(200):
        start, adds = (100 + 58 * k) * MS, k % 10 < 9 and k < 199
        if adds and k != 50:
            inside.append(k)
        told = {"f": "add", "value": k} if adds else {"f": "read", "value": None, "result": list(inside)}
        made.append({**told, "process": k % 10, "node": f"n{k % 5 + 1}", "final": k == 199,
                     "start": start, "end": start + 50 * MS})  # fmt: skip
    events = recorded(made, False, synthetic.others())
    return judged(history_of(events, words, keyed=False), words, "set-full")


def cycle(words: Words) -> Page:
    """Transactions on lists; in the partition two at once miss what the other appended."""
    made: list[Event] = []

    def txn(process: int, start: int, end: int, *steps: list[Any]) -> None:
        asked = [[f, key, None if f == "r" else value] for f, key, value in steps]
        made.append({"process": process, "f": "txn", "value": asked, "result": list(steps),
                     "start": start * MS, "end": end * MS, "node": f"n{process % 5 + 1}"})  # fmt: skip

    lists: dict[str, list[int]] = {}
    for k in range(300):
        start, key = 100 + 38 * k, f"x{k % 4}"
        if k == 100:
            txn(11, start, start + 30, ["r", "y", []], ["append", "z", 1])
            txn(12, start + 2, start + 28, ["r", "z", []], ["append", "y", 1])
            continue
        lists.setdefault(key, []).append(k)
        txn(k % 10, start, start + 30, ["append", key, k], ["r", key, list(lists[key])])
    txn(11, 11_550, 11_560, ["r", "y", [1]], ["r", "z", [1]])
    events = recorded(made, False, synthetic.others())
    return judged(history_of(events, words, keyed=False), words, "list-append")


def several(words: Words) -> Page:
    """Two keys of three violate linearizability, and other checkers say more of the same run."""
    events = synthetic.events(2000, bend=2)
    whole = history_of(events, words)
    keys = sorted({str(op.key) for op in whole.operations})
    apart = [check(history_of((e for e in events if _of(e, key, words)), words), REGISTER) for key in keys]
    others = tuple(check(whole, name) for name in ("no-stale-read", "no-lost-update"))
    return Page(whole, (*apart, *others), words(TEST), replay=words(f"pytest {TEST}"))


def _of(event: Event, key: str, words: Words) -> bool:
    return not isinstance(event["process"], int) or words(event["value"][0]) == key


# --------------------------------------------------------------------------------------- what is not known


def unknown(words: Words) -> Page:
    """Many a compare-and-set of unknown outcome: in which order, if at all, takes more than its time."""
    rng = random.Random(1)
    made: list[Event] = [{"process": 0, "f": "write", "value": 0, "start": 100 * MS, "end": 105 * MS}]
    for k in range(40):
        asked = rng.sample(range(5), 2)
        made.append({"process": 10 + k, "f": "cas", "value": asked, "type": "info", "start": (2100 + k) * MS})
    for k in range(30):
        start, result = (2300 + 200 * k) * MS, rng.randrange(5)
        made.append({"process": k % 4, "f": "read", "result": result, "start": start, "end": start + 50 * MS})
    events = recorded([{"key": "k0", "node": "n2", **op} for op in made], True, synthetic.others())
    history = history_of(events, words)
    return Page(history, (linearizable(history, "cas-register", Budget(seconds=0.05)),), words(TEST))


def vacuous(words: Words) -> Page:
    """A fault that begins when the workload has ended."""
    events = synthetic.events(1000)
    late = {"fault": 9, "kind": "pause", "what": "n1 paused", "asked": [14.0, 15.0], "nodes": ["n1"]}
    for f, at in (("start-pause", 14_000), ("stop-pause", 15_000)):
        event = {"index": len(events), "time": at * MS, "type": "info", "process": "nemesis", "f": f}
        events.append({**event, "value": {**late, "done": True, "proof": "stopped"}})
    return judged(history_of(events, words), words, REGISTER)


def empty(words: Words) -> Page:
    return Page(History.from_events([]), (), words(TEST))


def crashed(words: Words) -> Page:
    """Half a run: operations are open, and the partition was never healed."""
    events = [event for event in synthetic.events(1000) if event["time"] < 5_000 * MS]
    error = words("Traceback (most recent call last):\n  ...\nRuntimeError: the cluster went away")
    return Page(history_of(events, words), (), words(TEST), error=error, findings=(words("n1 died"),))


# ------------------------------------------------------------------------------------------- of what size


def nodes_3(words: Words) -> Page:
    nodes = ("n1", "n2", "n3")
    return judged(history_of(synthetic.events(600, bend=1, nodes=nodes), words, nodes), words, REGISTER)


def nodes_25(words: Words) -> Page:
    nodes = tuple(f"n{k}" for k in range(1, 26))
    events = synthetic.events(3000, bend=1, clients=25, nodes=nodes)
    return judged(history_of(events, words, nodes), words, REGISTER)


def process_1(words: Words) -> Page:
    nodes = ("n2", "n1", "n3")
    return judged(history_of(synthetic.events(300, clients=1, nodes=nodes), words, nodes), words, REGISTER)


def processes_200(words: Words) -> Page:
    return judged(history_of(synthetic.events(4000, bend=1, clients=200), words), words, REGISTER)


def one_second(words: Words) -> Page:
    return judged(history_of(synthetic.events(500, bend=1, length=1.0), words), words, REGISTER)


def one_hour(words: Words) -> Page:
    return judged(history_of(synthetic.events(5000, bend=1, length=3600.0), words), words, REGISTER)


def aggregated(words: Words) -> Page:
    """Longer than what a page carries, see `LESS`."""
    return judged(history_of(synthetic.events(9000, bend=1), words), words, REGISTER)


# ------------------------------------------------------------------------------------------- with what else


def with_clocks(words: Words) -> Page:
    """A clock jumps; a program that it started has the true time."""
    events = synthetic.events(600)

    def tell(at: float, f: str, process: str = "cluster", **value: Any) -> None:
        event = {"index": len(events), "time": int(at * 1e9), "type": "info", "process": process, "f": f}
        events.append({**event, "value": value})

    jump = {"fault": 7, "kind": "clock_jump", "what": "n1 2 s behind", "asked": [3.0, 5.0], "nodes": ["n1"]}
    tell(3.0, "start-clock_jump", "nemesis", **jump, done=True, proof="read back")
    tell(5.0, "stop-clock_jump", "nemesis", **jump, done=True, proof="read back")
    for k in range(24):
        for node, how in (("n1", "called"), ("n2", "asked"), ("n3", "read back")):
            offset = -2.0 if node == "n1" and 3 <= k / 2 < 5 else 0.0
            tell(k / 2, "clock", node=node, offset=offset, error=0.001, how=how, pid=70)
    tell(4.0, "clock-gap", node="n1", gap=0.02, what="exec", exe="/bin/date", pid=93)
    return judged(history_of(events, words), words, REGISTER)


def with_traces(words: Words) -> Page:
    """The nodes say which operations they applied, when."""
    events = synthetic.events(600)
    for asked in [event for event in events if event["type"] == "invoke"]:
        for k, node in enumerate(synthetic.NODES[:3]):
            time, step = asked["time"] + (k + 1) * 100_000, {"ops": [asked["index"]], "took": 5e-5 * k}
            event = {"index": len(events), "time": time, "type": "info", "process": "cluster", "f": "apply"}
            events.append({**event, "value": {"node": node, **step}})
    return judged(history_of(events, words), words, REGISTER)


def without_faults(words: Words) -> Page:
    """Operations alone, of no run of ours."""
    events = [event for event in synthetic.events(600) if isinstance(event["process"], int)]
    history = History.from_events([said(event, words) for event in events], {"keyed": True})
    return Page(history, (check(history, "no-stale-read"),), words("history.jsonl"))


RUNS = {
    make.__name__.replace("_", " "): make
    for make in (
        valid, stale_read, lost_update, set_of, cycle, several, unknown, vacuous, empty, crashed, nodes_3,
        nodes_25, process_1, processes_200, one_second, one_hour, aggregated, with_clocks, with_traces,
        without_faults,
    )
}  # fmt: skip
LESS = {"WHOLE": 5000, "KEPT": 3000, "AROUND": 200}
"""Limits of `aggregate` by which a run of 9,000 operations is as one of a million."""


def run(name: str, folder: Path, words: Words) -> Made:
    """The page of a run."""
    page = RUNS[name](words)
    with pytest.MonkeyPatch.context() as patch:
        for limit, value in LESS.items() if name == "aggregated" else ():
            patch.setattr(aggregate, limit, value)
        return Made(write_page(folder / "index.html", page), page.history, page.verdicts)


def edn(folder: Path, words: Words) -> Made:
    """A history of Jepsen's, with its nemesis, drawn by the command: a read of what nobody wrote last."""
    source = folder / "history.edn"
    lines = [line for k in range(40) for line in _edn(k, words)]
    source.write_text("\n".join(lines), "utf-8")
    check_ = "linearizable:register"
    assert main(["report", "--keyed", "--check", check_, str(source)]) == 0
    history = read(source, keyed=True)
    return Made(folder / "history.html", history, (check(history, check_),))


def _edn(k: int, words: Words) -> Iterable[str]:
    def text(value: Any) -> str:
        return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False)

    if k % 20 == 10:
        grudge = f'{{"n1" #{{{text(words("n2"))}}}}}' if k == 10 else "nil"
        for time in (k * 20, k * 20 + 1):
            yield (f"{{:type :info, :process :nemesis, :f :{'start' if k == 10 else 'stop'}-partition, "
                   f":value {grudge}, :time {time * MS}}}")  # fmt: skip
    f, wrote = ("read", k - k % 4) if k % 4 else ("write", k)
    result = 4 if k == 31 else wrote
    asked = wrote if f == "write" else None
    for kind, time, value in (("invoke", k * 20 + 2, asked), ("ok", k * 20 + 14, result)):
        pair = f"[{text(words('x'))} {'nil' if value is None else text(words(value))}]"
        yield f"{{:process {k % 5}, :type :{kind}, :f :{f}, :value {pair}, :time {time * MS}}}"


def index(folder: Path, words: Words) -> Made:
    """A session of runs that ended in every way, each with its page."""
    entries = []
    for number, name in enumerate(("valid", "stale read", "unknown", "crashed", "empty")):
        page = RUNS[name](words)
        path = write_page(folder / str(number) / "index.html", page)
        entries.append(Entry.of(page, str(path.relative_to(folder))))
    path = write_index(folder / "index.html", entries, title=words("Chaos tests"), seed=words(7))
    return Made(path, History.from_events([]))


def comparison(folder: Path, words: Words) -> Made:
    """A failed run beside a good one."""
    path = write_comparison(folder / "both.html", stale_read(words), valid(words))
    return Made(path, History.from_events([]))


SCRIPTED = (*RUNS, "edn")
"""Pages with a script."""
VARIANTS = (*SCRIPTED, "index", "comparison")


def make(name: str, folder: Path, words: Words) -> Made:
    """The page of a variant, in a folder of its own."""
    folder.mkdir(parents=True)
    others = {"edn": edn, "index": index, "comparison": comparison}
    return others[name](folder, words) if name in others else run(name, folder, words)

"""What clients of a system like Kafka saw of its partitions: which message is at which offset.

What `harness.checkers.kafka` judges; knows the form of the operations, not what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.checkers.model import CheckError
from harness.checkers.spans import Span, mark, spans
from harness.checkers.words import key_of, shown
from harness.history import History, Operation

MOVES = ("send", "poll", "txn")
FS = (*MOVES, "subscribe", "assign", "crash", "debug-topic-partitions")


class Message(NamedTuple):
    """One message as an operation saw it: its place (None: not told) and what `mark` makes of its value."""

    key: Hashable
    offset: int | None
    value: Hashable


@dataclass(slots=True)
class Partition:
    """One key: its messages by offset and by value, each with the operation that showed it first."""

    name: Any
    at: dict[int, dict[Hashable, Span]] = field(default_factory=dict)
    offsets: dict[Hashable, dict[int, Span]] = field(default_factory=dict)
    sent: dict[Hashable, Span] = field(default_factory=dict)
    refused: dict[Hashable, Span] = field(default_factory=dict)
    polled: dict[Hashable, Span] = field(default_factory=dict)
    values: dict[Hashable, Any] = field(default_factory=dict)
    rank: dict[int, int] = field(default_factory=dict)  # of an offset among those that hold a message
    order: list[int] = field(default_factory=list)

    @property
    def title(self) -> str:
        return key_of(self.name)

    def said(self, value: Hashable) -> str:
        """A value as it was sent."""
        return shown(self.values[value])

    def place(self, message: Message) -> int | None:
        """Its rank in the log, by its offset, or by where else it was seen."""
        offset = message.offset
        if offset is None:
            offset = min(self.offsets.get(message.value, ()), default=None)
        return None if offset is None else self.rank.get(offset)


@dataclass(slots=True)
class Logs:
    """All partitions, and by operation what it sent and polled, in its order."""

    partitions: dict[Hashable, Partition] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    sends: dict[int, list[Message]] = field(default_factory=dict)
    polls: dict[int, list[Message]] = field(default_factory=dict)
    as_text: bool = False  # keys are strings whatever they were, as in JSON's maps

    def key(self, name: Any) -> Hashable:
        return mark(str(name) if self.as_text else name)

    def partition(self, name: Any) -> Partition:
        return self.partitions.setdefault(self.key(name), Partition(name))


def logs(history: History) -> Logs:
    """What was seen of each partition. Raises CheckError for what is no such operation.

    The offset of a send counts if it was acknowledged; what was polled counts always.
    """
    found = Logs(as_text=history.header.get("format") == "json")
    found.spans = spans(history, FS, "logs")
    for span in found.spans:
        if span.op.f in MOVES:
            _sent(found, span)
        elif span.op.f in ("assign", "subscribe") and not isinstance(span.op.value or (), tuple):
            raise CheckError(f"operation {span.op.index}, {span.op.f!r} of {span.op.value!r}: expected keys")
    for span in sorted(found.spans, key=lambda span: (span.ret, span.op.index)):
        if span.op.f in MOVES and span.happened:
            _shown(found, span)
    for partition in found.partitions.values():
        partition.order = sorted(partition.at)
        partition.rank = {offset: rank for rank, offset in enumerate(partition.order)}
    return found


def _parts(op: Operation, value: Any) -> tuple[Any, ...]:
    """The micro-operations; an invocation of a poll may leave them out."""
    if value is None and op.f == "poll":
        return (("poll",),)
    parts = value if isinstance(value, tuple) else ()
    good = all(
        isinstance(part, tuple) and part and (
            (part[0] == "send" and len(part) == 3) or (part[0] == "poll" and len(part) in (1, 2))
        )
        for part in parts
    )  # fmt: skip
    if not parts or not good:
        raise CheckError(
            f"operation {op.index}, {op.f!r} of {shown(value)}: expected [[send, key, value], [poll], ...]"
        )
    return parts


def _sent(found: Logs, span: Span) -> None:
    op = span.op
    messages = []
    for _, name, value in (part for part in _parts(op, op.value) if part[0] == "send"):
        partition = found.partition(name)
        message = mark(value)
        partition.values.setdefault(message, value)
        messages.append(Message(found.key(name), None, message))
        if op.type == "fail":
            partition.refused.setdefault(message, span)
        elif message in partition.sent:
            raise CheckError(
                f"operation {op.index} sends {shown(value)} to {partition.title}, as did operation "
                f"{partition.sent[message].op.index}: for logs each is sent once"
            )
        else:
            partition.sent[message] = span
    found.sends[op.index] = messages


def _shown(found: Logs, span: Span) -> None:
    """What an acknowledged operation told of offsets."""
    op = span.op
    told = _parts(op, op.result)
    asked = found.sends[op.index]
    reported = [part for part in told if part[0] == "send"]
    if len(reported) != len(asked):
        raise CheckError(
            f"operation {op.index}, {op.f!r}, sent {len(asked)} messages, reports {len(reported)}"
        )
    sends = [_acknowledged(op, message, part[2]) for message, part in zip(asked, reported, strict=True)]
    polls = [message for part in told if part[0] == "poll" for message in _polled(found, op, part[1:])]
    found.sends[op.index], found.polls[op.index] = sends, polls
    for message in (*sends, *polls):
        if message.offset is not None:
            partition = found.partitions[message.key]
            partition.at.setdefault(message.offset, {}).setdefault(message.value, span)
            partition.offsets.setdefault(message.value, {}).setdefault(message.offset, span)
    for message in polls:
        found.partitions[message.key].polled.setdefault(message.value, span)


def _acknowledged(op: Operation, message: Message, told: Any) -> Message:
    if mark(told) == message.value:
        return message
    if isinstance(told, tuple) and len(told) == 2 and mark(told[1]) == message.value:
        return message._replace(offset=_offset(op, told[0]))
    raise CheckError(f"operation {op.index}, {op.f!r}, reported {shown(told)}: expected [offset, value]")


def _polled(found: Logs, op: Operation, told: Iterable[Any]) -> list[Message]:
    messages = []
    by_key = next(iter(told), ()) or ()
    if not isinstance(by_key, tuple) or any(
        not isinstance(of_key, tuple) or len(of_key) != 2 or not isinstance(of_key[1] or (), tuple)
        for of_key in by_key
    ):
        raise CheckError(
            f"operation {op.index}, {op.f!r}, polled {shown(by_key)}: expected {{key: [[offset, value]]}}"
        )
    for name, pairs in by_key:
        partition = found.partition(name)
        for pair in pairs or ():
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise CheckError(f"operation {op.index}, {op.f!r}, polled {shown(pair)}, no [offset, value]")
            value = mark(pair[1])
            partition.values.setdefault(value, pair[1])
            messages.append(Message(found.key(name), _offset(op, pair[0]), value))
    return messages


def _offset(op: Operation, told: Any) -> int | None:
    if told is not None and type(told) is not int:
        raise CheckError(f"operation {op.index}, {op.f!r}, reported the offset {told!r}: expected an integer")
    return told

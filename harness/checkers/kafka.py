"""Logs as of Kafka: each message is at one offset, is seen by whoever passes it, and in order.

Finds what Jepsen's workload finds, save cycles of transactions, which are for the checkers of transactions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from harness.checkers.partition_log import Logs, Message, Partition, logs
from harness.checkers.spans import Anomaly, Span, from_nowhere, verdict_of
from harness.checkers.vacuity import missing
from harness.checkers.words import at, listed
from harness.history import History
from harness.verdict import Verdict

NOUNS = {
    "inconsistent-offsets": "offset with several messages",
    "duplicate": "message at several offsets",
    "lost-write": "lost message",
    "G1a": "poll of a failed send",
    "phantom": "message that nobody had sent",
    "precommitted-read": "poll of an uncommitted message",
    "int-poll-skip": "gap within a poll",
    "int-nonmonotonic-poll": "backward step within a poll",
    "int-nonmonotonic-send": "send within a transaction that went back",
    "int-send-skip": "send within a transaction that left a gap",
    "poll-skip": "gap between polls",
    "nonmonotonic-poll": "poll that went back",
    "nonmonotonic-send": "send that went back",
    "unseen": "message that the final polls did not see",
}
NEVER = ("no crash succeeded", "no debug-topic-partitions succeeded")  # nor need they
NORMAL = ("int-send-skip",)  # transactions of several producers interleave
REBALANCED = ("poll-skip", "nonmonotonic-poll")  # normal where the system moves partitions between consumers


def kafka(history: History) -> Verdict:
    """Judge ``send``, ``poll`` and ``txn`` of several of these, as Jepsen's kafka workload has them.

    Values are [[send, key, value], [poll], ...], and when acknowledged [[send, key, [offset, value]],
    [poll, {key: [[offset, value], ...]}], ...]; ``assign`` and ``subscribe`` have the keys, ``crash`` and
    ``debug-topic-partitions`` say nothing. The names of what is found are Jepsen's, and `phantom`. A message
    is lost where it was acknowledged with its offset and nobody polled it, although somebody polled that
    offset or a higher one. Between polls a process goes on where it stopped, until it assigns the key no
    longer. Only counted, as `warnings` in the evidence: gaps between the sends of a transaction; gaps and
    steps back between polls of a process that subscribed, since it may be rebalanced; and unseen messages,
    unless a final poll of a process to which the key is assigned came back without any. Raises CheckError
    for other operations and where a message of a key is sent twice.

    >>> told = [("send", [["send", "k", 7]], [["send", "k", [0, 7]]]),
    ...         ("send", [["send", "k", 8]], [["send", "k", [1, 8]]]),
    ...         ("poll", [["poll"]], [["poll", {"k": [[1, 8]]}]])]
    >>> history = History.from_events(
    ...     {"index": 2 * i + done, "time": i, "type": ("invoke", "ok")[done], "process": i, "f": f,
    ...      "value": (asked, got)[done]} for i, (f, asked, got) in enumerate(told) for done in (0, 1))
    >>> kafka(history).summary
    '1 lost message'
    """
    seen = logs(history)
    found = [
        *_in_partitions(seen),
        *_in_operations(seen),
        *_in_processes(seen),
    ]
    unseen, proven = _unseen(
        seen, {index for one in found if one.name == "lost-write" for index in one.others}
    )
    warnings: dict[str, int] = {}
    subscribed = _subscribed(seen)
    bad = []
    for anomaly in found:
        moved = anomaly.name in REBALANCED and anomaly.culprit.op.index in subscribed
        if moved or anomaly.name in NORMAL:
            warnings[anomaly.name] = warnings.get(anomaly.name, 0) + 1
        else:
            bad.append(anomaly)
    if unseen > len(proven):
        warnings["unseen"] = unseen - len(proven)
    partitions = seen.partitions.values()
    lacking = [] if any(partition.sent for partition in partitions) else ["no send was invoked"]
    if not any(partition.polled for partition in partitions):
        lacking.append("no message was polled")
    lacking += [why for why in missing(history) if not why.startswith(NEVER)]
    return verdict_of(
        "kafka", history, [*bad, *proven], kept="logs in order", nouns=NOUNS, lacking=lacking, general=False,
        evidence={
            "keys": len(partitions), "sent": sum(len(partition.sent) for partition in partitions),
            "polled": sum(len(partition.polled) for partition in partitions), "warnings": warnings,
        },
    )  # fmt: skip


# -------------------------------------------------------------------------------------- of each partition


def _in_partitions(seen: Logs) -> Iterator[Anomaly]:
    for key, log in seen.partitions.items():
        yield from _inconsistent(log)
        yield from _duplicates(log)
        yield from _from_nowhere(log)
        yield from _lost(seen, key, log)


def _inconsistent(log: Partition) -> Iterator[Anomaly]:
    for offset, there in log.at.items():
        if len(there) > 1:
            (one, first), (other, second) = list(there.items())[:2]
            others = (first.op.index, *_senders(log, (one, other)))
            yield Anomaly(
                "inconsistent-offsets",
                second,
                others,
                partial(_two_messages, log, offset, one, other, first, second),
            )


def _two_messages(
    log: Partition, offset: int, one: Hashable, other: Hashable, first: Span, second: Span
) -> str:
    return (
        f"at offset {offset:,} of {log.title} process {first.op.process} saw {log.said(one)} by "
        f"{at(first.op.end or 0)[0]}, and process {second.op.process} {log.said(other)} by "
        f"{at(second.op.end or 0)[0]}"
    )


def _duplicates(log: Partition) -> Iterator[Anomaly]:
    for value, offsets in log.offsets.items():
        if len(offsets) > 1:
            (one, first), (other, second) = list(offsets.items())[:2]
            others = (first.op.index, *_senders(log, (value,)))
            yield Anomaly("duplicate", second, others, partial(_twice, log, value, one, other, first, second))


def _twice(log: Partition, value: Hashable, one: int, other: int, first: Span, second: Span) -> str:
    return (
        f"{log.said(value)}, sent to {log.title} once, is there twice: process {first.op.process} "
        f"saw it at offset {one:,} by {at(first.op.end or 0)[0]}, process {second.op.process} at offset "
        f"{other:,} by {at(second.op.end or 0)[0]}"
    )


def _from_nowhere(log: Partition) -> Iterator[Anomaly]:
    for value, poll in log.polled.items():
        send = log.sent.get(value)
        refused = log.refused.get(value)
        if send is not None and send.call <= poll.ret:
            continue
        why = send or refused
        name = "G1a" if send is None and refused is not None else "phantom"
        yield Anomaly(
            name, poll, () if why is None else (why.op.index,), partial(_nowhere, log, value, poll, why)
        )


def _nowhere(log: Partition, value: Hashable, poll: Span, why: Span | None) -> str:
    op = poll.op
    text = f"process {op.process} polled {log.said(value)} of {log.title} at {at(op.start)[0]}"
    return from_nowhere(text, why, "send", "which nobody sent")


def _lost(seen: Logs, key: Hashable, log: Partition) -> Iterator[Anomaly]:
    """Messages that must be there, and that nobody polled although somebody passed them."""
    highest: tuple[int, Span] | None = None
    for value, poll in log.polled.items():
        offset = min(log.offsets.get(value, ()), default=None)
        if offset is not None and (highest is None or offset > highest[0]):
            highest = (offset, poll)
    if highest is None:
        return
    for value, offsets in log.offsets.items():
        if value not in log.polled and max(offsets) <= highest[0]:
            send = log.sent[value]
            yield Anomaly(
                "lost-write",
                highest[1],
                (send.op.index,),
                partial(_passed, log, value, offsets, send, *highest),
            )


def _passed(
    log: Partition, value: Hashable, offsets: Iterable[int], send: Span, offset: int, poll: Span
) -> str:
    end, when = at(send.op.end or 0, poll.op.start)
    return (
        f"process {send.op.process}'s send of {log.said(value)} to {log.title}, acknowledged at {end} "
        f"with offset {max(offsets):,}, was never polled, although process {poll.op.process} polled offset "
        f"{offset:,} at {when}"
    )


def _senders(log: Partition, values: Iterable[Hashable]) -> tuple[int, ...]:
    return tuple(log.sent[value].op.index for value in values if value in log.sent)


# ------------------------------------------------------------------------- of each operation and process


def _in_operations(seen: Logs) -> Iterator[Anomaly]:
    for span in seen.spans:
        if not span.happened:
            continue
        sends, polls = seen.sends.get(span.op.index, []), seen.polls.get(span.op.index, [])
        sent = {(message.key, message.value): message for message in sends}
        for message in polls:
            if (message.key, message.value) in sent:
                yield Anomaly("precommitted-read", span, (), partial(_own, seen, span, message))
                break
        for messages, what in ((polls, "poll"), (sends, "send")):
            for before, after in _successive(messages):
                yield from _steps(seen, what, True, span, span, before, after)


def _own(seen: Logs, span: Span, message: Message) -> str:
    log = seen.partitions[message.key]
    return (
        f"process {span.op.process} polled {log.said(message.value)} of {log.title} in the very "
        f"transaction that sent it, at {at(span.op.start)[0]}"
    )


def _successive(messages: Sequence[Message]) -> Iterator[tuple[Message, Message]]:
    by_key: dict[Hashable, list[Message]] = {}
    for message in messages:
        by_key.setdefault(message.key, []).append(message)
    for of_key in by_key.values():
        yield from pairwise(of_key)


def _in_processes(seen: Logs) -> Iterator[Anomaly]:
    """Where each process went on polling and sending, from one acknowledged operation to the next."""
    polled: dict[int, dict[Hashable, tuple[Span, Message]]] = {}
    sent: dict[int, dict[Hashable, tuple[Span, Message]]] = {}
    for span in seen.spans:
        if not span.happened:
            continue
        op = span.op
        if op.f in ("assign", "subscribe"):
            kept = {seen.key(name) for name in op.value or ()}
            last = polled.get(op.process, {})
            polled[op.process] = {key: one for key, one in last.items() if key in kept}
        for what, messages, lasts in (
            ("poll", seen.polls.get(op.index, ()), polled),
            ("send", seen.sends.get(op.index, ()), sent),
        ):
            last = lasts.setdefault(op.process, {})
            begun = set()
            for message in messages:
                if message.key not in begun and (before := last.get(message.key)):
                    yield from _steps(seen, what, False, before[0], span, before[1], message)
                begun.add(message.key)
                last[message.key] = (span, message)


def _steps(
    seen: Logs, what: str, within: bool, first: Span, span: Span, before: Message, after: Message
) -> Iterator[Anomaly]:
    """What is wrong with two messages that one process polled, or sent, one after the other."""
    log = seen.partitions[before.key]
    old, new = log.place(before), log.place(after)
    if old is None or new is None or new - old == 1:
        return
    prefix = "int-" if within else ""
    others = {first.op.index, *_by_whom(log, before), *_by_whom(log, after)}
    if new <= old:
        name = f"{prefix}nonmonotonic-{what}"
        say = partial(_back, log, what, within, first, span, before, after)
        yield Anomaly(name, span, tuple(sorted(others)), say)
    elif what == "poll" or within:
        skipped = log.order[old + 1]
        witness = next(iter(log.at[skipped].values()))
        values = log.at[skipped]
        others |= {witness.op.index, *_senders(log, values)}
        say = partial(_over, log, what, within, first, span, (before, after), skipped)
        yield Anomaly(f"{prefix}{what}-skip", span, tuple(sorted(others)), say)


def _by_whom(log: Partition, message: Message) -> tuple[int, ...]:
    """Who showed where a message is, if its own operation did not."""
    if message.offset is not None:
        return ()
    return (min(log.offsets[message.value].items())[1].op.index,)


def _where(log: Partition, message: Message) -> int:
    return message.offset if message.offset is not None else min(log.offsets[message.value])


def _did(
    log: Partition, what: str, within: bool, first: Span, span: Span, before: Message, after: Message
) -> str:
    old, new = _where(log, before), _where(log, after)
    verb = "polled" if what == "poll" else "sent"
    when, then = at(span.op.start, first.op.start) if not within else [at(span.op.start)[0]] * 2
    later = "in the same operation" if within else f"at {then}"
    return (
        f"process {span.op.process} {verb} {log.said(after.value)} of {log.title}, offset {new:,}, "
        f"at {when} right after {log.said(before.value)}, offset {old:,}, {later}"
    )


def _back(
    log: Partition, what: str, within: bool, first: Span, span: Span, before: Message, after: Message
) -> str:
    return f"{_did(log, what, within, first, span, before, after)}: it went back"


def _over(
    log: Partition,
    what: str,
    within: bool,
    first: Span,
    span: Span,
    both: tuple[Message, Message],
    skipped: int,
) -> str:
    there = listed(log.said(value) for value in log.at[skipped])
    return f"{_did(log, what, within, first, span, *both)}: offset {skipped:,} between them holds {there}"


def _subscribed(seen: Logs) -> set[int]:
    """Operations of processes whose partitions the system chose."""
    by_system: dict[int, bool] = {}
    found = set()
    for span in seen.spans:
        if span.op.f in ("assign", "subscribe") and span.op.type != "fail":
            by_system[span.op.process] = span.op.f == "subscribe"
        elif by_system.get(span.op.process):
            found.add(span.op.index)
    return found


def _unseen(seen: Logs, lost: set[int]) -> tuple[int, list[Anomaly]]:
    """How many acknowledged messages nobody polled, and those that a final poll should have seen."""
    assigned: dict[int, dict[Hashable, Span]] = {}
    # the final poll that began last of those that had the key and saw none, and what assigned it
    empty: dict[Hashable, tuple[Span, Span]] = {}
    full: dict[Hashable, int] = {}  # when the last final poll began that saw some
    for span in seen.spans:
        op = span.op
        if op.f in ("assign", "subscribe") and span.happened:
            named = (op.value or ()) if op.f == "assign" else ()
            assigned[op.process] = {seen.key(name): span for name in named}
        elif op.f in ("poll", "txn") and op.final and span.happened:
            got = {message.key for message in seen.polls.get(op.index, ())}
            full.update(dict.fromkeys(got, span.call))
            had = assigned.get(op.process, {})
            empty.update({key: (span, since) for key, since in had.items() if key not in got})
    count, proven = 0, []
    for key, log in seen.partitions.items():
        for value, send in log.sent.items():
            if not send.happened or value in log.polled or send.op.index in lost:
                continue
            count += 1
            poll, since = empty.get(key, (None, None))
            if poll is not None and since is not None and poll.call > max(send.ret, full.get(key, 0)):
                say = partial(_never, log, value, send, poll)
                proven.append(Anomaly("unseen", poll, (send.op.index, since.op.index), say))
    return count, proven


def _never(log: Partition, value: Hashable, send: Span, poll: Span) -> str:
    end, when = at(send.op.end or 0, poll.op.start)
    return (
        f"process {send.op.process}'s send of {log.said(value)} to {log.title}, acknowledged at {end}, "
        f"was never polled, not even by process {poll.op.process}'s final poll at {when}, which found nothing"
    )

"""Logs as of Kafka: each anomaly, and what only looks like one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.checkers import CheckError, kafka
from tests import fuzz_stores
from tests.unit.checkers.histories import history
from tests.unit.checkers.stores import anomalies, op, sentence, smallest

Ops = list[dict[str, Any]]


def send(process: int, start: float, type: str = "ok", key: str = "k", **at: int | None) -> dict[str, Any]:
    """Messages by name, with their offsets; None: not told."""
    asked = [["send", key, value] for value in at]
    told = [["send", key, value if offset is None else [offset, value]] for value, offset in at.items()]
    return op(process, "send" if len(at) == 1 else "txn", asked, start, start + 0.5, told, type)


def poll(process: int, start: float, key: str = "k", final: bool = False, **at: int | None) -> dict[str, Any]:
    told = {key: [[offset, value] for value, offset in at.items()]} if at else {}
    return op(process, "poll", [["poll"]], start, start + 0.5, [["poll", told]], final=final)


def keys(process: int, f: str, start: float, *names: str) -> dict[str, Any]:
    return op(process, f, list(names), start, start + 0.1)


A, B, C = send(0, 0, a=0), send(1, 1, b=1), send(2, 2, c=2)


@pytest.mark.parametrize(
    "operations, name, said",
    [
        ([A, B, C, poll(5, 4, a=0), poll(6, 5, c=2)], "lost-write",
         "process 1's send of 'b' to k, acknowledged at 1.50 s with offset 1, was never polled, although process "
         "6 polled offset 2 at 5.00 s"),
        ([A, B, send(2, 2, c=None), poll(6, 3, a=0, b=1), poll(5, 4, a=0, c=1)], "inconsistent-offsets",
         "at offset 1 of k process 1 saw 'b' by 1.50 s, and process 5 'c' by 4.50 s"),
        ([A, poll(5, 4, a=0), poll(6, 5, a=7)], "duplicate",
         "'a', sent to k once, is there twice: process 0 saw it at offset 0 by 0.50 s, process 6 at offset 7 by "
         "5.50 s"),
        ([A, send(1, 1, "fail", b=1), poll(5, 4, a=0, b=1)], "G1a",
         "process 5 polled 'b' of k at 4.00 s although process 1's send of it was reported as failed"),
        ([A, poll(5, 4, a=0, x=1)], "phantom", "process 5 polled 'x' of k at 4.00 s, which nobody sent"),
        ([A, poll(5, 1, a=0, b=1), send(1, 2, b=1)], "phantom",
         "process 5 polled 'b' of k at 1.00 s, before process 1's send of it was invoked at 2.00 s"),
        ([A, op(1, "txn", [["send", "k", "b"], ["poll"]], 1, 2, [["send", "k", [1, "b"]], ["poll", {"k": [[1, "b"]]}]]), poll(5, 4, a=0)],
         "precommitted-read",
         "process 1 polled 'b' of k in the very transaction that sent it, at 1.00 s"),
        ([A, B, C, poll(6, 4, a=0, c=2), poll(7, 5, b=1)], "int-poll-skip",
         "process 6 polled 'c' of k, offset 2, at 4.00 s right after 'a', offset 0, in the same operation: offset 1 "
         "between them holds 'b'"),
        ([A, B, poll(6, 4, b=1, a=0)], "int-nonmonotonic-poll",
         "process 6 polled 'a' of k, offset 0, at 4.00 s right after 'b', offset 1, in the same operation: it went "
         "back"),
        ([send(0, 0, a=1, b=0), poll(5, 2, b=0, a=1)], "int-nonmonotonic-send",
         "process 0 sent 'b' of k, offset 0, at 0.00 s right after 'a', offset 1, in the same operation: it went back"),
        ([A, B, C, poll(6, 4, a=0), poll(6, 5, c=2), poll(7, 5, b=1)], "poll-skip",
         "process 6 polled 'c' of k, offset 2, at 5.00 s right after 'a', offset 0, at 4.00 s: offset 1 between them "
         "holds 'b'"),
        ([A, B, poll(6, 4, a=0, b=1), poll(6, 5, a=0)], "nonmonotonic-poll",
         "process 6 polled 'a' of k, offset 0, at 5.00 s right after 'b', offset 1, at 4.00 s: it went back"),
        ([send(0, 0, a=1), send(0, 1, b=0), poll(5, 2, b=0, a=1)], "nonmonotonic-send",
         "process 0 sent 'b' of k, offset 0, at 1.00 s right after 'a', offset 1, at 0.00 s: it went back"),
        ([A, B, poll(6, 3, a=0), keys(5, "assign", 4, "k"), poll(5, 5, final=True)], "unseen",
         "process 1's send of 'b' to k, acknowledged at 1.50 s, was never polled, not even by process 5's final poll "
         "at 5.00 s, which found nothing"),
    ],
)  # fmt: skip
def test_each_anomaly(operations: Ops, name: str, said: str) -> None:
    verdict = smallest(kafka, history(operations))
    assert (list(anomalies(verdict)), sentence(verdict)) == ([name], said)


@pytest.mark.parametrize(
    "operations, warnings",
    [
        ([A, B, C, poll(5, 4, a=0, b=1), poll(5, 5, c=2)], {}),
        ([A, B, C, poll(5, 4, a=0), poll(6, 5, b=1), poll(6, 6, c=2)], {}),  # a consumer may begin anywhere
        ([A, send(1, 1, b=7), poll(5, 4, a=0, b=7)], {}),  # what holds no message is no gap
        ([A, send(1, 1, "info", b=1), poll(5, 4, a=0)], {}),
        ([A, send(1, 1, "info", b=1), poll(5, 4, a=0, b=1)], {}),
        ([A, send(1, 1, b=None), poll(5, 4, a=0, b=1)], {}),  # the offset was not told
        ([A, B, poll(5, 4, a=0)], {"unseen": 1}),
        ([A, B, poll(5, 4, a=0), poll(5, 5, final=True)], {"unseen": 1}),  # nobody had assigned the key
        ([A, B, keys(5, "assign", 3, "k"), poll(5, 3.5, a=0), poll(5, 5, final=True), poll(6, 7, b=1)], {}),
        ([A, B, C, poll(5, 4, a=0, b=1), keys(5, "assign", 5, "z"), poll(5, 6, a=0), poll(6, 7, c=2)], {}),
        ([A, B, C, keys(5, "subscribe", 3, "k"), poll(5, 4, a=0), poll(5, 5, c=2), poll(6, 7, b=1)], {"poll-skip": 1}),
        ([A, B, keys(5, "subscribe", 3, "k"), poll(5, 4, a=0, b=1), poll(5, 5, b=1)], {"nonmonotonic-poll": 1}),
        ([send(0, 0, a=0, c=2), send(1, 0, b=1), poll(5, 4, a=0, b=1, c=2)], {"int-send-skip": 1}),
        ([A, op(9, "crash", None, 1, 2, type="info"), poll(5, 4, a=0)], {}),
    ],
)  # fmt: skip
def test_what_is_in_order_or_only_worth_a_warning(operations: Ops, warnings: dict[str, int]) -> None:
    verdict = kafka(history(operations, {"format": "edn"}))
    assert (verdict.judgement, verdict.evidence["warnings"]) == ("valid", warnings), verdict


def test_a_crash_need_not_succeed_and_without_messages_nothing_is_shown() -> None:
    crash = op(9, "crash", None, 1, 2, type="info")
    assert kafka(history([A, crash, poll(5, 4, a=0)])).judgement == "valid"
    assert kafka(history([A, poll(5, 4)])).summary == "no message was polled"
    assert kafka(history([poll(5, 4)])).summary == "no send was invoked"


def test_keys_of_json_are_strings() -> None:
    sends = op(0, "send", [["send", 1, 5]], 0, 1, [["send", 1, [0, 5]]])
    polls = op(1, "poll", [["poll"]], 2, 3, [["poll", {"1": [[0, 5]]}]])
    assert kafka(history([sends, polls], {"format": "json"})).judgement == "valid"
    assert kafka(history([sends, polls], {"format": "edn"})).judgement == "invalid"


@pytest.mark.parametrize(
    "wrong, said",
    [
        (op(0, "send", 7, 0, 1), "expected .*send, key, value"),
        (op(0, "send", [["send", "k", 1]], 0, 1, [["send", "k", [0, 2]]]), r"expected \[offset, value\]"),
        (op(0, "send", [["send", "k", 1]], 0, 1, [["send", "k", ["a", 1]]]), "reported the offset 'a'"),
        (op(0, "send", [["send", "k", 1], ["send", "k", 1]], 0, 1), "as did operation 0"),
        (op(0, "poll", [["poll"]], 0, 1, [["poll", 7]]), "expected {key"),
        (op(0, "poll", [["poll"]], 0, 1, [["poll", {"k": [7]}]]), r"polled 7, no \[offset, value\]"),
        (op(0, "txn", [["send", "k", 1]], 0, 1, [["poll", {}]]), "sent 1 messages, reports 0"),
        (op(0, "assign", 7, 0, 1), "expected keys"),
        (op(0, "seek", 7, 0, 1), "logs can be judged where"),
    ],
)  # fmt: skip
def test_what_has_another_form_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckError, match=said):
        kafka(history([wrong]))


@pytest.mark.parametrize("seed", range(150))
def test_witnesses_are_minimal(seed: int) -> None:
    h, said, _ = fuzz_stores.STORES["kafka"](random.Random(seed))
    if said.startswith("invalid"):
        smallest(kafka, h)

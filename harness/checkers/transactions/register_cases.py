"""What is said of the anomalies that registers show without a cycle; `what` is a version: ``x = 1``."""

from __future__ import annotations

from collections.abc import Hashable

from harness.checkers.transactions.found import Case, Namer
from harness.checkers.transactions.reading import told
from harness.checkers.words import shown


def internal_case(t: int, key: Hashable, what: str, expected: Hashable) -> Case:
    def text(name: Namer) -> str:
        return f"{name(t)} read {what}, although by what it did before it must be {shown(told(expected))}"

    return Case("internal", (t,), t, text, key=key)


def garbage_case(t: int, key: Hashable, what: str) -> Case:
    def text(name: Namer) -> str:
        return f"{name(t)} read {what}, which nobody wrote"

    return Case("garbage-read", (t,), t, text, key=key)


def future_case(t: int, key: Hashable, what: str) -> Case:
    def text(name: Namer) -> str:
        return f"{name(t)} read {what} before it wrote it itself"

    return Case("future-read", (t,), t, text, key=key)


def aborted_case(t: int, by: int, key: Hashable, what: str) -> Case:
    def text(name: Namer) -> str:
        return f"{name(t)} read {what} although {name(by)}, which wrote it, was reported as failed"

    return Case("G1a", (by, t), t, text, key=key)


def intermediate_case(t: int, by: int, key: Hashable, what: str) -> Case:
    def text(name: Namer) -> str:
        return f"{name(t)} read {what}, which {name(by)} wrote before it wrote the key again"

    return Case("G1b", (by, t), t, text, key=key)


def lost_case(one: int, other: int, key: Hashable, what: str) -> Case:
    def text(name: Namer) -> str:
        return f"{name(one)} and {name(other)} both read {what} and then replaced it: neither saw the other"

    return Case("lost-update", (one, other), other, text, key=key)

"""What is said of the anomalies that lists show without a cycle."""

from __future__ import annotations

from collections.abc import Hashable

from harness.checkers.transactions.found import Case, Namer
from harness.checkers.transactions.reading import key_name, told
from harness.checkers.words import shown

Version = tuple[Hashable, ...]


def internal_case(t: int, key: Hashable, expected: str, version: Version) -> Case:
    def text(name: Namer) -> str:
        return (
            f"{name(t)} read {list_name(version)} of {key_name(key)}, although by what it did before it must "
            f"be {expected}"
        )

    return Case("internal", (t,), t, text, key=key)


def future_case(t: int, key: Hashable, element: Hashable) -> Case:
    def text(name: Namer) -> str:
        return f"{name(t)} read {element_name(element)} in {key_name(key)} before it appended it itself"

    return Case("future-read", (t,), t, text, key=key)


def duplicate_case(t: int, key: Hashable, element: Hashable, version: Version) -> Case:
    def text(name: Namer) -> str:
        return (
            f"{name(t)} read {list_name(version)} of {key_name(key)}, {element_name(element)} more than once"
        )

    return Case("duplicate-elements", (t,), t, text, key=key)


def garbage_case(t: int, key: Hashable, element: Hashable) -> Case:
    def text(name: Namer) -> str:
        return f"{name(t)} read {element_name(element)} in {key_name(key)}, which nobody appended"

    return Case("garbage-read", (t,), t, text, key=key)


def aborted_case(t: int, by: int, key: Hashable, element: Hashable) -> Case:
    def text(name: Namer) -> str:
        return (
            f"{name(t)} read {element_name(element)} in {key_name(key)} although {name(by)}, which appended "
            "it, was reported as failed"
        )

    return Case("G1a", (by, t), t, text, key=key)


def lost_case(one: int, other: int, key: Hashable, version: Version) -> Case:
    def text(name: Namer) -> str:
        return (
            f"{name(one)} and {name(other)} both read {list_name(version)} of {key_name(key)} and then "
            "appended to it: neither saw the other"
        )

    return Case("lost-update", (one, other), max(one, other), text, key=key)


def incompatible_case(t: int, by: int, key: Hashable, version: Version, longest: Version) -> Case:
    def text(name: Namer) -> str:
        both = f"{name(t)} read {list_name(version)} of {key_name(key)}"
        other = "and" if by == t else f"but {name(by)}"
        return f"{both}, {other} {list_name(longest)}: neither is a prefix of the other"

    shown_ = (t,) if by == t else (t, by)
    return Case("incompatible-order", shown_, max(shown_), text, key=key)


def disordered_case(t: int, by: int, key: Hashable, before: Hashable, element: Hashable) -> Case:
    def text(name: Namer) -> str:
        return (
            f"{name(t)} read {element_name(element)} in {key_name(key)} without {element_name(before)} "
            f"before it, although {name(by)} appended them in that order"
        )

    return Case("incompatible-order", tuple(dict.fromkeys((by, t))), t, text, key=key)


def intermediate_case(t: int, by: int, key: Hashable, element: Hashable) -> Case:
    def text(name: Namer) -> str:
        return (
            f"{name(t)} read {key_name(key)} up to {element_name(element)}, which {name(by)} appended before "
            "it appended more to it"
        )

    return Case("G1b", (by, t), t, text, key=key)


def dirty_case(failed: int, by: int, reader: int, key: Hashable, element: Hashable) -> Case:
    def text(name: Namer) -> str:
        return (
            f"{name(by)}'s append of {element_name(element)} to {key_name(key)} came after one of "
            f"{name(failed)}, which was reported as failed, as {name(reader)} read"
        )

    return Case("dirty-update", tuple(dict.fromkeys((failed, by, reader))), by, text, key=key)


def element_name(element: Hashable) -> str:
    return shown(told(element))


def list_name(version: Version) -> str:
    return shown([told(element) for element in version])

"""The replicated state machine: registers, one set, and what each client session was last told."""

from __future__ import annotations

import marshal
from typing import Any

# (term, session, id, f, key, value); the no-op of a new leader has no session.
Entry = tuple[int, str, int, str, Any, Any]

STALE = "stale"
"""Result of a request that its session has already left behind: applied earlier, or never to be."""


class Store:
    """What a node's applied entries add up to: equal on every node that applied the same entries.

    A session sends one request at a time with growing ids, so one row per session is an exact filter of
    duplicates (Raft, section 8), and it is part of the snapshot like everything else.
    """

    def __init__(self, bug: str | None = None) -> None:
        self.bug = bug
        self.registers: dict[Any, Any] = {}
        self.elements: dict[Any, None] = {}
        self.sessions: dict[str, tuple[int, Any]] = {}

    def apply(self, entry: Entry) -> Any:
        """Apply one committed entry, once; its result: True or False for a cas, else None, or STALE."""
        _, session, number, f, key, value = entry
        if session and self.bug != "double_apply":
            last, result = self.sessions.get(session, (-1, None))
            if number <= last:
                return result if number == last else STALE
        done: Any = None
        if f == "write":
            self.registers[key] = value
        elif f == "cas":
            done = self.registers.get(key) == value[0]
            if done:
                self.registers[key] = value[1]
        elif f == "add":
            self.elements[value] = None
        if session:
            self.sessions[session] = (number, done)
        return done

    def read(self, key: Any) -> Any:
        """The register `key`; for key None the elements of the set, in order."""
        return self.registers.get(key) if key is not None else sorted(self.elements, key=_order)

    def dump(self) -> bytes:
        """The whole state for a snapshot."""
        return marshal.dumps((self.registers, list(self.elements), self.sessions))

    def load(self, blob: bytes) -> None:
        """Become the state that `dump` wrote."""
        self.registers, elements, self.sessions = marshal.loads(blob)
        self.elements = dict.fromkeys(elements)


def _order(element: Any) -> tuple[bool, Any]:
    return (True, str(element)) if isinstance(element, str) else (False, element)

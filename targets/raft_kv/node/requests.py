"""What clients may ask and what they may hear: requests, and the catalogue of errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

KINDS = ("read", "write", "cas", "add")
ENCODE = json.JSONEncoder(separators=(",", ":")).encode

# name -> (definite: it did not happen and never will, text)
ERRORS: Mapping[str, tuple[bool, str]] = {
    "malformed": (True, "the request is not one"),
    "overloaded": (True, "too many requests wait on this node"),
    "no-leader": (True, "this node knows no leader, and passed the request to nobody"),
    "precondition": (True, "precondition failed"),
    "timeout": (False, "no answer within the request's time; it may happen yet"),
    "stale": (False, "the session has gone on since; it may have happened before"),
}


class Sink(Protocol):
    """Where an answer goes."""

    def answer(self, line: bytes) -> None: ...


@dataclass(slots=True, eq=False)
class Request:
    """A client's request while this node owes the answer.

    `deadline` and `give_up` (while nobody was asked) are loop times. `at` is the node that has it, ``""``
    while it waits for a leader; `sent` says whether it may have got into a log.
    """

    sink: Sink
    f: str
    key: Any
    value: Any
    session: str
    number: int
    deadline: float
    give_up: float
    at: str = ""
    sent: bool = False


def parse(message: Any, sink: Sink, now: float, patience: float) -> Request:
    """A request from its JSON; raises ValueError that says what is wrong with it."""
    if not isinstance(message, dict) or message.get("f") not in KINDS:
        raise ValueError(f"f must be one of {', '.join(KINDS)}, ping, status")
    f, key, value = message["f"], message.get("key"), message.get("value")
    if not isinstance(key, (str, int, float, type(None))):
        raise ValueError(f"key {key!r} must be a string, a number or null")
    if f in ("write", "cas") and key is None:
        raise ValueError(f"{f} needs a key")
    if f == "cas" and not (isinstance(value, list) and len(value) == 2):
        raise ValueError(f"the value of a cas is [old, new], not {value!r}")
    if f == "add" and (key is not None or not isinstance(value, (str, int, float))):
        raise ValueError(f"an add has key null and a string or a number as value, not {value!r}")
    session, number = message.get("session", ""), message.get("id", -1)
    if f != "read" and not (session and isinstance(session, str) and isinstance(number, int) and number >= 0):
        raise ValueError(f"{f} needs a session (text) and an id that grows within it")
    within = message.get("within", 1.0)
    if not isinstance(within, (int, float)) or not 0 < within <= 3600:
        raise ValueError(f"within {within!r} must be seconds, up to 3600")
    return Request(sink, f, key, value, session, number, now + within, now + min(within, patience))


def success(value: Any) -> bytes:
    """The line for an operation that happened."""
    return b'{"ok":null}\n' if value is None else f'{{"ok":{ENCODE(value)}}}\n'.encode()


def failure(error: str, text: str = "") -> bytes:
    """The line for an error of the catalogue."""
    definite, usual = ERRORS[error]
    return (ENCODE({"error": error, "definite": definite, "text": text or usual}) + "\n").encode()

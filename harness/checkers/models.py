"""The data types that come with the engine, by name.

Each is a pure step function; differs from `harness.checkers.model` in that it says what a register or a
queue is, not what a model is. Values are what clients ask, results what they were told; None as the result of
a ``dequeue``, ``pop`` or ``get`` says that there was nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from harness.checkers.model import NOT_KNOWN, CheckError, Effect, Inconsistent, Model, same

Next = Hashable | Inconsistent


def _told(result: Any, true: Any, what: str) -> str:
    """Why `result` contradicts what is `true`, or ""."""
    return "" if result is NOT_KNOWN or same(result, true) else f"{what} {result!r} but there is {true!r}"


def _seen(state: Any, result: Any, true: Any, what: str) -> Next:
    """`state`, unless `result` contradicts what is `true` of it."""
    why = _told(result, true, what)
    return Inconsistent(why) if why else state


# ------------------------------------------------------------------------------------------- registers


def _register(state: Any, f: str, value: Any, result: Any) -> Next:
    if f == "read":
        if result is NOT_KNOWN or same(state, result):
            return state  # type: ignore[no-any-return]
        return Inconsistent(f"read {result!r} but it holds {state!r}")
    if f == "write":
        return value  # type: ignore[no-any-return]
    old, new = value
    if result is False:
        return Inconsistent(f"cas from {old!r} was refused but it holds that") if same(state, old) else state
    if same(state, old):
        return new  # type: ignore[no-any-return]
    return Inconsistent(f"cas from {old!r} succeeded but it holds {state!r}")


def effect(f: str, value: Any, result: Any) -> Effect:
    """What a read, write or cas of a register does."""
    if f == "read":
        return Effect() if result is NOT_KNOWN else Effect(needs=result)
    if f == "write":
        return Effect(makes=value)
    old, new = value
    if result is False:
        return Effect(unlike=old)
    return Effect(needs=old) if same(old, new) else Effect(needs=old, makes=new)


def _pair(*fs: str) -> Callable[[str, Any], str]:
    """The shape of operations `fs` whose value is a pair."""

    def shape(f: str, value: Any) -> str:
        right = f not in fs or (isinstance(value, tuple) and len(value) == 2)
        return "" if right else f"a {f} has {'[old, new]' if f == 'cas' else '[key, value]'}"

    return shape


def _pairs(f: str, value: Any) -> str:
    right = f != "write" or (
        isinstance(value, tuple) and all(isinstance(p, tuple) and len(p) == 2 for p in value)
    )
    return "" if right else "a write has [[key, value], ...]"


def _multi_register(state: Any, f: str, value: Any, result: Any) -> Next:
    """Several registers at once: ``write`` and ``read`` of [[key, value], ...]; a read reports such."""
    held = dict(state)
    if f == "write":
        return frozenset({**held, **dict(value)}.items())
    for key, seen in () if result is NOT_KNOWN else result:
        if not same(held.get(key), seen):
            return Inconsistent(f"read {seen!r} from {key!r} but it holds {held.get(key)!r}")
    return state  # type: ignore[no-any-return]


def _map(state: Any, f: str, value: Any, result: Any) -> Next:
    """A map: ``put`` of [key, value], ``get`` and ``delete`` of a key."""
    held = dict(state)
    if f == "put":
        held[value[0]] = value[1]
    elif f == "delete":
        held.pop(value, None)
    else:
        return _seen(state, result, held.get(value), f"got {value!r} =")
    return frozenset(held.items())


def _versioned(state: Any, f: str, value: Any, result: Any) -> Next:
    """``write`` reports a version, greater than all before it; ``read`` reports [value, version].

    Of a write that nobody heard back from only the least version that it may have is known, until it is read.
    """
    held, version, known = state
    if result is NOT_KNOWN:
        return (value, version + 1, False) if f == "write" else state
    if f == "write":
        later = result > version
        return (value, result, True) if later else Inconsistent(f"wrote {result!r} but there is {version!r}")
    seen, its = result
    if not same(seen, held) or its < version or (known and its > version):
        return Inconsistent(f"read {result!r} but there is {[held, version]!r}")
    return (held, its, True)


# ------------------------------------------------------------------------------------------------ locks


def _mutex(state: Any, f: str, value: Any, result: Any) -> Next:
    if f == "acquire":
        return Inconsistent("acquired but it is held") if state else True
    return False if state else Inconsistent("released but nobody holds it")


def _owned_mutex(state: Any, f: str, value: Any, result: Any) -> Next:
    """The value of ``acquire`` and ``release`` is the owner."""
    holder = state[0] if state else None
    if f == "acquire":
        return Inconsistent(f"{value!r} acquired it but {holder!r} holds it") if state else (value,)
    if not state or not same(holder, value):
        return Inconsistent(f"{value!r} released it but {f'{holder!r} holds it' if state else 'it is free'}")
    return ()


def _fenced_mutex(state: Any, f: str, value: Any, result: Any) -> Next:
    """``acquire`` reports a token, greater than all before it."""
    held, last = state
    if f == "release":
        return (False, last) if held else Inconsistent("released but nobody holds it")
    if held:
        return Inconsistent("acquired but it is held")
    token = last + 1 if result is NOT_KNOWN else result
    return (True, token) if token > last else Inconsistent(f"token {token!r} is not above {last!r}")


# -------------------------------------------------------------------------------------- counters and sets


def _counter(state: Any, f: str, value: Any, result: Any) -> Next:
    if f == "add":
        return state + value  # type: ignore[no-any-return]
    return _seen(state, result, state, "read")


def _set(state: Any, f: str, value: Any, result: Any) -> Next:
    """``add``, ``remove``, ``contains`` (reports whether) and ``read`` (reports all, in any order)."""
    if f == "add":
        return state | {value}  # type: ignore[no-any-return]
    if f == "remove":
        return state - {value}  # type: ignore[no-any-return]
    if f == "contains":
        return _seen(state, result, value in state, f"contains {value!r}:")
    if result is NOT_KNOWN or (len(result) == len(state) and set(result) == state):
        return state  # type: ignore[no-any-return]
    return Inconsistent(f"read {result!r} but there is {sorted(state, key=repr)!r}")


# --------------------------------------------------------------------------------------- queues and stacks


def _ends(take: int, sort: bool = False) -> Callable[[Any, str, Any, Any], Next]:
    """Items in a row: the first operation puts one at the end, the other takes one from place `take`."""

    def step(state: Any, f: str, value: Any, result: Any) -> Next:
        if f in ("enqueue", "push"):
            row = (*state, value)
            return tuple(sorted(row)) if sort else row
        there = state[take] if state else None
        why = _told(result, there, "took")
        if why:
            return Inconsistent(why)
        return state if not state else state[1:] if take == 0 else state[:-1]  # type: ignore[no-any-return]

    return step


def _unordered_queue(state: Any, f: str, value: Any, result: Any) -> Next:
    """What is in it, and how many were taken that nobody knows: it shows only when it is empty."""
    items, unknown = state
    if f == "enqueue":
        return (tuple(sorted((*items, value), key=_order)), unknown)
    if result is NOT_KNOWN:
        return (items, unknown + 1)
    if result is None:
        left = len(items) - unknown
        return Inconsistent(f"took nothing but there are {left}") if left > 0 else ((), -left)
    for place, item in enumerate(items):
        if same(item, result):
            return ((*items[:place], *items[place + 1 :]), unknown)
    return Inconsistent(f"took {result!r}, which is not there")


def _order(item: Any) -> tuple[str, str]:
    return (type(item).__name__, repr(item))


# ------------------------------------------------------------------------------------------ lists and texts


def _append_list(state: Any, f: str, value: Any, result: Any) -> Next:
    if f == "append":
        return (*state, value)
    return _seen(state, () if result is None else result, state, "read")


def _text(state: Any, f: str, value: Any, result: Any) -> Next:
    """``get``, ``put`` and ``append`` of a string, empty in the beginning."""
    if f == "put":
        return value or ""
    if f == "append":
        return state + value  # type: ignore[no-any-return]
    return _seen(state, "" if result is None else result, state, "got")


def _texts(f: str, value: Any) -> str:
    return "" if f == "get" or isinstance(value, str) else f"a {f} has a string"


def _prefixes(results: Iterable[Any]) -> Callable[[Any], Hashable]:
    """Only the beginnings of what was read can be told apart: all other states are as the first such one."""
    results = list(results)  # of lists also what was appended, which may be a text
    sorts: dict[type, list[Any]] = {
        kind: sorted({_comparable(result) for result in results if isinstance(result, kind)})
        for kind in (str, tuple)
    }
    others: list[Hashable] = []

    def kept(state: Any) -> Hashable:
        text, seen = _comparable(state), sorts[type(state)]
        at = bisect_left(seen, text)
        if not state or (at < len(seen) and seen[at][: len(text)] == text):
            return state  # type: ignore[no-any-return]
        if not others:
            others.append(state)
        return others[0]

    return kept


def _comparable(items: Any) -> Any:
    return items if isinstance(items, str) else tuple(map(_order, items))


_REGISTER = (("read", "READ"), ("write", "WRITE"))
_TEXT = (("get", "READ"), ("put", "WRITE"), ("append", "APPEND"))
_LIST = (("read", "READ"), ("append", "APPEND"))
_QUEUE = ("enqueue", "dequeue")

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        made.name: made
        for made in (
            Model("register", None, _register, ("read", "write"), effect, native=_REGISTER),
            Model(
                "cas-register", None, _register, ("read", "write", "cas"), effect, _pair("cas"),
                native=(*_REGISTER, ("cas", "CAS")),
            ),
            Model(
                "multi-register", frozenset(), _multi_register, ("read", "write"), shape=_pairs,
                reads=("read",),
            ),
            Model("versioned-register", (None, 0, True), _versioned, ("read", "write")),
            Model("map", frozenset(), _map, ("put", "get", "delete"), shape=_pair("put"), reads=("get",)),
            Model("text", "", _text, ("get", "put", "append"), shape=_texts, reads=("get",), native=_TEXT,
                  forget=_prefixes),
            Model("append-list", (), _append_list, ("append", "read"), reads=("read",), native=_LIST,
                  forget=_prefixes),
            Model("mutex", False, _mutex, ("acquire", "release")),
            Model("owned-mutex", (), _owned_mutex, ("acquire", "release")),
            Model("fenced-mutex", (False, 0), _fenced_mutex, ("acquire", "release")),
            Model("counter", 0, _counter, ("add", "read"), reads=("read",)),
            Model(
                "set", frozenset(), _set, ("add", "remove", "contains", "read"), reads=("contains", "read")
            ),
            Model("queue", (), _ends(0), _QUEUE),
            Model("unordered-queue", ((), 0), _unordered_queue, _QUEUE),
            Model("priority-queue", (), _ends(0, sort=True), _QUEUE),
            Model("stack", (), _ends(-1), ("push", "pop")),
        )
    }
)  # fmt: skip


def model(name: str | Model) -> Model:
    """The model of that name (a Model is returned as it is). Raises CheckError, listing the names."""
    if isinstance(name, Model):
        return name
    try:
        return MODELS[name]
    except KeyError:
        raise CheckError(f"unknown model {name!r}; there are: {', '.join(MODELS)}") from None

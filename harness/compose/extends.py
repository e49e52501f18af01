"""Services that extend others: what they have from them, and from which file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from harness.compose.build import read_hosts
from harness.compose.item import Item, Step
from harness.compose.mount import resolved, target_of

Load: TypeAlias = Callable[[Path], Item]

# what the extending service says takes the place of all that the other says
_REPLACED = frozenset({("command",), ("entrypoint",), ("healthcheck", "test")})
# lists of name=value, or mappings
_PAIRS = frozenset({
    ("environment",), ("labels",), ("sysctls",), ("annotations",), ("build", "args"), ("build", "labels"),
    ("build", "additional_contexts"), ("deploy", "labels"),
})  # fmt: skip
_HOSTS = frozenset({("extra_hosts",), ("build", "extra_hosts")})
_ONE_OR_MORE = frozenset({("dns",), ("dns_search",), ("env_file",), ("label_file",), ("tmpfs",)})
_BY_TARGET = frozenset({("volumes",), ("configs",), ("secrets",)})


def extended(services: Mapping[str, Item], load: Load) -> dict[str, Item]:
    """`services` with each ``extends`` resolved; `load` gives the filled-in document of another file.

    Raises ComposeError for a service that is not there, and for one that extends itself.
    """
    return {name: _resolve(item, services, load, ()) for name, item in services.items()}


def _resolve(
    item: Item, services: Mapping[str, Item], load: Load, seen: tuple[tuple[Path, str], ...]
) -> Item:
    own = item.mapping()
    here = (item.file.resolve(), str(item.path[1]))
    if here in seen:
        chain = " → ".join(name for _, name in (*seen[seen.index(here) :], here))
        raise item.error(f"extends itself: {chain}")
    extends = own.pop("extends", None)
    if extends is None:
        return item
    keys = extends.mapping(("service", "file")) if isinstance(extends.value, dict) else {"service": extends}
    if "service" not in keys:
        raise extends.error("lacks the service that is extended")
    name, others = keys["service"].filled(), services
    if "file" in keys:
        file = resolved(keys["file"], keys["file"].filled())
        if file != item.file.resolve():
            others = load(file).mapping().get("services", item.make({})).mapping()
    if name not in others:
        raise keys["service"].error(
            f"is {name!r}, which is no service there; the services are {', '.join(others)}"
        )
    base = _resolve(others[name], others, load, (*seen, here))
    merged = merge(base, item.make(own))
    return item.make(merged.at(item.path).value)


def merge(base: Item, over: Item, key: tuple[Step, ...] = ()) -> Item:
    """`over` upon `base`: mappings key by key, lists one behind the other, anything else replaced."""
    if key in _REPLACED or over.value is None:
        return over if over.value is not None or key in _REPLACED else base
    if base.value is None:
        return over
    if key == ("build",):
        base, over = (i if isinstance(i.value, dict) else i.make({"context": i}) for i in (base, over))
    elif key in _PAIRS:
        # a name alone means the variable of the outside, also where the other has a value
        return over.make({**base.pairs(), **over.pairs()})
    elif key in _HOSTS:
        base, over = (
            i.make({name: i.make(address) for name, address in read_hosts(i).items()}) for i in (base, over)
        )
    elif key in (("depends_on",), ("networks",)):
        base, over = _named(base), _named(over)
    elif key in _ONE_OR_MORE:
        base, over = base.make(base.several()), over.make(over.several())
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        merged = dict(base.value)
        for name, item in over.value.items():
            merged[name] = merge(merged[name], item, (*key, name)) if name in merged else item
        return over.make(merged)
    if isinstance(base.value, list) and isinstance(over.value, list):
        return over.make(_joined(base.value, over.value, by_target=key in _BY_TARGET))
    return over


def _named(item: Item) -> Item:
    """A list of names as a mapping of names to nothing."""
    if isinstance(item.value, dict):
        return item
    return item.make({part.text(): part.make(None) for part in item.items()})


def _joined(base: list[Item], over: list[Item], *, by_target: bool) -> list[Item]:
    if by_target:
        found = {target_of(item): item for item in base}
        found.update((target_of(item), item) for item in over)
        return list(found.values())
    contents = [content(item) for item in base]
    return [*base, *(item for item in over if content(item) not in contents)]


def content(item: Item) -> object:
    """What `item` says, without where it stands."""
    if isinstance(item.value, dict):
        return {key: content(part) for key, part in item.value.items()}
    if isinstance(item.value, list):
        return [content(part) for part in item.value]
    return item.value


__all__ = ["Load", "content", "extended", "merge"]

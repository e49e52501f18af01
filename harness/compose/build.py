"""How a service's image is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.compose.item import Item
from harness.compose.mount import resolved, written_or_empty
from harness.compose.quantity import size_of
from harness.compose.variables import Variables


@dataclass(frozen=True, slots=True)
class Build:
    """A build of an image. `context` is an absolute path, or an address that the engine fetches.

    `dockerfile` is relative to the context; `text` is a Dockerfile that the Compose file holds, instead of
    it. `needs_buildkit` are the keys that the engine's old builder cannot honour.
    """

    context: str
    dockerfile: str = "Dockerfile"
    text: str | None = None
    args: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    network: str = ""
    shm_size: int | None = None
    no_cache: bool = False
    pull: bool = False
    needs_buildkit: tuple[str, ...] = ()


_KNOWN = (
    "additional_contexts", "args", "cache_from", "context", "dockerfile", "dockerfile_inline", "extra_hosts",
    "labels", "network", "no_cache", "platforms", "pull", "shm_size", "tags", "target",
)  # fmt: skip
_REFUSED = {
    "cache_to": "it writes outside the run",
    "entitlements": "it gives the build rights over this machine",
    "isolation": "it is for Windows",
    "privileged": "it gives the build this whole machine",
    "secrets": "images are built without secrets; pass what is no secret by args",
    "ssh": "images are built without this user's keys",
    "ulimits": "not every builder has it",
}
_URL = re.compile(r"(https?|git|ssh|oci-layout|docker-image)://|git@|github\.com/|.*\.git(#|$)")


def read_build(item: Item, variables: Variables) -> Build:
    """The build that `item` gives: its context alone, or a mapping."""
    if not isinstance(item.value, dict):
        return Build(_context(item))
    for key, why in _REFUSED.items():
        if key in item.value and item.value[key].value is not False:
            raise item.value[key].error(f"cannot be honoured: {why}")
    keys = item.mapping((*_KNOWN, *_REFUSED))
    if "dockerfile" in keys and "dockerfile_inline" in keys:
        raise keys["dockerfile"].error("stands beside dockerfile_inline; valid is one of them")
    if "network" in keys and keys["network"].text() not in ("", "default", "none"):
        raise keys["network"].expected("default or none")
    context = _context(keys["context"] if "context" in keys else item.make("."))
    dockerfile = keys["dockerfile"].filled() if "dockerfile" in keys else "Dockerfile"
    if (
        "dockerfile_inline" not in keys
        and not _URL.match(context)
        and not Path(context, dockerfile).is_file()
    ):
        raise keys.get("dockerfile", item).error(f"has no file {dockerfile} in {context}")
    args: dict[str, str] = {}
    for name, value in keys["args"].pairs().items() if "args" in keys else ():
        given = variables.get(name) if value.value is None else value.text()
        if given is not None:
            args[name] = given
    buildkit = ("additional_contexts", "platforms")
    return Build(
        context,
        dockerfile,
        text=keys["dockerfile_inline"].filled() if "dockerfile_inline" in keys else None,
        args=args,
        target=keys["target"].text() if "target" in keys else "",
        labels=_texts(keys.get("labels")),
        tags=keys["tags"].texts() if "tags" in keys else (),
        cache_from=keys["cache_from"].texts() if "cache_from" in keys else (),
        contexts={
            name: value.text() if _URL.match(value.text()) else _context(value)
            for name, value in (
                keys["additional_contexts"].pairs() if "additional_contexts" in keys else {}
            ).items()
        },
        extra_hosts=read_hosts(keys["extra_hosts"]) if "extra_hosts" in keys else {},
        platforms=keys["platforms"].texts() if "platforms" in keys else (),
        network=keys["network"].text() if "network" in keys else "",
        shm_size=size_of(keys["shm_size"]) if "shm_size" in keys else None,
        no_cache="no_cache" in keys and keys["no_cache"].flag(),
        pull="pull" in keys and keys["pull"].flag(),
        needs_buildkit=tuple(key for key in buildkit if key in keys),
    )


def read_hosts(item: Item) -> dict[str, str]:
    """Addresses by host name, from a mapping or a list of ``name=address`` or ``name:address``."""
    if isinstance(item.value, dict):
        return {name: address.filled().strip("[]") for name, address in item.value.items()}
    found: dict[str, str] = {}
    for part in item.items():
        match = re.fullmatch(r"([^=:]+)[=:](.+)", part.text())
        if match is None:
            raise part.expected("name=address")
        found[match[1]] = match[2].strip("[]")
    return found


def _texts(item: Item | None) -> dict[str, str]:
    return {name: written_or_empty(value) for name, value in item.pairs().items()} if item is not None else {}


def _context(item: Item) -> str:
    text = item.filled()
    if _URL.match(text):
        return text
    path = resolved(item, text)
    if not path.is_dir():
        raise item.error(f"builds from {path}, which is no directory")
    return str(path)


__all__ = ["Build", "read_build", "read_hosts"]

"""What a service has in its file system beside its image: volumes, binds, tmpfs, configs and secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from harness.compose.item import Item
from harness.compose.quantity import size_of
from harness.compose.variables import Variables


@dataclass(frozen=True, slots=True)
class NamedVolume:
    """A volume of the file; it is new for each run. `options` are those of the driver ``local``."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume at `target`; an empty `source` is a volume of the container's own."""

    source: str
    target: str
    read_only: bool = False
    nocopy: bool = False
    subpath: str = ""


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of this machine at `target`."""

    source: Path
    target: str
    read_only: bool = True
    propagation: str = ""


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory, at most `size` bytes."""

    target: str
    size: int | None = None
    mode: int | None = None


Mount: TypeAlias = Volume | Bind | Tmpfs


@dataclass(frozen=True, slots=True)
class Inline:
    """A file that the Compose file or a variable holds; to be put into the container before it starts."""

    target: str
    text: str = field(repr=False)
    mode: int = 0o444
    uid: int = 0
    gid: int = 0
    secret: bool = False


_LONG = ("type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs")
_MODES = ("ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent")
_PROPAGATION = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_STORE = (
    "file",
    "environment",
    "content",
    "external",
    "name",
    "labels",
    "driver",
    "driver_opts",
    "template_driver",
)


def split(item: Item) -> tuple[str, str, list[str]]:
    """Source, target and modes of the short form ``[source:]target[:modes]``; the source may be empty."""
    parts = item.filled().split(":")
    if len(parts) == 1:
        return "", parts[0], []
    if len(parts) > 3 or not all(parts):
        raise item.expected("source:target or source:target:ro")
    modes = parts[2].split(",") if len(parts) == 3 else []
    for mode in modes:
        if mode not in _MODES and mode not in _PROPAGATION:
            raise item.error(f"has the mode {mode!r}, none of {', '.join((*_MODES, *_PROPAGATION))}")
    return parts[0], parts[1], modes


def target_of(item: Item) -> str:
    """Where a mount, config or secret goes, to tell whether two are one and the same."""
    if not isinstance(item.value, dict):
        source, target, _ = split(item) if item.key == "volumes" else (item.text(), item.text(), [])
        return target or source
    named = item.value.get("target", item.value.get("source"))
    return named.text() if named is not None else ""


def read_mount(item: Item, declared: Collection[str], writable: Collection[Path]) -> Mount:
    """The mount that `item` gives in the short or the long form.

    `declared` are the file's volumes. A bind that can be written to is refused unless `writable` has it, or
    a directory that it is in.
    """
    if isinstance(item.value, dict):
        return _read_long(item, declared, writable)
    source, target, modes = split(item)
    read_only = "ro" in modes
    if source.startswith((".", "/", "~")):
        propagation = next((mode for mode in modes if mode in _PROPAGATION), "")
        return _bind(item, source, _absolute(item, target), read_only, propagation, writable)
    return _volume(item, source, target, declared, read_only=read_only, nocopy="nocopy" in modes)


def _read_long(item: Item, declared: Collection[str], writable: Collection[Path]) -> Mount:
    keys = item.mapping(_LONG)
    if "type" not in keys or "target" not in keys:
        raise item.error("lacks type or target; a mount has both")
    kind = keys["type"].choice(("volume", "bind", "tmpfs"))
    target = _absolute(keys["target"], keys["target"].filled())
    source = keys["source"].text() if "source" in keys else ""
    read_only = "read_only" in keys and keys["read_only"].flag()
    for other in ("bind", "volume", "tmpfs"):
        if other in keys and other != kind:
            raise keys[other].error(f"stands in a mount of type {kind}, which has no use for it")
    options = keys.get(kind, item.make(None))
    if kind == "tmpfs":
        own = options.mapping(("size", "mode"))
        return Tmpfs(
            target,
            size_of(own["size"]) if "size" in own else None,
            _mode(own["mode"]) if "mode" in own else None,
        )
    if kind == "volume":
        own = options.mapping(("nocopy", "subpath"))
        return _volume(
            item,
            source,
            target,
            declared,
            read_only=read_only,
            nocopy="nocopy" in own and own["nocopy"].flag(),
            subpath=own["subpath"].text() if "subpath" in own else "",
        )
    own = options.mapping(("propagation", "create_host_path", "selinux"))
    if not source:
        raise item.error("lacks the source, a path of this machine")
    propagation = own["propagation"].choice(_PROPAGATION) if "propagation" in own else ""
    return _bind(item, source, target, read_only, propagation, writable)


def _absolute(item: Item, target: str) -> str:
    if not target.startswith("/"):
        raise item.error(f"has the target {target!r}, which must be an absolute path in the container")
    return target


def _volume(
    item: Item,
    source: str,
    target: str,
    declared: Collection[str],
    *,
    read_only: bool,
    nocopy: bool,
    subpath: str = "",
) -> Volume:
    if source and source not in declared:
        known = f"the volumes are {', '.join(declared)}" if declared else "the file has none"
        raise item.error(
            f"uses the volume {source!r}, which is not declared under volumes; {known} "
            "(a path of this machine begins with ./ or /)"
        )
    return Volume(source, _absolute(item, target), read_only, nocopy, subpath)


def _bind(
    item: Item, source: str, target: str, read_only: bool, propagation: str, writable: Collection[Path]
) -> Bind:
    path = resolved(item, source)
    if path.name in ("docker.sock", "containerd.sock", "podman.sock"):
        raise item.error(
            f"gives the container the engine itself ({path}), with which it could undo any fault"
        )
    if propagation.endswith(("shared", "slave")):
        raise item.error(f"has the propagation {propagation!r}, which reaches this machine; valid is private")
    if not read_only and not any(path == free or free in path.parents for free in writable):
        raise item.error(
            f"lets the container write to {path} on this machine, so that runs would see each other's data; "
            f"make it read-only ({source}:{target}:ro), use a named volume, "
            f"or allow it with writable=[{source!r}]"
        )
    if not path.exists():
        raise item.error(f"mounts {path}, which does not exist")
    return Bind(path, target, read_only, propagation)


def resolved(item: Item, text: str) -> Path:
    """The path `text`, relative to the file that `item` is in."""
    return Path(item.file.parent.resolve(), Path(text).expanduser()).resolve()


def read_tmpfs(item: Item) -> dict[str, str]:
    """Options by target of the short form ``/run:size=64m,mode=755``."""
    found: dict[str, str] = {}
    for part in item.several():
        target, _, options = part.filled().partition(":")
        found[_absolute(part, target)] = options
    return found


def read_volume(item: Item, notes: list[str]) -> NamedVolume:
    """A volume that the file declares. Raises ComposeError for one that a run could not have for itself."""
    keys = item.mapping(("driver", "driver_opts", "external", "labels", "name"))
    name = str(item.path[-1])
    if "external" in keys and keys["external"].value is not False:
        raise keys["external"].error(
            "is not honoured: it has data from elsewhere, and every run begins with new volumes; "
            "leave it out, and fill the volume by a service that completes"
        )
    if "driver" in keys and keys["driver"].text() not in ("", "local"):
        raise keys["driver"].expected("local, the engine's own: data elsewhere would outlive the run")
    options = {k: v.text() for k, v in keys["driver_opts"].pairs().items()} if "driver_opts" in keys else {}
    if options and options.get("type") != "tmpfs":
        raise keys["driver_opts"].error(
            f"has type {options.get('type')!r}, which leads out of the run; valid is tmpfs"
        )
    if "name" in keys:
        notes.append(f"the name {keys['name'].text()} of volume {name} is ignored: it is new for each run")
    labels = {k: written_or_empty(v) for k, v in keys["labels"].pairs().items()} if "labels" in keys else {}
    return NamedVolume(name, options, labels)


def written_or_empty(item: Item) -> str:
    """The text of `item`, empty where it has none."""
    return "" if item.value is None else item.text()


def read_stored(
    item: Item, store: Mapping[str, Item], variables: Variables, notes: list[str]
) -> Bind | Inline:
    """The config or secret that a service's `item` uses, in the short or the long form."""
    kind = item.key.removesuffix("s")
    keys = (
        item.mapping(("source", "target", "uid", "gid", "mode"))
        if isinstance(item.value, dict)
        else {"source": item}
    )
    if "source" not in keys:
        raise item.error(f"lacks the source, the name of a {kind}")
    name = keys["source"].filled()
    if name not in store:
        known = f"the {kind}s are {', '.join(store)}" if store else "the file has none"
        raise item.error(f"uses the {kind} {name!r}, which is not declared under {kind}s; {known}")
    target = keys["target"].filled() if "target" in keys else name
    if not target.startswith("/"):
        target = f"/run/secrets/{target}" if kind == "secret" else f"/{target}"
    stored = store[name]
    given = stored.mapping(_STORE)
    if "external" in given and given["external"].value is not False:
        raise given["external"].error(
            "is not honoured: the engine keeps none; valid are file, environment, content"
        )
    if strange := [key for key in ("driver", "driver_opts", "template_driver") if key in given]:
        raise given[strange[0]].error("is not honoured; valid are file, environment, content")
    sources = [key for key in ("file", "environment", "content") if key in given]
    if len(sources) != 1:
        raise stored.error(
            f"must have one of file, environment and content, and has {', '.join(sources) or 'none'}"
        )
    if sources == ["file"]:
        path = resolved(given["file"], given["file"].filled())
        if not path.is_file():
            raise given["file"].error(f"is {path}, which is no file")
        notes.extend(
            f"{key} of {kind} {name} in service {item.path[1]} is ignored: its file is mounted as it is"
            for key in ("uid", "gid", "mode")
            if key in keys
        )
        return Bind(path, target)
    if sources == ["content"]:
        text = given["content"].text()
    else:
        variable = given["environment"].filled()
        value = variables.get(variable)
        if value is None:
            raise given["environment"].error(f"names the variable {variable}, which is not set")
        text = value
        if kind == "secret" and value:
            variables.secret.add(value)
    return Inline(
        target,
        text,
        mode=_mode(keys["mode"]) if "mode" in keys else 0o444,
        uid=keys["uid"].count() if "uid" in keys else 0,
        gid=keys["gid"].count() if "gid" in keys else 0,
        secret=kind == "secret",
    )


def _mode(item: Item) -> int:
    """Permissions; a number is as YAML reads it (0440 is octal), a text is octal digits."""
    if isinstance(item.value, str) and re.fullmatch("0?o?[0-7]{1,4}", item.value):
        return int(item.value.replace("o", ""), 8)
    return item.count(most=0o7777)


__all__ = [
    "Bind", "Inline", "Mount", "NamedVolume", "Tmpfs", "Volume", "read_mount", "read_stored", "read_tmpfs",
    "read_volume", "resolved", "split", "target_of", "written_or_empty",
]  # fmt: skip

"""A service: everything that its containers are made of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harness.compose.build import Build, read_build, read_hosts
from harness.compose.dependency import Condition, read_dependencies
from harness.compose.envfile import read_variables
from harness.compose.health import HealthCheck, read_health
from harness.compose.item import Item
from harness.compose.limits import Deploy, Limits, read_deploy, read_limits
from harness.compose.mount import (
    Bind,
    Inline,
    Mount,
    read_mount,
    read_stored,
    read_tmpfs,
    resolved,
    written_or_empty,
)
from harness.compose.network import read_membership
from harness.compose.port import read_ports
from harness.compose.quantity import duration_of
from harness.compose.refusal import honoured
from harness.compose.scope import Scope

_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""")
_SHELL = re.compile("[;&|<>]")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the file, which is a role of the target.

    None and empty fields leave the matter to the image or the engine; an empty `command` or `entrypoint`
    that is not None takes the image's away. `image` is empty where only `build` says how to get it. `ports`
    are TCP ports of the container, those that are proxied; empty with `udp`, they are what the image exposes.
    `networks` gives, per network, the names beside the service's own; `links` are names that it alone has
    for other services. Times are seconds. `completes`: another service waits until it has ended well.
    """

    name: str
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()
    volumes: tuple[Mount, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Inline, ...] = ()
    healthcheck: HealthCheck | None = None
    depends_on: Mapping[str, Condition] = field(default_factory=dict)
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    group_add: tuple[str, ...] = ()
    working_dir: str = ""
    hostname: str = ""
    domainname: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    pull_policy: str = ""
    stop_signal: str = ""
    stop_grace_period: float | None = None
    init: bool = False
    read_only: bool = False
    stdin_open: bool = False
    tty: bool = False
    scale: int = 1
    completes: bool = False


def read_service(item: Item, scope: Scope) -> Service:
    """The service that `item` gives. Raises ComposeError for everything that cannot be honoured."""
    name = str(item.path[1])
    keys = honoured(item, name, scope.notes)
    if "image" not in keys and "build" not in keys:
        raise item.error("has neither image nor build; it needs one of them")
    ports = read_ports(keys.get("ports"), keys.get("expose"))
    if ports.host:
        scope.notes.append(
            f"host ports of service {name} ({', '.join(ports.host)}) are ignored: "
            "clients enter by the harness's own ports"
        )
    deploy = read_deploy(keys["deploy"], name, scope.notes) if "deploy" in keys else Deploy()
    volumes, files = _mounts(keys, scope)
    links, waited = _links(keys.get("links"), scope)
    return Service(
        name=name,
        image=keys["image"].filled() if "image" in keys else "",
        build=read_build(keys["build"], scope.variables) if "build" in keys else None,
        command=_words(keys.get("command")),
        entrypoint=_words(keys.get("entrypoint")),
        environment=_environment(keys, name, scope),
        ports=ports.tcp,
        udp=ports.udp,
        volumes=volumes,
        tmpfs=read_tmpfs(keys["tmpfs"]) if "tmpfs" in keys else {},
        files=files,
        healthcheck=read_health(keys["healthcheck"]) if "healthcheck" in keys else None,
        depends_on={**waited, **read_dependencies(keys.get("depends_on"), name, scope.services)},
        networks=read_membership(keys.get("networks"), scope.networks, scope.notes),
        links=links,
        user=_text(keys, "user"),
        group_add=_texts(keys, "group_add"),
        working_dir=_text(keys, "working_dir"),
        hostname=_text(keys, "hostname"),
        domainname=_text(keys, "domainname"),
        dns=_several(keys, "dns"),
        dns_search=_several(keys, "dns_search"),
        dns_opt=_texts(keys, "dns_opt"),
        extra_hosts=read_hosts(keys["extra_hosts"]) if "extra_hosts" in keys else {},
        cap_add=_texts(keys, "cap_add"),
        cap_drop=_texts(keys, "cap_drop"),
        security_opt=_texts(keys, "security_opt"),
        sysctls=_named(keys, "sysctls"),
        limits=read_limits(keys, deploy),
        labels=_labels(keys, scope),
        platform=_text(keys, "platform"),
        pull_policy=_text(keys, "pull_policy"),
        stop_signal=_text(keys, "stop_signal"),
        stop_grace_period=(duration_of(keys["stop_grace_period"]) if "stop_grace_period" in keys else None),
        init=_flag(keys, "init"),
        read_only=_flag(keys, "read_only"),
        stdin_open=_flag(keys, "stdin_open"),
        tty=_flag(keys, "tty"),
        scale=_scale(keys, deploy),
    )


def completing(services: Mapping[str, Service]) -> dict[str, Service]:
    """`services` in which those that others wait to complete say so."""
    ended = {
        name
        for service in services.values()
        for name, condition in service.depends_on.items()
        if condition == "service_completed_successfully"
    }
    return {name: replace(service, completes=name in ended) for name, service in services.items()}


def _text(keys: Mapping[str, Item], key: str) -> str:
    return keys[key].text() if key in keys and keys[key].value is not None else ""


def _texts(keys: Mapping[str, Item], key: str) -> tuple[str, ...]:
    return keys[key].texts() if key in keys else ()


def _several(keys: Mapping[str, Item], key: str) -> tuple[str, ...]:
    return tuple(item.text() for item in keys[key].several()) if key in keys else ()


def _named(keys: Mapping[str, Item], key: str) -> dict[str, str]:
    return {name: written_or_empty(value) for name, value in keys[key].pairs().items()} if key in keys else {}


def _flag(keys: Mapping[str, Item], key: str) -> bool:
    return key in keys and keys[key].flag()


def _words(item: Item | None) -> tuple[str, ...] | None:
    """A command: a list as it is, a text split as a shell would."""
    if item is None or item.value is None:
        return None
    if isinstance(item.value, list):
        return item.texts()
    if stop := _SHELL.search(_QUOTED.sub("", item.text())):
        raise item.error(
            f"has {stop[0]!r} outside quotes, where Compose cuts the command off, since no shell reads it; "
            "quote it, or write sh -c '...'"
        )
    try:
        return tuple(shlex.split(item.text()))
    except ValueError as error:
        raise item.error(f"{item.text()!r} is no command line: {error}; or write it as a list") from None


def _scale(keys: Mapping[str, Item], deploy: Deploy) -> int:
    own = keys["scale"].count() if "scale" in keys else None
    if own is not None and deploy.replicas not in (None, own):
        raise keys["scale"].error(f"is {own}, but deploy.replicas is {deploy.replicas}; say it once")
    number = deploy.replicas if own is None else own
    if number == 0:
        raise keys["scale" if own == 0 else "deploy"].error(
            "asks for 0 containers, but a role has one at least; a profile leaves a service out"
        )
    return 1 if number is None else number


def _environment(keys: Mapping[str, Item], name: str, scope: Scope) -> dict[str, str]:
    """Variables of the containers: those of the files in order, then those of the Compose file itself."""
    found: dict[str, str] = {}
    given: dict[str, str | None] = {}
    for part in keys["env_file"].several() if "env_file" in keys else ():
        how = part.mapping(("path", "required", "format")) if isinstance(part.value, dict) else {"path": part}
        if "path" not in how:
            raise part.error("lacks the path")
        raw = "format" in how and how["format"].choice(("raw",)) == "raw"
        file = resolved(how["path"], how["path"].filled())
        if not file.is_file():
            if "required" in how and not how["required"].flag():
                continue
            raise how["path"].error(f"is {file}, which is no file; if it need not be there, required: false")
        before = dict(given)

        def known(variable: str, before: Mapping[str, str | None] = before) -> str | None:
            outside = scope.variables.get(variable)
            return before.get(variable) if outside is None else outside

        read = read_variables(file, known, raw=raw)
        given.update(read)
        scope.variables.hide(read)
    given.update(
        (variable, None if value.value is None else value.text())
        for variable, value in (keys["environment"].pairs() if "environment" in keys else {}).items()
    )
    for variable, text in given.items():
        value = scope.variables.get(variable) if text is None else text
        if value is not None:
            found[variable] = value
        else:
            scope.notes.append(
                f"the variable {variable} of service {name} is not set outside, so not in its containers"
            )
    return found


def _labels(keys: Mapping[str, Item], scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in keys["label_file"].several() if "label_file" in keys else ():
        read = read_variables(resolved(part, part.filled()), scope.variables.get)
        found.update((name, value or "") for name, value in read.items())
    found.update(_named(keys, "labels"))
    for name in found:
        if name.startswith("com.docker.compose"):
            raise keys["labels"].error(
                f"has {name}, but com.docker.compose is Compose's own; name it otherwise"
            )
    return found


def _mounts(keys: Mapping[str, Item], scope: Scope) -> tuple[tuple[Mount, ...], tuple[Inline, ...]]:
    """Volumes, binds and tmpfs, configs and secrets among them; and files that have to be put there."""
    mounts: list[Mount] = []
    files: list[Inline] = []
    places: dict[str, Item] = {}
    for item in keys["volumes"].items() if "volumes" in keys else ():
        mount = read_mount(item, scope.volumes, scope.writable)
        _once(places, mount.target, item)
        mounts.append(mount)
    for key, store in (("configs", scope.configs), ("secrets", scope.secrets)):
        for item in keys[key].items() if key in keys else ():
            stored = read_stored(item, store, scope.variables, scope.notes)
            _once(places, stored.target, item)
            if isinstance(stored, Bind):
                mounts.append(stored)
            else:
                files.append(stored)
    return tuple(mounts), tuple(files)


def _once(places: dict[str, Item], target: str, item: Item) -> None:
    if (other := places.setdefault(target, item)) is not item:
        raise item.error(f"goes to {target}, where {other.where} already is")


def _links(item: Item | None, scope: Scope) -> tuple[dict[str, str], dict[str, Condition]]:
    """Other services by the names that this one has for them, and that it waits for them."""
    links: dict[str, str] = {}
    for part in item.items() if item is not None else ():
        name, _, alias = part.text().partition(":")
        if not scope.services.get(name):
            there = ", ".join(other for other, takes_part in scope.services.items() if takes_part)
            raise part.error(f"leads to {name!r}, which is no service that takes part; those are {there}")
        links[alias or name] = name
    return links, dict.fromkeys(links.values(), "service_started")


__all__ = ["Service", "completing", "read_service"]

"""An existing Compose file as frozen values: containers can be made from them without reading it again."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.compose.dependency import waves
from harness.compose.document import load
from harness.compose.envfile import read_variables
from harness.compose.extends import extended
from harness.compose.history import stored
from harness.compose.item import ComposeError, Item
from harness.compose.mount import NamedVolume, Volume, read_volume
from harness.compose.network import DEFAULT, Network, read_network
from harness.compose.scope import Scope
from harness.compose.service import Service, completing, read_service
from harness.compose.variables import Variables

_TOP = ("version", "name", "services", "networks", "volumes", "configs", "secrets")
_NAME = re.compile("[a-z0-9][a-z0-9_-]*")
_SERVICE = re.compile("[a-zA-Z0-9._-]+")


@dataclass(frozen=True, slots=True, repr=False)
class Compose:
    """What a Compose file says: services, which are roles, and what they share.

    `notes` are sentences for the report: what is not as Compose would do it. Networks and volumes are those
    that a service uses. `secrets` are values that must not be stored, wherever they stand.
    """

    name: str
    file: Path
    services: tuple[Service, ...]
    networks: tuple[Network, ...] = ()
    volumes: tuple[NamedVolume, ...] = ()
    notes: tuple[str, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def __repr__(self) -> str:
        """Its name and those of its services; everything might hold secrets."""
        return f"<Compose {self.name}: {', '.join(service.name for service in self.services)}>"

    def __getitem__(self, name: str) -> Service:
        """The service of that name. Raises KeyError that lists the services."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(f"no service {name!r}; the services are {', '.join(s.name for s in self.services)}")

    def to_json(self) -> dict[str, Any]:
        """It as JSON data for a history, without secrets and without paths of this machine's user."""
        return stored(self, self.file.parent, self.secrets)


def read(
    path: str | os.PathLike[str],
    *,
    environment: Mapping[str, str] | None = None,
    writable: Collection[str | os.PathLike[str]] = (),
    profiles: Collection[str] = (),
) -> Compose:
    """The Compose file at `path`, or the only one in that directory.

    `environment` is that of this process unless given; a file ``.env`` beside the Compose file adds to it.
    `writable` are paths, relative to the file, that containers may write to by a bind mount. Services with
    profiles take part if one of these is in `profiles`, or in the variable ``COMPOSE_PROFILES``. Raises
    ComposeError, naming file, line, service and key, for anything that is wrong or cannot be honoured.
    """
    file = _file(Path(path))
    outside = dict(os.environ if environment is None else environment)
    beside = file.parent / ".env"
    if beside.is_file():
        for name, value in read_variables(beside, outside.get).items():
            if value is not None:
                outside.setdefault(name, value)
    document = load(file)
    name = _name(document, file, Variables(outside))
    outside.setdefault("COMPOSE_PROJECT_NAME", name)
    variables = Variables(outside)
    notes = [
        f"{other.name} beside {file.name} is not read"
        for other in (file.with_name(f"{file.stem}.override{ending}") for ending in (".yml", ".yaml"))
        if other.is_file()
    ]
    documents = {file: _checked(variables.fill(document))}

    def another(other: Path) -> Item:
        if other not in documents:
            documents[other] = _checked(variables.fill(load(other)))
        return documents[other]

    compose = _project(documents[file], name, another, variables, notes, _free(file, writable), profiles)
    unset = [
        f"the variable {variable} is not set, so it is empty in {item.where}"
        for variable, item in variables.unset.items()
    ]
    return Compose(
        name,
        file,
        compose.services,
        compose.networks,
        compose.volumes,
        (*notes, *unset),
        frozenset(variables.secret),
    )


def order(compose: Compose) -> tuple[tuple[str, ...], ...]:
    """The names of the services in the groups in which they start; each waits for earlier groups only."""
    return waves({service.name: service.depends_on for service in compose.services})


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path.resolve()
    names = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
    for name in names:
        if (path / name).is_file():
            return (path / name).resolve()
    raise ComposeError(f"{path}: is a directory without a Compose file; it has one of {', '.join(names)}")


def _free(file: Path, writable: Collection[str | os.PathLike[str]]) -> list[Path]:
    if isinstance(writable, str):
        raise ComposeError(f'writable is {writable!r}, but must be several paths: writable=["{writable}"]')
    return [Path(file.parent, Path(free).expanduser()).resolve() for free in writable]


def _checked(document: Item) -> Item:
    if "include" in document.value:
        raise document.value["include"].error(
            "is not honoured: a target is one file; write it with docker compose config > resolved.yml"
        )
    document.mapping(_TOP)
    return document


def _name(document: Item, file: Path, variables: Variables) -> str:
    given = document.value.get("name")
    name = variables.values.get("COMPOSE_PROJECT_NAME") or (variables.fill(given).text() if given else "")
    if not name:
        name = re.sub("[^a-z0-9_-]", "", file.parent.name.lower()).lstrip("_-") or "compose"
    if not _NAME.fullmatch(name):
        where = given.where if given else "COMPOSE_PROJECT_NAME"
        raise ComposeError(
            f"{where}: is {name!r}, but must be small letters, digits, - and _, a letter or digit first"
        )
    return name


def _project(
    document: Item,
    name: str,
    another: Any,
    variables: Variables,
    notes: list[str],
    writable: Collection[Path],
    profiles: Collection[str],
) -> Compose:
    top = document.mapping(_TOP)
    services = extended(top["services"].mapping() if "services" in top else {}, another)
    if not services:
        raise document.error("has no services; it needs one at least")
    for service, item in services.items():
        if not _SERVICE.fullmatch(service):
            raise item.error(f"the name {service!r} must be letters, digits, ., - and _")
    sections = {key: top[key].mapping() if key in top else {} for key in _TOP[3:]}
    on = {*profiles, *filter(None, (variables.values.get("COMPOSE_PROFILES") or "").split(","))}
    there = {service: _takes_part(item, on) for service, item in services.items()}
    if not any(there.values()):
        raise document.error(
            f"has services in profiles only, and none is on; turn one on: {_profiles(services)}"
        )
    scope = Scope(
        services=there,
        networks=sections["networks"],
        volumes=sections["volumes"],
        configs=sections["configs"],
        secrets=sections["secrets"],
        writable=writable,
        variables=variables,
        notes=notes,
    )
    made = completing({s: read_service(item, scope) for s, item in services.items() if there[s]})
    for waiting in made.values():
        for other, condition in waiting.depends_on.items():
            check = made[other].healthcheck
            if condition == "service_healthy" and check is not None and check.disabled:
                raise (
                    services[waiting.name]
                    .value["depends_on"]
                    .error(f"waits until {other} is healthy, but its health check is turned off")
                )
    try:
        waves({service.name: service.depends_on for service in made.values()})
    except ValueError as cycle:
        first = str(cycle).partition(" ")[0]
        raise services[first].error(f"waits for itself by depends_on: {cycle}") from None
    used = {network for service in made.values() for network in service.networks}
    mounted = {m.source for s in made.values() for m in s.volumes if isinstance(m, Volume)}
    networks = {
        network: read_network(item, notes)
        for network, item in sections["networks"].items()
        if network in used
    }
    if DEFAULT in used:
        networks.setdefault(DEFAULT, Network(DEFAULT))
    volumes = [read_volume(item, notes) for volume, item in sections["volumes"].items() if volume in mounted]
    return Compose(name, document.file, tuple(made.values()), tuple(networks.values()), tuple(volumes))


def _takes_part(item: Item, on: Collection[str]) -> bool:
    profiles = item.mapping().get("profiles")
    own = profiles.texts() if profiles is not None else ()
    return not own or "*" in on or any(profile in on for profile in own)


def _profiles(services: Mapping[str, Item]) -> str:
    found = {
        name: None
        for item in services.values()
        if "profiles" in item.value
        for name in item.value["profiles"].texts()
    }
    return ", ".join(found)


__all__ = ["Compose", "order", "read"]

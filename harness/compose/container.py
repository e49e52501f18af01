"""A service as the options of a container, in the words of ``docker.containers.create``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from harness.compose.health import HealthCheck
from harness.compose.limits import Limits
from harness.compose.mount import Bind, Mount, NamedVolume, Tmpfs
from harness.compose.service import Service
from harness.target import File

_PLAIN = (
    "cap_add", "cap_drop", "dns", "dns_opt", "dns_search", "domainname", "group_add", "hostname", "init",
    "labels", "platform", "read_only", "security_opt", "stdin_open", "stop_signal", "sysctls", "tmpfs",
    "user", "working_dir",
)  # fmt: skip


def options(service: Service, volumes: Iterable[NamedVolume], addresses: Mapping[str, str]) -> dict[str, Any]:
    """What a container of `service` is made of, without image and environment (see `Target.container`).

    `addresses` are those of other services, for the names that this one alone has for them.
    """
    found: dict[str, Any] = {}
    for key in _PLAIN:
        if value := getattr(service, key):
            found[key] = list(value) if isinstance(value, tuple) else value
    if service.command is not None:
        found["command"] = list(service.command)
    if service.entrypoint is not None:
        found["entrypoint"] = list(service.entrypoint) or [""]  # the engine's way to say that there is none
    if hosts := {**{name: addresses[other] for name, other in service.links.items()}, **service.extra_hosts}:
        found["extra_hosts"] = hosts
    if service.healthcheck is not None:
        found["healthcheck"] = _health(service.healthcheck)
    if service.volumes:
        known = {volume.name: volume for volume in volumes}
        found["mounts"] = [_mount(mount, known) for mount in service.volumes]
    if service.files:
        found["files"] = {one.target: File(one.text, one.mode, one.uid, one.gid) for one in service.files}
    names = (service.name, *(alias for aliases in service.networks.values() for alias in aliases))
    return {**found, **_limits(service.limits), "aliases": tuple(dict.fromkeys(names))}


def _health(check: HealthCheck) -> dict[str, Any]:
    """Times in the engine's nanoseconds; what is not said is the image's."""
    times = {name: getattr(check, name) for name in ("interval", "timeout", "start_period")}
    return {
        "test": list(check.test) or None,
        "retries": check.retries,
        **{name: round(1e9 * value) for name, value in times.items() if value is not None},
    }


def _limits(limits: Limits) -> dict[str, Any]:
    from docker.types import Ulimit

    found = {one.name: getattr(limits, one.name) for one in fields(limits)}
    cpus, ulimits = found.pop("cpus"), found.pop("ulimits")
    if cpus is not None:
        found["nano_cpus"] = round(1e9 * cpus)
    if ulimits:
        found["ulimits"] = [Ulimit(name=n, soft=soft, hard=hard) for n, (soft, hard) in ulimits.items()]
    return {name: value for name, value in found.items() if value not in (None, "", False)}


def _mount(mount: Mount, volumes: Mapping[str, NamedVolume]) -> Any:
    from docker.types import DriverConfig, Mount as Made

    if isinstance(mount, Bind):
        return Made(
            mount.target, str(mount.source), type="bind", read_only=mount.read_only,
            propagation=mount.propagation or None,
        )  # fmt: skip
    if isinstance(mount, Tmpfs):
        return Made(mount.target, None, type="tmpfs", tmpfs_size=mount.size, tmpfs_mode=mount.mode)
    named = volumes.get(mount.source)
    return Made(
        mount.target, mount.source or None, type="volume", read_only=mount.read_only, no_copy=mount.nocopy,
        labels=dict(named.labels) if named and named.labels else None,
        driver_config=DriverConfig("local", dict(named.options)) if named and named.options else None,
        subpath=mount.subpath or None,
    )  # fmt: skip


__all__ = ["options"]

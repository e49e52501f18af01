"""What a service's containers may use: memory, processors, processes, and how many of them there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.compose.item import Item
from harness.compose.quantity import duration_of, size_of


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a container, by the names that the engine's client has for them; None is no limit.

    Sizes are bytes, `cpu_quota` and `cpu_period` microseconds; a limit in `ulimits` is (soft, hard), -1 for
    none.
    """

    mem_limit: int | None = None
    mem_reservation: int | None = None
    memswap_limit: int | None = None
    mem_swappiness: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpuset_cpus: str = ""
    pids_limit: int | None = None
    shm_size: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)


KEYS = (
    "cpu_period", "cpu_quota", "cpu_shares", "cpus", "cpuset", "mem_limit", "mem_reservation",
    "mem_swappiness", "memswap_limit", "oom_kill_disable", "oom_score_adj", "pids_limit", "shm_size",
    "ulimits",
)  # fmt: skip
_DEPLOY = (
    "endpoint_mode", "labels", "mode", "placement", "replicas", "resources", "restart_policy",
    "rollback_config", "update_config",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Deploy:
    """What `deploy` says that a run can honour."""

    replicas: int | None = None
    cpus: float | None = None
    mem_limit: int | None = None
    mem_reservation: int | None = None
    pids_limit: int | None = None


def read_deploy(item: Item, service: str, notes: list[str]) -> Deploy:
    """The part of `deploy` that concerns containers; what is for a swarm only is noted or refused."""
    keys = item.mapping(_DEPLOY)
    if "placement" in keys and keys["placement"].value:
        raise keys["placement"].error("cannot be honoured: all nodes are on this machine; leave it out")
    if "mode" in keys:
        keys["mode"].choice(("replicated", "global"))
    if "restart_policy" in keys:
        condition = keys["restart_policy"].mapping().get("condition")
        if condition is None or condition.text() != "none":
            notes.append(
                f"deploy.restart_policy of service {service} is neutralised, since it would undo a kill"
            )
    swarm: list[str] = [key for key in ("endpoint_mode", "rollback_config", "update_config") if key in keys]
    resources = keys["resources"].mapping(("limits", "reservations")) if "resources" in keys else {}
    limits = resources["limits"].mapping(("cpus", "memory", "pids")) if "limits" in resources else {}
    reserved: dict[str, Item] = {}
    if "reservations" in resources:
        reserved = resources["reservations"].mapping(("cpus", "memory", "devices", "generic_resources"))
        for key in ("devices", "generic_resources"):
            if key in reserved:
                raise reserved[key].error("cannot be honoured: nodes have no devices; leave it out")
        if "cpus" in reserved:
            swarm.append("resources.reservations.cpus")
    notes.extend(f"deploy.{key} of service {service} is ignored: it is for a swarm" for key in swarm)
    return Deploy(
        keys["replicas"].count() if "replicas" in keys else None,
        limits["cpus"].number() if "cpus" in limits else None,
        size_of(limits["memory"]) if "memory" in limits else None,
        size_of(reserved["memory"]) if "memory" in reserved else None,
        limits["pids"].count(least=-1) if "pids" in limits else None,
    )


def read_limits(keys: Mapping[str, Item], deploy: Deploy) -> Limits:
    """The limits in a service's `keys` and its `deploy`, which must not differ."""
    cpus = keys["cpus"].number() if "cpus" in keys else None
    memory = size_of(keys["mem_limit"]) if "mem_limit" in keys else None
    reserved = size_of(keys["mem_reservation"]) if "mem_reservation" in keys else None
    pids = keys["pids_limit"].count(least=-1) if "pids_limit" in keys else None
    own = {"cpus": cpus, "mem_limit": memory, "mem_reservation": reserved, "pids_limit": pids}
    both: dict[str, float | None] = {}
    for name, value in own.items():
        other = getattr(deploy, name)
        if value is not None and other is not None and value != other:
            raise keys[name].error(f"is {value}, but deploy.resources says {other}; say it once")
        both[name] = other if value is None else value
    whole = {name: None if value is None else int(value) for name, value in both.items() if name != "cpus"}
    return Limits(
        mem_limit=whole["mem_limit"],
        mem_reservation=whole["mem_reservation"],
        memswap_limit=_swap(keys.get("memswap_limit")),
        mem_swappiness=_count(keys.get("mem_swappiness"), most=100),
        cpus=both["cpus"],
        cpu_shares=_count(keys.get("cpu_shares")),
        cpu_quota=_microseconds(keys.get("cpu_quota")),
        cpu_period=_microseconds(keys.get("cpu_period")),
        cpuset_cpus=keys["cpuset"].text() if "cpuset" in keys else "",
        pids_limit=whole["pids_limit"],
        shm_size=size_of(keys["shm_size"]) if "shm_size" in keys else None,
        oom_kill_disable="oom_kill_disable" in keys and keys["oom_kill_disable"].flag(),
        oom_score_adj=_count(keys.get("oom_score_adj"), least=-1000, most=1000),
        ulimits={name: _ulimit(value) for name, value in keys["ulimits"].mapping().items()}
        if "ulimits" in keys
        else {},
    )


def _count(item: Item | None, *, least: int = 0, most: int | None = None) -> int | None:
    return None if item is None else item.count(least=least, most=most)


def _swap(item: Item | None) -> int | None:
    if item is None:
        return None
    return -1 if item.text() == "-1" else size_of(item)


def _microseconds(item: Item | None) -> int | None:
    """A number of microseconds, or a duration with its unit."""
    if item is None:
        return None
    if item.text().lstrip("-").isdigit():
        return item.count(least=-1)
    return round(duration_of(item) * 1e6)


def _ulimit(item: Item) -> tuple[int, int]:
    if not isinstance(item.value, dict):
        number = item.count(least=-1)
        return number, number
    keys = item.mapping(("soft", "hard"))
    if len(keys) != 2:
        raise item.error("must be a number, or have both soft and hard")
    soft, hard = keys["soft"].count(least=-1), keys["hard"].count(least=-1)
    if hard != -1 and not 0 <= soft <= hard:
        raise item.error(f"has soft {soft} above hard {hard}")
    return soft, hard


__all__ = ["KEYS", "Deploy", "Limits", "read_deploy", "read_limits"]

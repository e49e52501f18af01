"""Which services wait for which, and the order in which they start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, cast

from harness.compose.item import Item

Condition: TypeAlias = Literal["service_started", "service_healthy", "service_completed_successfully"]

CONDITIONS: tuple[Condition, ...] = ("service_started", "service_healthy", "service_completed_successfully")


def read_dependencies(item: Item | None, service: str, there: Mapping[str, bool]) -> dict[str, Condition]:
    """The condition by the service that is waited for. `there` says of each service whether it takes part.

    A dependency that is not required is left out where its service takes no part. Raises ComposeError for
    any other that is not there.
    """
    if item is None:
        return {}
    named = item.value if isinstance(item.value, dict) else {part.text(): part for part in item.items()}
    found: dict[str, Condition] = {}
    for name, part in named.items():
        keys = part.mapping(("condition", "required", "restart")) if isinstance(item.value, dict) else {}
        if not there.get(name) and "required" in keys and not keys["required"].flag():
            continue
        if name not in there:
            raise part.error(f"names {name!r}, which is no service; the services are {', '.join(there)}")
        if not there[name]:
            raise part.error(
                f"names {name!r}, whose profiles are not on; turn one on, or write required: false"
            )
        if name == service:
            raise part.error("is the service itself")
        condition = keys["condition"].choice(CONDITIONS) if "condition" in keys else "service_started"
        found[name] = cast(Condition, condition)
    return found


def waves(waiting: Mapping[str, Mapping[str, Condition]]) -> tuple[tuple[str, ...], ...]:
    """The services in groups: each waits for services of earlier groups only, and stands as early as it can.

    Raises ValueError that names a cycle.
    """
    left = {name: set(others) for name, others in waiting.items()}
    found: list[tuple[str, ...]] = []
    while left:
        group = tuple(name for name, others in left.items() if not others & left.keys())
        if not group:
            raise ValueError(" → ".join(_cycle(left)))
        found.append(group)
        left = {name: others for name, others in left.items() if name not in group}
    return tuple(found)


def _cycle(left: Mapping[str, set[str]]) -> list[str]:
    """One way from a service back to itself; everybody in `left` waits for somebody in it."""
    way = [next(iter(left))]
    while way.count(way[-1]) == 1:
        way.append(min(left[way[-1]] & left.keys()))
    return way[way.index(way[-1]) :]


__all__ = ["CONDITIONS", "Condition", "read_dependencies", "waves"]

"""When something happened: conditions on node events, for ``when`` and ``until``.

A condition looks at one `harness.history.NodeEvent`. Its `node` is a selector that needs no drawing: a
node, a role, ``nodes(...)`` or ``all``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from harness.history import NodeEvent
from harness.selector import CLIENT, WORDS, Scene, Selector, must_select, nodes, read_selector
from harness.value import PlanError, Reader, Value, read


class Condition(Value):
    """Base of the conditions: `holds(event, scene)` says whether this event is the one waited for."""

    parts: ClassVar[Mapping[str, Reader]] = {"node": read_selector}
    node: Selector

    def __post_init__(self) -> None:
        must_select(self, "node")
        if self.node in (*WORDS, CLIENT) and self.node != "all":
            raise self._fail("node", 'a node, a role, nodes("n1", ...) or "all": it is matched, not drawn')

    def holds(self, event: NodeEvent, scene: Scene) -> bool:
        """Whether `event` is what is waited for."""
        if isinstance(self.node, nodes):
            there = event.node in self.node.names
        else:
            there = self.node in ("all", event.node, scene.nodes.get(event.node))
        return there and self._is(event)

    def _is(self, event: NodeEvent) -> bool:
        raise NotImplementedError(f"{type(self).__name__} says of no event whether it is the one")


@dataclass(frozen=True, repr=False)
class leader_elected(Condition):
    """A node (by default any) became the leader: an event ``role`` with role ``leader``."""

    node: Selector = "all"

    def _is(self, event: NodeEvent) -> bool:
        return event.kind == "role" and event.detail.get("role") == "leader"


@dataclass(frozen=True, repr=False)
class restarted(Condition):
    """A node (by default any) was started again after a kill: an event ``restart``."""

    node: Selector = "all"

    def _is(self, event: NodeEvent) -> bool:
        return event.kind == "restart"


@dataclass(frozen=True, repr=False, init=False)
class event(Condition):
    """A node event of this name whose details have these values.

    >>> event("role", node="n1", role="candidate")
    event('role', node='n1', role='candidate')
    """

    name: str
    node: Selector
    fields: tuple[tuple[str, Any], ...]

    def __init__(self, name: str, /, *, node: Selector = "all", **fields: str | float | bool | None) -> None:
        whole = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in fields.items()}
        self._set(name=name, node=node, fields=tuple(sorted(whole.items())))
        self.__post_init__()
        if not isinstance(name, str) or not name:
            raise self._fail("name", "the kind of a node event, such as 'role'")
        for field, value in self.fields:
            if value is not None and not isinstance(value, (str, int, float, bool)):
                raise PlanError(
                    f"event: {field} is {value!r}, but must be text, a number, True, False or None"
                )

    def _is(self, event: NodeEvent) -> bool:
        missing = object()
        return event.kind == self.name and all(event.detail.get(f, missing) == v for f, v in self.fields)

    def _call(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return [self.name], {**({"node": self.node} if self.node != "all" else {}), **dict(self.fields)}

    def to_json(self) -> dict[str, Any]:
        """As every value, with the details as an object."""
        return {**super().to_json(), "fields": dict(self.fields)}

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        cls._known(data, "name", "node", "fields")
        fields = data.get("fields", {})
        if not isinstance(fields, Mapping) or "name" not in data or "node" in fields:
            raise PlanError(
                f"event needs a name, and an object as fields; cannot read it from {dict(data)!r}"
            )
        return cls(data["name"], node=read_selector(data.get("node", "all")), **fields)


CONDITIONS: tuple[type[Condition], ...] = (leader_elected, restarted, event)


def read_condition(data: Any) -> Condition:
    """A condition from its JSON. Raises PlanError that lists the conditions or the fields."""
    return read(data, CONDITIONS, "condition")


@dataclass(frozen=True, repr=False)
class until(Value):
    """Instead of seconds for ``lasts``: until the condition holds, but `at_most` so many seconds."""

    condition: Condition
    at_most: float = 10.0

    parts: ClassVar[Mapping[str, Reader]] = {"condition": read_condition}

    def __post_init__(self) -> None:
        must_be_condition(self)
        self._number("at_most", "seconds", above=True)


def must_be_condition(value: Value) -> None:
    """Raise PlanError unless the field `condition` of `value` is one."""
    if not isinstance(getattr(value, "condition", None), Condition):
        raise value._fail("condition", f"one of {', '.join(f'{kind.__name__}(...)' for kind in CONDITIONS)}")


__all__ = [
    "CONDITIONS", "Condition", "event", "leader_elected", "must_be_condition", "read_condition", "restarted",
    "until",
]  # fmt: skip

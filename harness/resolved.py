"""What a fault means once its nodes are drawn: the value that is carried out, recorded and replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from harness.selector import Link
from harness.value import PlanError


@dataclass(frozen=True)
class Resolved:
    """A fault with its nodes and links drawn; `Resolved.from_json` reads what `to_json` wrote.

    `nodes` are those it is aimed at. `links` are the ordered pairs whose bytes it concerns; client entries
    are ``("client", "n1")`` and ``("n1", "client")``. `grudge` says who hears nothing from whom (partitions
    only, clients left out). `parameters` are the fault's numbers in seconds and bytes, `what` says it in
    words, `instant` that there is nothing to heal, `spec` is the JSON of the fault as planned.
    """

    kind: str
    nodes: tuple[str, ...]
    what: str
    links: tuple[Link, ...] = ()
    grudge: Mapping[str, frozenset[str]] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=dict)
    instant: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of a user's own fault, by which a replay finds its functions; else ``""``."""
        return str(self.spec.get("name", "")) if self.kind == "fault" else ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "kind": self.kind,
            "nodes": list(self.nodes),
            "what": self.what,
            "links": [list(pair) for pair in self.links],
            "grudge": {node: sorted(others) for node, others in self.grudge.items()},
            "parameters": dict(self.parameters),
            "instant": self.instant,
            "spec": dict(self.spec),
        }

    @classmethod
    def from_json(cls, data: Any) -> Resolved:
        """Raises PlanError where `data` is not what `to_json` writes, naming the part."""
        if not isinstance(data, Mapping):
            raise PlanError(f"a resolved fault is an object, not {data!r}")
        known = [f.name for f in fields(cls)]
        if missing := [name for name in known if name not in data]:
            raise PlanError(f"resolved fault {dict(data)!r} lacks {missing[0]!r}; it has {', '.join(known)}")
        if unknown := [name for name in data if name not in known]:
            raise PlanError(f"a resolved fault has no {unknown[0]!r}; it has {', '.join(known)}")
        try:
            return cls(
                kind=_text(data["kind"]),
                nodes=tuple(map(_text, data["nodes"])),
                what=_text(data["what"]),
                links=tuple((_text(a), _text(b)) for a, b in data["links"]),
                grudge={_text(node): frozenset(map(_text, heard)) for node, heard in data["grudge"].items()},
                parameters={_text(name): number + 0 for name, number in data["parameters"].items()},
                instant=bool(data["instant"]),
                spec=dict(data["spec"]),
            )
        except (TypeError, ValueError, AttributeError) as broken:
            raise PlanError(f"resolved fault {dict(data)!r} cannot be read: {broken}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


__all__ = ["Resolved"]

"""What every fault of a plan is: a value with selectors still open, which draws its nodes when it begins."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

from harness.resolved import Resolved
from harness.selector import (
    CLIENT,
    Link,
    Scene,
    Selector,
    link,
    must_select,
    read_links,
    resolve,
    resolve_pairs,
)
from harness.value import PlanError, Reader, Value

Links: TypeAlias = Selector | link


class Fault(Value):
    """Base of the faults as a plan asks for them; differs from `Resolved` in that selectors are open."""

    @property
    def instant(self) -> bool:
        """Whether it is over at once, so that there is nothing to heal and ``lasts`` makes no sense."""
        return False

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        """Draw its nodes: the same for the same scene and stream.

        Raises NoSuchNode where a selector matches nothing now, PlanError where it never can.
        """
        raise NotImplementedError(f"{type(self).__name__} has no resolve(scene, rng)")

    def _resolved(self, nodes: tuple[str, ...], what: str, **more: Any) -> Resolved:
        spec = self.to_json()
        numbers = {
            name: value
            for name, value in spec.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        return Resolved(
            type(self).__name__, nodes, what, parameters=numbers, instant=self.instant, spec=spec, **more
        )


class LinkFault(Fault):
    """Base of the faults on links: they have `selector`, `clients`, and a phrase for what happens to them."""

    selector: Links
    clients: bool

    parts: ClassVar[Mapping[str, Reader]] = {"selector": read_links}

    def _check_links(self) -> None:
        must_select(self, "selector", links=True)
        self._flag("clients")
        if self.clients and isinstance(self.selector, link):
            raise PlanError(
                f"{type(self).__name__}: clients=True goes with a selector of nodes; "
                f'with a link, name the clients as one of its ends: link("{CLIENT}", "n1")'
            )

    def _phrase(self) -> str:
        raise NotImplementedError

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        if isinstance(self.selector, link):
            concerned = resolve_pairs(self.selector.source, self.selector.target, scene, rng)
            aimed = scene.ordered({node for pair in concerned for node in pair})
            where = f"link{'s' if len(concerned) > 1 else ''} {', '.join(f'{a}→{b}' for a, b in concerned)}"
        else:
            aimed = resolve(self.selector, scene, rng)
            peers = {pair for a in aimed for b in scene.nodes if a != b for pair in ((a, b), (b, a))}
            entries = client_entries(aimed) if self.clients else ()
            concerned = (*in_order(peers, scene), *entries)
            if not concerned:
                raise PlanError(f"{self!r}: {', '.join(aimed)} has no peers, so no links; add clients=True")
            where = f"links {'and clients ' if entries else ''}of {', '.join(aimed)}"
        return self._resolved(aimed, f"{where} {self._phrase()}", links=concerned)


def client_entries(aimed: tuple[str, ...]) -> tuple[Link, ...]:
    return tuple(pair for node in aimed for pair in ((CLIENT, node), (node, CLIENT)))


def in_order(pairs: frozenset[Link] | set[Link], scene: Scene) -> tuple[Link, ...]:
    return tuple((a, b) for a in scene.nodes for b in scene.nodes if (a, b) in pairs)


__all__ = ["Fault", "LinkFault", "Links", "client_entries", "in_order"]

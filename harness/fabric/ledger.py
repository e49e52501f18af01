"""Which toxics are on which proxies, and for which faults."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from harness.fabric import Pair
from harness.fabric.messages import Messages
from harness.fabric.stalling import Cut
from harness.fabric.verb import PROBE, Verb
from harness.proxy.adapter import Server
from harness.proxy.toxics import Stream, Toxic


@dataclass(eq=False)
class Placed:
    """A toxic on a proxy, and the faults that need it there (none: it is to be removed)."""

    proxy: str
    toxic: Toxic
    pair: Pair
    cut: bool
    owners: set[str]


class Ledger:
    """The toxics of one server, in the order of application, which is that of each chain.

    `channels` gives the proxies and streams that carry the bytes of a pair.
    """

    def __init__(self, server: Server, channels: Callable[[Pair], Sequence[tuple[str, Stream]]]) -> None:
        self._server, self._channels = server, channels
        self._placed: list[Placed] = []
        self._serial = 0

    def place(self, name: str, pairs: Iterable[Pair], verb: Verb) -> list[tuple[str, Toxic]]:
        """Note the toxics of a fault, in the order of application: what acts first on all links, probes last.

        A pair that is cut already is not cut twice: the cuts share its toxics, which go with the last of
        them.
        """
        self._serial += 1
        label = f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:40]}.{self._serial}"
        placed, cut = [], isinstance(verb, Cut)
        shared = [one for one in self._placed if cut and one.cut and one.owners and one.pair in pairs]
        for one in shared:
            one.owners.add(name)
        for pair in sorted(set(pairs) - {one.pair for one in shared}):
            for proxy, stream in self._channels(pair):
                if isinstance(verb, Messages) and (proxy, stream) not in verb.channels:
                    continue  # nobody knows where its messages end
                for kind, attributes in verb.toxics:
                    toxic = Toxic(kind, stream, attributes, f"{label}.{kind}.{stream}")
                    placed.append(Placed(proxy, toxic, pair, cut, {name}))
        kinds = [kind for kind, _ in verb.toxics]
        placed.sort(key=lambda one: (kinds.index(one.toxic.type), one.proxy.endswith(PROBE)))
        self._placed += placed
        return [(one.proxy, one.toxic) for one in placed]

    def toxics(self, name: str) -> set[tuple[str, str]]:
        """The toxics that fault `name` needs: proxy and name of each."""
        return {(one.proxy, one.toxic.name) for one in self._placed if name in one.owners}

    def lift(self, names: Collection[str]) -> None:
        """Remove the toxics that only the faults `names` need, the last one of each chain first.

        In this order since the real server does not remove a toxic that has passed on the end of its stream,
        and loses count of those behind it: the stage that holds a close must go before those that do not.
        """
        for one in self._placed:
            one.owners.difference_update(names)
        free = [one for one in self._placed if not one.owners]
        self._server.remove_many([(one.proxy, one.toxic.name) for one in reversed(free)])
        self._placed = [one for one in self._placed if one.owners]

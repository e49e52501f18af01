"""The streams of a proxy server whose messages it tells apart, and what became of the cluster's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from harness.fabric import FaultError, FaultUnsupported, Pair
from harness.fabric.message_spec import MessageSpec
from harness.fabric.messages import Channel, Messages
from harness.fabric.watch import show
from harness.framing import Framing
from harness.proxy.adapter import Framed, Server


class FramedStreams:
    """Tells `server` the framings of streams (before anybody connects); a real one cannot take them."""

    def __init__(self, server: Server, told: Mapping[Channel, Framing]) -> None:
        self._server, self._told = server, frozenset(told)
        rows = [(proxy, stream, framing.wire()) for (proxy, stream), framing in told.items()]
        self._knows = server.frame(rows)

    def verb(
        self,
        name: str,
        spec: MessageSpec,
        seed: int,
        own: Mapping[Pair, Collection[Channel]],
        channels: Collection[Channel],
    ) -> Messages:
        """The fault on those of `channels` whose framing is known; `own` are the cluster's, by pair.

        Raises FaultUnsupported, which says how to have it, where a pair has none.
        """
        if not self._knows:
            raise FaultUnsupported(
                f"fault {name!r}: the proxy server is a real Toxiproxy, which knows no messages;"
                " the embedded server serves a run whose plan has such a fault: let the plan have one"
            )
        if bare := [pair for pair, streams in own.items() if self._told.isdisjoint(streams)]:
            raise FaultUnsupported(
                f"fault {name!r}: nobody knows where messages end on {show(bare)}. The target says it of its"
                ' ports: framing = {"main": Lines()}, or LengthPrefixed(4), Http1(), Framings(...)'
            )
        return Messages(spec, seed, self._told.intersection(channels), self._left(own))

    def _left(self, own: Mapping[Pair, Collection[Channel]]) -> frozenset[Pair]:
        return frozenset(pair for pair, streams in own.items() if not self._told.issuperset(streams))

    def read(self, verb: Messages, placed: Collection[tuple[str, str]]) -> str:
        """What became of the cluster's own messages under a fault, as the server counts them.

        `placed` are its toxics (proxy, name). FaultError where connections do not keep to the framing, so
        that the fault does not touch them.
        """
        mine = [one for channel, one in self._server.framed().items() if channel in verb.own]
        total: Counter[str] = Counter()
        for one in mine:
            if wrong := _untouched(one):
                raise FaultError(wrong)
            for toxic, counts in one.toxics.items():
                if (one.proxy, toxic) in placed:
                    total.update(counts)
        touched = [f"{count} {name}" for name, count in total.items() if count and name != "messages"]
        return f"of {total['messages']} of the cluster's own messages {', '.join(touched) or 'none touched'}"


def _untouched(one: Framed) -> str:
    """Why connections of a stream pass untouched, if any do."""
    if one.error:
        return (
            f"{one.unparsable} connections of proxy {one.proxy} ({one.stream}) did not keep to the"
            f" framing {dict(one.framing)}, and pass untouched: {one.error}. Does the target speak it there?"
        )
    if one.untracked:
        return (
            f"{one.untracked} connections of proxy {one.proxy} ({one.stream}) were open before its"
            " framing was told, and pass untouched"
        )
    return ""


__all__ = ["FramedStreams"]

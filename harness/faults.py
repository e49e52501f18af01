"""What can be done to a cluster: fault values, and what each means once its nodes are drawn.

Three things carry the name. A `Fault` here is what a plan asks for, with selectors still open. A
`harness.resolved.Resolved` has its nodes and links drawn: it is what is carried out, recorded and
replayed. A `harness.history.Fault` is what was then observed.

Times are seconds as float, sizes bytes. A selector means the node's links to its peers, both directions;
``link("n1", "n2")`` means the bytes from n1 to n2 only; ``clients=True`` adds the clients' links to the node.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn, TypeAlias

from harness.resolved import Resolved
from harness.selector import (
    CLIENT,
    Link,
    Scene,
    Selector,
    link,
    must_select,
    read_links,
    read_selector,
    resolve,
    resolve_pairs,
)
from harness.topology import Topology, isolate, links, read_topology, words
from harness.value import PlanError, Reader, Value, read

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


@dataclass(frozen=True, repr=False, init=False)
class partition(Fault):
    """Nodes hear nothing from others, as `topology` divides them; a bare selector means `isolate`.

    Clients still reach every node, or no stale read is ever seen; ``clients=True`` (with `isolate` only) cuts
    the isolated nodes from their clients, too.

    >>> partition("leader") == partition(isolate("leader"))
    True
    """

    topology: Topology
    clients: bool = False

    parts: ClassVar[Mapping[str, Reader]] = {"topology": read_topology}

    def __init__(self, topology: Topology | Selector, clients: bool = False) -> None:
        self._set(topology=topology if isinstance(topology, Topology) else None, clients=clients)
        if not isinstance(topology, Topology):
            self._set(topology=_isolated(topology))
        self._flag("clients")
        if clients and not isinstance(self.topology, isolate):
            raise PlanError(
                f"partition: clients=True cuts isolated nodes from clients: use isolate, not {topology!r}"
            )

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        if isinstance(self.topology, isolate):
            chosen = self.topology.chosen(scene, rng)
            grudge = self.topology.around(chosen, scene)
        else:
            grudge = self.topology.grudge(scene, rng)
            chosen = scene.ordered({node for pair in links(grudge) for node in pair})
        entries = _client_entries(chosen) if self.clients else ()
        what = words(grudge, scene) + (f"; {', '.join(chosen)} cut from clients" if entries else "")
        return self._resolved(chosen, what, links=(*_sorted(links(grudge), scene), *entries), grudge=grudge)


class _LinkFault(Fault):
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
            entries = _client_entries(aimed) if self.clients else ()
            concerned = (*_sorted(peers, scene), *entries)
            if not concerned:
                raise PlanError(f"{self!r}: {', '.join(aimed)} has no peers, so no links; add clients=True")
            where = f"links {'and clients ' if entries else ''}of {', '.join(aimed)}"
        return self._resolved(aimed, f"{where} {self._phrase()}", links=concerned)


@dataclass(frozen=True, repr=False)
class latency(_LinkFault):
    """Bytes arrive `delay` seconds later, give or take `jitter`; their order stays. At least a millisecond.

    >>> latency("leader", 0.2, jitter=0.05)
    latency('leader', 0.2, jitter=0.05)
    """

    selector: Links
    delay: float
    jitter: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("delay", "seconds", least=0.001)
        self._number("jitter", "seconds (no more than the delay)", most=self.delay)

    def _phrase(self) -> str:
        return f"slowed by {self.delay:g} s" + (f" ± {self.jitter:g} s" if self.jitter else "")


@dataclass(frozen=True, repr=False)
class bandwidth(_LinkFault):
    """Each link carries at most `rate` bytes a second, at least 1000, each direction for itself."""

    selector: Links
    rate: int
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._count("rate", "bytes a second", least=1000)

    def _phrase(self) -> str:
        return f"limited to {self.rate} bytes/s"


@dataclass(frozen=True, repr=False)
class packet_loss(_LinkFault):
    """Each packet is lost with `probability`, above 0 and at most 1. The runtime ``local`` has no packets."""

    selector: Links
    probability: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("probability", "a probability", most=1.0, above=True)

    def _phrase(self) -> str:
        return f"lose {self.probability * 100:g} % of their packets"


@dataclass(frozen=True, repr=False)
class reset_peer(_LinkFault):
    """Connections are reset (RST) `timeout` seconds after their next byte; new ones, too, while it lasts."""

    selector: Links
    timeout: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("timeout", "seconds")

    def _phrase(self) -> str:
        return f"reset {self.timeout:g} s after the next byte" if self.timeout else "reset at the next byte"


@dataclass(frozen=True, repr=False)
class slicer(_LinkFault):
    """Bytes arrive in pieces of `average_size` ± `size_variation` bytes, `delay` seconds apart."""

    selector: Links
    average_size: int
    size_variation: int = 0
    delay: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._count("average_size", "bytes", least=1)
        self._count("size_variation", "bytes")
        if self.size_variation >= self.average_size:
            raise self._fail("size_variation", f"less than average_size, which is {self.average_size}")
        self._number("delay", "seconds")

    def _phrase(self) -> str:
        size = f"{self.average_size}" + (f" ± {self.size_variation}" if self.size_variation else "")
        return f"sliced into pieces of {size} bytes" + (f", {self.delay:g} s apart" if self.delay else "")


@dataclass(frozen=True, repr=False)
class limit_data(_LinkFault):
    """A connection is closed once `bytes` bytes have passed in a direction."""

    selector: Links
    bytes: int
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._count("bytes", "bytes")

    def _phrase(self) -> str:
        return f"closed after {self.bytes} bytes"


@dataclass(frozen=True, repr=False)
class slow_close(_LinkFault):
    """A connection's close arrives `delay` seconds late, at least a millisecond."""

    selector: Links
    delay: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("delay", "seconds", least=0.001)

    def _phrase(self) -> str:
        return f"close {self.delay:g} s late"


@dataclass(frozen=True, repr=False)
class timeout(_LinkFault):
    """Bytes vanish, and a connection is closed after `timeout` seconds without any; 0: never closed.

    Differs from `partition`, which loses no byte of a connection: these are gone after the heal, too, and
    healing closes the connections.
    """

    selector: Links
    timeout: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("timeout", "seconds (0: for ever)")
        if 0 < self.timeout < 0.001:
            raise self._fail("timeout", "0 (for ever) or at least 0.001 seconds")

    def _phrase(self) -> str:
        closing = f" and close after {self.timeout:g} s without any" if self.timeout else ""
        return "swallow every byte" + closing


class _MessageFault(_LinkFault):
    """Base of the faults on whole messages, whose choices have a seed of their own, drawn with the nodes.

    They need a target that declares how its messages are framed (`Target.framing`), and act on every
    connection opened since its start, from the next message on.
    """

    def _check_share(self, most: float = 1.0) -> None:
        self._check_links()
        self._number("probability", "a probability", least=0.002, most=most)

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        resolved = super().resolve(scene, rng)
        seed = 1 + rng.getrandbits(32)
        return replace(resolved, parameters={**resolved.parameters, "seed": seed})


@dataclass(frozen=True, repr=False)
class message_drop(_MessageFault):
    """Each message is lost with `probability`, 0.002 to 1; its connection stays.

    No network does this to TCP: a relay, a queue or a full buffer inside a system does.
    """

    selector: Links
    probability: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share()

    def _phrase(self) -> str:
        return f"lose {self.probability * 100:g} % of their messages"


@dataclass(frozen=True, repr=False)
class message_duplicate(_MessageFault):
    """Each message arrives twice in a row with `probability`, 0.002 to 1."""

    selector: Links
    probability: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share()

    def _phrase(self) -> str:
        return f"deliver {self.probability * 100:g} % of their messages twice"


@dataclass(frozen=True, repr=False)
class message_corrupt(_MessageFault):
    """In each message one bit of its payload is flipped with `probability`, 0.002 to 1; its end stays."""

    selector: Links
    probability: float
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share()

    def _phrase(self) -> str:
        return f"flip a bit in {self.probability * 100:g} % of their messages"


@dataclass(frozen=True, repr=False)
class message_reorder(_MessageFault):
    """Each message is held for `hold` seconds with `probability`, 0.002 to 0.9, while the others pass it."""

    selector: Links
    probability: float
    hold: float = 0.05
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_share(0.9)
        self._number("hold", "seconds", least=0.001, most=3600.0)

    def _phrase(self) -> str:
        return f"hold {self.probability * 100:g} % of their messages for {self.hold:g} s"


@dataclass(frozen=True, repr=False)
class message_delay(_MessageFault):
    """Each message arrives `delay` seconds later, give or take `jitter`, whole and in order.

    Differs from `latency` in that each message has a delay of its own, and none arrives in parts.
    """

    selector: Links
    delay: float
    jitter: float = 0.0
    clients: bool = False

    def __post_init__(self) -> None:
        self._check_links()
        self._number("delay", "seconds", least=0.001, most=3600.0)
        self._number("jitter", "seconds (no more than the delay)", most=self.delay)

    def _phrase(self) -> str:
        spread = f" ± {self.jitter:g} s" if self.jitter else ""
        return f"deliver messages {self.delay:g} s{spread} late"


class _NodeFault(Fault):
    """Base of the faults on the processes of nodes."""

    selector: Selector
    done: ClassVar[str]

    parts: ClassVar[Mapping[str, Reader]] = {"selector": read_selector}

    def __post_init__(self) -> None:
        must_select(self, "selector")

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        aimed = resolve(self.selector, scene, rng)
        return self._resolved(aimed, f"{', '.join(aimed)} {self.done}")


@dataclass(frozen=True, repr=False)
class kill(_NodeFault):
    """Nodes are killed (SIGKILL) and, when it has lasted, started again with their data.

    Without ``lasts`` they stay down until the run heals, before its final reads.
    """

    selector: Selector
    done = "killed"


@dataclass(frozen=True, repr=False)
class pause(_NodeFault):
    """Nodes stand still (SIGSTOP) with their connections open, and go on when it has lasted."""

    selector: Selector
    done = "paused"


@dataclass(frozen=True, repr=False)
class restart(_NodeFault):
    """Nodes are killed and started again at once: over in an instant, unlike `kill`, which lasts."""

    selector: Selector
    done = "killed and started again"

    @property
    def instant(self) -> bool:
        return True


@dataclass(frozen=True, repr=False)
class fault(Fault):
    """A fault of your own: functions that are called with the running chaos context.

    `inject` makes it, `heal` ends it (without one it is over at once), `verify` returns whether it holds.
    `heal` is also called where `inject` raised, `verify` says that nothing holds, or the run is given up: it
    must do no harm where there is nothing to undo.
    It is recorded by `name`, the function's unless given; JSON has the name only and cannot be loaded.
    """

    inject: Callable[[Any], Any]
    heal: Callable[[Any], Any] | None = None
    verify: Callable[[Any], Any] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        for part in ("inject", "heal", "verify"):
            given = getattr(self, part)
            if not callable(given) and (part == "inject" or given is not None):
                raise self._fail(
                    part, "a function of the chaos context" + (", or None" if part != "inject" else "")
                )
        if not self.name:
            self._set(name=getattr(self.inject, "__name__", ""))
        if not isinstance(self.name, str) or not self.name or self.name == "<lambda>":
            raise self._fail("name", 'a name for the record, since the function has none: name="..."')

    @property
    def instant(self) -> bool:
        return self.heal is None

    def to_json(self) -> dict[str, Any]:
        """Its name only: functions cannot be written down."""
        return {"kind": "fault", "name": self.name}

    def resolve(self, scene: Scene, rng: random.Random) -> Resolved:
        return self._resolved((), self.name)

    def _call(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        positional, keywords = super()._call()
        shown = {k: _Written(_function(v)) if callable(v) else v for k, v in keywords.items()}
        if self.name == getattr(self.inject, "__name__", ""):
            del shown["name"]
        return [_Written(_function(function)) for function in positional], shown

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> NoReturn:
        raise PlanError(
            f"the fault {data.get('name')!r} is made of functions and cannot be loaded from JSON; "
            "run the plan from the Python that makes it"
        )


class _Written(str):
    """Text that stands in a repr as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _function(function: Any) -> str:
    return str(getattr(function, "__name__", None) or repr(function))


def _isolated(selector: Any) -> isolate:
    try:
        return isolate(selector)
    except PlanError as error:
        raise PlanError(f"partition: {selector!r} is neither a topology nor a selector; {error}") from None


def _client_entries(aimed: tuple[str, ...]) -> tuple[Link, ...]:
    return tuple(pair for node in aimed for pair in ((CLIENT, node), (node, CLIENT)))


def _sorted(pairs: frozenset[Link] | set[Link], scene: Scene) -> tuple[Link, ...]:
    return tuple((a, b) for a in scene.nodes for b in scene.nodes if (a, b) in pairs)


FAULTS: tuple[type[Fault], ...] = (
    partition, latency, bandwidth, packet_loss, reset_peer, slicer, limit_data, slow_close, timeout,
    message_drop, message_duplicate, message_corrupt, message_reorder, message_delay,
    kill, pause, restart, fault,
)  # fmt: skip


MESSAGE_FAULTS: tuple[str, ...] = tuple(kind.__name__ for kind in FAULTS if issubclass(kind, _MessageFault))
"""Names of the faults on whole messages."""


def read_fault(data: Any) -> Fault:
    """A fault from its JSON. Raises PlanError that lists the faults or the fields, and for a user's own."""
    return read(data, FAULTS, "fault")


__all__ = [
    "FAULTS",
    "MESSAGE_FAULTS",
    "Fault",
    "Links",
    "Resolved",
    "bandwidth",
    "fault",
    "kill",
    "latency",
    "limit_data",
    "message_corrupt",
    "message_delay",
    "message_drop",
    "message_duplicate",
    "message_reorder",
    "packet_loss",
    "partition",
    "pause",
    "read_fault",
    "reset_peer",
    "restart",
    "slicer",
    "slow_close",
    "timeout",
]  # fmt: skip

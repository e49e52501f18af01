"""The self-test of a routed fabric: every link is seen open and seen cut before anybody relies on it.

Link by link that would take as many loads of the packet filter as there are links. Here each link has a word,
the rounds in which it is cut; in each round all links whose word has it are cut by one load, and every probe
that crosses a cut link, or does not cross an open one, is a finding. All words have one weight, so none is
part of another: a rule that is missing, or that holds another link instead, shows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.fabric import CLIENT, FaultError, Pair
from harness.fabric.layout import Layout
from harness.fabric.volley import CONNECT, CONNECTION, DATAGRAM, ECHO, LEG, Sight, Volley
from harness.fabric.watch import PATIENCE

WINDOW = 0.005  # seconds that a forbidden probe has at least: the kernel alone makes it cross, or not
LATE = 5 * PATIENCE  # seconds that all the allowed ones may take
AGAIN = 0.25  # seconds after which a datagram that has not arrived is sent once more
AT_ONCE = 300  # links probed at the same time
NAMED = 8  # findings in an error's text


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe showed in `round` (from 1), and how it differs from what was due."""

    protocol: str
    round: int
    link: Pair
    what: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.link[0]}→{self.link[1]} {self.what} (round {self.round})"


class SelfTestError(FaultError):
    """Links that do not do what the packet filter was told; `findings` has each probe that shows it.

    `past` has the nodes that received packets past the router, and how many.
    """

    def __init__(self, findings: Sequence[Finding], past: Mapping[str, int]) -> None:
        told = [*map(str, findings[:NAMED])]
        if len(findings) > NAMED:
            told.append(f"{len(findings) - NAMED} more")
        told += [f"{count} packets of peers came to {node} past the router" for node, count in past.items()]
        super().__init__(
            f"the fabric failed its self-test: {'; '.join(told)}. Expected every probe to cross exactly the"
            " links that were open, by the router: is somebody else changing the network's rules or routes,"
            " or does this kernel's packet filter lack a part?"
        )
        self.findings, self.past = tuple(findings), dict(past)


@dataclass(frozen=True, slots=True)
class Report:
    """What a self-test that found nothing wrong has tried. `bypassed` counts packets that reached a node past
    the router, None where nodes share no network on which one could.
    """

    pairs: int
    rounds: int
    probes: int
    seconds: float
    bypassed: int | None

    def __str__(self) -> str:
        past = (
            "there is no way past the router"
            if self.bypassed is None
            else f"{self.bypassed} packets came past the router"
        )
        return (
            f"the self-test saw each of {self.pairs} ordered pairs open and cut, by UDP, TCP and the proxy "
            f"server's own connections: {self.probes} probes in {self.rounds} rounds, {self.seconds:.2f} s; "
            f"{past}"
        )


def code_words(pairs: Iterable[Pair]) -> tuple[int, Mapping[Pair, frozenset[int]]]:
    """How many rounds there are, and those in which each pair is cut.

    A pair and its opposite are both open in one round at least, since TCP needs both.

    >>> code_words([("n1", "n2"), ("n2", "n1")])
    (3, {('n1', 'n2'): frozenset({1}), ('n2', 'n1'): frozenset({2})})
    """
    known = set(pairs)
    opposites = [(pair, pair[::-1]) for pair in sorted(known) if pair[0] < pair[1] or pair[::-1] not in known]
    ordered = [pair for two in opposites for pair in two if pair in known]
    rounds = 3
    while True:
        some = itertools.combinations(range(1, rounds + 1), rounds // 2)
        words = dict(zip(ordered, map(frozenset, some), strict=False))
        if len(words) == len(ordered) and all(
            len(words[pair] | words.get(pair[::-1], frozenset())) < rounds for pair in ordered
        ):
            return rounds, words
        rounds += 1


def self_test(
    layout: Layout,
    volley: Volley,
    load: Callable[[Collection[Pair]], object],
    bypassed: Callable[[], Mapping[str, int]] | None = None,
) -> Report:
    """See every pair open and cut, then leave all open. Raises SelfTestError.

    `load` has exactly the pairs that it is given cut from its return on; `bypassed` counts the packets that
    reached each node past the router.
    """
    began = time.monotonic()
    pairs = [*layout.links, *((node, CLIENT) for node in layout.nodes)]
    rounds, words = code_words(pairs)
    due: set[Sight] = set()
    try:
        for turn in range(1, rounds + 1):
            cut = {pair for pair, word in words.items() if turn in word}
            open_now = _due(layout, turn, cut)
            due |= open_now
            load(cut)
            for first in range(0, len(layout.links), AT_ONCE):
                _probe(volley, turn, layout.links[first : first + AT_ONCE], open_now)
            if open_now - volley.seen:  # what is shut for good would be awaited in each round
                break
    finally:
        load(())
    past = None if bypassed is None else bypassed()
    strays = {node: count for node, count in (past or {}).items() if count}
    if (findings := _findings(volley, due)) or strays:
        raise SelfTestError(findings, strays)
    seconds, total = time.monotonic() - began, None if past is None else 0
    return Report(len(pairs), rounds, volley.sent, seconds, total)


def _due(layout: Layout, turn: int, cut: Collection[Pair]) -> set[Sight]:
    """What must be seen: a datagram needs its own direction, a connection and the proxy's own leg both."""
    both = [link for link in layout.links if link not in cut and link[::-1] not in cut]
    kinds = [f"{kind} {part}" for kind in (CONNECTION, LEG) for part in (CONNECT, ECHO)]
    return {(DATAGRAM, turn, pair) for pair in layout.pairs if pair not in cut} | {
        (kind, turn, link) for kind in kinds for link in both
    }


def _probe(volley: Volley, turn: int, links: Sequence[Pair], due: Collection[Sight]) -> None:
    """Probe `links`, until what is due has been seen and what is not has had as long as it could need."""
    some = set(links)
    wanted = {sight for sight in due if sight[2] in some}
    volley.datagrams(turn, [link for link in links if link[0] != CLIENT])
    volley.connections(turn, links)
    volley.stock(links)  # of the next round, while these are under way
    began = sent = now = time.monotonic()
    while (missing := wanted - volley.seen) or now < began + WINDOW:
        if now > began + LATE:
            break
        volley.receive(0.002)
        now = time.monotonic()
        if missing and now > sent + AGAIN:
            sent = now
            volley.datagrams(turn, [pair for kind, _, pair in missing if kind == DATAGRAM])
    volley.receive(0)
    volley.hang_up()


def _findings(volley: Volley, due: Collection[Sight]) -> list[Finding]:
    found = [Finding(*sight, what) for sight, what in sorted(volley.strange.items())]
    found += [Finding(*sight, "crossed, though cut") for sight in sorted(volley.seen.difference(due))]
    found += [Finding(*s, "did not arrive, though open") for s in sorted({*due}.difference(volley.seen))]
    return found


__all__ = ["Finding", "Report", "SelfTestError", "code_words", "self_test"]

"""The self-test of a routed fabric finds whatever one rule does wrong, and nothing where all are right."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial

import pytest

from harness.cluster import NetnsCluster, SiteCluster
from harness.fabric import CLIENT, FaultError, Pair, selftest
from harness.fabric.routed import ROUTER, Routed
from harness.fabric.rules import cuts
from harness.fabric.selftest import Finding, Report, SelfTestError, self_test
from harness.fabric.volley import Volley
from tests.integration.cluster.support import Tiny, no_namespaces, running, until

Rules = Callable[[Collection[Pair]], str]


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    if why := no_namespaces():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    with running(Tiny(nodes=5), tmp_path_factory.mktemp("five"), kind=NetnsCluster) as cluster:
        fabric = cluster.fabric
        assert isinstance(fabric, Routed)
        yield fabric


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never arrives is given up early."""
    monkeypatch.setattr(selftest, "LATE", 0.5)


def trial(
    fabric: Routed,
    rules: Rules | None = None,
    bypassed: Callable[[], Mapping[str, int]] | None = None,
) -> Report:
    """A self-test of `fabric` in which cuts are loaded as `rules` has them."""
    layout, inside = fabric.layout, fabric._inside
    volley = volley_of(fabric)
    rules = rules or (lambda pairs: cuts(layout, pairs))
    try:
        return self_test(layout, volley, lambda pairs: inside[ROUTER].restore(rules(pairs)), bypassed)
    finally:
        volley.close()


def volley_of(fabric: Routed) -> Volley:
    ends = {link: fabric._probes.end(link) for link in fabric.layout.links}
    return Volley(fabric.layout, fabric._inside, ROUTER, ends)


def strangers(volley: Volley, count: int) -> bool:
    volley.receive(0.0)
    return len(volley.strange) >= count


def findings(fabric: Routed, rules: Rules | None = None) -> tuple[Finding, ...]:
    """What the self-test finds; it must find something."""
    with pytest.raises(SelfTestError) as caught:
        trial(fabric, rules)
    return caught.value.findings


def without(fabric: Routed, pair: Pair, *starts: str) -> Rules:
    """The rules of cuts, without those of `pair` that begin with any of `starts`."""
    layout = fabric.layout
    left = f"-A NEMESIS_HELD -s {layout.ip(pair[0])} -d 198.18."  # of what is held for the proxy server
    every = cuts(layout, [pair]).splitlines(keepends=True)
    own = {line for line in every if line.startswith(starts) and not line.startswith(left)}

    def rules(pairs: Collection[Pair]) -> str:
        lines = cuts(layout, pairs).splitlines(keepends=True)
        kept = [line for line in lines if line not in own]
        assert len(lines) - len(kept) == (len(starts) if pair in pairs else 0)
        return "".join(kept)

    return rules


# ctnetlink: an IPCTNL_MSG_CT_DELETE that names no connection means all; it is acknowledged by an errno
FORGET = """
import os, socket, struct, sys
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
sock.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 1 | 4, 1, 0, 2, 0, 0))
error = -struct.unpack_from("=i", sock.recv(4096), 16)[0]
sys.exit(os.strerror(error) if error else 0)
"""


@contextmanager
def missing(fabric: Routed, rule: str) -> Iterator[None]:
    """The router without one of its rules of translation.

    It forgets what it tracks, too: a connection that was cut while it opened is remembered for two minutes,
    and the next one from the same port would be translated as that one was, whatever the rules are by then.
    """
    router = fabric._inside[ROUTER]
    saved = router.run(["iptables-save", "-t", "nat"])
    (line,) = [line for line in saved.splitlines() if line.startswith("-A ") and rule in line + " "]
    router.run(["iptables", "-t", "nat", *line.replace("-A ", "-D ", 1).split()])
    router.run([sys.executable, "-S", "-c", FORGET])
    try:
        yield
    finally:
        router.run(["iptables-restore"], saved)  # in its place
        router.run([sys.executable, "-S", "-c", FORGET])


def test_a_healthy_fabric_passes(routed: Routed) -> None:
    for _ in range(5):
        report = trial(routed)
        assert (report.pairs, report.rounds, report.bypassed) == (30, 7, None)
        assert report.probes >= 7 * (20 + 2 * 25)
    assert routed.await_healthy(5.0) < 5.0  # and it has left nothing cut


def test_a_node_s_packets_that_are_not_cut(routed: Routed) -> None:
    for pair in routed.layout.pairs:
        found = findings(routed, without(routed, pair, "-A NEMESIS_IN -s"))
        # nothing is forwarded, as what the packet engine holds is stopped too; but the proxy hears the node
        assert {(f.protocol, f.link) for f in found} >= {("proxy leg connect", pair[::-1])}, pair
        found = findings(routed, without(routed, pair, "-A NEMESIS_IN -s", "-A NEMESIS_HELD -s"))
        assert {(f.protocol, f.link) for f in found} >= {("UDP", pair)}, pair
        assert {f.link for f in found} <= {pair, pair[::-1]}


def test_what_the_proxy_sends_on_that_is_not_cut(routed: Routed) -> None:
    for pair in routed.layout.pairs:
        found = findings(routed, without(routed, pair, "-A NEMESIS_OUT -d"))
        assert {(f.protocol, f.link) for f in found} == {
            ("proxy leg connect", pair),
            ("proxy leg echo", pair),
        }, pair


def test_what_the_proxy_answers_that_is_not_cut(routed: Routed) -> None:
    for pair in routed.layout.pairs:
        found = findings(routed, without(routed, pair, "-A NEMESIS_OUT -s"))
        assert ("TCP connect", pair[::-1]) in {(f.protocol, f.link) for f in found}, pair
        assert {f.link for f in found} == {pair[::-1]}


@pytest.mark.parametrize(
    ("client_first", "start"),
    [(True, "-A NEMESIS_IN"), (True, "-A NEMESIS_OUT"), (False, "-A NEMESIS_IN"), (False, "-A NEMESIS_OUT")],
)
def test_a_client_s_link_that_is_not_cut(routed: Routed, client_first: bool, start: str) -> None:
    for node in routed.layout.nodes:
        pair = (CLIENT, node) if client_first else (node, CLIENT)
        found = findings(routed, without(routed, pair, start))
        assert {f.link for f in found} == {(CLIENT, node)}


def swapped(fabric: Routed, one: Pair, other: Pair) -> Rules:
    swap = {one: other, other: one}
    return lambda pairs: cuts(fabric.layout, [swap.get(pair, pair) for pair in pairs])


def test_two_links_that_are_swapped(routed: Routed) -> None:
    pairs = routed.layout.pairs
    for one, other in zip(pairs, pairs[7:] + pairs[:7], strict=True):
        found = findings(routed, swapped(routed, one, other))
        assert {f.link for f in found if f.protocol == "UDP"} == {one, other}


def test_a_way_into_the_proxy_that_is_missing(routed: Routed) -> None:
    for a, b in routed.layout.pairs:
        with missing(routed, f"-j DNAT --to-destination {routed.layout.listen(a, b)} "):
            found = findings(routed)
            assert any("by the way of client→" in f.what for f in found if f.link == (a, b))


def test_a_way_out_of_the_proxy_that_is_missing(routed: Routed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "LATE", 1.0)  # the connect, which is not missing, must not be late
    for a, b in routed.layout.pairs:
        with missing(routed, f"-A OUTPUT -d {routed.layout.upstream(a, b)}/32 "):
            found = {(f.protocol, f.link) for f in findings(routed)}
            assert {("proxy leg connect", (a, b)), ("TCP echo", (a, b))} <= found


def test_a_sender_that_is_not_restored(routed: Routed) -> None:
    for a, b in routed.layout.pairs:
        with missing(routed, f"--ctorigdst {routed.layout.upstream(a, b)} "):
            assert ("proxy leg connect", (a, b)) in {(f.protocol, f.link) for f in findings(routed)}


def test_a_sender_that_is_another_s(routed: Routed) -> None:
    """All is open, so what nodes see of the sender is all that tells."""
    layout, router = routed.layout, routed._inside[ROUTER]
    for a, b in layout.pairs[::4]:
        match = f"--ctorigdst {layout.upstream(a, b)} "
        volley = volley_of(routed)
        with missing(routed, match), closing(volley):
            rule = f"-A POSTROUTING -m conntrack {match} -j SNAT --to-source {layout.router}"
            router.run(["iptables", "-t", "nat", *rule.split()])
            volley.connections(1, layout.links)
            until(partial(strangers, volley, 2), 5.0, "both connections through")
            text = f"was seen to come from {layout.router}, expected {layout.ip(a)}"
            assert volley.strange == {("TCP", 1, (a, b)): text, ("proxy leg", 1, (a, b)): text}


def test_packets_past_the_router(routed: Routed) -> None:
    assert trial(routed, bypassed=lambda: dict.fromkeys(routed.layout.nodes, 0)).bypassed == 0
    with pytest.raises(FaultError, match=r"3 packets of peers came to n2 past the router"):
        trial(routed, bypassed=lambda: {"n1": 0, "n2": 3})


def test_a_cluster_tells_of_it(tmp_path_factory: pytest.TempPathFactory, routed: Routed) -> None:
    with running(Tiny(nodes=2), tmp_path_factory.mktemp("two"), kind=NetnsCluster) as cluster:
        assert isinstance(cluster, SiteCluster)
        carried, seen = cluster.notes
        assert carried == "links are carried by the embedded server"
        assert seen.startswith("the self-test saw each of 6 ordered pairs open and cut")

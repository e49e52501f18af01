"""Faults on whole messages: seen by the nodes, proved by counting, refused where nobody knows the framing."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.fabric import FaultError, FaultUnsupported, Pair
from harness.fabric.message_spec import MessageSpec
from harness.framing import Framing, Framings, Http1, LengthPrefixed, Lines
from tests.integration.fabric.support import Lab, lab, liar_command
from tests.integration.proxy.conftest import command_of
from tests.integration.proxy.support import embedded_command

ONE: list[Pair] = [("n1", "n2")]
TWO: list[Pair] = [("n1", "n2"), ("n2", "client")]
THREE = ("n1", "n2", "n3")
SENT = [b"message %d\n" % number for number in range(2000)]
SPECS = {
    "drop": MessageSpec(drop=0.1),
    "rare drop": MessageSpec(drop=0.01),
    "drop of all": MessageSpec(drop=1),
    "duplicate": MessageSpec(duplicate=0.1),
    "corrupt": MessageSpec(corrupt=0.1),
    "reorder": MessageSpec(reorder=0.1, hold=0.05),
    "delay": MessageSpec(delay=0.05),
    "delay and jitter": MessageSpec(delay=0.06, jitter=0.06),
    "all": MessageSpec(drop=0.2, corrupt=0.3, duplicate=0.4, reorder=0.3, hold=0.03, delay=0.01),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    with lab(embedded_command(), THREE, {"main": Lines()}) as made:
        yield made


@pytest.fixture
def three(shared: Lab) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(shared.fabric, shared.nodes, stack)
    shared.fabric.heal_all()


def through(three: Lab, src: str, dst: str, connection: socket.socket | None = None) -> list[bytes]:
    """The lines that `dst` gets of those that `src` sends it, by `connection` or a new one."""
    node = three.nodes[dst]
    before, closes = len(node.received), node.closes
    connection = connection or three.connect(src, dst)
    connection.sendall(b"".join(SENT))
    connection.shutdown(socket.SHUT_WR)
    assert node.awaits(lambda n: n.closes > closes, 10)
    return bytes(node.received[before:]).splitlines(keepends=True)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("pairs", [ONE, [*TWO, ("n2", "n1"), ("n3", "n1")]], ids=["one", "several"])
def test_each_is_proved_both_ways_and_gone(three: Lab, name: str, pairs: list[Pair]) -> None:
    effect = three.fabric.messages("x", pairs, SPECS[name], seed=11)
    assert effect.mechanism == "embedded proxy message"
    assert f"asked {SPECS[name].words()}: of " in effect.proof
    assert three.fabric.snapshot() == dict.fromkeys(pairs, ("x",))
    healed = three.fabric.heal("x")
    assert "all came once, whole, in order" in healed.proof
    assert three.fabric.await_healthy(10) < 10
    assert through(three, "n1", "n2") == SENT


def test_nodes_lose_messages_and_keep_their_connections(three: Lab) -> None:
    live = three.connect("n1", "n2")
    live.sendall(b"unfinished ")
    assert three.nodes["n2"].awaits(lambda n: n.received.endswith(b"unfinished "), 5)
    effect = three.fabric.messages("lost", ONE, MessageSpec(drop=0.5), seed=1)
    assert re.search(r"of 1600 messages \d+ dropped on n1→n2 \(live and new", effect.proof)
    assert "n2→n1 as before" in effect.proof
    got = through(three, "n1", "n2", live)
    assert got[0] == SENT[0]  # the one that was under way is not touched
    assert 800 < len(got) < 1200 and set(got) <= set(SENT)
    assert through(three, "n2", "n1") == SENT
    assert through(three, "client", "n2") == SENT
    said = three.fabric.heal("lost").proof
    counted = re.match(r"of (\d+) of the cluster's own messages (\d+) dropped;", said)
    assert counted and int(counted[1]) == len(SENT) - 1 and int(counted[2]) == len(SENT) - len(got)


def test_nodes_see_duplicates_changes_and_others_overtaking(three: Lab) -> None:
    three.fabric.messages("twice", ONE, MessageSpec(duplicate=0.5), seed=1)
    got = through(three, "n1", "n2")
    assert list(dict.fromkeys(got)) == SENT and 2800 < len(got) < 3200
    three.fabric.heal("twice")
    three.fabric.messages("flip", ONE, MessageSpec(corrupt=0.5), seed=1)
    got = through(three, "n1", "n2")
    assert len(got) == len(SENT) and 800 < sum(a != b for a, b in zip(got, SENT, strict=True)) < 1200
    three.fabric.heal("flip")
    three.fabric.messages("mixed", ONE, MessageSpec(reorder=0.5, hold=0.1), seed=1)
    got = through(three, "n1", "n2")
    assert sorted(got) == sorted(SENT) and sum(a != b for a, b in zip(got, SENT, strict=True)) > 800


def test_they_unite_and_healing_one_leaves_the_other(three: Lab) -> None:
    three.fabric.messages("twice", ONE, MessageSpec(duplicate=0.5), seed=1)
    second = three.fabric.messages("mixed", ONE, MessageSpec(reorder=0.3, hold=0.05), seed=2)
    assert "duplicated" in second.proof and "overtaken" in second.proof and "hidden" not in second.proof
    healed = three.fabric.heal("twice")
    assert "overtaken" in healed.proof and "duplicated on n1→n2" not in healed.proof
    assert "n1→n2 still under mixed" in healed.proof
    assert sorted(through(three, "n1", "n2")) == sorted(SENT)


def test_a_cut_over_them_is_still_seen(three: Lab) -> None:
    three.fabric.messages("twice", ONE, MessageSpec(duplicate=1), seed=1)
    cut = three.fabric.cut("cut", [*ONE, ("n2", "n1")])
    assert "no byte and no close crossed n1→n2, n2→n1" in cut.proof
    three.fabric.heal("cut")
    assert through(three, "n1", "n2")[:2] == [SENT[0], SENT[0]]


def test_under_a_cut_they_are_proved_when_it_is_healed(three: Lab) -> None:
    three.fabric.cut("cut", ONE)
    effect = three.fabric.messages("lost", [*ONE, ("n3", "n1")], MessageSpec(drop=0.5), seed=1)
    assert "hidden on n1→n2" in effect.proof and re.search(r"\d+ dropped on n3→n1", effect.proof)
    assert re.search(r"lost, hidden until now: .* \d+ dropped on n1→n2", three.fabric.heal("cut").proof)


def test_a_latency_over_them_is_proved_when_they_are_healed(three: Lab) -> None:
    three.fabric.messages("lost", ONE, MessageSpec(drop=0.5), seed=1)
    assert "hidden on n1→n2" in three.fabric.shape("slow", ONE, latency=0.05).proof
    told = re.search(r"slow, hidden until now: n1→n2 took (\d+\.\d) to", three.fabric.heal("lost").proof)
    assert told is not None and 50 <= float(told[1]) < 100


def test_a_rate_hides_them(three: Lab) -> None:
    three.fabric.shape("thin", ONE, rate=100_000)
    effect = three.fabric.messages("lost", ONE, MessageSpec(drop=0.5), seed=1)
    assert "hidden on n1→n2" in effect.proof and "not measured on n1→n2" in effect.proof
    assert "lost, hidden until now" in three.fabric.heal("thin").proof


# ---------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize("name", SPECS)
def test_a_server_that_does_nothing_is_found_out(name: str) -> None:
    with lab(liar_command("stores"), ("n1", "n2"), {"main": Lines()}) as made:
        with pytest.raises(FaultError, match="did not take effect"):
            made.fabric.messages("x", TWO, SPECS[name], seed=3)
        assert made.fabric.snapshot() == {}
        assert {len(proxy.toxics) for proxy in made.fabric._server.proxies().values()} == {0}


@pytest.mark.parametrize("name", SPECS)
def test_a_server_that_does_half_of_it_is_found_out(name: str) -> None:
    with lab(liar_command("halves"), ("n1", "n2"), {"main": Lines()}) as made:
        refused = pytest.raises(FaultError, match=r"did not take effect: .*expected")
        with refused:
            made.fabric.messages("x", TWO, SPECS[name], seed=3)


@pytest.mark.parametrize("name", SPECS)
def test_a_server_that_goes_on_with_it_is_found_out(name: str) -> None:
    with lab(liar_command("keeps"), ("n1", "n2"), {"main": Lines()}) as made:
        made.fabric.messages("x", TWO, SPECS[name], seed=3)
        for _ in range(2):
            with pytest.raises(FaultError, match="is not gone"):
                made.fabric.heal("x")


@pytest.mark.parametrize("framing", [LengthPrefixed(4), Http1()])
def test_nodes_that_do_not_keep_to_the_framing_fail_the_proof(framing: Framing) -> None:
    with lab(embedded_command(), ("n1", "n2"), {"main": framing}) as made:
        connection = made.connect("n1", "n2")
        connection.sendall(b"plain text\n")
        assert made.nodes["n2"].awaits(lambda n: n.received.endswith(b"text\n"), 5)
        with pytest.raises(FaultError, match=r"n1-n2.main \(upstream\) did not keep to the framing"):
            made.fabric.messages("x", ONE, MessageSpec(drop=0.5))
        assert made.fabric.snapshot() == {}


def test_nodes_that_leave_the_framing_while_it_holds_fail_the_heal() -> None:
    with lab(embedded_command(), ("n1", "n2"), {"main": LengthPrefixed(4)}) as made:
        made.fabric.messages("x", ONE, MessageSpec(drop=0.5))
        made.connect("n1", "n2").sendall(b"plain text\n")
        assert made.nodes["n2"].awaits(lambda n: n.received.endswith(b"text\n"), 5)
        with pytest.raises(FaultError, match=r"healed, but it had not held: .*and pass untouched"):
            made.fabric.heal("x")
        assert made.fabric.snapshot() == {}


def test_the_ways_without_a_framing_are_left_alone_and_told() -> None:
    with lab(embedded_command(), ("n1", "n2"), {"main": Framings(peers=Lines())}) as made:
        effect = made.fabric.messages("x", ONE, MessageSpec(drop=1))
        assert "streams without a framing are left alone on n1→n2" in effect.proof
        connection = made.connect("n2", "n1")
        connection.sendall(b"asked\n")
        connection.settimeout(5)
        assert connection.recv(100) == b"asked\n"  # n1 answers on a connection from n2
        with pytest.raises(FaultUnsupported, match=r"nobody knows where messages end on client→n1"):
            made.fabric.messages("y", [*ONE, ("client", "n1")], MessageSpec(drop=1))


@pytest.mark.parametrize(
    ("kind", "framing", "says"),
    [
        ("real", {"main": Lines()}, r"a real Toxiproxy, which knows no messages.*embedded server serves"),
        ("embedded", {}, r"nobody knows where messages end on n1→n2.*framing = \{\"main\": Lines\(\)\}"),
    ],
)
def test_what_cannot_be_had_is_refused(kind: str, framing: dict[str, Framing | Framings], says: str) -> None:
    with lab(command_of(kind), ("n1", "n2"), framing) as made, pytest.raises(FaultUnsupported, match=says):
        made.fabric.messages("x", ONE, MessageSpec(drop=0.5))


@pytest.mark.parametrize(
    ("error", "make", "says"),
    [
        (ValueError, lambda: MessageSpec(drop=1.5), "drop=1.5: expected a probability"),
        (ValueError, lambda: MessageSpec(delay=float("nan")), "delay=nan: expected a finite number"),
        (ValueError, lambda: MessageSpec(delay=0.1, jitter=0.2), "no message comes before it was sent"),
        (ValueError, lambda: MessageSpec(reorder=0.5), "reorder needs hold"),
        (ValueError, lambda: MessageSpec(hold=1), "changes nothing"),
        (ValueError, lambda: MessageSpec(delay=-1), "delay=-1: expected seconds"),
        (FaultUnsupported, lambda: MessageSpec(drop=0.001), "too rare to be proved by traffic"),
        (FaultUnsupported, lambda: MessageSpec(reorder=1, hold=1), "nothing is left to overtake"),
        (FaultUnsupported, lambda: MessageSpec(delay=0.0001), "1 ms is the least"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    error: type[Exception], make: Callable[[], MessageSpec], says: str
) -> None:
    with pytest.raises(error, match=says):
        make()

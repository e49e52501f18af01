"""Packet specs and what is made of them: which engine, which rules, which words of tc."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, strategies as st

from harness.fabric import FaultUnsupported, packet_rules
from harness.fabric.packet_engine import corrupted
from harness.fabric.packet_rules import Served, chosen
from harness.fabric.packet_shaper import Shaper
from harness.fabric.packet_spec import PacketSpec, merged

AB = ("10.0.0.1", "10.0.0.2")
NONE: Mapping[str, str] = {}


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"loss": 1.5}, r"loss=1.5: expected a probability of 0 to 1"),
        ({"corrupt": -0.1}, "expected a probability"),
        ({"delay": -1}, "expected seconds of 0 to 3600"),
        ({"delay": math.inf}, "expected a finite number"),
        ({"delay": True}, "expected a finite number"),
        ({"rate": "fast"}, "expected a finite number"),
        ({"rate": 0}, "no byte is a cut"),
        ({"delay": 0.1, "jitter": 0.2}, "jitter=0.2 exceeds delay=0.1"),
        ({"reorder": 0.1}, "reorder needs a delay"),
    ],
)
def test_bad_specs_are_refused(asked: Mapping[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PacketSpec(**asked)


SPECS = st.builds(
    PacketSpec,
    delay=st.floats(1, 2),
    jitter=st.floats(0, 1),
    loss=st.floats(0, 1),
    duplicate=st.floats(0, 1),
    rate=st.none() | st.floats(100, 1e9),
)


@given(SPECS, SPECS)
def test_two_faults_on_a_pair_are_both_there(one: PacketSpec, other: PacketSpec) -> None:
    both = merged([one, other])
    assert both == merged([other, one])
    assert both.delay == one.delay + other.delay and both.jitter == one.jitter + other.jitter
    for name in ("loss", "duplicate"):
        p, q = getattr(one, name), getattr(other, name)
        assert getattr(both, name) == pytest.approx(1 - (1 - p) * (1 - q))
    assert both.rate == min((rate for rate in (one.rate, other.rate) if rate is not None), default=None)
    assert merged([one]) == one


LOSS, DELAY = PacketSpec(loss=0.1), PacketSpec(delay=0.1)
BOTH, TWICE = PacketSpec(delay=0.1, loss=0.1), PacketSpec(delay=0.1, duplicate=0.1)


@pytest.mark.parametrize(
    ("spec", "single", "missing", "engine"),
    [
        (LOSS, True, (), "statistic"),
        (LOSS, False, (), "nfqueue"),
        (LOSS, True, ("statistic",), "netem"),
        (LOSS, True, ("statistic", "netem"), "nfqueue"),
        (DELAY, False, (), "netem"),
        (DELAY, False, ("netem",), "nfqueue"),
        (BOTH, True, (), "netem"),
        (BOTH, False, (), "nfqueue"),
        (TWICE, True, (), "nfqueue"),
        (TWICE, True, ("nfqueue",), None),
        (BOTH, False, ("nfqueue",), None),
        (DELAY, True, ("netem", "nfqueue"), None),
    ],
)
def test_the_engine_of_each_spec(
    spec: PacketSpec, single: bool, missing: tuple[str, ...], engine: str | None
) -> None:
    why = None if single else "out of reach"

    def usable(name: str) -> str | None:
        return f"no {name} here" if name in missing else None

    if engine:
        assert set(chosen(spec, lambda: why, usable).values()) == {engine}
        return
    with pytest.raises(FaultUnsupported) as refused:
        chosen(spec, lambda: why, usable)
    for name in packet_rules.SERVES:
        assert f"{name}: " in str(refused.value)
    for name in missing:
        assert f"no {name} here" in str(refused.value)


def test_a_rate_needs_htb() -> None:
    spec = PacketSpec(rate=1e6, loss=0.1)
    assert chosen(spec, lambda: None, NONE.get) == {"rate": "htb", "loss": "statistic"}
    with pytest.raises(FaultUnsupported, match="rate cannot be had here: htb: no such thing"):
        chosen(spec, lambda: None, {"htb": "no such thing"}.get)


def served(spec: PacketSpec, engine: str, number: int = 20) -> Served:
    engines = {verb: "htb" if verb == "rate" else engine for verb in spec.verbs}
    return Served(number, AB, spec, engines, "seed")


def test_rules_match_one_direction_only() -> None:
    assert packet_rules.rules(served(LOSS, "statistic")) == (
        "-s 10.0.0.1/32 -d 10.0.0.2/32 -m statistic --mode random --probability 0.1000000000 -j DROP",
        "-s 10.0.0.1/32 -d 10.0.0.2/32 -j RETURN",
    )
    (queued,) = packet_rules.rules(served(BOTH, "nfqueue"))
    assert queued == "-s 10.0.0.1/32 -d 10.0.0.2/32 -j NFQUEUE --queue-num 20 --queue-bypass"


def test_netem_in_a_class_of_its_own() -> None:
    spec = PacketSpec(delay=0.05, jitter=0.01, loss=0.01, reorder=0.05, corrupt=0.001, rate=1e6)
    words = "delay 50000us 10000us loss random 1.000000% reorder 5.000000% corrupt 0.100000%"
    assert packet_rules.added("v2", served(spec, "netem")) == [
        "class add dev v2 parent 1: classid 1:14 htb"
        " rate 8000000bit ceil 8000000bit burst 5000b cburst 5000b quantum 1514",
        f"qdisc add dev v2 parent 1:14 handle 15: netem {words} rate 100gbit limit 100000",
        "filter add dev v2 parent 1: protocol ip pref 20 u32"
        " match ip src 10.0.0.1/32 match ip dst 10.0.0.2/32 flowid 1:14",
    ]
    assert packet_rules.opened("v2", served(spec, "netem"))[1] == (
        "qdisc change dev v2 parent 1:14 handle 15: netem delay 0us corrupt 0.000000% rate 100gbit"
        " limit 100000"
    )
    assert not packet_rules.shaped(served(BOTH, "nfqueue"))


def test_netem_is_emptied_before_it_goes() -> None:
    """The order of commands, with a kernel that is only played: netem is not everywhere."""
    said: list[str] = []
    waiting = [2, 1, 0, 0]

    def run(argv: Sequence[str], stdin: str = "") -> str:
        said.append(stdin or " ".join(argv))
        leaf = {"kind": "netem", "handle": "15:", "parent": "1:14", "drops": 7, "qlen": waiting[0]}
        if "show" in argv:
            waiting.pop(0)
        return json.dumps([{"kind": "htb", "handle": "1:", "root": True}, leaf])

    shaper = Shaper(run, {AB[0]: "v1", AB[1]: "v2"})
    one, other = served(BOTH, "netem"), served(DELAY, "netem")
    shaper.put([one])
    shaper.put([one])
    shaper.put([other])
    assert said == [
        "\n".join([packet_rules.root("v2"), *packet_rules.added("v2", one), ""]),
        "\n".join([*packet_rules.changed("v2", other), ""]),
    ]
    del said[:]
    shaper.drop([other])
    assert said == [
        "\n".join([*packet_rules.opened("v2", other), ""]),
        *["tc -s -j qdisc show dev v2"] * 3,
        "\n".join([*packet_rules.removed("v2", other), ""]),
        "tc qdisc del dev v2 root",
    ]
    assert not shaper.kept() and not shaper.leaves()


@given(st.binary(min_size=21, max_size=100), st.floats(0, 1, exclude_max=True))
def test_corruption_is_one_bit_behind_the_header(packet: bytes, where: float) -> None:
    packet = b"\x45" + packet[1:]
    after = corrupted(packet, where)
    assert after is not None and after[:20] == packet[:20]
    difference = int.from_bytes(after, "big") ^ int.from_bytes(packet, "big")
    assert difference.bit_count() == 1

"""Random plans and their parts, all valid, for the property tests."""

from __future__ import annotations

import importlib
from typing import Any

from hypothesis import strategies as st

from harness.condition import Condition, event, leader_elected, restarted, until
from harness.faults import (
    Fault,
    bandwidth,
    clock_drift,
    clock_jump,
    clock_scramble,
    clock_strobe,
    cpu_limit,
    disk_full,
    kill,
    latency,
    limit_data,
    memory_limit,
    message_corrupt,
    message_delay,
    message_drop,
    message_duplicate,
    message_reorder,
    packet_corrupt,
    packet_delay,
    packet_duplicate,
    packet_loss,
    packet_rate,
    packet_reorder,
    partition,
    pause,
    reset_peer,
    restart,
    slicer,
    slow_close,
    timeout,
)
from harness.plan import Entry, Plan, at, every, when
from harness.selector import WORDS, Link, Scene, Selector, link, nodes
from harness.topology import (
    Topology,
    bridge,
    halves,
    isolate,
    majorities_ring,
    majority_minority,
    one_way,
    pairs,
    random_halves,
)

NODES = tuple(f"n{i}" for i in range(1, 6))


def namespace() -> dict[str, Any]:
    """What a user has after ``from harness import *``, as far as plans go."""
    modules = [
        importlib.import_module(f"harness.{m}")
        for m in ("condition", "faults", "plan", "selector", "topology")
    ]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


def scenes(least: int = 1, most: int = 9) -> st.SearchStrategy[Scene]:
    def scene(count: int, leader: int) -> Scene:
        names = [f"n{i}" for i in range(1, count + 1)]
        return Scene(dict.fromkeys(names, "node"), names[leader % count])

    return st.builds(scene, st.integers(least, most), st.integers(0, 100))


def _floats(least: float, most: float) -> st.SearchStrategy[float]:
    return st.integers(int(least), int(most)) | st.floats(least, most)


NAMES = st.sampled_from(NODES)
SELECTORS: st.SearchStrategy[Selector] = st.one_of(
    st.sampled_from((*WORDS, *NODES, "node")),
    st.lists(NAMES, min_size=1, unique=True).map(lambda names: nodes(*names)),
)
LINKS: st.SearchStrategy[Selector | link] = SELECTORS | st.builds(
    link, SELECTORS | st.just("client"), SELECTORS
)
ORDERED: st.SearchStrategy[Link] = st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] != pair[1])
TOPOLOGIES: st.SearchStrategy[Topology] = st.one_of(
    st.builds(halves),
    st.builds(random_halves),
    st.builds(isolate, SELECTORS),
    st.builds(majority_minority, SELECTORS.filter(lambda s: s not in ("majority", "all"))),
    st.builds(majorities_ring),
    st.builds(bridge, SELECTORS),
    st.builds(one_way, SELECTORS, SELECTORS),
    st.lists(ORDERED, min_size=1, unique=True).map(lambda chosen: pairs(*chosen)),
)
SECONDS = _floats(0.001, 1e6).map(lambda s: s or 1)


@st.composite
def _latencies(draw: st.DrawFn) -> latency:
    delay = draw(SECONDS)
    return latency(draw(SELECTORS), delay, draw(st.floats(0, delay)), draw(st.booleans()))


@st.composite
def _late_messages(draw: st.DrawFn) -> message_delay:
    delay = draw(st.floats(0.001, 3600))
    return message_delay(draw(SELECTORS), delay, draw(st.floats(0, delay)), draw(st.booleans()))


@st.composite
def _slicers(draw: st.DrawFn) -> slicer:
    size = draw(st.integers(1, 10**6))
    return slicer(draw(LINKS), size, draw(st.integers(0, size - 1)), draw(_floats(0, 10)))


OFFSETS = st.floats(0.001, 1e6) | st.floats(-1e6, -0.001)
FAULTS: st.SearchStrategy[Fault] = st.one_of(
    st.builds(partition, TOPOLOGIES | SELECTORS),
    st.builds(partition, SELECTORS, st.booleans()),
    _latencies(),
    _slicers(),
    st.builds(bandwidth, LINKS, st.integers(1000, 10**9)),
    st.builds(packet_loss, SELECTORS, st.floats(0.002, 1)),
    st.builds(packet_delay, SELECTORS, st.floats(0.01, 5), st.floats(0, 0.01)),
    st.builds(packet_reorder, SELECTORS, st.floats(0.002, 1), st.floats(0.01, 5)),
    st.builds(packet_duplicate, SELECTORS, st.floats(0.002, 1)),
    st.builds(packet_corrupt, SELECTORS, st.floats(0.002, 1)),
    st.builds(packet_rate, SELECTORS, st.integers(1000, 10**9)),
    *(
        st.builds(kind, SELECTORS, st.floats(0.002, 1), st.booleans())
        for kind in (message_drop, message_duplicate, message_corrupt)
    ),
    st.builds(message_reorder, LINKS, st.floats(0.002, 0.9), _floats(0.001, 3600).map(lambda s: s or 1)),
    _late_messages(),
    st.builds(reset_peer, LINKS, _floats(0, 100)),
    st.builds(limit_data, LINKS, st.integers(0, 10**9)),
    st.builds(slow_close, LINKS, SECONDS),
    st.builds(timeout, LINKS, st.just(0) | SECONDS),
    st.builds(kill, SELECTORS),
    st.builds(pause, SELECTORS),
    st.builds(restart, SELECTORS),
    st.builds(cpu_limit, SELECTORS, _floats(1, 64) | st.floats(0.01, 1)),
    st.builds(memory_limit, SELECTORS, st.integers(6 << 20, 1 << 40)),
    st.builds(disk_full, SELECTORS),
    st.builds(clock_jump, SELECTORS, OFFSETS, st.booleans()),
    st.builds(clock_drift, SELECTORS, st.floats(1e-4, 0.9) | st.floats(-0.9, -1e-4), st.booleans()),
    st.builds(clock_strobe, SELECTORS, OFFSETS, st.floats(0.001, 3600), st.booleans()),
    st.builds(clock_scramble, SELECTORS, st.floats(0.01, 1e6), st.booleans()),
)
MATCHED = st.sampled_from(("all", "node", *NODES)) | st.just(nodes("n1", "n3"))
DETAILS = st.dictionaries(
    st.sampled_from(("role", "term", "name", "index")),
    st.none() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
)
CONDITIONS: st.SearchStrategy[Condition] = st.one_of(
    st.builds(leader_elected, MATCHED),
    st.builds(restarted, MATCHED),
    st.builds(lambda n, node, d: event(n, node=node, **d), st.text(min_size=1), MATCHED, DETAILS),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    chosen = draw(FAULTS)
    period = draw(_floats(1, 100))
    lasting = st.floats(0.01, period) | st.builds(until, CONDITIONS, st.floats(0.01, period))
    if draw(st.booleans()):
        times, start = draw(st.none() | st.integers(1, 5)), draw(st.none() | _floats(0, 100))
        return every(period, chosen, None if chosen.instant else draw(lasting), start, times)
    lasts = None if chosen.instant else draw(st.none() | lasting)
    if draw(st.booleans()):
        return at(draw(_floats(0, 100)), chosen, lasts)
    after, times, start = draw(_floats(0, 10)), draw(st.integers(1, 3)), draw(_floats(0, 10))
    return when(draw(CONDITIONS), chosen, lasts, after, times, start, draw(_floats(0, 10)))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    lines = draw(st.lists(entries(), max_size=4))
    bare = Plan(*lines)
    end = draw(st.none() | st.floats(bare.end, bare.end + 100))
    return Plan(*lines, name=draw(st.text(max_size=8)), end=end)

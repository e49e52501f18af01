"""What of a node one fault holds, no other has: who may come together, and in which words who may not."""

from __future__ import annotations

import random
from itertools import product

import pytest

from harness.faults import FAULTS, Fault, cpu_limit, disk_full, kill, memory_limit, partition, pause, restart
from harness.nemesis.claims import PARTS, Claims
from harness.node_faults import NodeFault
from harness.report.markup import FAMILIES
from harness.resolved import Resolved
from harness.selector import Scene

SCENE = Scene(dict.fromkeys(("n1", "n2", "n3"), "node"), "n1")
ENDING = (kill("n1"), pause("n1"), restart("n1"))
LIMITS: tuple[Fault, ...] = (cpu_limit("n1", 0.5), memory_limit("n1", 1 << 25), disk_full("n1"))


def drawn(fault: Fault) -> Resolved:
    return fault.resolve(SCENE, random.Random(0))


@pytest.mark.parametrize(("first", "second"), [*product((*ENDING, *LIMITS), repeat=2)])
def test_who_may_have_a_node_together(first: Fault, second: Fault) -> None:
    claims = Claims()
    claims.take(drawn(first))
    starving = {type(first), type(second)} & {memory_limit} and {type(first), type(second)} & {
        kill,
        pause,
        restart,
    }
    apart = type(first) is type(second) or (first in ENDING and second in ENDING) or starving
    why = "n1 is down already" if first in ENDING else f"n1 is under a {type(first).__name__} already"
    assert claims.hindered(drawn(second)) == (why if apart else "")
    assert claims.free(type(second).__name__, ["n1", "n2"]) == (["n2"] if apart else ["n1", "n2"])
    claims.release(drawn(first))
    assert claims.hindered(drawn(second)) == ""


def test_links_are_never_held() -> None:
    claims = Claims()
    claims.take(drawn(cpu_limit("n1", 0.5)))
    claims.take(drawn(partition("n1")))
    assert claims.hindered(drawn(partition("n1"))) == ""
    claims.release(drawn(partition("n1")))
    assert claims.hindered(drawn(cpu_limit("all", 0.5))) == "n1 is under a cpu_limit already"


def test_every_fault_has_a_look_and_those_of_nodes_hold_something() -> None:
    assert {kind.__name__ for kind in FAULTS} - FAMILIES.keys() == {"fault"}
    assert {kind.__name__ for kind in FAULTS if issubclass(kind, NodeFault)} == PARTS.keys()

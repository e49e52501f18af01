"""Anomalies of transactions: each where it is, and where it only looks so; and what it rules out."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from harness.checkers import (
    CheckError,
    assert_list_append,
    assert_rw_register,
    check,
    list_append,
    rw_register,
)
from harness.checkers.transactions import MODELS, consistency, cycles
from harness.checkers.transactions.graph import PROCESS, REALTIME, RW, WW, Graph, by_time, components
from harness.history import History
from harness.verdict import Undecided, Verdict, Violation
from tests.unit.checkers.histories import fault, history
from tests.unit.checkers.txns import all_cycles, disagreements, drawn, found_cycles, parsed, txn


def judged(text: str, model: str = "strict-serializable") -> Verdict:
    h = parsed(text)
    return list_append(h, model) if " a" in text else rw_register(h, model)


def anomalies(text: str) -> set[str]:
    """What is found; and that the models that it rules out, and no others, are invalid."""
    verdict = judged(text)
    for model in verdict.evidence["not"]:
        assert judged(text, model).judgement == "invalid"
    for model in consistency.weakest(set(MODELS) - {*verdict.evidence["not"], *verdict.evidence["also-not"]}):
        assert judged(text, model).judgement != "invalid"
    return set(verdict.evidence["anomalies"])


# All at once, in order of invocation: process, [invocation return], steps, outcome unless ok.
LISTS = {
    "duplicate-elements": "0 [0 9] ax1\n1 [0 9] rx11",
    "garbage-read": "0 [0 9] ax1\n1 [0 9] rx12",
    "G1a": "0 [0 9] ax1 fail\n1 [0 9] rx1",
    "dirty-update": "0 [0 9] ax1 fail\n1 [0 9] ax2\n2 [0 9] rx12",
    "G1b": "0 [0 9] ax1 ax2\n1 [0 9] rx1",
    "incompatible-order": "0 [0 9] ax1\n1 [0 9] ax2\n2 [0 9] rx12\n3 [0 9] rx21",
    "internal": "0 [0 9] ax1 rx\n1 [0 9] rx1",
    "future-read": "0 [0 9] rx1 ax1\n1 [0 9] rx1",
    "lost-update": "0 [0 9] rx ax1\n1 [0 9] rx ax2\n2 [0 9] rx1",
    "G0": "0 [0 9] ax1 ay2\n1 [0 9] ax2 ay1\n2 [0 9] rx12 ry12",
    "G1c": "0 [0 9] ax1 ry1\n1 [0 9] rx1 ay1",
    "G-single": "0 [0 9] ax1 ay1\n1 [0 9] rx1 ry",
    "G-nonadjacent": "0 [0 9] ax1\n1 [0 9] ay1\n2 [0 9] rx1 ry\n3 [0 9] rx ry1",
    "G2-item": "0 [0 9] rx ay1\n1 [0 9] ry ax1\n2 [0 9] rx1 ry1",
    "G0-process": "0 [0 1] ay1\n0 [2 9] ax1\n1 [0 9] ax2 ay2\n2 [0 9] rx12 ry21",
    "G1c-process": "0 [0 1] rx1\n0 [2 9] ax1",
    "G-single-process": "0 [0 1] ax1\n0 [2 3] rx\n1 [4 5] rx1",
    "G-nonadjacent-process": "0 [0 1] ax1\n0 [2 9] ry\n1 [0 1] ay1\n1 [2 9] rx\n2 [20 21] rx1 ry1",
    "G2-item-process": "0 [0 1] az1\n0 [2 19] ry\n1 [0 19] rz ay1\n2 [30 31] ry1 rz1",
    "G0-realtime": "0 [0 1] ay1\n1 [2 9] ax1\n2 [0 9] ax2 ay2\n3 [0 9] rx12 ry21",
    "G1c-realtime": "0 [0 1] rx1\n1 [2 9] ax1",
    "G-single-realtime": "0 [0 1] ax1\n1 [2 3] rx\n2 [4 5] rx1",
    "G-nonadjacent-realtime": "0 [0 1] ax1\n1 [2 9] ry\n2 [0 1] ay1\n3 [2 9] rx\n4 [20 21] rx1 ry1",
    "G2-item-realtime": "0 [0 1] az1\n3 [2 19] ry\n1 [0 19] rz ay1\n2 [30 31] ry1 rz1",
}
REGISTERS = {
    "garbage-read": "0 [0 9] wx1\n1 [0 9] rx2",
    "G1a": "0 [0 9] wx1 fail\n1 [0 9] rx1",
    "G1b": "0 [0 9] wx1 wx2\n1 [0 9] rx1",
    "internal": "0 [0 9] wx1 rx2\n1 [0 9] wx2",
    "future-read": "0 [0 9] rx1 wx1",
    "lost-update": "0 [0 9] rx wx1\n1 [0 9] rx wx2\n2 [0 9] rx1",
    "cyclic-versions": "0 [0 9] wx1\n1 [0 9] wx2\n2 [0 9] rx1\n2 [20 29] rx2\n3 [0 9] rx2\n3 [20 29] rx1",
    "G1c": "0 [0 9] wx1 ry1\n1 [0 9] rx1 wy1",
    "G-single": "0 [0 9] wx1 wy1\n1 [0 9] rx1 ry",
    "G-nonadjacent": "0 [0 9] wx1\n1 [0 9] wy1\n2 [0 9] rx1 ry\n3 [0 9] rx ry1",
    "G2-item": "0 [0 9] rx wy1\n1 [0 9] ry wx1\n2 [0 9] rx1 ry1",
    "G1c-process": "0 [0 1] rx1\n0 [2 9] wx1",
    "G-single-process": "0 [0 1] wx1\n0 [2 3] rx\n1 [4 5] rx1",
    "G-nonadjacent-process": "0 [0 1] wx1\n0 [2 9] ry\n1 [0 1] wy1\n1 [2 9] rx\n2 [20 21] rx1 ry1",
    "G1c-realtime": "0 [0 1] rx1\n1 [2 9] wx1",
    "G-single-realtime": "0 [0 1] wx1\n1 [2 3] rx\n2 [4 5] rx1",
    "G-nonadjacent-realtime": "0 [0 1] wx1\n1 [2 9] ry\n2 [0 1] wy1\n3 [2 9] rx\n4 [20 21] rx1 ry1",
    "G2-item-realtime": "0 [0 1] wz1\n3 [2 19] ry\n1 [0 19] rz wy1\n2 [30 31] ry1 rz1",
}
# Of one name, other cases.
OTHERS = {
    "incompatible-order": [
        "0 [0 9] ax1 ax2\n1 [0 9] rx21",
        "0 [0 9] ax1 ax2\n1 [0 9] rx2",
        "0 [0 9] ax1 ax2 ax3\n1 [0 9] ax4\n2 [0 9] rx3124",
    ],
    "G1a": ["0 [0 9] ax1 ax2 fail\n1 [0 9] ax3\n2 [0 9] rx123\n3 [0 9] rx1"],
    "G1c-process": ["0 [0 1] rx2\n0 [2 3] wx1 wx2 info"],
}
# Each of these is as the one above but for a little, and no anomaly at all.
INNOCENT = {
    "an append of unknown outcome that was read": "0 [0 9] ax1 info\n1 [0 9] rx1",
    "a failed append that nobody saw": "0 [0 9] ax1 fail\n1 [0 9] ax2\n2 [0 9] rx2",
    "both appends of a transaction": "0 [0 9] ax1 ax2\n1 [0 9] rx12\n2 [0 9] rx",
    "its own appends, before others could see them": "0 [0 9] ax1 rx1 ax2 rx12\n1 [0 9] rx",
    "prefixes": "0 [0 9] ax1\n1 [0 9] ax2\n2 [0 9] rx12\n3 [0 9] rx1\n4 [0 9] rx",
    "an update of another's update": "0 [0 9] rx ax1\n1 [0 9] rx1 ax2\n2 [0 9] rx12",
    "two that append without reading": "0 [0 9] ax1 ay1\n1 [0 9] ax2 ay2\n2 [0 9] rx12 ry12",
    "reads of two versions, each whole": "0 [0 9] ax1 ay1\n1 [0 9] rx ry\n2 [0 9] rx1 ry1",
    "a stale read of an append that may come later": "0 [0 1] ax1 info\n1 [2 3] rx\n2 [4 5] rx1",
    "a read that is over when the append begins": "0 [0 1] rx\n1 [2 3] ax1\n2 [4 5] rx1",
    "a read that begins when the append ends": "0 [0 2] ax1\n1 [2 3] rx\n2 [4 5] rx1",
    "an element nobody reads": "0 [0 9] ax1\n1 [0 9] ax2\n2 [0 9] rx1",
    "registers read in order": "0 [0 9] wx1\n1 [0 9] rx1 wx2\n2 [0 9] rx2\n3 [0 9] rx1\n4 [0 9] rx",
    "a write of unknown outcome that was read": "0 [0 9] wx1 info\n1 [0 9] rx1",
    "blind writes in either order": "0 [0 9] wx1\n1 [0 9] wx2\n2 [0 9] rx1\n3 [0 9] rx2",
    "its own write, then another's": "0 [0 9] wx1 rx1\n1 [0 9] rx1 wx2 rx2",
    "a write that may come later": "0 [0 1] wx1 info\n1 [2 3] rx\n2 [4 5] rx1",
}


@pytest.mark.parametrize("name", LISTS)
def test_each_anomaly_of_lists_is_found(name: str) -> None:
    assert name in anomalies(LISTS[name])


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in OTHERS for text in OTHERS[name]])
def test_other_cases_of_anomalies_are_found(name: str, text: str) -> None:
    assert name in anomalies(text)


@pytest.mark.parametrize("name", REGISTERS)
def test_each_anomaly_of_registers_is_found(name: str) -> None:
    assert name in anomalies(REGISTERS[name])


@pytest.mark.parametrize("why", INNOCENT)
def test_what_only_looks_like_an_anomaly(why: str) -> None:
    verdict = judged(INNOCENT[why])
    assert (verdict.judgement, dict(verdict.evidence["anomalies"])) == ("valid", {})


def test_cycles_have_the_names_that_they_alone_have() -> None:
    """Where only one kind of cycle is, no other is told of."""
    only = ["G0", "G1c", "G-single", "G-nonadjacent", "G2-item", "G1c-process", "G-single-process",
            "G2-item-process", "G1c-realtime", "G-single-realtime", "G2-item-realtime"]  # fmt: skip
    for name in only:
        assert anomalies(LISTS[name]) - {f"{name}-process", f"{name}-realtime"} == {name}, name


@pytest.mark.parametrize(
    ("anomaly", "least"),
    [
        ("G0", ["read-uncommitted"]),
        ("G1a", ["read-committed"]),
        ("G1b", ["read-committed"]),
        ("G1c", ["read-committed"]),
        ("lost-update", ["update-atomic", "cursor-stability"]),
        ("G-single", ["consistent-view"]),
        ("G-single-item", ["repeatable-read", "consistent-view"]),
        ("G-nonadjacent", ["snapshot-isolation"]),
        ("G2-item", ["repeatable-read"]),
        ("G2", ["serializable"]),
        ("internal", ["read-atomic"]),
        ("G0-process", ["strong-session-read-uncommitted"]),
        ("G1c-process", ["strong-session-read-committed"]),
        ("G-single-process", ["strong-session-snapshot-isolation"]),
        ("G2-process", ["strong-session-serializable"]),
        ("G0-realtime", ["strong-read-uncommitted"]),
        ("G1c-realtime", ["strong-read-committed"]),
        ("G-single-realtime", ["strong-snapshot-isolation"]),
        ("G2-realtime", ["strict-serializable"]),
    ],
)
def test_the_weakest_models_that_an_anomaly_rules_out(anomaly: str, least: list[str]) -> None:
    ruled_out = consistency.ruled_out([anomaly])
    assert sorted(consistency.weakest(ruled_out)) == sorted(least)
    assert "strict-serializable" in ruled_out


def test_every_anomaly_that_can_be_found_is_one_that_strict_serializability_rules_out() -> None:
    from harness.checkers.transactions.found import SEVERITY

    for name in SEVERITY:
        assert "strict-serializable" in consistency.ruled_out([name]), name


def test_models_go_by_their_other_names_too() -> None:
    assert [consistency.named(n) for n in ("PL-2.99", "PL-SI", "strong-serializable")] == [
        "repeatable-read", "snapshot-isolation", "strict-serializable",
    ]  # fmt: skip
    with pytest.raises(CheckError, match="unknown consistency model 'linearizable'; there are: strict-"):
        judged(LISTS["G0"], "linearizable")


# ------------------------------------------------------------------------------------- what is said


def test_a_cycle_is_shown_with_the_reason_of_each_edge() -> None:
    operations = [
        txn(0, 0, 9, ["append", "x", 1], ["append", "y", 2], key=None),
        txn(1, 1, 9, ["append", "x", 2], ["append", "y", 1]),
        txn(2, 2, 9, ["r", "x", [1, 2]], ["r", "y", [1, 2]]),
    ]
    operations[0].pop("key")
    h = history(operations, extra=fault(0, 5))
    verdict = list_append(h)
    witness = verdict.witness
    assert (verdict.summary, verdict.evidence["not"]) == (
        "G0, which strict-serializable rules out", ["read-uncommitted"],
    )  # fmt: skip
    assert witness is not None
    assert witness.sentence == (
        "T1 (process 0 at 0.00 s) < T2 (process 1 at 0.00 s), because T2 appended 2 to x after T1's 1, as "
        "T3 (process 2 at 0.00 s) read; but T2 < T1, because T1 appended 2 to y after T2's 1, as T3 read"
        "; n2 cut from n1, n3 since 0.00 s"
    )
    assert [op.index for op in h.operations] == list(witness.operations)
    assert witness.culprit == witness.operations[1]
    first, second = witness.operations[:2]
    assert [(edge.before, edge.after) for edge in witness.edges] == [(first, second), (second, first)]
    assert witness.edges[0].why.startswith(f"T2 (operation {second}) appended 2 to x after T1")


def test_the_shortest_violation_is_shown_and_the_worst_of_these() -> None:
    """A read that is stale by the clock as well as by what else its transaction saw."""
    verdict = judged("0 [0 1] ax1\n1 [2 3] rx1 ay1\n2 [4 5] ry1 rx")
    assert verdict.summary == "G-single-realtime, which strict-serializable rules out"
    assert set(verdict.evidence["anomalies"]) == {"G-single", "G-single-realtime"}
    assert verdict.witness is not None and len(verdict.witness.edges) == 2
    assert verdict.witness.sentence.endswith("but T2 < T1, because T2 read x before T1's 1 was in it")
    weaker = judged("0 [0 1] ax1\n1 [2 3] rx1 ay1\n2 [4 5] ry1 rx", "serializable")
    assert weaker.witness is not None and len(weaker.witness.edges) == 3


def test_what_the_model_allows_is_told_but_fails_nothing() -> None:
    verdict = judged(LISTS["G2-item"], "snapshot-isolation")
    assert verdict.judgement == "valid"
    assert verdict.summary == ("nothing rules out snapshot-isolation, G2-item rules out repeatable-read")
    assert verdict.evidence["not"] == ["repeatable-read"]
    assert "serializable" in verdict.evidence["also-not"]
    assert verdict.checker == "list-append:snapshot-isolation"


@pytest.mark.parametrize("text", [*LISTS.values(), *REGISTERS.values()])
def test_a_witness_is_made_of_operations_of_the_history(text: str) -> None:
    verdict = judged(text)
    h = parsed(text)
    witness = verdict.witness
    assert witness is not None
    assert set(witness.operations) <= {op.index for op in h.operations}
    assert list(witness.operations) == sorted(witness.operations)
    assert witness.culprit in witness.operations
    afters = [edge.after for edge in witness.edges]
    befores = [edge.before for edge in witness.edges]
    if not verdict.summary.startswith("cyclic-versions"):  # there it is versions that go in a circle
        assert befores == afters[-1:] + afters[:-1]
    assert {*befores, *afters} <= set(witness.operations)


def reasons(h: History, before: int, after: int) -> set[str]:
    """Why one transaction on lists stands before another, from the operations themselves."""
    ops = {op.index: op for op in h.operations}
    a, b = ops[before], ops[after]
    reads = [
        (key, value or ())
        for op in h.operations
        if op.type == "ok"
        for f, key, value in op.result
        if f == "r"
    ]
    mine, theirs = (
        {(key, e) for f, key, e in (op.result if op.type == "ok" else op.value) if f == "append"}
        for op in (a, b)
    )
    seen = [[(k, v or ()) for f, k, v in op.result or () if f == "r"] for op in (a, b)]
    found = set()
    if any((key, e) in mine for key, value in seen[1] for e in value):
        found.add("read")
    if any(key == k and e not in value for key, value in seen[0] for k, e in theirs):
        found.add("did not see")
    for key, value in reads:
        for k, e in mine:
            if k == key and e in value:
                rest = value[value.index(e) + 1 :]
                if any(k2 == key and (e2 in rest or e2 not in value) for k2, e2 in theirs):
                    found.add("overwrote")
    if a.process == b.process and before < after:
        found.add("process")
    if a.end is not None and a.end < b.start:
        found.add("realtime")
    return found


def test_each_edge_of_a_witness_is_true() -> None:
    rnd = random.Random("edges")
    kinds = {"read": "'s", "did not see": "without|before", "overwrote": "after", "process": "one process",
             "realtime": "had ended"}  # fmt: skip
    checked = 0
    for _ in range(600):
        h = drawn(rnd, lists=True, most=9)
        for model in ("strict-serializable", "serializable"):
            witness = list_append(h, model).witness
            for edge in witness.edges if witness else ():
                true = reasons(h, edge.before, edge.after)
                assert any(re.search(kinds[kind], edge.why) for kind in true), (edge, true)
                checked += 1
    assert checked > 100


def test_a_long_way_round_is_told_in_few_steps() -> None:
    """The graph's own edges go from version to version; the witness leaves out those between."""
    chain = "\n".join(f"{i} [0 9] ax{i}" for i in range(1, 8))
    text = f"0 [0 9] ax8 ay1\n{chain}\n8 [0 9] rx87654321 az1\n9 [0 9] rz1 ry"
    verdict = judged(text)
    assert verdict.summary == "G-single, which strict-serializable rules out"
    assert verdict.witness is not None and len(verdict.witness.operations) == 3
    assert [edge.before for edge in verdict.witness.edges] == list(verdict.witness.operations)


@pytest.mark.parametrize(("text", "said"), [
    ("0 [0 9] ax1\n1 [0 9] ax1", "operation 1 appends 1 to x, as operation 0 does: expected each element"),
    ("0 [0 9] wx1\n1 [0 9] wx1", "operation 1 writes 1 to x, as operation 0 does: expected each value"),
    ("0 [0 9] wx", "operation 0 writes None to x, which is what it holds at first: expected values"),
])  # fmt: skip
def test_writes_tell_who_wrote_them(text: str, said: str) -> None:
    with pytest.raises(CheckError, match=said):
        judged(text)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            3,
            "'txn', reported 3: expected a list of micro-operations \\[f, key, value\\], f being append",
        ),
        ([3], "'txn', reported 3: expected"),
        ([["r"]], "reported \\('r',\\): expected"),
        ([["w", "x", 1]], "reported \\('w', 'x', 1\\): expected"),
        ([["r", "x", 1]], "'txn', read 1: expected a list of elements, or null where there is none"),
        (None, "reported None: expected a list"),
    ],
)
def test_what_is_no_transaction_is_refused(value: Any, said: str) -> None:
    with pytest.raises(CheckError, match=said):
        list_append(history([{"process": 0, "f": "txn", "value": [], "result": value, "start": 0, "end": 1}]))


def test_other_operations_are_refused() -> None:
    with pytest.raises(CheckError, match="operation 0 is 'read': expected 'txn', whose value is a list"):
        rw_register(history([{"process": 0, "f": "read", "value": None, "start": 0, "end": 1}]))


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("0 [0 9] ax1 fail", "no txn succeeded, of 1 invoked"),
        (
            "0 [0 9] ax1",
            "no transaction that succeeded read anything; let the workload read what",
        ),
        ("0 [0 9] ax1 fail\n1 [0 9] rx", "no append succeeded"),
        ("0 [0 9] ax1\n1 [0 9] rx", "no read saw any element"),
        ("0 [0 9] wx1", "no transaction that succeeded read anything; let the workload read what"),
        ("0 [0 9] rx", "no write succeeded"),
        ("0 [0 9] wx1\n1 [0 9] rx", "no read saw what any transaction wrote"),
    ],
)
def test_what_shows_nothing_is_vacuous(text: str, lacking: str) -> None:
    verdict = judged(text)
    assert (verdict.judgement, verdict.cause) == ("unknown", "vacuous")
    assert any(text.startswith(lacking) for text in verdict.evidence["missing"])


def test_values_of_other_types_are_other_values() -> None:
    def of(*elements: Any) -> Verdict:
        steps = [txn(i, 0, 9, ["append", "x", element]) for i, element in enumerate((1, True, 1.0, "1", [1]))]
        return list_append(history([*steps, txn(9, 0, 9, ["r", "x", list(elements)])]))

    assert of(1, True, 1.0, "1", [1]).judgement == "valid"
    assert of(True, 1, [1]).judgement == "valid"
    assert of(1, 1.0, 1).summary == "duplicate-elements, which strict-serializable rules out"
    assert of(2.0).summary == "garbage-read, which strict-serializable rules out"


def test_asserting() -> None:
    bad, good = parsed(LISTS["G2-item"]), parsed(INNOCENT["prefixes"])
    assert assert_list_append(good).valid
    assert assert_list_append(bad, "snapshot-isolation").valid
    with pytest.raises(Violation, match="G2-item, which serializable rules out"):
        assert_list_append(bad, model="serializable")
    with pytest.raises(Undecided, match="no read saw what any transaction wrote"):
        assert_rw_register(parsed("0 [0 9] wx1\n1 [0 9] rx"))
    with pytest.raises(Violation):
        assert_rw_register(parsed(REGISTERS["cyclic-versions"]), "serializable", linearizable_keys=True)
    assert check(bad, "list-append:snapshot-isolation").valid
    assert check(bad, "list-append").judgement == "invalid"
    assert check(parsed(REGISTERS["G1c"]), "rw-register:read-committed").judgement == "invalid"


# -------------------------------------------------------------------------------------- registers alone


def test_the_example_that_elle_passes() -> None:
    """elle-cli#47: two processes read the other's write after their own, in opposite orders."""
    text = """
        1 [0 1] rx
        2 [0 1] rx
        1 [10 11] wx1
        2 [20 21] wx2
        1 [30 31] rx2
        2 [40 41] rx1
    """
    assert anomalies(text) == {"cyclic-versions"}
    assert judged(text).evidence["not"] == ["strong-session-snapshot-isolation"]
    witness = judged(text).witness
    assert witness is not None and [(edge.before, edge.after, edge.why) for edge in witness.edges] == [
        (4, 8, "its process met x = 1 here, and 2 there"),
        (6, 10, "its process met x = 2 here, and 1 there"),
    ]
    assert judged(text, "serializable").judgement == "valid"


@pytest.mark.parametrize("how", ["sequential_keys", "linearizable_keys"])
def test_what_is_promised_of_keys_is_judged_whatever_the_model(how: str) -> None:
    stale = "0 [0 1] wx1\n0 [2 3] rx1 wx2\n0 [4 5] rx1"
    assert judged(stale, "read-committed").judgement == "valid"
    verdict = rw_register(parsed(stale), "read-committed", **{how: True})
    assert verdict.judgement == "invalid"
    crossed = parsed("0 [0 9] wx1\n1 [0 9] wx2\n2 [0 1] rx1\n2 [20 29] rx2\n3 [0 1] rx2\n3 [20 29] rx1")
    verdict = rw_register(crossed, "read-uncommitted", **{how: True})
    assert (
        verdict.summary == "cyclic-versions, which read-uncommitted rules out"
        or verdict.judgement == "invalid"
    )
    assert verdict.witness is not None and "x = 1 came before 2" in verdict.witness.sentence


def test_of_how_many_keys_the_order_is_not_known() -> None:
    for text, count in (("wx1\n1 [0 9] wx2\n2 [0 9] rx1", 1), ("rx wx1\n1 [0 9] rx1 wx2 wy1", 0)):
        assert judged(f"0 [0 9] {text}").evidence["unordered_keys"] == count


def test_writes_alone_make_a_cycle_where_keys_are_sequential() -> None:
    """Each process sees the other's write replace its own, on two keys in opposite orders."""
    text = "0 [0 9] wx1 wy2\n1 [0 9] wx2 wy1\n0 [10 19] rx2\n1 [10 19] ry2"
    promised = rw_register(parsed(text), "read-uncommitted", sequential_keys=True)
    assert promised.summary == "G0, which read-uncommitted rules out"
    assert promised.witness is not None
    assert promised.witness.sentence == (
        "T1 (process 0 at 0.00 s) < T2 (process 1 at 0.00 s), because T1 wrote x = 1, which came before T2's "
        "2: T1 met the one before T3 (process 0 at 0.00 s) the other, on the same process; but T2 < T1, "
        "because T2 wrote y = 1, which came before T1's 2: T2 met the one before T4 (process 1 at 0.00 s) "
        "the other, on the same process"
    )
    assert judged(text, "snapshot-isolation").judgement == "valid"
    assert "G-single-process" in anomalies(text)


def rp(predicate: Any, **found: int) -> list[Any]:
    return ["rp", predicate, found]


def test_a_phantom() -> None:
    """Two look for anything that is 1, find nothing, and each writes one: write skew by a predicate."""
    operations = [
        txn(0, 0, 9, rp(["=", 1]), ["w", "x", 1]),
        txn(1, 0, 9, rp(["=", 1]), ["w", "y", 1]),
        txn(2, 20, 29, ["r", "x", 1], ["r", "y", 1]),
    ]
    verdict = rw_register(history(operations))
    assert dict(verdict.evidence["anomalies"]) == {"G2": 1}
    assert verdict.evidence["not"] == ["serializable"]
    assert verdict.witness is not None
    assert verdict.witness.sentence == (
        "T1 (process 0 at 0.00 s) < T2 (process 1 at 0.00 s), because T1 did not find y = 1, as T2 left it, "
        "by the predicate ('=', 1); but T2 < T1, because T2 did not find x = 1, as T1 left it, by the "
        "predicate ('=', 1)"
    )
    assert rw_register(history(operations), "repeatable-read").judgement == "valid"
    seen = [operations[0], txn(1, 0, 9, rp(["=", 1], x=1), ["w", "y", 1]), operations[2]]
    assert rw_register(history(seen)).judgement == "valid"


def test_a_predicate_cycle_with_one_anti_dependency() -> None:
    operations = [
        txn(0, 0, 9, ["w", "x", 1], ["w", "y", 2]),
        txn(1, 0, 9, rp(["=", 1]), ["r", "y", 2]),
        txn(2, 20, 29, ["r", "x", 1]),
    ]
    verdict = rw_register(history(operations))
    assert dict(verdict.evidence["anomalies"]) == {"G-single": 1}
    assert verdict.evidence["not"] == ["consistent-view"]  # and not repeatable read, which is of items alone


def test_predicates_of_deleted_and_initial_values() -> None:
    init = {"process": 0, "f": "init", "value": {"x": 1, "y": 4}, "start": 0, "end": 1}
    gone = txn(1, 10, 11, ["delete", "x", None])
    stale = txn(2, 20, 21, rp("true", x=1, y=4))
    verdict = rw_register(
        history([init, gone, txn(3, 30, 31, rp("true", y=4)), txn(4, 30, 31, ["r", "x", None])])
    )
    assert dict(verdict.evidence["anomalies"]) == {}
    assert "G-single-realtime" in rw_register(history([init, gone, stale])).evidence["anomalies"]
    missed = rw_register(history([init, txn(1, 10, 11, rp(["mod", 2, 0]))]))
    assert list(missed.evidence["anomalies"]) == ["predicate-read-miss"]
    with pytest.raises(CheckError, match="predicate \\('like', 3\\) is none of those that are understood"):
        rw_register(history([init, txn(1, 10, 11, rp(["like", 3]))]))
    with pytest.raises(CheckError, match="predicate \\('mod', 0, 1\\) is none of those"):
        rw_register(history([init, txn(1, 10, 11, rp(["mod", 0, 1]))]))
    with pytest.raises(CheckError, match="operation 1 is 'init': expected once, before all"):
        rw_register(history([init, {**init, "process": 1}]))
    with pytest.raises(CheckError, match="a predicate read found 7: expected a map"):
        rw_register(history([init, txn(1, 10, 11, ["rp", "true", 7])]))


# ---------------------------------------------------------------------------------- against brute force

STEADY = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize(("lists", "predicates"), [(True, False), (False, False), (False, True)])
def test_small_histories_by_brute_force(lists: bool, predicates: bool) -> None:
    rnd = random.Random(f"small/{lists}/{predicates}")
    for _ in range(150):
        h = drawn(rnd, lists=lists, predicates=predicates)
        assert disagreements(h, predicates=predicates)[1] == [], list(h.operations)


@st.composite
def transactions(draw: st.DrawFn, lists: bool) -> History:
    """Any few transactions, whatever they read."""
    operations, fresh = [], {"x": 0, "y": 0}
    for process in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, 6))
        steps: list[list[Any]] = []
        for _ in range(draw(st.integers(1, 3))):
            key = draw(st.sampled_from("xy"))
            if draw(st.booleans()):
                fresh[key] += 1
                steps.append(["append" if lists else "w", key, fresh[key]])
            elif lists:
                steps.append(["r", key, draw(st.lists(st.integers(1, 4), max_size=3))])
            else:
                steps.append(["r", key, draw(st.none() | st.integers(1, 4))])
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "info", "fail"]))
        operations.append(txn(process, start, start + draw(st.integers(0, 6)), *steps, type=outcome))
    return history(operations)


@pytest.mark.parametrize("lists", [True, False])
@settings(STEADY, max_examples=300)
@given(data=st.data())
def test_any_history_by_brute_force(lists: bool, data: st.DataObject) -> None:
    h = data.draw(transactions(lists))
    assert disagreements(h)[1] == []


KINDS = st.sampled_from(range(7))


@pytest.mark.parametrize("effort", [1, cycles.EFFORT])
@settings(STEADY, max_examples=300)
@given(data=st.data())
def test_any_graph_by_all_its_cycles(effort: int, data: st.DataObject) -> None:
    """However little effort is spent, each model that a cycle rules out is ruled out."""
    size = data.draw(st.integers(2, 5))
    node = st.integers(0, size - 1)
    drawn_ = data.draw(st.sets(st.tuples(node, node, KINDS), max_size=12))
    edges = {
        (min(a, b), max(a, b), kind) if kind in (PROCESS, REALTIME) else (a, b, kind)
        for a, b, kind in drawn_
        if a != b
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycles, "EFFORT", effort)
        found = found_cycles(size, edges)
    true = all_cycles(size, edges)
    assert found <= true
    assert consistency.ruled_out(found) == consistency.ruled_out(true)


# ------------------------------------------------------------------------------------------- the graph


def test_real_time_is_linear_in_size_and_says_what_comparing_all_pairs_says() -> None:
    rnd = random.Random("time")
    for _ in range(50):
        size = rnd.randint(1, 8)
        places = rnd.sample(range(100), 2 * size)
        spans = sorted(sorted(places[2 * i : 2 * i + 2]) for i in range(size))
        call, ret = [a for a, _ in spans], [b if rnd.random() < 0.8 else -1 for _, b in spans]
        graph = Graph(size)
        by_time(graph, range(size), call, ret)
        assert sum(map(len, graph.out)) <= 3 * size
        for one in range(size):
            reached, left = set(), [one]
            while left:
                for edge in graph.out[left.pop()]:
                    if edge >> 4 not in reached:
                        reached.add(edge >> 4)
                        left.append(edge >> 4)
            after = {other for other in range(size) if 0 <= ret[one] < call[other]}
            assert {node for node in reached if node < size} == after


def test_many_readers_and_writers_are_linked_by_few_edges() -> None:
    graph = Graph(300)
    graph.link_all(range(0, 200), range(100, 300), RW)
    assert sum(map(len, graph.out)) < 1000
    (component,) = components(graph.out)
    assert [node for node in component if node < 300] == list(range(100, 200))


def test_a_large_component_is_judged_exactly() -> None:
    """Thousands in one knot of write skews and, among them, one cycle with a single anti-dependency."""
    size = 3000
    graph = Graph(size)
    for i in range(size - 1):
        graph.link(i, i + 1, RW)
        graph.link(i + 1, i, RW)
    from harness.checkers.transactions.found import Found

    found = Found()
    cycles.search(graph, found)
    assert set(found.counts) == {"G2-item"}
    for i in range(1000, 1400, 2):
        graph.link(i, i + 1, WW) if i % 4 else graph.link(i, i + 2, WW)
    found = Found()
    cycles.search(graph, found)
    assert {"G-single", "G2-item"} <= set(found.counts)

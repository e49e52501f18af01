"""The words by which the self-test cuts links tell every one of them from every other."""

from __future__ import annotations

import itertools

import pytest

from harness.fabric import CLIENT, Pair
from harness.fabric.selftest import Finding, Report, SelfTestError, code_words


def links(nodes: int) -> list[Pair]:
    names = [f"n{number}" for number in range(1, nodes + 1)]
    clients = [pair for name in names for pair in ((CLIENT, name), (name, CLIENT))]
    return [*itertools.permutations(names, 2), *clients]


@pytest.mark.parametrize("nodes", [*range(1, 10), 25])
def test_words_tell_links_apart(nodes: int) -> None:
    rounds, words = code_words(links(nodes))
    every = list(words.values())
    assert set(words) == set(links(nodes)) and len(set(every)) == len(every)
    assert {len(word) for word in every} == {rounds // 2}  # so that none is part of another
    for (a, b), word in words.items():
        assert word <= set(range(1, rounds + 1))
        assert len(word | words[b, a]) < rounds, "TCP needs a round in which both directions are open"


def test_rounds_grow_with_the_logarithm() -> None:
    assert [code_words(links(nodes))[0] for nodes in (2, 5, 25)] == [5, 7, 12]


def test_an_error_names_protocol_link_and_round_and_counts_the_rest() -> None:
    findings = [Finding("UDP", turn, ("n1", "n2"), "crossed, though cut") for turn in range(1, 12)]
    text = str(SelfTestError(findings, {}))
    assert "UDP n1→n2 crossed, though cut (round 1); " in text and "; 3 more. Expected" in text


def test_a_report_says_whether_there_was_a_way_past() -> None:
    assert "no way past the router" in str(Report(30, 7, 490, 0.4, None))
    assert "0 packets came past the router" in str(Report(30, 7, 490, 0.4, 0))

"""The clock benchmark finds what was told wrong, and finds nothing wrong in what may have been right."""

from __future__ import annotations

import pytest

from benchmarks.clock.programs import Sample
from benchmarks.clock.skews import Asked, seen
from harness.skew.patcher import Spec

SECOND = 10**9
START = 1_800_000_000 * SECOND
STROBE = Spec(half=0.01, amplitude=0.2, origin=(START, 0))
EDGE = START + 10_000_000  # of the strobe: from here on 200 ms more


def wrong(spec: Spec, *samples: Sample, resolution: int = 1) -> int:
    return seen(Asked("", spec), spec.packed(), samples, resolution, slack=0).wrong


@pytest.mark.parametrize(
    ("spec", "told", "is_wrong"),
    [
        (Spec(offset=0.5), START + SECOND // 2 + 50, False),
        (Spec(offset=0.5), START + SECOND // 2 + 101, True),
        (Spec(offset=0.5), START + SECOND // 2 - 2, True),
        (Spec(offset=0.5), START + 50, True),
        (Spec(rate=0.02, origin=(START - 10 * SECOND, 0)), START + SECOND // 5 + 50, False),
        (Spec(rate=0.02, origin=(START - 10 * SECOND, 0)), START + SECOND // 5 + 200, True),
        (Spec(rate=0.02, origin=(START - 10 * SECOND, 0)), START + SECOND // 5 - 100, True),
    ],
)
def test_what_is_told_lies_between_what_the_two_readings_allow(spec: Spec, told: int, is_wrong: bool) -> None:
    assert wrong(spec, (START, told, START + 100)) == is_wrong


def test_an_edge_of_a_strobe_between_the_readings_allows_both_sides_of_it_and_nothing_else() -> None:
    around = (EDGE - 50, EDGE + 50)
    for told, expected in (
        (EDGE - 10, 0),
        (EDGE + SECOND // 5 + 10, 0),
        (EDGE + SECOND // 10, 1),
        (EDGE + 60, 1),
    ):
        assert wrong(STROBE, (around[0], told, around[1])) == expected, told
    assert wrong(STROBE, (EDGE + 10, EDGE + 20, EDGE + 30)) == 1
    whole = (EDGE - 5_000_000, EDGE + 15_000_000)  # a preemption longer than the strobe: either side again
    assert wrong(STROBE, (whole[0], EDGE + SECOND // 5, whole[1])) == 0


def test_a_coarse_clock_may_be_late_by_its_resolution() -> None:
    told = START + SECOND // 2 - 999_999
    assert wrong(Spec(offset=0.5), (START, told, START + 100)) == 1
    assert wrong(Spec(offset=0.5), (START, told, START + 100), resolution=1_000_000) == 0


def test_the_error_is_that_of_the_closest_shot_and_is_taken_from_the_middle() -> None:
    samples = [
        (START - late, START + error + 50, START + 100 + late)
        for error in (30, -20, 10)
        for late in (2000, 0, 1000)
    ]
    assert seen(Asked("", Spec()), None, samples, 1, 0).errors == [10, 20, 30]

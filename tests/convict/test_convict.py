"""Each planted bug is convicted by what clients saw; the same plan and seed without it is acquitted.

And where a bug needs one fault to show: the same plan without that fault lets it pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from harness import Chaos, History, Plan, Violation, judge
from targets.raft_kv import BUGS
from tests.convict.scenarios import CAP, SCENARIOS, Scenario


def scenarios(*, correct: bool, among: Iterable[Scenario] = SCENARIOS) -> list[Any]:
    return [
        pytest.param(s, id=s.bug, marks=pytest.mark.chaos(target=s.store(correct=correct))) for s in among
    ]


def run(chaos: Chaos, scenario: Scenario, plan: Plan, **how: Any) -> History:
    """A run whose random streams are the same with and without the bug."""
    chaos.settings = replace(chaos.settings, test=scenario.test)
    return chaos.run(scenario.workload(), plan, **how)


def judge_by_clients(history: History) -> None:
    for name in history.header["checks"]:
        judge(history, name)


def test_every_bug_has_a_scenario() -> None:
    assert sorted(s.bug for s in SCENARIOS) == sorted(BUGS)


@pytest.mark.parametrize("scenario", scenarios(correct=False))
def test_convicted(chaos: Chaos, scenario: Scenario) -> None:
    history = run(chaos, scenario, scenario.plan, duration=CAP, stop_at_violation=True)
    with pytest.raises(Violation) as caught:
        judge_by_clients(history)
    witness = caught.value.verdict.witness
    assert witness is not None and witness.culprit in witness.operations, "not by what clients saw"


@pytest.mark.parametrize("scenario", scenarios(correct=True))
def test_acquitted(chaos: Chaos, scenario: Scenario) -> None:
    judge_by_clients(run(chaos, scenario, scenario.plan))


@pytest.mark.parametrize("scenario", scenarios(correct=False, among=[s for s in SCENARIOS if s.harmless]))
def test_unprovoked(chaos: Chaos, scenario: Scenario) -> None:
    assert scenario.harmless is not None
    judge_by_clients(run(chaos, scenario, scenario.harmless))

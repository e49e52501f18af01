"""The plugin as its user sees it: real pytest runs in a directory of their own, on the store in memory."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PASSING = """
import pytest
from harness import *
from harness.testing import MemoryKV

quick = register_workload(keys=2, clients=4, total_rate=400)

@pytest.fixture
def cut():
    return Plan(at(0.2, partition(isolate("n2")), lasts=0.6))

@pytest.mark.chaos(target=MemoryKV(nodes=3), duration=1)
def test_register(chaos, cut):
    assert_linearizable(chaos.run(quick, cut))
"""


def bugged(bug: str) -> str:
    return PASSING.replace("MemoryKV(nodes=3)", f'MemoryKV(nodes=3, bug="{bug}")')


def run_output(pytester: pytest.Pytester) -> Path:
    (session,) = (p for p in (pytester.path / "reports").iterdir() if not p.is_symlink())
    return session


@pytest.fixture(autouse=True)
def own_root(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n")  # else a configuration further up would make its directory the root


@pytest.fixture(params=[(), ("-n2",)], ids=["one process", "-n2"])
def workers(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param  # type: ignore[no-any-return]


def test_a_valid_run_passes_and_leaves_history_page_and_index(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(PASSING)
    result = pytester.runpytest("--nemesis-seed=7", *workers)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*1 valid*seed 7*report: reports/*/index.html"])
    session = run_output(pytester)
    (history,) = session.glob("*/history.jsonl.gz")
    assert (session / "index.html").exists() and history.with_name("index.html").exists()
    assert (pytester.path / "reports" / "latest").resolve() == session


def test_the_header_says_seed_runtime_and_output(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(): pass")
    result = pytester.runpytest("--nemesis-seed=12", "--nemesis-runtime=local")
    result.stdout.fnmatch_lines(["nemesis: seed 12 · runtime local (asked for) · reports/*"])
    assert not (pytester.path / "reports").exists()  # nothing ran, nothing is left


def test_a_violation_ends_with_sentence_report_and_replay(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(bugged("stale_reads"))
    result = pytester.runpytest("-v", "--nemesis-seed=3", *workers)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"test_register   INVALID: not linearizable   [\d,]+ operations, \d+ of unknown outcome",
            r"  process \d+ read .* from k\d at \d+\.\d+ s although process \d+'s .*n2 cut from n1, n3 since",
            r"  report: reports/.*/index\.html    replay: pytest .*test_register --nemesis-replay=reports/.*",
        ]
    )
    result.stdout.fnmatch_lines(["*1 invalid*"])


def test_a_replay_carries_out_the_recorded_schedule(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSING.replace('isolate("n2")', 'isolate("random")'))
    pytester.runpytest("--nemesis-seed=5").assert_outcomes(passed=1)
    (first,) = run_output(pytester).glob("*/history.jsonl.gz")
    pytester.runpytest("--nemesis-seed=6", f"--nemesis-replay={first}").assert_outcomes(passed=1)
    from harness.journal import load

    histories = [load(p) for p in sorted((pytester.path / "reports").glob("2*/*/history.jsonl.gz"))]
    assert len(histories) == 2
    (one,), (two,) = histories[0].faults, histories[1].faults
    assert (one.grudge, one.nodes) == (two.grudge, two.nodes)
    assert {h.header["seed"] for h in histories} == {5}


@pytest.mark.parametrize(
    ("bug", "said"),
    [
        ("dies", "n1 exited by itself (code 3)"),
        ("panics", "n1 logged a panic: panic: index out of range"),
        ("raises", "raised LookupError: a surprise"),
        ("void_faults", "bytes still pass"),
        ("sticky_faults", "links are still off"),
        ("never_ready", "n1 is not ready"),
        ("idle", "UNKNOWN: *vacuous*"),
    ],
)
def test_what_is_not_the_plans_doing_fails_the_test(pytester: pytest.Pytester, bug: str, said: str) -> None:
    pytester.makepyfile(bugged(bug))
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{said}*"])


def test_a_client_that_hangs_costs_its_operations_only(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(bugged("hangs").replace("total_rate=400)", "total_rate=200, time_limit=0.2)"))
    pytester.runpytest().assert_outcomes(passed=1)


def test_lost_writes_and_lost_updates_are_found(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from harness import *
        from harness.testing import MemoryKV

        @pytest.mark.chaos(target=MemoryKV(nodes=3, bug="lost_writes"))
        def test_set(chaos):
            plan = Plan(at(0.1, partition("n2"), lasts=0.4), end=0.6)
            assert_no_lost_write(chaos.run(set_workload(total_rate=300), plan, duration=1))

        @pytest.mark.chaos(target=MemoryKV(nodes=3, bug="lost_updates"))
        def test_rmw(chaos):
            assert_no_lost_update(chaos.run(rmw_workload(keys=1, total_rate=600), duration=1))
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*test_set*INVALID*", "*test_rmw*INVALID*"])


def test_a_test_that_judges_nothing_or_runs_nothing_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        PASSING.replace("assert_linearizable(chaos.run(quick, cut))", "chaos.run(quick, cut)")
        + """
@pytest.mark.chaos(target=MemoryKV(nodes=3))
def test_nothing(chaos):
    pass
"""
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*judged by nothing*", "*never called chaos.run()*"])


def test_the_plan_fixture_runs_each_plan_of_the_folder_by_name(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makeini("[pytest]\nnemesis_faults = faults\n")
    folder = pytester.mkdir("faults")
    (folder / "mine.py").write_text(
        "import pytest\nfrom harness import *\n"
        "@pytest.fixture\ndef cut_n1() -> Plan:\n    return Plan(at(0.1, partition('n1'), lasts=0.3))\n"
        "@pytest.fixture\ndef cut_n3() -> Plan:\n    return Plan(at(0.1, partition('n3'), lasts=0.3))\n"
        "@pytest.fixture\ndef helper() -> int:\n    return 3\n"
    )
    pytester.makepyfile(
        PASSING.replace("(chaos, cut)", "(chaos, plan)").replace("quick, cut)", "quick, plan)")
    )
    result = pytester.runpytest("-v", *workers)
    result.assert_outcomes(passed=2)
    for name in ("cut_n1", "cut_n3"):
        result.stdout.fnmatch_lines([f"*test_register[[]{name}]*VALID*" if not workers else f"*{name}*"])


def test_without_a_folder_plan_is_each_standard_plan(pytester: pytest.Pytester) -> None:
    from harness import plans

    pytester.makepyfile(
        PASSING.replace("(chaos, cut)", "(chaos, plan)").replace("quick, cut)", "quick, plan)")
    )
    result = pytester.runpytest("--collect-only", "-q")
    assert len(plans.STANDARD) >= 8
    for name in plans.STANDARD:
        result.stdout.fnmatch_lines([f"*test_register[[]{name}]"])


def test_faults_inside_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from harness import *
        from harness.testing import MemoryKV

        @pytest.mark.chaos(target=MemoryKV(nodes=3, bug="stale_reads"))
        def test_by_hand(chaos):
            with chaos.running(register_workload(keys=1, total_rate=400)) as run:
                run.wait(0.2)
                with run.fault(partition(isolate("n2"))):
                    run.wait(0.5)
                run.wait(0.2)
            (fault,) = run.history.faults
            assert fault.proof and fault.healed and fault.start < fault.end
            assert_linearizable(run.history)
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*INVALID: not linearizable*"])


def test_stop_at_violation_ends_a_run_early(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        bugged("stale_reads").replace("quick, cut)", "quick, cut, duration=60, stop_at_violation=True)")
    )
    result = pytester.runpytest("-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*INVALID: not linearizable*"])
    assert result.duration < 30


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("pytest.mark.chaos", "chaos has no target"),
        ("pytest.mark.chaos(target=3)", "chaos has target=3"),
        ("pytest.mark.chaos(MemoryKV())", "chaos takes keywords only: target, duration, seed, runtime"),
        ("pytest.mark.chaos(target=MemoryKV(), tempo=3)", "chaos has no tempo; it takes target, duration"),
        ("pytest.mark.chaos(target=MemoryKV(), duration='soon')", "must be a time above 0"),
        ("pytest.mark.chaos(target=MemoryKV(), seed='x')", "must be an integer"),
        ("pytest.mark.chaos(target=MemoryKV(nodes=0))", "one or more"),
        ("pytest.mark.chaos(target=MemoryKV(bug='odd'))", "is none of stale_reads"),
        ("pytest.mark.flaky\n@pytest.mark.chaos(target=MemoryKV())", "marked both chaos and flaky"),
    ],
)
def test_a_wrong_marker_is_refused_at_collection(
    pytester: pytest.Pytester, marker: str, complaint: str
) -> None:
    pytester.makeini("[pytest]\nmarkers = flaky\n")
    pytester.makepyfile(
        f"import pytest\nfrom harness.testing import MemoryKV\n@{marker}\ndef test(chaos): pass\n"
    )
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{complaint}*"])


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--nemesis-seed=x", "must be an integer"),
        ("--nemesis-duration=-3", "must be a time above 0: seconds, or 30s, 2m, 1h"),
        ("--nemesis-report=maybe", "none of always, on-failure, never"),
        ("--nemesis-runtime=moon", "none of auto, docker, netns, local"),
        ("--nemesis-require=docker", "--nemesis-require=docker, but the runtime would be local"),
    ],
)
def test_a_wrong_option_is_refused(pytester: pytest.Pytester, option: str, complaint: str) -> None:
    pytester.makepyfile("def test(): pass")
    result = pytester.runpytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{complaint}*"])


def test_ini_twins_count_and_options_win(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nnemesis_seed = 41\nnemesis_output = out\n")
    pytester.makepyfile("def test(): pass")
    pytester.runpytest().stdout.fnmatch_lines(["nemesis: seed 41 * out/*"])
    pytester.runpytest("--nemesis-seed=42").stdout.fnmatch_lines(["nemesis: seed 42 *"])


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ('Plan(at(0.1, partition("n9"), lasts=0.1))', "unknown selector 'n9'*n1, n2, n3"),
        ('Plan(at(5, partition("n1"), lasts=9))', "but the run lasts 1 s"),
        ('Plan(at(0.1, packet_loss("n1", 0.1), lasts=0.1))', "has no packet_loss"),
        ("Plan(3)", "must be one of at(...), every(...), when(...)"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_starts(
    pytester: pytest.Pytester, plan: str, complaint: str
) -> None:
    pytester.makepyfile(PASSING.replace('Plan(at(0.2, partition(isolate("n2")), lasts=0.6))', plan))
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{complaint}*"])
    assert not list((pytester.path / "reports").glob("2*/*/history*"))


def test_an_unreadable_replay_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSING)
    pytester.path.joinpath("broken.jsonl").write_text("what is this\n")
    result = pytester.runpytest("--nemesis-replay=broken.jsonl")
    result.stdout.fnmatch_lines(["*broken.jsonl: line 1 is no*"])


def test_rerunning_until_green_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "def pytest_addoption(parser): parser.addoption('--reruns', type=int, default=0, dest='reruns')"
    )
    pytester.makepyfile(PASSING)
    result = pytester.runpytest("--reruns=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot be rerun until they pass*"])


def test_junit_and_github_see_the_same_verdict(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    pytester.makepyfile(bugged("stale_reads"))
    pytester.runpytest("--junitxml=junit.xml", "--nemesis-seed=3")
    junit = (pytester.path / "junit.xml").read_text()
    assert 'name="nemesis.verdict" value="invalid"' in junit and 'name="nemesis.seed" value="3"' in junit
    summary = (pytester.path / "summary.md").read_text()
    assert re.search(r"\| .*test_register \| invalid \| not linearizable \| \d+ \|", summary)


def test_workers_share_the_seed_and_give_tests_streams_of_their_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        PASSING.replace('isolate("n2")', 'isolate("random")').replace(
            "def test_register(", '@pytest.mark.parametrize("n", range(6))\ndef test_register(n, '
        )
    )
    pytester.runpytest("-n2", "--nemesis-seed=9").assert_outcomes(passed=6)
    from harness.journal import load

    histories = [load(path) for path in run_output(pytester).glob("*/history.jsonl.gz")]
    assert {h.header["seed"] for h in histories} == {9}
    assert len({h.faults[0].nodes for h in histories}) > 1
    entries = [json.loads(p.read_bytes()) for p in run_output(pytester).glob("*/entry.json")]
    assert {entry["verdict"] for entry in entries} == {"valid"} and len(entries) == 6


def test_reports_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSING)
    pytester.runpytest("--nemesis-report=never").assert_outcomes(passed=1)
    assert not list((pytester.path / "reports").rglob("index.html"))
    assert list((pytester.path / "reports").rglob("history.jsonl.gz"))


def test_a_suite_without_chaos_tests_does_not_pay_for_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        def test():
            assert not {'harness.run', 'harness.plan', 'requests', 'docker'} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)

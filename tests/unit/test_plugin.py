"""The plugin as its user sees it: real pytest runs in a directory of their own, on the store in memory."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

# what an inner run imports is forgotten after it, unless it was there before: this saves a second each time
import harness.catalogue
import harness.plans
import harness.session
import harness.testing
from harness.journal import load

PASSING = """
import pytest
from harness import *
from harness.testing import MemoryKV

quick = register_workload(keys=2, clients=4, total_rate=400)

@pytest.fixture
def cut():
    return Plan(at(0.1, partition(isolate("n2")), lasts=0.6))

@pytest.mark.chaos(target=MemoryKV(nodes=3), duration=0.9)
def test_register(chaos, cut):
    assert_linearizable(chaos.run(quick, cut))
"""


def bugged(bug: str) -> str:
    """With time for the bug to show on a machine that is busy."""
    patient = PASSING.replace("lasts=0.6", "lasts=1.5").replace("duration=0.9", "duration=1.8")
    return patient.replace("MemoryKV(nodes=3)", f'MemoryKV(nodes=3, bug="{bug}")')


def run_output(pytester: pytest.Pytester) -> Path:
    (session,) = (p for p in (pytester.path / "reports").iterdir() if not p.is_symlink())
    return session


@pytest.fixture(autouse=True)
def own_root(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n")  # else a configuration further up would make its directory the root


def test_a_valid_run_passes_and_leaves_history_page_and_index(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSING)
    result = pytester.runpytest("--nemesis-seed=7")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*1 valid*seed 7*report: reports/*/index.html"])
    session = run_output(pytester)
    (history,) = session.glob("*/history.jsonl.gz")
    assert (session / "index.html").exists() and history.with_name("index.html").exists()
    assert (pytester.path / "reports" / "latest").resolve() == session


def test_sessions_of_one_process_in_the_same_second_overwrite_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda *given: "20260101-000000")
    pytester.makepyfile(PASSING.replace("duration=0.9", "duration=0.7"))
    for _ in range(3):
        pytester.runpytest("--nemesis-seed=7").assert_outcomes(passed=1)
    histories = list((pytester.path / "reports").glob("2*/*/history.jsonl.gz"))
    assert len({path.parent.parent for path in histories}) == len(histories) == 3


def test_the_header_says_seed_runtime_and_output(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(): pass")
    result = pytester.runpytest("--nemesis-seed=12", "--nemesis-runtime=local")
    result.stdout.fnmatch_lines(["nemesis: seed 12 · runtime local (asked for) · reports/*"])
    assert not (pytester.path / "reports").exists()  # nothing ran, nothing is left


def test_a_violation_ends_with_sentence_report_and_replay(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(bugged("stale_reads"))
    result = pytester.runpytest("-v", "--nemesis-seed=3")
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
    pytester.runpytest(f"--nemesis-replay={first}").assert_outcomes(passed=1)
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
    # without final reads, which a node that never answers again costs as long as they may take
    source = bugged(bug).replace("import pytest", "import dataclasses, pytest", 1)
    pytester.makepyfile(source.replace("run(quick,", "run(dataclasses.replace(quick, final=None),"))
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

@pytest.mark.chaos(target=MemoryKV(nodes=3))
def test_without_the_fixture():
    pass

@pytest.mark.chaos(target=MemoryKV(nodes=3))
def test_refused(chaos):
    with pytest.raises(PlanError):
        chaos.run(quick, Plan(at(1, partition("n9"), lasts=1)))

import unittest

@pytest.mark.chaos(target=MemoryKV(nodes=3))
class TestOld(unittest.TestCase):
    def test_method(self):
        pass
"""
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines(
        [
            "*judged by nothing*",
            "*never called chaos.run()*",
            "*never used the fixture `chaos`*",
            "*the run was refused before it began, so it tested nothing*",
            "*methods of unittest.TestCase cannot*",
        ]
    )


def test_expected_failures_and_runs_of_a_fixture_have_pages_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        bugged("stale_reads").replace(
            "@pytest.mark.chaos", "@pytest.mark.xfail(strict=True)\n@pytest.mark.chaos"
        )
        + """
@pytest.fixture
def history(chaos, cut):
    history = chaos.run(quick, cut)
    raise LookupError("after the run")

@pytest.mark.chaos(target=MemoryKV(nodes=3), duration=1.8)
def test_in_a_fixture(history):
    pass
"""
    )
    result = pytester.runpytest("--nemesis-seed=3")
    result.assert_outcomes(xfailed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR: LookupError: after the run*", "*1 invalid as expected, 1 error*"])
    assert len(list(run_output(pytester).glob("*/index.html"))) == 2


def test_a_page_that_cannot_be_written_fails_its_test_only(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_page(path: Path, content: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(harness.session, "write_page", no_page)
    pytester.makepyfile(PASSING.replace("duration=0.9", "duration=0.7") + "\ndef test_other(): pass\n")
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*a page could not be written: RuntimeError: no ink*"])


def test_the_plan_fixture_runs_each_plan_of_the_folder_by_name(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nnemesis_faults = faults\n")
    folder = pytester.mkdir("faults")
    (folder / "mine.py").write_text(
        "import pytest\nfrom harness import *\n"
        "@pytest.fixture\ndef cut_n1() -> Plan:\n    return Plan(at(0.1, partition('n1'), lasts=0.3))\n"
        "@pytest.fixture(name='cut_n3')\ndef third() -> Plan:\n"
        "    return Plan(at(0.1, partition('n3'), lasts=0.3))\n"
        "@pytest.fixture\ndef helper() -> int:\n    return 3\n"
    )
    pytester.makepyfile(
        PASSING.replace("(chaos, cut)", "(chaos, plan)").replace("quick, cut)", "quick, plan)")
    )
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=2)
    for name in ("cut_n1", "cut_n3"):
        result.stdout.fnmatch_lines([f"*test_register[[]{name}]*VALID*"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "no Python file in"),
        ("raise ImportError('torn')", "mine.py: ImportError: torn"),
        ("x = 3", "no plan in mine.py: a plan is a fixture such as `def cut() -> Plan:`"),
        ("@pytest.fixture\ndef cut(): return Plan()", "the fixture 'cut' does not say what it returns"),
        (
            "@pytest.fixture\ndef cut() -> Plan: return Plan()\n"
            "@pytest.fixture(name='cut')\ndef other() -> Plan: return Plan()\n",
            "the plan 'cut' is defined twice, in mine.py and mine.py",
        ),
    ],
)
def test_a_folder_of_plans_that_gives_none_is_refused(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(f"import pytest\nfrom harness import Plan\n{text}\n")
    with pytest.raises(harness.catalogue.CatalogueError, match=re.escape(complaint)):
        harness.catalogue.load(tmp_path)


def test_plans_of_a_conftest_or_of_the_test_itself_take_the_folders_place(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nnemesis_faults = faults\n")
    (pytester.mkdir("faults") / "mine.py").write_text("def broken(:\n")
    pytester.makepyfile("def test(): pass")
    result = pytester.runpytest("--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nemesis_faults = faults: *mine.py: SyntaxError*"])
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        test_override="import pytest\nfrom harness import *\nfrom harness.testing import MemoryKV\n"
        "@pytest.fixture\ndef plan(): return Plan()\n"
        "@pytest.mark.chaos(target=MemoryKV())\ndef test_one(chaos, plan): pass\n",
        test_own="import pytest\nfrom harness import *\nfrom harness.testing import MemoryKV\n"
        "@pytest.mark.parametrize('seed,plan', [(1, Plan()), (2, Plan())], ids=['calm', 'too'])\n"
        "@pytest.mark.chaos(target=MemoryKV())\ndef test_two(chaos, seed, plan): pass\n",
    )
    result = pytester.runpytest("--collect-only", "-q", "test_override.py", "test_own.py")
    assert [line for line in result.outlines if "::" in line] == [
        "test_override.py::test_one",
        "test_own.py::test_two[calm]",
        "test_own.py::test_two[too]",
    ]


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
        ("pytest.mark.chaos(target=MemoryKV(), runtime='moon')", "none of auto, docker, netns, local"),
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
        ("--nemesis-slots=0", "--nemesis-slots='0' must be a number of 1 or more"),
        ("--nemesis-runtime=moon", "none of auto, docker, netns, local"),
        (
            "--nemesis-runtime=local --nemesis-require=docker",
            "--nemesis-require=docker, but the runtime would be local",
        ),
    ],
)
def test_a_wrong_option_is_refused(pytester: pytest.Pytester, option: str, complaint: str) -> None:
    pytester.makepyfile("def test(): pass")
    result = pytester.runpytest(*option.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{complaint}*"])


def test_a_wrong_ini_twin_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nnemesis_keep = perhaps\n")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nemesis_keep = perhaps must be true or false*"])


def test_ini_twins_count_and_options_win(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nnemesis_seed = 41\nnemesis_output = out\n")
    pytester.makepyfile("def test(): pass")
    pytester.runpytest().stdout.fnmatch_lines(["nemesis: seed 41 * out/*"])
    pytester.runpytest("--nemesis-seed=42").stdout.fnmatch_lines(["nemesis: seed 42 *"])


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ('Plan(at(0.1, partition("n9"), lasts=0.1))', "unknown selector 'n9'*n1, n2, n3"),
        ('Plan(at(5, partition("n1"), lasts=9))', "but the run lasts 0.9 s"),
        ('Plan(at(0.1, packet_loss("n1", 0.1), lasts=0.1))', "has no packet_loss"),
        ("Plan(3)", "must be one of at(...), every(...), when(...)"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_starts(
    pytester: pytest.Pytester, plan: str, complaint: str
) -> None:
    pytester.makepyfile(PASSING.replace('Plan(at(0.1, partition(isolate("n2")), lasts=0.6))', plan))
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
    pytester.runpytest("--reruns=2", "-m", "not chaos").assert_outcomes(deselected=1)


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


def test_nothing_that_a_test_says_is_markup_in_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    said = "a|b <img src=x> [here](http://x) `c` \\| &lt;\r\n| new row"
    properties = {"nemesis.summary": said, "nemesis.operations": "3"}
    harness.session.github_summary([harness.session.Ended("test_x[a|b]", "error", True, properties)])
    rows = [
        line for line in (tmp_path / "summary.md").read_text().splitlines() if line.startswith("| test_x")
    ]
    assert len(rows) == 1 and rows[0].count("|") == 5
    assert not set("<>[]`\\") & set(rows[0])


def test_workers_share_seed_output_and_index_and_give_tests_streams_of_their_own(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        PASSING.replace('isolate("n2")', 'isolate("random")').replace(
            "def test_register(", '@pytest.mark.parametrize("n", range(5))\ndef test_register(n, '
        ),
        test_bug=bugged("stale_reads"),
    )
    result = pytester.runpytest("-n2", "--nemesis-seed=9")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.re_match_lines(
        [
            r"test_register   INVALID: not linearizable   [\d,]+ operations",
            r"  process \d+ read .*n2 cut from n1, n3 since",
            r"  report: reports/.*/index\.html    replay: pytest .*test_register --nemesis-replay=rep.*gz",
            r"5 valid, 1 invalid · seed 9 · report: reports/.*index\.html",
        ]
    )
    histories = [load(path) for path in run_output(pytester).glob("*/history.jsonl.gz")]
    assert {h.header["seed"] for h in histories} == {9}
    valid = [h for h in histories if "bug" not in h.header["target"].replace("bug=None", "")]
    assert len(valid) == 5 and len({h.faults[0].nodes for h in valid}) > 1
    entries = [json.loads(p.read_bytes()) for p in run_output(pytester).glob("*/entry.json")]
    assert sorted(entry["verdict"] for entry in entries) == ["invalid", *["valid"] * 5]


def test_an_interactive_terminal_sees_how_far_a_run_is_although_output_is_captured(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it=PASSING.replace("assert_lin", 'print("swallowed"); assert_lin'))
    ours, theirs = pty.openpty()
    shown = b""
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"],
        cwd=pytester.path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
            while read := os.read(ours, 4096):
                shown += read
        os.close(ours)
    assert process.returncode == 0, shown.decode()
    assert re.search(rb"::test_register .*\d+ operations .* n2 cut from n1, n3 .* s left", shown), shown
    assert b"swallowed" not in shown


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

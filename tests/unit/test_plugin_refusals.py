"""What the plugin does not run: reruns until green, markers misused in a worker, a replay of another test."""

from __future__ import annotations

import gzip
import re

import pytest

from tests.unit.test_plugin import PASSING, bugged, own_root, run_output

__all__ = ["own_root"]

# as pytest-rerunfailures and pytest-retry declare theirs
COUNTED = """
def pytest_addoption(parser):
    parser.addoption("--reruns", type=int, dest="reruns")
    parser.addoption("--retries", type=int, dest="retries")
    parser.addini("reruns", "", type="string")
    parser.addini("retries", "", type="string", default=0)
"""

# a test that would be green the second time, for there is no fault then
TWICE = bugged("stale_reads").replace(
    "assert_linearizable(chaos.run(quick, cut))",
    "tries.append(1); assert_linearizable(chaos.run(quick, cut if len(tries) == 1 else Plan()))",
).replace("import pytest", "import pytest\ntries = []", 1)  # fmt: skip

# how pytest-rerunfailures does it: the whole protocol again, the first reports being called reruns
PROTOCOL = """
import pytest
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for last in (False, True):
        if hasattr(item, "_initrequest"):
            item._initrequest()
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            if report.failed and not last:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
    return True

@pytest.hookimpl(trylast=True)
def pytest_report_teststatus(report):
    if report.outcome == "rerun":
        return "rerun", "R", "RERUN"
"""

# how flaky does it: what failed first is reported nowhere
SILENT = PROTOCOL.replace("            item.ihook", "            if last: item.ihook")

# how pytest-retry does it: in the midst of the report, whether or not it can be set up
REPORT = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and report.failed:
        hook, new = item.ihook, pytest.CallInfo.from_call
        new(lambda: hook.pytest_runtest_teardown(item=item, nextitem=None), "teardown")
        report.outcome = "rerun"
        hook.pytest_runtest_logreport(report=report)
        item._initrequest()
        new(lambda: hook.pytest_runtest_setup(item=item), "setup")
        again = pytest.TestReport.from_item_and_call(
            item, new(lambda: hook.pytest_runtest_call(item=item), "call")
        )
        report.outcome, report.longrepr = again.outcome, again.longrepr
    return report

@pytest.hookimpl(trylast=True)
def pytest_report_teststatus(report):
    if report.outcome == "rerun":
        return "rerun", "R", "RERUN"
"""


@pytest.mark.parametrize(
    ("ini", "options", "complaint"),
    [
        ("reruns = 2", [], "Leave out reruns = 2 in the ini file"),
        ("retries = 1", [], "Leave out retries = 1 in the ini file"),
        ("", ["--retries=3"], "Leave out --retries"),
        ("reruns = x", ["--reruns=1"], "Leave out --reruns"),
        ("retries = 1", ["--retries=0"], "Leave out retries = 1 in the ini file"),  # it retries once
    ],
)
def test_reruns_by_option_or_ini_file_are_refused(
    pytester: pytest.Pytester, ini: str, options: list[str], complaint: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}\n")
    pytester.makeconftest(COUNTED)
    pytester.makepyfile(PASSING)
    result = pytester.runpytest(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*cannot be rerun until they pass*{complaint}, or deselect*"])
    pytester.runpytest(*options, "-m", "not chaos").assert_outcomes(deselected=1)


def test_an_option_of_no_reruns_wins_over_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nreruns = 2\n")
    pytester.makeconftest(COUNTED)
    pytester.makepyfile(PASSING)
    pytester.runpytest("--reruns=0").assert_outcomes(passed=1)


@pytest.mark.parametrize("where", ["function", "class"])
def test_the_decorator_of_the_package_flaky_is_refused(pytester: pytest.Pytester, where: str) -> None:
    flaky = "def flaky(it):\n    it._flaky_max_runs = 3\n    return it\n"
    marked = "@flaky\n@pytest.mark.chaos(target=MemoryKV())\n"
    test = (
        "def test(chaos): pass" if where == "function" else "class TestIt:\n    def test(self, chaos): pass"
    )
    pytester.makepyfile(f"import pytest\nfrom harness.testing import MemoryKV\n{flaky}{marked}{test}\n")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*marked both chaos and flaky*"])


@pytest.mark.parametrize("how", [PROTOCOL, SILENT, REPORT], ids=["protocol", "silent", "report"])
def test_no_other_plugin_turns_a_violation_green(
    pytester: pytest.Pytester, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    pytester.makeconftest(how)
    pytester.makepyfile(TWICE)
    result = pytester.runpytest("--nemesis-seed=3")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*test_register ran before in this session and was INVALID: not linearizable*"
            "a violation seen once is a violation*",
            "1 invalid · seed 3*",
        ]
    )
    result.stdout.no_fnmatch_line("*as expected*")
    counts = {word: n for word, n in result.parseoutcomes().items() if word != "warnings"}
    assert counts in ({"errors": 1, "rerun": 1}, {"errors": 1}, {"failed": 1, "rerun": 1})
    assert "| invalid |" in (pytester.path / "summary.md").read_text()
    assert len(list(run_output(pytester).glob("*/history.jsonl.gz"))) == 1


@pytest.mark.parametrize(
    ("body", "was"),
    [
        ("history.findings += ('odd',)", "ERROR: odd"),
        ("raise LookupError('mine')", "ERROR: LookupError: mine"),
    ],
)
def test_findings_and_errors_do_not_turn_green_either(pytester: pytest.Pytester, body: str, was: str) -> None:
    pytester.makeconftest(PROTOCOL)
    test = f"""history = chaos.run(quick, Plan(), duration=0.4)
    tries.append(1)
    if len(tries) == 1:
        {body}
    assert_linearizable(history)
"""
    head, _, _ = TWICE.replace('bug="stale_reads"', "").partition("tries.append(1);")
    pytester.makepyfile(head + test)
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*ran before in this session and was {was}*"])


def test_what_was_good_may_run_again(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(PROTOCOL)
    pytester.makepyfile(PASSING.replace("duration=0.9", "duration=0.7"))
    result = pytester.runpytest("--junitxml=junit.xml")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["1 valid *"])


def test_workers_say_what_they_refuse(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        PASSING
        + """
@pytest.mark.chaos(target=3)
def test_misused(chaos, cut):
    pass

@pytest.mark.xfail
@pytest.mark.chaos(MemoryKV())
def test_expected_or_not(chaos, cut):
    pass
"""
    )
    result = pytester.runpytest("-n1")
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "*::test_misused: chaos has target=3; it needs an instance*",
            "*: chaos takes keywords only: target*",
        ]
    )
    pytester.makeini("[pytest]\nreruns = 2\n")
    pytester.makeconftest(COUNTED)
    pytester.makepyfile(PASSING)
    result = pytester.runpytest("-n1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Leave out reruns = 2 in the ini file*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_replay_runs_the_recorded_test_only_with_the_recorded_seed(pytester: pytest.Pytester) -> None:
    quicker = PASSING.replace("duration=0.9", "duration=0.7")
    pytester.makepyfile(
        quicker.replace(
            "def test_register(", "@pytest.mark.parametrize('k', ['a/b', 'c'])\ndef test_register(k, "
        )
    )
    pytester.runpytest("-k", "a/b", "--nemesis-seed=5").assert_outcomes(passed=1)
    (first,) = run_output(pytester).glob("*/history.jsonl.gz")
    assert "test_register-a-b" in first.parent.name
    replay = f"--nemesis-replay={first.relative_to(pytester.path)}"
    for how in (["-n1"], []):
        result = pytester.runpytest(replay, *how)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            [
                "*the history records *.py::test_register[[]a/b], but this test is *.py::test_register[[]c];"
                " select the recorded one: pytest '*::test_register[[]a/b]' --nemesis-replay=*",
                "1 valid · seed 5 *",
            ]
        )
    result.stdout.fnmatch_lines(["nemesis: seed 5 · * · reports/*-seed5-*"])
    sessions = [p for p in (pytester.path / "reports").iterdir() if not p.is_symlink()]
    assert len(sessions) == 3 and all("-seed5-" in p.name for p in sessions)
    pytester.makeini("[pytest]\nnemesis_seed = 8\n")  # pins what is not replayed
    pytester.runpytest(replay, "--collect-only").stdout.fnmatch_lines(["nemesis: seed 5 *"])
    result = pytester.runpytest(replay, "--nemesis-seed=6")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--nemesis-seed=6: a replay uses the recorded seed, 5; leave out *"])


def test_a_recorded_test_is_the_same_wherever_pytest_was_started(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=PASSING)
    pytester.runpytest("--nemesis-seed=5").assert_outcomes(passed=1)
    (first,) = run_output(pytester).glob("*/history.jsonl.gz")
    text = gzip.decompress(first.read_bytes()).decode()
    for test, outcomes in (("below/test_it.py::test_register@group", "passed"), ("it.py::test_re", "errors")):
        moved = text.replace('"test_it.py::test_register"', f'"{test}"', 1)
        pytester.path.joinpath("moved.jsonl").write_text(moved)
        pytester.runpytest("--nemesis-replay=moved.jsonl").assert_outcomes(**{outcomes: 1})


@pytest.mark.parametrize("header", ['{"nemesis": 1, "seed": "x"}', '{"nemesis": 1, "seed": 1.5}'])
def test_a_recorded_seed_that_is_none_is_refused(pytester: pytest.Pytester, header: str) -> None:
    pytester.path.joinpath("odd.jsonl").write_text(f"{header}\n")
    result = pytester.runpytest("--nemesis-replay=odd.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert re.search(r"--nemesis-replay=odd.jsonl: its seed .* must be an integer", result.stderr.str())

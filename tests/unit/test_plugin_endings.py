"""How tests end, as their user sees it: no room for output, skips, subtests, wrong arguments."""

from __future__ import annotations

import json
import re

import pytest

from tests.unit.test_plugin import PASSING, bugged, own_root, run_output

__all__ = ["own_root"]

QUICKER = PASSING.replace("duration=0.9", "duration=0.7")


@pytest.mark.parametrize("output", ["taken", "taken/below"])
def test_a_file_in_the_place_of_the_output_is_refused(pytester: pytest.Pytester, output: str) -> None:
    pytester.path.joinpath("taken").write_text("")
    pytester.makepyfile(PASSING)
    result = pytester.runpytest(f"--nemesis-output={output}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--nemesis-output={output}: */taken is no directory"])


@pytest.mark.parametrize("when", ["before the run", "after it"])
def test_an_output_that_cannot_be_written_fails_its_test(pytester: pytest.Pytester, when: str) -> None:
    test = QUICKER + "\ndef test_other(): pass\n"
    output = "--nemesis-output=/proc/nowhere"
    if when == "after it":
        output = "--nemesis-report=never"
        after = "import shutil; shutil.rmtree(chaos.output); chaos.output.write_text('')"
        test = test.replace("cut))", f"cut)); {after}")
    pytester.makepyfile(test)
    result = pytester.runpytest(output)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.re_match_lines([r".*\S+ cannot be written \(.+\): choose another --nemesis-output$"])
    (failed,) = [line for line in result.outlines if line.startswith("E  ")] or [""]
    assert ("--nemesis-output" in failed) == (when == "before the run")


SKIPS = {
    "skip": "pytest.skip('too slow')",
    "unittest": "import unittest; raise unittest.SkipTest('too slow')",
}


@pytest.mark.parametrize("skip", SKIPS.values(), ids=SKIPS)
def test_a_skip_does_not_hide_a_violation(pytester: pytest.Pytester, skip: str) -> None:
    run = "assert_linearizable(chaos.run(quick, cut))"
    skipping = f"with pytest.raises(AssertionError): {run}\n    {skip}"
    pytester.makepyfile(bugged("stale_reads").replace(run, skipping))
    result = pytester.runpytest("--nemesis-seed=3", "-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*skipped after its run was judged*",
            "*INVALID: not linearizable *operations*",
            "1 invalid · seed 3*",
        ]
    )


@pytest.mark.parametrize("where", ["test", "fixture"])
def test_a_skip_does_not_hide_findings(pytester: pytest.Pytester, where: str) -> None:
    run = "assert_linearizable(chaos.run(quick, cut))"
    source = bugged("panics").replace(run, f"{run}; pytest.skip('no')")
    if where == "fixture":
        source = source.replace("def test_register(chaos, cut)", "def test_register(ran)")
        source = source.replace(f"{run}; pytest.skip('no')", "pass")
        source += f"\n@pytest.fixture\ndef ran(chaos, cut):\n    {run}\n    pytest.skip('no')\n"
    pytester.makepyfile(source)
    result = pytester.runpytest()
    result.assert_outcomes(**{"failed" if where == "test" else "errors": 1})
    result.stdout.fnmatch_lines(["*skipped after its run left findings*", "*n1 logged a panic: *"])


def test_an_ordinary_skip_stays_one_and_so_does_xfail(pytester: pytest.Pytester) -> None:
    bad = bugged("stale_reads").partition("@pytest.mark.chaos")[2].replace("test_register", "test_bad")
    pytester.makepyfile(
        QUICKER.replace("cut))", "cut)); pytest.skip('enough')")
        + "\n@pytest.mark.chaos(target=MemoryKV())\ndef test_before(chaos): pytest.skip('not here')\n"
        + "\n@pytest.mark.chaos(target=MemoryKV())\ndef test_refused(chaos):\n"
        "    with pytest.raises(RunError): chaos.run(3)\n    pytest.skip('not here')\n"
        + f"\n@pytest.mark.xfail\n@pytest.mark.chaos{bad}"
        + f"\n@pytest.mark.chaos{bad}".replace("test_bad", "test_known").replace(
            "assert_linearizable(chaos.run(quick, cut))",
            "\n    with pytest.raises(AssertionError): assert_linearizable(chaos.run(quick, cut))\n"
            "    pytest.xfail('known')",
        )
    )
    result = pytester.runpytest("--nemesis-seed=3")
    result.assert_outcomes(skipped=3, xfailed=2)
    result.stdout.fnmatch_lines(["2 invalid as expected · seed 3*"])
    entries = [json.loads(p.read_bytes()) for p in run_output(pytester).glob("*/entry.json")]
    assert [entry["expected"] for entry in entries] == [True, True]


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 8 has no subtests")
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["alone", "worker"])
def test_a_test_of_several_subtests_is_one_entry(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    in_subtests = """
@pytest.mark.chaos(target=MemoryKV(nodes=3{bug}), duration=1.8)
def test_{name}(chaos, cut, subtests):
    history = chaos.run(quick, cut)
    with subtests.test("no check"):
        pass
    with subtests.test("judged"):
        assert_linearizable(history)
    with subtests.test("own"):
        assert {own}
"""
    pytester.makepyfile(
        bugged("stale_reads").partition("@pytest.mark.chaos")[0]
        + in_subtests.format(name="bad", bug=', bug="stale_reads"', own=True)
        + in_subtests.format(name="own", bug="", own="history is None, 'my own'")
        + in_subtests.format(name="good", bug="", own=True)
    )
    result = pytester.runpytest(
        "--nemesis-seed=3", "--junitxml=junit.xml", "--nemesis-report=on-failure", *workers
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = [line for line in result.outlines if re.match(r"test_\w+   ", line)]
    assert sorted(line.partition(":")[0] for line in lines) == ["test_bad   INVALID", "test_own   ERROR"]
    result.stdout.fnmatch_lines(
        ["test_own   ERROR: AssertionError: my own*", "1 valid, 1 invalid, 1 error · *"]
    )
    rows = re.findall(r"\| .*test_(\w+) \| (.*?) \|", (pytester.path / "summary.md").read_text())
    assert sorted(rows) == [("bad", "invalid"), ("good", "valid"), ("own", "error")]
    assert (pytester.path / "junit.xml").read_text().count('name="nemesis.verdict"') == 3
    entries = [json.loads(p.read_bytes()) for p in run_output(pytester).glob("*/entry.json")]
    assert not any(entry["expected"] for entry in entries)
    assert len(list(run_output(pytester).glob("*/index.html"))) == 2


def test_github_says_what_was_expected_as_the_terminal_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    pytester.makepyfile(
        bugged("stale_reads").replace("@pytest.mark.chaos", "@pytest.mark.xfail\n@pytest.mark.chaos")
    )
    pytester.runpytest("--nemesis-seed=3").stdout.fnmatch_lines(["1 invalid as expected *"])
    assert "| invalid as expected |" in (pytester.path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (
            "quick, [at(1, kill('n1'), lasts=1)]",
            "run(workload, plan): plan is [[]at(1*, but must be a Plan, such as Plan(at(",
        ),
        (
            "Plan(), quick",
            "run(workload, plan): workload is Plan(), but must be a Workload, such as register_workload()",
        ),
        ("register_workload", "run(workload, plan): workload is <function *, but must be a Workload"),
        ("quick, duration='5s'", "run(duration='5s') must be a number: of seconds"),
        ("quick, duration=True", "run(duration=True) must be a number: of seconds"),
    ],
)
def test_wrong_arguments_of_run_are_named(pytester: pytest.Pytester, call: str, complaint: str) -> None:
    pytester.makepyfile(PASSING.replace("chaos.run(quick, cut)", f"chaos.run({call})"))
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *RunError: {complaint}*"])
    assert not [line for line in result.outlines if "harness/run.py" in line]

"""The pytest plugin: marker ``chaos``, options ``--nemesis-*``, fixtures `chaos` and `plan`.

Thin on purpose: it is loaded by every pytest of an environment that has it installed, so everything
heavy is imported where it is used.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from harness import options
from harness.options import option, seconds

if TYPE_CHECKING:
    from harness.chaos import Chaos
    from harness.plan import Plan


@dataclass(frozen=True)
class Session:
    """What holds for the whole pytest session, the same in every xdist worker.

    `recorded` is the test whose history is replayed, or "".
    """

    seed: int
    output: Path
    recorded: str
    plans: tuple[str, ...]
    runtime: str
    why: str


SESSION = pytest.StashKey[Session]()
CHAOS = pytest.StashKey["Chaos"]()
REFUSED = pytest.StashKey[str]()  # why an item is not run
CALLED = pytest.StashKey[bool]()  # its function is being called
SIGTERM = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", options.MARKER_TEXT)
    shared = getattr(config, "workerinput", {}).get("nemesis") or _shared(config)
    options.report(config)
    options.keep(config)
    options.slots(config)
    seconds(option(config, "duration"), "--nemesis-duration")
    config.stash[SESSION] = Session(
        shared["seed"],
        Path(shared["output"]),
        shared["recorded"],
        _load_plans(config),
        *options.runtime(config),
    )
    # SIGTERM must clean up as Ctrl-C does: clusters are taken down where the exception passes
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        config.stash[SIGTERM] = signal.signal(signal.SIGTERM, partial(_terminate, config))
        if hasattr(config, "workerinput"):
            from harness.orphan import end_with_parent

            end_with_parent()


def _terminate(config: pytest.Config, number: int, frame: FrameType | None) -> None:
    said = "terminated (SIGTERM)"
    if hasattr(config, "workerinput"):
        # execnet interrupts a worker that lives 5 s longer than its controller: cleaning up may take as long
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    while frame is not None:
        if frame.f_code.co_name == "_finish" and frame.f_globals.get("__name__") == "harness.run":
            # a run is being cleaned up already: to break that off would leave things behind
            if (session := config.pluginmanager.getplugin("session")) is not None:
                session.shouldstop = said
            return
        frame = frame.f_back
    raise KeyboardInterrupt(said)


def pytest_unconfigure(config: pytest.Config) -> None:
    if SIGTERM in config.stash:
        signal.signal(signal.SIGTERM, config.stash[SIGTERM])


def _shared(config: pytest.Config) -> dict[str, Any]:
    """What the controller decides for every worker.

    The session's own directory is made by its first run; time, seed and process keep neighbours apart, a
    number those sessions that one process has in the same second.
    """
    header = options.recorded(config)
    seed = options.seed(config, header.get("seed"))
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}-{os.getpid()}"
    base = options.output(config)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    output = next(path for each in names if not (path := base / each).exists())
    return {"seed": seed, "output": str(output), "recorded": str(header.get("test") or "")}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    own = node.config.stash[SESSION]
    shared = {"seed": own.seed, "output": str(own.output), "recorded": own.recorded}
    node.workerinput["nemesis"] = shared


def pytest_report_header(config: pytest.Config) -> str:
    own = config.stash[SESSION]
    return f"nemesis: seed {own.seed} · runtime {own.runtime} ({own.why}) · {_short(config, own.output)}"


# ------------------------------------------------------------------------------------------------ plans


def _load_plans(config: pytest.Config) -> tuple[str, ...]:
    """Register every file of `nemesis_faults` as a plugin; the names of its fixtures that return a Plan."""
    if not (folder := str(config.getini("nemesis_faults"))):
        return ()
    from harness.catalogue import CatalogueError, load

    try:
        modules, names = load(config.rootpath / folder)
    except CatalogueError as error:
        raise pytest.UsageError(f"nemesis_faults = {folder}: {error}") from error
    for module in modules:
        config.pluginmanager.register(module, module.__name__)
    return names


def _standard() -> dict[str, Any]:
    from harness import plans

    return {name: getattr(plans, name) for name in plans.STANDARD}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "plan" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("chaos") is None:
        return
    found = metafunc._arg2fixturedefs.get("plan", ())
    if found and found[-1].func.__module__ != __name__:
        return  # the test's own fixture named plan
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if "plan" in (names.replace(",", " ").split() if isinstance(names, str) else names):
            return  # the test's own plans
    plans = metafunc.config.stash[SESSION].plans or tuple(_standard())
    metafunc.parametrize("plan", plans, indirect=True)


@pytest.fixture
def plan(request: pytest.FixtureRequest) -> Plan:
    """Each plan of the folder `nemesis_faults` in turn (without one: each standard plan), by name."""
    name = getattr(request, "param", None)
    if name is None:
        pytest.fail("the fixture `plan` is for tests marked chaos", pytrace=False)
    if request.config.stash[SESSION].plans:
        return request.getfixturevalue(name)  # type: ignore[no-any-return]
    return _standard()[name]()  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------- collection


@pytest.hookimpl(trylast=True)  # what is deselected is nobody's
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    recorded = config.stash[SESSION].recorded
    for item in items:
        if item.get_closest_marker("chaos") is None:
            continue
        try:
            options.check(item)
        except pytest.UsageError as error:
            if not hasattr(config, "workerinput"):
                raise
            item.stash[REFUSED] = str(error)  # raised here, it would be an INTERNALERROR of xdist's
        if recorded and (why := options.not_recorded(item, recorded)):
            item.stash[REFUSED] = why


# --------------------------------------------------------------------------------------------- the test


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Iterator[Chaos]:
    """Runs workloads under fault plans against the marker's target; see `harness.chaos.Chaos`."""
    from harness.chaos import Chaos
    from harness.journal import load
    from harness.run import Settings

    item, config = request.node, request.config
    if item.get_closest_marker("chaos") is None:
        pytest.fail("the fixture `chaos` needs @pytest.mark.chaos(target=...) on the test", pytrace=False)
    session, arguments = config.stash[SESSION], options.marker(item)
    replay = load(option(config, "replay")) if option(config, "replay") else None
    output = session.output / slug(item.nodeid)
    seed = arguments.get("seed", session.seed)
    handle = Chaos(
        target=arguments["target"],
        settings=Settings(
            seed=int(replay.header.get("seed", seed)) if replay else seed,
            test=item.nodeid,
            output=output,
            runtime=arguments.get("runtime") or options.asked(config),
            duration=arguments["duration"] or seconds(option(config, "duration"), "--nemesis-duration"),
            keep=options.keep(config),
            slots=options.slots(config),
        ),
        output=output,
        progress=_progress(config),
        replay_from=replay,
    )
    item.stash[CHAOS] = handle
    yield handle
    if handle.progress is not None:
        handle.progress("")
    failed = bool(handle.error or handle.findings or (handle.verdict and not handle.verdict.valid))
    if text := handle.close(keep=failed and handle.settings.keep):
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        (reporter.write_line if reporter else print)(f"\n{text}")


def slug(nodeid: str) -> str:
    """A test's id as a directory name: readable, and different for different ids."""
    text = re.sub(r"[^A-Za-z0-9_.\[\]-]+", "-", options.local(nodeid).replace("::", "."))
    text = text.replace("[", "-").replace("]", "").strip("-.")
    if len(text) > 100 or text != nodeid:
        import zlib

        text = f"{text[:100]}-{zlib.crc32(nodeid.encode()):08x}"
    return text


def _progress(config: pytest.Config) -> Any:
    """Writes to the right of the cursor of an interactive terminal; nothing elsewhere."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or not reporter.isatty:
        return None
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    writer = reporter._tw

    def show(text: str) -> None:
        room = writer.fullwidth - writer.width_of_current_line - 4
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            writer._file.write(f"\x1b7\x1b[K  {text[: max(0, room)]}\x1b8")
            writer._file.flush()

    return show


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What was refused is not run; nor is, whichever plugin wants it, a chaos test that failed before."""
    if (earlier := item.stash.get(CHAOS, None)) is not None:
        if earlier.failed:
            from harness import session

            item.stash[REFUSED] = session.rerun(earlier, item.nodeid)
        del item.stash[CHAOS]
    if why := item.stash.get(REFUSED, ""):
        pytest.fail(why, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After a chaos test passed: findings and judging nothing still fail it."""
    if why := item.stash.get(REFUSED, ""):  # some plugins call what could not be set up
        pytest.fail(why, pytrace=False)
    item.stash[CALLED] = True
    try:
        result = yield
    except BaseException as error:
        if (chaos := item.stash.get(CHAOS, None)) is not None:
            from harness.plan import Unsupported
            from harness.verdict import Undecided, Violation

            if isinstance(error, Unsupported) and _of_catalogue(item):
                pytest.skip(str(error))
            if not isinstance(error, (Violation, Undecided, pytest.skip.Exception)):
                chaos.error = f"{type(error).__name__}: {error}"
        raise
    finally:
        del item.stash[CALLED]
    if (chaos := item.stash.get(CHAOS, None)) is None:
        if item.get_closest_marker("chaos") is not None:
            pytest.fail(
                "this test is marked chaos but never used the fixture `chaos`, so it tested nothing: "
                "take it as an argument (methods of unittest.TestCase cannot), or leave out the marker",
                pytrace=False,
            )
    else:
        if chaos.findings:
            from harness import session

            pytest.fail(session.findings(chaos), pytrace=False)
        if why := chaos.unjudged():
            chaos.error = why
            pytest.fail(why, pytrace=False)
    return result


def _of_catalogue(item: pytest.Item) -> bool:
    """Whether a test has a plan of the catalogue, which knows nothing of runtimes, and none is required."""
    if option(item.config, "require"):
        return False
    name = getattr(item, "callspec", None) and item.callspec.params.get("plan")  # type: ignore[attr-defined]
    return name in (item.config.stash[SESSION].plans or tuple(_standard()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if (chaos := item.stash.get(CHAOS, None)) is None:
        return (yield)
    from harness import session

    if call.when != "teardown" and not chaos.failed and _skips(call) and (why := session.hidden(chaos)):
        call.excinfo = pytest.CallInfo.from_call(lambda: pytest.fail(why, pytrace=False), "call").excinfo
    report = yield
    if report.failed and call.excinfo is not None:
        _failed(chaos, call.excinfo, call.when)
    subtest = item.stash.get(CALLED, False)  # one of several reports: the test's own comes after it
    if subtest or (report.skipped and not hasattr(report, "wasxfail")):
        return report
    if call.when != "call" and not (call.when == "setup" and report.failed and chaos.runs):
        return report
    when, failed = option(item.config, "report"), chaos.failed or call.excinfo is not None
    done = session.conclude(
        chaos,
        item.nodeid,
        failed=failed,
        page=when == "always" or (when == "on-failure" and failed),
        command=session.replay_command(item.config, item.nodeid, chaos),
    )
    for told in (report, item):
        kept = [(name, value) for name, value in told.user_properties if not name.startswith("nemesis.")]
        told.user_properties[:] = kept + done.properties
    if done.trouble and report.passed:
        report.outcome, report.longrepr = "failed", done.trouble
    if report.failed:
        report.sections.append(("nemesis", done.text))
    return report


def _skips(call: pytest.CallInfo[None]) -> bool:
    from unittest import SkipTest

    return call.excinfo is not None and isinstance(call.excinfo.value, (pytest.skip.Exception, SkipTest))


def _failed(chaos: Chaos, excinfo: pytest.ExceptionInfo[BaseException], when: str) -> None:
    """Remember that a part of the test failed, and why unless verdict or findings say so."""
    from harness.verdict import Undecided, Violation

    chaos.failed = True
    judged = isinstance(excinfo.value, (Violation, Undecided)) or not (
        chaos.verdict is None or chaos.verdict.valid
    )
    if not judged and not (when == "call" and chaos.findings):
        chaos.error = chaos.error or excinfo.exconly()


# ------------------------------------------------------------------------------------------ what is seen


def _properties(report: Any) -> dict[str, str]:
    return {
        name: str(value)
        for name, value in getattr(report, "user_properties", ())
        if str(name).startswith("nemesis.")
    }


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Verbose output says the verdict in the place of PASSED and FAILED."""
    word = _properties(report).get("nemesis.verdict")
    if report.when != "call" or not word or not (report.passed or report.failed):
        return None
    if report.passed:
        return "passed", ".", "VALID" if word == "valid" else f"{word.upper()}, as the test expects"
    return "failed", word[0].upper(), word.upper()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    reports = [
        (report.nodeid, report.failed, _properties(report))
        for status in ("passed", "failed", "error", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(status, ())
        if report.when != "teardown"
    ]
    if not any(properties for _, _, properties in reports):
        return
    from harness import session

    own, tests = config.stash[SESSION], session.ended(reports)
    terminalreporter.section("nemesis")
    index = None
    try:
        session.github_summary(tests)
        if option(config, "report") != "never":
            index = session.write_index(own.output, own.seed)
    except OSError as error:
        terminalreporter.write_line(f"index or summary could not be written: {error}", red=True)
    for test in tests:
        if test.failed:
            terminalreporter.write_line(test.properties["nemesis.text"])
            terminalreporter.write_line("")
    words = [test.word for test in tests]
    counts = ", ".join(f"{words.count(w)} {w}" for w in dict.fromkeys(sorted(words, reverse=True)))
    where = f" · report: {_short(config, index)}" if index else ""
    terminalreporter.write_line(f"{counts} · seed {own.seed}{where}")


def _short(config: pytest.Config, path: Path) -> str:
    """A path as seen from where pytest was started, if that is shorter."""
    try:
        return str(path.relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)

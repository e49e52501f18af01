"""The pytest plugin: marker ``chaos``, options ``--nemesis-*``, fixtures `chaos` and `plan`.

Thin on purpose: it is loaded by every pytest of an environment that has it installed, so everything
heavy is imported where it is used.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.chaos import Chaos
    from harness.plan import Plan

REPORT = ("always", "on-failure", "never")
MARKER = ("target", "duration", "seed", "runtime")
MARKER_TEXT = (
    "chaos(target, duration=None, seed=None, runtime=None): a chaos test; `target` is what is tested "
    "(a harness.Target), `duration` the seconds of each run, `seed` that of its random choices, "
    "`runtime` where its nodes run."
)


@dataclass(frozen=True)
class Session:
    """What holds for the whole pytest session, the same in every xdist worker."""

    seed: int
    output: Path
    plans: tuple[str, ...]
    runtime: str
    why: str


SESSION = pytest.StashKey[Session]()
CHAOS = pytest.StashKey["Chaos"]()
SIGTERM = pytest.StashKey[Any]()


# ---------------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nemesis", "chaos tests (pytest-nemesis)")

    def option(name: str, help: str, default: str = "", **more: Any) -> None:
        group.addoption(f"--nemesis-{name}", dest=f"nemesis_{name}", default=None, help=help, **more)
        parser.addini(f"nemesis_{name}", f"{help} (option --nemesis-{name})", default=default)

    option("seed", "seed of all random choices; drawn and printed when not given", metavar="N")
    option(
        "duration", "length of each run: seconds, or 30s, 2m, 1h; a longer one repeats the plan", metavar="T"
    )
    option("runtime", "where nodes run: auto, local", default="auto", metavar="NAME")
    option("report", "HTML report: always, on-failure or never", default="always", metavar="WHEN")
    option("output", "directory for histories, logs and reports", default="reports", metavar="DIR")
    option("keep", "leave the cluster of a failed test running", default="", action="store_true")
    option(
        "require", "fail unless this runtime is used, instead of taking another (for CI)", metavar="RUNTIME"
    )
    option("replay", "carry out the recorded schedule of this history", metavar="HISTORY")
    parser.addini("nemesis_faults", "folder whose fixtures that return a Plan are the plans", default="")


def _option(config: pytest.Config, name: str) -> str:
    given = config.getoption(f"nemesis_{name}")
    return str(config.getini(f"nemesis_{name}") if given is None else given)


def _seed(config: pytest.Config) -> int:
    text = _option(config, "seed")
    if not text:
        return random.SystemRandom().randrange(1, 10**6)
    try:
        return int(text)
    except ValueError:
        raise pytest.UsageError(f"--nemesis-seed={text!r} must be an integer") from None


def seconds(text: Any, where: str) -> float | None:
    """A duration as seconds: a number, or 30s, 2m, 1h; None for nothing. Raises UsageError otherwise."""
    if text is None or text == "":
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", str(text))
    value = float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]] if match else 0.0
    if value <= 0:
        raise pytest.UsageError(f"{where}={text!r} must be a time above 0: seconds, or 30s, 2m, 1h")
    return value


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER_TEXT)
    shared = getattr(config, "workerinput", {}).get("nemesis")
    seed = shared["seed"] if shared else _seed(config)
    output = Path(shared["output"]) if shared else _output(config, seed)
    if (report := _option(config, "report")) not in REPORT:
        raise pytest.UsageError(f"--nemesis-report={report!r} is none of {', '.join(REPORT)}")
    seconds(_option(config, "duration"), "--nemesis-duration")
    config.stash[SESSION] = Session(seed, output, _load_plans(config), *_runtime(config))
    # SIGTERM must clean up as Ctrl-C does: clusters are taken down where the exception passes
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        config.stash[SIGTERM] = signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt("terminated (SIGTERM)")


def pytest_unconfigure(config: pytest.Config) -> None:
    if SIGTERM in config.stash:
        signal.signal(signal.SIGTERM, config.stash[SIGTERM])


def _output(config: pytest.Config, seed: int) -> Path:
    """The session's own directory (made by the first run): time, seed and process keep neighbours apart."""
    base = config.rootpath / _option(config, "output")
    return base / f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}-{os.getpid()}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    session = node.config.stash[SESSION]
    node.workerinput["nemesis"] = {"seed": session.seed, "output": str(session.output)}


def _runtime(config: pytest.Config) -> tuple[str, str]:
    """(runtime, why) of this session. Raises UsageError where it cannot be had or another is required."""
    from harness.runtime import NoRuntime, choose

    try:
        runtime, why = choose(_option(config, "runtime"))
    except NoRuntime as error:
        raise pytest.UsageError(f"--nemesis-runtime: {error}") from None
    if (required := _option(config, "require")) and runtime != required:
        raise pytest.UsageError(f"--nemesis-require={required}, but the runtime would be {runtime} ({why})")
    return runtime, why


def pytest_report_header(config: pytest.Config) -> str:
    own = config.stash[SESSION]
    return f"nemesis: seed {own.seed} · runtime {own.runtime} ({own.why}) · {_short(config, own.output)}"


# ------------------------------------------------------------------------------------------------ plans


def _load_plans(config: pytest.Config) -> tuple[str, ...]:
    """Register every file of `nemesis_faults` as a plugin; the names of its fixtures that return a Plan."""
    if not (folder := str(config.getini("nemesis_faults"))):
        return ()
    path = config.rootpath / folder
    files = sorted(p for p in path.glob("*.py") if not p.name.startswith("_"))
    if not files:
        raise pytest.UsageError(f"nemesis_faults = {folder}: no Python file in {path}")
    names: list[str] = []
    for file in files:
        module = _import(file)
        config.pluginmanager.register(module, f"nemesis-faults-{file.stem}")
        names += [name for name, value in vars(module).items() if _is_plan_fixture(value)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise pytest.UsageError(f"nemesis_faults = {folder}: plans defined twice: {', '.join(sorted(twice))}")
    return tuple(names)


def _import(file: Path) -> ModuleType:
    name = f"nemesis_faults_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise pytest.UsageError(f"{file}: {type(error).__name__}: {error}") from error
    return module


def _is_plan_fixture(value: Any) -> bool:
    """A fixture whose return annotation is Plan; anything else in the file is its own helper."""
    function = getattr(value, "__wrapped__", None)
    if function is None or type(value).__name__ != "FixtureFunctionDefinition":
        return False
    annotation = inspect.signature(function).return_annotation
    return getattr(annotation, "__name__", annotation) in ("Plan", "plan.Plan", "harness.Plan")


def _standard() -> dict[str, Any]:
    from harness import plans

    return {name: getattr(plans, name) for name in plans.STANDARD}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "plan" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("chaos") is None:
        return
    found = metafunc._arg2fixturedefs.get("plan", ())
    if found and found[-1].func.__module__ != __name__:
        return  # the test's own fixture named plan
    names = metafunc.config.stash[SESSION].plans or tuple(_standard())
    metafunc.parametrize("plan", names, indirect=True)


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("chaos")]
    for item in marked:
        _marker(item)
    if not marked:
        return
    if (config.getoption("reruns", None) or 0) > 0 or config.getoption("force_flaky", False):
        raise pytest.UsageError(
            "chaos tests cannot be rerun until they pass: a violation seen once is a violation. "
            "Leave out --reruns / --force-flaky, or deselect them with -m 'not chaos'"
        )
    for item in marked:
        if item.get_closest_marker("flaky"):
            raise pytest.UsageError(
                f"{item.nodeid} is marked both chaos and flaky: rerunning would turn a violation green"
            )


def _marker(item: pytest.Item) -> dict[str, Any]:
    """The marker's arguments, the closest one first. Raises UsageError that names the valid ones."""
    from harness.target import Target, TargetError

    arguments: dict[str, Any] = {}
    for mark in item.iter_markers("chaos"):
        if mark.args:
            raise pytest.UsageError(f"{item.nodeid}: chaos takes keywords only: {', '.join(MARKER)}")
        if unknown := set(mark.kwargs) - set(MARKER):
            raise pytest.UsageError(
                f"{item.nodeid}: chaos has no {', '.join(sorted(unknown))}; it takes {', '.join(MARKER)}"
            )
        arguments = {**mark.kwargs, **arguments}
    target = arguments.get("target")
    if not isinstance(target, Target):
        what = "no target" if target is None else f"target={target!r}"
        raise pytest.UsageError(
            f"{item.nodeid}: chaos has {what}; it needs an instance of a harness.Target, "
            "such as @pytest.mark.chaos(target=RaftKV(nodes=5))"
        )
    try:
        target.check()
    except TargetError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from None
    arguments["duration"] = seconds(arguments.get("duration"), f"{item.nodeid}: chaos(duration)")
    if not isinstance(arguments.get("seed", 0), int):
        raise pytest.UsageError(f"{item.nodeid}: chaos(seed={arguments['seed']!r}) must be an integer")
    return arguments


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
    session, arguments = config.stash[SESSION], _marker(item)
    replay = load(_option(config, "replay")) if _option(config, "replay") else None
    output = session.output / slug(item.nodeid)
    seed = arguments.get("seed", session.seed)
    handle = Chaos(
        target=arguments["target"],
        settings=Settings(
            seed=int(replay.header.get("seed", seed)) if replay else seed,
            test=item.nodeid,
            output=output,
            runtime=arguments.get("runtime") or _option(config, "runtime"),
            duration=arguments["duration"] or seconds(_option(config, "duration"), "--nemesis-duration"),
            keep=bool(_option(config, "keep")),
        ),
        output=output,
        progress=_progress(config),
        replay_from=replay,
    )
    item.stash[CHAOS] = handle
    yield handle
    failed = bool(handle.error or handle.findings or (handle.verdict and not handle.verdict.valid))
    if text := handle.close(keep=failed and handle.settings.keep):
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        (reporter.write_line if reporter else print)(f"\n{text}")


def slug(nodeid: str) -> str:
    """A test's id as a directory name: readable, and different for different ids."""
    text = re.sub(r"[^A-Za-z0-9_.\[\]-]+", "-", nodeid.rpartition("/")[2].replace("::", "."))
    text = text.replace("[", "-").replace("]", "").strip("-.")
    if len(text) > 100 or text != nodeid:
        import zlib

        text = f"{text[:100]}-{zlib.crc32(nodeid.encode()):08x}"
    return text


def _progress(config: pytest.Config) -> Any:
    """Writes over one line of an interactive terminal; nothing elsewhere."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or not reporter.isatty:
        return None
    writer = reporter._tw

    def show(text: str) -> None:
        writer._file.write(f"\x1b7\x1b[2K\r  {text[: writer.fullwidth - 4]}\x1b8")
        writer._file.flush()

    return show


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After a chaos test passed: findings and judging nothing still fail it."""
    try:
        result = yield
    except BaseException as error:
        if (chaos := item.stash.get(CHAOS, None)) is not None:
            from harness.verdict import Undecided, Violation

            if not isinstance(error, (Violation, Undecided)):
                chaos.error = f"{type(error).__name__}: {error}"
        raise
    if (chaos := item.stash.get(CHAOS, None)) is not None:
        if chaos.findings:
            lines = "\n".join(f"  {line}" for line in chaos.findings)
            pytest.fail(f"FINDINGS: not what the plan did, so the run fails\n{lines}", pytrace=False)
        if why := chaos.unjudged():
            chaos.error = why
            pytest.fail(why, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    chaos = item.stash.get(CHAOS, None)
    if call.when == "call" and chaos is not None and not report.skipped:
        from harness import session

        when = _option(item.config, "report")
        done = session.conclude(
            chaos,
            item.nodeid,
            failed=report.failed,
            page=when == "always" or (when == "on-failure" and report.failed),
            command=session.replay_command(item.config, item.nodeid, chaos),
        )
        report.user_properties += done.properties
        item.user_properties += done.properties
        if report.failed:
            report.sections.append(("nemesis", done.text))
    return report


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
    if report.when != "call" or not word or report.skipped:
        return None
    if report.passed:
        return "passed", ".", "VALID" if word == "valid" else f"{word.upper()}, as the test expects"
    return "failed", word[0].upper(), word.upper()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    from harness import session

    done = [
        (report, properties)
        for status in ("passed", "failed")
        for report in terminalreporter.stats.get(status, ())
        if (properties := _properties(report)) and report.when == "call"
    ]
    if not done:
        return
    own = config.stash[SESSION]
    index = session.write_index(own.output, own.seed) if _option(config, "report") != "never" else None
    session.github_summary([(report.nodeid, properties) for report, properties in done])
    terminalreporter.section("nemesis")
    for report, properties in done:
        if report.failed:
            terminalreporter.write_line(properties.get("nemesis.text", report.nodeid))
            terminalreporter.write_line("")
    words = [
        properties["nemesis.verdict"]
        + (" as expected" if report.passed and properties["nemesis.verdict"] != "valid" else "")
        for report, properties in done
    ]
    counts = ", ".join(f"{words.count(w)} {w}" for w in dict.fromkeys(sorted(words, reverse=True)))
    where = f" · report: {_short(config, index)}" if index else ""
    terminalreporter.write_line(f"{counts} · seed {own.seed}{where}")


def _short(config: pytest.Config, path: Path) -> str:
    """A path as seen from where pytest was started, if that is shorter."""
    try:
        return str(path.relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)

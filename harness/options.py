"""The options ``--nemesis-*``, their ini twins and the marker ``chaos``: what each may be, and what it is."""

from __future__ import annotations

import os
import random
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.target import Target

MARKER = ("target", "duration", "seed", "runtime")
MARKER_TEXT = (
    "chaos(target, duration=None, seed=None, runtime=None): a chaos test; `target` is what is tested "
    "(a harness.Target), `duration` the seconds of each run, `seed` that of its random choices, "
    "`runtime` where its nodes run."
)
REPORT = ("always", "on-failure", "never")
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


def add(parser: pytest.Parser) -> None:
    """Declare them all."""
    group = parser.getgroup("nemesis", "chaos tests (pytest-nemesis)")

    def declare(name: str, help: str, default: str = "", **more: Any) -> None:
        group.addoption(f"--nemesis-{name}", dest=f"nemesis_{name}", default=None, help=help, **more)
        parser.addini(f"nemesis_{name}", f"{help} (option --nemesis-{name})", default=default)

    declare("seed", "seed of all random choices; drawn and printed when not given", metavar="N")
    declare(
        "duration", "length of each run: seconds, or 30s, 2m, 1h; a longer one repeats the plan", metavar="T"
    )
    declare("runtime", "where nodes run: auto, docker, netns, local", default="auto", metavar="NAME")
    declare("slots", "how many clusters run at once on this machine; one per processor", metavar="N")
    declare("report", "HTML report: always, on-failure or never", default="always", metavar="WHEN")
    declare("output", "directory for histories, logs and reports", default="reports", metavar="DIR")
    declare("keep", "leave the cluster of a failed test running", default="", action="store_true")
    declare(
        "require", "fail unless this runtime is used, instead of taking another (for CI)", metavar="RUNTIME"
    )
    declare("replay", "carry out the recorded schedule of this history", metavar="HISTORY")
    parser.addini("nemesis_faults", "folder whose fixtures that return a Plan are the plans", default="")


def option(config: pytest.Config, name: str) -> str:
    """The option as text, else its ini twin, else its default."""
    given = config.getoption(f"nemesis_{name}")
    return str(config.getini(f"nemesis_{name}") if given is None else given)


def keep(config: pytest.Config) -> bool:
    """Whether the cluster of a failed test goes on. Raises UsageError."""
    text = option(config, "keep").lower()
    if text not in (*_YES, *_NO):
        raise pytest.UsageError(f"nemesis_keep = {text} must be true or false")
    return text in _YES


def slots(config: pytest.Config) -> int:
    """How many clusters may run at once: one per processor, for nodes that wait for one tell nothing of the
    target. Raises UsageError."""
    if not (text := option(config, "slots")):
        return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    if not text.isdecimal() or int(text) < 1:
        raise pytest.UsageError(f"--nemesis-slots={text!r} must be a number of 1 or more")
    return int(text)


def recorded(config: pytest.Config) -> dict[str, Any]:
    """The header of the history to be replayed, without reading the rest of it; {} where there is none.

    {} for a file that is not one, too: the test that reads all of it says what is wrong.
    """
    if not (path := option(config, "replay")):
        return {}
    from harness.history import HistoryError
    from harness.journal import load_header

    try:
        return load_header(path)
    except HistoryError:
        return {}


def seed(config: pytest.Config, replayed: Any = None) -> int:
    """The seed of the history that is replayed, else the one asked for, else one drawn. Raises UsageError."""
    if replayed is not None:
        if (given := config.getoption("nemesis_seed")) is not None:
            raise pytest.UsageError(
                f"--nemesis-seed={given}: a replay uses the recorded seed, {replayed}; "
                "leave out --nemesis-seed or --nemesis-replay"
            )
        if not isinstance(replayed, int):
            raise pytest.UsageError(
                f"--nemesis-replay={option(config, 'replay')}: its seed {replayed!r} must be an integer"
            )
        return replayed
    text = option(config, "seed")
    if not text:
        return random.SystemRandom().randrange(1, 10**6)
    try:
        return int(text)
    except ValueError:
        raise pytest.UsageError(f"--nemesis-seed={text!r} must be an integer") from None


def output(config: pytest.Config) -> Path:
    """Where sessions leave their directories. Raises UsageError where a file is in the way."""
    text = option(config, "output")
    base = config.rootpath / text
    for path in (base, *base.parents):
        if os.path.exists(path) and not os.path.isdir(path):
            raise pytest.UsageError(f"--nemesis-output={text}: {path} is no directory")
    return base


def seconds(text: Any, where: str) -> float | None:
    """A duration as seconds: a number, or 30s, 2m, 1h; None for nothing. Raises UsageError otherwise."""
    if text is None or text == "":
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", str(text))
    value = float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]] if match else 0.0
    if value <= 0:
        raise pytest.UsageError(f"{where}={text!r} must be a time above 0: seconds, or 30s, 2m, 1h")
    return value


def runtime(config: pytest.Config) -> tuple[str, str]:
    """(runtime, why) of this session. Raises UsageError where it cannot be had or another is required."""
    name, why = chosen(asked(config), "--nemesis-runtime")
    if (required := option(config, "require")) and name != required:
        raise pytest.UsageError(f"--nemesis-require={required}, but the runtime would be {name} ({why})")
    return name, why


def asked(config: pytest.Config) -> str:
    """The runtime by option; what is required where that leaves it open."""
    name = option(config, "runtime")
    return option(config, "require") or name if name == "auto" else name


def chosen(name: str, where: str, target: Target | None = None) -> tuple[str, str]:
    """`harness.runtime.choose`, raising UsageError that says where the name was given."""
    from harness.runtime import NoRuntime, choose

    try:
        return choose(name, target)
    except NoRuntime as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def report(config: pytest.Config) -> str:
    """When pages are written, one of `REPORT`. Raises UsageError."""
    if (when := option(config, "report")) not in REPORT:
        raise pytest.UsageError(f"--nemesis-report={when!r} is none of {', '.join(REPORT)}")
    return when


# ------------------------------------------------------------------------------------------- the marker


def marker(item: pytest.Item) -> dict[str, Any]:
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
    if (where := arguments.get("runtime")) is not None:
        chosen(where, f"{item.nodeid}: chaos(runtime)", target)
    return arguments


def check(item: pytest.Item) -> None:
    """Raise UsageError where a chaos test cannot be run as it is marked, or would be rerun until green."""
    where, required = marker(item).get("runtime"), option(item.config, "require")
    if where and required and where != required:
        raise pytest.UsageError(f"{item.nodeid}: chaos(runtime={where!r}), but {required} is required")
    if by := _reruns(item.config):
        raise pytest.UsageError(
            "chaos tests cannot be rerun until they pass: a violation seen once is a violation. "
            f"Leave out {by}, or deselect them with -m 'not chaos'"
        )
    # what the decorator of the package flaky leaves on functions and classes
    decorated = (getattr(getattr(item, name, None), "_flaky_max_runs", None) for name in ("obj", "cls"))
    if item.get_closest_marker("flaky") or any(runs is not None for runs in decorated):
        raise pytest.UsageError(
            f"{item.nodeid} is marked both chaos and flaky: rerunning would turn a violation green"
        )


def not_recorded(item: pytest.Item, recorded: str) -> str:
    """Why `item` is not run in a replay of the test `recorded`: it is another one; else ""."""
    one, other = local(recorded), local(item.nodeid)
    # xdist adds @group
    if one == other or one.startswith(f"{other}@") or other.startswith(f"{one}@"):
        return ""
    given = f"--nemesis-replay={option(item.config, 'replay')}"
    return (
        f"{given}: the history records {recorded}, but this test is {item.nodeid}; "
        f"select the recorded one: {shlex.join(['pytest', recorded, given])}"
    )


def local(nodeid: str) -> str:
    """``file::function[parameter]``: the same wherever pytest was started."""
    path, colons, name = nodeid.partition("::")
    return path.rpartition("/")[2] + colons + name


def _reruns(config: pytest.Config) -> str:
    """What makes pytest-rerunfailures, pytest-retry or flaky rerun every failed test, or ""."""
    for name in ("reruns", "force_reruns", "retries", "force_flaky"):
        if _number(config.getoption(name, None)) > 0:
            return f"--{name.replace('_', '-')}"
    for name in ("reruns", "retries"):
        try:
            count = _number(config.getini(name))
        except (ValueError, KeyError):  # there is no such plugin
            continue
        # --reruns=0 has the last word, --retries=0 has not
        if count > 0 and (name == "retries" or config.getoption(name, None) is None):
            return f"{name} = {count} in the ini file"
    return ""


def _number(value: Any) -> int:
    try:
        return int(value)
    except (ValueError, TypeError):
        return 0


__all__ = [
    "MARKER_TEXT",
    "REPORT",
    "add",
    "asked",
    "check",
    "chosen",
    "keep",
    "local",
    "marker",
    "not_recorded",
    "option",
    "output",
    "recorded",
    "report",
    "runtime",
    "seconds",
    "seed",
    "slots",
]

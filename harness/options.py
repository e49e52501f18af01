"""The options ``--nemesis-*`` and their ini twins: what each may be, and what it is."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

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
    declare("runtime", "where nodes run: auto, local", default="auto", metavar="NAME")
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


def seed(config: pytest.Config) -> int:
    """The seed asked for, else one drawn. Raises UsageError."""
    text = option(config, "seed")
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


def runtime(config: pytest.Config) -> tuple[str, str]:
    """(runtime, why) of this session. Raises UsageError where it cannot be had or another is required."""
    name, why = chosen(option(config, "runtime"), "--nemesis-runtime")
    if (required := option(config, "require")) and name != required:
        raise pytest.UsageError(f"--nemesis-require={required}, but the runtime would be {name} ({why})")
    return name, why


def chosen(name: str, where: str) -> tuple[str, str]:
    """`harness.runtime.choose`, raising UsageError that says where the name was given."""
    from harness.runtime import NoRuntime, choose

    try:
        return choose(name)
    except NoRuntime as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def report(config: pytest.Config) -> str:
    """When pages are written, one of `REPORT`. Raises UsageError."""
    if (when := option(config, "report")) not in REPORT:
        raise pytest.UsageError(f"--nemesis-report={when!r} is none of {', '.join(REPORT)}")
    return when


__all__ = ["REPORT", "add", "chosen", "keep", "option", "report", "runtime", "seconds", "seed"]

"""Which runtime a run has, and why: what is missing for a better one is said, never passed over."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache

from harness import kernel
from harness.target import Target

RUNTIMES = ("auto", "docker", "netns", "local")
BEST = "each target gets the first that can be had here: docker (if it has an image), netns, local"


class NoRuntime(ValueError):
    """A runtime is none, or is not to be had here; the text lists the valid ones or says what is missing."""


def choose(
    name: str, target: Target | None = None, *, without: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """(runtime, why) for what was asked; ``auto`` takes the best one there is for `target`.

    Without a target ``auto`` stays open. `without` are runtimes that have been tried in vain, and why. A
    target that is only an image never falls back. Raises NoRuntime.

    >>> choose("local")
    ('local', 'asked for')
    """
    if name not in RUNTIMES:
        raise NoRuntime(f"runtime {name!r} is none of {', '.join(RUNTIMES)}")
    if sys.platform != "linux":
        raise NoRuntime(f"runtime {name!r} proves its faults by Linux's /proc, and this is {sys.platform}")
    if name != "auto":
        if trouble := _trouble(name, target):
            raise NoRuntime(f"runtime {name!r} cannot be had here: {trouble}")
        return name, "asked for"
    if target is None:
        return "auto", BEST
    reasons: list[str] = []
    for runtime in RUNTIMES[1:]:
        trouble = (without or {}).get(runtime) or _trouble(runtime, target)
        if not trouble:
            return runtime, "; ".join(reasons) or "the best there is"
        reasons.append(f"no {runtime}: {trouble}")
        if target.runs_image:
            raise NoRuntime(f"{target.name} is an image without a command of its own: {trouble}")
    raise NoRuntime("; ".join(reasons))


def _trouble(runtime: str, target: Target | None) -> str:
    """Why `runtime` cannot carry `target`, or ''."""
    if runtime == "docker":
        if target is not None and not all(target.image_of(role) for _, role in target.members()):
            return f"{target.name} names no image (`image`, and `context` where it is to be built)"
        return _no_engine()
    if target is not None and target.runs_image:
        return f"{target.name} is an image without a command of its own, which only runtime docker starts"
    return _no_routing() if runtime == "netns" else ""


@cache  # neither comes or goes while a session runs
def _no_engine() -> str:
    from harness.engine import NoEngine, engine

    try:
        with engine():
            return ""
    except NoEngine as error:
        return str(error)


@cache
def _no_routing() -> str:
    trial = kernel.routing()
    return f"{trial.trouble} ({trial.mend})" if trial.trouble else ""


__all__ = ["BEST", "RUNTIMES", "NoRuntime", "choose"]

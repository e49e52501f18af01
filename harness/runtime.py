"""Which runtime a run gets, and why: cheap to ask, nothing is started or imported."""

from __future__ import annotations

import sys

RUNTIMES = ("auto", "docker", "netns", "local")


class NoRuntime(ValueError):
    """A runtime is none, or is not to be had here; the text lists the valid ones or says what is missing."""


def choose(name: str) -> tuple[str, str]:
    """(runtime, why) for what was asked; ``auto`` takes the best one there is.

    >>> choose("local")
    ('local', 'asked for')
    """
    if name not in RUNTIMES:
        raise NoRuntime(f"runtime {name!r} is none of {', '.join(RUNTIMES)}")
    if name == "docker":
        raise NoRuntime(f"runtime {name!r} is not in this version yet: use 'netns', 'local' or 'auto'")
    if sys.platform != "linux":
        raise NoRuntime(f"runtime {name!r} proves its faults by Linux's /proc, and this is {sys.platform}")
    return (name, "asked for") if name != "auto" else ("local", "runs everywhere")


__all__ = ["RUNTIMES", "NoRuntime", "choose"]

"""The first line of a history: what was run, on what, by which versions."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from typing import Any

from harness.plan import Plan
from harness.target import Target
from harness.workload import Workload


def header(target: Target, plan: Plan, workload: Workload, **run: Any) -> dict[str, Any]:
    """What a history says of itself; `run` is what the run adds: seed, test, duration, runtime."""
    return {
        **run,
        "plan": {"repr": repr(plan), **plan.to_json()},
        "target": repr(target),
        "nodes": [name for name, _ in target.members()],
        "roles": dict(target.members()),
        "workload": workload.name,
        "model": workload.model,
        "checks": list(workload.checks),
        "keyed": workload.keyed,
        "final_reads": workload.final is not None,
        "time_limit": workload.time_limit,
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "pytest-nemesis": _version("pytest-nemesis"),
            "pytest": _version("pytest"),
            "python": platform.python_version(),
            "kernel": platform.release(),
        },
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


__all__ = ["header"]

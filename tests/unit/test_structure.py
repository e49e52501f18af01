"""What the code says of itself holds: examples run, imports point one way, names are unique."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages([str(ROOT)], "harness.")
    if not name.startswith("harness.starter") and name != "harness.__main__"
)

# A module may import those further down; the values at the bottom know nobody.
ORDER = (
    (
        "plugin",
        "catalogue",
        "options",
        "cli",
        "check_command",
        "__main__",
        "session",
        "chaos",
        "orphan",
        "doctor",
    ),
    ("run", "header", "testing", "online"),
    ("nemesis",),
    ("workload",),
    ("cluster",),
    ("images",),
    ("skew",),
    ("fabric",),
    ("proxy",),
    ("interchange",),
    ("journal", "report", "checkers"),
    ("plans",),
    ("plan", "schedule", "condition", "clock", "faults"),
    ("clock_faults",),
    ("link_faults", "packet_faults", "message_faults", "node_faults", "own_fault"),
    ("fault_base",),
    ("resolved", "topology", "selector", "value", "seed"),
    ("runtime",),
    (
        "history",
        "pairing",
        "target",
        "framing",
        "verdict",
        "engine",
        "kernel",
        "compose",
        "compose_target",
        "lock",
        "exit_code",
    ),
)
LAYER = {name: layer for layer, names in enumerate(ORDER) for name in names}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0


FIRST = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.partition(".")[0] == "harness"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


def test_any_module_can_be_imported_first() -> None:
    """No circle of imports that only a certain order survives."""
    command = [sys.executable, "-c", FIRST, *MODULES]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done


def imported(path: Path) -> set[str]:
    """Parts of harness that a file imports, in functions too, but not only for types."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "harness":
            rest = (node.module or "").split(".")[1:]
            found |= {rest[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("harness.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own in ("__init__", "starter"):
        return
    assert own in LAYER, f"say in ORDER where {own} stands"
    for other in imported(path) & set(LAYER):
        assert LAYER[own] <= LAYER[other], f"{own} must not import {other}"


def test_the_engine_knows_no_target() -> None:
    for path in ROOT.rglob("*.py"):
        if "starter" not in path.parts:
            text = path.read_text()
            assert not any(
                f"{verb} {team}" in text for verb in ("import", "from") for team in ("targets", "faults.")
            )

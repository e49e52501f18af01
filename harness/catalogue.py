"""The folder of fault plans: each file's fixtures that return a `Plan` are plans, by the fixture's name."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from _pytest.fixtures import FixtureFunctionDefinition


class CatalogueError(ValueError):
    """The folder cannot be used; the text names the file or the fixture, and what it should be."""


def load(folder: Path) -> tuple[list[ModuleType], tuple[str, ...]]:
    """The modules of `folder` and the names of their plans; files that begin with ``_`` are left out.

    Raises CatalogueError where there are none, a file cannot be imported, two plans have one name, or a
    fixture does not say what it returns.
    """
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    if not files:
        raise CatalogueError(f"no Python file in {folder}")
    modules = [_import(file) for file in files]
    where: dict[str, str] = {}
    for module, file in zip(modules, files, strict=True):
        for attribute, value in vars(module).items():
            if not isinstance(value, FixtureFunctionDefinition):
                continue
            name = value.name or attribute
            if not _returns_plan(file, name, value):
                continue
            if name in where:
                raise CatalogueError(f"the plan {name!r} is defined twice, in {where[name]} and {file.name}")
            where[name] = file.name
    if not where:
        listed = ", ".join(file.name for file in files)
        raise CatalogueError(f"no plan in {listed}: a plan is a fixture such as `def cut() -> Plan:`")
    return modules, tuple(where)


def _import(file: Path) -> ModuleType:
    name = f"nemesis_faults_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CatalogueError(f"{file}: {type(error).__name__}: {error}") from error
    return module


def _returns_plan(file: Path, name: str, fixture: Any) -> bool:
    """Whether its return annotation is Plan; any other makes it the file's own helper."""
    annotation = inspect.signature(fixture.__wrapped__).return_annotation
    if annotation is inspect.Signature.empty:
        raise CatalogueError(
            f"{file}: the fixture {name!r} does not say what it returns; write `-> Plan` where it is a plan, "
            "or what it is, where it is a helper"
        )
    return str(getattr(annotation, "__name__", annotation)).rpartition(".")[2] == "Plan"


__all__ = ["CatalogueError", "load"]

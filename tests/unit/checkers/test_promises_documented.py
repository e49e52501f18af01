"""docs/promises.md has every checker of stores under its names, each with its anomalies and its assert."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import harness
from harness.checkers import checkers

DOCUMENT = Path(__file__).parents[3] / "docs" / "promises.md"
MODULES = (
    "set_full", "total_queue", "unique_ids", "counter_sum", "bank", "write_skew", "long_fork", "monotonic",
    "causal", "causal_reverse", "kafka",
)  # fmt: skip
ROWS = [line.split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]


def test_a_row_for_each() -> None:
    assert len(ROWS) == len(MODULES)


@pytest.mark.parametrize("module, row", list(zip(MODULES, ROWS, strict=False)))
def test_the_row_says_what_there_is(module: str, row: list[str]) -> None:
    names = re.findall(r"`([^`]+)`", row[0])
    assert set(names) <= set(checkers())
    assert re.findall(r"`(\w+)\(", row[1])[0] in harness.__all__
    named = set(re.findall(r"`([^`]+)`", row[3]))
    anomalies = set(import_module(f"harness.checkers.{module}").NOUNS)
    if "int-" in named:
        named = named - {"int-"} | {
            f"int-{name}" for name in named if name.split("-")[-1] in ("skip", "poll", "send")
        }
    assert anomalies - {"int-send-skip"} <= named, anomalies - named

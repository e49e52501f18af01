"""Compose files written for one test, and property tests that a busy machine does not fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from harness.compose import Compose, ComposeError, read

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

Reader = Callable[..., Compose]


@pytest.fixture
def compose(tmp_path: Path) -> Reader:
    """Reads a text as compose.yml, with `files` beside it; the environment is empty unless given."""

    def reader(text: str, files: dict[str, str] | None = None, **options: Any) -> Compose:
        for name, content in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(content))
        (tmp_path / "compose.yml").write_text(dedent(text))
        return read(tmp_path / "compose.yml", **{"environment": {}, **options})

    return reader


@pytest.fixture
def refusal(compose: Reader) -> Callable[..., str]:
    """The text of the error that reading a text raises."""

    def refused(text: str, files: dict[str, str] | None = None, **options: Any) -> str:
        with pytest.raises(ComposeError) as caught:
            compose(text, files, **options)
        return str(caught.value)

    return refused

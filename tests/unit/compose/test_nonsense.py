"""Whatever a file holds, it is read or refused in words: never an error of ours."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from harness.compose import Compose, ComposeError, order, read
from harness.compose.refusal import KNOWN

SECTIONS = ("networks", "volumes", "configs", "secrets", "name", "include", "version", "x-own")
WORDS = (
    "", "a", "b", "n", "v", "/x", "./x", ".", "a:b", "a:/b:ro", "80", "1-2", "1m", "64m", "${A}", "${",
    "true",
    "service_healthy", "A=1", "=", "bind", "tmpfs", "no", "'", "*", "x:y:z:q", "[::1]:1:1", "host",
)  # fmt: skip
PARTS = (
    "type", "source", "target", "read_only", "bind", "volume", "tmpfs", "test", "interval", "disable",
    "retries",
    "condition", "required", "path", "format", "context", "args", "dockerfile_inline", "additional_contexts",
    "extra_hosts", "aliases", "ipv4_address", "soft", "hard", "replicas", "resources", "limits",
    "reservations", "cpus", "memory", "restart_policy", "placement", "service", "file", "content",
    "environment", "external", "driver", "driver_opts", "ipam", "config", "published", "protocol", "host_ip",
    "mode", "uid", "a", "b", "n", "v",
)  # fmt: skip

scalars = (
    st.none() | st.booleans() | st.integers(-2, 70000) | st.floats(allow_nan=False) | st.sampled_from(WORDS)
)
anything: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(sorted(KNOWN))
# few keys at once: each refusal hides those behind it
services = st.dictionaries(keys, anything, max_size=3).map(lambda given: {"image": "i", **given})
sections = st.sampled_from(SECTIONS)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def read_or_refused(directory: Path, document: Any) -> Compose | None:
    file = directory / "compose.yml"
    file.write_text(json.dumps(document))
    try:
        return read(file, environment={"A": "1"})
    except ComposeError as error:
        assert str(error).startswith(("compose.yml, line 1", "COMPOSE", str(directory))), error
        return None


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from("ab"), services | anything, min_size=1))
def test_services_of_anything(directory: Path, made_of: dict[str, Any]) -> None:
    made = read_or_refused(
        directory,
        {"services": made_of, "volumes": {"v": None}, "networks": {"n": None}, "configs": {"a": {}}},
    )
    if made is not None:
        json.dumps(made.to_json())
        assert sorted(name for wave in order(made) for name in wave) == sorted(s.name for s in made.services)


@settings(max_examples=200)
@given(sections, anything)
def test_sections_of_anything(directory: Path, section: str, value: Any) -> None:
    uses = {"networks": ["n"], "volumes": ["v:/v"], "configs": ["a"], "secrets": ["b"]}
    used = {"a": {"image": "i", **{key: use for key, use in uses.items() if key == section}}}
    read_or_refused(directory, {"services": used, section: value})
    read_or_refused(directory, {"services": used, section: dict.fromkeys("abnv", value)})

"""The order of the files: those that last longest begin first, so that no worker is left alone with one."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
LONGEST = [
    HERE / "integration" / path
    for path in (
        "test_killed.py",
        "test_docs.py",
        "cluster/test_cluster_docker_owner.py",
        "images/test_images_command.py",
        "test_init.py",
        "fabric/test_fabric_selftest.py",
        "skew/test_skew_stops.py",
        "compose_target/test_services.py",
        "cluster/test_cluster_owner.py",
    )
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {path: place for place, path in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))

"""The command ``nemesis images``: what is needed and there, and what can be made without a registry."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.engine import NoEngine, engine
from harness.images.bootstrap import bootstrap
from harness.images.context import reference
from harness.images.image import BASE, TOXIPROXY, Image, ImageError, needed
from harness.images.progress import megabytes
from harness.images.store import LABEL, find

if TYPE_CHECKING:
    from docker import DockerClient

FAILED = 254  # as `harness.cli.BAD`: nothing was judged


def images(given: argparse.Namespace) -> int:
    """Carry out the command that `harness.cli` parsed; its exit code."""
    import docker.errors

    try:
        with engine() as client:
            return _list(client) if given.action == "list" else _bootstrap(client, given)
    except (NoEngine, ImageError, docker.errors.DockerException) as error:
        print(f"nemesis images {given.action}: {error}", file=sys.stderr)
        return FAILED


def state(client: DockerClient, image: Image) -> tuple[str, str]:
    """The reference under which `image` is looked for, and its size, or "" where the engine has it not."""
    name = image.published or reference(image)
    id = find(client, name)
    return name, megabytes(int(client.api.inspect_image(id)["Size"])) if id else ""


def way(image: Image) -> str:
    """How a missing image is got."""
    if image.context is not None:
        return "built on first use"
    option = {BASE: "--base", TOXIPROXY: "--toxiproxy"}.get(image)
    without = f"; without a registry: nemesis images bootstrap {option}" if option else ""
    return f"pulled on first use{without}"


def _list(client: DockerClient) -> int:
    rows, listed = [], set()
    for purpose, image in needed().items():
        name, size = state(client, image)
        rows.append((name, size or "missing", purpose if size else f"{purpose}; {way(image)}"))
        listed.add(name)
    for image in client.images.list(filters={"label": LABEL}):
        size = megabytes(int(image.attrs["Size"]))
        rows += [(tag, size, "built here") for tag in sorted(image.tags) if tag not in listed]
    for line in _table(rows):
        print(line)
    return 0


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (zip(row, widths, strict=True) for row in rows)
    return ["  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines]


def _bootstrap(client: DockerClient, given: argparse.Namespace) -> int:
    wanted = [image for image, asked in ((BASE, given.base), (TOXIPROXY, given.toxiproxy)) if asked]
    bootstrap(client, wanted or [BASE, TOXIPROXY], mirror=given.mirror, progress=_say)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


__all__ = ["images", "state", "way"]

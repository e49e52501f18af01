"""The directory that an image is built from, packed once: what is hashed is what is built."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.images.image import Image

DIGITS = 12  # of the hash, in hexadecimal: enough for the builds of one name
OUTSIDE = ".nemesis.dockerfile"  # in the archive: a Dockerfile from outside the directory


@dataclass(frozen=True, slots=True)
class Context:
    """An archive for the engine to build from, `dockerfile` its path in it, `reference` the tag to be."""

    archive: IO[bytes]
    dockerfile: str
    reference: str
    bases: tuple[str, ...]


@contextlib.contextmanager
def packed(image: Image) -> Iterator[Context]:
    """Pack the context of `image`, without what its ``.dockerignore`` leaves out.

    The reference is made from names, modes and contents of the files, the Dockerfile and the arguments; not
    from owners and times, which a fresh clone has others of. Raises OSError for what cannot be read.
    """
    from docker.utils.build import tar

    assert image.context is not None
    root = image.context.resolve()
    outside = root / image.dockerfile  # an absolute path stays as it is
    text = outside.read_text()
    inside = Path(os.path.normpath(outside)).is_relative_to(root)
    name = os.path.relpath(outside, root) if inside else OUTSIDE
    with tar(str(root), _ignored(root), (name, None if inside else text)) as archive:
        digest = _digest(archive, name, image)
        archive.seek(0)
        yield Context(archive, name, image.built(digest), _bases(text))


def reference(image: Image) -> str:
    """The reference that a build of `image` has. OSError for a context that cannot be read."""
    with packed(image) as context:
        return context.reference


def _ignored(root: Path) -> list[str]:
    """The patterns of the ``.dockerignore`` of a directory, as the engine's own client reads them."""
    try:
        lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [line for line in lines if line and not line.startswith("#")]


def _digest(archive: IO[bytes], dockerfile: str, image: Image) -> str:
    whole = hashlib.sha256(json.dumps([dockerfile, sorted(image.arguments.items())]).encode())
    with tarfile.open(fileobj=archive) as members:
        for member in sorted(members, key=lambda member: member.name):
            held = hashlib.sha256()
            if member.isreg():
                content = members.extractfile(member)
                assert content is not None, f"{member.name} is a regular file"
                while part := content.read(1 << 20):
                    held.update(part)
            row = [member.name, member.type.decode(), member.mode & 0o7777, member.linkname, held.hexdigest()]
            whole.update(json.dumps(row).encode())
    return whole.hexdigest()[:DIGITS]


def _bases(dockerfile: str) -> tuple[str, ...]:
    """The images that a Dockerfile builds on, as it names them.

    >>> _bases("FROM --platform=linux/amd64 golang:1.23 AS build\\nfrom debian:bookworm-slim\\nRUN true")
    ('golang:1.23', 'debian:bookworm-slim')
    """
    return tuple(re.findall(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", dockerfile, re.M | re.I))


__all__ = ["Context", "packed", "reference"]

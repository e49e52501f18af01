"""An image by name: published, or built from a directory; and those that the harness itself needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.lock import ClusterError
from harness.proxy.real import VERSION

_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?P<repository>(?:[a-z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)


class ImageError(ClusterError):
    """An image could not be had; the text names it, what was tried, and each way to get it."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a container is started from, by name.

    Without a `context` it is published: `name` is what ``docker pull`` takes (``redis:7.2``). With one it
    is built from that directory by its `dockerfile` (a path in the directory, or outside of it) with the
    build's `arguments`, and its tag is made from the content: a changed context is another image. A name
    with a tag *and* a context is the published image, built only where it cannot be pulled.

    ValueError for a name that the engine would not take.

    >>> Image("redis:7.2").published
    'redis:7.2'
    >>> Image("redis").published
    'redis:latest'
    """

    name: str
    context: Path | None = None
    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        found = _NAME.fullmatch(self.name)
        if found is None:
            raise ValueError(
                f"{self.name!r} cannot name an image: expected [HOST[:PORT]/]NAME[:TAG] in lower case, "
                "such as 'redis:7.2' or 'nemesis/raft_kv'"
            )
        if self.context is None and (self.arguments or self.dockerfile != "Dockerfile"):
            raise ValueError(f"image {self.name!r} has arguments of a build, but no context to build from")
        if self.context is not None and found["digest"]:
            raise ValueError(f"image {self.name!r} is named by digest, which a build cannot reach: use a tag")

    @property
    def repository(self) -> str:
        """The name without tag and digest."""
        return self._parts["repository"]

    @property
    def registry(self) -> str:
        """The registry's host that the name begins with, or "" for Docker Hub."""
        host, slash, _ = self.name.partition("/")
        return host if slash and (re.search(r"[.:]", host) or host == "localhost") else ""

    @property
    def published(self) -> str:
        """The reference to pull, or "" for an image that exists only as its context."""
        if self._parts["digest"]:
            return self.name
        if self._parts["tag"] or self.context is None:
            return f"{self.repository}:{self._parts['tag'] or 'latest'}"
        return ""

    def built(self, digest: str) -> str:
        """The reference of the build from a context of this digest.

        >>> Image("nemesis/raft_kv", Path(".")).built("3f2a"), Image("redis:7.2", Path(".")).built("3f2a")
        ('nemesis/raft_kv:3f2a', 'redis:7.2-3f2a')
        """
        tag = self._parts["tag"]
        return f"{self.repository}:{f'{tag}-' if tag else ''}{digest}"

    @property
    def _parts(self) -> re.Match[str]:
        found = _NAME.fullmatch(self.name)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """An image that the engine has: `reference` starts containers, `id` is its content, `how` it was had.

    `took` is the seconds from asking, waiting for another process included.
    """

    reference: str
    id: str
    how: Literal["found", "pulled", "built"]
    took: float


BASE = Image("debian:bookworm-slim")
TOXIPROXY = Image(f"ghcr.io/shopify/toxiproxy:{VERSION}")


def fabric_image() -> Image:
    """The image of router and pods: tools for rules and routes, no server."""
    return Image("nemesis/fabric", Path(__file__).resolve().parents[1] / "fabric" / "image")


def needed() -> Mapping[str, Image]:
    """What the runtime ``docker`` needs, each image under what it is for."""
    return {
        "base of the images built here": BASE,
        "router and pods of the cluster": fabric_image(),
        "proxy on every link": TOXIPROXY,
    }


__all__ = ["BASE", "TOXIPROXY", "Found", "Image", "ImageError", "fabric_image", "needed"]

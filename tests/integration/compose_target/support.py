"""Compose files for tests, and a look into the containers that were made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.cluster import SiteCluster
from harness.cluster.docker import DockerSite
from harness.compose_target import ComposeTarget
from targets.redis import RedisClient

REDIS = Path(__file__).resolve().parents[3] / "targets" / "redis"


class Services(ComposeTarget):
    """Services that are redis, or a shell of the same image."""

    client: ClassVar[type[Any]] = RedisClient
    client_roles: ClassVar[tuple[str, ...]] = ("store",)


def written(directory: Path, text: str) -> Path:
    """A Compose file; ``REDIS`` in it is the directory to build redis from."""
    file = directory / "docker-compose.yml"
    file.write_text("name: nemesis-tests\n" + text.replace("REDIS", str(REDIS)))
    return file


def site_of(cluster: SiteCluster) -> DockerSite:
    site = cluster._site
    assert isinstance(site, DockerSite)
    return site


def said(cluster: SiteCluster, node: str, line: str) -> tuple[int, str]:
    """A line of shell in a node's container: its exit code, and what it printed."""
    done = site_of(cluster)._lives[node].container.exec_run(["sh", "-c", line])
    return done.exit_code, done.output.decode().strip()


def addresses(cluster: SiteCluster) -> Mapping[str, str]:
    """The true address of every node and job."""
    layout = site_of(cluster).layout
    return {name: layout.ip(name) for name in layout.nodes}


def of_run(cluster: SiteCluster, kind: Any) -> list[str]:
    """The names of what the engine has of the cluster's run; `kind` is a collection of its client."""
    assert cluster._run is not None
    how = {"all": True} if kind is site_of(cluster).client.containers else {}
    return [one.name for one in kind.list(filters={"label": f"nemesis.run={cluster._run.label}"}, **how)]

"""The Docker engine as the tests of runtime docker see it, past the harness."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cluster import SiteCluster
from harness.cluster.docker import DockerCluster, DockerSite
from harness.cluster.engine import RUN
from harness.target import Target
from tests.integration.cluster.support import Events, running, until

if TYPE_CHECKING:
    from docker import DockerClient


def there(client: DockerClient, below: Path) -> set[str]:
    """Containers, networks and volumes of the engine, but for those of runs that are not `below`."""
    found = {
        f"container {one.name}": one.labels for one in client.containers.list(all=True, ignore_removed=True)
    }
    found |= {f"network {one.name}": one.attrs.get("Labels") or {} for one in client.networks.list()}
    found |= {f"volume {one.name}": one.attrs.get("Labels") or {} for one in client.volumes.list()}
    return {
        what for what, labels in found.items() if RUN not in labels or Path(labels[RUN]).is_relative_to(below)
    }


def of_run(client: DockerClient, directory: Path, run_id: str = "run") -> set[str]:
    """What the engine has of a run of `boxes` below `directory`, by label."""
    label = f"{RUN}={directory / 'base' / 'runs' / run_id}"
    kinds: dict[str, Any] = {
        "container": client.containers.list(all=True, filters={"label": label}, ignore_removed=True),
        "network": client.networks.list(filters={"label": label}),
        "volume": client.volumes.list(filters={"label": label}),
    }
    return {f"{kind} {one.name}" for kind, some in kinds.items() for one in some}


@contextmanager
def boxes(
    target: Target, tmp_path: Path, run_id: str = "run", events: Events | None = None
) -> Iterator[SiteCluster]:
    """As `running`, on runtime docker."""
    with running(target, tmp_path, run_id, events, DockerCluster) as cluster:
        yield cluster


def site(cluster: SiteCluster) -> DockerSite:
    """What carries a cluster of containers."""
    found = cluster._site
    assert isinstance(found, DockerSite)
    return found


def within(cluster: SiteCluster, node: str, *argv: str) -> str:
    """The output of a command that is run in a node's container, with its own programs."""
    code, out = site(cluster)._lives[node].container.exec_run(list(argv))
    assert code == 0, out
    return str(out.decode())


def gone(client: DockerClient, directory: Path, run_id: str, seconds: float) -> float:
    """Await that the engine has nothing of a run; the seconds it took."""
    return until(lambda: not of_run(client, directory, run_id), seconds, f"the end of all of run {run_id}")


def rules() -> str:
    """The rules of this machine's packet filter; '' where they may not be read."""
    done = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False)
    return done.stdout

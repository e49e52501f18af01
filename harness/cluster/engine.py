"""What a cluster has at the Docker engine: containers, a network, volumes, all found again by their labels.

`remove` takes away everything of one run; `sweep` everything of runs whose owner is gone. As a program
(``python -m harness.cluster.engine remove LABEL``) it is what a supervisor runs when its owner has died.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cluster.lock import ClusterError, try_lock
from harness.engine import NoEngine, connect

if TYPE_CHECKING:
    from docker import DockerClient

RUN, BOOT = "nemesis.run", "nemesis.boot"  # labels: the run's directory, and the boot in which it was made
REMOVED_WITHIN = 10.0  # seconds for the engine to let go of a network or a volume
AT_MOST = 60.0  # seconds of trying to remove what a dead owner has left
SETTLED = 3.0  # seconds after which an engine makes no more of what an owner had asked for when it died


def labels(run: str) -> Mapping[str, str]:
    """What everything of a run carries."""
    return {RUN: run, BOOT: boot_id()}


def boot_id() -> str:
    """Which boot of this machine it is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """ClusterError that says `what` was being done, where the engine refuses or breaks off."""
    import docker.errors

    try:
        yield
    except docker.errors.APIError as error:
        raise ClusterError(f"{what}: the Docker engine says: {error.explanation or error}") from error
    except (docker.errors.DockerException, OSError) as error:
        raise ClusterError(f"{what}: the Docker engine broke off: {error}") from error


def remove(client: DockerClient, run: str) -> list[str]:
    """Remove containers, network and volumes of a run; what there was, as words. Raises ClusterError."""
    chosen = {"label": f"{RUN}={run}"}
    with asking(f"what is left of run {run} cannot be listed"):
        containers = client.containers.list(all=True, filters=chosen, ignore_removed=True)
    with ThreadPoolExecutor(16) as threads:  # pods' nodes with their pods: the engine sorts that out
        list(threads.map(lambda one: _gone(f"container {one.name}", lambda: one.remove(force=True, v=True)),
                         containers))  # fmt: skip
    found = [f"container {one.name}" for one in containers]
    with asking(f"what is left of run {run} cannot be listed"):
        rest = [("network", one) for one in client.networks.list(filters=chosen)]
        rest += [("volume", one) for one in client.volumes.list(filters=chosen)]
    for kind, one in rest:
        _gone(f"{kind} {one.name}", one.remove)
        found.append(f"{kind} {one.name}")
    return found


def _gone(what: str, call: Callable[[], Any]) -> None:
    """Remove one thing, again while the engine still lets go of what used it."""
    import docker.errors

    deadline = time.monotonic() + REMOVED_WITHIN
    while True:
        try:
            call()
            return
        except docker.errors.NotFound:
            return
        except (docker.errors.APIError, OSError) as error:
            passing = any(
                word in str(error) for word in ("active endpoints", "in use", "already in progress")
            )
            if not passing or time.monotonic() > deadline:
                raise ClusterError(f"{what} cannot be removed: {error}") from error
        time.sleep(0.05)


def left(client: DockerClient, run: str) -> list[str]:
    """Names of what the engine still has of a run."""
    chosen = {"label": f"{RUN}={run}"}
    with asking(f"what is left of run {run} cannot be listed"):
        kinds = (
            client.containers.list(all=True, filters=chosen, ignore_removed=True),
            client.networks.list(filters=chosen),
            client.volumes.list(filters=chosen),
        )
    return [one.name for some in kinds for one in some]


def runs(client: DockerClient) -> dict[str, Mapping[str, str]]:
    """The runs of which the engine has anything, with the labels of something of each."""
    chosen = {"label": RUN}
    with asking("what earlier runs left cannot be listed"):
        found = [one.labels for one in client.containers.list(all=True, filters=chosen, ignore_removed=True)]
        found += [one.attrs.get("Labels") or {} for one in client.networks.list(filters=chosen)]
        found += [one.attrs.get("Labels") or {} for one in client.volumes.list(filters=chosen)]
    return {each[RUN]: each for each in found}


def sweep(client: DockerClient) -> list[str]:
    """Remove what runs without a living owner left at the engine; one sentence for each.

    Only what is known dead counts: another boot, a lock that is free, a directory that is gone. Goes on past
    a failure and raises ClusterError at the end.
    """
    done, failed = list[str](), list[str]()
    for run, carried in runs(client).items():
        with _abandoned(Path(run), carried.get(BOOT, "")) as abandoned:
            if not abandoned:
                continue
            try:
                found = remove(client, run)
                done.append(f"swept run {Path(run).name}: its owner is gone; removed {', '.join(found)}")
            except ClusterError as error:
                failed.append(str(error))
    if failed:
        raise ClusterError("leftovers of earlier runs could not be removed:\n  " + "\n  ".join(failed))
    return done


@contextlib.contextmanager
def _abandoned(run: Path, boot: str) -> Iterator[bool]:
    """Whether the run's owner is known to be gone; its lock is held meanwhile."""
    if boot != boot_id():
        yield True
        return
    try:
        descriptor = try_lock(run / "lock", create=False)
    except FileNotFoundError:  # an owner's directory is there as long as it lives
        yield not run.exists()
        return
    except OSError:  # of another user
        yield False
        return
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def main() -> None:
    """Remove a run's things until nothing new has come for a while, whatever the engine says in between: what
    is just being made cannot be removed yet."""
    try:
        client = connect()
    except NoEngine as error:
        sys.exit(str(error))
    began = quiet = time.monotonic()
    trouble = ""
    while (now := time.monotonic()) - quiet < SETTLED and now - began < AT_MOST:
        try:
            found, trouble = remove(client, sys.argv[2]), ""
        except ClusterError as error:
            found, trouble = [], str(error)
        if found or trouble:
            quiet = time.monotonic()
        time.sleep(0.1)
    if trouble:
        sys.exit(trouble)


if __name__ == "__main__":
    main()


__all__ = ["RUN", "asking", "labels", "left", "remove", "runs", "sweep"]

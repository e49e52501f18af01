"""A run's directory and the lock that says its owner lives.

Everything of the runs of one user is below one *base*: a directory per run, with a lock file that the
owner (the test process) holds by flock until it ends in whatever way. What no living owner holds is left
over (`harness.cluster.sweep`).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from harness.lock import ClusterError, base_directory, gate, private, try_lock


class RunDirectory:
    """The directory of one run, locked by this process from `claim` to `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def claim(cls, base: Path, run_id: str) -> RunDirectory:
        """Make and lock the directory of `run_id`; call it within `gate`."""
        if not re.fullmatch(r"[^./\0\s][^/\0\s]{0,99}", run_id):
            raise ClusterError(
                f"run id {run_id!r} cannot name a directory: use 1 to 100 characters without '/' and space, "
                "not beginning with '.'"
            )
        path = (private(private(base) / "runs") / run_id).resolve()
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            raise ClusterError(
                f"run {run_id!r} is running already ({path} is locked by a living process): use another id "
                "or stop that run first"
            ) from None
        descriptor = try_lock(path / "lock")
        assert descriptor is not None, "a directory just made within the gate cannot be locked by another"
        return cls(path, descriptor)

    @property
    def label(self) -> str:
        """What the run's processes carry in their environment: its path, which no other run shares."""
        return str(self.path)

    def release(self, *, remove: bool = True) -> None:
        """Remove the directory (unless told not to), then unlock; idempotent."""
        if self.descriptor < 0:
            return
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.descriptor)
        self.descriptor = -1


__all__ = ["ClusterError", "RunDirectory", "base_directory", "gate", "private", "try_lock"]

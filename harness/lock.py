"""Locks of this user's processes on one another: files held by flock, below one directory, the *base*.

What makes runs and what makes images takes turns by them; a process that ends in whatever way lets go.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GATE_WITHIN = 15.0  # seconds to wait for a neighbour that claims or sweeps; both take milliseconds


class ClusterError(RuntimeError):
    """A cluster could not do what was asked; the text says which node, what happened and what to do."""


def base_directory() -> Path:
    """The base of this user: ``nemesis-UID`` in the temporary directory (TMPDIR moves it).

    Not XDG_RUNTIME_DIR: the nodes' data lies below it too, and that is a small file system in memory,
    on which fsync costs nothing.
    """
    return Path(tempfile.gettempdir()) / f"nemesis-{os.getuid()}"


def private(path: Path) -> Path:
    """Make `path` a directory of this user's alone; ClusterError if another user has put something there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ClusterError(
            f"{path} must be a directory of user {os.getuid()}, but it belongs to user {found.st_uid} or is "
            "a link: remove it, or set TMPDIR to a directory of your own"
        )
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """Hold the lock file `path` and return its descriptor (closing it releases), or None: another holds it.

    Raises FileNotFoundError where it is missing and not to be created.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:  # removed between open and lock: it locks nobody out any more
            if not create:
                os.close(descriptor)
                raise
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        os.close(descriptor)


@contextlib.contextmanager
def gate(base: Path) -> Iterator[None]:
    """Let one process at a time make or remove what is below `base`."""
    path = private(base) / "gate"
    deadline = time.monotonic() + GATE_WITHIN
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"another process has held {path} for {GATE_WITHIN:.0f} s; starting and sweeping take "
                f"milliseconds, so it is probably stopped: find it with `fuser {path}`"
            )
        time.sleep(0.005)
    try:
        yield
    finally:
        os.close(descriptor)


__all__ = ["ClusterError", "base_directory", "gate", "private", "try_lock"]

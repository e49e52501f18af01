"""How many clusters run at once on this machine: one slot each, shared by all of this user's processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from harness.cluster.lock import ClusterError, base_directory, private, try_lock

WITHIN = 3600.0  # seconds to wait for a slot: what holds it may be a long run
SAID_AFTER = 1.0  # seconds of waiting until it is said


class Slot:
    """A slot that this process holds until `release`, or until it ends in whatever way.

    >>> slot = Slot.take(2)
    >>> slot.release()
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(
        cls, count: int, *, progress: Callable[[str], None] | None = None, base: Path | None = None
    ) -> Slot:
        """The next free one of `count`. Raises ClusterError where none gets free for an hour."""
        directory = private(private(base_directory() if base is None else base) / "slots")
        began, said = time.monotonic(), False
        while True:
            for number in range(count):
                if (descriptor := try_lock(directory / str(number))) is not None:
                    return cls(descriptor)
            waited = time.monotonic() - began
            if waited > WITHIN:
                raise ClusterError(
                    f"{count} clusters have been running for {WITHIN:.0f} s, as many as may at once: end one "
                    f"(`fuser {directory}/*`), or raise --nemesis-slots"
                )
            if waited > SAID_AFTER and progress and not said:
                progress(f"waiting for one of {count} slots")
                said = True
            time.sleep(0.01)

    def release(self) -> None:
        """Let the next one have it; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


__all__ = ["Slot"]

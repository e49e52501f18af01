"""What an xdist worker does when its controller is killed: it ends as by SIGTERM, at once.

By itself it would notice some seconds later, and its clusters would run on until then.
"""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it ends; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


__all__ = ["end_with_parent"]

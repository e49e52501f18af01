"""The clock faults by short names: ``from harness import clock``, then ``clock.jump("leader", -2.0)``."""

from __future__ import annotations

from harness.clock_faults import (
    clock_drift as drift,
    clock_jump as jump,
    clock_scramble as scramble,
    clock_strobe as strobe,
)

__all__ = ["drift", "jump", "scramble", "strobe"]

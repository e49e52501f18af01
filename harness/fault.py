"""The former name of `harness.faults`, to be deleted: as a submodule it hides the function `harness.fault`."""

from harness.faults import *  # noqa: F403

"""Carries a plan out: resolves nodes, injects, proves, heals, records."""

from harness.nemesis.acts import Context
from harness.nemesis.nemesis import RESOLVE_WITHIN, Nemesis

__all__ = ["RESOLVE_WITHIN", "Context", "Nemesis"]

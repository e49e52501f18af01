"""Which models of consistency an anomaly rules out.

From Adya, "Weak Consistency" (1999), for the PL- levels; Bailis et al., "Highly Available Transactions"
(2013); Cerone, Bernardi and Gotsman, "A Framework for Transactional Consistency Models with Atomic
Visibility" (2015); Cerone and Gotsman, "Analysing Snapshot Isolation" (2016), by which snapshot isolation is
the absence of cycles without two adjacent anti-dependencies; Daudjee and Salem, "Lazy Database Replication
with Snapshot Isolation" (2006), for the sessions. The names are those of Elle and jepsen.io/consistency;
serializable is conflict serializable. Models of single objects are not here: no anomaly of transactions rules
them out by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.checkers.model import CheckError

STRICT = "strict-serializable"

# What each model implies: a history that keeps the first keeps the others.
IMPLIES: Mapping[str, tuple[str, ...]] = {
    STRICT: ("strong-session-serializable", "strong-snapshot-isolation"),
    "strong-session-serializable": ("serializable", "strong-session-snapshot-isolation"),
    "strong-snapshot-isolation": ("strong-session-snapshot-isolation", "strong-read-committed"),
    "strong-session-snapshot-isolation": ("snapshot-isolation", "strong-session-read-committed"),
    "strong-read-committed": ("strong-session-read-committed", "strong-read-uncommitted"),
    "strong-session-read-committed": ("read-committed", "strong-session-read-uncommitted"),
    "strong-read-uncommitted": ("strong-session-read-uncommitted",),
    "strong-session-read-uncommitted": ("read-uncommitted",),
    "serializable": ("repeatable-read", "snapshot-isolation", "update-serializable"),
    "update-serializable": ("forward-consistent-view",),
    "snapshot-isolation": (
        "forward-consistent-view", "monotonic-atomic-view", "monotonic-snapshot-read",
        "parallel-snapshot-isolation", "prefix",
    ),
    "parallel-snapshot-isolation": ("causal-cerone", "update-atomic"),
    "update-atomic": ("read-atomic",),
    "prefix": ("causal-cerone",),
    "causal-cerone": ("read-atomic",),
    "read-atomic": ("monotonic-atomic-view",),
    "monotonic-atomic-view": ("read-committed",),
    "monotonic-snapshot-read": ("read-committed",),
    "repeatable-read": ("cursor-stability", "monotonic-atomic-view"),
    "forward-consistent-view": ("consistent-view",),
    "consistent-view": ("cursor-stability", "monotonic-view"),
    "cursor-stability": ("read-committed",),
    "monotonic-view": ("read-committed",),
    "read-committed": ("read-uncommitted",),
    "read-uncommitted": (),
}  # fmt: skip
MODELS = tuple(IMPLIES)

ALIASES: Mapping[str, str] = {
    "PL-1": "read-uncommitted", "PL-2": "read-committed", "PL-CS": "cursor-stability",
    "PL-2L": "monotonic-view", "PL-MSR": "monotonic-snapshot-read", "PL-2+": "consistent-view",
    "PL-FCV": "forward-consistent-view", "PL-2.99": "repeatable-read", "PL-3U": "update-serializable",
    "PL-SI": "snapshot-isolation", "PL-3": "serializable", "conflict-serializable": "serializable",
    "PL-SS": STRICT, "strong-serializable": STRICT, "ROLA": "update-atomic",
    "strong-PL-1": "strong-read-uncommitted", "strong-PL-2": "strong-read-committed",
    "strong-session-PL-1": "strong-session-read-uncommitted",
    "strong-session-PL-2": "strong-session-read-committed",
}  # fmt: skip

# What each rules out beyond what those that it implies do, as far as anything here looks for it.
PROSCRIBES: Mapping[str, tuple[str, ...]] = {
    # Adya has no histories with the last three: versions are in one order, and somebody wrote each
    "read-uncommitted": ("G0", "cyclic-versions", "duplicate-elements", "garbage-read"),
    "read-committed": ("G1",),
    "cursor-stability": ("G1", "lost-update"),
    "consistent-view": ("G1", "G-single"),
    "repeatable-read": ("G1", "G2-item", "lost-update"),
    "update-atomic": ("lost-update",),
    "read-atomic": ("internal", "G1a", "future-read"),
    "causal-cerone": ("internal", "G1a"),
    "parallel-snapshot-isolation": ("internal", "G1a"),
    "prefix": ("internal", "G1a"),
    "snapshot-isolation": ("internal", "G1", "G-nonadjacent"),
    "serializable": ("internal", "G1", "G2", "predicate-read-miss"),
    "strong-session-read-uncommitted": ("G0-process",),
    "strong-session-read-committed": ("G1c-process",),
    "strong-session-snapshot-isolation": ("internal", "G1-process", "G-nonadjacent-process"),
    "strong-session-serializable": ("G1-process", "G2-process"),
    "strong-read-uncommitted": ("G0-realtime",),
    "strong-read-committed": ("G1c-realtime",),
    "strong-snapshot-isolation": ("internal", "G1-realtime", "G-nonadjacent-realtime"),
    STRICT: ("G1-realtime", "G2-realtime"),
}

VARIANTS = ("", "-process", "-realtime")

# An anomaly that is one of another sort, too; those of cycles in each variant.
_CYCLES: Mapping[str, tuple[str, ...]] = {
    "G0": ("G1c",),
    "G1c": ("G1",),
    "G-single-item": ("G-single", "G-nonadjacent-item"),
    "G-single": ("G-nonadjacent",),
    "G-nonadjacent-item": ("G-nonadjacent", "G2-item"),
    "G-nonadjacent": ("G2",),
    "G2-item": ("G2",),
    "G1": (),
    "G2": (),
}
_OTHERS: Mapping[str, tuple[str, ...]] = {
    "G1a": ("G1",),
    "G1b": ("G1",),
    "incompatible-order": ("G1a",),
    "dirty-update": ("G1a",),
    "future-read": ("G1c",),  # a transaction that depends on itself
    "lost-update": ("G2-item",),
}


def _implied() -> dict[str, tuple[str, ...]]:
    found = dict(_OTHERS)
    for variant, wider in zip(VARIANTS, (*VARIANTS[1:], None), strict=True):
        for name, those in _CYCLES.items():
            own = tuple(f"{other}{variant}" for other in those)
            found[name + variant] = own if wider is None else (*own, name + wider)
    return found


IMPLIED: Mapping[str, tuple[str, ...]] = _implied()


def named(model: str) -> str:
    """The name by which a model goes here. Raises CheckError, listing them, where there is none."""
    name = ALIASES.get(model, model)
    if name not in IMPLIES:
        raise CheckError(f"unknown consistency model {model!r}; there are: {', '.join(MODELS)}")
    return name


def _reached(start: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen = set(start)
    left = list(seen)
    while left:
        for other in edges.get(left.pop(), ()):
            if other not in seen:
                seen.add(other)
                left.append(other)
    return seen


def ruled_out(anomalies: Iterable[str]) -> set[str]:
    """The models that no history with these anomalies keeps."""
    shown = _reached(anomalies, IMPLIED)
    stronger: dict[str, list[str]] = {name: [] for name in MODELS}
    for name, those in IMPLIES.items():
        for other in those:
            stronger[other].append(name)
    return _reached((name for name, those in PROSCRIBES.items() if shown & set(those)), stronger)


def weakest(models: Iterable[str]) -> list[str]:
    """Those models that imply no other one of them, in the order of MODELS."""
    given = set(models)
    return [name for name in MODELS if name in given and not _reached(IMPLIES[name], IMPLIES) & given]

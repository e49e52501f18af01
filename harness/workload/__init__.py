"""What the clients do: generators, the processes that drive clients, and the ready-made workloads."""

from harness.workload.generator import Lane, Workload, limit, mix, phases
from harness.workload.ready import register_workload, rmw_workload, set_workload
from harness.workload.source import Persistent, Source
from harness.workload.workers import Workers

__all__ = [
    "Lane",
    "Persistent",
    "Source",
    "Workers",
    "Workload",
    "limit",
    "mix",
    "phases",
    "register_workload",
    "rmw_workload",
    "set_workload",
]

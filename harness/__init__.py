"""Fault-injection chaos testing as a pytest plugin: does it keep its promises while things go wrong?

Everything a test needs is here: ``from harness import Plan, at, partition, isolate, register_workload,
assert_linearizable``. Names are imported when first used, so that a pytest without chaos tests pays nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.chaos import Chaos as Chaos
    from harness.checkers import (
        assert_available as assert_available,
        assert_bank as assert_bank,
        assert_causal as assert_causal,
        assert_coherent as assert_coherent,
        assert_counter as assert_counter,
        assert_kafka as assert_kafka,
        assert_linearizable as assert_linearizable,
        assert_list_append as assert_list_append,
        assert_monotonic as assert_monotonic,
        assert_monotonic_reads as assert_monotonic_reads,
        assert_monotonic_writes as assert_monotonic_writes,
        assert_no_causal_reverse as assert_no_causal_reverse,
        assert_no_dirty_read as assert_no_dirty_read,
        assert_no_long_fork as assert_no_long_fork,
        assert_no_lost_update as assert_no_lost_update,
        assert_no_lost_write as assert_no_lost_write,
        assert_no_non_monotonic_read as assert_no_non_monotonic_read,
        assert_no_stale_read as assert_no_stale_read,
        assert_no_write_skew as assert_no_write_skew,
        assert_read_your_writes as assert_read_your_writes,
        assert_recovers as assert_recovers,
        assert_rw_register as assert_rw_register,
        assert_set_full as assert_set_full,
        assert_total_queue as assert_total_queue,
        assert_unique_ids as assert_unique_ids,
        assert_writes_follow_reads as assert_writes_follow_reads,
        check as check,
        judge as judge,
    )
    from harness.compose_target import ComposeTarget as ComposeTarget
    from harness.condition import event as event, leader_elected as leader_elected, restarted as restarted
    from harness.faults import (
        bandwidth as bandwidth,
        clock_drift as clock_drift,
        clock_jump as clock_jump,
        clock_scramble as clock_scramble,
        clock_strobe as clock_strobe,
        cpu_limit as cpu_limit,
        disk_full as disk_full,
        fault as fault,
        kill as kill,
        latency as latency,
        limit_data as limit_data,
        memory_limit as memory_limit,
        message_corrupt as message_corrupt,
        message_delay as message_delay,
        message_drop as message_drop,
        message_duplicate as message_duplicate,
        message_reorder as message_reorder,
        packet_corrupt as packet_corrupt,
        packet_delay as packet_delay,
        packet_duplicate as packet_duplicate,
        packet_loss as packet_loss,
        packet_rate as packet_rate,
        packet_reorder as packet_reorder,
        partition as partition,
        pause as pause,
        reset_peer as reset_peer,
        restart as restart,
        slicer as slicer,
        slow_close as slow_close,
        timeout as timeout,
    )
    from harness.framing import (
        Framings as Framings,
        Http1 as Http1,
        LengthPrefixed as LengthPrefixed,
        Lines as Lines,
    )
    from harness.history import (
        Fault as Fault,
        History as History,
        HistoryError as HistoryError,
        NodeEvent as NodeEvent,
        Operation as Operation,
    )
    from harness.journal import load as load
    from harness.nemesis import Context as Context
    from harness.plan import Plan as Plan, at as at, every as every, until as until, when as when
    from harness.run import Run as Run, RunError as RunError
    from harness.selector import link as link, nodes as nodes
    from harness.target import (
        Client as Client,
        Endpoint as Endpoint,
        Failed as Failed,
        File as File,
        Node as Node,
        Op as Op,
        Target as Target,
        Unknown as Unknown,
        UnknownAddress as UnknownAddress,
    )
    from harness.topology import (
        bridge as bridge,
        halves as halves,
        isolate as isolate,
        majorities_ring as majorities_ring,
        majority_minority as majority_minority,
        one_way as one_way,
        pairs as pairs,
        random_halves as random_halves,
    )
    from harness.value import PlanError as PlanError
    from harness.verdict import (
        Undecided as Undecided,
        Verdict as Verdict,
        Violation as Violation,
        Witness as Witness,
    )
    from harness.workload import (
        Lane as Lane,
        Workload as Workload,
        limit as limit,
        mix as mix,
        phases as phases,
        register_workload as register_workload,
        rmw_workload as rmw_workload,
        set_workload as set_workload,
    )

_HOMES = {
    "harness.chaos": "Chaos",
    "harness.checkers": (
        "assert_available assert_bank assert_causal assert_coherent assert_counter assert_kafka "
        "assert_linearizable assert_list_append assert_monotonic assert_monotonic_reads "
        "assert_monotonic_writes assert_no_causal_reverse assert_no_dirty_read assert_no_long_fork "
        "assert_no_lost_update assert_no_lost_write assert_no_non_monotonic_read assert_no_stale_read "
        "assert_no_write_skew assert_read_your_writes assert_recovers assert_rw_register "
        "assert_set_full assert_total_queue assert_unique_ids assert_writes_follow_reads check judge"
    ),
    "harness.compose_target": "ComposeTarget",
    "harness.condition": "event leader_elected restarted",
    "harness.faults": (
        "bandwidth clock_drift clock_jump clock_scramble clock_strobe cpu_limit disk_full fault kill latency "
        "limit_data memory_limit message_corrupt message_delay message_drop message_duplicate "
        "message_reorder packet_corrupt packet_delay packet_duplicate packet_loss packet_rate "
        "packet_reorder partition pause reset_peer restart slicer slow_close timeout"
    ),
    "harness.framing": "Framings Http1 LengthPrefixed Lines",
    "harness.history": "Fault History HistoryError NodeEvent Operation",
    "harness.journal": "load",
    "harness.nemesis": "Context",
    "harness.plan": "Plan at every until when",
    "harness.run": "Run RunError",
    "harness.selector": "link nodes",
    "harness.target": "Client Endpoint Failed File Node Op Target Unknown UnknownAddress",
    "harness.topology": "bridge halves isolate majorities_ring majority_minority one_way pairs random_halves",
    "harness.value": "PlanError",
    "harness.verdict": "Undecided Verdict Violation Witness",
    "harness.workload": "Lane Workload limit mix phases register_workload rmw_workload set_workload",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if (home := _HOME_OF.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME_OF]

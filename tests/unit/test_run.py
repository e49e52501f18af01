"""One run, on the store in memory: its phases, its ends, what it leaves, what a replay repeats."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from harness import (
    Plan,
    at,
    every,
    fault,
    isolate,
    kill,
    leader_elected,
    partition,
    register_workload,
    until,
    when,
)
from harness.chaos import Chaos
from harness.history import History
from harness.journal import Journal, load
from harness.nemesis import Context, Nemesis
from harness.online import Judge
from harness.plugin import _terminate
from harness.run import Run, RunError, Settings
from harness.target import Client, Endpoint, Op
from harness.testing import MemoryKV
from harness.value import PlanError
from harness.workload import Lane, Workload

QUICK = dataclasses.replace(register_workload(keys=2, clients=4, total_rate=400), final=None)
CUT = Plan(at(0.1, partition(isolate("random")), lasts=0.2), end=0.3)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(seed=1, test="t", output=tmp_path / "out", duration=0.5)


def carried_out(
    settings: Settings, plan: Plan, workload: Workload = QUICK, target: MemoryKV | None = None
) -> History:
    with Run(target or MemoryKV(nodes=3), workload, plan, settings) as run:
        run.to_end()
    return run.history


def chaos(settings: Settings, replay: History | None = None) -> Chaos:
    settings = dataclasses.replace(settings, duration=None)
    return Chaos(MemoryKV(nodes=3), settings, settings.output, replay_from=replay)


# ---------------------------------------------------------------------------------- nothing is lost silently


def test_a_generator_that_raises_ends_the_run_with_a_finding(settings: Settings) -> None:
    def broken(rng: Any) -> Iterator[Op]:
        yield Op("write", 1, "k")
        raise LookupError("no more keys")

    settings = dataclasses.replace(settings, duration=30)
    began = time.monotonic()
    history = carried_out(settings, Plan(), Workload("odd", (Lane(2, broken),), keyed=True))
    assert any("LookupError: no more keys" in finding for finding in history.findings)
    assert time.monotonic() - began < 15


def test_a_plan_cut_short_by_the_test_is_a_finding_per_entry(settings: Settings) -> None:
    plan = Plan(
        at(0.05, partition("n1"), lasts=0.1), at(5, partition("n2"), lasts=1), every(6, kill("n3"), 1)
    )
    with Run(MemoryKV(nodes=3), QUICK, plan, dataclasses.replace(settings, duration=None)) as run:
        run.wait(0.3)
    assert [f.split(", so ")[0] for f in run.history.findings] == [
        "the run ended before 5 s",
        "the run ended before 6 s",
    ]


def test_repetitions_that_never_happened_are_counted(settings: Settings) -> None:
    five = every(20, partition("n1"), lasts=0.05, start=0.05, times=5)
    open_ = every(20, partition("n2"), lasts=0.05, start=0.05)
    with Run(MemoryKV(nodes=3), QUICK, Plan(five, open_), dataclasses.replace(settings, duration=99)) as run:
        run.wait(0.35)
    (finding,) = run.history.findings
    assert finding == "the run ended before 20.05 s, so partition(isolate('n1')), 4 times, never happened"


def test_what_ends_a_fault_may_come_while_the_fault_is_being_proved(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(at(0.05, partition("n1"), lasts=until(leader_elected(), at_most=5)))
    run = Run(MemoryKV(nodes=3), QUICK, plan, dataclasses.replace(settings, duration=None))
    observed = Nemesis._observed

    def electing(self: Nemesis, verb: str, *rest: Any) -> None:
        if verb == "start":  # it holds, and is just being recorded
            run._event("n2", "role", {"role": "leader"})
        observed(self, verb, *rest)

    monkeypatch.setattr(Nemesis, "_observed", electing)
    with run:
        run.wait(2)
    (seen,) = run.history.faults
    assert seen.end is not None and seen.start is not None and seen.end - seen.start < 10**9


def test_a_condition_that_came_too_late_is_told_from_one_that_never_came(settings: Settings) -> None:
    plan = Plan(when(leader_elected(), partition("n1"), lasts=0.1, after=9, within=0))
    with Run(MemoryKV(nodes=3), QUICK, plan, dataclasses.replace(settings, duration=None)) as run:
        run._event("n1", "role", {"role": "leader"})
        run.wait(0.3)
    (finding,) = run.history.findings
    assert "came less than 9 s before the run's end" in finding


def test_a_client_that_can_never_be_opened_is_a_finding_that_says_why(settings: Settings) -> None:
    class Shut(Client):
        def open(self, node: Endpoint) -> None:
            raise ConnectionRefusedError("nobody there")

    class Closed(MemoryKV):
        client: ClassVar[type[Any]] = Shut

    history = carried_out(settings, Plan(), target=Closed(nodes=3))
    assert any("attempts to open a client succeeded: ConnectionRefused" in f for f in history.findings)


def test_details_of_an_event_cannot_rename_its_node(settings: Settings) -> None:
    with Run(MemoryKV(nodes=3), QUICK, Plan(), settings) as run:
        run._event("n2", "applied", {"node": "n9", "odd": {2: float("nan")}})
    (event,) = [e for e in run.history.events if e.kind == "applied"]
    assert event.node == "n2"


class Noted(MemoryKV):
    def make_cluster(self, **how: Any) -> Any:
        cluster = super().make_cluster(**how)
        setattr(cluster, "notes", ("links are carried by memory", "all of them were seen"))  # noqa: B010
        return cluster


def test_what_a_cluster_notes_of_its_set_up_is_in_the_history(settings: Settings) -> None:
    with Run(Noted(nodes=3), QUICK, Plan(), settings) as run:
        pass
    assert run.history.notes == ("links are carried by memory", "all of them were seen")


def test_clients_connect_to_the_roles_that_serve_them(settings: Settings) -> None:
    class Shop(MemoryKV):
        client_roles: ClassVar[tuple[str, ...]] = ("app",)

    workload = register_workload(keys=1, clients=2, total_rate=400)
    history = carried_out(settings, Plan(), workload, Shop(nodes={"app": 2, "db": 1}))
    assert {op.node for op in history.operations} == {"app1", "app2"}
    with pytest.raises(ValueError, match="client_roles has 'app', but the roles are node"):
        Shop(nodes=3).check()


# ------------------------------------------------------------------------------------------------- the ends


@pytest.mark.parametrize("error", [KeyboardInterrupt, AssertionError])
def test_whatever_ends_the_body_the_history_is_there_and_nothing_goes_on(
    settings: Settings, error: type[BaseException]
) -> None:
    run = Run(MemoryKV(nodes=3), QUICK, CUT, settings)
    with pytest.raises(error), run:
        run.wait(0.2)
        raise error
    assert len(run.history) and run.history.phases[-1][1] == f"aborted: {error.__name__}"
    assert run._workers.join(5)
    assert run.history.path is not None and run.history.path.suffix == ".gz"


def test_a_second_interrupt_while_own_faults_are_undone_still_ends_everything(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt("again")

    stopped: list[str] = []
    run = Run(MemoryKV(nodes=3), QUICK, CUT, settings)
    with pytest.raises(KeyboardInterrupt, match="again"), run:
        run.wait(0.1)
        assert run._nemesis is not None
        monkeypatch.setattr(run._nemesis, "abandon", interrupted)
        monkeypatch.setattr(run.cluster, "stop", lambda keep=False: stopped.append("once"))
        raise KeyboardInterrupt
    assert stopped == ["once"] and len(run.history) and run._workers.join(5)


def test_an_interrupt_while_it_heals_still_ends_everything(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(within: float) -> float:
        raise KeyboardInterrupt

    stopped: list[str] = []
    run = Run(MemoryKV(nodes=3), QUICK, CUT, settings)
    with pytest.raises(KeyboardInterrupt), run:
        run.wait(0.1)
        monkeypatch.setattr(run.cluster, "await_healthy", interrupted)
        monkeypatch.setattr(run.cluster, "stop", lambda keep=False: stopped.append("once"))
    assert stopped == ["once"] and run._workers.join(5)
    assert run.history.phases[-1][1] == "aborted: KeyboardInterrupt"


def test_a_sigterm_while_it_cleans_up_does_not_break_that_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []

    def stop(keep: bool = False) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        stopped.append("to the end")
        return ""

    plugins, session = pytest.PytestPluginManager(), SimpleNamespace(shouldstop="")
    plugins.register(session, "session")
    config = cast(pytest.Config, SimpleNamespace(pluginmanager=plugins))
    before = signal.signal(signal.SIGTERM, partial(_terminate, config))
    try:
        run = Run(MemoryKV(nodes=3), QUICK, CUT, settings)
        with pytest.raises(KeyboardInterrupt), run:
            monkeypatch.setattr(run.cluster, "stop", stop)
            os.kill(os.getpid(), signal.SIGTERM)
            run.wait(5)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped == ["to the end"] and run.history.path is not None and run.history.path.suffix == ".gz"
    assert session.shouldstop == "terminated (SIGTERM)", "the tests that are left would begin"


def test_a_cluster_that_cannot_be_stopped_costs_no_history(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(keep: bool = False) -> str:
        raise OSError("busy")

    run = Run(MemoryKV(nodes=3), QUICK, CUT, settings)
    with pytest.raises(OSError, match="busy"), run:
        run.to_end()
        monkeypatch.setattr(run.cluster, "stop", stop)
    assert len(run.history)


def test_a_heal_that_hangs_is_named_and_the_clients_end(settings: Settings) -> None:
    release = threading.Event()

    def nothing(context: Context) -> None:
        pass

    def stuck(context: Context) -> None:
        release.wait(60)

    class Patient(MemoryKV):
        ready_within: ClassVar[float] = -9.0

    plan = Plan(at(0.05, fault(nothing, heal=stuck, name="tank")))
    run = Run(Patient(nodes=3), QUICK, plan, dataclasses.replace(settings, heal_within=0.5))
    with pytest.raises(RunError, match=r"heal did not end within 1 s: tank \(healing\)"), run:
        run.wait(0.2)
    release.set()
    assert run._workers.join(5) and len(run.history)


def test_an_own_fault_that_raises_is_told_with_its_type(settings: Settings) -> None:
    def bad(context: Context) -> None:
        raise ZeroDivisionError("by design")

    history = carried_out(settings, Plan(at(0.05, fault(bad))))
    assert history.findings == ("bad: ZeroDivisionError: by design",)


def test_an_own_fault_that_is_not_proved_is_undone(settings: Settings) -> None:
    disk = {"full": False}
    full = fault(
        lambda context: disk.update(full=True),
        heal=lambda context: disk.update(full=False),
        verify=lambda context: False,
        name="full",
    )
    history = carried_out(settings, Plan(at(0.05, full, lasts=0.1)))
    assert "verify says False after inject" in history.findings[0] and not disk["full"]


@pytest.mark.parametrize("how", ["plan", "test"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, AssertionError])
def test_an_own_fault_in_force_is_undone_however_the_run_ends(
    settings: Settings, error: type[BaseException], how: str
) -> None:
    disk = {"full": False}
    full = fault(
        lambda context: disk.update(full=True), heal=lambda context: disk.update(full=False), name="full"
    )
    plan = Plan(at(0.05, full, lasts=60)) if how == "plan" else Plan()
    settings = dataclasses.replace(settings, duration=None)
    run = Run(MemoryKV(nodes=3), QUICK, plan, settings)
    with pytest.raises(error), run, run.fault(full) if how == "test" else contextlib.nullcontext():
        while not disk["full"]:
            assert run.wait(0.01)
        raise error
    assert not disk["full"] and not run.history.findings


def test_a_ready_that_hangs_after_the_faults_is_a_finding(settings: Settings) -> None:
    release = threading.Event()
    run = Run(MemoryKV(nodes=3), QUICK, CUT, dataclasses.replace(settings, heal_within=-4.5))
    with run:
        run.to_end()
        run.cluster.await_healthy = lambda within: float(release.wait(60))  # type: ignore[method-assign]
    release.set()
    assert (
        "did not become healthy after heal: await healthy did not end within 0.5 s: does"
        in (run.history.findings[0])
    )


def test_a_full_disk_ends_the_run_and_costs_what_did_not_fit(settings: Settings) -> None:
    run = Run(MemoryKV(nodes=3), QUICK, Plan(), dataclasses.replace(settings, duration=30))
    began = time.monotonic()
    with run:
        run.wait(0.2)
        path = settings.output / "history.jsonl"
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 300, hard))
        try:
            assert not run.wait(10), "nobody noticed"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert time.monotonic() - began < 15 and len(run.history) > 10
    assert any("File too large" in finding for finding in run.history.findings)


def test_a_fault_after_the_run_is_refused(settings: Settings) -> None:
    with Run(MemoryKV(nodes=3), QUICK, Plan(), settings) as run:
        run.wait(0.1)
    with pytest.raises(RunError, match="needs a run under way"), run.fault(partition("n1")):
        pass


# -------------------------------------------------------------------------------------------------- replays


def test_a_replay_lasts_as_long_as_what_it_repeats(settings: Settings) -> None:
    first = chaos(settings)
    plan = Plan(at(0.05, partition(isolate("random")), lasts=0.1), end=0.2)
    history = first.run(QUICK, plan, duration=5)  # twice the plan
    again = chaos(dataclasses.replace(settings, output=settings.output / "again"), history)
    repeated = again.run(QUICK, plan)
    assert len(history.faults) == 2
    assert [(f.nodes, f.place) for f in repeated.faults] == [(f.nodes, f.place) for f in history.faults]
    for one, two in zip(history.faults, repeated.faults, strict=True):
        assert two.asked[0] == pytest.approx(one.asked[0], abs=0.3)


def test_a_replay_repeats_what_the_test_injected_once_and_on_the_same_nodes(settings: Settings) -> None:
    def by_hand(handle: Chaos) -> History:
        with handle.running(QUICK, Plan(at(0.05, kill("n1"), lasts=0.1))) as run:
            run.wait(0.2)
            with run.fault(partition(isolate("one"))):
                run.wait(0.1)
        return run.history

    history = by_hand(chaos(settings))
    other = dataclasses.replace(settings, output=settings.output / "again", seed=2)
    repeated = by_hand(chaos(other, history))
    assert [(f.kind, f.by_test) for f in repeated.faults] == [("kill", False), ("partition", True)]
    assert [f.nodes for f in repeated.faults] == [f.nodes for f in history.faults]
    assert not repeated.findings


def test_a_replay_concerns_the_run_that_was_recorded(settings: Settings) -> None:
    first = chaos(settings)
    first.run(QUICK, Plan(), duration=0.1)
    second = first.run(QUICK, CUT)
    assert second.header["run"] == 2
    handle = chaos(dataclasses.replace(settings, output=settings.output / "again", seed=9), second)
    assert handle.run(QUICK, Plan(), duration=0.1).faults == ()
    assert [f.nodes for f in handle.run(QUICK, CUT).faults] == [f.nodes for f in second.faults]


def test_runs_of_one_test_draw_differently(settings: Settings) -> None:
    handle = chaos(settings)
    values = [
        [(op.f, op.key) for op in handle.run(QUICK, Plan(), duration=0.2).operations[:30]] for _ in range(2)
    ]
    assert values[0] != values[1]


def test_a_replay_on_other_nodes_is_refused_before_anything_starts(settings: Settings) -> None:
    history = carried_out(settings, Plan(at(0.1, partition("n3"), lasts=0.1)))
    other = dataclasses.replace(settings, output=settings.output / "again")
    handle = Chaos(MemoryKV(nodes=2), other, other.output, replay_from=history)
    with pytest.raises(PlanError, match=r"concerns n3, but the nodes of .* are n1, n2"):
        handle.run(QUICK)
    assert not other.output.exists()


def test_an_own_fault_draws_the_same_whatever_else_begins(settings: Settings) -> None:
    drawn: dict[str, list[float]] = {"a": [], "b": []}

    def drawing(name: str) -> Callable[[Context], None]:
        return lambda context: drawn[name].append(context.rng.random())

    plan = Plan(at(0.05, fault(drawing("a"), name="a")), at(0.05, fault(drawing("b"), name="b")), end=0.1)
    history = carried_out(settings, plan)
    handle = chaos(dataclasses.replace(settings, output=settings.output / "again"), history)
    handle.run(QUICK, plan)
    assert drawn["a"][0] == drawn["a"][1] != drawn["b"][0] == drawn["b"][1]


# ------------------------------------------------------------------------------------------------ the judge


def test_stop_at_violation_without_checks_is_refused(settings: Settings) -> None:
    workload = dataclasses.replace(QUICK, checks=())
    with pytest.raises(RunError, match="names no checks"):
        carried_out(dataclasses.replace(settings, stop_at_violation=True), Plan(), workload)


@pytest.mark.parametrize("check", ["no-such-check", "linearizable:cas-register"])
def test_the_judge_tells_a_violation_and_its_own_death(tmp_path: Path, check: str) -> None:
    journal = Journal(tmp_path / "history.jsonl", {"checks": [check], "keyed": True})
    journal.invoke(0, "read", ["k", None], "n1")
    journal.complete(0, "ok", "read", ["k", 7], None, 1)  # nobody wrote it
    told = threading.Event()
    found: list[str] = []
    died: list[str] = []

    def tell(where: list[str]) -> Callable[[str], None]:
        return lambda text: (where.append(text), told.set())[0]  # type: ignore[func-returns-value]

    judge = Judge(journal.path, tell(found), tell(died))
    assert told.wait(60)
    judge.end()
    judge.end()
    if check == "no-such-check":
        assert not found and "ended with code 1" in died[0] and "no-such-check" in died[0]
    else:
        assert found == [check] and not died


def test_the_judge_ends_at_once_when_the_test_process_is_killed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", {"checks": ["linearizable:cas-register"], "keyed": True})
    pairs = [("cas", [a, b]) for i in range(1, 15) for a, b in ((0, i), (i, 0))]
    pairs.append(("cas", [1, 0]))  # one too many: only all orders of the others show it
    for number, (f, value) in enumerate([("write", 0), *pairs]):
        journal.invoke(number, f, ["k", value], "n1")
    for number, (f, value) in enumerate(pairs, 1):
        journal.complete(number, "ok", f, ["k", value], None, 10**9)
    judge = Judge(journal.path, lambda check: None, lambda text: None)
    process = judge._process
    deadline = time.monotonic() + 60
    while cpu_seconds(process.pid) < 1.5:  # it is judging by now
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    began = time.monotonic()
    assert process.stdin is not None
    process.stdin.close()
    process.wait(20)
    assert time.monotonic() - began < 5
    judge.end()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_judge_ends_with_the_run_and_says_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", {"checks": []})
    told: list[str] = []
    judge = Judge(journal.path, told.append, told.append)
    judge.end()
    assert told == [] and judge._process.returncode is not None
    assert len(load(journal.finish())) == 0

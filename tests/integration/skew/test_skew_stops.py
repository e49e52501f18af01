"""Stops: wherever a thread is, whatever state it is in, whatever comes meanwhile."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.skew.patcher import (
    ARCH,
    DETACH,
    INTERRUPT,
    SEIZE,
    SINGLESTEP,
    Process,
    Refused,
    Spec,
    Stuck,
    apart,
    ptrace,
    registers,
    siginfo,
    tasks,
)
from tests.integration.skew.support import BILLION, Program, awaited, compiled, python, state, tracer

HOURS = 7200
PATIENT = 60.0  # seconds: a busy machine may take long for a hundred single steps


class Spinning:
    """spin.c on one of the functions."""

    def __init__(self, path: str, function: int) -> None:
        command = [path, str(HOURS * BILLION), str(function)]
        self.started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.pid, self.function = self.started.pid, function
        assert self.line() == "0"

    def line(self) -> str:
        assert self.started.stdout is not None
        return self.started.stdout.readline().rstrip("\n")

    def park(self, process: Process, count: int, deliver: int = signal.SIGSTOP) -> int:
        """Leave its thread `count` instructions behind the entry, with a signal; the address."""

        def work() -> int:
            def stopped() -> None:
                while siginfo(self.pid) is None:
                    os.sched_yield()

            def step() -> int:
                ptrace(SINGLESTEP, self.pid)
                stopped()
                return registers(self.pid)[ARCH.pc]

            ptrace(SEIZE, self.pid)
            ptrace(INTERRUPT, self.pid)
            stopped()
            found = process.functions[self.function]
            assert found is not None
            while step() != process.base + found[0]:
                pass
            for _ in range(count):
                step()
            there = registers(self.pid)[ARCH.pc]
            ptrace(DETACH, self.pid, 0, deliver)
            return there

        there = apart(work)
        if deliver == signal.SIGSTOP:
            awaited(lambda: state(self.pid) == "T", "stopped")
        return there


@pytest.fixture
def spin(built: Path) -> Iterator[Callable[[int], Spinning]]:
    all_: list[Spinning] = []

    def start(function: int = 0) -> Spinning:
        all_.append(Spinning(compiled("spin.c", built), function))
        return all_[-1]

    yield start
    for one in all_:
        one.started.kill()
        one.started.wait()
        assert one.started.stdout is not None
        one.started.stdout.close()


@pytest.mark.parametrize("mode, place", [("fast", "padding"), ("stub", "padding"), ("fast", "page")])
@pytest.mark.parametrize("function", range(3), ids=ARCH.functions)
def test_a_thread_may_stand_at_any_instruction(
    spin: Callable[[int], Spinning], function: int, mode: str, place: str
) -> None:
    """At each instruction of a whole call, from the entry to behind the return, its process is given a stub
    and, in a call through the stub, its own code again; it goes on and reads the right time."""
    spinning = spin(function)
    stepped = set()
    with Process.open(spinning.pid) as process:

        def inside(address: int) -> bool:
            return any(
                0 <= address - start < 2 * ARCH.page for start in (process.base, process.header & -ARCH.page)
            )

        process.install(mode, PATIENT, place)  # so that all later ones are over a stub that was left
        process.restore()
        for away in range(1000):
            there = spinning.park(process, away)
            process.install(mode, PATIENT, place)
            if process.steps:
                stepped.add(there)
            process.set(Spec(HOURS))
            os.kill(spinning.pid, signal.SIGCONT)
            assert spinning.line() == str(HOURS * BILLION), (
                hex(there - process.base),
                spinning.started.poll(),
            )
            process.restore()
            assert spinning.line() == "0"
            if not inside(there):
                break
        assert 5 < away < 999
        for away in range(1000):
            process.install(mode, PATIENT, place)
            process.set(Spec(HOURS))
            assert spinning.line() == str(HOURS * BILLION)
            there = spinning.park(process, away)
            process.restore()
            os.kill(spinning.pid, signal.SIGCONT)
            assert spinning.line() == "0", (hex(there - process.base), spinning.started.poll())
            if not inside(there):
                break
        assert 5 < away < 999
        inner = {
            there
            for there in stepped
            if any(address < there < address + len(jump) for address, jump, _ in process.entries)
        }
        address, _, original = process.entries[function]
        length, _ = ARCH.instruction(original + process.read(address + len(original), 10))
    assert inner or length >= ARCH.jump_size  # there was something to step out of, if there can be


def test_a_handler_that_would_return_into_the_jump_is_waited_for(spin: Callable[[int], Spinning]) -> None:
    spinning = spin(0)
    with Process.open(spinning.pid) as process:
        there = spinning.park(process, 1, signal.SIGUSR1)
        assert process.base < there and spinning.line() == "held"
        with pytest.raises(Stuck, match="signal handler"):
            process.install(within=5.0)
        assert not any(process.jumps()) and tracer(spinning.pid) == 0
        later = threading.Timer(0.2, os.kill, (spinning.pid, signal.SIGUSR2))
        later.start()
        process.install(within=10.0)
        later.join()
        process.set(Spec(HOURS))
        assert spinning.line() == str(HOURS * BILLION)


def test_cycles_under_load(c_program: Program) -> None:
    c_program.ask("threads 4")
    with Process.open(c_program.pid) as process:
        for offset in range(300):
            process.install()
            process.set(Spec(offset))
            process.restore()
    assert c_program.read()["REALTIME"].off(0)


def size(pid: int) -> int:
    """Bytes that a process has mapped."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * ARCH.page


@pytest.fixture
def starved(c_program: Program) -> Iterator[tuple[int, int]]:
    """A process that is busy whenever another one's threads leave it a processor, and that other one."""
    os.sched_setaffinity(c_program.pid, {min(os.sched_getaffinity(0))})
    c_program.ask("threads 1")
    other = int(c_program.ask("fork")[0])
    for task in tasks(c_program.pid):
        os.sched_setscheduler(task, os.SCHED_IDLE, os.sched_param(0))
    c_program.ask("threads 8")
    yield c_program.pid, other
    os.kill(other, signal.SIGKILL)


def test_who_is_given_no_processor_is_waited_for(starved: tuple[int, int]) -> None:
    """Longer than one that has a processor, which would have stopped. By chance it is given a short turn."""
    pid, other = starved
    within, asked = 1.0, time.monotonic()

    def make_way() -> None:
        awaited(lambda: time.monotonic() > asked + 1.2 * within, "one stop takes long", PATIENT)
        os.kill(other, signal.SIGSTOP)

    with Process.open(pid) as process, ThreadPoolExecutor() as pool:

        def stop(within: float) -> None:
            (process.restore if process.installed() else process.install)(within=within)

        with pytest.raises(Stuck, match=r"its state is R \(but it was given no processor\)"):
            while True:
                stop(0.1)
        assert tracer(pid) == 0
        asked = time.monotonic()
        way = pool.submit(make_way)
        while process.stopped <= within:
            asked = time.monotonic()
            stop(within)
        way.result()


POPULATES = """
import ctypes, mmap
PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # small pages, one after the other
print("ready", flush=True)
mmap.mmap(-1, 1 << 37, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE, mmap.PROT_READ)
"""


def test_who_runs_and_does_not_stop_is_let_go(started: Callable[[list[str]], Program]) -> None:
    """The kernel does not interrupt that call; it takes many seconds."""
    pid = started(python("-c", POPULATES)).pid
    awaited(lambda: size(pid) >= 1 << 37, "in the call")
    with Process.open(pid) as process:
        with pytest.raises(Stuck, match="its state is R;"):
            process.install(within=0.5)
        assert tracer(pid) == 0 and not any(process.jumps())


def test_no_signal_is_lost_or_changed(built: Path) -> None:
    """Queued signals with a value each, while the process is stopped again and again: all come, with it."""
    with subprocess.Popen([compiled("signals.c", built)], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        libc, count = ctypes.CDLL(None, use_errno=True), 4000

        def send() -> None:
            for value in range(1, count + 1):
                while libc.sigqueue(started.pid, signal.SIGRTMIN, ctypes.c_void_p(value)):
                    time.sleep(0.001)  # too many are waiting

        sender = threading.Thread(target=send)
        sender.start()
        with Process.open(started.pid) as process:
            cycles = 0
            while sender.is_alive() or cycles < 50:
                process.install()
                process.call()
                process.restore()
                cycles += 1
        sender.join()
        os.kill(started.pid, signal.SIGRTMIN + 1)
        assert started.stdout.readline().split() == [str(count), str(count * (count + 1) // 2)]
        assert started.wait() == 0


def test_a_process_stopped_by_a_signal_stays_so(program: Program) -> None:
    os.kill(program.pid, signal.SIGSTOP)
    awaited(lambda: state(program.pid) == "T", "stopped")
    with Process.open(program.pid) as process:
        process.install()
        process.set(Spec(3.0))
        seen = process.call()
        assert abs(seen.offset - 3.0) <= seen.error + 1e-6
        awaited(lambda: state(program.pid) == "T", "stopped again")
        program.say("read")
        process.restore()
        process.install()
        process.set(Spec(4.0))
        awaited(lambda: state(program.pid) == "T", "stopped again")
        os.kill(program.pid, signal.SIGCONT)
        rows = {name: list(map(int, rest)) for name, *rest in (row.split() for row in iter(program.line, ""))}
        before, got, after = rows["REALTIME"]
        assert before <= got - 4 * BILLION <= after


def test_who_cannot_be_stopped_is_let_go(built: Path) -> None:
    """A process in vfork waits for its child and for nothing else."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([compiled("vforking.c", built)], text=True, bufsize=1, **pipes) as started:  # type: ignore[call-overload]
        assert started.stdout.readline() == "ready\n"
        awaited(lambda: state(started.pid) == "D", "in vfork")
        with Process.open(started.pid) as process:
            with pytest.raises(Stuck, match="did not stop in time, its state is D"):
                process.install(within=0.2)
            assert tracer(started.pid) == 0 and not any(process.jumps())
        started.stdin.write("\n")
        started.stdin.write("still itself\n")
        assert started.stdout.readline() == "still itself\n"  # it went on by itself, as cat
        with Process.open(started.pid) as process:
            assert process.install() == "vdso"
        started.stdin.close()
        assert started.wait() == 0


def cgroup(parent: Path, name: str, words: tuple[str, str]) -> tuple[Path, Path, tuple[str, str]] | None:
    """A new group below `parent`, where that can be frozen."""
    group = parent / f"nemesis-skew-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return None
    if (group / name).exists():
        return group, group / name, words
    group.rmdir()
    return None


@pytest.fixture
def freezer() -> Iterator[tuple[Path, Callable[[bool], None]]]:
    """A cgroup of its own, and what freezes or thaws it."""
    kinds = (
        (Path("/sys/fs/cgroup"), "cgroup.freeze", ("0", "1")),
        (Path("/sys/fs/cgroup/freezer"), "freezer.state", ("THAWED", "FROZEN")),
    )
    made = [made for kind in kinds if (made := cgroup(*kind)) is not None]
    if not made:
        pytest.skip("this user may make no cgroup that can be frozen")
    group, file, words = made[0]

    def freeze(frozen: bool) -> None:
        file.write_text(words[frozen])  # it is not so at once
        if (events := group / "cgroup.events").exists():
            awaited(lambda: f"frozen {frozen:d}" in events.read_text(), f"frozen is {frozen}")
        else:  # each look at FREEZING makes the kernel look, too
            awaited(lambda: file.read_text().strip() == words[frozen], f"the state is {words[frozen]}")

    yield group, freeze
    freeze(False)

    def removed() -> bool:
        try:
            group.rmdir()
        except OSError:
            return False
        return True

    awaited(removed, "the cgroup is empty")


def test_a_frozen_process(c_program: Program, freezer: tuple[Path, Callable[[bool], None]]) -> None:
    """It cannot be given a stub, nor keep what asked for it; what a stub adds can be changed."""
    group, freeze = freezer
    (group / "cgroup.procs").write_text(str(c_program.pid))
    with Process.open(c_program.pid) as process:
        freeze(True)
        with pytest.raises(Stuck, match="did not stop in time"):
            process.install(within=0.3)
        assert tracer(c_program.pid) == 0
        freeze(False)
        process.install()
        freeze(True)
        process.set(Spec(9.0))
        assert process.state().offset == 9.0
        with pytest.raises(Stuck, match="did not stop in time"):
            process.call(within=0.3)
        with pytest.raises(Stuck, match="did not stop in time"):
            process.restore(within=0.3)
        assert process.installed() and tracer(c_program.pid) == 0
        freeze(False)
        assert c_program.read()["REALTIME"].off(9 * BILLION)
        process.restore()
        assert c_program.read()["REALTIME"].off(0)
    c_program.end()


@pytest.mark.parametrize("how", ["exit", "killed"])
def test_the_parent_learns_how_its_child_ended(how: str) -> None:
    """Although this process stopped it again and again, until it was gone."""
    code = f"import time; print(flush=True); time.sleep({0.05 if how == 'exit' else 60}); raise SystemExit(7)"
    for _ in range(5):
        command = ["python3", "-I", "-S", "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
            assert started.stdout is not None and started.stdout.readline()
            if how == "killed":
                threading.Timer(0.02, os.kill, (started.pid, signal.SIGKILL)).start()
            with pytest.raises(Refused, match="has ended"), Process.open(started.pid) as process:
                while True:
                    process.install()
                    process.restore()
            assert started.wait() == (7 if how == "exit" else -signal.SIGKILL)


def test_another_process_learns_how_its_child_ended(built: Path) -> None:
    """The parent is a shell, which prints the status that it got."""
    for _ in range(5):
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(0.05); raise SystemExit(7)"
        with subprocess.Popen(
            ["sh", "-c", f"python3 -I -S -c '{code}'; echo $?"], stdout=subprocess.PIPE, text=True
        ) as started:
            assert started.stdout is not None
            pid = int(started.stdout.readline())
            with pytest.raises((Refused, ProcessLookupError)), Process.open(pid) as process:
                while True:
                    process.install()
                    process.restore()
            assert started.stdout.readline() == "7\n"

"""One process: what its clocks say, from within and by a call, skewed and restored."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from harness.skew.patcher import ARCH, MODES, ORIGINS, Process, Refused, Spec
from tests.integration.skew.support import BILLION, HERE, Program, Reading, python

TICK = 20_000_000  # ns: what a coarse clock may be late, and more than any timer's tick
WALL = ("REALTIME", "REALTIME_COARSE", "TAI", "gettimeofday", "gettimeofday_zone", "time", "time_ns")
SLACK = {"REALTIME_COARSE": TICK, "gettimeofday": 1000, "gettimeofday_zone": 1000, "time": BILLION + TICK}


def off_by(process: Process, seconds: float, clock: int = time.CLOCK_REALTIME) -> bool:
    """By a call of its own function, within the uncertainty that is told."""
    seen = process.call(clock)
    return abs(seen.offset - seconds) <= seen.error + 1e-6 and seen.error < 1.0


def wrong(program: Program, wall: int, monotonic: int = 0) -> dict[str, object]:
    """Clocks that are not off by what they should be, ns."""
    found: dict[str, object] = {}
    for name, reading in program.read().items():
        by = wall if name in WALL else monotonic
        if not reading.off(by, slack=SLACK.get(name, TICK if "COARSE" in name else 0)):
            found[name] = (reading, reading.got - reading.after, by)
    return found


def text(process: Process) -> bytes:
    """The vDSO's own bytes."""
    return process.read(process.base, process.image.end)


@pytest.mark.parametrize("place", ["padding", "page"])
@pytest.mark.parametrize("mode", MODES)
def test_a_jump_is_seen_by_all_wall_clocks_and_gone_after(program: Program, mode: str, place: str) -> None:
    with Process.open(program.pid) as process:
        original = text(process)
        assert wrong(program, 0) == {}
        assert process.install(mode, place=place) == {"fast": "vdso", "stub": "vdso syscall"}[mode]
        assert process.installed() and text(process) != original
        assert wrong(program, 0) == {}  # a stub adds nothing by itself
        for offset in (0.5, -0.3, 3600.0, 0.0, -86400.25):
            process.set(Spec(offset))
            assert process.state().offset == offset
            assert wrong(program, round(offset * BILLION)) == {}
        assert off_by(process, -86400.25) and off_by(process, 0.0, time.CLOCK_MONOTONIC)
        process.restore()
        assert text(process) == original and not process.installed()
        assert wrong(program, 0) == {}
        assert off_by(process, 0.0)  # the negative control
    program.say("exit 3")
    assert program.started.wait() == 3


def test_monotonic_clocks_on_request(program: Program) -> None:
    with Process.open(program.pid) as process:
        process.install()
        process.set(Spec(-2.5, clocks=("monotonic",)))
        assert wrong(program, 0, round(-2.5 * BILLION)) == {}
        process.set(Spec(7.0, clocks=("wall", "monotonic")))
        assert wrong(program, 7 * BILLION, 7 * BILLION) == {}
        process.set(Spec(1.0))
        assert wrong(program, BILLION) == {}


def test_times_before_1970(program: Program) -> None:
    with Process.open(program.pid) as process:
        process.install()
        offset = -float(int(time.time()) + 1_000_000) - 0.25  # not so close that libc takes it for an error
        process.set(Spec(offset))
        assert wrong(program, round(offset * BILLION)) == {}


@pytest.mark.parametrize("rate", [0.02, -0.02, 1.0, -1.0])
def test_a_drift_counts_from_its_origin_in_each_clock(program: Program, rate: float) -> None:
    """Each clock's elapsed time is measured in that clock: all drift alike."""
    with Process.open(program.pid) as process:
        process.install()
        spec = Spec(0.25, rate=rate, clocks=("wall", "monotonic")).based()
        process.set(spec)
        assert spec.origin is not None
        start = dict(
            zip(("REALTIME", "TAI", "MONOTONIC", "MONOTONIC_RAW", "BOOTTIME"), spec.origin, strict=True)
        )
        for _ in range(20):
            for name, reading in program.read().items():
                if name in start:
                    ends = sorted(rate * (at - start[name]) for at in (reading.before, reading.after))
                    assert reading.off(round(ends[0]) + BILLION // 4, round(ends[1]) + BILLION // 4, 100), (
                        name
                    )


def test_the_origin_is_the_callers(program: Program) -> None:
    """An origin in the past: the drift is where it would be by now, in wall and monotonic clocks."""
    with Process.open(program.pid) as process:
        process.install()
        origin = (time.clock_gettime_ns(0) - 100 * BILLION, time.clock_gettime_ns(1) - 50 * BILLION)
        process.set(Spec(rate=0.1, clocks=("wall", "monotonic"), origin=origin))
        readings = program.read()
        assert readings["REALTIME"].off(10 * BILLION, 10 * BILLION + BILLION)
        assert readings["MONOTONIC"].off(5 * BILLION, 5 * BILLION + BILLION)
        assert readings["TAI"].off(10 * BILLION, 10 * BILLION + BILLION)


def test_a_strobe_changes_at_its_edges(program: Program) -> None:
    with Process.open(program.pid) as process:
        process.install()
        spec = Spec(half=0.0005, amplitude=0.2).based()
        process.set(spec)
        assert spec.origin is not None
        high, seen = 200_000_000, set()
        for reading in (one for _ in range(10) for one in program.watch(500)):
            phases = {(at - spec.origin[0]) // 500_000 & 1 for at in (reading.before, reading.after)}
            if len(phases) == 1 and reading.after - reading.before < 500_000:
                (odd,) = phases
                assert reading.off(high if odd else 0), (reading, odd)
                seen.add(odd)
        assert seen == {0, 1}


def test_no_reading_is_torn_by_changes(program: Program) -> None:
    """Whatever is set meanwhile, each reading is off by one of the offsets as a whole."""
    with Process.open(program.pid) as process:
        process.install()
        specs = [Spec(offset, rate=offset / 1e6, origin=(0, 0)) for offset in (0.0, 1000.0, -1000.0)]
        slots = [spec.packed() for spec in specs]
        whole = [round((spec.offset + spec.rate * time.time()) * BILLION) for spec in specs]
        process.set(slots[0])
        program.say("watch 30000")
        readings, changes = [], 0
        while line := program.line():
            readings.append(Reading(*map(int, line.split())))
            process.set(slots[(changes := changes + 1) % 3])
    assert len(readings) == 30000 <= changes
    assert [one for one in readings if not any(one.off(by, slack=BILLION) for by in whole)] == []


def test_another_process_finds_changes_and_restores(program: Program) -> None:
    """All that is needed lies in the target: a patcher that dies leaves nothing that cannot be undone."""
    with Process.open(program.pid) as process:
        original = text(process)
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from patcher import Process, Spec
process = Process.open(int(sys.argv[2]))
process.install(); process.set(Spec(12.5)); process.set(Spec(-7.5, 0.25))
"""
    where = str(HERE.parents[2] / "harness" / "skew")
    subprocess.run(python("-c", code, where, str(program.pid)), check=True)
    with Process.open(program.pid) as process:
        assert process.installed() and (process.state().offset, process.state().rate) == (-7.5, 0.25)
        assert process.install() == "vdso"  # as it is: not put in twice
        process.set(Spec(60.0))
        assert wrong(program, 60 * BILLION) == {}
        process.restore()
        assert text(process) == original
        assert wrong(program, 0) == {}
        process.restore()  # and nothing more


def test_a_mode_asked_for_is_the_mode_had(c_program: Program) -> None:
    """Also where another was installed before, and is still, or is not any more."""
    with Process.open(c_program.pid) as process:
        for again in (False, True):
            for mode in ("fast", "stub", "fast"):
                for place in ("padding", "page"):
                    process.install(mode, place=place)
                    assert (process.mode, process.place) == (mode, 1 if place == "padding" else 2)
                    with Process.open(c_program.pid) as other:
                        assert (other.mode, other.place) == (process.mode, process.place)
                    process.set(Spec(5.0))
                    assert wrong(c_program, 5 * BILLION) == {}
                    if again:
                        process.restore()
        maps = Path(f"/proc/{c_program.pid}/maps").read_text()
        assert maps.count(" rwxp ") <= 1  # the page is used again


@pytest.mark.parametrize("mode", MODES)
def test_a_landing_pad_is_kept(c_program: Program, mode: str) -> None:
    """In a vDSO whose functions begin with endbr64, as those of some kernels do: made so here."""
    pad = bytes.fromhex("f30f1efa")
    calls = {  # push rbp; mov rbp, rsp; mov eax, number; syscall; pop rbp; ret
        name: pad + bytes.fromhex(f"554889e5b8{number:02x}0000000f055dc3")
        for name, number in zip(ARCH.functions, (228, 96, 201), strict=True)
    }
    with Process.open(c_program.pid) as process:
        for found, code in zip(process.functions, calls.values(), strict=True):
            assert found is not None and found[1] > len(code)
            process.write(process.base + found[0], code + b"\xcc" * (found[1] - len(code)))
        original = text(process)
        process.install(mode)
        process.set(Spec(50.0))
        for found in process.functions:
            assert found is not None and process.read(process.base + found[0], 5) == pad + b"\xe9"
        assert wrong(c_program, 50 * BILLION) == {}
        process.restore()
        assert text(process) == original and wrong(c_program, 0) == {}


def test_nothing_to_change_where_nothing_is(python_program: Program) -> None:
    with Process.open(python_program.pid) as process:
        for ask in (process.state, process.call, lambda: process.set(Spec(1.0))):
            with pytest.raises(Refused, match="nothing is installed"):
                ask()
        process.restore()
        with pytest.raises(ValueError, match="mode is one of"):
            process.install("slow")


def test_who_has_ended_is_no_process(python_program: Program) -> None:
    process = Process.open(python_program.pid)
    process.install()
    python_program.say("exit 7")
    assert python_program.started.wait() == 7
    with pytest.raises(Refused, match="has ended"):
        process.set(Spec(1.0))
    with pytest.raises(Refused, match="has ended"):
        process.installed()
    process.close()
    with pytest.raises(ProcessLookupError):
        Process.open(python_program.pid)


def test_origins_are_of_these_clocks() -> None:
    assert ORIGINS == (time.CLOCK_REALTIME, time.CLOCK_TAI, time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC_RAW, 7)

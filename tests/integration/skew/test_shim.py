"""The preload library: programs that have it tell skewed time, which is proved by what they leave behind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.clock.programs import Probe, wall_offset
from harness.skew import shim
from harness.skew.patcher import Spec
from harness.skew.shim import Control, dynamic, environment, mapped
from tests.integration.skew.programs import command, needed

MILLISECOND = 1_000_000


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    place, made = tmp_path_factory.mktemp("probes"), dict[str, list[str]]()

    def get(name: str) -> list[str]:
        if name not in made:
            made[name] = command(name, place)
        return made[name]

    return get


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    with Control(tmp_path / "control") as made:
        yield made


def offsets(probe: Probe, count: int = 50) -> list[tuple[int, int]]:
    """The least and the most that each sample can be off, ns."""
    wall = 0 if probe.samples(1)[0][0] > 10**18 else wall_offset()
    slack = MILLISECOND if wall else 0  # for a clock that is slewed meanwhile
    return [(told - after - wall - slack, told - before - wall + slack)
            for before, told, after in probe.samples(count)]  # fmt: skip


def says(probe: Probe, seconds: float, count: int = 50) -> bool:
    return all(low <= round(seconds * 1e9) <= high for low, high in offsets(probe, count))


@pytest.mark.parametrize("name", ["C", "musl", "Python"])
def test_a_program_tells_what_is_set(name: str, built: Callable[[str], list[str]], control: Control) -> None:
    argv = built(name)
    assert dynamic(argv[0]) is None
    with Probe(argv, environment(control.path)) as probe:
        assert mapped(probe.pid)
        for seconds in (0.0, 0.5, -0.3, 3600.0, -3e9, 0.0):  # -3e9: before 1970
            state = control.set(Spec(seconds))
            assert state.spec.offset == seconds
            assert says(probe, seconds)
            use = control.use(probe.pid)
            assert use is not None and use.generation == state.generation and use.hits > 0
            assert [one.pid for one in control.users()] == [probe.pid]
    assert control.users() == []


@pytest.mark.parametrize("name", ["C", "musl"])
def test_every_function_is_skewed_and_the_monotonic_clock_is_not(
    name: str, built: Callable[[str], list[str]], control: Control
) -> None:
    control.set(Spec(offset=7200.0))
    with Probe(built(name), environment(control.path)) as probe:
        told = {what: int(off) for what, off in map(str.split, probe.ask("all"))}
    assert told.keys() == {"gettimeofday", "time", "timespec_get", "coarse", "monotonic"}
    coarse = {
        "gettimeofday": MILLISECOND,
        "time": 1010 * MILLISECOND,
        "timespec_get": 0,
        "coarse": 10 * MILLISECOND,
    }
    for what, least in coarse.items():
        off = told[what] - 7200 * 10**9
        assert -least - 100 * MILLISECOND < off <= 0, f"{what} is {off} ns from what was asked"
    assert -100 * MILLISECOND < told["monotonic"] <= 0


def test_another_clock_than_the_wall_clock(built: Callable[[str], list[str]], control: Control) -> None:
    control.set(Spec(offset=100.0, clocks=("monotonic",)))
    with Probe(built("C"), environment(control.path)) as probe:
        told = {what: int(off) for what, off in map(str.split, probe.ask("all"))}
        assert says(probe, 0)
    assert abs(told["monotonic"] - 100 * 10**9) < 100 * MILLISECOND


def test_drift_and_strobe_follow_their_formula(built: Callable[[str], list[str]], control: Control) -> None:
    with Probe(built("C"), environment(control.path)) as probe:
        origin = (first, _) = time.time_ns(), time.monotonic_ns()
        state = control.set(Spec(offset=-0.1, rate=-0.02, origin=origin))
        assert state.spec.origin is not None and state.spec.origin[0] == first
        samples = probe.samples(1000, 0.0002)
        for before, told, after in samples:
            low, high = (at - 10**8 - (at - first) * 0.02 for at in (before, after))
            assert low - 1000 <= told <= high + 1000  # floats of this size have 256 ns
        half = 10 * MILLISECOND
        control.set(Spec(half=0.01, amplitude=0.2, origin=origin))
        seen = set()
        for before, told, after in probe.samples(2000, 0.0001):
            ways = {(at - first) // half % 2 for at in (before - 1000, after + 1000)}
            way = told - before > 100 * MILLISECOND
            assert way in ways
            assert before + way * 200 * MILLISECOND <= told <= after + way * 200 * MILLISECOND
            seen.add(way)
        assert seen == {False, True}


def test_no_reader_sees_half_of_a_change(built: Callable[[str], list[str]], control: Control) -> None:
    """What is set is one of two skews, thousands of times a second; what is told is one of the two."""
    start = time.time_ns() - 10**14
    origin = (start, time.monotonic_ns() - 10**14)
    far, near = Spec(offset=1e6, rate=0.5, origin=origin), Spec(offset=-1e6, origin=origin)
    over, changes = threading.Event(), 0
    control.set(far)

    def change() -> None:
        nonlocal changes
        while not over.is_set():
            control.set(near)
            control.set(far)
            changes += 2

    with Probe(built("C"), environment(control.path)) as probe:
        writer = threading.Thread(target=change)
        writer.start()
        try:
            samples = probe.samples(30_000)
        finally:
            over.set()
            writer.join()
    kinds = [0, 0]
    for before, told, after in samples:
        below = before - 10**15 <= told <= after - 10**15
        elapsed = [at - start for at in (before, after)]
        above = before + 10**15 + elapsed[0] // 2 - 1000 <= told <= after + 10**15 + elapsed[1] // 2 + 1000
        assert below != above, (before, told, after)
        kinds[above] += 1
    assert all(kinds) and changes > 100, (kinds, changes)


FORKS = """
import os, sys, time
time.time()
child = os.fork()
now = time.time()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
os.waitpid(child, 0)
"""


def test_a_fork_has_hits_of_its_own_and_an_exec_keeps_the_skew(control: Control) -> None:
    control.set(Spec(offset=-86400.0))
    environ = {**os.environ, **environment(control.path)}
    python = os.path.realpath(sys.executable)
    with subprocess.Popen(
        [python, "-c", FORKS], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        child = int(parent.stdout.readline())
        pids = {use.pid for use in control.users()}
        assert {parent.pid, child} <= pids
        deadline = time.monotonic() + 10
        while not (use := control.use(child)) or not use.hits:  # it may not have asked yet
            assert time.monotonic() < deadline
            time.sleep(0.001)
        parent.stdin.close()
    before = control.state().attached
    told = subprocess.run(
        ["sh", "-c", "date +%s; date +%s"], env=environ, capture_output=True, text=True, check=True
    )
    assert all(abs(time.time() - 86400 - int(line)) < 5 for line in told.stdout.split())
    assert len(told.stdout.split()) == 2 and control.state().attached >= before + 3


def test_more_processes_than_lines_take_those_of_the_dead(control: Control) -> None:
    script = f"for i in $(seq {shim.LINES + 20}); do date +%N; done"
    environ = {**os.environ, **environment(control.path)}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == shim.LINES + 20
    control.set(Spec(offset=-5.0))
    python = os.path.realpath(sys.executable)
    code = "import time; time.time(); print(time.time_ns(), flush=True); input()"
    with subprocess.Popen(
        [python, "-c", code], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        one.stdout.readline()
        use = control.use(one.pid)
        assert use is not None and use.hits > 0


def connected(place: Path, server: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(place))
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)


def test_a_process_of_another_pid_namespace(built: Callable[[str], list[str]], control: Control) -> None:
    """As in a container: what it has for its pid is not what this machine has."""
    inside = [needed("unshare"), "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this user may make no pid namespace")
    control.set(Spec(offset=3.0))
    with Probe([*inside, *built("C")], environment(control.path)) as probe:
        assert says(probe, 3.0)
        (use,) = [
            one for one in control.users() if one.pid != probe.pid
        ]  # that of unshare itself is the other
        assert use.hits > 0 and use.generation == control.state().generation


def test_redis_server(control: Control, tmp_path: Path) -> None:
    """It has jemalloc, which asks for the time while it is initialised."""
    server, place = needed("redis-server"), tmp_path / "redis.sock"
    argv = [server, "--port", "0", "--unixsocket", str(place), "--save", "", "--dir", str(tmp_path)]
    assert dynamic(server) is None
    with subprocess.Popen(
        argv, env={**os.environ, **environment(control.path)}, stdout=subprocess.DEVNULL
    ) as redis:
        try:
            with connected(place, redis) as client:
                for seconds in (0, 500, -300):
                    control.set(Spec(offset=seconds))
                    before = time.time()
                    client.sendall(b"TIME\r\n")
                    words = client.recv(200).split(b"\r\n")
                    after = time.time()
                    told = int(words[2]) + int(words[4]) / 1e6 - seconds
                    # what it tells is the time at which its event loop woke, in whole microseconds
                    assert before - 0.2 <= told <= after
            use = control.use(redis.pid)
            assert use is not None and use.generation == control.state().generation
        finally:
            redis.terminate()


def test_without_a_control_file_the_time_is_true(built: Callable[[str], list[str]], tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(shim.MAGIC)
    for environ in (environment(tmp_path / "none"), environment(short), {"LD_PRELOAD": str(shim.LIBRARY)}):
        with Probe(built("C"), environ) as probe:
            assert says(probe, 0) and mapped(probe.pid)
    with pytest.raises(ValueError, match="is no control file of a skew"):
        Control(short)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory that every user can reach: those of pytest are closed again by each session that starts."""
    with TemporaryDirectory(prefix="nemesis-tests-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_a_control_file_that_cannot_be_written_skews_without_proof(
    built: Callable[[str], list[str]], elsewhere: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may start a program as another user")
    as_nobody = [needed("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    library = shutil.copy(shim.LIBRARY, elsewhere)
    binary = shutil.copy(built("C")[0], elsewhere / "probe")
    with Control(elsewhere / "control") as control:
        control.path.chmod(0o644)
        control.set(Spec(offset=9.0))
        with Probe([*as_nobody, str(binary)], environment(control.path, library)) as probe:
            assert says(probe, 9.0)
            use = control.use(probe.pid)
            assert use is not None and use.hits == 0


@pytest.mark.parametrize("name", ["C static", "musl static", "Go static"])
def test_a_static_program_is_refused_and_rightly(
    name: str, built: Callable[[str], list[str]], control: Control
) -> None:
    (program,) = built(name)
    reason = dynamic(program)
    assert reason is not None and program in reason
    assert "statically" in reason
    control.set(Spec(offset=50.0))
    with Probe([program], environment(control.path)) as probe:
        assert says(probe, 0) and not mapped(probe.pid) and control.use(probe.pid) is None


def test_other_programs_that_are_refused(built: Callable[[str], list[str]], tmp_path: Path) -> None:
    program = Path(shutil.copy(built("C")[0], tmp_path / "program"))
    program.chmod(0o4755)
    assert (reason := dynamic(program)) and "is setuid" in reason
    program.chmod(0o2755)
    assert (reason := dynamic(program)) and "is setgid" in reason
    program.chmod(0o755)
    assert dynamic(program) is None
    if os.geteuid() == 0:
        os.setxattr(program, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
        assert (reason := dynamic(program)) and "has file capabilities" in reason
    arm = bytearray(Path(built("C")[0]).read_bytes()[:4096])
    arm[18] = 183
    other = tmp_path / "other"
    other.write_bytes(arm)
    assert (reason := dynamic(other)) and "no 64-bit ELF program of x86-64" in reason


def test_a_script_is_as_its_interpreter(built: Callable[[str], list[str]], tmp_path: Path) -> None:
    script = tmp_path / "script"
    for first in ("#!/bin/sh", "#! /bin/sh -e", "#!/usr/bin/env sh", "#!/usr/bin/env -S A=1 sh -e"):
        script.write_text(f"{first}\necho\n")
        assert dynamic(script) is None, first
    script.write_text(f"#!{built('C static')[0]}\n")
    assert (reason := dynamic(script)) and "is a script" in reason and "statically" in reason
    script.write_text("#!/usr/bin/env no-such-program\n")
    assert (reason := dynamic(script)) and "cannot be found" in reason


def exported(library: Path) -> set[str]:
    out = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )
    return {line.split()[-1] for line in out.stdout.splitlines()}


def test_the_library_is_what_its_source_says(
    built: Callable[[str], list[str]], control: Control, tmp_path: Path
) -> None:
    """Byte for byte where the compiler is the one that made it, else in what it exports and does."""
    needed("gcc")
    again = tmp_path / shim.LIBRARY.name
    shim.build(again)
    versions = [subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
                for tool in ("gcc", "ld")]  # fmt: skip
    if ", ".join(text.splitlines()[0] for text in versions) == shim.BUILT_BY:
        assert again.read_bytes() == shim.LIBRARY.read_bytes(), (
            "run `python -m harness.skew.shim`, commit both"
        )
    assert exported(again) == exported(shim.LIBRARY)
    control.set(Spec(offset=0.25, rate=0.0))
    with Probe(built("C"), environment(control.path, again)) as probe:
        assert says(probe, 0.25)
    needs = subprocess.run(["readelf", "-d", str(again)], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" not in needs  # no libc: it serves two

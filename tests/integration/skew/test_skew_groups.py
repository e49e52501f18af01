"""Groups of processes: who they are, what they fork and run, and the program that keeps them skewed."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness.skew import patcher
from harness.skew.patcher import SEIZE, Patcher, Process, Refused, Spec, apart, ptrace
from tests.integration.skew.support import BILLION, HERE, Program, awaited, missing, python, state, tracer

FILE = patcher.__file__


class Remote:
    """The patcher as a program."""

    def __init__(self, prefix: tuple[str, ...] = ()) -> None:
        with contextlib.suppress(OSError):
            scope = int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
            if scope and os.geteuid():
                pytest.skip(f"Yama's ptrace_scope is {scope}: a program may trace its own descendants only")
        command = [*prefix, *python(FILE)]
        self.started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.events: list[dict[str, Any]] = []
        self.last = 0

    def line(self) -> dict[str, Any]:
        assert self.started.stdout is not None
        message: dict[str, Any] = json.loads(self.started.stdout.readline())
        if "event" in message:
            self.events.append(message["event"])
        return message

    def do(self, verb: str, **arguments: Any) -> dict[str, Any]:
        assert self.started.stdin is not None
        self.last += 1
        self.started.stdin.write(json.dumps({"id": self.last, "do": verb, "with": arguments}) + "\n")
        while (message := self.line()).get("re") != self.last:
            pass
        return message

    def event(self, what: str, pid: int) -> dict[str, Any]:
        """The next event of a kind of a process, awaited."""
        while True:
            for event in self.events:
                if (event["what"], event["pid"]) == (what, pid):
                    self.events.remove(event)
                    return event
            self.line()

    def end(self) -> None:
        for stream in (self.started.stdin, self.started.stdout):
            assert stream is not None
            if not stream.closed:
                stream.close()
        self.started.wait()


@pytest.fixture
def remote() -> Iterator[Remote]:
    one = Remote()
    yield one
    one.end()


@pytest.fixture(params=["here", "program"])
def do(request: pytest.FixtureRequest) -> Iterator[Callable[..., dict[str, Any]]]:
    """The verbs, of a Patcher in this process or of the program."""
    if request.param == "here":
        here = Patcher()
        yield lambda verb, **arguments: here.do(verb, arguments)
        return
    yield request.getfixturevalue("remote").do


def off(program: Program, seconds: float) -> bool:
    return program.read()["REALTIME"].off(round(seconds * BILLION))


def test_forks_follow_each_change(program: Program, do: Callable[..., dict[str, Any]]) -> None:
    """A child has a copy of what its parent's stub adds, and is changed with it."""
    armed = do("arm", name="n1", who={"tree": program.pid})["processes"]
    assert [(entry["pid"], entry["mechanism"], entry["error"]) for entry in armed] == [
        (program.pid, "vdso", None)
    ]
    do("set", name="n1", spec={"offset": 5.0})
    child = int(program.ask("fork")[0])
    assert off(program, 5.0)
    assert do("set", name="n1", spec={"offset": -60.0})["processes"] == 2
    assert off(program, -60.0)
    grandchild = int(program.ask("fork")[0])
    with Process.open(program.pid) as first, Process.open(grandchild) as third:
        assert first.slot() == third.slot()
        do("set", name="n1", spec={"offset": 1.0, "rate": 0.5})
        assert off(program, 1.0) or program.read()["REALTIME"].off(BILLION, 2 * BILLION)
        assert first.slot() == third.slot()  # one origin
        seen = {entry["pid"]: entry for entry in do("verify", name="n1")["processes"]}
        assert seen.keys() == {program.pid, child, grandchild}
        assert all(entry["error"] is None for entry in seen.values())
        done = do("restore", name="n1", call=True)["processes"]
        assert all(entry["error"] is None and not entry["installed"] for entry in done)
        assert not first.installed() and not third.installed()
    assert off(program, 0.0)


def test_a_new_program_is_found_and_told(python_program: Program, remote: Remote) -> None:
    """By an exec the skew is lost; it is back soon, and the gap is told."""
    remote.do("arm", name="n1", who={"tree": python_program.pid})
    remote.do("set", name="n1", spec={"offset": 100.0})
    python_program.say(f"exec {shutil.which('cat')}")
    event = remote.event("exec", python_program.pid)
    assert event["exe"].endswith("cat") and event["name"] == "n1" and 0 < event["gap"] < 10
    (seen,) = remote.do("verify", name="n1")["processes"]
    assert seen["error"] is None and abs(seen["offset_called"] - 100.0) <= seen["uncertainty"] + 1e-6
    python_program.started.kill()
    python_program.started.wait()
    assert remote.event("gone", python_program.pid)
    assert remote.do("verify", name="n1")["processes"] == []


def test_who_belongs_to_a_tree(started: Callable[[list[str]], Program], remote: Remote) -> None:
    """Children, and who left them for a session of its own but carries the label."""
    label = ["NEMESIS_NODE", f"skew-{os.getpid()}"]
    code = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("ready", flush=True)
        print(os.getpid(), flush=True)
        os.execv("/bin/sleep", ["sleep", "1000"])
    os._exit(0)
os.wait()
time.sleep(1000)
"""
    os.environ[label[0]] = label[1]
    try:
        root = started([sys.executable, "-c", code])
    finally:
        del os.environ[label[0]]
    stray = int(root.line())
    try:
        awaited(lambda: os.readlink(f"/proc/{stray}/exe").endswith("sleep"), "it runs sleep")
        assert not any(
            e["pid"] == stray for e in remote.do("arm", name="a", who={"tree": root.pid})["processes"]
        )
        remote.do("restore", name="a")
        armed = remote.do("arm", name="b", who={"tree": root.pid, "label": [label]})["processes"]
        assert {entry["pid"] for entry in armed} == {root.pid, stray}
        remote.do("set", name="b", spec={"offset": 2.0})
        assert all(entry["error"] is None for entry in remote.do("verify", name="b")["processes"])
    finally:
        os.kill(stray, signal.SIGKILL)


def test_what_a_killed_patcher_left_is_found_and_restored(program: Program) -> None:
    first = Remote()
    first.do("arm", name="n1", who={"tree": program.pid})
    first.do("set", name="n1", spec={"offset": 30.0})
    child = int(program.ask("fork")[0])
    os.kill(first.started.pid, signal.SIGKILL)
    first.end()
    assert off(program, 30.0)
    second = Patcher()
    done = second.recover({"tree": program.pid})["processes"]
    assert {entry["pid"] for entry in done} == {program.pid, child}
    assert all(entry["error"] is None for entry in done)
    assert off(program, 0.0)
    assert second.recover({"tree": program.pid}) == {"processes": []}


def test_the_program_ends_with_its_input_and_leaves_all_as_it_is(python_program: Program) -> None:
    first = Remote()
    first.do("arm", name="n1", who={"pids": [python_program.pid]}, follow=True)
    first.do("set", name="n1", spec={"offset": 30.0})
    assert tracer(python_program.pid) == first.started.pid
    first.end()
    assert first.started.returncode == 0
    awaited(lambda: tracer(python_program.pid) == 0, "let go")
    assert off(python_program, 30.0)
    Patcher().recover({"pids": [python_program.pid]})
    assert off(python_program, 0.0)


RUNS = """
import os, subprocess, sys, threading, time
def churn():
    while True:
        thread = threading.Thread(target=time.time)
        thread.start()
        thread.join()
threading.Thread(target=churn, daemon=True).start()
ask = [sys.executable, "-I", "-S", "-c", "import time; print(time.time_ns())"]
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        before = time.time_ns()
        if line.startswith("+"):
            pid = os.fork()
            if pid == 0:
                os.execv(ask[0], ask)
            os.waitpid(pid, 0)
        else:
            print(subprocess.run(ask, capture_output=True, text=True).stdout.strip(), flush=True)
    print(flush=True)
"""


@pytest.mark.parametrize("how", ["", "+"], ids=["spawned", "forked"])
def test_followed_programs_never_see_the_true_time(
    started: Callable[[list[str]], Program], remote: Remote, how: str
) -> None:
    """Of a program with threads that come and go: what it runs is skewed before its first instruction."""
    program = started([sys.executable, "-c", RUNS])
    remote.do("arm", name="n1", who={"tree": program.pid}, follow=True)
    remote.do("set", name="n1", spec={"offset": 7200.0})
    before = time.time_ns()
    seen = [int(line) for line in program.ask(f"{how}20")]
    after = time.time_ns()
    assert len(seen) == 20
    assert [one for one in seen if not before <= one - 7200 * BILLION <= after] == []
    assert tracer(program.pid) == remote.started.pid
    (entry,) = remote.do("verify", name="n1")["processes"]
    assert entry["error"] is None and entry["pid"] == program.pid
    told = [event for event in remote.events if event["what"] in ("new", "exec")]
    assert told and not any(event["gap"] for event in told)
    assert [entry["error"] for entry in remote.do("restore", name="n1", call=True)["processes"]] == [None]
    assert tracer(program.pid) == 0
    (late,) = program.ask("1")
    assert abs(int(late) - time.time_ns()) < 60 * BILLION


MAKES = """
import os
print(flush=True)
while True:
    pid = os.posix_spawn("/bin/true", ["true"], {})  # vfork
    assert os.waitpid(pid, 0) == (pid, 0)
    if (pid := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
"""


def test_a_followed_process_that_makes_others_all_the_time(remote: Remote) -> None:
    """It is called although it is hardly ever not making one, and what that call returns stays its own."""
    with subprocess.Popen(python("-c", MAKES), stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout is not None and started.stdout.readline()
            for _ in range(20):
                remote.do("arm", name="n1", who={"tree": started.pid}, follow=True)
                remote.do("set", name="n1", spec={"offset": 7200.0})
                for _ in range(5):
                    found = remote.do("verify", name="n1")["processes"]
                    (error,) = [entry["error"] for entry in found if entry["pid"] == started.pid]
                    assert error is None
                remote.do("drop", name="n1")
            awaited(lambda: tracer(started.pid) == 0, "it is let go of")
            assert started.poll() is None
        finally:
            started.kill()


def test_a_followed_process_gets_its_signals_and_stops(python_program: Program, remote: Remote) -> None:
    remote.do("arm", name="n1", who={"pids": [python_program.pid]}, follow=True)
    remote.do("set", name="n1", spec={"offset": 7.0})

    def states() -> str:
        return Path(f"/proc/{python_program.pid}/stat").read_text().rpartition(")")[2].split()[0]

    os.kill(python_program.pid, signal.SIGSTOP)
    _, status = os.waitpid(python_program.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP
    (entry,) = remote.do("verify", name="n1")["processes"]
    assert entry["error"] is None and abs(entry["offset_called"] - 7.0) < 0.1
    python_program.say("read")
    awaited(lambda: states() in "tT", "stopped again")
    os.kill(python_program.pid, signal.SIGCONT)
    rows = {row.split()[0]: [int(word) for word in row.split()[1:]] for row in iter(python_program.line, "")}
    before, got, after = rows["REALTIME"]
    assert before <= got - 7 * BILLION <= after
    os.kill(python_program.pid, signal.SIGTERM)
    assert python_program.started.wait() == -signal.SIGTERM
    assert remote.event("gone", python_program.pid)


def test_a_parent_in_wait_gets_the_true_status(remote: Remote) -> None:
    """While the program stops its child again and again, and follows it."""
    for follow in (False, True):
        command = python("-c", "import time; print(flush=True); time.sleep(0.3); raise SystemExit(7)")
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline()
            who = {"pids": [child.pid]}
            while child.poll() is None:
                if "error" not in remote.do("arm", name="n1", who=who, follow=follow):
                    remote.do("verify", name="n1")
                    remote.do("drop", name="n1")
            assert child.returncode == 7


def test_a_parent_is_told_of_a_child_that_died_when_it_was_to_be_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shell = ["sh", "-c", "sleep 60 & echo $!; wait $!; echo ended"]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            awaited(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", "it runs its program")

            def dies(process: Process, within: float) -> NoReturn:
                process.attach(within)
                os.kill(child, signal.SIGKILL)
                awaited(lambda: state(child) == "Z", "it dies")
                raise ProcessLookupError

            monkeypatch.setattr(Process, "install", dies)
            here = Patcher()
            with pytest.raises(Refused, match="no process is meant"):
                here.arm("n1", {"pids": [child]}, follow=True)
            here.poll()
            awaited(lambda: state(parent.pid) == "Z", "its parent has heard, and ends")
            assert parent.stdout.readline() == "ended\n"
        finally:
            parent.kill()


def test_a_parent_that_follows_its_own_child_reaps_it() -> None:
    """As the nodes' supervisor does: one thread, its own waitpid, which gets stops too."""
    code = "import subprocess; print(flush=True); input(); subprocess.run(['true']); raise SystemExit(7)"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(python("-c", code), **pipes) as child:
        assert child.stdout is not None and child.stdin is not None and child.stdout.readline()
        here = Patcher()
        here.arm("n1", {"pids": [child.pid]}, follow=True)
        here.set("n1", Spec(5.0))
        child.stdin.write(b"\n")
        child.stdin.flush()
        ended: dict[int, int] = {}
        while child.pid not in ended:
            pid, status = os.waitpid(-1, 0)
            if os.WIFSTOPPED(status):
                assert here.traced(pid, status)
            else:
                ended[pid] = os.waitstatus_to_exitcode(status)
        child.returncode = ended[child.pid]
        assert child.returncode == 7
        events = here.beat()
    assert [event["exe"].rpartition("/")[2] for event in events if event["what"] == "new"] == ["true"]
    assert "gone" in {event["what"] for event in events}


# ---------------------------------------------------------------------- refusals


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def refusal(pid: int) -> str:
    """What a user who is not root is told."""
    if os.geteuid():
        with pytest.raises(Refused) as told:
            Process.open(pid).install()
        return str(told.value)
    if shutil.which("setpriv") is None:
        missing("setpriv, to be another user")
    one = Remote(NOBODY)
    (entry,) = one.do("arm", name="n1", who={"pids": [pid]})["processes"]
    one.end()
    return str(entry["error"])


def test_another_users_process(python_program: Program) -> None:
    """Root's: init's where this is not root."""
    told = refusal(1 if os.geteuid() else python_program.pid)
    assert told.startswith("vdso: process ") and "Yama" in told
    assert re.search(r"it is user 0's and this is user \d+ without CAP_SYS_PTRACE", told)


def test_a_process_that_is_not_dumpable(started: Callable[[list[str]], Program]) -> None:
    code = "import ctypes; ctypes.CDLL(None).prctl(4, 0); print('ready', flush=True); input()"
    hidden = started([*(() if os.geteuid() else NOBODY), *python("-c", code)])
    assert "it made itself not dumpable" in refusal(hidden.pid)


def test_a_process_that_is_traced_already(python_program: Program) -> None:
    """The other tracer is named; a stub that is there can be changed all the same."""
    with Process.open(python_program.pid) as process:
        process.install()
        process.restore()

        def both() -> None:
            ptrace(SEIZE, python_program.pid)
            with pytest.raises(Refused, match=f"process {os.getpid()} .*traces it already"):
                process.install()

        apart(both)
        process.install()

        def change() -> None:
            ptrace(SEIZE, python_program.pid)
            process.set(Spec(3.0))
            assert off(python_program, 3.0)
            with pytest.raises(Refused, match="traces it already"):
                process.call()

        apart(change)


def test_a_32_bit_process(built: Path) -> None:
    """Needs no 32-bit library: three instructions that wait for ever."""
    if shutil.which("cc") is None:
        missing("a C compiler (cc)")
    source = built / "pause.S"
    source.write_text(".globl _start\n_start: mov $29, %eax\nint $0x80\njmp _start\n")
    made = subprocess.run(
        ["cc", "-m32", "-nostdlib", "-static", "-o", str(built / "pause32"), str(source)], capture_output=True
    )
    if made.returncode:
        pytest.skip("cc cannot make a 32-bit program")
    try:
        started = subprocess.Popen([str(built / "pause32")])
    except OSError:
        pytest.skip("the kernel runs no 32-bit programs")
    try:
        awaited(lambda: os.readlink(f"/proc/{started.pid}/exe").endswith("pause32"), "it runs")
        with pytest.raises(Refused, match="32-bit"):
            Process.open(started.pid)
    finally:
        started.kill()
        started.wait()


def test_what_cannot_be_meant() -> None:
    here = Patcher()
    with pytest.raises(ValueError, match="tree, pidns, pids"):
        here.arm("n1", {"user": 0})
    with pytest.raises(KeyError, match="n1 is not armed"):
        here.set("n1", Spec())
    with pytest.raises(ValueError, match="nothing is none of arm, set"):
        here.do("nothing", {})
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(Refused, match="no process is meant"):
        here.arm("n1", {"pids": [gone.pid]})


def test_a_pid_namespace(built: Path) -> None:
    """All of it, without the patcher and what it started."""
    if os.geteuid():
        pytest.skip("only root may make a pid namespace everywhere")
    code = f"""
import subprocess, sys
sys.path.insert(0, {str(Path(FILE).parent)!r})
from patcher import Patcher, Spec
others = [subprocess.Popen(["sleep", "100"], start_new_session=True) for _ in range(2)]
import os
if os.fork() == 0:  # the patcher, and a child of its own
    mine = subprocess.Popen(["sleep", "100"])
    here = Patcher()
    armed = here.arm("n1", {{"pidns": 1}})["processes"]
    assert {{e["pid"] for e in armed}} == {{1, *(o.pid for o in others)}}, armed
    here.set("n1", Spec(4.0))
    assert all(e["error"] is None for e in here.verify("n1")["processes"])
    assert all(not e["installed"] for e in here.restore("n1")["processes"])
    mine.kill()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    command = ["unshare", "--pid", "--fork", "--mount-proc", *python("-c", code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------- the audit


def audited(python_code: str) -> dict[str, Any]:
    with subprocess.Popen(
        python("-c", f"print(flush=True)\n{python_code}"), stdout=subprocess.PIPE
    ) as started:
        try:
            assert started.stdout is not None and started.stdout.readline()
            here = Patcher()
            here.arm("n1", {"pids": [started.pid]})
            here.set("n1", Spec(1.0))
            (found,) = here.audit("n1", seconds=0.5)["processes"]
            (entry,) = here.verify("n1")["processes"]
            assert entry["error"] is None and started.poll() is None and tracer(started.pid) == 0
            return dict(found)
        finally:
            started.kill()


LOOP = """
import ctypes, struct, time
libc, block = ctypes.CDLL(None), ctypes.create_string_buffer(16)
while True:
    %s
    time.sleep(0.005)
"""


@pytest.mark.parametrize(
    "what, verdict, escapes, waits",
    [
        ("time.time(); time.clock_gettime(5)", "clean", set(), set()),
        ("libc.syscall(228, 0, block)", "escapes", {"clock_gettime"}, set()),
        ("libc.syscall(228, 1, block)", "clean", set(), set()),
        (
            "libc.syscall(96, block, None); libc.syscall(201, None)",
            "escapes",
            {"gettimeofday", "time"},
            set(),
        ),
        (
            "struct.pack_into('<qq', block, 0, 1, 0); libc.clock_nanosleep(0, 1, block, None)",
            "clean",
            set(),
            {"clock_nanosleep until a wall-clock time"},
        ),
    ],
)
def test_the_audit_finds_what_escapes(what: str, verdict: str, escapes: set[str], waits: set[str]) -> None:
    found = audited(LOOP % what)
    assert (found["verdict"], set(found["escapes"]), set(found["waits"])) == (verdict, escapes, waits), found


def test_an_audit_that_saw_nothing_says_so() -> None:
    found = audited("import time\nwhile True: time.time()")
    assert found["verdict"] == "inconclusive"
    assert audited("import time; time.sleep(1000)")["verdict"] == "inconclusive"


def test_constants_are_the_kernels() -> None:
    assert ctypes.sizeof(patcher.Vector) == 16
    assert Path(FILE).with_name("stub.S").exists() and HERE.exists()

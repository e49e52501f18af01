"""What this kernel lets this user do, found out by doing it in namespaces that end with the trial."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where iptables, ip and tc are, for users too
WITHIN = 10.0  # seconds for one trial; it takes some 20 ms
PTRACE_SEIZE = 0x4206


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried and what came of it: `trouble` is empty where it works, `mend` what would help."""

    name: str
    trouble: str = ""
    mend: str = ""

    @property
    def works(self) -> bool:
        return not self.trouble


_RULE = "if its module is not installed: `sudo apt-get install linux-modules-extra-$(uname -r)` (Ubuntu)"
_COMMANDS = (
    ("iptables DROP in raw (cuts)", "iptables -t raw -A PREROUTING -s 198.18.0.1 -j DROP"),
    ("iptables statistic (loss)", "iptables -A FORWARD -m statistic --mode random --probability 0.5 -j DROP"),
    ("iptables NFQUEUE (packet engine)", "iptables -t mangle -A FORWARD -j NFQUEUE --queue-num 1"),
    ("tc htb (bandwidth)", "tc qdisc add dev lo root handle 1: htb default 1"),
    ("tc tbf (bandwidth)", "tc qdisc add dev lo root tbf rate 1mbit burst 16kb latency 50ms"),
    ("tc netem (delay, jitter)", "tc qdisc add dev lo root netem delay 50ms"),
)


def namespace() -> tuple[str, ...]:
    """The command with which this user gets a network namespace of its own."""
    return ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-Urn")


def network() -> list[Trial]:
    """Each rule and queueing discipline that the fabrics use, tried in a namespace of its own."""
    if (space := _tried("network namespace", [*namespace(), "true"])).trouble:
        return [Trial(f"{space.name} ({' '.join(namespace())})", space.trouble, _refused())]
    trials = []
    for name, command in _COMMANDS:
        words = command.split()
        if shutil.which(words[0], path=PATH) is None:
            package = {"iptables": "iptables", "tc": "iproute2"}[words[0]]
            trials.append(Trial(name, f"no {words[0]} on PATH", f"`sudo apt-get install {package}`"))
            continue
        trial = _tried(name, [*namespace(), *words])
        mend = f"the packet engine takes its place; {_RULE}" if "netem" in command else _RULE
        trials.append(Trial(name, trial.trouble, mend) if trial.trouble else trial)
    return trials


def routing() -> Trial:
    """Whether this user can have what the runtime netns is made of, all of it in one trial."""
    name = "runtime netns"
    for program, package in (("ip", "iproute2"), ("iptables-restore", "iptables")):
        if shutil.which(program, path=PATH) is None:
            return Trial(name, f"no {program} on PATH", f"`sudo apt-get install {package}`")
    tried = (
        "ip link add v1 type veth peer name v2 && echo 1 >/proc/sys/net/ipv4/ip_forward && "
        "iptables -t raw -A PREROUTING -s 198.18.0.1 -j DROP && "
        "iptables -t nat -A PREROUTING -p tcp -j DNAT --to-destination 198.18.0.1 && "
        "iptables -t raw -A PREROUTING -m statistic --mode random --probability 0.5 -j DROP"
    )
    if (space := _tried(name, [*namespace(), "true"])).trouble:
        return Trial(name, space.trouble, _refused())
    trial = _tried(name, [*namespace(), "sh", "-c", tried])
    return Trial(name, trial.trouble, _RULE) if trial.trouble else trial


def user_namespaces() -> Trial:
    """Whether this user may make user namespaces, with which a network namespace needs no root."""
    name = "user namespaces" + (" (root does not need them)" if os.geteuid() == 0 else "")
    trial = _tried(name, ["unshare", "-Ur", "true"])
    return Trial(trial.name, trial.trouble, _refused()) if trial.trouble else trial


def tracing() -> Trial:
    """Whether a process may be traced that this one has not started to trace itself, as clock faults do.

    What is traced is a child, as nodes are descendants of the test process.
    """
    name, scope = "ptrace (clock faults)", _sysctl("kernel/yama/ptrace_scope")
    if sys.platform != "linux":
        return Trial(name, f"only Linux has it, and this is {sys.platform}")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    waiting = [sys.executable, "-ISc", "import sys; sys.stdin.read()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as child:
        try:
            failed = libc.ptrace(PTRACE_SEIZE, child.pid, None, None) == -1
            trouble = os.strerror(ctypes.get_errno()) if failed else ""
        finally:
            child.send_signal(signal.SIGKILL)
    shown = f"kernel.yama.ptrace_scope is {scope}" if scope else "no Yama"
    if not trouble:
        return Trial(f"ptrace (clock faults; {shown})")
    mend = {
        "2": "`sudo sysctl kernel.yama.ptrace_scope=1`, or run as root",
        "3": "set kernel.yama.ptrace_scope below 3 in /etc/sysctl.d and boot again",
    }.get(scope, "in a container: `--cap-add SYS_PTRACE`")
    return Trial(name, f"{trouble} ({shown})", mend)


def _refused() -> str:
    """What stands in the way of namespaces, by what the kernel's switches say."""
    if shutil.which("unshare", path=PATH) is None:
        return "`sudo apt-get install util-linux`"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), or run as root"
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "`sudo sysctl kernel.unprivileged_userns_clone=1`, or run as root"
    if _sysctl("user/max_user_namespaces") == "0":
        return "`sudo sysctl user.max_user_namespaces=15000`, or run as root"
    return "run as root; in a container: `--cap-add SYS_ADMIN` and a seccomp profile that lets unshare pass"


def _sysctl(name: str) -> str:
    """The value of a switch of the kernel, or "" where it has none of this name."""
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return ""


def _tried(name: str, command: Sequence[str]) -> Trial:
    with tempfile.TemporaryDirectory(prefix="nemesis-") as scratch:
        # iptables-legacy locks a file that only root can open
        environment = {**os.environ, "PATH": PATH, "LC_ALL": "C", "XTABLES_LOCKFILE": f"{scratch}/lock"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN)
        except FileNotFoundError:
            return Trial(name, f"no {command[0]} on PATH")
        except subprocess.TimeoutExpired:
            return Trial(name, f"`{' '.join(command)}` did not end within {WITHIN:.0f} s")
    if not done.returncode:
        return Trial(name)
    said = (done.stderr + done.stdout).strip().splitlines()
    return Trial(name, said[0].rstrip(".") if said else f"`{' '.join(command)}` ended with {done.returncode}")


__all__ = ["Trial", "namespace", "network", "routing", "tracing", "user_namespaces"]

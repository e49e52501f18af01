"""Three nodes behind a router, each in a network namespace of its own, for packet faults.

The namespaces are those of processes, and so are gone with them. Without root all of it is made in a user
namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from harness.fabric import packet_engine
from harness.fabric.binomial import interval
from harness.fabric.packet_faults import PacketFaults

A, B, C = ADDRESSES = ("10.77.0.1", "10.77.0.2", "10.77.0.3")
_NODE = Path(__file__).with_name("packet_node.py")
_GATEWAY = "169.254.1.1"
_HOLD = "echo ready; exec cat"


class NoNamespaces(Exception):
    """The machine has no network namespaces for us, or none of the tools; the text says why."""


class Space:
    """A network namespace, held by a process, and how to run commands in it."""

    def __init__(self, enter: Sequence[str], unshare: Sequence[str], argv: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [*enter, "unshare", *unshare, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.input: IO[str] = self.process.stdin  # type: ignore[assignment]
        self.output: IO[str] = self.process.stdout  # type: ignore[assignment]
        self.turn = threading.Lock()
        if "ready" not in self.output.readline():
            raise NoNamespaces(f"unshare: {self.process.communicate()[1].strip()}")
        user = [] if os.geteuid() == 0 else ["-U", "-m", "--preserve-credentials"]
        self.enter = ["nsenter", "-t", str(self.process.pid), *user, "-n"]

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        done = subprocess.run([*self.enter, *argv], input=stdin, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def ask(self, do: str, **values: Any) -> Any:
        with self.turn:
            self.input.write(json.dumps({"do": do, **values}) + "\n")
            self.input.flush()
            return json.loads(self.output.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Piped:
    """A channel to a command that is run as a child process.

    An answer must come `within` so many seconds; after one that did not, the channel is of no use.
    """

    def __init__(self, argv: Sequence[str], within: float = 15.0) -> None:
        # In a session of its own: Ctrl-C must not take the engine away before its faults are healed.
        self.process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._within, self._unread = within, b""

    def ask(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        if self.process.stdin.closed:
            raise EOFError("the channel to the packet engine is closed")
        data = line.encode() + b"\n"
        while data:
            data = data[os.write(self.process.stdin.fileno(), data) :]
        end = time.monotonic() + self._within
        while b"\n" not in self._unread:
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the packet engine did not answer within {self._within:g} s")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError("the packet engine has ended")
            self._unread += data
        answer, _, self._unread = self._unread.partition(b"\n")
        return answer.decode()

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(self._within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Rig:
    """The router, the nodes by address, and the engines that were started."""

    def __init__(self, stack: ExitStack) -> None:
        for tool in ("unshare", "nsenter", "ip", "tc", "iptables-restore"):
            if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
                raise NoNamespaces(f"{tool} is not installed (packages util-linux, iproute2, iptables)")
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        rootless = os.geteuid() != 0
        hold = f"mount -t tmpfs tmpfs /run && {_HOLD}" if rootless else _HOLD
        self.router = Space([], ["-Urnm"] if rootless else ["-n"], ["sh", "-c", hold])
        stack.callback(self.router.close)
        self.nodes: dict[str, Space] = {}
        self.interfaces = {address: f"v{i}" for i, address in enumerate(ADDRESSES, 1)}
        self.engines: list[Piped] = []
        try:
            self.router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
            self.router.run(["ip", "link", "set", "lo", "up"])
            for address, interface in self.interfaces.items():
                node = Space(self.router.enter, ["-n"], [sys.executable, "-I", "-S", str(_NODE)])
                stack.callback(node.close)
                self.nodes[address] = node
                self._join(node, address, interface)
        except RuntimeError as error:
            raise NoNamespaces(str(error)) from error

    def _join(self, node: Space, address: str, interface: str) -> None:
        peer = ["type", "veth", "peer", "name", "eth0", "netns", str(node.process.pid)]
        self.router.run(["ip", "link", "add", interface, *peer])
        for command in (
            f"addr add {_GATEWAY}/32 dev {interface}",
            f"link set {interface} up",
            f"route add {address} dev {interface}",
        ):
            self.router.run(["ip", *command.split()])
        for command in (
            "link set lo up",
            f"addr add {address}/32 dev eth0",
            "link set eth0 up",
            f"route add default via {_GATEWAY} dev eth0 onlink",
        ):
            node.run(["ip", *command.split()])

    def engine(self) -> Piped:
        """Start a packet engine in the router."""
        argv = [*self.router.enter, sys.executable, "-I", "-S", packet_engine.__file__]
        self.engines.append(Piped(argv))
        return self.engines[-1]

    def faults(self, seed: int | str = 0, force: str | None = None, reach: bool = True) -> PacketFaults:
        """Packet faults of the router; without `reach` the nodes' ends are out of it."""
        senders = {address: (node.run, "eth0") for address, node in self.nodes.items()}
        return PacketFaults(
            self.router.run,
            self.engine,
            self.interfaces,
            senders=senders if reach else {},
            seed=seed,
            force=force,
        )

    def send(self, src: str, dst: str, count: int, **how: Any) -> None:
        self.nodes[src].ask("send", to=dst, count=count, **how)

    def arrivals(self, src: str, dst: str, count: int, within: float = 10, quiet: float = 0.4) -> Any:
        """Packets from `src` at `dst` (number, sent, arrived): so many, or until none comes for a while."""
        return self.nodes[dst].ask("arrivals", source=src, count=count, within=within, quiet=quiet)

    def sent(self, src: str, dst: str, count: int, **how: Any) -> Any:
        """Send packets; those that have arrived when 0.4 s have passed without one."""
        return self.sent_all(src, dst, count, more=count, **how)

    def sent_all(self, src: str, dst: str, count: int, more: int = 0, **how: Any) -> Any:
        """Send packets; those that have arrived when there are as many, or as above."""
        self.arrivals(src, dst, 0, quiet=0)
        self.send(src, dst, count, **how)
        return self.arrivals(src, dst, count + more)


@contextlib.contextmanager
def rig() -> Iterator[Rig]:
    """A rig while it is used. NoNamespaces where it cannot be had."""
    with ExitStack() as stack:
        yield Rig(stack)


def within_binomial(seen: int, trials: int, probability: float, confidence: float = 0.999) -> bool:
    """Whether both exact tails of the binomial distribution at `seen` are above half of what is left."""
    low, high = binomial_bounds(trials, probability, confidence)
    return low <= seen <= high


def binomial_bounds(trials: int, probability: float, confidence: float = 0.999) -> tuple[int, int]:
    """The counts between which `trials` of this probability fall, exactly, with this confidence at least."""
    return interval(trials, probability, 1 - confidence)

"""What the router's namespace can do to packets: found by trying, never by reading configuration."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Protocol

from harness.fabric import packet_rules
from harness.fabric.packet_spec import PacketSpec

_CHAIN, _DEVICE = "NEMESIS_TRIAL", "nemesis-try"
RUN_ERRORS = (OSError, RuntimeError, subprocess.SubprocessError)


class Run(Protocol):
    """Executes a command in a namespace; its output.

    Raises an OSError, RuntimeError or SubprocessError with what the command said if it failed.
    """

    def __call__(self, argv: list[str], stdin: str = "") -> str: ...


def said(error: BaseException) -> str:
    """What a command said when it failed, in one line."""
    text = getattr(error, "stderr", None) or str(error) or type(error).__name__
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return " ".join(text.split())


class Trials:
    """Why each engine cannot be had, or None; each is tried once.

    `engine` starts the packet engine, and raises if it does not answer.
    """

    def __init__(self, run: Run, engine: Callable[[], None]) -> None:
        self._run, self._engine = run, engine
        self._known: dict[str, str | None] = {}

    def usable(self, name: str) -> str | None:
        if name not in self._known:
            trial = {
                "statistic": self._statistic,
                "netem": self._netem,
                "nfqueue": self._nfqueue,
                "htb": self._htb,
            }[name]
            try:
                trial()
                self._known[name] = None
            except RUN_ERRORS as error:
                self._known[name] = said(error)
        return self._known[name]

    def _statistic(self) -> None:
        self._rule("-m statistic --mode random --probability 0.5 -j DROP")

    def _nfqueue(self) -> None:
        self._rule("-j NFQUEUE --queue-num 65535 --queue-bypass")
        self._engine()

    def _htb(self) -> None:
        self._qdisc([f"qdisc add dev {_DEVICE} root handle 1: htb default 0"])

    def _netem(self) -> None:
        """All verbs at once, and two on one interface: some kernels refuse a second."""
        spec = PacketSpec(delay=0.01, jitter=0.001, loss=0.1, reorder=0.1, corrupt=0.1)
        lines = [packet_rules.root(_DEVICE)]
        for number in (1, 2):
            pair = ("192.0.2.1", f"192.0.2.{1 + number}")
            engines = dict.fromkeys(spec.verbs, "netem")
            lines += packet_rules.added(_DEVICE, packet_rules.Served(number, pair, spec, engines, ""))
        self._qdisc(lines)

    def _rule(self, rule: str) -> None:
        """Add a rule to a chain that nothing refers to."""
        restore = ["iptables-restore", "--noflush", "--wait=5"]
        self._run(restore, packet_rules.restore([f":{_CHAIN} - [0:0]", f"-A {_CHAIN} {rule}"]))
        self._run(restore, packet_rules.restore([f"-F {_CHAIN}", f"-X {_CHAIN}"]))

    def _qdisc(self, lines: list[str]) -> None:
        """Carry lines of ``tc -batch`` out on an interface that nobody uses."""
        try:
            self._run(["ip", "link", "add", _DEVICE, "type", "dummy"])
        except RUN_ERRORS:
            self._run(["ip", "link", "add", _DEVICE, "type", "veth", "peer", "name", f"{_DEVICE}-2"])
        try:
            self._run(["tc", "-batch", "-"], "\n".join(lines) + "\n")
        finally:
            self._run(["ip", "link", "del", _DEVICE])

"""raft_kv as a target: how a node starts, what it says of itself."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.framing import Framing, Framings, LengthPrefixed, Lines
from harness.target import Endpoint, Node, Running, Target, TargetError
from targets.raft_kv.client import RaftKVClient
from targets.raft_kv.node.bugs import BUGS

PROGRAM = Path(__file__).with_name("server.py")


@dataclass(frozen=True)
class RaftKV(Target):
    """A replicated key-value store on Raft, correct unless `bug` names a rule to break (see `BUGS`).

    With `lease_reads` a leader answers reads alone for as long as a majority will elect nobody else. `audit`
    makes nodes print every entry they apply, for `check_raft`. `heartbeat` and the range `election` are
    seconds; with nodes named in `eager`, the others wait twice as long before they stand for election, so
    that those lead where they can. A snapshot is taken every `snapshot_every` entries.

    >>> RaftKV(bug="early_ack").members()[0]
    ('n1', 'node')
    """

    nodes: int | Mapping[str, int] = 5
    bug: str | None = None
    lease_reads: bool = False
    audit: bool = False
    snapshot_every: int = 10_000
    heartbeat: float = 0.06
    election: tuple[float, float] = (0.3, 0.6)
    eager: tuple[str, ...] = ()

    client: ClassVar[type[Any]] = RaftKVClient
    framing: ClassVar[Mapping[str, Framing | Framings]] = {
        # peers first say who they are; what they get back are signs of life, not messages
        "main": Framings(
            peers=LengthPrefixed(4, byteorder="little", greeting=1), clients=Lines(), to_clients=Lines()
        )
    }
    image: ClassVar[str] = "nemesis/raft_kv"
    context: ClassVar[Path | None] = PROGRAM.parent

    def __post_init__(self) -> None:
        if self.bug is not None and self.bug not in BUGS:
            raise TargetError(f"RaftKV: bug {self.bug!r} is none of {', '.join(BUGS)}")
        if self.bug == "lease_by_wall_clock" and not self.lease_reads:
            raise TargetError(f"RaftKV: bug {self.bug!r} is one of leases: it needs lease_reads=True")
        low, high = self.election
        if not 0 < 4 * self.heartbeat <= low < high:
            raise TargetError(
                f"RaftKV: heartbeat {self.heartbeat!r} and election {self.election!r} do not fit: the range "
                "must grow, and start at four heartbeats or more"
            )
        if self.snapshot_every < 1:
            raise TargetError(f"RaftKV: snapshot_every {self.snapshot_every!r} must be one entry or more")
        names = [name for name, _ in self.members()]
        if unknown := [name for name in self.eager if name not in names]:
            raise TargetError(f"RaftKV: eager {unknown!r} are none of the nodes {', '.join(names)}")

    def command(self, node: Node) -> Sequence[str]:
        """The node program, without site-packages so that it starts quickly."""
        low, high = self.election
        patient = (2 * high, 3 * high - low) if self.eager and node.name not in self.eager else (low, high)
        program = ["python3", "-S", "/raft_kv/server.py"]
        if not node.container:
            program = [sys.executable, "-S", str(PROGRAM)]
        return [
            *program, f"--name={node.name}", f"--host={node.host}",
            f"--port={node.port}", f"--data={node.data}", f"--heartbeat={self.heartbeat}",
            "--election", *map(str, patient), f"--loyal={low}", f"--snapshot-every={self.snapshot_every}",
            *(f"--peer={peer.name}={peer.address}" for peer in node.peers),
            *(["--lease-reads"] if self.lease_reads else []), *(["--audit"] if self.audit else []),
            *([f"--bug={self.bug}"] if self.bug else []),
        ]  # fmt: skip

    def ready(self, node: Endpoint) -> bool:
        """Whether the node answers; it may know no leader yet."""
        try:
            return bool(self.status(node))
        except OSError:
            return False

    def setup(self, cluster: Running) -> None:
        """Wait for the first leader. Raises TimeoutError after `ready_within` seconds."""
        deadline = time.monotonic() + self.ready_within
        while not any(self._leads(node) for node in cluster.nodes):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no leader within {self.ready_within} s: can the nodes reach each other?")
            time.sleep(0.02)

    def _leads(self, node: Endpoint) -> bool:
        try:
            return bool(self.status(node)["role"] == "leader")
        except OSError:
            return False

    def status(self, node: Endpoint) -> Mapping[str, Any]:
        """Role, term, leader and indexes of `node`. Raises OSError where it does not answer in 0.5 s."""
        status: Mapping[str, Any] = _ask(node, "status")
        return status

    def clock(self, node: Endpoint) -> float:
        """What the node's wall clock says. Raises OSError as `status`."""
        return float(_ask(node, "time"))

    def event(self, line: str) -> tuple[str, Mapping[str, Any]] | None:
        """A node's own report: ``role``, and with `audit` ``apply`` and ``log`` (a new leader's log)."""
        if not line.startswith('{"event":'):
            return None
        try:
            detail = json.loads(line)
        except ValueError:
            return None  # the last line of a node that was killed
        detail.pop("time", None)  # an event has that of the run
        if (
            "entries" in detail
        ):  # the request's number is the operation's: the report shows who applied it when
            detail["ops"] = [entry[1] for entry in detail["entries"] if entry[1] is not None]
        return str(detail.pop("event")), detail


def _ask(node: Endpoint, f: str) -> Any:
    """A node's answer to a question without arguments."""
    with socket.create_connection((node.host, node.port), timeout=0.5) as connection:
        connection.sendall(json.dumps({"f": f}).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError(f"{node.name} closed the connection without an answer")
    return json.loads(line)["ok"]

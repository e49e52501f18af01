"""Where a node sits: how it is reached and looked at from within its own network."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import Protocol

from harness.cluster.sockets import Row, in_table, rows
from harness.cluster.supervisor import process
from harness.fabric.inside import Inside


class Seat(Protocol):
    """What the proofs of process faults need of a node's place; no fault on a link touches it."""

    stops: str
    """What stops a node's processes here: ``SIGSTOP``, or the engine's freezer. `goes_on` undoes it."""
    goes_on: str

    def connect(self, port: int, within: float) -> socket.socket:
        """A connection to the node's own port. Raises OSError."""
        ...

    def rows(self, port: int) -> Iterator[Row]:
        """The sockets on one of the node's own ports."""
        ...

    def unsettled(self, pids: Iterable[int], stopped: bool) -> str:
        """Which of its processes are not yet stopped (or still are), as words; '' where none."""
        ...


def unsettled(pids: Iterable[int], stopped: bool) -> str:
    """Processes of this machine whose state is not the one that was asked for, as words."""
    wrong = [pid for pid in pids if (entry := process(pid)) and not _is(entry.state, stopped)]
    return f"pids {wrong} are" if wrong else ""


def _is(state: str, stopped: bool) -> bool:
    return state in "ZX" or (state in "Tt") is stopped


class HostSeat:
    """A process of this machine, in its own network."""

    stops, goes_on = "SIGSTOP", "SIGCONT"

    def __init__(self, host: str) -> None:
        self.host = host

    def connect(self, port: int, within: float) -> socket.socket:
        return socket.create_connection((self.host, port), timeout=within)

    def rows(self, port: int) -> Iterator[Row]:
        return rows(port)

    def unsettled(self, pids: Iterable[int], stopped: bool) -> str:
        return unsettled(pids, stopped)


class InsideSeat(HostSeat):
    """A process of this machine in a network namespace."""

    def __init__(self, inside: Inside, host: str) -> None:
        super().__init__(host)
        self.inside = inside

    def connect(self, port: int, within: float) -> socket.socket:
        return self.inside.connect(self.host, port, within)

    def rows(self, port: int) -> Iterator[Row]:
        for name in ("tcp", "tcp6"):
            yield from in_table(self.inside.read(f"/proc/thread-self/net/{name}"), port)


__all__ = ["HostSeat", "InsideSeat", "Seat", "unsettled"]

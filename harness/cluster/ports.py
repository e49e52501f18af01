"""Ports for nodes: outside the range of outgoing connections, and never a neighbour's.

A port that the kernel may hand to an outgoing connection can be lost between a node's death and its
restart; one that another test process also chose, between choosing and binding. So ports come from
outside the ephemeral range, in blocks that are locked until released, and each is tried before it is given
out. The lock of a block is a Unix socket with an abstract name: it is seen by exactly those that share the
ports (the network namespace: other users, other temporary directories too) and goes with its process.
"""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

from harness.cluster.lock import ClusterError

BLOCK = 16
LOWEST, HIGHEST = 10_000, 65_535
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def usable() -> range:
    """The ports to choose from: below the ephemeral range, else above it, else (it is all) within it."""
    try:
        low, high = map(int, RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = 32_768, 60_999
    if low - LOWEST >= 1_000:
        return range(LOWEST, low)
    if HIGHEST - high >= 1_000:
        return range(high + 1, HIGHEST + 1)
    return range(1_024, low) if low - 1_024 >= 1_000 else range(LOWEST, HIGHEST + 1)


def free(port: int) -> bool:
    """Whether a server could bind `port` on every address now, for TCP and UDP, without SO_REUSEADDR."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def lock_block(first: int) -> socket.socket | None:
    """Hold the block that begins with port `first` until the socket is closed, or None: another holds it."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0nemesis-ports-{first}")
    except OSError:
        lock.close()
        return None
    return lock


class Ports:
    """Ports that no other cluster on this machine is given until `release`."""

    def __init__(self, count: int, *, start: str = "", within: range | None = None) -> None:
        """Reserve `count` ports; where the search begins follows from `start`, so that runs spread.

        Raises ClusterError where there are not as many.
        """
        within = usable() if within is None else within
        blocks = [within[i : i + BLOCK] for i in range(0, len(within), BLOCK)]
        first = zlib.crc32(start.encode()) % max(len(blocks), 1)
        self.numbers: list[int] = []
        self._locks: list[socket.socket] = []
        for block in blocks[first:] + blocks[:first]:
            if len(self.numbers) >= count:
                break
            if (lock := lock_block(block[0])) is None:
                continue
            self._locks.append(lock)
            self.numbers += [port for port in block if free(port)][: count - len(self.numbers)]
        if len(self.numbers) < count:
            found = len(self.numbers)
            self.release()
            raise ClusterError(
                f"{count} ports are needed, but only {found} of {within.start}-{within.stop - 1} are free "
                "and not locked by another cluster: end what holds them (`ss -ltnp`), or other runs"
            )

    def release(self) -> None:
        """Give the ports back; idempotent."""
        for lock in self._locks:
            lock.close()
        self._locks.clear()
        self.numbers = []

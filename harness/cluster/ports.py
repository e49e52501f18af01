"""Ports for nodes: outside the range of outgoing connections, and never a neighbour's.

A port that the kernel may hand to an outgoing connection can be lost between a node's death and its
restart; one that another test process also chose, between choosing and binding. So ports come from
outside the ephemeral range, in blocks that are locked by file below the base until released, and each is
tried before it is given out.
"""

from __future__ import annotations

import os
import socket
import zlib
from pathlib import Path

from harness.cluster.lock import ClusterError, private, try_lock

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


class Ports:
    """Ports that no other cluster of this user is given until `release`."""

    def __init__(self, base: Path, count: int, *, start: str = "", within: range | None = None) -> None:
        """Reserve `count` ports; where the search begins follows from `start`, so that runs spread.

        Raises ClusterError where there are not as many.
        """
        within = usable() if within is None else within
        blocks = [within[i : i + BLOCK] for i in range(0, len(within), BLOCK)]
        first = zlib.crc32(start.encode()) % max(len(blocks), 1)
        directory = private(private(base) / "ports")
        self.numbers: list[int] = []
        self._locks: list[int] = []
        for block in blocks[first:] + blocks[:first]:
            if len(self.numbers) >= count:
                break
            lock = try_lock(directory / f"{block[0]}.lock")
            if lock is None:
                continue
            self._locks.append(lock)
            self.numbers += [port for port in block if free(port)][: count - len(self.numbers)]
        if len(self.numbers) < count:
            found = len(self.numbers)
            self.release()
            raise ClusterError(
                f"{count} ports are needed, but only {found} of {within.start}-{within.stop - 1} are free: "
                f"end what holds them (`ss -ltnp`), or other runs of this user (locks in {directory})"
            )

    def release(self) -> None:
        """Give the ports back; idempotent."""
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()
        self.numbers = []

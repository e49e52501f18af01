"""TCP sockets as the kernel lists them (/proc/net/tcp, tcp6), and who holds them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ESTABLISHED, SYN_RECV, LISTEN = 1, 3, 10  # states of include/net/tcp_states.h


class Row(NamedTuple):
    """One socket. `queued` of a listening one is the number of connections that nobody has accepted yet;
    `inode` is 0 while a connection waits for that."""

    port: int
    remote: int
    state: int
    queued: int
    inode: int


def rows(port: int) -> Iterator[Row]:
    """The sockets of this network namespace bound to `port`, IPv4 and IPv6."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}") as file:
            yield from in_table(file.read(), port)


def in_table(table: str, port: int) -> Iterator[Row]:
    """The sockets bound to `port` in the text of a table such as /proc/net/tcp."""
    mark = f":{port:04X} "
    for line in table.split("\n"):
        if mark in line:
            fields = line.split()
            local, remote = (int(field.rpartition(":")[2], 16) for field in fields[1:3])
            if local == port:
                queued = int(fields[4].rpartition(":")[2], 16)
                yield Row(local, remote, int(fields[3], 16), queued, int(fields[9]))


def listening(found: Iterable[Row]) -> Row | None:
    """The one of some sockets that listens, or None."""
    return next((row for row in found if row.state == LISTEN), None)


def listener(port: int) -> Row | None:
    """The socket that listens on `port`, or None."""
    return listening(rows(port))


def holder(port: int) -> str:
    """Who has a socket on `port`, as words: ``pid 12 (redis-server ...)``, or why that is not known."""
    return holder_of(rows(port))


def holder_of(found: Iterable[Row]) -> str:
    """Who has one of some sockets, as words."""
    inodes = {f"socket:[{row.inode}]" for row in found if row.inode}
    for name in os.listdir("/proc") if inodes else ():
        if name.isdigit() and inodes.intersection(files(name)):
            return f"pid {name} ({command_line(int(name))})"
    return "a process that /proc does not show to this user" if inodes else "no process that /proc shows"


def files(pid: str) -> Iterator[str]:
    """What the descriptors of `pid` lead to."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield os.readlink(f"/proc/{pid}/fd/{descriptor}")


def command_line(pid: int) -> str:
    """The command line of `pid`, shortened to 120 characters."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        return words if len(words) <= 120 else words[:117] + "..."
    return "?"

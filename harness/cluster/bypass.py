"""Nodes that speak past the fabric: a connection from one node's process to another's own port.

On loopback nothing keeps them from it (a node that advertises its own address is enough), and no fault
reaches such a connection: a partition would be proved on links that nobody uses. The kernel's table of
sockets is looked at several times a second. A connection that lasts for half a second is seen; one of a
few milliseconds is not, since whose it was is known only while it is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event, Thread

from harness.cluster.sockets import files
from harness.cluster.supervisor import descendants, processes
from harness.fabric.sockets import connected_to
from harness.target import Node

EVERY = 0.2  # seconds


class BypassWatch:
    """Looks until `stop`; ``found(src, dst, address)`` is told once for each pair.

    `pid(name)` is the process of a node, 0 while it is down; its descendants count as the node.
    """

    def __init__(self, pid: Callable[[str], int], found: Callable[[str, str, str], None]) -> None:
        self._pid, self._found = pid, found
        self._nodes: Mapping[int, Node] = {}  # by each of their ports
        self._told: set[tuple[str, str]] = set()
        self._others: set[int] = set()  # inodes that are no node's but the proxy's or this process's
        self._seen: set[int] = set()
        self._over = Event()
        self._thread = Thread(target=self._loop, name="nemesis-bypass", daemon=True)

    def start(self, nodes: tuple[Node, ...]) -> None:
        """Begin to look at `nodes`."""
        self._nodes = {port: node for node in nodes for port in node.ports.values()}
        self._thread.start()

    def stop(self) -> None:
        """Look no more; idempotent."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._over.wait(EVERY):
            try:
                self.look()
            except OSError:  # a kernel that does not tell cannot be asked again
                return

    def look(self) -> None:
        """Look once. Raises OSError where the kernel does not tell."""
        there = connected_to(self._nodes)
        self._others &= there.keys()
        if not (strange := there.keys() - self._others):
            return
        table, names = processes(), sorted({node.name for node in self._nodes.values()})
        for name in names:
            if not (pid := self._pid(name)):
                continue
            mine = strange & _inodes(descendants(table, [pid]))
            strange -= mine
            for port in {there[inode] for inode in mine}:
                peer = self._nodes[port]
                if peer.name != name and (name, peer.name) not in self._told:
                    self._told.add((name, peer.name))
                    self._found(name, peer.name, f"{peer.host}:{port}")
        self._others |= strange & self._seen  # twice: a node that is just starting has no process yet
        self._seen = strange


def _inodes(pids: set[int]) -> set[int]:
    """The inodes of all sockets that `pids` hold."""
    found = set()
    for pid in pids:
        for name in files(str(pid)):
            if name.startswith("socket:["):
                found.add(int(name[8:-1]))
    return found

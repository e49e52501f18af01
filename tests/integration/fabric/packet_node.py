"""A node of the packet rig, a process in a namespace of its own: sends and receives, driven by JSON lines.

Arrival times are the kernel's, and so do not tell how late this process was woken.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from typing import Any

PORT = 9000
_STAMP = 35  # SO_TIMESTAMPNS
_HEAD = struct.Struct("!IQ")


class Node:
    """What arrives here by UDP: number of the packet, when it was sent, when it came (ns)."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, int, int]]] = {}
        self.streams: dict[str, int] = {}
        self.changed = threading.Condition()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
        self.socket.bind(("0.0.0.0", PORT))
        self.listener = socket.create_server(("0.0.0.0", PORT))
        threading.Thread(target=self.receive, daemon=True).start()
        threading.Thread(target=self.accept, daemon=True).start()

    def receive(self) -> None:
        while True:
            data, control, _, (source, _) = self.socket.recvmsg(1 << 16, 64)
            second, fraction = struct.unpack("@qq", control[0][2])
            number, sent = _HEAD.unpack_from(data)
            with self.changed:
                arrived = second * 1_000_000_000 + fraction
                self.seen.setdefault(source, []).append((number, sent, arrived))
                self.changed.notify_all()

    def accept(self) -> None:
        while True:
            connection, (source, _) = self.listener.accept()
            threading.Thread(target=self.drain, args=(connection, source), daemon=True).start()

    def drain(self, connection: socket.socket, source: str) -> None:
        """Count what a stream carries, and tell its sender at the end."""
        total = 0
        with connection:
            while data := connection.recv(1 << 16):
                total += len(data)
            connection.sendall(struct.pack("!Q", total))

    def send(self, to: str, count: int, gap: float = 0, size: int = 64, first: int = 0) -> None:
        """Datagrams of `size` bytes of payload, `gap` seconds apart."""
        payload = bytes(size - _HEAD.size)
        start = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.connect((to, PORT))
            for number in range(count):
                while gap and (left := start + number * gap - time.monotonic()) > 0:
                    time.sleep(left)
                out.send(_HEAD.pack(first + number, time.time_ns()) + payload)

    def stream(self, to: str, size: int) -> dict[str, float]:
        """Send so many bytes by TCP; the seconds until the other side had them, and how many it had."""
        start = time.monotonic()
        with socket.create_connection((to, PORT), timeout=60) as connection:
            block = bytes(1 << 16)
            for at in range(0, size, len(block)):
                connection.sendall(block[: size - at])
            connection.shutdown(socket.SHUT_WR)
            (total,) = struct.unpack("!Q", connection.recv(8, socket.MSG_WAITALL))
        return {"seconds": time.monotonic() - start, "bytes": total}

    def arrivals(self, source: str, count: int, within: float, quiet: float) -> list[tuple[int, int, int]]:
        """What came from `source` once `count` are there, or `quiet` seconds after the last one."""
        end = time.monotonic() + within
        with self.changed:
            while len(found := self.seen.get(source, [])) < count and time.monotonic() < end:
                before = len(found)
                self.changed.wait_for(lambda b=before: len(self.seen.get(source, [])) > b, quiet)  # type: ignore[misc]
                if before == len(self.seen.get(source, [])):
                    break
            return self.seen.pop(source, [])


def main() -> None:
    node = Node()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        print(json.dumps(getattr(node, asked.pop("do"))(**asked)), flush=True)


if __name__ == "__main__":
    main()

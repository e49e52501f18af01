"""A node that tells what its clocks say, its children's and those of programs that it runs."""

from __future__ import annotations

import ctypes
import json
import os
import socketserver
import subprocess
import sys
import threading
import time

READ = "import time; print(time.time(), time.monotonic(), flush=True)"
HOST, PORT = sys.argv[1], int(sys.argv[2])
LIBC = ctypes.CDLL(None)
CHILD: list[subprocess.Popen[bytes]] = []


def forked() -> list[float]:
    """What a child of this process reads."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, f"{time.time()} {time.monotonic()}".encode())
        os._exit(0)
    os.wait()
    return [float(word) for word in os.read(read, 100).split()]


def program() -> list[float]:
    """What a program reads that lives for a moment."""
    output = subprocess.run([sys.executable, "-S", "-c", READ], capture_output=True, check=True).stdout
    return [float(word) for word in output.split()]


def lasting() -> list[float]:
    """What a program reads that was started once and lives on, a line at a time."""
    if not CHILD:
        loop = f"import sys\nfor _ in sys.stdin: {READ}"
        CHILD.append(
            subprocess.Popen(
                [sys.executable, "-S", "-c", loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        )
    (child,) = CHILD
    assert child.stdin and child.stdout
    child.stdin.write(b"\n")
    return [float(word) for word in child.stdout.readline().split()]


def thread() -> list[float]:
    """What a thread that is new reads."""
    found: list[float] = []
    one = threading.Thread(target=lambda: found.extend((time.time(), time.monotonic())))
    one.start()
    one.join()
    return found


def escape() -> list[float]:
    """By a system call, past the C library."""
    now = (ctypes.c_long * 2)()
    LIBC.syscall(228, 0, ctypes.byref(now))  # clock_gettime of x86-64, CLOCK_REALTIME
    return [now[0] + now[1] / 1e9, time.monotonic()]


def here() -> list[float]:
    return [time.time(), time.monotonic()]


class Asked(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            wall, monotonic = globals()[line.decode().strip()]()
            self.wfile.write(json.dumps({"wall": wall, "monotonic": monotonic}).encode() + b"\n")


class Server(socketserver.TCPServer):
    allow_reuse_address = True


if __name__ == "__main__":
    Server((HOST, PORT), Asked).serve_forever()

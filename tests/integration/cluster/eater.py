"""A node that uses what it is told to, over a line of text each: CPU, memory, disk. Standard library only."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socketserver
import sys
import threading
import time

held: list[bytearray] = []


def burn() -> None:
    while True:
        pass


def allocate(size: int) -> None:
    """Take memory a megabyte at a time, and touch it."""
    for _ in range(0, size, 1 << 20):
        held.append(bytearray(b"x" * (1 << 20)))
        time.sleep(0.002)


def write(path: str, text: str) -> str:
    """Append to a file and sync it; the error's name where that fails."""
    try:
        with open(path, "a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def answer(words: list[str], data: str) -> str:
    match words:
        case ["burn", count]:
            for _ in range(int(count)):
                multiprocessing.Process(target=burn, daemon=True).start()
            return "ok"
        case ["allocate", size]:
            threading.Thread(target=allocate, args=(int(size),), daemon=True).start()
            return "ok"
        case ["child", size]:  # a process of its own, which may be killed without the node
            child = multiprocessing.Process(target=allocate, args=(int(size),))
            child.start()
            child.join()
            return str(child.exitcode)
        case ["write", name, size]:
            return write(os.path.join(data, name), "x" * int(size))
        case ["size", name]:
            return str(os.path.getsize(os.path.join(data, name)))
        case ["remove", name]:
            os.remove(os.path.join(data, name))
            return "ok"
        case ["files"]:
            return ",".join(sorted(os.listdir(data)))
        case ["total"]:
            found = os.statvfs(data)
            return str(found.f_blocks * found.f_frsize)
    return "what?"


class Talk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(answer(line.decode().split(), sys.argv[3]).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Server((sys.argv[1], int(sys.argv[2])), Talk).serve_forever()

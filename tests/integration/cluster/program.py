"""A tiny node: listens, answers one JSON line per connection, and misbehaves as its options say."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time


def family(tag: str) -> None:
    """A child in its own group, one in its own session, and a daemon that shed parent, session and label."""
    idle = [sys.executable, "-S", "-c", "import time; time.sleep(600)", tag]
    for detach in (os.setpgrp, os.setsid):
        if os.fork() == 0:
            detach()
            os.execv(idle[0], idle)
    if (middle := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(idle[0], idle, {})
        os._exit(0)
    os.waitpid(middle, 0)


def tick() -> None:
    while True:
        print(f"tick {time.monotonic()}", flush=True)
        time.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tag", default="")
    parser.add_argument("--dies", type=int, help="exit at once with this code")
    parser.add_argument("--mute", action="store_true", help="never listen")
    parser.add_argument("--daemon", action="store_true", help="leave the foreground")
    parser.add_argument("--family", action="store_true", help="start processes that hide")
    parser.add_argument("--lines", type=int, default=0, help="write so many lines, 10,000 a second")
    parser.add_argument("--ticks", action="store_true", help="write the time each millisecond")
    parser.add_argument("--role", default="follower")
    parser.add_argument("--term", type=int, default=1)
    options = parser.parse_args()
    print(f"program {options.tag} on {options.port}", flush=True)
    if options.dies is not None:
        print("cannot go on: the disk is full", flush=True)
        sys.exit(options.dies)
    if options.daemon and os.fork():
        os._exit(0)
    if options.family:
        family(options.tag)
    if options.ticks:
        threading.Thread(target=tick, daemon=True).start()
    if options.mute:
        signal.pause()
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((options.host, options.port))
    listening.listen(64)
    began = time.monotonic()
    for number in range(options.lines):
        sys.stdout.write(f"line {number}\n")
        if number % 100 == 99:
            sys.stdout.flush()
            time.sleep(max(0.0, began + number / 10_000 - time.monotonic()))
    dialled: list[socket.socket] = []
    while True:
        connection, _ = listening.accept()
        connection.settimeout(2)
        with connection, contextlib.suppress(OSError):
            verb, _, rest = connection.recv(1000).decode().strip().partition(" ")
            if verb == "exit":
                os._exit(int(rest))
            if verb == "torn":  # a line without an end, then death
                os.write(1, rest.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            if verb == "dial":  # speak to another node and stay connected
                host, port = rest.rsplit(":", 1)
                dialled.append(socket.create_connection((host, int(port)), timeout=2))
            if verb == "role":
                options.role, options.term = rest.split()[0], int(rest.split()[1])
            if verb == "say":
                print(rest, flush=True)
            answer = {"role": options.role, "term": options.term, "pid": os.getpid()}
            connection.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()

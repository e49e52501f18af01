"""Servers that tell the time to their clients: redis-server by TIME, etcd by when a key of its old API ends.

etcd's newer API tells seconds only (a lease's time to live, the Date of an answer).
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from benchmarks.clock.programs import SHOTS, Sample

WITHIN = 30.0  # seconds to start
LIFE = 1000  # seconds: of the key whose end etcd tells


class Server:
    """A server that runs, asked through its network; `resolution` in ns."""

    resolution = 1000

    def __init__(self, process: subprocess.Popen[bytes], address: Callable[[], tuple[str, int]]) -> None:
        self.process, self.pid = process, process.pid
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                self.address = address()
                self.connect()
                self.told()
                return
            except (OSError, http.client.HTTPException, LookupError, ValueError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise RuntimeError(f"{type(self).__name__} does not serve: {error}") from error
                time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def connect(self) -> None:
        raise NotImplementedError

    def told(self) -> int:
        """What it says the time is, ns since the epoch."""
        raise NotImplementedError

    def samples(self, count: int, gap: float = 0.0) -> list[Sample]:
        found = list[Sample]()
        for _ in range(count):
            found += [(time.time_ns(), self.told(), time.time_ns()) for _ in range(SHOTS)]
            time.sleep(gap)
        return found


class Redis(Server):
    @staticmethod
    def argv(host: str, port: int, _: Path) -> Sequence[str]:
        return ("redis-server", "--bind", host, "--port", str(port), "--protected-mode", "no", "--save", "")

    def connect(self) -> None:
        self._socket = socket.create_connection(self.address, 5)

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
        super().close()

    def told(self) -> int:
        self._socket.sendall(b"TIME\r\n")
        answer = b""
        while answer.count(b"\r\n") < 5:
            answer += self._socket.recv(200) or b"\r\n" * 5
        _, _, seconds, _, microseconds, *_ = answer.split(b"\r\n")
        return int(seconds) * 10**9 + int(microseconds) * 1000


class Etcd(Server):
    resolution = 1

    @staticmethod
    def argv(host: str, port: int, place: Path) -> Sequence[str]:
        client, peer = f"http://{host}:{port}", f"http://127.0.0.1:{port + 1}"
        return (
            "etcd", "--data-dir", str(place), "--enable-v2", "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        )  # fmt: skip

    def connect(self) -> None:
        self._http = http.client.HTTPConnection(*self.address, timeout=5)

    def close(self) -> None:
        if hasattr(self, "_http"):
            self._http.close()
        super().close()

    def told(self) -> int:
        self._http.request("PUT", f"/v2/keys/time?value=1&ttl={LIFE}")
        text = json.load(self._http.getresponse())["node"]["expiration"]
        seconds, _, rest = text.removesuffix("Z").partition(".")
        whole = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
        return (int(whole.timestamp()) - LIFE) * 10**9 + int(rest.ljust(9, "0") or 0)


SERVERS: dict[str, type[Redis] | type[Etcd]] = {"redis": Redis, "etcd": Etcd}

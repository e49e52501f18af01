"""A small replicated register service to start from. REPLACE IT by your own: nothing here is needed later.

n1 stores, with a log on disk; the others forward to it. Correct, though not available without n1.
"""

import argparse
import contextlib
import http.client
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Store:
    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.values = {}
        self.file = path.open("a+b")
        self.file.seek(0)
        whole = 0
        for line in self.file:
            if not line.endswith(b"\n"):
                break  # torn by a crash before it was acknowledged
            key, value = json.loads(line)
            self.values[key] = value
            whole += len(line)
        self.file.truncate(whole)

    def apply(self, request: dict) -> dict:
        key = request["key"]
        with self.lock:
            if request["f"] == "read":
                return {"value": self.values.get(key)}
            if request["f"] == "cas" and self.values.get(key) != request["old"]:
                return {"refused": "precondition failed"}
            self.file.write(json.dumps([key, request["value"]]).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())
            self.values[key] = request["value"]
            return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store | None = None
    primary = ("", 0)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asked has gone
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        try:
            request = json.loads(body)
        except ValueError:  # a request that was cut off on its way
            self.close_connection = True
            return
        if request["f"] == "role":
            self.answer(200, json.dumps({"value": "leader" if self.store else "follower"}).encode())
            return
        if self.store is not None:
            self.answer(200, json.dumps(self.store.apply(request)).encode())
            return
        try:
            link = http.client.HTTPConnection(*self.primary, timeout=0.5)
            link.request("POST", "/", body)
            answer = link.getresponse().read()
            link.close()
        except (OSError, http.client.HTTPException) as error:  # it may happen yet: nobody knows
            self.answer(504, json.dumps({"unknown": f"n1: {error}"}).encode())
        else:
            self.answer(200, answer)

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=HOST:PORT")
    arguments = parser.parse_args()
    peers = dict(peer.split("=") for peer in arguments.peer)
    if arguments.name == "n1":
        Handler.store = Store(arguments.data / "log")
    else:
        host, port = peers["n1"].split(":")
        Handler.primary = (host, int(port))
    ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()

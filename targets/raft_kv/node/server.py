"""One node: a port for clients and peers, and the loop that drives Raft and its disk.

Everything that arrived in one turn of the event loop is handled together: one append per peer, one
``fdatasync``, then the acknowledgements and answers that had to wait for it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .bugs import BUGS
from .links import HELLO, PENDING, Link, Listener
from .raft import Raft, Timing
from .requests import ENCODE, Request, failure, parse, success
from .storage import Storage
from .store import STALE

TICK = 0.02
MOST_REQUESTS = 10_000
LONGEST_LINE = 1 << 20


class Node:
    """A node's requests, routed to whoever leads, and its Raft, driven turn by turn."""

    def __init__(self, raft: Raft, storage: Storage, peers: dict[str, tuple[str, int]]) -> None:
        self.raft, self.storage = raft, storage
        self.loop = asyncio.get_running_loop()
        self.links = {
            peer: Link(raft.name, host, port, partial(self.linked, peer))
            for peer, (host, port) in peers.items()
        }
        self.requests: dict[int, Request] = {}
        # A leader may still answer what this node forwarded before it was killed: no number comes twice.
        self.numbers = int.from_bytes(os.urandom(7), "little")
        self.outbox: dict[str, list[Any]] = {peer: [] for peer in peers}
        self.forwards: dict[str, list[Any]] = {peer: [] for peer in peers}
        self.replies: dict[str, list[Any]] = {peer: [] for peer in peers}
        self.known_leader = ""
        self.flushing = False
        self.tick()

    # ------------------------------------------------------------------ turns

    def tick(self) -> None:
        """What time brings: elections, heartbeats, requests that waited too long."""
        now = self.loop.time()
        self.raft.tick(now)
        for link in self.links.values():
            link.check(now)
        for number, request in list(self.requests.items()):
            if now >= request.deadline or (now >= request.give_up and not request.at and not request.sent):
                del self.requests[number]
                request.sink.answer(failure("timeout" if request.sent or request.at else "no-leader"))
            elif not request.at:
                self.route(number, request)
        self.loop.call_later(TICK, self.tick)
        self.soon()

    def soon(self) -> None:
        """Flush at the end of this turn."""
        if not self.flushing:
            self.flushing = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Carry out what this turn's messages, requests and time amounted to."""
        self.flushing = False
        raft = self.raft
        raft.pump(self.loop.time())
        self.post(raft.early)
        if (write := raft.take_write()) is not None:
            self.storage.save(write)
            raft.saved()
        for kind, detail in raft.events:
            say(kind, detail)
        raft.events.clear()
        self.answer()
        leader = raft.leader
        if leader != self.known_leader:
            self.known_leader = leader
            self.reroute(lambda request: leader != "" and request.at != leader)
        for peer in self.links:
            if self.forwards[peer]:
                self.outbox[peer].append(("forward", self.forwards[peer]))
                self.forwards[peer] = []
            if self.replies[peer]:
                self.outbox[peer].append(("reply", self.replies[peer]))
                self.replies[peer] = []
        self.post(raft.late)

    def post(self, messages: list[tuple[str, Any]]) -> None:
        """Send `messages` and what else is due, one frame per peer."""
        for peer, message in messages:
            self.outbox[peer].append(message)
        messages.clear()
        for peer, batch in self.outbox.items():
            if batch:
                self.links[peer].send(batch)
                self.outbox[peer] = []

    # ------------------------------------------------------------------ requests

    def accept(self, request: Request) -> None:
        """Take a client's request."""
        if len(self.requests) >= MOST_REQUESTS:
            request.sink.answer(failure("overloaded"))
            return
        self.numbers += 1
        self.requests[self.numbers] = request
        self.route(self.numbers, request)
        self.soon()

    def route(self, number: int, request: Request) -> None:
        """Serve the request, pass it to the leader, or let it wait until there is one.

        A request may go a second way when its first leader was lost: its id keeps it from applying twice.
        """
        raft = self.raft
        if raft.serves(request.f):
            request.at = raft.name
            request.sent |= request.f != "read"
            self.submit(number, request.f, request.key, request.value, request.session, request.number)
        elif raft.leader in self.links and self.links[raft.leader].transport is not None:
            request.at = raft.leader
            request.sent |= request.f != "read"
            self.forwards[raft.leader].append(
                (number, request.f, request.key, request.value, request.session, request.number)
            )
        else:
            request.at = ""

    def reroute(self, which: Callable[[Request], bool]) -> None:
        for number, request in list(self.requests.items()):
            if which(request):
                self.route(number, request)
        self.soon()

    def submit(self, token: Any, f: str, key: Any, value: Any, session: str, number: int) -> None:
        if f == "read":
            self.raft.read(token, key)
        else:
            self.raft.propose(token, session, number, f, key, value)

    def answer(self) -> None:
        """Tell clients, and the nodes that forwarded for theirs, what came of it."""
        raft = self.raft
        for token, result in raft.answers:
            if isinstance(token, tuple):
                self.replies[token[0]].append((token[1], True, result))
            else:
                self.finish(token, result)
        raft.answers.clear()
        for token in raft.dropped:
            if isinstance(token, tuple):
                self.replies[token[0]].append((token[1], False, None))
            elif token in self.requests:
                self.requests[token].at = ""
        raft.dropped.clear()

    def finish(self, number: Any, result: Any) -> None:
        request = self.requests.pop(number, None)
        if request is None:
            return  # answered before: its time was over, or a second way was faster
        if request.f == "read" or result is None or result is True:
            request.sink.answer(success(result if request.f == "read" else None))
        else:
            request.sink.answer(failure("stale" if result == STALE else "precondition"))

    # ------------------------------------------------------------------ peers

    def linked(self, peer: str) -> None:
        """A new connection to `peer`: what the old one carried may be lost, so it goes again."""
        self.raft.linked(peer)
        self.reroute(lambda request: request.at in ("", peer))

    def received(self, peer: str, messages: list[Any]) -> None:
        """Take a frame from `peer`."""
        now = self.loop.time()
        for message in messages:
            if message[0] == "forward":
                for number, f, *rest in message[1]:
                    if self.raft.serves(f):
                        self.submit((peer, number), f, *rest)
                    else:
                        self.replies[peer].append((number, False, None))
            elif message[0] == "reply":
                for number, known, result in message[1]:
                    if known:
                        self.finish(number, result)
                    elif (request := self.requests.get(number)) and request.at == peer:
                        request.at = ""
            else:
                self.raft.receive(peer, message, now)
        self.soon()


class Accepted(asyncio.Protocol):
    """A connection whose first bytes say whether a peer or a client is there; then a client's."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None

    def answer(self, line: bytes) -> None:
        """Send `line`, if the client still is there."""
        if self.transport is not None:
            self.transport.write(line)
            if self.transport.get_write_buffer_size() > PENDING:
                self.transport.abort()  # a client that asks and does not listen

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\n")) >= 0 and self.transport is not None:
            line, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
            if line.startswith(HELLO):
                self.become_peer(line[len(HELLO) :].decode(errors="replace"))
                return
            self.request(line)
        if len(self.buffer) > LONGEST_LINE:
            self.answer(failure("malformed", f"a request has at most {LONGEST_LINE} bytes"))
            self.buffer = b""
            if self.transport is not None:
                self.transport.close()

    def become_peer(self, name: str) -> None:
        assert self.transport is not None
        if name not in self.node.links:
            print(f"connection from {name!r}, who is no peer: closed", file=sys.stderr, flush=True)
            self.transport.abort()
            return
        listener = Listener(name, self.node.received, self.transport)
        self.transport.set_protocol(listener)
        listener.data_received(self.buffer)

    def request(self, line: bytes) -> None:
        node = self.node
        try:
            message = json.loads(line)
            f = message.get("f") if isinstance(message, dict) else None
            if f == "ping":
                self.answer(success("pong"))
            elif f == "status":
                self.answer(success(node.raft.status()))
            elif f == "time":
                self.answer(success(node.raft.clocks.wall()))
            else:
                patience = node.raft.timing.loyal
                node.accept(parse(message, self, node.loop.time(), patience))
        except ValueError as error:
            self.answer(failure("malformed", str(error)))


def say(kind: str, detail: dict[str, Any]) -> None:
    """One node event on standard output, at once, with what the node's wall clock shows."""
    sys.stdout.write(ENCODE({"event": kind, "time": round(time.time(), 6), **detail}) + "\n")
    sys.stdout.flush()


def die(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A node that met an error it does not understand, a failed fsync above all, must not go on."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        traceback.print_exception(error)
    else:
        print(f"panic: {context.get('message')}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(70)


async def serve(options: argparse.Namespace) -> None:
    """Run the node until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(die)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    peers = {name: (host, port) for name, host, port in options.peer}
    storage = Storage(Path(options.data))
    raft = Raft(
        options.name,
        peers,
        storage.load(),
        now=loop.time(),
        random=random.Random(),
        timing=Timing(options.heartbeat, (options.election[0], options.election[1]), options.loyal),
        snapshot_every=options.snapshot_every,
        audit=options.audit,
        bug=options.bug,
        lease_reads=options.lease_reads,
    )
    node = Node(raft, storage, peers)
    server = await loop.create_server(lambda: Accepted(node), options.host, options.port)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    keepers = [loop.create_task(link.keep()) for link in node.links.values()]
    await stop.wait()
    for keeper in keepers:
        keeper.cancel()
    server.close()


def _peer(text: str) -> tuple[str, str, int]:
    name, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    if not (name and host and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, host, int(port)


def main(argv: Sequence[str]) -> int:
    """Parse the command line and run the node."""
    parser = argparse.ArgumentParser(prog="raft_kv", description="One node of a replicated key-value store.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--peer", type=_peer, action="append", default=[], metavar="NAME=HOST:PORT")
    parser.add_argument("--heartbeat", type=float, default=0.06)
    parser.add_argument("--election", type=float, nargs=2, default=(0.3, 0.6), metavar=("FROM", "TO"))
    parser.add_argument("--loyal", type=float, default=0.3, metavar="SECONDS")
    parser.add_argument("--snapshot-every", type=int, default=10_000, metavar="ENTRIES")
    parser.add_argument("--lease-reads", action="store_true", help="answer reads alone while a lease holds")
    parser.add_argument("--audit", action="store_true", help="print every applied entry")
    parser.add_argument("--bug", choices=[*BUGS], help="break one rule of Raft (see bugs.py)")
    asyncio.run(serve(parser.parse_args(argv)))
    return 0

"""A Toxiproxy 2.12 server in one file of standard library: `python embedded.py -host 127.0.0.1 -port 8474`.

It speaks the wire of the real server (endpoints, defaults, error codes, toxics and their timing), so that any
Toxiproxy client works with it, and needs nothing but Python: copy the file into a container and run it. It is
the stand-in where the real binary cannot be had; `harness.proxy.adapter` is the client of either.

When the API listens, one line `listening on HOST:PORT` goes to standard output. Port 0 takes a free port.

Where it differs from the real server, on purpose: upstreams are dialled concurrently (one that does not
answer does not hold up other clients), attributes that take the real server down are survived, `-seed` does
seed the dice, no log is written, two latency toxics add up exactly, `-runtime-metrics` has no `go_*` series.

What it has beyond the real server: told by `POST /framing` how the messages of a proxy's streams are framed,
it takes toxics of the type `message` there, which act on whole messages; `GET /framing` says what they did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import errno
import functools
import gc
import heapq
import json
import math
import os
import random
import re
import selectors
import signal
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote as quote_url, unquote_to_bytes

VERSION = "2.12.0"
DIRECTIONS = ("upstream", "downstream")  # in the order in which a proxy lists its toxics

_CHUNK = 32 * 1024  # bytes read at once where a toxic looks at them: toxics count and delay chunks
_BLOCK = 1024 * 1024  # bytes read at once where none does
_IDLE = 60.0  # seconds until an API connection without a request is closed


# ---------------------------------------------------------------- messages: where they end in a stream

LONGEST = 64 * 1024 * 1024  # bytes of a message, as it is kept until it is whole
LONGEST_HEAD = 64 * 1024  # bytes of the head of an HTTP message, or of a line in it
FRAMINGS = ("line", "length", "http1")
PREFIXES = (1, 2, 3, 4, 8)  # bytes of a length

Ends = list[tuple[int, bool]]  # where pieces of a stream end, and whether each is a message to be touched


class Framing(NamedTuple):
    """How the messages of a stream are told apart; all but `kind` are for lengths.

    `greeting` lines come first, which are no messages. Then each message is `offset` bytes, a length of
    `size` bytes, and as many bytes as this says plus `adjust`.
    """

    kind: str
    size: int = 4
    little: bool = False
    offset: int = 0
    adjust: int = 0
    greeting: int = 0

    def wrong(self) -> str:
        """What cannot be, or an empty text."""
        if self.kind not in FRAMINGS:
            return f"framing {self.kind!r} is none of {', '.join(FRAMINGS)}"
        if self.size not in PREFIXES:
            return f"size {self.size} is none of {', '.join(map(str, PREFIXES))}"
        for name in ("offset", "greeting"):
            if not 0 <= getattr(self, name) <= 1024:
                return f"{name} {getattr(self, name)} is not 0 to 1024"
        return "" if -1024 <= self.adjust <= 1024 else f"adjust {self.adjust} is not -1024 to 1024"


class Exchange:
    """What the two directions of an HTTP connection must know of each other."""

    def __init__(self) -> None:
        self.methods: dict[int, str] = {}  # of requests by number, where the answer's length depends on it
        self.switched = False  # another protocol is spoken from here on


class Framer:
    """Finds where messages end in one direction of a connection, whatever the parts in which it comes.

    `inside` says that a piece has begun and not ended; `error` why nothing more can be told apart. This base
    is that of lines.
    """

    def __init__(self, framing: Framing, exchange: Exchange, *, answers: bool) -> None:
        self.framing, self.exchange, self.answers = framing, exchange, answers
        self.greeting = framing.greeting
        self.head = bytearray()
        self.left = 0  # bytes until the end of what is known to come; of a line: those seen
        self.inside = False
        self.error = ""
        self.first = True  # this one follows the connection, and is no copy for a toxic

    def copy(self) -> Framer:
        """Another one that stands where this one does."""
        other = copy.copy(self)
        other.head, other.first = bytearray(self.head), False
        return other

    def ends(self, data: bytes) -> Ends:
        """The ends of pieces in what comes next: offsets just behind their last bytes."""
        if self.error or not data:
            return []
        found: Ends = []
        self._find(data, found)
        self.inside = not found or found[-1][0] < len(data)
        return found

    def payload(self, message: bytes) -> list[tuple[int, int]]:
        """The parts of a message that can be changed without changing where it ends."""
        return [(0, len(message.rstrip(b"\r\n")))]

    def spoilt(self, byte: int) -> bool:
        """Whether a byte of the payload must not become this one."""
        return byte in b"\r\n"

    def _find(self, data: bytes, found: Ends) -> None:
        place = 0
        while end := data.find(b"\n", place) + 1:
            found.append((end, True))
            place = end
        self.left = len(data) - place + (0 if place else self.left)
        if self.left > LONGEST:
            self.error = f"{self.left} bytes without the end of a line"

    def _greet(self, data: bytes, found: Ends) -> int:
        """Pass the lines that come first; where they end."""
        place = 0
        while self.greeting and place < len(data):
            end = data.find(b"\n", place) + 1
            self.left = (end or len(data)) - place + self.left
            if self.left > LONGEST_HEAD:
                self.error = f"no end of the greeting within {LONGEST_HEAD} bytes"
                return len(data)
            if not end:
                return len(data)
            found.append((end, False))
            self.greeting, self.left, place = self.greeting - 1, 0, end
        return place


class Lengths(Framer):
    """Messages that say their length at their beginning."""

    def payload(self, message: bytes) -> list[tuple[int, int]]:
        return [(self.framing.offset + self.framing.size, len(message))]

    def spoilt(self, byte: int) -> bool:
        return False

    def _find(self, data: bytes, found: Ends) -> None:
        place = self._greet(data, found) if self.greeting else 0
        framing = self.framing
        need = framing.offset + framing.size
        while place < len(data) and not self.error:
            if self.left:
                step = min(self.left, len(data) - place)
                self.left -= step
                place += step
            else:
                part = data[place : place + need - len(self.head)]
                self.head += part
                place += len(part)
                if len(self.head) < need:
                    return
                length = int.from_bytes(self.head[framing.offset :], "little" if framing.little else "big")
                self.left = length + framing.adjust
                if not 0 <= self.left <= LONGEST:
                    text = f"a message with the length {length}, which is {self.left} bytes more"
                    self.error = f"{text} (after {bytes(self.head[:16])!r}), expected 0 to {LONGEST}"
                    return
                self.head.clear()
            if not self.left:
                found.append((place, True))


_REQUEST = re.compile(rb"([!#-'*+.^-z|~0-9A-Z-]+) [^ \r\n]+ HTTP/1\.[01]\r?\n")
_METHOD = re.compile(rb"[\r\n]*[!#-'*+.^-z|~0-9A-Z-]{0,40}(?:\Z| )")
_RESPONSE = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)(?: [^\r\n]*)?\r?\n")


class Http1(Framer):
    """Requests or answers of HTTP/1.1: bodies by Content-Length, or chunked.

    Passed on as they come, and not touched: answers that end with the connection, requests that await a
    `100 Continue` and that answer itself (who waits for it would wait for ever), and what comes after another
    protocol was agreed on.
    """

    state = "head"  # head, body, size, chunk, trailer, open
    number = 0  # of the request that was sent, or answered, last
    touch = True

    def payload(self, message: bytes) -> list[tuple[int, int]]:
        head = re.search(rb"\r?\n\r?\n", message)
        place = head.end() if head else len(message)
        if b"chunked" not in self._fields(message[:place]).get(b"transfer-encoding", b"").lower():
            return [(place, len(message))]
        parts = []
        while (end := message.find(b"\n", place) + 1) and (size := self._size(message[place:end])):
            parts.append((end, end + size))
            place = message.find(b"\n", end + size) + 1
        return parts

    def spoilt(self, byte: int) -> bool:
        return False

    def _find(self, data: bytes, found: Ends) -> None:
        place = 0
        while place < len(data) and not self.error:
            if self.state == "open":
                found.append((len(data), False))
                return
            if self.state in ("body", "chunk"):
                step = min(self.left, len(data) - place)
                self.left -= step
                place += step
                if not self.left:
                    self._finish(place, found) if self.state == "body" else self._go("size")
                continue
            end = data.find(b"\n", place) + 1
            part = data[place : end or len(data)]
            self.head += part
            place += len(part)
            if len(self.head) > LONGEST_HEAD:
                self.error = f"a head or a line of more than {LONGEST_HEAD} bytes"
            elif end:
                self._line(place, found)
            elif self.state == "head" and b"\n" not in self.head.lstrip(b"\r\n"):
                self._doubt(place, found)

    def _doubt(self, place: int, found: Ends) -> None:
        """The first line is not whole, and may not become one: who speaks another protocol awaits it."""
        head = bytes(self.head.lstrip(b"\r\n"))
        if not (b"HTTP/1.".startswith(head[:7]) if self.answers else _METHOD.match(head)):
            self._strange(head, place, found)

    def _strange(self, head: bytes, place: int, found: Ends) -> None:
        if self.exchange.switched:
            self._open(place, found)
        else:
            expected = "an answer" if self.answers else "a request"
            self.error = f"{head[:60]!r} where {expected} of HTTP/1.1 is due"

    def _go(self, state: str) -> None:
        self.state = state
        self.head.clear()

    def _finish(self, place: int, found: Ends) -> None:
        found.append((place, self.touch))
        self.touch = True
        self._go("head")

    def _line(self, place: int, found: Ends) -> None:
        """One more line has ended."""
        if self.state == "size":
            size = self._size(bytes(self.head))
            if size is None or size > LONGEST:
                self.error = f"{bytes(self.head[:40])!r} where the size of a chunk is due"
            else:
                self.left = size + 2  # its end of line
                self._go("chunk" if size else "trailer")
        elif self.state == "trailer":
            if self.head.strip(b"\r\n"):
                self.head.clear()
            else:
                self._finish(place, found)
        elif not self.head.strip(b"\r\n"):
            self.head.clear()  # empty lines before a message
        elif not (_RESPONSE if self.answers else _REQUEST).match(self.head.lstrip(b"\r\n")):
            self._strange(bytes(self.head), place, found)
        elif self.head.endswith((b"\n\r\n", b"\n\n")):
            self._begin(bytes(self.head), place, found)

    def _begin(self, head: bytes, place: int, found: Ends) -> None:
        """A head is whole: what follows it."""
        match = (_RESPONSE if self.answers else _REQUEST).match(head.lstrip(b"\r\n"))
        assert match is not None
        fields = self._fields(head)
        if self.answers:
            status = int(match[1])
            if status < 200 and status != 101:
                found.append((place, False))
                return self._go("head")
            self.number += 1
            method = self.exchange.methods.get(self.number, "")
            if self.first:
                self.exchange.methods.pop(self.number, None)
            if status == 101 or (method == "CONNECT" and status < 300):
                self.exchange.switched = True
                return self._open(place, found)
            if method == "HEAD" or status in (204, 304):
                return self._finish(place, found)
        else:
            self.number += 1
            method = match[1].decode()
            if self.first and method in ("HEAD", "CONNECT"):
                self.exchange.methods[self.number] = method
            if method == "CONNECT" or self.exchange.switched:
                return self._open(place, found)
            if fields.get(b"expect", b"").lower() == b"100-continue":
                found.append((place, False))
                self.touch = False
        coding, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if coding is not None and coding.lower().endswith(b"chunked"):
            return self._go("size")
        if coding is None and lengths is not None:
            return self._body(lengths, place, found)
        if self.answers:
            return self._open(place, found)
        if coding is not None:
            self.error = f"a request whose last transfer coding is {coding[:40]!r}, expected chunked"
            return None
        return self._finish(place, found)

    def _body(self, lengths: bytes, place: int, found: Ends) -> None:
        values = {value.strip() for value in lengths.split(b",")}
        value = values.pop()
        if values or not value.isdigit() or len(value) > 18 or int(value) > LONGEST:
            self.error = f"the Content-Length {lengths[:40]!r}, expected one of 0 to {LONGEST}"
            return
        self.left = int(value)
        self._go("body")
        if not self.left:
            self._finish(place, found)

    def _open(self, place: int, found: Ends) -> None:
        found.append((place, False))
        self._go("open")

    @staticmethod
    def _size(line: bytes) -> int | None:
        text = line.split(b";")[0].strip()
        return int(text, 16) if re.fullmatch(rb"[0-9A-Fa-f]{1,8}", text) else None

    @staticmethod
    def _fields(head: bytes) -> dict[bytes, bytes]:
        """Header fields by their names in small letters; those of one name are joined by commas."""
        fields: dict[bytes, bytes] = {}
        for line in head.split(b"\n")[1:]:
            name, colon, value = line.partition(b":")
            name, value = name.strip().lower(), value.strip()
            if colon:
                fields[name] = fields[name] + b"," + value if name in fields else value
        return fields


FRAMERS: dict[str, type[Framer]] = {"line": Framer, "length": Lengths, "http1": Http1}


# ---------------------------------------------------------------- toxics: what is done to a stream

Data = bytes | memoryview
Chunk = tuple[Data, float]  # what one read returned, and when (the loop's clock)


class Toxic:
    """One toxic of one proxy, as the API shows it; the stages of live connections read its attributes."""

    def __init__(
        self, name: str, kind: str, stream: str, toxicity: float, attributes: dict[str, int]
    ) -> None:
        self.name, self.kind, self.stream, self.toxicity = name, kind, stream, toxicity
        self.attributes = attributes
        self.counts: Counter[str] = Counter()  # what it did to messages
        self.direction = stream.lower()  # the wire takes any case, and shows what it was given

    def render(self) -> str:
        return (
            f'{{"attributes":{render(self.attributes)},"name":{render(self.name)},"type":{render(self.kind)},'
            f'"stream":{render(self.stream)},"toxicity":{render_float32(self.toxicity)}}}'
        )


class Stage:
    """What a toxic does to one direction of one connection; this base passes everything on: `noop`.

    Chunks wait in `queue` while the stage is `busy`, which its timer ends. A toxic overrides the `on_`
    methods. Whether it acts at all is rolled against its toxicity each time it starts.
    """

    attributes: ClassVar[tuple[str, ...]] = ()
    capacity: ClassVar[int] = 2  # chunks that may wait here before the source is left unread

    def __init__(self, toxic: Toxic, pipe: Pipe) -> None:
        self.toxic = toxic
        self.pipe = pipe
        self.outlet: Stage | Pipe = pipe
        self.queue: deque[Chunk | None] = deque()  # None: the end of the stream
        self.held: Chunk | None = None  # taken from the queue and not yet passed on
        self.timer: asyncio.TimerHandle | None = None
        self.active = self.busy = self.closed = False

    # -- what a toxic decides

    def on_start(self) -> None:
        """The stage starts, or starts again; `active` has been rolled."""

    def on_chunk(self, data: Data, stamp: float) -> None:
        self.outlet.feed(data, stamp)

    def on_end(self) -> None:
        self.close()

    def on_timer(self) -> None:
        """The time given to `wait_until` has come."""

    # -- what they have in common

    def feed(self, data: Data, stamp: float) -> None:
        if not self.closed:
            self.queue.append((data, stamp))
            self.advance()

    def end(self) -> None:
        if not self.closed:
            self.queue.append(None)
            self.advance()

    def advance(self) -> None:
        while self.queue and not self.busy and not self.closed:
            item = self.queue.popleft()
            if item is None:
                if self.active:
                    self.on_end()
                else:
                    self.close()
            elif self.active:
                self.on_chunk(*item)
            else:
                self.outlet.feed(*item)

    def wait_until(self, when: float, *, busy: bool = True) -> None:
        self.busy = busy
        self.timer = self.pipe.loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self.stop_waiting()
        self.on_timer()
        self.advance()
        self.pipe.balance()

    def stop_waiting(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.busy = None, False

    def take(self) -> Chunk | None:
        held, self.held = self.held, None
        return held

    def close(self) -> None:
        """End the stream here: what has passed is still delivered, nothing else is."""
        if not self.closed:
            self.closed = True
            self.stop_waiting()
            self.queue.clear()
            self.outlet.end()

    def start(self) -> None:
        self.active = self.pipe.proxy.dice.random() < self.toxic.toxicity
        self.on_start()
        self.advance()

    def interrupt(self) -> bool:
        """Stop waiting and pass on what is held; False where the stage is past being changed."""
        if self.closed:
            return False
        self.stop_waiting()
        if held := self.take():
            self.outlet.feed(*held)
        return True

    def restart(self) -> None:
        """Start again, as the toxic was changed or a neighbour came or went."""
        if self.interrupt():
            self.start()

    def remove(self) -> bool:
        """Let out unchanged what waits here; False where the stage must stay, to end the stream."""
        if not self.interrupt():
            return False
        self.active = False
        self.advance()
        return not self.closed


class Latency(Stage):
    """Delays each chunk by `latency` plus or minus up to `jitter` ms from its arrival, and never reorders."""

    attributes = ("latency", "jitter")
    capacity = 1024
    due = 0.0

    def on_chunk(self, data: Data, stamp: float) -> None:
        delay, jitter = self.toxic.attributes["latency"], self.toxic.attributes["jitter"]
        if jitter > 0:
            delay += self.pipe.proxy.dice.randrange(2 * jitter) - jitter
        self.due = max(stamp + delay / 1e3, stamp)
        if self.due > self.pipe.loop.time():
            self.held = (data, stamp)
            self.wait_until(self.due)
        else:
            self.outlet.feed(data, self.due)

    def on_timer(self) -> None:
        if held := self.take():
            self.outlet.feed(held[0], self.due)  # a second latency counts from here


class Bandwidth(Stage):
    """Lets `rate` KB (of 1000 bytes) a second pass, in slices of at most 100 ms; 0 lets nothing pass."""

    attributes = ("rate",)
    due = late = 0.0
    size = 0

    def on_start(self) -> None:
        self.late = 0.0  # by how much the last slice was late; the next one waits less

    def on_chunk(self, data: Data, stamp: float) -> None:
        rate = self.toxic.attributes["rate"]
        self.held = (data, stamp)
        if rate <= 0:
            self.busy = True  # until the toxic is changed or removed
            return
        self.size = min(len(data), rate * 100)
        self.due = self.pipe.loop.time() + self.size / (rate * 1e3) - self.late
        self.wait_until(self.due)

    def on_timer(self) -> None:
        if held := self.take():
            data, stamp = held
            self.late = self.pipe.loop.time() - self.due
            self.outlet.feed(data[: self.size], stamp)
            if len(data) > self.size and not self.closed:
                self.on_chunk(data[self.size :], stamp)


class SlowClose(Stage):
    """Holds the end of the stream back for `delay` ms."""

    attributes = ("delay",)

    def on_end(self) -> None:
        self.queue.appendleft(None)  # an update meets the end again, and waits again in full
        self.wait_until(self.pipe.loop.time() + self.toxic.attributes["delay"] / 1e3)

    def on_timer(self) -> None:
        self.close()


class Timeout(Stage):
    """Drops all data; closes after `timeout` ms without any (0: never), and when it is removed."""

    attributes = ("timeout",)

    def on_start(self) -> None:
        timeout = self.toxic.attributes["timeout"]
        if self.active and timeout > 0:
            self.wait_until(self.pipe.loop.time() + timeout / 1e3, busy=False)

    def on_chunk(self, data: Data, stamp: float) -> None:
        self.stop_waiting()
        self.on_start()

    def on_timer(self) -> None:
        self.close()

    def remove(self) -> bool:
        self.close()
        return False


class ResetPeer(Stage):
    """Closes `timeout` ms after the first chunk or end; connections opened under it are closed by RST."""

    attributes = ("timeout",)

    def on_chunk(self, data: Data, stamp: float) -> None:
        self.on_end()

    def on_end(self) -> None:
        self.wait_until(self.pipe.loop.time() + self.toxic.attributes["timeout"] / 1e3)

    def on_timer(self) -> None:
        self.close()

    def interrupt(self) -> bool:
        return not self.busy and super().interrupt()  # once it counts down, nothing holds it up


class Slicer(Stage):
    """Cuts chunks into slices of `average_size` +- `size_variation` bytes, `delay` microseconds apart."""

    attributes = ("average_size", "size_variation", "delay")
    sizes: deque[int]

    def on_chunk(self, data: Data, stamp: float) -> None:
        self.held = (memoryview(data), stamp)
        self.sizes = deque(self._cut(len(data)))
        self.on_timer()

    def on_timer(self) -> None:
        if held := self.take():
            data, stamp = held
            size = self.sizes.popleft()
            if self.sizes:
                self.held = (data[size:], stamp)
            self.outlet.feed(data[:size], stamp)
            if not self.closed:  # the last slice is followed by a delay, too
                self.wait_until(self.pipe.loop.time() + self.toxic.attributes["delay"] / 1e6)

    def _cut(self, size: int) -> Iterable[int]:
        """The sizes of the slices, by halving until a part is small enough: all of them vary alike."""
        average = max(self.toxic.attributes["average_size"], 1)
        variation = max(self.toxic.attributes["size_variation"], 0)
        parts = [size]
        while parts:
            part = parts.pop()
            if part - average <= variation:
                yield part
                continue
            left = part // 2
            if variation:
                left += self.pipe.proxy.dice.randrange(2 * variation) - variation
            left = min(max(left, 1), part - 1)  # a variation beyond the average takes the real server down
            parts += (part - left, left)


class LimitData(Stage):
    """Closes once `bytes` bytes have passed on this connection."""

    attributes = ("bytes",)
    passed = 0

    def on_chunk(self, data: Data, stamp: float) -> None:
        part = data[: max(self.toxic.attributes["bytes"] - self.passed, 0)]
        self.passed += len(part)
        if part:
            self.outlet.feed(part, stamp)
        if self.passed >= self.toxic.attributes["bytes"]:
            self.close()


STAGES: dict[str, type[Stage]] = {
    "noop": Stage,
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "limit_data": LimitData,
}


MILLION = 1_000_000  # shares of messages are given in millionths
_MOST_WAITING = 4096  # messages that may wait in a stage before the source is left unread


class Message(Stage):
    """Drops, changes, doubles, holds back and delays whole messages; only where the framing was told.

    Connections that were open before that pass untouched; on one that was open before the toxic, it begins
    with the next message. `drop`, `corrupt`, `duplicate` and `reorder` are millionths of the messages: those
    that do not pass, of which one bit is flipped, that come twice in a row, that are held for `hold` ms while
    others pass. All are delayed by `delay` plus or minus up to `jitter` ms, in their order. With a `seed`,
    the choices on the nth connection of a proxy are always the same.
    """

    attributes = ("drop", "corrupt", "duplicate", "reorder", "hold", "delay", "jitter", "seed")

    def __init__(self, toxic: Toxic, pipe: Pipe) -> None:
        super().__init__(toxic, pipe)
        self.framer = pipe.framer.copy() if pipe.framer else None
        self.late = self.framer is not None and self.framer.inside  # the rest of this piece is not ours
        self.counts = toxic.counts
        self.partial = bytearray()  # the message that is not whole yet
        self.waiting: list[tuple[float, int, bytes]] = []  # when they are due, their number: a heap
        self.count = 0
        self.due = 0.0  # of the last message, without those held back
        self.ending = False
        seed = toxic.attributes["seed"]
        where = f"{pipe.proxy.name}/{pipe.direction}/{pipe.connection.number}"
        self.dice = random.Random(f"{seed}/{where}") if seed else pipe.proxy.dice

    def start(self) -> None:
        rolled = self.pipe.proxy.dice.random() < self.toxic.toxicity
        if self.framer is None:
            self.pipe.proxy.untracked[self.pipe.direction] += 1
        elif not rolled:
            self.framer = None
        self.active = True
        self.advance()

    def restart(self) -> None:
        self.advance()  # neighbours come and go; what waits here goes on waiting

    def on_chunk(self, data: Data, stamp: float) -> None:
        framer = self.framer
        if framer is None:
            self.outlet.feed(data, stamp)
            return
        data, place = bytes(data), 0
        for end, touch in framer.ends(data):
            piece, place = data[place:end], end
            if self.late:
                self.late = False
                self.outlet.feed(piece, stamp)
                continue
            self.partial += piece
            message = bytes(self.partial)
            self.partial.clear()
            if touch:
                self._treat(message, stamp)
            else:
                self.counts["spared"] += 1
                self._flush(stamp)
                self.outlet.feed(message, stamp)
        rest = data[place:]
        if framer.error:
            self.framer = None
            self._flush(stamp)
        if self.late or framer.error:
            if rest and not self.closed:
                self.outlet.feed(rest, stamp)
        else:
            self.partial += rest
        self._release()

    def _rolled(self, name: str) -> bool:
        share = self.toxic.attributes[name]
        return share > 0 and self.dice.random() * MILLION < share

    def _treat(self, message: bytes, stamp: float) -> None:
        attributes, counts = self.toxic.attributes, self.counts
        counts["messages"] += 1
        dropped, changed, doubled, held = map(self._rolled, ("drop", "corrupt", "duplicate", "reorder"))
        delay: float = attributes["delay"]
        if attributes["jitter"]:
            delay += (2 * self.dice.random() - 1) * attributes["jitter"]
        if dropped:
            counts["dropped"] += 1
            return
        if changed:
            message = self._changed(message)
        self.due = max(self.due, stamp + delay / 1e3)
        due = self.due
        if held:
            counts["reordered"] += 1
            due = max(due, self.pipe.loop.time()) + attributes["hold"] / 1e3
        counts["duplicated"] += doubled
        counts["delayed"] += delay > 0
        for _ in range(1 + doubled):
            self.count += 1
            heapq.heappush(self.waiting, (due, self.count, message))

    def _changed(self, message: bytes) -> bytes:
        """The message with one bit of its payload flipped; itself, where it has none."""
        assert self.framer is not None
        parts = self.framer.payload(message)
        size = sum(stop - start for start, stop in parts)
        if not size:
            self.counts["empty"] += 1
            return message
        self.counts["corrupted"] += 1
        place, changed = self.dice.randrange(size), bytearray(message)
        for start, stop in parts:
            if place < stop - start:
                bits = [1 << bit for bit in range(8)]
                fine = [bit for bit in bits if not self.framer.spoilt(message[start + place] ^ bit)]
                changed[start + place] ^= self.dice.choice(fine)
                break
            place -= stop - start
        return bytes(changed)

    def _release(self) -> None:
        """Pass on what is due, and wait for what is due next."""
        now, waiting = self.pipe.loop.time(), self.waiting
        ready = []
        while waiting and waiting[0][0] <= now:
            due, _, message = heapq.heappop(waiting)
            ready.append(message)
        if ready:
            self.outlet.feed(b"".join(ready), due)
        if self.closed:
            return
        self.stop_waiting()
        if waiting:
            self.wait_until(waiting[0][0], busy=len(waiting) >= _MOST_WAITING)
        elif self.ending:
            self._flush(now)
            self.close()

    def _flush(self, stamp: float) -> None:
        """Pass on all that waits, in the order in which it came."""
        self.waiting.sort(key=lambda one: one[1])
        waiting, self.waiting = [message for _, _, message in self.waiting], []
        if self.partial:
            waiting.append(bytes(self.partial))
            self.partial.clear()
        if waiting and not self.closed:
            self.outlet.feed(b"".join(waiting), stamp)

    def on_timer(self) -> None:
        self._release()

    def on_end(self) -> None:
        self.ending = True
        self._release()

    def remove(self) -> bool:
        if self.closed:
            return False
        self.stop_waiting()
        self._flush(self.pipe.loop.time())
        self.framer = None
        if self.ending:
            self.close()
        self.advance()
        return not self.closed


COUNTS = (
    "messages", "dropped", "corrupted", "duplicated", "reordered", "delayed",
    "spared",  # passed as they came, as their kind cannot be held back
    "empty",  # to be corrupted, and without a payload
)  # fmt: skip
OURS: dict[str, type[Stage]] = {"message": Message}
"""What the real server does not have."""
ALL = STAGES | OURS


# ---------------------------------------------------------------- connections


class Selector(selectors.DefaultSelector):
    """The loop's selector, which calls the pipes itself.

    The loop's own way (a handle, a queue, a context for each event) costs a pipe a fifth of its time. What a
    pipe does is short and waits for nothing, so it can be done as soon as the event is known.
    """

    def watch(self, descriptor: int, event: int, call: Callable[[], None] | None) -> None:
        """Call this whenever the descriptor is ready to read, or to write; None to call no more."""
        key = self.get_map().get(descriptor)
        calls: list[Callable[[], None] | None] = key.data if key else [None, None]
        calls[event == selectors.EVENT_WRITE] = call
        wanted = (selectors.EVENT_READ if calls[0] else 0) | (selectors.EVENT_WRITE if calls[1] else 0)
        if not key:
            if wanted:
                self.register(descriptor, wanted, calls)
        elif wanted:
            self.modify(descriptor, wanted, calls)
        else:
            self.unregister(descriptor)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        others = []
        for event in super().select(timeout):
            calls, mask = event[0].data, event[1]
            if type(calls) is not list:
                others.append(event)  # the loop's own
                continue
            for index, kind in ((0, selectors.EVENT_READ), (1, selectors.EVENT_WRITE)):
                # Taken from the list only now, as an earlier call may have ended this one.
                if mask & kind and (call := calls[index]):
                    try:
                        call()
                    except Exception:
                        sys.excepthook(*sys.exc_info())  # one connection's trouble is not the server's
        return others


class Pipe:
    """One direction of one connection: `source`, the stages of that direction, `sink`.

    It works on the sockets, not on transports: without a stage, a block passes through a buffer that all
    pipes share, with one system call each way, and what the sink does not take at once stops the reading.
    """

    def __init__(
        self, connection: Connection, direction: str, source: socket.socket, sink: socket.socket
    ) -> None:
        self.connection, self.direction, self.source, self.sink = connection, direction, source, sink
        self.proxy = connection.proxy
        self.loop, self.watch = self.proxy.server.loop, self.proxy.server.selector.watch
        self.block = self.proxy.server.block
        self.receive_into, self.send = source.recv_into, sink.send  # looked up once: the hot path
        self.framer = self.proxy.framer(direction, connection.exchange)  # of what has reached the sink
        self.stages = [ALL[toxic.kind](toxic, self) for toxic in self.proxy.chain(direction)]
        self.pending = bytearray()  # what the sink has not taken yet
        self.reading = False
        self.ended = False  # nothing more comes from the source
        self.ending = False  # nothing more comes out of the stages
        self.received = self.sent = 0

    def start(self) -> None:
        self._join()
        for stage in self.stages:
            stage.start()
        self.balance()

    def _join(self) -> None:
        following: Stage | Pipe = self
        for stage in reversed(self.stages):
            stage.outlet, following = following, stage

    # -- from the source

    def _on_readable(self) -> None:
        if self.stages:
            self._read_chunk()
            return
        try:
            count = self.receive_into(self.block)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if not count:
            self.source_ended()
            return
        self.received += count
        self._deliver(self.block[:count])
        if self.pending:
            self.balance()

    def _read_chunk(self) -> None:
        try:
            data = self.source.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""  # a reset ends the stream as a close does
        if not data:
            self.source_ended()
            return
        self.received += len(data)
        self.stages[0].feed(data, self.loop.time())
        self.balance()

    def source_ended(self) -> None:
        """The source was closed, by its peer or by us."""
        if not self.ended:
            self.ended = True
            self.balance()
            (self.stages[0] if self.stages else self).end()

    def balance(self) -> None:
        """Read the source exactly while there is room, and use, for what it sends."""
        full = self.pending or any(len(stage.queue) >= stage.capacity for stage in self.stages)
        wanted = not (full or self.ended or self.ending)
        if wanted != self.reading:
            self.reading = wanted
            self.watch(self.source.fileno(), selectors.EVENT_READ, self._on_readable if wanted else None)

    # -- to the sink; to the last stage a pipe looks like another stage

    def feed(self, data: Data, stamp: float) -> None:
        if self.sink.fileno() >= 0:
            self._deliver(data)

    def _deliver(self, data: Data) -> None:
        if self.framer:
            self._follow(self.framer, bytes(data))
        sent = 0
        if not self.pending:
            try:
                sent = self.send(data)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self.connection.close(self.sink)
                return
            self.sent += sent
            if sent == len(data):
                return
            self.watch(self.sink.fileno(), selectors.EVENT_WRITE, self._on_writable)
        self.pending += data[sent:]

    def _follow(self, framer: Framer, data: bytes) -> None:
        """Know where messages end, for a toxic that comes later."""
        framer.ends(data)
        if framer.error:
            self.proxy.unparsable[self.direction] += 1
            self.proxy.trouble.setdefault(self.direction, framer.error)
            self.framer = None

    def _on_writable(self) -> None:
        try:
            sent = self.send(self.pending)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.connection.close(self.sink)
            return
        self.sent += sent
        del self.pending[:sent]
        if not self.pending:
            self.watch(self.sink.fileno(), selectors.EVENT_WRITE, None)
            if self.ending:
                self.connection.close(self.sink)
            else:
                self.balance()

    def end(self) -> None:
        """No half-close: the end of one direction closes the other side's socket altogether."""
        self.ending = True
        if not self.pending:
            self.connection.close(self.sink)

    # -- changes while it runs

    def attach(self, toxic: Toxic) -> None:
        if self.stages:
            self.stages[-1].restart()
        stage = ALL[toxic.kind](toxic, self)  # now, as it begins where the sink is
        if self.stages:
            stage.closed = self.stages[-1].closed
        self.stages.append(stage)
        self._join()
        stage.closed = stage.closed or self.ending
        if not stage.closed:
            stage.start()
        self.balance()

    def change(self, toxic: Toxic) -> None:
        for stage in self.stages:
            if stage.toxic is toxic:
                stage.restart()
        self.balance()

    def detach(self, toxic: Toxic) -> None:
        for position, stage in enumerate(self.stages):
            if stage.toxic is toxic:
                if stage.remove():
                    del self.stages[position]
                    self._join()
                    if position:
                        self.stages[position - 1].restart()
                break
        self.balance()


class Connection:
    """A client, its connection to the upstream, and the two pipes between them."""

    def __init__(self, proxy: Proxy, client: socket.socket, upstream: socket.socket) -> None:
        self.proxy, self.exchange = proxy, Exchange()
        proxy.accepted += 1
        self.number: int = proxy.accepted
        self.pipes = (Pipe(self, "upstream", client, upstream), Pipe(self, "downstream", upstream, client))
        if any(stage.toxic.kind == "reset_peer" for pipe in self.pipes for stage in pipe.stages):
            for side in (client, upstream):  # RST instead of FIN, whichever end closes
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def start(self) -> None:
        for pipe in self.pipes:
            pipe.start()

    def close(self, side: socket.socket) -> None:
        """Close one side; the pipe that reads from it ends, as a read of a closed socket does."""
        if side.fileno() < 0:
            return
        for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
            self.proxy.server.selector.watch(side.fileno(), event, None)
        side.close()
        for pipe in self.pipes:
            if pipe.source is side:
                pipe.reading = False
                pipe.source_ended()
            else:
                pipe.ending = True
                pipe.balance()
        if all(pipe.sink.fileno() < 0 for pipe in self.pipes):
            self._forget()

    def abort(self) -> None:
        """Close both sides now, whatever a toxic holds back."""
        for pipe in self.pipes:
            self.close(pipe.sink)

    def _forget(self) -> None:
        if self in self.proxy.connections:
            del self.proxy.connections[self]
            for pipe in self.pipes:
                self.proxy.count(pipe)
                for stage in pipe.stages:
                    stage.closed = True
                    stage.stop_waiting()


# ---------------------------------------------------------------- addresses, as Go reads and prints them


class AddressError(Exception):
    """An address that cannot be used; the text is the real server's."""


class Endpoint(NamedTuple):
    """A resolved address; `host` is numeric, or empty for all of them."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def split_address(address: str) -> tuple[str, int]:
    """`host:port` with a numeric or named port into its parts; raises AddressError."""
    match = re.fullmatch(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[^:]*)", address)
    if match is None:
        many = address.count(":") > 1 and not address.startswith("[")
        raise AddressError(f"address {address}: {'too many colons' if many else 'missing port'} in address")
    host, port = match["host"] if match["v6"] is None else match["v6"], match["port"]
    if re.fullmatch(r"[+-]?\d+", port):
        if not 0 <= int(port) <= 65535:
            raise AddressError(f"address {port}: invalid port")
        return host, int(port)
    try:
        return host, socket.getservbyname(port, "tcp") if port else 0
    except OSError:
        raise AddressError(f"lookup tcp/{port}: unknown port") from None


async def lookup(host: str, port: int) -> list[Endpoint]:
    """All endpoints of a host, IPv4 first; only a name waits, and blocks nobody else. Raises AddressError."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [Endpoint(host, port)]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressError(f"lookup {host}: no such host") from None
    return sorted((Endpoint(str(row[4][0]), port) for row in found), key=lambda endpoint: endpoint.family)


async def resolve(address: str) -> Endpoint:
    """Where a listener shall listen; an empty address is any port on all addresses. Raises AddressError."""
    host, port = split_address(address) if address else ("", 0)
    return (await lookup(host, port))[0] if host else Endpoint("", port)


def listen(endpoint: Endpoint) -> socket.socket:
    """A listening socket; a wildcard takes IPv6 and IPv4 together where both are there. Raises OSError."""
    if endpoint.host in ("", "0.0.0.0", "::"):
        try:
            return _bound(Endpoint("::", endpoint.port))
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            endpoint = Endpoint("0.0.0.0", endpoint.port)
    return _bound(endpoint)


def _bound(endpoint: Endpoint) -> socket.socket:
    listener = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((endpoint.host, endpoint.port))
        listener.listen(4096)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


# ---------------------------------------------------------------- proxies


class Proxy:
    """A listener, an upstream, toxics and the connections that pass them.

    How toxics reach the connections is in `chain`, `attach`, `change` and `detach` alone: a test can tamper
    with them.
    """

    def __init__(self, server: Server, name: str, listen: str, upstream: str) -> None:
        self.server, self.name, self.listen, self.upstream = server, name, listen, upstream
        self.dice = server.dice
        self.toxics: list[Toxic] = []
        self.connections: dict[Connection, None] = {}  # in their order, as the dice are rolled in it
        self.listener: socket.socket | None = None
        self.dials: set[asyncio.Task[None]] = set()
        self.accepted: int = 0
        self.framings: dict[str, Framing] = {}
        # connections that pass untouched: open before the framing was told, or not keeping to it
        self.untracked, self.unparsable = Counter[str](), Counter[str]()
        self.trouble: dict[str, str] = {}  # why a stream could not be parsed, the first time

    @property
    def enabled(self) -> bool:
        return self.listener is not None

    def render(self) -> str:
        toxics = ",".join(
            toxic.render() for name in DIRECTIONS for toxic in self.toxics if toxic.direction == name
        )
        return (
            f'{{"name":{render(self.name)},"listen":{render(self.listen)},"upstream":{render(self.upstream)},'
            f'"enabled":{render(self.enabled)},"Logger":{{}},"toxics":[{toxics}]}}'
        )

    # -- messages

    def framer(self, direction: str, exchange: Exchange) -> Framer | None:
        """What follows a new connection's messages, where their framing is known."""
        framing = self.framings.get(direction)
        return framing and FRAMERS[framing.kind](framing, exchange, answers=direction == "downstream")

    def render_framing(self, direction: str) -> str:
        row = {"proxy": self.name, "stream": direction, **self.framings[direction]._asdict()}
        untouched = {"untracked": self.untracked[direction], "unparsable": self.unparsable[direction]}
        toxics = {
            toxic.name: {name: toxic.counts[name] for name in COUNTS}
            for toxic in self.chain(direction)
            if toxic.kind in OURS
        }
        return render(row | untouched | {"error": self.trouble.get(direction, ""), "toxics": toxics})

    # -- toxics

    def chain(self, direction: str) -> list[Toxic]:
        """The toxics a new connection starts with, in order."""
        return [toxic for toxic in self.toxics if toxic.direction == direction]

    def attach(self, toxic: Toxic) -> None:
        """Bring a new toxic to the live connections."""
        for pipe in self._pipes(toxic):
            pipe.attach(toxic)

    def change(self, toxic: Toxic) -> None:
        for pipe in self._pipes(toxic):
            pipe.change(toxic)

    def detach(self, toxic: Toxic) -> None:
        for pipe in self._pipes(toxic):
            pipe.detach(toxic)

    def _pipes(self, toxic: Toxic) -> list[Pipe]:
        return [pipe for one in self.connections for pipe in one.pipes if pipe.direction == toxic.direction]

    # -- listening

    def start(self, endpoint: Endpoint) -> None:
        """Listen; raises ApiError with the real server's text."""
        try:
            self.listener = listen(endpoint)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise ApiError(500, f"listen tcp {endpoint}: bind: {reason}") from None
        self.listen = str(Endpoint(*self.listener.getsockname()[:2]))
        self.server.loop.add_reader(self.listener.fileno(), self._accept)

    def stop(self) -> None:
        """Listen no more and close all connections; does nothing where it is stopped."""
        if self.listener is not None:
            self.server.loop.remove_reader(self.listener.fileno())
            self.listener.close()
            self.listener = None
            for task in list(self.dials):
                task.cancel()
            for connection in list(self.connections):
                connection.abort()

    def _accept(self) -> None:
        listener = self.listener
        for _ in range(64):  # then let others have a turn
            if listener is None:
                return
            try:
                client, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:  # out of descriptors: try again in a while, not in a busy loop
                self.server.loop.remove_reader(listener.fileno())
                self.server.loop.call_later(0.1, self._accept_again, listener)
                return
            task = self.server.loop.create_task(self._serve(client))
            self.dials.add(task)
            task.add_done_callback(self.dials.discard)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener is self.listener:
            self.server.loop.add_reader(listener.fileno(), self._accept)

    async def _serve(self, client: socket.socket) -> None:
        """Dial the upstream for a client, which is not read before, then leave both to a connection."""
        try:
            client.setblocking(False)
            upstream = await self._dial()
        except BaseException as error:
            client.close()
            if isinstance(error, (OSError, AddressError)):
                return
            raise
        with contextlib.suppress(OSError):  # reset meanwhile, which the connection will find out
            for side in (client, upstream):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, client, upstream)
        self.connections[connection] = None
        connection.start()

    async def _dial(self) -> socket.socket:
        host, port = split_address(self.upstream)
        trouble: OSError = OSError("no address")
        for endpoint in await lookup(host or "localhost", port):
            upstream = socket.socket(endpoint.family, socket.SOCK_STREAM)
            upstream.setblocking(False)
            try:
                await self.server.loop.sock_connect(upstream, (endpoint.host, endpoint.port))
                return upstream
            except OSError as error:
                upstream.close()
                trouble = error
            except BaseException:
                upstream.close()
                raise
        raise trouble

    def count(self, pipe: Pipe) -> None:
        """Add an ended direction to the metrics."""
        labels = (pipe.direction, self.listen, self.name, self.upstream)
        for name, count in (("received", pipe.received), ("sent", pipe.sent)):
            self.server.bytes[name, labels] = self.server.bytes.get((name, labels), 0) + count


# ---------------------------------------------------------------- JSON, as Go decodes and prints it


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def render(self) -> str:
        return f'{{"error":{render(self.message)},"status":{self.status}}}'


_LARGEST = 3.4028235e38  # a little above the largest 32-bit float, which it rounds to
_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
_KINDS = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


def render(value: object) -> str:
    """Compact JSON: raw UTF-8, with what HTML or JavaScript could take amiss escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def render_float32(number: float) -> str:
    """The shortest decimal that reads back as the same 32-bit float, exponents only where Go uses them."""
    texts = (f"{number:.{digits}e}" for digits in range(9))  # nine digits tell all 32-bit floats apart
    text = next(
        (text for text in texts if abs(float(text)) <= _LARGEST and _float32(float(text)) == number), ""
    )
    mantissa, _, exponent = text.partition("e")
    sign, figures, power = (
        "-" * mantissa.startswith("-"),
        mantissa.lstrip("-").replace(".", ""),
        int(exponent),
    )
    if not -6 <= power < 21:
        return f"{mantissa}e{'+' if power > 0 else '-'}{abs(power)}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{figures}"
    whole, fraction = figures[: power + 1].ljust(power + 1, "0"), figures[power + 1 :]
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _float32(number: float) -> float:
    """Rounded to 32 bits; raises OverflowError beyond them."""
    if math.isinf(number):
        raise OverflowError(number)
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def _mismatch(value: object, where: str, kind: str) -> ApiError:
    return ApiError(
        400, f"bad request body: json: cannot unmarshal {_KINDS[type(value)]} into Go {where} of type {kind}"
    )


class Fields:
    """A JSON object read field by field, as Go does: null is not there, fields not asked for are ignored."""

    def __init__(self, value: dict[str, Any], where: str) -> None:
        self.value, self.where = value, where

    def _get(self, name: str, default: Any, kinds: tuple[type, ...], wanted: str) -> Any:
        value = self.value.get(name, default)
        if type(value) not in kinds:
            raise _mismatch(value, f"struct field {self.where}.{name}", wanted)
        return value

    def text(self, name: str, default: str) -> str:
        return re.sub("[\ud800-\udfff]", "\ufffd", self._get(name, default, (str,), "string"))

    def flag(self, name: str, default: bool) -> bool:
        return bool(self._get(name, default, (bool,), "bool"))

    def integer(self, name: str, default: int) -> int:
        value = int(self._get(name, default, (int,), "int64"))
        if not -(2**63) <= value < 2**63:
            raise _mismatch(value, f"struct field {self.where}.{name}", "int64")
        return value

    def float32(self, name: str, default: float) -> float:
        value = self._get(name, default, (int, float), "float32")
        try:
            return _float32(float(value))
        except OverflowError:
            raise _mismatch(value, f"struct field {self.where}.{name}", "float32") from None

    def fields(self, name: str) -> Fields:
        return Fields(self._get(name, {}, (dict,), "object"), f".{name}")


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name.lower(): value for name, value in pairs if value is not None}


def _not_json(literal: str) -> float:
    raise ValueError(f"invalid character {literal[0]!r}")


_DECODER = json.JSONDecoder(object_pairs_hook=_fold, parse_constant=_not_json)


def decode(body: bytes, kind: type, name: str) -> Any:
    """The first JSON value of a body, which must be a `kind` (null is an empty one); raises ApiError."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise ApiError(400, "bad request body: EOF")
    try:
        value, _ = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        reason = "unexpected EOF" if at_end else f"invalid character {text[error.pos]!r}"
        raise ApiError(400, f"bad request body: {reason}") from None
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"bad request body: {error}") from None
    return expect(value, kind, name)


def expect(value: Any, kind: type, name: str) -> Any:
    """The value, if it is of this kind; null is an empty one."""
    if value is None:
        return kind()
    if type(value) is not kind:
        raise _mismatch(value, "value", name)
    return value


# ---------------------------------------------------------------- the API


class Response(NamedTuple):
    """What a handler answers."""

    status: int
    body: str = ""
    content_type: str = "application/json"


Handler = Callable[[bytes], Awaitable[Response]]


class Server:
    """The proxies by name, and the API to them. Everything happens on one event loop."""

    proxy_type: type[Proxy] = Proxy

    def __init__(
        self,
        selector: Selector,
        *,
        seed: int | None = None,
        proxy_metrics: bool = False,
        runtime_metrics: bool = False,
    ) -> None:
        self.loop, self.selector = asyncio.get_running_loop(), selector
        self.dice = random.Random(seed)
        self.block = memoryview(bytearray(_BLOCK))
        self.proxies: dict[str, Proxy] = {}
        self.bytes: dict[tuple[str, tuple[str, ...]], int] = {}
        self.proxy_metrics, self.runtime_metrics = proxy_metrics, runtime_metrics

    def route(self, segments: list[str]) -> dict[str, Handler] | None:
        """The handlers of a path by method, `*` for any method; None for a path that is not there."""
        match segments:
            case ["version"]:
                return {"GET": self._version}
            case ["reset"]:
                return {"POST": self._reset}
            case ["populate"]:
                return {"POST": self.populate}
            case ["metrics"] if self.proxy_metrics or self.runtime_metrics:
                return {"*": self._metrics}
            case ["framing"]:
                return {"GET": self._framings, "POST": self._frame}
            case ["proxies"]:
                return {"GET": self._list, "POST": self._create}
            case ["proxies", name]:
                update = functools.partial(self._update, name)
                show, delete = functools.partial(self._show, name), functools.partial(self._delete, name)
                return {"GET": show, "POST": update, "PATCH": update, "DELETE": delete}
            case ["proxies", name, "toxics"]:
                listing, add = functools.partial(self._toxics, name), functools.partial(self._add_toxic, name)
                return {"GET": listing, "POST": add}
            case ["proxies", name, "toxics", toxic]:
                update = functools.partial(self._update_toxic, name, toxic)
                show = functools.partial(self._show_toxic, name, toxic)
                delete = functools.partial(self._delete_toxic, name, toxic)
                return {"GET": show, "POST": update, "PATCH": update, "DELETE": delete}
        return None

    # -- proxies

    async def _version(self, body: bytes) -> Response:
        return Response(200, f'{{"version": "{VERSION}"}}\n', "application/json;charset=utf-8")

    async def _list(self, body: bytes) -> Response:
        rows = (f"{render(name)}:{proxy.render()}" for name, proxy in sorted(self.proxies.items()))
        return Response(200, f"{{{','.join(rows)}}}")

    async def _create(self, body: bytes) -> Response:
        fields = Fields(decode(body, dict, "toxiproxy.Proxy"), "Proxy")
        proxy, enabled = self._read_proxy(fields), fields.flag("enabled", True)
        _require(proxy)
        endpoint = (
            await _resolve_listener(proxy.listen) if enabled and proxy.name not in self.proxies else None
        )
        if proxy.name in self.proxies:
            raise ApiError(409, "proxy already exists")
        if endpoint:
            proxy.start(endpoint)
        self.proxies[proxy.name] = proxy
        return Response(201, proxy.render())

    async def populate(self, body: bytes) -> Response:
        """Create or replace many proxies: all are read first, then done in order until one fails."""
        done: list[str] = []
        failure = None
        try:
            rows = decode(body, list, "[]struct")
            fields = [Fields(expect(row, dict, "struct"), "Proxy") for row in rows]
            wanted = [(self._read_proxy(row), row.flag("enabled", True)) for row in fields]
            for position, (proxy, _) in enumerate(wanted, 1):
                _require(proxy, f" at proxy {position}")
            for proxy, enabled in wanted:
                done.append((await self._add_or_replace(proxy, enabled)).render())
        except ApiError as error:
            failure = error
        proxies = f"[{','.join(done)}]" if done else "null"
        if failure:
            return Response(failure.status, f'{failure.render()[:-1]},"proxies":{proxies}}}')
        return Response(201, f'{{"proxies":{proxies}}}')

    async def _add_or_replace(self, proxy: Proxy, enabled: bool) -> Proxy:
        existing = self.proxies.get(proxy.name)
        if existing:
            endpoint = await _resolve_plain(proxy.listen)
            if (existing.listen, existing.upstream) == (str(endpoint), proxy.upstream):
                return existing
            existing.stop()
        if enabled:
            proxy.start(await _resolve_listener(proxy.listen))
        self.proxies[proxy.name] = proxy
        return proxy

    async def _reset(self, body: bytes) -> Response:
        for proxy in list(self.proxies.values()):
            if not proxy.enabled:
                proxy.start(await _resolve_listener(proxy.listen))
            for toxic in list(proxy.toxics):
                proxy.toxics.remove(toxic)
                proxy.detach(toxic)
        return Response(204)

    async def _show(self, name: str, body: bytes) -> Response:
        return Response(200, self._proxy(name).render())

    async def _update(self, name: str, body: bytes) -> Response:
        proxy = self._proxy(name)
        fields = Fields(decode(body, dict, "toxiproxy.Proxy"), "Proxy")
        fields.text("name", "")  # ignored, but it has to be one
        address, upstream = fields.text("listen", proxy.listen), fields.text("upstream", proxy.upstream)
        enabled = fields.flag("enabled", proxy.enabled)
        endpoint = await _resolve_plain(address)
        if (proxy.listen, proxy.upstream) != (str(endpoint), upstream):
            proxy.stop()
            proxy.listen, proxy.upstream = address, upstream
        if enabled and not proxy.enabled:
            proxy.start(endpoint)
        elif not enabled:
            proxy.stop()
        return Response(200, proxy.render())

    async def _delete(self, name: str, body: bytes) -> Response:
        self._proxy(name).stop()
        del self.proxies[name]
        return Response(204)

    def _proxy(self, name: str) -> Proxy:
        if name not in self.proxies:
            raise ApiError(404, "proxy not found")
        return self.proxies[name]

    def _read_proxy(self, fields: Fields) -> Proxy:
        return self.proxy_type(
            self, fields.text("name", ""), fields.text("listen", ""), fields.text("upstream", "")
        )

    # -- messages, which the real server knows nothing of

    async def _framings(self, body: bytes) -> Response:
        rows = (
            proxy.render_framing(direction)
            for _, proxy in sorted(self.proxies.items())
            for direction in DIRECTIONS
            if direction in proxy.framings
        )
        return Response(200, f"[{','.join(rows)}]")

    async def _frame(self, body: bytes) -> Response:
        """Take the framings of streams, for the connections that are opened from now on: all, or none."""
        wanted: list[tuple[Proxy, str, Framing]] = []
        for row in decode(body, list, "[]struct"):
            fields = Fields(expect(row, dict, "struct"), "Framing")
            proxy, stream = self._proxy(fields.text("proxy", "")), fields.text("stream", "")
            if stream not in DIRECTIONS:
                raise ApiError(400, "stream was invalid, can be either upstream or downstream")
            framing = Framing(
                fields.text("kind", ""),
                fields.integer("size", 4),
                fields.flag("little", False),
                *(fields.integer(name, 0) for name in ("offset", "adjust", "greeting")),
            )
            if wrong := framing.wrong():
                raise ApiError(400, f"bad request body: {wrong}")
            wanted.append((proxy, stream, framing))
        for proxy, stream, framing in wanted:
            proxy.framings[stream] = framing
        return await self._framings(body)

    # -- toxics

    async def _toxics(self, name: str, body: bytes) -> Response:
        proxy = self._proxy(name)
        rows = [toxic.render() for way in DIRECTIONS for toxic in proxy.toxics if toxic.direction == way]
        return Response(200, f"[{','.join(rows)}]")

    async def _add_toxic(self, name: str, body: bytes) -> Response:
        proxy = self._proxy(name)
        fields = Fields(decode(body, dict, "toxics.ToxicWrapper"), "ToxicWrapper")
        kind, stream = fields.text("type", ""), fields.text("stream", "downstream")
        title, toxicity = fields.text("name", ""), fields.float32("toxicity", 1.0)
        given = fields.fields("attributes")
        if stream.lower() not in DIRECTIONS:
            raise ApiError(400, "stream was invalid, can be either upstream or downstream")
        if kind not in ALL:
            raise ApiError(400, "invalid toxic type")
        if kind in OURS and stream.lower() not in proxy.framings:
            raise ApiError(400, "how its messages are framed was not told: POST /framing")
        title = title or f"{kind}_{stream}"
        if any(toxic.name == title for toxic in proxy.toxics):
            raise ApiError(409, "toxic already exists")
        attributes = {attribute: given.integer(attribute, 0) for attribute in ALL[kind].attributes}
        toxic = Toxic(title, kind, stream, toxicity, attributes)
        proxy.toxics.append(toxic)
        proxy.attach(toxic)
        return Response(200, toxic.render())

    async def _show_toxic(self, name: str, title: str, body: bytes) -> Response:
        return Response(200, self._toxic(self._proxy(name), title).render())

    async def _update_toxic(self, name: str, title: str, body: bytes) -> Response:
        proxy = self._proxy(name)
        toxic = self._toxic(proxy, title)
        fields = Fields(decode(body, dict, "struct"), "")
        given, failure = fields.fields("attributes"), None
        for attribute in toxic.attributes:  # those that can be read are kept even where another one cannot
            try:
                toxic.attributes[attribute] = given.integer(attribute, toxic.attributes[attribute])
            except ApiError as error:
                failure = failure or error
        toxicity = fields.float32("toxicity", toxic.toxicity)
        if failure:
            raise failure
        toxic.toxicity = toxicity
        proxy.change(toxic)
        return Response(200, toxic.render())

    async def _delete_toxic(self, name: str, title: str, body: bytes) -> Response:
        proxy = self._proxy(name)
        toxic = self._toxic(proxy, title)
        proxy.toxics.remove(toxic)
        proxy.detach(toxic)
        return Response(204)

    def _toxic(self, proxy: Proxy, title: str) -> Toxic:
        for toxic in proxy.toxics:
            if toxic.name == title:
                return toxic
        raise ApiError(404, "toxic not found")

    # -- metrics

    async def _metrics(self, body: bytes) -> Response:
        lines: list[str] = []
        for name in ("received", "sent") if self.proxy_metrics else ():
            series = f"toxiproxy_proxy_{name}_bytes_total"
            lines += [f"# HELP {series} ", f"# TYPE {series} counter"]
            for (kind, labels), count in sorted(self.bytes.items()):
                if kind == name:
                    texts = zip(("direction", "listener", "proxy", "upstream"), labels, strict=True)
                    pairs = ",".join(
                        f"{label}={json.dumps(text, ensure_ascii=False)}" for label, text in texts
                    )
                    lines.append(f"{series}{{{pairs}}} {count}")
        if self.runtime_metrics:
            seconds = time.process_time()
            lines += ["# TYPE process_cpu_seconds_total counter", f"process_cpu_seconds_total {seconds:.2f}"]
        return Response(200, "\n".join([*lines, ""]), "text/plain; version=0.0.4; charset=utf-8")


def _require(proxy: Proxy, where: str = "") -> None:
    for field, value in (("name", proxy.name), ("upstream", proxy.upstream)):
        if not value:
            raise ApiError(400, f"missing required field: {field}{where}")


async def _resolve_plain(address: str) -> Endpoint:
    try:
        return await resolve(address)
    except AddressError as error:
        raise ApiError(500, str(error)) from None


async def _resolve_listener(address: str) -> Endpoint:
    try:
        return await resolve(address)
    except AddressError as error:
        raise ApiError(500, f"listen tcp: {error}") from None


# ---------------------------------------------------------------- HTTP/1.1, as much of it as an API needs

_PLAIN = "text/plain; charset=utf-8"
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    500: "Internal Server Error",
}


class Request(NamedTuple):
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class _Malformed(Exception):
    """What came is not HTTP."""


async def serve_api(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one API connection in their order, until either end has enough."""
    silence = server.loop.call_later(_IDLE, writer.close)
    try:
        while True:
            request = await _read_request(reader, writer)
            silence.cancel()
            writer.write(await _answer(server, request))
            await writer.drain()
            if not request.keep_alive:
                return
            silence = server.loop.call_later(_IDLE, writer.close)
    except _Malformed:
        writer.write(_format(Response(400, "400 Bad Request", _PLAIN), {"Connection": "close"}))
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    finally:
        silence.cancel()
        writer.close()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].lstrip("\r\n").split("\r\n")
    match = re.fullmatch(r"([!-~]+) ([!-~\x80-\xff]+) HTTP/1\.([01])", first)
    if match is None:
        raise _Malformed
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if match[3] == "1" and "host" not in headers:
        raise _Malformed
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    wish = headers.get("connection", "").lower()
    keep_alive = wish == "keep-alive" if match[3] == "0" else wish != "close"
    try:
        body = await _read_body(reader, headers)
    except ValueError:
        raise _Malformed from None
    return Request(match[1], match[2], headers, body, keep_alive)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        return await reader.readexactly(int(headers.get("content-length", "0")))
    parts = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailers
    return b"".join(parts)


async def _answer(server: Server, request: Request) -> bytes:
    """The bytes of the answer: what the real server's router and middleware do around a handler."""
    path, _, query = request.target.partition("?")
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise _Malformed
    path = unquote_to_bytes(re.sub(r"^https?://[^/]*", "", path).encode("latin-1")).decode("utf-8", "replace")
    clean = _clean(path)
    if clean != path:
        location = quote_url(clean, safe="/$&+,:;=@") + (f"?{query}" if query else "")
        return _format(Response(301, "", ""), {"Location": location})
    segments = path[1:].split("/")
    handlers = server.route(segments) if segments[-1] else None  # a trailing slash matches nothing
    if handlers is None:
        return _format(Response(404, "404 page not found\n", _PLAIN), _NO_SNIFF)
    handler = handlers.get(request.method) or handlers.get("*")
    if handler is None:
        return _format(Response(405, "", ""))
    marks = {"X-Toxiproxy-Request-Id": f"{random.getrandbits(80):020x}"}
    if request.headers.get("user-agent", "").startswith("Mozilla/"):
        return _format(Response(403, "User agent not allowed\n", _PLAIN), marks | _NO_SNIFF)
    try:
        response = await handler(request.body)
    except ApiError as error:
        return _format(Response(error.status, f"{error.render()}\n", _PLAIN), marks | _NO_SNIFF)
    return _format(response, marks, with_body=request.method != "HEAD")


def _clean(path: str) -> str:
    """The path without `//`, `/./` and `/../`, its trailing slash kept."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return f"/{'/'.join(parts)}{'/' if parts and path.endswith('/') else ''}"


def _format(response: Response, headers: dict[str, str] | None = None, *, with_body: bool = True) -> bytes:
    body = response.body.encode()
    lines = [f"HTTP/1.1 {response.status} {_REASONS[response.status]}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines.append(f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}")
    if response.status != 204:
        lines.append(f"Content-Length: {len(body)}")
        if response.content_type:
            lines.append(f"Content-Type: {response.content_type}")
    return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")


# ---------------------------------------------------------------- the program


async def run(options: argparse.Namespace, selector: Selector, server_type: type[Server] = Server) -> None:
    """Serve until a signal comes, on a loop with this selector; raises OSError or AddressError."""
    server = server_type(
        selector,
        seed=options.seed,
        proxy_metrics=options.proxy_metrics,
        runtime_metrics=options.runtime_metrics,
    )
    if options.config:
        await _populate_from(server, options.config)
    endpoint = (await lookup(options.host, options.port))[0]
    api = await asyncio.start_server(
        functools.partial(serve_api, server), sock=listen(endpoint), limit=1 << 20
    )
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        server.loop.add_signal_handler(number, stopped.set)
    print("listening on", Endpoint(*api.sockets[0].getsockname()[:2]), flush=True)
    # What start-up made stays: a collection need not look at it, and need not run often.
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    await stopped.wait()


async def _populate_from(server: Server, path: str) -> None:
    """A configuration that cannot be used is reported, and the server starts all the same."""
    try:
        with open(path, "rb") as file:
            response = await server.populate(file.read())
    except OSError as error:
        print(f"Error reading config file: {error}", file=sys.stderr)
        return
    if response.status != 201:
        print(f"Failed to populate proxies from {path}: {response.body}", file=sys.stderr)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends; only Linux can."""
    if sys.platform == "linux":
        import ctypes

        parent, pr_set_pdeathsig = os.getppid(), 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            sys.exit("the parent is gone")


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}[text.lower()]


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the real server, with one dash or two, and `--die-with-parent`."""
    parser = argparse.ArgumentParser(description="A Toxiproxy 2.12 server", allow_abbrev=False)
    parser.add_argument("-host", "--host", default="localhost", help="host for the API to listen on")
    parser.add_argument(
        "-port", "--port", type=int, default=8474, help="port for the API to listen on; 0: a free one"
    )
    parser.add_argument("-config", "--config", help="JSON file with proxies to create on start-up")
    parser.add_argument("-seed", "--seed", type=int, help="seed for the dice of toxics")
    for name, text in (
        ("proxy-metrics", "serve bytes per proxy on /metrics"),
        ("runtime-metrics", "serve processor time on /metrics"),
        ("version", "print the version"),
        ("die-with-parent", "be killed when the thread that started this ends (Linux)"),
    ):
        parser.add_argument(
            f"-{name}", f"--{name}", nargs="?", type=_truth, const=True, default=False, help=text
        )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None, server_type: type[Server] = Server) -> None:
    """Run the server from a command line."""
    options = parse_options(arguments)
    if options.version:
        print(f"toxiproxy-server version {VERSION}")
        return
    if options.die_with_parent:
        die_with_parent()
    try:
        selector = Selector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(run(options, selector, server_type))
    except (OSError, AddressError) as error:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {error}")


if __name__ == "__main__":
    main()

"""The packet engine: delay, jitter, loss, reorder, duplicate and corrupt for the queues of NFQUEUE.

One file of standard library, run as ``python3 -I -S packet_engine.py`` in the namespace that forwards the
packets, with CAP_NET_ADMIN and CAP_NET_RAW. A queue is what a rule of ``mangle PREROUTING`` sends here with
``-j NFQUEUE --queue-num N --queue-bypass``. Commands are JSON lines on stdin, each is answered by one line
on stdout, ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``:

    {"do": "set", "queues": {"5": {"delay": 0.05, "jitter": 0.01, "seed": "a"}}}   all of them, or none
    {"do": "remove", "queues": [5]}    what is held goes out at once, in order; then the queue is unbound
    {"do": "read"}                     counters of each queue
    {"do": "ping"}

It ends when stdin closes, and lets go what it holds. If it is killed, packets that it held are lost and later
ones pass.

Packets are single: NFQA_CFG_F_GSO is not asked for, so that the kernel cuts a segment-offloaded packet of up
to 64 KB into those that a wire would carry before they are queued. Each packet draws the same numbers
whatever becomes of it: packet k of a queue meets what (seed, spec, k) say, and nothing else.
"""

from __future__ import annotations

import errno
import gc
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

MARK = 0x4E656D  # on duplicates, which pass the rules of the queues a second time
LIMIT = 32768  # packets of one queue that are held; more are dropped, and counted

_NETFILTER, _NO_ENOBUFS, _SOL_NETLINK = 12, 5, 270
_PACKET, _VERDICT, _CONFIG = 3 << 8, 3 << 8 | 1, 3 << 8 | 2
_REQUEST, _REQUEST_ACK = 1, 5
_BIND, _UNBIND = 1, 2
_CONFIG_COMMAND, _CONFIG_PARAMETERS, _CONFIG_LIMIT = 1, 2, 3
_HEADER, _VERDICT_HEADER, _PAYLOAD = 1, 2, 10
_DROP, _ACCEPT = 0, 1
_COPY_PACKET, _IP_HEADER, _WHOLE = 2, 60, 0xFFFF
_BUFFER = 16 << 20  # bytes of netlink messages that may wait to be read
_UNREAD = 65536  # packets, more than the buffer has room for
_BATCH = 32  # packets read before those that are due go out
_SEND = 48 << 10  # bytes of verdicts sent at once
_PATIENCE = 2.0  # seconds in which the kernel must answer, and a removed queue must become empty

_PROBABILITIES = ("loss", "reorder", "duplicate", "corrupt")
_KEYS = ("delay", "jitter", *_PROBABILITIES, "keep_order", "seed", "limit")
_COUNTED = ("packets", "bytes", "dropped", "duplicated", "corrupted", "reordered", "overflowed")


class Queue:
    """The spec, the random numbers and the counters of one queue."""

    __slots__ = (
        "asked",
        "corrupt",
        "counters",
        "delay",
        "duplicate",
        "held",
        "identity",
        "jitter",
        "keep_order",
        "last",
        "limit",
        "loss",
        "reorder",
        "rng",
        "unread",
    )

    def __init__(self) -> None:
        self.counters = dict.fromkeys(_COUNTED, 0)
        self.last = 0.0  # when the latest packet in order goes out
        self.held = 0
        self.identity = self.unread = (
            0  # the kernel's number of the latest packet; those it could not give us
        )
        self.asked: Mapping[str, Any] = {}
        self.spec({})

    def spec(self, asked: Mapping[str, Any]) -> None:
        """Take a spec over, and start its random numbers; what is held stays held until its time."""
        self.asked = asked
        self.delay, self.jitter = float(asked.get("delay", 0)), float(asked.get("jitter", 0))
        self.loss, self.reorder = float(asked.get("loss", 0)), float(asked.get("reorder", 0))
        self.duplicate, self.corrupt = float(asked.get("duplicate", 0)), float(asked.get("corrupt", 0))
        self.keep_order = bool(asked.get("keep_order", True))
        self.limit = int(asked.get("limit", LIMIT))
        self.rng = random.Random(asked.get("seed"))

    @property
    def copies(self) -> int:
        """Bytes of each packet that must be read here."""
        return _WHOLE if self.duplicate or self.corrupt else _IP_HEADER


class Engine:
    """Reads packets from the kernel, decides, holds them, and gives verdicts.

    Raises OSError where the kernel has no NFQUEUE or the process may not use it.
    """

    def __init__(self) -> None:
        self.queues: dict[int, Queue] = {}
        self.errors = {"overruns": 0, "verdicts": 0, "injections": 0}
        self._held: list[tuple[float, int, int, int, bytes | None]] = []  # time, serial, queue, id, payload
        self._serial = self._sequence = 0
        self._out: list[bytes] = []
        self._answers: dict[int, int] = {}
        self._buffer = bytearray(1 << 17)
        self._link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
        self._link.bind((0, 0))
        for option in (33, socket.SO_RCVBUF):  # SO_RCVBUFFORCE, refused in a user namespace
            try:
                self._link.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
                break
            except PermissionError:
                continue
        # Without this one overrun makes the kernel refuse every packet until all are read; what is dropped is
        # counted by the queue in either case.
        self._link.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        self._link.setblocking(False)
        # Duplicates come in again by lo rather than go out by a raw IP socket: so they meet every later rule
        # (a cut, the redirection to a proxy) as the packet itself does.
        self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)

    def fileno(self) -> int:
        return self._link.fileno()

    # ------------------------------------------------------------ commands

    def set(self, specs: Mapping[int, Mapping[str, Any]]) -> None:
        """Put specs into force, all or none. ValueError for a bad one, OSError where the kernel refuses."""
        for number, asked in specs.items():
            check(number, asked)
        if any(float(asked.get("duplicate", 0)) for asked in specs.values()):
            admit_duplicates()
        bound, changed = [], []
        try:
            for number, asked in specs.items():
                fresh = Queue()
                fresh.spec(asked)
                if number not in self.queues:
                    self._configure(number, _CONFIG_COMMAND, struct.pack("!BBH", _BIND, 0, socket.AF_INET))
                    bound.append(number)
                else:
                    changed.append(number)
                self._limit(number, fresh.limit)
                if number in bound or fresh.copies > self.queues[number].copies:
                    self._copy(number, fresh.copies)
        except OSError:
            for number in bound:
                self._configure(number, _CONFIG_COMMAND, struct.pack("!BBH", _UNBIND, 0, socket.AF_INET))
            raise
        for number, asked in specs.items():
            self.queues.setdefault(number, Queue()).spec(asked)
        for number in changed:
            self._copy(number, self.queues[number].copies)

    def remove(self, numbers: Iterable[int]) -> None:
        """Let go what is held, in order, and unbind. No rule may send to the queues any more."""
        gone = [number for number in numbers if number in self.queues]
        for number in gone:
            self.queues[number].spec({})
        self.release(set(gone))
        # The kernel drops what waits in a queue that is unbound. Its answer to any request comes behind the
        # packets that waited before; twice, since a rule may have been at work when it was removed.
        for _ in range(2):
            for number in gone:
                self._limit(number, LIMIT)
            time.sleep(0.001)
        for number in gone:
            self._configure(number, _CONFIG_COMMAND, struct.pack("!BBH", _UNBIND, 0, socket.AF_INET))
            del self.queues[number]

    def read(self) -> dict[str, Any]:
        """Counters per queue, and errors of the engine."""
        kernel = kernel_drops()
        return {
            "queues": {
                str(number): {
                    **queue.counters,
                    "held": queue.held,
                    "overflowed": queue.counters["overflowed"] + max(queue.unread, kernel.get(number, 0)),
                    "spec": queue.asked,
                }
                for number, queue in self.queues.items()
            },
            "errors": self.errors,
        }

    def release(self, numbers: Iterable[int]) -> None:
        """Accept what these queues hold, now and in order."""
        going = set(numbers)
        due = sorted(one for one in self._held if one[2] in going)
        self._held = [one for one in self._held if one[2] not in going]
        heapq.heapify(self._held)
        for _, _, number, identity, payload in due:
            self._let_go(number, identity, payload)
        for number in going & self.queues.keys():
            self.queues[number].last = 0.0
            self.queues[number].held = 0
        self.flush()

    # ------------------------------------------------------------ packets

    def release_due(self) -> float | None:
        """Accept what is due; seconds until the next packet is, None if nothing is held."""
        held = self._held
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, _, number, identity, payload = heapq.heappop(held)
            self.queues[number].held -= 1
            self._let_go(number, identity, payload)
        self.flush()
        return max(0.0, held[0][0] - time.monotonic()) if held else None

    def receive(self) -> None:
        """Read a batch of messages from the kernel, and decide on the packets among them."""
        buffer, recv_into, now = self._buffer, self._link.recv_into, time.monotonic
        for _ in range(_BATCH):
            try:
                size = recv_into(buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.errors["overruns"] += 1
                return
            offset = 0
            while offset + 16 <= size:
                length, kind, _, sequence = struct.unpack_from("=IHHI", buffer, offset)
                if length < 16:
                    break
                if kind == _PACKET:
                    self._packet(offset, length, now())
                elif kind == 2:  # NLMSG_ERROR, which is an answer, too
                    code = -struct.unpack_from("=i", buffer, offset + 16)[0]
                    if sequence:
                        self._answers[sequence] = code
                    elif code:
                        self.errors["verdicts"] += 1
                offset += (length + 3) & ~3

    def _packet(self, offset: int, length: int, now: float) -> None:
        buffer, end, identity, start, stop = self._buffer, offset + length, 0, 0, 0
        number = struct.unpack_from("!H", buffer, offset + 18)[0]
        at = offset + 20
        while at + 4 <= end:
            size, kind = struct.unpack_from("=HH", buffer, at)
            if kind == _HEADER:
                identity = struct.unpack_from("!I", buffer, at + 4)[0]
            elif kind == _PAYLOAD:
                start, stop = at + 4, at + size
            at += max(4, (size + 3) & ~3)
        queue = self.queues.get(number)
        if queue:
            if queue.identity:
                queue.unread += identity - queue.identity - 1
            queue.identity = identity
        if queue is None or stop - start < 20:  # bound a moment ago, or not an IP packet
            self._verdict(number, identity, _ACCEPT)
            return
        counters, draw = queue.counters, queue.rng.random
        total = struct.unpack_from("!H", buffer, start + 2)[0]
        counters["packets"] += 1
        counters["bytes"] += total
        loss, corrupt, where, duplicate, jitter, reorder = draw(), draw(), draw(), draw(), draw(), draw()
        if loss < queue.loss:
            counters["dropped"] += 1
            self._verdict(number, identity, _DROP)
            return
        payload = None
        whole = stop - start == total
        if corrupt < queue.corrupt and whole:
            payload = corrupted(bytes(buffer[start:stop]), where)
            counters["corrupted"] += payload is not None
        due = now + queue.delay + (2 * jitter - 1) * queue.jitter
        if reorder < queue.reorder:
            counters["reordered"] += 1
            due = now
        elif queue.keep_order:
            due = queue.last = max(due, queue.last)
        if due <= now:
            self._let_go(number, identity, payload)
        elif queue.held < queue.limit:
            self._hold(due, number, identity, payload)
        else:
            counters["overflowed"] += 1
            self._verdict(number, identity, _DROP)
            return
        if duplicate < queue.duplicate and whole:
            counters["duplicated"] += 1
            again = bytes(buffer[start:stop])
            if due <= now:
                self.flush()  # so that the packet itself comes first
                self._let_go(number, 0, again)
            else:
                self._hold(due, number, 0, again)

    def _hold(self, due: float, number: int, identity: int, payload: bytes | None) -> None:
        self._serial += 1
        self.queues[number].held += 1
        heapq.heappush(self._held, (due, self._serial, number, identity, payload))

    def _let_go(self, number: int, identity: int, payload: bytes | None) -> None:
        if identity:
            self._verdict(number, identity, _ACCEPT, payload)
            return
        assert payload is not None  # a duplicate has no packet in the kernel
        self.flush()
        try:
            self._raw.sendto(payload, ("lo", 0x0800, 0, 0, bytes(6)))
        except OSError:
            self.errors["injections"] += 1
            self.queues[number].counters["duplicated"] -= 1

    def _verdict(self, number: int, identity: int, verdict: int, payload: bytes | None = None) -> None:
        attributes = struct.pack("=HH", 12, _VERDICT_HEADER) + struct.pack("!II", verdict, identity)
        if payload is not None:
            attributes += attribute(_PAYLOAD, payload)
        self._out.append(message(_VERDICT, number, attributes, _REQUEST, 0))

    def flush(self) -> None:
        """Send the verdicts that were decided, many at once."""
        out, self._out = self._out, []
        while out:
            size = count = 0
            while count < len(out) and (not count or size + len(out[count]) <= _SEND):
                size += len(out[count])
                count += 1
            batch = b"".join(out[:count])
            del out[:count]
            try:
                self._link.send(batch)
            except (BlockingIOError, OSError) as error:
                if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                    raise
                select.select([], [self._link], [], 0.01)
                try:
                    self._link.send(batch)
                except OSError:
                    self.errors["verdicts"] += count

    # ------------------------------------------------------------ the kernel's side of a queue

    def _limit(self, number: int, held: int) -> None:
        """Have the kernel drop only what nobody could hold: what is held counts as waiting there."""
        self._configure(number, _CONFIG_LIMIT, struct.pack("!I", held * 2 + _UNREAD))

    def _copy(self, number: int, size: int) -> None:
        self._configure(number, _CONFIG_PARAMETERS, struct.pack("!IB", size, _COPY_PACKET))

    def _configure(self, number: int, kind: int, value: bytes) -> None:
        """Change a queue, and wait for the kernel's answer; packets that come first are served."""
        self._sequence += 1
        self._link.send(message(_CONFIG, number, attribute(kind, value), _REQUEST_ACK, self._sequence))
        end = time.monotonic() + _PATIENCE
        while self._sequence not in self._answers:
            if time.monotonic() > end:
                raise OSError(errno.ETIMEDOUT, f"the kernel did not answer for queue {number}")
            select.select([self._link], [], [], 0.1)
            self.receive()
            self.flush()
        if code := self._answers.pop(self._sequence):
            raise OSError(code, f"NFQUEUE {number}: {os.strerror(code)} (is the queue another program's?)")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, number: int, attributes: bytes, flags: int, sequence: int) -> bytes:
    return (
        struct.pack("=IHHII", 20 + len(attributes), kind, flags, sequence, 0)
        + struct.pack("!BBH", 0, 0, number)
        + attributes
    )


def corrupted(packet: bytes, where: float) -> bytes | None:
    """The packet with one bit flipped behind its IP header, checksums left wrong; None if nothing is there.

    >>> corrupted(bytes([0x45]) + bytes(19) + b"ab", 0.99)[20:]
    b'a\\xe2'
    """
    header = (packet[0] & 15) * 4
    bits = (len(packet) - header) * 8
    if bits <= 0 or len(packet) > 0xFFFF - 4:  # an attribute is not longer
        return None
    bit = header * 8 + int(where * bits)
    changed = bytearray(packet)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def check(number: int, asked: Mapping[str, Any]) -> None:
    """ValueError that says what is wrong with the spec of a queue."""
    if not 0 <= number <= 0xFFFF:
        raise ValueError(f"queue {number}: expected 0 to 65535")
    for key, value in asked.items():
        if key not in _KEYS:
            raise ValueError(f"queue {number}: {key!r} is none of {', '.join(_KEYS)}")
        if key in _PROBABILITIES and not 0 <= float(value) <= 1:
            raise ValueError(f"queue {number}: {key}={value!r}, expected a probability of 0 to 1")
        if key in ("delay", "jitter") and not 0 <= float(value) <= 3600:
            raise ValueError(f"queue {number}: {key}={value!r}, expected seconds of 0 to 3600")
        if key == "limit" and not 1 <= int(value) <= 1 << 20:
            raise ValueError(f"queue {number}: limit={value!r}, expected 1 to {1 << 20} packets")


def kernel_drops() -> dict[int, int]:
    """Packets that the kernel dropped from each queue of this namespace, for want of room.

    Nothing in a user namespace, which may not read it; gaps in the packets' numbers tell then.
    """
    found = {}
    try:
        with open("/proc/self/net/netfilter/nfnetlink_queue", encoding="ascii") as lines:
            for line in lines:
                number, _, _, _, _, full, unread = map(int, line.split()[:7])
                found[number] = full + unread
    except OSError:
        return {}
    return found


def admit_duplicates() -> None:
    """See that packets of other hosts may come in by lo. OSError that says what to set."""

    def rp_filter(name: str) -> str:
        return f"/proc/sys/net/ipv4/conf/{name}/rp_filter"

    strict = False
    for name in ("all", "lo"):
        with open(rp_filter(name), encoding="ascii") as file:
            strict |= file.read().strip() == "1"
    with open(rp_filter("lo"), encoding="ascii") as file:
        if not strict or file.read().strip() == "2":
            return
    try:
        with open(rp_filter("lo"), "w", encoding="ascii") as file:
            file.write("2")
    except OSError as error:
        raise OSError(
            errno.EPERM,
            f"duplicates cannot come in by lo, and this cannot be changed here ({error.strerror}):"
            f" set the sysctl net.ipv4.conf.lo.rp_filter=2 when the namespace is made",
        ) from None


def obey(engine: Engine, line: bytes) -> dict[str, Any]:
    """Carry one command out; the answer."""
    try:
        asked = json.loads(line)
        match asked["do"]:
            case "set":
                engine.set({int(number): spec for number, spec in asked["queues"].items()})
                return {"ok": True}
            case "remove":
                engine.remove([int(number) for number in asked["queues"]])
                return {"ok": True}
            case "read":
                return {"ok": True, **engine.read()}
            case "ping":
                return {"ok": True, "queues": sorted(engine.queues)}
            case other:
                return {"ok": False, "error": f"{other!r} is none of set, remove, read, ping"}
    except OSError as error:
        return {"ok": False, "error": error.strerror or str(error)}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return {"ok": False, "error": f"{line[:200]!r}: {type(error).__name__}: {error}"}


def serve(engine: Engine) -> None:
    """Carry packets and obey commands until stdin closes; then let go what is held."""
    os.set_blocking(0, False)
    link, unread, lines = engine.fileno(), b"", deque[bytes]()
    try:
        while True:
            ready, _, _ = select.select([link, 0], [], [], engine.release_due())
            if link in ready:
                engine.receive()
            if 0 not in ready:
                continue
            data = os.read(0, 1 << 16)
            if not data:
                return
            *complete, unread = (unread + data).split(b"\n")
            lines.extend(complete)
            while lines:
                answer(obey(engine, lines.popleft()))
    finally:
        engine.release(engine.queues)


def answer(value: Mapping[str, Any]) -> None:
    """Write one line, whole."""
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this, and closes stdin
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        engine = Engine()
    except OSError as error:
        answer({"ok": False, "error": f"no NFQUEUE here: {error.strerror}"})
        return 1
    gc.disable()  # nothing here refers to itself, and a collection would make packets late
    serve(engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())

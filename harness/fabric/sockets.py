"""What the kernel knows of TCP sockets of this machine: bytes sent, who is connected (Linux's sock_diag).

Needs no privilege, and sees all processes' sockets of this network namespace.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

_SOCK_DIAG, _BY_FAMILY, _DONE, _ERROR = 4, 20, 3, 2
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ESTABLISHED = 1 << 1 | 1 << 8  # and CLOSE_WAIT: the peer has closed, and may still be sent to
_INFO = 2  # INET_DIAG_INFO: a struct tcp_info
_MESSAGE = struct.Struct("=4B2s2s32s4s8s5I")  # struct inet_diag_msg
_BYTES_SENT, _BYTES_RETRANSMITTED = 200, 208  # in struct tcp_info, Linux >= 4.19


@dataclass(frozen=True, slots=True)
class Sent:
    """One socket: its local `port`, the payload bytes it has sent, those its peer has not acknowledged."""

    port: int
    sent: int
    queued: int


def sent_by_port(ports: Collection[int]) -> dict[bytes, Sent]:
    """Connected IPv4 sockets with a local port of `ports`, by the kernel's cookie, which is never used twice.

    Raises OSError where the kernel does not tell (not Linux, older than 4.19, forbidden).
    """
    found: dict[bytes, Sent] = {}
    for head, attributes in _connected(socket.AF_INET, 1 << (_INFO - 1)):
        port = int.from_bytes(head[4], "big")
        if port in ports:
            found[head[8]] = Sent(port, _sent(attributes), head[11])
    return found


def connected_to(ports: Collection[int]) -> dict[int, int]:
    """Sockets that are connected to a port of `ports`: inode -> port. Raises OSError as `sent_by_port`."""
    found: dict[int, int] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for head, _ in _connected(family, 0):
            port, inode = int.from_bytes(head[5], "big"), head[13]
            if port in ports and inode:
                found[inode] = port
    return found


def _connected(family: int, extensions: int) -> Iterator[tuple[tuple[Any, ...], bytes]]:
    """Each connected socket: its inet_diag_msg and the attributes behind it."""
    if not sys.platform.startswith("linux"):
        raise OSError("sock_diag is Linux's")
    body = struct.pack("=4BI48x", family, socket.IPPROTO_TCP, extensions, 0, _ESTABLISHED)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as link:
        link.settimeout(5)
        link.send(struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        while True:
            for kind, message in _parts(link.recv(1 << 18)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", message)[0], "sock_diag refused")
                yield _MESSAGE.unpack_from(message), message[_MESSAGE.size :]


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The netlink messages in `data`: type and content."""
    while len(data) >= 16:
        size, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:size]
        data = data[(size + 3) & ~3 :]


def _sent(attributes: bytes) -> int:
    while len(attributes) >= 4:
        size, kind = struct.unpack_from("=HH", attributes)
        if kind == _INFO and size - 4 >= _BYTES_RETRANSMITTED + 8:
            sent, again = struct.unpack_from("=QQ", attributes, 4 + _BYTES_SENT)
            return int(sent - again)
        attributes = attributes[(size + 3) & ~3 :]
    raise OSError("this kernel does not count sent bytes (Linux 4.19 does)")

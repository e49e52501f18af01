"""Switch the segment offloading of network interfaces off, and on again: one file of standard library.

With it, what a router sees as one packet is up to 64 KB of a stream, and a packet lost is that much lost. It
must be off on the end of a link that *sends* (there the packets are cut); on the receiving end GRO would join
them again. Run as ``python3 -I -S - off IFACE...`` in the namespace of the interfaces, with CAP_NET_ADMIN;
prints JSON ``{interface: [names of features that were on]}``, which ``on JSON`` takes back. Each change is
read back. The ioctl is used since `ethtool` is seldom installed.
"""

from __future__ import annotations

import array
import fcntl
import json
import socket
import struct
import sys

_SIOCETHTOOL = 0x8946
_STRINGS, _SET_INFO, _GET, _SET = 0x1B, 0x37, 0x3A, 0x3B
_FEATURES = 4  # ETH_SS_FEATURES
_NAME = 32  # ETH_GSTRING_LEN
JOINING = (  # features that make one packet of several, in the kernel's words
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
    "rx-gro",
    "rx-gro-list",
    "rx-udp-gro-forwarding",
    "rx-lro",
)


def _ethtool(control: socket.socket, interface: str, request: bytes) -> bytes:
    buffer = array.array("B", request)
    name = interface.encode()
    if len(name) > 15:
        raise ValueError(f"interface {interface!r}: a name has 15 characters at most")
    fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP16x", name, buffer.buffer_info()[0]))
    return buffer.tobytes()


def _names(control: socket.socket, interface: str) -> list[str]:
    reply = _ethtool(control, interface, struct.pack("=IIQI", _SET_INFO, 0, 1 << _FEATURES, 0))
    (count,) = struct.unpack_from("=I", reply, 16)
    reply = _ethtool(
        control, interface, struct.pack("=III", _STRINGS, _FEATURES, count) + bytes(_NAME * count)
    )
    return [reply[at : at + _NAME].split(b"\0", 1)[0].decode() for at in range(12, 12 + _NAME * count, _NAME)]


def _active(control: socket.socket, interface: str, names: list[str]) -> set[str]:
    """The features that are on and can be changed."""
    blocks = (len(names) + 31) // 32
    reply = _ethtool(control, interface, struct.pack("=II", _GET, blocks) + bytes(16 * blocks))
    found = set()
    for position, name in enumerate(names):
        # Each block is four words: available, requested, active, never changed.
        available, _, active, never = struct.unpack_from("=4I", reply, 8 + 16 * (position // 32))
        if available & active & ~never & (1 << position % 32):
            found.add(name)
    return found


def switch(control: socket.socket, interface: str, features: list[str], on: bool) -> list[str]:
    """Switch features of an interface, and read back; the names of those that it changed.

    Raises OSError where the kernel refuses or does not do it.
    """
    names = _names(control, interface)
    before = _active(control, interface, names)
    blocks = (len(names) + 31) // 32
    words = [[0, 0] for _ in range(blocks)]  # what is to be changed, and to what
    changed = [name for name in features if name in names and (name in before) != on]
    for name in changed:
        position = names.index(name)
        words[position // 32][0] |= 1 << position % 32
        words[position // 32][1] |= on << position % 32
    if changed:
        _ethtool(
            control,
            interface,
            struct.pack("=II", _SET, blocks) + b"".join(struct.pack("=II", *pair) for pair in words),
        )
    after = _active(control, interface, names)
    if wrong := set(changed) - after if on else set(features) & after:
        raise OSError(f"{interface}: {', '.join(sorted(wrong))} did not switch {'on' if on else 'off'}")
    return changed


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[1] not in ("off", "on"):
        print("usage: offloads.py off IFACE... | on JSON", file=sys.stderr)
        return 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if sys.argv[1] == "off":
            done = {name: switch(control, name, list(JOINING), False) for name in sys.argv[2:]}
        else:
            wanted = json.loads(sys.argv[2])
            done = {name: switch(control, name, features, True) for name, features in wanted.items()}
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())

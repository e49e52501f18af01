"""Toxiproxy: faults on TCP streams, by the real server or by the embedded one, through the same client.

`adapter` is the client: `Server` speaks to one running server, and `toxic` (in `toxics`) makes a valid fault.
`embedded` is a wire-compatible server in one file of standard library, `EMBEDDED`: run it with a Python of
its own, or copy it into a container. Proxies act on connections (delay, stall, slice, close, reset); a
partition is the business of the fabric.
"""

from __future__ import annotations

from pathlib import Path

from harness.proxy.adapter import Framed, Proxy, ProxyError, Server
from harness.proxy.toxics import ATTRIBUTES, EXTENSIONS, Stream, Toxic, toxic, validate

EMBEDDED = Path(__file__).with_name("embedded.py")
"""The embedded server; `[sys.executable, "-I", "-S", str(EMBEDDED), "-port", "0"]` starts it fastest."""

__all__ = [
    "ATTRIBUTES",
    "EMBEDDED",
    "EXTENSIONS",
    "Framed",
    "Proxy",
    "ProxyError",
    "Server",
    "Stream",
    "Toxic",
    "toxic",
    "validate",
]

"""The real Toxiproxy server's binary, found or built from its Go module."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

VERSION = "2.12.0"
_MODULE = "github.com/Shopify/toxiproxy/v2"


class NoRealServer(RuntimeError):
    """The real server cannot be had here; says why, and what to install."""


def cached() -> Path:
    """Where `real_server` puts the binary: the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pytest-nemesis" / f"toxiproxy-{VERSION}" / "server"


def real_server() -> Path:
    """The binary (static, for this machine), built on first use. Raises NoRealServer."""
    binary = cached()
    if binary.exists():
        return binary
    go = shutil.which("go")
    if go is None:
        raise NoRealServer(
            f"there is no Go toolchain on PATH to build toxiproxy {VERSION} with: install Go 1.21 or newer "
            "(it fetches the version it needs) from https://go.dev/dl, or `sudo apt-get install golang-go` "
            "on Debian 13, Ubuntu 24.04 or newer"
        )
    binary.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and moved into it, so that two processes cannot see half of it.
    with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
        command = [go, "install", "-ldflags", f"-X {_MODULE}.Version={VERSION}"]
        done = subprocess.run(
            [*command, f"{_MODULE}/cmd/server@v{VERSION}"],
            env={**os.environ, "CGO_ENABLED": "0", "GOBIN": scratch},
            cwd=scratch,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise NoRealServer(
                f"toxiproxy {VERSION} does not build: {done.stderr.strip()[-500:]}\nit needs Go 1.21 or "
                "newer and a Go module proxy that answers (`go env GOPROXY`)"
            )
        os.replace(Path(scratch) / "server", binary)
    return binary


__all__ = ["VERSION", "NoRealServer", "cached", "real_server"]

"""Data volumes of bounded size, and a full one: every free byte of it taken from within the node's pod."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.cluster.engine import asking
from harness.cluster.resources import DISK, Given
from harness.fabric import FaultError
from harness.fabric.inside import Inside

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

AT = "/nemesis/data"  # where a pod has its node's volume, which so stays mounted whatever becomes of the node
WITHIN = 20.0  # seconds to take a volume's every byte; memory is filled with some GB a second


def unbounded(target: str) -> Mapping[str, str]:
    """Why a target without `disk` has no full one."""
    return {
        DISK: f"its data volume has no bounded size; say how many bytes it has: disk = 64 << 20 in {target}"
    }


def bounded(client: DockerClient, name: str, size: int, labels: Mapping[str, str]) -> Mapping[str, Any]:
    """A volume of `size` bytes, in memory; how a pod mounts it."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={size}"}
    with asking(f"volume {name} of {size} bytes cannot be made"):
        client.volumes.create(name, driver="local", driver_opts=options, labels=dict(labels))
    return {name: {"bind": AT, "mode": "rw"}}


class DiskFull:
    """No byte left on a node's data volume, `volume`."""

    def __init__(self, inside: Inside, name: str, container: Container, volume: str, filler: str) -> None:
        self.name, self._inside, self._container, self._volume = name, inside, container, volume
        self._filler = filler
        self._talk: socket.socket | None = None

    def take(self) -> str:
        place = self._place()
        self._talk = self._inside.spawn(["python3", "-I", "-S", self._filler, AT])
        self._talk.settimeout(WITHIN)
        try:
            state = self._answer()
            if state["free"] or state["error"] != "ENOSPC":
                raise FaultError(f"{self.name}: {place} {_words(state)}, expected 0 free and ENOSPC")
        except BaseException:
            self._close()
            raise
        return f"{place}, {state['size']} bytes: {state['taken']} taken, {_words(state)}"

    def give_back(self) -> Given:
        if self._talk is None:
            raise FaultError(f"{self.name}: its disk was not full")
        try:
            self._talk.sendall(b"\n")
            state = self._answer()
        except OSError as error:
            raise FaultError(f"{self.name}: what fills its disk is gone: {error}") from error
        finally:
            self._close()
        if not state["free"] or state["error"]:
            raise FaultError(f"{self.name}: after heal its disk {_words(state)}, expected that writes work")
        return Given(f"{state['taken']} bytes were taken in all; then {_words(state)}")

    def close(self) -> None:
        self._close()

    def _place(self) -> str:
        """Where the node itself has the volume. Raises FaultError where it has it not."""
        with asking(f"{self.name} cannot be looked at"):
            self._container.reload()
        for mount in self._container.attrs["Mounts"]:
            if mount.get("Name") == self._volume:
                return str(mount["Destination"])
        raise FaultError(f"{self.name} has not mounted its volume {self._volume}, so filling it does nothing")

    def _answer(self) -> Mapping[str, Any]:
        assert self._talk is not None
        data = b""
        while not data.endswith(b"\n"):
            try:
                part = self._talk.recv(4096)
            except TimeoutError:
                raise FaultError(f"{self.name}: its disk was not filled within {WITHIN:g} s") from None
            if not part:
                raise FaultError(f"{self.name}: what fills its disk has ended; was it killed?")
            data += part
        state: Mapping[str, Any] = json.loads(data)
        if "failed" in state:
            raise FaultError(f"{self.name}: its disk cannot be filled: {state['failed']}")
        return state

    def _close(self) -> None:
        if self._talk is not None:
            with contextlib.suppress(OSError):
                self._talk.close()
            self._talk = None


def _words(state: Mapping[str, Any]) -> str:
    wrote = f"a write fails with {state['error']}" if state["error"] else "a write works"
    return f"{state['free']} bytes free, {wrote}"


__all__ = ["AT", "DiskFull", "bounded", "unbounded"]

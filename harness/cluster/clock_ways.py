"""The ways to the clocks of containers: from this machine, or from a helper container in the node's own pid
namespace where this user may not trace what the engine started."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from harness.cluster.cgroup import Cgroup, Unseen
from harness.cluster.containers import Containers, Life, frames, output
from harness.cluster.engine import asking
from harness.cluster.lock import ClusterError
from harness.skew.program import Conversation, Heard, PatcherError, Program, Way

if TYPE_CHECKING:
    from docker.models.containers import Container


class ContainerWays:
    """The ways to the nodes' processes, opened when first used and closed with the cluster."""

    def __init__(self, made: Containers, life: Callable[[str], Life], heard: Heard) -> None:
        self._made, self._life, self._heard = made, life, heard
        self._program: Program | None = None
        self._helpers: dict[str, Helper] = {}
        self._lock = Lock()

    def ways(self) -> Sequence[Way]:
        """The preferred one first."""
        return (
            Way("from this machine", self._from_here, self._namespace),
            Way("from a helper container", self._from_beside, lambda name: {"pidns": 1}),
        )

    def close(self) -> None:
        """Idempotent; helper containers are removed with the others."""
        if self._program is not None:
            self._program.close()
        for helper in self._helpers.values():
            helper.close()

    # ------------------------------------------------------------------ from this machine

    def _from_here(self, do: str, **how: Any) -> Mapping[str, Any]:
        with self._lock:
            if self._program is None:
                self._program = Program(self._heard)
        return self._program.request(do, **how)

    def _namespace(self, name: str) -> Mapping[str, Any]:
        """The pid namespace of its first process, which must be one of this machine: an engine elsewhere
        gives numbers that mean others here."""
        try:
            state, container = self._life(name).state(), self._life(name).container
            Cgroup(int(state["Pid"]), str(container.id))
        except (Unseen, ClusterError) as error:
            raise PatcherError(f"its processes are not seen here: {error}") from error
        return {"pidns": int(state["Pid"])}

    # ------------------------------------------------------------------ from a helper container

    def _from_beside(self, do: str, **how: Any) -> Mapping[str, Any]:
        name = str(how["name"])
        with self._lock:
            helper = self._helpers.get(name)
            if do == "arm" and (helper is None or helper.ended):
                if helper is not None:
                    helper.close()
                try:
                    container = self._made.patcher(name, self._life(name).container)
                    helper = self._helpers[name] = Helper(container, self._heard)
                except ClusterError as error:
                    raise PatcherError(str(error)) from error
        if helper is None:
            raise PatcherError(f"{name} has no helper container")
        return helper.request(do, **how)


class Helper:
    """A patcher in a container of its own, in conversation. It ends with the pid namespace that it shares."""

    def __init__(self, container: Container, heard: Heard) -> None:
        self._container, self.ended = container, False
        with asking(f"container {container.name} cannot be started"):
            self._stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
            container.start()
        sock = self._stream._sock
        sock.settimeout(None)
        self.request = Conversation(sock.sendall, self._lines(), self._why, heard).request

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        with contextlib.suppress(OSError):
            for data in frames(self._stream._sock):
                *lines, rest = (rest + data).split(b"\n")
                yield from lines
        self.ended = True

    def _why(self) -> str:
        try:
            return output(self._container).decode(errors="replace").strip() or "it says nothing"
        except ClusterError as error:
            return str(error)

    def close(self) -> None:
        """End it and remove it; idempotent."""
        import docker.errors

        for thing in (self._stream, self._stream._sock):
            with contextlib.suppress(OSError):
                thing.close()
        with contextlib.suppress(docker.errors.APIError, OSError):
            self._container.remove(force=True)


__all__ = ["ContainerWays"]

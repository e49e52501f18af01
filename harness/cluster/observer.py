"""What the nodes of a cluster do, told as events: roles, panics, what the target's logs report."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from threading import RLock
from typing import Any

from harness.cluster.lock import ClusterError
from harness.cluster.watch import LogFollower, Roles, StatusPoller
from harness.target import Endpoint, Target

PANICS = 100  # of one node that become events: a loop of panics must not flood the history
LONGEST = 2000  # characters of a panic's line that its event keeps
OnEvent = Callable[[str, str, Mapping[str, Any]], None]


class Observer:
    """Follows the logs and asks for status, and tells ``on_event(node, kind, detail)``, one event at a time.

    A node whose log tells its role (`Target.event`) is asked no more: what it said itself comes at once and
    in order. `up(name)` says whether a node can be asked. What the target's own code raises becomes one
    event ``error`` per kind; what `on_event` raises is kept in `broken`.
    """

    def __init__(
        self, target: Target, logs: Mapping[str, Path], up: Callable[[str], bool], on_event: OnEvent
    ) -> None:
        self.target = target
        self.broken = ""
        self.telling = RLock()  # held while an event is told, so that their order is one
        self._up, self._on_event = up, on_event
        self._nodes: Mapping[str, Endpoint] = {}
        self._panic = _panic_pattern(target)
        self._panics = dict.fromkeys(logs, 0)
        self._roles = Roles()
        self._speaks: set[str] = set()  # nodes whose log tells their role
        self._errors: set[tuple[str, str]] = set()
        self._follower = LogFollower(logs, self._line)
        self._poller: StatusPoller | None = None

    def follow(self) -> None:
        """Begin to follow the logs."""
        self._follower.start()

    def poll(self, nodes: Mapping[str, Endpoint]) -> None:
        """Begin to ask `nodes` for their status, where the target has one."""
        self._nodes = nodes
        if type(self.target).status is not Target.status:
            every = self.target.status_every
            self._poller = StatusPoller(nodes, every, self._ask, self._answered, self._not_answered)
            self._poller.start()

    def stop(self) -> None:
        """Tell what the logs still hold, then nothing more; idempotent."""
        self.stop_polling()
        self._follower.stop()

    def stop_polling(self) -> None:
        """Ask no more: an answer that comes later is not told."""
        if self._poller is not None:
            self._poller.stop(within=0.2)

    def tell(self, name: str, kind: str, detail: Mapping[str, Any]) -> None:
        """Tell one event."""
        with self.telling:
            try:
                self._on_event(name, kind, detail)
            except Exception as error:
                self.broken = self.broken or (
                    f"the receiver of events raised {type(error).__name__}: {error} for {kind!r} of {name}"
                )

    def ended(self, name: str) -> None:
        """The process of `name` is gone: tell what its log still holds; it has no role any more."""
        self._follower.drain(name, ended=True)
        with self.telling:
            self._roles.forget(name)

    def leader(self, among: Container[str]) -> str | None:
        """The node of `among` that leads, from what was said last and lately; None where nobody does."""
        return self._roles.leader(among, time.monotonic())

    def _line(self, name: str, text: str) -> None:
        if self._panic is not None and self._panic.search(text):
            self._panics[name] += 1
            if self._panics[name] <= PANICS:
                self.tell(name, "panic", {"line": text[:LONGEST]})
        try:
            event = self.target.event(text)
        except Exception as error:
            self._tell_error(name, "event", error)
            return
        if event is not None:
            kind, detail = event
            with self.telling:
                if kind == "role":
                    self._speaks.add(name)
                    self._roles.note(name, detail, time.monotonic())
                self.tell(name, kind, detail)

    def _ask(self, name: str) -> Mapping[str, Any] | None:
        return self.target.status(self._nodes[name]) if self._up(name) and name not in self._speaks else None

    def _answered(self, name: str, status: Mapping[str, Any]) -> None:
        with self.telling:
            if not self._up(name) or name in self._speaks:
                return
            now = time.monotonic()
            if self._roles.note(name, status, now, now + max(1.0, 5 * self.target.status_every)):
                self.tell(name, "role", status)

    def _not_answered(self, name: str, error: Exception) -> None:
        if not isinstance(error, OSError):
            self._tell_error(name, "status", error)

    def _tell_error(self, name: str, where: str, error: Exception) -> None:
        with self.telling:
            if (mark := (where, type(error).__name__)) not in self._errors:
                self._errors.add(mark)
                text = f"{self.target.name}.{where} raised {type(error).__name__}: {error}"
                self.tell(name, "error", {"error": text})


def _panic_pattern(target: Target) -> re.Pattern[str] | None:
    """The target's panics as one pattern: each is a regular expression, or the text itself."""
    parts: list[str] = []
    for panic in target.panics:
        try:
            re.compile(panic)
        except re.error as error:
            raise ClusterError(f"{target.name}.panics: {panic!r} is no regular expression: {error}") from None
        parts += [re.escape(panic), f"(?:{panic})"]
    return re.compile("|".join(parts)) if parts else None

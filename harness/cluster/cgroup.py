"""What the kernel says of a container's CPU and memory: its cgroup's own files, of version 1 or 2.

All are readable without root. Where they are not those of the container (an engine on another machine, a
cgroup namespace that hides them), `Unseen` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

USED = ("cpu", "cpuacct", "memory", "")  # controllers of version 1, and version 2, which has no name
NONE = 1 << 60  # bytes; a limit above is none, whatever the kernel rounds it to


class Unseen(Exception):
    """The kernel's files of a container cannot be read here; the text says why."""


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Seconds of CPU `used` so far; of all `periods` it was held up in `throttled`, for `waited` seconds."""

    used: float
    periods: int
    throttled: int
    waited: float

    def since(self, before: CpuUse) -> CpuUse:
        """What came after `before`."""
        return CpuUse(
            self.used - before.used,
            self.periods - before.periods,
            self.throttled - before.throttled,
            self.waited - before.waited,
        )


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes in use now, and how many processes the kernel has killed for lack of more."""

    used: int
    kills: int


class Cgroup:
    """The directories of one container's cgroup; `version` is that of its CPU controller.

    `pid` is a process of the container `ident` (its full id, by which the directory is known to be its own).
    Raises Unseen, as every question does once the container has ended.
    """

    def __init__(self, pid: int, ident: str, proc: Path = Path("/proc")) -> None:
        if not pid:
            raise Unseen("it does not run")
        self._ways: dict[str, Path] = {}
        mounts, strange = _mounts(proc), "its processes have no cgroup that is mounted here"
        for line in _read(proc / str(pid) / "cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in {*controllers.split(",")} & {*USED} & {*mounts}:
                if (found := _directory(mounts[controller], path, ident)) is not None:
                    self._ways[controller] = found
                else:
                    strange = f"their cgroup is {path} as seen from here, not that of the container"
        if not self._ways:
            raise Unseen(strange)
        self.version = 1 if "cpu" in self._ways else 2

    # ------------------------------------------------------------------ CPU

    def cpus(self) -> float | None:
        """CPUs that it may use, None: all."""
        if self.version == 1:
            quota, period = self._number("cpu", "cpu.cfs_quota_us"), self._number("cpu", "cpu.cfs_period_us")
            return None if quota < 0 else quota / period
        most, each = self._text("", "cpu.max").split()
        return None if most == "max" else int(most) / int(each)

    def cpu_limit(self) -> str:
        """The same as the kernel writes it."""
        if self.version == 2:
            return f"cpu.max {self._text('', 'cpu.max')}"
        quota, period = self._text("cpu", "cpu.cfs_quota_us"), self._text("cpu", "cpu.cfs_period_us")
        return f"cpu.cfs_quota_us {quota} of cpu.cfs_period_us {period}"

    def cpu_use(self) -> CpuUse:
        """What it has used since it was started."""
        counts = self._counts("cpu" if self.version == 1 else "", "cpu.stat")
        if self.version == 1:
            used, waited = self._number("cpuacct", "cpuacct.usage") / 1e9, counts["throttled_time"] / 1e9
        else:
            used, waited = counts["usage_usec"] / 1e6, counts.get("throttled_usec", 0) / 1e6
        return CpuUse(used, counts.get("nr_periods", 0), counts.get("nr_throttled", 0), waited)

    # ------------------------------------------------------------------ memory

    def memory(self) -> int | None:
        """Bytes that it may use, None: all."""
        text = self._text(*self._memory("memory.limit_in_bytes", "memory.max"))
        return None if text == "max" or int(text) >= NONE else int(text)

    def swap(self) -> int | None:
        """Bytes that it may have swapped out, None: as many as it wants, or this kernel does not count."""
        try:
            text = self._text(*self._memory("memory.memsw.limit_in_bytes", "memory.swap.max"))
        except Unseen:
            return None
        if text == "max" or int(text) >= NONE:
            return None
        with_memory = (self.memory() or 0) if "memory" in self._ways else 0
        return int(text) - with_memory

    def memory_limit(self) -> str:
        """The limit as the kernel writes it."""
        directory, name = self._memory("memory.limit_in_bytes", "memory.max")
        return f"{name} {self._text(directory, name)}"

    def memory_use(self) -> MemoryUse:
        """What it uses, and what has befallen it since it was started."""
        if "memory" in self._ways:
            kills = self._counts("memory", "memory.oom_control").get("oom_kill", 0)
            return MemoryUse(self._number("memory", "memory.usage_in_bytes"), kills)
        return MemoryUse(self._number("", "memory.current"), self._counts("", "memory.events")["oom_kill"])

    # ------------------------------------------------------------------ files

    def _memory(self, first: str, second: str) -> tuple[str, str]:
        return ("memory", first) if "memory" in self._ways else ("", second)

    def _counts(self, controller: str, name: str) -> Mapping[str, int]:
        pairs = (line.split() for line in self._text(controller, name).splitlines())
        return {key: int(value) for key, value in pairs}

    def _number(self, controller: str, name: str) -> int:
        return int(self._text(controller, name))

    def _text(self, controller: str, name: str) -> str:
        if controller not in self._ways:
            raise Unseen(f"no cgroup with {controller or 'version 2'} is mounted here")
        return _read(self._ways[controller] / name).strip()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise Unseen(f"{path} cannot be read: {error.strerror}") from None


def _mounts(proc: Path) -> Mapping[str, tuple[str, Path]]:
    """Controllers of version 1, and '' for version 2: what is mounted where."""
    found: dict[str, tuple[str, Path]] = {}
    for line in _read(proc / "self/mountinfo").splitlines():
        here, _, there = line.partition(" - ")
        kind, _, options = there.split(" ", 2)
        root, point = here.split()[3:5]
        if kind == "cgroup2":
            found.setdefault("", (root, Path(point)))
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, (root, Path(point)))
    return found


def _directory(mount: tuple[str, Path], path: str, ident: str) -> Path | None:
    """Where the container's own files are, not those of cgroups below it; None where they are not seen."""
    root, point = mount
    parts = path.removeprefix(root if root != "/" else "").strip("/").split("/")
    last = next((k for k, part in enumerate(parts) if ident in part), None)
    if last is None or ".." in parts:
        return None
    return point.joinpath(*parts[: last + 1])


__all__ = ["Cgroup", "CpuUse", "MemoryUse", "Unseen"]

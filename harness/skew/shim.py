"""The preload library that skews the clocks of programs that are started with it, and its control file.

It is for what cannot be patched while it runs (`harness.skew.patcher`): where ptrace is refused, or where a
program starts many short-lived others. A program that has it mapped must not be patched as well: it would be
skewed twice. One control file is for the processes of one pid namespace: a node.
"""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from harness.skew.patcher import SLOT, Spec

LIBRARY = Path(__file__).with_name("nemesis-skew-x86_64.so.1")  # with .so at the end Python would import it
SOURCE = Path(__file__).with_name("shim.c")
VARIABLE = "NEMESIS_SKEW"  # names the control file
BUILD = (
    "gcc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fPIC", "-shared",
    "-nostdlib", "-fvisibility=hidden", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none", "-fno-tree-loop-distribute-patterns", "-fno-ident",
    "-Wl,--build-id=none,--hash-style=both,-z,now,-z,noexecstack,-z,noseparate-code,-s",
)  # fmt: skip
BUILT_BY = "gcc (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40"

# The layout of shim.c. A slot begins with what a slot of the patched vDSO has; the generation follows.
MAGIC = b"NEMSHIM\n"
SELECTOR_AT, ATTACHED_AT, SLOTS_AT, TABLE_AT = 8, 16, 64, 576
SLOTS, SLOT_SIZE, LINES, LINE = 4, 128, 255, 64
ENTRY = struct.Struct("@IIQQ")  # pid, unused, hits, generation
SIZE = TABLE_AT + LINES * LINE


@dataclass(frozen=True, slots=True)
class State:
    """What a control file says: the skew in force, and the number of the change that brought it.

    `attached` counts the programs that have mapped the file since it was made, also those that have ended.
    """

    spec: Spec
    generation: int
    attached: int


@dataclass(frozen=True, slots=True)
class Use:
    """What one process made of a control file that it has mapped.

    `hits` are its skewed answers (those within a millisecond may count as one), `generation` the number of
    the skew that the last of them had.
    """

    pid: int
    hits: int
    generation: int


class Control:
    """A control file: what is set in it is in force for the next answer of every process that has it mapped.

    Differs from a patched process in that it knows nobody: who uses it is found by `use` and `users`. Makes
    the file if it is not there. Raises ValueError where another file is, OSError where none can be.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with suppress(FileExistsError):
            _make(self.path)
        with self.path.open("r+b") as file:
            status = os.fstat(file.fileno())
            if status.st_size != SIZE or file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{self.path} is no control file of a skew: expected {SIZE} bytes that "
                                 f"begin with {MAGIC.decode()}; give it a name of its own")  # fmt: skip
            self._inode = status.st_ino
            self._map = mmap.mmap(file.fileno(), SIZE)
            self._words = memoryview(self._map).cast("Q")  # pack_into would write zeros first

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap it. What is set stays in force."""
        self._words.release()
        self._map.close()

    def set(self, spec: Spec) -> State:
        """Put a skew into force, whole and at once; what is then in force, read back."""
        slot = (self._map[SELECTOR_AT] + 1) % SLOTS
        at = SLOTS_AT + slot * SLOT_SIZE
        generation = self.state().generation + 1
        self._words[(at + SLOT.size) // 8] = 0
        self._map[at : at + SLOT.size] = spec.packed()
        self._words[(at + SLOT.size) // 8] = generation
        self._map[SELECTOR_AT] = slot
        return self.state()

    def state(self) -> State:
        at = SLOTS_AT + self._map[SELECTOR_AT] % SLOTS * SLOT_SIZE
        spec = Spec.unpacked(self._map[at : at + SLOT.size])
        return State(spec, self._words[(at + SLOT.size) // 8], self._words[ATTACHED_AT // 8])

    def use(self, pid: int) -> Use | None:
        """How process `pid` uses it; None: it has not mapped it. OSError: it is gone, or another user's."""
        files = {(Path(name).name, inode) for inode, name in _maps(pid)}
        if (self.path.name, self._inode) not in files or LIBRARY.name not in dict(files):
            return None
        own = _innermost(pid)
        lines = (ENTRY.unpack_from(self._map, TABLE_AT + n * LINE) for n in range(LINES))
        used = [(hits, generation) for one, _, hits, generation in lines if one == own]
        return Use(pid, sum(hits for hits, _ in used), max((number for _, number in used), default=0))

    def users(self) -> list[Use]:
        """How each process of this machine that has it mapped uses it, as far as this user may look."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                with suppress(OSError):
                    if use := self.use(int(entry)):
                        found.append(use)
        return found


def environment(control: Path | str, library: Path | str = LIBRARY, before: str = "") -> dict[str, str]:
    """The variables to start a program with; paths as the program sees them, `before` its own LD_PRELOAD.

    >>> environment("/skew/control", "/skew/lib.so", before="libjemalloc.so")
    {'LD_PRELOAD': '/skew/lib.so:libjemalloc.so', 'NEMESIS_SKEW': '/skew/control'}
    """
    return {"LD_PRELOAD": ":".join(filter(None, (str(library), before))), VARIABLE: str(control)}


def mapped(pid: int) -> bool:
    """Whether process `pid` has the library, so that its vDSO must be left as it is. Raises OSError."""
    return any(Path(name).name == LIBRARY.name for _, name in _maps(pid))


def _make(path: Path) -> None:
    """Make a control file of no skew, whole at once. Raises FileExistsError."""
    content = bytearray(SIZE)
    content[: len(MAGIC)] = MAGIC
    content[SLOTS_AT : SLOTS_AT + SLOT.size] = Spec().packed()
    content[SLOTS_AT + SLOT.size] = 1  # the generation of no skew
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    try:
        draft.chmod(0o666)  # programs of any user count their hits in it
        os.link(draft, path)
    finally:
        draft.unlink()


def _maps(pid: int) -> Iterator[tuple[int, str]]:
    """Inode and name of each file that a process has mapped."""
    with open(f"/proc/{pid}/maps") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and fields[4] != "0":
                yield int(fields[4]), fields[5].removesuffix(" (deleted)")


def _innermost(pid: int) -> int:
    """The pid that a process has for itself."""
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return pid


# ---------------------------------------------------------------- what can be preloaded

PT_INTERP, PT_NOTE, X86_64 = 3, 4, 62


def dynamic(executable: Path | str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Why a program cannot be preloaded, or None: then its hits prove whether it was. Raises OSError.

    A script is as its interpreter. What the file cannot say: whether the program makes system calls of its
    own, or cleans the environment before it starts others.
    """
    path = Path(executable)
    with path.open("rb") as file:
        start = file.read(256)
        if start.startswith(b"#!"):
            return _interpreter(path, start, environ)
        if start[:5] != b"\x7fELF\x02" or struct.unpack_from("<H", start, 18) != (X86_64,):
            return f"{path} is no 64-bit ELF program of x86-64, and the library is only built for these"
        if reason := _secure(path):
            return f"{path} {reason}, and the loader preloads nothing into such a program"
        segments = [*_segments(file, start)]
        if not any(kind == PT_INTERP for kind, _, _ in segments):
            return f"{path} is linked statically: it has no loader that could preload anything"
        if any(kind == PT_NOTE and b"Go\0\0" in _read(file, at, size) for kind, at, size in segments):
            return f"{path} is a Go program, which asks the kernel for the time without libc"
    return None


def _interpreter(script: Path, start: bytes, environ: Mapping[str, str]) -> str | None:
    words = start[2:].split(b"\n")[0].decode(errors="replace").split()
    if words and Path(words[0]).name == "env":
        names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        found = shutil.which(names[0], path=environ.get("PATH")) if names else None
        words = [found] if found else []
    if not words or Path(words[0]).resolve() == script.resolve():
        return f"{script} is a script whose interpreter cannot be found: {start.splitlines()[0]!r}"
    reason = dynamic(words[0], environ)
    return reason and f"{script} is a script: {reason}"


def _secure(path: Path) -> str | None:
    mode = path.stat().st_mode
    if mode & stat.S_ISUID:
        return "is setuid"
    if mode & stat.S_ISGID and mode & stat.S_IXGRP:
        return "is setgid"
    with suppress(OSError):
        if os.getxattr(path, "security.capability"):
            return "has file capabilities"
    return None


def _segments(file: IO[bytes], head: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, offset and size of each."""
    (table,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
    data = _read(file, table, size * count)
    for at in range(0, len(data) - 55, size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, at)
        yield kind, offset, length


def _read(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


# ---------------------------------------------------------------- making it


def build(library: Path) -> None:
    """Compile shim.c. Raises FileNotFoundError without gcc, CalledProcessError for what gcc refuses."""
    subprocess.run([*BUILD, "-o", str(library), str(SOURCE)], check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else LIBRARY)

"""Skews the clocks of running processes from outside: writes a jump to a stub over the vDSO's time functions.

A file of standard library. As a program (``python -I -S patcher.py``) it takes JSON lines on standard input
(``{"id": 1, "do": "arm", "with": {...}}``), answers with the request's id in ``re``, and tells unasked
what it sees (``{"event": {...}}``). When its input closes it ends and leaves the processes as they are.

The process is stopped with ptrace only to write and to take away the jumps. What the stub adds is changed
by writing its parameters, without a stop: a slot is filled, then one byte selects it. All that is needed to
read, change and undo a patch lies in the patched process, so that any later patcher can. Forks inherit stub
and parameters; an exec loses both.

Each stop is the work of a thread of its own, which ends with it: the kernel lets go what is still attached to
a thread that ends (a frozen process cannot be detached otherwise), and gives the exit of what died meanwhile
to its real parent. So no exit is ever waited for here. The exception is `follow`, which stays attached. But
while a process is stopped, its parent sees stops: another thread of the parent's own process that is in
``waitpid`` (``Popen.wait``) would take one for the exit. There, use the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
BILLION = 1_000_000_000
CLOCKS = {  # Linux's numbers; the place in Spec.origin that each is measured from
    "wall": {
        0: 0,
        5: 0,
        8: 0,
        11: 1,
    },  # REALTIME, _COARSE, _ALARM, TAI; gettimeofday and time go with 0 and 5
    "monotonic": {1: 2, 6: 2, 4: 3, 7: 4, 9: 4},  # MONOTONIC, _COARSE, _RAW, BOOTTIME, _ALARM
}
ORIGINS = (0, 11, 1, 4, 7)  # the clocks whose readings an origin has, in its order
STACK = 1 << 14  # bytes in which a signal handler's frame is looked for
PATIENCE = 2.0  # seconds for a process to stop
STARVED = 5.0  # times as long at most, where all that it lacks is a processor


class Refused(Exception):
    """A process cannot be skewed, or not now; the text says by which mechanism and why."""


class Replaced(Refused):
    """The process runs another program by now (exec), or has none any more."""


class Unfit(Refused):
    """One way is not to be had; another may be."""


class Stuck(Refused):
    """The process could not be stopped in time; it may be later."""


class Interrupted(Stuck):
    """A signal handler would return into what is to be overwritten, or a call is not over; a moment later
    it may be."""


# ---------------------------------------------------------------------- what is asked for


@dataclass(frozen=True)
class Spec:
    """How far a clock is off, in seconds: ``offset + rate * elapsed``, and `amplitude` in each second `half`.

    `rate` 0.02 is 2 % fast. `elapsed` counts from `origin`: nanoseconds of CLOCK_REALTIME and CLOCK_MONOTONIC
    at one instant, the same for all processes that are to be in phase; none: when it is set. `clocks` are
    ``"wall"`` (REALTIME and its kin, TAI, gettimeofday, time) and ``"monotonic"`` (MONOTONIC, RAW, BOOTTIME).
    Raises ValueError for what no clock can do.
    """

    offset: float = 0.0
    rate: float = 0.0
    half: float = 0.0
    amplitude: float = 0.0
    clocks: tuple[str, ...] = ("wall",)
    origin: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "clocks", tuple(self.clocks))
        if self.origin is not None:
            object.__setattr__(self, "origin", tuple(self.origin))
        century = 3.2e9
        if not all(abs(value) <= century for value in (self.offset, self.amplitude)):
            raise ValueError(f"offset and amplitude must be within a century: {self}")
        if not -1.0 <= self.rate <= 100.0:
            raise ValueError(f"rate must lie between -1 (the clock stands) and 100, it is {self.rate}")
        if not (self.half == 0.0 or 1e-6 <= self.half <= century):
            raise ValueError(f"half must be 0 (no strobe) or 1 µs and more, it is {self.half}")
        if self.origin is not None and len(self.origin) not in (2, len(ORIGINS)):
            raise ValueError(f"origin must be of CLOCK_REALTIME and CLOCK_MONOTONIC, it is {self.origin}")
        if wrong := set(self.clocks) - set(CLOCKS):
            raise ValueError(f"clocks are {', '.join(CLOCKS)}, not {', '.join(sorted(wrong))}")

    @property
    def mask(self) -> int:
        """A bit for each clock that is skewed."""
        return sum(1 << clock for name in set(self.clocks) for clock in CLOCKS[name])

    def based(self) -> Spec:
        """The same with an origin for each of ORIGINS: from the two given, or from now."""
        if self.origin is not None and len(self.origin) == len(ORIGINS):
            return self
        wall, tai, monotonic, raw, boot = (time.clock_gettime_ns(clock) for clock in ORIGINS)
        if self.origin is None:
            return replace(self, origin=(wall, tai, monotonic, raw, boot))
        first, second = self.origin
        offset = round((tai - wall) / BILLION) * BILLION  # whole seconds
        return replace(
            self, origin=(first, first + offset, second, second + raw - monotonic, second + boot - monotonic)
        )

    def packed(self) -> bytes:
        """As a slot of the stub."""
        origin = self.based().origin
        assert origin is not None
        numbers = (nanoseconds(self.offset), round(self.rate * 2**32), nanoseconds(self.half))
        return SLOT.pack(self.mask, *numbers, nanoseconds(self.amplitude), *origin)

    @classmethod
    def unpacked(cls, slot: bytes) -> Spec:
        """What a slot of a stub says."""
        mask, offset, rate, half, amplitude, *origin = SLOT.unpack(slot)
        clocks = tuple(name for name, bits in CLOCKS.items() if all(mask >> bit & 1 for bit in bits))
        numbers = (offset / BILLION, rate / 2**32, half / BILLION, amplitude / BILLION)
        return cls(*numbers, clocks, tuple(origin))


def nanoseconds(seconds: float) -> int:
    return round(seconds * BILLION)


def skewed(slot: bytes, clock: int, real: int) -> int:
    """What the stub makes of `real`, a reading of `clock` in nanoseconds."""
    mask, offset, rate, half, amplitude, *origins = SLOT.unpack(slot)
    if not mask >> clock & 1:
        return real
    elapsed = real - origins[next(kinds[clock] for kinds in CLOCKS.values() if clock in kinds)]
    strobe = amplitude if half and (elapsed // half) & 1 else 0
    return int(real + offset + (elapsed * rate >> 32) + strobe)


# ---------------------------------------------------------------------- the stub, and the code around it

SLOT = struct.Struct("<Q4q5q")
MAGIC, VERSION = b"NEMSKEW\n", 1
HEAD = struct.Struct(
    "<8sHBB5HBB"
)  # magic, version, mode, place, five distances into the code, nothing, selector
SELECTOR, OWNER, SCRATCH, SAVED, SLOTS = 23, 24, 32, 40, 104
SAVE = struct.Struct("<II8s")  # distance from the image's start, whether there is one, what was overwritten
MODES = {"fast": 1, "stub": 2}  # calls the vDSO's own code; calls the kernel
MECHANISM = {"fast": "vdso", "stub": "vdso syscall"}


class X86_64:
    """All that depends on the processor: names, stub, machine code, registers."""

    name, machine, page = "x86_64", 62, 4096
    functions = ("__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time")  # the first there must be
    stub = (
        bytes.fromhex(
            """
            4e454d534b45570a01000000a801e4011d02fe0201030000000000000000000000000000000000000000000000000000
            000000000000000000000000000000000000000000000000000000000000000000000000000000000002000003000204
            0004000100000000
            """
        )
        + bytes(4 * SLOT.size)
        + bytes.fromhex(
            """
            83ff0f0f87500100000fb60d5ffeffff83e1036bc950488d15a3feffff8b0c0a0fa3f90f833001000056e85b0000005e
            72094889064889560831c0c3574885f6740931ffb8600000000f0548833c2400741f31ffe8310000007218488b3c2448
            890789d031d2b9e8030000f7f14889470831c05fc357bf05000000e80a0000005f4885ff7403488907c3574883ec1048
            89e6e8c200000048690c2400ca9a3b48034c24088b7c24104883c41885c00f85a00000004989cb0fb635b1fdffff89f1
            83e1036bc9504c8d05f3fdffff4901c84c89d8418b080fa3f97351488d0dcefdffff0fb60c39492b44c8284989c24d89
            d94d034808498b48104885c9740b48f7e9480facd0204901c1498b48184885c974174c89d0489948f7f948c1fa3f4801
            d0a80174044d0348204c89c8403a353cfdffff7582b900ca9a3b489948f7f94889d148c1f93f4801c881e100ca9a3b48
            01caf8c3f9c3ffd3cc
            """
        )
    )
    kernel = bytes.fromhex("b8e40000000f05c3")  # mov eax, 228 (clock_gettime); syscall; ret
    syscall = b"\x0f\x05"
    mmap, munmap = 9, 11
    readers = ((228, "clock_gettime"), (96, "gettimeofday"), (201, "time"))  # calls that read the wall clock
    jump_size = 5
    registers = (
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
        "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
    )  # fmt: skip
    pc, stack = "rip", "rsp"

    @staticmethod
    def landing(code: bytes) -> int:
        """How many bytes at a function's entry must stay (endbr64: an indirect call may land only there)."""
        return 4 if code[:4] == b"\xf3\x0f\x1e\xfa" else 0

    @staticmethod
    def jump(source: int, target: int) -> bytes:
        distance = target - (source + 5)
        if not -(2**31) <= distance < 2**31:
            raise Refused(f"from {source:#x} to {target:#x} is too far for a jump")
        return b"\xe9" + struct.pack("<i", distance)

    @staticmethod
    def jump_target(source: int, code: bytes) -> int | None:
        """Where a jump at `source` goes; None where `code` begins with something else."""
        return source + 5 + int(struct.unpack_from("<i", code, 1)[0]) if code[:1] == b"\xe9" else None

    @staticmethod
    def instruction(code: bytes) -> tuple[int, int | None]:
        """Length of the first instruction, and where in it lies a distance from its end, if it has one.

        Knows what compilers put at the start of a function, nothing that branches. Raises Refused.
        """
        place, wide = 0, False
        if not code:
            raise Refused("the function ends within the bytes to be overwritten")
        if 0x40 <= code[0] <= 0x4F:
            wide, place = bool(code[0] & 8), 1
        opcode, place = code[place : place + 1], place + 1
        if not opcode:
            raise Refused("the function ends within the bytes to be overwritten")
        number, relative = opcode[0], None
        if 0x50 <= number <= 0x5F:  # push, pop
            pass
        elif 0xB8 <= number <= 0xBF:  # mov register, immediate
            place += 8 if wide else 4
        elif number in MODRM:
            if place >= len(code):
                raise Refused("the function ends within the bytes to be overwritten")
            modrm = code[place]
            place += 1
            mode, register, memory = modrm >> 6, modrm >> 3 & 7, modrm & 7
            sib = None
            if mode != 3 and memory == 4:
                sib = code[place] if place < len(code) else 0
                place += 1
            if mode == 0 and memory == 5:
                relative = place
                place += 4
            elif mode == 2 or (mode == 0 and sib is not None and sib & 7 == 5):
                place += 4
            elif mode == 1:
                place += 1
            if number in (0x80, 0x83):
                place += 1
            elif number == 0xC7 and register != 0:  # xbegin
                raise Refused(f"instruction {code[:8].hex()} is not known")
            elif number in (0x81, 0xC7):
                place += 4
            elif number == 0xF7:
                place += 4 if register < 2 else 0
        else:
            raise Refused(f"instruction {code[:8].hex()} is not known")
        if place > len(code):
            raise Refused("the function ends within the bytes to be overwritten")
        return place, relative

    @staticmethod
    def branches_into(code: bytes, low: int, high: int) -> bool:
        """Whether anything in `code` that may be a branch goes to [low, high): rather one too many."""
        for place in range(len(code) - 1):
            first = code[place]
            if first == 0xEB or 0x70 <= first <= 0x7F or 0xE0 <= first <= 0xE3:
                target = place + 2 + struct.unpack_from("<b", code, place + 1)[0]
                if low <= target < high:
                    return True
            skip = (
                1 if first in (0xE8, 0xE9) else 2 if first == 0x0F and 0x80 <= code[place + 1] <= 0x8F else 0
            )
            if skip and place + skip + 4 <= len(code):
                target = place + skip + 4 + struct.unpack_from("<i", code, place + skip)[0]
                if low <= target < high:
                    return True
        return False

    @staticmethod
    def called(registers: dict[str, int], code: int, stack: int, arguments: Sequence[int]) -> dict[str, int]:
        """Registers for the stub's `remote` to call `code` with; no system call is restarted."""
        first, second = arguments
        return registers | {
            "rbx": code, "rdi": first, "rsi": second, "rsp": stack, "rax": 0, "orig_rax": 2**64 - 1,
            "eflags": registers["eflags"] & ~0x400,
        }  # fmt: skip

    @staticmethod
    def asking(registers: dict[str, int], number: int, arguments: Sequence[int]) -> dict[str, int]:
        """Registers with which a thread at a system call instruction makes that call."""
        names = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
        return registers | dict(zip(names, arguments, strict=False)) | {"rax": number, "orig_rax": 2**64 - 1}

    @staticmethod
    def framed(stack: bytes, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether the kernel saved registers for a signal handler on `stack`, with an address in `ranges`."""
        for high_part in {struct.pack("<Q", end)[2:] for pair in ranges for end in (pair[0], pair[1] - 1)}:
            place = -1
            while (place := stack.find(high_part, place + 1)) >= 0:
                saved = stack[place - 2 : place + 16]  # address, flags, code segment
                if place % 8 == 2 and len(saved) == 18 and saved[16:] == b"\x33\0":
                    address = int.from_bytes(saved[:8], "little")
                    if any(low <= address < high for low, high in ranges):
                        return True
        return False

    @staticmethod
    def in_call(registers: dict[str, int]) -> bool:
        """Whether the thread was stopped inside a system call."""
        return registers["orig_rax"] < 2**63


MODRM = frozenset(
    (
        0x01,
        0x09,
        0x21,
        0x29,
        0x31,
        0x33,
        0x39,
        0x3B,
        0x63,
        0x80,
        0x81,
        0x83,
        0x85,
        0x89,
        0x8B,
        0x8D,
        0xC7,
        0xF7,
    )
)
ARCH = X86_64  # of the processes; a stub for aarch64 would be another such class


def supported() -> None:
    """Raises Refused where there is no stub for this processor."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64") or sys.maxsize < 2**32:
        raise Refused(
            f"vdso: this Python runs on {machine} ({8 * struct.calcsize('P')} bits); there is a stub for"
            " 64-bit x86-64 only. aarch64 has been thought of (a class beside X86_64) and not been tried"
        )


def relocate(code: bytes, source: int, target: int, need: int = ARCH.jump_size) -> tuple[bytes, int]:
    """The first instructions of `code` at `source`, at least `need` bytes of them, made to run at `target`
    and to go on behind them; and how many bytes they were. Raises Refused for what it does not know."""
    moved, count = b"", 0
    while count < need:
        length, relative = ARCH.instruction(code[count:])
        instruction = bytearray(code[count : count + length])
        if relative is not None:
            distance = struct.unpack_from("<i", instruction, relative)[0] + source - target
            if not -(2**31) <= distance < 2**31:
                raise Refused(f"{source:#x} is too far from {target:#x}")
            struct.pack_into("<i", instruction, relative, distance)
        moved += instruction
        count += length
    if ARCH.branches_into(code, 0, count):
        raise Refused(f"the function may branch into its own first {count} bytes")
    return moved + ARCH.jump(target + len(moved), source + count), count


class Image(NamedTuple):
    """A vDSO: its size in memory, where its own bytes end, and its functions (distance, size)."""

    size: int
    end: int
    functions: dict[str, tuple[int, int]]


def parsed(data: bytes) -> Image:
    """The vDSO that begins with `data`. Raises Refused."""
    if data[:4] != b"\x7fELF":
        raise Refused("vdso: there is none where the kernel said (gVisor, or an emulated process?)")
    if data[4] != 2:
        raise Refused("vdso: a 32-bit process; only 64-bit ones can be skewed")
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine != ARCH.machine:
        raise Refused(f"vdso: its code is for machine {machine}, not {ARCH.name}; no other has been tried")
    headers, sections = struct.unpack_from("<QQ", data, 32)
    header_size, count, section_size, section_count = struct.unpack_from("<4H", data, 54)
    end = sections + section_size * section_count if sections else 0
    load = dynamic = None
    for index in range(count):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, headers + header_size * index)
        end = max(end, offset + size)
        if kind == 1 and load is None:
            load = address - offset
        elif kind == 2:
            dynamic = offset, size
    if load is None or dynamic is None:
        raise Refused("vdso: it has no dynamic section")
    table: dict[int, int] = {}
    for place in range(dynamic[0], dynamic[0] + dynamic[1], 16):
        tag, value = struct.unpack_from("<qQ", data, place)
        table.setdefault(tag, value)
    strings, symbols = table[5] - load, table[6] - load
    if 4 in table:  # the hash table's chain is as long as the table of symbols
        (number,) = struct.unpack_from("<I", data, table[4] - load + 4)
    else:  # kernels from 6.12 may have the GNU one only; the strings follow the symbols
        number = (strings - symbols) // 24
    functions = {}
    for place in range(symbols, symbols + 24 * number, 24):
        name, info, _, _, value, size = struct.unpack_from("<IBBHQQ", data, place)
        if info & 15 == 2 and value:
            text = data[strings + name : data.index(b"\0", strings + name)].decode()
            functions[text] = (value - load, size)
    if ARCH.functions[0] not in functions:
        raise Refused(f"vdso: it has no {ARCH.functions[0]}")
    return Image(-(-end // ARCH.page) * ARCH.page, end, functions)


IMAGES: dict[bytes, Image] = {}  # a kernel has one: by its beginning, which is never written to


def image(data: bytes) -> Image:
    if (known := IMAGES.get(data[:1024])) is None:
        try:
            known = IMAGES[data[:1024]] = parsed(data)
        except (struct.error, KeyError, ValueError, IndexError) as error:
            raise Refused(f"vdso: not understood ({error})") from error
    return known


# ---------------------------------------------------------------------- what /proc tells


class Stat(NamedTuple):
    """A line of the process table; `start` (clock ticks since boot) tells a reused pid apart."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    flags: int
    start: int

    @property
    def alive(self) -> bool:
        return self.state not in "ZX" and not self.flags & 0x200000  # a zombie, a kernel thread


def stat(pid: int, task: int | None = None) -> Stat | None:
    """The process `pid` (or its thread `task`), None where there is none."""
    path = f"/proc/{pid}/stat" if task is None else f"/proc/{pid}/task/{task}/stat"
    try:
        with open(path, "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        parent, group, session, flags, start = (int(fields[place]) for place in (1, 2, 3, 6, 19))
        return Stat(pid, fields[0].decode(), parent, group, session, flags, start)
    except (OSError, IndexError, ValueError):
        return None


def status(pid: int | str) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    try:
        with open(f"/proc/{pid}/status", errors="replace") as file:
            return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def ran(pid: int, task: int) -> int:
    """How long a thread has had a processor, ns as of the last tick; 0 where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/task/{task}/schedstat", "rb", buffering=0) as file:
            return int(file.read().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def tasks(pid: int) -> list[int]:
    """The threads of `pid`, its first one first."""
    try:
        return sorted(
            (int(name) for name in os.listdir(f"/proc/{pid}/task")), key=lambda task: (task != pid, task)
        )
    except OSError:
        return []


def exe(pid: int) -> str:
    """The program that `pid` runs, or its name where that may not be read."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return status(pid).get("Name", "")


def vdso(pid: int) -> int:
    """Where the vDSO of `pid` lies. Raises Refused, ProcessLookupError, PermissionError."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        data = file.read()
    pairs = dict(struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]))
    if base := pairs.get(33):  # AT_SYSINFO_EHDR
        return int(base)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/exe", "rb") as file:
        if file.read(5) == b"\x7fELF\x01":
            raise Refused(f"vdso: process {pid} is a 32-bit one; only 64-bit ones can be skewed")
    raise Replaced(f"vdso: the kernel gave process {pid} none (vdso=0), or it is starting or ending")


def forbidden(pid: int, error: OSError) -> str:
    """Why the kernel may have refused to let `pid` be traced, as far as that can be seen."""
    theirs, ours = status(pid), status("self")
    said = [f"process {pid} may not be traced: {os.strerror(error.errno or 0)}"]
    if not theirs:
        return f"{said[0]}; it has ended or is hidden"
    if (tracer := theirs.get("TracerPid", "0")) != "0":
        named = status(tracer)  # a thread's number
        name = named.get("Name", "of another namespace")
        said.append(f"process {named.get('Tgid', tracer)} ({name}) traces it already")
    capable = bool(int(ours.get("CapEff", "0"), 16) >> 19 & 1)
    users = theirs.get("Uid", "").split()
    if not capable:
        if set(users) != {str(os.geteuid())}:
            said.append(f"it is user {users[0]}'s and this is user {os.geteuid()} without CAP_SYS_PTRACE")
        else:
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/mem").st_uid != os.geteuid():
                    said.append("it made itself not dumpable (PR_SET_DUMPABLE, or a program with privileges)")
    elif int(theirs.get("CapPrm", "0"), 16) & ~int(ours.get("CapPrm", "0"), 16):
        said.append("it has capabilities that this process has not")
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            scope = file.read().strip()
        meaning = {
            "0": "any process of the same user",
            "1": "descendants only",
            "2": "CAP_SYS_PTRACE only",
            "3": "none",
        }
        said.append(f"Yama's ptrace_scope is {scope} ({meaning.get(scope, 'unknown')})")
    except OSError:
        said.append("the kernel has no Yama")
    if ours.get("Seccomp", "0") != "0":
        said.append("a seccomp filter is on this process")
    return "; ".join(said)


# ---------------------------------------------------------------------- ptrace

PEEKDATA, POKEDATA, CONT, SINGLESTEP, DETACH, SYSCALL = 2, 5, 7, 9, 17, 24
SETOPTIONS, GETEVENTMSG, GETSIGINFO, SETSIGINFO, GETREGSET, SETREGSET, SEIZE, INTERRUPT, LISTEN = range(
    0x4200, 0x4209
)
GETSIGMASK, SETSIGMASK, GET_SYSCALL_INFO = 0x420A, 0x420B, 0x420E
SYSGOOD, FORK, VFORK, CLONE, EXEC = 1, 2, 4, 8, 16
FOLLOW = FORK | VFORK | CLONE | EXEC
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_STOP = 1, 2, 3, 4, 128
MADE = (EVENT_FORK, EVENT_VFORK, EVENT_CLONE)
STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
WALL, WNOTHREAD = 0x40000000, 0x20000000
CLD_STOPPED = 5
PR_SET_TIMERSLACK = 29

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
LIBC.ptrace.restype = ctypes.c_long


def ptrace(request: int, task: int, address: int = 0, data: int = 0) -> int:
    """Raises OSError."""
    ctypes.set_errno(0)
    result: int = LIBC.ptrace(request, task, address, data)
    if result == -1 and (number := ctypes.get_errno()):
        raise OSError(number, os.strerror(number))
    return result


def message(task: int) -> int:
    """What its event is about: whom a thread that is stopped for one has made."""
    number = ctypes.c_ulong()
    ptrace(GETEVENTMSG, task, 0, ctypes.addressof(number))
    return number.value


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def registers(task: int, values: dict[str, int] | None = None) -> dict[str, int]:
    """The registers of a stopped thread, or `values` put into them."""
    block = (ctypes.c_uint64 * len(ARCH.registers))()
    if values is not None:
        block[:] = [values[name] & 2**64 - 1 for name in ARCH.registers]
    vector = Vector(ctypes.addressof(block), ctypes.sizeof(block))
    ptrace(GETREGSET if values is None else SETREGSET, task, 1, ctypes.addressof(vector))
    return dict(zip(ARCH.registers, block, strict=True)) if values is None else values


class Siginfo(NamedTuple):
    """Why a thread is stopped."""

    number: int
    code: int
    raw: bytes

    @property
    def event(self) -> int:
        """The ptrace event, 0 for a signal that is about to be delivered."""
        return self.code >> 8 if 0 <= self.code < 1 << 16 else 0


def siginfo(task: int) -> Siginfo | None:
    """Why `task` is stopped; None while it runs. It asks without waiting for it: no status is consumed."""
    block = ctypes.create_string_buffer(128)
    try:
        ptrace(GETSIGINFO, task, 0, ctypes.addressof(block))
    except OSError as error:
        if error.errno == errno.ESRCH:
            return None
        raise
    number, _, code = struct.unpack_from("<3i", block.raw)
    return Siginfo(number, code, block.raw)


def apart(work: Callable[[], T], meanwhile: Callable[[], None] | None = None) -> T:
    """What `work` gives, called in a thread of its own that is gone when this returns, and with it all that
    it was attached to. `meanwhile` is called again and again here until then."""
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        LIBC.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)  # short sleeps are to be short
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    while meanwhile is not None and thread.is_alive():
        meanwhile()
        thread.join(0.0005)
    thread.join()
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):  # Python is done with it a little earlier
        os.sched_yield()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


class Patience:
    """`within` seconds, which may become up to STARVED times as many."""

    def __init__(self, within: float) -> None:
        now = time.monotonic()
        self.deadline, self.latest = now + within, now + STARVED * within

    def over(self) -> bool:
        return time.monotonic() > self.deadline

    def more(self, seconds: float) -> None:
        """Do not count some that are past."""
        self.deadline = min(self.deadline + seconds, self.latest)


class Stop:
    """Threads of one process, stopped by ptrace (not by a signal) within a context; all that are, or `one`.

    Used inside `apart`; or, where `held` is the set of threads that are attached to and stay so, anywhere.
    `meanwhile` is called while one does not stop: it may wait for a child (vfork) that waits for the tracer.
    Raises Refused when `patience` is over before all have stopped; while a thread could run and is given no
    processor, it does not wane.
    """

    def __init__(
        self,
        pid: int,
        memory: int,
        patience: Patience,
        one: bool = False,
        held: set[int] | None = None,
        options: int = FOLLOW,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.meanwhile = meanwhile
        self.pid, self.memory, self.patience, self.one, self.held = pid, memory, patience, one, held
        self.threads: dict[int, Siginfo] = {}  # stopped, and why
        self.pending: dict[int, Siginfo] = {}  # the signal that a thread is to get when it goes on
        self.moved: set[int] = set()  # those that ran in between
        self.release = held is None  # whether to let go at the end
        self.options, self.go = options, CONT  # how to stay attached, and how to go on then
        self.steps = 0

    def __enter__(self) -> Stop:
        self.begun = time.perf_counter()
        try:
            gone: set[int] = set()
            while new := self.candidates(gone | self.threads.keys()):
                asked = [task for task in new if self.ask(task)]
                gone |= set(new) - set(asked)
                for task in asked:
                    if (why := self.awaited(task)) is None:
                        gone.add(task)
                        continue
                    self.threads[task] = why
                    if not why.event:
                        self.pending[task] = why
            if not self.threads:
                raise Replaced(f"process {self.pid} has ended")
        except BaseException:
            self.__exit__()
            raise
        return self

    def candidates(self, known: set[int]) -> list[int]:
        """Threads to stop beside those `known`."""
        new = [task for task in tasks(self.pid) if task not in known]
        if not self.one or not new:
            return new
        if self.threads:
            return []
        states = [(task, entry.state) for task in new if (entry := stat(self.pid, task)) is not None]
        # one that sleeps in a system call is in no restartable sequence, which a call would break
        return [task for task, state in sorted(states, key=lambda pair: pair[1] != "S") if state not in "ZX"][
            :1
        ]

    def ask(self, task: int) -> bool:
        """Attach to a thread and make it stop; whether there is one."""
        try:
            if self.held is None:
                ptrace(SEIZE, task)
            elif siginfo(task) is None:  # it runs, or is not ours yet
                with contextlib.suppress(OSError):
                    ptrace(INTERRUPT, task)
                    self.held.add(task)
                    return True
                ptrace(SEIZE, task, 0, self.options)
                self.held.add(task)
            else:
                self.held.add(task)
                return True
            ptrace(INTERRUPT, task)
        except OSError as error:
            entry = stat(self.pid, task)
            if entry is None or entry.state in "ZX":
                return False
            if error.errno == errno.EPERM:
                raise Refused(f"vdso: {forbidden(self.pid, error)}") from error
            if error.errno == errno.ESRCH:
                return False
            raise
        return True

    def awaited(self, task: int) -> Siginfo | None:
        """Why `task` has stopped, once it has; None when it has ended."""
        turn, looked = 0, time.monotonic()
        had: int | None = None
        while (why := siginfo(task)) is None:
            turn += 1
            if turn % 8 == 0:
                self.meanwhile()
                entry = stat(self.pid, task)
                if entry is None or entry.state in "ZX":
                    return None
                before, had, since, looked = had, ran(self.pid, task), looked, time.monotonic()
                if starves := entry.state == "R" and before in (None, had):
                    self.patience.more(looked - since)
                if self.patience.over() and siginfo(task) is None:  # nor has it while this process starved
                    how = (
                        " (D: frozen, or in a call that cannot be interrupted)"
                        if entry.state == "D"
                        else " (but it was given no processor)"
                        if starves
                        else ""
                    )
                    raise Stuck(
                        f"vdso: thread {task} of process {self.pid} did not stop in time, its state is"
                        f" {entry.state}{how}; nothing was changed, and it is not traced any more"
                    )
            time.sleep(
                min(0.001, 2e-5 * 1.4 ** min(turn, 12))
            )  # seldom: on a busy machine each look costs a slice
        return why

    def clear(self, *ranges: tuple[int, int]) -> None:
        """See that no thread is about to run a part of `ranges`: who is runs on, alone, until it is not.

        Raises Interrupted where a signal handler would return into one.
        """
        for task in list(self.threads):
            values = registers(task)
            if any(low <= values[ARCH.pc] < high for low, high in ranges):
                with self.quiet(task):
                    while any(low <= values[ARCH.pc] < high for low, high in ranges):
                        self.run(task, SINGLESTEP)
                        self.steps += 1
                        values = registers(task)
            stack = values[ARCH.stack] & -8
            with contextlib.suppress(OSError):
                if ARCH.framed(os.pread(self.memory, STACK, stack), ranges):
                    raise Interrupted(
                        f"vdso: a signal handler of thread {task} interrupted what is to change"
                    )

    def run(self, task: int, how: int) -> None:
        """Let one thread run until the trap that ends what was asked of it. Raises Refused, Replaced."""
        while True:
            if self.patience.over():
                raise Stuck(f"vdso: thread {task} of process {self.pid} did not get there in time")
            self.moved.add(task)
            ptrace(how, task)
            if (why := self.awaited(task)) is None:
                del self.threads[task]
                raise Replaced(f"thread {task} of process {self.pid} has ended")
            if why.event:  # the stop that had been asked for, or one of its whole group: nothing ran
                continue
            if why.number == signal.SIGTRAP:
                return
            if why.number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL) and why.code > 0 and how == CONT:
                raise Refused(f"vdso: a call in process {self.pid} failed: {signal.Signals(why.number).name}")
            self.pending.setdefault(task, why)  # what cannot be held back: SIGSTOP

    @contextlib.contextmanager
    def quiet(self, task: int) -> Iterator[None]:
        """Signals of `task` wait meanwhile; not the trap's own, or the kernel would reset its handler."""
        mask = ctypes.c_uint64()
        ptrace(GETSIGMASK, task, 8, ctypes.addressof(mask))
        most = ctypes.c_uint64(2**64 - 1 & ~(1 << signal.SIGTRAP - 1))
        ptrace(SETSIGMASK, task, 8, ctypes.addressof(most))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                ptrace(SETSIGMASK, task, 8, ctypes.addressof(mask))

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[tuple[int, dict[str, int]]]:
        """A thread and its registers, which it has again at the end."""
        # one that makes a process is inside that call, whose result would be taken for the other's
        task = next((task for task, why in self.threads.items() if why.event not in MADE), None)
        if task is None:
            raise Interrupted(f"vdso: process {self.pid} is making another")
        before = registers(task)
        with self.quiet(task):
            try:
                yield task, before
            finally:
                if task in self.threads:
                    registers(task, before)

    def syscall(self, code: int, number: int, *arguments: int) -> int:
        """Make a thread do a system call; `code` is the address of such an instruction. Raises OSError."""
        with self.borrowed() as (task, before):
            registers(task, ARCH.asking(before, number, arguments) | {ARCH.pc: code})
            self.run(task, SINGLESTEP)
            result = registers(task)["rax"]
        if result >= 2**64 - 4095:
            raise OSError(2**64 - result, os.strerror(2**64 - result))
        return result

    def __exit__(self, *_: object) -> None:
        made = set[int]()
        for task, why in self.threads.items():
            signal_ = 0
            with contextlib.suppress(OSError):
                if (pending := self.pending.get(task)) is not None:
                    signal_ = pending.number
                    if task in self.moved:  # at the trap of its last step: as if that were the signal
                        block = ctypes.create_string_buffer(pending.raw, 128)
                        ptrace(SETSIGINFO, task, 0, ctypes.addressof(block))
                if self.release:
                    if why.event in MADE:  # attached to from its beginning, and nobody knows of it yet
                        made.add(message(task))
                    ptrace(DETACH, task, 0, signal_)
                elif task in self.moved:
                    ptrace(INTERRUPT, task)
                    ptrace(CONT, task, 0, signal_)
                elif why.event == EVENT_STOP:
                    ptrace(LISTEN if why.number in STOPS else self.go, task)
                # what else it stopped for, who waits for it is going to be told
        if self.release and self.held is not None:
            self.held.clear()
            self.held.update(made)
        self.stopped = time.perf_counter() - self.begun


# ---------------------------------------------------------------------- one process


class Observed(NamedTuple):
    """What a process's clock was seen to be off by and how sure that is (±), in seconds; when, in ns."""

    offset: float
    error: float
    real: int


class Process:
    """One process, and what is written into it. All numbers lie there: another Process finds the same.

    `steps` (of threads that stood where a jump was to be written) and `stopped` (seconds) are of the last
    stop. Not for several threads at once.
    """

    def __init__(self, pid: int, held: set[int] | None = None) -> None:
        supported()
        entry = stat(pid)
        if entry is None or not entry.alive:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")
        self.pid, self.start, self.held = pid, entry.start, held
        self.meanwhile: Callable[[], None] = lambda: None  # what is done while it does not stop,
        self.between: Callable[[], None] = lambda: None  # and before it is stopped again
        self.steps, self.stopped = 0, 0.0
        self.header = 0
        try:
            self.fd = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except PermissionError as error:
            raise Refused(f"vdso: {forbidden(pid, error)}") from error
        except FileNotFoundError:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended") from None
        try:
            self.base = vdso(pid)
            data = self.read(self.base, 4 * ARCH.page, short=True)
            self.image = image(data)
            self.functions = [self.image.functions.get(name) for name in ARCH.functions]
            self.find(data[: self.image.size])
        except BaseException:
            os.close(self.fd)
            raise

    @classmethod
    def open(cls, pid: int) -> Process:
        """The process `pid`. Raises Refused where it cannot be skewed, ProcessLookupError if it is none."""
        return cls(pid)

    def close(self) -> None:
        """Let go of it, as it is."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ memory

    def read(self, address: int, size: int, short: bool = False) -> bytes:
        """Raises Replaced when the program whose memory it was is gone."""
        if self.fd < 0:
            raise Replaced(f"process {self.pid} is looked after no more")
        try:
            data = os.pread(self.fd, size, address)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data or (len(data) < size and not short):
            raise Replaced(f"process {self.pid} has ended, or runs another program")
        return data

    def write(self, address: int, data: bytes) -> None:
        """Also where the process itself may only read. Raises OSError (EIO: the kernel lets nobody)."""
        if (count := os.pwrite(self.fd, data, address)) != len(data):
            raise Replaced(f"process {self.pid} has ended: {count} of {len(data)} bytes written")

    def poke(self, stop: Stop, address: int, data: bytes) -> None:
        """Write through ptrace, which may what `write` may not on some kernels."""
        task = next(iter(stop.threads))
        first, last = address & ~7, (address + len(data) + 7) & ~7
        block = bytearray(self.read(first, last - first))
        block[address - first : address - first + len(data)] = data
        for place in range(0, len(block), 8):
            ptrace(POKEDATA, task, first + place, struct.unpack_from("<Q", block, place)[0])

    def write_code(self, stop: Stop, address: int, data: bytes) -> None:
        if self.place == 2:
            self.poke(stop, address, data)
        else:
            self.write(address, data)
        if (there := self.read(address, len(data))) != data:
            raise Refused(
                f"vdso: process {self.pid}: {data.hex()} written at {address:#x}, {there.hex()} read"
            )

    # ------------------------------------------------------------------ what is there

    def find(self, data: bytes) -> None:
        """Look for a stub: in the padding, or where the entry of the first function jumps to."""
        self.header = 0
        distance, size = self.functions[0]  # type: ignore[misc]
        code = data[distance : distance + size]
        entry = distance + ARCH.landing(code)
        places = [self.base + place] if (place := data.find(MAGIC, self.image.end)) >= 0 else []
        if (target := ARCH.jump_target(self.base + entry, data[entry : entry + 5])) is not None:
            places.insert(0, target & -ARCH.page)  # a page of its own
        for header in places:
            with contextlib.suppress(Replaced):
                if self.read(header, HEAD.size).startswith(MAGIC):
                    self.header = header
                    break
        if self.header:
            self.load(self.header)

    def load(self, header: int) -> None:
        self.header = header
        head = HEAD.unpack(self.read(header, HEAD.size))
        _, self.version, mode, self.place, *self.codes, _, _ = head
        self.mode = next((name for name, number in MODES.items() if number == mode), "")
        saved = SAVE.iter_unpack(self.read(header + SAVED, 3 * SAVE.size))
        self.entries = [  # address, jump, what it overwrote
            (self.base + away, ARCH.jump(self.base + away, header + code), original[: ARCH.jump_size])
            for (away, there, original), code in zip(saved, self.codes, strict=False)
            if there
        ]

    def jumps(self) -> list[bool]:
        """Which of the functions jump to the stub."""
        if not self.header:
            return []
        return [self.read(address, len(jump)) == jump for address, jump, _ in self.entries]

    def installed(self) -> bool:
        """Whether the process's time goes through the stub, as its memory says. Raises Replaced."""
        return bool(jumps := self.jumps()) and all(jumps)

    def mechanism(self) -> str:
        """``"vdso"`` or ``"vdso syscall"``, "" where nothing is installed."""
        return MECHANISM[self.mode] if self.installed() else ""

    # ------------------------------------------------------------------ in and out

    def install(self, mode: str | None = None, within: float = PATIENCE, place: str | None = None) -> str:
        """Let the process's time go through a stub that adds nothing yet: the mechanism.

        `mode` ``"fast"`` uses the vDSO's own code, ``"stub"`` the kernel's (10 times slower, and
        under the process's own seccomp filter); none: the first that can be had.
        `place` ``"padding"`` is the end of the vDSO's last page, ``"page"`` one of its own; none: likewise.
        Raises Refused with the reason of each.
        """
        if mode not in (None, *MODES) or place not in (None, "padding", "page"):
            raise ValueError(f"mode is one of {', '.join(MODES)}, place padding or page; not {mode}, {place}")
        patience = Patience(within)
        if any(self.jumps()):
            fits = mode in (None, self.mode) and place in (None, "padding" if self.place == 1 else "page")
            if fits and self.installed() and self.version == VERSION:
                return MECHANISM[self.mode]
            self.restore(within)
        reasons = []
        for kind in (mode,) if mode else tuple(MODES):
            for where in (place,) if place else ("padding", "page"):
                try:
                    self.put(kind, where, patience)
                    return MECHANISM[kind]
                except Unfit as error:
                    reasons.append(f"{MECHANISM[kind]} ({where}): {error}")
        raise Refused(f"process {self.pid}: " + "; ".join(reasons))

    def stopping(self, patience: Patience, work: Callable[[Stop], T], one: bool = False) -> T:
        """Do `work` while the process is stopped. Raises Refused, Replaced."""

        def once() -> T:
            stop = Stop(self.pid, self.fd, patience, one, self.held, meanwhile=self.meanwhile)
            try:
                with stop:
                    self.read(self.base, 4)  # the program may be another since
                    return work(stop)
            except ProcessLookupError as error:  # what is said of a stopped thread that is being frozen, too
                raise Stuck(f"vdso: process {self.pid} was frozen or killed while it was stopped") from error
            finally:
                self.steps, self.stopped = stop.steps, getattr(stop, "stopped", 0.0)

        reason: Interrupted | None = None
        while True:
            try:
                return apart(once) if self.held is None else once()
            except Interrupted as error:
                reason = error
                self.between()
                time.sleep(0.001)
            except Stuck:  # the last time there was no time to see why
                if reason is None:
                    raise
            if patience.over():
                raise Stuck(f"process {self.pid}: {reason}, and did not return in time") from reason

    def put(self, mode: str, where: str, patience: Patience) -> None:
        """Raises Unfit where this mode cannot be had in this place, Refused where no other could."""
        data = self.read(self.base, self.image.size)
        entries = []
        for found in self.functions:
            if found is None:
                entries.append((0, 0, b""))
                continue
            distance, size = found
            code = data[distance : distance + size]
            code = code[(skip := ARCH.landing(code)) :]
            if ARCH.jump_target(0, code) is not None:
                raise Refused(f"vdso: another program has already put a jump into process {self.pid}")
            if len(code) < ARCH.jump_size or ARCH.branches_into(code, 1, ARCH.jump_size):
                raise Refused("vdso: a function is too short for a jump, or may branch into its first bytes")
            entries.append((distance + skip, 1, code[:8]))
        if where == "page":
            self.stopping(patience, lambda stop: self.write_page(stop, data, mode, entries))
            return
        old = data.find(MAGIC, self.image.end)
        at = old if old >= 0 else -(-self.image.end // 16) * 16
        blob = self.built(data, self.base + at, mode, 1, entries)
        room = self.image.size - at
        if len(blob) > room or (old < 0 and any(data[at:])):
            raise Unfit(f"{len(blob)} bytes are needed behind the vDSO, {room} are there")
        start = SLOTS + 4 * SLOT.size
        late = (
            old >= 0 and data[at + start : at + len(blob)] != blob[start:]
        )  # somebody may still be in what an earlier patcher left
        if not late:
            try:
                self.write(self.base + at, blob)
            except OSError as error:
                raise Unfit(f"this kernel lets nobody write into the vDSO ({error})") from error
        self.stopping(patience, lambda stop: self.write_jumps(stop, self.base + at, blob, late))

    def built(
        self, data: bytes, header: int, mode: str, place: int, entries: Sequence[tuple[int, int, bytes]]
    ) -> bytes:
        """The stub as it is to lie at `header`."""
        blob = bytearray(ARCH.stub)
        if mode == "fast":
            distance, size = self.functions[0]  # type: ignore[misc]
            code, start = data[distance : distance + size], entries[0][0]
            try:
                blob += relocate(code[start - distance :], self.base + start, header + len(blob))[0]
            except Refused as error:
                raise Unfit(str(error)) from error
        else:
            blob += ARCH.kernel
        _, version, _, _, *codes, nothing, selector = HEAD.unpack_from(blob)
        HEAD.pack_into(blob, 0, MAGIC, version, MODES[mode], place, *codes, nothing, selector)
        scratch = self.read(self.header + SCRATCH, 8) if self.header else bytes(8)
        struct.pack_into("<I4x8s", blob, OWNER, self.pid, scratch)
        for index, entry in enumerate(entries):
            SAVE.pack_into(blob, SAVED + index * SAVE.size, *entry)
        return bytes(blob)

    def write_page(
        self, stop: Stop, data: bytes, mode: str, entries: Sequence[tuple[int, int, bytes]]
    ) -> None:
        """The stub into a page of its own near the vDSO, that the process itself maps."""
        call = self.base + data.index(ARCH.syscall, min(found[0] for found in self.functions if found))
        if header := self.left_page():
            stop.clear((header, header + ARCH.page), (self.base, self.base + self.image.size))
            self.write_jumps(stop, header, self.built(data, header, mode, 2, entries), True, poke=True)
            return
        for away in range(
            16, 4096, 64
        ):  # pages below the vDSO: a hint, the kernel takes another if it is taken
            try:
                header = stop.syscall(
                    call, ARCH.mmap, self.base - away * ARCH.page, ARCH.page, 7, 0x22, -1, 0
                )
            except OSError as error:
                raise Unfit(f"the process may not map a page to write and run ({error})") from error
            if abs(header - self.base) < 2**31 - 2**24:
                break
            stop.syscall(call, ARCH.munmap, header, ARCH.page)
        else:
            raise Unfit("the process has no free page within 2 GiB of the vDSO")
        self.write_jumps(stop, header, self.built(data, header, mode, 2, entries), True, poke=True)

    def left_page(self) -> int:
        """The page that an earlier patcher had the process map, 0 where there is none."""
        with open(f"/proc/{self.pid}/maps") as file:
            for line in file:
                if " rwxp " in line:
                    first, last = (int(number, 16) for number in line.split()[0].split("-"))
                    if last - first == ARCH.page and self.read(first, len(MAGIC)) == MAGIC:
                        return first
        return 0

    def write_jumps(self, stop: Stop, header: int, blob: bytes, late: bool, poke: bool = False) -> None:
        if late and not poke:
            stop.clear((self.base, self.base + self.image.size))
        if late:
            self.write(header, blob)
        if self.read(header, len(blob)) != blob:
            raise Refused(f"vdso: process {self.pid}: what was written at {header:#x} is not there")
        self.load(header)
        stop.clear(*((address + 1, address + len(jump)) for address, jump, _ in self.entries))
        for address, jump, _ in self.entries:
            self.write_code(stop, address, jump)

    def attach(self, within: float = PATIENCE) -> None:
        """Attach to all threads, where it is to be followed."""
        self.stopping(Patience(within), lambda stop: None)

    def restore(self, within: float = PATIENCE) -> None:
        """Give the process its vDSO's functions back, as they were. Raises Refused, Replaced.

        The stub stays where it is, for who may still be in it. Who was followed is not any more.
        """
        if not any(self.jumps()) and not self.held:
            return

        def undo(stop: Stop) -> None:
            for (address, _, original), jumps in zip(self.entries, self.jumps(), strict=True):
                if jumps:
                    self.write_code(stop, address, original)
            stop.release = True

        self.stopping(Patience(within), undo)
        self.held = None

    # ------------------------------------------------------------------ what the stub adds

    def selected(self) -> int:
        if not self.header:
            raise Refused(f"process {self.pid}: nothing is installed")
        if self.version != VERSION:
            raise Refused(
                f"process {self.pid}: the stub in it is of version {self.version}, this is {VERSION}:"
                " restore it first"
            )
        return self.read(self.header + SELECTOR, 1)[0]

    def set(self, spec: Spec | bytes) -> bytes:
        """Change what the stub adds, at once, without a stop; the slot as written. Raises Refused."""
        slot = spec if isinstance(spec, bytes) else spec.packed()
        number = self.selected() + 1 & 255
        self.write(self.header + SLOTS + (number & 3) * SLOT.size, slot)
        self.write(self.header + SELECTOR, bytes([number]))
        return slot

    def slot(self) -> bytes:
        """What the stub adds, as bytes to compare. Raises Refused, Replaced."""
        return self.read(self.header + SLOTS + (self.selected() & 3) * SLOT.size, SLOT.size)

    def state(self) -> Spec:
        """What the stub adds, read back. Raises Refused where there is none."""
        return Spec.unpacked(self.slot())

    def call(self, clock: int = time.CLOCK_REALTIME, within: float = PATIENCE, rounds: int = 3) -> Observed:
        """What the process's clock is off by, by a call of its own function on one of its threads.

        The call lies between two readings of this process's clock; the closest pair of `rounds` is told.
        Raises Refused where nothing was ever installed, or the process cannot run.
        """
        self.selected()

        def calls(stop: Stop) -> Observed:
            return min((self.one_call(stop, clock) for _ in range(rounds)), key=lambda seen: seen.error)

        return self.stopping(Patience(within), calls, one=True)

    def one_call(self, stop: Stop, clock: int) -> Observed:
        page = self.scratch(stop)
        distance, _ = self.functions[0]  # type: ignore[misc]
        with stop.borrowed() as (task, before):
            start = ARCH.called(before, self.base + distance, page + ARCH.page - 256, (clock, page + 16))
            registers(task, start | {ARCH.pc: self.header + self.codes[3]})
            first = time.clock_gettime_ns(clock)
            stop.run(task, CONT)
            last = time.clock_gettime_ns(clock)
            result = registers(task)["rax"]
        if result:
            raise Refused(f"process {self.pid}: clock {clock} cannot be read there (error {2**64 - result})")
        seconds, rest = struct.unpack("<qq", self.read(page + 16, 16))
        real = (first + last) // 2
        return Observed((seconds * BILLION + rest - real) / BILLION, (last - first + 1) / 2 / BILLION, real)

    def scratch(self, stop: Stop) -> int:
        """A page for a call's stack and result, which the process maps once: its own stack may be in use."""
        (page,) = struct.unpack("<Q", self.read(self.header + SCRATCH, 8))
        if page:
            with contextlib.suppress(Replaced):
                if self.read(page, len(MAGIC)) == MAGIC:
                    return int(page)
        call = self.header + ARCH.stub.index(ARCH.syscall)
        page = stop.syscall(call, ARCH.mmap, 0, ARCH.page, 3, 0x22, -1 & 2**64 - 1, 0)
        self.write(page, MAGIC)
        self.write(self.header + SCRATCH, struct.pack("<Q", page))
        return int(page)


# ---------------------------------------------------------------------- which system calls escape


def kernel_wait(pid: int, number: int, arguments: Sequence[int]) -> str:
    """The name of a system call that waits until a wall-clock time of the kernel's, which is never skewed."""
    first, second, _, fourth, fifth = arguments[:5]
    if number == 230 and first in CLOCKS["wall"] and second & 1:
        return "clock_nanosleep until a wall-clock time"
    if number == 202 and fourth and (second & 0x7F == 6 or (second & 0x7F in (9, 11, 13) and second & 0x100)):
        return "futex wait until a wall-clock time"
    if number == 449 and fourth and fifth == 0:
        return "futex_waitv until a wall-clock time"
    if number in (242, 243) and fifth:
        return "mq_timed wait until a wall-clock time"
    if number == 286 and second & 1:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{first}") as file:
            clocks = [int(line.split()[1]) for line in file if line.startswith("clockid:")]
            return "timerfd set to a wall-clock time" if clocks and clocks[0] in CLOCKS["wall"] else ""
        return "timerfd set to a time of an unknown clock"
    return "timer set to a time of an unknown clock" if number == 223 and second & 1 else ""


class Audit:
    """Watches the system calls of processes for a while: those that read the wall clock past the stub, and
    those that wait for a time of the kernel's. For a thread of its own (`apart`)."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self.processes = {process.pid: process for process in processes}
        self.owner: dict[int, int] = {}  # of each thread watched
        self.again: set[int] = set()  # threads whose first call is the one that the stop interrupted
        self.found: dict[int, dict[str, Any]] = {
            process.pid: {"pid": process.pid, "syscalls": 0, "through": 0, "escapes": {}, "waits": {}}
            for process in processes
        }

    def run(self, seconds: float, within: float) -> list[dict[str, Any]]:
        patience = Patience(within)
        for process in self.processes.values():
            try:
                with Stop(process.pid, process.fd, patience, held=set(), options=SYSGOOD | CLONE) as stop:
                    self.owner |= dict.fromkeys(stop.threads, process.pid)
                    self.again |= {task for task in stop.threads if ARCH.in_call(registers(task))}
                    stop.go = SYSCALL
            except Refused as error:
                self.found[process.pid]["error"] = str(error)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.step(SYSCALL):
                time.sleep(0.00002)
        for task in self.owner:
            with contextlib.suppress(OSError):
                ptrace(INTERRUPT, task)
        deadline = time.monotonic() + within
        while self.owner and time.monotonic() < deadline:
            if not self.step(DETACH):
                self.owner = {task: pid for task, pid in self.owner.items() if stat(pid, task) is not None}
                time.sleep(0.00002)
        return [found | {"verdict": self.verdict(found)} for found in self.found.values()]

    @staticmethod
    def verdict(found: Mapping[str, Any]) -> str:
        return "inconclusive" if not found["syscalls"] else "escapes" if found["escapes"] else "clean"

    def step(self, how: int) -> bool:
        """Let one stopped thread go on (or go, where `how` is DETACH); whether there was one."""
        flags = os.WSTOPPED | os.WNOHANG | WALL | WNOTHREAD
        try:
            seen = os.waitid(os.P_ALL, 0, flags)
        except ChildProcessError:
            self.owner.clear()
            return False
        if seen is None:
            return False
        task, event, number = seen.si_pid, seen.si_status >> 8, seen.si_status & 0xFF
        if task not in self.owner:
            self.owner[task] = int(status(task).get("Tgid", task))
        deliver = 0
        if number == signal.SIGTRAP | 0x80:
            if how == SYSCALL:
                self.count(task)
        elif event == EVENT_STOP:
            if number in STOPS and how == SYSCALL:
                how = LISTEN
        elif not event:
            deliver = number
        with contextlib.suppress(OSError):
            ptrace(how, task, 0, deliver)
        if how == DETACH:
            del self.owner[task]
        return True

    def count(self, task: int) -> None:
        block = ctypes.create_string_buffer(128)
        try:
            ptrace(GET_SYSCALL_INFO, task, len(block), ctypes.addressof(block))
        except OSError as error:
            if error.errno == errno.ESRCH:
                return
            raise Refused(
                f"vdso audit: this kernel (before 5.3) does not tell system calls: {error}"
            ) from error
        kind, place, number, *arguments = struct.unpack_from("<B7xQ8xQ6Q", block.raw)
        pid = self.owner[task]
        if kind != 1 or pid not in self.found:
            return
        found, process = self.found[pid], self.processes[pid]
        try:
            mask = SLOT.unpack(process.slot())[0]
        except Replaced:  # another program by now
            return
        found["syscalls"] += task not in self.again
        self.again.discard(task)
        if (name := dict(ARCH.readers).get(number)) is not None:
            clock = arguments[0] if name == "clock_gettime" else 0
            if clock < 16 and mask >> clock & 1:
                ours = process.base <= place < process.base + process.image.size
                ours = ours or process.header <= place < process.header + ARCH.page
                if ours:
                    found["through"] += 1
                else:
                    found["escapes"][name] = found["escapes"].get(name, 0) + 1
        elif name := kernel_wait(pid, number, arguments):
            found["waits"][name] = found["waits"].get(name, 0) + 1


# ---------------------------------------------------------------------- groups of processes


class Table:
    """The process table, read again only where a process was made since it was last."""

    def __init__(self) -> None:
        self.counter = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)  # its last word: the newest pid
        self.newest = b""
        self.due = 0.0
        self.all: dict[int, Stat] = {}
        self.kernel: set[int] = set()  # its threads, which are looked at once

    def look(self, force: bool = False) -> bool:
        """Read what is new, if there may be anything."""
        now = time.monotonic()
        newest = os.pread(self.counter, 128, 0).split()[-1]
        if newest != self.newest:
            self.newest = newest
            self.due = now  # now, and once more when what is just being made has become visible
        elif not force and now < self.due:
            return False
        else:
            self.due = now + 0.5
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        for pid in self.all.keys() - pids:
            del self.all[pid]
        self.kernel &= pids
        for pid in pids - self.all.keys() - self.kernel:
            if (entry := stat(pid)) is None:
                continue
            if entry.alive:
                self.all[pid] = entry
            elif entry.state not in "ZX":
                self.kernel.add(pid)
        return True

    def family(self, root: int) -> set[int]:
        """`root` and all that descends from it."""
        children: dict[int, list[int]] = {}
        for entry in self.all.values():
            children.setdefault(entry.parent, []).append(entry.pid)
        found, todo = set[int](), [root]
        while todo:
            if (pid := todo.pop()) not in found:
                found.add(pid)
                todo += children.get(pid, ())
        return found


@dataclass
class Member:
    """A process of a group, skewed; `seen` is when it was last found to be (CLOCK_MONOTONIC, seconds)."""

    process: Process
    exe: str
    mechanism: str
    seen: float


@dataclass
class Group:
    """The processes of one node: who they are to be, and who they are."""

    name: str
    who: Mapping[str, Any]
    within: float
    follow: bool
    user: int = -1  # of the tree's root
    space: str = ""  # the pid namespace
    slot: bytes = b""  # what all of them are to add
    members: dict[int, Member] = field(default_factory=dict)
    kin: dict[int, int] = field(default_factory=dict)  # members and refused ones: when each started
    strangers: set[int] = field(default_factory=set)
    waiting: dict[int, Wait] = field(default_factory=dict)
    held: dict[int, set[int]] = field(default_factory=dict)  # threads that are attached to, by process


@dataclass
class Wait:
    """A process that could not be armed yet; times in seconds of CLOCK_MONOTONIC."""

    since: float
    what: str
    gap: float  # from when it has run with true time
    next: float = 0.0  # when to try again
    error: str = ""
    told: bool = False


class Patcher:
    """Groups of processes by name; each verb gives plain data. For one thread, always the same."""

    VERBS = ("arm", "set", "verify", "beat", "restore", "recover", "audit", "drop")

    def __init__(self) -> None:
        supported()
        self.groups: dict[str, Group] = {}
        self.table = Table()
        self.events: list[dict[str, Any]] = []
        self.left: set[int] = set()  # threads that are still attached to, of groups that are no more
        self.stopping: set[int] = set()  # processes that are being stopped now
        self.me = os.getpid()

    def do(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a verb by its name."""
        if verb not in self.VERBS:
            raise ValueError(f"{verb} is none of {', '.join(self.VERBS)}")
        answer = getattr(self, verb)(**arguments)
        return {"events": answer} if verb == "beat" else answer

    def group(self, name: str) -> Group:
        if name not in self.groups:
            raise KeyError(f"{name} is not armed; armed are {', '.join(self.groups) or 'none'}")
        return self.groups[name]

    # ------------------------------------------------------------------ who belongs to a group

    def wanted(self, name: str, who: Mapping[str, Any], within: float, follow: bool) -> Group:
        group = Group(name, who, within, follow)
        kind = set(who) & {"tree", "pidns", "pids"}
        if len(kind) != 1 or set(who) - kind - {"label"}:
            raise ValueError(f"who has one of tree, pidns, pids, and perhaps label; not {', '.join(who)}")
        if "tree" in who:
            with contextlib.suppress(OSError):
                group.user = os.stat(f"/proc/{who['tree']}").st_uid
        if "pidns" in who:
            group.space = os.readlink(f"/proc/{who['pidns']}/ns/pid")
        return group

    def belongs(self, group: Group, entry: Stat) -> bool | None:
        """Whether a process is the group's; None where that cannot be told yet."""
        pid = entry.pid
        if pid == self.me:
            return False
        if entry.parent in group.kin:
            return True
        if "pids" in group.who:
            return pid in group.who["pids"]
        if group.space:
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") != group.space:
                    return False
            except OSError:
                return None
            return pid not in self.table.family(self.me)
        root = group.who["tree"]
        if root in (pid, entry.parent, entry.group, entry.session):
            return True
        labels = [f"{key}={value}".encode() for key, value in group.who.get("label", ())]
        if not labels:
            return False
        try:
            if group.user >= 0 and os.stat(f"/proc/{pid}").st_uid != group.user:
                return False
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read().split(b"\0")
        except OSError:
            return False
        if environment == [b""]:  # between two programs, or none at all
            return None
        return all(label in environment for label in labels)

    def newcomers(self, group: Group) -> list[Stat]:
        """Processes of the table that are the group's and not known to it; parents first."""
        found: list[Stat] = []
        todo = [
            entry
            for pid, entry in self.table.all.items()
            if group.kin.get(pid) != entry.start and pid not in group.strangers
        ]
        todo.sort(key=lambda entry: (entry.start, entry.pid))
        more = True
        while more:
            more, left = False, []
            for entry in todo:
                answer = self.belongs(group, entry)
                if answer:
                    group.kin[entry.pid] = entry.start
                    found.append(entry)
                    more = True
                else:
                    left.append(entry)
                    if answer is None:
                        group.strangers.discard(entry.pid)
                    else:
                        group.strangers.add(entry.pid)
            todo = left
        return found

    def tidy(self, group: Group) -> None:
        """Forget numbers that another process may get."""
        group.strangers &= self.table.all.keys()
        for pid in group.kin.keys() - self.table.all.keys() - group.members.keys():
            del group.kin[pid]
            group.waiting.pop(pid, None)

    def forget(self, group: Group, pid: int) -> None:
        """A process has ended."""
        self.table.all.pop(pid, None)
        group.kin.pop(pid, None)
        group.waiting.pop(pid, None)

    def tell(self, group: Group, pid: int, what: str, **more: Any) -> None:
        self.events.append({"name": group.name, "pid": pid, "what": what, "time": time.time_ns(), **more})

    # ------------------------------------------------------------------ arming one

    def adopt(self, group: Group, entry: Stat, within: float) -> bool:
        """Make a process a member, skewed as the group is; whether it was already (a fork of a member).

        Raises Refused, ProcessLookupError.
        """
        process = self.process(entry.pid, group.held.setdefault(entry.pid, set()) if group.follow else None)
        try:
            if process.start != entry.start:
                raise ProcessLookupError(errno.ESRCH, f"process {entry.pid} has ended")
            inherited = process.installed()
            if inherited and self.shared(group, process, entry.parent):
                raise Replaced(f"process {entry.pid} shares its parent's memory until it runs a program")
            mechanism = process.install(within=within)
            if process.held is not None and not process.held.issuperset(tasks(entry.pid)):
                process.attach(within)
            if group.slot:
                process.set(group.slot)
        except BaseException:
            process.close()
            raise
        group.members[entry.pid] = Member(process, exe(entry.pid), mechanism, time.monotonic())
        group.waiting.pop(entry.pid, None)
        return inherited

    def shared(self, group: Group, process: Process, parent: int) -> bool:
        """Whether `process` is a vfork of a member: what is written into it is the member's."""
        member = group.members.get(parent)
        if member is None or member.process.header != process.header:
            return False
        owner, mine = member.process.header + OWNER, struct.pack("<I", process.pid)
        before = member.process.read(owner, 4)
        process.write(process.header + OWNER, mine)
        if member.process.read(owner, 4) != mine:
            return False
        member.process.write(owner, before)
        return True

    def gather(self, group: Group, within: float) -> list[dict[str, Any]]:
        """Adopt newcomers until there are no more; what could not be adopted."""
        failed: list[dict[str, Any]] = []
        while True:
            self.table.look(force=True)
            found = self.newcomers(group)
            if not found:
                return failed
            for entry in found:
                since = self.started(entry)
                if (trouble := self.join(group, entry, "new", since, within, hasty=True)) is not None:
                    failed.append(trouble)

    @staticmethod
    def started(entry: Stat) -> float:
        """When a process started, in seconds of CLOCK_MONOTONIC, as exactly as its ticks are."""
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - entry.start / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - ago

    def join(
        self, group: Group, entry: Stat, what: str, since: float | None, within: float, hasty: bool = False
    ) -> dict[str, Any] | None:
        """Adopt a process and tell it; or wait with it, and tell why (and give that) once that has lasted.

        It may be starting, or be another program soon; `hasty` does not wait to see. It has run with true
        time `since` then; None: it has not, it stands before its first instruction.
        """
        pid = entry.pid
        now = time.monotonic()
        stands = since is None or (group.follow and what != "lost" and self.attached(pid))
        since = now if since is None else since
        try:
            inherited = self.adopt(group, entry, within)
        except (Refused, OSError) as error:
            again = stat(pid)
            if again is None or not again.alive or again.start != entry.start:
                self.forget(group, pid)
                return None
            wait = group.waiting.setdefault(pid, Wait(now, what, since))
            wait.error = str(error)
            wait.next = now + min(1.0, max(0.005, (now - wait.since) / 4))
            grace = 1.0 if isinstance(error, (Replaced, ProcessLookupError)) else 0.0 if hasty else 0.25
            if wait.told or now - wait.since < grace:
                return None
            wait.told = True
            self.tell(group, pid, "refused", gap=max(0.0, now - since), exe=exe(pid), error=wait.error)
            return {"pid": pid, "start": entry.start, "exe": exe(pid), "error": wait.error}
        if not inherited:
            member = group.members[pid]
            gap = 0.0 if stands else max(0.0, member.seen - since)
            self.tell(group, pid, what, gap=gap, exe=member.exe, mechanism=member.mechanism)
        return None

    # ------------------------------------------------------------------ following

    def attached(self, pid: int) -> bool:
        """Whether a process is followed already, so that it does not run before it is skewed."""
        return int(status(pid).get("TracerPid", 0)) == self.me

    def process(self, pid: int, held: set[int] | None) -> Process:
        """The process `pid`; where it is followed (`held`) what else is goes on while it is being stopped."""
        process = Process(pid, held)

        def meanwhile() -> None:
            self.stopping.add(pid)
            try:
                self.poll()
            finally:
                self.stopping.discard(pid)

        if held is not None:
            process.meanwhile, process.between = meanwhile, self.poll
        return process

    def poll(self, left: bool = True) -> None:
        """Let followed processes go on from where they stopped for us; for a driver that waits for nobody."""
        attached = [
            held
            for group in self.groups.values()
            for pid, held in group.held.items()
            if pid not in self.stopping
        ]
        stopping = {
            task
            for group in self.groups.values()
            for pid in self.stopping
            for task in group.held.get(pid, ())
        }
        for task in [task for held in (*attached, self.left - stopping if left else ()) for task in held]:
            try:
                while True:
                    flags = os.WSTOPPED | os.WEXITED | os.WNOHANG | WALL
                    seen = os.waitid(os.P_PID, task, flags | os.WNOWAIT)
                    if seen is None:
                        break
                    if seen.si_code not in (os.CLD_TRAPPED, CLD_STOPPED):
                        self.ended(task)
                        break
                    if (seen := os.waitid(os.P_PID, task, os.WSTOPPED | os.WNOHANG | WALL)) is not None:
                        self.traced(task, seen.si_status << 8 | 0x7F)
            except ChildProcessError:  # it is attached to no more
                self.left.discard(task)

    def ended(self, task: int) -> None:
        """A followed thread has ended: let its real parent know, unless that is this process."""
        entry = stat(task)
        self.left.discard(task)
        leads = int(status(task).get("Tgid", 0)) == task
        for group in self.groups.values():
            for held in group.held.values():
                held.discard(task)
        if not leads or entry is None or entry.parent != self.me:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, task, os.WEXITED | os.WNOHANG | WALL)

    def traced(self, task: int, state: int) -> bool:
        """Let a thread go on from the ptrace stop that the driver's own waitpid got; whether it is ours."""
        if not os.WIFSTOPPED(state):
            return False
        event, number = state >> 16, os.WSTOPSIG(state)
        pid = int(status(task).get("Tgid", task))
        entry = stat(pid)
        group = self.following(pid, entry)
        if group is None or entry is None:
            with contextlib.suppress(OSError):
                ptrace(DETACH, task, 0, 0 if event else number)
            return False
        known = group.held.setdefault(pid, set())
        how, deliver = CONT, 0
        if event == EVENT_EXEC:
            known.clear()
            self.executed(group, entry)
        elif event in MADE:
            self.forked(group, pid, task)
        elif event == EVENT_STOP:
            if number in STOPS:
                how = LISTEN
            elif pid not in group.kin:
                group.kin[pid] = entry.start
                self.join(group, entry, "new", since=None, within=group.within)
        elif not event:
            deliver = number
        known.add(task)
        with contextlib.suppress(OSError):  # it has died, or goes on already
            ptrace(how, task, 0, deliver)
        return True

    def following(self, pid: int, entry: Stat | None) -> Group | None:
        """The group of a followed process, or of its parent."""
        for who in (pid, entry.parent if entry else pid):
            for group in self.groups.values():
                if group.follow and (who in group.held or who in group.kin):
                    return group
        return None

    def forked(self, group: Group, pid: int, task: int) -> None:
        """Note a new thread or process, which is attached to from its beginning, and stopped there."""
        with contextlib.suppress(OSError):
            new = message(task)
            group.held.setdefault(int(status(new).get("Tgid", new)), set()).add(new)

    def executed(self, group: Group, entry: Stat) -> None:
        """A followed process is about to begin another program."""
        group.held[entry.pid].add(entry.pid)
        what = "new"
        if (member := group.members.pop(entry.pid, None)) is not None:
            member.process.close()
            what = "exec"
        group.kin[entry.pid] = entry.start
        self.join(group, entry, what, since=None, within=group.within)

    # ------------------------------------------------------------------ the verbs

    def arm(
        self, name: str, who: Mapping[str, Any], within: float = PATIENCE, follow: bool = False
    ) -> dict[str, Any]:
        """Let the time of all processes that `who` means go through stubs, which add nothing yet.

        `who`: ``{"tree": pid, "label": [[key, value], ...]}`` the descendants of pid, those of its process
        group or session, and those of its user that have all labels in their environment; ``{"pidns": pid}``
        all of its pid namespace; ``{"pids": [...]}``; always with what they fork. `follow` stays attached, so
        that a new program of theirs is skewed before its first instruction. Raises Refused where there is no
        process at all.
        """
        if name in self.groups:
            raise ValueError(f"{name} is armed already")
        group = self.groups[name] = self.wanted(name, who, within, follow)
        failed = self.gather(group, within)
        self.events = [event for event in self.events if event["name"] != name]  # the answer tells
        if not (group.members or group.waiting or failed):
            self.let_go(group)  # of one that has died meanwhile its parent is still to hear
            raise Refused(f"no process is meant by {json.dumps(dict(who))}")
        return {"processes": [self.described(member) for member in group.members.values()] + failed}

    def described(self, member: Member) -> dict[str, Any]:
        process = member.process
        return {
            "pid": process.pid,
            "start": process.start,
            "exe": member.exe,
            "mechanism": member.mechanism,
            "stopped": process.stopped,
            "steps": process.steps,
            "error": None,
        }

    def set(self, name: str, spec: Mapping[str, Any] | Spec) -> dict[str, Any]:
        """Change what all processes of a group add, and what they fork meanwhile; parents first.

        The answer has how many there are, how long that took (seconds), and what could not be set.
        """
        group = self.group(name)
        begun = time.perf_counter()
        group.slot = (spec if isinstance(spec, Spec) else Spec(**spec)).packed()
        for member in list(group.members.values()):
            try:
                member.process.set(group.slot)
            except (Refused, OSError):
                self.check(group, member)
        self.gather(group, group.within)
        took = time.perf_counter() - begun
        return {"processes": len(group.members), "took": took, "errors": self.waiting(group)}

    def check(self, group: Group, member: Member) -> None:
        """See what became of a member whose memory is gone or not as it should be."""
        process = member.process
        if group.members.get(process.pid) is not member:  # another has taken its place meanwhile
            return
        entry = stat(process.pid)
        here = bool(self.peek(member, process.base, 1))
        if self.at_exec(process):
            return
        del group.members[process.pid]
        process.close()
        if entry is None or not entry.alive or entry.start != process.start:
            self.forget(group, process.pid)
            self.tell(group, process.pid, "gone", gap=0.0, exe=member.exe)
            return
        what = "lost" if here else "exec"
        self.join(group, entry, what, since=member.seen, within=0.1)

    def beat(self) -> list[dict[str, Any]]:
        """Look after all groups: what happened since the last time, put right as far as can be.

        ``{"name", "pid", "what", "gap", "exe"}``: `what` is ``exec`` (it runs another program), ``new``,
        ``gone``, ``lost`` (somebody took the stub away) or ``refused``; `gap` the seconds that it ran with
        true time.
        """
        looked = self.table.look() if self.groups else False
        for group in self.groups.values():
            now = time.monotonic()
            for member in list(group.members.values()):
                if self.sound(member):
                    member.seen = now
                else:
                    self.check(group, member)
            if looked:
                for entry in self.newcomers(group):
                    self.join(group, entry, "new", since=self.started(entry), within=0.1)
                self.tidy(group)
            for pid, wait in list(group.waiting.items()):
                if now >= wait.next and (late := stat(pid)) is not None:
                    self.join(group, late, wait.what, since=wait.gap, within=0.1)
        events, self.events = self.events, []
        return events

    @staticmethod
    def peek(member: Member, address: int, size: int) -> bytes:
        """A member's memory, nothing where that is gone."""
        try:
            return os.pread(member.process.fd, size, address)
        except OSError:
            return b""

    def sound(self, member: Member) -> bool:
        """Whether its memory is there and jumps to the stub."""
        address, jump, _ = member.process.entries[0]
        return self.peek(member, address, len(jump)) == jump

    def verify(self, name: str, call: bool = True) -> dict[str, Any]:
        """Read back from each process what it adds, and call its own clock on one of its threads."""
        group = self.group(name)
        self.gather(group, group.within)
        for member in list(group.members.values()):
            if not self.sound(member):
                self.check(group, member)
        found = [self.verified(group, member, call) for member in list(group.members.values())]
        return {"processes": [entry for entry in found if entry is not None] + self.waiting(group)}

    @staticmethod
    def at_exec(process: Process) -> bool:
        """Whether a followed process stands before the first instruction of another program."""
        return bool(process.held) and (why := siginfo(process.pid)) is not None and why.event == EVENT_EXEC

    @staticmethod
    def waiting(group: Group) -> list[dict[str, Any]]:
        """Those that are to be skewed and are not."""
        return [
            {"pid": pid, "start": group.kin.get(pid), "exe": exe(pid), "error": wait.error}
            for pid, wait in group.waiting.items()
            if stat(pid) is not None
        ]

    def verified(self, group: Group, member: Member, call: bool) -> dict[str, Any] | None:
        process = member.process
        found: dict[str, Any] = self.described(member) | {"offset_read": None, "offset_called": None}
        try:
            if not process.installed():
                raise Refused("the vDSO's functions do not jump to the stub")
            slot = process.slot()
            clock = time.CLOCK_REALTIME
            if SLOT.unpack(slot)[0] >> time.CLOCK_MONOTONIC & 1 and not SLOT.unpack(slot)[0] & 1:
                clock = time.CLOCK_MONOTONIC
            real = time.clock_gettime_ns(clock)
            found["offset_read"] = (skewed(slot, clock, real) - real) / BILLION
            if group.slot and slot != group.slot:
                raise Refused("it adds something else than was set")
            if call:
                seen = process.call(clock, group.within)
                found |= {"offset_called": seen.offset, "uncertainty": seen.error}
                edge = round(seen.error * BILLION)
                expected = [
                    (skewed(slot, clock, at) - at) / BILLION
                    for at in (seen.real - edge, seen.real, seen.real + edge)
                ]
                slack = seen.error + 1e-6  # and what rate and elapsed make of it
                slack *= 1 + abs(SLOT.unpack(slot)[2]) / 2**32
                if not any(abs(seen.offset - value) <= slack for value in expected):
                    raise Refused(f"called, it is off by {seen.offset:.9f} s; {expected[1]:.9f} was to be")
        except Replaced as error:
            entry = stat(process.pid)
            if entry is None or not entry.alive or self.at_exec(process):
                return None
            if group.members.get(process.pid) is not member:  # it ran another program meanwhile
                return None
            found["error"] = str(error)
        except (Refused, OSError) as error:
            found["error"] = str(error)
        return found

    def restore(self, name: str, within: float | None = None, call: bool = False) -> dict[str, Any]:
        """Give the processes of a group and what they forked their true time back, and forget the group.

        `call` proves it by a call. Processes that could not be restored are told, and the group stays.
        """
        group = self.group(name)
        within = group.within if within is None else within
        done: list[dict[str, Any]] = []
        todo = list(group.members.values())
        while todo:
            for member in todo:
                done.append(self.restored(member, within, call))
                if done[-1]["error"] is None:
                    del group.members[member.process.pid]
                    self.left |= group.held.pop(member.process.pid, set())  # it has died
                    member.process.close()
            todo = self.inheritors(group)
        if not group.members:
            self.let_go(group)
        return {"processes": done}

    def inheritors(self, group: Group) -> list[Member]:
        """Members that are so by a fork only now."""
        found = []
        self.table.look(force=True)
        for entry in self.newcomers(group):
            with contextlib.suppress(Refused, OSError):
                process = self.process(entry.pid, set(tasks(entry.pid)) if group.follow else None)
                if any(process.jumps()):
                    member = Member(process, exe(entry.pid), process.mechanism(), time.monotonic())
                    group.members[entry.pid] = member
                    found.append(member)
                else:
                    process.close()
        return found

    def restored(self, member: Member, within: float, call: bool) -> dict[str, Any]:
        process = member.process
        found: dict[str, Any] = self.described(member)
        try:
            process.restore(within)
            found |= {"stopped": process.stopped, "steps": process.steps, "installed": any(process.jumps())}
            if call:
                seen = process.call(within=within)
                found |= {"offset_called": seen.offset, "uncertainty": seen.error}
        except (Replaced, ProcessLookupError):  # nothing is left of what was written
            found["installed"] = False
        except (Refused, OSError) as error:
            found["error"] = str(error)
        return found

    def recover(self, who: Mapping[str, Any], within: float = PATIENCE) -> dict[str, Any]:
        """Restore all that `who` means (see `arm`) and that some earlier patcher left skewed."""
        group = self.wanted("", who, within, False)
        done: list[dict[str, Any]] = []
        while True:
            self.table.look(force=True)
            if not (found := self.newcomers(group)):
                return {"processes": done}
            for entry in found:
                try:
                    with Process(entry.pid) as process:
                        if any(process.jumps()):
                            member = Member(process, exe(entry.pid), MECHANISM.get(process.mode, ""), 0.0)
                            done.append(self.restored(member, within, False))
                except (Replaced, ProcessLookupError):
                    continue
                except (Refused, OSError) as error:
                    done.append(
                        {"pid": entry.pid, "start": entry.start, "exe": exe(entry.pid), "error": str(error)}
                    )

    def audit(self, name: str, seconds: float = 0.5) -> dict[str, Any]:
        """Watch all system calls of a group for `seconds`, which slows it: `verdict` of each process is
        ``clean``, ``escapes`` (it reads the wall clock by system calls of its own, counted by name) or
        ``inconclusive`` (none was seen). `waits` are calls that wait for the kernel's clock. Raises Refused.
        """
        group = self.group(name)
        if group.follow:
            raise Refused(f"vdso audit: {name} is followed, which takes the tracer's place; arm it without")
        for member in list(group.members.values()):
            if not self.sound(member):
                self.check(group, member)
        audit = Audit([member.process for member in group.members.values()])

        def others() -> None:  # who is followed must not wait for the end of this
            self.poll(left=False)  # whose threads may be among those that are watched

        return {"processes": apart(lambda: audit.run(seconds, group.within), others), "seconds": seconds}

    def drop(self, name: str, within: float | None = None) -> dict[str, Any]:
        """Restore what can be restored of a group, and forget it whatever came of that."""
        answer = self.restore(name, within)
        if (group := self.groups.get(name)) is not None:
            self.let_go(group)
        return answer

    def let_go(self, group: Group) -> None:
        """Let a group be no more; what could not be let go of yet is when it stops, or has ended."""
        del self.groups[group.name]
        for member in group.members.values():
            member.process.close()
        self.left.update(*group.held.values())


# ---------------------------------------------------------------------- the program


class Program:
    """JSON lines in and out, and a look after what is armed in between."""

    EVERY = 0.02  # seconds

    def __init__(self) -> None:
        self.patcher = Patcher()
        self.input, self.output = b"", b""

    def run(self) -> None:
        """Serve until the input closes."""
        wake, waker = os.pipe()
        for descriptor in (wake, waker, 0, 1):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        due = 0.0
        while True:
            pause = max(0.0, due - time.monotonic()) if self.patcher.groups else None
            readable, _, _ = select.select([0, wake], [1] if self.output else [], [], pause)
            if wake in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            if 0 in readable and not self.receive():
                return
            self.patcher.poll()
            if self.patcher.groups and time.monotonic() >= due:
                due = time.monotonic() + self.EVERY
                for event in self.patcher.beat():
                    self.send({"event": event})
            self.flush()

    def receive(self) -> bool:
        """Answer what was asked; whether there may be more."""
        try:
            data = os.read(0, 1 << 16)
        except BlockingIOError:
            return True
        *lines, self.input = (self.input + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            try:
                answer = self.patcher.do(request["do"], request.get("with", {}))
            except Exception as error:  # told to who asked, who knows what to say about it
                text = error.args[0] if isinstance(error, KeyError) else str(error)
                answer = {"error": text, "errno": getattr(error, "errno", None), "kind": type(error).__name__}
            self.send({"re": request.get("id"), **answer})
        return bool(data)

    def send(self, message: dict[str, Any]) -> None:
        self.output += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Write what can be written: who does not read must not stop those that are followed."""
        with contextlib.suppress(BlockingIOError):
            while self.output:
                self.output = self.output[os.write(1, self.output) :]


def main() -> None:
    try:
        program = Program()
    except Refused as error:
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(1)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        program.run()


if __name__ == "__main__":
    main()

"""The stub's machine code does what its formula says, for all times and parameters; stub.S is its source."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from harness.skew import patcher
from harness.skew.patcher import ARCH, CLOCKS, HEAD, MAGIC, SELECTOR, SLOT, SLOTS, VERSION, Spec, skewed

BILLION = 10**9
CENTURY = 100 * 366 * 86400 * BILLION


def test_the_bytes_are_those_of_the_source(tmp_path: Path) -> None:
    assembler = shutil.which("as")
    if assembler is None or shutil.which("objcopy") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have as and objcopy (binutils)")
        pytest.skip("there is no as and objcopy (binutils)")
    source = Path(patcher.__file__).with_name("stub.S")
    made, flat = tmp_path / "stub.o", tmp_path / "stub.bin"
    done = subprocess.run([assembler, "--64", "-o", made, source], capture_output=True, text=True)
    if done.returncode and platform.machine() != "x86_64":
        pytest.skip("this assembler is for another processor")
    assert done.returncode == 0, done.stderr
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, flat], check=True)
    assert flat.read_bytes().hex() == ARCH.stub.hex()


def test_the_header_is_where_the_patcher_looks() -> None:
    magic, version, mode, place, *codes, _, selector = HEAD.unpack_from(ARCH.stub)
    assert (magic, version, mode, place, selector) == (MAGIC, VERSION, 0, 0, 0)
    assert HEAD.size == SELECTOR + 1 and len(ARCH.stub) == codes[4]
    assert SLOTS + 4 * SLOT.size == codes[0] and codes == sorted(codes)
    assert ARCH.stub[codes[3] :] == b"\xff\xd3\xcc"  # call rbx; int3


class Mapped:
    """The stub in this process, over a clock that says what it is told."""

    def __init__(self) -> None:
        self.page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        self.clock = 2048  # where the true time lies, and the error
        tell = (
            b"\x48\xb8" + struct.pack("<Q", self.base + self.clock)  # mov rax, clock
            + b"\x48\x8b\x08\x48\x89\x0e"  # mov rcx, [rax]; mov [rsi], rcx
            + b"\x48\x8b\x48\x08\x48\x89\x4e\x08"  # mov rcx, [rax + 8]; mov [rsi + 8], rcx
            + b"\x8b\x40\x10\xc3"  # mov eax, [rax + 16]; ret
        )  # fmt: skip
        self.page[: len(ARCH.stub) + len(tell)] = ARCH.stub + tell
        _, _, _, _, *codes, _, _ = HEAD.unpack_from(ARCH.stub)
        kinds = (ctypes.c_int, ctypes.c_void_p), (ctypes.c_void_p, ctypes.c_void_p), (ctypes.c_void_p,)
        self.clock_gettime, self.gettimeofday, self.time = (
            ctypes.CFUNCTYPE(result, *arguments)(self.base + code)
            for result, arguments, code in zip(
                (ctypes.c_int, ctypes.c_int, ctypes.c_long), kinds, codes, strict=False
            )
        )
        self.number = 0

    def set(self, slot: bytes) -> None:
        self.number = self.number + 1 & 255
        place = SLOTS + (self.number & 3) * SLOT.size
        self.page[place : place + SLOT.size] = slot
        self.page[SELECTOR] = self.number

    def real(self, time: int, error: int = 0) -> None:
        self.page[self.clock : self.clock + 20] = struct.pack("<qqi", *divmod(time, BILLION), error)


@pytest.fixture(scope="module")
def mapped() -> Mapped:
    if platform.machine() != "x86_64":
        pytest.skip("the stub is for x86-64")
    try:
        return Mapped()
    except PermissionError as error:
        pytest.skip(f"this process may not map what it writes and runs: {error}")


times = st.integers(-CENTURY, 2 * CENTURY)
slots = st.builds(
    SLOT.pack,
    st.integers(0, 2**16 - 1),
    st.integers(-CENTURY, CENTURY) | st.sampled_from([0, -1, 1]),
    st.integers(-(2**32), 2**33) | st.just(0),
    st.integers(1000, CENTURY) | st.just(0),
    st.integers(-CENTURY // 100, CENTURY // 100),
    *(times for _ in range(5)),
)


@settings(deadline=None)
@given(slot=slots, real=times, clock=st.integers(-8, 32))
def test_clock_gettime(mapped: Mapped, slot: bytes, real: int, clock: int) -> None:
    mapped.set(slot)
    mapped.real(real)
    result = (ctypes.c_int64 * 2)(-1, -1)
    assert mapped.clock_gettime(clock, ctypes.addressof(result)) == 0
    known = 0 <= clock < 16 and any(clock in kind for kind in CLOCKS.values())
    if known or not 0 <= clock < 16:
        expected = skewed(slot, clock, real) if known else real
        assert result[0] * BILLION + result[1] == expected and 0 <= result[1] < BILLION


@settings(deadline=None)
@given(slot=slots, real=times)
def test_gettimeofday_and_time(mapped: Mapped, slot: bytes, real: int) -> None:
    mapped.set(slot)
    mapped.real(real)
    result = (ctypes.c_int64 * 2)(-1, -1)
    assert mapped.gettimeofday(ctypes.addressof(result), None) == 0
    assert (result[0], result[1]) == divmod(skewed(slot, 0, real) // 1000, 1_000_000)
    assert mapped.gettimeofday(None, None) == 0
    zone = (ctypes.c_int * 2)(-1, -1)
    assert mapped.gettimeofday(ctypes.addressof(result), ctypes.addressof(zone)) == 0 and zone[0] != -1
    assert (result[0], result[1]) == divmod(skewed(slot, 0, real) // 1000, 1_000_000)
    second = skewed(slot, 5, real) // BILLION
    where = ctypes.c_int64(-1)
    assert mapped.time(None) == second == mapped.time(ctypes.addressof(where)) == where.value


def test_an_error_of_the_clock_is_the_callers(mapped: Mapped) -> None:
    mapped.set(Spec(5.0).packed())
    mapped.real(0, error=-22)
    result = (ctypes.c_int64 * 2)(7, 7)
    assert mapped.clock_gettime(8, ctypes.addressof(result)) == -22 and list(result) == [7, 7]
    assert mapped.clock_gettime(1, ctypes.addressof(result)) == -22


@settings(deadline=None)
@given(
    offset=st.floats(-3e9, 3e9),
    rate=st.floats(-1.0, 100.0),
    half=st.floats(1e-6, 1e9) | st.just(0.0),
    clocks=st.sampled_from([("wall",), ("monotonic",), ("wall", "monotonic")]),
)
def test_a_slot_says_what_was_asked(offset: float, rate: float, half: float, clocks: tuple[str, ...]) -> None:
    spec = Spec(offset, rate, half, -offset, clocks).based()
    back = Spec.unpacked(spec.packed())
    assert back.clocks == clocks and back.origin == spec.origin and back.mask == spec.mask
    assert abs(back.offset - offset) <= 1e-6 and abs(back.rate - rate) <= 2**-32
    assert abs(back.half - half) <= 1e-6 and abs(back.amplitude + offset) <= 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": 4e9},
        {"offset": float("nan")},
        {"rate": -1.5},
        {"half": 1e-9},
        {"half": -1.0},
        {"amplitude": -4e9},
        {"clocks": ("cpu",)},
        {"origin": (1, 2, 3)},
    ],
)
def test_what_no_clock_can_do(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|clocks are"):
        Spec(**wrong)  # type: ignore[arg-type]


def test_an_origin_of_two_clocks_gives_those_of_all() -> None:
    wall, tai, monotonic, raw, boot = Spec(origin=(10**18, 5 * BILLION)).based().origin or ()
    assert (wall, monotonic) == (10**18, 5 * BILLION)
    assert (tai - wall) % BILLION == 0  # whole seconds
    assert boot >= monotonic - 1_000_000 and raw != 0

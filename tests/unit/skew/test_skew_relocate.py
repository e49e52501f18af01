"""What may be moved is moved right; what is not understood is refused."""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct

import pytest
from hypothesis import assume, given, settings, strategies as st

from harness.skew.patcher import ARCH, Refused, parsed, relocate

# How __vdso_clock_gettime begins, from /proc/self/mem or the package's vmlinuz, and how much a jump takes
RECORDED = {
    "6.18.44": ("55 4889e5 4156 53 4883e4f0 4883ec10 83ff17", 6),
    "Debian 6.1.0-56": ("55 4889e5 4155 4154 4989f4 53 4863df 83fb0f", 6),
    # the same as gcc -fcf-protection=branch would begin it
    "with endbr64": ("f30f1efa 55 4889e5 4155 4154 4989f4 53 4863df", 6),
}
GETTIMEOFDAY = bytes.fromhex(
    "554c8d15e897ffff4889e54883e4f04883ec10"
)  # 6.18.44: push rbp; lea r10, [rip - 0x6818]
TIME = bytes.fromhex(
    "488d0549e7ffff488d1542b7ffff813d3cb7ffffffffff7f480f45c2"
)  # Debian 6.1: lea rax, [rip - ...]
FAR = 0x7FFF_F7FC_0000


@pytest.mark.parametrize("kernel", RECORDED)
def test_recorded_prologues(kernel: str) -> None:
    text, count = RECORDED[kernel]
    code = bytes.fromhex(text)
    skip = ARCH.landing(code)
    assert skip == (4 if "endbr64" in kernel else 0)
    moved, taken = relocate(code[skip:], FAR + skip, FAR + 0x1A20)
    assert taken == count and moved[:taken] == code[skip : skip + count]
    assert ARCH.jump_target(FAR + 0x1A20 + taken, moved[taken:]) == FAR + skip + count
    assert len(moved) == count + ARCH.jump_size


@pytest.mark.parametrize("code, place", [(GETTIMEOFDAY, 4), (TIME, 3)])
def test_a_distance_from_the_instruction_is_kept(code: bytes, place: int) -> None:
    moved, taken = relocate(code, FAR, FAR + 0x1000)
    (before,), (after,) = struct.unpack_from("<i", code, place), struct.unpack_from("<i", moved, place)
    assert before + FAR == after + FAR + 0x1000 and taken >= 5


REFUSED = {
    "a jump": "e9 10000000 90909090",
    "a short jump": "eb10 9090909090",
    "a conditional jump": "55 7410 9090909090",
    "a long conditional jump": "0f8410000000 9090",
    "a call": "e8 10000000 90909090",
    "an indirect jump": "ff25 00000000 9090",
    "a return": "55 c3 909090909090",
    "xbegin": "c7f8 00000000 909090",
    "a prefix": "f390 55 4889e5 9090",
    "an unknown one": "0f0b 909090909090",
    "too short": "55 4889e5",
    "nothing": "",
    "a branch back into it": "55 4889e5 4154 90 ebf8 90",  # to the push r12
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    with pytest.raises(Refused):
        relocate(bytes.fromhex(REFUSED[what]), FAR, FAR + 0x1000)


def test_what_is_too_far_is_refused() -> None:
    code = bytes.fromhex("554889e54154") + bytes(20)
    with pytest.raises(Refused, match="too far"):
        relocate(code, FAR, FAR + 2**32)
    with pytest.raises(Refused, match="too far"):
        relocate(TIME, FAR, FAR - 2**32)


@settings(deadline=None)
@given(code=st.binary(min_size=0, max_size=48))
def test_any_bytes_are_refused_or_moved_as_they_are(code: bytes) -> None:
    """Never another error, never a changed byte but in a distance, never part of an instruction."""
    try:
        moved, taken = relocate(code, FAR, FAR + 0x800)
    except Refused:
        return
    assert 5 <= taken <= len(code) and len(moved) == taken + 5
    place = 0
    while place < taken:
        length, relative = ARCH.instruction(code[place:])
        ours, theirs = moved[place : place + length], code[place : place + length]
        if relative is not None:
            (new,), (old,) = (
                struct.unpack_from("<i", ours, relative),
                struct.unpack_from("<i", theirs, relative),
            )
            assert new + 0x800 == old
            ours, theirs = (part[:relative] + part[relative + 4 :] for part in (ours, theirs))
        assert ours == theirs
        place += length
    assert place == taken and not ARCH.branches_into(code, 0, taken)


def modrm(opcode: int, register: int, memory: int) -> bytes:
    return bytes([0x48, opcode, 0xC0 | register << 3 | memory])


SCRATCH = (0, 1, 2, 6, 7)  # rax, rcx, rdx, rsi, rdi
step = st.one_of(
    st.builds(
        modrm,
        st.sampled_from([0x89, 0x8B, 0x01, 0x29, 0x31, 0x33, 0x21, 0x09]),
        *[st.sampled_from(SCRATCH)] * 2,
    ),
    st.builds(
        lambda to, value: bytes([0xB8 + to]) + struct.pack("<I", value),
        st.sampled_from(SCRATCH),
        st.integers(0, 2**32 - 1),
    ),
    st.builds(
        lambda to: bytes([0x48, 0x8D, to << 3 | 5]) + struct.pack("<i", 0x40), st.sampled_from(SCRATCH)
    ),  # lea rip
    st.builds(
        lambda to: bytes([0x48, 0x8B, to << 3 | 5]) + struct.pack("<i", 0x40), st.sampled_from(SCRATCH)
    ),  # mov rip
    st.builds(
        lambda to, by: bytes([0x48, 0x83, 0xC0 | to]) + struct.pack("<b", by),
        st.sampled_from(SCRATCH),
        st.integers(-128, 127),
    ),
    st.builds(lambda to: bytes([0x50 + to, 0x58 + to]), st.sampled_from(SCRATCH)),
)


@settings(deadline=None)
@given(
    steps=st.lists(step, min_size=2, max_size=8), first=st.integers(0, 2**31), second=st.integers(0, 2**31)
)
def test_moved_code_computes_the_same(steps: list[bytes], first: int, second: int) -> None:
    """Run: a function of such instructions, and the same with its beginning elsewhere."""
    if platform.machine() != "x86_64":
        pytest.skip("these are x86-64's instructions")
    code = b"".join(steps) + b"\xc3"
    assume(len(code) > 5)
    try:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except PermissionError as error:
        pytest.skip(f"this process may not map what it writes and runs: {error}")
    page[:256] = bytes(range(256))
    page[: len(code)] = code
    base = ctypes.addressof(ctypes.c_char.from_buffer(page))
    try:
        moved, _ = relocate(code, base, base + 2048)
    except Refused:  # a distance that looks like a branch: rather refused
        return
    page[2048 : 2048 + len(moved)] = moved
    kind = ctypes.CFUNCTYPE(
        ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64
    )
    arguments = (first, second, first ^ second, 7)
    ready = b"\x48\x89\xd0\x48\x89\xca"  # mov rax, rdx; mov rdx, rcx: registers that a call leaves open
    for index, target in enumerate((0, 2048)):
        start = 3072 + 64 * index
        jump = b"\xe9" + struct.pack("<i", target - (start + len(ready) + 5))
        page[start : start + len(ready) + 5] = ready + jump
    results = [kind(base + 3072 + 64 * index)(*arguments) for index in (0, 1)]
    assert results[0] == results[1]


def test_what_is_no_vdso_is_refused() -> None:
    with pytest.raises(Refused, match="none where the kernel said"):
        parsed(bytes(4096))
    with pytest.raises(Refused, match="32-bit"):
        parsed(b"\x7fELF\x01" + bytes(4096))
    with pytest.raises(Refused, match="machine 183"):
        parsed(b"\x7fELF\x02" + bytes(13) + struct.pack("<H", 183) + bytes(4096))
    with pytest.raises(Refused, match="dynamic"):
        parsed(b"\x7fELF\x02" + bytes(13) + struct.pack("<H", 62) + bytes(4096))

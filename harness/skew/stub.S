# What a skewed process runs in place of its vDSO's time functions (x86-64). patcher.py embeds these bytes,
# fills in the header and appends the code at `real`; tests/unit/skew assembles this file and compares.
#
# fake = real + offset + ((real - origin) * rate >> 32) + (floor((real - origin) / half) odd ? amplitude : 0)
#
# The origin is taken from the same clock as the time that it is subtracted from: wall, TAI, monotonic, raw and
# boot clocks have one each. A writer fills the slot after the selected one and then changes one byte, `selector`;
# a reader that finds it changed under way computes again. So nothing is torn, and there is no lock that a dead
# writer could leave behind.
.intel_syntax noprefix
.text
header: .ascii  "NEMSKEW\n"
        .short  1                       # version; what lies before `kinds` stays where it is in all of them
        .byte   0                       # mode: 1 calls the vDSO's own code, 2 calls the kernel
        .byte   0                       # place: 1 in the vDSO's own padding, 2 in a page of its own
        .short  clock_gettime - header, gettimeofday - header, time - header, remote - header, real - header
        .byte   0
selector: .byte 0                       # slot: its two low bits
        .long   0                       # owner: the process whose private copy this is, as its patcher sees it
        .long   0
        .quad   0                       # scratch: a page for remote calls, 0 before the first
saved:  .fill   3 * 16, 1, 0            # what was overwritten: u32 distance from the image's start, u32 1; 8 bytes
kinds:  .byte   0, 2, 0, 0, 3, 0, 2, 4, 0, 4, 0, 1, 0, 0, 0, 0  # by clock: which of a slot's origins is its
        .set    SLOT, 80
slots:  .fill   4 * SLOT, 1, 0          # u64 mask of clocks; i64 offset, rate (Q32), half, amplitude; 5 origins

clock_gettime:                          # edi clock, rsi timespec
        cmp     edi, 15
        ja      real
        movzx   ecx, byte ptr [rip + selector]
        and     ecx, 3
        imul    ecx, ecx, SLOT
        lea     rdx, [rip + slots]
        mov     ecx, [rdx + rcx]
        bt      ecx, edi
        jnc     real                    # not skewed: the frame is the caller's
        push    rsi
        call    read
        pop     rsi
        jc      1f
        mov     [rsi], rax
        mov     [rsi + 8], rdx
        xor     eax, eax
1:      ret

gettimeofday:                           # rdi timeval, rsi timezone
        push    rdi
        test    rsi, rsi
        jz      1f
        xor     edi, edi                # nobody asks for it in earnest: the kernel knows it
        mov     eax, 96
        syscall
1:      cmp     qword ptr [rsp], 0
        jz      2f
        xor     edi, edi
        call    read
        jc      3f
        mov     rdi, [rsp]
        mov     [rdi], rax
        mov     eax, edx
        xor     edx, edx
        mov     ecx, 1000
        div     ecx
        mov     [rdi + 8], rax
2:      xor     eax, eax
3:      pop     rdi
        ret

time:                                   # rdi time_t or nothing
        push    rdi
        mov     edi, 5                  # CLOCK_REALTIME_COARSE, as the vDSO does
        call    read
        pop     rdi
        test    rdi, rdi
        jz      1f
        mov     [rdi], rax
1:      ret

# edi clock -> rax seconds, rdx nanoseconds, carry clear; or eax error, carry set
read:   push    rdi
        sub     rsp, 16
        mov     rsi, rsp
        call    real                    # the stack is aligned as for any call
        imul    rcx, [rsp], 1000000000
        add     rcx, [rsp + 8]
        mov     edi, [rsp + 16]
        add     rsp, 24
        test    eax, eax
        jnz     9f
        mov     r11, rcx
1:      movzx   esi, byte ptr [rip + selector]
        mov     ecx, esi
        and     ecx, 3
        imul    ecx, ecx, SLOT
        lea     r8, [rip + slots]
        add     r8, rcx
        mov     rax, r11
        mov     ecx, [r8]
        bt      ecx, edi
        jnc     4f
        lea     rcx, [rip + kinds]
        movzx   ecx, byte ptr [rcx + rdi]
        sub     rax, [r8 + 40 + rcx * 8]
        mov     r10, rax                # elapsed in this clock
        mov     r9, r11
        add     r9, [r8 + 8]
        mov     rcx, [r8 + 16]
        test    rcx, rcx
        jz      2f
        imul    rcx
        shrd    rax, rdx, 32
        add     r9, rax
2:      mov     rcx, [r8 + 24]
        test    rcx, rcx
        jz      3f
        mov     rax, r10
        cqo
        idiv    rcx
        sar     rdx, 63                 # the quotient's floor: one less where there is a negative rest
        add     rax, rdx
        test    al, 1
        jz      3f
        add     r9, [r8 + 32]
3:      mov     rax, r9
4:      cmp     sil, byte ptr [rip + selector]
        jne     1b
        mov     ecx, 1000000000
        cqo
        idiv    rcx
        mov     rcx, rdx
        sar     rcx, 63                 # times before 1970 too have nanoseconds of 0 and more
        add     rax, rcx
        and     ecx, 1000000000
        add     rdx, rcx
        clc
        ret
9:      stc
        ret

remote: call    rbx                     # a patcher's own call, on a stopped thread
        int3

real:                                   # edi clock, rsi timespec: appended by the patcher

"""The wall clock as a Python program has it: see probe.c for what it reads and prints.

Beside it is the monotonic clock, for a system call through ctypes takes far longer than what is measured.
"""

import sys
import threading
import time


def cost(count: int) -> float:
    best = float("inf")
    for _ in range(20):
        start = time.monotonic_ns()
        for _ in range(count):
            time.time_ns()
        best = min(best, time.monotonic_ns() - start)
    return best / count


def busy() -> None:
    while True:
        time.time()


def main() -> None:
    now, told = time.monotonic_ns, time.time_ns
    print("ready", flush=True)
    for line in sys.stdin:
        what, count, *rest = line.split()
        lines = []
        if what == "sample":
            gap = int(rest[0]) / 1e9
            for _ in range(int(count)):
                lines += [f"{now()} {told()} {now()}" for _ in range(3)]
                if gap:
                    time.sleep(gap)
        elif what == "cost":
            lines.append(f"{cost(int(count)):.2f}")
        elif what == "load":
            for _ in range(int(count)):
                threading.Thread(target=busy, daemon=True).start()
        print("\n".join([*lines, "."]), flush=True)


main()

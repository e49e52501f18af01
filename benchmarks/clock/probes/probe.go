// The wall clock as a Go program has it: see probe.c for what it reads and prints.
package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

func kernels() int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 0, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

func cost(count int) float64 {
	best := time.Duration(1 << 62)
	for round := 0; round < 20; round++ {
		start := time.Now()
		for i := 0; i < count; i++ {
			time.Now()
		}
		best = min(best, time.Since(start))
	}
	return float64(best) / float64(count)
}

func busy() {
	for {
		time.Now()
	}
}

func main() {
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	fmt.Fprintln(out, "ready")
	out.Flush()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); out.Flush() {
		var count, gap int
		if n, _ := fmt.Sscanf(lines.Text(), "sample %d %d", &count, &gap); n == 2 {
			for i := 0; i < count; i++ {
				for shot := 0; shot < 3; shot++ {
					before := kernels()
					told := time.Now().UnixNano()
					fmt.Fprintln(out, before, told, kernels())
				}
				if gap > 0 {
					time.Sleep(time.Duration(gap))
				}
			}
		} else if n, _ := fmt.Sscanf(lines.Text(), "cost %d", &count); n == 1 {
			fmt.Fprintf(out, "%.2f\n", cost(count))
		} else if n, _ := fmt.Sscanf(lines.Text(), "load %d", &count); n == 1 {
			for i := 0; i < count; i++ {
				go busy()
			}
		}
		fmt.Fprintln(out, ".")
	}
}

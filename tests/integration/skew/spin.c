/* Calls one time function (argv[2]: 0 clock_gettime, 1 gettimeofday, 2 time) for ever, between two readings of the
   kernel's clock; prints what it sees when that changes: 0 for the true time, or the offset in nanoseconds that
   argv[1] allows. Anything else: abort. SIGUSR1's handler returns when SIGUSR2 has come. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long raw(void) {
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static volatile sig_atomic_t released;

static void release(int number) { released = number; }

static void hold(int number) {
    (void)!write(1, "held\n", 5);
    while (!released) (void)number;
}

int main(int argc, char **argv) {
    long long allowed = atoll(argv[1]), told = -1;
    signal(SIGUSR1, hold);
    signal(SIGUSR2, release);
    int which = argc > 2 ? atoi(argv[2]) : 0;
    for (;;) {
        struct timespec t = {0, 0};
        struct timeval v = {0, 0};
        long long slack = 0, before = raw(), got;
        if (which == 0) {
            if (clock_gettime(CLOCK_REALTIME, &t)) abort();
            got = t.tv_sec * 1000000000LL + t.tv_nsec;
        } else if (which == 1) {
            if (gettimeofday(&v, NULL)) abort();
            got = v.tv_sec * 1000000000LL + v.tv_usec * 1000LL, slack = 1000;
        } else {
            got = time(NULL) * 1000000000LL, slack = 1100000000LL;
        }
        long long after = raw(), seen;
        if (t.tv_nsec < 0 || t.tv_nsec > 999999999) abort();
        if (got >= before - slack && got <= after) seen = 0;
        else if (got - allowed >= before - slack && got - allowed <= after) seen = allowed;
        else { fprintf(stderr, "%lld is not between %lld and %lld\n", got, before, after); abort(); }
        if (seen != told) { told = seen; printf("%lld\n", seen); fflush(stdout); }
    }
}

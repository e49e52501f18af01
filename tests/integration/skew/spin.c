/* Calls each time function in turn for ever, between two readings of the true clock; prints what it sees when that
   changes: 0 for the true time, else the offset in nanoseconds that argv[1] allows. Anything else: abort. */
#define _GNU_SOURCE
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

int main(int argc, char **argv) {
    long long allowed = atoll(argv[1]), told = -1;
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

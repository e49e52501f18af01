/* Answers each line of standard input by what its clocks say, each read between two readings of the kernel's:
   "read": one line of "name kernel-before got kernel-after" (nanoseconds) for each clock, then an empty line;
   "watch N": N lines "kernel-before got kernel-after" of CLOCK_REALTIME, one after the other, then an empty line;
   "fork": forks; the child answers from then on, its first line is its pid; "exec PATH": becomes another program;
   "threads N": starts N threads that call the time functions for ever; "exit N". */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }

static long long raw(int clock) {
    struct timespec t;
    syscall(SYS_clock_gettime, clock, &t);
    return ns(t);
}

static long long own(int clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) || t.tv_nsec < 0 || t.tv_nsec > 999999999) abort();
    return ns(t);
}

static void *busy(void *unused) {
    for (;;) {
        struct timeval v;
        own(CLOCK_REALTIME), own(CLOCK_MONOTONIC), gettimeofday(&v, NULL), time(NULL);
        if (v.tv_usec < 0 || v.tv_usec > 999999) abort();
    }
    return unused;
}

static void all(void) {
    static const struct { const char *name; int clock; } clocks[] = {
        {"REALTIME", CLOCK_REALTIME}, {"REALTIME_COARSE", CLOCK_REALTIME_COARSE}, {"TAI", CLOCK_TAI},
        {"MONOTONIC", CLOCK_MONOTONIC}, {"MONOTONIC_COARSE", CLOCK_MONOTONIC_COARSE},
        {"MONOTONIC_RAW", CLOCK_MONOTONIC_RAW}, {"BOOTTIME", CLOCK_BOOTTIME}};
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        long long before = raw(clocks[i].clock), got = own(clocks[i].clock), after = raw(clocks[i].clock);
        printf("%s %lld %lld %lld\n", clocks[i].name, before, got, after);
    }
    struct timeval v;
    struct timezone z;
    long long before = raw(CLOCK_REALTIME);
    gettimeofday(&v, NULL);
    long long after = raw(CLOCK_REALTIME);
    printf("gettimeofday %lld %lld %lld\n", before, v.tv_sec * 1000000000LL + v.tv_usec * 1000LL, after);
    before = raw(CLOCK_REALTIME);
    gettimeofday(&v, &z);
    after = raw(CLOCK_REALTIME);
    printf("gettimeofday_zone %lld %lld %lld\n", before, v.tv_sec * 1000000000LL + v.tv_usec * 1000LL, after);
    before = raw(CLOCK_REALTIME_COARSE);
    long long got = time(NULL) * 1000000000LL;
    printf("time %lld %lld %lld\n", before, got, raw(CLOCK_REALTIME_COARSE));
}

int main(void) {
    char line[512];
    setvbuf(stdin, NULL, _IONBF, 0);
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "read")) all();
        if (!strncmp(line, "watch ", 6))
            for (int i = atoi(line + 6); i--;) {
                long long before = raw(CLOCK_REALTIME), got = own(CLOCK_REALTIME), after = raw(CLOCK_REALTIME);
                printf("%lld %lld %lld\n", before, got, after);
            }
        if (!strncmp(line, "threads ", 8))
            for (int i = atoi(line + 8); i--;) {
                pthread_t thread;
                pthread_create(&thread, NULL, busy, NULL);
            }
        if (!strncmp(line, "exit ", 5)) exit(atoi(line + 5));
        if (!strncmp(line, "exec ", 5)) execl(line + 5, line + 5, (char *)NULL);
        if (!strcmp(line, "fork")) {
            pid_t child = fork();
            if (child) {
                waitpid(child, NULL, 0);
                exit(0);
            }
            printf("%d\n", getpid());
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

/* The wall clock as a C program has it, beside the kernel's own by a system call of its own making.

   Lines on standard input: "sample COUNT GAP" prints COUNT times, GAP ns apart, three lines "before told after"
   (ns), "cost COUNT" the ns of a call, "load THREADS" starts threads that do nothing else than ask for the time,
   "all" tells what the other functions say. Each answer ends with a line ".". */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }

static int64_t kernels(void) { /* no function of libc: musl's syscall() may be anything */
    struct timespec t;
    long result = 228;
    __asm__ volatile("syscall" : "+a"(result) : "D"(CLOCK_REALTIME), "S"(&t) : "rcx", "r11", "memory");
    return ns(t);
}

static int64_t told(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return ns(t);
}

static void sample(long count, long gap) {
    struct timespec pause = {gap / 1000000000, gap % 1000000000};
    for (long i = 0; i < count; i++) {
        for (int shot = 0; shot < 3; shot++) {
            int64_t before = kernels(), is = told(CLOCK_REALTIME), after = kernels();
            printf("%lld %lld %lld\n", (long long)before, (long long)is, (long long)after);
        }
        if (gap) nanosleep(&pause, 0);
    }
}

static void cost(long count) {
    int64_t best = INT64_MAX;
    for (int round = 0; round < 20; round++) {
        int64_t start = told(CLOCK_MONOTONIC);
        for (long i = 0; i < count; i++) told(CLOCK_REALTIME);
        int64_t took = told(CLOCK_MONOTONIC) - start;
        if (took < best) best = took;
    }
    printf("%.2f\n", (double)best / count);
}

static void all(void) { /* how far each is from the kernel's wall clock, ns */
    struct timeval v;
    struct timespec u;
    gettimeofday(&v, 0);
    printf("gettimeofday %lld\n", (long long)(v.tv_sec * 1000000000LL + v.tv_usec * 1000LL - kernels()));
    printf("time %lld\n", (long long)(time(0) * 1000000000LL - kernels()));
    if (timespec_get(&u, TIME_UTC)) printf("timespec_get %lld\n", (long long)(ns(u) - kernels()));
    printf("coarse %lld\n", (long long)(told(CLOCK_REALTIME_COARSE) - kernels()));
    int64_t before = told(CLOCK_MONOTONIC);
    struct timespec t;
    long result = 228;
    __asm__ volatile("syscall" : "+a"(result) : "D"(CLOCK_MONOTONIC), "S"(&t) : "rcx", "r11", "memory");
    printf("monotonic %lld\n", (long long)(before - ns(t)));
}

static void *busy(void *none) {
    struct timeval v;
    for (;;) told(CLOCK_REALTIME), told(CLOCK_MONOTONIC), gettimeofday(&v, 0), time(0);
    return none;
}

int main(void) {
    char line[128];
    setvbuf(stdout, malloc(1 << 16), _IOFBF, 1 << 16);
    puts("ready");
    for (fflush(stdout); fgets(line, sizeof line, stdin); fflush(stdout)) {
        long count, gap;
        pthread_t thread;
        if (sscanf(line, "sample %ld %ld", &count, &gap) == 2) sample(count, gap);
        else if (sscanf(line, "cost %ld", &count) == 1) cost(count);
        else if (sscanf(line, "load %ld", &count) == 1) while (count--) pthread_create(&thread, 0, busy, 0);
        else if (!strncmp(line, "all", 3)) all();
        puts(".");
    }
    return 0;
}

/* Adds up the values of all SIGRTMIN that it gets while it reads the clock for ever; SIGRTMIN + 1: says how many there
   were and their sum, and ends. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile sig_atomic_t ending;
static volatile long count, sum;

static void add(int number, siginfo_t *info, void *unused) {
    (void)number, (void)unused;
    if (info->si_code == SI_QUEUE) count++, sum += info->si_value.sival_int;
}

static void end(int number) { ending = number; }

int main(void) {
    struct sigaction action = {.sa_sigaction = add, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN, &action, NULL);
    signal(SIGRTMIN + 1, end);
    printf("ready\n");
    fflush(stdout);
    while (!ending) {
        struct timespec t;
        if (clock_gettime(CLOCK_REALTIME, &t) || t.tv_nsec < 0 || t.tv_nsec > 999999999) abort();
    }
    printf("%ld %ld\n", count, sum);
    return 0;
}

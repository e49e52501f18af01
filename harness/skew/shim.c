/* A preload library that gives a program skewed clocks: for programs that are started, not patched.

   It needs no libc, so one file serves glibc and musl. NEMESIS_SKEW names its control file, a header, four
   parameter slots and a table of the processes that use it (harness/skew/shim.py writes and reads it). The
   parameters are those of the patched vDSO; a writer fills a slot that is not selected and then changes the
   selector, so no reader sees half of a change and a writer that dies leaves no lock behind. Without a
   control file the clocks are true.

   Build: see BUILD in harness/skew/shim.py; a test builds it again. */

#include <elf.h>
#include <stdint.h>

#ifndef __x86_64__
#error "the system calls below are those of x86-64"
#endif

#define PUBLIC __attribute__((visibility("default")))
#define NANO 1000000000LL
#define MILLISECOND 1000000LL

struct timespec { int64_t tv_sec, tv_nsec; };
struct timeval { int64_t tv_sec, tv_usec; };

/* ---------------------------------------------------------------- the control file */

struct slot { /* nanoseconds; rate in units of 2^-32; the first 80 bytes are as in stub.S */
    uint64_t clocks; /* which are skewed, a bit each */
    int64_t offset, rate, half, amplitude;
    int64_t origins[5];  /* what drift and strobe count from, by the kind of the clock */
    uint64_t generation; /* the number of the change; 0 while it is written */
    uint64_t unused[5];
};

static const uint8_t KINDS[16] = {0, 2, 0, 0, 3, 0, 2, 4, 0, 4, 0, 1}; /* wall, TAI, monotonic, raw, boot */

struct process { /* a line of its own in the cache for each */
    uint32_t pid; /* as the process sees it; 0: free */
    uint32_t unused;
    uint64_t hits;       /* skewed answers; those within a millisecond may count as one */
    uint64_t generation; /* of the last hit */
    int64_t last;        /* true time of the last hit, by the clock that was asked */
    int64_t more[4];
};

#define SLOTS 4
#define PROCESSES 255

struct control {
    char magic[8];
    uint8_t selector;
    uint8_t unused[7];
    uint64_t attached; /* how many programs have mapped this file since it was made */
    uint64_t more[5];
    struct slot slots[SLOTS];
    struct process processes[PROCESSES];
};

_Static_assert(sizeof(struct slot) == 128 && sizeof(struct process) == 64, "layout");
_Static_assert(__builtin_offsetof(struct control, processes) == 64 + 4 * 128, "layout");

static const char MAGIC[8] = "NEMSHIM\n";
static const char VARIABLE[] = "NEMESIS_SKEW=";

/* ---------------------------------------------------------------- the kernel */

enum { READ = 0, CLOSE = 3, LSEEK = 8, MMAP = 9, MUNMAP = 11, MADVISE = 28, GETPID = 39, KILL = 62 };
enum { GETTIMEOFDAY = 96, CLOCK_GETTIME = 228, OPENAT = 257 };
enum { REALTIME = 0, REALTIME_COARSE = 5 };
enum { SEEK_END = 2, ESRCH = 3, AT_FDCWD = -100, O_RDWR = 2, O_CLOEXEC = 0x80000 };
enum { PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 32, WIPEONFORK = 18 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result = number;
    __asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static int failed(long result) { return result < 0 && result >= -4095; }

static long open_file(const char *path, long flags) {
    return call(OPENAT, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0, 0, 0);
}

static long map(long size, long protection, long flags, long file) {
    return call(MMAP, 0, size, protection, flags, file, 0);
}

/* ---------------------------------------------------------------- true time: the vDSO, found as libc does */

typedef int gettime(int, struct timespec *);

static gettime *vdso;

static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

/* How many symbols there are: newer vDSOs have only the GNU hash, which says it by its longest chain. */
static uint32_t symbols_by_gnu_hash(const uint32_t *hash) {
    const uint32_t *buckets = hash + 4 + hash[2] * 2, *chains = buckets + hash[0];
    uint32_t last = 0;
    for (uint32_t i = 0; i < hash[0]; i++)
        if (buckets[i] > last) last = buckets[i];
    if (last < hash[1]) return hash[1];
    while (!(chains[last - hash[1]] & 1)) last++;
    return last + 1;
}

static gettime *find_in(const char *image) {
    const Elf64_Ehdr *head = (const void *)image;
    const Elf64_Phdr *segment = (const void *)(image + head->e_phoff);
    const Elf64_Dyn *entry = 0;
    const char *base = 0;
    for (int i = 0; i < head->e_phnum; i++) {
        if (segment[i].p_type == PT_LOAD && !base) base = image + segment[i].p_offset - segment[i].p_vaddr;
        if (segment[i].p_type == PT_DYNAMIC) entry = (const void *)(image + segment[i].p_offset);
    }
    if (!base || !entry) return 0;
    const Elf64_Sym *symbols = 0;
    const char *names = 0;
    uint32_t count = 0;
    for (; entry->d_tag != DT_NULL; entry++) {
        const void *at = base + entry->d_un.d_ptr;
        if (entry->d_tag == DT_SYMTAB) symbols = at;
        if (entry->d_tag == DT_STRTAB) names = at;
        if (entry->d_tag == DT_HASH) count = ((const uint32_t *)at)[1];
        if (entry->d_tag == DT_GNU_HASH && !count) count = symbols_by_gnu_hash(at);
    }
    if (!symbols || !names) return 0;
    for (uint32_t i = 0; i < count; i++)
        if (symbols[i].st_shndx && same(names + symbols[i].st_name, "__vdso_clock_gettime"))
            return (gettime *)(base + symbols[i].st_value);
    return 0;
}

static gettime *find_vdso(void) {
    Elf64_auxv_t vector[64];
    long file = open_file("/proc/self/auxv", 0);
    if (failed(file)) return 0;
    long size = call(READ, file, (long)vector, sizeof vector, 0, 0, 0);
    call(CLOSE, file, 0, 0, 0, 0, 0);
    for (long i = 0; i < size / (long)sizeof vector[0]; i++)
        if (vector[i].a_type == AT_SYSINFO_EHDR) return find_in((const char *)vector[i].a_un.a_val);
    return 0;
}

static int true_time(int clock, struct timespec *time) {
    gettime *function = __atomic_load_n(&vdso, __ATOMIC_RELAXED);
    return function ? function(clock, time) : (int)call(CLOCK_GETTIME, clock, (long)time, 0, 0, 0, 0);
}

/* ---------------------------------------------------------------- attaching */

/* The path in the environment that the program was started with, whatever became of it since. */
static int control_path(char *path, long size) {
    char block[512];
    long file = open_file("/proc/self/environ", 0), got, length = -1;
    int matched = 0, begun = 1;
    if (failed(file)) return 0;
    while ((got = call(READ, file, (long)block, sizeof block, 0, 0, 0)) > 0)
        for (long i = 0; i < got; i++) {
            if (length >= 0) {
                if (length == size) goto end; /* longer than any path */
                path[length++] = block[i];
                if (!block[i]) goto end;
            } else if (begun && block[i] == VARIABLE[matched]) {
                if (!VARIABLE[++matched]) length = 0;
            } else {
                begun = !block[i];
                matched = 0;
            }
        }
end:
    call(CLOSE, file, 0, 0, 0, 0, 0);
    return length > 0 && !path[length - 1];
}

static struct control *map_control(uint8_t *writable) {
    char path[1024], magic[sizeof MAGIC];
    if (!control_path(path, sizeof path)) return 0;
    long file = open_file(path, O_RDWR);
    *writable = !failed(file);
    if (!*writable) file = open_file(path, 0); /* skewed all the same, but no line proves it */
    if (failed(file)) return 0;
    int whole = call(READ, file, (long)magic, sizeof magic, 0, 0, 0) == sizeof magic;
    for (int i = 0; whole && i < (int)sizeof magic; i++) whole = magic[i] == MAGIC[i];
    /* of a shorter file a later read would be a SIGBUS in the middle of the program */
    whole = whole && call(LSEEK, file, 0, SEEK_END, 0, 0, 0) >= (long)sizeof(struct control);
    long protection = PROT_READ | (*writable ? PROT_WRITE : 0);
    long at = whole ? map(sizeof(struct control), protection, MAP_SHARED, file) : -1;
    call(CLOSE, file, 0, 0, 0, 0, 0);
    return failed(at) ? 0 : (struct control *)at;
}

/* What a fork empties, so that a child takes a line of its own. */
struct own { struct process *line; };

#define NONE ((void *)-1)

static struct control *control; /* 0: not looked for yet; NONE: there is none */
static struct own *own;         /* 0: the control file cannot be written */

/* Threads that come here at once do the same work and one publishes it: a wait could last for ever in a
   signal handler. */
static struct control *attach(void) {
    uint8_t writable;
    __atomic_store_n(&vdso, find_vdso(), __ATOMIC_RELAXED);
    struct control *found = map_control(&writable), *before = 0;
    if (found && writable && !__atomic_load_n(&own, __ATOMIC_ACQUIRE)) {
        long page = map(sizeof *own, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        struct own *none = 0;
        if (!failed(page)) {
            call(MADVISE, page, 4096, WIPEONFORK, 0, 0, 0);
            if (!__atomic_compare_exchange_n(&own, &none, (struct own *)page, 0, __ATOMIC_RELEASE,
                                             __ATOMIC_RELAXED))
                call(MUNMAP, page, sizeof *own, 0, 0, 0, 0);
        }
    }
    if (__atomic_compare_exchange_n(&control, &before, found ? found : NONE, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        if (found && writable) __atomic_fetch_add(&found->attached, 1, __ATOMIC_RELAXED);
        return found ? found : NONE;
    }
    if (found) call(MUNMAP, (long)found, sizeof *found, 0, 0, 0, 0);
    return before;
}

static struct control *attached(void) {
    struct control *found = __atomic_load_n(&control, __ATOMIC_ACQUIRE);
    return found ? found : attach();
}

__attribute__((constructor)) static void begin(void) { attached(); }

/* ---------------------------------------------------------------- the proof of use */

/* A line of the table: that of this pid, or a free one, or that of a process that has ended. NONE: there is
   none left. */
static struct process *take_line(struct control *all) {
    uint32_t me = (uint32_t)call(GETPID, 0, 0, 0, 0, 0, 0);
    for (int i = 0; i < PROCESSES; i++) {
        struct process *line = &all->processes[i];
        uint32_t pid = __atomic_load_n(&line->pid, __ATOMIC_RELAXED);
        if (pid && pid != me && call(KILL, pid, 0, 0, 0, 0, 0) != -ESRCH) continue;
        if (pid != me
            && !__atomic_compare_exchange_n(&line->pid, &pid, me, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
            && pid != me) /* nor has another thread of this process taken it */
            continue;
        line->hits = line->generation = line->last = 0; /* the program before an exec, or before this one */
        return line;
    }
    return NONE;
}

static void hit(struct control *all, uint64_t generation, int64_t now) {
    struct own *mine = __atomic_load_n(&own, __ATOMIC_ACQUIRE);
    if (!mine) return;
    struct process *line = __atomic_load_n(&mine->line, __ATOMIC_RELAXED);
    if (!line) {
        line = take_line(all);
        __atomic_store_n(&mine->line, line, __ATOMIC_RELAXED);
    }
    /* threads that write one line at each call would take turns at it */
    if (line == NONE) return;
    if (line->generation == generation && now >= line->last && now - line->last < MILLISECOND) return;
    __atomic_store_n(&line->last, now, __ATOMIC_RELAXED);
    __atomic_store_n(&line->generation, generation, __ATOMIC_RELAXED);
    __atomic_fetch_add(&line->hits, 1, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------- skewed time */

static int64_t relaxed(const int64_t *value) { return __atomic_load_n(value, __ATOMIC_RELAXED); }

/* What a clock tells at the true time `now`. The change that says so is `generation`; 0: it is not skewed. */
static int64_t skewed(const struct control *all, unsigned clock, int64_t now, uint64_t *generation) {
    for (;;) { /* again where a writer took the slot meanwhile; it never takes the one that is selected */
        const struct slot *slot = &all->slots[__atomic_load_n(&all->selector, __ATOMIC_ACQUIRE) % SLOTS];
        uint64_t number = __atomic_load_n(&slot->generation, __ATOMIC_ACQUIRE);
        uint64_t clocks = __atomic_load_n(&slot->clocks, __ATOMIC_RELAXED);
        int64_t elapsed = now - relaxed(&slot->origins[KINDS[clock]]), told = now + relaxed(&slot->offset);
        int64_t rate = relaxed(&slot->rate), half = relaxed(&slot->half);
        int64_t amplitude = relaxed(&slot->amplitude);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!number || __atomic_load_n(&slot->generation, __ATOMIC_RELAXED) != number) continue;
        *generation = clocks >> clock & 1 ? number : 0;
        if (!*generation) return now;
        if (rate) told += (int64_t)(((__int128)elapsed * rate) >> 32);
        if (half && ((elapsed / half - (elapsed % half < 0)) & 1)) told += amplitude;
        return told;
    }
}

static int skewed_time(int clock, struct timespec *time) {
    int error = true_time(clock, time);
    struct control *all = attached();
    if (error || all == NONE || (unsigned)clock >= sizeof KINDS) return error;
    uint64_t generation;
    int64_t now = time->tv_sec * NANO + time->tv_nsec, told = skewed(all, clock, now, &generation);
    if (!generation) return 0;
    time->tv_sec = told / NANO - (told % NANO < 0); /* also before 1970 */
    time->tv_nsec = told - time->tv_sec * NANO;
    hit(all, generation, now);
    return 0;
}

/* ---------------------------------------------------------------- what programs call */

extern int *__errno_location(void) __attribute__((weak));

static int answer(int clock, struct timespec *time) {
    int error = skewed_time(clock, time);
    if (!error) return 0;
    if (__errno_location) *__errno_location() = -error;
    return -1;
}

PUBLIC int clock_gettime(int clock, struct timespec *time) { return answer(clock, time); }

PUBLIC int gettimeofday(struct timeval *time, void *zone) {
    struct timespec exact;
    if (zone) call(GETTIMEOFDAY, 0, (long)zone, 0, 0, 0, 0);
    if (!time) return 0;
    if (answer(REALTIME, &exact)) return -1;
    time->tv_sec = exact.tv_sec;
    time->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

PUBLIC int64_t time(int64_t *seconds) {
    struct timespec coarse; /* as the kernel's own: of the last tick */
    if (answer(REALTIME_COARSE, &coarse)) return -1;
    if (seconds) *seconds = coarse.tv_sec;
    return coarse.tv_sec;
}

PUBLIC int timespec_get(struct timespec *time, int base) {
    enum { TIME_UTC = 1 };
    return base == TIME_UTC && !answer(REALTIME, time) ? base : 0;
}

/* the names that libraries of glibc itself use */
PUBLIC int __clock_gettime(int clock, struct timespec *time) __attribute__((alias("clock_gettime")));
PUBLIC int __gettimeofday(struct timeval *time, void *zone) __attribute__((alias("gettimeofday")));

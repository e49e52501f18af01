/* Is a history linearizable?  The native kernel: columns in, an answer for each key out.

   A walk takes the events of a key in the order of time and keeps a set of configurations.  A configuration is
   a state of the model and two masks over the operations that are open just now:

     done   those already put into the order;
     may    those that may be left out or be put in later: they crashed, or they can have happened unseen just
            before an overwrite.

   An operation is put into the order no sooner than some return demands it (just-in-time linearization, G. Lowe,
   "Testing for linearizability", 2017).  A return that no configuration survives is the first violation.  The
   cost is linear in the length of the history and exponential only in how much is open at once.  Against that:

     - operations of one kind (same effect) are interchangeable: the one that returns first goes first;
     - observers change nothing, so they are done as soon as a state fits;
     - a configuration covers another of the same state that used up more and may leave out less;
     - one is doomed, and dropped, when something open needs a state that nothing left can bring about;
     - the set is kept narrow (a beam).  Reaching the end is a proof however narrow it was.  Where the beam dies,
       the last few operations are tried from every state there could have been (`refuted`): dying even so is a
       proof of violation.  Else the walk goes back to a checkpoint and comes again with four times the width.
       From the beginning and wide enough it is the exact search, so that only a limit leaves a key unknown;
     - where every value is written once, no search is needed at all (`zones`).

   The pure Python twin is search.py with frontier.py; tests hold the two against each other. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint64_t u64;
typedef int64_t i64;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint8_t u8;

#define INLINE static inline __attribute__((always_inline))

enum { VALID, INVALID, LIMIT, MEMORY, WIDE, STOPPED, SHAPE };                 /* answers */
enum { READ, REFUSED, WRITE, CAS, APPEND, STEP, LOOK, NOTHING };              /* what an operation does */
enum { OBSERVES = 1, OVERWRITES = 2, TOTAL = 4 };                             /* what is known of a kind */
enum { OK, FAIL };                                                            /* outcomes; the third is unknown */
enum { ILLEGAL = -1 };
enum { NEVER = 0x40000000 };  /* when a crashed operation returns: NEVER + its number, so that ties are ordered */
enum { WIDEST_BEAM = 1 << 26 };
enum { EVERY = 64 };          /* events between two checkpoints */
enum { FEW_OPEN = 5 };        /* with fewer open at once, looking for doomed configurations costs more than it saves */
enum { FIRST_HASHED = 12, SCANNED = 100 };  /* members of a set before it is hashed; looked at for dominance */
enum { LOOK_UP = 2048 };      /* configurations expanded between two looks at the clock */
enum { AHEAD = 16 };          /* values that are fetched from memory before they are looked at */
enum { HELPERS = 15 };        /* at most, beside the thread that asks */
enum { MOST = 1 << 29 };      /* of rows, keys, values, states and bytes of a text: what the small numbers hold */

/* What a beam keeps: the lowest cost.  Using up writes is what kills a beam, so that weighs most. */
enum { COST_USED = 18, COST_CRASHED = 24, COST_LEFT = 4, COST_SOON = 8, COST_STUCK = 12, SOON = 8, HIGHEST = 4096 };

/* ------------------------------------------------------------------------------------------------- memory

   All memory of a key hangs in one list, so that giving up is one jump from wherever it was: to whoever filled `out`
   last, who returns `why`.  Small blocks are cut from `room`, and come back with the whole; such a one has no
   `before`, and its size in `after`. */

#ifdef __SANITIZE_ADDRESS__
enum { SMALL = 0 };      /* each block stands alone, so that leaving it is seen */
#else
enum { SMALL = 1 << 10 };
#endif
enum { ROOM = 1 << 14 };

typedef struct Block { struct Block *before, *after; } Block;
typedef struct { jmp_buf out; int why; } Escape;
typedef struct { Block all; Escape *escape; Block *room; size_t used; } Pool;

static void pool_open(Pool *pool, Escape *escape, Block *room) {
    pool->all.before = pool->all.after = &pool->all;
    pool->escape = escape;
    pool->room = room;
    pool->used = 0;
}

static void give_up(Pool *pool, int why) {
    pool->escape->why = why;
    longjmp(pool->escape->out, 1);
}

static void *fresh(Pool *pool, size_t bytes) {
    const size_t blocks = 1 + (bytes + sizeof(Block) - 1) / sizeof(Block);
    if (bytes <= SMALL && pool->used + blocks <= ROOM / sizeof(Block)) {
        Block *block = pool->room + pool->used;
        pool->used += blocks;
        *block = (Block){ NULL, (Block *)(uintptr_t)bytes };
        return block + 1;
    }
    Block *block = malloc(sizeof(Block) + bytes);
    if (!block) give_up(pool, MEMORY);
    *block = (Block){ pool->all.before, &pool->all };
    block->before->after = pool->all.before = block;
    return block + 1;
}

static void *resized(Pool *pool, void *old, size_t bytes) {
    if (!old) return fresh(pool, bytes);
    Block *block = (Block *)old - 1, *before = block->before, *after = block->after;
    if (!before) {
        const size_t had = (size_t)(uintptr_t)after;
        return bytes <= had ? old : memcpy(fresh(pool, bytes), old, had);
    }
    Block *moved = realloc(block, sizeof(Block) + bytes);
    if (!moved) give_up(pool, MEMORY);
    before->after = after->before = moved;
    return moved + 1;
}

static void *zeroed(Pool *pool, size_t bytes) { return memset(fresh(pool, bytes), 0, bytes); }

static void dropped(void *memory) {
    if (!memory) return;
    Block *block = (Block *)memory - 1;
    if (!block->before) return;
    block->before->after = block->after;
    block->after->before = block->before;
    free(block);
}

static void pool_close(Pool *pool) {
    for (Block *block = pool->all.after, *next; block != &pool->all; block = next) {
        next = block->after;
        free(block);
    }
    pool_open(pool, pool->escape, pool->room);
}

/* A map from positive numbers to numbers. */
typedef struct { u64 *keys; i32 *values; u32 room, count; } Map;

INLINE u32 scattered(u64 key) { return (u32)((key * 0x9E3779B97F4A7C15ull) >> 32); }

static i32 *map_find(const Map *map, u64 key) {
    if (!map->room) return NULL;
    for (u32 at = scattered(key) & (map->room - 1); map->keys[at]; at = (at + 1) & (map->room - 1))
        if (map->keys[at] == key) return &map->values[at];
    return NULL;
}

static void map_put(Pool *pool, Map *map, u64 key, i32 value) {
    if (map->count * 2 >= map->room) {
        Map grown = { NULL, NULL, map->room ? map->room * 2 : 256, map->count };
        grown.keys = zeroed(pool, 8ul * grown.room);
        grown.values = fresh(pool, 4ul * grown.room);
        for (u32 i = 0; i < map->room; i++) {
            if (!map->keys[i]) continue;
            u32 at = scattered(map->keys[i]) & (grown.room - 1);
            while (grown.keys[at]) at = (at + 1) & (grown.room - 1);
            grown.keys[at] = map->keys[i];
            grown.values[at] = map->values[i];
        }
        dropped(map->keys);
        dropped(map->values);
        *map = grown;
    }
    u32 at = scattered(key) & (map->room - 1);
    while (map->keys[at]) at = (at + 1) & (map->room - 1);
    map->keys[at] = key;
    map->values[at] = value;
    map->count++;
}

/* ------------------------------------------------------------------------------------------- what is asked

   Operations come as columns.  What they do is either known here (`roles`: registers and texts, whose values are
   numbers in the table of values) or was worked out in Python: `effects` (mode, needs, makes) of each row's
   `kind`; or there is a `model`, which is asked once for each pair of state and operation, the latter by the first row
   that has the same f, value and result.  `looks` says by f which never change the state. */

typedef struct { const u8 *bytes; i64 size; u64 head, neck; } Text;  /* the first 8 bytes and the next, ordered as they are */
typedef struct { Text text; i32 value; } Word;
typedef struct { i32 mode, needs, makes; } Act;  /* what one operation does */
/* A model in Python and what it has said: it is kept from one search to the next. */
enum { ASK, CALL, FS, VALUES, UNKNOWN, STATES, NUMBERS, STATE, ANSWERED, RAISED, COMPARED, INCONSISTENT, OBJECTS };
typedef struct {
    PyObject *its[OBJECTS];               /* see `model_doc` */
    PyObject **calls;                     /* by row, of those asked for */
    i64 rows, asked, tried;               /* answers; how many at first are asked for twice, as is each power of two */
    Map steps;                            /* (state, row) -> state */
    Pool pool;
} Model;
typedef struct { i32 number, stamp, place, placed; } Mark;  /* a value's small number in one key, and its place there */

/* What was found of a key: row -1 where no search was needed; an answer of -1 is none. */
typedef struct { i32 answer, row; u64 work; i64 explained; } Said;
/* What threads that judge keys side by side have in common. */
typedef struct {
    Said *said;                       /* by key */
    i32 next, last;                   /* the key that is begun next; after one that is broken none is of use */
    int stop, busy;                   /* whether time is up; how many helpers there are */
    pthread_mutex_t lock;             /* of `busy` */
    pthread_cond_t done;
} Shared;

typedef struct {
    i64 rows, keys, values;
    const i64 *call, *ret, *key, *f, *value, *result;
    const int8_t *type;
    const i64 *roles, *halves;        /* by f: READ, WRITE, CAS or APPEND; by value: [old, new] of a cas, or -1 */
    i64 refused;                      /* the result of a cas that compared and found something else; -1: none */
    const Text *texts;                /* by value, of texts that grow; NULL: a register */
    const i64 *kind, *effects, *looks;
    i64 initial;                      /* the first state (with roles: value 0) */
    Model *model;
    PyObject *tick;                   /* tick() -> whether to stop */
    i64 only, until, limit, configurations, beam, zones, threads;
    Shared *shared;
    i32 which;                        /* the key that is judged */
    int helps;                        /* in a thread of its own, which Python does not know */
    PyThreadState *thread;            /* while Python runs other threads; NULL with `model`, which needs Python again and again */
    Escape escape;
    Pool pool;
    i32 *events, *event_of, *rows_of, *row_of;  /* by key: the first of its events and rows, and these */
    Act *acts;                        /* beside rows_of */
    i32 *same;                        /* with `model`, by row: the first one that is alike */
    Mark *marks;                      /* by value */
    i32 stamp;                        /* of the key, and the step, that is at work */
} Job;

/* The operations of one key, numbered as they were invoked; times are places among its events. */
typedef struct { i32 mode, needs, makes, flags; } Kind;
typedef struct { i32 low, high, size; } Prefix;  /* of the sorted outputs [low, high), so many bytes long */
typedef struct {
    Job *job;
    Pool *pool;
    int count, events, open;          /* open: at most at once */
    const i32 *event, *row;           /* event: operation * 2, + 1 for its return */
    const Act *act;
    i32 *call, *ret;
    int kinds, states, named, initial, dead;  /* named: states that an observer can tell; dead: -1 without texts */
    i32 *kind_of;
    Kind *kind;
    int texts, outputs, prefixes;
    Word *output;                     /* what was read, sorted */
    Prefix *prefix;
    Map longer, known;                /* (state, kind) -> state; (low, size) -> state */
} Key;

/* Whether time is up, or nothing is to be found out any more; an exception may be set. */
static int late(Job *job) {
    Shared *shared = job->shared;
    if (__atomic_load_n(&shared->stop, __ATOMIC_RELAXED) || job->which > __atomic_load_n(&shared->last, __ATOMIC_RELAXED)) return 1;
    if (job->helps) return 0;
    int stop;
    if (job->tick == Py_None) {
        if (job->thread) return 0;
        PyThreadState *thread = PyEval_SaveThread();  /* others want to run, too */
        PyEval_RestoreThread(thread);
        stop = PyErr_CheckSignals() != 0;
    } else {
        if (job->thread) PyEval_RestoreThread(job->thread);
        PyObject *answer = PyObject_CallNoArgs(job->tick);
        stop = !answer || PyObject_IsTrue(answer) != 0;
        Py_XDECREF(answer);
        if (job->thread) job->thread = PyEval_SaveThread();
    }
    if (stop) __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    return stop;
}

static void look_at_the_clock(Key *key) {
    if (late(key->job)) give_up(key->pool, STOPPED);
}

static int plain(PyObject *value) {  /* as the state of a number is looked up, without asking what it is like */
    return value == Py_None || PyLong_CheckExact(value) || PyUnicode_CheckExact(value) || PyBool_Check(value);
}

/* The operation of a row as the model sees it, made once; NULL with an exception. */
static PyObject *operation_of(Model *model, const Job *job, i32 row) {
    if (model->calls[row]) return model->calls[row];
    PyObject *f = PyList_GetItem(model->its[FS], (Py_ssize_t)job->f[row]), *value = PyList_GetItem(model->its[VALUES], (Py_ssize_t)job->value[row]);
    PyObject *result = job->type[row] == OK ? PyList_GetItem(model->its[VALUES], (Py_ssize_t)job->result[row]) : model->its[UNKNOWN];
    PyObject *its = f && value && result ? PyTuple_Pack(3, f, value, result) : NULL;
    if (its) model->calls[row] = PyObject_CallFunctionObjArgs(model->its[CALL], its, NULL);
    Py_XDECREF(its);
    return model->calls[row];
}

/* Tell Python what the model raised (after an `answer`, unless NULL), which raises in turn. */
static void told_raised(Model *model, i32 state, i32 row, PyObject *answer) {
    PyObject *type, *error, *where;
    PyErr_Fetch(&type, &error, &where);
    PyErr_NormalizeException(&type, &error, &where);
    if (where) PyException_SetTraceback(error, where);
    PyObject *none = answer ? PyObject_CallFunction(model->its[RAISED], "iiOO", state, row, error, answer) : PyObject_CallFunction(model->its[RAISED], "iiO", state, row, error);
    if (none) PyErr_SetString(PyExc_ValueError, "what the model raised is lost");
    Py_XDECREF(none);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(where);
}

/* Ask for what was answered once more: False, with an exception, where a pure model would not answer so. */
static int answers_again(Model *model, i32 state, i32 row, PyObject *before, PyObject *call, PyObject *answer) {
    PyObject *again = PyObject_CallFunctionObjArgs(model->its[ASK], before, call, NULL);
    if (!again) { told_raised(model, state, row, answer); return 0; }
    const int refused = (PyObject *)Py_TYPE(answer) == model->its[INCONSISTENT], alike = (PyObject *)Py_TYPE(again) == model->its[INCONSISTENT];
    if (!refused || !alike) {
        const int same = refused || alike ? 0 : PyObject_RichCompareBool(answer, again, Py_EQ);
        PyObject *none = same ? NULL : PyObject_CallFunction(model->its[COMPARED], "iiOO", state, row, answer, again);
        Py_XDECREF(none);
    }
    Py_DECREF(again);
    return !PyErr_Occurred();
}

enum { AT_HAND = 8 };  /* states that are looked for by what they are, before by what they are like */

/* The number of the state that was answered, -1 where none follows; an exception may be set. */
static long number_of(Model *model, i32 state, i32 row, int observes, PyObject *before, PyObject *call, PyObject *answer) {
    const i64 count = ++model->asked;
    const int due = count <= model->tried || !(count & (count - 1)), refused = (PyObject *)Py_TYPE(answer) == model->its[INCONSISTENT];
    PyObject *number = NULL;
    if (model->its[NUMBERS] != Py_None && (refused || answer == before || (!observes && plain(answer))) && (!due || plain(before))) {
        if (due && !answers_again(model, state, row, before, call, answer)) return ILLEGAL;
        if (refused) return ILLEGAL;
        if (answer == before) return state;
        const Py_ssize_t states = PyList_Size(model->its[STATES]);
        for (Py_ssize_t i = 0; i < states && i < AT_HAND; i++) if (PyList_GetItem(model->its[STATES], i) == answer) return (long)i;
        PyObject *mark = PyTuple_Pack(2, Py_TYPE(answer), answer);
        if (mark) number = PyDict_GetItemWithError(model->its[NUMBERS], mark);
        Py_XDECREF(mark);
        if (number) return PyLong_AsLong(number);
        if (!PyErr_Occurred()) number = PyObject_CallFunctionObjArgs(model->its[STATE], answer, NULL);
    } else number = PyObject_CallFunction(model->its[ANSWERED], "iiOi", state, row, answer, due);
    const long following = number ? PyLong_AsLong(number) : ILLEGAL;
    Py_XDECREF(number);
    return following;
}

/* The number of the state that follows, -1 where none does; 0 where an exception is set. */
static int answered(Model *model, const Job *job, i32 state, i32 row, long *following) {
    PyObject *before = PyList_GetItem(model->its[STATES], state), *call = before ? operation_of(model, job, row) : NULL;
    if (!call) return 0;
    Py_INCREF(before);
    Py_INCREF(call);
    PyObject *answer = PyObject_CallFunctionObjArgs(model->its[ASK], before, call, NULL);
    *following = ILLEGAL;
    if (answer) *following = number_of(model, state, row, job->looks[job->f[row]] != 0, before, call, answer);
    else told_raised(model, state, row, NULL);
    Py_XDECREF(answer);
    Py_DECREF(call);
    Py_DECREF(before);
    if (!PyErr_Occurred() && (*following < ILLEGAL || *following > MOST))
        PyErr_Format(PyExc_ValueError, "the model's next state is number %ld", *following);
    return !PyErr_Occurred();
}

static i32 stepped(Key *key, i32 state, i32 kind) {
    Model *model = key->job->model;
    const u64 pair = ((u64)(u32)state << 32 | (u32)kind) + 1;
    const i32 *known = map_find(&model->steps, pair);
    if (known) return *known;
    long following;
    if (!answered(model, key->job, state, kind, &following)) give_up(key->pool, STOPPED);
    model->pool.escape = &key->job->escape;
    map_put(&model->pool, &model->steps, pair, (i32)following);
    return (i32)following;
}

/* -------------------------------------------------------------------------------------------------- texts

   Only what is a prefix of something that was read can be told apart by any later operation; every other text is
   `dead` until it is overwritten.  So a state is a prefix of outputs: exact, and no text is ever put together. */

static u64 eight(const u8 *bytes, i64 size) {  /* of them as a number, so that numbers are ordered as texts are */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (size >= 8) { u64 all; memcpy(&all, bytes, 8); return __builtin_bswap64(all); }
    if (size >= 4) {
        u32 first, last;  /* which overlap */
        memcpy(&first, bytes, 4);
        memcpy(&last, bytes + size - 4, 4);
        return (u64)__builtin_bswap32(first) << 32 | (u32)((u64)__builtin_bswap32(last) << (64 - 8 * size));
    }
#endif
    u64 number = 0;
    for (int i = 0; i < size && i < 8; i++) number |= (u64)bytes[i] << (56 - 8 * i);
    return number;
}

INLINE Text text_at(const u8 *bytes, i64 size) { return (Text){ bytes, size, eight(bytes, size), eight(bytes + 8, size - 8) }; }

static int compare(const Text *a, const Text *b) {
    if (a->head != b->head) return a->head < b->head ? -1 : 1;
    if (a->neck != b->neck) return a->neck < b->neck ? -1 : 1;
    const i64 least = a->size < b->size ? a->size : b->size;
    const int order = least > 16 ? memcmp(a->bytes + 16, b->bytes + 16, (size_t)least - 16) : 0;
    return order ? order : a->size < b->size ? -1 : a->size > b->size;
}

/* Whether a text is not above another, without a jump where their beginnings differ: in a search they cannot be foreseen. */
INLINE int not_above(const Text *a, const Text *b) {
    if (__builtin_expect(a->head == b->head && a->neck == b->neck, 0)) return compare(a, b) <= 0;
    return (a->head < b->head) | ((a->head == b->head) & (a->neck < b->neck));
}

static int same_start(u64 a, u64 b, i64 bytes) { return bytes >= 8 ? a == b : bytes <= 0 || (a ^ b) >> (64 - 8 * bytes) == 0; }

/* What lies in memory is looked at last, since it is far away. */
static int begins_with(const Text *text, const Text *part) {
    if (part->size > text->size || !same_start(text->head, part->head, part->size)) return 0;
    if (!same_start(text->neck, part->neck, part->size - 8)) return 0;
    return part->size <= 16 || !memcmp(text->bytes + 16, part->bytes + 16, (size_t)part->size - 16);
}

/* Sort values by their texts, which lie beside them: a merge sort, since much comes in order. */
static void sort_words(Pool *pool, Word *words, int count) {
    Word *from = words, *spare = fresh(pool, sizeof(Word) * (size_t)(count + 1)), *to = spare;
    for (int run = 1; run < count; run *= 2) {
        for (int begin = 0; begin < count; begin += 2 * run) {
            int a = begin, middle = begin + run < count ? begin + run : count;
            int b = middle, end = middle + run < count ? middle + run : count;
            if (b == end || compare(&from[b - 1].text, &from[b].text) <= 0) {
                memcpy(to + a, from + a, sizeof(Word) * (size_t)(end - a));
                continue;
            }
            int at = begin;
            while (a < middle && b < end) {
                const int first = not_above(&from[a].text, &from[b].text);
                to[at++] = from[first ? a : b];
                a += first;
                b += !first;
            }
            memcpy(to + at, from + a, sizeof(Word) * (size_t)(middle - a));
            memcpy(to + at + (middle - a), from + b, sizeof(Word) * (size_t)(end - b));
        }
        Word *old = from;
        from = to;
        to = old;
    }
    if (from != words) memcpy(words, from, sizeof(Word) * (size_t)count);
    dropped(spare);
}

static i32 prefix_state(Key *key, Prefix prefix) {
    u64 mark = ((u64)(u32)prefix.low << 32 | (u32)prefix.size) + 1;
    i32 *known = map_find(&key->known, mark);
    if (known) return *known;
    if (key->states == key->prefixes) {
        key->prefixes = key->prefixes ? 2 * key->prefixes : 256;
        key->prefix = resized(key->pool, key->prefix, sizeof(Prefix) * (size_t)key->prefixes);
    }
    key->prefix[key->states] = prefix;
    map_put(key->pool, &key->known, mark, key->states);
    return key->states++;
}

/* How output `place` goes on after `size` bytes, against `text`: below 0, 0 (it goes on with it), above 0. */
static int goes_on(const Key *key, int place, int size, const Text *text) {
    const Text *output = &key->output[place].text;
    i64 have = output->size - size;
    int order = memcmp(output->bytes + size, text->bytes, (size_t)(have < text->size ? have : text->size));
    return order ? order : have < text->size ? -1 : 0;
}

static i32 extended(Key *key, Prefix prefix, i32 value) {
    const Text *text = &key->job->texts[value];
    int low = prefix.low, high = prefix.high;
    while (low < high) {
        int middle = (low + high) / 2;
        if (goes_on(key, middle, prefix.size, text) < 0) low = middle + 1; else high = middle;
    }
    int first = low;
    if (first == prefix.high || goes_on(key, first, prefix.size, text)) return key->dead;
    high = prefix.high;
    while (low < high) {
        int middle = (low + high) / 2;
        if (goes_on(key, middle, prefix.size, text) <= 0) low = middle + 1; else high = middle;
    }
    return prefix_state(key, (Prefix){ first, low, prefix.size + (i32)text->size });
}

static i32 appended(Key *key, i32 state, i32 kind) {
    if (state == key->dead) return state;
    u64 pair = ((u64)(u32)state << 32 | (u32)kind) + 1;
    i32 *known = map_find(&key->longer, pair);
    if (known) return *known;
    i32 following = extended(key, key->prefix[state], key->kind[kind].makes);
    map_put(key->pool, &key->longer, pair, following);
    return following;
}

INLINE i32 next_state(Key *key, i32 state, i32 kind) {
    const Kind *k = &key->kind[kind];
    switch (k->mode) {
    case READ: return state == k->needs ? state : ILLEGAL;
    case REFUSED: return state != k->needs ? state : ILLEGAL;
    case WRITE: return k->makes;
    case CAS: return state == k->needs ? k->makes : ILLEGAL;
    case APPEND: return appended(key, state, kind);
    default: return stepped(key, state, k->makes);
    }
}

/* ------------------------------------------------------------------------------------ sets of configurations

   A mask is W words.  W is a constant wherever it matters: `add` and `walked` exist once for each width. */

#define WORDS for (int w = 0; w < W; w++)

enum { WIDEST = 8 };
typedef struct { i32 state, link; u64 mask[]; } Configuration;  /* mask: W words done, W words may; link: a chain */
typedef struct {
    char *items;
    int count, room, live, hashed;
    i32 *exact, *chains;              /* of all that is in it; of each state's latest: place + 1 */
    u32 places;
} Set;

INLINE size_t stride(const int W) { return sizeof(Configuration) + 16ul * (size_t)W; }
INLINE Configuration *member(const Set *set, int place, const int W) {
    return (Configuration *)(set->items + (size_t)place * stride(W));
}
INLINE int word(int bit, const int W) { return W == 1 ? 0 : bit >> 6; }
INLINE int has(const u64 *mask, int bit, const int W) { return mask[word(bit, W)] >> (bit & 63) & 1; }
INLINE void put(u64 *mask, int bit, const int W) { mask[word(bit, W)] |= 1ull << (bit & 63); }
INLINE void cut(u64 *mask, int bit, const int W) { mask[word(bit, W)] &= ~(1ull << (bit & 63)); }
INLINE int bits(u64 word) {  /* without the instruction, which not every machine has, the builtin is a call */
    word -= word >> 1 & 0x5555555555555555ull;
    word = (word & 0x3333333333333333ull) + (word >> 2 & 0x3333333333333333ull);
    return (int)(((word + (word >> 4)) & 0x0F0F0F0F0F0F0F0Full) * 0x0101010101010101ull >> 56);
}
INLINE int lowest(u64 word) { return __builtin_ctzll(word); }
static void emptied(Set *set) { set->count = set->live = set->hashed = 0; }

typedef struct { Set set; int event, exact, opened; i32 *open; } Checkpoint;
typedef struct {
    Key *key;
    int W;
    u64 work, limit;
    int explained;                    /* events that some order explains */
    Set now, next, part;              /* before a return; after it; on the way, where it has yet to happen */
    /* what is open: a slot (bit) each, and masks of slots */
    i32 *slot, *open, *place;         /* by operation: its slot; those open; where each is in that list */
    int opened;
    i32 *kind, *ret;                  /* by slot */
    u64 *all, *observers, *crashed, *total, *free, *refusing, *lookers;  /* free: movers that need no certain state */
    u64 *reading, *unlike, *from, *to;  /* by named state: reads of it, those refused by it, cas from it, makers of it */
    u64 *alike, *earlier;             /* by kind: its slots; by slot: those of its kind that go before it */
    /* what makes a configuration doomed */
    int watch;
    i32 *last_maker, *watch_next, *watched;  /* by operation: last call of a maker before its return; by event: lists */
    u64 *critical;                    /* needs a state, and no maker of it is still to be called in time */
    Checkpoint *saved;
    int saves, save_room;
    i32 *open_at;                     /* what was open at every EVERYth event, but for the crashed */
    int sparing;                      /* crashed operations are tried only where nothing else helps */
    int exact, failed;                /* nothing was left out so far; the event at which the walk died */
} Search;

INLINE u32 hashed(i32 state, const u64 *mask, const int W) {
    u64 hash = (u64)(u32)state * 0x9E3779B97F4A7C15ull;
    for (int w = 0; w < 2 * W; w++) {
        hash = (hash ^ mask[w]) * 0xff51afd7ed558ccdull;
        hash ^= hash >> 31;
    }
    return (u32)(hash ^ hash >> 32);
}

/* Whether configuration `a` makes `b`, of the same state, needless: what b did, a did or may leave out; a used up
   nothing that b still has; and a may leave out all that b may. */
INLINE int covers(const u64 *a, const u64 *b, const u64 *observers, const int W) {
    u64 against = 0;
    WORDS against |= (b[W + w] & ~a[W + w]) | (b[w] & ~(a[w] | a[W + w])) | (a[w] & ~observers[w] & ~b[w]);
    return !against;
}

INLINE i32 state_of(const Configuration *c) { return c->state < 0 ? -2 - c->state : c->state; }

INLINE i32 *chain(Set *set, i32 state, const int W) {
    u32 at = ((u32)state * 2654435761u >> 7) & (set->places - 1);
    while (set->chains[at] && state_of(member(set, set->chains[at] - 1, W)) != state) at = (at + 1) & (set->places - 1);
    return &set->chains[at];
}

static void rehash(Pool *pool, Set *set, const int W) {
    u32 want = 64;
    while (want < 2u * (u32)set->room) want *= 2;
    if (set->places < want) {
        set->exact = resized(pool, set->exact, 4ul * want);
        set->chains = resized(pool, set->chains, 4ul * want);
        set->places = want;
    }
    memset(set->exact, 0, 4ul * set->places);
    memset(set->chains, 0, 4ul * set->places);
    for (int i = 0; i < set->count; i++) {
        Configuration *c = member(set, i, W);
        if (c->state < 0) continue;
        u32 at = hashed(c->state, c->mask, W) & (set->places - 1);
        while (set->exact[at]) at = (at + 1) & (set->places - 1);
        set->exact[at] = i + 1;
        i32 *head = chain(set, c->state, W);
        c->link = *head;
        *head = i + 1;
    }
    set->hashed = 1;
}

INLINE void add_any(Search *x, Set *set, i32 state, const u64 *done, const u64 *may, const int W) {
    u64 mask[2 * WIDEST];
    WORDS { mask[w] = done[w]; mask[W + w] = may[w]; }
    if (!set->hashed) {
        for (int i = 0; i < set->count; i++) {
            Configuration *c = member(set, i, W);
            if (c->state != state) continue;
            if (covers(c->mask, mask, x->observers, W)) return;
            if (covers(mask, c->mask, x->observers, W)) { c->state = -2 - state; set->live--; }
        }
    } else {
        for (u32 at = hashed(state, mask, W) & (set->places - 1); set->exact[at]; at = (at + 1) & (set->places - 1)) {
            Configuration *c = member(set, set->exact[at] - 1, W);
            if (c->state == state && !memcmp(c->mask, mask, 16ul * (size_t)W)) return;
        }
        int scanned = 0;
        for (i32 i = *chain(set, state, W); i && scanned < SCANNED; i = member(set, i - 1, W)->link, scanned++) {
            Configuration *c = member(set, i - 1, W);
            if (c->state < 0) continue;
            if (covers(c->mask, mask, x->observers, W)) return;
            if (covers(mask, c->mask, x->observers, W)) { c->state = -2 - state; set->live--; }
        }
    }
    if (set->count == set->room) {
        if (set->live >= x->key->job->configurations) give_up(x->key->pool, MEMORY);
        set->room = set->room ? 2 * set->room : 64;
        set->items = resized(x->key->pool, set->items, (size_t)set->room * stride(W));
        if (set->hashed) rehash(x->key->pool, set, W);
    }
    Configuration *new = member(set, set->count++, W);
    new->state = state;
    memcpy(new->mask, mask, 16ul * (size_t)W);
    set->live++;
    if (set->hashed) {
        u32 at = hashed(state, mask, W) & (set->places - 1);
        while (set->exact[at]) at = (at + 1) & (set->places - 1);
        set->exact[at] = set->count;
        i32 *head = chain(set, state, W);
        new->link = *head;
        *head = set->count;
    } else if (set->count > FIRST_HASHED) {
        rehash(x->key->pool, set, W);
    }
}

static void add_1(Search *x, Set *set, i32 state, const u64 *done, const u64 *may) { add_any(x, set, state, done, may, 1); }
static void add_2(Search *x, Set *set, i32 state, const u64 *done, const u64 *may) { add_any(x, set, state, done, may, 2); }
static void add_8(Search *x, Set *set, i32 state, const u64 *done, const u64 *may) { add_any(x, set, state, done, may, 8); }

/* Add a configuration, unless one in the set covers it; drop those that it covers. */
INLINE void add(Search *x, Set *set, i32 state, const u64 *done, const u64 *may, const int W) {
    if (!set->count && set->room) {  /* nothing to compare it with */
        Configuration *new = member(set, 0, W);
        new->state = state;
        WORDS { new->mask[w] = done[w]; new->mask[W + w] = may[w]; }
        set->count = set->live = 1;
        return;
    }
    (W == 1 ? add_1 : W == 2 ? add_2 : add_8)(x, set, state, done, may);
}

static void copy_live(Pool *pool, Set *to, const Set *from, const int W) {
    emptied(to);
    if (to->room < from->count) {
        to->room = from->count;
        to->items = resized(pool, to->items, (size_t)to->room * stride(W));
    }
    for (int i = 0; i < from->count; i++)
        if (member(from, i, W)->state >= 0) memcpy(member(to, to->count++, W), member(from, i, W), stride(W));
    to->live = to->count;
}

/* ------------------------------------------------------------------------------------------ what is open */

static void open_slot(Search *x, int op) {
    const int W = x->W, slot = x->slot[op], kind = x->key->kind_of[op];
    const Kind *k = &x->key->kind[kind];
    u64 *alike = x->alike + (size_t)kind * W, *earlier = x->earlier + (size_t)slot * W;
    x->kind[slot] = kind;
    x->ret[slot] = x->key->ret[op];
    WORDS earlier[w] = 0;
    WORDS for (u64 rest = alike[w]; rest; rest &= rest - 1) {
        int other = w * 64 + lowest(rest);
        if (x->ret[other] <= x->ret[slot]) put(earlier, other, W); else put(x->earlier + (size_t)other * W, slot, W);
    }
    put(alike, slot, W);
    put(x->all, slot, W);
    if (k->flags & OBSERVES) {
        put(x->observers, slot, W);
        if (k->mode == LOOK) put(x->lookers, slot, W);
        else if (k->mode == REFUSED) { put(x->refusing, slot, W); put(x->unlike + (size_t)k->needs * W, slot, W); }
        else put(x->reading + (size_t)k->needs * W, slot, W);
    } else {
        if (k->mode == CAS) put(x->from + (size_t)k->needs * W, slot, W); else put(x->free, slot, W);
        if (x->watch) put(x->to + (size_t)k->makes * W, slot, W);
    }
    if (k->flags & TOTAL) put(x->total, slot, W);
    if (x->key->ret[op] >= NEVER) put(x->crashed, slot, W);
    x->place[op] = x->opened;
    x->open[x->opened++] = op;
}

static void close_slot(Search *x, int op) {
    const int W = x->W, slot = x->slot[op], kind = x->key->kind_of[op];
    const Kind *k = &x->key->kind[kind];
    u64 *alike = x->alike + (size_t)kind * W;
    cut(alike, slot, W);
    WORDS for (u64 rest = alike[w]; rest; rest &= rest - 1) cut(x->earlier + (size_t)(w * 64 + lowest(rest)) * W, slot, W);
    cut(x->all, slot, W); cut(x->observers, slot, W); cut(x->lookers, slot, W); cut(x->refusing, slot, W);
    cut(x->free, slot, W); cut(x->total, slot, W); cut(x->critical, slot, W);
    if (k->mode == READ || (k->mode == CAS && k->flags & OBSERVES)) cut(x->reading + (size_t)k->needs * W, slot, W);
    else if (k->mode == REFUSED) cut(x->unlike + (size_t)k->needs * W, slot, W);
    else if (k->mode == CAS) cut(x->from + (size_t)k->needs * W, slot, W);
    if (x->watch && !(k->flags & OBSERVES)) cut(x->to + (size_t)k->makes * W, slot, W);
    int place = x->place[op], moved = x->open[--x->opened];
    x->open[place] = moved;
    x->place[moved] = place;
}

/* Open exactly these, as before event `event`. */
static void reopen(Search *x, const i32 *ops, int count, int event) {
    const size_t W = (size_t)x->W, named = W * (size_t)x->key->named;
    u64 *masks[] = { x->all, x->observers, x->crashed, x->total, x->free, x->refusing, x->lookers, x->critical };
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) memset(masks[i], 0, 8 * W);
    memset(x->reading, 0, 8 * named); memset(x->unlike, 0, 8 * named);
    memset(x->from, 0, 8 * named); memset(x->to, 0, 8 * named);
    memset(x->alike, 0, 8 * W * (size_t)x->key->kinds);
    x->opened = 0;
    for (int i = 0; i < count; i++) {
        open_slot(x, ops[i]);
        if (x->watch && x->last_maker[ops[i]] < event) put(x->critical, x->slot[ops[i]], W);
    }
}

/* Do every open observer that fits the state. */
INLINE void observe(Search *x, i32 state, u64 *done, u64 *may, const int W) {
    if (state < x->key->named) {
        const u64 *reading = x->reading + (size_t)state * W, *unlike = x->unlike + (size_t)state * W;
        WORDS {
            u64 seen = reading[w] | (x->refusing[w] & ~unlike[w]);
            done[w] |= seen;
            may[w] &= ~seen;
        }
    } else {
        WORDS { done[w] |= x->refusing[w]; may[w] &= ~x->refusing[w]; }
    }
    WORDS for (u64 rest = x->lookers[w] & ~done[w]; rest; rest &= rest - 1) {
        int slot = w * 64 + lowest(rest);
        if (next_state(x->key, state, x->kind[slot]) != ILLEGAL) { put(done, slot, W); cut(may, slot, W); }
    }
}

/* How many operations that must be done need a state which nothing can bring about any more: neither is it there, nor
   do enough open operations leave it.  A cas uses its state up, so that each of them needs one of its own. */
INLINE int stuck(Search *x, i32 state, const u64 *done, u64 *left, int stop_at_first, const int W) {
    int count = 0;
    for (int v = 0; v < W; v++) while (left[v]) {
        i32 need = x->key->kind[x->kind[v * 64 + lowest(left[v])]].needs;
        const u64 *to = x->to + (size_t)need * W, *from = x->from + (size_t)need * W, *reading = x->reading + (size_t)need * W;
        int sources = state == need, needed = 0;
        WORDS {
            sources += bits(to[w] & ~done[w]);
            needed += bits(from[w] & left[w]);
            left[w] &= ~(from[w] | reading[w]);
        }
        if (!needed) needed = 1;
        if (sources < needed) {
            count += needed - sources;
            if (stop_at_first) return count;
        }
    }
    return count;
}

INLINE int doomed(Search *x, i32 state, const u64 *done, const u64 *may, const int W) {
    u64 left[WIDEST], any = 0;
    WORDS any |= left[w] = x->critical[w] & ~done[w] & ~may[w];
    return any && stuck(x, state, done, left, 1, W);
}

/* Keep the `beam` most promising configurations of a set. */
static void trim(Search *x, Set *set, int beam, const u64 *soon) {
    const int W = x->W;
    i32 *cost = fresh(x->key->pool, 4ul * (size_t)set->count), at_cost[HIGHEST + 1] = { 0 };
    for (int i = 0; i < set->count; i++) {
        Configuration *c = member(set, i, W);
        if (c->state < 0) { cost[i] = HIGHEST; continue; }
        const u64 *done = c->mask, *may = c->mask + W;
        int sum = 0;
        WORDS {
            u64 left = x->all[w] & ~done[w] & ~may[w] & ~x->crashed[w];
            sum += COST_CRASHED * bits(done[w] & x->crashed[w]) + COST_LEFT * bits(left) + COST_SOON * bits(left & soon[w])
                 + COST_USED * bits(done[w] & ~x->observers[w] & ~x->crashed[w]);
        }
        if (x->watch) {
            u64 left[WIDEST];
            WORDS left[w] = x->all[w] & ~done[w] & ~may[w] & ~x->free[w] & ~x->refusing[w];
            sum += COST_STUCK * stuck(x, c->state, done, left, 0, W);
        }
        cost[i] = sum < HIGHEST ? sum : HIGHEST - 1;
        at_cost[cost[i]]++;
    }
    int highest = 0, below = 0;
    while (highest < HIGHEST && below + at_cost[highest] < beam) below += at_cost[highest++];
    int at_limit = beam - below, kept = 0;
    for (int i = 0; i < set->count; i++) {
        if (cost[i] > highest || cost[i] == HIGHEST || (cost[i] == highest && at_limit-- <= 0)) continue;
        if (i != kept) memcpy(member(set, kept, W), member(set, i, W), stride(W));
        kept++;
    }
    dropped(cost);
    set->count = set->live = kept;
    set->hashed = 0;
}

/* --------------------------------------------------------------------------------------------------- a walk */

enum { REACHED, DIED, TOO_WIDE, CALM };
enum { EXACT, CRASHED_LAST, ALL_LAST, ALL_OPTIONAL };  /* what is never used up; in the end, all may be left out */
typedef struct {
    int from, until;                  /* events */
    int beam, most;                   /* configurations kept; give up above so many.  0: all, never */
    int relaxed;
    int saving, calm;                 /* make checkpoints; from this event on, stop at one */
} Way;

static void save(Search *x, int event) {
    Pool *pool = x->key->pool;
    if (x->saves == x->save_room) {
        int room = x->save_room ? 2 * x->save_room : 32;
        x->saved = resized(pool, x->saved, sizeof(Checkpoint) * (size_t)room);
        memset(x->saved + x->save_room, 0, sizeof(Checkpoint) * (size_t)(room - x->save_room));
        x->save_room = room;
    }
    Checkpoint *saved = &x->saved[x->saves++];
    copy_live(pool, &saved->set, &x->now, x->W);
    saved->event = event;
    saved->exact = x->exact;
    saved->opened = x->opened;
    saved->open = resized(pool, saved->open, 4ul * (size_t)(x->opened + 1));
    memcpy(saved->open, x->open, 4ul * (size_t)x->opened);
}

INLINE void called(Search *x, int op, int event, int relaxed, const int W) {
    Key *key = x->key;
    const int slot = x->slot[op], kind = key->kind_of[op], flags = key->kind[kind].flags;
    open_slot(x, op);
    if (x->watch) {
        if (x->last_maker[op] < event) put(x->critical, slot, W);
        for (int other = x->watched[event]; other >= 0; other = x->watch_next[other])
            if (key->call[other] < event) put(x->critical, x->slot[other], W);
    }
    const int optional = key->ret[op] >= NEVER || relaxed == ALL_OPTIONAL;
    const int unseen = key->dead >= 0 && flags & TOTAL;  /* in a dead state nobody sees it before the next overwrite */
    if (!(flags & OBSERVES) && !optional && !unseen) return;
    for (int i = 0; i < x->now.count; i++) {
        Configuration *c = member(&x->now, i, W);
        if (c->state < 0) continue;
        if (flags & OBSERVES) {
            if (next_state(key, c->state, kind) != ILLEGAL) put(c->mask, slot, W);
        } else if (optional || c->state == key->dead) {
            put(c->mask + W, slot, W);
        }
    }
}

/* Everything that can be done next in configuration (state, done, may), on the way to a return of `slot`. */
INLINE void expand(Search *x, i32 state, const u64 *done, const u64 *may, int slot, int relaxed, int with_crashed, const int W) {
    Key *key = x->key;
    if (key->dead >= 0 && state != key->dead && has(x->total, slot, W)) {
        /* nothing is read before the next overwrite: this one and all others that nobody needs may vanish here */
        u64 vanished[WIDEST];
        WORDS vanished[w] = may[w] | (x->total[w] & ~done[w]);
        cut(vanished, slot, W);
        add(x, &x->next, key->dead, done, vanished, W);
    }
    for (int v = 0; v < W; v++) {
        u64 rest = x->free[v] & ~done[v];
        if (state < key->named) rest |= (x->from + (size_t)state * W)[v] & ~done[v];
        if (!with_crashed) rest &= ~x->crashed[v];
        for (; rest; rest &= rest - 1) {
            const int mover = v * 64 + lowest(rest), kind = x->kind[mover], flags = key->kind[kind].flags;
            const int optional = has(may, mover, W), crashed = has(x->crashed, mover, W);
            const u64 *earlier = x->earlier + (size_t)mover * W;
            u64 before = 0;
            WORDS before |= earlier[w] & ~done[w] & (optional ? ~0ull : ~may[w]);
            if (before) continue;
            i32 to = next_state(key, state, kind);
            if (to == ILLEGAL || to == key->dead) continue;
            /* what changes nothing is of no use, unless it has to be done, or is an overwrite among texts, which hides others */
            if (to == state && (crashed || (optional && relaxed >= ALL_LAST)) && !(key->dead >= 0 && flags & OVERWRITES)) continue;
            u64 done2[WIDEST], may2[WIDEST];
            WORDS { done2[w] = done[w]; may2[w] = may[w]; }
            if (relaxed >= ALL_LAST) put(may2, mover, W);
            else if (!(relaxed && crashed)) { put(done2, mover, W); cut(may2, mover, W); }
            if (flags & OVERWRITES) WORDS may2[w] |= x->total[w] & ~done2[w];
            observe(x, to, done2, may2, W);
            const int was_done = has(done2, slot, W), may_be = has(may2, slot, W);
            if (doomed(x, to, done2, may2, W)) continue;
            cut(may2, slot, W);
            if (was_done | may_be) {
                u64 without[WIDEST];
                WORDS without[w] = done2[w];
                cut(without, slot, W);
                add(x, &x->next, to, without, may2, W);
            }
            if (!was_done) add(x, &x->part, to, done2, may2, W);
        }
    }
}

INLINE int walked_any(Search *x, const Way *way, const int W) {
    Key *key = x->key;
    const int beam = way->beam;
    for (int event = way->from; event < way->until; event++) {
        if (way->saving && event % EVERY == 0 && event > (x->saves ? x->saved[x->saves - 1].event : -1)) {
            save(x, event);
            if (event >= way->calm) { x->failed = event; return CALM; }
        }
        const int op = key->event[event] >> 1, slot = x->slot[op];
        if (!(key->event[event] & 1)) {
            called(x, op, event, way->relaxed, W);
            continue;
        }
        if (way->saving && event > x->explained) x->explained = event;
        if (x->now.count == 1 && has(member(&x->now, 0, W)->mask, slot, W)) {  /* done in all that there is: nothing to choose */
            Configuration *c = member(&x->now, 0, W);
            if (!doomed(x, c->state, c->mask, c->mask + W, W)) {
                cut(c->mask, slot, W);
                close_slot(x, op);
                continue;
            }
        }
        u64 crashed = 0;
        WORDS crashed |= x->crashed[w];
        for (int with_crashed = !(x->sparing && crashed); with_crashed < 2; with_crashed++) {
            emptied(&x->next);
            emptied(&x->part);
            for (int i = 0; i < x->now.count; i++) {
                const Configuration *c = member(&x->now, i, W);
                if (c->state < 0) continue;
                u64 done[WIDEST], may[WIDEST];
                WORDS { done[w] = c->mask[w]; may[w] = c->mask[W + w]; }
                const int was_done = has(done, slot, W), may_be = has(may, slot, W);
                if (doomed(x, c->state, done, may, W)) continue;
                cut(done, slot, W);
                cut(may, slot, W);
                if (was_done | may_be) add(x, &x->next, c->state, done, may, W);
                if (!was_done) add(x, &x->part, c->state, done, may, W);
            }
            for (int i = 0; i < x->part.count; i++) {
                const Configuration *c = member(&x->part, i, W);
                if (c->state < 0) continue;
                if (++x->work > x->limit) give_up(key->pool, LIMIT);
                if (x->work % LOOK_UP == 0) look_at_the_clock(key);
                if (beam && (x->next.live > (x->sparing ? 2 : 3) * beam || i > 16 * beam)) { x->exact = 0; break; }
                u64 done[WIDEST], may[WIDEST];
                WORDS { done[w] = c->mask[w]; may[w] = c->mask[W + w]; }
                expand(x, c->state, done, may, slot, way->relaxed, with_crashed, W);
                if (way->most && (x->part.count > 8 * way->most || x->next.count > 8 * way->most)) return TOO_WIDE;
            }
            if (!with_crashed && x->next.live) { x->exact = 0; break; }
        }
        close_slot(x, op);
        if (!x->next.live) { x->failed = event; return DIED; }
        if (way->most && x->next.live > way->most) return TOO_WIDE;
        if (beam && x->next.live > beam) {
            u64 soon[WIDEST] = { 0 };
            for (int later = event + 1, left = SOON; later < key->events && left; later++) {
                if (!(key->event[later] & 1)) continue;
                left--;
                if (key->call[key->event[later] >> 1] < event) put(soon, x->slot[key->event[later] >> 1], W);
            }
            x->exact = 0;
            trim(x, &x->next, beam, soon);
        }
        Set old = x->now;
        x->now = x->next;
        x->next = old;
    }
    return REACHED;
}

static int walked_1(Search *x, const Way *way) { return walked_any(x, way, 1); }
static int walked_2(Search *x, const Way *way) { return walked_any(x, way, 2); }
static int walked_8(Search *x, const Way *way) { return walked_any(x, way, 8); }

static int walked(Search *x, const Way *way) {
    return (x->W == 1 ? walked_1 : x->W == 2 ? walked_2 : walked_8)(x, way);
}

/* --------------------------------------------------------------------------------------------------- a search */

/* A slot for each operation while it is open; false where there are not enough. */
static int slots_given(Search *x) {
    const Key *key = x->key;
    const int W = x->W;
    u64 used[WIDEST] = { 0 };
    if (W == 1) {
        for (int event = 0; event < key->events; event++) {
            const int op = key->event[event] >> 1;
            if (!(key->event[event] & 1)) x->slot[op] = lowest(~used[0]);
            used[0] ^= 1ull << x->slot[op];
        }
        return 1;
    }
    for (int event = 0; event < key->events; event++) {
        int op = key->event[event] >> 1, slot = -1;
        if (key->event[event] & 1) { cut(used, x->slot[op], W); continue; }
        for (int w = 0; w < W && slot < 0; w++) if (~used[w]) slot = w * 64 + lowest(~used[w]);
        if (slot < 0) return 0;
        x->slot[op] = slot;
        put(used, slot, W);
    }
    return 1;
}

/* For each operation that needs a state: the last call, before its return, of one that leaves that state. */
static void watch_makers(Search *x) {
    Key *key = x->key;
    i32 *last = fresh(key->pool, 4ul * (size_t)(key->states + 1));
    x->last_maker = fresh(key->pool, 4ul * (size_t)(key->count + 1));
    x->watch_next = fresh(key->pool, 4ul * (size_t)(key->count + 1));
    x->watched = fresh(key->pool, 4ul * (size_t)(key->events + 1));
    memset(last, 0xff, 4ul * (size_t)(key->states + 1));
    memset(x->watched, 0xff, 4ul * (size_t)(key->events + 1));
    for (int i = 0; i < key->count; i++) x->last_maker[i] = NEVER;
    for (int event = 0; event < key->events; event++) {
        int op = key->event[event] >> 1;
        const Kind *k = &key->kind[key->kind_of[op]];
        if (!(key->event[event] & 1)) {
            if (!(k->flags & OBSERVES)) last[k->makes] = event;
        } else if (k->mode == READ || k->mode == CAS) {
            int call = x->last_maker[op] = last[k->needs];
            if (call >= 0) { x->watch_next[op] = x->watched[call]; x->watched[call] = op; }
        }
    }
    dropped(last);
}

static void remember_open(Search *x) {
    const Key *key = x->key;
    const int most = x->W * 64;
    x->open_at = fresh(key->pool, 4ul * (size_t)(key->events / EVERY + 1) * (size_t)most);
    i32 *open = fresh(key->pool, 4ul * (size_t)most), *place = fresh(key->pool, 4ul * (size_t)(key->count + 1));
    int count = 0;
    for (int event = 0; event < key->events; event++) {
        if (event % EVERY == 0) {
            i32 *to = x->open_at + (size_t)(event / EVERY) * (size_t)most;
            int n = 0;
            for (int i = 0; i < count; i++) if (key->ret[open[i]] < NEVER) to[n++] = open[i];
            if (n < most) to[n] = -1;
        }
        int op = key->event[event] >> 1;
        if (key->event[event] & 1) {
            int at = place[op];
            open[at] = open[--count];
            place[open[at]] = at;
        } else {
            place[op] = count;
            open[count++] = op;
        }
    }
    dropped(open);
    dropped(place);
}

/* Whether the return at `failed` cannot be explained, judging by the last `window` events alone: begun in every state
   that there could have been, with all that was open then optional. */
static int refuted(Search *x, int failed, int window, int relaxed, int most) {
    Key *key = x->key;
    const int W = x->W, begin = failed + 1 - window > 0 ? failed + 1 - window : 0;
    u64 none[WIDEST] = { 0 }, may[WIDEST] = { 0 };
    emptied(&x->now);
    if (begin == 0) {
        reopen(x, NULL, 0, 0);
        add(x, &x->now, key->initial, none, none, W);
    } else {
        if (!key->named || key->dead >= 0 || key->states > 4 * most) return 0;  /* states are not at hand */
        i32 *ops = fresh(key->pool, 4ul * (size_t)(W * 64 + EVERY));
        int count = 0;
        if (!x->open_at) remember_open(x);
        const i32 *before = x->open_at + (size_t)(begin / EVERY) * (size_t)(W * 64);
        for (int op = 0; op < key->count && key->call[op] < begin; op++) if (key->ret[op] >= NEVER) ops[count++] = op;
        for (int i = 0; i < W * 64 && before[i] >= 0; i++) if (key->ret[before[i]] >= begin) ops[count++] = before[i];
        for (int event = begin / EVERY * EVERY; event < begin; event++) {
            int op = key->event[event] >> 1;
            if (!(key->event[event] & 1) && key->ret[op] >= begin && key->ret[op] < NEVER) ops[count++] = op;
        }
        reopen(x, ops, count, begin);
        for (int i = 0; i < count; i++) put(may, x->slot[ops[i]], W);
        /* a value whose every maker returned before some later overwrite was called has surely gone */
        int overwritten = -1;
        for (int event = begin - 1; event > overwritten; event--) {
            int op = key->event[event] >> 1;
            if (key->event[event] & 1 && key->kind[key->kind_of[op]].flags & OVERWRITES && key->call[op] > overwritten)
                overwritten = key->call[op];
        }
        u8 *possible = zeroed(key->pool, (size_t)key->states);
        if (overwritten < 0) possible[key->initial] = 1;
        for (int event = overwritten < 0 ? 0 : overwritten; event < begin; event++) {
            const Kind *k = &key->kind[key->kind_of[key->event[event] >> 1]];
            if ((key->event[event] & 1 || overwritten < 0) && !(k->flags & OBSERVES)) possible[k->makes] = 1;
        }
        for (int i = 0; i < count; i++) {
            const Kind *k = &key->kind[key->kind_of[ops[i]]];
            if (!(k->flags & OBSERVES)) possible[k->makes] = 1;
        }
        for (int state = 0; state < key->states; state++) {
            if (!possible[state]) continue;
            u64 done2[WIDEST] = { 0 }, may2[WIDEST];
            memcpy(may2, may, sizeof may2);
            observe(x, state, done2, may2, W);
            add(x, &x->now, state, done2, may2, W);
        }
        dropped(possible);
        dropped(ops);
    }
    Way way = { .from = begin, .until = failed + 1, .most = most, .relaxed = relaxed };
    return walked(x, &way) == DIED;
}

static void search_begun(Search *x, Key *key, int W) {
    Pool *pool = key->pool;
    const size_t words = (size_t)W, slots = 64 * words, named = words * (size_t)key->named;
    x->key = key;
    x->W = W;
    x->slot = fresh(pool, 4ul * (size_t)(key->count + 1));
    x->place = fresh(pool, 4ul * (size_t)(key->count + 1));
    x->open = fresh(pool, 4 * (slots + 1));
    x->kind = fresh(pool, 4 * slots);
    x->ret = fresh(pool, 4 * slots);
    u64 *masks = fresh(pool, 8 * (8 * words + 4 * named + words * (size_t)key->kinds + words * slots));
    u64 **small[] = { &x->all, &x->observers, &x->crashed, &x->total, &x->free, &x->refusing, &x->lookers, &x->critical };
    u64 **by_state[] = { &x->reading, &x->unlike, &x->from, &x->to };
    for (int i = 0; i < 8; i++, masks += words) *small[i] = masks;
    for (int i = 0; i < 4; i++, masks += named) *by_state[i] = masks;
    x->alike = masks;
    x->earlier = masks + words * (size_t)key->kinds;
}

/* VALID, or INVALID with the event in x->failed. */
static int searched(Search *x, int most_open) {
    Key *key = x->key;
    u64 none[WIDEST] = { 0 };
    x->watch = key->named && key->dead < 0 && most_open >= FEW_OPEN;
    if (x->watch) watch_makers(x);
    reopen(x, NULL, 0, 0);
    x->exact = 1;
    add(x, &x->now, key->initial, none, none, x->W);
    int level = 0, furthest = -1, window = 0;
    Way way = { .until = key->events, .saving = 1, .calm = INT32_MAX };
    for (;;) {
        const i64 beam = key->job->beam << 2 * level;
        way.beam = (int)(beam < WIDEST_BEAM ? beam : WIDEST_BEAM);
        x->sparing = level == 0;
        int end = walked(x, &way);
        x->sparing = 0;
        if (end == REACHED) { x->explained = key->events; return VALID; }
        if (end == CALM) {  /* past what was hard: narrow again */
            level = 0;
            way.calm = INT32_MAX;
            way.from = x->failed;
            continue;
        }
        int failed = x->failed;
        if (failed > furthest) { furthest = x->explained = failed; window = 0; }
        if (x->exact) return INVALID;
        /* the beam died: was it bound to?  Look at ever longer stretches before it, the most relaxed first */
        if (key->job->model) goto widen;  /* states are not at hand, and what is never used up would make ever more */
        int exact = x->exact, first = window ? 4 * window : EVERY, last = window ? first : 4 * EVERY;
        for (int size = first; size <= last; size *= 4) {
            for (int relaxed = ALL_OPTIONAL; relaxed >= EXACT; relaxed--)
                if (refuted(x, failed, size, relaxed, 256 << level)) { x->failed = failed; return INVALID; }
            window = size;
            if (size > failed) break;
        }
        x->exact = exact;
    widen:  /* go back, further each time, and come again with a wider beam until well past this place */
        if (level < 12) level++;
        int back = failed - (EVERY << level), at = x->saves - 1;
        while (at > 0 && x->saved[at].event > back) at--;
        const Checkpoint *saved = &x->saved[at];
        copy_live(key->pool, &x->now, &saved->set, x->W);
        reopen(x, saved->open, saved->opened, saved->event);
        x->exact = saved->exact;
        x->saves = at + 1;
        way.from = saved->event;
        way.calm = furthest + EVERY;
    }
}

/* ------------------------------------------------------------------------------ no search: every value written once

   Gibbons & Korach, "Testing shared memories" (1997), with appends.  A read of `P e1 .. ek` says that the overwrite P
   and the appends e1 .. ek follow each other.  All reads that begin with P are prefixes of one chain, and the chain
   with its reads is a block that no other write may enter.  (In a register each block is a write and its reads.)
   Within a block, ranks: write j has rank 2j, reads of what it left 2j + 1; nothing may return before something of a
   lower rank was called.  Between blocks: X must precede Y where X's first return is before Y's last call.  That has
   a cycle only if it has one of two blocks, so the blocks with first return < last call must be disjoint intervals,
   and none may contain a whole block of the other sort.  A write that nobody saw is a block of its own; if it crashed
   as well, it need not have happened. */

typedef struct { i32 first_return, last_call; } Zone;
typedef struct { i32 *block, *rank; int blocks; } Chains;  /* by operation; who wrote a value is its number */

static int by_first_return(const void *a, const void *b) {
    i32 x = ((const Zone *)a)->first_return, y = ((const Zone *)b)->first_return;
    return x < y ? -1 : x > y;
}

/* Cut each text that was read into values written, and so place the writes and the reads; false: it cannot be. */
static int texts_placed(Key *key, const Word *written, int writes, const Word *outputs, int count, Chains *chains, i32 *block, i32 *rank) {
    i32 *ends = fresh(key->pool, 4ul * (size_t)(writes + 1));  /* of the values in the last text that was cut */
    int parts = 0, its_block = 0, first_rank = 0;
    for (int i = count - 1; i >= 0; i--) {  /* the longest first: what is a prefix of it comes right after */
        const Text *text = &outputs[i].text, *longer = i + 1 < count ? &outputs[i + 1].text : NULL;
        if (!text->size) { block[i] = 0; rank[i] = 1; continue; }
        if (longer && parts && begins_with(longer, text)) {
            int low = 0, high = parts;
            while (low < high) {
                int middle = (low + high) / 2;
                if (ends[middle] < text->size) low = middle + 1; else high = middle;
            }
            if (low == parts || ends[low] != text->size) return 0;
            block[i] = its_block;
            rank[i] = first_rank + 2 * low;
            continue;
        }
        parts = 0;
        int now = -1, at_rank = 1;
        for (i64 at = 0; at < text->size;) {
            const Text rest = text_at(text->bytes + at, text->size - at);
            int low = 0;  /* the last value that is not above the rest of the text */
            for (int left = writes; left;) {
                const int half = left / 2, below = not_above(&written[low + half].text, &rest);
                low += below ? half + 1 : 0;
                left = below ? left - half - 1 : half;
            }
            if (!low || !begins_with(&rest, &written[low - 1].text)) return 0;
            const i32 op = key->job->marks[written[low - 1].value].number;
            if (now < 0 && key->act[op].mode == WRITE) {
                if (chains->block[op] < 0) { chains->block[op] = chains->blocks++; chains->rank[op] = 0; }
                now = chains->block[op];
            } else {
                if (key->act[op].mode == WRITE) return 0;
                if (now < 0) now = 0;  /* appended to the initial, empty text */
                if (chains->block[op] < 0) { chains->block[op] = now; chains->rank[op] = at_rank + 1; }
                if (chains->block[op] != now || chains->rank[op] != at_rank + 1) return 0;
                at_rank += 2;
            }
            if (!parts) { its_block = now; first_rank = at_rank; }
            at += written[low - 1].text.size;
            ends[parts++] = (i32)at;
        }
        block[i] = now;
        rank[i] = at_rank;
    }
    return 1;
}

/* Whether each block keeps time within itself; what it spans goes into `zones`. */
static int blocks_keep_time(Key *key, const Chains *chains, Zone *zones) {
    Pool *pool = key->pool;
    const int count = key->count, blocks = chains->blocks;
    const i32 *block = chains->block, *rank = chains->rank;
    i32 *base = zeroed(pool, 4ul * (size_t)(blocks + 1));
    for (int op = 0; op < count; op++)
        if (block[op] >= 0 && rank[op] + 1 > base[block[op] + 1]) base[block[op] + 1] = rank[op] + 1;
    for (int i = 0; i < blocks; i++) base[i + 1] += base[i];
    i32 *last_call = fresh(pool, 4ul * (size_t)(base[blocks] + 1));  /* at this rank or a lower one */
    u8 *written = zeroed(pool, (size_t)base[blocks] + 1);
    for (int i = 0; i < base[blocks]; i++) last_call[i] = -1;
    for (int i = 0; i < blocks; i++) zones[i] = (Zone){ i ? INT32_MAX : -1, -1 };
    for (int op = 0; op < count; op++) {
        if (block[op] < 0) continue;
        int cell = base[block[op]] + rank[op];
        Zone *zone = &zones[block[op]];
        if (key->act[op].mode != READ && written[cell]++) return 0;  /* two reads disagree on the order of writes */
        if (key->call[op] > last_call[cell]) last_call[cell] = key->call[op];
        if (key->call[op] > zone->last_call) zone->last_call = key->call[op];
        if (key->ret[op] < zone->first_return) zone->first_return = key->ret[op];
    }
    for (int i = 0; i < blocks; i++)
        for (int cell = base[i] + 1; cell < base[i + 1]; cell++)
            if (last_call[cell] < last_call[cell - 1]) last_call[cell] = last_call[cell - 1];
    for (int op = 0; op < count; op++)
        if (block[op] >= 0 && rank[op] && key->ret[op] < last_call[base[block[op]] + rank[op] - 1]) return 0;
    dropped(base);
    dropped(last_call);
    dropped(written);
    return 1;
}

static int blocks_fit(Zone *zones, int count) {
    int forward = 0;
    for (int i = 0; i < count; i++) {
        if (zones[i].first_return >= zones[i].last_call) continue;
        Zone zone = zones[i];
        zones[i] = zones[forward];
        zones[forward++] = zone;
    }
    qsort(zones, (size_t)forward, sizeof(Zone), by_first_return);
    for (int i = 1; i < forward; i++) if (zones[i].first_return < zones[i - 1].last_call) return 0;
    for (int i = forward; i < count; i++) {
        if (zones[i].last_call < 0) continue;
        int low = 0, high = forward;
        while (low < high) {
            int middle = (low + high) / 2;
            if (zones[middle].first_return < zones[i].last_call) low = middle + 1; else high = middle;
        }
        if (low && zones[i].first_return < zones[low - 1].last_call) return 0;
    }
    return 1;
}

/* VALID or INVALID, or -1 where some value is written twice, or there is a compare-and-set. */
static int zones_judged(Key *key) {
    Job *job = key->job;
    Pool *pool = key->pool;
    const int count = key->count;
    Chains chains = { NULL, NULL, 1 };  /* block 0: what was there in the beginning */
    Word *written = key->texts ? fresh(pool, sizeof(Word) * (size_t)(count + 1)) : NULL;
    int writes = 0;
    const i32 stamp = ++job->stamp;
    if (!key->texts) job->marks[job->initial].stamp = stamp;
    for (int op = 0; op < count; op++) {
        const Act *act = &key->act[op];
        if (act->mode == READ) continue;
        if (act->mode != WRITE && act->mode != APPEND) return -1;
        Mark *mark = &job->marks[act->makes];
        if (mark->stamp == stamp) return -1;
        mark->stamp = stamp;
        mark->number = op;
        if (key->texts) {
            written[writes] = (Word){ job->texts[act->makes], act->makes };
            if (!written[writes].text.size) return -1;
        }
        writes++;
    }
    chains.block = fresh(pool, 4ul * (size_t)(count + 1));
    chains.rank = fresh(pool, 4ul * (size_t)(count + 1));
    for (int op = 0; op < count; op++) chains.block[op] = -1;
    if (!key->texts) {
        for (int op = 0; op < count; op++) {
            if (key->act[op].mode != READ) continue;
            i32 value = key->act[op].needs;
            if (value == job->initial) { chains.block[op] = 0; chains.rank[op] = 1; continue; }
            if (job->marks[value].stamp != stamp) return INVALID;  /* nobody wrote it */
            int writer = job->marks[value].number;
            if (chains.block[writer] < 0) { chains.block[writer] = chains.blocks++; chains.rank[writer] = 0; }
            chains.block[op] = chains.block[writer];
            chains.rank[op] = 1;
        }
    } else {
        Word *outputs = fresh(pool, sizeof(Word) * (size_t)(count + 1));
        int outs = 0;
        sort_words(pool, written, writes);
        for (int i = 1; i < writes; i++)
            if (begins_with(&written[i].text, &written[i - 1].text)) return -1;  /* two ways to cut a text */
        for (int op = 0; op < count; op++) {
            const i32 value = key->act[op].needs;
            if (key->act[op].mode != READ || job->marks[value].placed == stamp) continue;
            job->marks[value].placed = stamp;
            outputs[outs] = (Word){ job->texts[value], value };
            __builtin_prefetch(outputs[outs++].text.bytes);
        }
        sort_words(pool, outputs, outs);
        i32 *block = fresh(pool, 4ul * (size_t)(outs + 1)), *rank = fresh(pool, 4ul * (size_t)(outs + 1));
        if (!texts_placed(key, written, writes, outputs, outs, &chains, block, rank)) return INVALID;
        for (int i = 0; i < outs; i++) job->marks[outputs[i].value].place = i;
        for (int op = 0; op < count; op++) {
            if (key->act[op].mode != READ) continue;
            int i = job->marks[key->act[op].needs].place;
            chains.block[op] = block[i];
            chains.rank[op] = rank[i];
        }
    }
    Zone *zones = fresh(pool, sizeof(Zone) * (size_t)(chains.blocks + count + 1));
    if (!blocks_keep_time(key, &chains, zones)) return INVALID;
    int all = chains.blocks;
    for (int op = 0; op < count; op++)
        if (chains.block[op] < 0 && key->ret[op] < NEVER) zones[all++] = (Zone){ key->ret[op], key->call[op] };
    return blocks_fit(zones, all) ? VALID : INVALID;
}

/* ------------------------------------------------------------------------------------------------ a key */

INLINE Act act_of(const Job *job, i64 row, int returned) {
    if (job->model) {
        const int looks = (int)job->looks[job->f[row]];
        return (Act){ !looks ? STEP : returned ? LOOK : NOTHING, 0, job->same[row] };
    }
    if (!job->roles) {
        const i64 *effect = job->effects + 3 * job->kind[row];
        Act act = { (i32)effect[0], (i32)effect[1], (i32)effect[2] };
        if (!returned && (act.mode == READ || act.mode == REFUSED || (act.mode == CAS && act.needs == act.makes)))
            act.mode = NOTHING;
        return act;
    }
    const int role = (int)job->roles[job->f[row]];
    const i32 value = (i32)job->value[row], result = (i32)job->result[row];
    if (role == READ) return (Act){ returned ? READ : NOTHING, result, 0 };
    if (role != CAS) return (Act){ role, 0, value };
    const i32 old = (i32)job->halves[2 * value], new = (i32)job->halves[2 * value + 1];
    if (returned && result == job->refused) return (Act){ REFUSED, old, 0 };
    return (Act){ !returned && old == new ? NOTHING : CAS, old, new };
}

/* The small number of a value among those of this key. */
static i32 numbered(Key *key, i32 value) {
    Job *job = key->job;
    Mark *mark = &job->marks[value];
    if (mark->stamp != job->stamp) {
        mark->stamp = job->stamp;
        mark->number = key->states++;
    }
    return mark->number;
}

static void outputs_sorted(Key *key) {
    Job *job = key->job;
    const i32 stamp = ++job->stamp;
    key->output = fresh(key->pool, sizeof(Word) * (size_t)(key->count + 1));
    for (int op = 0; op < key->count; op++) {
        i32 value = key->act[op].needs;
        if (key->act[op].mode != READ || job->marks[value].stamp == stamp) continue;
        job->marks[value].stamp = stamp;
        key->output[key->outputs++] = (Word){ job->texts[value], value };
    }
    sort_words(key->pool, key->output, key->outputs);
    key->dead = prefix_state(key, (Prefix){ 0, 0, INT32_MAX });
    key->initial = extended(key, (Prefix){ 0, key->outputs, 0 }, 0);  /* value 0 is the empty text */
    for (int i = 0; i < key->outputs; i++)
        job->marks[key->output[i].value].number = extended(key, (Prefix){ i, key->outputs, 0 }, key->output[i].value);
}

static void kinds_numbered(Key *key) {
    Job *job = key->job;
    Pool *pool = key->pool;
    key->dead = -1;
    ++job->stamp;
    if (key->texts) outputs_sorted(key);
    else if (!job->model) key->initial = numbered(key, (i32)job->initial);
    else key->initial = (i32)job->initial;
    u32 room = 64;
    while (room < 2u * (u32)key->count) room *= 2;
    u64 *marks = zeroed(pool, 8ul * room);
    i32 *kinds = fresh(pool, 4ul * room);
    key->kind = fresh(pool, sizeof(Kind) * (size_t)(key->count + 1));
    key->kind_of = fresh(pool, 4ul * (size_t)(key->count + 1));
    for (int op = 0; op < key->count; op++) {
        Act act = key->act[op];
        if (key->texts) {
            if (act.mode == READ) act.needs = job->marks[act.needs].number;
        } else if (!job->model) {
            act.needs = act.mode == WRITE ? 0 : numbered(key, act.needs);
            act.makes = act.mode == WRITE || act.mode == CAS ? numbered(key, act.makes) : 0;
        }
        const u64 mark = ((u64)(act.mode + 1) << 60) ^ ((u64)(u32)act.needs << 30) ^ (u64)(u32)act.makes;
        u32 at = scattered(mark) & (room - 1);
        while (marks[at] && marks[at] != mark) at = (at + 1) & (room - 1);
        if (!marks[at]) {
            marks[at] = mark;
            kinds[at] = key->kinds;
            Kind *kind = &key->kind[key->kinds++];
            *kind = (Kind){ act.mode, act.needs, act.makes, 0 };
            switch (act.mode) {
            case READ: case REFUSED: case LOOK: kind->flags = OBSERVES; break;
            case WRITE: kind->flags = OVERWRITES | TOTAL; break;
            case APPEND: kind->flags = TOTAL; break;
            case CAS: kind->flags = act.needs == act.makes ? OBSERVES : 0; break;
            }
            if (key->texts && act.mode == WRITE) kind->makes = extended(key, (Prefix){ 0, key->outputs, 0 }, act.makes);
        }
        key->kind_of[op] = kinds[at];
    }
    key->named = job->model ? 0 : key->states;
    dropped(marks);
    dropped(kinds);
}

static void key_read(Key *key, Job *job, i64 which) {
    Pool *pool = key->pool;
    key->job = job;
    key->texts = job->texts != NULL;
    key->count = job->row_of[which + 1] - job->row_of[which];
    key->events = job->event_of[which + 1] - job->event_of[which];
    key->event = job->events + job->event_of[which];
    key->row = job->rows_of + job->row_of[which];
    key->act = job->acts + job->row_of[which];
    key->call = fresh(pool, 4ul * (size_t)(key->count + 1));
    key->ret = fresh(pool, 4ul * (size_t)(key->count + 1));
    for (int op = 0; op < key->count; op++) key->ret[op] = NEVER + op;
    for (int event = 0, open = 0; event < key->events; event++) {
        int op = key->event[event] >> 1;
        if (key->event[event] & 1) {
            key->ret[op] = event;
            open--;
        } else {
            key->call[op] = event;
            if (++open > key->open) key->open = open;
        }
    }
}

static int key_judged(Key *key, Search *x) {
    if (key->job->zones && !key->job->model) {
        int answer = zones_judged(key);
        if (answer >= 0) {
            x->explained = answer == VALID ? key->events : 0;
            return answer;
        }
    }
    kinds_numbered(key);
    const int most = key->open;
    if (most > 64 * WIDEST) return WIDE;
    search_begun(x, key, most <= 64 ? 1 : most <= 128 ? 2 : WIDEST);
    x->limit = (u64)key->job->limit;
    if (!slots_given(x)) return WIDE;
    return searched(x, most);
}

/* ----------------------------------------------------------------------------------------------- all keys */

/* For each row the first one with the same f, value and result (if known). */
static void alike_found(Job *job) {
    u32 room = 64;
    while (room < 2u * (u64)job->rows) room *= 2;
    i32 *first = fresh(&job->pool, 4ul * room);
    memset(first, 0xff, 4ul * room);
    job->same = fresh(&job->pool, 4ul * (size_t)(job->rows + 1));
    for (i64 row = 0; row < job->rows; row++) {
        const int known = job->type[row] == OK && job->ret[row] <= job->until;
        const u64 mark = (u64)job->f[row] << 58 ^ (u64)job->value[row] << 29 ^ (u64)(known ? job->result[row] + 1 : 0);
        u32 at = scattered(mark) & (room - 1);
        for (; first[at] >= 0; at = (at + 1) & (room - 1)) {
            const i64 other = first[at];
            const int its = job->type[other] == OK && job->ret[other] <= job->until;
            if (its == known && job->f[other] == job->f[row] && job->value[other] == job->value[row]
                && (!known || job->result[other] == job->result[row])) break;
        }
        if (first[at] < 0) first[at] = (i32)row;
        job->same[row] = first[at];
    }
    dropped(first);
}

/* Sort rows and events by key, in the order of time: events are dense, so nothing is compared.  SHAPE if some
   operation is not what its model can read. */
static int partitioned(Job *job) {
    Pool *pool = &job->pool;
    const i64 rows = job->rows;
    const i64 last = 2 * rows - 1;
    if (job->model) alike_found(job);
    job->row_of = zeroed(pool, 4ul * (size_t)(job->keys + 2));
    job->event_of = zeroed(pool, 4ul * (size_t)(job->keys + 2));
    i32 *at = fresh(pool, 4ul * (size_t)(last + 2)), *local = fresh(pool, 4ul * (size_t)(rows + 1));
    Act *acts = fresh(pool, sizeof(Act) * (size_t)(rows + 1));
    memset(at, 0xff, 4ul * (size_t)(last + 2));
    for (i64 row = 0; row < rows; row++) {
        const i64 key = job->key[row];
        if (job->roles) {
            const i64 role = job->roles[job->f[row]];
            if (role < 0 || (role == CAS && job->halves[2 * job->value[row]] < 0)) return SHAPE;
            if (job->texts && role != READ && !job->value[row]) return SHAPE;  /* None is no text */
        }
        if (job->type[row] == FAIL || job->call[row] > job->until || (job->only >= 0 && key != job->only)) continue;
        const int returned = job->type[row] == OK && job->ret[row] >= 0 && job->ret[row] <= job->until;
        acts[row] = act_of(job, row, returned);
        if (acts[row].mode == NOTHING) continue;
        job->row_of[key + 1]++;
        job->event_of[key + 1] += 1 + returned;
        if (at[job->call[row]] >= 0 || (returned && at[job->ret[row]] >= 0)) return SHAPE;
        at[job->call[row]] = (i32)row << 1;
        if (returned) at[job->ret[row]] = (i32)row << 1 | 1;
    }
    for (i64 key = 0; key < job->keys; key++) {
        job->row_of[key + 1] += job->row_of[key];
        job->event_of[key + 1] += job->event_of[key];
    }
    job->rows_of = fresh(pool, 4ul * (size_t)(job->row_of[job->keys] + 1));
    job->acts = fresh(pool, sizeof(Act) * (size_t)(job->row_of[job->keys] + 1));
    job->events = fresh(pool, 4ul * (size_t)(job->event_of[job->keys] + 1));
    i32 *filled = zeroed(pool, 8ul * (size_t)(job->keys + 1)), *placed = filled + job->keys;
    for (i64 position = 0; position <= last; position++) {
        if (at[position] < 0) continue;
        const i32 row = at[position] >> 1, key = (i32)job->key[row];
        if (!(at[position] & 1)) {
            local[row] = filled[key]++;
            job->rows_of[job->row_of[key] + local[row]] = row;
            job->acts[job->row_of[key] + local[row]] = acts[row];
        }
        job->events[job->event_of[key] + placed[key]++] = local[row] << 1 | (at[position] & 1);
    }
    dropped(at);
    dropped(acts);
    dropped(local);
    dropped(filled);
    return VALID;
}

static i64 returns_among(const i32 *event, i64 count) {
    i64 returns = 0;
    for (i64 i = 0; i < count; i++) returns += event[i] & 1;
    return returns;
}

static int history_read(Job *job) {
    if (setjmp(job->escape.out)) return job->escape.why;
    job->marks = zeroed(&job->pool, sizeof(Mark) * (size_t)(job->values + 1));
    job->shared->said = fresh(&job->pool, sizeof(Said) * (size_t)(job->keys + 1));
    for (i64 which = 0; which < job->keys; which++) job->shared->said[which] = (Said){ .answer = -1 };
    return partitioned(job);
}

static int key_answered(Key *key, Search *search, Job *job, i64 which) {
    if (setjmp(job->escape.out)) return job->escape.why;
    key_read(key, job, which);
    return key_judged(key, search);
}

/* Judge one key after another, of those that no other thread has begun. */
static void keys_judged(Job *job) {
    Shared *shared = job->shared;
    Block room[ROOM / sizeof(Block)];
    Pool pool;
    pool_open(&pool, &job->escape, room);
    for (;;) {
        const i32 which = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED);
        i32 last = __atomic_load_n(&shared->last, __ATOMIC_RELAXED);
        if (which >= job->keys || which > last || __atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) break;
        if (job->event_of[which] == job->event_of[which + 1]) continue;
        Key key = { .pool = &pool };
        Search search = { .failed = -1 };
        job->which = which;
        const int answer = key_answered(&key, &search, job, which);
        const i32 *event = job->events + job->event_of[which];
        const int found = answer == INVALID && search.failed >= 0;
        shared->said[which] = (Said){
            answer, found ? job->rows_of[job->row_of[which] + (event[search.failed] >> 1)] : -1, search.work,
            returns_among(event, search.explained),
        };
        pool_close(&pool);
        if (answer == STOPPED) break;  /* time is up, or a model raised something */
        if (answer == INVALID)
            while (which < last && !__atomic_compare_exchange_n(&shared->last, &last, which, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) { }
    }
}

static void *helped(void *asked) {
    Job job = *(const Job *)asked;
    job.helps = 1;
    job.stamp = 0;
    job.marks = calloc((size_t)job.values + 1, sizeof(Mark));
    if (job.marks) keys_judged(&job);
    free(job.marks);
    pthread_mutex_lock(&job.shared->lock);
    if (!--job.shared->busy) pthread_cond_signal(&job.shared->done);
    pthread_mutex_unlock(&job.shared->lock);
    return NULL;
}

#ifdef __APPLE__
enum { WAITED = CLOCK_REALTIME };
static void waits_made(Shared *shared) { pthread_cond_init(&shared->done, NULL); }
#else
enum { WAITED = CLOCK_MONOTONIC };  /* which nobody sets back */
static void waits_made(Shared *shared) {
    pthread_condattr_t how;
    pthread_condattr_init(&how);
    pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
    pthread_cond_init(&shared->done, &how);
    pthread_condattr_destroy(&how);
}
#endif

/* Wait for the helpers, and look at the clock for them. */
static void helpers_awaited(Job *job) {
    Shared *shared = job->shared;
    job->which = -1;
    pthread_mutex_lock(&shared->lock);
    while (shared->busy) {
        struct timespec until;
        clock_gettime(WAITED, &until);
        until.tv_nsec += 10000000;
        if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
        if (!pthread_cond_timedwait(&shared->done, &shared->lock, &until)) continue;
        pthread_mutex_unlock(&shared->lock);
        late(job);
        pthread_mutex_lock(&shared->lock);
    }
    pthread_mutex_unlock(&shared->lock);
}

/* Judge the keys up to the first violation, side by side where that is asked for: what is said is the same.  `found` gets
   (key, answer, row, returns explained) of each that is not valid; `sums` the work and the returns explained in all. */
static int judged(Job *job, i64 *found, int *count, u64 *sums) {
    Block room[ROOM / sizeof(Block)];
    Shared shared = { .last = INT32_MAX };
    job->shared = &shared;
    pool_open(&job->pool, &job->escape, room);
    const int read = history_read(job);
    if (read == VALID) {
        pthread_t helpers[HELPERS];
        int begun = 0, several = 0;
        for (i64 which = 0; which < job->keys && several < job->threads; which++) several += job->event_of[which] < job->event_of[which + 1];
        if (several > 1) {
            pthread_mutex_init(&shared.lock, NULL);
            waits_made(&shared);
            pthread_mutex_lock(&shared.lock);
            while (begun < HELPERS && begun + 1 < several && !pthread_create(&helpers[begun], NULL, helped, job)) begun++;
            shared.busy = begun;
            pthread_mutex_unlock(&shared.lock);
        }
        Job mine = *job;
        keys_judged(&mine);
        if (begun) helpers_awaited(&mine);
        job->thread = mine.thread;
        for (int i = 0; i < begun; i++) pthread_join(helpers[i], NULL);
        if (several > 1) {
            pthread_cond_destroy(&shared.done);
            pthread_mutex_destroy(&shared.lock);
        }
    }
    for (i64 which = 0; read == VALID && which < job->keys; which++) {
        Said *said = &shared.said[which];
        /* one that was begun, or would have been, when time was up */
        if (said->answer < 0 && shared.stop && job->event_of[which] < job->event_of[which + 1]) *said = (Said){ STOPPED, -1, 0, 0 };
        if (said->answer < 0) continue;
        sums[0] += said->work;
        sums[1] += (u64)said->explained;
        if (said->answer == VALID) continue;
        i64 *its = found + 4 * (*count)++;
        its[0] = which;
        its[1] = said->answer;
        its[2] = said->row;
        its[3] = said->explained;
        if (said->answer == INVALID) break;
    }
    pool_close(&job->pool);
    return read;
}

/* ------------------------------------------------------------------------------------------- the face to Python */

/* What `taken` gives: the values as texts, and a tuple that keeps them. */
typedef struct { PyObject *values; i64 count; Text text[]; } Taken;

static const char *const TAKEN = "harness.checkers._linearize.taken";

static void taken_back(PyObject *capsule) {
    Taken *taken = PyCapsule_GetPointer(capsule, TAKEN);
    if (!taken) return;
    Py_DECREF(taken->values);
    free(taken);
}

/* False, perhaps with an exception, where a value is neither None nor a text of this sort, or has no UTF-8. */
static int text_of(PyObject *value, int bytes, Text *text) {
    Py_ssize_t size = 0;
    const char *its = "";
    char *held;
    if (!value) return 0;
    if (bytes && PyBytes_Check(value)) {
        if (PyBytes_AsStringAndSize(value, &held, &size)) return 0;
        its = held;
    } else if (!bytes && PyUnicode_Check(value)) {
        if (!(its = PyUnicode_AsUTF8AndSize(value, &size))) {
            if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) PyErr_Clear();
            return 0;
        }
    } else if (value != Py_None) return 0;
    if (size > MOST) { PyErr_SetString(PyExc_OverflowError, "a text is too long"); return 0; }
    *text = text_at((const u8 *)its, (i64)size);
    return 1;
}

PyDoc_STRVAR(taken_doc,
"taken(values, bytes) -> texts for `search`, or None where not all are str (bytes: of bytes) or None, or one has no UTF-8.\n\n"
"They are those that are in the list now.");

static PyObject *taken(PyObject *module, PyObject *arguments) {
    PyObject *values;
    int bytes;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "Op", &values, &bytes)) return NULL;
    if (!PyList_Check(values)) { PyErr_SetString(PyExc_TypeError, "the values are not a list"); return NULL; }
    if (!(values = PyList_AsTuple(values))) return NULL;
    const Py_ssize_t count = PyTuple_Size(values);
    Taken *texts = malloc(sizeof(Taken) + sizeof(Text) * (size_t)count);
    if (!texts) { Py_DECREF(values); return PyErr_NoMemory(); }
    *texts = (Taken){ values, (i64)count };
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            const char *later = (const char *)PyTuple_GetItem(values, i + AHEAD);
            __builtin_prefetch(later);
            __builtin_prefetch(later + 56);  /* where its letters are */
        }
        if (!text_of(PyTuple_GetItem(values, i), bytes, &texts->text[i])) {
            free(texts);
            Py_DECREF(values);
            if (PyErr_Occurred()) return NULL;
            Py_RETURN_NONE;
        }
    }
    PyObject *capsule = PyCapsule_New(texts, TAKEN, taken_back);
    if (!capsule) { free(texts); Py_DECREF(values); }
    return capsule;
}

static const char *const MODEL = "harness.checkers._linearize.model";

static void model_back(PyObject *capsule) {
    Model *model = PyCapsule_GetPointer(capsule, MODEL);
    if (!model) return;
    for (int i = 0; i < OBJECTS; i++) Py_DECREF(model->its[i]);
    for (i64 row = 0; row < model->rows; row++) Py_XDECREF(model->calls[row]);
    pool_close(&model->pool);
    free(model->calls);
    free(model);
}

PyDoc_STRVAR(model_doc,
"model(rows, tried, objects) -> a model that `search` may ask.\n\n"
"The objects: ask(state, call) gives the next state or one of class `inconsistent`; call((f, value, result)) is an operation\n"
"as it sees them, made once of `fs`, `values` and, where no result is known, `unknown`; `states` by number, `numbers` by (type,\n"
"state), or None: then it is not to be used, and state(state) gives the number of a new one.  The first `tried` answers and each that\n"
"is a power of two are asked for twice.  answered(state, row, answer, twice) -> number, and asks again, for whatever is not plain;\n"
"raised(state, row, error, perhaps the first answer) and compared(state, row, answer, again) raise.  That is all, in this order:\n"
"ask, call, fs, values, unknown, states, numbers, state, answered, raised, compared, inconsistent.");

static PyObject *model(PyObject *module, PyObject *arguments) {
    Model made = { 0 };
    PyObject **its = made.its;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "LL(OOOOOOOOOOOO)", &made.rows, &made.tried, its, its + 1, its + 2, its + 3, its + 4, its + 5, its + 6,
            its + 7, its + 8, its + 9, its + 10, its + 11))
        return NULL;
    if (made.rows < 0 || made.rows > MOST || !PyList_Check(its[FS]) || !PyList_Check(its[VALUES]) || !PyList_Check(its[STATES])
        || (its[NUMBERS] != Py_None && !PyDict_Check(its[NUMBERS]))) {
        PyErr_SetString(PyExc_ValueError, "the operations, values and states are not lists, numbers no dict, or there are too many rows");
        return NULL;
    }
    Model *kept = malloc(sizeof(Model));
    made.calls = calloc((size_t)made.rows + 1, sizeof(PyObject *));
    PyObject *capsule = kept && made.calls ? PyCapsule_New(kept, MODEL, model_back) : PyErr_NoMemory();
    if (!capsule) { free(made.calls); free(kept); return NULL; }
    *kept = made;
    pool_open(&kept->pool, NULL, NULL);
    kept->pool.used = ROOM / sizeof(Block);  /* it has no room: each block stands alone */
    for (int i = 0; i < OBJECTS; i++) Py_INCREF(kept->its[i]);
    return capsule;
}

PyDoc_STRVAR(search_doc,
"search(call, ret, key, f, value, result, type, keys, values, roles, halves, refused, texts, kind, effects, looks,\n"
"       initial, model, tick, only, until, limit, configurations, beam, zones, threads) -> (answer, work, explained, found)\n\n"
"Judge each key (or `only` one, from 0), up to the first violation; see harness.checkers.native for the arguments.\n"
"`found` has (key, answer, row, returns explained) of each that is not valid; row -1 where no search was needed.");

static int within(const i64 *column, i64 count, i64 low, i64 high) {
    u64 signs = 0;  /* of all distances from the ends: no jumps, so that many are looked at in one step */
    for (i64 i = 0; i < count; i++) signs |= ((u64)column[i] - (u64)low) | ((u64)high - 1 - (u64)column[i]);
    return signs >> 63 == 0;
}

/* Whether no number in the columns leads out of the tables: what is wrong here would be read from foreign memory. */
static int sound(const Job *job, const Py_buffer *columns, int growing) {
    const i64 rows = job->rows, values = job->values;
    enum { CALL, RET, KEY, F, VALUE, RESULT, TYPE, ROLES, HALVES, KIND, EFFECTS, LOOKS };
    for (int i = CALL; i < TYPE; i++) if (columns[i].len != 8 * rows) return 0;
    if (rows > MOST || values < 1 || values > MOST || job->keys < 0 || job->keys > MOST || job->beam < 1) return 0;
    if (!within(job->call, rows, 0, 2 * rows) || !within(job->ret, rows, -1, 2 * rows) || !within(job->key, rows, 0, job->keys)) return 0;
    for (i64 row = 0; row < rows; row++) if (job->ret[row] >= 0 && job->ret[row] <= job->call[row]) return 0;
    if (!job->model && !job->roles) {
        const i64 kinds = columns[EFFECTS].len / 24;
        if (columns[KIND].len != 8 * rows || !within(job->kind, rows, 0, kinds)) return 0;
        for (const i64 *effect = job->effects; effect < job->effects + 3 * kinds; effect += 3)
            if (!within(effect + 1, 2, 0, values) || (!within(effect, 1, READ, CAS + 1) && *effect != NOTHING)) return 0;
        return job->initial >= 0 && job->initial < values;
    }
    const i64 fs = columns[job->model ? LOOKS : ROLES].len / 8;
    if (!within(job->f, rows, 0, fs)) return 0;
    if (job->model) return job->initial >= 0 && job->initial <= MOST && job->model->rows >= rows;
    if (job->initial || !within(job->value, rows, 0, values) || !within(job->result, rows, 0, values)) return 0;
    for (i64 f = 0; f < fs; f++) if (job->roles[f] == REFUSED || job->roles[f] == (growing ? CAS : APPEND)) return 0;
    return within(job->roles, fs, -1, APPEND + 1) && columns[HALVES].len == 16 * values && within(job->halves, 2 * values, -1, values);
}

static PyObject *search(PyObject *module, PyObject *arguments) {
    Job job = { 0 };
    Py_buffer columns[12] = { 0 };
    PyObject *texts, *asked;
    i64 *found = NULL;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(
            arguments, "y*y*y*y*y*y*y*LLz*z*LOz*z*z*LOOLLLLLLL", &columns[0], &columns[1], &columns[2], &columns[3], &columns[4],
            &columns[5], &columns[6], &job.keys, &job.values, &columns[7], &columns[8], &job.refused, &texts, &columns[9],
            &columns[10], &columns[11], &job.initial, &asked, &job.tick, &job.only, &job.until, &job.limit, &job.configurations, &job.beam,
            &job.zones, &job.threads))
        return NULL;
    job.call = columns[0].buf; job.ret = columns[1].buf; job.key = columns[2].buf; job.f = columns[3].buf;
    job.value = columns[4].buf; job.result = columns[5].buf; job.type = columns[6].buf;
    job.roles = columns[7].buf; job.halves = columns[8].buf; job.kind = columns[9].buf; job.effects = columns[10].buf; job.looks = columns[11].buf;
    job.rows = (i64)columns[6].len;
    if (asked != Py_None && !(job.model = PyCapsule_GetPointer(asked, MODEL))) goto out;
    if (!sound(&job, columns, texts != Py_None)) {
        PyErr_SetString(PyExc_ValueError, "the columns are not of one length, or not of 64-bit integers, or some number is in no table");
        goto out;
    }
    if (texts != Py_None) {
        const Taken *taken = PyCapsule_GetPointer(texts, TAKEN);
        if (!taken) goto out;
        if (taken->count < job.values) { PyErr_SetString(PyExc_ValueError, "there are more values than texts"); goto out; }
        job.texts = taken->text;
    }
    found = malloc(8 * 4 * (size_t)(job.keys + 1));
    if (!found) { PyErr_NoMemory(); goto out; }
    int count = 0;
    u64 sums[2] = { 0 };
    if (job.model) job.threads = 1; else job.thread = PyEval_SaveThread();
    int answer = judged(&job, found, &count, sums);
    if (job.thread) PyEval_RestoreThread(job.thread);
    if (PyErr_Occurred()) goto out;
    PyObject *list = PyList_New(count);
    for (int i = 0; list && i < count; i++) {
        const i64 *its = found + 4 * i;
        PyObject *item = Py_BuildValue("LLLL", its[0], its[1], its[2], its[3]);
        if (!item || PyList_SetItem(list, i, item)) { Py_DECREF(list); list = NULL; }
    }
    if (list) result = Py_BuildValue("iKKN", answer, sums[0], sums[1], list);
out:
    for (int i = 0; i < 12; i++) if (columns[i].obj) PyBuffer_Release(&columns[i]);
    free(found);
    return result;
}

static PyMethodDef functions[] = {
    { "search", search, METH_VARARGS, search_doc }, { "taken", taken, METH_VARARGS, taken_doc },
    { "model", model, METH_VARARGS, model_doc }, { NULL, NULL, 0, NULL },
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_linearize", "The native kernel of harness.checkers.native.", -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__linearize(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    const struct { const char *name; int value; } names[] = {
        { "VALID", VALID }, { "INVALID", INVALID }, { "LIMIT", LIMIT }, { "MEMORY", MEMORY }, { "WIDE", WIDE },
        { "STOPPED", STOPPED }, { "SHAPE", SHAPE }, { "READ", READ }, { "REFUSED", REFUSED }, { "WRITE", WRITE },
        { "CAS", CAS }, { "APPEND", APPEND }, { "STEP", STEP }, { "LOOK", LOOK }, { "NOTHING", NOTHING },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (PyModule_AddIntConstant(module, names[i].name, names[i].value)) { Py_DECREF(module); return NULL; }
    return module;
}

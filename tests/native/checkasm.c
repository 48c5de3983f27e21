/* Every kernel of every instruction set of this machine against the portable one, on random and on extreme inputs:
 *
 *     checkasm [SEED [ROUNDS]]
 *
 * Both work on copies of the same memory, which are then compared whole: results, inputs, and what lies beyond the ends.
 * Prints a table of nanoseconds for one call at the sizes of a GRU of 352; fails if a byte differs. Under a sanitizer
 * nothing lies beyond the ends, so that reading there is found as well. Made after dav1d's checkasm. */
#define _POSIX_C_SOURCE 200112L
#include "common.h"
#include "tables.h"

#include <time.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif
#define BEYOND (SANITIZED ? 0 : 128) /* bytes on both sides of a buffer that no kernel may touch; a multiple of 64 */

#define MAX_BUFFERS 7
#define WIDTH 352 /* of the level whose sizes are timed */
#define LANES 32  /* and the contexts, a multiple of 16 */

typedef struct {
    uint8_t *memory; /* aligned to 64 bytes */
    size_t size, start;
} Buffer;

/* What a kernel is called with. */
typedef struct {
    Buffer buffer[MAX_BUFFERS];
    int buffers, n, m;
    int32_t scalar, result;
} Call;

/* Where inputs come from. Style 0: anything that is allowed; 1: only the smallest and the largest of it; 2, 3: one of
 * them throughout; 4: near zero, with many ties. `timed`: the sizes of the built-in model. */
typedef struct {
    Random random;
    int style, timed;
} Source;

#define STYLES 5

static int32_t number(Source *s, int32_t low, int32_t high) {
    switch (s->style) {
    case 0: return between(&s->random, low, high);
    case 1: return below(&s->random, 2) ? low : high;
    case 2: return low;
    case 3: return high;
    default: return between(&s->random, low > -3 ? low : -3, high < 3 ? high : 3);
    }
}

/* A multiple of `step`, at most `most` of them; `typical` where speed is measured. */
static int size_of(Source *s, int step, int most, int typical) {
    return s->timed ? (typical + step - 1) / step * step : step * between(&s->random, 1, most);
}

static uint8_t *reserve(Buffer *b) {
    void *memory;
    if (posix_memalign(&memory, 64, b->size ? b->size : 1)) fail("no memory", "test");
    return b->memory = memory;
}

/* One more buffer, `shift` bytes off its alignment; it and what is around it is noise. */
static void *add_buffer(Call *c, Source *s, size_t size, size_t shift) {
    Buffer *b = &c->buffer[c->buffers++];
    *b = (Buffer){.start = BEYOND + shift, .size = BEYOND + shift + size + BEYOND};
    reserve(b);
    for (size_t i = 0; i < b->size; i++) b->memory[i] = (uint8_t)next(&s->random);
    return b->memory + b->start;
}

static void *at(const Call *c, int k) { return c->buffer[k].memory + c->buffer[k].start; }

static Call copy(const Call *c) {
    Call twin = *c;
    for (int k = 0; k < c->buffers; k++) memcpy(reserve(&twin.buffer[k]), c->buffer[k].memory, c->buffer[k].size);
    return twin;
}

static void release(Call *c) {
    while (c->buffers) free(c->buffer[--c->buffers].memory);
}

static int32_t *numbers(Call *c, Source *s, int n, int32_t low, int32_t high, size_t shift) {
    int32_t *values = add_buffer(c, s, (size_t)n * 4, shift);
    for (int i = 0; i < n; i++) values[i] = number(s, low, high);
    return values;
}

static size_t any_shift(Source *s) { return 4 * (size_t)below(&s->random, 16); }

/* ---- the kernels: what each may be called with, and the call ---- */

static void fill_states(Call *c, Source *s) {
    c->n = size_of(s, 16, 4, LANES);
    numbers(c, s, c->n, 0, 255, 0);
    numbers(c, s, c->n, -STRETCH_MAX, STRETCH_MAX, 0);
    numbers(c, s, c->n, 0, 1, 0);
    int32_t *entry = numbers(c, s, c->n, INT32_MIN, INT32_MAX, 0);
    for (int i = 0; i < c->n; i++) entry[i] ^= s->style == 4 ? INT32_MIN : 0; /* probabilities of about a half */
    for (int k = 0; k < 2; k++) add_buffer(c, s, (size_t)c->n * 2, 0);
}

static void call_states(const Kernels *k, Call *c) {
    StateInputs in = {at(c, 0), at(c, 1), at(c, 2), at(c, 3)};
    k->state_inputs(&in, c->n, at(c, 4), at(c, 5));
}

static void fill_runs(Call *c, Source *s) {
    c->n = size_of(s, 16, 4, LANES);
    c->m = between(&s->random, 0, 7);                                     /* bit of the byte */
    c->scalar = 1 << c->m | (int32_t)below(&s->random, 1u << c->m);       /* bits before it, with a leading 1 */
    for (int k = 0; k < 2; k++) {
        int32_t *byte = numbers(c, s, c->n, 256, 511, 0);
        for (int i = 0; i < c->n; i++) {
            uint32_t kind = below(&s->random, 4);
            if (kind == 0) byte[i] = 0; /* none */
            if (kind == 1) byte[i] = c->scalar << (8 - c->m) | (int32_t)below(&s->random, 1u << (8 - c->m)); /* it agrees */
        }
    }
    for (int k = 0; k < 2; k++) numbers(c, s, c->n, 0, 1 << 20, 0);
    numbers(c, s, c->n, 0, 1, 0);
    for (int k = 0; k < 2; k++) add_buffer(c, s, (size_t)c->n * 4, 0);
}

static void call_runs(const Kernels *k, Call *c) {
    RunInputs in = {at(c, 0), at(c, 1), at(c, 2), at(c, 3), at(c, 4)};
    k->choose_runs(&in, c->n, (uint32_t)c->scalar, (uint32_t)c->m, at(c, 5), at(c, 6));
}

static void fill_run_inputs(Call *c, Source *s) {
    c->n = size_of(s, 16, 4, LANES);
    numbers(c, s, c->n, -STRETCH_MAX, STRETCH_MAX, 0);
    numbers(c, s, c->n, 0, 1, 0);
    add_buffer(c, s, (size_t)c->n * 2, 0);
}

static void call_run_inputs(const Kernels *k, Call *c) { k->run_inputs(at(c, 0), at(c, 1), c->n, at(c, 2)); }

static void fill_adapt(Call *c, Source *s) {
    c->n = size_of(s, 16, 4, LANES), c->m = between(&s->random, 1, 1023);
    numbers(c, s, c->n, INT32_MIN, INT32_MAX, 0);
    int32_t *target = numbers(c, s, c->n, 0, 1, 0);
    for (int i = 0; i < c->n; i++) target[i] = target[i] ? (1 << 22) - 1 : 0;
    uint32_t *reciprocal = add_buffer(c, s, 1024 * 4, 0);
    for (uint32_t i = 0; i < 1024; i++) reciprocal[i] = 131072 / (2 * i + 3); /* tables.c */
}

static void call_adapt(const Kernels *k, Call *c) { k->adapt(at(c, 0), at(c, 1), c->n, (uint32_t)c->m, at(c, 2)); }

static void fill_mixture(Call *c, Source *s) {
    c->n = size_of(s, INPUT_STEP, 9, 4 * LANES + 11);
    int16_t *x = add_buffer(c, s, (size_t)c->n * 2, 0);
    for (int i = 0; i < c->n; i++) x[i] = (int16_t)number(s, -32767, 32767);
    numbers(c, s, c->n, -WEIGHT_MAX, WEIGHT_MAX, 0);
    c->scalar = number(s, -65000, 65000);
}

static void call_dot(const Kernels *k, Call *c) { c->result = k->dot(at(c, 0), at(c, 1), c->n); }
static void call_train(const Kernels *k, Call *c) { k->train(at(c, 0), at(c, 1), c->n, c->scalar); }

static void fill_product(Call *c, Source *s) {
    c->n = size_of(s, ROW_STEP, 130, WIDTH), c->m = size_of(s, COLUMN_STEP, 6, 3 * WIDTH);
    int8_t *x = add_buffer(c, s, (size_t)c->n, 0);
    for (int i = 0; i < c->n; i++) x[i] = (int8_t)number(s, -127, 127);
    int8_t *q = add_buffer(c, s, (size_t)c->n * (size_t)c->m, 0);
    int32_t *offset = add_buffer(c, s, (size_t)c->m * 4, 0);
    memset(offset, 0, (size_t)c->m * 4);
    for (int j = 0; j < c->m; j += COLUMN_STEP) /* packed: blocks of columns, groups of rows, columns, rows */
        for (int k = 0; k < c->n; k += ROW_STEP)
            for (int i = 0; i < COLUMN_STEP * ROW_STEP; i++) {
                *q = (int8_t)number(s, -128, 127);
                offset[j + i / ROW_STEP] += 128 * *q++;
            }
    add_buffer(c, s, (size_t)c->m * 4, 0);
}

static void call_product(const Kernels *k, Call *c) { k->product(at(c, 0), at(c, 1), at(c, 2), c->n, c->m, at(c, 3)); }

static void fill_rescale(Call *c, Source *s) {
    c->n = size_of(s, COLUMN_STEP, 20, 3 * WIDTH);
    int32_t *sums = add_buffer(c, s, (size_t)c->n * 4, 0), *multiplier = add_buffer(c, s, (size_t)c->n * 4, 0);
    for (int i = 0; i < c->n; i++) { /* |sum * multiplier| < 2^50, as a model must promise */
        multiplier[i] = number(s, 1, INT32_MAX >> below(&s->random, 31));
        int64_t most = (((int64_t)1 << 50) - 1) / multiplier[i];
        int32_t limit = most > INT32_MAX ? INT32_MAX : (int32_t)most;
        sums[i] = number(s, -limit, limit);
    }
    add_buffer(c, s, (size_t)c->n * 4, 0);
}

static void call_rescale(const Kernels *k, Call *c) { k->rescale(at(c, 0), at(c, 1), at(c, 2), c->n); }

static void fill_look_up(Call *c, Source *s) {
    static const int reaches[] = {SIGMOID_REACH, TANH_REACH, 1, 100};
    c->n = size_of(s, 16, 70, 2 * WIDTH), c->m = reaches[s->timed ? 0 : below(&s->random, 4)];
    int32_t near = s->timed ? 8192 : INT32_MAX >> below(&s->random, 20);
    numbers(c, s, c->n, -near, near, 0);
    int16_t *table = add_buffer(c, s, (size_t)(2 * c->m + 1) * 2 + 2, 0); /* two bytes behind it may be read */
    for (int i = 0; i <= 2 * c->m; i++) table[i] = (int16_t)number(s, -32767, 32767);
    add_buffer(c, s, (size_t)c->n * 4, 0);
    c->scalar = !s->timed && below(&s->random, 2); /* whether it replaces its input */
}

static void call_look_up(const Kernels *k, Call *c) { k->look_up(at(c, 0), c->n, at(c, 1), c->m, at(c, c->scalar ? 0 : 2)); }

static void fill_weigh(Call *c, Source *s) {
    int32_t most = s->timed ? 2000 : ((1 << 30) - 1) >> below(&s->random, 30);
    numbers(c, s, 256, -most, most, 0);
    c->n = N_WEIGHTS - 1;
    uint32_t *table = add_buffer(c, s, N_WEIGHTS * 4, 0);
    for (int i = 0; i < N_WEIGHTS; i++) table[i] = below(&s->random, (1u << 23) + 1);
    add_buffer(c, s, 256 * 4, 0);
}

static void call_weigh(const Kernels *k, Call *c) { c->result = k->weigh(at(c, 0), at(c, 1), c->n, at(c, 2)); }

static void fill_candidate(Call *c, Source *s) {
    c->n = size_of(s, 1, 400, WIDTH);
    numbers(c, s, c->n, 0, 32767, any_shift(s));
    for (int k = 0; k < 2; k++) numbers(c, s, c->n, -(1 << 27), 1 << 27, any_shift(s));
    numbers(c, s, c->n, 1 - (1 << 24), (1 << 24) - 1, any_shift(s));
    add_buffer(c, s, (size_t)c->n * 4, any_shift(s));
}

static void call_candidate(const Kernels *k, Call *c) { k->candidate(at(c, 0), at(c, 1), at(c, 2), at(c, 3), c->n, at(c, 4)); }

static void fill_blend(Call *c, Source *s) {
    c->n = size_of(s, 1, 400, WIDTH);
    numbers(c, s, c->n, 0, 32767, any_shift(s));
    for (int k = 0; k < 2; k++) numbers(c, s, c->n, -32767, 32767, any_shift(s));
}

static void call_blend(const Kernels *k, Call *c) { k->blend(at(c, 0), at(c, 1), c->n, at(c, 2)); }

static void fill_narrow(Call *c, Source *s) {
    c->n = size_of(s, 1, 400, WIDTH);
    numbers(c, s, c->n, -32767, 32767, any_shift(s));
    add_buffer(c, s, (size_t)c->n, below(&s->random, 64));
}

static void call_narrow(const Kernels *k, Call *c) { k->narrow(at(c, 0), c->n, at(c, 1)); }

static void fill_add(Call *c, Source *s) {
    c->n = size_of(s, 1, 1200, 3 * WIDTH);
    numbers(c, s, c->n, -(1 << 29), 1 << 29, any_shift(s));
    if (s->timed) s->style = 4;
    int32_t *row = numbers(c, s, c->n, -(1 << 29), 1 << 29, any_shift(s));
    if (s->timed) memset(row, 0, (size_t)c->n * 4); /* it is added many times */
}

static void call_add(const Kernels *k, Call *c) { k->add(at(c, 0), at(c, 1), c->n); }

static const struct {
    const char *name;
    void (*fill)(Call *c, Source *s);
    void (*call)(const Kernels *k, Call *c);
} tests[] = {
    {"state_inputs", fill_states, call_states}, {"choose_runs", fill_runs, call_runs},
    {"run_inputs", fill_run_inputs, call_run_inputs}, {"adapt", fill_adapt, call_adapt},
    {"dot", fill_mixture, call_dot},         {"train", fill_mixture, call_train},
    {"product", fill_product, call_product}, {"rescale", fill_rescale, call_rescale},
    {"look_up", fill_look_up, call_look_up}, {"weigh", fill_weigh, call_weigh},
    {"candidate", fill_candidate, call_candidate}, {"blend", fill_blend, call_blend},
    {"narrow", fill_narrow, call_narrow},    {"add", fill_add, call_add},
};

#define N_TESTS ((int)(sizeof tests / sizeof *tests))

/* ---- comparing and timing ---- */

static int compare(int test, const Kernels *kernels, const Call *input, uint64_t seed, int style) {
    Call expected = copy(input), found = copy(input);
    tests[test].call(&chunker_portable, &expected);
    tests[test].call(kernels, &found);
    int bad = expected.result != found.result;
    if (bad) printf("%s %s: returned %d, not %d", kernels->name, tests[test].name, (int)found.result, (int)expected.result);
    for (int k = 0; !bad && k < input->buffers; k++)
        for (size_t i = 0; !bad && i < input->buffer[k].size; i++) {
            bad = expected.buffer[k].memory[i] != found.buffer[k].memory[i];
            if (bad) printf("%s %s: buffer %d differs at byte %lld", kernels->name, tests[test].name, k, (long long)i - (long long)input->buffer[k].start);
        }
    if (bad) printf(" (n %d, m %d, style %d, seed %llu)\n", input->n, input->m, style, (unsigned long long)seed);
    release(&expected);
    release(&found);
    return bad;
}

static int check(int test, const Kernels *kernels, uint64_t seed, int rounds) {
    int bad = 0;
    for (int round = 0; round < rounds && bad < 3; round++) {
        Source source = {.random = {seed + (uint64_t)round}, .style = round % STYLES};
        Call call = {0};
        tests[test].fill(&call, &source);
        bad += compare(test, kernels, &call, seed + (uint64_t)round, round % STYLES);
        release(&call);
    }
    return bad;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Nanoseconds of one call: the least of several trials, each of a thousand calls. */
static double time_of(int test, const Kernels *kernels) {
    Source source = {.random = {1}, .timed = 1};
    Call call = {0};
    tests[test].fill(&call, &source);
    double best = 1e18;
    for (int trial = 0; trial < 7; trial++) {
        double start = now();
        for (int i = 0; i < 1000; i++) tests[test].call(kernels, &call);
        double taken = (now() - start) / 1000;
        if (taken < best) best = taken;
    }
    release(&call);
    return best;
}

static void print_times(const Kernels *const *found, int sets) {
    printf("%-12s", "ns a call");
    for (int k = sets - 1; k >= 0; k--) printf("%22s", found[k]->name);
    for (int test = 0; test < N_TESTS; test++) {
        double portable = time_of(test, &chunker_portable);
        printf("\n%-12s%15.0f       ", tests[test].name, portable);
        for (int k = sets - 2; k >= 0; k--) {
            double taken = time_of(test, found[k]);
            printf("%13.0f (x%5.1f)", taken, portable / taken);
        }
    }
    printf("\n");
}

int main(int count, char **arguments) {
    uint64_t seed = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    int rounds = count > 2 ? atoi(arguments[2]) : 500, bad = 0, sets = 0;
    const Kernels *found[MAX_KERNELS];
    find_kernels(found);
    while (sets < MAX_KERNELS && found[sets]) sets++;
    for (int k = 0; k < sets; k++)
        for (int test = 0; test < N_TESTS; test++) bad += check(test, found[k], seed, rounds);
    if (!SANITIZED) print_times(found, sets);
    printf("%d instruction sets, %d kernels, %d rounds each: %s\n", sets, N_TESTS, rounds, bad ? "they differ" : "all equal");
    return bad != 0;
}

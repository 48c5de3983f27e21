#include "tables.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 u128;

/* a * b / 2^64, both fractions of 2^64. */
static uint64_t times(uint64_t a, uint64_t b) { return (uint64_t)((u128)a * b >> 64); }

#define EXP_1_256 0xff007fd55ffdde38u  /* 2^64 exp(-1/256) */
#define HALF_1_128 0xfe9e115c7b8f884bu /* 2^64 2^(-1/128) */

/* numerator * 2^64 / (2^64 + e), rounded, halves up. */
static uint64_t over_one_plus(uint64_t numerator, uint64_t e) {
    u128 one = (u128)1 << 64, below = one + e;
    return (uint64_t)((2 * (u128)numerator * one + below) / (2 * below));
}

static void make_squash(ChunkerTables *t) {
    uint64_t e = UINT64_MAX; /* exp(-x / 256), 2^64 - 1 standing for 1 */
    for (int x = 0; x <= SIGMOID_REACH; x++) {
        uint64_t p16 = over_one_plus(1 << 16, e), p15 = over_one_plus(1 << 15, e);
        if (x <= STRETCH_MAX) {
            t->squash[STRETCH_MAX + x] = (uint16_t)(p16 > 65535 ? 65535 : p16);
            t->squash[STRETCH_MAX - x] = (uint16_t)((1 << 16) - p16);
        }
        t->sigmoid[SIGMOID_REACH + x] = (int16_t)(p15 > 32767 ? 32767 : p15);
        t->sigmoid[SIGMOID_REACH - x] = (int16_t)((1 << 15) - p15);
        e = x ? times(e, EXP_1_256) : EXP_1_256;
    }
    uint64_t square = UINT64_MAX, factor = times(EXP_1_256, EXP_1_256); /* exp(-2x / 256) */
    for (int x = 0; x <= TANH_REACH; x++) {
        int64_t y = x ? 2 * (int64_t)over_one_plus(1 << 30, square) - (1 << 30) : 0; /* tanh = 2 sigmoid(2x) - 1 */
        y = (y + (1 << 14)) >> 15;
        if (y > 32767) y = 32767;
        t->tanh[TANH_REACH + x] = (int16_t)y;
        t->tanh[TANH_REACH - x] = (int16_t)-y;
        square = x ? times(square, factor) : factor;
    }
    int x = -STRETCH_MAX;
    for (int i = 0; i < 4096; i++) { /* the inverse: 0 for a probability of 1/2 */
        while (x < STRETCH_MAX && t->squash[x + STRETCH_MAX] < i * 16) x++;
        t->stretch[i] = (int16_t)x;
    }
}

static void make_logarithms(ChunkerTables *t) {
    uint64_t w = UINT64_MAX; /* 2^(-i / 128) */
    for (int i = 0; i < LOG_STEPS; i++) {
        for (int octave = 0; octave < WEIGHT_BITS; octave++) {
            int shift = 64 - WEIGHT_BITS + octave;
            t->weight[octave * LOG_STEPS + i] = (uint32_t)(((w >> (shift - 1)) + 1) >> 1);
        }
        w = i ? times(w, HALF_1_128) : HALF_1_128;
    }
    t->weight[N_WEIGHTS - 1] = 1;
    for (uint32_t i = 0; i <= 4096; i++) { /* digit by digit: squaring doubles the logarithm */
        uint64_t x = (uint64_t)(4096 + i) << 19, digits = 0; /* 1 .. 2 in units of 2^-31 */
        for (int k = 0; k < 13; k++) {
            x = x * x >> 31;
            digits = 2 * digits + (x >> 32);
            x >>= x >> 32;
        }
        t->log2[i] = i == 4096 ? 4096 : (uint16_t)((digits + 1) >> 1);
    }
}

/* ---- bit histories --------------------------------------------------------------------------------------------
 * States 0 .. 30 hold up to four bits in order: (1 << length) - 1 + the bits, the first one highest. From 31 on a state
 * is a pair of counts and the last bit. A bit that contradicts many of the other kind makes their count fade: what
 * happened lately says more (Mahoney 2005, "Adaptive weighing of context models", 4.1). */

static int may_hold(int a, int b) {
    static const int most[4] = {40, 24, 12, 6};
    int low = a < b ? a : b, high = a < b ? b : a;
    return low < 4 && high <= most[low];
}

static int faded(int n) { /* 1, 2 stay; otherwise 1 + floor(log2(n)) */
    return n <= 2 ? n : 32 - __builtin_clz((unsigned)n);
}

typedef struct {
    int zeros[256], ones[256], last[256];
    int used;
} States;

static int state_of(States *s, int zeros, int ones, int last) {
    for (int i = 31; i < s->used; i++)
        if (s->zeros[i] == zeros && s->ones[i] == ones && s->last[i] == last) return i;
    s->zeros[s->used] = zeros, s->ones[s->used] = ones, s->last[s->used] = last;
    return s->used++;
}

static int after(States *s, int state, int bit) {
    int zeros = s->zeros[state], ones = s->ones[state];
    if (state < 15) { /* fewer than four bits: remember one more */
        int length = zeros + ones, bits = state + 1 - (1 << length);
        return (2 << length) - 1 + 2 * bits + bit;
    }
    if (state < 31) {
        zeros += !bit, ones += bit;
        while (!may_hold(zeros, ones))
            if (zeros > ones) zeros--;
            else ones--;
        return state_of(s, zeros, ones, bit);
    }
    int *same = bit ? &ones : &zeros, *other = bit ? &zeros : &ones, before = *same;
    ++*same;
    *other = faded(*other);
    while (!may_hold(zeros, ones))
        if (*same > before || *other <= *same) --*same;
        else --*other;
    return state_of(s, zeros, ones, bit);
}

static void make_states(ChunkerTables *t) {
    States s = {.used = 31};
    for (int length = 0; length <= 4; length++)
        for (int bits = 0; bits < 1 << length; bits++) {
            int ones = __builtin_popcount((unsigned)bits), state = (1 << length) - 1 + bits;
            s.ones[state] = ones, s.zeros[state] = length - ones;
        }
    for (int state = 0; state < s.used; state++) /* s.used grows on the way, to 253 */
        for (int bit = 0; bit < 2; bit++) t->next_state[bit][state] = (uint8_t)after(&s, state, bit);
    for (int state = 0; state < 256; state++) {
        int zeros = s.zeros[state], ones = s.ones[state];
        t->state_count[state] = (uint8_t)(zeros + ones);
        t->state_mixed[state] = zeros && ones;
        t->state_p[state] = (uint16_t)((ones * 5 + 2) * 65536 / ((zeros + ones) * 5 + 4));
    }
}

static int class_of(int c) {
    if (c >= 128) return 1;
    if (c >= 'a' && c <= 'z') return 2;
    if (c >= 'A' && c <= 'Z') return 3;
    if (c >= '0' && c <= '9') return 4;
    if (c < 32 && c != '\n' && c != '\t') return 0;
    switch (c) {
    case ' ': return 5;
    case '\n': return 6;
    case '_': case '-': case '.': return 7;
    case ',': case ';': case '\t': return 8;
    case '"': case '\'': return 9;
    case '(': case '[': case '{': case '<': return 10;
    case ')': case ']': case '}': case '>': return 11;
    case ':': case '=': return 12;
    default: return 13;
    }
}

static int coarse(int c) {
    if (c >= '0' && c <= '9') return '0';
    if (c >= 'A' && c <= 'Z') return 'A';
    if (c >= 'a' && c <= 'z') return 'a';
    return c >= 128 ? 128 : c;
}

static void make_times(ChunkerTables *t) { /* exact up to 8, then four buckets an octave up to 2^14 */
    int n = 0;
    for (int time = 1; time <= 8; time++) t->time_bounds[n++] = time;
    for (int k = 3; k < 14; k++)
        for (int quarter = 1; quarter <= 4; quarter++) t->time_bounds[n++] = (1 << k) + (1 << k) * quarter / 4;
}

ChunkerTables *chunker_tables_new(void) {
    ChunkerTables *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    find_kernels(t->kernels);
    make_squash(t);
    make_logarithms(t);
    make_states(t);
    make_times(t);
    for (int n = 0; n < 1024; n++) t->reciprocal[n] = 131072u / (2 * (unsigned)n + 3);
    for (int c = 0; c < 256; c++) t->class_of[c] = (uint8_t)class_of(c), t->coarse[c] = (uint8_t)coarse(c);
    return t;
}

void chunker_tables_free(ChunkerTables *t) { free(t); }

/* FNV-1a over the values, 32 bits each, in the order of the struct. */
static void add(uint64_t *hash, int64_t value) {
    for (int k = 0; k < 4; k++) *hash = (*hash ^ ((uint64_t)value >> 8 * k & 255)) * 0x100000001b3u;
}
#define ADD(table) \
    for (size_t i = 0; i < sizeof(table) / sizeof *(table); i++) add(&hash, (table)[i])

uint64_t chunker_tables_digest(const ChunkerTables *t) {
    uint64_t hash = 0xcbf29ce484222325u;
    ADD(t->squash);
    ADD(t->stretch);
    ADD(t->reciprocal);
    ADD(t->log2);
    ADD(t->sigmoid);
    ADD(t->tanh);
    ADD(t->weight);
    ADD(t->time_bounds);
    ADD(t->next_state[0]);
    ADD(t->next_state[1]);
    ADD(t->state_count);
    ADD(t->state_mixed);
    ADD(t->state_p);
    ADD(t->class_of);
    ADD(t->coarse);
    return hash;
}

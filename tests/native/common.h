/* What the native tests share: a generator of numbers, files, models. Plain C11 over the public header alone. */
#ifndef COMMON_H
#define COMMON_H

#include "chunker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMES 53   /* rows of time_input, of guess_input and of confidence_input: FORMAT.md */
#define GUESSES 257
#define CONFIDENCES 16

/* ---- numbers: SplitMix64 (Steele, Lea, Flood 2014), the same on every machine ---- */

typedef struct {
    uint64_t state;
} Random;

static inline uint64_t next(Random *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 .. n - 1 */
static inline uint32_t below(Random *r, uint32_t n) { return (uint32_t)((next(r) >> 32) * n >> 32); }

/* low .. high */
static inline int32_t between(Random *r, int32_t low, int32_t high) {
    return (int32_t)(low + (int64_t)((next(r) >> 32) * (uint64_t)((int64_t)high - low + 1) >> 32));
}

/* ---- files ---- */

static inline void fail(const char *what, const char *about) {
    fprintf(stderr, "%s: %s\n", about, what);
    exit(1);
}

static inline void *allocate(size_t n) {
    void *memory = calloc(1, n ? n : 1);
    if (!memory) fail("no memory", "test");
    return memory;
}

/* At most `limit` bytes of a file, in a buffer of exactly that size, so that a sanitizer sees a step beyond it. */
static inline uint8_t *read_file(const char *path, size_t limit, size_t *size) {
    FILE *file = fopen(path, "rb");
    uint8_t *all = allocate(limit);
    if (!file) fail("cannot be opened", path);
    *size = fread(all, 1, limit, file);
    if (ferror(file)) fail("cannot be read", path);
    fclose(file);
    uint8_t *content = allocate(*size);
    memcpy(content, all, *size);
    free(all);
    return content;
}

/* FNV-1a, 64 bits */
static inline uint64_t hash_of(const uint8_t *bytes, int64_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

/* ---- models ---- */

/* A stack with the memory that it points to. */
typedef struct {
    ChunkerStack stack;
    void *memory[8 + CHUNKER_MAX_LEVELS * 20];
    int allocations;
} Made;

static inline void *keep(Made *m, size_t n) { return m->memory[m->allocations++] = allocate(n); }

static inline void forget(Made *m) {
    while (m->allocations) free(m->memory[--m->allocations]);
}

/* A matrix whose products come to about `strength`, 2^24 to 1, for each of a few rows that agree; its columns stay
 * within the bound that a model must keep: 127 times their sum times the multiplier is below 2^50. */
static inline ChunkerMatrix made_up_matrix(Made *m, Random *r, int rows, int columns, int32_t strength) {
    int8_t *q = keep(m, (size_t)rows * (size_t)columns);
    int32_t *multiplier = keep(m, (size_t)columns * 4);
    for (int i = 0; i < rows * columns; i++) q[i] = (int8_t)between(r, -127, 127);
    for (int j = 0; j < columns; j++) {
        int64_t sum = 1, most;
        for (int k = 0; k < rows; k++) sum += abs(q[k * columns + j]);
        most = (((int64_t)1 << 50) - 1) / (127 * sum);
        if (most > INT32_MAX) most = INT32_MAX;
        multiplier[j] = below(r, 64) ? between(r, 1, strength) : (int32_t)most;
        if (multiplier[j] > most) multiplier[j] = (int32_t)most;
    }
    return (ChunkerMatrix){q, multiplier, rows, columns};
}

static inline const int32_t *made_up_bias(Made *m, Random *r, int n) {
    int32_t *bias = keep(m, (size_t)n * 4);
    for (int i = 0; i < n; i++) bias[i] = below(r, 64) ? between(r, -4096, 4096) : between(r, 1 - (1 << 24), (1 << 24) - 1);
    return bias;
}

/* Any cell, 1 to 3 levels, with or without n-grams and what tells a level of the bytes that it slept through. */
static inline void made_up_stack(Made *m, Random *r) {
    memset(m, 0, sizeof *m);
    ChunkerStack *s = &m->stack;
    s->cell = (int32_t)below(r, 3), s->levels = between(r, 1, 3), s->rule = (int32_t)below(r, 3);
    s->catch_up = below(r, 2) ? (int32_t)below(r, 6) : 0;
    int gates = s->cell == CHUNKER_RNN ? 1 : s->cell == CHUNKER_GRU ? 3 : 4, under = 0;
    if (below(r, 2)) {
        s->orders = between(r, 1, 4), s->word = between(r, 0, 1), s->ngram_rows = 1 << below(r, 8), under = between(r, 1, 40);
        for (int i = 0; i < s->orders; i++) s->order[i] = between(r, 1, 8);
        s->ngram_table = made_up_matrix(m, r, (s->orders + s->word) * s->ngram_rows, under, 1 << 18);
    }
    for (int i = 0; i < s->levels; i++) {
        ChunkerLevel *l = &s->level[i];
        int width = l->width = between(r, 1, 80), columns = gates * width;
        s->thresholds[i] = between(r, 1, 1000);
        l->symbol_input = made_up_matrix(m, r, 256, columns, 1 << 24);
        if (below(r, 2)) l->time_input = made_up_matrix(m, r, TIMES, columns, 1 << 22);
        if (!i && below(r, 2)) l->guess_input = made_up_matrix(m, r, GUESSES, columns, 1 << 22);
        if (!i && below(r, 2)) l->confidence_input = made_up_matrix(m, r, CONFIDENCES, columns, 1 << 22);
        if (under) l->below = made_up_matrix(m, r, under, columns, 1 << 21);
        l->recurrent = made_up_matrix(m, r, width, columns, 1 << 21);
        l->readout = made_up_matrix(m, r, width, 256, 1 << 19);
        l->bias = made_up_bias(m, r, columns);
        if (s->cell == CHUNKER_GRU) l->candidate_bias = made_up_bias(m, r, width);
        if (!i) l->readout_bias = made_up_bias(m, r, 256);
        under = width;
    }
}

/* ---- a model in a blob, as blob.py writes it: int32s and int8s, little-endian, each array padded to 4 bytes ---- */

typedef struct {
    const uint8_t *at, *end;
} Blob;

static inline const void *take_bytes(Blob *b, size_t n) {
    const void *here = b->at;
    n = (n + 3) / 4 * 4;
    if ((size_t)(b->end - b->at) < n) fail("it ends too early", "blob");
    b->at += n;
    return here;
}

static inline int32_t take_int(Blob *b) {
    int32_t value;
    memcpy(&value, take_bytes(b, 4), 4);
    return value;
}

static inline ChunkerMatrix take_matrix(Blob *b) {
    ChunkerMatrix m = {.rows = take_int(b), .columns = take_int(b)};
    if (m.rows < 0 || m.columns < 0) fail("a matrix has a size below 0", "blob");
    if (!m.rows) return m;
    m.q = take_bytes(b, (size_t)m.rows * (size_t)m.columns);
    m.multiplier = take_bytes(b, (size_t)m.columns * 4);
    return m;
}

static inline const int32_t *take_bias(Blob *b) {
    int32_t n = take_int(b);
    if (n < 0) fail("a bias has a size below 0", "blob");
    return n ? take_bytes(b, (size_t)n * 4) : NULL;
}

static inline void read_stack(Made *m, const char *path) {
    memset(m, 0, sizeof *m);
    size_t size;
    uint8_t *content = m->memory[m->allocations++] = read_file(path, (size_t)1 << 28, &size);
    Blob b = {content, content + size};
    ChunkerStack *s = &m->stack;
    if (take_int(&b) != 0x4b484331) fail("it is no model: write it with blob.py", path);
    s->cell = take_int(&b), s->levels = take_int(&b), s->rule = take_int(&b), s->catch_up = take_int(&b);
    if (s->levels < 1 || s->levels > CHUNKER_MAX_LEVELS) fail("levels", path);
    for (int i = 0; i < CHUNKER_MAX_LEVELS; i++) s->thresholds[i] = take_int(&b);
    s->orders = take_int(&b), s->word = take_int(&b), s->ngram_rows = take_int(&b);
    for (int i = 0; i < CHUNKER_MAX_ORDERS; i++) s->order[i] = take_int(&b);
    s->ngram_table = take_matrix(&b);
    for (int i = 0; i < s->levels; i++) {
        ChunkerLevel *l = &s->level[i];
        l->width = take_int(&b);
        l->symbol_input = take_matrix(&b), l->time_input = take_matrix(&b), l->guess_input = take_matrix(&b);
        l->confidence_input = take_matrix(&b), l->below = take_matrix(&b), l->recurrent = take_matrix(&b);
        l->readout = take_matrix(&b);
        l->bias = take_bias(&b), l->candidate_bias = take_bias(&b), l->readout_bias = take_bias(&b);
    }
}

#endif

/* Constants of the codec, all from integer recurrences: no machine's libm has a say in them. */
#ifndef CHUNKER_TABLES_H
#define CHUNKER_TABLES_H

#include "chunker.h"
#include "kernels.h"

#define STRETCH_MAX 2815                 /* 11 nats in units of 1/256 nat */
#define SIGMOID_REACH (12 * 256)
#define TANH_REACH (6 * 256)
#define LOG_STEPS 128                    /* logits are in units of 1/128 bit */
#define WEIGHT_BITS 23                   /* a symbol's largest weight is 2^23, its smallest 1 */
#define N_WEIGHTS (WEIGHT_BITS * LOG_STEPS + 1)
#define N_TIMES 53                       /* buckets of the time since a level's last input */

struct ChunkerTables {
    const Kernels *kernels[MAX_KERNELS]; /* those that this processor has, best first */
    uint16_t squash[2 * STRETCH_MAX + 1]; /* 2^16 / (1 + exp(-x / 256)), at most 65535 */
    int16_t stretch[4096];                /* its inverse, from 12 bits of probability */
    uint32_t reciprocal[1024];            /* 2^16 / (n + 1.5) */
    uint16_t log2[4096 + 1];              /* 2^12 log2(1 + i / 4096) */
    int16_t sigmoid[2 * SIGMOID_REACH + 1]; /* 2^15 / (1 + exp(-x / 256)), at most 32767 */
    int16_t tanh[2 * TANH_REACH + 1];     /* 2^15 tanh(x / 256), at most 32767 in size */
    uint32_t weight[N_WEIGHTS];           /* 2^(23 - i / 128) */
    int32_t time_bounds[N_TIMES - 1];     /* bucket b holds times t with bounds[b - 1] < t <= bounds[b] */
    /* Bit histories: what followed a context, in one byte. */
    uint8_t next_state[2][256];           /* after a 0, after a 1 */
    uint8_t state_count[256];             /* bits that a state stands for */
    uint8_t state_mixed[256];             /* 1 if it has seen both */
    uint16_t state_p[256];                /* 2^16 times the chance of a 1 before anything is learnt of it */
    uint8_t class_of[256];                /* kind of a byte, 0 .. 13 */
    uint8_t coarse[256];                  /* a byte with all digits, capitals, small letters, high bytes alike */
};

static inline int clamp(int x, int limit) { return x < -limit ? -limit : x > limit ? limit : x; }

/* Bytes from 128 on belong to letters of other scripts. */
static inline int is_letter(uint32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 128; }

/* The probability of a 1 (16 bits) whose logarithm of odds is x / 256; and back. */
static inline int squash(const ChunkerTables *t, int x) { return t->squash[clamp(x, STRETCH_MAX) + STRETCH_MAX]; }
static inline int stretch(const ChunkerTables *t, int p) { return t->stretch[p >> 4]; }

/* 2^12 log2(x), x >= 1. */
static inline int log2_12(const ChunkerTables *t, uint32_t x) {
    int top = 31 - __builtin_clz(x);
    uint32_t rest = (uint32_t)((((uint64_t)x << 12) >> top) & 4095);
    return top * 4096 + t->log2[rest];
}

#endif

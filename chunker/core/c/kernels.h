/* The inner loops, one implementation for each instruction set; all of them give the same integers. */
#ifndef CHUNKER_KERNELS_H
#define CHUNKER_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define INPUT_STEP 32                   /* vectors of the mixture are padded to a multiple of it */
#define WEIGHT_MAX ((1 << 23) - 1)      /* of a mixing weight, which has 20 bits of fraction */
#define COLUMN_STEP 64                  /* columns of a packed matrix are padded to a multiple of it */
#define ROW_STEP 4                      /* and its rows to a multiple of this */

/* Per context: the state of its history, the entry of its adaptive probability and the odds of that, whether the state
 * has seen both bits. */
typedef struct {
    const int32_t *state, *odds, *mixed;
    const uint32_t *entry;
} StateInputs;

/* Per context: the byte seen last and the one before, with a leading 1 (0: none); where their entries begin. */
typedef struct {
    const uint32_t *last, *before, *at, *at_before, *mixed;
} RunInputs;

typedef struct {
    const char *name;

    void (*state_inputs)(const StateInputs *in, int n, int16_t *certain, int16_t *linear);
    void (*choose_runs)(const RunInputs *in, int n, uint32_t partial, uint32_t bit, uint32_t *at, uint32_t *expects);
    void (*run_inputs)(const int32_t *odds, const uint32_t *expects, int n, int16_t *x);

    /* Adaptive probabilities after a bit, see adapt in level0.c: entries whose target[i] is 0 or 2^22 - 1. n is a multiple of
     * 16. */
    void (*adapt)(uint32_t *entry, const int32_t *target, int n, uint32_t limit, const uint32_t *reciprocal);

    /* sum over i of x[i] * (w[i] >> 8), modulo 2^32. n is a multiple of INPUT_STEP, x and w aligned to 64 bytes. */
    int32_t (*dot)(const int16_t *x, const int32_t *w, int n);

    /* w[i] = clip(w[i] + ((x[i] * error + 128) >> 8), +-WEIGHT_MAX). |x[i] * error| < 2^31 - 128. */
    void (*train)(const int16_t *x, int32_t *w, int n, int32_t error);

    /* sums[j] = sum over k of x[k] * q[k][j], 0 <= j < columns. x has `rows` values of -127 .. 127 (a multiple of
     * ROW_STEP); q is packed, see pack_matrix in stack.c; offset[j] = 128 * sum over k of q[k][j]; columns is a
     * multiple of COLUMN_STEP. */
    void (*product)(const int8_t *x, const int8_t *q, const int32_t *offset, int rows, int columns, int32_t *sums);

    /* out[j] = (sums[j] * multiplier[j] + 2^23) >> 24 with a 64-bit product; the result fits 32 bits. n is a multiple
     * of 16. */
    void (*rescale)(const int32_t *sums, const int32_t *multiplier, int32_t *out, int n);

    /* out[i] = table[reach + clip((clip(a[i], +-32767) + 4) >> 3, +-reach)]: a sigmoid of pre-activations. n is a multiple
     * of 16; two bytes behind the table may be read. */
    void (*look_up)(const int32_t *a, int n, const int16_t *table, int reach, int32_t *out);

    /* weights[i] = table[min(top - logits[i], last)] for 256 symbols, top the largest logit; returns the first symbol
     * that has it. */
    int (*weigh)(const int32_t *logits, const uint32_t *table, int last, uint32_t *weights);

    /* Element by element, n any number; see cells.h. */
    void (*candidate)(const int32_t *r, const int32_t *a, const int32_t *g, const int32_t *bias, int n, int32_t *out);
    void (*blend)(const int32_t *z, const int32_t *fresh, int n, int32_t *h);
    void (*narrow)(const int32_t *h, int n, int8_t *h8);
    void (*add)(int32_t *a, const int32_t *row, int n);
} Kernels;

extern const Kernels chunker_portable;
#if defined(__x86_64__)
extern const Kernels chunker_avx2, chunker_avx512vnni;
#elif defined(__aarch64__)
extern const Kernels chunker_neon;
#endif

#define MAX_KERNELS 4

/* Asks the processor; fills in those that it has, best first, and NULL behind them. */
void find_kernels(const Kernels *found[MAX_KERNELS]);

#endif

#include "kernels.h"

#define TARGET
#include "cells.h"
#include "plain.h"

static int32_t dot(const int16_t *x, const int32_t *w, int n) {
    uint32_t sum = 0;
    for (int i = 0; i < n; i++) sum += (uint32_t)(x[i] * (w[i] >> 8));
    return (int32_t)sum;
}

static void train(const int16_t *x, int32_t *w, int n, int32_t error) {
    for (int i = 0; i < n; i++) {
        int32_t v = w[i] + ((x[i] * error + 128) >> 8);
        w[i] = v < -WEIGHT_MAX ? -WEIGHT_MAX : v > WEIGHT_MAX ? WEIGHT_MAX : v;
    }
}

static void product(const int8_t *x, const int8_t *q, const int32_t *offset, int rows, int columns, int32_t *sums) {
    (void)offset;
    for (int j = 0; j < columns; j += COLUMN_STEP) {
        int32_t total[COLUMN_STEP] = {0};
        for (int k = 0; k < rows; k += ROW_STEP, q += COLUMN_STEP * ROW_STEP)
            for (int i = 0; i < COLUMN_STEP; i++) {
                const int8_t *w = q + i * ROW_STEP;
                total[i] += x[k] * w[0] + x[k + 1] * w[1] + x[k + 2] * w[2] + x[k + 3] * w[3];
            }
        for (int i = 0; i < COLUMN_STEP; i++) sums[j + i] = total[i];
    }
}

static void rescale(const int32_t *sums, const int32_t *multiplier, int32_t *out, int n) {
    for (int j = 0; j < n; j++) out[j] = (int32_t)(((int64_t)sums[j] * multiplier[j] + (1 << 23)) >> 24);
}

const Kernels chunker_portable = {"portable", state_inputs, choose_runs, run_inputs, adapt, dot, train, product, rescale, look_up, weigh, candidate, blend, narrow, add};

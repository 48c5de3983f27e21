#include "kernels.h"

#define TARGET
#include "cells.h"

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

static void look_up(const int32_t *a, int n, const int16_t *table, int reach, int32_t *out) {
    for (int i = 0; i < n; i++) {
        int32_t v = a[i] < -32767 ? -32767 : a[i] > 32767 ? 32767 : a[i];
        v = (v + 4) >> 3;
        out[i] = table[reach + (v < -reach ? -reach : v > reach ? reach : v)];
    }
}

static int weigh(const int32_t *logits, const uint32_t *table, int last, uint32_t *weights) {
    int best = 0;
    for (int i = 1; i < 256; i++)
        if (logits[i] > logits[best]) best = i;
    for (int i = 0; i < 256; i++) {
        uint32_t steps = (uint32_t)logits[best] - (uint32_t)logits[i];
        weights[i] = table[steps < (uint32_t)last ? steps : (uint32_t)last];
    }
    return best;
}

static void adapt(uint32_t *entry, const int32_t *target, int n, uint32_t limit, const uint32_t *reciprocal) {
    for (int i = 0; i < n; i++) {
        uint32_t count = entry[i] & 1023;
        int32_t p = (int32_t)(entry[i] >> 10);
        p += (int32_t)((int64_t)(target[i] - p) * (int32_t)reciprocal[count] >> 16);
        entry[i] = (uint32_t)p << 10 | (count < limit ? count + 1 : count);
    }
}

const Kernels chunker_portable = {"portable", state_inputs, choose_runs, run_inputs, adapt, dot, train, product, rescale, look_up, weigh, candidate, blend, narrow, add};

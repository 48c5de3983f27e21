#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define TARGET
#include "cells.h"
#include "plain.h"

static int32_t dot(const int16_t *x, const int32_t *w, int n) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < n; i += 8) {
        int16x8_t a = vld1q_s16(x + i);
        sum = vmlal_s16(sum, vget_low_s16(a), vshrn_n_s32(vld1q_s32(w + i), 8));
        sum = vmlal_s16(sum, vget_high_s16(a), vshrn_n_s32(vld1q_s32(w + i + 4), 8));
    }
    return vaddvq_s32(sum);
}

static void train(const int16_t *x, int32_t *w, int n, int32_t error) {
    int32x4_t half = vdupq_n_s32(128), high = vdupq_n_s32(WEIGHT_MAX), low = vdupq_n_s32(-WEIGHT_MAX);
    for (int i = 0; i < n; i += 4) {
        int32x4_t d = vmlaq_n_s32(half, vmovl_s16(vld1_s16(x + i)), error);
        d = vaddq_s32(vld1q_s32(w + i), vshrq_n_s32(d, 8));
        vst1q_s32(w + i, vmaxq_s32(low, vminq_s32(high, d)));
    }
}

/* Sixteen columns at a time. Two products of bytes fit 16 bits: 2 * 127 * 127 < 2^15. */
static void product(const int8_t *x, const int8_t *q, const int32_t *offset, int rows, int columns, int32_t *sums) {
    (void)offset;
    for (int j = 0; j < columns; j += 16) {
        const int8_t *block = q + (size_t)(j / COLUMN_STEP) * COLUMN_STEP * (size_t)rows + j % COLUMN_STEP * ROW_STEP;
        int32x4_t total[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        for (int k = 0; k < rows; k += ROW_STEP, block += COLUMN_STEP * ROW_STEP) {
            int32_t four;
            __builtin_memcpy(&four, x + k, 4);
            int8x16_t v = vreinterpretq_s8_s32(vdupq_n_s32(four));
            for (int i = 0; i < 4; i++) { /* four columns of four rows each */
                int8x16_t w = vld1q_s8(block + 16 * i);
                int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(v));
                int16x8_t high = vmull_s8(vget_high_s8(w), vget_high_s8(v));
                int32x4_t pairs = vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
                total[i] = vaddq_s32(total[i], pairs);
            }
        }
        for (int i = 0; i < 4; i++) vst1q_s32(sums + j + 4 * i, total[i]);
    }
}

static void rescale(const int32_t *sums, const int32_t *multiplier, int32_t *out, int n) {
    for (int j = 0; j < n; j += 4) {
        int32x4_t s = vld1q_s32(sums + j), m = vld1q_s32(multiplier + j);
        int64x2_t low = vmull_s32(vget_low_s32(s), vget_low_s32(m)), high = vmull_s32(vget_high_s32(s), vget_high_s32(m));
        vst1q_s32(out + j, vcombine_s32(vrshrn_n_s64(low, 24), vrshrn_n_s64(high, 24)));
    }
}

const Kernels chunker_neon = {"neon", state_inputs, choose_runs, run_inputs, adapt, dot, train, product, rescale, look_up, weigh, candidate, blend, narrow, add};
#endif

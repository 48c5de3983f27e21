#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET __attribute__((target("avx2")))
#include "cells.h"

TARGET static int32_t dot(const int16_t *x, const int32_t *w, int n) {
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < n; i += 16) {
        __m256i a = _mm256_srai_epi32(_mm256_load_si256((const void *)(w + i)), 8);
        __m256i b = _mm256_srai_epi32(_mm256_load_si256((const void *)(w + i + 8)), 8);
        __m256i ab = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8); /* they fit 16 bits: WEIGHT_MAX */
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(ab, _mm256_load_si256((const void *)(x + i))));
    }
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

TARGET static void train(const int16_t *x, int32_t *w, int n, int32_t error) {
    __m256i e = _mm256_set1_epi32(error), half = _mm256_set1_epi32(128);
    __m256i high = _mm256_set1_epi32(WEIGHT_MAX), low = _mm256_set1_epi32(-WEIGHT_MAX);
    for (int i = 0; i < n; i += 8) {
        __m256i d = _mm256_mullo_epi32(_mm256_cvtepi16_epi32(_mm_load_si128((const void *)(x + i))), e);
        d = _mm256_srai_epi32(_mm256_add_epi32(d, half), 8);
        d = _mm256_add_epi32(d, _mm256_load_si256((const void *)(w + i)));
        _mm256_store_si256((void *)(w + i), _mm256_max_epi32(low, _mm256_min_epi32(high, d)));
    }
}

/* Half of a block of columns at a time: eight accumulators of pairs of rows. vpmaddubsw would saturate. */
TARGET static void product(const int8_t *x, const int8_t *q, const int32_t *offset, int rows, int columns, int32_t *sums) {
    (void)offset;
    for (int j = 0; j < columns; j += COLUMN_STEP / 2) {
        const int8_t *block = q + (size_t)(j / COLUMN_STEP) * COLUMN_STEP * (size_t)rows + j % COLUMN_STEP * ROW_STEP;
        __m256i total[8];
        for (int i = 0; i < 8; i++) total[i] = _mm256_setzero_si256();
        for (int k = 0; k < rows; k += ROW_STEP, block += COLUMN_STEP * ROW_STEP) {
            int32_t four;
            __builtin_memcpy(&four, x + k, 4);
            __m256i v = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
            for (int i = 0; i < 8; i++) {
                __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(block + 16 * i)));
                total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(w, v));
            }
        }
        for (int i = 0; i < 8; i += 2) {
            __m256i s = _mm256_permute4x64_epi64(_mm256_hadd_epi32(total[i], total[i + 1]), 0xd8);
            _mm256_storeu_si256((void *)(sums + j + 4 * i), s);
        }
    }
}

TARGET static void rescale(const int32_t *sums, const int32_t *multiplier, int32_t *out, int n) {
    __m256i half = _mm256_set1_epi64x(1 << 23);
    for (int j = 0; j < n; j += 8) {
        __m256i s = _mm256_loadu_si256((const void *)(sums + j)), m = _mm256_loadu_si256((const void *)(multiplier + j));
        __m256i even = _mm256_srli_epi64(_mm256_add_epi64(_mm256_mul_epi32(s, m), half), 24);
        __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(s, 32), _mm256_srli_epi64(m, 32));
        odd = _mm256_slli_epi64(_mm256_add_epi64(odd, half), 8);
        _mm256_storeu_si256((void *)(out + j), _mm256_blend_epi32(even, odd, 0xaa));
    }
}

TARGET static void look_up(const int32_t *a, int n, const int16_t *table, int reach, int32_t *out) {
    __m256i high = _mm256_set1_epi32(32767), low = _mm256_set1_epi32(-32767), four = _mm256_set1_epi32(4);
    __m256i last = _mm256_set1_epi32(reach), first = _mm256_set1_epi32(-reach);
    for (int i = 0; i < n; i += 8) {
        __m256i v = _mm256_max_epi32(low, _mm256_min_epi32(high, _mm256_loadu_si256((const void *)(a + i))));
        v = _mm256_srai_epi32(_mm256_add_epi32(v, four), 3);
        v = _mm256_max_epi32(first, _mm256_min_epi32(last, v));
        v = _mm256_i32gather_epi32((const int *)(const void *)(table + reach), v, 2);
        _mm256_storeu_si256((void *)(out + i), _mm256_srai_epi32(_mm256_slli_epi32(v, 16), 16));
    }
}

TARGET static int weigh(const int32_t *logits, const uint32_t *table, int last, uint32_t *weights) {
    __m256i most = _mm256_loadu_si256((const void *)logits), end = _mm256_set1_epi32(last);
    for (int i = 8; i < 256; i += 8) most = _mm256_max_epi32(most, _mm256_loadu_si256((const void *)(logits + i)));
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    __m256i top = _mm256_set1_epi32(_mm_cvtsi128_si32(m));
    int best = -1;
    for (int i = 0; i < 256; i += 8) {
        __m256i v = _mm256_loadu_si256((const void *)(logits + i));
        if (best < 0) {
            int equal = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(v, top)));
            if (equal) best = i + __builtin_ctz((unsigned)equal);
        }
        v = _mm256_min_epu32(_mm256_sub_epi32(top, v), end);
        _mm256_storeu_si256((void *)(weights + i), _mm256_i32gather_epi32((const int *)(const void *)table, v, 4));
    }
    return best;
}

TARGET static void adapt(uint32_t *entry, const int32_t *target, int n, uint32_t limit, const uint32_t *reciprocal) {
    __m256i counts = _mm256_set1_epi32(1023), one = _mm256_set1_epi32(1), most = _mm256_set1_epi32((int)limit);
    for (int i = 0; i < n; i += 8) {
        __m256i v = _mm256_loadu_si256((const void *)(entry + i)), count = _mm256_and_si256(v, counts);
        __m256i p = _mm256_srli_epi32(v, 10), rate = _mm256_i32gather_epi32((const int *)(const void *)reciprocal, count, 4);
        __m256i error = _mm256_sub_epi32(_mm256_loadu_si256((const void *)(target + i)), p);
        __m256i even = _mm256_srli_epi64(_mm256_mul_epi32(error, rate), 16);
        __m256i odd = _mm256_slli_epi64(_mm256_mul_epi32(_mm256_srli_epi64(error, 32), _mm256_srli_epi64(rate, 32)), 16);
        p = _mm256_slli_epi32(_mm256_add_epi32(p, _mm256_blend_epi32(even, odd, 0xaa)), 10);
        count = _mm256_min_epu32(_mm256_add_epi32(count, one), _mm256_max_epu32(count, most));
        _mm256_storeu_si256((void *)(entry + i), _mm256_or_si256(p, count));
    }
}

const Kernels chunker_avx2 = {"avx2", state_inputs, choose_runs, run_inputs, adapt, dot, train, product, rescale, look_up, weigh, candidate, blend, narrow, add};
#endif

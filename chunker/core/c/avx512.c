#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#include "cells.h"

TARGET static int32_t dot(const int16_t *x, const int32_t *w, int n) {
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 32) {
        __m256i a = _mm512_cvtepi32_epi16(_mm512_srai_epi32(_mm512_load_si512(w + i), 8));
        __m256i b = _mm512_cvtepi32_epi16(_mm512_srai_epi32(_mm512_load_si512(w + i + 16), 8));
        __m512i ab = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
        sum = _mm512_dpwssd_epi32(sum, ab, _mm512_load_si512(x + i));
    }
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e)); /* _mm512_reduce_add_epi32 must not overflow */
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

TARGET static void train(const int16_t *x, int32_t *w, int n, int32_t error) {
    __m512i e = _mm512_set1_epi32(error), half = _mm512_set1_epi32(128);
    __m512i high = _mm512_set1_epi32(WEIGHT_MAX), low = _mm512_set1_epi32(-WEIGHT_MAX);
    for (int i = 0; i < n; i += 16) {
        __m512i d = _mm512_mullo_epi32(_mm512_cvtepi16_epi32(_mm256_load_si256((const void *)(x + i))), e);
        d = _mm512_srai_epi32(_mm512_add_epi32(d, half), 8);
        d = _mm512_add_epi32(d, _mm512_load_si512(w + i));
        _mm512_store_si512(w + i, _mm512_max_epi32(low, _mm512_min_epi32(high, d)));
    }
}

/* vpdpbusd multiplies unsigned by signed bytes: x + 128 goes in, offset takes 128 * q out again. */
TARGET static void product(const int8_t *x, const int8_t *q, const int32_t *offset, int rows, int columns, int32_t *sums) {
    for (int j = 0; j < columns; j += COLUMN_STEP) {
        __m512i total[4];
        for (int i = 0; i < 4; i++) total[i] = _mm512_setzero_si512();
        for (int k = 0; k < rows; k += ROW_STEP, q += COLUMN_STEP * ROW_STEP) {
            uint32_t four;
            __builtin_memcpy(&four, x + k, 4);
            __m512i v = _mm512_set1_epi32((int32_t)(four ^ 0x80808080u));
            for (int i = 0; i < 4; i++) total[i] = _mm512_dpbusd_epi32(total[i], v, _mm512_load_si512(q + 64 * i));
        }
        for (int i = 0; i < 4; i++) {
            __m512i s = _mm512_sub_epi32(total[i], _mm512_loadu_si512(offset + j + 16 * i));
            _mm512_storeu_si512(sums + j + 16 * i, s);
        }
    }
}

TARGET static void rescale(const int32_t *sums, const int32_t *multiplier, int32_t *out, int n) {
    __m512i half = _mm512_set1_epi64(1 << 23);
    for (int j = 0; j < n; j += 16) {
        __m512i s = _mm512_loadu_si512(sums + j), m = _mm512_loadu_si512(multiplier + j);
        __m512i even = _mm512_srli_epi64(_mm512_add_epi64(_mm512_mul_epi32(s, m), half), 24);
        __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(s, 32), _mm512_srli_epi64(m, 32));
        odd = _mm512_slli_epi64(_mm512_add_epi64(odd, half), 8);
        _mm512_storeu_si512(out + j, _mm512_mask_blend_epi32(0xaaaa, even, odd));
    }
}

TARGET static void look_up(const int32_t *a, int n, const int16_t *table, int reach, int32_t *out) {
    __m512i high = _mm512_set1_epi32(32767), low = _mm512_set1_epi32(-32767), four = _mm512_set1_epi32(4);
    __m512i last = _mm512_set1_epi32(reach), first = _mm512_set1_epi32(-reach);
    for (int i = 0; i < n; i += 16) {
        __m512i v = _mm512_max_epi32(low, _mm512_min_epi32(high, _mm512_loadu_si512(a + i)));
        v = _mm512_srai_epi32(_mm512_add_epi32(v, four), 3);
        v = _mm512_max_epi32(first, _mm512_min_epi32(last, v));
        v = _mm512_i32gather_epi32(v, table + reach, 2);
        _mm512_storeu_si512(out + i, _mm512_srai_epi32(_mm512_slli_epi32(v, 16), 16));
    }
}

TARGET static int weigh(const int32_t *logits, const uint32_t *table, int last, uint32_t *weights) {
    __m512i most = _mm512_loadu_si512(logits), end = _mm512_set1_epi32(last);
    for (int i = 16; i < 256; i += 16) most = _mm512_max_epi32(most, _mm512_loadu_si512(logits + i));
    __m512i top = _mm512_set1_epi32(_mm512_reduce_max_epi32(most));
    int best = -1;
    for (int i = 0; i < 256; i += 16) {
        __m512i v = _mm512_loadu_si512(logits + i);
        if (best < 0) {
            __mmask16 equal = _mm512_cmpeq_epi32_mask(v, top);
            if (equal) best = i + __builtin_ctz(equal);
        }
        v = _mm512_min_epu32(_mm512_sub_epi32(top, v), end);
        _mm512_storeu_si512(weights + i, _mm512_i32gather_epi32(v, table, 4));
    }
    return best;
}

TARGET static void adapt(uint32_t *entry, const int32_t *target, int n, uint32_t limit, const uint32_t *reciprocal) {
    __m512i counts = _mm512_set1_epi32(1023), one = _mm512_set1_epi32(1), most = _mm512_set1_epi32((int)limit);
    for (int i = 0; i < n; i += 16) {
        __m512i v = _mm512_loadu_si512(entry + i), count = _mm512_and_si512(v, counts);
        __m512i p = _mm512_srli_epi32(v, 10), rate = _mm512_i32gather_epi32(count, reciprocal, 4);
        __m512i error = _mm512_sub_epi32(_mm512_loadu_si512(target + i), p);
        __m512i even = _mm512_srli_epi64(_mm512_mul_epi32(error, rate), 16);
        __m512i odd = _mm512_slli_epi64(_mm512_mul_epi32(_mm512_srli_epi64(error, 32), _mm512_srli_epi64(rate, 32)), 16);
        p = _mm512_slli_epi32(_mm512_add_epi32(p, _mm512_mask_blend_epi32(0xaaaa, even, odd)), 10);
        count = _mm512_min_epu32(_mm512_add_epi32(count, one), _mm512_max_epu32(count, most));
        _mm512_storeu_si512(entry + i, _mm512_or_si512(p, count));
    }
}

const Kernels chunker_avx512vnni = {"avx512vnni", state_inputs, choose_runs, run_inputs, adapt, dot, train, product, rescale, look_up, weigh, candidate, blend, narrow, add};
#endif

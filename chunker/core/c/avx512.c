#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

AVX512 static int32_t dot(const int16_t *x, const int32_t *w, int n) {
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 32) {
        __m256i a = _mm512_cvtepi32_epi16(_mm512_srai_epi32(_mm512_load_si512(w + i), 8));
        __m256i b = _mm512_cvtepi32_epi16(_mm512_srai_epi32(_mm512_load_si512(w + i + 16), 8));
        __m512i ab = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
        sum = _mm512_dpwssd_epi32(sum, ab, _mm512_load_si512(x + i));
    }
    return _mm512_reduce_add_epi32(sum);
}

AVX512 static void train(const int16_t *x, int32_t *w, int n, int32_t error) {
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
AVX512 static void product(const int8_t *x, const int8_t *q, const int32_t *offset, int rows, int columns, int32_t *sums) {
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

AVX512 static void rescale(const int32_t *sums, const int32_t *multiplier, int32_t *out, int n) {
    __m512i half = _mm512_set1_epi64(1 << 23);
    for (int j = 0; j < n; j += 16) {
        __m512i s = _mm512_loadu_si512(sums + j), m = _mm512_loadu_si512(multiplier + j);
        __m512i even = _mm512_srli_epi64(_mm512_add_epi64(_mm512_mul_epi32(s, m), half), 24);
        __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(s, 32), _mm512_srli_epi64(m, 32));
        odd = _mm512_slli_epi64(_mm512_add_epi64(odd, half), 8);
        _mm512_storeu_si512(out + j, _mm512_mask_blend_epi32(0xaaaa, even, odd));
    }
}

const Kernels chunker_avx512vnni = {"avx512vnni", dot, train, product, rescale};
#endif

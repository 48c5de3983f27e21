#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))

AVX2 static int32_t dot(const int16_t *x, const int32_t *w, int n) {
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

AVX2 static void train(const int16_t *x, int32_t *w, int n, int32_t error) {
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
AVX2 static void product(const int8_t *x, const int8_t *q, const int32_t *offset, int rows, int columns, int32_t *sums) {
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

AVX2 static void rescale(const int32_t *sums, const int32_t *multiplier, int32_t *out, int n) {
    __m256i half = _mm256_set1_epi64x(1 << 23);
    for (int j = 0; j < n; j += 8) {
        __m256i s = _mm256_loadu_si256((const void *)(sums + j)), m = _mm256_loadu_si256((const void *)(multiplier + j));
        __m256i even = _mm256_srli_epi64(_mm256_add_epi64(_mm256_mul_epi32(s, m), half), 24);
        __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(s, 32), _mm256_srli_epi64(m, 32));
        odd = _mm256_slli_epi64(_mm256_add_epi64(odd, half), 8);
        _mm256_storeu_si256((void *)(out + j), _mm256_blend_epi32(even, odd, 0xaa));
    }
}

const Kernels chunker_avx2 = {"avx2", dot, train, product, rescale};
#endif

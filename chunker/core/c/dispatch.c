#include "tables.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Whether the operating system saves all the registers that `mask` names (XCR0). */
static int saves(uint64_t mask) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (((uint64_t)high << 32 | low) & mask) == mask;
}

static int has_avx2(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1) || !saves(6)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 5 & 1);
}

static int has_avx512vnni(void) {
    uint32_t a, b, c, d;
    if (!has_avx2() || !saves(0xe6) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (b >> 16 & 1) && (b >> 30 & 1) && (b >> 31 & 1) && (c >> 11 & 1);
}
#endif

void find_kernels(const Kernels *found[MAX_KERNELS]) {
    int n = 0;
#if defined(__x86_64__)
    if (has_avx512vnni()) found[n++] = &chunker_avx512vnni;
    if (has_avx2()) found[n++] = &chunker_avx2;
#elif defined(__aarch64__)
    found[n++] = &chunker_neon;
#endif
    found[n++] = &chunker_portable;
    while (n < MAX_KERNELS) found[n++] = NULL;
}

const char *chunker_kernels(const ChunkerTables *tables, int32_t k) {
    if (k < 0 || k >= MAX_KERNELS || !tables->kernels[k]) return NULL;
    return tables->kernels[k]->name;
}

int32_t chunker_abi(void) { return CHUNKER_ABI; }

/* Loops over arrays without any order in them, which compilers turn into vectors: compiled once for each instruction set.
 * The file that includes this defines TARGET, the function attribute. */

/* ---- inputs of the mixer, n contexts at a time; formulas in FORMAT.md, "Inputs" ---- */

TARGET static void state_inputs(const StateInputs *in, int n, int16_t *certain, int16_t *linear) {
    for (int i = 0; i < n; i++) {
        int32_t seen = -(in->state[i] != 0);
        certain[i] = (int16_t)(in->odds[i] & seen & (in->mixed[i] - 1));
        linear[i] = (int16_t)(((int32_t)(in->entry[i] >> 16) - 32768) >> 6 & seen);
    }
}

TARGET static void choose_runs(const RunInputs *in, int n, uint32_t partial, uint32_t bit, uint32_t *restrict at,
                               uint32_t *restrict expects) {
    uint32_t shift = 7 - bit;
    /* of their own, or the compiler takes `at` and `expects` for a part of one of them and does not vectorize */
    const uint32_t *restrict lasts = in->last, *restrict befores = in->before, *restrict mixed = in->mixed;
    const uint32_t *restrict at_last = in->at, *restrict at_before = in->at_before;
    for (int i = 0; i < n; i++) {
        uint32_t last = lasts[i], before = befores[i];
        uint32_t is_last = 0u - (last >> (shift + 1) == partial), is_before = (0u - (before >> (shift + 1) == partial)) & ~is_last;
        at[i] = ((at_last[i] + bit) & is_last) | ((at_before[i] + mixed[i] * 8 + bit) & is_before);
        expects[i] = ((last & is_last) | (before & is_before)) >> shift & 1;
    }
}

TARGET static void run_inputs(const int32_t *odds, const uint32_t *expects, int n, int16_t *x) {
    for (int i = 0; i < n; i++) {
        int32_t sign = (int32_t)expects[i] - 1; /* 0 where a 1 is expected, else -1 */
        x[i] = (int16_t)((odds[i] ^ sign) - sign);
    }
}

/* ---- recurrent cells ---- */

/* From r (n,), the input's and the state's pre-activations of the candidate: those of the candidate itself. */
TARGET static void candidate(const int32_t *r, const int32_t *a, const int32_t *g, const int32_t *bias, int n, int32_t *out) {
    for (int i = 0; i < n; i++) {
        int32_t m = g[i] + bias[i];
        m = m < -32767 ? -32767 : m > 32767 ? 32767 : m;
        out[i] = a[i] + ((r[i] * m + (1 << 14)) >> 15);
    }
}

/* The new state of a GRU: candidate + z (h - candidate). */
TARGET static void blend(const int32_t *z, const int32_t *fresh, int n, int32_t *h) {
    for (int i = 0; i < n; i++) h[i] = fresh[i] + ((z[i] * (h[i] - fresh[i]) + (1 << 14)) >> 15);
}

TARGET static void narrow(const int32_t *h, int n, int8_t *h8) {
    for (int i = 0; i < n; i++) {
        int32_t v = (h[i] + 128) >> 8;
        h8[i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
    }
}

TARGET static void add(int32_t *a, const int32_t *row, int n) {
    for (int i = 0; i < n; i++) a[i] += row[i];
}

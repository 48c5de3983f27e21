/* The element-wise halves of a recurrent cell, compiled once for each instruction set: the file that includes this
 * defines TARGET, the function attribute, and look_up_into. */

/* From r (n,), the input's and the state's pre-activations of the candidate: those of the candidate itself. */
TARGET static void candidate(const int32_t *r, const int32_t *a, const int32_t *g, const int32_t *bias, int n, int32_t *out) {
    for (int i = 0; i < n; i++) {
        int32_t m = g[i] + bias[i];
        m = m < -32767 ? -32767 : m > 32767 ? 32767 : m;
        out[i] = a[i] + ((r[i] * m + (1 << 14)) >> 15);
    }
}

/* The new state of a GRU: h + (1 - z) (candidate - h). */
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

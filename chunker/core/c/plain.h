/* Loops with table look-ups in plain C, for the instruction sets that have no better way. */

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

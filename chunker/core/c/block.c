/* One block: the loop over its bytes and the coder of its bits. */
#include "stack.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY 64 /* bytes between two looks at the stop flag */

/* A carryless binary arithmetic coder. The interval [low, high] is cut at the probability of a 1, which is the lower
 * part; bytes on which both ends agree are shifted out. */
typedef struct {
    uint32_t low, high, code;
    const uint8_t *in, *in_end;
    uint8_t *out, *out_end;
    int beyond;      /* decoder: bytes taken beyond the payload's end; encoder: whether it was full */
    int64_t shifted; /* bytes on which the ends agreed so far */
} Coder;

static inline uint32_t middle(const Coder *c, int p) {
    return c->low + (uint32_t)((uint64_t)(c->high - c->low) * (uint32_t)p >> 16);
}

static inline void narrow(Coder *c, uint32_t mid, int bit) {
    if (bit) c->high = mid;
    else c->low = mid + 1;
}

static void encode_bit(Coder *c, int p, int bit) {
    narrow(c, middle(c, p), bit);
    for (; !((c->low ^ c->high) >> 24); c->low <<= 8, c->high = c->high << 8 | 255, c->shifted++) {
        if (c->out < c->out_end) *c->out++ = (uint8_t)(c->high >> 24);
        else c->beyond = 1;
    }
}

static uint32_t next_byte(Coder *c) {
    if (c->in < c->in_end) return *c->in++;
    c->beyond++;
    return 0;
}

static int decode_bit(Coder *c, int p) {
    uint32_t mid = middle(c, p);
    int bit = c->code <= mid;
    narrow(c, mid, bit);
    for (; !((c->low ^ c->high) >> 24); c->low <<= 8, c->high = c->high << 8 | 255, c->shifted++)
        c->code = c->code << 8 | next_byte(c);
    return bit;
}

/* The payload ends with as few bytes as tell a number in [low, high], zeros being read behind them: how many. */
static int last_bytes(const Coder *c, uint32_t *value) {
    int n = 1;
    while (n < 4 && c->high >> (32 - 8 * n) << (32 - 8 * n) < c->low) n++;
    *value = n == 4 ? c->high : c->high >> (32 - 8 * n) << (32 - 8 * n);
    return n;
}

static void finish(Coder *c) {
    uint32_t value;
    int n = last_bytes(c, &value);
    for (int k = 0; k < n; k++) {
        if (c->out < c->out_end) *c->out++ = (uint8_t)(value >> (24 - 8 * k));
        else c->beyond = 1;
    }
}

typedef struct {
    const ChunkerJob *job;
    const ChunkerTables *tables;
    Level0 *level0;
    Stack *stack;
    Coder coder;
    int decodes;
    uint32_t position;
} Block;

static int sound(const ChunkerJob *job, int64_t size) {
    if (!job->tables || size < 0 || size > CHUNKER_MAX_BLOCK || job->kernels < 0 || job->kernels >= MAX_KERNELS) return 0;
    if (!job->tables->kernels[job->kernels] || job->contexts < 0 || job->contexts > 2) return 0;
    return job->gate >= 0 && job->gate <= CHUNKER_GATE_ALWAYS && (job->gate == 0 || job->model);
}

static int begin(Block *b, const ChunkerJob *job, const uint8_t *content, int64_t size) {
    const Kernels *kernels = job->tables->kernels[job->kernels];
    b->job = job, b->tables = job->tables;
    b->coder.high = UINT32_MAX;
    b->level0 = level0_new(job->tables, kernels, content, (uint32_t)size, job->contexts, job->gate > 0, job->without_contexts,
                           job->without_parts);
    if (!b->level0) return 0;
    if (job->gate == 0) return 1;
    b->stack = stack_new(job->model, job->tables, kernels, content);
    return b->stack != NULL;
}

static void end(Block *b) {
    level0_free(b->level0);
    stack_free(b->stack);
}

/* Codes the next byte: `byte` if this encodes; returns it. */
static uint32_t code_byte(Block *b, uint32_t byte) {
    Level0 *l = b->level0;
    Advice advice = {0};
    int gate = b->job->gate, moved = 0;
    uint32_t guess = 256, confidence = 0;
    int64_t cost = 0;
    level0_begin_byte(l);
    if (gate) guess = level0_guess(l, &confidence);
    for (int k = 7; k >= 0; k--) {
        level0_gather(l);
        int p = 0, asleep = gate && !advice.awake;
        if (!asleep || gate != CHUNKER_GATE_ALWAYS) {
            if (advice.awake) stack_advise(b->stack, l->partial, &advice);
            p = level0_mix(l, &advice);
        }
        if (asleep && (gate == CHUNKER_GATE_ALWAYS || abs(l->odds) < gate)) {
            moved = stack_wake(b->stack, b->position, guess, confidence);
            stack_advise(b->stack, l->partial, &advice);
            p = level0_mix(l, &advice);
        }
        int bit = byte >> k & 1;
        if (b->decodes) bit = decode_bit(&b->coder, p);
        else encode_bit(&b->coder, p, bit);
        if (b->job->bits) cost += 16 * 4096 - log2_12(b->tables, (uint32_t)(bit ? p : 65536 - p));
        level0_update(l, bit);
    }
    byte = l->partial & 255;
    if (advice.awake) stack_saw(b->stack, byte);
    if (b->job->bits) b->job->bits[b->position] = (float)cost / 4096;
    if (b->job->levels) b->job->levels[b->position] = (uint8_t)moved;
    return byte;
}

/* Whether to stop; tells how far it came. */
static int look(const Block *b) {
    if (b->position % LOOK_EVERY) return 0;
    if (b->job->done) *b->job->done = b->position;
    return b->job->stop && *b->job->stop;
}

int64_t chunker_encode_block(const ChunkerJob *job, const uint8_t *content, int64_t size, uint8_t *payload, int64_t capacity) {
    Block b = {0};
    if (!sound(job, size) || capacity < 0) return CHUNKER_BAD_JOB;
    int64_t result = 0;
    if (begin(&b, job, content, size)) {
        b.coder.out = payload, b.coder.out_end = payload + capacity;
        for (; b.position < size && !result; b.position++) {
            if (look(&b)) result = CHUNKER_STOPPED;
            else if (b.coder.beyond) result = CHUNKER_TOO_LARGE;
            else code_byte(&b, content[b.position]), level0_end_byte(b.level0);
        }
        if (!result) {
            finish(&b.coder);
            if (job->done) *job->done = size;
            result = b.coder.beyond ? CHUNKER_TOO_LARGE : b.coder.out - payload;
        }
    } else {
        result = CHUNKER_NO_MEMORY;
    }
    end(&b);
    return result;
}

int64_t chunker_decode_block(const ChunkerJob *job, const uint8_t *payload, int64_t payload_size, uint8_t *content, int64_t size) {
    Block b = {.decodes = 1};
    if (!sound(job, size) || payload_size < 0) return CHUNKER_BAD_JOB;
    int64_t result = 0;
    if (begin(&b, job, content, size)) {
        b.coder.in = payload, b.coder.in_end = payload + payload_size;
        for (int k = 0; k < 4; k++) b.coder.code = b.coder.code << 8 | next_byte(&b.coder);
        for (; b.position < size && !result; b.position++) {
            if (look(&b)) {
                result = CHUNKER_STOPPED;
            } else {
                content[b.position] = (uint8_t)code_byte(&b, 0);
                level0_end_byte(b.level0);
                if (b.coder.beyond > 3) result = CHUNKER_CORRUPT;
            }
        }
        uint32_t value;
        if (!result && b.coder.shifted + last_bytes(&b.coder, &value) != payload_size) result = CHUNKER_CORRUPT;
        if (!result && job->done) *job->done = size;
        if (!result) result = size;
    } else {
        result = CHUNKER_NO_MEMORY;
    }
    end(&b);
    return result;
}

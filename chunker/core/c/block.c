/* One block: the loop over its bytes and the coder of its bits. */
#include "stack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY 64 /* bytes between two looks at the stop flag */
#define MOST_OPEN 3    /* of the bytes that a record's coder has shifted out, so many may be left away */
#define JOURNALED 4096 /* a session keeps what the first bytes of a record change; longer ones are coded by a copy of it */

/* A carryless binary arithmetic coder. The interval [low, high] is cut at the probability of a 1, which is the lower
 * part; bytes on which both ends agree are shifted out. */
typedef struct {
    uint32_t low, high;
    uint32_t code, last; /* decoder: the payload's number is one of these; they differ only behind its end */
    uint32_t open;       /* decoder: what may stand behind the payload's end: 0 .. open in each byte */
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

static void take_byte(Coder *c) {
    uint32_t byte = 0, last = c->open;
    if (c->in < c->in_end) byte = last = *c->in++;
    else c->beyond++;
    c->code = c->code << 8 | byte, c->last = c->last << 8 | last;
}

static int decode_bit(Coder *c, int p) {
    uint32_t mid = middle(c, p);
    int bit = c->last <= mid;
    if (!bit && c->code <= mid) { /* both are possible: that of more numbers */
        bit = mid - c->code + 1 >= c->last - mid;
        if (bit) c->last = mid;
        else c->code = mid + 1;
    }
    narrow(c, mid, bit);
    for (; !((c->low ^ c->high) >> 24); c->low <<= 8, c->high = c->high << 8 | 255, c->shifted++) take_byte(c);
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

enum { ENCODES, DECODES, READS };

typedef struct {
    const ChunkerJob *job;
    const ChunkerTables *tables;
    Level0 *level0;
    Stack *stack;    /* NULL: level 0 is alone */
    Coder coder;
    int mode;
    uint32_t position;
    uint32_t asleep_until; /* before this position the recurrent levels do not wake */
} Block;

/* How the bits of a byte are being predicted. */
typedef struct {
    Advice advice;
    int asleep;      /* the recurrent levels may wake yet */
    int woke, moved;
    uint32_t guess, confidence;
} Waking;

typedef struct {
    int32_t cost;    /* 4096 to a bit */
    uint32_t byte, level;
} Candidate;

/* What a session tells of one byte. */
typedef struct {
    int32_t cost;    /* 4096 to a bit */
    uint16_t probability[8];
    Waking waking;
    float *level_bits; /* where to write them, or NULL */
    int32_t rank_from; /* tell rank and best of a byte that costs as much or more; INT32_MAX: do not */
    int32_t rank;
    Candidate best[CHUNKER_BEST];
} Told;

static int sound(const ChunkerJob *job, int64_t size) {
    if (!job->tables || size < 0 || size > CHUNKER_MAX_BLOCK || job->kernels < 0 || job->kernels >= MAX_KERNELS) return 0;
    if (!job->tables->kernels[job->kernels] || job->contexts < 0 || job->contexts > 2) return 0;
    return job->gate >= 0 && job->gate <= CHUNKER_GATE_ALWAYS;
}

static int can_code(const ChunkerJob *job, int64_t size) { return sound(job, size) && (job->gate == 0 || job->model); }

/* given: where the states of its level 0 and then of its stack lie, saved from a block made alike; or NULL. */
static int begin(Block *b, const ChunkerJob *job, const uint8_t *content, int64_t size, char *given) {
    const Kernels *kernels = job->tables->kernels[job->kernels];
    int with_stack = job->gate > 0 && job->model;
    b->job = job, b->tables = job->tables;
    b->coder.high = UINT32_MAX;
    b->level0 = level0_new(job->tables, kernels, content, (uint32_t)size, job->contexts, with_stack, job->without_contexts,
                           job->without_parts, given);
    if (!b->level0) return 0;
    if (!with_stack) return 1;
    b->stack = stack_new(job->model, job->tables, kernels, content, given ? given + level0_size(b->level0) : NULL);
    return b->stack != NULL;
}

static void end(Block *b) {
    level0_free(b->level0);
    stack_free(b->stack);
}

/* The probability of a 1 as the next bit of this byte. */
static inline int predict_bit(Block *b, Waking *w) {
    Level0 *l = b->level0;
    int gate = b->job->gate, always = gate == CHUNKER_GATE_ALWAYS, p = 0;
    level0_gather(l);
    if (w->advice.awake) stack_advise(b->stack, l->partial, &w->advice);
    if (!(w->asleep && always && b->stack)) p = level0_mix(l, &w->advice);
    if (w->asleep && (always || abs(l->odds) < gate)) {
        w->asleep = 0, w->woke = l->bit;
        if (b->stack) {
            w->moved = stack_wake(b->stack, b->position, w->guess, w->confidence);
            stack_advise(b->stack, l->partial, &w->advice);
            p = level0_mix(l, &w->advice);
        }
    }
    return p;
}

static inline int32_t cost_of(const Block *b, int p, int bit) {
    return 16 * 4096 - log2_12(b->tables, (uint32_t)(bit ? p : 65536 - p));
}

static int tell_rank(Block *b, uint32_t byte, const Waking *at_first, Told *told);

/* Codes or reads the next byte, `byte` unless this decodes; returns it. The caller puts it into the content and calls
 * end_byte. told: NULL, or what to tell of it. */
static uint32_t code_byte(Block *b, uint32_t byte, Told *told) {
    Level0 *l = b->level0;
    Waking w = {.asleep = b->job->gate > 0 && b->position >= b->asleep_until, .woke = 8, .guess = 256}, at_first;
    level0_begin_byte(l);
    if (b->stack || told) w.guess = level0_guess(l, &w.confidence);
    for (int k = 7; k >= 0; k--) {
        int p = predict_bit(b, &w), bit = byte >> k & 1;
        if (b->mode == DECODES) bit = decode_bit(&b->coder, p);
        else if (b->mode == ENCODES) encode_bit(&b->coder, p, bit);
        if (told) {
            told->cost += cost_of(b, p, bit);
            told->probability[7 - k] = (uint16_t)p;
            if (k == 7) at_first = w;
        }
        level0_update(l, bit);
    }
    byte = l->partial & 255;
    if (told) {
        told->waking = w;
        if (told->level_bits && w.advice.awake) stack_costs(b->stack, byte, told->level_bits);
        if (told->cost >= told->rank_from) tell_rank(b, byte, &at_first, told);
    }
    if (w.advice.awake) stack_saw(b->stack, byte);
    return byte;
}

/* ---- rank, and the likeliest bytes ---- */

static void found(Told *told, Candidate c) {
    told->rank += c.cost < told->cost;
    int i = CHUNKER_BEST;
    for (; i && (c.cost < told->best[i - 1].cost || (c.cost == told->best[i - 1].cost && c.byte < told->best[i - 1].byte)); i--)
        if (i < CHUNKER_BEST) told->best[i] = told->best[i - 1];
    if (i < CHUNKER_BEST) told->best[i] = c;
}

/* Walks through the bytes that go on as this one does, the likelier bit first, and passes by those that cost too much to
 * count. A bit has been predicted with p; cost: of those before it. Returns 0 without memory. */
static int search(Block *b, const Waking *w, int p, int32_t cost, Told *told) {
    Level0 *l = b->level0;
    for (int k = 0, likelier = p >= 32768; k < 2; k++) {
        int bit = k ? !likelier : likelier;
        int32_t so_far = cost + cost_of(b, p, bit);
        if (so_far >= told->cost && so_far > told->best[CHUNKER_BEST - 1].cost) continue;
        level0_update(l, bit);
        if (l->bit == 8) {
            uint32_t byte = l->partial & 255;
            int level = w->advice.awake ? stack_source(b->stack, byte, so_far) : 0;
            found(told, (Candidate){so_far, byte, (uint32_t)level});
        } else {
            Waking next = *w;
            if (!search(b, &next, predict_bit(b, &next), so_far, told)) return 0;
        }
        if (!level0_back(l)) return 0;
    }
    return 1;
}

/* Goes back to the byte's first bit, looks what the other bytes would have cost, and reads the byte again. Returns 0 without
 * memory; then the journal has failed. */
static int tell_rank(Block *b, uint32_t byte, const Waking *at_first, Told *told) {
    Level0 *l = b->level0;
    int slept = b->stack && !told->waking.advice.awake; /* though other bytes may wake it; once awake it stays as it is */
    Waking w = *at_first;
    told->rank = 1;
    for (int i = 0; i < CHUNKER_BEST; i++) told->best[i].cost = INT32_MAX;
    while (l->bit)
        if (!level0_back(l)) return 0;
    if (slept && !stack_mark(b->stack)) return !(l->journal.failed = 1);
    if (!search(b, &w, told->probability[0], 0, told)) return 0;
    if (slept) stack_undo(b->stack);
    for (int k = 7; k >= 0; k--) {
        level0_update(l, byte >> k & 1);
        if (k) predict_bit(b, &w);
    }
    return 1;
}

static void end_byte(Block *b) {
    level0_end_byte(b->level0);
    b->position++;
}

/* Another thread may look at it meanwhile. */
static void tell(const Block *b, int64_t done) {
    if (b->job->done) __atomic_store_n(b->job->done, done, __ATOMIC_RELAXED);
}

/* Whether to stop; tells how far it came. */
static int look(const Block *b, int64_t done) {
    if (done % LOOK_EVERY) return 0;
    tell(b, done);
    return b->job->stop && __atomic_load_n(b->job->stop, __ATOMIC_RELAXED);
}

/* content: what comes next in the block; likewise below. */
static int64_t encode(Block *b, const uint8_t *content, int64_t size) {
    for (int64_t i = 0; i < size; i++) {
        if (look(b, i)) return CHUNKER_STOPPED;
        if (b->coder.beyond) return CHUNKER_TOO_LARGE;
        code_byte(b, content[i], NULL);
        end_byte(b);
    }
    finish(&b->coder);
    tell(b, size);
    return b->coder.beyond ? CHUNKER_TOO_LARGE : 0;
}

static int64_t decode(Block *b, uint8_t *content, int64_t size, int64_t payload_size) {
    for (int k = 0; k < 4; k++) take_byte(&b->coder);
    for (int64_t i = 0; i < size; i++) {
        if (look(b, i)) return CHUNKER_STOPPED;
        content[i] = (uint8_t)code_byte(b, 0, NULL);
        end_byte(b);
        if (b->coder.beyond > 3) return CHUNKER_CORRUPT;
    }
    uint32_t value;
    if (b->coder.shifted + last_bytes(&b->coder, &value) != payload_size) return CHUNKER_CORRUPT;
    tell(b, size);
    return size;
}

/* ---- sessions ---- */

struct ChunkerSession {
    Block block;
    ChunkerJob job;
    uint8_t *content;
    int64_t capacity;
    int restored;   /* its content and tables lie in memory of its owner */
    int marked;     /* the state is remembered, and everything that changes it is journaled */
};

ChunkerSession *chunker_session_new(const ChunkerJob *job, int64_t capacity) {
    if (!sound(job, capacity)) return NULL;
    ChunkerSession *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->job = *job, s->capacity = capacity, s->block.mode = READS;
    s->content = calloc(1, (size_t)capacity + 1);
    if (s->content && begin(&s->block, &s->job, s->content, capacity, NULL)) return s;
    chunker_session_free(s);
    return NULL;
}

/* A state in memory: this, the content, level 0, the stack. */
typedef struct {
    uint64_t size, capacity, position;
    uint32_t abi, level0, reading; /* CHUNKER_ABI, and sizes of structs: states are of one build's layout */
    int32_t contexts, gate, with_stack;
    char unused[16];
} Saved;

static Saved saved(const ChunkerSession *s) {
    Saved head = {.capacity = (uint64_t)s->capacity, .position = s->block.position, .abi = CHUNKER_ABI};
    head.level0 = sizeof(Level0), head.reading = sizeof(Reading);
    head.contexts = s->job.contexts, head.gate = s->job.gate, head.with_stack = s->block.stack != NULL;
    head.size = sizeof head + padded((size_t)s->capacity + 1) + level0_size(s->block.level0);
    if (s->block.stack) head.size += stack_size(s->block.stack);
    return head;
}

int64_t chunker_session_save(const ChunkerSession *s, uint8_t *state, int64_t room) {
    Saved head = saved(s);
    if (s->block.level0->journal.failed) return CHUNKER_NO_MEMORY;
    if ((int64_t)head.size > room) return (int64_t)head.size;
    char *to = put((char *)state, &head, sizeof head);
    to = put(to, s->content, (size_t)s->capacity + 1);
    level0_save(s->block.level0, to);
    if (s->block.stack) stack_save(s->block.stack, to + level0_size(s->block.level0));
    return (int64_t)head.size;
}

ChunkerSession *chunker_session_restore(const ChunkerJob *job, int64_t capacity, uint8_t *state, int64_t size) {
    const Saved *head = (const Saved *)(const void *)state;
    if (!sound(job, capacity) || size < (int64_t)sizeof *head || head->size != (uint64_t)size) return NULL;
    if (head->capacity != (uint64_t)capacity || head->position > head->capacity || head->abi != CHUNKER_ABI) return NULL;
    if (head->level0 != sizeof(Level0) || head->reading != sizeof(Reading)) return NULL;
    if (head->contexts != job->contexts || head->gate != job->gate) return NULL;
    if (head->with_stack != (job->gate > 0 && job->model)) return NULL;
    ChunkerSession *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->job = *job, s->capacity = capacity, s->block.mode = READS, s->restored = 1;
    s->content = state + sizeof *head;
    s->block.position = (uint32_t)head->position;
    if (begin(&s->block, &s->job, s->content, capacity, (char *)s->content + padded((size_t)capacity + 1)) &&
        saved(s).size == head->size)
        return s;
    chunker_session_free(s);
    return NULL;
}

ChunkerSession *chunker_session_copy(const ChunkerSession *s) {
    if (s->block.level0->journal.failed) return NULL;
    ChunkerSession *copy = chunker_session_new(&s->job, s->capacity);
    if (!copy) return NULL;
    Block *b = &copy->block;
    b->position = s->block.position;
    memcpy(copy->content, s->content, b->position);
    level0_copy(b->level0, s->block.level0);
    if (b->stack) stack_copy(b->stack, s->block.stack);
    return copy;
}

void chunker_session_free(ChunkerSession *s) {
    if (!s) return;
    end(&s->block);
    if (!s->restored) free(s->content);
    free(s);
}

int64_t chunker_session_left(const ChunkerSession *s) { return s->capacity - s->block.position; }

int64_t chunker_session_read(ChunkerSession *s, const uint8_t *bytes, int64_t size, int64_t asleep,
                             const ChunkerReadings *to) {
    Block *b = &s->block;
    if (size < 0 || size > chunker_session_left(s) || asleep < 0) return CHUNKER_BAD_JOB;
    if (b->level0->journal.failed) return CHUNKER_NO_MEMORY;
    s->marked = b->level0->journal.writing = 0;
    b->asleep_until = b->position + (uint32_t)(asleep < size ? asleep : size);
    int levels = b->stack ? stack_levels(b->stack) : 0;
    int32_t rank_from = to->rank ? (int32_t)(to->rank_from * 4096) : INT32_MAX;
    for (int64_t i = 0; i < size; i++) {
        if (look(b, i)) return CHUNKER_STOPPED;
        Told told = {.level_bits = to->level_bits ? to->level_bits + i * levels : NULL, .rank_from = rank_from};
        for (int k = 0; told.level_bits && k < levels; k++) told.level_bits[k] = NAN;
        s->content[b->position] = bytes[i];
        if (to->rank) level0_keep_bits(b->level0);
        code_byte(b, bytes[i], &told);
        end_byte(b);
        if (b->level0->journal.failed) return CHUNKER_NO_MEMORY;
        if (to->bits) to->bits[i] = (float)told.cost / 4096;
        if (to->levels) to->levels[i] = (uint8_t)told.waking.moved;
        if (to->woke) to->woke[i] = (uint8_t)told.waking.woke;
        if (to->guess) to->guess[i] = (uint16_t)told.waking.guess;
        if (to->confidence) to->confidence[i] = (uint8_t)told.waking.confidence;
        if (to->probability) memcpy(to->probability + 8 * i, told.probability, sizeof told.probability);
        if (to->rank) to->rank[i] = (uint16_t)told.rank;
        for (int k = 0; to->rank && k < CHUNKER_BEST; k++) {
            const Candidate *c = told.best + k;
            to->best[CHUNKER_BEST * i + k] = (uint8_t)c->byte;
            to->best_bits[CHUNKER_BEST * i + k] = (float)c->cost / 4096;
            to->best_levels[CHUNKER_BEST * i + k] = (uint8_t)c->level;
        }
    }
    if (s->job.done) *s->job.done = size;
    return size;
}

/* ---- going back ---- */

static int mark(ChunkerSession *s) {
    if (s->marked) return 1;
    s->marked = level0_mark(s->block.level0) && (!s->block.stack || stack_mark(s->block.stack));
    return s->marked;
}

/* Back to where the record began. */
static int go_back(ChunkerSession *s, uint32_t position) {
    s->block.position = position;
    s->block.mode = READS;
    memset(&s->block.coder, 0, sizeof s->block.coder);
    if (s->block.stack) stack_undo(s->block.stack);
    return level0_undo(s->block.level0);
}

/* ---- blocks ---- */

static int64_t encode_rest(ChunkerSession *s, const uint8_t *content, int64_t size, uint8_t *payload, int64_t capacity) {
    Block *b = &s->block;
    uint8_t *own = s->content + b->position;
    b->mode = ENCODES;
    b->coder = (Coder){.high = UINT32_MAX, .out = payload, .out_end = payload + capacity};
    memcpy(own, content, (size_t)size);
    int64_t result = encode(b, own, size);
    return result < 0 ? result : b->coder.out - payload;
}

static int64_t decode_rest(ChunkerSession *s, const uint8_t *payload, int64_t payload_size, uint8_t *content, int64_t size) {
    Block *b = &s->block;
    uint8_t *own = s->content + b->position;
    b->mode = DECODES;
    b->coder = (Coder){.high = UINT32_MAX, .in = payload, .in_end = payload + payload_size};
    int64_t result = decode(b, own, size, payload_size);
    memcpy(content, own, (size_t)(s->content + b->position - own));
    return result;
}

typedef int64_t CodeRest(ChunkerSession *s, const uint8_t *in, int64_t in_size, uint8_t *out, int64_t out_size);

/* Codes the rest of a block, of `size` bytes, with a journal of what that changes, with a copy, or with the session itself. */
static int64_t code_rest(ChunkerSession *s, CodeRest *code, int64_t size, const uint8_t *in, int64_t in_size, uint8_t *out,
                         int64_t out_size, int keep) {
    if (size > chunker_session_left(s) || in_size < 0 || out_size < 0) return CHUNKER_BAD_JOB;
    if (s->job.gate && !s->job.model) return CHUNKER_BAD_JOB;
    if (!keep) return code(s, in, in_size, out, out_size);
    if (size > JOURNALED) {
        ChunkerSession *copy = chunker_session_copy(s);
        int64_t result = copy ? code(copy, in, in_size, out, out_size) : CHUNKER_NO_MEMORY;
        chunker_session_free(copy);
        return result;
    }
    uint32_t position = s->block.position;
    if (!mark(s)) return CHUNKER_NO_MEMORY;
    int64_t result = code(s, in, in_size, out, out_size);
    return go_back(s, position) ? result : CHUNKER_NO_MEMORY;
}

/* The same for a session that outlives stop and done. */
static int64_t code_told(ChunkerSession *s, CodeRest *code, int64_t size, const uint8_t *in, int64_t in_size, uint8_t *out,
                         int64_t out_size, int keep, const volatile int32_t *stop, volatile int64_t *done) {
    s->job.stop = stop, s->job.done = done;
    int64_t result = code_rest(s, code, size, in, in_size, out, out_size, keep);
    s->job.stop = NULL, s->job.done = NULL;
    return result;
}

/* A block of its own. */
static int64_t code_block(const ChunkerJob *job, CodeRest *code, int64_t size, const uint8_t *in, int64_t in_size, uint8_t *out,
                          int64_t out_size) {
    if (!can_code(job, size)) return CHUNKER_BAD_JOB;
    ChunkerSession *s = chunker_session_new(job, size);
    int64_t result = s ? code_rest(s, code, size, in, in_size, out, out_size, 0) : CHUNKER_NO_MEMORY;
    chunker_session_free(s);
    return result;
}

int64_t chunker_session_encode_block(ChunkerSession *s, const uint8_t *content, int64_t size, uint8_t *payload, int64_t capacity,
                                     int32_t keep, const volatile int32_t *stop, volatile int64_t *done) {
    return code_told(s, encode_rest, size, content, size, payload, capacity, keep, stop, done);
}

int64_t chunker_session_decode_block(ChunkerSession *s, const uint8_t *payload, int64_t payload_size, uint8_t *content, int64_t size,
                                     int32_t keep, const volatile int32_t *stop, volatile int64_t *done) {
    return code_told(s, decode_rest, size, payload, payload_size, content, size, keep, stop, done);
}

int64_t chunker_encode_block(const ChunkerJob *job, const uint8_t *content, int64_t size, uint8_t *payload, int64_t capacity) {
    return code_block(job, encode_rest, size, content, size, payload, capacity);
}

int64_t chunker_decode_block(const ChunkerJob *job, const uint8_t *payload, int64_t payload_size, uint8_t *content, int64_t size) {
    return code_block(job, decode_rest, size, payload, payload_size, content, size);
}

/* ---- records ---- */

typedef uint16_t Chances[8]; /* of a 1, before each bit of a byte, 65536 to 1 */

static Coder record_coder(void) { return (Coder){.high = ((uint32_t)CHUNKER_RESERVED << 24) - 1}; }

static Coder record_decoder(const uint8_t *payload, int64_t payload_size) {
    Coder c = record_coder();
    c.in = payload, c.in_end = payload + payload_size, c.open = 255;
    for (int k = 0; k < 4; k++) take_byte(&c);
    if (c.last > c.high) c.last = c.high;
    return c;
}

/* Whether a payload gives the record. */
static int gives(const uint8_t *payload, int64_t payload_size, const Chances *chances, const uint8_t *record, int64_t size) {
    Coder c = record_decoder(payload, payload_size);
    for (int64_t i = 0; i < 8 * size; i++)
        if (decode_bit(&c, chances[i / 8][i % 8]) != (record[i / 8] >> (7 - i % 8) & 1)) return 0;
    return 1;
}

static void put_number(uint8_t *to, uint32_t number) {
    for (int k = 0; k < 4; k++) to[k] = (uint8_t)(number >> (24 - 8 * k));
}

/* The payload of a record whose bits have these chances, in as few bytes as give it back; its size. */
static int64_t pack(const Chances *chances, const uint8_t *record, int64_t size, uint8_t *payload, int64_t capacity) {
    Coder c = record_coder();
    c.out = payload, c.out_end = payload + capacity;
    for (int64_t i = 0; i < 8 * size; i++) encode_bit(&c, chances[i / 8][i % 8], record[i / 8] >> (7 - i % 8) & 1);
    int64_t shifted = c.out - payload, least = shifted > MOST_OPEN ? shifted - MOST_OPEN : 1, n = shifted + 4;
    if (c.beyond || n > capacity) return CHUNKER_TOO_LARGE;
    uint32_t number = c.low; /* follows what was shifted out */
    for (int64_t fewer = n - 1; fewer >= least; fewer--) {
        int rest = 8 * (int)(shifted + 4 - fewer);
        uint64_t first = (uint64_t)c.low >> rest, last = (uint64_t)c.high >> rest;
        uint64_t each = last - first > 1 ? first + 1 : first; /* one in between surely gives it */
        for (; each <= last; each++) {
            put_number(c.out, (uint32_t)(each << rest));
            if (gives(payload, fewer, chances, record, size)) break;
        }
        if (each > last) break;
        n = fewer, number = (uint32_t)(each << rest);
    }
    put_number(c.out, number);
    return n;
}

/* Codes what comes next in the content: exactly `size` bytes, or up to the first that is `end` if that is not -1; tells how
 * many. BAD_JOB: they go on after `most`. */
static int64_t code_record(ChunkerSession *s, int64_t size, int32_t end, int64_t most, Chances *chances) {
    Block *b = &s->block;
    int64_t n = 0;
    for (int ended = end < 0 && !size; !ended; n++) {
        if (n == size) return CHUNKER_CORRUPT;
        if (n == most) return CHUNKER_BAD_JOB;
        if (look(b, n)) return CHUNKER_STOPPED;
        Told told = {.rank_from = INT32_MAX}; /* the journal is that of the record */
        uint8_t *byte = s->content + b->position;
        *byte = (uint8_t)code_byte(b, *byte, &told);
        memcpy(chances[n], told.probability, sizeof *chances);
        end_byte(b);
        if (b->coder.beyond > 4 + MOST_OPEN) return CHUNKER_CORRUPT;
        ended = end < 0 ? n + 1 == size : *byte == end;
    }
    return n;
}

static int64_t encode_record(ChunkerSession *s, const uint8_t *record, int64_t size, uint8_t *payload, int64_t capacity) {
    Chances *chances = malloc((size_t)size * sizeof *chances + 1);
    if (!chances) return CHUNKER_NO_MEMORY;
    memcpy(s->content + s->block.position, record, (size_t)size);
    int64_t result = code_record(s, size, -1, size, chances);
    if (result >= 0) result = pack(chances, record, size, payload, capacity);
    free(chances);
    return result;
}

static int64_t decode_record(ChunkerSession *s, const uint8_t *payload, int64_t payload_size, uint8_t *record, int64_t size,
                             int32_t end, int64_t most) {
    Block *b = &s->block;
    int64_t room = size < most ? size : most;
    uint8_t *again = malloc((size_t)payload_size + 8);
    Chances *chances = malloc((size_t)room * sizeof *chances + 1);
    int64_t result = CHUNKER_NO_MEMORY;
    if (again && chances) {
        const uint8_t *begin = s->content + b->position;
        b->mode = DECODES, b->coder = record_decoder(payload, payload_size);
        result = code_record(s, size, end, most, chances);
        if (result >= 0) {
            memcpy(record, begin, (size_t)result);
            int64_t n = pack(chances, record, result, again, payload_size + 8);
            if (n != payload_size || memcmp(again, payload, (size_t)n)) result = CHUNKER_CORRUPT;
        }
    }
    free(again), free(chances);
    return result;
}

int64_t chunker_session_encode(ChunkerSession *s, const uint8_t *record, int64_t size, uint8_t *payload, int64_t capacity) {
    uint32_t position = s->block.position;
    if (size < 0 || size > chunker_session_left(s) || capacity < 0) return CHUNKER_BAD_JOB;
    if (s->job.gate && !s->job.model) return CHUNKER_BAD_JOB;
    if (size > JOURNALED) {
        ChunkerSession *copy = chunker_session_copy(s);
        int64_t result = copy ? encode_record(copy, record, size, payload, capacity) : CHUNKER_NO_MEMORY;
        chunker_session_free(copy);
        return result;
    }
    if (!mark(s)) return CHUNKER_NO_MEMORY;
    int64_t result = encode_record(s, record, size, payload, capacity);
    return go_back(s, position) ? result : CHUNKER_NO_MEMORY;
}

int64_t chunker_session_decode(ChunkerSession *s, const uint8_t *payload, int64_t payload_size, uint8_t *record, int64_t size,
                               int32_t end) {
    uint32_t position = s->block.position;
    if (size < 0 || payload_size < 0 || end > 255 || (s->job.gate && !s->job.model)) return CHUNKER_BAD_JOB;
    if (size > chunker_session_left(s)) size = chunker_session_left(s);
    if (payload_size && payload[0] >= CHUNKER_RESERVED) return CHUNKER_CORRUPT;
    if (!mark(s)) return CHUNKER_NO_MEMORY;
    int64_t result = decode_record(s, payload, payload_size, record, size, end, JOURNALED);
    if (!go_back(s, position)) return CHUNKER_NO_MEMORY;
    if (result != CHUNKER_BAD_JOB) return result;
    ChunkerSession *copy = chunker_session_copy(s);
    result = copy ? decode_record(copy, payload, payload_size, record, size, end, size) : CHUNKER_NO_MEMORY;
    chunker_session_free(copy);
    return result;
}

/* Made-up and mutated payloads through the decoder, to be built with -fsanitize=address,undefined:
 *
 *     fuzz CASES [SEED [FIRST [MODEL]]]
 *
 * Each case codes a made-up content with made-up settings, with or without a model, harms the payload, and decodes it,
 * half of the time with two instruction sets. Both must give the same bytes and the same result, the size or
 * CHUNKER_CORRUPT, and an unharmed payload its content. Other cases read a content in a session, code records from one,
 * or give the library too little room, a stop flag, a model or a job that is wrong. A case depends on SEED and its number alone: `fuzz 1 SEED CASE` repeats it. MODEL: a file of blob.py, used beside those
 * that are made up in every sixteenth group of 256 cases. */
#include "common.h"

#include <time.h>

#define MODELS 8
#define SLOWEST_S 60.0 /* more than this for one case is a failure */

typedef struct {
    const ChunkerTables *tables;
    int sets;
    Made made[MODELS];
    ChunkerModel *model[MODELS];
    long number;
} Setup;

static void wrong(const Setup *s, const char *what) {
    fprintf(stderr, "case %ld: %s\n", s->number, what);
    exit(1);
}

/* ---- contents ---- */

static void fill(Random *r, uint8_t *content, size_t size) {
    static const char *words[] = {"the ", "of ", "and ", "history ", "level ", "\n", "0, ", "17.25, ", "\"name\": ", "</a>"};
    uint32_t kind = below(r, 6), period = 1 + below(r, 64), counter = below(r, 1000);
    size_t n = 0;
    while (n < size) {
        char piece[64];
        switch (kind) {
        case 0: piece[0] = (char)next(r), piece[1] = 0; break;                       /* noise */
        case 1: piece[0] = (char)('a' + below(r, 4)), piece[1] = 0; break;           /* few letters */
        case 2: snprintf(piece, sizeof piece, "%s", words[below(r, 10)]); break;     /* words */
        case 3: snprintf(piece, sizeof piece, "id=%u,ok=%u\n", counter++, below(r, 2)); break; /* records */
        case 4: piece[0] = n < period ? (char)next(r) : (char)content[n - period], piece[1] = 0; break;
        default: piece[0] = 0, piece[1] = 0;                                         /* zeros */
        }
        size_t length = strlen(piece) ? strlen(piece) : 1;
        for (size_t i = 0; i < length && n < size; i++) content[n++] = (uint8_t)piece[i];
    }
}

static size_t some_size(Random *r) {
    if (below(r, 1000) == 0) return below(r, 5000);
    return below(r, 4) ? below(r, 64) : below(r, 12);
}

/* ---- harm ---- */

/* A buffer of exactly the new size, freed by the caller; the old one is freed here. */
static uint8_t *harm(Random *r, uint8_t *payload, size_t *size) {
    size_t old = *size, n = old;
    uint32_t kind = below(r, 5);
    if (kind == 0) n = below(r, (uint32_t)old + 1);
    if (kind == 1) n = old + 1 + below(r, 40);
    if (kind == 2) n = below(r, 200);
    uint8_t *made = allocate(n);
    memcpy(made, payload, n < old ? n : old);
    free(payload);
    if (kind == 2)
        for (size_t i = 0; i < n; i++) made[i] = (uint8_t)next(r);
    if (kind == 1)
        for (size_t i = old; i < n; i++) made[i] = (uint8_t)(below(r, 2) ? next(r) : 0);
    for (uint32_t k = kind >= 3 ? 1 + below(r, 8) : below(r, 2); n && k; k--) {
        size_t at = below(r, (uint32_t)n);
        if (below(r, 2)) made[at] ^= (uint8_t)(1u << below(r, 8));
        else made[at] = (uint8_t)(below(r, 2) ? 255 : 0);
    }
    *size = n;
    return made;
}

/* ---- cases ---- */

static ChunkerJob some_job(const Setup *s, Random *r) {
    ChunkerJob job = {.tables = s->tables, .kernels = (int32_t)below(r, (uint32_t)s->sets), .contexts = (int32_t)below(r, 3)};
    uint32_t kind = below(r, 4);
    job.gate = kind == 0 ? 0 : kind == 1 ? CHUNKER_GATE_ALWAYS : between(r, 1, kind == 2 ? 4095 : 1500);
    if (job.gate || below(r, 8) == 0) job.model = s->model[below(r, MODELS)];
    return job;
}

/* Decodes with two instruction sets; returns the result, and content if it is whole. */
static int64_t decode(const Setup *s, Random *r, ChunkerJob job, const uint8_t *payload, size_t n, uint8_t *content, size_t size) {
    volatile int64_t done = -1;
    job.done = &done;
    int64_t result = chunker_decode_block(&job, payload, (int64_t)n, content, (int64_t)size);
    if (result != (int64_t)size && result != CHUNKER_CORRUPT) wrong(s, "the decoder's result");
    if (done > (int64_t)size || (result == (int64_t)size && done != result)) wrong(s, "the decoder's progress");
    if (below(r, 2)) return result;
    job.kernels = (job.kernels + 1) % s->sets;
    uint8_t *again = allocate(size);
    if (chunker_decode_block(&job, payload, (int64_t)n, again, (int64_t)size) != result) wrong(s, "two results");
    if (result >= 0 && memcmp(again, content, size)) wrong(s, "two contents");
    free(again);
    return result;
}

static void code_and_decode(const Setup *s, Random *r) {
    size_t size = some_size(r), capacity = 2 * size + 64, n;
    uint8_t *content = allocate(size), *payload = allocate(capacity);
    fill(r, content, size);
    ChunkerJob job = some_job(s, r);
    int64_t result = chunker_encode_block(&job, content, (int64_t)size, payload, (int64_t)capacity);
    if (result < 0) wrong(s, "the encoder's result");
    n = (size_t)result;
    payload = realloc(payload, n ? n : 1);
    if (!payload) wrong(s, "no memory");
    int whole = below(r, 8) == 0;
    if (!whole) payload = harm(r, payload, &n);
    size_t claimed = whole || below(r, 4) ? size : below(r, 400);
    if (!whole && below(r, 8) == 0) { /* other settings, another model */
        ChunkerJob other = some_job(s, r);
        job = other;
    }
    uint8_t *back = allocate(claimed);
    result = decode(s, r, job, payload, n, back, claimed);
    if (whole && (result != (int64_t)size || memcmp(back, content, size))) wrong(s, "the content did not come back");
    free(back);
    free(payload);
    free(content);
}

/* A session reads a content in parts. What it says that the bytes cost is what a payload of them takes. */
static void read_session(const Setup *s, Random *r) {
    size_t size = some_size(r), capacity = size + below(r, 100), levels = CHUNKER_MAX_LEVELS;
    uint8_t *content = allocate(size);
    fill(r, content, size);
    ChunkerJob job = some_job(s, r);
    if (below(r, 4) == 0) job.model = NULL;
    ChunkerSession *session = chunker_session_new(&job, (int64_t)capacity);
    if (!session) wrong(s, "a session was refused");
    for (size_t at = 0, n; at < size; at += n) {
        n = 1 + below(r, (uint32_t)(size - at));
        ChunkerReadings to = {0};
        to.bits = allocate(4 * n), to.levels = allocate(n);
        if (below(r, 2)) to.woke = allocate(n), to.guess = allocate(2 * n), to.confidence = allocate(n), to.probability = allocate(16 * n), to.level_bits = allocate(4 * n * levels);
        if (below(r, 4) == 0) to.rank = allocate(2 * n), to.best = allocate(5 * n), to.best_bits = allocate(20 * n), to.best_levels = allocate(5 * n), to.rank_from = (float)below(r, 12);
        if (chunker_session_read(session, content + at, (int64_t)n, below(r, 4) ? 0 : (int64_t)below(r, (uint32_t)n + 1), &to) != (int64_t)n) wrong(s, "a session's result");
        for (size_t i = 0; i < n; i++) {
            if (!(to.bits[i] >= 0 && to.bits[i] <= 8 * 17)) wrong(s, "bits of a byte");
            if (to.levels[i] > (job.gate && job.model ? CHUNKER_MAX_LEVELS : 0)) wrong(s, "levels of a byte");
            if (to.woke && (to.woke[i] > 8 || (to.woke[i] < 8 && !job.gate))) wrong(s, "when the levels woke");
            if (to.guess && (to.guess[i] > 256 || to.confidence[i] > 15)) wrong(s, "what level 0 held for likely");
            for (int k = 0; to.probability && k < 8; k++)
                if (!to.probability[8 * i + (size_t)k]) wrong(s, "a probability of 0");
            if (!to.rank) continue;
            if ((to.rank[i] > 0) != (to.bits[i] >= to.rank_from) || to.rank[i] > 256) wrong(s, "a rank");
            if (to.rank[i] && to.rank[i] <= 5 && to.best_bits[5 * i + to.rank[i] - 1] != to.bits[i]) wrong(s, "the likeliest bytes");
        }
        free(to.bits), free(to.levels), free(to.woke), free(to.guess), free(to.confidence), free(to.probability), free(to.level_bits);
        free(to.rank), free(to.best), free(to.best_bits), free(to.best_levels);
    }
    if (chunker_session_read(session, content, (int64_t)(capacity - size) + 1, 0, &(ChunkerReadings){0}) != CHUNKER_BAD_JOB)
        wrong(s, "a session read more than it has room for");
    chunker_session_free(session);
    free(content);
}

/* Records from a session come back, harmed ones are refused or other bytes, and the session stays as it was. */
static void code_records(const Setup *s, Random *r) {
    size_t size = some_size(r), room = below(r, 200) ? 100 : 6000, capacity = 16 * room + 16, first_size = 0;
    uint8_t *content = allocate(size), *record = allocate(room), *back = allocate(room);
    uint8_t *first = allocate(room), *first_payload = allocate(capacity);
    fill(r, content, size), fill(r, first, room);
    ChunkerJob job = some_job(s, r);
    if (!job.model) job.gate = 0;
    ChunkerSession *session = chunker_session_new(&job, (int64_t)(size + room));
    if (!session) wrong(s, "a session was refused");
    if (chunker_session_read(session, content, (int64_t)size, 0, &(ChunkerReadings){0}) != (int64_t)size) wrong(s, "a session's result");
    for (int k = 0; k < 4; k++) {
        size_t n = k == 0 || k == 3 ? room : below(r, (uint32_t)room + 1);
        uint8_t *payload = allocate(capacity);
        fill(r, record, n);
        if (k == 0 || k == 3) memcpy(record, first, room);
        int64_t result = chunker_session_encode(session, record, (int64_t)n, payload, (int64_t)capacity);
        if (result < 1 || payload[0] >= CHUNKER_RESERVED) wrong(s, "a record's payload");
        size_t payload_size = (size_t)result;
        if (k == 0) first_size = payload_size, memcpy(first_payload, payload, payload_size);
        if (k == 3 && (payload_size != first_size || memcmp(first_payload, payload, payload_size))) wrong(s, "a record left a trace");
        ChunkerSession *decoder = below(r, 4) ? session : chunker_session_copy(session);
        if (chunker_session_decode(decoder, payload, result, back, (int64_t)n, -1) != (int64_t)n || memcmp(back, record, n))
            wrong(s, "a record did not come back");
        payload = harm(r, payload, &payload_size);
        result = chunker_session_decode(decoder, payload, (int64_t)payload_size, back, (int64_t)room, (int32_t)below(r, 257) - 1);
        if (result != CHUNKER_CORRUPT && (result < 0 || result > (int64_t)room)) wrong(s, "a harmed record's result");
        if (decoder != session) chunker_session_free(decoder);
        free(payload);
    }
    chunker_session_free(session);
    free(content), free(record), free(back), free(first), free(first_payload);
}

/* The rest of a block whose beginning both sides know, twice with a session that is kept; with journal or copy. */
static void code_behind(const Setup *s, Random *r) {
    size_t known = some_size(r), size = below(r, 8) ? some_size(r) : 4097 + below(r, 2000), capacity = 2 * size + 64;
    uint8_t *first = allocate(known), *content = allocate(size), *back = allocate(size);
    uint8_t *payload = allocate(capacity), *again = allocate(capacity);
    fill(r, first, known), fill(r, content, size);
    ChunkerJob job = some_job(s, r);
    ChunkerSession *session = chunker_session_new(&job, (int64_t)(known + size + below(r, 100)));
    if (!session) wrong(s, "no memory");
    if (chunker_session_read(session, first, (int64_t)known, (int64_t)below(r, (uint32_t)known + 1), &(ChunkerReadings){0}) != (int64_t)known) wrong(s, "a session's result");
    int64_t n = chunker_session_encode_block(session, content, (int64_t)size, payload, (int64_t)capacity, 1, NULL, NULL);
    int64_t room = below(r, 2) ? (int64_t)capacity : (int64_t)below(r, (uint32_t)capacity);
    int64_t m = chunker_session_encode_block(session, content, (int64_t)size, again, room, 1, NULL, NULL);
    if (n < 0 || (m != n && (m != CHUNKER_TOO_LARGE || room > n))) wrong(s, "the encoder's result");
    if (m == n && memcmp(payload, again, (size_t)n)) wrong(s, "a block left a trace");
    volatile int32_t stop = 1;
    if (size && chunker_session_encode_block(session, content, (int64_t)size, again, room, 1, &stop, NULL) != CHUNKER_STOPPED)
        wrong(s, "the encoder was not stopped");
    size_t harmed_size = (size_t)n;
    uint8_t *harmed = allocate(harmed_size);
    memcpy(harmed, payload, harmed_size);
    harmed = harm(r, harmed, &harmed_size);
    m = chunker_session_decode_block(session, harmed, (int64_t)harmed_size, back, (int64_t)size, 1, NULL, NULL);
    if (m != (int64_t)size && m != CHUNKER_CORRUPT) wrong(s, "the decoder's result");
    m = chunker_session_decode_block(session, payload, n, back, (int64_t)size, (int32_t)below(r, 2), NULL, NULL);
    if (m != (int64_t)size || memcmp(back, content, size)) wrong(s, "the content did not come back");
    if (chunker_session_encode_block(session, content, CHUNKER_MAX_BLOCK, again, room, 1, NULL, NULL) != CHUNKER_BAD_JOB)
        wrong(s, "a session coded more than it has room for");
    chunker_session_free(session);
    free(first), free(content), free(back), free(payload), free(again), free(harmed);
}

/* Too little room: never a byte beyond it, and the payload whole or CHUNKER_TOO_LARGE. Or a stop flag that is set. */
static void cut_short(const Setup *s, Random *r) {
    size_t size = some_size(r), capacity = below(r, (uint32_t)size + 8);
    uint8_t *content = allocate(size), *payload = allocate(capacity);
    fill(r, content, size);
    ChunkerJob job = some_job(s, r);
    int64_t result = chunker_encode_block(&job, content, (int64_t)size, payload, (int64_t)capacity);
    if (result > (int64_t)capacity || (result < 0 && result != CHUNKER_TOO_LARGE)) wrong(s, "the encoder without room");
    volatile int32_t stop = 1;
    job.stop = &stop;
    if (size && chunker_encode_block(&job, content, (int64_t)size, payload, (int64_t)capacity) != CHUNKER_STOPPED)
        wrong(s, "the encoder was not stopped");
    if (size && chunker_decode_block(&job, payload, 0, content, (int64_t)size) != CHUNKER_STOPPED)
        wrong(s, "the decoder was not stopped");
    free(payload);
    free(content);
}

static void wrong_job(const Setup *s, Random *r) {
    uint8_t byte = 0;
    ChunkerJob job = some_job(s, r);
    int64_t size = 1;
    switch (below(r, 7)) {
    case 0: job.kernels = below(r, 2) ? -1 : s->sets + (int)below(r, 10); break;
    case 1: job.contexts = below(r, 2) ? -1 : 3; break;
    case 2: job.gate = below(r, 2) ? -1 : CHUNKER_GATE_ALWAYS + 1; break;
    case 3: job.gate = 1, job.model = NULL; break;
    case 4: job.tables = NULL; break;
    case 5: size = -1; break;
    default: size = CHUNKER_MAX_BLOCK + 1;
    }
    if (chunker_encode_block(&job, &byte, size, &byte, 1) != CHUNKER_BAD_JOB) wrong(s, "a wrong job was encoded");
    if (chunker_decode_block(&job, &byte, 1, &byte, size) != CHUNKER_BAD_JOB) wrong(s, "a wrong job was decoded");
    if (job.gate != 1 && chunker_session_new(&job, size)) wrong(s, "a wrong job was read");
}

static void wrong_model(const Setup *s, Random *r) {
    Made made;
    made_up_stack(&made, r);
    ChunkerStack *k = &made.stack;
    ChunkerLevel *l = &k->level[below(r, (uint32_t)k->levels)];
    uint32_t kind = below(r, 16);
    switch (kind) {
    case 0: k->levels = below(r, 2) ? 0 : CHUNKER_MAX_LEVELS + 1; break;
    case 1: k->cell = below(r, 2) ? -1 : 3; break;
    case 2: k->rule = below(r, 2) ? -1 : 3; break;
    case 3: k->catch_up = -1; break;
    case 4:
        if (below(r, 2)) k->orders = below(r, 2) ? -1 : CHUNKER_MAX_ORDERS + 1;
        else k->word = below(r, 2) ? -1 : 2;
        break;
    case 5: l->width = below(r, 2) ? 0 : l->width + 1; break;
    case 6: l->recurrent.rows++; break;
    case 7: l->readout.columns--; break;
    case 8: l->symbol_input.q = NULL; break;
    case 9: l->recurrent.multiplier = NULL; break;
    case 10: l->bias = NULL; break;
    case 11: k->level[0].readout_bias = NULL; break;
    case 12: ((int32_t *)(uintptr_t)l->bias)[0] = below(r, 2) ? 1 << 24 : INT32_MIN; break;
    case 13: ((int32_t *)(uintptr_t)l->readout.multiplier)[below(r, 256)] = below(r, 2) ? 0 : -5; break;
    case 14: /* too heavy a column: 40 * 127 * 127 * 2^31 > 2^50 */
        memset((void *)(uintptr_t)l->readout.q, below(r, 2) ? 127 : -127, (size_t)l->width * 256);
        ((int32_t *)(uintptr_t)l->readout.multiplier)[0] = l->width < 40 ? 0 : INT32_MAX;
        break;
    default: k->thresholds[0] = -1 - (int32_t)below(r, 1000), k->rule = CHUNKER_GATE_SURPRISE, k->levels = 2, k->level[1] = k->level[0];
    }
    ChunkerModel *model = chunker_model_new(k);
    if (model) {
        fprintf(stderr, "kind %u of ", (unsigned)kind);
        wrong(s, "a wrong model was accepted");
    }
    forget(&made);
}

static void new_model(Setup *s, Random *r, uint32_t k) {
    chunker_model_free(s->model[k]);
    forget(&s->made[k]);
    made_up_stack(&s->made[k], r);
    s->model[k] = chunker_model_new(&s->made[k].stack);
    if (!s->model[k]) wrong(s, "a model was refused");
}

int main(int count, char **arguments) {
    if (count < 2) fail("fuzz CASES [SEED [FIRST [MODEL]]]", "usage");
    long cases = atol(arguments[1]), first = count > 3 ? atol(arguments[3]) : 0;
    uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    static Setup s;
    double slowest = 0;
    ChunkerTables *tables = chunker_tables_new();
    s.tables = tables;
    if (!tables) wrong(&s, "no memory");
    while (chunker_kernels(tables, s.sets)) s.sets++;
    for (long last = first + cases, round = -1; first < last; first++) {
        s.number = first;
        if (first / 256 != round) { /* other models every so often, the same for the same case */
            round = first / 256;
            Random random = {seed * 1000003 + (uint64_t)round};
            for (uint32_t k = 0; k < MODELS; k++) new_model(&s, &random, k);
            if (count > 4 && round % 16 == 0) { /* it is large, and slow with the portable kernels */
                chunker_model_free(s.model[0]);
                forget(&s.made[0]);
                read_stack(&s.made[0], arguments[4]);
                s.model[0] = chunker_model_new(&s.made[0].stack);
                if (!s.model[0]) wrong(&s, "the model was refused");
            }
        }
        Random random = {seed << 40 ^ (uint64_t)first};
        clock_t start = clock();
        switch (below(&random, 32)) {
        case 0: cut_short(&s, &random); break;
        case 1: wrong_job(&s, &random); break;
        case 2: wrong_model(&s, &random); break;
        case 3: case 4: read_session(&s, &random); break;
        case 5: case 6: code_records(&s, &random); break;
        case 7: case 8: code_behind(&s, &random); break;
        default: code_and_decode(&s, &random);
        }
        double taken = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (taken > slowest) slowest = taken;
        if (taken > SLOWEST_S) wrong(&s, "it took too long");
    }
    for (int k = 0; k < MODELS; k++) chunker_model_free(s.model[k]), forget(&s.made[k]);
    chunker_tables_free(tables);
    printf("%ld cases with %d instruction sets, seed %llu: no fault; the slowest took %.0f ms\n", cases, s.sets,
           (unsigned long long)seed, slowest * 1000);
    return 0;
}

#include "level0.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

/* ---- constants; ABLATIONS.md has what other values gave ---- */

static const uint8_t FEW[] = {CTX_O2, CTX_O3, CTX_O4, CTX_O6, CTX_WORD, CTX_RUNS4, CTX_LINE_TEMPLATE, CTX_FIELD_A_ABOVE};
static const uint8_t MANY[] = {
    CTX_O1, CTX_O2, CTX_O3, CTX_O4, CTX_O6, CTX_WORD, CTX_WORD2, CTX_WORD_SKIP, CTX_RUNS2, CTX_RUNS4, CTX_RUNS8, CTX_RUNS7_2,
    CTX_TEMPLATE8, CTX_LINE_TEMPLATE, CTX_COLUMN, CTX_ABOVE, CTX_WORD_COLUMN, CTX_FIELD_A, CTX_FIELD_A_ABOVE,
    CTX_FIELD_A_BEFORE, CTX_FIELD_B, CTX_NUMBER_ABOVE, CTX_FIRST_FIELD, CTX_KEY, CTX_INDENT, CTX_AFTER2, CTX_AFTER3,
    CTX_AFTER_WORD, CTX_MATCH, CTX_MATCH3, CTX_CLASSES, CTX_PAGE};

static const uint32_t MATCH_LENGTH[N_MATCHES] = {20, 9, 5};
static const uint32_t SET_SIZE[N_SETS] = {24 * 8, 4096, 8 * 4 * 8, 256, 4096, 256 * 8, 64 * 4 * 8};
enum { SET_STACK, SET_CLASSES, SET_ORDER, SET_THIRD, SET_CLASS, SET_LENGTH, SET_FIELD };

#define STATE_LIMIT 255   /* adaptive probabilities average over so many bits at most: of states */
#define RUN_LIMIT 1023    /* of runs and matches */
#define RATE_LEAST 40     /* the mixer's rate, in 2^-14: from RATE_LEAST + RATE_MORE down to RATE_LEAST */
#define RATE_MORE 400
#define RATE_FADE 40
#define FINAL_RATE 60
#define SURE_ERROR 200    /* errors up to this, of 65536, train nothing */
#define MIXED_LIMIT 2047  /* of a set's output, in 1/256 nat */
#define FINAL_MAX (1 << 22)
#define FINAL_ROWS_0 256  /* of the first final mixer: the partial byte */
#define FINAL_ROWS_1 (13 * 3 * 8) /* of the second: lengths of matches, which match, the bit */
#define BYTES_A_ROW 32    /* of a block, for each row of a set of weights: few rows learn faster */
#define SET_BITS 12       /* of a row's number, at most */
#define APM_BITS 16

void level0_free(Level0 *l) {
    if (!l) return;
    give_back(&l->memory);
    free(l->journal.bytes);
    free(l->saved);
    for (int s = 0; s < N_SETS; s++) free(l->kept[s]);
    free(l);
}

/* ---- adaptive probabilities: 22 bits of probability, 10 of count ---- */

#define CERTAIN ((1 << 22) - 1)

static inline void adapt(const ChunkerTables *t, uint32_t *entry, int bit, uint32_t limit) {
    uint32_t v = *entry, n = v & 1023;
    int32_t p = (int32_t)(v >> 10), error = (bit ? CERTAIN : 0) - p;
    p += (int32_t)((int64_t)error * (int32_t)t->reciprocal[n] >> 16);
    *entry = (uint32_t)p << 10 | (n < limit ? n + 1 : n);
}

static inline int probability(uint32_t entry) { return (int)(entry >> 16); }

/* ---- construction ---- */

#define CHANGING offsetof(Level0, hash) /* where in the struct the state begins; it goes to the struct's end */

static int bits_for(uint32_t n, int least, int most) {
    int bits = least;
    while (bits < most && (1u << bits) < n) bits++;
    return bits;
}

static void choose_contexts(Level0 *l, int contexts, uint64_t without) {
    const uint8_t *list = contexts == 0 ? FEW : MANY;
    int n = contexts == 0 ? (int)sizeof FEW : contexts == 1 ? (int)sizeof MANY : N_CONTEXTS;
    for (int i = 0; i < n; i++) {
        int number = contexts == 2 ? i : list[i];
        if (without >> number & 1) continue;
        if (number <= CTX_O6) l->orders++;
        l->context[l->contexts++] = (uint8_t)number;
    }
}

static int make_tables(Level0 *l, uint32_t size) {
    int n = l->contexts;
    /* two slots a context and byte at most, of which text fills about a third */
    l->bucket_bits = bits_for((uint32_t)((uint64_t)size * (uint32_t)n / 4 + 64), 8, 20);
    l->buckets = take(&l->memory, sizeof(Bucket) << l->bucket_bits);
    if (!l->buckets) return 0;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise((void *)(((uintptr_t)l->buckets + 4095) & ~(uintptr_t)4095), (sizeof(Bucket) << l->bucket_bits) - 4096, MADV_HUGEPAGE);
#endif
    l->state_map = take(&l->memory, (size_t)n * 256 * 4 + 4);
    l->run_map = take(&l->memory, ((size_t)n * 18 * 16 + 8) * 4);
    l->order1 = take(&l->memory, 65536 * 4);
    l->match_bits = bits_for(size, 10, 20);
    for (int k = 0; k < N_MATCHES; k++)
        if (!(l->match_table[k] = take(&l->memory, (size_t)4 << l->match_bits))) return 0;
    l->apm_mask = (1u << bits_for(8 * size, 8, APM_BITS)) - 1; /* a bit of the block uses one row */
    for (int a = 0; a < N_APMS; a++)
        if (!(l->apm[a] = take(&l->memory, ((size_t)l->apm_mask + 1) * 33 * 2))) return 0;
    return l->state_map && l->run_map && l->order1;
}

static size_t set_rows(const Level0 *l, int s) {
    return SET_SIZE[s] <= l->set_mask ? SET_SIZE[s] : (size_t)l->set_mask + 1;
}

static int make_mixer(Level0 *l, uint32_t size) {
    int n = l->contexts;
    l->lanes = (n + 15) / 16 * 16;
    l->inputs = (3 * n + 2 * N_MATCHES + 5 + INPUT_STEP - 1) / INPUT_STEP * INPUT_STEP;
    l->x = take(&l->memory, (size_t)l->inputs * 2);
    l->initial = take(&l->memory, (size_t)l->inputs * 4);
    if (!l->x || !l->initial) return 0;
    l->set_mask = (1u << bits_for(size / BYTES_A_ROW, 3, SET_BITS)) - 1;
    for (int s = 0; s < N_SETS; s++) {
        size_t rows = set_rows(l, s);
        l->weights[s] = take(&l->memory, rows * (size_t)l->inputs * 4);
        l->trained[s] = take(&l->memory, rows * 2);
        if (!l->weights[s] || !l->trained[s]) return 0;
    }
    for (int f = 0; f < 2; f++) {
        int rows = f ? FINAL_ROWS_1 : FINAL_ROWS_0;
        l->final[f] = take(&l->memory, sizeof *l->final[f] * (size_t)rows);
        if (!l->final[f]) return 0;
    }
    return 1;
}

static void set_weights(Level0 *l, int with_stack) {
    int n = l->contexts, k = 3 * n;
    for (int i = 0; i < n; i++) l->initial[i] = l->initial[n + i] = (1 << 20) / (n + 8);
    for (int j = 0; j < N_MATCHES; j++) l->initial[k + j] = (1 << 20) / 4;
    k += 2 * N_MATCHES + 2;
    if (with_stack) l->initial[k] = (int32_t)(.35 * (1 << 20));
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < (f ? FINAL_ROWS_1 : FINAL_ROWS_0); i++)
            for (int s = 0; s < N_SETS; s++) l->final[f][i][s] = (1 << 20) / N_SETS;
}

Level0 *level0_new(const ChunkerTables *tables, const Kernels *kernels, const uint8_t *bytes, uint32_t size, int contexts,
                   int with_stack, uint64_t without_contexts, uint32_t without_parts, char *given) {
    Level0 *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    if (given) l->memory.given = given + padded(sizeof *l - CHANGING);
    l->tables = tables, l->kernels = kernels, l->without_parts = without_parts;
    reading_start(&l->reading, tables, bytes);
    choose_contexts(l, contexts, without_contexts);
    if (!make_tables(l, size) || !make_mixer(l, size)) {
        level0_free(l);
        return NULL;
    }
    for (int i = 0; i < l->contexts; i++) l->run_at_before[i] = 8 + (uint32_t)i * 18 * 16;
    for (int i = 0; i < 33; i++) l->apm_initial[i] = (uint16_t)squash(tables, (i - 16) * 128);
    if (given) {
        memcpy((char *)l + CHANGING, given, sizeof *l - CHANGING);
        l->reading.bytes = bytes, l->reading.tables = tables;
        return l;
    }
    set_weights(l, with_stack);
    for (int i = 0; i < l->contexts; i++) {
        for (int s = 0; s < 256; s++) l->state_map[i * 256 + s] = (uint32_t)tables->state_p[s] << 16 | 6;
        for (uint32_t r = 0; r < 18 * 16; r++) {
            uint32_t n = r / 16;
            l->run_map[8 + (uint32_t)i * 18 * 16 + r] = (65536 * (2 * n + 2) / (2 * n + 3)) << 16 | 6;
        }
    }
    l->run_map[0] = 1u << 31;
    for (int k = 0; k < N_MATCHES; k++) {
        l->match[k].expected = -1;
        for (uint32_t i = 0; i < 24 * 16; i++) l->match_map[k][i] = (65536 * (i / 16 + 2) / (i / 16 + 3)) << 16 | 2;
    }
    for (int i = 0; i < 256; i++) l->order0[i] = 1u << 31;
    return l;
}

/* ---- going back, and copies ---- */

#define CHANGING_SIZE (offsetof(Level0, reading) + offsetof(Reading, after2) - CHANGING)
#define OF_BIT (offsetof(Level0, match_map) - CHANGING)

static size_t state_map_size(const Level0 *l) { return (size_t)l->contexts * 256 * 4; }
static size_t run_map_size(const Level0 *l) { return ((size_t)l->contexts * 18 * 16 + 8) * 4; }
static size_t final_size(const Level0 *l, int f) { return sizeof *l->final[f] * (f ? FINAL_ROWS_1 : FINAL_ROWS_0); }

/* Small tables of which every bit changes much are saved whole, the others entry by entry in the journal. */
static void save(Level0 *l, int back) {
    struct {
        void *at;
        size_t size;
    } part[] = {{(char *)l + CHANGING, CHANGING_SIZE},
                {l->state_map, state_map_size(l)},
                {l->run_map, run_map_size(l)},
                {l->final[0], final_size(l, 0)},
                {l->final[1], final_size(l, 1)}};
    char *saved = l->saved;
    for (size_t i = 0; i < sizeof part / sizeof *part; saved += part[i++].size)
        memcpy(back ? part[i].at : saved, back ? saved : part[i].at, part[i].size);
}

static void next_record(Level0 *l) {
    if (++l->record) return;
    for (int s = 0; s < N_SETS; s++) memset(l->kept[s], 0, set_rows(l, s) * sizeof *l->kept[s]);
    l->record = 1;
}

int level0_mark(Level0 *l) {
    if (!l->saved) {
        l->saved = malloc(CHANGING_SIZE + state_map_size(l) + run_map_size(l) + final_size(l, 0) + final_size(l, 1));
        int sound = l->saved != NULL;
        for (int s = 0; s < N_SETS; s++) sound = (l->kept[s] = calloc(set_rows(l, s), sizeof *l->kept[s])) && sound;
        if (!sound) return 0;
    }
    save(l, 0);
    next_record(l);
    l->journal.writing = CHANGES_OF_RECORD;
    l->journal.used = 0;
    return 1;
}

int level0_undo(Level0 *l) {
    if (l->journal.failed) return 0;
    undo_to(&l->journal, 0);
    save(l, 1);
    next_record(l);
    return 1;
}

void level0_keep_bits(Level0 *l) {
    l->journal.writing = CHANGES_OF_BITS;
    l->journal.used = 0;
}

/* What learning a bit changes; order1, the APMs and slots that are cleared are kept where they are written, and the
 * entries of contexts are known from OF_BIT. */
static void keep_bit(Level0 *l) {
    Journal *j = &l->journal;
    l->before_bit[l->bit] = j->used;
    keep(j, (char *)l + CHANGING, OF_BIT);
    keep(j, l->x, (size_t)l->inputs * sizeof *l->x);
    for (int s = 0; s < N_SETS; s++) {
        keep(j, &l->trained[s][l->selected[s]], sizeof *l->trained[s]);
        keep(j, l->weights[s] + (size_t)l->selected[s] * (size_t)l->inputs, (size_t)l->inputs * sizeof *l->weights[s]);
    }
    for (int f = 0; f < 2; f++) keep(j, l->final[f][l->final_selected[f]], sizeof *l->final[f]);
    for (int k = 0; k < N_MATCHES; k++)
        if (l->match[k].map) keep(j, l->match[k].map, sizeof *l->match[k].map);
    keep(j, &l->order0[l->partial], sizeof *l->order0);
}

int level0_back(Level0 *l) {
    if (l->journal.failed) return 0;
    undo_to(&l->journal, l->before_bit[l->bit - 1]);
    for (int i = 0; i < l->contexts; i++) {
        l->state_map[l->state_used[i]] = l->state_entry[i];
        l->run_map[l->run_used[i]] = l->run_entry[i];
        l->slot[i]->state[l->node - 1] = (uint8_t)l->state[i];
    }
    return 1;
}

void level0_copy(Level0 *to, const Level0 *from) {
    const uint8_t *bytes = to->reading.bytes;
    copy_pieces(&to->memory, &from->memory);
    memcpy((char *)to + CHANGING, (const char *)from + CHANGING, sizeof *to - CHANGING);
    to->reading.bytes = bytes;
}

size_t level0_size(const Level0 *l) { return padded(sizeof *l - CHANGING) + pieces_size(&l->memory); }

void level0_save(const Level0 *l, char *to) { put_pieces(put(to, (const char *)l + CHANGING, sizeof *l - CHANGING), &l->memory); }

/* ---- slots ---- */

static inline Bucket *bucket_of(const Level0 *l, uint32_t hash) {
    return l->buckets + (hash * 0x9e3779b1u >> (32 - l->bucket_bits));
}

static inline Slot *find(Level0 *l, uint32_t hash) {
    Slot *s = bucket_of(l, hash)->slot;
    uint16_t check = (uint16_t)(hash & 65535);
    if (!check) check = 1;
    for (int i = 0; i < 3; i++)
        if (s[i].check == check) {
            keep(&l->journal, s + i, sizeof *s);
            return s + i;
        }
    const uint8_t *count = l->tables->state_count;
    Slot *least = s;
    if (count[s[1].state[0]] < count[least->state[0]]) least = s + 1;
    if (count[s[2].state[0]] < count[least->state[0]]) least = s + 2;
    keep(&l->journal, least, sizeof *least);
    memset(least, 0, sizeof *least);
    least->check = check;
    return least;
}

static inline uint32_t run_bucket(uint32_t n) { return n < 15 ? n : n < 32 ? 15 : n < 64 ? 16 : 17; }

void level0_begin_byte(Level0 *l) {
    uint32_t all[N_CONTEXTS];
    const Match *m = l->match;
    l->longest_expected = l->longest_length = 0;
    for (int k = 0; k < N_MATCHES; k++)
        if (m[k].expected >= 0) {
            l->longest_expected = (uint32_t)m[k].expected + 1, l->longest_length = m[k].length;
            break;
        }
    reading_hashes(&l->reading, (int)l->longest_expected - 1, l->longest_length, all);
    for (int i = 0; i < l->contexts; i++) {
        l->hash[i] = all[l->context[i]];
        __builtin_prefetch(bucket_of(l, l->hash[i]));
    }
    for (int i = 0; i < l->contexts; i++) {
        Slot *s = l->slot[i] = l->first[i] = find(l, l->hash[i]);
        l->run_last[i] = l->run_before[i] = 0;
        if (s->run_count && !(l->without_parts & PART_RUN)) {
            l->run_last[i] = s->run_byte | 256u, l->run_before[i] = s->run_before | 256u;
            l->run_at[i] = l->run_at_before[i] + (run_bucket(s->run_count) * 2 + (s->run_byte != s->run_before)) * 8;
        }
    }
    l->partial = 1, l->bit = 0, l->node = 1;
}

static void second_nibble(Level0 *l) {
    for (int i = 0; i < l->contexts; i++) {
        l->hash[i] = mix(l->hash[i], l->partial + 7);
        __builtin_prefetch(bucket_of(l, l->hash[i]));
    }
    for (int i = 0; i < l->contexts; i++) l->slot[i] = find(l, l->hash[i]);
    l->node = 1;
}

/* ---- inputs ---- */

static void gather_contexts(Level0 *l) {
    const ChunkerTables *t = l->tables;
    const Kernels *k = l->kernels;
    int n = l->contexts, lanes = l->lanes, node = l->node, seen = 0;
    int16_t input[3][N_LANES];
    for (int i = 0; i < n; i++) {
        int32_t state = l->slot[i]->state[node - 1];
        uint32_t at = (uint32_t)(i * 256 + state), entry = l->state_map[at];
        l->state_used[i] = at, l->state[i] = state, l->state_entry[i] = entry;
        l->odds_of[i] = t->stretch[entry >> 20];
        l->mixed[i] = t->state_mixed[state];
        if (i < l->orders) seen += state != 0;
    }
    l->seen_orders = seen;
    StateInputs states = {l->state, l->odds_of, l->mixed, l->state_entry};
    k->state_inputs(&states, lanes, input[1], input[2]);
    RunInputs runs = {l->run_last, l->run_before, l->run_at, l->run_at_before, (const uint32_t *)l->mixed};
    k->choose_runs(&runs, lanes, l->partial, (uint32_t)l->bit, l->run_used, l->run_bit);
    for (int i = 0; i < n; i++) {
        uint32_t entry = l->run_map[l->run_used[i]];
        l->run_entry[i] = entry;
        l->odds_of[i] = t->stretch[entry >> 20];
    }
    k->run_inputs(l->odds_of, l->run_bit, lanes, input[0]);
    for (int i = 0; i < 3; i++) memcpy(l->x + i * n, input[i], (size_t)n * 2);
}

static void gather_matches(Level0 *l, int16_t *x) {
    for (int k = 0; k < N_MATCHES; k++) {
        Match *m = &l->match[k];
        m->map = NULL;
        x[k] = x[N_MATCHES + k] = 0;
        uint32_t e = (uint32_t)m->expected | 256;
        if (m->expected < 0 || e >> (8 - l->bit) != l->partial) continue;
        m->map = &l->match_map[k][(length_bucket(m->length) * 8 + (m->misses & 7)) * 2 + (l->bit > 0)];
        int p = probability(*m->map), s = stretch(l->tables, p), expects = e >> (7 - l->bit) & 1;
        x[k] = (int16_t)(expects ? s : -s);
        x[N_MATCHES + k] = (int16_t)(expects ? (p - 32768) >> 6 : (32768 - p) >> 6);
    }
}

static inline uint32_t at_most(uint32_t n, uint32_t most) { return n < most ? n : most; }

/* Rows of the sets that only what was read decides; fetched before they are needed. */
static void select_early(Level0 *l) {
    const Reading *r = &l->reading;
    const Fields *field = &r->fields[1];
    uint32_t bit = (uint32_t)l->bit, c4 = r->last4;
    uint32_t lengths = at_most(r->word_length, 7) | at_most(r->token_length, 7) << 3 | at_most(r->depth, 3) << 6;
    l->selected[SET_CLASSES] = (uint32_t)r->classes & 4095;
    l->selected[SET_THIRD] = c4 >> 16 & 255;
    l->selected[SET_CLASS] = l->partial << 4 | l->tables->class_of[c4 & 255];
    l->selected[SET_LENGTH] = lengths * 8 + bit;
    l->selected[SET_FIELD] = (at_most(field->index, N_FIELDS - 1) * 4 + field->order) * 8 + bit;
    static const int early[] = {SET_CLASSES, SET_THIRD, SET_CLASS, SET_LENGTH, SET_FIELD};
    for (size_t i = 0; i < sizeof early / sizeof *early; i++) {
        uint32_t row_number = l->selected[early[i]] &= l->set_mask;
        const char *row = (const char *)(l->weights[early[i]] + (size_t)row_number * (size_t)l->inputs);
        for (int line = 0; line < 4; line++) __builtin_prefetch(row + 64 * line);
    }
}

/* The APMs' contexts; the last one follows the advice. Their rows are far apart: fetch them before they are needed. */
static void place_apms(Level0 *l) {
    const Reading *r = &l->reading;
    uint32_t c4 = r->last4, partial = l->partial;
    l->apm_place[0] = partial | (c4 & 255) << 8;
    l->apm_place[1] = mix(c4 & 0xffffff, partial);
    l->apm_place[2] = partial | (l->longest_expected & 255) << 8;
    l->apm_place[3] = mix(mix(r->line_template, r->digits), partial);
    l->apm_place[4] = partial;
    for (int a = 0; a < N_APMS; a++) {
        l->apm_place[a] &= l->apm_mask;
        const char *row = (const char *)(l->apm[a] + l->apm_place[a] * 33);
        __builtin_prefetch(row);
        __builtin_prefetch(row + 64);
    }
}

void level0_gather(Level0 *l) {
    if (l->bit == 4) second_nibble(l);
    select_early(l);
    place_apms(l);
    gather_contexts(l);
    int n = l->contexts, k = 3 * n;
    int16_t *x = l->x;
    gather_matches(l, x + k);
    k += 2 * N_MATCHES;
    uint32_t c1 = l->reading.last4 & 255;
    x[k] = (int16_t)stretch(l->tables, probability(l->order0[l->partial]));
    x[k + 1] = (int16_t)stretch(l->tables, probability(l->order1[c1 << 8 | l->partial] ^ 1u << 31));
    x[k + 4] = 256;
    if (l->without_parts) {
        uint32_t w = l->without_parts;
        if (w & PART_CERTAIN) memset(x + n, 0, (size_t)n * 2);
        if (w & PART_LINEAR) memset(x + 2 * n, 0, (size_t)n * 2);
        if (w & PART_MATCH) memset(x + 3 * n, 0, 4 * N_MATCHES);
        if (w & PART_DIRECT) x[k] = x[k + 1] = 0;
    }
}

/* ---- mixture ---- */

static void select_late(Level0 *l, const Advice *advice) {
    uint32_t bit = (uint32_t)l->bit, votes[2] = {0, 0}, length = 0, which = 0;
    for (int k = N_MATCHES - 1; k >= 0; k--) {
        const Match *m = &l->match[k];
        if (m->expected < 0) continue;
        length = length_bucket(m->length) / 2 + 1, which = (uint32_t)k;
        if (m->map) votes[m->expected >> (7 - l->bit) & 1]++;
    }
    uint32_t vote = !votes[0] && !votes[1] ? 0 : votes[0] && votes[1] ? 3 : votes[0] ? 1 : 2;
    uint32_t said = advice->awake ? (uint32_t)((advice->stretched + 2816) >> 8) + 1 : 0;
    l->selected[SET_STACK] = (said * 8 + bit) & l->set_mask;
    l->selected[SET_ORDER] = (((uint32_t)l->seen_orders * 4 + vote) * 8 + bit) & l->set_mask;
    l->final_selected[0] = l->partial;
    l->final_selected[1] = (length + 13 * which) * 8 + bit;
}

static int refine(Level0 *l, const Advice *advice, int odds, int p) {
    l->apm_place[4] = (l->partial | (advice->awake ? advice->likeliest : 0) << 8) & l->apm_mask;
    int at = clamp(odds, 2047) + 2048, low = at >> 7, weight = at & 127, sum = 0, n = 0;
    const uint16_t *initial = l->apm_initial + low;
    for (int a = 0; a < N_APMS; a++) {
        if (l->without_parts & (uint32_t)PART_APMS << a) continue;
        uint32_t base = l->apm_place[a] * 33 + (uint32_t)low;
        const uint16_t *q = l->apm[a] + base;
        sum += ((q[0] ^ initial[0]) * (128 - weight) + (q[1] ^ initial[1]) * weight) >> 7;
        l->apm_used[a] = base + (uint32_t)(weight >> 6);
        l->apm_node[a] = (uint32_t)(low + (weight >> 6));
        n++;
    }
    return n ? (p + 3 * (sum / n) + 2) >> 2 : p;
}

/* Keeps a row of weights the first time that a record uses it. */
static void keep_row(Level0 *l, int s) {
    uint32_t row = l->selected[s];
    if (l->kept[s][row] == l->record) return;
    l->kept[s][row] = l->record;
    keep(&l->journal, &l->trained[s][row], sizeof l->trained[s][row]);
    if (l->trained[s][row])
        keep(&l->journal, l->weights[s] + (size_t)row * (size_t)l->inputs, (size_t)l->inputs * sizeof *l->weights[s]);
}

int level0_mix(Level0 *l, const Advice *advice) {
    const ChunkerTables *t = l->tables;
    int k = 3 * l->contexts + 2 * N_MATCHES + 2;
    l->x[k] = (int16_t)(advice->awake ? advice->stretched : 0);
    l->x[k + 1] = (int16_t)(advice->awake ? advice->linear : 0);
    select_late(l, advice);
    for (int s = 0; s < N_SETS; s++) {
        if (l->without_parts & (uint32_t)PART_SETS << s) { l->output[s] = 0; continue; }
        int32_t *w = l->weights[s] + (size_t)l->selected[s] * (size_t)l->inputs;
        if (l->journal.writing == CHANGES_OF_RECORD) keep_row(l, s);
        if (!l->trained[s][l->selected[s]]) memcpy(w, l->initial, (size_t)l->inputs * 4);
        l->output[s] = clamp(l->kernels->dot(l->x, w, l->inputs) >> 12, MIXED_LIMIT);
    }
    int odds[2];
    for (int f = 0; f < 2; f++) {
        const int32_t *w = l->final[f][l->final_selected[f]];
        int64_t sum = 0;
        for (int s = 0; s < N_SETS; s++) sum += (int64_t)l->output[s] * w[s];
        sum >>= 20;
        odds[f] = (int)(sum < -STRETCH_MAX ? -STRETCH_MAX : sum > STRETCH_MAX ? STRETCH_MAX : sum);
        l->final_p[f] = squash(t, odds[f]);
    }
    l->odds = l->without_parts & PART_FINAL2 ? odds[0] : (odds[0] + odds[1]) >> 1;
    int p = refine(l, advice, l->odds, squash(t, l->odds));
    l->p = p < 1 ? 1 : p > 65535 ? 65535 : p;
    return l->p;
}

/* ---- learning ---- */

static void train_mixer(Level0 *l, int bit) {
    const ChunkerTables *t = l->tables;
    int least = l->without_parts & PART_SURE ? 0 : SURE_ERROR;
    for (int s = 0; s < N_SETS; s++) {
        if (l->without_parts & (uint32_t)PART_SETS << s) continue;
        uint16_t *count = &l->trained[s][l->selected[s]];
        int rate = RATE_LEAST + RATE_MORE * RATE_FADE / (RATE_FADE + *count);
        if (*count < 65535) ++*count;
        int error = (bit << 16) - squash(t, l->output[s]);
        if (error > least || error < -least)
            l->kernels->train(l->x, l->weights[s] + (size_t)l->selected[s] * (size_t)l->inputs, l->inputs, (error * rate) >> 10);
    }
    for (int f = 0; f < 2; f++) {
        int error = (((bit << 16) - l->final_p[f]) * FINAL_RATE) >> 10;
        int32_t *w = l->final[f][l->final_selected[f]];
        for (int s = 0; s < N_SETS; s++) w[s] = clamp(w[s] + ((l->output[s] * error + 128) >> 8), FINAL_MAX);
    }
}

static void adapt_contexts(Level0 *l, int bit) {
    const Kernels *k = l->kernels;
    const uint8_t *next = l->tables->next_state[bit];
    int n = l->contexts, lanes = l->lanes;
    int32_t target[N_LANES];
    for (int i = 0; i < lanes; i++) target[i] = bit ? CERTAIN : 0;
    k->adapt(l->state_entry, target, lanes, STATE_LIMIT, l->tables->reciprocal);
    for (int i = 0; i < lanes; i++) target[i] = (int)l->run_bit[i] == bit ? CERTAIN : 0;
    k->adapt(l->run_entry, target, lanes, RUN_LIMIT, l->tables->reciprocal);
    for (int i = 0; i < n; i++) {
        l->state_map[l->state_used[i]] = l->state_entry[i];
        l->run_map[l->run_used[i]] = l->run_entry[i];
        l->slot[i]->state[l->node - 1] = next[l->state[i]];
    }
    l->run_map[0] = 1u << 31;
}

void level0_update(Level0 *l, int bit) {
    const ChunkerTables *t = l->tables;
    if (l->journal.writing == CHANGES_OF_BITS) keep_bit(l);
    train_mixer(l, bit);
    adapt_contexts(l, bit);
    for (int k = 0; k < N_MATCHES; k++) {
        const Match *m = &l->match[k];
        if (m->map) adapt(t, m->map, bit == (m->expected >> (7 - l->bit) & 1), RUN_LIMIT);
    }
    adapt(t, &l->order0[l->partial], bit, STATE_LIMIT);
    uint32_t *order1 = &l->order1[(l->reading.last4 & 255) << 8 | l->partial], v = *order1 ^ 1u << 31;
    adapt(t, &v, bit, STATE_LIMIT);
    keep(&l->journal, order1, sizeof *order1);
    *order1 = v ^ 1u << 31;
    for (int a = 0; a < N_APMS; a++) {
        if (l->without_parts & (uint32_t)PART_APMS << a) continue;
        uint16_t *q = l->apm[a] + l->apm_used[a], initial = l->apm_initial[l->apm_node[a]];
        int v16 = *q ^ initial;
        v16 += ((bit ? 65535 : 0) - v16) >> 4;
        keep(&l->journal, q, sizeof *q);
        *q = (uint16_t)v16 ^ initial;
    }
    l->partial = l->partial << 1 | (uint32_t)bit;
    l->node = l->node << 1 | bit;
    l->bit++;
}

/* ---- matches ---- */

static void follow_match(Level0 *l, Match *m, uint32_t c) {
    if (!m->length && !m->misses) return;
    const Reading *r = &l->reading;
    if (r->bytes[m->at] == c) {
        m->length += m->length < 65535;
        m->misses = m->misses << 1 & 255;
    } else {
        m->length = 0;
        m->misses = l->without_parts & PART_RECOVER ? 0 : (m->misses << 1 | 1) & 255;
    }
    m->at++;
    if (__builtin_popcount(m->misses) >= 7) m->misses = m->length = 0;
}

static void find_match(Level0 *l, int k) {
    const Reading *r = &l->reading;
    uint32_t n = r->position, least = MATCH_LENGTH[k], h = 0;
    const uint8_t *end = r->bytes + n;
    Match *m = &l->match[k];
    if (n < least) return;
    for (uint32_t i = 1; i <= least; i++) h = (h + end[-(int)i] + 1) * 0x2f0b4c47u;
    h = (h ^ h >> 15) * 0x1b873593u >> (32 - l->match_bits);
    uint32_t at = l->match_table[k][h];
    keep(&l->journal, &l->match_table[k][h], sizeof at);
    l->match_table[k][h] = n;
    if (m->length >= least || !at) return;
    uint32_t length = 0;
    while (length < 48 && length < at && r->bytes[at - 1 - length] == end[-1 - (int)length]) length++;
    if (length < least || length <= m->length) return;
    if (at != m->at) m->misses = 0;
    m->length = length, m->at = at;
}

void level0_end_byte(Level0 *l) {
    uint32_t byte = l->partial & 255;
    for (int i = 0; i < l->contexts; i++) {
        Slot *s = l->first[i];
        if (!s->run_count) {
            s->run_byte = s->run_before = (uint8_t)byte, s->run_count = 1;
        } else if (s->run_byte == byte) {
            if (s->run_count < 255) s->run_count++;
        } else {
            s->run_before = s->run_byte, s->run_byte = (uint8_t)byte, s->run_count = 1;
        }
    }
    for (int k = 0; k < N_MATCHES; k++) follow_match(l, &l->match[k], byte);
    Reading *r = &l->reading;
    keep(&l->journal, &r->after2[r->last4 & 65535], sizeof *r->after2);
    keep(&l->journal, &r->after3[r->seen_after3], sizeof *r->after3);
    keep(&l->journal, &r->after_word[r->seen_after_word], sizeof *r->after_word);
    reading_add(r, byte);
    if (!(l->without_parts & PART_MATCH))
        for (int k = 0; k < N_MATCHES; k++) find_match(l, k);
    for (int k = 0; k < N_MATCHES; k++) {
        Match *m = &l->match[k];
        m->expected = m->length || m->misses ? l->reading.bytes[m->at] : -1;
        for (int j = 0; j < k; j++)
            if (l->match[j].expected >= 0 && l->match[j].at == m->at) m->expected = -1;
    }
}

uint32_t level0_guess(const Level0 *l, uint32_t *confidence) {
    if (l->longest_expected) {
        *confidence = 8 + length_bucket(l->longest_length) / 3;
        return l->longest_expected - 1;
    }
    for (int i = l->orders - 1; i >= 0; i--)
        if (l->run_last[i]) {
            *confidence = 1 + (uint32_t)(i < 6 ? i : 6);
            return l->run_last[i] & 255;
        }
    *confidence = 0;
    return 256;
}

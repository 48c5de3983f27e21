#include "stack.h"

#include <stdlib.h>
#include <string.h>

#define SYMBOLS 256
#define MAX_STATE 32767
#define MAX_CELL ((1 << 20) - 1)
#define MAX_BIAS (1 << 24)
#define NGRAM_BASE 0x2f0b4c47u
#define NGRAM_SPREAD 0x2545f491u

/* A matrix packed for the kernels: blocks of COLUMN_STEP columns, in them groups of ROW_STEP rows, in them the columns. */
typedef struct {
    int rows, columns;          /* padded */
    int8_t *q;
    int32_t *offset, *multiplier;
} Packed;

typedef struct {
    int width, gates;           /* units; columns of the pre-activations, padded: COLUMN_STEP divides each */
    int32_t *symbol, *time, *guess, *confidence; /* rows of pre-activations, bias in `symbol`; NULL: none */
    int32_t *candidate_bias, *readout_bias;      /* readout_bias NULL: none */
    Packed below, recurrent, readout;            /* below.q NULL: none */
} Level;

struct ChunkerModel {
    int cell, levels, rule, catch_up, orders, order[CHUNKER_MAX_ORDERS], word, ngram_rows, ngram_width;
    int32_t thresholds[CHUNKER_MAX_LEVELS];
    int8_t *ngrams;             /* ((orders + word) * ngram_rows, ngram_width) */
    int32_t *ngram_multiplier;
    Level level[CHUNKER_MAX_LEVELS];
    Memory memory;
};

/* ---- packing ---- */

static size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

static int has_shape(const ChunkerMatrix *m, int64_t rows, int64_t columns) {
    return m->q && m->multiplier && m->rows == rows && m->columns == columns;
}

/* Whether no product with |x| <= 127 leaves 26 bits after its multiplier. */
static int bounded(const ChunkerMatrix *m) {
    for (int32_t j = 0; j < m->columns; j++) {
        int64_t heaviest = 0;
        for (int32_t k = 0; k < m->rows; k++) heaviest += abs(m->q[(size_t)k * (size_t)m->columns + (size_t)j]);
        if (m->multiplier[j] < 1 || heaviest * 127 * m->multiplier[j] >= (int64_t)1 << 50) return 0;
    }
    return 1;
}

static int pack_matrix(ChunkerModel *model, const ChunkerMatrix *m, Packed *p) {
    if (!bounded(m)) return 0;
    p->rows = (int)round_up((size_t)m->rows, ROW_STEP), p->columns = (int)round_up((size_t)m->columns, COLUMN_STEP);
    p->q = take(&model->memory, (size_t)p->rows * (size_t)p->columns);
    p->offset = take(&model->memory, (size_t)p->columns * 4);
    p->multiplier = take(&model->memory, (size_t)p->columns * 4);
    if (!p->q || !p->offset || !p->multiplier) return 0;
    for (int32_t k = 0; k < m->rows; k++)
        for (int32_t j = 0; j < m->columns; j++) {
            int8_t q = m->q[(size_t)k * (size_t)m->columns + (size_t)j];
            size_t block = (size_t)(j / COLUMN_STEP) * (size_t)p->rows * COLUMN_STEP;
            size_t place = (size_t)(k / ROW_STEP) * COLUMN_STEP * ROW_STEP + (size_t)(j % COLUMN_STEP) * ROW_STEP;
            p->q[block + place + (size_t)(k % ROW_STEP)] = q;
            p->offset[j] += 128 * q;
        }
    memcpy(p->multiplier, m->multiplier, (size_t)m->columns * 4);
    return 1;
}

/* Rows of pre-activations: the product with a one-hot vector whose 1 is 128. */
static int32_t *unpack_rows(ChunkerModel *model, const ChunkerMatrix *m, size_t padded, const int32_t *bias) {
    int32_t *rows = take(&model->memory, (size_t)m->rows * padded * 4);
    if (!rows) return NULL;
    for (int32_t k = 0; k < m->rows; k++)
        for (int32_t j = 0; j < m->columns; j++) {
            int64_t v = (int64_t)m->q[(size_t)k * (size_t)m->columns + (size_t)j] * m->multiplier[j];
            rows[(size_t)k * padded + (size_t)j] = (int32_t)((v + (1 << 16)) >> 17) + (bias ? bias[j] : 0);
        }
    return rows;
}

static int32_t *copy_bias(ChunkerModel *model, const int32_t *bias, int n, int padded) {
    int32_t *copy = take(&model->memory, (size_t)padded * 4);
    for (int i = 0; copy && i < n; i++) {
        if (bias[i] <= -MAX_BIAS || bias[i] >= MAX_BIAS) return NULL;
        copy[i] = bias[i];
    }
    return copy;
}

/* One more table of rows, if the model has it: 0 if something is wrong with it. */
static int add_rows(ChunkerModel *model, const ChunkerMatrix *m, int rows, int columns, size_t padded, int32_t **out) {
    if (!m->q) return 1;
    if (!has_shape(m, rows, columns)) return 0;
    *out = unpack_rows(model, m, padded, NULL);
    return *out != NULL;
}

static int pack_level(ChunkerModel *model, const ChunkerStack *stack, int index) {
    const ChunkerLevel *from = &stack->level[index];
    Level *to = &model->level[index];
    static const int gates_of[3] = {1, 3, 4};
    int width = from->width, columns = gates_of[stack->cell] * width;
    if (width < 1 || width > CHUNKER_MAX_WIDTH || !from->bias) return 0;
    size_t padded = round_up((size_t)columns, COLUMN_STEP);
    to->width = width, to->gates = (int)padded;
    if (!has_shape(&from->symbol_input, SYMBOLS, columns) || !has_shape(&from->recurrent, width, columns)) return 0;
    if (!has_shape(&from->readout, width, SYMBOLS)) return 0;
    int32_t *bias = copy_bias(model, from->bias, columns, (int)padded);
    if (!bias) return 0;
    to->symbol = unpack_rows(model, &from->symbol_input, padded, bias);
    if (!to->symbol || !add_rows(model, &from->time_input, N_TIMES, columns, padded, &to->time)) return 0;
    if (!add_rows(model, &from->guess_input, SYMBOLS + 1, columns, padded, &to->guess)) return 0;
    if (!add_rows(model, &from->confidence_input, 16, columns, padded, &to->confidence)) return 0;
    if (!pack_matrix(model, &from->recurrent, &to->recurrent) || !pack_matrix(model, &from->readout, &to->readout)) return 0;
    int below = index ? stack->level[index - 1].width : stack->orders ? stack->ngram_table.columns : 0;
    if (below && (!has_shape(&from->below, below, columns) || !pack_matrix(model, &from->below, &to->below))) return 0;
    if (stack->cell == CHUNKER_GRU) {
        if (!from->candidate_bias) return 0;
        if (!(to->candidate_bias = copy_bias(model, from->candidate_bias, width, width))) return 0;
    }
    if (index == 0) { /* of a joint stack only the first level has one */
        if (!from->readout_bias) return 0;
        if (!(to->readout_bias = copy_bias(model, from->readout_bias, SYMBOLS, SYMBOLS))) return 0;
    }
    return 1;
}

static int pack_ngrams(ChunkerModel *model, const ChunkerStack *stack) {
    const ChunkerMatrix *table = &stack->ngram_table;
    model->orders = stack->orders, model->word = stack->word;
    if (stack->word < 0 || stack->word > 1 || (!stack->orders && stack->word)) return 0;
    if (!stack->orders) return 1;
    int rows = model->ngram_rows = stack->ngram_rows;
    if (stack->orders < 0 || stack->orders > CHUNKER_MAX_ORDERS || rows < 1 || rows > 1 << 20 || rows & (rows - 1)) return 0;
    int width = model->ngram_width = table->columns, tables = stack->orders + stack->word;
    if (width < 1 || width > CHUNKER_MAX_WIDTH || !has_shape(table, (int64_t)rows * tables, width)) return 0;
    for (int i = 0; i < stack->orders; i++)
        if ((model->order[i] = stack->order[i]) < 1 || stack->order[i] > 8) return 0;
    size_t bytes = (size_t)rows * (size_t)tables * (size_t)width;
    model->ngrams = take(&model->memory, bytes);
    model->ngram_multiplier = take(&model->memory, (size_t)width * 4);
    if (!model->ngrams || !model->ngram_multiplier) return 0;
    memcpy(model->ngrams, table->q, bytes);
    memcpy(model->ngram_multiplier, table->multiplier, (size_t)width * 4);
    return 1;
}

ChunkerModel *chunker_model_new(const ChunkerStack *stack) {
    if (stack->levels < 1 || stack->levels > CHUNKER_MAX_LEVELS || stack->cell < 0 || stack->cell > 2) return NULL;
    if (stack->catch_up < 0 || stack->rule < 0 || stack->rule > CHUNKER_GATE_WORD) return NULL;
    ChunkerModel *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->cell = stack->cell, m->levels = stack->levels, m->rule = stack->rule, m->catch_up = stack->catch_up;
    int sound = pack_ngrams(m, stack);
    for (int i = 0; sound && i < stack->levels; i++) {
        m->thresholds[i] = stack->thresholds[i];
        sound = stack->thresholds[i] >= 0 && pack_level(m, stack, i);
    }
    if (sound) return m;
    chunker_model_free(m);
    return NULL;
}

void chunker_model_free(ChunkerModel *m) {
    if (!m) return;
    give_back(&m->memory);
    free(m);
}

/* ---- running ---- */

typedef struct {
    int32_t *h;                 /* (width,) 2^15 to 1 */
    int32_t *c;                 /* LSTM: (width,) 2^15 to 1, clipped at 32 */
    int8_t *h8;                 /* (width padded,) 2^7 to 1: what enters products */
    int32_t logits[SYMBOLS];    /* its part, 1/128 bit */
    uint32_t since;             /* upper levels: bytes since its last input, as level 1 counts them */
    int fresh;                  /* it has had no input yet */
    int pending;                /* a byte waits for it */
    uint32_t byte;
} State;

struct Stack {
    const ChunkerModel *model;
    const ChunkerTables *tables;
    const Kernels *kernels;
    const uint8_t *bytes;
    uint32_t read_to;           /* bytes that level 1 was told of */
    uint32_t word;              /* the key of the letters right before that place */
    State state[CHUNKER_MAX_LEVELS];
    int32_t *a, *g, *sums, *gates, *fresh; /* as many as pre-activations of the widest level */
    int8_t *ngram8;
    uint32_t weight[CHUNKER_MAX_LEVELS][SYMBOLS]; /* of the symbols, as levels 1 .. l predict together */
    uint32_t tree[2 * SYMBOLS]; /* sums of the last ones: node n has children 2n and 2n + 1 */
    uint32_t likeliest[CHUNKER_MAX_LEVELS];
    Memory memory;
    char *saved; /* this struct and its memory, as stack_mark found them */
};

static void read_out(Stack *s, int index);

/* All but what lies in the memory. */
static void take_over(Stack *to, const Stack *from) {
    to->read_to = from->read_to;
    to->word = from->word;
    memcpy(to->weight, from->weight, sizeof to->weight);
    memcpy(to->tree, from->tree, sizeof to->tree);
    memcpy(to->likeliest, from->likeliest, sizeof to->likeliest);
    for (int i = 0; i < to->model->levels; i++) {
        State was = to->state[i];
        to->state[i] = from->state[i];
        to->state[i].h = was.h, to->state[i].c = was.c, to->state[i].h8 = was.h8;
    }
}

Stack *stack_new(const ChunkerModel *model, const ChunkerTables *tables, const Kernels *kernels, const uint8_t *bytes, char *given) {
    Stack *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    if (given) s->memory.given = given + padded(sizeof *s);
    s->model = model, s->tables = tables, s->kernels = kernels, s->bytes = bytes;
    size_t widest = SYMBOLS;
    int sound = 1;
    for (int i = 0; i < model->levels; i++) {
        const Level *level = &model->level[i];
        if ((size_t)level->gates > widest) widest = (size_t)level->gates;
        State *state = &s->state[i];
        state->h = take(&s->memory, round_up((size_t)level->width, 16) * 4);
        state->c = take(&s->memory, (size_t)level->width * 4);
        state->h8 = take(&s->memory, (size_t)level->recurrent.rows);
        state->fresh = 1;
        sound = sound && state->h && state->c && state->h8;
    }
    int32_t **wide[] = {&s->a, &s->g, &s->sums, &s->gates, &s->fresh};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) sound = (*wide[i] = take(&s->memory, widest * 4)) && sound;
    s->ngram8 = take(&s->memory, round_up((size_t)model->ngram_width + 1, ROW_STEP));
    if (!sound || !s->ngram8) {
        stack_free(s);
        return NULL;
    }
    if (given) take_over(s, (const Stack *)(const void *)given);
    else
        for (int i = 0; i < model->levels; i++) read_out(s, i);
    return s;
}

void stack_free(Stack *s) {
    if (!s) return;
    give_back(&s->memory);
    free(s->saved);
    free(s);
}

size_t stack_size(const Stack *s) { return padded(sizeof *s) + pieces_size(&s->memory); }

void stack_save(const Stack *s, char *to) {
    memcpy(to, s, sizeof *s);
    to += padded(sizeof *s);
    for (int i = 0; i < s->memory.pieces; to += padded(s->memory.size[i++]))
        memcpy(to, aligned(s->memory.piece[i]), s->memory.size[i]);
}

int stack_mark(Stack *s) {
    if (!s->saved && !(s->saved = malloc(stack_size(s)))) return 0;
    stack_save(s, s->saved);
    return 1;
}

void stack_undo(Stack *s) {
    const char *saved = s->saved;
    memcpy(s, saved, sizeof *s);
    saved += padded(sizeof *s);
    for (int i = 0; i < s->memory.pieces; saved += padded(s->memory.size[i++]))
        memcpy(aligned(s->memory.piece[i]), saved, s->memory.size[i]);
}

void stack_copy(Stack *to, const Stack *from) {
    copy_pieces(&to->memory, &from->memory);
    take_over(to, from);
}

static void multiply(Stack *s, const int8_t *x, const Packed *m, int32_t *out) {
    s->kernels->product(x, m->q, m->offset, m->rows, m->columns, s->sums);
    s->kernels->rescale(s->sums, m->multiplier, out, m->columns);
}

static void read_out(Stack *s, int index) {
    const Level *level = &s->model->level[index];
    State *state = &s->state[index];
    multiply(s, state->h8, &level->readout, state->logits);
    if (level->readout_bias)
        for (int i = 0; i < SYMBOLS; i++) state->logits[i] += level->readout_bias[i];
}

/* h after an input, from a (pre-activations of the input) and g (of the state). */
static void step_cell(Stack *s, int index) {
    const ChunkerTables *t = s->tables;
    const Kernels *k = s->kernels;
    const Level *level = &s->model->level[index];
    State *state = &s->state[index];
    int H = level->width, n = (int)round_up((size_t)H, 16);
    int32_t *a = s->a, *g = s->g, *h = state->h, *c = state->c, *gates = s->gates, *fresh = s->fresh;
    switch (s->model->cell) {
    case CHUNKER_GRU: /* reset, update, candidate */
        k->add(g, a, 2 * H);
        k->look_up(g, (int)round_up(2 * (size_t)H, 16), t->sigmoid, SIGMOID_REACH, gates);
        k->candidate(gates, a + 2 * H, g + 2 * H, level->candidate_bias, H, fresh);
        k->look_up(fresh, n, t->tanh, TANH_REACH, fresh);
        k->blend(gates + H, fresh, H, h);
        break;
    case CHUNKER_LSTM: /* input, forget, output, candidate */
        k->add(g, a, 4 * H);
        k->look_up(g, (int)round_up(3 * (size_t)H, 16), t->sigmoid, SIGMOID_REACH, gates);
        memcpy(fresh, g + 3 * H, (size_t)H * 4);
        k->look_up(fresh, n, t->tanh, TANH_REACH, fresh);
        for (int i = 0; i < H; i++) {
            int64_t v = ((int64_t)gates[H + i] * c[i] + (int64_t)gates[i] * fresh[i] + (1 << 14)) >> 15;
            c[i] = clamp((int32_t)v, MAX_CELL);
            fresh[i] = (c[i] + 8) >> 4;
        }
        k->look_up(fresh, n, t->tanh, TANH_REACH, fresh);
        for (int i = 0; i < H; i++) h[i] = (gates[2 * H + i] * fresh[i] + (1 << 14)) >> 15;
        break;
    default:
        k->add(g, a, H);
        k->look_up(g, n, t->tanh, TANH_REACH, h);
    }
    k->narrow(h, H, state->h8);
}

static uint32_t time_bucket(const ChunkerTables *t, uint32_t time) {
    uint32_t b = 0;
    while (b < N_TIMES - 1 && time > (uint32_t)t->time_bounds[b]) b++;
    return b;
}

/* The word so far, from where level 1 was told of the bytes to `position`. */
static void follow_word(Stack *s, uint32_t position) {
    for (uint32_t at = s->read_to; at < position; at++) {
        uint32_t c = s->bytes[at];
        s->word = is_letter(c) ? s->word * NGRAM_BASE + (c < 128 ? c | 32 : c) + 1 : 0;
    }
}

/* The vector of the last bytes and of the word so far, of those before `position`. */
static void look_up_ngrams(Stack *s, uint32_t position) {
    const ChunkerModel *m = s->model;
    uint32_t bits = (uint32_t)__builtin_ctz((unsigned)m->ngram_rows);
    uint32_t keys[CHUNKER_MAX_ORDERS + 1];
    const int8_t *rows[CHUNKER_MAX_ORDERS + 1];
    int tables = m->orders + m->word;
    for (int i = 0; i < m->orders; i++) {
        keys[i] = 0;
        for (uint32_t k = (uint32_t)m->order[i]; k; k--)
            keys[i] = keys[i] * NGRAM_BASE + (position >= k ? s->bytes[position - k] + 1u : 0);
    }
    if (m->word) {
        follow_word(s, position);
        keys[m->orders] = s->word * NGRAM_BASE + s->bytes[position - 1] + 1u;
    }
    for (int i = 0; i < tables; i++) {
        uint32_t row = bits ? keys[i] * NGRAM_SPREAD >> (32 - bits) : 0;
        rows[i] = m->ngrams + ((size_t)i * (size_t)m->ngram_rows + row) * (size_t)m->ngram_width;
    }
    for (int j = 0; j < m->ngram_width; j++) {
        int64_t sum = 0;
        for (int i = 0; i < tables; i++) sum += rows[i][j];
        sum = (sum * m->ngram_multiplier[j] + (1 << 16)) >> 17;
        s->ngram8[j] = (int8_t)(sum < -127 ? -127 : sum > 127 ? 127 : sum);
    }
}

/* Level 1 takes in the byte before `position`. time: bytes since its last step; guess 256 and confidence 0: none. */
static void step_first(Stack *s, uint32_t position, uint32_t time, uint32_t guess, uint32_t confidence) {
    const Level *level = &s->model->level[0];
    int n = level->gates;
    multiply(s, s->state[0].h8, &level->recurrent, s->g);
    if (level->below.q) {
        look_up_ngrams(s, position);
        multiply(s, s->ngram8, &level->below, s->a);
        s->kernels->add(s->a, level->symbol + (size_t)s->bytes[position - 1] * (size_t)n, n);
    } else {
        memcpy(s->a, level->symbol + (size_t)s->bytes[position - 1] * (size_t)n, (size_t)n * 4);
    }
    if (level->time) s->kernels->add(s->a, level->time + (size_t)time_bucket(s->tables, time) * (size_t)n, n);
    if (level->guess) s->kernels->add(s->a, level->guess + (size_t)guess * (size_t)n, n);
    if (level->confidence) s->kernels->add(s->a, level->confidence + (size_t)confidence * (size_t)n, n);
    step_cell(s, 0);
    s->read_to = position;
}

/* An upper level takes in the byte that the level below did not predict. */
static void step_upper(Stack *s, int index) {
    const Level *level = &s->model->level[index];
    State *state = &s->state[index];
    int n = level->gates;
    multiply(s, state->h8, &level->recurrent, s->g);
    if (level->below.q) {
        multiply(s, s->state[index - 1].h8, &level->below, s->a);
        s->kernels->add(s->a, level->symbol + (size_t)state->byte * (size_t)n, n);
    } else {
        memcpy(s->a, level->symbol + (size_t)state->byte * (size_t)n, (size_t)n * 4);
    }
    if (level->time) s->kernels->add(s->a, level->time + (size_t)time_bucket(s->tables, state->since) * (size_t)n, n);
    step_cell(s, index);
    state->since = 0;
    state->pending = state->fresh = 0;
}

int stack_wake(Stack *s, uint32_t position, uint32_t guess, uint32_t confidence) {
    const ChunkerModel *m = s->model;
    int moved = 0;
    if (position > s->read_to) {
        uint32_t passed = position - s->read_to, caught_up = passed - 1;
        if (caught_up > (uint32_t)m->catch_up) caught_up = (uint32_t)m->catch_up;
        for (uint32_t k = caught_up; k; k--) step_first(s, position - k, 1, SYMBOLS, 0);
        step_first(s, position, caught_up ? 1 : passed, guess, confidence);
        read_out(s, 0);
        moved = 1;
        for (int i = 1; i < m->levels && s->state[i].pending; i++) {
            step_upper(s, i);
            read_out(s, i);
            moved++;
        }
    }
    int32_t logits[SYMBOLS] = {0};
    for (int i = 0; i < m->levels; i++) {
        s->kernels->add(logits, s->state[i].logits, SYMBOLS);
        s->likeliest[i] = (uint32_t)s->kernels->weigh(logits, s->tables->weight, N_WEIGHTS - 1, s->weight[i]);
    }
    memcpy(s->tree + SYMBOLS, s->weight[m->levels - 1], SYMBOLS * 4);
    for (int i = SYMBOLS - 1; i; i--) s->tree[i] = s->tree[2 * i] + s->tree[2 * i + 1];
    return moved > 1 ? moved : 1;
}

void stack_advise(const Stack *s, uint32_t partial, Advice *advice) {
    const ChunkerTables *t = s->tables;
    uint32_t one = s->tree[2 * partial + 1], zero = s->tree[2 * partial];
    /* ln 2 = 2839 / 4096 within 1e-5; 2^12 to an octave becomes 2^8 to a nat */
    int32_t odds = ((log2_12(t, one) - log2_12(t, zero)) * 2839 + (1 << 15)) >> 16;
    advice->awake = 1;
    advice->stretched = clamp(odds, STRETCH_MAX);
    advice->linear = (int)(((uint64_t)one << 10) / ((uint64_t)one + zero)) - 512;
    advice->likeliest = s->likeliest[s->model->levels - 1];
}

int stack_levels(const Stack *s) { return s->model->levels; }

static uint32_t total(const uint32_t *weight) {
    uint32_t sum = 0; /* at most 256 * 2^23 */
    for (int k = 0; k < SYMBOLS; k++) sum += weight[k];
    return sum;
}

static int32_t cost_of(const Stack *s, int index, uint32_t byte) {
    return log2_12(s->tables, total(s->weight[index])) - log2_12(s->tables, s->weight[index][byte]);
}

void stack_costs(const Stack *s, uint32_t byte, float *bits) {
    for (int i = 0; i < s->model->levels; i++) bits[i] = (float)cost_of(s, i, byte) / 4096;
}

int stack_source(const Stack *s, uint32_t byte, int32_t cost) {
    int source = 0;
    for (int i = 0; i < s->model->levels; i++) {
        int32_t own = cost_of(s, i, byte);
        if (own < cost) cost = own, source = i + 1;
    }
    return source;
}

void stack_saw(Stack *s, uint32_t byte) {
    const ChunkerModel *m = s->model;
    int goes_up = 1;
    for (int i = 1; i < m->levels; i++) {
        State *state = &s->state[i];
        state->since++;
        if (!goes_up) continue;
        const uint32_t *weight = s->weight[i - 1];
        int missed = m->rule == CHUNKER_GATE_WORD ? !is_letter(byte) : byte != s->likeliest[i - 1];
        if (m->rule == CHUNKER_GATE_SURPRISE) {
            int32_t steps = m->thresholds[i - 1] < N_WEIGHTS - 1 ? m->thresholds[i - 1] : N_WEIGHTS - 1;
            int below = ((uint64_t)weight[byte] << WEIGHT_BITS) < (uint64_t)total(weight) * s->tables->weight[steps];
            missed = below || (steps <= LOG_STEPS && missed);
        }
        goes_up = missed || state->fresh;
        if (goes_up) state->pending = 1, state->byte = byte;
    }
}

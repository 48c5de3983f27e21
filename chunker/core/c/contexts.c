#include "contexts.h"

#include <string.h>

static int is_digit(uint32_t c) { return c >= '0' && c <= '9'; }

/* Fields of tables end at a comma, semicolon, bar or tab; fields of anything at most punctuation. */
static int ends_field(int kind, uint32_t c) {
    switch (c) {
    case ',': case ';': case '\t': case '|': return 1;
    case ' ': case ':': case '"': case '=': case '(': case ')': case '[': case ']': case '{': case '}':
        return kind == 1;
    default: return 0;
    }
}

void reading_start(Reading *r, const ChunkerTables *tables, const uint8_t *bytes) {
    memset(r, 0, sizeof *r);
    r->tables = tables;
    r->bytes = bytes;
}

static void add_words(Reading *r, uint32_t c) {
    r->word_length = is_letter(c) ? r->word_length + 1 : 0;
    if (is_letter(c)) {
        r->word = mix(r->word, (c < 128 ? c | 32 : c) + 1);
    } else if (r->word) {
        r->word2 = r->word1, r->word1 = r->word, r->word = 0;
    }
    if (is_letter(c) || is_digit(c) || c == '_') {
        r->token = mix(r->token, c + 1);
        r->token_length++;
    } else {
        if (r->token) {
            r->token1 = r->token, r->token = 0;
            r->gap = 0;
        }
        r->gap = mix(r->gap, c + 1);
        r->token_length = 0;
    }
}

static void add_runs(Reading *r, uint32_t c) {
    uint32_t g = r->tables->coarse[c];
    r->in_run = (g == '0' || g == 'a' || g == 'A') && g == (r->runs & 255);
    if (!r->in_run) {
        r->runs_before = r->runs_before << 8 | r->runs >> 56;
        r->runs = r->runs << 8 | g;
    }
    r->classes = r->classes << 4 | r->tables->class_of[c];
    uint32_t a = is_digit(c) ? '0' : c;
    if (a == '0' && (r->template8 & 255) == '0') {
        r->digits++;
    } else {
        r->digits = a == '0';
        r->template16 = r->template16 << 8 | r->template8 >> 56;
        r->template8 = r->template8 << 8 | a;
        r->line_template = mix(r->line_template, a);
    }
}

/* The byte of the field above at the place that comes next, 0 if there is none; `ahead`: so many bytes later. */
static uint32_t field_above(const Reading *r, const Fields *f, uint32_t ahead) {
    uint32_t index = f->index < N_FIELDS - 1 ? f->index : N_FIELDS - 1;
    uint32_t at = f->above[index] + (r->position - f->begin) + ahead;
    return at < r->line ? r->bytes[at] : 0;
}

static void add_fields(Reading *r, Fields *f, int kind, uint32_t c, uint32_t above) {
    if (f->order == 0 && above != c) f->order = c < above ? 1 : 2;
    if (c == '\n') {
        memcpy(f->above, f->start, sizeof f->above);
        for (uint32_t i = f->index + 1; i < N_FIELDS; i++) f->above[i] = r->position;
        memset(f->start, 0, sizeof f->start);
        f->before = f->hash;
        f->start[0] = f->begin = r->position;
        f->index = f->hash = f->order = 0;
    } else if (ends_field(kind, c)) {
        f->before = f->hash;
        f->hash = f->order = 0;
        f->begin = r->position;
        if (++f->index < N_FIELDS) f->start[f->index] = r->position;
    } else {
        f->hash = mix(f->hash, c + 1);
    }
}

static void add_structure(Reading *r, uint32_t c) {
    if ((c == ' ' || c == '\t') && r->indent == r->position - 1 - r->line) r->indent++;
    if (c == ':' || c == '=') r->key = r->token1 ? r->token1 : r->word1;
    if (c == '"' && r->token1) r->key = mix(r->token1, 0);
    if (c == '(' || c == '[' || c == '{' || c == '<') {
        if (r->depth < 31) r->depth++;
        r->bracket[r->depth] = mix(r->token1, c);
        r->bracket_key[r->depth] = r->key;
    } else if ((c == ')' || c == ']' || c == '}' || c == '>') && r->depth) {
        r->key = r->bracket_key[r->depth--];
    }
    if (r->digits == 0 && r->position - r->line <= 24) r->line_start_template = r->line_template;
    r->line_hash = mix(r->line_hash, c + 1);
    if (c == '\n') {
        r->line_hash = 0;
        r->indent_above = r->indent, r->indent = 0;
        r->line_above = r->line, r->line = r->position;
        r->line_template = r->line_start_template = r->line_word = 0;
    } else if (!r->line_word && r->token1 && !r->token) {
        r->line_word = r->token1;
    }
}

void reading_add(Reading *r, uint32_t c) {
    uint32_t last2 = r->last4 & 65535;
    r->after2[last2] = (uint16_t)(r->after2[last2] << 8 | c);
    r->after3[r->seen_after3] = (uint16_t)(r->after3[r->seen_after3] << 8 | c);
    r->after_word[r->seen_after_word] = (uint16_t)(r->after_word[r->seen_after_word] << 8 | c);
    uint32_t above[2] = {field_above(r, &r->fields[0], 0), field_above(r, &r->fields[1], 0)};
    r->position++;
    r->last8 = r->last8 << 8 | r->last4 >> 24;
    r->last4 = r->last4 << 8 | c;
    add_words(r, c);
    add_runs(r, c);
    for (int k = 0; k < 2; k++) add_fields(r, &r->fields[k], k, c, above[k]);
    add_structure(r, c);
    r->seen_after3 = mix(r->last4 & 0xffffff, 5) & 65535;
    r->seen_after_word = mix(mix(r->token, r->gap), r->token1) & 65535;
}

void reading_hashes(Reading *r, int expected, uint32_t match_length, uint32_t h[N_CONTEXTS]) {
    uint32_t c4 = r->last4, c8 = r->last8, c1 = c4 & 255;
    uint32_t column = r->position - r->line, at = r->line_above + column;
    uint32_t above = at < r->line ? r->bytes[at] : 0, next = at + 1 < r->line ? r->bytes[at + 1] : 0;
    const Fields *a = &r->fields[0], *b = &r->fields[1];
    uint32_t ia = a->index < N_FIELDS - 1 ? a->index : N_FIELDS - 1, ib = b->index < N_FIELDS - 1 ? b->index : N_FIELDS - 1;
    uint32_t a0 = field_above(r, a, 0), a1 = field_above(r, a, 1), b0 = field_above(r, b, 0), b1 = field_above(r, b, 1);
    uint32_t low_runs = (uint32_t)r->runs, high_runs = (uint32_t)(r->runs >> 32);
    if (column > 255) column = 255;

    h[CTX_O1] = c1;
    h[CTX_O2] = c4 & 0xffff;
    h[CTX_O3] = c4 & 0xffffff;
    h[CTX_O4] = c4;
    h[CTX_O6] = mix(c4, c8 & 0xffff);
    h[CTX_WORD] = mix(r->word, c1);
    h[CTX_WORD2] = mix(h[CTX_WORD], r->word1);
    h[CTX_WORD_SKIP] = mix(h[CTX_WORD], r->word2);
    h[CTX_WORD3] = mix(h[CTX_WORD2], r->word2);
    h[CTX_RUNS2] = mix(low_runs & 0xffff, r->in_run);
    h[CTX_RUNS4] = mix(low_runs, r->in_run);
    h[CTX_RUNS6] = mix(low_runs, (high_runs & 0xffff) << 1 | r->in_run);
    h[CTX_RUNS8] = mix(mix(low_runs, high_runs), r->in_run);
    h[CTX_RUNS12] = mix(h[CTX_RUNS8], (uint32_t)r->runs_before);
    h[CTX_RUNS7_2] = mix(mix(low_runs, high_runs & 0xffffff), (c4 & 0xffff) << 1 | r->in_run);
    uint32_t t4 = (uint32_t)r->template8, t8 = (uint32_t)(r->template8 >> 32);
    h[CTX_TEMPLATE8] = mix(mix(t4, t8), r->digits);
    h[CTX_TEMPLATE12] = mix(h[CTX_TEMPLATE8], (uint32_t)r->template16);
    h[CTX_LINE_TEMPLATE] = mix(r->line_template, r->digits);
    h[CTX_COLUMN] = mix(column, above | c1 << 8);
    h[CTX_ABOVE] = mix(above | next << 8 | c1 << 16, c4 >> 8 & 255);
    h[CTX_WORD_COLUMN] = mix(r->word, mix(column, above));
    h[CTX_FIELD_A] = mix(a->hash, ia);
    h[CTX_FIELD_A_ABOVE] = mix(a0 | a1 << 8 | c1 << 16 | ia << 24, a->order);
    h[CTX_FIELD_A_BEFORE] = mix(mix(a->hash, a->before), ia);
    h[CTX_FIELD_B] = mix(b->hash, ib);
    h[CTX_NUMBER_ABOVE] = mix(mix(r->digits, ib), b->order << 16 | b0 << 8 | b1) + (is_digit(c1) ? c1 : 0);
    h[CTX_FIRST_FIELD] = mix(r->line_start_template, h[CTX_FIELD_B]);
    h[CTX_KEY] = mix(mix(r->key, b->hash), c1);
    h[CTX_BRACKET] = mix(mix(r->bracket[r->depth], r->depth), r->token + c1);
    h[CTX_INDENT] = mix(mix(r->indent << 8 | r->indent_above, r->line_word), r->token + c1);
    h[CTX_LINE] = r->line_hash;
    h[CTX_AFTER2] = mix(r->after2[c4 & 65535], c1);
    h[CTX_AFTER3] = mix(r->after3[r->seen_after3], c1);
    h[CTX_AFTER_WORD] = mix(r->after_word[r->seen_after_word], c1);
    uint32_t bucket = length_bucket(match_length), e = (uint32_t)(expected + 1);
    h[CTX_MATCH] = mix(e, bucket);
    h[CTX_MATCH3] = mix(mix(e, bucket >> 3), c4 & 0xffffff);
    h[CTX_CLASSES] = mix((uint32_t)r->classes & 0xfffff, c1);
    h[CTX_WORD_GAP] = mix(r->word1, mix(r->gap, r->word));
    h[CTX_PAGE] = mix(r->position >> 10, mix(r->token, c1));
    for (uint32_t i = 0; i < N_CONTEXTS; i++) h[i] = mix(h[i], i * 0x632be5abu + 1);
}

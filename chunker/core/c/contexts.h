/* What stands before a byte, read in many ways: the contexts of level 0. */
#ifndef CHUNKER_CONTEXTS_H
#define CHUNKER_CONTEXTS_H

#include "tables.h"

/* Number and meaning of each context; FORMAT.md, "Contexts", has the formulas. */
enum {
    /* the last n bytes */
    CTX_O1, CTX_O2, CTX_O3, CTX_O4, CTX_O6,
    /* words: the letters so far of this one, with the ones before; and what stands between */
    CTX_WORD, CTX_WORD2, CTX_WORD_SKIP, CTX_WORD3, CTX_WORD_GAP,
    /* classes of characters, runs of a class taken as one */
    CTX_RUNS2, CTX_RUNS4, CTX_RUNS6, CTX_RUNS8, CTX_RUNS12, CTX_RUNS7_2, CTX_CLASSES,
    /* bytes with every number taken as one digit */
    CTX_TEMPLATE8, CTX_TEMPLATE12, CTX_LINE_TEMPLATE,
    /* column and the line above */
    CTX_COLUMN, CTX_ABOVE, CTX_WORD_COLUMN,
    /* fields: of tables (A) and of anything (B) */
    CTX_FIELD_A, CTX_FIELD_A_ABOVE, CTX_FIELD_A_BEFORE, CTX_FIELD_B, CTX_NUMBER_ABOVE, CTX_FIRST_FIELD,
    /* structure: keys, brackets, indents, the line so far, the place in the block */
    CTX_KEY, CTX_BRACKET, CTX_INDENT, CTX_LINE, CTX_PAGE,
    /* what followed here before: the last bytes seen after these 2, 3 bytes, this token */
    CTX_AFTER2, CTX_AFTER3, CTX_AFTER_WORD,
    /* the byte that the longest match expects */
    CTX_MATCH, CTX_MATCH3,
    N_CONTEXTS
};

#define N_FIELDS 64 /* fields of a line that are told apart */

typedef struct {
    uint32_t index, hash, before, begin; /* of the field that is being read: number, its bytes, the field before */
    uint32_t start[N_FIELDS], above[N_FIELDS]; /* where the fields of this line and of the one above begin */
    uint32_t order;                      /* against the field above: 0 equal so far, 1 smaller, 2 larger */
} Fields;

/* The state of reading: a function of the bytes so far. */
typedef struct {
    const ChunkerTables *tables;
    const uint8_t *bytes;   /* the block so far */
    uint32_t position;      /* bytes read */
    uint32_t last4, last8;  /* the last four bytes and the four before, the latest lowest */
    uint64_t classes;       /* classes of the last 16 bytes */
    uint32_t word, word1, word2; /* hashes of the word that is being read and of those before */
    uint32_t token, token1, gap; /* identifiers, what stands between them */
    uint64_t runs, runs_before; /* coarse bytes, repeats left out */
    uint32_t in_run;
    uint64_t template8, template16; /* bytes, every number as one digit */
    uint32_t digits;        /* of the number that is being read */
    uint32_t line, line_above; /* where the lines begin */
    uint32_t line_template, line_start_template, line_hash, line_word;
    uint32_t indent, indent_above;
    uint32_t word_length, token_length;
    uint32_t key, bracket[32], bracket_key[32], depth;
    Fields fields[2];
    uint32_t seen_after3, seen_after_word; /* which entry the next byte goes to */
    uint16_t after2[65536], after3[65536], after_word[65536]; /* the last two bytes that followed */
} Reading;

void reading_start(Reading *r, const ChunkerTables *tables, const uint8_t *bytes);

/* Takes in the byte at bytes[position]. */
void reading_add(Reading *r, uint32_t c);

/* What the longest match expects: its byte or -1, and its length. */
void reading_hashes(Reading *r, int expected, uint32_t match_length, uint32_t hash[N_CONTEXTS]);

static inline uint32_t mix(uint32_t a, uint32_t b) {
    uint32_t h = a * 0x2f0b4c47u + b * 0x3d4d51cbu + 0x7f4a7c15u;
    h ^= h >> 15;
    h *= 0x1b873593u;
    return h ^ h >> 13;
}

/* The bucket of a match's length, 0 .. 23. */
static inline uint32_t length_bucket(uint32_t n) {
    if (n < 16) return n;
    if (n < 32) return 16 + (n - 16) / 8;
    if (n < 64) return 18 + (n - 32) / 16;
    return n < 128 ? 20 : n < 256 ? 21 : n < 512 ? 22 : 23;
}

#endif

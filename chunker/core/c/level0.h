/* Level 0: predicts every bit from what followed its contexts before, and mixes in what the recurrent levels say. */
#ifndef CHUNKER_LEVEL0_H
#define CHUNKER_LEVEL0_H

#include "contexts.h"
#include "journal.h"
#include "kernels.h"
#include "memory.h"

#define N_MATCHES 3
#define N_SETS 7
#define N_APMS 5
#define N_LANES 64 /* N_CONTEXTS, padded */
#define FINAL_WEIGHTS 8 /* N_SETS, padded */

/* Parts of the mixture, as bits of ChunkerJob.without_parts: for ablations only. */
enum {
    PART_RUN = 1 << 0,       /* the byte seen last in a context, and how often in a row */
    PART_CERTAIN = 1 << 1,   /* histories that saw only one kind of bit */
    PART_LINEAR = 1 << 2,    /* probabilities of bit histories */
    PART_MATCH = 1 << 3,     /* the longest repetitions */
    PART_RECOVER = 1 << 4,   /* a repetition that goes on after a miss */
    PART_DIRECT = 1 << 5,    /* probabilities of the partial byte alone and after the last byte */
    PART_SETS = 1 << 6,      /* this and the following six: sets of weights */
    PART_FINAL2 = 1 << 13,   /* the second final mixer */
    PART_APMS = 1 << 14,     /* adaptive probability maps: this and the following four */
    PART_SURE = 1 << 19      /* no training where the error is small */
};

typedef struct {
    uint16_t check;            /* 0: free */
    uint8_t state[15];         /* bit histories of the nodes of a nibble's binary tree */
    uint8_t run_count, run_byte, run_before; /* of a first nibble: the byte seen last, how often in a row, the one before */
} Slot;

typedef struct {
    Slot slot[3];
    uint8_t unused[4];         /* a cache line */
} Bucket;

typedef struct {
    uint32_t at, length;       /* where the byte that it expects stands; how many bytes before it repeat */
    uint32_t misses;           /* of the last eight bytes, one bit each; 0 and length 0: it expects nothing */
    int32_t expected;          /* the byte, -1 if there is none or another match expects it */
    uint32_t *map;             /* what it takes part with in this bit; NULL if it takes none */
} Match;

/* What the recurrent levels say of the next bit. */
typedef struct {
    int awake;
    int stretched;             /* logarithm of odds of a 1, in 1/256 nat */
    int linear;                /* probability of a 1 minus 1/2, 1024 to 1 */
    uint32_t likeliest;        /* byte */
} Advice;

typedef struct {
    /* what does not change after construction, and tables */
    const ChunkerTables *tables;
    const Kernels *kernels;
    uint32_t without_parts;
    int contexts, orders;      /* how many; how many of them are the last n bytes */
    uint8_t context[N_CONTEXTS]; /* their numbers */
    Bucket *buckets;
    int bucket_bits;
    uint32_t *state_map;       /* (contexts, 256) adaptive probabilities */
    uint32_t *run_map;         /* (contexts, 18, 2, 8) of the run's byte being right, and one that stands for no run */
    uint32_t run_at_before[N_LANES]; /* where a context's entries for a run of none begin in run_map */
    uint32_t *match_table[N_MATCHES];
    int match_bits;
    uint32_t *order1;          /* (256, 256) direct probabilities, exclusive-or 2^31 */
    int lanes;                 /* contexts, padded to a multiple of 16 */
    uint32_t set_mask;         /* rows of every set less 1, a power of two less 1; SET_SIZE may be less */
    int inputs;                /* padded */
    int16_t *x;                /* (inputs,) */
    int32_t *initial;          /* (inputs,) weights of a set that was never used */
    int32_t *weights[N_SETS];  /* (rows, inputs) */
    uint16_t *trained[N_SETS]; /* (rows,) how often; 0: not initialized */
    int32_t (*final[2])[FINAL_WEIGHTS];
    uint32_t apm_mask;         /* rows of a map less 1, a power of two less 1 */
    uint16_t *apm[N_APMS];     /* (rows, 33), exclusive-or their initial values */
    uint16_t apm_initial[33];
    Memory memory;
    /* what a session needs to go back: the journal; for records what was saved, and in which record each row of weights
     * was kept; for bits how much of the journal was in use before each bit of this byte was learnt */
    Journal journal;
    char *saved;
    uint32_t *kept[N_SETS], record;
    size_t before_bit[8];

    /* what changes with every byte, from here to the tables of `reading` (CHANGING in level0.c); of it that up to match_map
     * belongs to one bit (OF_BIT) */
    uint32_t hash[N_CONTEXTS];
    Slot *slot[N_CONTEXTS], *first[N_CONTEXTS]; /* of this nibble, of this byte's first nibble */
    /* per context, N_LANES of them, those beyond `contexts` being zero: */
    uint32_t run_last[N_LANES], run_before[N_LANES]; /* the byte seen last and the one before, with a leading 1; 0: none */
    uint32_t run_at[N_LANES];  /* where the run's entries begin in run_map */
    uint32_t run_used[N_LANES], run_bit[N_LANES];    /* the entry that takes part, the bit that it expects */
    uint32_t run_entry[N_LANES];
    uint32_t state_used[N_LANES], state_entry[N_LANES];
    int32_t state[N_LANES], mixed[N_LANES], odds_of[N_LANES];
    /* matches */
    Match match[N_MATCHES];
    uint32_t longest_expected, longest_length; /* of the first match that expects a byte: byte + 1 or 0 */
    /* mixer */
    uint32_t selected[N_SETS];
    int output[N_SETS];        /* in 1/256 nat */
    uint32_t final_selected[2];
    int final_p[2];
    /* adaptive probability maps */
    uint32_t apm_place[N_APMS], apm_used[N_APMS], apm_node[N_APMS];
    /* the bit at hand */
    uint32_t partial;          /* bits of this byte so far, with a leading 1 */
    int bit;                   /* 0 .. 7 */
    int node;                  /* in the nibble's tree, from 1 */
    int seen_orders;           /* of the last n bytes: contexts in which something was seen here */
    int p;                     /* 16 bits, of a 1 */
    int odds;                  /* its logarithm of odds before the APMs */
    uint32_t match_map[N_MATCHES][24 * 8 * 2];
    uint32_t order0[256];      /* direct probabilities */
    Reading reading;
} Level0;

/* NULL: no memory. size: bytes of the block. given: where level0_save put the state of one made alike, NULL for none; it
 * must live as long. */
Level0 *level0_new(const ChunkerTables *tables, const Kernels *kernels, const uint8_t *bytes, uint32_t size, int contexts,
                   int with_stack, uint64_t without_contexts, uint32_t without_parts, char *given);
void level0_free(Level0 *l);

/* Between two bytes: remember the state, go back to the one remembered (level0_mark returns 0 without memory, level0_undo
 * if the journal found none), and take over the state of one that was made alike. */
int level0_mark(Level0 *l);
int level0_undo(Level0 *l);
void level0_copy(Level0 *to, const Level0 *from);

/* Within a byte, from level0_keep_bits on: forget what came before, and go back to where the last bit that was learnt was
 * predicted, with its inputs and its mixture. level0_back returns 0 if the journal found no memory. */
void level0_keep_bits(Level0 *l);
int level0_back(Level0 *l);

/* Its state in one piece: the size, a multiple of 64, and the state itself, to a place of zeros. */
size_t level0_size(const Level0 *l);
void level0_save(const Level0 *l, char *to);

void level0_begin_byte(Level0 *l);
/* The probability of a 1, 1 .. 65535 of 65536; inputs first, then the mixture, again if the advice changes. */
void level0_gather(Level0 *l);
int level0_mix(Level0 *l, const Advice *advice);
void level0_update(Level0 *l, int bit);
void level0_end_byte(Level0 *l);

/* Level 0's likeliest byte, 256 if it has none, and how sure it is of it, 0 .. 15; before the first bit. */
uint32_t level0_guess(const Level0 *l, uint32_t *confidence);

#endif

/* chunker: the codec of one block, in integers only.
 *
 * A block is a run of bytes that is coded alone. Level 0 (level0.c) predicts every bit from adaptive contexts;
 * recurrent levels (stack.c) wake within a byte at the first bit of which level 0 is unsure, and take part in the
 * mixture of the bits that are left. chunker/core/FORMAT.md is the specification, chunker/core/reference/ the same
 * codec in Python.
 *
 * Nothing here is global and mutable: tables and models are built once, never change afterwards and may be shared by
 * threads. Every function that allocates returns CHUNKER_NO_MEMORY or NULL when it cannot. */
#ifndef CHUNKER_H
#define CHUNKER_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define CHUNKER_API __declspec(dllexport)
#else
#define CHUNKER_API __attribute__((visibility("default")))
#endif

#define CHUNKER_ABI 8                     /* changes with every change of this header */
#define CHUNKER_MAX_BLOCK (1 << 22)       /* bytes of a block */
#define CHUNKER_GATE_ALWAYS 4095          /* the recurrent levels wake at the first bit of every byte */
#define CHUNKER_MAX_LEVELS 16
#define CHUNKER_MAX_WIDTH 16384
#define CHUNKER_MAX_ORDERS 8
#define CHUNKER_BEST 5                    /* how many of the likeliest bytes a session tells */
#define CHUNKER_RESERVED 0xfe             /* a record's payload does not begin with this byte or the one above */

/* What a function returns. Values from 0 on are sizes in bytes. */
enum {
    CHUNKER_STOPPED = -1,    /* *stop became non-zero */
    CHUNKER_NO_MEMORY = -2,
    CHUNKER_TOO_LARGE = -3,  /* the payload would not fit into the capacity given */
    CHUNKER_CORRUPT = -4,    /* the payload ends too early or too late for what it claims, or holds no record */
    CHUNKER_BAD_JOB = -5     /* a field is out of range: the caller's mistake */
};

typedef struct ChunkerTables ChunkerTables; /* constants of the codec, computed once */
typedef struct ChunkerModel ChunkerModel;   /* a stack of recurrent levels, packed for the kernels */
typedef struct ChunkerSession ChunkerSession; /* a block that is read, not coded */

/* A matrix of a model: q (rows, columns) with one multiplier a column; FORMAT.md, "Recurrent levels". q is NULL where
 * the model has no such matrix. */
typedef struct {
    const int8_t *q;
    const int32_t *multiplier;
    int32_t rows, columns;
} ChunkerMatrix;

typedef struct {
    int32_t width;
    ChunkerMatrix symbol_input, time_input, guess_input, confidence_input, below, recurrent, readout;
    const int32_t *bias, *candidate_bias, *readout_bias; /* candidate_bias: GRU only */
} ChunkerLevel;

enum { CHUNKER_RNN = 0, CHUNKER_GRU = 1, CHUNKER_LSTM = 2 };
enum { CHUNKER_GATE_ARGMAX = 0, CHUNKER_GATE_SURPRISE = 1, CHUNKER_GATE_WORD = 2 };

typedef struct {
    int32_t cell, levels, rule;          /* rule: when an input goes up to the next level */
    int32_t thresholds[CHUNKER_MAX_LEVELS]; /* of the gates between levels, in 1/128 bit */
    int32_t orders, order[CHUNKER_MAX_ORDERS]; /* n-grams of the last bytes; orders = 0: none */
    int32_t word, ngram_rows;            /* word: 1: and the word so far */
    ChunkerMatrix ngram_table;           /* ((orders + word) * ngram_rows, width) */
    int32_t catch_up;                    /* of the bytes slept through, how many are taken in on waking */
    ChunkerLevel level[CHUNKER_MAX_LEVELS];
} ChunkerStack;

/* One block to code. */
typedef struct {
    const ChunkerTables *tables;
    const ChunkerModel *model;    /* NULL where gate is 0 */
    int32_t kernels;              /* which instruction set: an index into chunker_kernels */
    int32_t contexts;             /* which contexts level 0 uses: 0 few, 1 many, 2 all */
    int32_t gate;                 /* 0: no recurrent level; otherwise in 1/256 nat, see FORMAT.md */
    uint64_t without_contexts;    /* ablation only, never of an archive: contexts to leave out, by number */
    uint32_t without_parts;       /* likewise parts of the mixture, see level0.h */
    const volatile int32_t *stop; /* looked at every few bytes; may be NULL */
    volatile int64_t *done;       /* bytes coded so far; may be NULL */
} ChunkerJob;

/* What a session tells of the n bytes that it reads; each of these may be NULL. */
typedef struct {
    float *bits;           /* (n,) what coding them would cost, in bits */
    uint8_t *levels;       /* (n,) how many recurrent levels moved before it */
    uint8_t *woke;         /* (n,) the number, from 0, of the bit before which they woke; 8: they slept */
    uint16_t *guess;       /* (n,) the byte that level 0 held for the likeliest one; 256: none */
    uint8_t *confidence;   /* (n,) how sure level 0 was of it, 0 .. 15 */
    uint16_t *probability; /* (n, 8) of a 1, before each of its bits, 65536 to 1 */
    float *level_bits;     /* (n, levels) what levels 1 .. l alone would take for it, in bits; NaN where they slept */
    /* of bytes that cost rank_from or more, of any other 0: */
    float rank_from;
    uint16_t *rank;        /* (n,) 1 and how many other bytes would have cost less; NULL: these four are not wanted */
    uint8_t *best;         /* (n, CHUNKER_BEST) the bytes that would have cost least, the lower one first of equals */
    float *best_bits;      /* (n, CHUNKER_BEST) what they would have cost */
    uint8_t *best_levels;  /* (n, CHUNKER_BEST) l of the levels 1 .. l which alone would have taken least for it, if that is
                            * less than it would have cost; 0: the contexts held it for likelier than any of them */
} ChunkerReadings;

CHUNKER_API int32_t chunker_abi(void);

CHUNKER_API ChunkerTables *chunker_tables_new(void);
CHUNKER_API void chunker_tables_free(ChunkerTables *tables);

/* A hash of all constants, to be compared with the one that FORMAT.md gives. */
CHUNKER_API uint64_t chunker_tables_digest(const ChunkerTables *tables);

/* The name of the k-th instruction set that this processor has, best first; NULL beyond the last, "portable". */
CHUNKER_API const char *chunker_kernels(const ChunkerTables *tables, int32_t k);

/* Copies what it needs. NULL without memory or if a size in `stack` is out of range. */
CHUNKER_API ChunkerModel *chunker_model_new(const ChunkerStack *stack);
CHUNKER_API void chunker_model_free(ChunkerModel *model);

/* Codes content[0 .. size) into payload; returns the payload's size or an error from above. */
CHUNKER_API int64_t chunker_encode_block(const ChunkerJob *job, const uint8_t *content, int64_t size,
                                         uint8_t *payload, int64_t capacity);

/* Decodes `size` bytes of content; returns size or an error, then as many bytes as *job->done says are decoded. */
CHUNKER_API int64_t chunker_decode_block(const ChunkerJob *job, const uint8_t *payload, int64_t payload_size,
                                         uint8_t *content, int64_t size);

/* A session reads bytes as coding them would, in as many calls as its owner likes, and tells what they cost. It takes
 * `capacity` bytes at most, by which its tables are sized as those of a block of this size, and keeps what `job` points
 * to. With a gate and no model level 0 is alone, and `woke` tells when recurrent levels would wake. NULL: there is no
 * memory, or the job is wrong. */
CHUNKER_API ChunkerSession *chunker_session_new(const ChunkerJob *job, int64_t capacity);
CHUNKER_API void chunker_session_free(ChunkerSession *session);

/* How many more bytes it has room for. */
CHUNKER_API int64_t chunker_session_left(const ChunkerSession *session);

/* Returns size or an error from above; *job->done counts the bytes of this call. A session that was stopped has read
 * that many. At the first `asleep` bytes of these the recurrent levels sleep, whatever the contexts know. */
CHUNKER_API int64_t chunker_session_read(ChunkerSession *session, const uint8_t *bytes, int64_t size, int64_t asleep,
                                         const ChunkerReadings *readings);

/* Code and decode what comes next as the rest of a block whose beginning the session has read, which both sides know; as
 * the functions above, stop and done being those of a job. With `keep` the session is as it was before, afterwards;
 * without, it is of no further use. */
CHUNKER_API int64_t chunker_session_encode_block(ChunkerSession *session, const uint8_t *content, int64_t size, uint8_t *payload,
                                                 int64_t capacity, int32_t keep, const volatile int32_t *stop,
                                                 volatile int64_t *done);
CHUNKER_API int64_t chunker_session_decode_block(ChunkerSession *session, const uint8_t *payload, int64_t payload_size,
                                                 uint8_t *content, int64_t size, int32_t keep, const volatile int32_t *stop,
                                                 volatile int64_t *done);

/* A session of its own in the same state; NULL: there is no memory. */
CHUNKER_API ChunkerSession *chunker_session_copy(const ChunkerSession *session);

/* The session's state, to be kept in a file: returns its size, and writes it if there is room; `state` holds zeros. It is
 * for this machine and this build of the library, and is trusted: whoever keeps it compares a checksum. */
CHUNKER_API int64_t chunker_session_save(const ChunkerSession *session, uint8_t *state, int64_t room);

/* A session in a saved state, made with a job and capacity as the saved one's. Its tables lie in `state`, aligned to 64
 * bytes, which it writes to and which must outlive it. NULL: the state is not one of such a session, or no memory. */
CHUNKER_API ChunkerSession *chunker_session_restore(const ChunkerJob *job, int64_t capacity, uint8_t *state, int64_t size);

/* Codes a record as what comes next; afterwards the session is as it was before. Returns the payload's size or an error
 * from above. The payload's first byte is below CHUNKER_RESERVED. */
CHUNKER_API int64_t chunker_session_encode(ChunkerSession *session, const uint8_t *record, int64_t size, uint8_t *payload,
                                           int64_t capacity);

/* Decodes a record: up to its first byte that is `end`, or where `end` is -1 exactly `size` bytes. There are `size` bytes
 * at most, else it is corrupt. Returns the record's size or an error. */
CHUNKER_API int64_t chunker_session_decode(ChunkerSession *session, const uint8_t *payload, int64_t payload_size,
                                           uint8_t *record, int64_t size, int32_t end);

#endif

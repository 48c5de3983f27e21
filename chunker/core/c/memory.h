/* Memory of one owner: taken piece by piece, zeroed and aligned to 64 bytes, given back all at once. */
#ifndef CHUNKER_MEMORY_H
#define CHUNKER_MEMORY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIECES 512

typedef struct {
    void *piece[MAX_PIECES];
    size_t size[MAX_PIECES];
    int pieces;
} Memory;

static inline char *aligned(void *raw) { return (char *)raw + (64 - ((uintptr_t)raw & 63)) % 64; }

/* NULL: no memory. calloc hands out fresh pages untouched, so that small blocks do not pay for zeroing large tables. */
static inline void *take(Memory *m, size_t bytes) {
    if (m->pieces == MAX_PIECES) return NULL;
    char *raw = calloc(1, bytes + 64);
    if (!raw) return NULL;
    m->size[m->pieces] = bytes;
    m->piece[m->pieces++] = raw;
    return aligned(raw);
}

/* What lies in `from` goes to `to`, of which the same pieces were taken. */
static inline void copy_pieces(Memory *to, const Memory *from) {
    for (int i = 0; i < from->pieces; i++) memcpy(aligned(to->piece[i]), aligned(from->piece[i]), from->size[i]);
}

static inline void give_back(Memory *m) {
    for (int i = 0; i < m->pieces; i++) free(m->piece[i]);
    m->pieces = 0;
}

#endif

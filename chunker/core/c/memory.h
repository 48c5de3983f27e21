/* Memory of one owner: taken piece by piece, zeroed and aligned to 64 bytes, given back all at once. Or taken from a place
 * that its caller gives, where an owner of the same pieces left them. */
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
    char *given; /* where the next piece lies; NULL: taken from the heap */
} Memory;

static inline size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

static inline char *aligned(void *raw) { return (char *)raw + (64 - ((uintptr_t)raw & 63)) % 64; }

/* NULL: no memory. calloc hands out fresh pages untouched, so that small blocks do not pay for zeroing large tables. */
static inline void *take(Memory *m, size_t bytes) {
    if (m->pieces == MAX_PIECES) return NULL;
    char *raw = m->given ? m->given : calloc(1, bytes + 64);
    if (!raw) return NULL;
    if (m->given) m->given += padded(bytes);
    m->size[m->pieces] = bytes;
    m->piece[m->pieces++] = raw;
    return aligned(raw);
}

/* How much place the pieces take one behind the other. */
static inline size_t pieces_size(const Memory *m) {
    size_t size = 0;
    for (int i = 0; i < m->pieces; i++) size += padded(m->size[i]);
    return size;
}

/* Copies to a place that holds zeros; pages of zeros are left as they are. Returns where the next bytes go. */
static inline char *put(char *to, const void *from, size_t bytes) {
    static const char zeros[4096];
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < sizeof zeros ? bytes - at : sizeof zeros;
        const char *page = (const char *)from + at;
        if (memcmp(page, zeros, n)) memcpy(to + at, page, n);
    }
    return to + padded(bytes);
}

static inline char *put_pieces(char *to, const Memory *m) {
    for (int i = 0; i < m->pieces; i++) to = put(to, aligned(m->piece[i]), m->size[i]);
    return to;
}

/* What lies in `from` goes to `to`, of which the same pieces were taken. */
static inline void copy_pieces(Memory *to, const Memory *from) {
    for (int i = 0; i < from->pieces; i++) memcpy(aligned(to->piece[i]), aligned(from->piece[i]), from->size[i]);
}

static inline void give_back(Memory *m) {
    if (!m->given)
        for (int i = 0; i < m->pieces; i++) free(m->piece[i]);
    m->pieces = 0;
}

#endif

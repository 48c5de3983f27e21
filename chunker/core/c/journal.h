/* What was overwritten, so that it can be put back: the latest first. */
#ifndef CHUNKER_JOURNAL_H
#define CHUNKER_JOURNAL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    void *at;
    size_t size;
} Overwritten; /* follows the bytes, padded to 8, that stood there */

enum { CHANGES_FORGOTTEN = 0, CHANGES_OF_RECORD, CHANGES_OF_BITS }; /* level0.h has what each is for */

typedef struct {
    int writing;    /* which changes are kept */
    int failed;     /* memory ran out: what was changed since cannot be undone */
    char *bytes;
    size_t used, room;
} Journal;

/* To be called before something is written to `at`. */
static inline void keep(Journal *j, void *at, size_t size) {
    if (!j->writing) return;
    size_t padded = (size + 7) / 8 * 8, needed = j->used + padded + sizeof(Overwritten);
    if (needed > j->room) {
        size_t room = 2 * needed + 65536;
        char *bytes = j->failed ? NULL : realloc(j->bytes, room);
        if (!bytes) {
            j->failed = 1;
            return;
        }
        j->bytes = bytes, j->room = room;
    }
    memcpy(j->bytes + j->used, at, size);
    Overwritten *entry = (Overwritten *)(void *)(j->bytes + j->used + padded);
    entry->at = at, entry->size = size;
    j->used = needed;
}

/* Puts everything back that was written since so much of the journal was in use. */
static inline void undo_to(Journal *j, size_t used) {
    while (j->used > used) {
        const Overwritten *entry = (const Overwritten *)(const void *)(j->bytes + j->used - sizeof *entry);
        j->used -= sizeof *entry + (entry->size + 7) / 8 * 8;
        memcpy(entry->at, j->bytes + j->used, entry->size);
    }
}

#endif

/* The recurrent levels above level 0: static while they code, integers throughout. FORMAT.md, "Recurrent levels". */
#ifndef CHUNKER_STACK_H
#define CHUNKER_STACK_H

#include "level0.h"

typedef struct Stack Stack; /* the running state of one block */

/* NULL: no memory. given: as level0_new has it. */
Stack *stack_new(const ChunkerModel *model, const ChunkerTables *tables, const Kernels *kernels, const uint8_t *bytes, char *given);
void stack_free(Stack *s);

/* As those of level 0. */
int stack_mark(Stack *s);
void stack_undo(Stack *s);
void stack_copy(Stack *to, const Stack *from);
size_t stack_size(const Stack *s);
void stack_save(const Stack *s, char *to);

/* Level 1 wakes before the byte at `position`: it takes in what passed, and predicts. Returns how many levels moved. */
int stack_wake(Stack *s, uint32_t position, uint32_t guess, uint32_t confidence);

/* What the prediction says of the bit that follows `partial` (a leading 1, then the bits of this byte so far). */
void stack_advise(const Stack *s, uint32_t partial, Advice *advice);

/* What levels 1 .. l alone would take for a byte, for each l, in bits. */
void stack_costs(const Stack *s, uint32_t byte, float *bits);

/* l of the levels 1 .. l which alone would take least for a byte, if that is less than `cost`, 4096 to a bit; or 0. */
int stack_source(const Stack *s, uint32_t byte, int32_t cost);

/* How many levels it has. */
int stack_levels(const Stack *s);

/* The byte that was predicted came: the gates decide which levels it goes up to. */
void stack_saw(Stack *s, uint32_t byte);

#endif

/* Eight threads at work in the library at once, to be built with -fsanitize=thread:
 *
 *     threads ROUNDS [SEED]
 *
 * They share the tables and the models. In each round every thread codes blocks, reads in a session of its own, codes records
 * from a copy of one session, and is stopped now and then by another; what it makes has to be what one thread alone makes. */
#define _POSIX_C_SOURCE 200809L /* barriers */
#include "common.h"

#include <pthread.h>

#define THREADS 8
#define MODELS 3
#define SIZE 200
#define ROOM 40

typedef struct {
    const ChunkerTables *tables;
    ChunkerModel *model[MODELS];
    ChunkerSession *session; /* copied by all of them at once */
    pthread_mutex_t copying; /* a session does one thing at a time */
    pthread_barrier_t start;
    uint64_t alone[THREADS]; /* hashes of what each thread makes */
    int compares;
    long rounds;
    uint64_t seed;
} Shared;

typedef struct {
    Shared *shared;
    int number;
} Thread;

static void wrong(const char *what) { fail(what, "threads"); }

static uint64_t block(const Shared *s, Random *r) {
    uint8_t content[SIZE], payload[2 * SIZE + 64], back[SIZE];
    for (int i = 0; i < SIZE; i++) content[i] = (uint8_t)('a' + below(r, 4));
    ChunkerJob job = {.tables = s->tables, .contexts = (int32_t)below(r, 3), .model = s->model[below(r, MODELS)]};
    job.gate = below(r, 2) ? CHUNKER_GATE_ALWAYS : between(r, 0, 1500);
    volatile int64_t done = 0;
    volatile int32_t stop = 0;
    job.done = &done, job.stop = &stop;
    int64_t n = chunker_encode_block(&job, content, SIZE, payload, sizeof payload);
    if (n < 0 || chunker_decode_block(&job, payload, n, back, SIZE) != SIZE || memcmp(content, back, SIZE))
        wrong("a block did not come back");
    return hash_of(payload, n);
}

static uint64_t records(Shared *s, Random *r) {
    uint8_t record[ROOM], payload[16 * ROOM + 16], back[ROOM];
    pthread_mutex_lock(&s->copying);
    ChunkerSession *session = chunker_session_copy(s->session);
    pthread_mutex_unlock(&s->copying);
    if (!session) wrong("no memory");
    uint64_t hash = 0;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < ROOM; i++) record[i] = (uint8_t)('a' + below(r, 4));
        int64_t n = chunker_session_encode(session, record, ROOM, payload, sizeof payload);
        if (n < 0 || chunker_session_decode(session, payload, n, back, ROOM, -1) != ROOM || memcmp(record, back, ROOM))
            wrong("a record did not come back");
        hash ^= hash_of(payload, n);
    }
    chunker_session_free(session);
    return hash;
}

static void *work(void *argument) {
    const Thread *thread = argument;
    Shared *s = thread->shared;
    Random random = {s->seed * 1000 + (uint64_t)thread->number};
    uint64_t hash = 0;
    if (s->compares) pthread_barrier_wait(&s->start);
    for (long round = 0; round < s->rounds; round++) hash = hash * 31 + block(s, &random) + records(s, &random);
    if (!s->compares) s->alone[thread->number] = hash;
    else if (s->alone[thread->number] != hash) wrong("eight threads make something else than one");
    return NULL;
}

/* A thread asks a block of another one to stop. */
static void *stopped(void *argument) {
    const ChunkerJob *job = argument;
    uint8_t content[SIZE] = {0}, payload[2 * SIZE];
    int64_t n;
    do n = chunker_encode_block(job, content, SIZE, payload, sizeof payload);
    while (n >= 0);
    if (n != CHUNKER_STOPPED) wrong("it was not stopped");
    return NULL;
}

int main(int count, char **arguments) {
    if (count < 2) fail("threads ROUNDS [SEED]", "usage");
    static Shared s;
    s.rounds = atol(arguments[1]), s.seed = count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    ChunkerTables *tables = chunker_tables_new();
    s.tables = tables;
    Random random = {s.seed};
    Made made[MODELS];
    for (int k = 0; k < MODELS; k++) {
        made_up_stack(&made[k], &random);
        if (!(s.model[k] = chunker_model_new(&made[k].stack))) wrong("a model was refused");
    }
    ChunkerJob job = {.tables = tables, .model = s.model[0], .contexts = 1, .gate = 600};
    s.session = chunker_session_new(&job, SIZE + ROOM);
    uint8_t sample[SIZE];
    for (int i = 0; i < SIZE; i++) sample[i] = (uint8_t)('a' + below(&random, 4));
    if (!s.session || chunker_session_read(s.session, sample, SIZE, SIZE / 2, &(ChunkerReadings){0}) != SIZE) wrong("no session");
    pthread_mutex_init(&s.copying, NULL);
    pthread_barrier_init(&s.start, NULL, THREADS);
    Thread thread[THREADS];
    pthread_t handle[THREADS];
    for (int t = 0; t < THREADS; t++) {
        thread[t] = (Thread){&s, t};
        work(&thread[t]);
    }
    s.compares = 1;
    for (int t = 0; t < THREADS; t++) pthread_create(&handle[t], NULL, work, &thread[t]);
    for (int t = 0; t < THREADS; t++) pthread_join(handle[t], NULL);
    volatile int32_t stop = 0;
    job.stop = &stop;
    volatile int64_t done = 0;
    job.done = &done;
    pthread_create(&handle[0], NULL, stopped, &job);
    while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) {} /* as a progress bar looks at it */
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(handle[0], NULL);
    chunker_session_free(s.session);
    for (int k = 0; k < MODELS; k++) chunker_model_free(s.model[k]), forget(&made[k]);
    chunker_tables_free(tables);
    printf("%d threads, %ld rounds, seed %llu: each made what it makes alone\n", THREADS, s.rounds, (unsigned long long)s.seed);
    return 0;
}

/* Codes files with every setting and every instruction set of this machine, and prints what came out:
 *
 *     driver SEED|MODEL LIMIT FILE ...
 *
 * one line for each file and setting: name, contexts, gate, bytes, a hash of the payload. Two builds of the library agree
 * if their lines are the same. Fails if two instruction sets differ, or a payload does not decode. The first argument is
 * a number, from which a model is made up, or a file that blob.py wrote. Of each file the first LIMIT bytes are coded. */
#include "common.h"

static int64_t encode(const ChunkerJob *job, const uint8_t *content, size_t size, uint8_t **payload) {
    int64_t capacity = 2 * (int64_t)size + 64;
    *payload = allocate((size_t)capacity);
    return chunker_encode_block(job, content, (int64_t)size, *payload, capacity);
}

static void code(const char *path, ChunkerJob job, const uint8_t *content, size_t size) {
    int64_t first = -1;
    uint8_t *expected = NULL;
    for (job.kernels = 0; chunker_kernels(job.tables, job.kernels); job.kernels++) {
        uint8_t *payload, *back = allocate(size);
        int64_t n = encode(&job, content, size, &payload);
        if (n < 0) fail("it cannot be encoded", path);
        if (chunker_decode_block(&job, payload, n, back, (int64_t)size) != (int64_t)size || memcmp(back, content, size))
            fail("it does not decode", path);
        if (expected && (n != first || memcmp(payload, expected, (size_t)n))) fail("instruction sets differ", path);
        free(back);
        if (!expected) expected = payload, first = n;
        else free(payload);
    }
    const char *name = strrchr(path, '/');
    printf("%s %d %d %lld %016llx\n", name ? name + 1 : path, (int)job.contexts, (int)job.gate, (long long)first,
           (unsigned long long)hash_of(expected, first));
    fflush(stdout);
    free(expected);
}

int main(int count, char **arguments) {
    static const int gates[] = {0, 1200, CHUNKER_GATE_ALWAYS};
    if (count < 3) fail("driver SEED|MODEL LIMIT FILE ...", "usage");
    char *rest;
    Random random = {strtoull(arguments[1], &rest, 10)};
    Made made;
    if (*rest) read_stack(&made, arguments[1]);
    else made_up_stack(&made, &random);
    ChunkerTables *tables = chunker_tables_new();
    ChunkerModel *model = chunker_model_new(&made.stack);
    if (!tables || !model) fail("the model is refused", arguments[1]);
    fprintf(stderr, "instruction sets:");
    for (int k = 0; chunker_kernels(tables, k); k++) fprintf(stderr, " %s", chunker_kernels(tables, k));
    fprintf(stderr, "\n");
    printf("tables %016llx\n", (unsigned long long)chunker_tables_digest(tables));
    size_t size, limit = strtoull(arguments[2], NULL, 10);
    if (limit > CHUNKER_MAX_BLOCK) limit = CHUNKER_MAX_BLOCK;
    for (int i = 3; i < count; i++) {
        uint8_t *content = read_file(arguments[i], limit, &size);
        for (int contexts = 0; contexts < 3; contexts++)
            for (int g = 0; g < 3; g++)
                code(arguments[i], (ChunkerJob){.tables = tables, .model = gates[g] ? model : NULL, .contexts = contexts, .gate = gates[g]},
                     content, size);
        free(content);
    }
    chunker_model_free(model);
    chunker_tables_free(tables);
    forget(&made);
    return 0;
}

// What the tests of the store share: a scratch folder, a deterministic stream of records of all
// kinds and awkward sizes, and ways to write, compare and damage stages.
#ifndef ROT_TEST_SHARDS_H
#define ROT_TEST_SHARDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "rotoscope/store.h"

#define OK(expr)                                                                                   \
    do {                                                                                           \
        int ok_ = (expr);                                                                          \
        if (ok_ < 0 && in_child) _exit(1);                                                         \
        if (ok_ < 0) fail_msg("%s: %s: %s", #expr, rot_error_name(ok_), err.message);              \
    } while (0)

static rot_err err;
static int in_child; // after a fork: a failure ends the process instead of the test
static char scratch[64];

static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/rot test XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int remove_scratch(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch);
    return system(command);
}

static inline const char *in_scratch(const char *name)
{
    static char paths[8][256];
    static int at;
    at = (at + 1) % 8;
    snprintf(paths[at], sizeof paths[at], "%s/%s", scratch, name);
    return paths[at];
}

static inline rot_stage_spec spec_of(const char *stage, rot_codec codec, uint32_t shard_samples,
                                     uint32_t commit_samples, uint64_t rows)
{
    rot_stage_spec spec = {.stage = stage, .content = "{\"made\": \"by a test\"}", .rows = rows,
                           .layout = {codec, shard_samples, commit_samples}};
    for (int i = 0; i < 32; i++) spec.fingerprint[i] = (uint8_t)(i * 7 + stage[0]);
    return spec;
}

// Sizes at the edges of pages, blocks and headers, and two large ones now and then.
static inline size_t size_of_row(uint64_t row)
{
    static const size_t edges[] = {0,    1,          2039,       2040,  4032,  4033,
                                   4080, 65535 - 48, 65536 - 48, 65536, 100000};
    uint64_t r = mix(row);
    if (r % 61 == 0) return 3 << 20;
    if (r % 3 == 0) return edges[r / 3 % (sizeof edges / sizeof *edges)];
    return r / 64 % 9000;
}

static inline void fill(uint8_t *bytes, size_t n, uint64_t seed, bool smooth)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(smooth ? mix(seed + i / 97) % 3 * 100 : mix(seed + i));
}

// Row `row` of a stage, the same at every call. The payload lives until the next call.
static inline rot_record record_of(const char *stage, uint64_t row)
{
    static uint8_t *payload;
    uint64_t r = mix(row ^ 0x5bd1);
    size_t n = size_of_row(row);
    rot_record out = {.kind = ROT_KIND_TOMBSTONE};
    free(payload);
    payload = malloc(n + 64);
    assert_non_null(payload);
    if (r % 13 == 0) {
        n = n % 40;
        memset(payload, 'x', n);
        out.shape[0] = (uint32_t)n;
    } else if (strcmp(stage, "images") == 0) {
        bool colour = n % 3 == 0 && r % 2;
        out = (rot_record){.kind = ROT_KIND_IMAGE, .shape = {(uint32_t)(colour ? n / 3 : n), 1,
               colour ? 3 : 1, 0}};
        fill(payload, n, row, r % 4 != 0);
    } else if (strcmp(stage, "embeds") == 0) {
        bool wide = r % 5 == 0;
        n = n / 8 * 8;
        out = (rot_record){.kind = ROT_KIND_EMBEDS, .dtype = wide ? ROT_DTYPE_F32 : ROT_DTYPE_BF16,
                           .shape = {(uint32_t)(n / 8), wide ? 2 : 4, 1, 1}};
        for (size_t i = 0; i < n / 2; i++) {
            uint16_t x = (uint16_t)((mix(row + i) & 0x80ff) | (0x3c00 + (mix(i) % 6 << 8)));
            memcpy(payload + 2 * i, &x, 2);
        }
    } else {
        n = n / 4 * 4 + 16 + row % 4;
        out = (rot_record){.kind = ROT_KIND_TOKENS, .dtype = ROT_DTYPE_I32,
                           .shape = {(uint32_t)((n - 16) / 4), 0, 0, (uint32_t)(row % 4)}};
        fill(payload, n, row, true);
    }
    out.payload = payload;
    out.n_bytes = n;
    return out;
}

// Appends rows from where the writer stands, at most `limit`, and publishes a shard that is full.
// Returns how many it appended.
static inline uint64_t write_some(const char *dir, const rot_stage_spec *spec, uint32_t shard,
                                  uint64_t limit)
{
    rot_shard_writer *writer = NULL;
    uint64_t first, n, row, done = 0;
    rot_shard_range(spec, shard, &first, &n);
    OK(rot_shard_writer_open(dir, spec, shard, NULL, &writer, &row, &err));
    for (; row < first + n && done < limit; row++, done++) {
        rot_record record = record_of(spec->stage, row);
        OK(rot_shard_writer_append(writer, row, &record, &err));
    }
    if (row == first + n) OK(rot_shard_writer_publish(&writer, &err));
    rot_shard_writer_close(&writer);
    return done;
}

static inline void write_stage(const char *dir, const rot_stage_spec *spec, uint8_t root[32])
{
    uint8_t ours[32];
    for (uint32_t i = 0; i < rot_shard_count(spec); i++) write_some(dir, spec, i, UINT64_MAX);
    OK(rot_stage_finish(dir, spec, root ? root : ours, &err));
}

static inline void assert_same_record(const rot_record *a, const rot_record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->dtype, b->dtype);
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
    assert_int_equal(a->n_bytes, b->n_bytes);
    if (a->n_bytes) assert_memory_equal(a->payload, b->payload, a->n_bytes);
}

static inline void assert_same_file(const char *a, const char *b)
{
    char *x, *y;
    size_t n, m;
    OK(rot_fs_read(a, &x, &n, &err));
    OK(rot_fs_read(b, &y, &m, &err));
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i]) fail_msg("%s and %s differ at byte %zu of %zu", a, b, i, n);
    rot_free(x);
    rot_free(y);
}

static inline void put_file(const char *path, const char *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

typedef struct findings {
    int n;
    uint64_t row;    // of the last
    char cause[512]; // of the last
} findings;

static inline void note_finding(void *user, const char *path, uint64_t row, const char *cause)
{
    findings *f = user;
    f->n++;
    f->row = row;
    snprintf(f->cause, sizeof f->cause, "%s: %s", path, cause);
}

#endif

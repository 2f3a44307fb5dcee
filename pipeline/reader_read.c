// Records of samples: one by one, as views, in ragged batches.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/reader.h"

static bool is_checked(const rot_reader *r, int stage, uint64_t row)
{
    if (!r->checked[stage]) return true;
    return atomic_load_explicit(&r->checked[stage][row / 8], memory_order_relaxed) >> row % 8 & 1;
}

static void set_checked(rot_reader *r, int stage, uint64_t row)
{
    if (r->checked[stage])
        atomic_fetch_or_explicit(&r->checked[stage][row / 8], (unsigned char)(1u << row % 8),
                                 memory_order_relaxed);
}

int rot_reader_peek(rot_reader *r, const char *stage, uint64_t sample, rot_record *out,
                    rot_err *err)
{
    int which;
    uint64_t row;
    rot_stage *handle;
    ROT_TRY(rot_reader_stage(r, stage, &which, err));
    ROT_TRY(rot_reader_row(r, sample, &row, err));
    rot_reader_slot *slot = rot_reader_borrow(r);
    int rc = rot_reader_handle(r, slot, which, &handle, err);
    if (rc == 0) rc = rot_stage_peek(handle, row, out, err);
    rot_reader_return(slot);
    if (rc == 0) out->payload = NULL;
    return rc;
}

int rot_reader_view(rot_reader *r, const char *stage, uint64_t sample, rot_record *out,
                    rot_err *err)
{
    int which;
    uint64_t row;
    rot_stage *handle;
    ROT_TRY(rot_reader_stage(r, stage, &which, err));
    ROT_TRY(rot_reader_row(r, sample, &row, err));
    rot_reader_slot *slot = rot_reader_borrow(r);
    int rc = rot_reader_handle(r, slot, which, &handle, err);
    if (rc == 0) rc = rot_stage_peek(handle, row, out, err);
    if (rc == 0 && out->payload && !is_checked(r, which, row)) {
        rot_record checked;
        rc = rot_stage_get(handle, row, &checked, err);
        if (rc == 0) set_checked(r, which, row);
    }
    rot_reader_return(slot);
    return rc;
}

// A record of a row into a buffer, checked if that is still to be done.
static int read_row(rot_reader *r, rot_stage *handle, int which, uint64_t row, void *buffer,
                    size_t capacity, rot_record *out, rot_err *err)
{
    bool check = !is_checked(r, which, row);
    ROT_TRY(rot_stage_read(handle, row, check, buffer, capacity, out, err));
    if (check) set_checked(r, which, row);
    return 0;
}

int rot_reader_read(rot_reader *r, const char *stage, uint64_t sample, void *buffer,
                    size_t capacity, rot_record *out, rot_err *err)
{
    int which;
    uint64_t row;
    rot_stage *handle;
    *out = (rot_record){0};
    ROT_TRY(rot_reader_stage(r, stage, &which, err));
    ROT_TRY(rot_reader_row(r, sample, &row, err));
    rot_reader_slot *slot = rot_reader_borrow(r);
    int rc = rot_reader_handle(r, slot, which, &handle, err);
    if (rc == 0) rc = read_row(r, handle, which, row, buffer, capacity, out, err);
    rot_reader_return(slot);
    return rc;
}

int rot_reader_texts(const rot_record *tokens, rot_sample_texts *out, rot_err *err)
{
    const uint32_t *shape = tokens->shape;
    uint64_t n_ids = (uint64_t)shape[0] + shape[1] + shape[2], n_text = 0;
    if (tokens->kind != ROT_KIND_TOKENS || tokens->n_bytes != 4 * n_ids + 16 + shape[3])
        ROT_FAIL(err, ROT_ERR_CORRUPT, "a tokens record whose lengths do not add up");
    const char *at = tokens->payload;
    out->question_ids = (const int32_t *)(const void *)at;
    out->trace_ids = (const int32_t *)(const void *)(at + 4 * (size_t)shape[0]);
    out->answer_ids = (const int32_t *)(const void *)(at + 4 * ((size_t)shape[0] + shape[1]));
    out->n_question_ids = shape[0];
    out->n_trace_ids = shape[1];
    out->n_answer_ids = shape[2];
    uint32_t n[4];
    at += 4 * n_ids;
    memcpy(n, at, sizeof n);
    for (int i = 0; i < 4; i++) n_text += n[i];
    if (n_text != shape[3])
        ROT_FAIL(err, ROT_ERR_CORRUPT, "a tokens record whose text lengths do not add up");
    at += sizeof n;
    out->id = at;
    out->question = out->id + n[0];
    out->trace = out->question + n[1];
    out->answer = out->trace + n[2];
    out->n_id = n[0];
    out->n_question = n[1];
    out->n_trace = n[2];
    out->n_answer = n[3];
    return 0;
}

/* ---- batches -----------------------------------------------------------------------------------
 */

static int advise(rot_reader *r, int which, const uint64_t *samples, size_t n, rot_advice advice,
                  rot_err *err);

int rot_reader_lengths(rot_reader *r, const uint64_t *samples, size_t n, int64_t *cu_seqlens,
                       rot_err *err)
{
    const rot_index *index;
    int which;
    ROT_TRY(rot_reader_stage(r, "embeds", &which, err));
    ROT_TRY(rot_reader_rows_index(r, false, &index, err));
    const uint32_t *k = index ? index->words + (index->n_words - index->samples) : NULL;
    cu_seqlens[0] = 0;
    // Looking at headers reads pages: all of them at once, and the payloads, which come next.
    if (!k && n > 1) ROT_TRY(advise(r, which, samples, n, ROT_ADVICE_IF_COLD, err));
    for (size_t i = 0; i < n; i++) {
        rot_record record;
        if (k && samples[i] < index->samples) {
            cu_seqlens[i + 1] = cu_seqlens[i] + k[samples[i]];
            continue;
        }
        ROT_TRY(rot_reader_peek(r, "embeds", samples[i], &record, err));
        cu_seqlens[i + 1] = cu_seqlens[i] + record.shape[0];
    }
    return 0;
}

typedef struct copying {
    rot_reader *reader;
    const uint64_t *samples;
    const int64_t *cu_seqlens;
    uint8_t *out; // (sum of K, d)
    size_t row_bytes, n;
    atomic_size_t next; // sample to be copied
    atomic_int failed;
    rot_err err; // of the thread that failed first
} copying;

static int wrong_shape(const copying *c, uint64_t row, const rot_record *record, int64_t k,
                       rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: row %llu has shape {%u, %u} where {%lld, %u} was expected",
             c->reader->dirs[2], (unsigned long long)row, record->shape[0], record->shape[1],
             (long long)k, c->reader->info.embeds_width);
}

// A record that was not read before, or that is compressed; remembers where it is.
static int copy_new(copying *c, rot_stage *handle, uint64_t row, int64_t k, uint8_t *to,
                    rot_err *err)
{
    rot_record record = {0};
    const rot_reader_info *info = &c->reader->info;
    int rc = read_row(c->reader, handle, 2, row, to, (size_t)k * c->row_bytes, &record, err);
    bool fits = record.kind == ROT_KIND_EMBEDS && record.shape[0] == k &&
                record.shape[1] == info->embeds_width && record.dtype == info->embeds_dtype;
    if (rc == ROT_ERR_TOO_LARGE || (rc == 0 && !fits)) return wrong_shape(c, row, &record, k, err);
    ROT_TRY(rc);
    if (!c->reader->places) return 0;
    rot_place *place = &c->reader->places[row];
    ROT_TRY(rot_stage_peek(handle, row, &record, err));
    atomic_store_explicit(&place->k, record.shape[0], memory_order_relaxed);
    atomic_store_explicit(&place->payload, record.payload, memory_order_release);
    return 0;
}

// memcpy for records that do not come from a cache: a page ahead is asked for while one is copied,
// which the processor does not do by itself across pages. Stores past the cache would copy faster
// yet, and make the first look at the batch slower by more.
static void copy_payload(uint8_t *to, const uint8_t *from, size_t n)
{
    enum { LINE = 64, AHEAD = 4096, LARGE = 65536 };
    size_t at = 0;
    if (n >= LARGE)
        for (; at + AHEAD + LINE <= n; at += LINE) {
            __builtin_prefetch(from + at + AHEAD, 0, 2);
            memcpy(to + at, from + at, LINE);
        }
    memcpy(to + at, from + at, n - at);
}

static int copy_one(copying *c, rot_stage *handle, size_t i, rot_err *err)
{
    uint64_t row;
    rot_reader *r = c->reader;
    int64_t begin = c->cu_seqlens[i], k = c->cu_seqlens[i + 1] - begin;
    uint8_t *to = c->out + (size_t)begin * c->row_bytes;
    ROT_TRY(rot_reader_row(r, c->samples[i], &row, err));
    const uint8_t *from =
        r->places ? atomic_load_explicit(&r->places[row].payload, memory_order_acquire) : NULL;
    if (!from) return copy_new(c, handle, row, k, to, err);
    uint32_t known = atomic_load_explicit(&r->places[row].k, memory_order_relaxed);
    if (known != k)
        return wrong_shape(c, row, &(rot_record){.shape = {known, r->info.embeds_width}}, k, err);
    copy_payload(to, from, (size_t)k * c->row_bytes);
    return 0;
}

static void *copy_some(void *user)
{
    copying *c = user;
    rot_reader_slot *slot = rot_reader_borrow(c->reader);
    rot_stage *handle = NULL;
    rot_err err = {0};
    int rc = rot_reader_handle(c->reader, slot, 2, &handle, &err);
    while (rc == 0 && !atomic_load_explicit(&c->failed, memory_order_relaxed)) {
        size_t i = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed);
        if (i >= c->n) break;
        rc = copy_one(c, handle, i, &err);
    }
    rot_reader_return(slot);
    int nobody = 0;
    if (rc < 0 && atomic_compare_exchange_strong(&c->failed, &nobody, rc)) c->err = err;
    return NULL;
}

// Threads of our own, for the length of a call: a pool that lives on, as OpenMP's does, is not
// there any more in a child after fork(), and waits for ever.
static void copy_all(copying *c, int threads)
{
    enum { MAX = 64 };
    pthread_t others[MAX];
    int n = 0;
    if (threads > MAX) threads = MAX;
    while (n < threads - 1 && (size_t)n + 1 < c->n &&
           pthread_create(&others[n], NULL, copy_some, c) == 0)
        n++;
    copy_some(c);
    for (int i = 0; i < n; i++) pthread_join(others[i], NULL);
}

int rot_reader_batch(rot_reader *r, const uint64_t *samples, size_t n, const int64_t *cu_seqlens,
                     void *out, uint64_t capacity_rows, int threads, rot_err *err)
{
    int which;
    ROT_TRY(rot_reader_stage(r, "embeds", &which, err));
    for (size_t i = 0; i < n; i++)
        if (cu_seqlens[i] < 0 || cu_seqlens[i + 1] < cu_seqlens[i])
            ROT_FAIL(err, ROT_ERR_USAGE, "cu_seqlens does not rise at %zu", i);
    if (n > 0 && (uint64_t)cu_seqlens[n] > capacity_rows)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE, "the batch has %lld rows, its buffer %llu",
                 (long long)cu_seqlens[n], (unsigned long long)capacity_rows);
    copying c = {.reader = r,
                 .samples = samples,
                 .cu_seqlens = cu_seqlens,
                 .out = out,
                 .n = n,
                 .row_bytes = (size_t)r->info.embeds_width *
                              (r->info.embeds_dtype == ROT_DTYPE_F32 ? 4 : 2)};
    ROT_TRY(advise(r, which, samples, n, ROT_ADVICE_IF_COLD, err));
    copy_all(&c, threads);
    int rc = atomic_load(&c.failed);
    if (rc < 0 && err) *err = c.err;
    return rc;
}

/* ---- advice ------------------------------------------------------------------------------------
 */

static int compare_rows(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Rows in order, so that neighbours become one request.
static int sorted_rows(rot_reader *r, const uint64_t *samples, size_t n, uint64_t *rows,
                       rot_err *err)
{
    for (size_t i = 0; i < n; i++) ROT_TRY(rot_reader_row(r, samples[i], &rows[i], err));
    qsort(rows, n, sizeof *rows, compare_rows);
    return 0;
}

static int advise(rot_reader *r, int which, const uint64_t *samples, size_t n, rot_advice advice,
                  rot_err *err)
{
    uint64_t few[256], *rows = n <= 256 ? few : rot_malloc(n * sizeof *rows);
    if (!rows) return rot_no_memory(err, n * sizeof *rows, "rows");
    rot_stage *handle;
    rot_reader_slot *slot = NULL;
    int rc = sorted_rows(r, samples, n, rows, err);
    if (rc == 0) {
        slot = rot_reader_borrow(r);
        rc = rot_reader_handle(r, slot, which, &handle, err);
        if (rc == 0) rc = rot_stage_advise(handle, rows, n, advice, err);
        rot_reader_return(slot);
    }
    if (rows != few) rot_free(rows);
    return rc;
}

int rot_reader_prefetch(rot_reader *r, const char *stage, const uint64_t *samples, size_t n,
                        rot_err *err)
{
    int which;
    ROT_TRY(rot_reader_stage(r, stage, &which, err));
    return advise(r, which, samples, n, ROT_ADVICE_WILL_NEED, err);
}

int rot_reader_drop(rot_reader *r, const char *stage, const uint64_t *samples, size_t n,
                    rot_err *err)
{
    int which;
    ROT_TRY(rot_reader_stage(r, stage, &which, err));
    return advise(r, which, samples, n, ROT_ADVICE_DONE, err);
}

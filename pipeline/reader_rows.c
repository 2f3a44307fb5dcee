// Which row a sample is, its K, and which row an id is: two indexes, each made from one pass over a
// stage. Two threads that need the same one at once both make it; the first to be done wins.
#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "pipeline/reader.h"

static const char rows_magic[8] = "ROTROWS", ids_magic[8] = "ROTIDS";
#define NO_ROW UINT32_MAX

typedef int make_index(rot_reader *reader, rot_stage *stage, rot_index **out, rot_err *err);

// Publishes `made` unless another thread was quicker.
static const rot_index *publish(_Atomic(rot_index *) *place, rot_index *made)
{
    rot_index *nobody = NULL;
    if (atomic_compare_exchange_strong(place, &nobody, made)) return made;
    rot_index_free(made);
    return nobody;
}

// With a handle of its own, so that what the pass maps does not stay.
static int make(rot_reader *r, int which, make_index *maker, rot_index **out, rot_err *err)
{
    rot_stage *stage;
    ROT_TRY(rot_stage_open(r->dirs[which], &stage, err));
    int rc = maker(r, stage, out, err);
    rot_stage_close(&stage);
    return rc;
}

// The index at *place; else from its file, else made.
static int get(rot_reader *r, _Atomic(rot_index *) *place, int stage, const char *file,
               const char magic[8], make_index *maker, const rot_index **out, rot_err *err)
{
    char path[PATH_MAX];
    rot_index *index = NULL;
    *out = atomic_load_explicit(place, memory_order_acquire);
    if (*out) return 0;
    ROT_TRY(rot_fs_join(path, sizeof path, r->dirs[stage], file, err));
    rot_reader_slot *slot = rot_reader_borrow(r);
    rot_stage *handle;
    int rc = 0;
    ROT_GO(rot_reader_handle(r, slot, stage, &handle, err));
    const char *root = rot_stage_get_info(handle)->root;
    ROT_GO(rot_index_load(path, magic, root, &index, err));
    if (index && index->rows != r->info.rows) {
        rot_index_free(index);
        index = NULL;
    }
    if (!index && maker) {
        ROT_GO(make(r, stage, maker, &index, err));
        if (r->keep_index) rot_index_save(path, magic, root, index);
    }
    if (index) *out = publish(place, index);
done:
    rot_reader_return(slot);
    return rc;
}

static int check_rows(const rot_reader *r, rot_err *err)
{
    if (r->info.rows >= NO_ROW)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "an index of %llu rows",
                 (unsigned long long)r->info.rows);
    return 0;
}

/* ---- rows --------------------------------------------------------------------------------------
 */

static int make_rows(rot_reader *r, rot_stage *stage, rot_index **out, rot_err *err)
{
    uint64_t n = r->info.samples, at = 0;
    uint64_t n_words = (r->info.skipped ? 2 : 1) * n;
    ROT_TRY(check_rows(r, err));
    uint32_t *words = rot_malloc(4 * n_words + 4);
    if (!words) return rot_no_memory(err, 4 * n_words, "index of rows");
    uint32_t *row_of = r->info.skipped ? words : NULL, *k = words + (n_words - n);
    int rc = 0;
    for (uint64_t row = 0; row < r->info.rows; row++) {
        rot_record record;
        ROT_GO(rot_stage_peek(stage, row, &record, err));
        if (record.kind == ROT_KIND_TOMBSTONE) continue;
        if (at == n)
            ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "%s: more samples than its stage.json says",
                        r->dirs[r->last]);
        if (row_of) row_of[at] = (uint32_t)row;
        k[at++] = record.kind == ROT_KIND_EMBEDS ? record.shape[0] : 0;
    }
    if (at != n)
        ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "%s: fewer samples than its stage.json says",
                    r->dirs[r->last]);
    return rot_index_new(words, n_words, r->info.rows, n, out, err);
done:
    rot_free(words);
    return rc;
}

int rot_reader_rows_index(rot_reader *r, bool make, const rot_index **out, rot_err *err)
{
    ROT_TRY(get(r, &r->rows, r->last, "rows.idx", rows_magic, make ? make_rows : NULL, out, err));
    uint64_t n = (r->info.skipped ? 2 : 1) * r->info.samples;
    if (*out && ((*out)->samples != r->info.samples || (*out)->n_words != n))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s/rows.idx: %llu samples instead of %llu; remove it",
                 r->dirs[r->last], (unsigned long long)(*out)->samples,
                 (unsigned long long)r->info.samples);
    return 0;
}

int rot_reader_row(rot_reader *r, uint64_t sample, uint64_t *row, rot_err *err)
{
    if (sample >= r->info.samples)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: sample %llu of %llu", r->name, r->split,
                 (unsigned long long)sample, (unsigned long long)r->info.samples);
    *row = sample;
    if (r->info.skipped == 0) return 0;
    const rot_index *index;
    ROT_TRY(rot_reader_rows_index(r, true, &index, err));
    *row = index->words[sample];
    return 0;
}

int rot_reader_sample(rot_reader *r, uint64_t row, uint64_t *sample, rot_err *err)
{
    if (row >= r->info.rows)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: row %llu of %llu", r->name, r->split,
                 (unsigned long long)row, (unsigned long long)r->info.rows);
    *sample = row;
    if (r->info.skipped == 0) return 0;
    const rot_index *index;
    ROT_TRY(rot_reader_rows_index(r, true, &index, err));
    uint64_t low = 0, high = r->info.samples;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (index->words[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == r->info.samples || index->words[low] != row)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: row %llu was skipped", r->name, r->split,
                 (unsigned long long)row);
    *sample = low;
    return 0;
}

int rot_reader_k(rot_reader *r, const uint32_t **k, rot_err *err)
{
    const rot_index *index;
    if (!r->dirs[2])
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: no embeds are built", r->name, r->split);
    ROT_TRY(rot_reader_rows_index(r, true, &index, err));
    *k = index->words + (index->n_words - index->samples);
    return 0;
}

/* ---- ids ---------------------------------------------------------------------------------------
 */

// A table of twice as many places as rows, or more: pairs of 32 bits of the id's hash and the row.
static uint64_t places_for(uint64_t rows)
{
    uint64_t n = 8;
    while (n < 2 * rows) n *= 2;
    return n;
}

typedef struct id_hash {
    uint64_t place;
    uint32_t tag;
} id_hash;

static id_hash hash_id(const char *id, size_t n)
{
    uint8_t bytes[16];
    id_hash out;
    rot_xxh128_bytes(id, n, bytes);
    memcpy(&out.place, bytes, 8);
    memcpy(&out.tag, bytes + 8, 4);
    return out;
}

static int id_of(rot_stage *stage, uint64_t row, bool walking, rot_sample_texts *out,
                 bool *is_sample, rot_err *err)
{
    rot_record record;
    ROT_TRY((walking ? rot_stage_walk : rot_stage_get)(stage, row, &record, err));
    *is_sample = record.kind != ROT_KIND_TOMBSTONE;
    return *is_sample ? rot_reader_texts(&record, out, err) : 0;
}

static int make_ids(rot_reader *r, rot_stage *stage, rot_index **out, rot_err *err)
{
    uint64_t n = places_for(r->info.rows), n_ids = 0;
    ROT_TRY(check_rows(r, err));
    uint32_t *words = rot_malloc(8 * n);
    if (!words) return rot_no_memory(err, 8 * n, "index of ids");
    memset(words, 0xff, 8 * n);
    int rc = 0;
    for (uint64_t row = 0; row < r->info.rows; row++) {
        rot_sample_texts texts;
        bool is_sample;
        ROT_GO(id_of(stage, row, true, &texts, &is_sample, err));
        if (!is_sample) continue;
        id_hash h = hash_id(texts.id, texts.n_id);
        uint64_t at = h.place % n;
        while (words[2 * at + 1] != NO_ROW) at = (at + 1) % n;
        words[2 * at] = h.tag;
        words[2 * at + 1] = (uint32_t)row;
        n_ids++;
    }
    return rot_index_new(words, 2 * n, r->info.rows, n_ids, out, err);
done:
    rot_free(words);
    return rc;
}

// The row whose id it is: the hash says where to look, the record whether it is so.
static int look_up(const rot_index *index, rot_stage *stage, const char *id, size_t n_id,
                   uint64_t *row, rot_err *err)
{
    id_hash h = hash_id(id, n_id);
    uint64_t n = index->n_words / 2;
    *row = NO_ROW;
    for (uint64_t i = 0, at = h.place % n; i < n && index->words[2 * at + 1] != NO_ROW;
         i++, at = (at + 1) % n) {
        rot_sample_texts texts;
        bool is_sample;
        if (index->words[2 * at] != h.tag) continue;
        ROT_TRY(id_of(stage, index->words[2 * at + 1], false, &texts, &is_sample, err));
        if (!is_sample || texts.n_id != n_id || memcmp(texts.id, id, n_id)) continue;
        *row = index->words[2 * at + 1];
        return 0;
    }
    return 0;
}

int rot_reader_find(rot_reader *r, const char *id, size_t n_id_bytes, uint64_t *sample,
                    rot_err *err)
{
    const rot_index *index;
    uint64_t row = NO_ROW;
    if (!r->dirs[0])
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: no tokens are built", r->name, r->split);
    ROT_TRY(get(r, &r->ids, 0, "ids.idx", ids_magic, make_ids, &index, err));
    if (index->n_words != 2 * places_for(r->info.rows))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s/ids.idx has a wrong size; remove it", r->dirs[0]);
    rot_reader_slot *slot = rot_reader_borrow(r);
    rot_stage *stage;
    int rc = rot_reader_handle(r, slot, 0, &stage, err);
    if (rc == 0) rc = look_up(index, stage, id, n_id_bytes, &row, err);
    rot_reader_return(slot);
    ROT_TRY(rc);
    if (row == NO_ROW)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: no sample has the id '%.*s'", r->name,
                 r->split, n_id_bytes < 200 ? (int)n_id_bytes : 200, id);
    return rot_reader_sample(r, row, sample, err);
}

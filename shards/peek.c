// Reading for those who read much: headers without payloads, payloads straight into the caller's
// buffer, advice to the kernel about what comes next.
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "shards/stage.h"

static int open_shard_of(rot_stage *stage, uint64_t row, rot_shard **out, rot_err *err)
{
    if (row >= stage->spec.rows)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s: row %llu of %llu", stage->dir,
                 (unsigned long long)row, (unsigned long long)stage->spec.rows);
    return rot_stage_open_shard(stage, (uint32_t)(row / stage->spec.layout.shard_samples), out,
                                err);
}

static int named(const rot_stage *stage, uint64_t row, rot_err *err)
{
    char name[32];
    rot_shard_name((uint32_t)(row / stage->spec.layout.shard_samples), name);
    return rot_err_prefix(err, "%s/%s: row %llu: ", stage->dir, name, (unsigned long long)row);
}

static bool in_map(const rot_shard *shard, const uint8_t *at)
{
    return at >= shard->map.bytes && at < shard->map.bytes + shard->map.n_bytes;
}

static void describe(const rot_head *head, rot_record *out)
{
    *out = (rot_record){
        .kind = (rot_kind)head->kind, .dtype = (rot_dtype)head->dtype, .n_bytes = head->n_logical};
    memcpy(out->shape, head->shape, sizeof out->shape);
}

int rot_stage_peek(rot_stage *stage, uint64_t row, rot_record *out, rot_err *err)
{
    rot_shard *shard;
    rot_head head;
    const uint8_t *stored;
    ROT_TRY(open_shard_of(stage, row, &shard, err));
    int rc = rot_stage_locate(stage, shard, row, &head, &stored, err);
    if (rc < 0) {
        named(stage, row, err);
        return rc;
    }
    describe(&head, out);
    if (head.codec == ROT_CODEC_NONE && in_map(shard, stored)) out->payload = stored;
    return 0;
}

static int check_hash(const rot_record *record, const rot_head *head, rot_err *err)
{
    uint8_t hash[16];
    rot_record_hash(record, hash);
    if (memcmp(hash, head->hash, 16) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the record does not fit its hash");
    return 0;
}

static int read_into(rot_stage *stage, const rot_shard *shard, uint64_t row, bool check,
                     void *buffer, size_t capacity, rot_record *out, rot_err *err)
{
    rot_head head;
    const uint8_t *stored;
    ROT_TRY(rot_stage_locate(stage, shard, row, &head, &stored, err));
    describe(&head, out);
    if (head.n_logical > capacity)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE, "the record has %u bytes, the buffer %zu", head.n_logical,
                 capacity);
    ROT_TRY(rot_codec_decode(stage->codecs, (rot_codec)head.codec, stored, head.n_stored, buffer,
                             head.n_logical, err));
    out->payload = buffer;
    return check ? check_hash(out, &head, err) : 0;
}

int rot_stage_read(rot_stage *stage, uint64_t row, bool check, void *buffer, size_t capacity,
                   rot_record *out, rot_err *err)
{
    rot_shard *shard;
    ROT_TRY(open_shard_of(stage, row, &shard, err));
    int rc = read_into(stage, shard, row, check, buffer, capacity, out, err);
    if (rc < 0) named(stage, row, err);
    return rc;
}

/* ---- advice ------------------------------------------------------------------------------------
 */

typedef struct range {
    uint8_t *at;
    size_t n_bytes;
} range;

// The pages of the value that holds `row`, found in the tree: the value itself is not touched.
static int range_of(rot_stage *stage, uint64_t row, range *out, rot_err *err)
{
    rot_shard *shard;
    rot_entry entry;
    ROT_TRY(open_shard_of(stage, row, &shard, err));
    int rc = rot_tree_floor(&shard->map, &shard->tree, row, &entry, err);
    uint64_t pages = shard->map.n_bytes / ROT_PAGE;
    uint64_t wanted = ((uint64_t)ROT_PAGE_HEAD + entry.n_bytes + ROT_PAGE - 1) / ROT_PAGE;
    if (rc == ROT_ERR_NOT_FOUND)
        rc = rot_err_set(err, ROT_ERR_CORRUPT, "the row is not in the tree");
    else if (rc == 0 && (entry.page >= pages || wanted > pages - entry.page))
        rc = rot_err_set(err, ROT_ERR_CORRUPT, "the tree leads outside of the file");
    if (rc < 0) {
        named(stage, row, err);
        return rc;
    }
    *out = (range){(uint8_t *)shard->map.bytes + entry.page * ROT_PAGE, wanted * ROT_PAGE};
    return 0;
}

// Whether the first page of the row's value is in memory. Where the kernel does not tell, it is.
static int is_resident(rot_stage *stage, uint64_t row, bool *out, rot_err *err)
{
    range r;
    unsigned char state = 1;
    ROT_TRY(range_of(stage, row, &r, err));
    *out = mincore(r.at, ROT_PAGE, &state) < 0 || state & 1;
    return 0;
}

static void advise(range r, rot_advice advice)
{
    // Advice that the kernel does not take costs time, not correctness.
    if (advice != ROT_ADVICE_DONE) {
        (void)madvise(r.at, r.n_bytes, MADV_WILLNEED);
        return;
    }
#ifdef MADV_PAGEOUT
    if (madvise(r.at, r.n_bytes, MADV_PAGEOUT) == 0) return;
#endif
    (void)madvise(r.at, r.n_bytes, MADV_DONTNEED);
}

// Of rows in order: each shard once.
static int check_whole(rot_stage *stage, const uint64_t *rows, size_t n, rot_err *err)
{
    uint64_t last = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        rot_shard *shard;
        if (rows[i] / stage->spec.layout.shard_samples == last) continue;
        ROT_TRY(open_shard_of(stage, rows[i], &shard, err));
        int rc = rot_shard_check_whole(shard, err);
        if (rc < 0) {
            named(stage, rows[i], err);
            return rc;
        }
        last = rows[i] / stage->spec.layout.shard_samples;
    }
    return 0;
}

int rot_stage_advise(rot_stage *stage, const uint64_t *rows, size_t n, rot_advice advice,
                     rot_err *err)
{
    ROT_TRY(check_whole(stage, rows, n, err));
    if (advice == ROT_ADVICE_IF_COLD && n > 0) {
        bool first, middle, last;
        ROT_TRY(is_resident(stage, rows[0], &first, err));
        ROT_TRY(is_resident(stage, rows[n / 2], &middle, err));
        ROT_TRY(is_resident(stage, rows[n - 1], &last, err));
        if (first && middle && last) return 0;
    }
    range open = {0};
    for (size_t i = 0; i < n; i++) {
        range r;
        ROT_TRY(range_of(stage, rows[i], &r, err));
        if (open.at && r.at == open.at) continue; // another record of the same block
        if (open.at && r.at == open.at + open.n_bytes) {
            open.n_bytes += r.n_bytes;
            continue;
        }
        if (open.at) advise(open, advice);
        open = r;
    }
    if (open.at) advise(open, advice);
    return 0;
}

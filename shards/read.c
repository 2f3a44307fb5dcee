// Records of an open stage. Records of a block come from the block that was decompressed last, so
// that reading in order decompresses each block once.
#include <string.h>

#include "base/err.h"
#include "shards/stage.h"

int rot_stage_open_shard(rot_stage *stage, uint32_t shard, rot_shard **out, rot_err *err)
{
    rot_stage_shard *s = &stage->shards[shard];
    if (!s->is_open) {
        char path[PATH_MAX];
        ROT_TRY(rot_shard_path(path, sizeof path, stage->dir, shard, err));
        int rc = rot_shard_open(path, &stage->spec, shard, &s->open, err);
        if (rc == ROT_ERR_MISSING)
            ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: stage.json names it, and it is not there", path);
        ROT_TRY(rc);
        if (s->open.map.n_bytes != s->bytes) {
            rc = rot_err_set(err, ROT_ERR_CORRUPT, "%s: %zu bytes, and stage.json says %llu", path,
                             s->open.map.n_bytes, (unsigned long long)s->bytes);
            rot_shard_close(&s->open);
            return rc;
        }
        s->is_open = true;
    }
    *out = &s->open;
    return 0;
}

static int open_block(rot_stage *stage, const rot_value *value, uint64_t first_row, rot_err *err)
{
    stage->members = NULL;
    const uint8_t *members;
    ROT_TRY(rot_block_open(value, stage->codecs, &stage->block, &members, err));
    stage->members = members;
    stage->block_head = value->head;
    stage->block_row = first_row;
    stage->member = 0;
    stage->member_at = 0;
    return 0;
}

static int get_member(rot_stage *stage, uint64_t row, rot_head *head, const uint8_t **stored,
                      rot_err *err)
{
    uint32_t wanted = (uint32_t)(row - stage->block_row);
    if (wanted < stage->member) stage->member = 0, stage->member_at = 0;
    while (stage->member <= wanted) {
        ROT_TRY(rot_member_next(stage->members, stage->block_head.n_logical, &stage->member_at,
                                head, stored, err));
        stage->member++;
    }
    return 0;
}

static int locate(rot_stage *stage, const rot_shard *shard, uint64_t row, rot_head *head,
                  const uint8_t **stored, rot_err *err)
{
    bool cached = stage->members && row >= stage->block_row &&
                  row - stage->block_row < stage->block_head.shape[0];
    if (!cached) {
        rot_value value;
        uint64_t first_row;
        ROT_TRY(rot_shard_find(shard, row, &value, &first_row, err));
        *head = value.head;
        *stored = value.stored;
        if (head->kind != ROT_KIND_BLOCK) return 0;
        ROT_TRY(open_block(stage, &value, first_row, err));
    }
    return get_member(stage, row, head, stored, err);
}

int rot_stage_locate(rot_stage *stage, const rot_shard *shard, uint64_t row, rot_head *head,
                     const uint8_t **stored, rot_err *err)
{
    *stored = NULL;
    ROT_TRY(rot_shard_check_whole(shard, err));
    ROT_TRY(locate(stage, shard, row, head, stored, err));
    const uint8_t *hash = shard->hashes ? shard->hashes + 16 * (row - shard->first_row) : NULL;
    if (hash && memcmp(hash, head->hash, 16) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the record is not the one that the trailer names");
    return 0;
}

int rot_stage_find(rot_stage *stage, const rot_shard *shard, uint64_t row, rot_record *out,
                   rot_err *err)
{
    rot_head head;
    const uint8_t *stored;
    ROT_TRY(rot_stage_locate(stage, shard, row, &head, &stored, err));
    return rot_record_open(&head, stored, stage->codecs, &stage->record, out, err);
}

int rot_stage_get(rot_stage *stage, uint64_t row, rot_record *out, rot_err *err)
{
    if (row >= stage->spec.rows)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s: row %llu of %llu", stage->dir,
                 (unsigned long long)row, (unsigned long long)stage->spec.rows);
    uint32_t number = (uint32_t)(row / stage->spec.layout.shard_samples);
    rot_shard *shard;
    ROT_TRY(rot_stage_open_shard(stage, number, &shard, err));
    int rc = rot_stage_find(stage, shard, row, out, err);
    if (rc < 0) {
        char name[32];
        rot_shard_name(number, name);
        rot_err_prefix(err, "%s/%s: row %llu: ", stage->dir, name, (unsigned long long)row);
    }
    return rc;
}

int rot_stage_walk(rot_stage *stage, uint64_t row, rot_record *out, rot_err *err)
{
    uint64_t shard = row / stage->spec.layout.shard_samples;
    if (shard < stage->n_shards && !stage->shards[shard].is_open) rot_stage_unmap(stage);
    return rot_stage_get(stage, row, out, err);
}

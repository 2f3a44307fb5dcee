#include "shards/shard.h"

#include <string.h>

#include "base/err.h"

int rot_shard_open(const char *path, const rot_stage_spec *spec, uint32_t shard, rot_shard *out,
                   rot_err *err)
{
    *out = (rot_shard){0};
    int rc = 0;
    ROT_TRY(rot_fs_map(path, &out->map, err));
    uint8_t note[ROT_NOTE];
    rot_shard_note(spec, shard, note);
    rot_shard_range(spec, shard, &out->first_row, &out->n_rows);
    ROT_GO(rot_tree_open(&out->map, &out->tree, err));
    if (memcmp(out->map.bytes + ROT_NOTE_AT, note, ROT_NOTE) != 0)
        ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "this is not shard %u of this stage", shard);
    rot_trailer trailer;
    if (rot_shard_trailer(out, spec, shard, &trailer, NULL) == 0) out->hashes = trailer.hashes;
    return 0;
done:
    rot_shard_close(out);
    rot_err_prefix(err, "%s: ", path);
    return rc;
}

void rot_shard_close(rot_shard *shard)
{
    rot_fs_unmap(&shard->map);
}

int rot_shard_check_whole(const rot_shard *shard, rot_err *err)
{
    if (!rot_fs_map_is_whole(&shard->map))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the file was cut short, or cannot be read any more");
    return 0;
}

static int find(const rot_shard *shard, uint64_t key, rot_value *out, uint64_t *found, rot_err *err)
{
    rot_entry entry;
    int rc = rot_tree_floor(&shard->map, &shard->tree, key, &entry, err);
    if (rc == ROT_ERR_NOT_FOUND)
        return rot_err_set(err, ROT_ERR_CORRUPT, "the row is not in the tree");
    ROT_TRY(rc);
    ROT_TRY(rot_value_at(&shard->map, entry.page, out, err));
    if (entry.n_bytes != ROT_HEAD + out->head.n_stored)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the tree and the header tell different lengths");
    *found = entry.key;
    return 0;
}

int rot_shard_find(const rot_shard *shard, uint64_t row, rot_value *out, uint64_t *first_row,
                   rot_err *err)
{
    ROT_TRY(find(shard, row, out, first_row, err));
    const rot_head *head = &out->head;
    bool block = head->kind == ROT_KIND_BLOCK;
    if (head->kind == ROT_KIND_TRAILER || *first_row < shard->first_row ||
        (block ? rot_block_first_row(head) != *first_row || row - *first_row >= head->shape[0]
               : row != *first_row))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the row is not where the tree says");
    return 0;
}

int rot_shard_trailer(const rot_shard *shard, const rot_stage_spec *spec, uint32_t number,
                      rot_trailer *out, rot_err *err)
{
    rot_value value;
    uint64_t key;
    ROT_TRY(find(shard, ROT_TRAILER_KEY, &value, &key, err));
    const rot_head *head = &value.head;
    if (key != ROT_TRAILER_KEY || head->kind != ROT_KIND_TRAILER || head->codec != ROT_CODEC_NONE ||
        head->shape[0] != shard->n_rows || head->n_logical != ROT_TRAILER_HEAD + 16 * shard->n_rows)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the shard has no trailer");
    rot_record record = {
        .kind = (rot_kind)head->kind, .payload = value.stored, .n_bytes = head->n_logical};
    memcpy(record.shape, head->shape, sizeof record.shape);
    rot_record_hash(&record, out->hash);
    if (memcmp(out->hash, head->hash, 16) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the trailer does not fit its hash");
    const uint8_t *p = value.stored;
    if (memcmp(p, spec->fingerprint, 32) != 0 || rot_get64(p + 48) != number ||
        rot_get64(p + 56) != shard->first_row || rot_get64(p + 64) != shard->n_rows)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the trailer is that of another shard");
    out->skipped = rot_get64(p + 72);
    out->payload_bytes = rot_get64(p + 80);
    out->hashes = p + ROT_TRAILER_HEAD;
    return 0;
}

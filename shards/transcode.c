// The records of one stage under another layout: the root stays, nothing is made again.
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "shards/stage.h"

static int transcode_shard(rot_stage *from, const char *dir, const rot_stage_spec *spec,
                           uint32_t number, const char *owner, bool is_left, rot_err *err)
{
    rot_shard_writer *writer = NULL;
    uint64_t first, n, row;
    if (is_left) ROT_TRY(rot_shard_adopt(dir, NULL, number, owner, NULL, err));
    int rc = rot_shard_writer_open(dir, spec, number, owner, &writer, &row, err);
    if (rc == ROT_ERR_NOT_FOUND) return 0; // published by an earlier run
    ROT_TRY(rc);
    rot_shard_range(spec, number, &first, &n);
    for (; row < first + n; row++) {
        rot_record record;
        ROT_GO(rot_stage_get(from, row, &record, err));
        ROT_GO(rot_shard_writer_append(writer, row, &record, err));
    }
    rc = rot_shard_writer_publish(&writer, err);
done:
    rot_shard_writer_close(&writer);
    return rc;
}

int rot_stage_transcode(rot_stage *from, const char *dir, const rot_stage_spec *spec,
                        const char *owner, rot_err *err)
{
    uint8_t root[32];
    ROT_TRY(rot_spec_check(spec, err));
    if (spec->rows != from->spec.rows || strcmp(spec->stage, from->spec.stage) ||
        memcmp(spec->fingerprint, from->spec.fingerprint, 32))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s has other content than %s is to have", from->dir, dir);
    uint32_t n = rot_shard_count(spec);
    bool *left = rot_calloc(n + 1, sizeof *left);
    if (!left) return rot_no_memory(err, n, "shards");
    int rc = rot_shard_find_leftovers(dir, n, left, err);
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = transcode_shard(from, dir, spec, i, owner, left[i], err);
    rot_free(left);
    ROT_TRY(rc);
    ROT_TRY(rot_stage_finish(dir, spec, root, err));
    if (memcmp(root, from->root, 32) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: transcoded from %s, and the roots differ", dir,
                 from->dir);
    return 0;
}

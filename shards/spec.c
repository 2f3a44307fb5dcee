#include "shards/spec.h"

#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "shards/format.h"

enum { MAX_SHARD_SAMPLES = 1 << 24 };

int rot_spec_check(const rot_stage_spec *spec, rot_err *err)
{
    const rot_stage_layout *layout = &spec->layout;
    size_t n = spec->stage ? strlen(spec->stage) : 0;
    if (n == 0 || n > 15 || strspn(spec->stage, "abcdefghijklmnopqrstuvwxyz0123456789_") != n)
        ROT_FAIL(err, ROT_ERR_USAGE, "'%.40s' is no name of a stage",
                 spec->stage ? spec->stage : "");
    if (layout->codec < ROT_CODEC_NONE || layout->codec > ROT_CODEC_ZSTD_BF16)
        ROT_FAIL(err, ROT_ERR_USAGE, "unknown codec %d", (int)layout->codec);
    if (layout->commit_samples == 0 || layout->shard_samples == 0 ||
        layout->shard_samples > MAX_SHARD_SAMPLES || layout->shard_samples % layout->commit_samples)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "shard_samples %u is not from 1 to %d and a multiple of commit_samples %u",
                 layout->shard_samples, MAX_SHARD_SAMPLES, layout->commit_samples);
    if (spec->rows / layout->shard_samples >= UINT32_MAX)
        ROT_FAIL(err, ROT_ERR_USAGE, "%llu rows are more than 2^32 shards",
                 (unsigned long long)spec->rows);
    return 0;
}

int rot_spec_copy(const rot_stage_spec *from, rot_stage_spec *to, rot_err *err)
{
    *to = *from;
    to->content = NULL;
    to->stage = rot_strdup(from->stage);
    return to->stage ? 0 : rot_no_memory(err, strlen(from->stage) + 1, "name of a stage");
}

void rot_spec_release(rot_stage_spec *spec)
{
    rot_free((char *)spec->stage);
    spec->stage = NULL;
}

int rot_shard_path(char *out, size_t capacity, const char *dir, uint32_t shard, rot_err *err)
{
    char name[32];
    rot_shard_name(shard, name);
    return rot_fs_join(out, capacity, dir, name, err);
}

bool rot_shard_is_published(const char *dir, uint32_t shard)
{
    char path[4096];
    return rot_shard_path(path, sizeof path, dir, shard, NULL) == 0 && rot_fs_is_file(path);
}

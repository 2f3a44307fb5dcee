#include "pipeline/mend.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"

static int look_at(rot_mend *mend, const char *dir, uint32_t shard, rot_err *err)
{
    rot_salvage *salvage = NULL;
    const rot_stage_spec *spec = &mend->plan->spec;
    uint64_t first, n;
    ROT_TRY(rot_salvage_open(dir, spec, shard, mend->known, &salvage, err));
    mend->is_bad[shard] = !rot_salvage_is_whole(salvage);
    mend->bad_shards += mend->is_bad[shard];
    rot_shard_range(spec, shard, &first, &n);
    for (uint64_t i = 0; mend->is_bad[shard] && i < n; i++) {
        rot_record record;
        mend->bad_records += rot_salvage_get(salvage, first + i, &record, NULL) < 0;
    }
    rot_salvage_close(&salvage);
    return 0;
}

// What a repair that was killed left in `side`: a mended shard is put in its place if it is whole.
static int take_up(rot_mend *mend, uint32_t shard, rot_err *err)
{
    rot_salvage *salvage = NULL;
    char path[4300];
    if (!rot_shard_is_published(mend->side, shard)) return 0;
    ROT_TRY(rot_salvage_open(mend->side, &mend->plan->spec, shard, NULL, &salvage, err));
    bool whole = rot_salvage_is_whole(salvage);
    rot_salvage_close(&salvage);
    if (whole) return rot_mend_put(mend, shard, err);
    snprintf(path, sizeof path, "%s/shard-%05u.mdb", mend->side, shard);
    return unlink(path) < 0 ? rot_err_errno(err, errno, "remove", path) : 0;
}

int rot_mend_open(rot_mend *mend, const rot_job *job, const rot_stage_plan *plan, rot_err *err)
{
    *mend = (rot_mend){.plan = plan, .mutex = PTHREAD_MUTEX_INITIALIZER, .open = UINT32_MAX};
    snprintf(mend->side, sizeof mend->side, "%.4000s/.rotoscope/repair/%s", job->config->root,
             plan->folder);
    int rc = rot_stage_open(plan->dir, &mend->known, err);
    if (rc < 0 && rc != ROT_ERR_CORRUPT && rc != ROT_ERR_MISSING) return rc;
    // A stage.json that holds and is another stage's was put there.
    char hex[65];
    rot_hex(plan->spec.fingerprint, 32, hex);
    if (mend->known && strcmp(hex, rot_stage_get_info(mend->known)->fingerprint))
        rot_stage_close(&mend->known);
    mend->n_shards = rot_shard_count(&plan->spec);
    mend->is_bad = rot_calloc(mend->n_shards + 1, sizeof *mend->is_bad);
    if (!mend->is_bad) return rot_no_memory(err, mend->n_shards, "shards");
    for (uint32_t i = 0; i < mend->n_shards; i++) {
        ROT_TRY(look_at(mend, plan->dir, i, err));
        if (mend->is_bad[i]) ROT_TRY(take_up(mend, i, err));
    }
    return 0;
}

void rot_mend_close(rot_mend *mend)
{
    rot_salvage_close(&mend->salvage);
    rot_stage_close(&mend->known);
    rot_free(mend->is_bad);
    *mend = (rot_mend){0};
}

int rot_mend_clean(const rot_mend *mend, rot_err *err)
{
    DIR *folder = opendir(mend->side);
    if (!folder) return errno == ENOENT ? 0 : rot_err_errno(err, errno, "open folder", mend->side);
    for (struct dirent *e; (e = readdir(folder));)
        if (e->d_name[0] != '.') unlinkat(dirfd(folder), e->d_name, 0);
    closedir(folder);
    return rmdir(mend->side) < 0 ? rot_err_errno(err, errno, "remove folder", mend->side) : 0;
}

int rot_mend_distrust(rot_mend *mend, rot_err *err)
{
    mend->believe_nothing = true;
    for (uint32_t i = 0; i < mend->n_shards; i++) mend->is_bad[i] = true;
    mend->bad_records = mend->plan->spec.rows;
    mend->bad_shards = mend->n_shards;
    return rot_mend_clean(mend, err);
}

bool rot_mend_wants(const rot_mend *mend, uint32_t shard)
{
    return mend->is_bad[shard];
}

int rot_mend_put(rot_mend *mend, uint32_t shard, rot_err *err)
{
    char from[4300], to[4300];
    snprintf(from, sizeof from, "%s/shard-%05u.mdb", mend->side, shard);
    snprintf(to, sizeof to, "%s/shard-%05u.mdb", mend->plan->dir, shard);
    ROT_TRY(rot_fs_mkdirs(mend->plan->dir, err));
    if (rename(from, to) < 0) return rot_err_errno(err, errno, "rename to", to);
    ROT_TRY(rot_fs_sync_dir(mend->plan->dir, err));
    mend->is_bad[shard] = false;
    return 0;
}

static int find(rot_mend *mend, uint64_t row, rot_record *out, rot_err *err)
{
    const rot_stage_spec *spec = &mend->plan->spec;
    uint32_t shard = (uint32_t)(row / spec->layout.shard_samples);
    if (mend->believe_nothing) return 0;
    if (mend->open != shard || !mend->salvage) {
        rot_salvage_close(&mend->salvage);
        ROT_TRY(rot_salvage_open(mend->plan->dir, spec, shard, mend->known, &mend->salvage, err));
        mend->open = shard;
    }
    int rc = rot_salvage_get(mend->salvage, row, out, err);
    if (rc == ROT_ERR_CORRUPT) return 0;
    return rc < 0 ? rc : 1;
}

// The record, with the mutex held. 1: it is good.
static int get(rot_mend *mend, uint64_t row, rot_record *out, rot_err *err)
{
    int rc = find(mend, row, out, err);
    mend->made += rc == 0;
    return rc;
}

int rot_mend_keep(rot_mend *mend, uint64_t row, rot_unit *unit, rot_err *err)
{
    rot_record record;
    if (!mend) return 0;
    pthread_mutex_lock(&mend->mutex);
    int rc = get(mend, row, &record, err);
    if (rc == 1 && rot_unit_add(unit, &record, err) < 0) rc = err ? err->code : ROT_ERR_NO_MEMORY;
    pthread_mutex_unlock(&mend->mutex);
    return rc;
}

int rot_mend_get(rot_mend *mend, uint64_t row, rot_arena *arena, rot_record *out, rot_err *err)
{
    if (!mend) return 0;
    pthread_mutex_lock(&mend->mutex);
    int rc = get(mend, row, out, err);
    if (rc == 1) {
        void *copy = rot_arena_alloc(arena, out->n_bytes);
        if (copy && out->n_bytes) memcpy(copy, out->payload, out->n_bytes);
        out->payload = copy;
        if (!copy) rc = rot_no_memory(err, out->n_bytes, "record");
    }
    pthread_mutex_unlock(&mend->mutex);
    return rc;
}

// What of a root is built, what is under way, and how to go on.
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/roots.h"
#include "pipeline/stage_note.h"
#include "pipeline/status_claims.h"

static json_t *unfinished_shards(const char *dir)
{
    json_t *out = json_array();
    DIR *folder = opendir(dir);
    if (!folder) return out;
    for (struct dirent *e; (e = readdir(folder));) {
        char path[4800];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strncmp(e->d_name, "shard-", 6) || !strstr(e->d_name, ".tmp") || stat(path, &st) < 0)
            continue;
        json_array_append_new(out, json_pack("{s:s, s:I, s:I}", "file", e->d_name, "bytes",
                                             (json_int_t)st.st_size, "age_seconds",
                                             (json_int_t)(time(NULL) - st.st_mtime)));
    }
    closedir(folder);
    return out;
}

// Rows left over the rows per second of those at work; none if nobody is.
static json_t *eta(const json_t *claims, json_int_t rows_left)
{
    size_t i;
    double rate = 0;
    json_t *claim;
    json_array_foreach(claims, i, claim)
    {
        const char *state = json_string_value(json_object_get(claim, "state"));
        if (state && strcmp(state, "running")) continue;
        rate += json_number_value(json_object_get(claim, "rows_per_second"));
        rows_left -= json_integer_value(json_object_get(claim, "row"));
    }
    return rate > 0 && rows_left >= 0 ? json_real((double)rows_left / rate) : NULL;
}

static json_t *building_stage(const char *root, const char *dir, bool busy, const char **dataset)
{
    json_t *note = rot_stage_note_read(dir);
    const char *stage = "?", *split = "?", *name = NULL;
    json_int_t rows = 0, per_shard = 0;
    if (note)
        json_unpack(note, "{s:s, s:s, s:s, s:I, s:I}", "stage", &stage, "split", &split, "dataset",
                    &name, "rows", &rows, "shard_samples", &per_shard);
    json_int_t shards = per_shard > 0 ? (rows + per_shard - 1) / per_shard : 0, done = 0;
    json_int_t rows_left = 0;
    for (json_int_t i = 0; i < shards; i++) {
        bool there = rot_shard_is_published(dir, (uint32_t)i);
        done += there;
        if (!there) rows_left += i + 1 < shards ? per_shard : rows - i * per_shard;
    }
    const char *slash = strrchr(dir, '/');
    json_t *claims = rot_status_claims(root, slash ? slash + 1 : dir);
    json_t *out =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o}", "path", dir, "stage", stage, "split",
                  split, "state", busy ? "building" : "stopped", "rows", rows, "shards", shards,
                  "shards_done", done, "unfinished", unfinished_shards(dir));
    json_t *seconds = eta(claims, rows_left);
    if (out && seconds) json_object_set_new(out, "eta_seconds", seconds);
    if (out)
        json_object_set_new(out, "claims", claims);
    else
        json_decref(claims);
    if (name && !*dataset) *dataset = rot_strdup(name);
    json_decref(note);
    return out;
}

static json_t *stage_status(const char *root, const char *dir, bool busy, const char **dataset)
{
    rot_stage *stage = NULL;
    rot_err err = {0};
    char path[4500];
    snprintf(path, sizeof path, "%s/stage.json", dir);
    if (!rot_fs_is_file(path)) return building_stage(root, dir, busy, dataset);
    if (rot_stage_open(dir, &stage, &err) < 0)
        return json_pack("{s:s, s:s, s:s}", "path", dir, "state", "failed", "error", err.message);
    const rot_stage_info *info = rot_stage_get_info(stage);
    json_int_t per_shard = info->layout.shard_samples, rows = (json_int_t)info->rows;
    json_t *out = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s}", "path", dir, "stage",
                            info->stage, "state", "done", "rows", rows, "samples",
                            (json_int_t)info->samples, "skipped", (json_int_t)info->skipped,
                            "shards", (rows + per_shard - 1) / per_shard, "bytes",
                            (json_int_t)info->file_bytes, "root", info->root);
    rot_stage_close(&stage);
    return out;
}

// True while a build holds the root's lock.
static bool is_busy(const char *root)
{
    char path[4200];
    int fd;
    snprintf(path, sizeof path, "%s/.rotoscope/lock", root);
    if (!rot_fs_is_file(path)) return false;
    int rc = rot_fs_lock(path, &fd, NULL);
    if (rc == 0) close(fd);
    return rc == ROT_ERR_LOCKED;
}

int rot_status(const char *path, char **json, rot_err *err)
{
    char root[4096], command[5000];
    rot_names datasets = {0}, stages = {0};
    const char *unfinished = NULL; // the dataset that a stage is being built for
    json_t *out = NULL, *dataset_list = json_array(), *stage_list = json_array();
    int rc = 0;
    ROT_GO(rot_root_datasets(path, &datasets, err));
    ROT_GO(rot_root_stages(path, &stages, err));
    if (rot_fs_is_file(path))
        rot_fs_dirname(path, root, sizeof root);
    else
        snprintf(root, sizeof root, "%s", path);
    bool busy = is_busy(root);
    for (int i = 0; i < datasets.n; i++) {
        rot_dataset *dataset = NULL;
        rot_err own = {0};
        if (rot_dataset_open(datasets.names[i], &dataset, &own) < 0)
            json_array_append_new(dataset_list, json_pack("{s:s, s:s}", "path", datasets.names[i],
                                                          "error", own.message));
        else
            json_array_append_new(dataset_list,
                                  json_pack("{s:s, s:s, s:s}", "path", datasets.names[i], "name",
                                            rot_dataset_name(dataset), "root",
                                            rot_dataset_root(dataset)));
        rot_dataset_close(&dataset);
    }
    for (int i = 0; i < stages.n; i++)
        json_array_append_new(stage_list, stage_status(root, stages.names[i], busy, &unfinished));
    out = json_pack("{s:s, s:b, s:O, s:O, s:o, s:o}", "root", root, "building", busy, "datasets",
                    dataset_list, "stages", stage_list, "preparing",
                    rot_status_claims(root, "prepare"), "ranks", rot_status_claims(root, "rank"));
    if (out && unfinished) {
        snprintf(command, sizeof command, "rotoscope build -c '%s/.rotoscope/%s.yaml'", root,
                 unfinished);
        json_object_set_new(out, "go_on", json_string(command));
    }
    *json = out ? json_dumps(out, JSON_INDENT(2)) : NULL;
    if (!*json) rc = rot_no_memory(err, 0, "status");
done:
    rot_free((char *)unfinished);
    json_decref(out);
    json_decref(dataset_list);
    json_decref(stage_list);
    rot_names_free(&datasets);
    rot_names_free(&stages);
    return rc;
}

// Stages that no dataset of a root names, and what kills have left beside finished files: shown or
// removed.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/claim.h"
#include "pipeline/roots.h"
#include "rotoscope/build.h"

// Bytes of the files in a folder of a stage (it has no deeper ones).
static uint64_t folder_bytes(const char *dir)
{
    uint64_t bytes = 0;
    DIR *folder = opendir(dir);
    if (!folder) return 0;
    for (struct dirent *e; (e = readdir(folder));) {
        struct stat st;
        if (fstatat(dirfd(folder), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    }
    closedir(folder);
    return bytes;
}

// stage.json goes first, so that a stage half removed reads as none.
static int remove_folder(const char *dir, rot_err *err)
{
    char path[4500];
    snprintf(path, sizeof path, "%s/stage.json", dir);
    if (unlink(path) < 0 && errno != ENOENT) return rot_err_errno(err, errno, "remove", path);
    ROT_TRY(rot_fs_sync_dir(dir, err));
    DIR *folder = opendir(dir);
    if (!folder) return rot_err_errno(err, errno, "open folder", dir);
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(folder));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (unlinkat(dirfd(folder), e->d_name, 0) < 0)
            rc = rot_err_errno(err, errno, "remove", e->d_name);
    }
    closedir(folder);
    if (rc == 0 && rmdir(dir) < 0) rc = rot_err_errno(err, errno, "remove folder", dir);
    return rc;
}

// Folder names of all stages that the datasets name, as keys of `named`. A dataset that cannot be
// read is an error: what it names is not known.
static int collect_named(const char *root, json_t *named, rot_err *err)
{
    static const char *const stages[] = {"tokens", "images", "embeds"};
    rot_names datasets = {0};
    rot_dataset *dataset = NULL;
    int rc = 0;
    ROT_GO(rot_root_datasets(root, &datasets, err));
    for (int i = 0; i < datasets.n; i++) {
        ROT_GO(rot_dataset_open(datasets.names[i], &dataset, err));
        for (int j = 0; j < rot_dataset_splits(dataset); j++) {
            rot_split_info split;
            ROT_GO(rot_dataset_split(dataset, j, &split));
            for (int k = 0; k < 3; k++) {
                const char *dir = rot_dataset_stage_dir(dataset, split.name, stages[k]);
                const char *slash = dir ? strrchr(dir, '/') : NULL;
                if (slash) json_object_set_new(named, slash + 1, json_true());
            }
        }
        rot_dataset_close(&dataset);
    }
done:
    rot_dataset_close(&dataset);
    rot_names_free(&datasets);
    return rc;
}

// What writers have left that nobody goes on with: .tmp files, and those that an NFS client which
// is gone has kept under another name. The root itself may hold files of its user.
static bool is_leftover(const char *name, bool in_root)
{
    if (in_root) return strstr(name, ".json.tmp.") || strstr(name, ".yaml.tmp.");
    const char *tmp = strstr(name, ".tmp");
    return !strncmp(name, ".nfs", 4) || (tmp && (!tmp[4] || tmp[4] == '.'));
}

static int collect_leftovers(const char *dir, bool in_root, bool remove, json_t *list,
                             uint64_t *total, rot_err *err)
{
    int rc = 0;
    DIR *folder = opendir(dir);
    if (!folder) return errno == ENOENT ? 0 : rot_err_errno(err, errno, "open folder", dir);
    for (struct dirent *e; rc == 0 && (e = readdir(folder));) {
        struct stat st;
        char path[4500];
        if (!is_leftover(e->d_name, in_root)) continue;
        if (fstatat(dirfd(folder), e->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode)) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (remove && unlink(path) < 0 && errno != ENOENT)
            rc = rot_err_errno(err, errno, "remove", path);
        *total += (uint64_t)st.st_size;
        json_array_append_new(
            list, json_pack("{s:s, s:I}", "path", path, "bytes", (json_int_t)st.st_size));
    }
    closedir(folder);
    return rc;
}

int rot_gc(const char *root, bool remove, char **json, rot_err *err)
{
    char path[4200];
    int rc = 0, lock = -1;
    uint64_t total = 0;
    rot_names stages = {0};
    json_t *named = json_object(), *list = json_array(), *left = json_array(), *out = NULL;
    if (!rot_fs_is_dir(root))
        ROT_FAIL_GO(err, ROT_ERR_MISSING, "%s: %s", root,
                    rot_fs_is_file(root) ? "gc takes a root, not a dataset" : "no such root");
    snprintf(path, sizeof path, "%s/.rotoscope/lock", root);
    if (remove && rot_fs_is_file(path)) { // a build under way names its stages only at its end
        rc = rot_fs_lock(path, &lock, err);
        if (rc == ROT_ERR_LOCKED) rot_err_set(err, rc, "%s: a build is using this root", root);
        ROT_GO(rc);
    }
    ROT_GO(collect_named(root, named, err));
    ROT_GO(rot_root_stages(root, &stages, err));
    for (int i = 0; i < stages.n; i++) {
        if (json_object_get(named, strrchr(stages.names[i], '/') + 1)) {
            ROT_GO(collect_leftovers(stages.names[i], false, remove, left, &total, err));
            continue;
        }
        uint64_t bytes = folder_bytes(stages.names[i]);
        total += bytes;
        if (remove) ROT_GO(remove_folder(stages.names[i], err));
        json_array_append_new(
            list, json_pack("{s:s, s:I}", "path", stages.names[i], "bytes", (json_int_t)bytes));
    }
    snprintf(path, sizeof path, "%s/.rotoscope", root);
    ROT_GO(collect_leftovers(path, false, remove, left, &total, err));
    ROT_GO(collect_leftovers(root, true, remove, left, &total, err));
    if (remove) rot_claims_clear(root);
    out = json_pack("{s:b, s:I, s:O, s:O}", "removed", remove, "bytes", (json_int_t)total, "stages",
                    list, "leftovers", left);
    *json = out ? json_dumps(out, JSON_INDENT(2)) : NULL;
    if (!*json) rc = rot_no_memory(err, 0, "gc");
done:
    if (lock >= 0) close(lock);
    rot_names_free(&stages);
    json_decref(named);
    json_decref(list);
    json_decref(left);
    json_decref(out);
    return rc;
}

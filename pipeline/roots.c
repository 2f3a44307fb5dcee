#include "pipeline/roots.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"

void rot_names_free(rot_names *names)
{
    for (int i = 0; i < names->n; i++) rot_free(names->names[i]);
    rot_free(names->names);
    *names = (rot_names){0};
}

static int add_name(rot_names *names, size_t *capacity, const char *name, rot_err *err)
{
    ROT_TRY(rot_grow(&names->names, capacity, (size_t)names->n + 1, sizeof *names->names, err));
    names->names[names->n] = rot_strdup(name);
    if (!names->names[names->n]) return rot_no_memory(err, 0, "name");
    names->n++;
    return 0;
}

typedef bool rot_wanted(const char *path, const char *name);

static int list(const char *dir, rot_wanted *wanted, rot_names *out, rot_err *err)
{
    struct dirent **entries;
    size_t capacity = 0;
    int n = scandir(dir, &entries, NULL, alphasort), rc = 0;
    *out = (rot_names){0};
    for (int i = 0; i < n; i++) {
        char path[4400];
        snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name);
        if (rc == 0 && entries[i]->d_name[0] != '.' && wanted(path, entries[i]->d_name))
            rc = add_name(out, &capacity, path, err);
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    if (rc < 0) rot_names_free(out);
    return rc;
}

static bool is_dataset(const char *path, const char *name)
{
    size_t n = strlen(name);
    return n > 5 && !strcmp(name + n - 5, ".json") && rot_fs_is_file(path);
}

static bool is_stage(const char *path, const char *name)
{
    return strchr(name, '-') && rot_fs_is_dir(path);
}

int rot_root_datasets(const char *path, rot_names *out, rot_err *err)
{
    size_t capacity = 0;
    *out = (rot_names){0};
    if (rot_fs_is_file(path)) return add_name(out, &capacity, path, err);
    if (!rot_fs_is_dir(path)) ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such root or dataset", path);
    return list(path, is_dataset, out, err);
}

int rot_root_stages(const char *path, rot_names *out, rot_err *err)
{
    char root[4096], stages[4200];
    *out = (rot_names){0};
    if (rot_fs_is_file(path))
        rot_fs_dirname(path, root, sizeof root);
    else if (rot_fs_is_dir(path))
        snprintf(root, sizeof root, "%s", path);
    else
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such root or dataset", path);
    snprintf(stages, sizeof stages, "%s/stages", root);
    return list(stages, is_stage, out, err);
}

// verify on a store root: its datasets and its stages, in the order of their names.
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "shards/verify.h"

typedef int visit(rot_verifier *v, const char *path, rot_err *err);

static int visit_dataset(rot_verifier *v, const char *path, rot_err *err)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".json") == 0 && rot_fs_is_file(path)
               ? rot_verifier_dataset(v, path, err)
               : 0;
}

static int visit_stage(rot_verifier *v, const char *path, rot_err *err)
{
    if (!rot_fs_is_dir(path)) return 0;
    rot_err cause = {0};
    int rc = rot_verifier_stage(v, path, &cause);
    if (rc == ROT_ERR_MISSING) {
        v->summary.unfinished++;
        return 0;
    }
    return rc < 0 ? rot_err_set(err, rc, "%s", cause.message) : 0;
}

// Calls `one` on what lies in a folder, hidden files left out. A folder that is not there is empty.
static int each_of(rot_verifier *v, const char *dir, visit *one, rot_err *err)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort), rc = 0;
    if (n < 0) return errno == ENOENT ? 0 : rot_err_errno(err, errno, "list", dir);
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        if (rc == 0 && names[i]->d_name[0] != '.') {
            rc = rot_fs_join(path, sizeof path, dir, names[i]->d_name, err);
            if (rc == 0) rc = one(v, path, err);
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

static int verify_folder(rot_verifier *v, const char *path, rot_err *err)
{
    char inner[PATH_MAX];
    ROT_TRY(rot_fs_join(inner, sizeof inner, path, "stage.json", err));
    if (rot_fs_is_file(inner)) return rot_verifier_stage(v, path, err);
    ROT_TRY(rot_fs_join(inner, sizeof inner, path, "stages", err));
    ROT_TRY(each_of(v, path, visit_dataset, err));
    return each_of(v, inner, visit_stage, err);
}

int rot_store_verify(const char *path, rot_verify_report *report, void *user,
                     rot_verify_summary *summary, rot_err *err)
{
    rot_verifier v = {.report = report, .user = user};
    int rc;
    if (rot_fs_is_dir(path))
        rc = verify_folder(&v, path, err);
    else if (rot_fs_is_file(path))
        rc = rot_verifier_dataset(&v, path, err);
    else
        rc = rot_err_set(err, ROT_ERR_MISSING, "%s: no such file or folder", path);
    int end = rot_verifier_end(&v, path, rc < 0 ? NULL : err);
    if (summary) *summary = v.summary;
    return rc < 0 ? rc : end;
}

// A dataset's JSON file: names the stages of each split.
#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "shards/seal.h"
#include "shards/stage.h"
#include "shards/verify.h"

static const char *const stage_names[] = {"tokens", "images", "embeds"};
enum { N_STAGES = 3 };

typedef struct split_stage {
    char *dir; // NULL: not built
    char fingerprint[65];
    uint8_t root[32];
} split_stage;

typedef struct split {
    rot_split_info info; // name: owned
    split_stage stages[N_STAGES];
} split;

struct rot_dataset {
    char *name, root[65];
    split *splits;
    int n_splits;
};

/* ---- the root ----------------------------------------------------------------------------------
 */

static int stage_order(const char *stage)
{
    for (int i = 0; i < N_STAGES; i++)
        if (strcmp(stage, stage_names[i]) == 0) return i;
    return N_STAGES;
}

static bool comes_before(const rot_stage_root *a, const rot_stage_root *b)
{
    int order = strcmp(a->split, b->split);
    return order ? order < 0 : stage_order(a->stage) < stage_order(b->stage);
}

static int root_hash(const rot_stage_root *roots, size_t n, uint8_t out[32], rot_err *err)
{
    rot_sha256 *hash = rot_sha256_new();
    if (!hash) return rot_no_memory(err, 0, "SHA-256");
    // Selection in order, without a copy to sort: there are a handful.
    const rot_stage_root *last = NULL;
    for (size_t i = 0; i < n; i++) {
        const rot_stage_root *next = NULL;
        for (size_t j = 0; j < n; j++)
            if ((!last || comes_before(last, &roots[j])) &&
                (!next || comes_before(&roots[j], next)))
                next = &roots[j];
        if (!next) break;
        rot_sha256_add(hash, next->split, strlen(next->split) + 1);
        rot_sha256_add(hash, next->stage, strlen(next->stage) + 1);
        rot_sha256_add(hash, next->root, 32);
        last = next;
    }
    rot_sha256_end(hash, out);
    return 0;
}

void rot_dataset_root_hash(const rot_stage_root *roots, size_t n, uint8_t out[32])
{
    if (root_hash(roots, n, out, NULL) < 0) memset(out, 0, 32);
}

static int check_root(const rot_dataset *dataset, const char *path, rot_err *err)
{
    size_t n = 0;
    uint8_t digest[32];
    char hex[65];
    rot_stage_root *roots = rot_calloc((size_t)dataset->n_splits * N_STAGES, sizeof *roots);
    if (!roots) return rot_no_memory(err, 0, "dataset");
    for (int i = 0; i < dataset->n_splits; i++)
        for (int j = 0; j < N_STAGES; j++) {
            const split_stage *s = &dataset->splits[i].stages[j];
            if (!s->dir) continue;
            roots[n] = (rot_stage_root){dataset->splits[i].info.name, stage_names[j], {0}};
            memcpy(roots[n++].root, s->root, 32);
        }
    int rc = root_hash(roots, n, digest, err);
    rot_free(roots);
    ROT_TRY(rc);
    rot_hex(digest, 32, hex);
    if (strcmp(hex, dataset->root) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: its root does not fit the roots of its stages", path);
    return 0;
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static int bad_key(const char *path, const char *where, const char *key, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s%s'%s' is missing or wrong", path, where,
             *where ? ": " : "", key);
}

static int read_stage(const char *path, const char *where, const json_t *json, split_stage *out,
                      rot_err *err)
{
    const char *at = json_string_value(json_object_get(json, "path"));
    const char *fingerprint = json_string_value(json_object_get(json, "fingerprint"));
    const char *root = json_string_value(json_object_get(json, "root"));
    uint8_t bytes[32];
    char dir[PATH_MAX], full[PATH_MAX];
    if (!at || !*at) return bad_key(path, where, "path", err);
    if (!root || rot_unhex(root, out->root, 32) < 0) return bad_key(path, where, "root", err);
    if (!fingerprint || rot_unhex(fingerprint, bytes, 32) < 0)
        return bad_key(path, where, "fingerprint", err);
    memcpy(out->fingerprint, fingerprint, 65);
    rot_fs_dirname(path, dir, sizeof dir);
    ROT_TRY(rot_fs_join(full, sizeof full, *at == '/' ? "" : dir, *at == '/' ? at + 1 : at, err));
    out->dir = rot_strdup(full);
    return out->dir ? 0 : rot_no_memory(err, strlen(full), "dataset");
}

static bool count(const json_t *json, const char *key, uint64_t *out)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static int read_split(const char *path, const char *name, const json_t *json, split *out,
                      rot_err *err)
{
    const char *key;
    json_t *value, *stages = json_object_get(json, "stages");
    out->info.name = rot_strdup(name);
    if (!out->info.name) return rot_no_memory(err, strlen(name), "dataset");
    if (!count(json, "rows", &out->info.rows)) return bad_key(path, name, "rows", err);
    if (!count(json, "samples", &out->info.samples)) return bad_key(path, name, "samples", err);
    if (!count(json, "skipped", &out->info.skipped) ||
        out->info.samples + out->info.skipped != out->info.rows)
        return bad_key(path, name, "skipped", err);
    if (!json_is_object(stages)) return bad_key(path, name, "stages", err);
    json_object_foreach(stages, key, value)
    {
        int i = stage_order(key);
        if (i == N_STAGES) return bad_key(path, name, key, err);
        ROT_TRY(read_stage(path, name, value, &out->stages[i], err));
    }
    return 0;
}

static int read_dataset(const char *path, const json_t *json, rot_dataset *out, rot_err *err)
{
    static const char *const known[] = {"format", "name", "root", "splits", "provenance", "sha256"};
    const char *name = json_string_value(json_object_get(json, "name")), *key;
    const char *root = json_string_value(json_object_get(json, "root"));
    const json_t *splits = json_object_get(json, "splits");
    json_t *value;
    uint64_t format;
    uint8_t digest[32];
    json_object_foreach((json_t *)json, key, value)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(key, known[i])) i++;
        if (i == sizeof known / sizeof *known)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: unknown key '%s'", path, key);
    }
    if (!count(json, "format", &format) || format != 1) return bad_key(path, "", "format", err);
    if (!name) return bad_key(path, "", "name", err);
    if (!root || rot_unhex(root, digest, 32) < 0) return bad_key(path, "", "root", err);
    if (!json_is_object(splits)) return bad_key(path, "", "splits", err);
    memcpy(out->root, root, 65);
    out->name = rot_strdup(name);
    out->splits = rot_calloc(json_object_size(splits), sizeof *out->splits);
    if (!out->name || !out->splits) return rot_no_memory(err, 0, "dataset");
    json_object_foreach((json_t *)splits, key, value)
        ROT_TRY(read_split(path, key, value, &out->splits[out->n_splits++], err));
    return check_root(out, path, err);
}

int rot_dataset_open(const char *path, rot_dataset **out, rot_err *err)
{
    json_t *json = NULL;
    bool sealed;
    int rc = 0;
    *out = NULL;
    ROT_TRY(rot_seal_read(path, &json, &sealed, err));
    rot_dataset *dataset = rot_calloc(1, sizeof *dataset);
    if (!dataset) ROT_GO(rot_no_memory(err, sizeof *dataset, "dataset"));
    ROT_GO(read_dataset(path, json, dataset, err));
    *out = dataset;
    dataset = NULL;
done:
    rot_dataset_close(&dataset);
    json_decref(json);
    return rc;
}

void rot_dataset_close(rot_dataset **dataset)
{
    rot_dataset *d = *dataset;
    if (!d) return;
    for (int i = 0; i < d->n_splits; i++) {
        rot_free((char *)d->splits[i].info.name);
        for (int j = 0; j < N_STAGES; j++) rot_free(d->splits[i].stages[j].dir);
    }
    rot_free(d->splits);
    rot_free(d->name);
    rot_free(d);
    *dataset = NULL;
}

const char *rot_dataset_name(const rot_dataset *dataset)
{
    return dataset->name;
}

const char *rot_dataset_root(const rot_dataset *dataset)
{
    return dataset->root;
}

int rot_dataset_splits(const rot_dataset *dataset)
{
    return dataset->n_splits;
}

int rot_dataset_split(const rot_dataset *dataset, int i, rot_split_info *out)
{
    if (i < 0 || i >= dataset->n_splits) return ROT_ERR_NOT_FOUND;
    *out = dataset->splits[i].info;
    return 0;
}

static const split_stage *find_stage(const rot_dataset *dataset, const char *split_name,
                                     const char *stage)
{
    int order = stage_order(stage);
    for (int i = 0; i < dataset->n_splits && order < N_STAGES; i++)
        if (strcmp(dataset->splits[i].info.name, split_name) == 0)
            return &dataset->splits[i].stages[order];
    return NULL;
}

const char *rot_dataset_stage_dir(const rot_dataset *dataset, const char *split_name,
                                  const char *stage)
{
    const split_stage *found = find_stage(dataset, split_name, stage);
    return found ? found->dir : NULL;
}

int rot_stage_open_named(const char *dir, rot_stage **out, rot_err *err)
{
    int rc = rot_stage_open(dir, out, err);
    if (rc == ROT_ERR_MISSING)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: a dataset names it, and it is not there", dir);
    return rc;
}

const uint8_t *rot_dataset_stage_root(const rot_dataset *dataset, const char *split_name,
                                      const char *stage)
{
    const split_stage *found = find_stage(dataset, split_name, stage);
    return found && found->dir ? found->root : NULL;
}

/* ---- verifying ---------------------------------------------------------------------------------
 */

// That the stage is the one that the dataset means; its records are rot_verifier_stage's.
static int compare_stage(rot_verifier *v, const char *path, const split *s, int which, bool last,
                         rot_err *err)
{
    const split_stage *wanted = &s->stages[which];
    const char *name = s->info.name, *stage_name = stage_names[which];
    rot_stage *stage = NULL;
    rot_err cause = {0};
    int rc = rot_stage_open(wanted->dir, &stage, &cause);
    if (rc == ROT_ERR_CORRUPT) return 0; // reported with the stage
    if (rc < 0) return rot_err_set(err, rc, "%s", cause.message);
    const rot_stage_info *info = rot_stage_get_info(stage);
    if (memcmp(stage->root, wanted->root, 32) != 0)
        rot_verifier_say(v, path, UINT64_MAX, "split %s: the root of %s is not that of %s", name,
                         stage_name, wanted->dir);
    if (strcmp(info->fingerprint, wanted->fingerprint) || strcmp(info->stage, stage_name))
        rot_verifier_say(v, path, UINT64_MAX, "split %s: the fingerprint of %s is not that of %s",
                         name, stage_name, wanted->dir);
    if (info->rows != s->info.rows || (last && info->samples != s->info.samples))
        rot_verifier_say(v, path, UINT64_MAX, "split %s: its counts are not those of %s", name,
                         wanted->dir);
    rot_stage_close(&stage);
    return 0;
}

static int verify_split(rot_verifier *v, const char *path, const split *s, rot_err *err)
{
    int last = N_STAGES - 1;
    while (last >= 0 && !s->stages[last].dir) last--;
    for (int i = 0; i <= last; i++) {
        if (!s->stages[i].dir) continue;
        rot_err cause = {0};
        int rc = rot_verifier_stage(v, s->stages[i].dir, &cause);
        if (rc == 0) rc = compare_stage(v, path, s, i, i == last, &cause);
        if (rc == ROT_ERR_MISSING)
            rot_verifier_say(v, path, UINT64_MAX, "split %s: %s", s->info.name, cause.message);
        else if (rc < 0)
            return rot_err_set(err, rc, "%s", cause.message);
    }
    return 0;
}

// The effective config beside NAME.json, if it is there.
static int check_config(rot_verifier *v, const char *path, rot_err *err)
{
    char yaml[PATH_MAX];
    rot_err cause = {0};
    size_t n = strlen(path);
    if (n <= 5 || strcmp(path + n - 5, ".json") || n + 1 > sizeof yaml) return 0;
    snprintf(yaml, sizeof yaml, "%.*s.yaml", (int)(n - 5), path);
    int rc = rot_config_check_seal(yaml, &cause);
    if (rc == ROT_ERR_CORRUPT)
        rot_verifier_say(v, yaml, UINT64_MAX, "%s", cause.message + strlen(yaml) + 2);
    return rc < 0 && rc != ROT_ERR_CORRUPT && rc != ROT_ERR_MISSING
               ? rot_err_set(err, rc, "%s", cause.message)
               : 0;
}

int rot_verifier_dataset(rot_verifier *v, const char *path, rot_err *err)
{
    rot_dataset *dataset = NULL;
    rot_err cause = {0};
    int rc = rot_dataset_open(path, &dataset, &cause);
    v->summary.datasets++;
    if (check_config(v, path, err) < 0) {
        rot_dataset_close(&dataset);
        return err->code;
    }
    if (rc == ROT_ERR_FORMAT || rc == ROT_ERR_CORRUPT) {
        size_t n = strlen(path);
        bool named =
            strncmp(cause.message, path, n) == 0 && strncmp(cause.message + n, ": ", 2) == 0;
        rot_verifier_say(v, path, UINT64_MAX, "%s", cause.message + (named ? n + 2 : 0));
        return 0;
    }
    if (rc < 0) return rot_err_set(err, rc, "%s", cause.message);
    for (int i = 0; rc == 0 && i < dataset->n_splits; i++)
        rc = verify_split(v, path, &dataset->splits[i], err);
    rot_dataset_close(&dataset);
    return rc;
}

int rot_dataset_verify(const char *path, rot_verify_report *report, void *user, rot_err *err)
{
    rot_verifier v = {.report = report, .user = user};
    int rc = rot_verifier_dataset(&v, path, err);
    int end = rot_verifier_end(&v, path, rc < 0 ? NULL : err);
    return rc < 0 ? rc : end;
}

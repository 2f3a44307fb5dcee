// Repair: every stage of a dataset is looked at, what is bad is made again from the stage before
// it, and the files that describe it all are written anew where they are broken.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "pipeline/dataset.h"
#include "pipeline/mend.h"
#include "pipeline/stage_note.h"

static const char *const stage_names[] = {"tokens", "images", "embeds"};

typedef struct repair {
    const rot_build_options *options;
    char path[4096], yaml[4096], copy[4200], root[4096], name[512];
    rot_dataset *dataset; // NULL: broken
    json_t *json;         // its file
    bool bad_yaml;
    rot_config *loaded, config; // once needed; `config` has the folder that the dataset lies in
    bool has_config;
    rot_job job;
    rot_split_plan *plans;
    int n_splits, lock;
    json_t *report, *splits, *files;
    bool mended;
} repair;

static int name_files(repair *r, const char *dataset, rot_err *err)
{
    size_t n = strlen(dataset);
    if (rot_fs_is_dir(dataset))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: repair takes a dataset (ROOT/NAME.json), not a root",
                 dataset);
    if (n <= 5 || strcmp(dataset + n - 5, ".json") || n >= sizeof r->path)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: not the name of a dataset (ROOT/NAME.json)", dataset);
    rot_fs_dirname(dataset, r->root, sizeof r->root);
    const char *slash = strrchr(dataset, '/'), *base = slash ? slash + 1 : dataset;
    snprintf(r->path, sizeof r->path, "%s", dataset);
    if (snprintf(r->name, sizeof r->name, "%.*s", (int)(strlen(base) - 5), base) >=
        (int)sizeof r->name)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: the name is too long", base);
    snprintf(r->yaml, sizeof r->yaml, "%.*s.yaml", (int)(n - 5), dataset);
    if (snprintf(r->copy, sizeof r->copy, "%s/.rotoscope/%s.yaml", r->root, r->name) >=
        (int)sizeof r->copy)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", dataset);
    return 0;
}

/* ---- what is there -----------------------------------------------------------------------------
 */

static int open_dataset(repair *r, rot_err *err)
{
    rot_err cause = {0};
    int rc = rot_dataset_open(r->path, &r->dataset, &cause);
    if (rc == 0) {
        r->json = json_load_file(r->path, JSON_REJECT_DUPLICATES, NULL);
        return r->json ? 0 : rot_no_memory(err, 0, "dataset");
    }
    if (rc != ROT_ERR_MISSING && rc != ROT_ERR_FORMAT && rc != ROT_ERR_CORRUPT)
        return rot_err_set(err, rc, "%s", cause.message);
    return 0;
}

// The effective config, from its place or from the copy that the build left.
static int need_config(repair *r, rot_err *err)
{
    char real[PATH_MAX], other[PATH_MAX];
    rot_err cause = {0};
    if (r->has_config) return 0;
    const char *from = r->yaml;
    int rc = rot_config_check_seal(from, &cause);
    if (rc < 0 && rot_config_check_seal(r->copy, NULL) == 0)
        from = r->copy;
    else if (rc < 0)
        return rot_err_set(err, rc, "%s (and there is no sound copy at %s)", cause.message,
                           r->copy);
    ROT_TRY(rot_config_load(from, NULL, 0, &r->loaded, err));
    if (strcmp(r->loaded->name, r->name))
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: this is the config of '%s'", from, r->loaded->name);
    r->config = *r->loaded;
    // A root that was moved is where the dataset lies.
    if (!realpath(r->root, real)) ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such folder", r->root);
    if (!realpath(r->config.root, other) || strcmp(real, other)) {
        snprintf(r->root, sizeof r->root, "%s", real);
        r->config.root = r->root;
    }
    ROT_TRY(rot_job_open(&r->job, &r->config, r->options, err));
    r->has_config = true;
    return 0;
}

static const char *named(const repair *r, const char *split, const char *stage, const char *key)
{
    const json_t *splits = json_object_get(r->json, "splits");
    const json_t *stages = json_object_get(json_object_get(splits, split), "stages");
    return json_string_value(json_object_get(json_object_get(stages, stage), key));
}

// Bytes of stage `stage` are all right, and it is the one that the dataset names.
static int is_sound(const char *dir, const char *root, bool *sound, rot_err *err)
{
    rot_err cause = {0};
    rot_stage *stage = NULL;
    int rc = rot_stage_verify(dir, NULL, NULL, &cause);
    *sound = rc == 0;
    if (rc < 0 && rc != ROT_ERR_CORRUPT && rc != ROT_ERR_MISSING)
        return rot_err_set(err, rc, "%s", cause.message);
    if (rc < 0 || !root) return 0;
    ROT_TRY(rot_stage_open(dir, &stage, err));
    *sound = strcmp(rot_stage_get_info(stage)->root, root) == 0;
    rot_stage_close(&stage);
    return 0;
}

/* ---- one stage ---------------------------------------------------------------------------------
 */

static int plan_stage(repair *r, int split, int which, rot_err *err)
{
    rot_split_plan *plan = &r->plans[split];
    const rot_split_config *of = &r->config.splits[split];
    rot_stage_plan *out = &plan->stages[which];
    int rc = 0;
    rot_stage_plan_free(out);
    if (!plan->n_stages) ROT_TRY(rot_scan_split(&r->job, of, &plan->scan, err));
    if (plan->n_stages < which + 1) plan->n_stages = which + 1;
    if (which == 0) rc = rot_plan_tokens(&r->job, of, &plan->scan, out, err);
    if (which == 1) rc = rot_plan_images(&r->job, of, &plan->scan, out, err);
    if (which == 2) rc = rot_plan_embeds(&r->job, of, &plan->scan, plan->stages[1].root, out, err);
    return rc == ROT_ERR_CORRUPT && out->dir[0] ? 0
                                                : rc; // a broken stage.json: planned all the same
}

// What the stage was made of, by its stage.json or its plan.json.
static json_t *old_content(const char *dir)
{
    rot_stage *stage = NULL;
    json_t *content = NULL;
    if (rot_stage_open(dir, &stage, NULL) == 0)
        content = json_loads(rot_stage_get_info(stage)->content, 0, NULL);
    rot_stage_close(&stage);
    if (content) return content;
    json_t *note = rot_stage_note_read(dir);
    content = json_incref(json_object_get(note, "content"));
    json_decref(note);
    return content;
}

// What would be made now is not what the dataset names: says why.
static int refuse(const repair *r, const rot_stage_plan *plan, rot_err *err)
{
    const char *dir = rot_dataset_stage_dir(r->dataset, plan->split, plan->stage);
    json_t *old = old_content(dir ? dir : ""), *now = json_loads(plan->content, 0, NULL);
    const char *was = json_string_value(json_object_get(old, "backend"));
    const char *is = json_string_value(json_object_get(now, "backend"));
    json_t *rows = json_object_get(old, "rows");
    int rc;
    if (was && is && strcmp(was, is))
        rc = rot_err_set(err, ROT_ERR_UNSUPPORTED,
                         "%s of split %s were made by backend '%s', and this machine has '%s'",
                         plan->stage, plan->split, was, is);
    else if (rows && !json_equal(rows, json_object_get(now, "rows")))
        rc = rot_err_set(err, ROT_ERR_INPUT,
                         "split %s: its files do not hold the rows that %s were made of",
                         plan->split, plan->stage);
    else
        rc = rot_err_set(err, ROT_ERR_INPUT,
                         "%s of split %s: %s would make other content (%s) than the dataset names "
                         "(%s): a tokenizer, font, library or checkpoint has changed",
                         plan->stage, plan->split, r->yaml, plan->folder, dir ? dir : "none");
    json_decref(old);
    json_decref(now);
    return rc;
}

static int check_plan(const repair *r, const rot_stage_plan *plan, rot_err *err)
{
    char hex[65];
    const char *fingerprint = named(r, plan->split, plan->stage, "fingerprint");
    const char *dir =
        r->dataset ? rot_dataset_stage_dir(r->dataset, plan->split, plan->stage) : NULL;
    if (!fingerprint) return 0;
    rot_hex(plan->spec.fingerprint, 32, hex);
    const char *slash = dir ? strrchr(dir, '/') : NULL;
    if (strcmp(hex, fingerprint) || (slash && strcmp(slash + 1, plan->folder)))
        return refuse(r, plan, err);
    return 0;
}

static int make(repair *r, int split, int which, const rot_stage_plan *side, rot_err *err)
{
    const rot_stage_plan *stages = r->plans[split].stages;
    if (which == 0) return rot_make_tokens(&r->job, &r->config.splits[split], side, err);
    if (which == 1) return rot_make_images(&r->job, &stages[0], side, err);
    return rot_make_embeds(&r->job, &stages[1], side, err);
}

// Mends the shards, then stage.json. `root` (may be NULL): the one that must come out.
static int mend_shards(repair *r, int split, int which, rot_mend *mend, const char *root,
                       rot_err *err)
{
    rot_stage_plan *plan = &r->plans[split].stages[which];
    rot_stage_plan side = *plan;
    uint8_t digest[32];
    char hex[65];
    snprintf(side.dir, sizeof side.dir, "%.4095s", mend->side);
    r->job.mend = mend;
    int rc = make(r, split, which, &side, err);
    r->job.mend = NULL;
    ROT_TRY(rc);
    ROT_TRY(rot_stage_note_write(&r->job, plan, err));
    ROT_TRY(rot_stage_finish(plan->dir, &plan->spec, digest, err));
    rot_hex(digest, 32, hex);
    if (root && strcmp(root, hex))
        ROT_FAIL(err, ROT_ERR_CORRUPT,
                 "%s of split %s: mended, its root is %.16s..., and the dataset names %.16s...",
                 plan->stage, plan->split, hex, root);
    return 0;
}

static int tell(repair *r, const rot_stage_plan *plan, const rot_mend *mend, bool had_json,
                rot_err *err)
{
    json_t *split = json_object_get(r->splits, plan->split);
    if (!split) {
        json_object_set_new(r->splits, plan->split, json_object());
        split = json_object_get(r->splits, plan->split);
    }
    json_t *entry = json_pack("{s:s, s:I, s:I, s:I, s:b}", "path", plan->dir, "bad",
                              (json_int_t)mend->bad_records, "made", (json_int_t)mend->made,
                              "shards", (json_int_t)mend->bad_shards, "stage_json", !had_json);
    if (!entry || json_object_set_new(split, plan->stage, entry) < 0)
        return rot_no_memory(err, 0, "report");
    rot_job_note(&r->job, "%s of split %s: %llu bad records, %llu shards written again",
                 plan->stage, plan->split, (unsigned long long)mend->bad_records,
                 (unsigned long long)mend->bad_shards);
    r->mended = true;
    return 0;
}

static int mend_stage(repair *r, int split, int which, rot_err *err)
{
    rot_mend mend = {0};
    rot_stage_plan *plan = &r->plans[split].stages[which];
    const char *name = stage_names[which];
    char known[65] = "";
    int rc = 0;
    for (int i = 0; i <= which; i++) {
        ROT_TRY(plan_stage(r, split, i, err));
        ROT_TRY(check_plan(r, &r->plans[split].stages[i], err));
    }
    const char *root = named(r, plan->split, name, "root");
    ROT_GO(rot_mend_open(&mend, &r->job, plan, err));
    bool had_json = mend.known != NULL;
    if (!root && had_json) {
        snprintf(known, sizeof known, "%s", rot_stage_get_info(mend.known)->root);
        root = known;
    }
    rc = mend_shards(r, split, which, &mend, root, err);
    if (rc == ROT_ERR_CORRUPT && !mend.believe_nothing) {
        ROT_GO(rot_mend_distrust(&mend, err));
        rc = mend_shards(r, split, which, &mend, root, err);
    }
    ROT_GO(rc);
    ROT_GO(rot_mend_clean(&mend, err));
    ROT_GO(rot_stage_plan_refresh(plan, err));
    ROT_GO(tell(r, plan, &mend, had_json, err));
done:
    rot_mend_close(&mend);
    return rc;
}

/* ---- the dataset -------------------------------------------------------------------------------
 */

static int take_lock(repair *r, rot_err *err)
{
    char path[4200];
    if (r->lock >= 0) return 0;
    snprintf(path, sizeof path, "%s/.rotoscope", r->root);
    ROT_TRY(rot_fs_mkdirs(path, err));
    snprintf(path, sizeof path, "%s/.rotoscope/lock", r->root);
    int rc = rot_fs_lock(path, &r->lock, err);
    if (rc == ROT_ERR_LOCKED) rot_err_set(err, rc, "%s: a build is using this root", r->root);
    return rc;
}

static int begin(repair *r, rot_err *err)
{
    ROT_TRY(take_lock(r, err));
    ROT_TRY(need_config(r, err));
    if (r->plans) return 0;
    r->n_splits = r->config.n_splits;
    r->plans = rot_calloc((size_t)r->n_splits, sizeof *r->plans);
    return r->plans ? 0 : rot_no_memory(err, 0, "plans");
}

static int split_of(const repair *r, const char *name, rot_err *err)
{
    for (int i = 0; i < r->n_splits; i++)
        if (!strcmp(r->config.splits[i].name, name)) return i;
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: no split '%s', which the dataset has", r->yaml, name);
}

// The dataset file says which stages there are.
static int by_dataset(repair *r, rot_err *err)
{
    for (int i = 0; i < rot_dataset_splits(r->dataset); i++) {
        rot_split_info split;
        ROT_TRY(rot_dataset_split(r->dataset, i, &split));
        for (int j = 0; j < 3; j++) {
            bool sound;
            const char *dir = rot_dataset_stage_dir(r->dataset, split.name, stage_names[j]);
            if (!dir) continue;
            ROT_TRY(is_sound(dir, named(r, split.name, stage_names[j], "root"), &sound, err));
            if (sound) continue;
            ROT_TRY(begin(r, err));
            int index = split_of(r, split.name, err);
            ROT_TRY(index);
            ROT_TRY(mend_stage(r, index, j, err));
        }
    }
    return 0;
}

// The dataset file is broken: the config says which stages there must be.
static int by_config(repair *r, rot_err *err)
{
    ROT_TRY(begin(r, err));
    int n = r->config.has_encode ? 3 : r->config.has_render ? 2 : 1;
    for (int i = 0; i < r->n_splits; i++)
        for (int j = 0; j < n; j++) {
            bool sound;
            ROT_TRY(plan_stage(r, i, j, err));
            ROT_TRY(is_sound(r->plans[i].stages[j].dir, NULL, &sound, err));
            if (!sound) ROT_TRY(mend_stage(r, i, j, err));
        }
    ROT_TRY(rot_dataset_write(&r->config, r->plans, err));
    json_array_append_new(r->files, json_string(r->path));
    r->mended = true;
    return 0;
}

static int mend_yaml(repair *r, rot_err *err)
{
    char *text = NULL;
    if (rot_config_check_seal(r->yaml, NULL) == 0) return 0;
    ROT_TRY(take_lock(r, err));
    int rc = rot_config_check_seal(r->copy, err);
    if (rc < 0) return rot_err_prefix(err, "%s is broken, and so is its copy: ", r->yaml);
    ROT_TRY(rot_dataset_pending_config(r->copy, &text, err));
    rc = rot_fs_write_atomic(r->yaml, text, strlen(text), err);
    rot_free(text);
    ROT_TRY(rc);
    json_array_append_new(r->files, json_string(r->yaml));
    r->mended = true;
    return 0;
}

static int write_report(repair *r, char **json, rot_err *err)
{
    rot_dataset *dataset = NULL;
    ROT_TRY(rot_dataset_open(r->path, &dataset, err));
    json_object_set_new(r->report, "root", json_string(rot_dataset_root(dataset)));
    rot_dataset_close(&dataset);
    json_object_set_new(r->report, "mended", json_boolean(r->mended));
    json_object_set(r->report, "splits", r->splits);
    json_object_set(r->report, "files", r->files);
    *json = json_dumps(r->report, JSON_INDENT(2));
    return *json ? 0 : rot_no_memory(err, 0, "report");
}

static void close_all(repair *r)
{
    for (int i = 0; r->plans && i < r->n_splits; i++)
        for (int j = 0; j < 3; j++) rot_stage_plan_free(&r->plans[i].stages[j]);
    rot_free(r->plans);
    if (r->has_config) rot_job_close(&r->job);
    rot_config_free(&r->loaded);
    rot_dataset_close(&r->dataset);
    json_decref(r->json);
    json_decref(r->report);
    json_decref(r->splits);
    json_decref(r->files);
    if (r->lock >= 0) close(r->lock);
    rot_free(r);
}

int rot_repair(const char *dataset, const rot_build_options *options, char **json, rot_err *err)
{
    int rc = 0;
    repair *r = rot_calloc(1, sizeof *r);
    if (!r) return rot_no_memory(err, sizeof *r, "repair");
    r->options = options;
    r->lock = -1;
    r->report = json_object();
    r->splits = json_object();
    r->files = json_array();
    if (!r->report || !r->splits || !r->files) ROT_GO(rot_no_memory(err, 0, "report"));
    ROT_GO(name_files(r, dataset, err));
    ROT_GO(open_dataset(r, err));
    if (!r->dataset && !rot_fs_is_file(r->path) && !rot_fs_is_file(r->yaml) &&
        !rot_fs_is_file(r->copy))
        ROT_FAIL_GO(err, ROT_ERR_MISSING, "%s: no such dataset, and no config beside it", dataset);
    json_object_set_new(r->report, "dataset", json_string(dataset));
    // Without its dataset file a config is all there is; it is put in its place first.
    if (!r->dataset) ROT_GO(mend_yaml(r, err));
    ROT_GO(r->dataset ? by_dataset(r, err) : by_config(r, err));
    if (r->dataset) ROT_GO(mend_yaml(r, err));
    ROT_GO(write_report(r, json, err));
done:
    close_all(r);
    return rc;
}

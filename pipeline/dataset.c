// The dataset file: deterministic JSON (no dates, no hosts), so that the same build writes the same
// bytes.
#include "pipeline/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "pipeline/config_write.h"
#include "rotoscope/rotoscope.h"

static int dataset_path(const rot_config *config, const char *ending, char out[4096], rot_err *err)
{
    char name[512];
    snprintf(name, sizeof name, "%s.%s", config->name, ending);
    return rot_fs_join(out, 4096, config->root, name, err);
}

static int root_hex(const rot_config *config, const rot_split_plan *plans, char hex[65],
                    rot_err *err)
{
    rot_stage_root *all = rot_calloc(3 * (size_t)config->n_splits, sizeof *all);
    size_t n = 0;
    uint8_t digest[32];
    if (!all) return rot_no_memory(err, 0, "roots");
    for (int i = 0; i < config->n_splits; i++)
        for (int j = 0; j < plans[i].n_stages; j++, n++) {
            all[n] = (rot_stage_root){.split = config->splits[i].name,
                                      .stage = plans[i].stages[j].stage};
            rot_unhex(plans[i].stages[j].root, all[n].root, 32);
        }
    rot_dataset_root_hash(all, n, digest);
    rot_free(all);
    rot_hex(digest, 32, hex);
    return 0;
}

// Causes of the tombstones of a stage, counted into `causes`.
static int count_causes(const char *dir, json_t *causes, rot_err *err)
{
    rot_stage *stage = NULL;
    ROT_TRY(rot_stage_open(dir, &stage, err));
    const rot_stage_info *info = rot_stage_get_info(stage);
    uint64_t left = info->skipped;
    int rc = 0;
    for (uint64_t row = 0; left && row < info->rows; row++) {
        rot_record record;
        char cause[256];
        ROT_GO(rot_stage_walk(stage, row, &record, err));
        if (record.kind != ROT_KIND_TOMBSTONE) continue;
        left--;
        snprintf(cause, sizeof cause, "%.*s", (int)record.n_bytes, (const char *)record.payload);
        json_int_t n = json_integer_value(json_object_get(causes, cause));
        json_object_set_new(causes, cause, json_integer(n + 1));
    }
done:
    rot_stage_close(&stage);
    return rc;
}

static int stage_counts(const char *dir, uint64_t *samples, uint64_t *skipped, rot_err *err)
{
    rot_stage *stage = NULL;
    ROT_TRY(rot_stage_open(dir, &stage, err));
    *samples = rot_stage_get_info(stage)->samples;
    *skipped = rot_stage_get_info(stage)->skipped;
    rot_stage_close(&stage);
    return 0;
}

// {cause: n} of a split's skipped rows. Embeds are never read for it: what they skip beyond the
// images can only be too large for the geometry.
static int split_causes(const rot_split_plan *plan, json_t *causes, rot_err *err)
{
    uint64_t skipped[3] = {0}, samples;
    for (int j = 0; j < plan->n_stages; j++)
        ROT_TRY(stage_counts(plan->stages[j].dir, &samples, &skipped[j], err));
    int last_read = plan->n_stages > 1 ? 1 : 0;
    if (skipped[last_read]) ROT_TRY(count_causes(plan->stages[last_read].dir, causes, err));
    if (plan->n_stages == 3 && skipped[2] > skipped[1]) {
        json_int_t n = json_integer_value(json_object_get(causes, "too-large"));
        json_object_set_new(causes, "too-large",
                            json_integer(n + (json_int_t)(skipped[2] - skipped[1])));
    }
    return 0;
}

int rot_check_policies(const rot_config *config, const rot_split_plan *plans, rot_err *err)
{
    const struct {
        const char *cause, *key;
        bool fail;
    } policies[] = {
        {"missing-glyph", "on.missing_glyph", config->on_missing_glyph == ROT_GLYPH_FAIL},
        {"too-large", "on.too_large", config->on_too_large == ROT_POLICY_FAIL},
    };
    for (int i = 0; i < config->n_splits; i++) {
        uint64_t samples, skipped;
        const rot_split_plan *plan = &plans[i];
        ROT_TRY(stage_counts(plan->stages[plan->n_stages - 1].dir, &samples, &skipped, err));
        if (skipped == plan->scan.bad) continue;
        json_t *causes = json_object();
        int rc = split_causes(plan, causes, err);
        for (int k = 0; rc == 0 && k < 2; k++) {
            json_int_t n = json_integer_value(json_object_get(causes, policies[k].cause));
            if (n && policies[k].fail)
                rc = rot_err_set(
                    err, ROT_ERR_INPUT,
                    "split %s: %lld rows were skipped by an earlier build (%s); %s is fail",
                    config->splits[i].name, (long long)n, policies[k].cause, policies[k].key);
        }
        json_decref(causes);
        ROT_TRY(rc);
    }
    return 0;
}

static json_t *stage_json(const rot_stage_plan *stage)
{
    char path[80], hex[65];
    snprintf(path, sizeof path, "stages/%s", stage->folder);
    rot_hex(stage->spec.fingerprint, 32, hex);
    return json_pack("{s:s, s:s, s:s}", "path", path, "root", stage->root, "fingerprint", hex);
}

static int split_json(const rot_split_plan *plan, json_t **out, json_t *causes, rot_err *err)
{
    uint64_t samples = 0, skipped = 0;
    json_t *stages = json_object();
    for (int j = 0; j < plan->n_stages; j++)
        json_object_set_new(stages, plan->stages[j].stage, stage_json(&plan->stages[j]));
    int rc = stage_counts(plan->stages[plan->n_stages - 1].dir, &samples, &skipped, err);
    if (rc == 0 && causes) rc = split_causes(plan, causes, err);
    *out = json_pack("{s:I, s:I, s:I, s:o}", "rows", (json_int_t)plan->scan.rows, "samples",
                     (json_int_t)samples, "skipped", (json_int_t)skipped, "stages", stages);
    return rc;
}

// The dataset's JSON without ("current?") or with provenance.
static int dataset_json(const rot_config *config, const rot_split_plan *plans, bool provenance,
                        json_t **out, rot_err *err)
{
    char hex[65];
    int rc = 0;
    *out = NULL;
    ROT_TRY(root_hex(config, plans, hex, err));
    json_t *splits = json_object(), *skipped = json_object();
    for (int i = 0; rc == 0 && i < config->n_splits; i++) {
        json_t *split = NULL, *causes = provenance ? json_object() : NULL;
        rc = split_json(&plans[i], &split, causes, err);
        if (rc == 0) json_object_set(splits, config->splits[i].name, split);
        if (rc == 0 && causes && json_object_size(causes))
            json_object_set(skipped, config->splits[i].name, causes);
        json_decref(split);
        json_decref(causes);
    }
    *out = json_pack("{s:i, s:s, s:s, s:o}", "format", 1, "name", config->name, "root", hex,
                     "splits", splits);
    if (provenance && *out) {
        char yaml[512];
        snprintf(yaml, sizeof yaml, "%s.yaml", config->name);
        json_object_set_new(*out, "provenance",
                            json_pack("{s:s, s:s, s:O}", "rotoscope", ROT_VERSION, "config", yaml,
                                      "skipped", skipped));
    }
    json_decref(skipped);
    if (rc == 0 && !*out) rc = rot_no_memory(err, 0, "dataset");
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

static bool same_file(const char *path, const char *text)
{
    char *bytes;
    size_t n;
    if (rot_fs_read(path, &bytes, &n, NULL) < 0) return false;
    bool same = n == strlen(text) && !memcmp(bytes, text, n);
    rot_free(bytes);
    return same;
}

// For a file whose folder reaches the root by `root`. Sealed, so that verify finds a flipped byte.
static int config_text(const rot_config *config, const char *root, char **sealed, rot_err *err)
{
    char *yaml = NULL;
    ROT_TRY(rot_config_write_at(config, root, &yaml, err));
    int rc = rot_config_seal(yaml, sealed, err);
    free(yaml);
    return rc;
}

bool rot_dataset_is_current(const rot_config *config, const rot_split_plan *plans)
{
    char path[4096], *yaml = NULL;
    json_t *wanted = NULL, *have = NULL;
    bool current = false;
    if (dataset_path(config, "json", path, NULL) < 0 ||
        dataset_json(config, plans, false, &wanted, NULL) < 0)
        goto done;
    rot_dataset *dataset = NULL; // its seal holds?
    int rc = rot_dataset_open(path, &dataset, NULL);
    rot_dataset_close(&dataset);
    have = rc < 0 ? NULL : json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(have)) goto done;
    json_object_del(have, "provenance");
    current = json_equal(wanted, have) && dataset_path(config, "yaml", path, NULL) == 0 &&
              config_text(config, ".", &yaml, NULL) == 0 && same_file(path, yaml);
done:
    free(yaml);
    json_decref(wanted);
    json_decref(have);
    return current;
}

static int write_config(const rot_config *config, const char *folder, const char *root,
                        rot_err *err)
{
    char path[4096], name[600], *yaml = NULL;
    ROT_TRY(config_text(config, root, &yaml, err));
    snprintf(name, sizeof name, "%s%s.yaml", folder, config->name);
    int rc = rot_fs_join(path, sizeof path, config->root, name, err);
    if (rc == 0 && !same_file(path, yaml)) rc = rot_fs_write_atomic(path, yaml, strlen(yaml), err);
    free(yaml);
    return rc;
}

int rot_dataset_write_pending(const rot_config *config, rot_err *err)
{
    return write_config(config, ".rotoscope/", "..", err);
}

int rot_dataset_pending_config(const char *path, char **sealed, rot_err *err)
{
    static const char from[] = "\nroot: \"..\"\n", to[] = "\nroot: \".\"\n",
                      seal[] = "\n# sha256: ";
    char *text = NULL;
    rot_str out = {0};
    ROT_TRY(rot_fs_read(path, &text, NULL, err));
    char *root = strstr(text, from), *end = strstr(text, seal);
    if (!root || !end || end < root) { // of a version that wrote where the root was
        *sealed = text;
        return 0;
    }
    rot_str_add(&out, text, (size_t)(root - text));
    rot_str_puts(&out, to);
    rot_str_add(&out, root + sizeof from - 1, (size_t)(end + 1 - (root + sizeof from - 1)));
    rot_free(text);
    ROT_TRY(rot_str_take(&out, &text, err));
    int rc = rot_config_seal(text, sealed, err);
    rot_free(text);
    return rc;
}

int rot_dataset_write(const rot_config *config, const rot_split_plan *plans, rot_err *err)
{
    char path[4096], *text = NULL, *sealed = NULL;
    json_t *json = NULL;
    int rc = 0;
    ROT_GO(write_config(config, "", ".", err));
    ROT_GO(dataset_json(config, plans, true, &json, err));
    text = json_dumps(json, JSON_INDENT(2));
    if (!text) ROT_GO(rot_no_memory(err, 0, "dataset"));
    ROT_GO(rot_dataset_seal(text, &sealed, err));
    ROT_GO(dataset_path(config, "json", path, err));
    if (!same_file(path, sealed)) ROT_GO(rot_fs_write_atomic(path, sealed, strlen(sealed), err));
done:
    json_decref(json);
    free(sealed);
    free(text);
    return rc;
}

int rot_dataset_text(const rot_config *config, char **json, rot_err *err)
{
    char path[4096];
    ROT_TRY(dataset_path(config, "json", path, err));
    return rot_fs_read(path, json, NULL, err);
}

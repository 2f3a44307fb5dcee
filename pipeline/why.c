// What fingerprints are made of, and which parts of two differ.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/roots.h"
#include "pipeline/stage_note.h"

// Adds {"part": "render.size_px", "this": ..., "other": ...} for every leaf that differs.
static void differ(json_t *list, const char *part, json_t *a, json_t *b)
{
    if (json_is_object(a) && json_is_object(b)) {
        const char *key;
        json_t *value;
        char deeper[512];
        json_object_foreach(a, key, value)
        {
            snprintf(deeper, sizeof deeper, "%s%s%s", part, *part ? "." : "", key);
            differ(list, deeper, value, json_object_get(b, key));
        }
        json_object_foreach(b, key, value)
        {
            if (json_object_get(a, key)) continue;
            snprintf(deeper, sizeof deeper, "%s%s%s", part, *part ? "." : "", key);
            differ(list, deeper, NULL, value);
        }
        return;
    }
    if (a && b && json_equal(a, b)) return;
    json_array_append_new(list,
                          json_pack("{s:s, s:O?, s:O?}", "part", part, "this", a, "other", b));
}

static int stage_why(const char *dir, json_t **out, rot_err *err)
{
    rot_stage *stage = NULL;
    char path[4500];
    snprintf(path, sizeof path, "%s/stage.json", dir);
    if (!rot_fs_is_file(path)) { // being built
        json_t *note = rot_stage_note_read(dir);
        if (!note) ROT_FAIL(err, ROT_ERR_MISSING, "%s: no stage", dir);
        *out =
            json_pack("{s:s, s:O, s:O, s:O}", "path", dir, "stage", json_object_get(note, "stage"),
                      "fingerprint", json_object_get(note, "fingerprint"), "content",
                      json_object_get(note, "content"));
        json_decref(note);
    } else {
        ROT_TRY(rot_stage_open(dir, &stage, err));
        const rot_stage_info *info = rot_stage_get_info(stage);
        *out = json_pack("{s:s, s:s, s:s, s:o}", "path", dir, "stage", info->stage, "fingerprint",
                         info->fingerprint, "content", json_loads(info->content, 0, NULL));
        rot_stage_close(&stage);
    }
    if (!*out) return rot_no_memory(err, 0, "stage");
    return 0;
}

// `path`: a dataset (all stages of all splits), a root (all its stages) or a stage folder.
static int collect(const char *path, json_t *list, rot_err *err)
{
    static const char *const names[] = {"tokens", "images", "embeds"};
    char note[4500];
    json_t *one = NULL;
    snprintf(note, sizeof note, "%s/plan.json", path);
    if (rot_fs_is_file(note)) {
        ROT_TRY(stage_why(path, &one, err));
        json_array_append_new(list, one);
        return 0;
    }
    if (rot_fs_is_dir(path)) {
        rot_names stages;
        ROT_TRY(rot_root_stages(path, &stages, err));
        int rc = 0;
        for (int i = 0; rc == 0 && i < stages.n; i++)
            if ((rc = stage_why(stages.names[i], &one, err)) == 0) json_array_append_new(list, one);
        rot_names_free(&stages);
        return rc;
    }
    rot_dataset *dataset = NULL;
    ROT_TRY(rot_dataset_open(path, &dataset, err));
    int rc = 0;
    for (int i = 0; i < rot_dataset_splits(dataset); i++) {
        rot_split_info split;
        ROT_GO(rot_dataset_split(dataset, i, &split));
        for (int j = 0; j < 3; j++) {
            const char *dir = rot_dataset_stage_dir(dataset, split.name, names[j]);
            if (!dir) continue;
            ROT_GO(stage_why(dir, &one, err));
            json_object_set_new(one, "split", json_string(split.name));
            json_array_append_new(list, one);
        }
    }
done:
    rot_dataset_close(&dataset);
    return rc;
}

static bool same(json_t *a, json_t *b, const char *key)
{
    json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    return !x || !y || json_equal(x, y);
}

// Every stage of `list` beside the first of the same name (and split) in `others`.
static void compare(json_t *list, json_t *others)
{
    size_t i, j;
    json_t *one, *other;
    json_array_foreach(list, i, one)
    {
        json_array_foreach(others, j, other)
        {
            if (!same(one, other, "stage") || !same(one, other, "split")) continue;
            json_t *differences = json_array();
            differ(differences, "", json_object_get(one, "content"),
                   json_object_get(other, "content"));
            json_object_set(one, "other_path", json_object_get(other, "path"));
            json_object_set_new(one, "differences", differences);
            break;
        }
    }
}

int rot_why(const char *path, const char *other, char **json, rot_err *err)
{
    json_t *list = json_array(), *others = json_array();
    int rc = 0;
    ROT_GO(collect(path, list, err));
    if (other) {
        ROT_GO(collect(other, others, err));
        compare(list, others);
    }
    *json = json_dumps(list, JSON_INDENT(2));
    if (!*json) rc = rot_no_memory(err, 0, "why");
done:
    json_decref(list);
    json_decref(others);
    return rc;
}

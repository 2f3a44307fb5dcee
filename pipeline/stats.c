// Figures of datasets: counts, tokens, widths, K, bytes.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "pipeline/job.h"
#include "pipeline/roots.h"
#include "pipeline/series.h"

enum { QUESTION, TRACE, ANSWER, WIDTH, HEIGHT, MERGED, N_SERIES };
static const char *const series_names[] = {"question_tokens", "trace_tokens", "answer_tokens",
                                           "width_px",        "height_px",    "k"};

static int add_record(rot_series all[N_SERIES], json_t *causes, const rot_record *record,
                      rot_err *err)
{
    char cause[256];
    switch (record->kind) {
    case ROT_KIND_TOKENS:
        for (int i = 0; i < 3; i++)
            ROT_TRY(rot_series_add(&all[QUESTION + i], record->shape[i], err));
        return 0;
    case ROT_KIND_IMAGE:
        ROT_TRY(rot_series_add(&all[WIDTH], record->shape[0], err));
        return rot_series_add(&all[HEIGHT], record->shape[1], err);
    case ROT_KIND_EMBEDS: return rot_series_add(&all[MERGED], record->shape[0], err);
    case ROT_KIND_TOMBSTONE:
        snprintf(cause, sizeof cause, "%.*s", (int)record->n_bytes, (const char *)record->payload);
        json_object_set_new(causes, cause,
                            json_integer(json_integer_value(json_object_get(causes, cause)) + 1));
        return 0;
    }
    return 0;
}

static int stage_stats(const char *dir, rot_series all[N_SERIES], json_t *out, rot_err *err)
{
    rot_stage *stage = NULL;
    ROT_TRY(rot_stage_open_named(dir, &stage, err));
    const rot_stage_info *info = rot_stage_get_info(stage);
    json_t *causes = json_object();
    int rc = 0;
    for (uint64_t row = 0; row < info->rows; row++) {
        rot_record record;
        ROT_GO(rot_stage_walk(stage, row, &record, err));
        ROT_GO(add_record(all, causes, &record, err));
    }
    json_object_set_new(out, info->stage,
                        json_pack("{s:I, s:I, s:O, s:I, s:I, s:s}", "samples",
                                  (json_int_t)info->samples, "skipped", (json_int_t)info->skipped,
                                  "causes", causes, "file_bytes", (json_int_t)info->file_bytes,
                                  "payload_bytes", (json_int_t)info->payload_bytes, "root",
                                  info->root));
done:
    json_decref(causes);
    rot_stage_close(&stage);
    return rc;
}

static int split_stats(const rot_dataset *dataset, const rot_split_info *split, json_t **out,
                       rot_err *err)
{
    static const char *const stages[] = {"tokens", "images", "embeds"};
    rot_series all[N_SERIES] = {0};
    json_t *stages_json = json_object();
    int rc = 0;
    *out = json_pack("{s:I, s:I, s:I, s:o}", "rows", (json_int_t)split->rows, "samples",
                     (json_int_t)split->samples, "skipped", (json_int_t)split->skipped, "stages",
                     stages_json);
    for (int i = 0; i < 3; i++) {
        const char *dir = rot_dataset_stage_dir(dataset, split->name, stages[i]);
        if (dir) ROT_GO(stage_stats(dir, all, stages_json, err));
    }
    if (all[MERGED].sum > 0)
        json_object_set_new(*out, "trace_tokens_per_vision_token",
                            json_real(all[TRACE].sum / all[MERGED].sum));
    for (int i = 0; i < N_SERIES; i++)
        if (all[i].n) json_object_set_new(*out, series_names[i], rot_series_json(&all[i]));
done:
    for (int i = 0; i < N_SERIES; i++) rot_series_free(&all[i]);
    return rc;
}

static int dataset_stats(const char *path, json_t *list, rot_err *err)
{
    rot_dataset *dataset = NULL;
    json_t *splits = json_object();
    int rc = 0;
    ROT_GO(rot_dataset_open(path, &dataset, err));
    for (int i = 0; i < rot_dataset_splits(dataset); i++) {
        rot_split_info split;
        json_t *one = NULL;
        ROT_GO(rot_dataset_split(dataset, i, &split));
        rc = split_stats(dataset, &split, &one, err);
        json_object_set_new(splits, split.name, one);
        if (rc < 0) goto done;
    }
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:O}", "dataset",
                                          rot_dataset_name(dataset), "path", path, "root",
                                          rot_dataset_root(dataset), "splits", splits));
done:
    json_decref(splits);
    rot_dataset_close(&dataset);
    return rc;
}

int rot_stats(const char *path, char **json, rot_err *err)
{
    rot_names datasets = {0};
    json_t *list = json_array();
    int rc = 0;
    ROT_GO(rot_root_datasets(path, &datasets, err));
    for (int i = 0; i < datasets.n; i++) ROT_GO(dataset_stats(datasets.names[i], list, err));
    *json = json_dumps(list, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    if (!*json) rc = rot_no_memory(err, 0, "stats");
done:
    rot_names_free(&datasets);
    json_decref(list);
    return rc;
}

// Reads what the report says about a split.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/report.h"

static int add_value(report_values *v, uint32_t value, rot_err *err)
{
    ROT_TRY(rot_grow(&v->values, &v->capacity, v->n + 1, sizeof *v->values, err));
    v->values[v->n++] = value;
    return 0;
}

static int add_skipped(report_split *split, uint64_t row, const char *cause, rot_err *err)
{
    json_int_t n = json_integer_value(json_object_get(split->causes, cause));
    int rc = json_object_set_new(split->causes, cause, json_integer(n + 1));
    if (rc == 0 && json_array_size(split->skipped) < REPORT_SKIPPED_SHOWN)
        rc = json_array_append_new(split->skipped,
                                   json_pack("{s:I, s:s}", "row", (json_int_t)row, "cause", cause));
    return rc < 0 ? rot_no_memory(err, 0, "report") : 0;
}

static int add_tombstone(report_split *split, uint64_t row, const rot_record *record, rot_err *err)
{
    char cause[256];
    size_t n = record->n_bytes < sizeof cause - 1 ? record->n_bytes : sizeof cause - 1;
    memcpy(cause, record->payload, n);
    cause[n] = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)cause[i] >= 0x80)
            cause[i] = '?'; // causes are words of ours: plain ASCII
    return add_skipped(split, row, cause, err);
}

static int add_image(report_split *split, uint64_t row, const rot_record *record, rot_err *err)
{
    rot_grid grid;
    int32_t width = (int32_t)record->shape[0], height = (int32_t)record->shape[1];
    ROT_TRY(add_value(&split->widths, record->shape[0], err));
    ROT_TRY(rot_grow(&split->by_width, &split->capacity_by_width, split->n_by_width + 1,
                     sizeof *split->by_width, err));
    split->by_width[split->n_by_width++] = (report_row){row, record->shape[0]};
    if (!split->has_geometry) return 0;
    if (rot_geometry_grid(split->geometry, &split->preprocessor, width, height, &grid, NULL) < 0)
        return add_skipped(split, row, "too-large", err);
    return add_value(&split->ks, (uint32_t)grid.k, err);
}

// The last of tokens and images holds the tombstones of both.
static int scan(report_split *split, rot_stage *stage, bool tombstones, rot_err *err)
{
    uint64_t rows = rot_stage_get_info(stage)->rows;
    for (uint64_t row = 0; row < rows; row++) {
        rot_record record;
        ROT_TRY(rot_stage_walk(stage, row, &record, err));
        if (record.kind == ROT_KIND_TOKENS)
            ROT_TRY(add_value(&split->trace_tokens, record.shape[1], err));
        else if (record.kind == ROT_KIND_IMAGE)
            ROT_TRY(add_image(split, row, &record, err));
        else if (record.kind == ROT_KIND_TOMBSTONE && tombstones)
            ROT_TRY(add_tombstone(split, row, &record, err));
    }
    return 0;
}

// As plan_stage.c writes it; absent: Qwen3-VL.
static int read_family(report_split *split, const json_t *content, rot_err *err)
{
    rot_preprocessor *p = &split->preprocessor;
    const char *family = json_string_value(json_object_get(content, "family"));
    if (!family) return 0;
    if (!strcmp(family, "qwen2_vl")) {
        p->family = ROT_FAMILY_QWEN2_VL;
        return 0;
    }
    const json_t *pinpoints = json_object_get(content, "pinpoints");
    size_t n = json_array_size(pinpoints);
    if (strcmp(family, "llava_next") || n > ROT_MAX_PINPOINTS)
        ROT_FAIL(err, ROT_ERR_FORMAT, "split %s: its embeds name no family that we know",
                 split->info.name);
    p->family = ROT_FAMILY_LLAVA_NEXT;
    p->tile_px = (int32_t)json_integer_value(json_object_get(content, "tile_px"));
    p->n_pinpoints = (int32_t)n;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 2; k++)
            p->pinpoints[i][k] =
                (int32_t)json_integer_value(json_array_get(json_array_get(pinpoints, i), k));
    return 0;
}

static int read_geometry(report_split *split, const json_t *content, rot_err *err)
{
    const json_t *p = json_object_get(content, "preprocessor");
    const char *name = json_string_value(json_object_get(content, "geometry"));
    split->preprocessor = rot_preprocessor_default();
    if (!name || rot_geometry_parse(name, &split->geometry) < 0)
        ROT_FAIL(err, ROT_ERR_FORMAT, "split %s: its embeds name no geometry that we know",
                 split->info.name);
    split->preprocessor.patch_px = (int32_t)json_integer_value(json_object_get(p, "patch_px"));
    split->preprocessor.temporal = (int32_t)json_integer_value(json_object_get(p, "temporal"));
    split->preprocessor.merge = (int32_t)json_integer_value(json_object_get(p, "merge"));
    split->preprocessor.min_pixels = json_integer_value(json_object_get(p, "min_pixels"));
    split->preprocessor.max_pixels = json_integer_value(json_object_get(p, "max_pixels"));
    ROT_TRY(read_family(split, p, err));
    split->has_geometry = split->preprocessor.patch_px > 0 && split->preprocessor.merge > 0;
    return 0;
}

static int describe_stage(report_split *split, rot_stage *stage, rot_err *err)
{
    static const char *const codecs[] = {"none", "zstd", "zstd-bf16"};
    const rot_stage_info *info = rot_stage_get_info(stage);
    json_t *content = json_loads(info->content, JSON_REJECT_DUPLICATES, NULL);
    int rc =
        content ? 0
                : rot_err_set(err, ROT_ERR_FORMAT, "stage %s: its content is no JSON", info->stage);
    if (rc == 0 && !strcmp(info->stage, "embeds")) rc = read_geometry(split, content, err);
    json_t *one = rc < 0
                      ? NULL
                      : json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:O}",
                                  "stage", info->stage, "codec", codecs[info->layout.codec % 3],
                                  "root", info->root, "fingerprint", info->fingerprint, "samples",
                                  (json_int_t)info->samples, "skipped", (json_int_t)info->skipped,
                                  "file_bytes", (json_int_t)info->file_bytes, "payload_bytes",
                                  (json_int_t)info->payload_bytes, "shard_samples",
                                  (json_int_t)info->layout.shard_samples, "commit_samples",
                                  (json_int_t)info->layout.commit_samples, "content", content);
    if (rc == 0 && json_array_append_new(split->stages, one) < 0)
        rc = rot_no_memory(err, 0, "report");
    json_decref(content);
    return rc;
}

static int open_stages(const rot_dataset *dataset, report_split *split, rot_err *err)
{
    static const char *const names[] = {"tokens", "images", "embeds"};
    rot_stage **stages[] = {&split->tokens, &split->images, &split->embeds};
    for (int i = 0; i < 3; i++) {
        const char *dir = rot_dataset_stage_dir(dataset, split->info.name, names[i]);
        if (!dir) continue;
        ROT_TRY(rot_stage_open_named(dir, stages[i], err));
        ROT_TRY(describe_stage(split, *stages[i], err));
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int narrower(const void *a, const void *b)
{
    const report_row *x = a, *y = b;
    if (x->width_px != y->width_px) return x->width_px < y->width_px ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static void sort(report_split *split)
{
    report_values *all[] = {&split->trace_tokens, &split->widths, &split->ks};
    for (int i = 0; i < 3; i++)
        if (all[i]->n) qsort(all[i]->values, all[i]->n, sizeof *all[i]->values, ascending);
    if (split->n_by_width)
        qsort(split->by_width, split->n_by_width, sizeof *split->by_width, narrower);
}

int report_split_open(const rot_dataset *dataset, int i, report_split *out, rot_err *err)
{
    int rc;
    *out = (report_split){.causes = json_object(), .skipped = json_array(), .stages = json_array()};
    if (!out->causes || !out->skipped || !out->stages) ROT_GO(rot_no_memory(err, 0, "report"));
    ROT_GO(rot_dataset_split(dataset, i, &out->info));
    ROT_GO(open_stages(dataset, out, err));
done:
    if (rc < 0) report_split_close(out);
    return rc;
}

int report_split_scan(report_split *split, rot_err *err)
{
    if (split->tokens) ROT_TRY(scan(split, split->tokens, !split->images, err));
    if (split->images) ROT_TRY(scan(split, split->images, true, err));
    sort(split);
    return 0;
}

void report_split_close(report_split *split)
{
    rot_stage_close(&split->tokens);
    rot_stage_close(&split->images);
    rot_stage_close(&split->embeds);
    rot_free(split->trace_tokens.values);
    rot_free(split->widths.values);
    rot_free(split->ks.values);
    rot_free(split->by_width);
    json_decref(split->causes);
    json_decref(split->skipped);
    json_decref(split->stages);
    *split = (report_split){0};
}

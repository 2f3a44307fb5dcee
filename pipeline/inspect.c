// One sample of a dataset, in full.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "pipeline/job.h"
#include "rotoscope/reader.h"

static int find_id(rot_stage *tokens, const char *id, uint64_t *index, rot_err *err)
{
    uint64_t rows = rot_stage_get_info(tokens)->rows;
    size_t n_id = strlen(id);
    for (uint64_t row = 0; row < rows; row++) {
        rot_record record;
        rot_tokens_view view;
        ROT_TRY(rot_stage_get(tokens, row, &record, err));
        if (record.kind == ROT_KIND_TOMBSTONE) continue;
        ROT_TRY(rot_tokens_unpack(&record, &view, err));
        if (view.n_text[0] != n_id || memcmp(view.text[0], id, n_id)) continue;
        *index = row;
        return 0;
    }
    ROT_FAIL(err, ROT_ERR_NOT_FOUND, "no sample has the id '%s'", id);
}

// By the index of ids, which the first question makes. It knows samples alone: rows that were
// skipped, and what a damaged store still has, are looked for one by one.
static int find_row(const char *path, const char *split, rot_stage *tokens, const char *id,
                    uint64_t *row, rot_err *err)
{
    rot_reader *reader = NULL;
    rot_reader_options options = rot_reader_options_default();
    options.stages = "tokens";
    uint64_t sample;
    int rc = rot_reader_open(path, split, &options, &reader, NULL);
    if (rc == 0) rc = rot_reader_find(reader, id, strlen(id), &sample, NULL);
    if (rc == 0) rc = rot_reader_row(reader, sample, row, NULL);
    rot_reader_close(&reader);
    return rc == 0 ? 0 : find_id(tokens, id, row, err);
}

static json_t *ids_json(const int32_t *ids, uint32_t n)
{
    json_t *out = json_array();
    for (uint32_t i = 0; i < n; i++) {
        int32_t id;
        memcpy(&id, (const char *)ids + 4 * (size_t)i, 4);
        json_array_append_new(out, json_integer(id));
    }
    return out;
}

static void add_hash(json_t *out, const rot_record *record)
{
    uint8_t hash[16];
    char hex[33];
    rot_record_hash(record, hash);
    rot_hex(hash, 16, hex);
    json_object_set_new(out, "xxh3_128", json_string(hex));
}

static int add_tokens(json_t *out, const rot_record *record, rot_err *err)
{
    static const char *const names[] = {"id", "question", "trace", "answer"};
    rot_tokens_view view;
    ROT_TRY(rot_tokens_unpack(record, &view, err));
    for (int i = 0; i < 4; i++)
        json_object_set_new(out, names[i], json_stringn(view.text[i], view.n_text[i]));
    json_t *ids =
        json_pack("{s:o, s:o, s:o}", "question", ids_json(view.question_ids, view.n_question_ids),
                  "trace", ids_json(view.trace_ids, view.n_trace_ids), "answer",
                  ids_json(view.answer_ids, view.n_answer_ids));
    json_object_set_new(out, "ids", ids);
    return 0;
}

static int add_image(json_t *out, const rot_record *record, const char *png, rot_err *err)
{
    json_t *image = json_pack("{s:i, s:i, s:i}", "width", (int)record->shape[0], "height",
                              (int)record->shape[1], "channels", (int)record->shape[2]);
    add_hash(image, record);
    json_object_set_new(out, "image", image);
    if (!png) return 0;
    rot_image view = {record->payload, (int32_t)record->shape[0], (int32_t)record->shape[1],
                      (int32_t)record->shape[2]};
    return rot_image_write(&view, png, err);
}

static float element(const rot_record *record, size_t i)
{
    if (record->dtype == ROT_DTYPE_F32) {
        float f;
        memcpy(&f, (const char *)record->payload + 4 * i, 4);
        return f;
    }
    uint16_t b;
    memcpy(&b, (const char *)record->payload + 2 * i, 2);
    return rot_bf16_to_f32(b);
}

// Mean and largest absolute value, and the mean length of a row.
static void add_embeds(json_t *out, const rot_record *record)
{
    size_t k = record->shape[0], d = record->shape[1];
    double sum = 0, lengths = 0, largest = 0;
    for (size_t i = 0; i < k; i++) {
        double squares = 0;
        for (size_t j = 0; j < d; j++) {
            double v = element(record, i * d + j);
            sum += v;
            squares += v * v;
            if (fabs(v) > largest) largest = fabs(v);
        }
        lengths += sqrt(squares);
    }
    json_t *first = json_array();
    for (size_t j = 0; j < d && j < 8; j++)
        json_array_append_new(first, json_real(element(record, j)));
    json_t *embeds = json_pack(
        "{s:I, s:I, s:[i,i,i], s:s, s:f, s:f, s:f, s:o}", "k", (json_int_t)k, "d", (json_int_t)d,
        "grid", 1, (int)record->shape[2], (int)record->shape[3], "dtype",
        record->dtype == ROT_DTYPE_F32 ? "f32" : "bf16", "mean", k ? sum / (double)(k * d) : 0.0,
        "abs_max", largest, "mean_row_norm", k ? lengths / (double)k : 0.0, "first_values", first);
    add_hash(embeds, record);
    json_object_set_new(out, "embeds", embeds);
}

static int add_record(json_t *out, const char *stage, const rot_record *record, const char *png,
                      rot_err *err)
{
    switch (record->kind) {
    case ROT_KIND_TOKENS: return add_tokens(out, record, err);
    case ROT_KIND_IMAGE: return add_image(out, record, png, err);
    case ROT_KIND_EMBEDS: add_embeds(out, record); return 0;
    case ROT_KIND_TOMBSTONE:
        if (!json_object_get(out, "skipped"))
            json_object_set_new(out, "skipped",
                                json_pack("{s:s, s:o}", "stage", stage, "cause",
                                          json_stringn(record->payload, record->n_bytes)));
        return 0;
    }
    ROT_FAIL(err, ROT_ERR_CORRUPT, "a record of unknown kind %d", record->kind);
}

static int choose_split(const rot_dataset *dataset, const char *path, const char **split,
                        rot_err *err)
{
    rot_split_info info;
    int n = rot_dataset_splits(dataset);
    for (int i = 0; i < n; i++) {
        ROT_TRY(rot_dataset_split(dataset, i, &info));
        if (!*split && n == 1) *split = info.name;
        if (*split && !strcmp(*split, info.name)) return 0;
    }
    if (*split) ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s: no split '%s'", path, *split);
    ROT_FAIL(err, ROT_ERR_USAGE, "%s has %d splits: say which with --split", path, n);
}

static int add_stage(json_t *out, const char *path, const rot_dataset *dataset, const char *split,
                     const char *name, uint64_t *index, const char *id, const char *png,
                     rot_err *err)
{
    const char *dir = rot_dataset_stage_dir(dataset, split, name);
    rot_stage *stage = NULL;
    rot_record record;
    int rc = 0;
    if (!dir) return 0;
    ROT_TRY(rot_stage_open_named(dir, &stage, err));
    if (id && !strcmp(name, "tokens")) ROT_GO(find_row(path, split, stage, id, index, err));
    ROT_GO(rot_stage_get(stage, *index, &record, err));
    ROT_GO(add_record(out, name, &record, png, err));
done:
    rot_stage_close(&stage);
    return rc;
}

int rot_inspect(const char *path, const char *split, uint64_t index, const char *id,
                const char *png, char **json, rot_err *err)
{
    static const char *const stages[] = {"tokens", "images", "embeds"};
    rot_dataset *dataset = NULL;
    json_t *out = json_object();
    int rc = 0;
    ROT_GO(rot_dataset_open(path, &dataset, err));
    ROT_GO(choose_split(dataset, path, &split, err));
    if (png && !rot_dataset_stage_dir(dataset, split, "images"))
        ROT_FAIL_GO(err, ROT_ERR_NOT_FOUND, "%s: split %s has no images", path, split);
    for (int i = 0; i < 3; i++)
        ROT_GO(add_stage(out, path, dataset, split, stages[i], &index, id, png, err));
    json_object_set_new(out, "dataset", json_string(rot_dataset_name(dataset)));
    json_object_set_new(out, "split", json_string(split));
    json_object_set_new(out, "index", json_integer((json_int_t)index));
    *json = json_dumps(out, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!*json) rc = rot_no_memory(err, 0, "sample");
done:
    rot_dataset_close(&dataset);
    json_decref(out);
    return rc;
}

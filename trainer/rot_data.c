// Samples of a store for Render-of-Thought: is it the right store, ids, K, targets.
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "encoder/json.h"
#include "rotoscope/geometry.h"
#include "trainer/rot.h"

/* ---- the right store ------------------------------------------------------------------------- */

static void copy_word(const json_t *object, const char *key, char *out, size_t capacity)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, capacity, "%s", text ? text : "");
}

// `content` of the stage.json of a stage of the split: what its fingerprint is made of.
static int read_content(const char *dataset, const json_t *stages, const char *stage, json_t **file,
                        const json_t **content, rot_err *err)
{
    char root[4096], path[4096];
    const char *folder = json_string_value(json_object_get(json_object_get(stages, stage), "path"));
    *content = NULL;
    if (!folder) return 0;
    rot_fs_dirname(dataset, root, sizeof root);
    ROT_TRY(rot_fs_join(path, sizeof path, root, folder, err));
    size_t n = strlen(path);
    if (n + sizeof "/stage.json" > sizeof path)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: the path is too long", folder);
    memcpy(path + n, "/stage.json", sizeof "/stage.json");
    ROT_TRY(rot_json_read(path, true, file, err));
    *content = json_object_get(*file, "content");
    return 0;
}

static int read_facts(const char *dataset, const char *split, rot_store_facts *out, rot_err *err)
{
    json_t *file = NULL, *tokens = NULL, *embeds = NULL;
    const json_t *content;
    int rc = 0;
    ROT_GO(rot_json_read(dataset, true, &file, err));
    const json_t *stages =
        json_object_get(json_object_get(json_object_get(file, "splits"), split), "stages");
    ROT_GO(read_content(dataset, stages, "tokens", &tokens, &content, err));
    copy_word(json_object_get(content, "tokenizer"), "sha256", out->tokenizer,
              sizeof out->tokenizer);
    copy_word(content, "layout", out->layout, sizeof out->layout);
    ROT_GO(read_content(dataset, stages, "embeds", &embeds, &content, err));
    copy_word(content, "geometry", out->geometry, sizeof out->geometry);
done:
    json_decref(file);
    json_decref(tokens);
    json_decref(embeds);
    return rc;
}

static int check_facts(const rot_method_rot *m, const rot_split *split, rot_err *err)
{
    const rot_train_config *c = m->config;
    const rot_store_facts *f = &split->facts;
    const rot_reader_info *info = rot_reader_get_info(split->reader);
    int32_t d = rot_decoder_get_info(m->base.decoder)->d;
    if (strcmp(f->layout, "rot"))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: its tokens have the layout '%s'; method: rot needs 'rot'",
                 c->dataset, f->layout);
    if (strcmp(f->tokenizer, m->tokenizer_sha256))
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "%s was made with the tokenizer %.16s…, %s has the tokenizer %.16s…: build the "
                 "store with the checkpoint's",
                 c->dataset, f->tokenizer, c->checkpoint, m->tokenizer_sha256);
    if (info->has_embeds && info->embeds_width != (uint32_t)d && split->n)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s holds embeddings of width %u, the hidden size of %s is %d",
                 c->dataset, info->embeds_width, c->checkpoint, d);
    if (info->has_embeds && c->geometry && strcmp(f->geometry, c->geometry))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s was made with geometry '%s', data.geometry is '%s'",
                 c->dataset, f->geometry, c->geometry);
    return 0;
}

// K of every sample as the geometry gives it from the size of its picture: what a store without
// embeddings is good for, as long as nothing asks for a target.
static int count_from_images(rot_method_rot *m, rot_split *split, rot_err *err)
{
    const rot_train_config *c = m->config;
    const rot_preprocessor preprocessor = rot_preprocessor_default();
    rot_geometry geometry;
    rot_record image;
    rot_grid grid;
    if (c->vision_weight > 0 || c->uncertainty || !c->geometry ||
        !rot_reader_get_info(split->reader)->has_images)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "%s has no embeds stage; with loss.vision: 0 and data.geometry its pictures are "
                 "enough",
                 c->dataset);
    ROT_TRY(rot_geometry_parse(c->geometry, &geometry));
    snprintf(split->facts.geometry, sizeof split->facts.geometry, "%s", c->geometry);
    split->counted = rot_malloc(split->n * sizeof *split->counted);
    if (!split->counted) return rot_no_memory(err, split->n * sizeof *split->counted, "K");
    for (uint64_t i = 0; i < split->n; i++) {
        ROT_TRY(rot_reader_peek(split->reader, "images", i, &image, err));
        int rc = rot_geometry_grid(geometry, &preprocessor, (int32_t)image.shape[0],
                                   (int32_t)image.shape[1], &grid, err);
        if (rc < 0) {
            rot_err_prefix(err, "%s: sample %llu: ", c->dataset, (unsigned long long)i);
            return rc;
        }
        split->counted[i] = (uint32_t)grid.k;
    }
    split->k = split->counted;
    return 0;
}

int rot_split_open(rot_method_rot *m, rot_which which, rot_err *err)
{
    const rot_train_config *c = m->config;
    rot_split *split = &m->splits[which];
    const char *name = which == ROT_TRAIN_SPLIT ? c->split : c->valid;
    rot_reader_options options = rot_reader_options_default();
    ROT_TRY(rot_reader_open(c->dataset, name, &options, &split->reader, err));
    split->n = rot_reader_get_info(split->reader)->samples;
    if (which == ROT_TRAIN_SPLIT && c->max_samples && c->max_samples < split->n)
        split->n = c->max_samples;
    if (split->n == 0)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: split %s holds no sample", c->dataset, name);
    ROT_TRY(read_facts(c->dataset, name, &split->facts, err));
    ROT_TRY(check_facts(m, split, err));
    m->base.n_samples[which] = split->n;
    if (!rot_reader_get_info(split->reader)->has_embeds) return count_from_images(m, split, err);
    return rot_reader_k(split->reader, &split->k, err);
}

void rot_split_close(rot_split *split)
{
    rot_reader_close(&split->reader);
    rot_free(split->bf16);
    rot_free(split->counted);
}

/* ---- samples --------------------------------------------------------------------------------- */

static int32_t *copy_ids(rot_arena *arena, const int32_t *ids, uint32_t n)
{
    int32_t *out = rot_arena_alloc(arena, ((size_t)n + 1) * sizeof *out);
    if (out && n) memcpy(out, ids, n * sizeof *out);
    return out;
}

static int check_ids(const rot_method_rot *m, const rot_example *e, rot_err *err)
{
    const rot_decoder_info *info = rot_decoder_get_info(m->base.decoder);
    int32_t n = e->n_question + e->k + e->n_answer - 1;
    if (e->n_question < 1 || e->question[e->n_question - 1] != m->tokens.img_begin ||
        e->n_answer < 1 || e->answer[0] != m->tokens.img_end || e->k < 1)
        ROT_FAIL(err, ROT_ERR_INPUT,
                 "sample '%s' is no question with <img_begin>, latents and <img_end>", e->id);
    for (int32_t i = 0; i < e->n_question; i++)
        if (e->question[i] < 0 || e->question[i] >= info->vocab)
            ROT_FAIL(err, ROT_ERR_INPUT, "sample '%s': the model has no token %d", e->id,
                     e->question[i]);
    for (int32_t i = 0; i < e->n_answer; i++)
        if (e->answer[i] < 0 || e->answer[i] >= info->vocab)
            ROT_FAIL(err, ROT_ERR_INPUT, "sample '%s': the model has no token %d", e->id,
                     e->answer[i]);
    if (m->config->max_latents && (uint32_t)e->k > m->config->max_latents)
        ROT_FAIL(err, ROT_ERR_INPUT, "sample '%s' has %d latents, over rot.max_latents: %u", e->id,
                 e->k, m->config->max_latents);
    if (n > info->positions)
        ROT_FAIL(err, ROT_ERR_INPUT, "sample '%s' takes %d positions, the model has %d", e->id, n,
                 info->positions);
    return 0;
}

static int read_example(const rot_method_rot *m, const rot_split *split, uint64_t sample,
                        rot_arena *arena, rot_example *e, rot_err *err)
{
    rot_record record;
    rot_sample_texts texts;
    ROT_TRY(rot_reader_peek(split->reader, "tokens", sample, &record, err));
    size_t n_bytes = record.n_bytes;
    void *payload = rot_arena_alloc(arena, n_bytes + 1);
    if (!payload) return rot_no_memory(err, n_bytes, "a sample");
    ROT_TRY(rot_reader_read(split->reader, "tokens", sample, payload, n_bytes, &record, err));
    ROT_TRY(rot_reader_texts(&record, &texts, err));
    e->sample = sample;
    e->id = rot_arena_strndup(arena, texts.id, texts.n_id);
    e->question = copy_ids(arena, texts.question_ids, texts.n_question_ids);
    e->answer = copy_ids(arena, texts.answer_ids, texts.n_answer_ids);
    if (!e->id || !e->question || !e->answer) return rot_no_memory(err, n_bytes, "a sample");
    e->n_question = (int32_t)texts.n_question_ids;
    e->n_answer = (int32_t)texts.n_answer_ids;
    e->k = (int32_t)split->k[sample];
    return check_ids(m, e, err);
}

int rot_examples_read(rot_method_rot *m, const rot_micro_batch *batch, rot_examples *out,
                      rot_err *err)
{
    const rot_split *split = &m->splits[batch->which];
    out->list = rot_arena_alloc(&m->arena, (batch->n + 1) * sizeof *out->list);
    if (!out->list) return rot_no_memory(err, batch->n * sizeof *out->list, "samples");
    for (size_t i = 0; i < batch->n; i++) {
        rot_example *e = &out->list[i];
        ROT_TRY(read_example(m, split, batch->samples[i], &m->arena, e, err));
        e->question_at = out->questions;
        e->latent_at = out->latents;
        e->answer_at = out->answers;
        out->questions += (size_t)e->n_question;
        out->latents += (size_t)e->k;
        out->answers += (size_t)e->n_answer;
        out->n++;
    }
    return 0;
}

int rot_targets_read(rot_method_rot *m, const rot_micro_batch *batch, const rot_examples *examples,
                     float *targets, rot_err *err)
{
    rot_split *split = &m->splits[batch->which];
    const rot_reader_info *info = rot_reader_get_info(split->reader);
    size_t rows = examples->latents, n = rows * info->embeds_width;
    int64_t *lengths = rot_malloc((batch->n + 1) * sizeof *lengths);
    int rc = 0;
    bool f32 = info->embeds_dtype == ROT_DTYPE_F32;
    if (!lengths) return rot_no_memory(err, batch->n * sizeof *lengths, "lengths");
    if (!f32 && rows > split->bf16_rows) {
        rot_free(split->bf16);
        split->bf16_rows = 0;
        split->bf16 = rot_malloc(n * sizeof *split->bf16);
        if (!split->bf16) ROT_GO(rot_no_memory(err, n * sizeof *split->bf16, "targets"));
        split->bf16_rows = rows;
    }
    ROT_GO(rot_reader_lengths(split->reader, batch->samples, batch->n, lengths, err));
    ROT_GO(rot_reader_batch(split->reader, batch->samples, batch->n, lengths,
                            f32 ? (void *)targets : split->bf16, rows, 1, err));
    for (size_t i = 0; !f32 && i < n; i++) targets[i] = rot_bf16_to_f32(split->bf16[i]);
done:
    rot_free(lengths);
    return rc;
}

// Render-of-Thought as a method: what is opened, what trains, what is saved. The arithmetic is in
// rot_step.c, the data in rot_data.c.
#include "trainer/rot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/random.h"
#include "encoder/json.h"
#include "trainer/decoder_family.h"

enum { PATH_BYTES = 4096, EXTRA_PARAMS = 4 }; // the two rows, the two log-variances
// Names of sequences of random numbers beneath config->seed.
enum { DRAW_HEAD = 100, DRAW_ROWS };

static const char *const loss_names[] = {"vision_loss", "lm_loss", NULL};

/* ---- opening --------------------------------------------------------------------------------- */

static int open_tokenizer(rot_method_rot *m, rot_err *err)
{
    uint8_t hash[32];
    ROT_TRY(rot_tokenizer_open(m->config->checkpoint, &m->tokenizer, err));
    rot_tokenizer_hash(m->tokenizer, hash);
    rot_hex(hash, 32, m->tokenizer_sha256);
    return rot_tokenizer_layout_tokens(m->tokenizer, ROT_LAYOUT_ROT, &m->tokens, err);
}

static int open_decoder(rot_method_rot *m, int threads, rot_err *err)
{
    const rot_train_config *c = m->config;
    int32_t vocab, needed = m->tokens.img_end;
    ROT_TRY(rot_decoder_read_vocab(c->checkpoint, &vocab, err));
    if (m->tokens.img_begin > needed) needed = m->tokens.img_begin;
    if (m->tokens.img > needed) needed = m->tokens.img;
    rot_decoder_options o = rot_method_decoder_options(c, threads);
    o.extra_rows = needed >= vocab ? (uint32_t)(needed + 1 - vocab) : 0;
    ROT_TRY(rot_decoder_open(&o, &m->base.decoder, err));
    return rot_train_open(c->backend, o.precision, threads, &m->train, err);
}

static int folder_file(const char *folder, const char *name, char out[PATH_BYTES], rot_err *err)
{
    return rot_fs_join(out, PATH_BYTES, folder, name, err);
}

static int open_head(rot_method_rot *m, rot_err *err)
{
    const rot_train_config *c = m->config;
    char path[PATH_BYTES];
    size_t d = (size_t)rot_decoder_get_info(m->base.decoder)->d;
    if (!c->head)
        return rot_head_open(m->train, d, c->head_width, rot_random_key(c->seed, DRAW_HEAD),
                             &m->head, err);
    ROT_TRY(folder_file(c->head, "head.safetensors", path, err));
    return rot_head_load(m->train, path, d, &m->head, err);
}

// A head that was trained on targets of another geometry predicts other latents.
static int check_head(const rot_method_rot *m, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *file = NULL;
    if (!m->config->head) return 0;
    ROT_TRY(folder_file(m->config->head, "rot.json", path, err));
    if (!rot_fs_is_file(path)) return 0; // converted from elsewhere
    ROT_TRY(rot_json_read(path, true, &file, err));
    const char *geometry = json_string_value(json_object_get(file, "geometry"));
    const char *tokenizer = json_string_value(json_object_get(file, "tokenizer_sha256"));
    const char *ours = m->splits[0].facts.geometry;
    int rc = 0;
    if (geometry && *geometry && strcmp(geometry, ours))
        rc = rot_err_set(err, ROT_ERR_USAGE,
                         "%s was trained on geometry '%s', %s was made with '%s'", m->config->head,
                         geometry, m->config->dataset, ours);
    else if (tokenizer && *tokenizer && strcmp(tokenizer, m->tokenizer_sha256))
        rc = rot_err_set(err, ROT_ERR_USAGE,
                         "%s was trained with the tokenizer %.16s…, %s has the tokenizer %.16s…",
                         m->config->head, tokenizer, m->config->checkpoint, m->tokenizer_sha256);
    json_decref(file);
    return rc;
}

/* ---- the rows of the special tokens ---------------------------------------------------------- */

// The mean of the model's first n rows, and the mean of their norms.
static int survey_rows(const rot_method_rot *m, int32_t n, double *mean, double *norm, rot_err *err)
{
    enum { PIECE = 256 };
    size_t d = (size_t)rot_decoder_get_info(m->base.decoder)->d;
    float *rows = rot_malloc(PIECE * d * sizeof *rows);
    int32_t ids[PIECE];
    int rc = 0;
    if (!rows) return rot_no_memory(err, PIECE * d * sizeof *rows, "rows");
    memset(mean, 0, d * sizeof *mean);
    *norm = 0;
    for (int32_t at = 0; at < n; at += PIECE) {
        int32_t count = n - at < PIECE ? n - at : PIECE;
        for (int32_t i = 0; i < count; i++) ids[i] = at + i;
        ROT_GO(rot_decoder_embed(m->base.decoder, ids, (size_t)count, rows, err));
        for (int32_t i = 0; i < count; i++) {
            double sum = 0;
            for (size_t c = 0; c < d; c++) {
                double x = rows[(size_t)i * d + c];
                sum += x * x;
                mean[c] += x / n;
            }
            *norm += sqrt(sum) / n;
        }
    }
done:
    rot_free(rows);
    return rc;
}

// Row `which` of the three: a normal vector brought to its norm, or the mean.
static void draw_row(const rot_method_rot *m, int which, const double *mean, double norm,
                     float *row)
{
    size_t d = (size_t)rot_decoder_get_info(m->base.decoder)->d;
    uint64_t key = rot_random_key(rot_random_key(m->config->seed, DRAW_ROWS), (uint64_t)which);
    double sum = 0;
    for (size_t c = 0; c < d; c++) {
        row[c] = (float)rot_random_normal(key, c);
        sum += (double)row[c] * (double)row[c];
    }
    double scale =
        (m->config->row_init == ROT_ROWS_RELEASED ? sqrt((double)d) : norm) / (sqrt(sum) + 1e-6);
    for (size_t c = 0; c < d; c++)
        row[c] =
            m->config->row_init == ROT_ROWS_MEAN ? (float)mean[c] : (float)((double)row[c] * scale);
}

static int draw_rows(rot_method_rot *m, float *row, rot_err *err)
{
    const int32_t ids[3] = {m->tokens.img_begin, m->tokens.img, m->tokens.img_end};
    int32_t known = rot_tokenizer_size(m->tokenizer); // rows with a token of their own
    size_t d = (size_t)rot_decoder_get_info(m->base.decoder)->d;
    int32_t vocab = rot_decoder_get_info(m->base.decoder)->vocab;
    double norm, *mean = rot_malloc(d * sizeof *mean);
    if (!mean) return rot_no_memory(err, d * sizeof *mean, "rows");
    int rc = survey_rows(m, known < vocab ? known : vocab, mean, &norm, err);
    for (int i = 0; rc == 0 && i < 3; i++) {
        if (ids[i] < known) continue; // the model was trained with it
        draw_row(m, i, mean, norm, row);
        rc = rot_decoder_set_row(m->base.decoder, ids[i], row, err);
    }
    rot_free(mean);
    return rc;
}

static int read_row(const rot_safetensors *file, const char *path, const char *name, size_t d,
                    float *row, rot_err *err)
{
    const rot_tensor *t = rot_safetensors_find(file, name);
    if (!t || t->n_elements != d || rot_tensor_type_bytes(t->type) > 4 || t->type == ROT_T_I32)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: no row %s of %zu numbers", path, name, d);
    rot_tensor_to_f32(t, 0, d, row);
    for (size_t c = 0; c < d; c++)
        if (!isfinite(row[c]))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: element %zu is not finite", path, name, c);
    return 0;
}

// <img> has no place in a sequence, but its row is one of the output head's: a folder that was
// converted from elsewhere lacks it.
static int load_rows(rot_method_rot *m, float *row, rot_err *err)
{
    char path[PATH_BYTES];
    rot_safetensors *file = NULL;
    size_t d = (size_t)rot_decoder_get_info(m->base.decoder)->d;
    int rc = 0;
    ROT_TRY(folder_file(m->config->head, "tokens.safetensors", path, err));
    ROT_TRY(rot_safetensors_open(path, &file, err));
    ROT_GO(read_row(file, path, "img_begin", d, row, err));
    ROT_GO(rot_decoder_set_row(m->base.decoder, m->tokens.img_begin, row, err));
    ROT_GO(read_row(file, path, "img_end", d, row, err));
    ROT_GO(rot_decoder_set_row(m->base.decoder, m->tokens.img_end, row, err));
    if (!rot_safetensors_find(file, "img")) goto done;
    ROT_GO(read_row(file, path, "img", d, row, err));
    ROT_GO(rot_decoder_set_row(m->base.decoder, m->tokens.img, row, err));
done:
    rot_safetensors_close(&file);
    return rc;
}

static int open_rows(rot_method_rot *m, rot_err *err)
{
    const int32_t ids[2] = {m->tokens.img_begin, m->tokens.img_end};
    size_t d = (size_t)rot_decoder_get_info(m->base.decoder)->d;
    m->rows = rot_calloc(2 * d, sizeof *m->rows);
    m->d_rows = rot_calloc(2 * d, sizeof *m->d_rows);
    if (!m->rows || !m->d_rows) return rot_no_memory(err, 4 * d * sizeof *m->rows, "rows");
    ROT_TRY(draw_rows(m, m->rows, err));
    if (m->config->head) ROT_TRY(load_rows(m, m->rows, err));
    return rot_decoder_embed(m->base.decoder, ids, 2, m->rows, err);
}

/* ---- what trains ----------------------------------------------------------------------------- */

static int list_params(rot_method_rot *m, rot_err *err)
{
    const rot_train_config *c = m->config;
    size_t n, at = 0;
    const rot_param *of_decoder = rot_decoder_params(m->base.decoder, &n);
    const int64_t d = rot_decoder_get_info(m->base.decoder)->d;
    m->params = rot_calloc(n + ROT_HEAD_TENSORS + EXTRA_PARAMS, sizeof *m->params);
    if (!m->params) return rot_no_memory(err, n * sizeof *m->params, "parameters");
    if (c->train_head) {
        rot_head_params(m->head, m->params);
        at = ROT_HEAD_TENSORS;
    }
    for (int i = 0; c->train_rows && i < 2; i++)
        m->params[at++] = (rot_method_param){.name = i ? "rows.img_end" : "rows.img_begin",
                                             .n_dims = 1,
                                             .shape = {d},
                                             .n = (size_t)d,
                                             .value = m->rows + i * d,
                                             .grad = m->d_rows + i * d,
                                             .decay = true};
    for (int i = 0; c->uncertainty && i < 2; i++)
        m->params[at++] = (rot_method_param){.name = i ? "log_variance.lm" : "log_variance.vision",
                                             .n_dims = 1,
                                             .shape = {1},
                                             .n = 1,
                                             .value = &m->log_variances[i],
                                             .grad = &m->d_log_variances[i]};
    for (size_t i = 0; c->tuning != ROT_TUNE_NONE && i < n; i++) {
        const rot_param *p = &of_decoder[i];
        m->params[at] = (rot_method_param){.name = p->name,
                                           .n_dims = p->n_dims,
                                           .n = p->n,
                                           .value = p->value,
                                           .grad = p->grad,
                                           .decay = true};
        memcpy(m->params[at++].shape, p->shape, sizeof p->shape);
    }
    m->base.params = m->params;
    m->base.n_params = at;
    return 0;
}

static void rot_close(rot_method *method)
{
    rot_method_rot *m = (rot_method_rot *)method;
    for (int i = 0; i < 2; i++) rot_split_close(&m->splits[i]);
    rot_head_close(&m->head);
    for (int i = 0; i < 2; i++) rot_context_close(&m->contexts[i]);
    rot_arena_free(&m->arena);
    rot_train_close(&m->train);
    rot_decoder_close(&m->base.decoder);
    rot_tokenizer_close(&m->tokenizer);
    rot_free(m->rows);
    rot_free(m->d_rows);
    rot_free(m->params);
    rot_free(m);
}

static int rot_open(const rot_train_config *config, int threads, rot_method **out, rot_err *err)
{
    rot_method_rot *m = rot_calloc(1, sizeof *m);
    if (!m) return rot_no_memory(err, sizeof *m, "a method");
    int rc = 0;
    m->base.ops = &rot_method_rot_ops;
    m->config = config;
    ROT_GO(open_tokenizer(m, err));
    ROT_GO(open_decoder(m, threads, err));
    ROT_GO(rot_split_open(m, ROT_TRAIN_SPLIT, err));
    if (config->valid) ROT_GO(rot_split_open(m, ROT_VALID_SPLIT, err));
    ROT_GO(check_head(m, err));
    ROT_GO(open_head(m, err));
    ROT_GO(open_rows(m, err));
    ROT_GO(list_params(m, err));
    *out = &m->base;
    return 0;
done:
    rot_close(&m->base);
    return rc;
}

/* ---- the loop's calls ------------------------------------------------------------------------ */

static int rot_begin_epoch(rot_method *method, uint64_t epoch, rot_epoch_plan *out, rot_err *err)
{
    (void)epoch, (void)err;
    *out = (rot_epoch_plan){.lengths = ((rot_method_rot *)method)->splits[ROT_TRAIN_SPLIT].k};
    return 0;
}

static int rot_run(rot_method *method, const rot_micro_batch *batch, rot_method_losses *out,
                   rot_err *err)
{
    return rot_step_run((rot_method_rot *)method, batch, out, err);
}

static void rot_zero_grad(rot_method *method)
{
    rot_method_rot *m = (rot_method_rot *)method;
    size_t d = (size_t)rot_decoder_get_info(m->base.decoder)->d;
    rot_head_zero_grad(m->head);
    memset(m->d_rows, 0, 2 * d * sizeof *m->d_rows);
    memset(m->d_log_variances, 0, sizeof m->d_log_variances);
    rot_decoder_zero_grad(m->base.decoder);
}

static int rot_updated(rot_method *method, rot_err *err)
{
    rot_method_rot *m = (rot_method_rot *)method;
    if (m->config->train_head) ROT_TRY(rot_head_update(m->head, err));
    return m->config->tuning == ROT_TUNE_NONE ? 0 : rot_decoder_update(m->base.decoder, err);
}

/* ---- files ----------------------------------------------------------------------------------- */

static int save_rows(rot_method_rot *m, const char *dir, rot_err *err)
{
    const int32_t ids[3] = {m->tokens.img_begin, m->tokens.img_end, m->tokens.img};
    int64_t d = rot_decoder_get_info(m->base.decoder)->d;
    rot_tensor_decl declared[3] = {{"img_begin", ROT_T_F32, 1, {d}},
                                   {"img_end", ROT_T_F32, 1, {d}},
                                   {"img", ROT_T_F32, 1, {d}}};
    rot_safetensors_writer *writer = NULL;
    char path[PATH_BYTES];
    size_t n = 3 * (size_t)d;
    int rc = 0;
    float *rows = rot_malloc(n * sizeof *rows);
    if (!rows) return rot_no_memory(err, n * sizeof *rows, "rows");
    ROT_GO(rot_decoder_embed(m->base.decoder, ids, 3, rows, err));
    if (m->config->train_rows) memcpy(rows, m->rows, 2 * (size_t)d * sizeof *rows);
    ROT_GO(folder_file(dir, "tokens.safetensors", path, err));
    ROT_GO(rot_safetensors_create(path, declared, 3, &writer, err));
    ROT_GO(rot_safetensors_write(writer, rows, n * sizeof *rows, err));
    ROT_GO(rot_safetensors_finish(&writer, err));
done:
    rot_safetensors_abort(&writer);
    rot_free(rows);
    return rc;
}

static int save_facts(const rot_method_rot *m, const char *dir, rot_err *err)
{
    char path[PATH_BYTES];
    ROT_TRY(folder_file(dir, "rot.json", path, err));
    json_t *facts = json_pack(
        "{s:i, s:i, s:s, s:s, s:s, s:i, s:i, s:i, s:s}", "hidden_size",
        (int)rot_decoder_get_info(m->base.decoder)->d, "head_width", (int)rot_head_width(m->head),
        "geometry", m->splits[0].facts.geometry, "tokenizer_sha256", m->tokenizer_sha256,
        "dataset_root", rot_reader_get_info(m->splits[0].reader)->root, "img_begin_token_id",
        (int)m->tokens.img_begin, "img_token_id", (int)m->tokens.img, "img_end_token_id",
        (int)m->tokens.img_end, "checkpoint", m->config->checkpoint);
    char *text = facts ? json_dumps(facts, JSON_INDENT(2)) : NULL;
    json_decref(facts);
    if (!text) return rot_no_memory(err, 0, path);
    int rc = rot_fs_write_atomic(path, text, strlen(text), err);
    free(text);
    return rc;
}

static int rot_save(rot_method *method, const char *dir, rot_err *err)
{
    rot_method_rot *m = (rot_method_rot *)method;
    char path[PATH_BYTES];
    ROT_TRY(folder_file(dir, "head.safetensors", path, err));
    ROT_TRY(rot_head_save(m->head, path, err));
    ROT_TRY(save_rows(m, dir, err));
    ROT_TRY(save_facts(m, dir, err));
    if (m->config->tuning == ROT_TUNE_LORA) {
        ROT_TRY(folder_file(dir, "adapter", path, err));
        return rot_decoder_save_adapter(m->base.decoder, path, err);
    }
    if (m->config->tuning == ROT_TUNE_NONE) return 0;
    ROT_TRY(folder_file(dir, "model", path, err));
    return rot_decoder_save(m->base.decoder, path, false, err);
}

static int rot_describe(rot_method *method, char **json, rot_err *err)
{
    const rot_method_rot *m = (const rot_method_rot *)method;
    const rot_split *split = &m->splits[ROT_TRAIN_SPLIT];
    uint32_t least = UINT32_MAX, most = 0;
    double sum = 0;
    for (uint64_t i = 0; i < split->n; i++) {
        least = split->k[i] < least ? split->k[i] : least;
        most = split->k[i] > most ? split->k[i] : most;
        sum += split->k[i];
    }
    json_t *o =
        json_pack("{s:s, s:i, s:i, s:s, s:s, s:{s:I, s:f, s:I}}", "model_type",
                  rot_decoder_get_info(m->base.decoder)->model_type, "hidden_size",
                  (int)rot_decoder_get_info(m->base.decoder)->d, "head_width",
                  (int)rot_head_width(m->head), "geometry", split->facts.geometry, "dataset_root",
                  rot_reader_get_info(split->reader)->root, "latents", "least", (json_int_t)least,
                  "mean", sum / (double)split->n, "most", (json_int_t)most);
    *json = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(o);
    return *json ? 0 : rot_no_memory(err, 0, "a description");
}

const rot_method_ops rot_method_rot_ops = {
    .name = "rot",
    .losses = loss_names,
    .open = rot_open,
    .close = rot_close,
    .begin_epoch = rot_begin_epoch,
    .run = rot_run,
    .zero_grad = rot_zero_grad,
    .updated = rot_updated,
    .save = rot_save,
    .describe = rot_describe,
};

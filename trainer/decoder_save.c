// Writing a decoder: every tensor of the checkpoint's files in their order, with the current values
// where they changed, and the files that belong to a model's folder.
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/str.h"
#include "trainer/decoder_parts.h"

enum { PATH_BYTES = 4096, PIECE = 1 << 14 };

// Floats as `type`; halves of F16 are rounded to nearest, ties to even.
static void narrow(const float *from, size_t n, rot_tensor_type type, unsigned char *to)
{
    if (type == ROT_T_F32) {
        memcpy(to, from, n * sizeof *from);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half = type == ROT_T_BF16 ? rot_f32_to_bf16(from[i]) : rot_f32_to_f16(from[i]);
        memcpy(to + 2 * i, &half, 2);
    }
}

static int write_floats(rot_safetensors_writer *writer, const float *values, size_t n,
                        rot_tensor_type type, rot_err *err)
{
    unsigned char piece[PIECE * sizeof(float)];
    for (size_t at = 0; at < n; at += PIECE) {
        size_t m = n - at < PIECE ? n - at : PIECE;
        narrow(values + at, m, type, piece);
        ROT_TRY(rot_safetensors_write(writer, piece, m * rot_tensor_type_bytes(type), err));
    }
    return 0;
}

// The declared parameter that trains and that `tensor` filled; NULL: none.
static const rot_declared *trained(const rot_decoder *decoder, const rot_tensor *tensor)
{
    for (size_t i = 0; i < decoder->n_declared; i++)
        if (decoder->declared[i].tensor == tensor && decoder->declared[i].trained)
            return &decoder->declared[i];
    return NULL;
}

static const float *values_of(const rot_decoder *decoder, const rot_declared *p)
{
    for (size_t i = 0; i < decoder->n_params; i++)
        if (decoder->params[i].name == p->name) return decoder->params[i].value;
    return NULL;
}

// The embedding or a frozen head, row by row: some rows were set, some are extra.
static int write_rows(const rot_decoder *decoder, const rot_tensor *tensor,
                      rot_safetensors_writer *writer, rot_tensor_type type, rot_err *err)
{
    size_t d = (size_t)decoder->shape.info.d;
    float *row = rot_malloc(d * sizeof *row);
    if (!row) return rot_no_memory(err, d * sizeof *row, "a row");
    int rc = 0;
    for (int32_t id = 0; id < decoder->shape.info.vocab; id++) {
        rot_decoder_row(decoder, tensor, id, row);
        ROT_GO(write_floats(writer, row, d, type, err));
    }
done:
    rot_free(row);
    return rc;
}

// The adapter of the linear whose weight `tensor` is; NULL: it has none.
static const rot_lora *adapter_of(const rot_decoder *decoder, const rot_tensor *tensor)
{
    const size_t n_prefix = strlen(decoder->prefix), n_own = strlen(decoder->family->prefixes[0]);
    if (strncmp(tensor->name, decoder->prefix, n_prefix)) return NULL;
    for (int layer = 0; layer < decoder->shape.info.layers; layer++) {
        rot_decoder_block *b = &decoder->blocks[layer];
        rot_decoder_linear *all[] = {&b->qkv, &b->o, &b->up, &b->down};
        for (size_t i = 0; i < 4; i++)
            for (int part = 0; part < all[i]->n_parts; part++) {
                const rot_lora *lora = &all[i]->lora[part];
                if (!lora->a) continue;
                const char *name = lora->module + n_own, *rest = tensor->name + n_prefix;
                const size_t n = strlen(name);
                if (!strncmp(rest, name, n) && !strcmp(rest + n, ".weight")) return lora;
            }
    }
    return NULL;
}

// W + alpha / r * B A, rounded once. W is (n_out, n_in), or (n_in, n_out) if conv1d.
static int write_merged(const rot_decoder *decoder, const rot_tensor *tensor, const rot_lora *lora,
                        rot_safetensors_writer *writer, rot_tensor_type type, rot_err *err)
{
    const size_t rows = (size_t)tensor->shape[0], columns = (size_t)tensor->shape[1];
    const size_t r = (size_t)decoder->lora.r;
    const double scale = decoder->lora.alpha / decoder->lora.r;
    const bool conv1d = decoder->family->conv1d;
    float *row = rot_malloc(columns * sizeof *row);
    double *sum = rot_malloc(columns * sizeof *sum);
    int rc = 0;
    if (!row || !sum) ROT_GO(rot_no_memory(err, columns * sizeof *sum, "a row"));
    for (size_t i = 0; i < rows; i++) {
        rot_tensor_to_f32(tensor, i * columns, columns, row);
        memset(sum, 0, columns * sizeof *sum);
        for (size_t k = 0; k < r; k++) {
            const double factor = scale * (conv1d ? lora->a[k * rows + i] : lora->b[i * r + k]);
            const float *other = conv1d ? lora->b + k : lora->a + k * columns;
            const size_t stride = conv1d ? r : 1;
            for (size_t j = 0; j < columns; j++) sum[j] += factor * (double)other[j * stride];
        }
        for (size_t j = 0; j < columns; j++) row[j] = (float)((double)row[j] + sum[j]);
        ROT_GO(write_floats(writer, row, columns, type, err));
    }
done:
    rot_free(row);
    rot_free(sum);
    return rc;
}

static int write_tensor(const rot_decoder *decoder, const rot_tensor *tensor, bool merged,
                        rot_safetensors_writer *writer, rot_tensor_type type, rot_err *err)
{
    const rot_declared *p = trained(decoder, tensor);
    const rot_lora *lora = merged ? adapter_of(decoder, tensor) : NULL;
    if (lora) return write_merged(decoder, tensor, lora, writer, type, err);
    if (p) return write_floats(writer, values_of(decoder, p), p->n, type, err);
    if (tensor == decoder->embedding || tensor == decoder->head_tensor)
        return write_rows(decoder, tensor, writer, type, err);
    return rot_safetensors_write(writer, tensor->data, tensor->n_bytes, err);
}

static int write_weights(const rot_decoder *decoder, const char *dir, bool masters, bool merged,
                         rot_err *err)
{
    char path[PATH_BYTES];
    int rc = 0;
    size_t n = rot_safetensors_count(decoder->file), kept = 0;
    rot_safetensors_writer *writer = NULL;
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "model.safetensors", err));
    rot_tensor_decl *decls = rot_calloc(n + 1, sizeof *decls);
    const rot_tensor **tensors = rot_calloc(n + 1, sizeof *tensors);
    if (!decls || !tensors) {
        rc = rot_no_memory(err, n * sizeof *decls, "tensors");
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        const rot_tensor *tensor = rot_safetensors_at(decoder->file, i);
        if (decoder->shape.info.tied && !strcmp(tensor->name, "lm_head.weight"))
            continue;                              // the embedding again
        if (tensor->type == ROT_T_OTHER) continue; // GPT-2's masks
        rot_tensor_decl *decl = &decls[kept];
        *decl = (rot_tensor_decl){tensor->name, tensor->type, tensor->n_dims, {0}};
        memcpy(decl->shape, tensor->shape, sizeof decl->shape);
        bool rows = tensor == decoder->embedding || tensor == decoder->head_tensor;
        if (masters && (trained(decoder, tensor) || (rows && decoder->n_rows)))
            decl->type = ROT_T_F32;
        if (rows) decl->shape[0] = decoder->shape.info.vocab;
        tensors[kept++] = tensor;
    }
    ROT_GO(rot_safetensors_create(path, decls, kept, &writer, err));
    for (size_t i = 0; i < kept; i++)
        ROT_GO(write_tensor(decoder, tensors[i], merged, writer, decls[i].type, err));
    rc = rot_safetensors_finish(&writer, err);
done:
    rot_safetensors_abort(&writer);
    rot_free(decls);
    rot_free(tensors);
    return rc;
}

static int write_json(const char *dir, const char *name, const json_t *root, rot_err *err)
{
    char path[PATH_BYTES];
    ROT_TRY(rot_fs_join(path, sizeof path, dir, name, err));
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    if (!text) return rot_no_memory(err, 0, path);
    int rc = rot_fs_write_atomic(path, text, strlen(text), err);
    free(text);
    return rc;
}

// config.json with the number of rows of the embedding.
static int write_config(const rot_decoder *decoder, const char *dir, bool masters, rot_err *err)
{
    json_t *root = json_deep_copy(decoder->config);
    if (!root) return rot_no_memory(err, 0, "config.json");
    json_t *text = decoder->family->text ? json_object_get(root, decoder->family->text) : root;
    json_object_set_new(text, "vocab_size", json_integer(decoder->shape.info.vocab));
    static const char *const types[] = {"torch_dtype", "dtype"};
    for (int i = 0; i < 2 && masters && decoder->train_all; i++) {
        if (json_object_get(root, types[i]))
            json_object_set_new(root, types[i], json_string("float32"));
        if (json_object_get(text, types[i]))
            json_object_set_new(text, types[i], json_string("float32"));
    }
    int rc = write_json(dir, "config.json", root, err);
    json_decref(root);
    return rc;
}

// The other small files of a model's folder, where they are.
static int copy_files(const rot_decoder *decoder, const char *dir, rot_err *err)
{
    static const char *const names[] = {"generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "added_tokens.json",
                                        "chat_template.json",
                                        "special_tokens_map.json",
                                        "chat_template.jinja",
                                        "preprocessor_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ROT_TRY(rot_fs_copy(decoder->dir, dir, names[i], err));
    return 0;
}

static int save(const rot_decoder *decoder, const char *dir, bool masters, bool merged,
                rot_err *err)
{
    ROT_TRY(rot_fs_mkdirs(dir, err));
    ROT_TRY(write_weights(decoder, dir, masters, merged, err));
    ROT_TRY(copy_files(decoder, dir, err));
    return write_config(decoder, dir, masters, err);
}

int rot_decoder_save(const rot_decoder *decoder, const char *dir, bool masters, rot_err *err)
{
    return save(decoder, dir, masters, false, err);
}

int rot_decoder_save_merged(const rot_decoder *decoder, const char *dir, rot_err *err)
{
    if (!decoder->n_lora) ROT_FAIL(err, ROT_ERR_USAGE, "the decoder has no adapter");
    return save(decoder, dir, false, true, err);
}

// As peft 0.17 writes it; what is not named has peft's default.
static int write_adapter_config(const rot_decoder *decoder, const char *dir, rot_err *err)
{
    json_t *root = json_pack(
        "{s:s, s:o, s:s, s:b, s:b, s:b, s:f, s:f, s:n, s:s, s:i, s:[], s:s, s:b, s:b}", "peft_type",
        "LORA", "base_model_name_or_path", json_string(decoder->dir), "bias", "none",
        "fan_in_fan_out", decoder->family->conv1d, "inference_mode", 1, "init_lora_weights", 1,
        "lora_alpha", decoder->lora.alpha, "lora_dropout", decoder->lora.dropout, "modules_to_save",
        "task_type", "CAUSAL_LM", "r", decoder->lora.r, "target_modules", "revision", "main",
        "use_dora", 0, "use_rslora", 0);
    if (!root) return rot_no_memory(err, 0, "adapter_config.json");
    json_t *targets = json_object_get(root, "target_modules");
    for (const char *at = decoder->lora.targets; *at;) {
        size_t n = strcspn(at, ",");
        if (n) json_array_append_new(targets, json_stringn(at, n));
        at += n + (at[n] == ',');
    }
    int rc = write_json(dir, "adapter_config.json", root, err);
    json_decref(root);
    return rc;
}

int rot_decoder_save_adapter(const rot_decoder *decoder, const char *dir, rot_err *err)
{
    char path[PATH_BYTES];
    rot_safetensors_writer *writer = NULL;
    size_t n = 0;
    if (!decoder->n_lora) ROT_FAIL(err, ROT_ERR_USAGE, "the decoder has no adapter");
    ROT_TRY(rot_fs_mkdirs(dir, err));
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "adapter_model.safetensors", err));
    rot_tensor_decl *decls = rot_calloc(decoder->n_declared, sizeof *decls);
    const float **values = rot_calloc(decoder->n_declared, sizeof *values);
    int rc = 0;
    if (!decls || !values) {
        rc = rot_no_memory(err, decoder->n_declared * sizeof *decls, "tensors");
        goto done;
    }
    for (size_t i = 0; i < decoder->n_declared; i++) {
        const rot_declared *p = &decoder->declared[i];
        if (p->tensor) continue;
        values[n] = values_of(decoder, p);
        decls[n] = (rot_tensor_decl){p->name, ROT_T_F32, p->n_dims, {p->shape[0], p->shape[1]}};
        n++;
    }
    ROT_GO(rot_safetensors_create(path, decls, n, &writer, err));
    for (size_t i = 0; i < n; i++)
        ROT_GO(write_floats(writer, values[i], (size_t)(decls[i].shape[0] * decls[i].shape[1]),
                            ROT_T_F32, err));
    ROT_GO(rot_safetensors_finish(&writer, err));
    rc = write_adapter_config(decoder, dir, err);
done:
    rot_safetensors_abort(&writer);
    rot_free(decls);
    rot_free(values);
    return rc;
}

// Low-rank adapters: y += alpha / r * (dropout(x) A^T) B^T beside a linear.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/random.h"
#include "base/str.h"
#include "trainer/decoder_parts.h"

enum { PATH_BYTES = 4096 };

// As peft matches: a target names a module, or the end of its path behind a dot.
static bool ends_with(const char *module, const char *target, size_t n)
{
    size_t length = strlen(module);
    return length >= n && !strncmp(module + length - n, target, n) &&
           (length == n || module[length - n - 1] == '.');
}

bool rot_lora_wants(const rot_decoder *decoder, const char *module)
{
    const char *at = decoder->lora.r ? decoder->lora.targets : "";
    while (*at) {
        size_t n = strcspn(at, ",");
        if (n && ends_with(module, at, n)) return true;
        at += n + (at[n] == ',');
    }
    return false;
}

static bool any_module_is(const rot_decoder *decoder, const char *target, size_t n)
{
    for (int layer = 0; layer < decoder->shape.info.layers; layer++) {
        const rot_decoder_block *b = &decoder->blocks[layer];
        const rot_decoder_linear *all[] = {&b->qkv, &b->o, &b->up, &b->down};
        for (size_t i = 0; i < 4; i++)
            for (int part = 0; part < all[i]->n_parts; part++)
                if (all[i]->lora[part].a && ends_with(all[i]->lora[part].module, target, n))
                    return true;
    }
    return false;
}

int rot_lora_check_targets(const rot_decoder *decoder, rot_err *err)
{
    for (const char *at = decoder->lora.r ? decoder->lora.targets : ""; *at;) {
        size_t n = strcspn(at, ",");
        if (n && !any_module_is(decoder, at, n))
            ROT_FAIL(err, ROT_ERR_USAGE, "LoRA: no linear of %s is called '%.*s'",
                     decoder->shape.info.model_type, (int)n, at);
        at += n + (at[n] == ',');
    }
    return 0;
}

// r, alpha and targets of the folder's adapter_config.json become those of the decoder.
int rot_lora_read_config(rot_decoder *decoder, const char *adapter, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *root = NULL;
    int64_t r;
    rot_str targets = {0};
    ROT_TRY(rot_fs_join(path, sizeof path, adapter, "adapter_config.json", err));
    ROT_TRY(rot_json_read(path, false, &root, err));
    int rc = rot_json_int(root, "r", 1, 1 << 16, NULL, &r, path, err);
    if (rc < 0) goto done;
    const json_t *alpha = json_object_get(root, "lora_alpha");
    const json_t *names = json_object_get(root, "target_modules");
    if (!json_is_number(alpha) || !json_is_array(names))
        ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: 'lora_alpha' or 'target_modules' is missing", path);
    if (json_is_true(json_object_get(root, "use_dora")) ||
        json_is_true(json_object_get(root, "use_rslora")))
        ROT_FAIL_GO(err, ROT_ERR_UNSUPPORTED, "%s: DoRA and rsLoRA are not supported", path);
    static const char *const patterns[] = {"alpha_pattern", "rank_pattern"};
    for (int i = 0; i < 2; i++)
        if (json_object_size(json_object_get(root, patterns[i])))
            ROT_FAIL_GO(err, ROT_ERR_UNSUPPORTED, "%s: '%s' is not supported", path, patterns[i]);
    if (decoder->lora.r && decoder->lora.r != r)
        ROT_FAIL_GO(err, ROT_ERR_USAGE, "%s has r = %d, the options %d", path, (int)r,
                    decoder->lora.r);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        rot_str_printf(&targets, "%s%s", i ? "," : "", name ? name : "");
    }
    decoder->lora.r = (int)r;
    decoder->lora.alpha = json_number_value(alpha);
    decoder->lora.targets =
        targets.failed ? NULL : rot_arena_strdup(&decoder->names, targets.text ? targets.text : "");
    if (!decoder->lora.targets) rc = rot_no_memory(err, targets.n_bytes, "targets");
done:
    rot_str_free(&targets);
    json_decref(root);
    return rc;
}

static float scale_of(const rot_decoder *decoder)
{
    return (float)(decoder->lora.alpha / decoder->lora.r);
}

// torch's kaiming_uniform_(a = sqrt 5): uniform within 1 / sqrt(n_in).
static void initialise(const rot_decoder *decoder, rot_lora *lora)
{
    uint64_t key = rot_random_key(rot_random_key(decoder->lora.seed, lora->layer), lora->name);
    double bound = 1 / sqrt((double)lora->n_in);
    for (size_t i = 0; i < (size_t)decoder->lora.r * lora->n_in; i++)
        lora->a[i] = (float)((2 * rot_random_unit(key, i) - 1) * bound);
}

static int load_matrix(const rot_safetensors *file, const char *path, const char *module,
                       const char *which, size_t rows, size_t columns, float *out, rot_err *err)
{
    char name[512];
    snprintf(name, sizeof name, "base_model.model.%s.lora_%s.weight", module, which);
    const rot_tensor *tensor = rot_safetensors_find(file, name);
    if (!tensor) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s is missing", path, name);
    if (tensor->n_dims != 2 || (size_t)tensor->shape[0] != rows ||
        (size_t)tensor->shape[1] != columns || tensor->type > ROT_T_BF16)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s is not %zu x %zu floats", path, name, rows, columns);
    rot_tensor_to_f32(tensor, 0, rows * columns, out);
    for (size_t i = 0; i < rows * columns; i++)
        if (!isfinite(out[i]))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: element %zu is not finite", path, name, i);
    return 0;
}

int rot_lora_start(rot_decoder *decoder, const char *adapter, rot_err *err)
{
    char path[PATH_BYTES];
    rot_safetensors *file = NULL;
    int rc = 0;
    size_t r = (size_t)decoder->lora.r, n = 0;
    if (adapter) {
        ROT_TRY(rot_fs_join(path, sizeof path, adapter, "adapter_model.safetensors", err));
        ROT_GO(rot_safetensors_open(path, &file, err));
    }
    for (int layer = 0; layer < decoder->shape.info.layers; layer++) {
        rot_decoder_block *b = &decoder->blocks[layer];
        rot_decoder_linear *all[] = {&b->qkv, &b->o, &b->up, &b->down};
        for (size_t i = 0; i < 4; i++)
            for (int part = 0; part < all[i]->n_parts; part++) {
                rot_lora *l = &all[i]->lora[part];
                if (!l->a) continue;
                n += 2;
                if (file) {
                    ROT_GO(load_matrix(file, path, l->module, "A", r, l->n_in, l->a, err));
                    ROT_GO(load_matrix(file, path, l->module, "B", l->n_out, r, l->b, err));
                } else
                    initialise(decoder, l);
            }
    }
    if (file && rot_safetensors_count(file) != n)
        ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: %zu tensors, the model's targets have %zu", path,
                    rot_safetensors_count(file), n);
done:
    rot_safetensors_close(&file);
    return rc;
}

int rot_lora_update(rot_decoder *decoder, rot_lora *lora, rot_err *err)
{
    rot_train *t = decoder->train;
    size_t r = (size_t)decoder->lora.r;
    ROT_TRY(t->ops->weight_set(t, lora->wa, 0, r, lora->a, lora->n_in, false, err));
    return t->ops->weight_set(t, lora->wb, 0, lora->n_out, lora->b, r, false, err);
}

// The keys of this module's masks; whether there are any.
static bool masks(const rot_decoder *decoder, const rot_lora *lora, const rot_pass *pass)
{
    if (!pass->keys || decoder->lora.dropout <= 0) return false;
    for (size_t r = 0; r < pass->rows; r++)
        pass->module_keys[r] =
            rot_random_key(rot_random_key(pass->keys[r], lora->layer), lora->name);
    return true;
}

static const float *drop(const rot_decoder *decoder, const rot_lora *lora, const rot_pass *pass,
                         const float *x)
{
    if (!masks(decoder, lora, pass)) return x;
    decoder->train->ops->dropout(decoder->train, pass->rows, lora->n_in, decoder->lora.dropout,
                                 pass->module_keys, x, lora->n_in, false, pass->work.dropped,
                                 lora->n_in);
    return pass->work.dropped;
}

// work.t (rows, r) = scale * dropout(x) A^T
static int reduce(const rot_decoder *decoder, const rot_lora *lora, const rot_pass *pass,
                  const float *x, rot_err *err)
{
    rot_train *t = decoder->train;
    size_t r = (size_t)decoder->lora.r;
    ROT_TRY(
        t->ops->linear(t, lora->wa, pass->rows, x, lora->n_in, NULL, false, pass->work.t, r, err));
    t->ops->scale(t, pass->rows * r, scale_of(decoder), pass->work.t);
    return 0;
}

int rot_lora_forward(const rot_decoder *decoder, const rot_lora *lora, const rot_pass *pass,
                     const float *x, float *y, size_t y_stride, rot_err *err)
{
    rot_train *t = decoder->train;
    ROT_TRY(reduce(decoder, lora, pass, drop(decoder, lora, pass, x), err));
    return t->ops->linear(t, lora->wb, pass->rows, pass->work.t, (size_t)decoder->lora.r, NULL,
                          true, y + lora->first, y_stride, err);
}

int rot_lora_backward(const rot_decoder *decoder, const rot_lora *lora, const rot_pass *pass,
                      const float *x, const float *dy, size_t dy_stride, float *dx, rot_err *err)
{
    rot_train *t = decoder->train;
    const rot_train_ops *ops = t->ops;
    const rot_block_work *w = &pass->work;
    size_t r = (size_t)decoder->lora.r, rows = pass->rows, n_in = lora->n_in;
    const float *dropped = drop(decoder, lora, pass, x);
    dy += lora->first;
    ROT_TRY(reduce(decoder, lora, pass, dropped, err));
    ROT_TRY(ops->outer(t, rows, lora->n_out, r, dy, dy_stride, w->t, r, lora->db, r, err));
    ROT_TRY(ops->linear_back(t, lora->wb, rows, dy, dy_stride, false, w->t, r, err));
    ops->scale(t, rows * r, scale_of(decoder), w->t);
    ROT_TRY(ops->outer(t, rows, r, n_in, w->t, r, dropped, n_in, lora->da, n_in, err));
    if (dropped == x) return ops->linear_back(t, lora->wa, rows, w->t, r, true, dx, n_in, err);
    ROT_TRY(ops->linear_back(t, lora->wa, rows, w->t, r, false, w->ddropped, n_in, err));
    ops->dropout(t, rows, n_in, decoder->lora.dropout, pass->module_keys, w->ddropped, n_in, true,
                 dx, n_in);
    return 0;
}

// The parameters of a decoder: declared in a fixed order, given memory, read from the checkpoint.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "trainer/decoder_parts.h"

enum { NAME_BYTES = 512 };

__attribute__((format(printf, 2, 3))) static const char *name_of(rot_decoder *decoder,
                                                                 const char *format, ...)
{
    char text[NAME_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return rot_arena_strdup(&decoder->names, text);
}

static int check_tensor(const rot_tensor *tensor, int n_dims, const int64_t *shape, rot_err *err)
{
    bool fits = tensor->n_dims == n_dims;
    for (int i = 0; fits && i < n_dims; i++) fits = tensor->shape[i] == shape[i];
    char want[64] = "", have[128] = "";
    for (int i = 0, at = 0; i < n_dims; i++)
        at += snprintf(want + at, sizeof want - (size_t)at, "%s%lld", i ? ", " : "",
                       (long long)shape[i]);
    for (int i = 0, at = 0; i < tensor->n_dims && at < 100; i++)
        at += snprintf(have + at, sizeof have - (size_t)at, "%s%lld", i ? ", " : "",
                       (long long)tensor->shape[i]);
    if (!fits)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s is (%s), the config wants (%s)", tensor->file,
                 tensor->name, have, want);
    if (tensor->type != ROT_T_F32 && tensor->type != ROT_T_F16 && tensor->type != ROT_T_BF16)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s is of type %s, not F32, F16 or BF16", tensor->file,
                 tensor->name, rot_tensor_type_name(tensor->type));
    return 0;
}

static int find_tensor(rot_decoder *decoder, const char *name, int n_dims, const int64_t *shape,
                       const rot_tensor **out, rot_err *err)
{
    *out = rot_safetensors_find(decoder->file, name);
    if (!*out) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: tensor %s is missing", decoder->dir, name);
    decoder->shape.info.n_parameters += (int64_t)(*out)->n_elements;
    return check_tensor(*out, n_dims, shape, err);
}

// A parameter of the checkpoint (tensor given) or an adapter's.
static int declare(rot_decoder *decoder, const char *name, const rot_tensor *tensor, bool trained,
                   int n_dims, const int64_t *shape, float **value, float **grad, rot_err *err)
{
    if (!name) return rot_no_memory(err, NAME_BYTES, "a name");
    ROT_TRY(rot_grow(&decoder->declared, &decoder->declared_capacity, decoder->n_declared + 1,
                     sizeof *decoder->declared, err));
    rot_declared p = {name, tensor, trained, n_dims, {0}, 1, value, grad};
    for (int i = 0; i < n_dims; i++) p.shape[i] = shape[i], p.n *= (size_t)shape[i];
    decoder->declared[decoder->n_declared++] = p;
    return 0;
}

static int declare_tensor(rot_decoder *decoder, const char *name, bool trained, int n_dims,
                          const int64_t *shape, float **value, float **grad, rot_err *err)
{
    const rot_tensor *tensor;
    if (!name) return rot_no_memory(err, NAME_BYTES, "a name");
    ROT_TRY(find_tensor(decoder, name, n_dims, shape, &tensor, err));
    return declare(decoder, name, tensor, trained, n_dims, shape, value, grad, err);
}

static int declare_norm(rot_decoder *decoder, const char *path, int64_t width, bool beta,
                        rot_decoder_norm *norm, rot_err *err)
{
    bool trained = decoder->train_all;
    ROT_TRY(declare_tensor(decoder, name_of(decoder, "%s.weight", path), trained, 1, &width,
                           &norm->gamma, &norm->dgamma, err));
    if (!beta) return 0;
    return declare_tensor(decoder, name_of(decoder, "%s.bias", path), trained, 1, &width,
                          &norm->beta, &norm->dbeta, err);
}

static int declare_lora(rot_decoder *decoder, rot_lora *lora, rot_err *err)
{
    int64_t r = decoder->lora.r, a[] = {r, (int64_t)lora->n_in}, b[] = {(int64_t)lora->n_out, r};
    const char *format = "base_model.model.%s.lora_%c.weight";
    ROT_TRY(declare(decoder, name_of(decoder, format, lora->module, 'A'), NULL, true, 2, a,
                    &lora->a, &lora->da, err));
    decoder->n_lora++;
    return declare(decoder, name_of(decoder, format, lora->module, 'B'), NULL, true, 2, b, &lora->b,
                   &lora->db, err);
}

// `names` of n parts within layer `layer`, out[i] rows each. Masters of the parts are declared one
// behind the other, so that they are one matrix; `first_name` numbers them for dropout's masks.
static int declare_linear(rot_decoder *decoder, int layer, const char *const *names, int n,
                          const int64_t *out, int64_t n_in, bool bias, uint64_t first_name,
                          rot_decoder_linear *l, rot_err *err)
{
    char in_layer[NAME_BYTES];
    snprintf(in_layer, sizeof in_layer, decoder->family->layer, layer);
    *l =
        (rot_decoder_linear){.n_in = (size_t)n_in, .conv1d = decoder->family->conv1d, .n_parts = n};
    for (int i = 0; i < n; i++) {
        l->parts_out[i] = (size_t)out[i];
        l->n_out += (size_t)out[i];
    }
    for (int i = 0; i < n; i++) {
        int64_t shape[] = {out[i], n_in};
        if (l->conv1d) shape[0] = n_in, shape[1] = out[i];
        const char *name = name_of(decoder, "%s%s%s.weight", decoder->prefix, in_layer, names[i]);
        const rot_tensor *tensor;
        if (!name) return rot_no_memory(err, NAME_BYTES, "a name");
        ROT_TRY(find_tensor(decoder, name, 2, shape, &tensor, err));
        if (decoder->train_all)
            ROT_TRY(declare(decoder, name, tensor, true, 2, shape, i ? NULL : &l->value,
                            i ? NULL : &l->grad, err));
    }
    for (int i = 0; i < n && bias; i++)
        ROT_TRY(declare_tensor(
            decoder, name_of(decoder, "%s%s%s.bias", decoder->prefix, in_layer, names[i]),
            decoder->train_all, 1, &out[i], i ? NULL : &l->bias, i ? NULL : &l->bias_grad, err));
    size_t first = 0;
    for (int i = 0; i < n; first += (size_t)out[i++]) {
        rot_lora *lora = &l->lora[i];
        const char *module =
            name_of(decoder, "%s%s%s", decoder->family->prefixes[0], in_layer, names[i]);
        if (!module) return rot_no_memory(err, NAME_BYTES, "a name");
        if (!rot_lora_wants(decoder, module)) continue;
        *lora = (rot_lora){.module = module,
                           .n_in = (size_t)n_in,
                           .n_out = (size_t)out[i],
                           .first = first,
                           .layer = (uint64_t)layer,
                           .name = first_name + (uint64_t)i};
        ROT_TRY(declare_lora(decoder, lora, err));
    }
    return 0;
}

static int declare_block(rot_decoder *decoder, int layer, rot_err *err)
{
    const rot_decoder_family *f = decoder->family;
    const rot_decoder_info *s = &decoder->shape.info;
    rot_decoder_block *b = &decoder->blocks[layer];
    char path[NAME_BYTES], in_layer[64];
    int64_t d = s->d, dim = s->head_dim, q = s->heads * dim, kv = s->kv_heads * dim;
    int64_t fused = q + 2 * kv, qkv[] = {q, kv, kv}, up[] = {s->mlp_width, s->mlp_width};
    bool split = f->qkv[1] != NULL, beta = f->layer_norm, bias = decoder->shape.attention_bias;
    bool mlp_bias = decoder->shape.mlp_bias;
    snprintf(in_layer, sizeof in_layer, f->layer, layer);

    snprintf(path, sizeof path, "%s%s%s", decoder->prefix, in_layer, f->attention_norm);
    ROT_TRY(declare_norm(decoder, path, d, beta, &b->attention_norm, err));
    ROT_TRY(declare_linear(decoder, layer, f->qkv, split ? 3 : 1, split ? qkv : &fused, d, bias, 0,
                           &b->qkv, err));
    if (f->qk_norm) {
        snprintf(path, sizeof path, "%s%s%s", decoder->prefix, in_layer, f->q_norm);
        ROT_TRY(declare_norm(decoder, path, dim, false, &b->q_norm, err));
        snprintf(path, sizeof path, "%s%s%s", decoder->prefix, in_layer, f->k_norm);
        ROT_TRY(declare_norm(decoder, path, dim, false, &b->k_norm, err));
    }
    ROT_TRY(declare_linear(decoder, layer, &f->o, 1, &d, q, bias, 3, &b->o, err));
    snprintf(path, sizeof path, "%s%s%s", decoder->prefix, in_layer, f->mlp_norm);
    ROT_TRY(declare_norm(decoder, path, d, beta, &b->mlp_norm, err));
    ROT_TRY(
        declare_linear(decoder, layer, f->up, f->gelu ? 1 : 2, up, d, mlp_bias, 4, &b->up, err));
    return declare_linear(decoder, layer, &f->down, 1, &d, s->mlp_width, mlp_bias, 6, &b->down,
                          err);
}

// The extra rows belong to the parameter, not to the tensor.
static int declare_rows(rot_decoder *decoder, const char *name, bool trained,
                        const rot_tensor **tensor, float **value, float **grad, rot_err *err)
{
    const rot_decoder_info *s = &decoder->shape.info;
    int64_t shape[] = {s->vocab, s->d};
    ROT_TRY(find_tensor(decoder, name, 2, shape, tensor, err));
    shape[0] = s->vocab + (int64_t)decoder->extra_rows;
    decoder->shape.info.n_parameters += (int64_t)decoder->extra_rows * s->d;
    return trained ? declare(decoder, name, *tensor, true, 2, shape, value, grad, err) : 0;
}

static int declare_all(rot_decoder *decoder, rot_err *err)
{
    const rot_decoder_family *f = decoder->family;
    const rot_decoder_info *s = &decoder->shape.info;
    char path[NAME_BYTES];
    const char *name = NULL;
    for (int i = 0; i < 4 && f->prefixes[i]; i++) {
        decoder->prefix = f->prefixes[i];
        name = name_of(decoder, "%s%s.weight", decoder->prefix, f->embedding);
        if (!name) return rot_no_memory(err, NAME_BYTES, "a name");
        if (rot_safetensors_find(decoder->file, name)) break;
        if (i == 3 || !f->prefixes[i + 1])
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: tensor %s%s.weight is missing", decoder->dir,
                     f->prefixes[0], f->embedding);
    }
    ROT_TRY(declare_rows(decoder, name, decoder->train_embedding, &decoder->embedding,
                         &decoder->embedding_value, &decoder->embedding_grad, err));
    if (f->learned_positions) {
        int64_t shape[] = {s->positions, s->d};
        ROT_TRY(declare_tensor(
            decoder, name_of(decoder, "%s%s.weight", decoder->prefix, f->position_table),
            decoder->train_all, 2, shape, &decoder->position_table, &decoder->position_grad, err));
    }
    for (int layer = 0; layer < s->layers; layer++) ROT_TRY(declare_block(decoder, layer, err));
    snprintf(path, sizeof path, "%s%s", decoder->prefix, f->final_norm);
    ROT_TRY(declare_norm(decoder, path, s->d, f->layer_norm, &decoder->final_norm, err));
    if (s->tied) return 0;
    name = name_of(decoder, "%s.weight", f->head);
    if (!name) return rot_no_memory(err, NAME_BYTES, "a name");
    return declare_rows(decoder, name, decoder->train_all, &decoder->head_tensor,
                        &decoder->head_value, &decoder->head_grad, err);
}

// Memory for all that was declared: masters and gradients in one block each, in the same order.
static int place(rot_decoder *decoder, rot_err *err)
{
    const rot_train_ops *ops = decoder->train->ops;
    size_t n_frozen = 0, at = 0, frozen_at = 0;
    for (size_t i = 0; i < decoder->n_declared; i++) {
        const rot_declared *p = &decoder->declared[i];
        if (p->trained) {
            decoder->n_trained_floats += p->n;
            decoder->n_params++;
        } else
            n_frozen += p->n;
    }
    decoder->values = ops->alloc(decoder->train, decoder->n_trained_floats, "parameters", err);
    decoder->grads = ops->alloc(decoder->train, decoder->n_trained_floats, "gradients", err);
    decoder->frozen = ops->alloc(decoder->train, n_frozen, "parameters", err);
    decoder->params = rot_calloc(decoder->n_params + 1, sizeof *decoder->params);
    if (!decoder->values || !decoder->grads || !decoder->frozen || !decoder->params)
        return rot_no_memory(err, decoder->n_trained_floats * sizeof(float), "parameters");
    decoder->shape.info.n_trained = (int64_t)decoder->n_trained_floats;
    rot_param *param = decoder->params;
    for (size_t i = 0; i < decoder->n_declared; i++) {
        const rot_declared *p = &decoder->declared[i];
        float *value = p->trained ? decoder->values + at : decoder->frozen + frozen_at;
        float *grad = p->trained ? decoder->grads + at : NULL;
        if (p->value) *p->value = value;
        if (p->grad) *p->grad = grad;
        *(p->trained ? &at : &frozen_at) += p->n;
        if (p->trained) {
            *param = (rot_param){p->name, p->n_dims, {0}, p->n, value, grad};
            memcpy(param++->shape, p->shape, sizeof p->shape);
        }
    }
    return 0;
}

static int read_finite(const rot_tensor *tensor, size_t from, size_t n, float *out, rot_err *err)
{
    rot_tensor_to_f32(tensor, from, n, out);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: element %zu is not finite", tensor->file,
                     tensor->name, from + i);
    return 0;
}

// Rows [first, ..) of a weight from a frozen tensor, in pieces.
static int set_frozen(rot_decoder *decoder, rot_train_weight *weight, size_t first, size_t n_out,
                      size_t n_in, const rot_tensor *tensor, bool conv1d, rot_err *err)
{
    const rot_train_ops *ops = decoder->train->ops;
    size_t rows = conv1d ? n_out : ((size_t)1 << 20) / n_in + 1;
    if (rows > n_out) rows = n_out;
    float *piece = ops->alloc(decoder->train, rows * n_in, "a weight's rows", err);
    if (!piece) return ROT_ERR_NO_MEMORY;
    int rc = 0;
    for (size_t at = 0; at < n_out; at += rows) {
        size_t n = n_out - at < rows ? n_out - at : rows;
        ROT_GO(read_finite(tensor, at * n_in, n * n_in, piece, err));
        ROT_GO(ops->weight_set(decoder->train, weight, first + at, n, piece, conv1d ? n_out : n_in,
                               conv1d, err));
    }
done:
    ops->release(decoder->train, piece);
    return rc;
}

// The weight that products read, from the checkpoint; masters set theirs in rot_decoder_update.
static int make_weight(rot_decoder *decoder, int layer, const char *const *names,
                       rot_decoder_linear *l, rot_err *err)
{
    rot_train *t = decoder->train;
    size_t r = (size_t)decoder->lora.r, first = 0;
    char in_layer[64], name[NAME_BYTES];
    snprintf(in_layer, sizeof in_layer, decoder->family->layer, layer);
    ROT_TRY(t->ops->weight_new(t, l->n_out, l->n_in, &l->weight, err));
    for (int i = 0; i < l->n_parts; first += l->parts_out[i++]) {
        if (l->lora[i].module) {
            ROT_TRY(t->ops->weight_new(t, r, l->n_in, &l->lora[i].wa, err));
            ROT_TRY(t->ops->weight_new(t, l->parts_out[i], r, &l->lora[i].wb, err));
        }
        if (decoder->train_all) continue;
        snprintf(name, sizeof name, "%s%s%s.weight", decoder->prefix, in_layer, names[i]);
        ROT_TRY(set_frozen(decoder, l->weight, first, l->parts_out[i], l->n_in,
                           rot_safetensors_find(decoder->file, name), l->conv1d, err));
    }
    return 0;
}

static int make_weights(rot_decoder *decoder, rot_err *err)
{
    const rot_decoder_family *f = decoder->family;
    const rot_decoder_info *s = &decoder->shape.info;
    rot_train *t = decoder->train;
    for (int layer = 0; layer < s->layers; layer++) {
        rot_decoder_block *b = &decoder->blocks[layer];
        ROT_TRY(make_weight(decoder, layer, f->qkv, &b->qkv, err));
        ROT_TRY(make_weight(decoder, layer, &f->o, &b->o, err));
        ROT_TRY(make_weight(decoder, layer, f->up, &b->up, err));
        ROT_TRY(make_weight(decoder, layer, &f->down, &b->down, err));
    }
    size_t vocab = (size_t)s->vocab, d = (size_t)s->d, from = vocab - decoder->extra_rows;
    ROT_TRY(t->ops->weight_new(t, vocab, d, &decoder->head, err));
    if (s->tied ? decoder->embedding_value != NULL : decoder->head_value != NULL) return 0;
    const rot_tensor *tensor = s->tied ? decoder->embedding : decoder->head_tensor;
    ROT_TRY(set_frozen(decoder, decoder->head, 0, from, d, tensor, false, err));
    float *zeros = t->ops->alloc(t, decoder->extra_rows * d, "extra rows", err);
    if (!zeros) return ROT_ERR_NO_MEMORY;
    int rc = t->ops->weight_set(t, decoder->head, from, decoder->extra_rows, zeros, d, false, err);
    t->ops->release(t, zeros);
    return rc;
}

// Every number of a frozen embedding is looked at once, rows are read where they lie.
static int check_embedding(rot_decoder *decoder, rot_err *err)
{
    if (decoder->embedding_value || decoder->shape.info.tied) return 0;
    float piece[1024];
    for (size_t at = 0; at < decoder->embedding->n_elements; at += 1024) {
        size_t n = decoder->embedding->n_elements - at;
        ROT_TRY(read_finite(decoder->embedding, at, n < 1024 ? n : 1024, piece, err));
    }
    return 0;
}

int rot_decoder_load(rot_decoder *decoder, rot_err *err)
{
    ROT_TRY(declare_all(decoder, err));
    decoder->shape.info.vocab += (int32_t)decoder->extra_rows;
    ROT_TRY(place(decoder, err));
    for (size_t i = 0, at = 0, frozen_at = 0; i < decoder->n_declared; i++) {
        const rot_declared *p = &decoder->declared[i];
        float *value = p->trained ? decoder->values + at : decoder->frozen + frozen_at;
        *(p->trained ? &at : &frozen_at) += p->n;
        if (p->tensor) ROT_TRY(read_finite(p->tensor, 0, p->tensor->n_elements, value, err));
    }
    ROT_TRY(check_embedding(decoder, err));
    return make_weights(decoder, err);
}

// One block: x2 = x + attention(norm(x)), next = x2 + mlp(norm(x2)), and back.
#include "trainer/decoder_parts.h"

#include "base/err.h"
#include "base/random.h"

// Keys of what is dropped at one place of a layer; false: nothing is.
static bool drop_keys(const rot_decoder *decoder, const rot_pass *pass, int64_t layer,
                      rot_drop drop, double p)
{
    if (!decoder->dropout || !pass->keys || p <= 0) return false;
    for (size_t r = 0; r < pass->rows; r++)
        pass->module_keys[r] =
            rot_random_key(rot_random_key(pass->keys[r], (uint64_t)layer), (uint64_t)drop);
    return true;
}

bool rot_decoder_drop(const rot_decoder *decoder, const rot_pass *pass, int64_t layer,
                      rot_drop drop, double p, const float *x, bool add, float *y)
{
    size_t d = (size_t)decoder->shape.info.d;
    if (!drop_keys(decoder, pass, layer, drop, p)) return false;
    decoder->train->ops->dropout(decoder->train, pass->rows, d, p, pass->module_keys, x, d, add, y,
                                 d);
    return true;
}

static rot_train_attention attention_of(const rot_decoder *decoder, const rot_decoder_block *block,
                                        const rot_pass *pass)
{
    rot_train_attention a = pass->attention;
    a.dropout = decoder->shape.attention_dropout;
    if (drop_keys(decoder, pass, block - decoder->blocks, ROT_DROP_ATTENTION, a.dropout))
        a.keys = pass->module_keys;
    return a;
}

// y = linear(x), the adapters included.
static int linear(const rot_decoder *decoder, const rot_decoder_linear *l, const rot_pass *pass,
                  const float *x, bool add, float *y, rot_err *err)
{
    const rot_train_ops *ops = decoder->train->ops;
    ROT_TRY(ops->linear(decoder->train, l->weight, pass->rows, x, l->n_in, l->bias, add, y,
                        l->n_out, err));
    for (int i = 0; i < l->n_parts; i++)
        if (l->lora[i].a)
            ROT_TRY(rot_lora_forward(decoder, &l->lora[i], pass, x, y, l->n_out, err));
    return 0;
}

// y += dropout(linear(x)). work.norm is free: the linear before was the last to read it.
static int add_linear(const rot_decoder *decoder, const rot_decoder_block *block,
                      const rot_decoder_linear *l, rot_drop drop, const rot_pass *pass,
                      const float *x, float *y, rot_err *err)
{
    double p = decoder->shape.residual_dropout;
    bool drops = decoder->dropout && pass->keys && p > 0;
    ROT_TRY(linear(decoder, l, pass, x, !drops, drops ? pass->work.norm : y, err));
    rot_decoder_drop(decoder, pass, block - decoder->blocks, drop, p, pass->work.norm, true, y);
    return 0;
}

// The gradient of the linear's result in add_linear: work.dx, or in work.dnorm what of it counts.
static const float *dropped_back(const rot_decoder *decoder, const rot_decoder_block *block,
                                 rot_drop drop, const rot_pass *pass)
{
    const rot_block_work *w = &pass->work;
    return rot_decoder_drop(decoder, pass, block - decoder->blocks, drop,
                            decoder->shape.residual_dropout, w->dx, false, w->dnorm)
               ? w->dnorm
               : w->dx;
}

// dx (rows, n_in) from dy, and the gradients of what trains.
static int linear_back(const rot_decoder *decoder, const rot_decoder_linear *l,
                       const rot_pass *pass, const float *x, const float *dy, float *dx,
                       rot_err *err)
{
    rot_train *t = decoder->train;
    const rot_train_ops *ops = t->ops;
    size_t n_in = l->n_in, n_out = l->n_out;
    if (l->grad && l->conv1d)
        ROT_TRY(ops->outer(t, pass->rows, n_in, n_out, x, n_in, dy, n_out, l->grad, n_out, err));
    else if (l->grad)
        ROT_TRY(ops->outer(t, pass->rows, n_out, n_in, dy, n_out, x, n_in, l->grad, n_in, err));
    if (l->bias_grad) ops->column_sums(t, pass->rows, n_out, dy, n_out, l->bias_grad);
    ROT_TRY(ops->linear_back(t, l->weight, pass->rows, dy, n_out, false, dx, n_in, err));
    for (int i = 0; i < l->n_parts; i++)
        if (l->lora[i].a)
            ROT_TRY(rot_lora_backward(decoder, &l->lora[i], pass, x, dy, n_out, dx, err));
    return 0;
}

void rot_decoder_norm_forward(const rot_decoder *decoder, const rot_decoder_norm *norm, size_t rows,
                              const float *x, float *y)
{
    size_t d = (size_t)decoder->shape.info.d;
    rot_train_vectors shape = {rows, 1, d, d, d};
    float eps = (float)decoder->shape.eps;
    if (decoder->family->layer_norm)
        decoder->train->ops->layer_norm(decoder->train, shape, eps, x, norm->gamma, norm->beta, y);
    else
        decoder->train->ops->rms_norm(decoder->train, shape, eps, x, norm->gamma, y);
}

int rot_decoder_norm_back(const rot_decoder *decoder, const rot_decoder_norm *norm, size_t rows,
                          const float *x, const float *dy, bool add, float *dx, rot_err *err)
{
    size_t d = (size_t)decoder->shape.info.d;
    rot_train_vectors shape = {rows, 1, d, d, d};
    rot_train *t = decoder->train;
    float eps = (float)decoder->shape.eps;
    if (decoder->family->layer_norm)
        return t->ops->layer_norm_back(t, shape, eps, x, norm->gamma, dy, add, dx, norm->dgamma,
                                       norm->dbeta, err);
    return t->ops->rms_norm_back(t, shape, eps, x, norm->gamma, dy, add, dx, norm->dgamma, err);
}

// q (rows, heads, head_dim) and the cache's new rows, out of qkv.
static void split(const rot_decoder *decoder, const rot_decoder_block *block, const rot_pass *pass,
                  const rot_block_state *state, void *k, void *v, bool again)
{
    const rot_train_ops *ops = decoder->train->ops;
    rot_train *t = decoder->train;
    const rot_decoder_info *info = &decoder->shape.info;
    size_t dim = (size_t)info->head_dim, heads = (size_t)info->heads, rows = pass->rows;
    size_t kv_heads = (size_t)info->kv_heads, q_width = heads * dim, kv_width = kv_heads * dim;
    size_t stride = q_width + 2 * kv_width;
    float eps = (float)decoder->shape.eps, *cos = pass->work.cosines, *sin = pass->work.sines;
    const float *k_in = state->qkv + q_width;
    if (block->q_norm.gamma) {
        rot_train_vectors q_shape = {rows, heads, dim, stride, q_width};
        rot_train_vectors k_shape = {rows, kv_heads, dim, stride, kv_width};
        ops->rms_norm(t, q_shape, eps, state->qkv, block->q_norm.gamma, state->q);
        if (!again) ops->rms_norm(t, k_shape, eps, k_in, block->k_norm.gamma, pass->work.k);
    } else {
        ops->take(t, rows, q_width, state->qkv, stride, state->q, q_width);
        if (!again) ops->take(t, rows, kv_width, k_in, stride, pass->work.k, kv_width);
    }
    bool turn = !decoder->family->learned_positions;
    if (turn) ops->rope(t, rows, heads, dim / 2, cos, sin, false, state->q, q_width);
    if (again) return;
    if (turn) ops->rope(t, rows, kv_heads, dim / 2, cos, sin, false, pass->work.k, kv_width);
    ops->cache_put(t, rows, kv_width, pass->work.k, kv_width, pass->cache_rows, k);
    ops->cache_put(t, rows, kv_width, k_in + kv_width, stride, pass->cache_rows, v);
}

static void activate(const rot_decoder *decoder, const rot_pass *pass, const float *gu, float *act)
{
    const rot_train_ops *ops = decoder->train->ops;
    size_t width = (size_t)decoder->shape.info.mlp_width;
    if (decoder->family->gelu)
        ops->gelu(decoder->train, pass->rows, width, gu, act);
    else
        ops->swiglu(decoder->train, pass->rows, width, gu, act);
}

int rot_block_forward(rot_decoder *decoder, const rot_decoder_block *block, const rot_pass *pass,
                      const rot_block_state *state, void *k, void *v, bool again, float *next,
                      rot_err *err)
{
    const rot_train_ops *ops = decoder->train->ops;
    rot_train *t = decoder->train;
    const rot_block_work *w = &pass->work;
    size_t rows = pass->rows, n = rows * (size_t)decoder->shape.info.d;
    rot_decoder_norm_forward(decoder, &block->attention_norm, rows, state->x, w->norm);
    ROT_TRY(linear(decoder, &block->qkv, pass, w->norm, false, state->qkv, err));
    split(decoder, block, pass, state, k, v, again);
    rot_train_attention attention = attention_of(decoder, block, pass);
    ROT_TRY(ops->attention(t, &attention, state->q, k, v, state->o, state->lse, err));
    if (state->x2 != state->x) ops->copy(t, n, state->x, state->x2);
    ROT_TRY(
        add_linear(decoder, block, &block->o, ROT_DROP_RESIDUAL, pass, state->o, state->x2, err));
    rot_decoder_norm_forward(decoder, &block->mlp_norm, rows, state->x2, w->norm);
    ROT_TRY(linear(decoder, &block->up, pass, w->norm, false, state->gu, err));
    if (!next) return 0;
    activate(decoder, pass, state->gu, w->act);
    if (next != state->x2) ops->copy(t, n, state->x2, next);
    return add_linear(decoder, block, &block->down, ROT_DROP_MLP, pass, w->act, next, err);
}

// dqkv from work.dq and the rows of dk, dv.
static int split_back(const rot_decoder *decoder, const rot_decoder_block *block,
                      const rot_pass *pass, const rot_block_state *state, const float *dk,
                      const float *dv, rot_err *err)
{
    const rot_train_ops *ops = decoder->train->ops;
    rot_train *t = decoder->train;
    const rot_decoder_info *info = &decoder->shape.info;
    const rot_block_work *w = &pass->work;
    size_t dim = (size_t)info->head_dim, heads = (size_t)info->heads, rows = pass->rows;
    size_t kv_heads = (size_t)info->kv_heads, q_width = heads * dim, kv_width = kv_heads * dim;
    size_t stride = q_width + 2 * kv_width;
    float eps = (float)decoder->shape.eps, *dk_out = w->dqkv + q_width;
    ops->gather(t, rows, kv_width, dk, kv_width, pass->cache_rows, false, w->k, kv_width);
    ops->gather(t, rows, kv_width, dv, kv_width, pass->cache_rows, false, dk_out + kv_width,
                stride);
    if (!decoder->family->learned_positions) {
        ops->rope(t, rows, heads, dim / 2, w->cosines, w->sines, true, w->dq, q_width);
        ops->rope(t, rows, kv_heads, dim / 2, w->cosines, w->sines, true, w->k, kv_width);
    }
    if (!block->q_norm.gamma) {
        ops->take(t, rows, q_width, w->dq, q_width, w->dqkv, stride);
        ops->take(t, rows, kv_width, w->k, kv_width, dk_out, stride);
        return 0;
    }
    rot_train_vectors q_shape = {rows, heads, dim, stride, q_width};
    rot_train_vectors k_shape = {rows, kv_heads, dim, stride, kv_width};
    ROT_TRY(ops->rms_norm_back(t, q_shape, eps, state->qkv, block->q_norm.gamma, w->dq, false,
                               w->dqkv, block->q_norm.dgamma, err));
    return ops->rms_norm_back(t, k_shape, eps, state->qkv + q_width, block->k_norm.gamma, w->k,
                              false, dk_out, block->k_norm.dgamma, err);
}

int rot_block_backward(rot_decoder *decoder, rot_decoder_block *block, const rot_pass *pass,
                       const rot_block_state *state, const void *k, const void *v, float *dk,
                       float *dv, rot_err *err)
{
    const rot_train_ops *ops = decoder->train->ops;
    rot_train *t = decoder->train;
    const rot_block_work *w = &pass->work;
    size_t rows = pass->rows, width = (size_t)decoder->shape.info.mlp_width;

    activate(decoder, pass, state->gu, w->act);
    const float *dy = dropped_back(decoder, block, ROT_DROP_MLP, pass);
    ROT_TRY(linear_back(decoder, &block->down, pass, w->act, dy, w->dact, err));
    if (decoder->family->gelu)
        ops->gelu_back(t, rows, width, state->gu, w->dact, w->dgu);
    else
        ops->swiglu_back(t, rows, width, state->gu, w->dact, w->dgu);
    rot_decoder_norm_forward(decoder, &block->mlp_norm, rows, state->x2, w->norm);
    ROT_TRY(linear_back(decoder, &block->up, pass, w->norm, w->dgu, w->dnorm, err));
    ROT_TRY(rot_decoder_norm_back(decoder, &block->mlp_norm, rows, state->x2, w->dnorm, true, w->dx,
                                  err));

    dy = dropped_back(decoder, block, ROT_DROP_RESIDUAL, pass);
    ROT_TRY(linear_back(decoder, &block->o, pass, state->o, dy, w->d_o, err));
    rot_train_attention attention = attention_of(decoder, block, pass);
    ROT_TRY(ops->attention_back(t, &attention, pass->first, state->q, k, v, state->o, state->lse,
                                w->d_o, w->dq, dk, dv, err));
    ROT_TRY(split_back(decoder, block, pass, state, dk, dv, err));
    rot_decoder_norm_forward(decoder, &block->attention_norm, rows, state->x, w->norm);
    ROT_TRY(linear_back(decoder, &block->qkv, pass, w->norm, w->dqkv, w->dnorm, err));
    return rot_decoder_norm_back(decoder, &block->attention_norm, rows, state->x, w->dnorm, true,
                                 w->dx, err);
}

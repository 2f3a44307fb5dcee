// One walk over a vision tower; what differs between models is data (encoder/family.h).
#include "encoder/tower.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/mem.h"
#include "encoder/tower_parts.h"

int rot_tower_supports(const char *model_type, rot_err *err)
{
    if (rot_tower_family_of(model_type)) return 0;
    char known[256];
    rot_tower_families_list(known, sizeof known);
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "model_type \"%s\" has no vision tower here; there are: %s",
             model_type, known);
}

static const char *const stage_names[N_STAGES] = {
    [STAGE_TABLES] = "position tables",
    [STAGE_UPLOAD] = "upload",
    [STAGE_PATCH] = "patch embedding",
    [STAGE_NORM] = "norm",
    [STAGE_QKV] = "q, k, v",
    [STAGE_ROPE] = "rotation, split",
    [STAGE_ATTENTION] = "attention",
    [STAGE_PROJ] = "projection",
    [STAGE_FC1] = "mlp fc1 + gelu",
    [STAGE_GATE] = "mlp gate",
    [STAGE_FC2] = "mlp fc2",
    [STAGE_MERGER] = "merger",
    [STAGE_TAPS] = "deepstack mergers",
    [STAGE_DOWNLOAD] = "download",
};

const rot_encoder_stage *rot_tower_stages(const rot_tower *tower, size_t *n)
{
    *n = N_STAGES;
    return tower->stages;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void rot_tower_profile(rot_tower *tower, bool on)
{
    tower->profiled = on;
}

// Books the time since *since and moves it on.
static void book(rot_tower *tower, int stage, double *since, double work)
{
    const rot_backend_ops *ops = tower->backend->ops;
    rot_err ignored; // the backend keeps its failure and tells it when results are asked for
    if (tower->profiled && ops->synchronise) (void)ops->synchronise(tower->backend, &ignored);
    double t = now();
    tower->stages[stage].name = stage_names[stage];
    tower->stages[stage].seconds += t - *since;
    tower->stages[stage].work += work;
    *since = t;
}

static int linear(rot_tower *tower, int stage, double *since, const rot_linear *weight, size_t n_in,
                  size_t n_out, size_t rows, const rot_buffer *in, rot_buffer *out, rot_err *err)
{
    ROT_TRY(tower->backend->ops->linear(tower->backend, weight, rows, in, out, err));
    book(tower, stage, since, 2.0 * (double)rows * (double)n_in * (double)n_out);
    return 0;
}

typedef struct planned {
    rot_buffer **buffer;
    rot_elem elem;
    size_t rows, width;
} planned;
enum { N_BUFFERS = 12 + ROT_MAX_LISTED };

// The buffers for `rows` patch rows.
static size_t plan_buffers(rot_tower *tower, size_t rows, planned out[N_BUFFERS])
{
    const rot_vision_config *c = &tower->config;
    const size_t width = (size_t)c->width, cell = (size_t)(c->merge * c->merge),
                 half = width / (size_t)c->heads / 2, mlp = (size_t)c->mlp_width;
    size_t hidden = mlp, n = 0; // the merger's middle lies there too
    if (hidden < (tower->between + cell - 1) / cell) hidden = (tower->between + cell - 1) / cell;
    if (rows < tower->backend->batch_rows) rows = tower->backend->batch_rows;
    rows = (rows + cell - 1) / cell * cell;
    const planned all[] = {
        {&tower->pixels, ROT_ELEM_ACT, rows, tower->patch_values},
        {&tower->x, ROT_ELEM_F32, rows, width},
        {&tower->h, ROT_ELEM_ACT, rows, width},
        {&tower->qkv, ROT_ELEM_ACT, rows, 3 * width},
        {&tower->q, ROT_ELEM_ACT, rows, width},
        {&tower->k, ROT_ELEM_ACT, rows, width},
        {&tower->v, ROT_ELEM_ACT, rows, width},
        {&tower->hidden, ROT_ELEM_ACT, rows, hidden},
        {&tower->cosines, ROT_ELEM_F32, rows, half},
        {&tower->sines, ROT_ELEM_F32, rows, half},
        {&tower->merger.out, ROT_ELEM_ACT, rows / cell, (size_t)c->out_width},
    };
    for (; n < sizeof all / sizeof *all; n++) out[n] = all[n];
    if (tower->family->gated) out[n++] = (planned){&tower->gates, ROT_ELEM_ACT, rows, 2 * mlp};
    for (int i = 0; i < tower->n_taps; i++)
        out[n++] = (planned){&tower->taps[i].out, ROT_ELEM_ACT, rows / cell, (size_t)c->out_width};
    return n;
}

uint64_t rot_tower_buffer_bytes(rot_tower *tower, size_t rows)
{
    planned all[N_BUFFERS];
    const size_t n = plan_buffers(tower, rows, all),
                 act = tower->backend->precision == ROT_PRECISION_BF16 ? 2 : 4;
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += (uint64_t)all[i].rows * all[i].width * (all[i].elem == ROT_ELEM_F32 ? 4 : act);
    return bytes;
}

// Kept between calls, made anew when a batch needs more. On a device of its own they are made for
// the largest batch at once.
int rot_tower_reserve(rot_tower *tower, size_t rows, rot_err *err)
{
    planned all[N_BUFFERS];
    rot_backend *b = tower->backend;
    if (rows <= tower->capacity) return 0;
    rot_tower_free_buffers(tower);
    const size_t n = plan_buffers(tower, rows, all);
    for (size_t i = 0; i < n; i++)
        ROT_TRY(b->ops->buffer_new(b, all[i].elem, all[i].rows, all[i].width, all[i].buffer, err));
    tower->capacity = all[0].rows;
    return 0;
}

size_t rot_tower_rows(const rot_tower *tower)
{
    enum {
        BUDGET = 64 << 20
    }; // bytes of activations: larger batches gain nothing and leave the caches
    const rot_vision_config *c = &tower->config;
    if (tower->backend->batch_rows) return tower->backend->batch_rows;
    size_t act = tower->backend->precision == ROT_PRECISION_BF16 ? 2 : 4;
    size_t per_row =
        4 * (size_t)c->width +
        act * (7 * (size_t)c->width + (tower->family->gated ? 3 : 1) * (size_t)c->mlp_width) +
        (act + 4) * tower->patch_values;
    size_t rows = BUDGET / per_row;
    return rows < 256 ? 256 : rows;
}

// Of x seen as (rows, width).
static void norm_wide(rot_tower *tower, const rot_tower_norm *weights, size_t rows, size_t width,
                      rot_buffer *to)
{
    rot_backend *b = tower->backend;
    float eps = tower->config.norm_eps;
    if (tower->family->rms)
        b->ops->rms_norm(b, rows, width, eps, tower->x, weights->gamma, to);
    else
        b->ops->layer_norm(b, rows, width, eps, tower->x, weights->gamma, weights->beta, to);
}

static void norm(rot_tower *tower, const rot_tower_norm *weights, size_t rows, rot_buffer *to,
                 double *since)
{
    norm_wide(tower, weights, rows, (size_t)tower->config.width, to);
    book(tower, STAGE_NORM, since, 0);
}

// x += fc2(act(fc1(norm2(x)))), or fc2(silu(gate) * up)
static int run_mlp(rot_tower *tower, const rot_tower_block *block, size_t rows, double *since,
                   rot_err *err)
{
    rot_backend *b = tower->backend;
    size_t width = (size_t)tower->config.width, mlp = (size_t)tower->config.mlp_width;
    norm(tower, &block->norm2, rows, tower->h, since);
    if (!tower->family->gated)
        ROT_TRY(linear(tower, STAGE_FC1, since, block->fc1, width, mlp, rows, tower->h,
                       tower->hidden, err));
    else {
        ROT_TRY(linear(tower, STAGE_FC1, since, block->fc1, width, 2 * mlp, rows, tower->h,
                       tower->gates, err));
        b->ops->swiglu(b, rows, mlp, tower->gates, tower->hidden);
        book(tower, STAGE_GATE, since, 0);
    }
    return linear(tower, STAGE_FC2, since, block->fc2, mlp, width, rows, tower->hidden, tower->x,
                  err);
}

// x += proj(attention(norm1(x))), then the MLP
static int run_block(rot_tower *tower, const rot_tower_block *block, const rot_tower_order *order,
                     double *since, rot_err *err)
{
    rot_backend *b = tower->backend;
    const rot_vision_config *c = &tower->config;
    const rot_starts *starts = block->windows ? &order->windows : &order->full;
    rot_segments segments = {starts->at, (int32_t)starts->n};
    size_t rows = order->rows, width = (size_t)c->width;
    rot_heads heads = {c->heads, c->width / c->heads};
    norm(tower, &block->norm1, rows, tower->h, since);
    if (b->ops->linear_split && heads.head_dim == ROT_SPLIT_DIM) {
        ROT_TRY(b->ops->linear_split(b, block->qkv, tower->h, &segments, heads, tower->cosines,
                                     tower->sines, tower->q, tower->k, tower->v, err));
        book(tower, STAGE_QKV, since, 6.0 * (double)rows * (double)width * (double)width);
    } else {
        ROT_TRY(linear(tower, STAGE_QKV, since, block->qkv, width, 3 * width, rows, tower->h,
                       tower->qkv, err));
        b->ops->rope_split(b, &segments, heads, tower->qkv, tower->cosines, tower->sines, tower->q,
                           tower->k, tower->v);
        book(tower, STAGE_ROPE, since, 0);
    }
    float scale = 1.0f / sqrtf((float)heads.head_dim);
    ROT_TRY(
        b->ops->attention(b, &segments, heads, scale, tower->q, tower->k, tower->v, tower->h, err));
    book(tower, STAGE_ATTENTION, since, 4.0 * starts->pairs * (double)width);
    ROT_TRY(
        linear(tower, STAGE_PROJ, since, block->proj, width, width, rows, tower->h, tower->x, err));
    return run_mlp(tower, block, rows, since, err);
}

// h = the rows of x that the output is made of, in its order, without a norm.
static int pick_features(rot_tower *tower, const rot_tower_order *order, double *since,
                         rot_err *err)
{
    rot_backend *b = tower->backend;
    size_t width = (size_t)tower->config.width, n_bytes = order->rows * width * sizeof(float);
    float *x = rot_aligned_malloc(n_bytes); // (rows, width)
    if (!x) return rot_no_memory(err, n_bytes, "features");
    b->ops->download(b, tower->x, 0, order->rows, x);
    rot_tower_upload_runs(tower, tower->h, &order->features, width, x);
    rot_free(x);
    book(tower, STAGE_UPLOAD, since, 0);
    return 0;
}

// out = fc2(gelu(fc1(h seen as (tokens, 4 width))))
static int run_products(rot_tower *tower, int stage, const rot_tower_merger *m, size_t tokens,
                        double *since, rot_err *err)
{
    const rot_vision_config *c = &tower->config;
    size_t wide = (size_t)(c->merge * c->merge) * (size_t)c->width;
    ROT_TRY(linear(tower, stage, since, m->fc1, wide, tower->between, tokens, tower->h,
                   tower->hidden, err));
    return linear(tower, stage, since, m->fc2, tower->between, (size_t)c->out_width, tokens,
                  tower->hidden, m->out, err);
}

// The norm comes before four rows are seen as one.
static int run_merger(rot_tower *tower, const rot_tower_order *order, double *since, rot_err *err)
{
    if (tower->family->merger_norm)
        norm(tower, &tower->merger.norm, order->rows, tower->h, since);
    else
        ROT_TRY(pick_features(tower, order, since, err));
    return run_products(tower, STAGE_MERGER, &tower->merger, order->tokens, since, err);
}

// The norm comes after four rows are seen as one. transformers 4.57.6, Qwen3VLVisionPatchMerger
// with use_postshuffle_norm.
static int run_tap(rot_tower *tower, const rot_tower_merger *tap, const rot_tower_order *order,
                   double *since, rot_err *err)
{
    const rot_vision_config *c = &tower->config;
    size_t wide = (size_t)(c->merge * c->merge) * (size_t)c->width;
    norm_wide(tower, &tap->norm, order->tokens, wide, tower->h);
    return run_products(tower, STAGE_TAPS, tap, order->tokens, since, err);
}

// Output `plane` of every merged token: 0 the embedding, then the taps. From `rows`, where they
// were received, or if that is NULL from the buffer.
static void take_plane(rot_tower *tower, const rot_tower_order *order, const unsigned char *rows,
                       const rot_buffer *from, int plane, unsigned char *out)
{
    rot_backend *b = tower->backend;
    const size_t bytes =
        (size_t)tower->config.out_width * (b->precision == ROT_PRECISION_BF16 ? 2 : 4);
    const size_t stride = bytes * (size_t)(1 + tower->n_taps);
    for (size_t i = 0; i < order->out.n; i++) {
        const rot_run *run = &order->out.at[i];
        const size_t pieces = stride == bytes ? 1 : run->n, n = run->n / pieces;
        for (size_t k = 0; k < pieces; k++) {
            unsigned char *to = out + (run->to + k) * stride + (size_t)plane * bytes;
            if (rows)
                memcpy(to, rows + (run->from + k) * bytes, n * bytes);
            else
                b->ops->download(b, from, run->from + k, n, to);
        }
    }
}

static void take(rot_tower *tower, const rot_tower_order *order, const unsigned char *rows,
                 void *out)
{
    const size_t width = (size_t)tower->config.out_width;
    const bool bf16 = tower->backend->precision == ROT_PRECISION_BF16;
    const size_t plane_bytes = order->tokens * width * (bf16 ? 2 : 4);
    for (int i = 0; i <= tower->n_taps; i++)
        take_plane(tower, order, rows ? rows + (size_t)i * plane_bytes : NULL,
                   i ? tower->taps[i - 1].out : tower->merger.out, i, out);
    for (size_t i = 0; i < order->newlines.n; i++)
        for (size_t c = 0; c < width; c++) {
            size_t at = order->newlines.at[i].to * width + c; // runs of one row: rows are between
            if (bf16)
                ((uint16_t *)out)[at] = rot_f32_to_bf16(tower->newline[c]);
            else
                ((float *)out)[at] = tower->newline[c];
        }
}

int rot_tower_finish(rot_tower *tower, int slot, void *out, rot_err *err)
{
    const void *rows = NULL;
    double since = now();
    if (tower->backend->ops->receive)
        ROT_TRY(tower->backend->ops->receive(tower->backend, slot, &rows, err));
    take(tower, &tower->orders[slot], rows, out);
    book(tower, STAGE_DOWNLOAD, &since, 0);
    return 0;
}

static int send(rot_tower *tower, const rot_tower_order *order, int slot, rot_err *err)
{
    rot_backend *b = tower->backend;
    rot_buffer *planes[1 + ROT_MAX_LISTED];
    if (!b->ops->send) return 0;
    planes[0] = tower->merger.out;
    for (int i = 0; i < tower->n_taps; i++) planes[1 + i] = tower->taps[i].out;
    return b->ops->send(b, planes, 1 + tower->n_taps, order->tokens, slot, err);
}

// Only where patches keep their order.
bool rot_tower_cuts(const rot_tower *tower)
{
    return tower->backend->ops->cut && !tower->config.window_px && !tower->config.tile_px;
}

int rot_tower_start(rot_tower *tower, int slot, const rot_tower_input *input, const rot_grid *grids,
                    size_t n, rot_err *err)
{
    double since = now();
    const rot_vision_config *c = &tower->config;
    rot_tower_order *order = &tower->orders[slot];
    rot_tower_order_free(order);
    ROT_TRY(rot_tower_order_make(c, grids, n, order, err));
    ROT_TRY(rot_tower_reserve(tower, order->rows, err));
    ROT_TRY(rot_tower_upload_tables(tower, grids, n, order, err));
    book(tower, STAGE_TABLES, &since, 0);
    if (input->pixels)
        rot_tower_upload_runs(tower, tower->pixels, &order->in, tower->patch_values, input->pixels);
    else
        ROT_TRY(tower->backend->ops->cut(tower->backend, input->images, n, input->cut,
                                         tower->pixels, err));
    book(tower, STAGE_UPLOAD, &since, 0);
    ROT_TRY(linear(tower, STAGE_PATCH, &since, tower->patch, tower->patch_values, (size_t)c->width,
                   order->rows, tower->pixels, tower->x, err));
    if (tower->family->pre_norm) norm(tower, &tower->pre_norm, order->rows, tower->x, &since);
    for (int i = 0, tap = 0; i < c->used_depth; i++) {
        ROT_TRY(run_block(tower, &tower->blocks[i], order, &since, err));
        if (tap < tower->n_taps && tower->taps[tap].block == i)
            ROT_TRY(run_tap(tower, &tower->taps[tap++], order, &since, err));
    }
    ROT_TRY(run_merger(tower, order, &since, err));
    return send(tower, order, slot, err);
}

int rot_tower_run(rot_tower *tower, const float *pixels, const rot_grid *grids, size_t n, void *out,
                  rot_err *err)
{
    if (n == 0) return 0;
    const rot_tower_input input = {.pixels = pixels};
    ROT_TRY(rot_tower_start(tower, 0, &input, grids, n, err));
    return rot_tower_finish(tower, 0, out, err);
}

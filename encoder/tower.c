// A vision tower as data and one walk over it. A family names what differs between models; another
// tower of the same kind is another row of the table.
#include "encoder/tower.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "encoder/tower_parts.h"

static const rot_tower_family families[] = {
    // transformers 4.57.6, models/qwen3_vl/modeling_qwen3_vl.py; the MoE models have the same tower
    {.model_types = {"qwen3_vl", "qwen3_vl_moe", "qwen3_vl_vision", "qwen3_vl_moe_vision"},
     .norm_eps = 1e-6f,
     .rope_theta = 10000.0,
     .mlp = ROT_EPILOGUE_GELU_TANH,
     .merger = ROT_EPILOGUE_GELU_ERF},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

const rot_tower_family *rot_tower_family_of(const char *model_type)
{
    for (int i = 0; i < N_FAMILIES; i++)
        for (int k = 0; k < ROT_FAMILY_TYPES && families[i].model_types[k]; k++)
            if (!strcmp(families[i].model_types[k], model_type)) return &families[i];
    return NULL;
}

int rot_tower_supports(const char *model_type, rot_err *err)
{
    if (rot_tower_family_of(model_type)) return 0;
    char known[256] = "";
    for (int i = 0; i < N_FAMILIES; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 families[i].model_types[0]);
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "model_type \"%s\" has no vision tower here; there are: %s",
             model_type, known);
}

static const char *const stage_names[N_STAGES] = {
    [STAGE_TABLES] = "position tables",
    [STAGE_UPLOAD] = "upload",
    [STAGE_PATCH] = "patch embedding",
    [STAGE_NORM] = "layer norm",
    [STAGE_QKV] = "q, k, v",
    [STAGE_ROPE] = "rotation, split",
    [STAGE_ATTENTION] = "attention",
    [STAGE_PROJ] = "projection",
    [STAGE_FC1] = "mlp fc1 + gelu",
    [STAGE_FC2] = "mlp fc2",
    [STAGE_MERGER] = "merger",
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

// Books the time since *since and moves it on.
static void book(rot_tower *tower, int stage, double *since, double work)
{
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

// Buffers for `rows` patch rows. Kept between calls, made anew when a batch needs more.
static int reserve(rot_tower *tower, size_t rows, rot_err *err)
{
    if (rows <= tower->capacity) return 0;
    rot_backend *b = tower->backend;
    const rot_vision_config *c = &tower->config;
    size_t width = (size_t)c->width, cell = (size_t)(c->merge * c->merge),
           half = width / (size_t)c->heads / 2;
    rot_tower_free_buffers(tower);
    rows = (rows + cell - 1) / cell * cell;
    const struct {
        rot_buffer **buffer;
        rot_elem elem;
        size_t rows, width;
    } plan[] = {
        {&tower->pixels, ROT_ELEM_ACT, rows, tower->patch_values},
        {&tower->x, ROT_ELEM_F32, rows, width},
        {&tower->h, ROT_ELEM_ACT, rows, width},
        {&tower->qkv, ROT_ELEM_ACT, rows, 3 * width},
        {&tower->q, ROT_ELEM_ACT, rows, width},
        {&tower->k, ROT_ELEM_ACT, rows, width},
        {&tower->v, ROT_ELEM_ACT, rows, width},
        {&tower->hidden, ROT_ELEM_ACT, rows,
         (size_t)c->mlp_width > width ? (size_t)c->mlp_width : width},
        {&tower->cosines, ROT_ELEM_F32, rows, half},
        {&tower->sines, ROT_ELEM_F32, rows, half},
        {&tower->out, ROT_ELEM_ACT, rows / cell, (size_t)c->out_width},
    };
    for (size_t i = 0; i < sizeof plan / sizeof *plan; i++)
        ROT_TRY(
            b->ops->buffer_new(b, plan[i].elem, plan[i].rows, plan[i].width, plan[i].buffer, err));
    tower->capacity = rows;
    return 0;
}

size_t rot_tower_rows(const rot_tower *tower)
{
    enum {
        BUDGET = 64 << 20
    }; // bytes of activations: larger batches gain nothing and leave the caches
    const rot_vision_config *c = &tower->config;
    size_t act = tower->backend->precision == ROT_PRECISION_BF16 ? 2 : 4;
    size_t per_row = 4 * (size_t)c->width + act * (7 * (size_t)c->width + (size_t)c->mlp_width) +
                     (act + 4) * tower->patch_values;
    size_t rows = BUDGET / per_row;
    return rows < 256 ? 256 : rows;
}

// The tables of one image, at its rows of the batch's.
static int image_tables(const rot_tower *tower, const rot_grid *grids, const rot_segments *segments,
                        int i, float *positions, float *cosines, float *sines, rot_err *err)
{
    const rot_vision_config *c = &tower->config;
    size_t width = (size_t)c->width, half = width / (size_t)c->heads / 2,
           row = (size_t)segments->starts[i];
    int h = grids[i].grid_h, w = grids[i].grid_w;
    rot_tower_positions(tower->positions, tower->side, c->width, c->merge, h, w,
                        positions + row * width);
    return rot_tower_rotations(tower->family->rope_theta, (int)(2 * half), c->merge, h, w,
                               cosines + row * half, sines + row * half, err);
}

static bool same_grid(const rot_grid *a, const rot_grid *b)
{
    return a->grid_h == b->grid_h && a->grid_w == b->grid_w;
}

// Uploads what depends on the grids alone: interpolated positions into x, to which the patch
// embedding adds, and the rotations. A grid is computed once per batch and copied to its other
// images.
static int upload_tables(rot_tower *tower, const rot_grid *grids, const rot_segments *segments,
                         rot_err *err)
{
    rot_backend *b = tower->backend;
    const rot_vision_config *c = &tower->config;
    size_t width = (size_t)c->width, half = width / (size_t)c->heads / 2,
           rows = (size_t)segments->starts[segments->n];
    size_t n_bytes = rows * (width + 2 * half) * sizeof(float);
    float *positions = rot_aligned_malloc(n_bytes); // (rows, width)
    if (!positions) return rot_no_memory(err, n_bytes, "position tables");
    float *cosines = positions + rows * width, *sines = cosines + rows * half; // (rows, half)
    int rc = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(b->threads)
    for (int i = 0; i < segments->n; i++) {
        bool first = true;
        for (int k = 0; k < i && first; k++) first = !same_grid(&grids[k], &grids[i]);
        rot_err mine;
        int status =
            first ? image_tables(tower, grids, segments, i, positions, cosines, sines, &mine) : 0;
        if (status < 0) {
#pragma omp critical(rot_tower_tables)
            rc = rot_err_set(err, status, "%s", mine.message);
        }
    }
    for (int i = 1; i < segments->n && rc == 0; i++) {
        int k = 0;
        while (!same_grid(&grids[k], &grids[i])) k++;
        if (k == i) continue;
        size_t from = (size_t)segments->starts[k], to = (size_t)segments->starts[i],
               n = (size_t)grids[i].n_patches;
        memcpy(positions + to * width, positions + from * width, n * width * sizeof *positions);
        memcpy(cosines + to * half, cosines + from * half, n * half * sizeof *cosines);
        memcpy(sines + to * half, sines + from * half, n * half * sizeof *sines);
    }
    if (rc == 0) {
        b->ops->upload(b, tower->x, 0, rows, positions);
        b->ops->upload(b, tower->cosines, 0, rows, cosines);
        b->ops->upload(b, tower->sines, 0, rows, sines);
    }
    rot_free(positions);
    return rc;
}

// x += proj(attention(norm1(x))); x += fc2(gelu(fc1(norm2(x))))
static int run_block(rot_tower *tower, const rot_tower_block *block, const rot_segments *segments,
                     double pairs, double *since, rot_err *err)
{
    rot_backend *b = tower->backend;
    const rot_vision_config *c = &tower->config;
    size_t rows = (size_t)segments->starts[segments->n], width = (size_t)c->width,
           mlp = (size_t)c->mlp_width;
    rot_heads heads = {c->heads, c->width / c->heads};
    float eps = tower->family->norm_eps;
    b->ops->layer_norm(b, rows, width, eps, tower->x, block->norm1.gamma, block->norm1.beta,
                       tower->h);
    book(tower, STAGE_NORM, since, 0);
    ROT_TRY(linear(tower, STAGE_QKV, since, block->qkv, width, 3 * width, rows, tower->h,
                   tower->qkv, err));
    b->ops->rope_split(b, segments, heads, tower->qkv, tower->cosines, tower->sines, tower->q,
                       tower->k, tower->v);
    book(tower, STAGE_ROPE, since, 0);
    float scale = 1.0f / sqrtf((float)heads.head_dim);
    ROT_TRY(
        b->ops->attention(b, segments, heads, scale, tower->q, tower->k, tower->v, tower->h, err));
    book(tower, STAGE_ATTENTION, since, 4.0 * pairs * (double)width);
    ROT_TRY(
        linear(tower, STAGE_PROJ, since, block->proj, width, width, rows, tower->h, tower->x, err));
    b->ops->layer_norm(b, rows, width, eps, tower->x, block->norm2.gamma, block->norm2.beta,
                       tower->h);
    book(tower, STAGE_NORM, since, 0);
    ROT_TRY(linear(tower, STAGE_FC1, since, block->fc1, width, mlp, rows, tower->h, tower->hidden,
                   err));
    return linear(tower, STAGE_FC2, since, block->fc2, mlp, width, rows, tower->hidden, tower->x,
                  err);
}

// out = fc2(gelu(fc1(norm(x) seen as (rows / 4, 4 width)))): the norm comes before the reshape
static int run_merger(rot_tower *tower, size_t rows, double *since, rot_err *err)
{
    rot_backend *b = tower->backend;
    const rot_vision_config *c = &tower->config;
    size_t cell = (size_t)(c->merge * c->merge), width = (size_t)c->width, wide = cell * width;
    b->ops->layer_norm(b, rows, width, tower->family->norm_eps, tower->x, tower->merger_norm.gamma,
                       tower->merger_norm.beta, tower->h);
    book(tower, STAGE_NORM, since, 0);
    ROT_TRY(linear(tower, STAGE_MERGER, since, tower->merger_fc1, wide, wide, rows / cell, tower->h,
                   tower->hidden, err));
    return linear(tower, STAGE_MERGER, since, tower->merger_fc2, wide, (size_t)c->out_width,
                  rows / cell, tower->hidden, tower->out, err);
}

// Offsets of the images in the packed batch, and the sum of squares of their lengths (for the
// work).
static int32_t *starts_of(const rot_grid *grids, size_t n, int merge, double *pairs, rot_err *err)
{
    int32_t *starts = rot_malloc((n + 1) * sizeof *starts);
    if (!starts) {
        rot_no_memory(err, (n + 1) * sizeof *starts, "a batch");
        return NULL;
    }
    starts[0] = 0;
    *pairs = 0;
    for (size_t i = 0; i < n; i++) {
        const rot_grid *g = &grids[i];
        if (g->grid_h < merge || g->grid_w < merge || g->grid_h % merge || g->grid_w % merge ||
            g->n_patches != g->grid_h * g->grid_w || g->n_patches > INT32_MAX - starts[i]) {
            rot_err_set(err, ROT_ERR_USAGE, "image %zu: a grid of %d x %d patches", i, g->grid_h,
                        g->grid_w);
            rot_free(starts);
            return NULL;
        }
        starts[i + 1] = starts[i] + g->n_patches;
        *pairs += (double)g->n_patches * g->n_patches;
    }
    return starts;
}

int rot_tower_run(rot_tower *tower, const float *pixels, const rot_grid *grids, size_t n, void *out,
                  rot_err *err)
{
    int rc = 0;
    double since = now(), pairs;
    if (n == 0) return 0;
    rot_backend *b = tower->backend;
    const rot_vision_config *c = &tower->config;
    int32_t *starts = starts_of(grids, n, c->merge, &pairs, err);
    if (!starts) return err->code;
    rot_segments segments = {starts, (int32_t)n};
    size_t rows = (size_t)starts[n];
    ROT_GO(reserve(tower, rows, err));
    ROT_GO(upload_tables(tower, grids, &segments, err));
    book(tower, STAGE_TABLES, &since, 0);
    b->ops->upload(b, tower->pixels, 0, rows, pixels);
    book(tower, STAGE_UPLOAD, &since, 0);
    ROT_GO(linear(tower, STAGE_PATCH, &since, tower->patch, tower->patch_values, (size_t)c->width,
                  rows, tower->pixels, tower->x, err));
    for (int i = 0; i < c->depth; i++)
        ROT_GO(run_block(tower, &tower->blocks[i], &segments, pairs, &since, err));
    ROT_GO(run_merger(tower, rows, &since, err));
    b->ops->download(b, tower->out, 0, rows / (size_t)(c->merge * c->merge), out);
    book(tower, STAGE_DOWNLOAD, &since, 0);
done:
    rot_free(starts);
    return rc;
}

// Loading: tensor by tensor from the checkpoint's map into the backend, so that no more than one
// tensor is ever held twice.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "encoder/tower_parts.h"

typedef struct loader {
    const rot_checkpoint *checkpoint;
    rot_tower *tower;
    rot_err *err;
} loader;

enum { NAME_BYTES = 128 };

// Elements of `tensor` as float32 in a new block, checked to be finite in the backend's precision.
static int read_floats(const loader *l, const char *name, size_t n, float **out)
{
    *out = NULL;
    const rot_tensor *tensor = rot_checkpoint_tensor(l->checkpoint, name);
    if (!tensor || tensor->n_elements != n)
        ROT_FAIL(l->err, ROT_ERR_FORMAT, "tensor %s: %zu elements instead of %zu", name,
                 tensor ? tensor->n_elements : 0, n);
    float *values = rot_aligned_malloc(n * sizeof *values);
    if (!values) return rot_no_memory(l->err, n * sizeof *values, name);
    // over the last bfloat16, or halfway from there to the next power of two, rounding gives
    // infinity
    bool bf16 = l->tower->backend->precision == ROT_PRECISION_BF16;
    float most = bf16 ? 0x1.fep127f : 0x1.fffffep127f;
    enum { PIECE = 1 << 16 };
    size_t n_pieces = (n + PIECE - 1) / PIECE, bad = SIZE_MAX;
#pragma omp parallel for schedule(static) num_threads(l->tower->backend->threads) reduction(min    \
                                                                                            : bad)
    for (size_t piece = 0; piece < n_pieces; piece++) {
        size_t from = piece * PIECE, to = n - from < PIECE ? n : from + PIECE;
        rot_tensor_to_f32(tensor, from, to - from, values + from);
        for (size_t i = from; i < to; i++)
            if (!(fabsf(values[i]) <= most) && i < bad) bad = i;
    }
    if (bad != SIZE_MAX) {
        int rc = rot_err_set(
            l->err, ROT_ERR_FORMAT, "%s: tensor %s: element %zu is %g, not a finite %s number",
            tensor->file, tensor->name, bad, (double)values[bad], bf16 ? "bf16" : "float");
        rot_free(values);
        return rc;
    }
    *out = values;
    return 0;
}

static int read_linear(const loader *l, const char *name, size_t n_in, size_t n_out,
                       rot_epilogue epilogue, rot_linear **out)
{
    int rc = 0;
    char full[NAME_BYTES];
    float *weight = NULL, *bias = NULL;
    snprintf(full, sizeof full, "%s.weight", name);
    ROT_GO(read_floats(l, full, n_in * n_out, &weight));
    snprintf(full, sizeof full, "%s.bias", name);
    ROT_GO(read_floats(l, full, n_out, &bias));
    rot_backend *b = l->tower->backend;
    ROT_GO(b->ops->linear_new(b, n_in, n_out, epilogue, weight, bias, out, l->err));
done:
    rot_free(weight);
    rot_free(bias);
    return rc;
}

static int read_vector(const loader *l, const char *name, size_t n, rot_buffer **out)
{
    float *values;
    rot_backend *b = l->tower->backend;
    ROT_TRY(read_floats(l, name, n, &values));
    int rc = b->ops->buffer_new(b, ROT_ELEM_F32, 1, n, out, l->err);
    if (rc == 0) b->ops->upload(b, *out, 0, 1, values);
    rot_free(values);
    return rc;
}

static int read_norm(const loader *l, const char *name, size_t n, rot_tower_norm *out)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s.weight", name);
    ROT_TRY(read_vector(l, full, n, &out->gamma));
    snprintf(full, sizeof full, "%s.bias", name);
    return read_vector(l, full, n, &out->beta);
}

static int read_block(const loader *l, int i, rot_tower_block *block)
{
    const rot_vision_config *c = &l->tower->config;
    size_t width = (size_t)c->width, mlp = (size_t)c->mlp_width;
    const rot_tower_family *family = l->tower->family;
    const struct {
        const char *name;
        size_t n_in, n_out;
        rot_epilogue epilogue;
        rot_linear **to;
    } parts[] = {
        {"attn.qkv", width, 3 * width, ROT_EPILOGUE_NONE, &block->qkv},
        {"attn.proj", width, width, ROT_EPILOGUE_ADD, &block->proj},
        {"mlp.linear_fc1", width, mlp, family->mlp, &block->fc1},
        {"mlp.linear_fc2", mlp, width, ROT_EPILOGUE_ADD, &block->fc2},
    };
    char name[NAME_BYTES / 2];
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        snprintf(name, sizeof name, "blocks.%d.%s", i, parts[p].name);
        ROT_TRY(
            read_linear(l, name, parts[p].n_in, parts[p].n_out, parts[p].epilogue, parts[p].to));
    }
    snprintf(name, sizeof name, "blocks.%d.norm1", i);
    ROT_TRY(read_norm(l, name, width, &block->norm1));
    snprintf(name, sizeof name, "blocks.%d.norm2", i);
    return read_norm(l, name, width, &block->norm2);
}

static int read_all(const loader *l)
{
    rot_tower *t = l->tower;
    const rot_vision_config *c = &t->config;
    size_t width = (size_t)c->width, wide = width * (size_t)(c->merge * c->merge);
    t->blocks = rot_calloc((size_t)c->depth, sizeof *t->blocks);
    if (!t->blocks) return rot_no_memory(l->err, (size_t)c->depth * sizeof *t->blocks, "a tower");
    // the convolution whose stride is its kernel: its flattened weight is a linear's
    ROT_TRY(
        read_linear(l, "patch_embed.proj", t->patch_values, width, ROT_EPILOGUE_ADD, &t->patch));
    ROT_TRY(read_floats(l, "pos_embed.weight", (size_t)c->n_positions * width, &t->positions));
    for (int i = 0; i < c->depth; i++) ROT_TRY(read_block(l, i, &t->blocks[i]));
    ROT_TRY(read_norm(l, "merger.norm", width, &t->merger_norm));
    ROT_TRY(read_linear(l, "merger.linear_fc1", wide, wide, t->family->merger, &t->merger_fc1));
    return read_linear(l, "merger.linear_fc2", wide, (size_t)c->out_width, ROT_EPILOGUE_NONE,
                       &t->merger_fc2);
}

int rot_tower_open(const rot_checkpoint *checkpoint, rot_backend *backend, rot_tower **out,
                   rot_err *err)
{
    *out = NULL;
    const rot_vision_config *c = rot_checkpoint_config(checkpoint);
    ROT_TRY(rot_tower_supports(c->model_type, err));
    rot_tower *tower = rot_calloc(1, sizeof *tower);
    if (!tower) return rot_no_memory(err, sizeof *tower, "a tower");
    tower->backend = backend;
    tower->family = rot_tower_family_of(c->model_type);
    tower->config = *c;
    tower->patch_values =
        (size_t)c->in_channels * (size_t)c->temporal * (size_t)c->patch_px * (size_t)c->patch_px;
    while ((tower->side + 1) * (tower->side + 1) <= c->n_positions) tower->side++;
    loader l = {checkpoint, tower, err};
    int rc = 0;
    if (c->heads < 1 || c->width % c->heads || c->width / c->heads % 4)
        rc = rot_err_set(
            err, ROT_ERR_FORMAT,
            "config.json: a width of %d with %d heads: heads must be a multiple of 4 wide",
            c->width, c->heads);
    else if (tower->side * tower->side != c->n_positions)
        rc = rot_err_set(err, ROT_ERR_FORMAT,
                         "config.json: num_position_embeddings %d is no square", c->n_positions);
    if (rc == 0) rc = read_all(&l);
    if (rc < 0) rot_tower_close(&tower);
    *out = tower;
    return rc;
}

static void free_norm(rot_backend *b, rot_tower_norm *norm)
{
    b->ops->buffer_free(b, norm->gamma);
    b->ops->buffer_free(b, norm->beta);
}

void rot_tower_free_buffers(rot_tower *tower)
{
    rot_buffer **all[] = {&tower->pixels,  &tower->x,     &tower->h,   &tower->q,
                          &tower->k,       &tower->v,     &tower->qkv, &tower->hidden,
                          &tower->cosines, &tower->sines, &tower->out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        tower->backend->ops->buffer_free(tower->backend, *all[i]);
        *all[i] = NULL;
    }
    tower->capacity = 0;
}

void rot_tower_close(rot_tower **tower)
{
    rot_tower *t = *tower;
    if (!t) return;
    rot_backend *b = t->backend;
    rot_tower_free_buffers(t);
    for (int i = 0; i < t->config.depth && t->blocks; i++) {
        rot_tower_block *block = &t->blocks[i];
        rot_linear *linears[] = {block->qkv, block->proj, block->fc1, block->fc2};
        for (int k = 0; k < 4; k++) b->ops->linear_free(b, linears[k]);
        free_norm(b, &block->norm1);
        free_norm(b, &block->norm2);
    }
    b->ops->linear_free(b, t->patch);
    b->ops->linear_free(b, t->merger_fc1);
    b->ops->linear_free(b, t->merger_fc2);
    free_norm(b, &t->merger_norm);
    rot_free(t->positions);
    rot_free(t->blocks);
    rot_free(t);
    *tower = NULL;
}

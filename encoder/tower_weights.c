// Loading: tensor by tensor from the checkpoint's map into the backend, so that no more than one
// tensor is ever held twice.
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "encoder/tower_parts.h"

typedef struct loader {
    const rot_checkpoint *checkpoint;
    rot_pack_cache *cache;
    rot_tower *tower;
    rot_err *err;
} loader;

enum { NAME_BYTES = 128, PIECE = 1 << 16 };

static bool is_bf16(const loader *l)
{
    return l->tower->backend->precision == ROT_PRECISION_BF16;
}

static int find(const loader *l, const char *name, size_t n, const rot_tensor **out)
{
    *out = rot_checkpoint_tensor(l->checkpoint, name);
    if (*out && (*out)->n_elements == n) return 0;
    ROT_FAIL(l->err, ROT_ERR_FORMAT, "tensor %s: %zu elements instead of %zu", name,
             *out ? (*out)->n_elements : 0, n);
}

static int not_finite(const loader *l, const rot_tensor *tensor, size_t element)
{
    float value;
    rot_tensor_to_f32(tensor, element, 1, &value);
    ROT_FAIL(l->err, ROT_ERR_FORMAT, "%s: tensor %s: element %zu is %g, not a finite %s number",
             tensor->file, tensor->name, element, (double)value, is_bf16(l) ? "bf16" : "float");
}

// Elements of `tensor` as float32 in a new block, checked to be finite in the backend's precision.
static int read_floats(const loader *l, const char *name, size_t n, float **out)
{
    *out = NULL;
    const rot_tensor *tensor;
    ROT_TRY(find(l, name, n, &tensor));
    float *values = rot_aligned_malloc(n * sizeof *values);
    if (!values) return rot_no_memory(l->err, n * sizeof *values, name);
    // over the last bfloat16, or halfway from there to the next power of two, rounding gives
    // infinity
    float most = is_bf16(l) ? 0x1.fep127f : 0x1.fffffep127f;
    size_t n_pieces = (n + PIECE - 1) / PIECE, bad = SIZE_MAX;
#pragma omp parallel for schedule(static) num_threads(l->tower->backend->threads) reduction(min    \
                                                                                            : bad)
    for (size_t piece = 0; piece < n_pieces; piece++) {
        size_t from = piece * PIECE, to = n - from < PIECE ? n : from + PIECE;
        rot_tensor_to_f32(tensor, from, to - from, values + from);
        for (size_t i = from; i < to; i++)
            if (!(fabsf(values[i]) <= most) && i < bad) bad = i;
    }
    rot_tensor_drop(tensor);
    if (bad != SIZE_MAX) {
        rot_free(values);
        return not_finite(l, tensor, bad);
    }
    *out = values;
    return 0;
}

// The same values as they lie in the file: bfloat16, at an even address.
static int check_bf16(const loader *l, const rot_tensor *tensor)
{
    const uint16_t *values = tensor->data;
    size_t n = tensor->n_elements, n_pieces = (n + PIECE - 1) / PIECE, bad = SIZE_MAX;
#pragma omp parallel for schedule(static) num_threads(l->tower->backend->threads) reduction(min    \
                                                                                            : bad)
    for (size_t piece = 0; piece < n_pieces; piece++) {
        size_t from = piece * PIECE, to = n - from < PIECE ? n : from + PIECE;
        uint16_t any = 0;
        for (size_t i = from; i < to; i++) any |= (uint16_t)((values[i] & 0x7f80) == 0x7f80);
        for (size_t i = from; any && i < to; i++)
            if ((values[i] & 0x7f80) == 0x7f80 && i < bad) bad = i;
    }
    return bad == SIZE_MAX ? 0 : not_finite(l, tensor, bad);
}

static void name_of(char out[NAME_BYTES], const char *format, int block, const char *ending)
{
    const char *number = strstr(format, "%d");
    if (number)
        snprintf(out, NAME_BYTES, "%.*s%d%s%s", (int)(number - format), format, block, number + 2,
                 ending);
    else
        snprintf(out, NAME_BYTES, "%s%s", format, ending);
}

// A linear is read from up to three tensors of the same n_in, one after another.
typedef struct linear_spec {
    const char *const *names;
    int n, block;
    size_t n_in, n_out;
    bool with_bias; // an absent one is 0
    rot_epilogue epilogue;
} linear_spec;

// The weight as the file has it, if the backend takes that: one tensor of bfloat16. NULL: it does
// not.
static const rot_tensor *direct_weight(const loader *l, const linear_spec *s)
{
    char full[NAME_BYTES];
    name_of(full, s->names[0], s->block, ".weight");
    const rot_tensor *tensor = rot_checkpoint_tensor(l->checkpoint, full);
    bool takes = l->tower->backend->ops->linear_new_bf16 && s->n == 1 && tensor &&
                 tensor->type == ROT_T_BF16 && tensor->n_elements == s->n_in * s->n_out;
    return takes && (uintptr_t)tensor->data % 2 == 0 ? tensor : NULL;
}

// Parts of (n_out / n) * width elements, one after another in a new block.
static int read_parts(const loader *l, const linear_spec *s, const char *ending, size_t width,
                      float **out)
{
    char full[NAME_BYTES];
    size_t part = s->n_out / (size_t)s->n * width;
    name_of(full, s->names[0], s->block, ending);
    if (s->n == 1) return read_floats(l, full, part, out);
    float *all = rot_aligned_malloc((size_t)s->n * part * sizeof *all);
    if (!all) return rot_no_memory(l->err, (size_t)s->n * part * sizeof *all, full);
    for (int i = 0; i < s->n; i++) {
        float *piece;
        name_of(full, s->names[i], s->block, ending);
        int rc = read_floats(l, full, part, &piece);
        if (rc < 0) {
            rot_free(all);
            return rc;
        }
        memcpy(all + (size_t)i * part, piece, part * sizeof *piece);
        rot_free(piece);
    }
    *out = all;
    return 0;
}

// From the file of packed weights, whose values were checked before it was written. *out NULL: it
// is not there.
static int take_linear(const loader *l, const linear_spec *s, const float *bias, rot_linear **out)
{
    rot_packed packed;
    rot_backend *b = l->tower->backend;
    *out = NULL;
    if (!rot_pack_cache_take(l->cache, s->n_in, s->n_out, s->epilogue, &packed)) return 0;
    int rc =
        b->ops->linear_new_packed(b, s->n_in, s->n_out, s->epilogue, &packed, bias, out, l->err);
    if (rc != ROT_ERR_UNSUPPORTED) return rc;
    rot_pack_cache_distrust(l->cache, "a weight does not lie as it is read here");
    return 0;
}

static int pack_linear(const loader *l, const linear_spec *s, const float *bias, rot_linear **out)
{
    float *weight = NULL;
    rot_tower *t = l->tower;
    rot_backend *b = t->backend;
    const rot_tensor *direct = direct_weight(l, s);
    if (direct)
        ROT_TRY(check_bf16(l, direct));
    else
        ROT_TRY(read_parts(l, s, ".weight", s->n_in, &weight));
    double start = omp_get_wtime();
    int rc = direct
                 ? b->ops->linear_new_bf16(b, s->n_in, s->n_out, s->epilogue, direct->data, bias,
                                           out, l->err)
                 : b->ops->linear_new(b, s->n_in, s->n_out, s->epilogue, weight, bias, out, l->err);
    t->packing_seconds += omp_get_wtime() - start;
    if (direct) rot_tensor_drop(direct);
    rot_free(weight);
    return rc;
}

static int read_linear(const loader *l, const linear_spec *s, rot_linear **out)
{
    int rc = 0;
    float *bias = NULL;
    if (s->with_bias)
        ROT_GO(read_parts(l, s, ".bias", 1, &bias));
    else if (!(bias = rot_calloc(s->n_out, sizeof *bias)))
        ROT_GO(rot_no_memory(l->err, s->n_out * sizeof *bias, "a bias"));
    ROT_GO(take_linear(l, s, bias, out));
    if (!*out) ROT_GO(pack_linear(l, s, bias, out));
    l->tower->weight_bytes += s->n_in * s->n_out * (is_bf16(l) ? 2 : 4);
    rc = rot_pack_cache_made(l->cache, *out, s->n_in, s->n_out, s->epilogue, l->err);
done:
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

static int read_wide_norm(const loader *l, const char *format, int block, size_t n,
                          rot_tower_norm *out)
{
    char full[NAME_BYTES];
    if (!format) return 0;
    name_of(full, format, block, ".weight");
    ROT_TRY(read_vector(l, full, n, &out->gamma));
    if (l->tower->family->rms) return 0;
    name_of(full, format, block, ".bias");
    return read_vector(l, full, n, &out->beta);
}

static int read_norm(const loader *l, const char *format, int block, rot_tower_norm *out)
{
    return read_wide_norm(l, format, block, (size_t)l->tower->config.width, out);
}

static int read_block(const loader *l, int i, rot_tower_block *block)
{
    const rot_vision_config *c = &l->tower->config;
    size_t width = (size_t)c->width, mlp = (size_t)c->mlp_width;
    const rot_tower_family *f = l->tower->family;
    const struct {
        linear_spec spec;
        rot_linear **to;
    } parts[] = {
        {{f->qkv, f->qkv[1] ? 3 : 1, i, width, 3 * width, true, ROT_EPILOGUE_NONE}, &block->qkv},
        {{&f->proj, 1, i, width, width, true, ROT_EPILOGUE_ADD}, &block->proj},
        {{f->mlp_in, f->gated ? 2 : 1, i, width, f->gated ? 2 * mlp : mlp, true, f->mlp},
         &block->fc1},
        {{&f->mlp_out, 1, i, mlp, width, true, ROT_EPILOGUE_ADD}, &block->fc2},
    };
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
        ROT_TRY(read_linear(l, &parts[p].spec, parts[p].to));
    block->windows = c->window_px > 0;
    for (int k = 0; k < c->n_full; k++) block->windows &= c->full[k] != i;
    ROT_TRY(read_norm(l, f->norm1, i, &block->norm1));
    return read_norm(l, f->norm2, i, &block->norm2);
}

// The class token lies where position 0 is.
static int read_positions(const loader *l)
{
    rot_tower *t = l->tower;
    size_t width = (size_t)t->config.width;
    float *class_token;
    if (!t->family->table) return 0;
    ROT_TRY(read_floats(l, t->family->table, (size_t)t->config.n_positions * width, &t->positions));
    rot_backend *b = t->backend;
    if (b->ops->interpolate && t->family->positions == ROT_POSITIONS_GRID &&
        !t->config.window_px) { // rows keep the order of the patches
        const size_t rows = (size_t)t->config.n_positions;
        ROT_TRY(b->ops->buffer_new(b, ROT_ELEM_F32, rows, width, &t->position_table, l->err));
        b->ops->upload(b, t->position_table, 0, rows, t->positions);
    }
    if (!t->family->class_token) return 0;
    ROT_TRY(read_floats(l, t->family->class_token, width, &class_token));
    for (size_t i = 0; i < width; i++) t->positions[i] += class_token[i];
    rot_free(class_token);
    return 0;
}

// 4 width -> between -> out_width
static int read_merger(const loader *l, const char *in, const char *out, int i,
                       rot_tower_merger *merger)
{
    const rot_tower *t = l->tower;
    const rot_vision_config *c = &t->config;
    size_t wide = (size_t)(c->merge * c->merge) * (size_t)c->width;
    linear_spec first = {&in, 1, i, wide, t->between, true, t->family->merger};
    linear_spec second = {&out, 1, i, t->between, (size_t)c->out_width, true, ROT_EPILOGUE_NONE};
    ROT_TRY(read_linear(l, &first, &merger->fc1));
    return read_linear(l, &second, &merger->fc2);
}

static int read_tap(const loader *l, int i, rot_tower_merger *tap)
{
    char names[3][NAME_BYTES];
    static const char *const endings[] = {".norm", ".linear_fc1", ".linear_fc2"};
    for (int k = 0; k < 3; k++)
        snprintf(names[k], NAME_BYTES, "%s%s", l->tower->family->tap, endings[k]);
    tap->block = l->tower->config.taps[i];
    ROT_TRY(read_wide_norm(l, names[0], i, l->tower->between, &tap->norm));
    return read_merger(l, names[1], names[2], i, tap);
}

// What linears take on a device, in bfloat16.
static uint64_t linear_bytes(const rot_tower *t)
{
    const rot_vision_config *c = &t->config;
    const uint64_t width = (uint64_t)c->width, mlp = (uint64_t)c->mlp_width, between = t->between,
                   merged = width * (uint64_t)(c->merge * c->merge),
                   block = 4 * width * width + (t->family->gated ? 3 : 2) * width * mlp,
                   merger = merged * between + between * (uint64_t)c->out_width;
    return 2 * (t->patch_values * width + (uint64_t)c->used_depth * block +
                (1 + (uint64_t)t->n_taps) * merger);
}

// Before anything is computed: whether a device has room. The buffers of its batches are made at
// once.
static int plan(const loader *l)
{
    rot_tower *t = l->tower;
    rot_backend *b = t->backend;
    if (!b->ops->plan) return 0;
    ROT_TRY(b->ops->plan(b, linear_bytes(t) + rot_tower_buffer_bytes(t, b->batch_rows), l->err));
    return rot_tower_reserve(t, b->batch_rows, l->err);
}

static int read_all(const loader *l)
{
    rot_tower *t = l->tower;
    const rot_vision_config *c = &t->config;
    const rot_tower_family *f = t->family;
    size_t width = (size_t)c->width, wide = width * (size_t)(c->merge * c->merge);
    t->blocks = rot_calloc((size_t)c->used_depth + 1, sizeof *t->blocks);
    if (!t->blocks) return rot_no_memory(l->err, (size_t)c->depth * sizeof *t->blocks, "a tower");
    t->between = f->merger_norm ? wide : (size_t)c->out_width;
    ROT_TRY(plan(l));
    // the convolution whose stride is its kernel: its flattened weight is a linear's
    linear_spec patch = {&f->patch, 1, 0, t->patch_values, width, f->patch_bias, ROT_EPILOGUE_ADD};
    ROT_TRY(read_linear(l, &patch, &t->patch));
    ROT_TRY(read_positions(l));
    ROT_TRY(read_norm(l, f->pre_norm, 0, &t->pre_norm));
    for (int i = 0; i < c->used_depth; i++) ROT_TRY(read_block(l, i, &t->blocks[i]));
    ROT_TRY(read_norm(l, f->merger_norm, 0, &t->merger.norm));
    ROT_TRY(read_merger(l, f->merger_in, f->merger_out, 0, &t->merger));
    for (int i = 0; i < t->n_taps; i++) ROT_TRY(read_tap(l, i, &t->taps[i]));
    if (!f->newline) return 0;
    return read_floats(l, f->newline, (size_t)c->out_width, &t->newline);
}

int rot_tower_open(const rot_checkpoint *checkpoint, rot_backend *backend, bool deepstack,
                   rot_pack_cache *cache, rot_tower **out, rot_err *err)
{
    *out = NULL;
    const rot_vision_config *c = rot_checkpoint_config(checkpoint);
    ROT_TRY(rot_tower_supports(c->model_type, err));
    rot_tower *tower = rot_calloc(1, sizeof *tower);
    if (!tower) return rot_no_memory(err, sizeof *tower, "a tower");
    tower->backend = backend;
    tower->packed = cache->map;
    cache->map = (rot_map){0};
    tower->family = rot_tower_family_of(c->model_type);
    tower->config = *c;
    tower->n_taps = deepstack ? c->n_taps : 0;
    tower->patch_values =
        (size_t)c->in_channels * (size_t)c->temporal * (size_t)c->patch_px * (size_t)c->patch_px;
    while ((tower->side + 1) * (tower->side + 1) <= c->n_positions) tower->side++;
    loader l = {checkpoint, cache, tower, err};
    int rc = read_all(&l);
    if (rc < 0)
        rot_tower_close(&tower);
    else
        rot_pack_cache_write(cache);
    *out = tower;
    return rc;
}

void rot_tower_loading(const rot_tower *tower, double *packing_seconds, size_t *weight_bytes)
{
    *packing_seconds = tower->packing_seconds;
    *weight_bytes = tower->weight_bytes;
}

static void free_norm(rot_backend *b, rot_tower_norm *norm)
{
    b->ops->buffer_free(b, norm->gamma);
    b->ops->buffer_free(b, norm->beta);
}

static void free_merger(rot_backend *b, rot_tower_merger *merger)
{
    b->ops->linear_free(b, merger->fc1);
    b->ops->linear_free(b, merger->fc2);
    free_norm(b, &merger->norm);
}

void rot_tower_free_buffers(rot_tower *tower)
{
    rot_buffer **all[] = {&tower->pixels, &tower->x,       &tower->h,     &tower->q,
                          &tower->k,      &tower->v,       &tower->qkv,   &tower->hidden,
                          &tower->gates,  &tower->cosines, &tower->sines, &tower->merger.out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        tower->backend->ops->buffer_free(tower->backend, *all[i]);
        *all[i] = NULL;
    }
    for (int i = 0; i < tower->n_taps; i++) {
        tower->backend->ops->buffer_free(tower->backend, tower->taps[i].out);
        tower->taps[i].out = NULL;
    }
    tower->capacity = 0;
}

void rot_tower_close(rot_tower **tower)
{
    rot_tower *t = *tower;
    if (!t) return;
    rot_backend *b = t->backend;
    rot_tower_free_buffers(t);
    for (int i = 0; i < 2; i++) rot_tower_order_free(&t->orders[i]);
    for (int i = 0; i < t->config.used_depth && t->blocks; i++) {
        rot_tower_block *block = &t->blocks[i];
        rot_linear *linears[] = {block->qkv, block->proj, block->fc1, block->fc2};
        for (int k = 0; k < 4; k++) b->ops->linear_free(b, linears[k]);
        free_norm(b, &block->norm1);
        free_norm(b, &block->norm2);
    }
    b->ops->linear_free(b, t->patch);
    free_merger(b, &t->merger);
    for (int i = 0; i < t->n_taps; i++) free_merger(b, &t->taps[i]);
    free_norm(b, &t->pre_norm);
    b->ops->buffer_free(b, t->position_table);
    rot_fs_unmap(&t->packed);
    rot_free(t->newline);
    rot_free(t->positions);
    rot_free(t->blocks);
    rot_free(t);
    *tower = NULL;
}

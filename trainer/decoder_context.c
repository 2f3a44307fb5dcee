// Sequences: their cache of keys and values, forward passes over new rows, the stack of saved
// passes and the way back through it.
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "trainer/decoder_parts.h"

// A saved pass. Its memory stays when the pass is gone, for the next one at this depth.
typedef struct saved {
    size_t rows;
    int32_t *counts, *past; // (n) each
    uint64_t *keys;         // (rows)
    bool dropout;
    float *block;
    size_t block_floats, keys_capacity;
} saved;

struct rot_context {
    rot_decoder *decoder;
    size_t n, n_most, cache_rows; // sequences, room for so many; rows of all
    bool keep_grad;
    int32_t *capacity, *length, *first; // (n)
    int32_t *past, *counts;             // (n) of the pass that runs
    size_t *base;                       // (n)
    float *k, *v;                       // the cache (layers, cache_rows, kv_heads * head_dim)
    float *dk, *dv;                     // of its shape
    size_t k_floats, v_floats, dk_floats, dv_floats;

    saved *stack;
    size_t depth, stack_capacity, stack_made;

    bool dropout;
    uint64_t dropout_seed, *dropout_keys; // (n)

    float *work; // of a pass
    size_t work_floats;
    int32_t *row_index; // (2, rows): cache rows, positions
    uint64_t *row_keys; // (2, rows): keys, module keys
    size_t row_index_capacity, row_keys_capacity;
};

static size_t kv_width(const rot_decoder *decoder)
{
    return (size_t)decoder->shape.info.kv_heads * (size_t)decoder->shape.info.head_dim;
}

static int allocate(rot_context *c, size_t most, rot_err *err)
{
    size_t n = most + 1;
    int32_t **ints[] = {&c->capacity, &c->length, &c->first, &c->past, &c->counts};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (!(*ints[i] = rot_calloc(n, sizeof **ints[i])))
            return rot_no_memory(err, n * sizeof **ints[i], "a context");
    c->base = rot_calloc(n, sizeof *c->base);
    c->dropout_keys = rot_calloc(n, sizeof *c->dropout_keys);
    if (!c->base || !c->dropout_keys) return rot_no_memory(err, n * sizeof *c->base, "a context");
    c->n_most = most;
    return 0;
}

// Leaves a context of no sequences.
static void release(rot_context *c)
{
    rot_train *t = c->decoder->train;
    for (size_t i = 0; i < c->stack_made; i++) {
        rot_free(c->stack[i].counts);
        rot_free(c->stack[i].past);
        rot_free(c->stack[i].keys);
        t->ops->release(t, c->stack[i].block);
    }
    float *blocks[] = {c->k, c->v, c->dk, c->dv, c->work};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) t->ops->release(t, blocks[i]);
    void *rest[] = {c->capacity, c->length, c->first,        c->past,      c->counts,
                    c->base,     c->stack,  c->dropout_keys, c->row_index, c->row_keys};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) rot_free(rest[i]);
    *c = (rot_context){.decoder = c->decoder, .keep_grad = c->keep_grad};
}

// Room for n floats; what was in the block is gone.
static int reserve(rot_context *c, float **block, size_t *floats, size_t n, const char *what,
                   rot_err *err)
{
    rot_train *t = c->decoder->train;
    if (n <= *floats) return 0;
    if (*floats) n += n / 8; // it grows: the next ones may be a bit larger still
    t->ops->release(t, *block);
    *floats = 0;
    *block = t->ops->alloc(t, n, what, err);
    if (!*block) return ROT_ERR_NO_MEMORY;
    *floats = n;
    return 0;
}

static int reserve_cache(rot_context *c, rot_err *err)
{
    size_t n = (size_t)c->decoder->shape.info.layers * c->cache_rows * kv_width(c->decoder);
    const char *what = "the cache of keys and values";
    size_t floats = (n * rot_train_cache_bytes(c->decoder->train) + 3) / sizeof(float);
    ROT_TRY(reserve(c, &c->k, &c->k_floats, floats, what, err));
    ROT_TRY(reserve(c, &c->v, &c->v_floats, floats, what, err));
    if (!c->keep_grad) return 0;
    ROT_TRY(reserve(c, &c->dk, &c->dk_floats, n, what, err));
    return reserve(c, &c->dv, &c->dv_floats, n, what, err);
}

static void *cache_of(const rot_context *c, float *all, int layer)
{
    size_t n = (size_t)layer * c->cache_rows * kv_width(c->decoder);
    return (unsigned char *)all + n * rot_train_cache_bytes(c->decoder->train);
}

int rot_context_reset(rot_context *c, size_t n, const int32_t *capacity, rot_err *err)
{
    if (n > c->n_most) {
        release(c);
        ROT_TRY(allocate(c, n, err));
    }
    c->n = n;
    c->depth = c->cache_rows = 0;
    c->dropout = false;
    for (size_t i = 0; i < n; i++) {
        if (capacity[i] < 0)
            ROT_FAIL(err, ROT_ERR_USAGE, "sequence %zu: a capacity of %d", i, capacity[i]);
        c->capacity[i] = capacity[i];
        c->length[i] = c->first[i] = 0;
        c->base[i] = c->cache_rows;
        c->cache_rows += (size_t)capacity[i];
    }
    if (c->cache_rows > INT32_MAX)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE, "a context of %zu rows", c->cache_rows);
    return reserve_cache(c, err);
}

int rot_context_open(rot_decoder *decoder, size_t n, const int32_t *capacity, bool keep_grad,
                     rot_context **out, rot_err *err)
{
    *out = rot_calloc(1, sizeof **out);
    if (!*out) return rot_no_memory(err, sizeof **out, "a context");
    **out = (rot_context){.decoder = decoder, .keep_grad = keep_grad};
    int rc = allocate(*out, n, err);
    if (rc == 0) rc = rot_context_reset(*out, n, capacity, err);
    if (rc < 0) rot_context_close(out);
    return rc;
}

void rot_context_close(rot_context **handle)
{
    if (*handle) release(*handle);
    rot_free(*handle);
    *handle = NULL;
}

void rot_context_dropout(rot_context *context, uint64_t seed, const uint64_t *keys)
{
    context->dropout = keys != NULL;
    context->dropout_seed = seed;
    if (keys && context->n) memcpy(context->dropout_keys, keys, context->n * sizeof *keys);
}

int32_t rot_context_length(const rot_context *context, size_t i)
{
    return context->length[i];
}

void rot_context_truncate(rot_context *context, const int32_t *lengths)
{
    for (size_t i = 0; i < context->n; i++)
        if (lengths[i] < context->length[i]) context->length[i] = lengths[i];
    context->depth = 0;
}

// Hands out pieces of a block; with NULL it counts.
static float *piece(float *block, size_t *at, size_t n)
{
    float *p = block ? block + *at : NULL;
    *at += (n + 15) / 16 * 16;
    return p;
}

// What one block keeps; with `x_alone` its input.
static rot_block_state lay_state(const rot_decoder *decoder, float *block, size_t *at, size_t rows,
                                 bool keep)
{
    const rot_decoder_info *s = &decoder->shape.info;
    size_t d = (size_t)s->d, q = (size_t)s->heads * (size_t)s->head_dim;
    rot_block_state state = {.x = piece(block, at, rows * d)};
    state.qkv = piece(block, at, rows * (q + 2 * kv_width(decoder)));
    state.q = piece(block, at, rows * q);
    state.o = piece(block, at, rows * q);
    state.lse = piece(block, at, rows * (size_t)s->heads);
    state.x2 = keep ? piece(block, at, rows * d) : state.x;
    state.gu = piece(block, at, rows * (size_t)s->mlp_width * (decoder->family->gelu ? 1 : 2));
    return state;
}

static rot_block_work lay_work(const rot_decoder *decoder, float *block, size_t *at, size_t rows,
                               bool backward)
{
    const rot_decoder_info *s = &decoder->shape.info;
    size_t d = (size_t)s->d, q = (size_t)s->heads * (size_t)s->head_dim, kv = kv_width(decoder);
    size_t mlp = (size_t)s->mlp_width, widest = mlp > q ? mlp : q, r = (size_t)decoder->lora.r;
    if (d > widest) widest = d;
    rot_block_work w = {.norm = piece(block, at, rows * d), .k = piece(block, at, rows * kv)};
    w.act = piece(block, at, rows * mlp);
    w.cosines = piece(block, at, rows * (size_t)s->head_dim / 2);
    w.sines = piece(block, at, rows * (size_t)s->head_dim / 2);
    if (r) w.t = piece(block, at, rows * r);
    if (r && decoder->lora.dropout > 0) w.dropped = piece(block, at, rows * widest);
    if (!backward) return w;
    w.dnorm = piece(block, at, rows * d);
    w.dx = piece(block, at, rows * d);
    w.dact = piece(block, at, rows * mlp);
    w.dqkv = piece(block, at, rows * (q + 2 * kv));
    w.dq = piece(block, at, rows * q);
    w.d_o = piece(block, at, rows * q);
    w.dgu = piece(block, at, rows * mlp * (decoder->family->gelu ? 1 : 2));
    if (r && decoder->lora.dropout > 0) w.ddropped = piece(block, at, rows * widest);
    return w;
}

// What a saved pass keeps: state of every layer, or (checkpointing) its input alone, and the last
// layer's output.
static size_t kept_floats(const rot_decoder *decoder, size_t rows)
{
    size_t at = 0, d = (size_t)decoder->shape.info.d;
    for (int i = 0; i < decoder->shape.info.layers; i++)
        if (decoder->checkpointing)
            piece(NULL, &at, rows * d);
        else
            lay_state(decoder, NULL, &at, rows, true);
    piece(NULL, &at, rows * d);
    return at;
}

// Room for one more saved pass at the top of the stack.
static int push(rot_context *c, size_t rows, rot_err *err)
{
    ROT_TRY(rot_grow(&c->stack, &c->stack_capacity, c->depth + 1, sizeof *c->stack, err));
    if (c->depth == c->stack_made) {
        saved *s = &c->stack[c->depth];
        *s = (saved){.counts = rot_calloc(c->n_most + 1, sizeof *s->counts),
                     .past = rot_calloc(c->n_most + 1, sizeof *s->past)};
        c->stack_made++;
        if (!s->counts || !s->past) {
            rot_free(s->counts);
            rot_free(s->past);
            c->stack_made--;
            return rot_no_memory(err, c->n * sizeof *s->past, "a saved pass");
        }
    }
    saved *s = &c->stack[c->depth];
    ROT_TRY(rot_grow(&s->keys, &s->keys_capacity, rows, sizeof *s->keys, err));
    ROT_TRY(reserve(c, &s->block, &s->block_floats, kept_floats(c->decoder, rows), "a saved pass",
                    err));
    s->rows = rows;
    s->dropout = c->dropout;
    memcpy(s->counts, c->counts, c->n * sizeof *s->counts);
    memcpy(s->past, c->past, c->n * sizeof *s->past);
    return 0;
}

// Positions, cache rows, rotations and keys of the rows of c->counts behind c->past.
static int prepare(rot_context *c, size_t rows, rot_pass *pass, rot_err *err)
{
    const rot_decoder *d = c->decoder;
    ROT_TRY(rot_grow(&c->row_index, &c->row_index_capacity, 2 * rows, sizeof(int32_t), err));
    ROT_TRY(rot_grow(&c->row_keys, &c->row_keys_capacity, 2 * rows, sizeof(uint64_t), err));
    int32_t *cache_rows = c->row_index, *positions = c->row_index + rows;
    size_t r = 0;
    for (size_t i = 0; i < c->n; i++)
        for (int32_t j = 0; j < c->counts[i]; j++, r++) {
            positions[r] = c->past[i] + j;
            cache_rows[r] = (int32_t)c->base[i] + positions[r];
            if (c->dropout)
                c->row_keys[r] = rot_random_key(rot_random_key(c->dropout_seed, c->dropout_keys[i]),
                                                (uint64_t)positions[r]);
        }
    *pass = (rot_pass){.rows = rows,
                       .cache_rows = cache_rows,
                       .positions = positions,
                       .first = c->first,
                       .keys = c->dropout ? c->row_keys : NULL,
                       .module_keys = c->row_keys + rows};
    pass->attention = (rot_train_attention){.n = c->n,
                                            .counts = c->counts,
                                            .past = c->past,
                                            .base = c->base,
                                            .heads = (size_t)d->shape.info.heads,
                                            .kv_heads = (size_t)d->shape.info.kv_heads,
                                            .head_dim = (size_t)d->shape.info.head_dim,
                                            .scale = 1.0f / sqrtf((float)d->shape.info.head_dim)};
    return 0;
}

static void turn(const rot_decoder *decoder, const rot_pass *pass)
{
    size_t half = (size_t)decoder->shape.info.head_dim / 2;
    if (decoder->family->learned_positions) return;
    for (size_t r = 0; r < pass->rows; r++)
        for (size_t i = 0; i < half; i++) {
            float angle = (float)pass->positions[r] * decoder->frequencies[i];
            pass->work.cosines[r * half + i] = cosf(angle);
            pass->work.sines[r * half + i] = sinf(angle);
        }
}

static int check_counts(const rot_context *c, const int32_t *counts, size_t *rows, rot_err *err)
{
    *rows = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (counts[i] < 0) ROT_FAIL(err, ROT_ERR_USAGE, "sequence %zu: %d rows", i, counts[i]);
        int64_t length = (int64_t)c->length[i] + counts[i];
        if (length > c->capacity[i])
            ROT_FAIL(err, ROT_ERR_TOO_LARGE, "sequence %zu: %lld rows, room for %d", i,
                     (long long)length, c->capacity[i]);
        if (counts[i] && length > c->decoder->shape.info.positions)
            ROT_FAIL(err, ROT_ERR_TOO_LARGE, "sequence %zu: %lld rows, the model has %d positions",
                     i, (long long)length, c->decoder->shape.info.positions);
        *rows += (size_t)counts[i];
    }
    return 0;
}

// Nobody has added to the gradients of the new rows' keys and values yet.
static void clear_grads(rot_context *c)
{
    size_t width = kv_width(c->decoder);
    for (int layer = 0; layer < c->decoder->shape.info.layers; layer++)
        for (size_t i = 0; i < c->n; i++) {
            size_t at = ((size_t)layer * c->cache_rows + c->base[i] + (size_t)c->past[i]) * width;
            size_t n_bytes = (size_t)c->counts[i] * width * sizeof(float);
            memset(c->dk + at, 0, n_bytes);
            memset(c->dv + at, 0, n_bytes);
        }
}

static int run(rot_context *c, rot_pass *pass, const float *inputs, float *kept, float *hidden,
               rot_err *err)
{
    rot_decoder *d = c->decoder;
    rot_train *t = d->train;
    size_t rows = pass->rows, width = (size_t)d->shape.info.d, at = 0, kept_at = 0;
    pass->work = lay_work(d, NULL, &at, rows, false);
    lay_state(d, NULL, &at, rows, true);
    ROT_TRY(reserve(c, &c->work, &c->work_floats, at, "work space", err));
    at = 0;
    pass->work = lay_work(d, c->work, &at, rows, false);
    rot_block_state shared = lay_state(d, c->work, &at, rows, false), state = shared;
    turn(d, pass);
    bool all = kept && !d->checkpointing;
    if (all) state = lay_state(d, kept, &kept_at, rows, true);
    if (kept && !all) state.x = state.x2 = piece(kept, &kept_at, rows * width);
    t->ops->copy(t, rows * width, inputs, state.x);
    if (d->position_table)
        t->ops->gather(t, rows, width, d->position_table, width, pass->positions, true, state.x,
                       width);
    rot_decoder_drop(d, pass, d->shape.info.layers, ROT_DROP_EMBEDDING, d->shape.embedding_dropout,
                     state.x, false, state.x);
    for (int layer = 0; layer < d->shape.info.layers; layer++) {
        rot_block_state next = state;
        bool last = layer + 1 == d->shape.info.layers;
        if (all && !last)
            next = lay_state(d, kept, &kept_at, rows, true);
        else if (kept)
            next.x = piece(kept, &kept_at, rows * width);
        if (kept && !all) { // the next block's input is where this one's x2 is made
            next.x2 = next.x;
            state.x2 = next.x;
        }
        ROT_TRY(rot_block_forward(d, &d->blocks[layer], pass, &state, cache_of(c, c->k, layer),
                                  cache_of(c, c->v, layer), false, next.x, err));
        state = next;
    }
    if (hidden) rot_decoder_norm_forward(d, &d->final_norm, rows, state.x, hidden);
    return 0;
}

int rot_context_forward(rot_context *c, const int32_t *counts, const float *inputs, bool save,
                        float *hidden, rot_err *err)
{
    size_t rows;
    rot_pass pass;
    ROT_TRY(check_counts(c, counts, &rows, err));
    if (save && !c->keep_grad)
        ROT_FAIL(err, ROT_ERR_USAGE, "a context without gradients cannot save a pass");
    memcpy(c->past, c->length, c->n * sizeof *c->past);
    memcpy(c->counts, counts, c->n * sizeof *c->counts);
    if (save) ROT_TRY(push(c, rows, err));
    if (rows) {
        ROT_TRY(prepare(c, rows, &pass, err));
        saved *s = save ? &c->stack[c->depth] : NULL;
        ROT_TRY(run(c, &pass, inputs, s ? s->block : NULL, hidden, err));
        if (s && c->dropout) memcpy(s->keys, c->row_keys, rows * sizeof *s->keys);
    }
    if (save) {
        clear_grads(c);
        if (!c->depth++) memcpy(c->first, c->past, c->n * sizeof *c->first);
    }
    for (size_t i = 0; i < c->n; i++) c->length[i] += counts[i];
    return 0;
}

// The states of a saved pass, layer by layer from its block; `shared` is computed again.
static rot_block_state state_of(const rot_decoder *decoder, const saved *s, int layer,
                                rot_block_state shared)
{
    size_t at = 0, d = (size_t)decoder->shape.info.d;
    if (decoder->checkpointing) {
        for (int i = 0; i <= layer; i++) shared.x = piece(s->block, &at, s->rows * d);
        return shared;
    }
    rot_block_state state = {0};
    for (int i = 0; i <= layer; i++) state = lay_state(decoder, s->block, &at, s->rows, true);
    return state;
}

static int run_back(rot_context *c, rot_pass *pass, const saved *s, const float *d_hidden,
                    float *d_inputs, rot_err *err)
{
    rot_decoder *d = c->decoder;
    rot_train *t = d->train;
    size_t rows = pass->rows, width = (size_t)d->shape.info.d, at = 0;
    size_t layer_floats = c->cache_rows * kv_width(d);
    rot_block_state shared = {0};
    pass->work = lay_work(d, NULL, &at, rows, true);
    if (d->checkpointing) lay_state(d, NULL, &at, rows, true);
    ROT_TRY(reserve(c, &c->work, &c->work_floats, at, "work space", err));
    at = 0;
    pass->work = lay_work(d, c->work, &at, rows, true);
    if (d->checkpointing) shared = lay_state(d, c->work, &at, rows, true);
    turn(d, pass);
    float *dx = pass->work.dx;
    const float *last = s->block + kept_floats(d, rows) - (rows * width + 15) / 16 * 16;
    if (d_hidden)
        ROT_TRY(rot_decoder_norm_back(d, &d->final_norm, rows, last, d_hidden, false, dx, err));
    else
        memset(dx, 0, rows * width * sizeof *dx);
    for (int layer = d->shape.info.layers - 1; layer >= 0; layer--) {
        rot_decoder_block *block = &d->blocks[layer];
        rot_block_state state = state_of(d, s, layer, shared);
        void *k = cache_of(c, c->k, layer), *v = cache_of(c, c->v, layer);
        if (d->checkpointing)
            ROT_TRY(rot_block_forward(d, block, pass, &state, k, v, true, NULL, err));
        ROT_TRY(rot_block_backward(d, block, pass, &state, k, v,
                                   c->dk + (size_t)layer * layer_floats,
                                   c->dv + (size_t)layer * layer_floats, err));
    }
    rot_decoder_drop(d, pass, d->shape.info.layers, ROT_DROP_EMBEDDING, d->shape.embedding_dropout,
                     dx, false, dx);
    if (d->position_grad)
        t->ops->scatter(t, rows, width, dx, width, pass->positions, true, d->position_grad, width);
    if (d_inputs) t->ops->copy(t, rows * width, dx, d_inputs);
    return 0;
}

int rot_context_backward(rot_context *c, const float *d_hidden, float *d_inputs, rot_err *err)
{
    if (!c->depth) ROT_FAIL(err, ROT_ERR_USAGE, "no saved pass to go back through");
    saved *s = &c->stack[--c->depth];
    if (!s->rows) return 0;
    rot_pass pass;
    memcpy(c->past, s->past, c->n * sizeof *c->past);
    memcpy(c->counts, s->counts, c->n * sizeof *c->counts);
    ROT_TRY(prepare(c, s->rows, &pass, err));
    pass.keys = s->dropout ? s->keys : NULL;
    return run_back(c, &pass, s, d_hidden, d_inputs, err);
}

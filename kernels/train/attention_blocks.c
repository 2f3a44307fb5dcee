// Attention by blocks of queries, each a few products of tiles (Dao et al. 2022, with the scores of
// a block held whole: a sequence is short). Short passes, as decoding has them, go the other way.
#include "kernels/train/host.h"

#ifdef __x86_64__
#include <omp.h>
#include <string.h>

#include "base/err.h"
#include "kernels/train/tile.h"

enum { QUERIES = 48, COLUMNS = ROT_TILE_COLUMNS, FEW = 4 };

// One head's view of a sequence.
typedef struct view {
    const rot_train_attention *shape;
    const rot_train_rows *rows;
    bool narrow;                      // the cache's elements are bfloat16
    size_t past, count, first_row;    // first_row: of the sequence among the packed queries
    size_t kv_stride, q_stride;       // elements between rows
    size_t at;                        // element of the cache where its keys begin
    const float *k, *v;               // its keys and values, (n, head_dim)
    const float *k_panels, *v_panels; // (panels of keys, head_dim, 32)
    size_t ld;                        // of scores
} view;

static size_t key_panels(size_t n)
{
    return (n + COLUMNS - 1) / COLUMNS;
}

// The n rows of the head out of the cache, as floats behind each other.
static void take_rows(const view *w, const void *cache, size_t n, float *to)
{
    size_t dim = w->shape->head_dim;
    for (size_t j = 0, at = w->at; j < n; j++, at += w->kv_stride, to += dim)
        if (w->narrow)
            w->rows->widen(dim, (const uint16_t *)cache + at, to);
        else
            memcpy(to, (const float *)cache + at, dim * sizeof *to);
}

static void pack_rows(const view *w, const float *rows, size_t n, float *panels)
{
    size_t dim = w->shape->head_dim;
    for (size_t j = 0; j < n; j += COLUMNS, panels += dim * COLUMNS) {
        size_t m = n - j < COLUMNS ? n - j : COLUMNS;
        rot_tile_transpose(rows + j * dim, dim, m, dim, panels, COLUMNS);
    }
}

// scores (m, n) = x (m, head_dim) times the keys' panels
static void times_panels(const view *w, const float *x, size_t m, const float *panels, size_t n,
                         float *scores)
{
    size_t dim = w->shape->head_dim;
    for (size_t j = 0; j < n; j += COLUMNS, panels += dim * COLUMNS)
        rot_tile_f32_run(&(rot_tile_f32){m, n - j < COLUMNS ? n - j : COLUMNS, dim, x, panels, NULL,
                                         w->q_stride, 1, COLUMNS, w->ld, scores + j, false});
}

// out (m, head_dim) [+]= a (m, n), by rows or transposed, times b (n, head_dim)
static void times_rows(const view *w, const float *a, size_t a_row, size_t a_step, size_t m,
                       size_t n, const float *b, size_t b_row, float *out, size_t ldc, bool add)
{
    size_t dim = w->shape->head_dim;
    for (size_t c = 0; c < dim; c += COLUMNS)
        rot_tile_f32_run(&(rot_tile_f32){m, dim - c < COLUMNS ? dim - c : COLUMNS, n, a, b + c,
                                         NULL, a_row, a_step, b_row, ldc, out + c, add});
}

// x times the mask of a row's weights.
static void mask(const view *w, size_t row, size_t head, size_t n, float *x)
{
    rot_train_mask m = rot_train_mask_of(w->shape, row, head);
    if (m.limit) w->rows->dropout(n, m.key, m.limit, m.factor, x, false, x);
}

static void forward_block(const view *w, size_t head, size_t from, size_t to, const float *q,
                          float *scores, float *out, float *lse)
{
    size_t dim = w->shape->head_dim, heads = w->shape->heads, m = to - from, n = w->past + to;
    size_t row = w->first_row + from, at = row * w->q_stride + head * dim;
    float sums[QUERIES];
    times_panels(w, q + at, m, w->k_panels, n, scores);
    for (size_t i = 0; i < m; i++) {
        size_t seen = w->past + from + i + 1;
        float *s = scores + i * w->ld;
        sums[i] = w->rows->soften(seen, w->shape->scale, s, &lse[(row + i) * heads + head]);
        mask(w, row + i, head, seen, s);
        memset(s + seen, 0, (n - seen) * sizeof *s);
    }
    times_rows(w, scores, w->ld, 1, m, n, w->v, dim, out + at, w->q_stride, false);
    for (size_t i = 0; i < m; i++) w->rows->scale(dim, 1.0f / sums[i], out + at + i * w->q_stride);
}

static view view_of(const rot_train *train, const rot_train_attention *s, size_t i,
                    size_t first_row, size_t kv_head, size_t ld)
{
    return (view){.shape = s,
                  .rows = ((const rot_train_host *)train)->rows,
                  .narrow = train->precision == ROT_PRECISION_BF16,
                  .past = (size_t)s->past[i],
                  .count = (size_t)s->counts[i],
                  .first_row = first_row,
                  .kv_stride = s->kv_heads * s->head_dim,
                  .q_stride = s->heads * s->head_dim,
                  .at = (s->base[i] * s->kv_heads + kv_head) * s->head_dim,
                  .ld = ld};
}

typedef struct plan {
    size_t longest, most;    // keys, queries of a sequence
    size_t ld, panel_floats; // of a row of scores, of one head's keys in panels
    size_t all_panels;       // floats of all sequences' and heads' keys in panels
} plan;

static plan make_plan(const rot_train_attention *s)
{
    plan p = {0};
    for (size_t i = 0; i < s->n; i++) {
        size_t n = s->counts[i] ? (size_t)(s->past[i] + s->counts[i]) : 0;
        if (n > p.longest) p.longest = n;
        if ((size_t)s->counts[i] > p.most) p.most = (size_t)s->counts[i];
        p.all_panels += key_panels(n) * COLUMNS * s->head_dim * s->kv_heads;
    }
    p.ld = (p.longest + 15) / 16 * 16 + 16; // not a power of two
    p.panel_floats = key_panels(p.longest) * COLUMNS * s->head_dim;
    return p;
}

int rot_train_blocks_forward(rot_train *train, const rot_train_attention *s, const float *q,
                             const void *k, const void *v, float *out, float *lse, rot_err *err)
{
    plan p = make_plan(s);
    if (p.most <= FEW) return rot_train_attention_forward(train, s, q, k, v, out, lse, err);
    size_t n_tasks = 0, group = s->heads / s->kv_heads, threads = (size_t)train->threads;
    for (size_t i = 0; i < s->n; i++) n_tasks += ((size_t)s->counts[i] + QUERIES - 1) / QUERIES;
    typedef struct block {
        size_t sequence, first_row, from, panels; // panels: where its sequence's begin
    } block;
    size_t score_floats = QUERIES * p.ld;
    float *space = rot_train_space(
        (rot_train_host *)train,
        (2 * p.all_panels + threads * score_floats) * sizeof *space + n_tasks * sizeof(block), err);
    if (!space) return ROT_ERR_NO_MEMORY;
    float *values = space + p.all_panels, *scores = values + p.all_panels; // values: as the panels
    block *blocks = (block *)(void *)(scores + threads * score_floats);
    size_t t = 0;
    for (size_t i = 0, row = 0, at = 0; i < s->n; row += (size_t)s->counts[i++]) {
        if (!s->counts[i]) continue;
        for (size_t from = 0; from < (size_t)s->counts[i]; from += QUERIES)
            blocks[t++] = (block){i, row, from, at};
        at += key_panels((size_t)(s->past[i] + s->counts[i])) * COLUMNS * s->head_dim * s->kv_heads;
    }
#pragma omp parallel num_threads(train->threads)
    {
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t b = 0; b < n_tasks; b++)
            for (size_t kv = 0; kv < s->kv_heads; kv++) {
                if (blocks[b].from) continue; // once per sequence
                view w = view_of(train, s, blocks[b].sequence, 0, kv, p.ld);
                size_t n = w.past + w.count;
                size_t at = blocks[b].panels + kv * key_panels(n) * COLUMNS * s->head_dim;
                take_rows(&w, k, n, values + at);
                pack_rows(&w, values + at, n, space + at);
                take_rows(&w, v, n, values + at);
            }
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t b = 0; b < n_tasks; b++)
            for (size_t head = 0; head < s->heads; head++) {
                const block *x = &blocks[b];
                view w = view_of(train, s, x->sequence, x->first_row, head / group, p.ld);
                size_t n = w.past + w.count, to = x->from + QUERIES;
                size_t at = x->panels + head / group * key_panels(n) * COLUMNS * s->head_dim;
                w.k_panels = space + at, w.v = values + at;
                forward_block(&w, head, x->from, to < w.count ? to : w.count, q,
                              scores + (size_t)omp_get_thread_num() * score_floats, out, lse);
            }
    }
    return 0;
}

// The gradients of the pass, beside q, k, v.
typedef struct back {
    const float *q, *out, *lse, *dout;
    float *dq, *dk, *dv;     // dk, dv: of the key head, from the sequence's first row
    size_t first;            // key that has a gradient
    float *scores, *dscores; // (QUERIES, ld)
} back;

static void backward_block(const view *w, const back *g, size_t head, size_t from, size_t to)
{
    size_t dim = w->shape->head_dim, heads = w->shape->heads, m = to - from, n = w->past + to;
    size_t row = w->first_row + from, at = row * w->q_stride + head * dim;
    float scale = w->shape->scale;
    times_panels(w, g->q + at, m, w->k_panels, n, g->scores);
    times_panels(w, g->dout + at, m, w->v_panels, n, g->dscores);
    for (size_t i = 0; i < m; i++) {
        size_t seen = w->past + from + i + 1, here = at + i * w->q_stride;
        float *p = g->scores + i * w->ld, *ds = g->dscores + i * w->ld;
        float delta = w->rows->dot(dim, g->dout + here, g->out + here);
        w->rows->resoften(seen, scale, g->lse[(row + i) * heads + head], p);
        mask(w, row + i, head, seen, ds);
        w->rows->soften_back(seen, scale, delta, p, ds);
        mask(w, row + i, head, seen, p);
        memset(p + seen, 0, (n - seen) * sizeof *p);
        memset(ds + seen, 0, (n - seen) * sizeof *ds);
    }
    times_rows(w, g->dscores, w->ld, 1, m, n, w->k, dim, g->dq + at, w->q_stride, false);
    if (g->first >= n) return;
    size_t keys = n - g->first, to_key = g->first * w->kv_stride;
    times_rows(w, g->dscores + g->first, 1, w->ld, keys, m, g->q + at, w->q_stride, g->dk + to_key,
               w->kv_stride, true);
    times_rows(w, g->scores + g->first, 1, w->ld, keys, m, g->dout + at, w->q_stride,
               g->dv + to_key, w->kv_stride, true);
}

int rot_train_blocks_backward(rot_train *train, const rot_train_attention *s, const int32_t *first,
                              const float *q, const void *k, const void *v, const float *out,
                              const float *lse, const float *dout, float *dq, float *dk, float *dv,
                              rot_err *err)
{
    plan p = make_plan(s);
    if (p.most <= FEW)
        return rot_train_attention_backward(train, s, first, q, k, v, out, lse, dout, dq, dk, dv,
                                            err);
    size_t each = 3 * p.panel_floats + 2 * QUERIES * p.ld, group = s->heads / s->kv_heads;
    size_t threads = (size_t)train->threads;
    float *space = rot_train_space((rot_train_host *)train,
                                   threads * each * sizeof *space + s->n * sizeof(size_t), err);
    if (!space) return ROT_ERR_NO_MEMORY;
    size_t *rows = (size_t *)(void *)(space + threads * each);
    for (size_t i = 0, row = 0; i < s->n; row += (size_t)s->counts[i++]) rows[i] = row;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(train->threads)
    for (size_t i = 0; i < s->n; i++)
        for (size_t kv = 0; kv < s->kv_heads; kv++) {
            if (!s->counts[i]) continue;
            float *mine = space + (size_t)omp_get_thread_num() * each;
            float *v_panels = mine + p.panel_floats, *plain = v_panels + p.panel_floats;
            float *work = plain + p.panel_floats;
            view w = view_of(train, s, i, rows[i], kv, p.ld);
            size_t n = w.past + w.count;
            back g = {q,         out,
                      lse,       dout,
                      dq,        dk + w.at,
                      dv + w.at, (size_t)first[i],
                      work,      work + QUERIES * p.ld};
            take_rows(&w, v, n, plain);
            pack_rows(&w, plain, n, v_panels);
            take_rows(&w, k, n, plain);
            pack_rows(&w, plain, n, mine);
            w.k = plain, w.k_panels = mine, w.v_panels = v_panels;
            for (size_t head = kv * group; head < (kv + 1) * group; head++)
                for (size_t from = 0; from < w.count; from += QUERIES)
                    backward_block(&w, &g, head, from,
                                   from + QUERIES < w.count ? from + QUERIES : w.count);
        }
    return 0;
}
#endif

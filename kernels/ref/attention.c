// Attention of the reference: per segment and head, a block of queries at a time, through the same
// matrix product as everything else.
#include <omp.h>
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/mem.h"
#include "kernels/ref/ref.h"

enum { QUERIES = ROT_REF_ROWS };

static size_t panels(size_t n)
{
    return (n + ROT_REF_PANEL - 1) / ROT_REF_PANEL;
}

typedef struct head {
    const float *q, *k, *v; // (n, dim) each
    float *out;             // rows `width` apart
    size_t n, dim, width;
    float scale;
    bool round;
} head;

// Floats that one thread needs for segments of n rows.
static size_t workspace_floats(size_t n, size_t dim)
{
    return panels(n) * ROT_REF_PANEL * dim + panels(dim) * ROT_REF_PANEL * n +
           QUERIES * panels(n) * ROT_REF_PANEL + 2 * QUERIES * ROT_REF_PANEL;
}

static void one_head(rot_ref_tile tile, const head *h, float *space)
{
    size_t n_panels = panels(h->n), d_panels = panels(h->dim), ld = n_panels * ROT_REF_PANEL;
    float *keys = space, *values = keys + ld * h->dim;        // packed
    float *scores = values + d_panels * ROT_REF_PANEL * h->n; // (QUERIES, ld)
    float *sums = scores + QUERIES * ld, *c = sums + QUERIES; // (QUERIES), (QUERIES, 32)
    rot_ref_pack_rows(h->k, h->dim, h->n, h->dim, keys);
    rot_ref_pack_columns(h->v, h->dim, h->n, h->dim, values);
    for (size_t row = 0; row < h->n; row += QUERIES) {
        size_t rows = h->n - row < QUERIES ? h->n - row : QUERIES;
        for (size_t p = 0; p < n_panels; p++) {
            memset(c, 0, rows * ROT_REF_PANEL * sizeof *c);
            tile(h->q + row * h->dim, h->dim, rows, keys + p * ROT_REF_PANEL * h->dim, h->dim, c);
            for (size_t i = 0; i < rows; i++)
                memcpy(scores + i * ld + p * ROT_REF_PANEL, c + i * ROT_REF_PANEL,
                       ROT_REF_PANEL * sizeof *c);
        }
        for (size_t i = 0; i < rows; i++)
            sums[i] = rot_ref_softmax_row(scores + i * ld, h->n, h->scale, h->round);
        for (size_t p = 0; p < d_panels; p++) {
            size_t first = p * ROT_REF_PANEL,
                   m = h->dim - first < ROT_REF_PANEL ? h->dim - first : ROT_REF_PANEL;
            memset(c, 0, rows * ROT_REF_PANEL * sizeof *c);
            tile(scores, ld, rows, values + p * ROT_REF_PANEL * h->n, h->n, c);
            for (size_t i = 0; i < rows; i++)
                for (size_t j = 0; j < m; j++) {
                    float y = c[i * ROT_REF_PANEL + j] / sums[i];
                    h->out[(row + i) * h->width + first + j] =
                        h->round ? rot_bf16_to_f32(rot_f32_to_bf16(y)) : y;
                }
        }
    }
}

int rot_ref_attention(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                      float scale, const rot_buffer *q, const rot_buffer *k, const rot_buffer *v,
                      rot_buffer *out, rot_err *err)
{
    rot_ref *ref = (rot_ref *)backend;
    size_t dim = (size_t)shape.head_dim, longest = 0;
    for (int s = 0; s < segments->n; s++) {
        size_t n = (size_t)(segments->starts[s + 1] - segments->starts[s]);
        if (n > longest) longest = n;
    }
    size_t floats = workspace_floats(longest, dim);
    if (floats > ref->workspace_floats) {
        rot_free(ref->workspace);
        ref->workspace_floats = 0;
        ref->workspace =
            rot_host_alloc((size_t)backend->threads * floats * sizeof(float), "attention", err);
        if (!ref->workspace) return ROT_ERR_NO_MEMORY;
        ref->workspace_floats = floats;
    }
    int n_tasks = segments->n * shape.heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(backend->threads)
    for (int task = 0; task < n_tasks; task++) {
        int s = task / shape.heads, i = task % shape.heads;
        size_t start = (size_t)segments->starts[s], n = (size_t)segments->starts[s + 1] - start;
        size_t at = (start * (size_t)shape.heads + (size_t)i * n) * dim;
        head h = {(const float *)q->data + at,
                  (const float *)k->data + at,
                  (const float *)v->data + at,
                  (float *)out->data + start * (size_t)shape.heads * dim + (size_t)i * dim,
                  n,
                  dim,
                  (size_t)shape.heads * dim,
                  scale,
                  backend->precision == ROT_PRECISION_BF16};
        one_head(ref->tile, &h,
                 ref->workspace + (size_t)omp_get_thread_num() * ref->workspace_floats);
    }
    return 0;
}

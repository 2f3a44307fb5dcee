// Attention by oneDNN: per segment, head and block of queries two products on head-major copies,
// with our softmax between them. The products are made once per shape and kept.
#ifdef ROT_HAVE_ONEDNN
#include <omp.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/onednn/onednn.h"

enum {
    SCORES =
        128 << 10, // scores of a block: half a megabyte of floats stays in the second-level cache
    MOST_QUERIES = 512,
    LEAST_QUERIES = 128, // each block has oneDNN rearrange the keys and values anew
    MOST_CACHED = 1024   // products kept between calls
};

// Rows of a block of queries, and of the last one: a function of the segment's length alone.
typedef struct blocks {
    int64_t rows, n, last;
} blocks;

static blocks blocks_of(int64_t length)
{
    int64_t most = SCORES / length;
    most = most > MOST_QUERIES ? MOST_QUERIES : most < LEAST_QUERIES ? LEAST_QUERIES : most;
    blocks b;
    b.n = (length + most - 1) / most;
    b.rows = ((length + b.n - 1) / b.n + 15) / 16 * 16;
    b.n = (length + b.rows - 1) / b.rows;
    b.last = length - (b.n - 1) * b.rows;
    if (b.n == 1) b.rows = b.last;
    return b;
}

static rot_dnn_product *find(const rot_dnn *dnn, rot_dnn_shape shape)
{
    for (size_t i = 0; i < dnn->n_cache; i++) {
        const rot_dnn_shape *s = &dnn->cache[i].shape;
        if (s->rows == shape.rows && s->length == shape.length && s->dim == shape.dim &&
            s->values == shape.values)
            return dnn->cache[i].product;
    }
    return NULL;
}

static int make(rot_dnn *dnn, rot_dnn_shape shape, rot_err *err)
{
    if (find(dnn, shape)) return 0;
    ROT_TRY(rot_grow(&dnn->cache, &dnn->cache_capacity, dnn->n_cache + 1, sizeof *dnn->cache, err));
    rot_dnn_matmul spec = {.m = shape.rows, .f32_out = true};
    spec.k = shape.values ? shape.length : shape.dim;
    spec.n = shape.values ? shape.dim : shape.length;
    spec.weights = shape.values ? ROT_DNN_W_KN : ROT_DNN_W_NK; // v (length, dim), k (length, dim)
    rot_dnn_product *product;
    ROT_TRY(rot_dnn_product_new(dnn, &spec, NULL, NULL, &product, err));
    dnn->cache[dnn->n_cache++] = (struct rot_dnn_entry){shape, product};
    return 0;
}

void rot_dnn_attention_forget(rot_dnn *dnn)
{
    for (size_t i = 0; i < dnn->n_cache; i++) rot_dnn_product_free(dnn, dnn->cache[i].product);
    dnn->n_cache = 0;
}

// The four products of a segment: block and last block, scores and values.
typedef struct plan {
    blocks blocks;
    rot_dnn_product *scores[2], *values[2];
} plan;

static size_t space_bytes(const blocks *b, int64_t length, int64_t dim)
{
    size_t n = (size_t)(b->rows * length);
    return n * sizeof(float) + n * sizeof(uint16_t) + (size_t)(b->rows * dim) * sizeof(float) +
           (size_t)b->rows * sizeof(float) + 4 * 64;
}

static int make_plans(rot_dnn *dnn, const rot_segments *segments, int64_t dim, plan *plans,
                      rot_err *err)
{
    if (dnn->n_cache > MOST_CACHED) rot_dnn_attention_forget(dnn);
    size_t most = 0;
    for (int s = 0; s < segments->n; s++) {
        int64_t length = segments->starts[s + 1] - segments->starts[s];
        blocks b = plans[s].blocks = blocks_of(length);
        for (int last = 0; last < 2; last++) {
            rot_dnn_shape shape = {last ? b.last : b.rows, length, dim, false};
            ROT_TRY(make(dnn, shape, err));
            plans[s].scores[last] = find(dnn, shape);
            shape.values = true;
            ROT_TRY(make(dnn, shape, err));
            plans[s].values[last] = find(dnn, shape);
        }
        size_t bytes = space_bytes(&b, length, dim);
        if (bytes > most) most = bytes;
    }
    if (most <= dnn->space_bytes) return 0;
    rot_free(dnn->space);
    dnn->space_bytes = 0;
    most = (most + 4095) / 4096 * 4096;
    dnn->space = rot_host_alloc(most * (size_t)dnn->base.threads, "attention", err);
    if (!dnn->space) return ROT_ERR_NO_MEMORY;
    dnn->space_bytes = most;
    return 0;
}

static unsigned char *take(unsigned char **at, size_t n_bytes)
{
    unsigned char *here = *at;
    *at += (n_bytes + 63) / 64 * 64;
    return here;
}

// q, k, v (length, dim); out (length, dim) with rows `width` apart.
static dnnl_status_t one_head(rot_dnn *dnn, const plan *p, int64_t length, int64_t dim, float scale,
                              const uint16_t *q, const uint16_t *k, const uint16_t *v, size_t width,
                              uint16_t *out)
{
    int thread = omp_get_thread_num();
    unsigned char *at = dnn->space + (size_t)thread * dnn->space_bytes;
    int64_t most = p->blocks.rows;
    float *scores = (float *)take(&at, (size_t)(most * length) * sizeof *scores); // (rows, length)
    uint16_t *chances =
        (uint16_t *)take(&at, (size_t)(most * length) * sizeof *chances);    // (rows, length)
    float *mixed = (float *)take(&at, (size_t)(most * dim) * sizeof *mixed); // (rows, dim)
    float *sums = (float *)take(&at, (size_t)most * sizeof *sums);
    for (int64_t b = 0; b < p->blocks.n; b++) {
        bool last = b == p->blocks.n - 1;
        int64_t first = b * p->blocks.rows, rows = last ? p->blocks.last : p->blocks.rows;
        ROT_DNN_TRY(rot_dnn_run(dnn, p->scores[last], thread, q + first * dim, k, scores));
        for (int64_t i = 0; i < rows; i++)
            sums[i] = rot_avx512_softmax_row(scores + i * length, (size_t)length, scale,
                                             chances + i * length);
        ROT_DNN_TRY(rot_dnn_run(dnn, p->values[last], thread, chances, v, mixed));
        for (int64_t i = 0; i < rows; i++)
            rot_avx512_scale_row(mixed + i * dim, (size_t)dim, 1.0f / sums[i],
                                 out + (size_t)(first + i) * width);
    }
    return dnnl_success;
}

int rot_dnn_attention(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                      float scale, const rot_buffer *q, const rot_buffer *k, const rot_buffer *v,
                      rot_buffer *out, rot_err *err)
{
    rot_dnn *dnn = (rot_dnn *)backend;
    int64_t dim = shape.head_dim;
    size_t width = (size_t)(shape.heads * shape.head_dim);
    plan *plans = rot_calloc((size_t)segments->n + 1, sizeof *plans);
    if (!plans) return rot_no_memory(err, (size_t)segments->n * sizeof *plans, "attention");
    int rc = make_plans(dnn, segments, dim, plans, err);
    if (rc < 0) {
        rot_free(plans);
        return rc;
    }
    dnnl_status_t failed = dnnl_success;
    int n_tasks = segments->n * shape.heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(backend->threads)
    for (int task = 0; task < n_tasks; task++) {
        int s = task / shape.heads, h = task % shape.heads;
        int64_t start = segments->starts[s], length = segments->starts[s + 1] - start;
        size_t at = (size_t)((start * shape.heads + h * length) * dim);
        dnnl_status_t status =
            one_head(dnn, &plans[s], length, dim, scale, (const uint16_t *)q->data + at,
                     (const uint16_t *)k->data + at, (const uint16_t *)v->data + at, width,
                     (uint16_t *)out->data + (size_t)start * width + (size_t)(h * dim));
        if (status) {
#pragma omp atomic write
            failed = status;
        }
    }
    rot_free(plans);
    return failed ? rot_dnn_fail(err, failed, "attention") : 0;
}

#endif
typedef int rot_dnn_attention_unit; // without oneDNN the file is not empty

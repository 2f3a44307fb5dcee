// Row-wise operations: rows are cut into chunks, which threads share; what chunks add up has a
// place per chunk and is added in their order.
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/host.h"
#include "kernels/train/host.h"

enum { SPAN = 1 << 14, CHUNK_ROWS = 32, COLUMNS = 256, FEW = 1 << 14 };

// Less than FEW elements are not worth waking threads for.
#define PARALLEL(train, elements)                                                                  \
    int threads = (elements) > FEW ? (train)->threads : 1;                                         \
    _Pragma("omp parallel for schedule(static) num_threads(threads)")

static const rot_train_rows *rows_of(const rot_train *train)
{
    return ((const rot_train_host *)train)->rows;
}

void *rot_train_space(rot_train_host *host, size_t n_bytes, rot_err *err)
{
    if (n_bytes <= host->space_bytes && host->space) return host->space;
    size_t rounded = (n_bytes + n_bytes / 4 + 4096) / 4096 * 4096;
    void *space = rot_host_alloc(rounded, "work space", err);
    if (!space) return NULL;
    rot_free(host->space);
    host->space = space;
    host->space_bytes = rounded;
    return space;
}

static float *alloc(rot_train *train, size_t n, const char *what, rot_err *err)
{
    (void)train;
    if (n > SIZE_MAX / sizeof(float) - 64) {
        rot_no_memory(err, SIZE_MAX, what);
        return NULL;
    }
    return rot_host_alloc(n * sizeof(float), what, err);
}

static void release(rot_train *train, float *block)
{
    (void)train;
    rot_free(block);
}

static void column_sums(rot_train *train, size_t rows, size_t n, const float *x, size_t stride,
                        float *sums)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * n)
    for (size_t from = 0; from < n; from += COLUMNS) {
        size_t width = n - from < COLUMNS ? n - from : COLUMNS;
        for (size_t r = 0; r < rows; r++) k->add(width, x + r * stride + from, sums + from);
    }
}

static void rms_norm(rot_train *train, rot_train_vectors s, float eps, const float *x,
                     const float *gamma, float *y)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, s.rows * s.groups * s.width)
    for (size_t r = 0; r < s.rows; r++)
        for (size_t g = 0; g < s.groups; g++)
            k->rms_norm(s.width, eps, x + r * s.x_stride + g * s.width, gamma,
                        y + r * s.y_stride + g * s.width);
}

static void layer_norm(rot_train *train, rot_train_vectors s, float eps, const float *x,
                       const float *gamma, const float *beta, float *y)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, s.rows * s.groups * s.width)
    for (size_t r = 0; r < s.rows; r++)
        for (size_t g = 0; g < s.groups; g++)
            k->layer_norm(s.width, eps, x + r * s.x_stride + g * s.width, gamma, beta,
                          y + r * s.y_stride + g * s.width);
}

// Both norms: beta's part is there for layers alone.
static int norm_back(rot_train *train, rot_train_vectors s, bool layer, float eps, const float *x,
                     const float *gamma, const float *dy, bool add, float *dx, float *dgamma,
                     float *dbeta, rot_err *err)
{
    const rot_train_rows *k = rows_of(train);
    size_t chunks = (s.rows + CHUNK_ROWS - 1) / CHUNK_ROWS, each = 2 * s.width;
    float *parts = NULL;
    if (dgamma) {
        size_t n_bytes = chunks * each * sizeof *parts;
        parts = rot_train_space((rot_train_host *)train, n_bytes, err);
        if (!parts) return ROT_ERR_NO_MEMORY;
        memset(parts, 0, n_bytes);
    }
    PARALLEL(train, s.rows * s.groups * s.width)
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        float *part = parts ? parts + chunk * each : NULL;
        size_t to = (chunk + 1) * CHUNK_ROWS < s.rows ? (chunk + 1) * CHUNK_ROWS : s.rows;
        for (size_t r = chunk * CHUNK_ROWS; r < to; r++)
            for (size_t g = 0; g < s.groups; g++) {
                size_t at = r * s.x_stride + g * s.width, dy_at = r * s.y_stride + g * s.width;
                if (layer)
                    k->layer_norm_back(s.width, eps, x + at, gamma, dy + dy_at, add, dx + at, part,
                                       part ? part + s.width : NULL);
                else
                    k->rms_norm_back(s.width, eps, x + at, gamma, dy + dy_at, add, dx + at, part);
            }
    }
    for (size_t chunk = 0; parts && chunk < chunks; chunk++) {
        k->add(s.width, parts + chunk * each, dgamma);
        if (dbeta) k->add(s.width, parts + chunk * each + s.width, dbeta);
    }
    return 0;
}

static int rms_norm_back(rot_train *train, rot_train_vectors s, float eps, const float *x,
                         const float *gamma, const float *dy, bool add, float *dx, float *dgamma,
                         rot_err *err)
{
    return norm_back(train, s, false, eps, x, gamma, dy, add, dx, dgamma, NULL, err);
}

static int layer_norm_back(rot_train *train, rot_train_vectors s, float eps, const float *x,
                           const float *gamma, const float *dy, bool add, float *dx, float *dgamma,
                           float *dbeta, rot_err *err)
{
    return norm_back(train, s, true, eps, x, gamma, dy, add, dx, dgamma, dbeta, err);
}

static void rope(rot_train *train, size_t rows, size_t heads, size_t half, const float *cosines,
                 const float *sines, bool inverse, float *x, size_t stride)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * heads * half)
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < heads; h++)
            k->rope(half, cosines + r * half, sines + r * half, inverse,
                    x + r * stride + h * 2 * half);
}

static void swiglu(rot_train *train, size_t rows, size_t width, const float *in, float *out)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++) k->swiglu(width, in + r * 2 * width, out + r * width);
}

static void swiglu_back(rot_train *train, size_t rows, size_t width, const float *in,
                        const float *dout, float *din)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++)
        k->swiglu_back(width, in + r * 2 * width, dout + r * width, din + r * 2 * width);
}

static void gelu(rot_train *train, size_t rows, size_t width, const float *in, float *out)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++) k->gelu(width, in + r * width, out + r * width);
}

static void gelu_back(rot_train *train, size_t rows, size_t width, const float *in,
                      const float *dout, float *din)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++)
        k->gelu_back(width, in + r * width, dout + r * width, din + r * width);
}

static void gather(rot_train *train, size_t rows, size_t width, const float *table,
                   size_t table_stride, const int32_t *index, bool add, float *to, size_t to_stride)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++) {
        const float *from = table + (size_t)index[r] * table_stride;
        if (add)
            k->add(width, from, to + r * to_stride);
        else
            memcpy(to + r * to_stride, from, width * sizeof *to);
    }
}

// Threads share the columns, so that rows of one index are added in their order.
static void scatter(rot_train *train, size_t rows, size_t width, const float *from,
                    size_t from_stride, const int32_t *index, bool add, float *table,
                    size_t table_stride)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * width)
    for (size_t at = 0; at < width; at += COLUMNS) {
        size_t n = width - at < COLUMNS ? width - at : COLUMNS;
        for (size_t r = 0; r < rows; r++) {
            float *to = table + (size_t)index[r] * table_stride + at;
            if (add)
                k->add(n, from + r * from_stride + at, to);
            else
                memcpy(to, from + r * from_stride + at, n * sizeof *to);
        }
    }
}

static void cache_put(rot_train *train, size_t rows, size_t width, const float *from,
                      size_t from_stride, const int32_t *index, void *cache)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++) {
        size_t at = (size_t)index[r] * width;
        if (train->precision == ROT_PRECISION_BF16)
            k->narrow(width, from + r * from_stride, (uint16_t *)cache + at);
        else
            memcpy((float *)cache + at, from + r * from_stride, width * sizeof(float));
    }
}

static void take(rot_train *train, size_t rows, size_t width, const float *x, size_t x_stride,
                 float *y, size_t y_stride)
{
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++) memcpy(y + r * y_stride, x + r * x_stride, width * sizeof *y);
}

static void copy(rot_train *train, size_t n, const float *x, float *y)
{
    PARALLEL(train, n)
    for (size_t at = 0; at < n; at += SPAN)
        memcpy(y + at, x + at, (n - at < SPAN ? n - at : SPAN) * sizeof *y);
}

static void axpy(rot_train *train, size_t n, float a, const float *x, float *y)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, n)
    for (size_t at = 0; at < n; at += SPAN)
        k->axpy(n - at < SPAN ? n - at : SPAN, a, x + at, y + at);
}

static void scale(rot_train *train, size_t n, float a, float *x)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, n)
    for (size_t at = 0; at < n; at += SPAN) k->scale(n - at < SPAN ? n - at : SPAN, a, x + at);
}

static void dropout(rot_train *train, size_t rows, size_t width, double p, const uint64_t *keys,
                    const float *x, size_t x_stride, bool add, float *y, size_t y_stride)
{
    const rot_train_rows *k = rows_of(train);
    uint32_t limit = (uint32_t)(p * 0x1p32);
    float factor = (float)(1 / (1 - p));
    PARALLEL(train, rows * width)
    for (size_t r = 0; r < rows; r++)
        k->dropout(width, keys[r], limit, factor, x + r * x_stride, add, y + r * y_stride);
}

static void cross_entropy(rot_train *train, size_t rows, size_t n, const int32_t *labels,
                          const float *weights, float *logits, float *losses)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, rows * n)
    for (size_t r = 0; r < rows; r++)
        losses[r] = k->cross_entropy(n, (size_t)labels[r], weights != NULL,
                                     weights ? weights[r] : 0, logits + r * n);
}

static void adamw(rot_train *train, const rot_train_adamw *options, size_t n, float *value,
                  const float *grad, float *m, float *s)
{
    const rot_train_rows *k = rows_of(train);
    PARALLEL(train, n)
    for (size_t at = 0; at < n; at += SPAN)
        k->adamw(options, n - at < SPAN ? n - at : SPAN, value + at, grad + at, m + at, s + at);
}

static void close_host(rot_train *train)
{
    rot_free(((rot_train_host *)train)->space);
    rot_free(train);
}

int rot_train_host_new(size_t size, const rot_cpu *cpu, const rot_train_rows *rows,
                       const rot_train_ops *ops, const char *identity, rot_train **out,
                       rot_err *err)
{
    rot_train_host *host = rot_calloc(1, size);
    if (!host) return rot_no_memory(err, size, "a backend");
    host->ops = *ops;
    host->base.ops = &host->ops;
    host->rows = rows;
    host->cpu = *cpu;
    snprintf(host->base.identity, sizeof host->base.identity, "%s", identity);
    *out = &host->base;
    return 0;
}

void rot_train_host_ops(rot_train_ops *ops)
{
    *ops = (rot_train_ops){
        .close = close_host,
        .alloc = alloc,
        .release = release,
        .column_sums = column_sums,
        .rms_norm = rms_norm,
        .rms_norm_back = rms_norm_back,
        .layer_norm = layer_norm,
        .layer_norm_back = layer_norm_back,
        .rope = rope,
        .attention = rot_train_attention_forward,
        .attention_back = rot_train_attention_backward,
        .swiglu = swiglu,
        .swiglu_back = swiglu_back,
        .gelu = gelu,
        .gelu_back = gelu_back,
        .gather = gather,
        .scatter = scatter,
        .cache_put = cache_put,
        .take = take,
        .copy = copy,
        .axpy = axpy,
        .scale = scale,
        .dropout = dropout,
        .cross_entropy = cross_entropy,
        .adamw = adamw,
    };
}

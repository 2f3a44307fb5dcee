// The specification of the matrix products: each element of a result is one chain of multiply,
// round, add, round over k in ascending order (kernels/ref/gemm.c), whatever the machine. Weights
// are kept as they are, with bfloat16 values under BF16; panels are packed for each product.
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/host.h"
#include "kernels/ref/ref.h"
#include "kernels/train/host.h"

enum { PANEL = ROT_REF_PANEL, ROWS = ROT_REF_ROWS };

typedef struct ref {
    rot_train_host host;
    rot_ref_tile tile;
} ref;

struct rot_train_weight {
    size_t n_out, n_in;
    float *values; // (n_out, n_in)
};

// c (m, n) = a (m, k) b, a row-major of stride lda; b is (n, k) if `b_rows`, else (k, n).
typedef struct product {
    size_t m, n, k;
    const float *a, *b;
    size_t lda, ldb;
    bool b_rows, add;
    const float *bias; // (n) or NULL
    float *c;
    size_t ldc;
} product;

static int multiply(ref *t, const product *p, float *space)
{
    size_t panels = (p->n + PANEL - 1) / PANEL, each = (p->k + ROWS) * PANEL;
#pragma omp parallel for schedule(static) num_threads(t->host.base.threads)
    for (size_t panel = 0; panel < panels; panel++) {
        float *packed = space + (size_t)omp_get_thread_num() * each;
        float *sums = packed + p->k * PANEL;
        size_t first = panel * PANEL, width = p->n - first < PANEL ? p->n - first : PANEL;
        if (p->b_rows)
            rot_ref_pack_rows(p->b + first * p->ldb, p->ldb, width, p->k, packed);
        else
            rot_ref_pack_columns(p->b + first, p->ldb, p->k, width, packed);
        for (size_t row = 0; row < p->m; row += ROWS) {
            size_t rows = p->m - row < ROWS ? p->m - row : ROWS;
            memset(sums, 0, rows * PANEL * sizeof *sums);
            t->tile(p->a + row * p->lda, p->lda, rows, packed, p->k, sums);
            for (size_t r = 0; r < rows; r++) {
                float *to = p->c + (row + r) * p->ldc + first;
                const float *from = sums + r * PANEL;
                for (size_t j = 0; j < width; j++) {
                    float y = p->bias ? from[j] + p->bias[first + j] : from[j];
                    to[j] = p->add ? to[j] + y : y;
                }
            }
        }
    }
    return 0;
}

static size_t panel_floats(const ref *t, size_t k)
{
    return (size_t)t->host.base.threads * (k + ROWS) * PANEL;
}

// x (rows, n) with the values that products read, in `space` or x itself.
static const float *rounded(const ref *t, size_t rows, size_t n, const float *x, size_t *stride,
                            float *space)
{
    if (t->host.base.precision != ROT_PRECISION_BF16) return x;
    for (size_t r = 0; r < rows; r++) t->host.rows->round_bf16(n, x + r * *stride, space + r * n);
    *stride = n;
    return space;
}

static int weight_new(rot_train *train, size_t n_out, size_t n_in, rot_train_weight **out,
                      rot_err *err)
{
    *out = NULL;
    rot_train_weight *weight = rot_calloc(1, sizeof *weight);
    if (!weight) return rot_no_memory(err, sizeof *weight, "a weight");
    *weight =
        (rot_train_weight){n_out, n_in, train->ops->alloc(train, n_out * n_in, "a weight", err)};
    if (!weight->values) {
        rot_free(weight);
        return ROT_ERR_NO_MEMORY;
    }
    *out = weight;
    return 0;
}

static void weight_free(rot_train *train, rot_train_weight *weight)
{
    if (!weight) return;
    train->ops->release(train, weight->values);
    rot_free(weight);
}

static int weight_set(rot_train *train, rot_train_weight *weight, size_t first, size_t n,
                      const float *values, size_t stride, bool transposed, rot_err *err)
{
    (void)err;
    const ref *t = (const ref *)train;
    size_t n_in = weight->n_in;
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t r = 0; r < n; r++) {
        float *to = weight->values + (first + r) * n_in;
        if (transposed)
            for (size_t i = 0; i < n_in; i++) to[i] = values[i * stride + r];
        else
            memcpy(to, values + r * stride, n_in * sizeof *to);
        if (train->precision == ROT_PRECISION_BF16) t->host.rows->round_bf16(n_in, to, to);
    }
    return 0;
}

static int linear(rot_train *train, const rot_train_weight *w, size_t rows, const float *x,
                  size_t x_stride, const float *bias, bool add, float *y, size_t y_stride,
                  rot_err *err)
{
    ref *t = (ref *)train;
    size_t panels = panel_floats(t, w->n_in);
    float *space = rot_train_space(&t->host, (panels + rows * w->n_in) * sizeof *space, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    x = rounded(t, rows, w->n_in, x, &x_stride, space + panels);
    product p = {rows,    w->n_out, w->n_in, x,    w->values, x_stride,
                 w->n_in, true,     add,     bias, y,         y_stride};
    return multiply(t, &p, space);
}

static int linear_back(rot_train *train, rot_train_weight *w, size_t rows, const float *dy,
                       size_t dy_stride, bool add, float *dx, size_t dx_stride, rot_err *err)
{
    ref *t = (ref *)train;
    size_t panels = panel_floats(t, w->n_out);
    float *space = rot_train_space(&t->host, (panels + rows * w->n_out) * sizeof *space, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    dy = rounded(t, rows, w->n_out, dy, &dy_stride, space + panels);
    product p = {rows,    w->n_in, w->n_out, dy,   w->values, dy_stride,
                 w->n_in, false,   add,      NULL, dx,        dx_stride};
    return multiply(t, &p, space);
}

static int outer(rot_train *train, size_t rows, size_t m, size_t n, const float *a, size_t a_stride,
                 const float *b, size_t b_stride, float *dw, size_t dw_stride, rot_err *err)
{
    ref *t = (ref *)train;
    size_t panels = panel_floats(t, rows);
    float *space = rot_train_space(&t->host, (panels + rows * (2 * m + n)) * sizeof *space, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    float *turned = space + panels, *rest = turned + rows * m; // (m, rows)
    a = rounded(t, rows, m, a, &a_stride, rest);
    b = rounded(t, rows, n, b, &b_stride, rest + rows * m);
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t i = 0; i < m; i++)
        for (size_t r = 0; r < rows; r++) turned[i * rows + r] = a[r * a_stride + i];
    product p = {m, n, rows, turned, b, rows, b_stride, false, true, NULL, dw, dw_stride};
    return multiply(t, &p, space);
}

int rot_train_ref_open(const rot_cpu *cpu, rot_precision precision, rot_train **out, rot_err *err)
{
    (void)precision;
    rot_train_ops ops;
    rot_train_host_ops(&ops);
    ops.weight_new = weight_new;
    ops.weight_free = weight_free;
    ops.weight_set = weight_set;
    ops.linear = linear;
    ops.linear_back = linear_back;
    ops.outer = outer;
    ROT_TRY(rot_train_host_new(sizeof(ref), cpu,
                               cpu->avx512 ? &rot_train_rows_avx512 : &rot_train_rows_c, &ops,
                               "ref", out, err));
    ((ref *)*out)->tile = rot_ref_tile_for(cpu);
    return 0;
}

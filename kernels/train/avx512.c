// The quick backend: products by the tiles of tile.h, in float32 or bfloat16, attention by blocks.
//
// A matrix that is a right factor lies in panels of 32 columns: panel j, unit p, column c. A unit
// is what the tile multiplies at a time: an element along k, or under BF16 a pair of them. A
// product is cut into tasks of one panel by some rows; a task goes over k in pieces, in ascending
// order, so an element's bits depend on its row, its column and k alone.
#include "base/err.h"
#include "kernels/train/host.h"

#ifdef __x86_64__
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/host.h"
#include "kernels/train/tile.h"

enum {
    COLUMNS = ROT_TILE_COLUMNS,
    BLOCK = ROT_TILE_ROWS,
    TASK_ROWS = 40 * BLOCK,
    GROUP = 4,     // panels of a task, where rows are many: a block of rows is read once for all
    K_UNITS = 256, // 32 KiB of a panel: it stays in the first-level cache
};

struct rot_train_weight {
    size_t n_out, n_in;
    uint32_t *forward;  // panels over n_out, units along n_in
    uint32_t *backward; // panels over n_in, units along n_out; NULL until a backward asks
};

static size_t units(const rot_train *train, size_t k)
{
    return train->precision == ROT_PRECISION_BF16 ? (k + 1) / 2 : k;
}

static size_t panels(size_t n)
{
    return (n + COLUMNS - 1) / COLUMNS;
}

// c (m, n) [+]= a b: a (m, k units) by rows (step 1) or in blocks of twelve (step 12).
typedef struct product {
    size_t m, n, k;
    const uint32_t *a;
    size_t a_row, a_step;
    const uint32_t *b; // panels
    const float *bias;
    float *c;
    size_t ldc;
    bool add;
} product;

// Rows [row, row + m), the columns of one panel, k units from `at` on.
static void tile(const rot_train *train, const product *p, size_t row, size_t m, size_t panel,
                 size_t at, size_t k)
{
    size_t column = panel * COLUMNS, n = p->n - column < COLUMNS ? p->n - column : COLUMNS;
    const float *bias = p->bias && !at ? p->bias + column : NULL;
    const uint32_t *a = p->a + row * p->k + at * p->a_step;
    const uint32_t *b = p->b + (panel * p->k + at) * COLUMNS;
    float *c = p->c + row * p->ldc + column;
    if (train->precision == ROT_PRECISION_BF16)
        rot_tile_bf16_run(
            &(rot_tile_bf16){m, n, k, a, b, bias, p->a_row, p->a_step, p->ldc, c, p->add || at});
    else
        rot_tile_f32_run(&(rot_tile_f32){m, n, k, (const float *)a, (const float *)b, bias,
                                         p->a_row, p->a_step, COLUMNS, p->ldc, c, p->add || at});
}

static void task(const rot_train *train, const product *p, size_t first, size_t last, size_t panel,
                 size_t last_panel)
{
    for (size_t at = 0; at < p->k; at += K_UNITS) {
        size_t k = p->k - at < K_UNITS ? p->k - at : K_UNITS;
        for (size_t row = first; row < last; row += BLOCK)
            for (size_t j = panel; j < last_panel; j++)
                tile(train, p, row, last - row < BLOCK ? last - row : BLOCK, j, at, k);
    }
}

static void multiply(const rot_train *train, const product *p)
{
    size_t n_panels = panels(p->n), chunks = (p->m + TASK_ROWS - 1) / TASK_ROWS;
    size_t rows = ((p->m + BLOCK - 1) / BLOCK + chunks - 1) / chunks * BLOCK; // chunks alike
    size_t group = p->m > 4 * BLOCK ? GROUP : 1, groups = (n_panels + group - 1) / group;
    int threads = rot_train_threads_for(train, p->m * p->n * p->k);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < groups * chunks; i++) {
        size_t row = i / groups * rows, panel = i % groups * group;
        task(train, p, row, row + rows < p->m ? row + rows : p->m, panel,
             panel + group < n_panels ? panel + group : n_panels);
    }
}

// One panel of `n` columns out of `values`: column c lies in row c (`along`: k runs along the row)
// or in column c. `space`: COLUMNS * units, for the former.
static void pack_panel(const rot_train *train, const float *values, size_t stride, size_t n,
                       size_t k, bool along, uint32_t *space, uint32_t *out)
{
    bool pairs = train->precision == ROT_PRECISION_BF16;
    size_t n_units = units(train, k);
    if (n < COLUMNS) memset(out, 0, n_units * COLUMNS * sizeof *out);
    if (along && !pairs)
        rot_tile_transpose(values, stride, n, k, out, COLUMNS);
    else if (along) {
        for (size_t c = 0; c < n; c++)
            rot_tile_pair_row(values + c * stride, k, space + c * n_units);
        rot_tile_transpose(space, n_units, n, n_units, out, COLUMNS);
    } else
        for (size_t p = 0; p < n_units; p++) {
            if (!pairs) {
                memcpy(out + p * COLUMNS, values + p * stride, n * sizeof *out);
                continue;
            }
            const float *first = values + 2 * p * stride;
            rot_tile_pair_rows(first, 2 * p + 1 < k ? first + stride : NULL, n, COLUMNS,
                               out + p * COLUMNS, COLUMNS);
        }
}

// All panels of a matrix of n columns.
static int pack(rot_train *train, const float *values, size_t stride, size_t n, size_t k,
                bool along, uint32_t *out, rot_err *err)
{
    size_t n_units = units(train, k), each = along ? n_units * COLUMNS : 0;
    uint32_t *space = rot_train_space((rot_train_host *)train,
                                      ((size_t)train->threads * each + 16) * sizeof *space, err);
    if (!space) return ROT_ERR_NO_MEMORY;
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t panel = 0; panel < panels(n); panel++) {
        size_t first = panel * COLUMNS, width = n - first < COLUMNS ? n - first : COLUMNS;
        pack_panel(train, values + first * (along ? stride : 1), stride, width, k, along,
                   space + (size_t)omp_get_thread_num() * each, out + panel * n_units * COLUMNS);
    }
    return 0;
}

static uint32_t *new_panels(const rot_train *train, size_t n, size_t k, rot_err *err)
{
    return rot_host_alloc(panels(n) * COLUMNS * units(train, k) * sizeof(uint32_t), "a weight",
                          err);
}

static int weight_new(rot_train *train, size_t n_out, size_t n_in, rot_train_weight **out,
                      rot_err *err)
{
    *out = NULL;
    rot_train_weight *w = rot_calloc(1, sizeof *w);
    if (!w) return rot_no_memory(err, sizeof *w, "a weight");
    *w = (rot_train_weight){n_out, n_in, new_panels(train, n_out, n_in, err), NULL};
    if (!w->forward) {
        rot_free(w);
        return ROT_ERR_NO_MEMORY;
    }
    *out = w;
    return 0;
}

static void weight_free(rot_train *train, rot_train_weight *weight)
{
    (void)train;
    if (!weight) return;
    rot_free(weight->forward);
    rot_free(weight->backward);
    rot_free(weight);
}

// Row `row` of the weight becomes `values`, step apart.
static void set_row(const rot_train *train, rot_train_weight *w, size_t row, const float *values,
                    size_t step)
{
    size_t n_units = units(train, w->n_in);
    uint32_t *out = w->forward + row / COLUMNS * n_units * COLUMNS + row % COLUMNS;
    for (size_t p = 0; p < n_units; p++) {
        if (train->precision == ROT_PRECISION_BF16) {
            float second = 2 * p + 1 < w->n_in ? values[(2 * p + 1) * step] : 0;
            rot_tile_pair_rows(&values[2 * p * step], &second, 1, 1, &out[p * COLUMNS], 1);
        } else
            memcpy(&out[p * COLUMNS], &values[p * step], sizeof *out);
    }
}

static int weight_set(rot_train *train, rot_train_weight *w, size_t first, size_t n,
                      const float *values, size_t stride, bool transposed, rot_err *err)
{
    if (first == 0 && n == w->n_out) {
        ROT_TRY(pack(train, values, stride, n, w->n_in, !transposed, w->forward, err));
        if (!w->backward) return 0;
        return pack(train, values, stride, w->n_in, n, transposed, w->backward, err);
    }
    rot_free(w->backward); // made again when asked for
    w->backward = NULL;
    size_t head = (COLUMNS - first % COLUMNS) % COLUMNS;
    if (head > n) head = n;
    size_t whole = (n - head) / COLUMNS * COLUMNS, n_units = units(train, w->n_in);
    size_t row_step = transposed ? 1 : stride, step = transposed ? stride : 1;
    ROT_TRY(pack(train, values + head * row_step, stride, whole, w->n_in, !transposed,
                 w->forward + (first + head) / COLUMNS * n_units * COLUMNS, err));
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t r = 0; r < n; r++)
        if (r < head || r >= head + whole)
            set_row(train, w, first + r, values + r * row_step, step);
    return 0;
}

// Panels over n_in out of those over n_out.
static int make_backward(rot_train *train, rot_train_weight *w, rot_err *err)
{
    size_t in_units = units(train, w->n_in), out_units = units(train, w->n_out);
    w->backward = new_panels(train, w->n_in, w->n_out, err);
    if (!w->backward) return ROT_ERR_NO_MEMORY;
    bool pairs = train->precision == ROT_PRECISION_BF16;
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t o = 0; o < out_units; o++) {
        size_t row = pairs ? 2 * o : o;
        const uint32_t *from = w->forward + row / COLUMNS * in_units * COLUMNS + row % COLUMNS;
        for (size_t p = 0; p < in_units; p++, from += COLUMNS) {
            size_t column = pairs ? 2 * p : p;
            uint32_t *to =
                w->backward + (column / COLUMNS * out_units + o) * COLUMNS + column % COLUMNS;
            if (!pairs) {
                to[0] = from[0];
                continue;
            }
            to[0] = (from[0] & 0xffffu) | from[1] << 16; // rows past the last are 0 in a panel
            to[1] = from[0] >> 16 | (from[1] & 0xffff0000u);
        }
    }
    return 0;
}

// x (rows, k) as a left factor by rows: itself, or pairs of it in `space`.
static const uint32_t *left(const rot_train *train, size_t rows, size_t k, const float *x,
                            size_t stride, uint32_t *space)
{
    size_t n_units = units(train, k);
    bool pairs = train->precision == ROT_PRECISION_BF16;
    if (!pairs && stride == k) return (const uint32_t *)(const void *)x;
#pragma omp parallel for schedule(static) num_threads(train->threads) if (rows * k > 32768)
    for (size_t r = 0; r < rows; r++)
        if (pairs)
            rot_tile_pair_row(x + r * stride, k, space + r * n_units);
        else
            memcpy(space + r * n_units, x + r * stride, k * sizeof *x);
    return space;
}

static int linear(rot_train *train, const rot_train_weight *w, size_t rows, const float *x,
                  size_t x_stride, const float *bias, bool add, float *y, size_t y_stride,
                  rot_err *err)
{
    size_t k = units(train, w->n_in);
    uint32_t *space = rot_train_space((rot_train_host *)train, (rows * k + 16) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    product p = {rows, w->n_out, k,          left(train, rows, w->n_in, x, x_stride, space),
                 k,    1,        w->forward, bias,
                 y,    y_stride, add};
    multiply(train, &p);
    return 0;
}

static int linear_back(rot_train *train, rot_train_weight *w, size_t rows, const float *dy,
                       size_t dy_stride, bool add, float *dx, size_t dx_stride, rot_err *err)
{
    size_t k = units(train, w->n_out);
    if (!w->backward) ROT_TRY(make_backward(train, w, err));
    uint32_t *space = rot_train_space((rot_train_host *)train, (rows * k + 16) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    product p = {rows, w->n_in,   k,           left(train, rows, w->n_out, dy, dy_stride, space),
                 k,    1,         w->backward, NULL,
                 dx,   dx_stride, add};
    multiply(train, &p);
    return 0;
}

// The columns of x (rows, n) in blocks of `block`: block j, unit p along the rows, column.
static void pack_blocks(const rot_train *train, size_t rows, size_t n, const float *x,
                        size_t stride, size_t block, uint32_t *out)
{
    size_t n_units = units(train, rows);
    bool pairs = train->precision == ROT_PRECISION_BF16;
#pragma omp parallel for schedule(static) num_threads(train->threads) if (rows * n > 32768)
    for (size_t p = 0; p < n_units; p++) {
        const float *first = x + (pairs ? 2 * p : p) * stride;
        if (pairs) {
            rot_tile_pair_rows(first, 2 * p + 1 < rows ? first + stride : NULL, n, block,
                               out + p * block, n_units * block);
            continue;
        }
        for (size_t at = 0; at < n; at += block)
            memcpy(out + (at / block * n_units + p) * block, first + at,
                   (n - at < block ? n - at : block) * sizeof *first);
    }
}

static int outer(rot_train *train, size_t rows, size_t m, size_t n, const float *a, size_t a_stride,
                 const float *b, size_t b_stride, float *dw, size_t dw_stride, rot_err *err)
{
    size_t k = units(train, rows), blocks = (m + BLOCK - 1) / BLOCK;
    size_t left_units = (blocks * BLOCK * k + 15) / 16 * 16;
    uint32_t *space = rot_train_space((rot_train_host *)train,
                                      (left_units + panels(n) * COLUMNS * k + 16) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    pack_blocks(train, rows, m, a, a_stride, BLOCK, space);
    pack_blocks(train, rows, n, b, b_stride, COLUMNS, space + left_units);
    product p = {m, n, k, space, 1, BLOCK, space + left_units, NULL, dw, dw_stride, true};
    multiply(train, &p);
    return 0;
}

int rot_train_avx512_open(const rot_cpu *cpu, rot_precision precision, rot_train **out,
                          rot_err *err)
{
    if (!cpu->avx512 || (precision == ROT_PRECISION_BF16 && !cpu->avx512_bf16))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "avx512: this processor (%s) lacks AVX-512%s", cpu->name,
                 cpu->avx512 ? "'s bfloat16" : "");
    rot_train_ops ops;
    rot_train_host_ops(&ops);
    ops.weight_new = weight_new;
    ops.weight_free = weight_free;
    ops.weight_set = weight_set;
    ops.linear = linear;
    ops.linear_back = linear_back;
    ops.outer = outer;
    ops.attention = rot_train_blocks_forward;
    ops.attention_back = rot_train_blocks_backward;
    return rot_train_host_new(sizeof(rot_train_host), cpu, &rot_train_rows_avx512, &ops, "avx512",
                              out, err);
}

#else

int rot_train_avx512_open(const rot_cpu *cpu, rot_precision precision, rot_train **out,
                          rot_err *err)
{
    (void)cpu, (void)precision, (void)out;
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "avx512: not in this build");
}
#endif

// The quick backend: products by the tiles of tile.h, in float32 or bfloat16, attention by blocks.
//
// A product is cut into tasks of some panels (panels.h) by some rows; a task goes over k in pieces,
// in ascending order, so an element's bits depend on its row, its column and k alone.
#include "base/err.h"
#include "kernels/train/panels.h"

#ifdef __x86_64__
#include <string.h>

#include "kernels/train/tile.h"

enum {
    COLUMNS = ROT_TILE_COLUMNS,
    BLOCK = ROT_TILE_ROWS,
    TASK_ROWS = 40 * BLOCK,
    GROUP = 4,     // panels of a task, where rows are many: a block of rows is read once for all
    K_UNITS = 256, // 32 KiB of a panel: it stays in the first-level cache
};

// c (m, n) [+]= a b: a (m, k units) by rows (step 1) or in blocks of twelve (step 12).
typedef struct product {
    size_t m, n, k;
    const uint32_t *a;
    size_t a_row, a_step;
    const uint32_t *b; // panels
    size_t b_panel;    // words from panel to panel
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
    const uint32_t *b = p->b + panel * p->b_panel + at * COLUMNS;
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
    size_t n_panels = rot_panels(p->n), chunks = (p->m + TASK_ROWS - 1) / TASK_ROWS;
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

// x (rows, k) as a left factor by rows: itself, or pairs of it in `space`.
static const uint32_t *left(const rot_train *train, size_t rows, size_t k, const float *x,
                            size_t stride, uint32_t *space)
{
    size_t n_units = rot_panel_units(train, k);
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
    size_t k = rot_panel_units(train, w->n_in);
    uint32_t *space = rot_train_space((rot_train_host *)train, (rows * k + 16) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    product p = {rows, w->n_out, k,          left(train, rows, w->n_in, x, x_stride, space),
                 k,    1,        w->forward, rot_panel_stride(train, w->n_in),
                 bias, y,        y_stride,   add};
    multiply(train, &p);
    return 0;
}

static int linear_back(rot_train *train, rot_train_weight *w, size_t rows, const float *dy,
                       size_t dy_stride, bool add, float *dx, size_t dx_stride, rot_err *err)
{
    size_t k = rot_panel_units(train, w->n_out);
    ROT_TRY(rot_panels_backward(train, w, err));
    uint32_t *space = rot_train_space((rot_train_host *)train, (rows * k + 16) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    product p = {rows, w->n_in, k,           left(train, rows, w->n_out, dy, dy_stride, space),
                 k,    1,       w->backward, rot_panel_stride(train, w->n_out),
                 NULL, dx,      dx_stride,   add};
    multiply(train, &p);
    return 0;
}

static int outer(rot_train *train, size_t rows, size_t m, size_t n, const float *a, size_t a_stride,
                 const float *b, size_t b_stride, float *dw, size_t dw_stride, rot_err *err)
{
    size_t k = rot_panel_units(train, rows), blocks = (m + BLOCK - 1) / BLOCK;
    size_t left_units = (blocks * BLOCK * k + 15) / 16 * 16;
    uint32_t *space = rot_train_space((rot_train_host *)train,
                                      (left_units + rot_panels(n) * COLUMNS * k + 16) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    rot_panels_pack_blocks(train, rows, m, a, a_stride, BLOCK, space, k * BLOCK);
    rot_panels_pack_blocks(train, rows, n, b, b_stride, COLUMNS, space + left_units, k * COLUMNS);
    product p = {m,           n,    k,  space,     1,   BLOCK, space + left_units,
                 k * COLUMNS, NULL, dw, dw_stride, true};
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
    rot_panels_ops(&ops);
    ops.linear = linear;
    ops.linear_back = linear_back;
    ops.outer = outer;
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

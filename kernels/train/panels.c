// See panels.h.
#include "kernels/train/panels.h"

#ifdef __x86_64__
#include <omp.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/host.h"
#include "kernels/train/tile.h"

enum { COLUMNS = ROT_PANEL_COLUMNS };

static bool in_pairs(const rot_train *train)
{
    return train->precision == ROT_PRECISION_BF16;
}

size_t rot_panels(size_t n)
{
    return (n + COLUMNS - 1) / COLUMNS;
}

size_t rot_panel_units(const rot_train *train, size_t k)
{
    return in_pairs(train) ? (k + 1) / 2 : k;
}

size_t rot_panel_stride(const rot_train *train, size_t k)
{
    size_t steps = (k + ROT_PANEL_STEP - 1) / ROT_PANEL_STEP;
    return rot_panel_units(train, steps * ROT_PANEL_STEP) * COLUMNS;
}

// One panel of `n` columns out of `values`: column c lies in row c (`along`: k runs along the row)
// or in column c. `space`: COLUMNS * units, for the former.
static void pack_panel(const rot_train *train, const float *values, size_t stride, size_t n,
                       size_t k, bool along, uint32_t *space, uint32_t *out)
{
    bool pairs = in_pairs(train);
    size_t n_units = rot_panel_units(train, k);
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
    size_t each = along ? rot_panel_units(train, k) * COLUMNS : 0;
    size_t panel_words = rot_panel_stride(train, k);
    uint32_t *space = rot_train_space((rot_train_host *)train,
                                      ((size_t)train->threads * each + 16) * sizeof *space, err);
    if (!space) return ROT_ERR_NO_MEMORY;
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t panel = 0; panel < rot_panels(n); panel++) {
        size_t first = panel * COLUMNS, width = n - first < COLUMNS ? n - first : COLUMNS;
        pack_panel(train, values + first * (along ? stride : 1), stride, width, k, along,
                   space + (size_t)omp_get_thread_num() * each, out + panel * panel_words);
    }
    return 0;
}

static uint32_t *new_panels(const rot_train *train, size_t n, size_t k, rot_err *err)
{
    return rot_host_alloc(rot_panels(n) * rot_panel_stride(train, k) * sizeof(uint32_t), "a weight",
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
    size_t n_units = rot_panel_units(train, w->n_in);
    uint32_t *out = w->forward + row / COLUMNS * rot_panel_stride(train, w->n_in) + row % COLUMNS;
    for (size_t p = 0; p < n_units; p++) {
        if (in_pairs(train)) {
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
    size_t whole = (n - head) / COLUMNS * COLUMNS;
    size_t row_step = transposed ? 1 : stride, step = transposed ? stride : 1;
    ROT_TRY(pack(train, values + head * row_step, stride, whole, w->n_in, !transposed,
                 w->forward + (first + head) / COLUMNS * rot_panel_stride(train, w->n_in), err));
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t r = 0; r < n; r++)
        if (r < head || r >= head + whole)
            set_row(train, w, first + r, values + r * row_step, step);
    return 0;
}

int rot_panels_backward(rot_train *train, rot_train_weight *w, rot_err *err)
{
    if (w->backward) return 0;
    size_t in_units = rot_panel_units(train, w->n_in), out_units = rot_panel_units(train, w->n_out);
    size_t in_stride = rot_panel_stride(train, w->n_in);
    size_t out_stride = rot_panel_stride(train, w->n_out);
    w->backward = new_panels(train, w->n_in, w->n_out, err);
    if (!w->backward) return ROT_ERR_NO_MEMORY;
    bool pairs = in_pairs(train);
#pragma omp parallel for schedule(static) num_threads(train->threads)
    for (size_t o = 0; o < out_units; o++) {
        size_t row = pairs ? 2 * o : o;
        const uint32_t *from = w->forward + row / COLUMNS * in_stride + row % COLUMNS;
        for (size_t p = 0; p < in_units; p++, from += COLUMNS) {
            size_t column = pairs ? 2 * p : p;
            uint32_t *to =
                w->backward + column / COLUMNS * out_stride + o * COLUMNS + column % COLUMNS;
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

void rot_panels_pack_blocks(const rot_train *train, size_t rows, size_t n, const float *x,
                            size_t stride, size_t block, uint32_t *out, size_t out_stride)
{
    size_t n_units = rot_panel_units(train, rows);
    bool pairs = in_pairs(train);
#pragma omp parallel for schedule(static) num_threads(train->threads) if (rows * n > 32768)
    for (size_t p = 0; p < n_units; p++) {
        const float *first = x + (pairs ? 2 * p : p) * stride;
        if (pairs) {
            rot_tile_pair_rows(first, 2 * p + 1 < rows ? first + stride : NULL, n, block,
                               out + p * block, out_stride);
            continue;
        }
        for (size_t at = 0; at < n; at += block)
            memcpy(out + at / block * out_stride + p * block, first + at,
                   (n - at < block ? n - at : block) * sizeof *first);
    }
}

void rot_panels_ops(rot_train_ops *ops)
{
    rot_train_host_ops(ops);
    ops->weight_new = weight_new;
    ops->weight_free = weight_free;
    ops->weight_set = weight_set;
    ops->attention = rot_train_blocks_forward;
    ops->attention_back = rot_train_blocks_backward;
}

#endif

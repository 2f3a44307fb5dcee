// What the residual stream starts from, and the angles of its rotations: functions of the grids
// alone, made on the processor and uploaded once per batch.
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "encoder/tower_parts.h"

void rot_tower_upload_runs(rot_tower *tower, rot_buffer *to, const rot_runs *runs, size_t width,
                           const float *from)
{
    for (size_t i = 0; i < runs->n; i++)
        tower->backend->ops->upload(tower->backend, to, runs->at[i].to, runs->at[i].n,
                                    from + runs->at[i].from * width);
}

static bool same_grid(const rot_grid *a, const rot_grid *b)
{
    return a->grid_h == b->grid_h && a->grid_w == b->grid_w;
}

// A batch's tables in the order of its patches. Positions are taps or their sums; the other is
// NULL.
typedef struct tables {
    float *positions, *cosines, *sines; // (patches, width), (patches, half) twice
    rot_taps *taps;                     // (patches)
    size_t *first;                      // of each image
    size_t width, half;
} tables;

static int image_positions(const rot_tower *tower, const rot_grid *grid, size_t row,
                           const tables *t, rot_err *err)
{
    const int merge = tower->config.merge;
    const size_t n = (size_t)grid->n_patches;
    if (t->taps) {
        rot_tower_position_taps(tower->side, merge, grid->grid_h, grid->grid_w, t->taps + row);
        return 0;
    }
    if (tower->family->positions != ROT_POSITIONS_GRID) {
        memset(t->positions + row * t->width, 0, n * t->width * sizeof(float));
        return 0;
    }
    rot_taps *taps = rot_malloc(n * sizeof *taps);
    if (!taps) return rot_no_memory(err, n * sizeof *taps, "position tables");
    rot_tower_position_taps(tower->side, merge, grid->grid_h, grid->grid_w, taps);
    rot_tower_interpolate(tower->positions, t->width, taps, n, t->positions + row * t->width);
    rot_free(taps);
    return 0;
}

static int image_tables(const rot_tower *tower, const rot_grid *grid, size_t row, const tables *t,
                        rot_err *err)
{
    ROT_TRY(image_positions(tower, grid, row, t, err));
    return rot_tower_rotations(tower->family->rope_theta, (int)(2 * t->half), tower->config.merge,
                               grid->grid_h, grid->grid_w, t->cosines + row * t->half,
                               t->sines + row * t->half, err);
}

static void copy_rows(void *x, size_t row_bytes, size_t from, size_t to, size_t rows)
{
    if (x) memcpy((char *)x + to * row_bytes, (const char *)x + from * row_bytes, rows * row_bytes);
}

// A grid is computed once per batch and copied to its other images.
static int fill(const rot_tower *tower, const rot_grid *grids, int n, const tables *t, rot_err *err)
{
    int rc = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(tower->backend->threads)
    for (int i = 0; i < n; i++) {
        bool first = true;
        for (int k = 0; k < i && first; k++) first = !same_grid(&grids[k], &grids[i]);
        rot_err mine;
        int status = first ? image_tables(tower, &grids[i], t->first[i], t, &mine) : 0;
        if (status < 0) {
#pragma omp critical(rot_tower_tables)
            rc = rot_err_set(err, status, "%s", mine.message);
        }
    }
    for (int i = 1; i < n && rc == 0; i++) {
        int k = 0;
        while (!same_grid(&grids[k], &grids[i])) k++;
        if (k == i) continue;
        const size_t from = t->first[k], to = t->first[i], rows = (size_t)grids[i].n_patches;
        copy_rows(t->positions, t->width * sizeof(float), from, to, rows);
        copy_rows(t->taps, sizeof *t->taps, from, to, rows);
        copy_rows(t->cosines, t->half * sizeof(float), from, to, rows);
        copy_rows(t->sines, t->half * sizeof(float), from, to, rows);
    }
    return rc;
}

// Interpolated positions, or zeros, to which the patch embedding adds; rotations. A backend that
// has the table interpolates itself.
static int upload_grids(rot_tower *tower, const rot_grid *grids, size_t n,
                        const rot_tower_order *order, rot_err *err)
{
    const rot_vision_config *c = &tower->config;
    tables t = {.width = (size_t)c->width, .half = (size_t)(c->width / c->heads / 2)};
    const size_t row_bytes = (tower->position_table ? sizeof *t.taps : t.width * sizeof(float)) +
                             2 * t.half * sizeof(float),
                 n_bytes = order->patches * row_bytes;
    int rc = 0;
    t.cosines = rot_aligned_malloc(n_bytes);
    t.first = rot_malloc(n * sizeof *t.first);
    if (!t.cosines || !t.first) {
        rc = rot_no_memory(err, n_bytes, "position tables");
        goto done;
    }
    t.sines = t.cosines + order->patches * t.half;
    if (tower->position_table)
        t.taps = (rot_taps *)(void *)(t.sines + order->patches * t.half);
    else
        t.positions = t.sines + order->patches * t.half;
    t.first[0] = 0;
    for (size_t i = 1; i < n; i++) t.first[i] = t.first[i - 1] + (size_t)grids[i - 1].n_patches;
    ROT_GO(fill(tower, grids, (int)n, &t, err));
    if (t.taps)
        ROT_GO(tower->backend->ops->interpolate(tower->backend, order->patches, t.width,
                                                tower->position_table, t.taps, tower->x, err));
    else
        rot_tower_upload_runs(tower, tower->x, &order->in, t.width, t.positions);
    rot_tower_upload_runs(tower, tower->cosines, &order->in, t.half, t.cosines);
    rot_tower_upload_runs(tower, tower->sines, &order->in, t.half, t.sines);
done:
    rot_free(t.cosines);
    rot_free(t.first);
    return rc;
}

// Every view starts from the same rows, the class token's first (tower->positions has it in); where
// the class token lies there are no pixels. No rotation: angles of 0.
static int upload_views(rot_tower *tower, const rot_tower_order *order, rot_err *err)
{
    rot_backend *b = tower->backend;
    const rot_vision_config *c = &tower->config;
    size_t view = (size_t)order->view_rows, width = (size_t)c->width,
           half = width / (size_t)c->heads / 2, n = view * half;
    n = n > tower->patch_values ? n : tower->patch_values;
    float *ones = rot_malloc(2 * n * sizeof *ones), *zeros = ones + n;
    if (!ones) return rot_no_memory(err, 2 * n * sizeof *ones, "position tables");
    for (size_t i = 0; i < n; i++) ones[i] = 1, zeros[i] = 0;
    for (size_t row = 0; row < order->rows; row += view) {
        b->ops->upload(b, tower->x, row, view, tower->positions);
        b->ops->upload(b, tower->cosines, row, view, ones);
        b->ops->upload(b, tower->sines, row, view, zeros);
        b->ops->upload(b, tower->pixels, row, 1, zeros);
    }
    rot_free(ones);
    return 0;
}

int rot_tower_upload_tables(rot_tower *tower, const rot_grid *grids, size_t n,
                            const rot_tower_order *order, rot_err *err)
{
    return order->view_rows ? upload_views(tower, order, err)
                            : upload_grids(tower, grids, n, order, err);
}

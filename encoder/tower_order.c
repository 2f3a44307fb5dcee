#include "encoder/tower_order.h"

#include "base/err.h"
#include "base/mem.h"

static int add_run(rot_runs *runs, size_t from, size_t to, size_t n, rot_err *err)
{
    rot_run *last = runs->n ? &runs->at[runs->n - 1] : NULL;
    if (n == 0) return 0;
    if (last && last->from + last->n == from && last->to + last->n == to) {
        last->n += n;
        return 0;
    }
    ROT_TRY(rot_grow(&runs->at, &runs->capacity, runs->n + 1, sizeof *runs->at, err));
    runs->at[runs->n++] = (rot_run){from, to, n};
    return 0;
}

static int add_segment(rot_starts *starts, size_t length, rot_err *err)
{
    ROT_TRY(rot_grow(&starts->at, &starts->capacity, starts->n + 2, sizeof *starts->at, err));
    if (starts->n == 0) starts->at[0] = 0;
    starts->at[starts->n + 1] = starts->at[starts->n] + (int32_t)length;
    starts->n++;
    starts->pairs += (double)length * (double)length;
    return 0;
}

// transformers 4.57.6, Qwen2_5_VisionTransformerPretrainedModel.get_window_index
int32_t rot_tower_windows(int32_t side, int32_t rows, int32_t columns, int32_t *order,
                          int32_t *lengths)
{
    int32_t at = 0, n = 0;
    for (int32_t top = 0; top < rows; top += side)
        for (int32_t left = 0; left < columns; left += side) {
            const int32_t before = at;
            for (int32_t y = top; y < rows && y < top + side; y++)
                for (int32_t x = left; x < columns && x < left + side; x++)
                    order[at++] = y * columns + x;
            lengths[n++] = at - before;
        }
    return n;
}

// Patches come in merge cells, and so do windows: whole cells move.
static int add_windows(const rot_vision_config *c, const rot_grid *g, rot_tower_order *o,
                       rot_err *err)
{
    const size_t n = (size_t)(g->rows * g->columns), cell = (size_t)(c->merge * c->merge);
    int32_t *order = rot_malloc(2 * n * sizeof *order), *lengths = order + n;
    if (!order) return rot_no_memory(err, 2 * n * sizeof *order, "windows");
    int32_t n_windows = rot_tower_windows(c->window_px / c->merge / c->patch_px, g->rows,
                                          g->columns, order, lengths);
    int rc = 0;
    for (int32_t i = 0; i < n_windows; i++)
        ROT_GO(add_segment(&o->windows, (size_t)lengths[i] * cell, err));
    for (size_t i = 0; i < n; i++) {
        const size_t token = (size_t)order[i];
        ROT_GO(add_run(&o->in, o->patches + token * cell, o->rows + i * cell, cell, err));
        ROT_GO(add_run(&o->out, o->tokens + i, o->k + token, 1, err));
    }
done:
    rot_free(order);
    return rc;
}

static int add_whole(const rot_vision_config *c, const rot_grid *g, rot_tower_order *o,
                     rot_err *err)
{
    const size_t n = (size_t)g->n_patches, k = (size_t)g->k;
    ROT_TRY(add_segment(&o->full, n, err));
    if (c->window_px)
        ROT_TRY(add_windows(c, g, o, err));
    else {
        ROT_TRY(add_run(&o->in, o->patches, o->rows, n, err));
        ROT_TRY(add_run(&o->out, o->tokens, o->k, k, err));
    }
    ROT_TRY(add_run(&o->features, o->rows, o->rows, n, err));
    o->rows += n;
    o->tokens += k;
    o->k += k;
    return 0;
}

// The tiles' tokens row by row over all of them, without the padding, a newline after each row.
// transformers 4.57.6, LlavaNextModel.pack_image_features and unpad_image.
static int add_tiles(const rot_vision_config *c, const rot_grid *g, size_t first,
                     rot_tower_order *o, rot_err *err)
{
    const int32_t side = c->tile_px / c->patch_px, across = g->grid_w / side;
    const int32_t top = (g->grid_h - g->rows) / 2, left = (g->grid_w - g->columns) / 2;
    for (int32_t y = top; y < top + g->rows; y++) {
        for (int32_t x = left, n; x < left + g->columns; x += n) {
            n = side - x % side;
            if (n > left + g->columns - x) n = left + g->columns - x;
            size_t tile = (size_t)(y / side * across + x / side),
                   row = first + tile * (size_t)o->view_rows + 1 +
                         (size_t)(y % side * side + x % side);
            ROT_TRY(add_run(&o->features, row, o->tokens, (size_t)n, err));
            ROT_TRY(add_run(&o->out, o->tokens, o->k, (size_t)n, err));
            o->tokens += (size_t)n;
            o->k += (size_t)n;
        }
        ROT_TRY(add_run(&o->newlines, 0, o->k++, 1, err));
    }
    return 0;
}

static int add_views(const rot_vision_config *c, const rot_grid *g, rot_tower_order *o,
                     rot_err *err)
{
    const size_t side = (size_t)(c->tile_px / c->patch_px), view = side * side,
                 n_views = (size_t)g->n_patches / view;
    o->view_rows = (int32_t)view + 1;
    for (size_t i = 0; i < n_views; i++) {
        ROT_TRY(add_segment(&o->full, view + 1, err));
        ROT_TRY(add_run(&o->in, o->patches + i * view, o->rows + i * (view + 1) + 1, view, err));
    }
    ROT_TRY(add_run(&o->features, o->rows + 1, o->tokens, view, err));
    ROT_TRY(add_run(&o->out, o->tokens, o->k, view, err));
    o->tokens += view;
    o->k += view;
    ROT_TRY(add_tiles(c, g, o->rows + view + 1, o, err));
    o->rows += n_views * (view + 1);
    return 0;
}

static bool fits(const rot_vision_config *c, const rot_grid *g)
{
    if (g->grid_h < 1 || g->grid_w < 1 || g->rows < 0 || g->columns < 0) return false;
    const int64_t area = (int64_t)g->grid_h * g->grid_w;
    if (!c->tile_px)
        return g->grid_h % c->merge == 0 && g->grid_w % c->merge == 0 && g->n_patches == area &&
               g->rows == g->grid_h / c->merge && g->columns == g->grid_w / c->merge &&
               g->k == area / (c->merge * c->merge);
    const int64_t side = c->tile_px / c->patch_px;
    return g->grid_h % side == 0 && g->grid_w % side == 0 && g->n_patches == side * side + area &&
           g->rows <= g->grid_h && g->columns <= g->grid_w &&
           g->k == side * side + (int64_t)g->rows * (g->columns + 1);
}

int rot_tower_order_make(const rot_vision_config *config, const rot_grid *grids, size_t n,
                         rot_tower_order *out, rot_err *err)
{
    *out = (rot_tower_order){0};
    for (size_t i = 0; i < n; i++) {
        if (!fits(config, &grids[i]) || out->rows > (size_t)(INT32_MAX - grids[i].n_patches) / 2)
            ROT_FAIL(err, ROT_ERR_USAGE, "image %zu: a grid of %d x %d patches", i, grids[i].grid_h,
                     grids[i].grid_w);
        ROT_TRY((config->tile_px ? add_views : add_whole)(config, &grids[i], out, err));
        out->patches += (size_t)grids[i].n_patches;
    }
    return 0;
}

void rot_tower_order_free(rot_tower_order *order)
{
    rot_free(order->full.at);
    rot_free(order->windows.at);
    rot_free(order->in.at);
    rot_free(order->features.at);
    rot_free(order->out.at);
    rot_free(order->newlines.at);
    *order = (rot_tower_order){0};
}

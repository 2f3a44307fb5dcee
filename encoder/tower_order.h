// Which row of a batch lies where: patches of images, rows of the residual stream, rows of the
// output. What differs between families here is order alone; sums never cross it.
#ifndef ROT_ENCODER_TOWER_ORDER_H
#define ROT_ENCODER_TOWER_ORDER_H

#include "encoder/family.h"

// Rows [from, from + n) of one place are rows [to, to + n) of another.
typedef struct rot_run {
    size_t from, to, n;
} rot_run;

typedef struct rot_runs {
    rot_run *at;
    size_t n, capacity;
} rot_runs;

typedef struct rot_starts {
    int32_t *at; // n + 1
    size_t n, capacity;
    double pairs; // sum of squared lengths: the work of attention
} rot_starts;

typedef struct rot_tower_order {
    size_t patches, rows, tokens, k; // of the images, the stream, the merger's output, the result
    rot_starts full, windows;        // segments of attention; no windows: as full
    rot_runs in;                     // patches to rows of the stream
    rot_runs features;               // rows of the stream to rows of the merger's input
    rot_runs out;                    // rows of the merger's output to rows of the result
    rot_runs newlines;               // rows of the result that are the newline: `to`, `n`
    int32_t view_rows;               // rows of a view with its class token; 0: no views
} rot_tower_order;

// ROT_ERR_USAGE: a grid that is not one of this model. *out is to be freed in any case.
int rot_tower_order_make(const rot_vision_config *config, const rot_grid *grids, size_t n,
                         rot_tower_order *out, rot_err *err);
void rot_tower_order_free(rot_tower_order *order);

// The merged tokens of a rows x columns image in the order of its windows of side x side: order[i]
// is the raster index of the token at place i; lengths[j] the tokens of window j. Windows at the
// right and the bottom are smaller. Returns the number of windows. order and lengths: rows *
// columns.
int32_t rot_tower_windows(int32_t side, int32_t rows, int32_t columns, int32_t *order,
                          int32_t *lengths);

#endif

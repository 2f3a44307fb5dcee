// A matrix that is a right factor, in panels of 32 columns: panel j, unit p, column c. A unit is an
// element along k, or under BF16 a pair of them (the first in the low half). A panel has units for
// whole steps of 32 elements, zeros past the last one, and zeros in the columns past the last one:
// what tiles of AMX read. Rows of weights are the columns of their forward panels.
#ifndef ROT_KERNELS_TRAIN_PANELS_H
#define ROT_KERNELS_TRAIN_PANELS_H

#include "kernels/train/host.h"

enum { ROT_PANEL_COLUMNS = 32, ROT_PANEL_STEP = 32 };

struct rot_train_weight {
    size_t n_out, n_in;
    uint32_t *forward;  // panels over n_out, units along n_in
    uint32_t *backward; // panels over n_in, units along n_out; NULL until a backward asks
};

size_t rot_panels(size_t n);                               // of n columns
size_t rot_panel_units(const rot_train *train, size_t k);  // that k elements take
size_t rot_panel_stride(const rot_train *train, size_t k); // 32-bit words from panel to panel

// The operations of a backend whose weights lie in panels, but for its products: linear,
// linear_back, outer.
void rot_panels_ops(rot_train_ops *ops);

// Makes the panels of the backward if they are not there.
int rot_panels_backward(rot_train *train, rot_train_weight *weight, rot_err *err);

// The columns of x (rows, n) in blocks of `block`: block j at out + j * out_stride, unit p along
// the rows, column. With 32 the panels of x, but for the zeros.
void rot_panels_pack_blocks(const rot_train *train, size_t rows, size_t n, const float *x,
                            size_t stride, size_t block, uint32_t *out, size_t out_stride);

#endif

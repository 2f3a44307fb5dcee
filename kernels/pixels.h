// Images on their way to patch rows, for backends that cut them themselves: what encoder/patches.c
// would do with the bytes, as numbers.
#ifndef ROT_KERNELS_PIXELS_H
#define ROT_KERNELS_PIXELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROT_PIXEL_PASSES = 4 };

// One axis resampled: output i is the sum of taps[i] inputs from first[i] on, times weights in
// multiples of 2^-precision, rounded and clamped to a byte. encoder/resample.h makes them.
typedef struct rot_pixel_pass {
    bool columns; // the width
    int32_t n_in, n_out, stride, precision;
    const int32_t *first, *taps; // (n_out)
    const int32_t *weights;      // (n_out, stride)
} rot_pixel_pass;

typedef struct rot_pixel_image {
    const uint8_t *bytes;  // (width, height), grey, column after column
    int32_t width, height; // before the passes
    int32_t grid_h, grid_w;
    int n_passes;
    rot_pixel_pass passes[ROT_PIXEL_PASSES];
} rot_pixel_image;

// What is done with all images of a batch. A byte of channel c becomes table[c][byte]; what an
// image lacks at the right and the bottom is `background`.
typedef struct rot_pixel_cut {
    float table[3][256];
    uint8_t background;
    int32_t patch_px, temporal, merge;
} rot_pixel_cut;

#endif

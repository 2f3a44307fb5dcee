// Separable bicubic resampling of 8-bit pixels, bit for bit as Pillow and as torch do it.
#ifndef ROT_ENCODER_RESAMPLE_H
#define ROT_ENCODER_RESAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "rotoscope/error.h"

typedef enum rot_resampler {
    ROT_RESAMPLE_PILLOW, // Image.resize, BICUBIC: weights of 22 bits
    ROT_RESAMPLE_TORCH   // torchvision resize, BICUBIC, antialias, uint8 on a CPU: int16 weights
} rot_resampler;

// Which axis is made first; the order shows in the bytes. Pillow (from 13.0): the height, if it
// loses more than twice as many pixels as the width. Else, and torch always: the width.
bool rot_resample_height_first(rot_resampler resampler, int32_t old_height, int32_t old_width,
                               int32_t height, int32_t width);

// The weights of one axis: output i is the sum of taps[i] inputs from first[i] on.
typedef struct rot_axis {
    int32_t n_in, n_out, stride; // stride: of weights, the largest number of taps
    int precision;               // weights are rounded multiples of 2^-precision
    int32_t *first, *taps;       // (n_out)
    int32_t *weights;            // (n_out, stride)
} rot_axis;

// In the arena. ROT_ERR_NO_MEMORY.
int rot_axis_make(rot_resampler resampler, int32_t n_in, int32_t n_out, rot_arena *arena,
                  rot_axis *out, rot_err *err);

// lines: n_out lines of n_bytes from n_in such lines; line i is the weighted sum of whole lines. A
// line is a column of a column-major image (the pass over the width) or a row of a row-major one
// (over the height). `simd` takes the AVX2 path, whose bytes are the same.
void rot_axis_blend(const rot_axis *axis, const uint8_t *in, size_t n_bytes, bool simd,
                    uint8_t *out);

// (n_lines, n_pixels, channels) to (n_pixels, n_lines, channels): columns to rows or back.
void rot_transpose(const uint8_t *in, int32_t n_lines, int32_t n_pixels, int32_t channels,
                   uint8_t *out);

#endif

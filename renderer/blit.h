// Glyph columns onto an 8-bit mask, and the mask onto pixels. Both are column-major.
#ifndef ROT_RENDERER_BLIT_H
#define ROT_RENDERER_BLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/render.h"

// (a * b + 128) / 255 rounded as Pillow's integer code does, for a up to 255 * 255.
static inline uint32_t rot_div255(uint32_t a)
{
    a += 128;
    return ((a >> 8) + a) >> 8;
}

// mask (width, height), columns (width, stride), stride a multiple of 32. Blends column x of
// `columns` into the `stride` bytes that start at mask + x * height, in the order of x. Zeros leave
// the mask as it is, so bytes behind the glyph's own rows are read and written unchanged: they must
// exist (31 spare bytes behind the mask).
typedef void rot_blit_fn(uint8_t *mask, ptrdiff_t height, const uint8_t *columns, ptrdiff_t stride,
                         int width);

rot_blit_fn rot_blit_over_c, rot_blit_max_c;
#if defined(__x86_64__)
rot_blit_fn rot_blit_over_avx2, rot_blit_max_avx2;
#endif
rot_blit_fn *rot_blit_choose(rot_blend blend, bool avx2);

// A piece of a column with rows cut at both ends: n pixels.
void rot_blit_piece(rot_blend blend, uint8_t *mask, const uint8_t *column, int n);

// mask[i] to pixels[i * channels + c] = div255(background * (255 - m) + text * m), over a plain
// background.
void rot_paint_plain(uint8_t *pixels, const uint8_t *mask, size_t n, int channels,
                     const uint8_t text[3], const uint8_t background[3], const uint8_t ink[3][256]);
// The same over what the pixels hold.
void rot_paint_over(uint8_t *pixels, const uint8_t *mask, size_t n, int channels,
                    const uint8_t text[3]);

#endif

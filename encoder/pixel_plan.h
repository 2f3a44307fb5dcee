// What rot_geometry_pixels does with a grey image, as numbers for a backend that does it itself.
#ifndef ROT_ENCODER_PIXEL_PLAN_H
#define ROT_ENCODER_PIXEL_PLAN_H

#include "base/mem.h"
#include "kernels/pixels.h"
#include "rotoscope/geometry.h"

// Grey images of a family without tiles, on a grey background.
bool rot_pixel_plan_fits(const rot_preprocessor *preprocessor, const rot_image *images, size_t n,
                         const uint8_t background[3]);
void rot_pixel_plan_cut(const rot_preprocessor *preprocessor, const uint8_t background[3],
                        rot_pixel_cut *out);
// Weights are in the arena, the bytes the image's own. Errors: as rot_geometry_pixels.
int rot_pixel_plan(rot_geometry geometry, const rot_preprocessor *preprocessor,
                   const rot_image *image, const rot_grid *grid, rot_arena *arena,
                   rot_pixel_image *out, rot_err *err);

// patches.c: float32 of each byte value in each channel.
void rot_pixels_table(const rot_preprocessor *preprocessor, float table[3][256]);

#endif

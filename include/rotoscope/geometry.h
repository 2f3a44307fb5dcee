// How a rendered image becomes the encoder's input: sizes, K, pixel values.
#ifndef ROTOSCOPE_GEOMETRY_H
#define ROTOSCOPE_GEOMETRY_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rot_geometry {
    ROT_GEOMETRY_RELEASED, // qwen-vl-utils to multiples of 28 (Pillow bicubic), then the processor
                           // to multiples of 32 (torchvision bicubic, uint8)
    ROT_GEOMETRY_PATCH16,  // qwen-vl-utils with image_patch_size=16, the processor's resize off
    ROT_GEOMETRY_NATIVE    // no resampling; background added at the right and bottom
} rot_geometry;

// What preprocessor_config.json says. Sizes are areas in pixels.
typedef struct rot_preprocessor {
    int32_t patch_px, temporal, merge; // 16, 2, 2
    int64_t min_pixels, max_pixels;    // 65536, 16777216
    double mean[3], std[3];            // 0.5
} rot_preprocessor;

// The values named above.
rot_preprocessor rot_preprocessor_default(void);

// Sizes on the way of one image. K = grid_h * grid_w / merge^2 merged tokens.
typedef struct rot_grid {
    int32_t first_height, first_width; // after the first resize (native: the image's own size)
    int32_t height, width;             // as the tower sees it
    int32_t grid_h, grid_w;            // patches
    int32_t n_patches, k;
} rot_grid;

// A pure function of its arguments. ROT_ERR_TOO_LARGE: the aspect ratio or the area is over what
// the geometry takes (the message has both numbers). ROT_ERR_USAGE: a side under 1.
int rot_geometry_grid(rot_geometry geometry, const rot_preprocessor *preprocessor, int32_t width_px,
                      int32_t height_px, rot_grid *out, rot_err *err);

// "released", "patch16", "native"; static storage.
const char *rot_geometry_name(rot_geometry geometry);
int rot_geometry_parse(const char *name, rot_geometry *out); // ROT_ERR_CONFIG: none of the three

// Resamples `image` and writes patch rows in the order of the Qwen processors (block row, block
// column, row and column within the merge cell; features channel, time, y, x), normalised, as
// float32 out[n_patches * 3 * temporal * patch^2]. `background` (RGB) pads `native`.
// ROT_ERR_USAGE: `grid` is not that of the image.
int rot_geometry_pixels(rot_geometry geometry, const rot_preprocessor *preprocessor,
                        const rot_image *image, const uint8_t background[3], const rot_grid *grid,
                        float *out, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif

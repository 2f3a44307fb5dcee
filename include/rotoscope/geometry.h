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
    ROT_GEOMETRY_RELEASED, // what the published code does: the Qwen models by qwen-vl-utils to
                           // multiples of 28 (Pillow bicubic), then by their processor to multiples
                           // of 32 or 28 (torchvision bicubic, uint8); LLaVA-1.6 by its processor
    ROT_GEOMETRY_PATCH16, // Qwen3-VL alone: qwen-vl-utils with image_patch_size=16, the processor's
                          // resize off
    ROT_GEOMETRY_NATIVE   // Qwen alone: no resampling; background added at the right and bottom
} rot_geometry;

// How a model lays an image before its tower.
typedef enum rot_model_family {
    ROT_FAMILY_QWEN3_VL,  // patches of 16 pixels
    ROT_FAMILY_QWEN2_VL,  // Qwen2-VL and Qwen2.5-VL: patches of 14
    ROT_FAMILY_LLAVA_NEXT // square views of one size: the image as a whole, then tiles of it
} rot_model_family;

enum { ROT_MAX_PINPOINTS = 40 };

// What preprocessor_config.json says. Sizes are areas in pixels.
typedef struct rot_preprocessor {
    rot_model_family family;
    int32_t patch_px, temporal, merge; // 16, 2, 2
    int64_t min_pixels, max_pixels;    // 65536, 16777216
    double mean[3], std[3];            // 0.5
    // LLaVA-1.6 alone: the side of a view, and the heights and widths that tiles may be laid in.
    // Its temporal and merge are 1; areas do not count.
    int32_t tile_px, n_pinpoints;
    int32_t pinpoints[ROT_MAX_PINPOINTS][2];
} rot_preprocessor;

// Qwen3-VL with the values named above.
rot_preprocessor rot_preprocessor_default(void);

// Sizes on the way of one image. Qwen: K = grid_h * grid_w / merge^2 merged tokens. LLaVA-1.6: the
// grid is that of the tiles, K = tokens of one view + rows * (columns + 1).
typedef struct rot_grid {
    int32_t first_height, first_width; // after the first resize (native: the image's own size)
    int32_t height, width;             // as the tower sees it
    int32_t grid_h, grid_w;            // patches
    int32_t n_patches, k;              // n_patches: of all views
    int32_t rows, columns;             // of tokens; LLaVA-1.6: of the tiles', without the padding
} rot_grid;

// A pure function of its arguments. ROT_ERR_TOO_LARGE: the aspect ratio or the area is over what
// the geometry takes (the message has both numbers). ROT_ERR_USAGE: a side under 1. ROT_ERR_CONFIG:
// as rot_geometry_check.
int rot_geometry_grid(rot_geometry geometry, const rot_preprocessor *preprocessor, int32_t width_px,
                      int32_t height_px, rot_grid *out, rot_err *err);

// ROT_ERR_CONFIG unless the model takes this geometry; the message names both.
int rot_geometry_check(rot_geometry geometry, const rot_preprocessor *preprocessor, rot_err *err);

// "released", "patch16", "native"; static storage.
const char *rot_geometry_name(rot_geometry geometry);
int rot_geometry_parse(const char *name, rot_geometry *out); // ROT_ERR_CONFIG: none of the three

// Resamples `image` and writes patch rows in the order of the Qwen processors (block row, block
// column, row and column within the merge cell; features channel, time, y, x), normalised, as
// float32 out[n_patches * 3 * temporal * patch^2]. LLaVA-1.6: view after view, each in raster
// order. `background` (RGB) pads `native`. ROT_ERR_USAGE: `grid` is not that of the image.
int rot_geometry_pixels(rot_geometry geometry, const rot_preprocessor *preprocessor,
                        const rot_image *image, const uint8_t background[3], const rot_grid *grid,
                        float *out, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
